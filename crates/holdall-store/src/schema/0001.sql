-- One installation: its epoch, and whatever else there is one of.
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) {strict};

CREATE TABLE team (id {id}, name TEXT NOT NULL UNIQUE) {strict};

-- Who may come in; only the hash of a token is kept.
CREATE TABLE token (
  id {id}, name TEXT NOT NULL, hash TEXT NOT NULL UNIQUE, created_at {int} NOT NULL, created_by TEXT, used_at {int}
) {strict};

-- The shared list of versions of one (type, source), and the state of its checks.
CREATE TABLE scope (
  id {id}, type TEXT NOT NULL, source_hash TEXT NOT NULL, source TEXT NOT NULL,
  next_order {int} NOT NULL DEFAULT 1,
  last_check_at {int}, last_check_error TEXT, failing_since {int}, failures {int} NOT NULL DEFAULT 0,
  next_check_at {int},
  wanted_at {int}, check_id TEXT, check_started_at {int}, check_worker TEXT,
  UNIQUE (type, source_hash)
) {strict};
CREATE INDEX scope_wanted ON scope (wanted_at) WHERE wanted_at IS NOT NULL;
CREATE INDEX scope_next_check ON scope (next_check_at) WHERE next_check_at IS NOT NULL;
CREATE INDEX scope_check ON scope (check_id) WHERE check_id IS NOT NULL;

-- check_order 0: made by a put before any check, hidden from lists.
CREATE TABLE version (
  id {id}, scope_id {int} NOT NULL REFERENCES scope (id), digest TEXT NOT NULL, version TEXT NOT NULL,
  metadata TEXT, check_order {int} NOT NULL, created_at {int} NOT NULL,
  UNIQUE (scope_id, digest)
) {strict};
CREATE INDEX version_order ON version (scope_id, check_order);

CREATE TABLE lock (id {id}, name TEXT NOT NULL UNIQUE, next_fence {int} NOT NULL DEFAULT 1) {strict};

CREATE TABLE system (
  id {id}, name TEXT NOT NULL UNIQUE, text TEXT NOT NULL, vars TEXT NOT NULL, model TEXT NOT NULL,
  revision {int} NOT NULL DEFAULT 1, next_bag {int} NOT NULL DEFAULT 1, active {int} NOT NULL DEFAULT 1,
  created_at {int} NOT NULL, updated_at {int} NOT NULL
) {strict};

CREATE TABLE pipeline (
  id {id}, team_id {int} NOT NULL REFERENCES team (id), name TEXT NOT NULL, active {int} NOT NULL DEFAULT 1,
  config TEXT NOT NULL, config_version {int} NOT NULL,
  paused {int} NOT NULL DEFAULT 0, paused_by TEXT, paused_at {int}, paused_reason TEXT,
  created_at {int} NOT NULL, updated_at {int} NOT NULL,
  UNIQUE (team_id, name)
) {strict};

-- `spec` is what the system file compiled to, but for the pipeline; `waiting` is the next one, which is taken
-- when the deployment under way ends.
CREATE TABLE environment (
  id {id}, system_id {int} NOT NULL REFERENCES system (id), name TEXT NOT NULL, active {int} NOT NULL DEFAULT 1,
  position {int} NOT NULL, lock_id {int} NOT NULL REFERENCES lock (id),
  pipeline_id {int} NOT NULL REFERENCES pipeline (id),
  spec TEXT NOT NULL, waiting TEXT, next_deployment {int} NOT NULL DEFAULT 1,
  held_code TEXT, held_at {int}, held_by TEXT, held_reason TEXT,
  UNIQUE (system_id, name)
) {strict};
CREATE INDEX environment_pipeline ON environment (pipeline_id);
CREATE INDEX environment_lock ON environment (lock_id);

