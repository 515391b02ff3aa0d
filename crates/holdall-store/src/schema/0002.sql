-- Setting a pipeline takes the next version of a configuration, and a rerun the next number of its original.
CREATE INDEX pipeline_config_version ON pipeline (config_version);
CREATE INDEX build_rerun ON build (rerun_of) WHERE rerun_of IS NOT NULL;
