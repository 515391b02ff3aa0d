-- The newest builds of a job are looked at over and over, and people look for those that did not succeed.
CREATE INDEX build_of_job ON build (job_id, id);
CREATE INDEX build_of_job_unsuccessful ON build (job_id, status, id) WHERE status IN ('failed', 'errored', 'aborted');
CREATE INDEX build_unsuccessful ON build (pipeline_id, status, id) WHERE status IN ('failed', 'errored', 'aborted');
-- Which bags were deployed in an environment, and which is the highest of them.
CREATE INDEX deployment_of_bag ON deployment (environment_id, bag_id);