-- `dirty`: something that concerns the job happened and the scheduler has not looked yet.
CREATE TABLE job (
  id {id}, pipeline_id {int} NOT NULL REFERENCES pipeline (id), name TEXT NOT NULL,
  active {int} NOT NULL DEFAULT 1, position {int} NOT NULL,
  paused {int} NOT NULL DEFAULT 0, paused_by TEXT, paused_at {int}, paused_reason TEXT,
  next_number {int} NOT NULL DEFAULT 1, dirty {int} NOT NULL DEFAULT 0, max_in_flight {int} NOT NULL DEFAULT 0,
  spec TEXT NOT NULL,
  UNIQUE (pipeline_id, name)
) {strict};
CREATE INDEX job_dirty ON job (id) WHERE dirty = 1;

-- The named mutexes of a job; for a plain limit, the job's own name.
CREATE TABLE job_group (
  job_id {int} NOT NULL REFERENCES job (id), pipeline_id {int} NOT NULL, name TEXT NOT NULL,
  PRIMARY KEY (job_id, name)
) {strict};
CREATE INDEX job_group_name ON job_group (pipeline_id, name);

-- A pin of an input of a bag is a freeze, whoever made it.
CREATE TABLE resource (
  id {id}, pipeline_id {int} NOT NULL REFERENCES pipeline (id), name TEXT NOT NULL,
  active {int} NOT NULL DEFAULT 1, position {int} NOT NULL, type TEXT NOT NULL,
  scope_id {int} REFERENCES scope (id), check_every {int}, webhook_token TEXT, is_trigger {int} NOT NULL DEFAULT 0,
  pin TEXT, pin_config {int} NOT NULL DEFAULT 0, pin_by TEXT, pin_at {int}, pin_until {int}, pin_reason TEXT,
  UNIQUE (pipeline_id, name)
) {strict};
CREATE INDEX resource_scope ON resource (scope_id);
CREATE INDEX resource_pin_until ON resource (pin_until) WHERE pin_until IS NOT NULL;

CREATE TABLE job_input (
  job_id {int} NOT NULL REFERENCES job (id), position {int} NOT NULL, name TEXT NOT NULL,
  resource_id {int} NOT NULL REFERENCES resource (id), choice TEXT NOT NULL, pin TEXT,
  is_trigger {int} NOT NULL, has_passed {int} NOT NULL,
  PRIMARY KEY (job_id, name)
) {strict};
CREATE INDEX job_input_resource ON job_input (resource_id);

CREATE TABLE job_input_passed (
  job_id {int} NOT NULL REFERENCES job (id), input TEXT NOT NULL, passed_job_id {int} NOT NULL REFERENCES job (id),
  PRIMARY KEY (job_id, input, passed_job_id)
) {strict};
CREATE INDEX job_input_passed_job ON job_input_passed (passed_job_id);

-- Unticked versions. `withdraws`: thrown out by a roll back that also concerns the environments after it.
CREATE TABLE disabled_version (
  resource_id {int} NOT NULL REFERENCES resource (id), digest TEXT NOT NULL, by_name TEXT NOT NULL,
  at {int} NOT NULL, until {int}, reason TEXT, withdraws {int} NOT NULL DEFAULT 0,
  PRIMARY KEY (resource_id, digest)
) {strict};
CREATE INDEX disabled_version_until ON disabled_version (until) WHERE until IS NOT NULL;

CREATE TABLE bag (
  id {id}, system_id {int} NOT NULL REFERENCES system (id), number {int} NOT NULL,
  environment_id {int} NOT NULL REFERENCES environment (id), packed_at {int} NOT NULL, packed_by TEXT NOT NULL,
  build_id {int}, contents_digest TEXT NOT NULL, digest TEXT NOT NULL, body TEXT NOT NULL,
  UNIQUE (system_id, number)
) {strict};
CREATE INDEX bag_packed_in ON bag (environment_id, number);
CREATE INDEX bag_contents ON bag (system_id, contents_digest, number);

-- One row an attempt to put one bag into one environment. Only `ended_at`, with how, ends it.
CREATE TABLE deployment (
  id {id}, environment_id {int} NOT NULL REFERENCES environment (id), number {int} NOT NULL,
  bag_id {int} NOT NULL REFERENCES bag (id), build_id {int} NOT NULL, direction TEXT NOT NULL,
  previous_bag {int}, started_at {int} NOT NULL, started_by TEXT NOT NULL, reason TEXT,
  deploy_began_at {int}, deployed_at {int}, ended_at {int}, ended_how TEXT, ended_by TEXT,
  in_doubt {int} NOT NULL DEFAULT 0,
  unlock_by TEXT, unlock_reason TEXT, unlock_hold {int},
  UNIQUE (environment_id, number)
) {strict};
CREATE INDEX deployment_bag ON deployment (bag_id);
CREATE INDEX deployment_deployed ON deployment (environment_id, deployed_at);

CREATE TABLE tag (
  id {id}, bag_id {int} NOT NULL REFERENCES bag (id), environment_id {int} NOT NULL REFERENCES environment (id),
  name TEXT NOT NULL, at {int} NOT NULL, by_name TEXT NOT NULL, deployment_id {int} NOT NULL, builds TEXT NOT NULL
) {strict};
CREATE INDEX tag_bag ON tag (bag_id, environment_id);
CREATE INDEX tag_environment ON tag (environment_id, at);

CREATE TABLE suspect (
  id {id}, environment_id {int} NOT NULL REFERENCES environment (id), service TEXT NOT NULL, digest TEXT NOT NULL,
  version TEXT NOT NULL, bag {int} NOT NULL, at {int} NOT NULL, by_name TEXT NOT NULL, reason TEXT,
  here_only {int} NOT NULL DEFAULT 0, cleared_at {int}, cleared_by TEXT, clear_reason TEXT
) {strict};
CREATE INDEX suspect_open ON suspect (environment_id) WHERE cleared_at IS NULL;

CREATE TABLE lock_holding (
  id {id}, lock_id {int} NOT NULL REFERENCES lock (id), kind TEXT NOT NULL, name TEXT NOT NULL, mode TEXT NOT NULL,
  build_id {int}, deployment_id {int}, token TEXT, reason TEXT, since {int} NOT NULL, until {int},
  alive_until {int}, fence {int} NOT NULL
) {strict};
CREATE INDEX lock_holding_lock ON lock_holding (lock_id);
CREATE INDEX lock_holding_build ON lock_holding (build_id) WHERE build_id IS NOT NULL;

CREATE TABLE lock_wait (
  id {id}, lock_id {int} NOT NULL REFERENCES lock (id), kind TEXT NOT NULL, name TEXT NOT NULL, mode TEXT NOT NULL,
  build_id {int}, token TEXT, reason TEXT, since {int} NOT NULL, for_span {int}, alive_until {int}
) {strict};
CREATE INDEX lock_wait_lock ON lock_wait (lock_id, since, id);
CREATE INDEX lock_wait_build ON lock_wait (build_id) WHERE build_id IS NOT NULL;

-- `ord` is the id of the original for a rerun and the build's own otherwise: the order of history.
CREATE TABLE build (
  id {id}, pipeline_id {int} NOT NULL REFERENCES pipeline (id), job_id {int} NOT NULL REFERENCES job (id),
  number {int} NOT NULL, name TEXT NOT NULL, rerun_of {int}, rerun_number {int} NOT NULL DEFAULT 0, ord {int} NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('pending', 'started', 'succeeded', 'failed', 'errored', 'aborted')),
  manual {int} NOT NULL DEFAULT 0, created_by TEXT, created_at {int} NOT NULL, started_at {int}, ended_at {int},
  abort_at {int}, abort_by TEXT, abort_reason TEXT, end_reason TEXT,
  fixed_bag {int}, first_in_line {int} NOT NULL DEFAULT 0, reason TEXT, deployment_id {int},
  plan TEXT, worker TEXT, next_seq {int} NOT NULL DEFAULT 0, next_fence {int} NOT NULL DEFAULT 1,
  forgotten {int} NOT NULL DEFAULT 0
) {strict};
CREATE INDEX build_job ON build (job_id, ord, id);
CREATE INDEX build_job_status ON build (job_id, status, ord, id);
CREATE INDEX build_open ON build (status, id) WHERE status IN ('pending', 'started');
CREATE INDEX build_pipeline ON build (pipeline_id, id);
CREATE INDEX build_deployment ON build (deployment_id) WHERE deployment_id IS NOT NULL;
CREATE INDEX build_forget ON build (worker) WHERE forgotten = 0 AND worker IS NOT NULL;

CREATE TABLE build_input (
  build_id {int} NOT NULL REFERENCES build (id), job_id {int} NOT NULL, name TEXT NOT NULL,
  resource_id {int} NOT NULL, digest TEXT NOT NULL, version TEXT NOT NULL, first_occurrence {int} NOT NULL,
  PRIMARY KEY (build_id, name)
) {strict};
CREATE INDEX build_input_seen ON build_input (job_id, resource_id, digest, name);

CREATE TABLE build_output (
  build_id {int} NOT NULL REFERENCES build (id), name TEXT NOT NULL, resource_id {int} NOT NULL,
  digest TEXT NOT NULL, version TEXT NOT NULL, position {int} NOT NULL,
  PRIMARY KEY (build_id, name)
) {strict};

-- What a succeeded build vouches for: outputs first, then inputs, each (resource, version) once.
CREATE TABLE vouched (
  build_id {int} NOT NULL REFERENCES build (id), position {int} NOT NULL, job_id {int} NOT NULL,
  ord {int} NOT NULL, resource_id {int} NOT NULL, digest TEXT NOT NULL,
  PRIMARY KEY (build_id, position)
) {strict};
CREATE INDEX vouched_version ON vouched (job_id, resource_id, digest, ord, build_id);

CREATE TABLE build_pipe (
  to_build {int} NOT NULL REFERENCES build (id), from_build {int} NOT NULL REFERENCES build (id),
  PRIMARY KEY (to_build, from_build)
) {strict};

-- The journal: the truth about a build. `run` rows replay its plan; `output` rows are what its steps printed.
CREATE TABLE build_event (
  build_id {int} NOT NULL REFERENCES build (id), seq {int} NOT NULL, at {int} NOT NULL, kind TEXT NOT NULL,
  step TEXT, payload TEXT, bytes {blob},
  PRIMARY KEY (build_id, seq)
) {strict};
CREATE INDEX build_event_run ON build_event (build_id, seq) WHERE kind = 'run';

CREATE TABLE attempt (
  id TEXT PRIMARY KEY, build_id {int} NOT NULL REFERENCES build (id), step TEXT NOT NULL, fence {int} NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('queued', 'assigned', 'running', 'finished')),
  team TEXT NOT NULL, tags TEXT NOT NULL, worker TEXT, assignment TEXT NOT NULL,
  output_offset {int} NOT NULL DEFAULT 0, stop TEXT, stop_sent {int} NOT NULL DEFAULT 0,
  created_at {int} NOT NULL, assigned_at {int}, started_at {int}, finished_at {int}, ending TEXT,
  forgotten {int} NOT NULL DEFAULT 0
) {strict};
CREATE INDEX attempt_open ON attempt (state, created_at) WHERE state <> 'finished';
CREATE INDEX attempt_build ON attempt (build_id, step);
CREATE INDEX attempt_forget ON attempt (worker) WHERE forgotten = 0 AND state = 'finished';

CREATE TABLE timer (
  build_id {int} NOT NULL REFERENCES build (id), name TEXT NOT NULL, at {int} NOT NULL,
  PRIMARY KEY (build_id, name)
) {strict};
CREATE INDEX timer_at ON timer (at);

CREATE TABLE worker (
  name TEXT PRIMARY KEY, session TEXT NOT NULL, platform TEXT NOT NULL, tags TEXT NOT NULL, team TEXT,
  slots {int} NOT NULL, version TEXT NOT NULL, started_at {int} NOT NULL, seen_at {int} NOT NULL,
  state TEXT NOT NULL
) {strict};

CREATE TABLE audit (
  id {id}, at {int} NOT NULL, who TEXT NOT NULL, origin TEXT NOT NULL, act TEXT NOT NULL, target TEXT NOT NULL,
  reason TEXT, before TEXT, after TEXT
) {strict};
CREATE INDEX audit_target ON audit (target, id);
