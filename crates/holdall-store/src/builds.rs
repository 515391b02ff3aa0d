//! Builds: made, started and ended by guarded writes; an ended build never changes again.

mod lists;

use holdall_engine::ids::{BuildId, DeploymentId, JobId, PipelineId, ResourceId};
use holdall_engine::status::BuildStatus;
use holdall_engine::time::Timestamp;
use holdall_engine::version::{Version, VersionDigest};

use crate::params;
use crate::value::Row;
use crate::{Signal, StoreError, Tx, epoch, jobs};

pub use lists::{
    BuildFilter, NamedVersion, Within, build_bags, build_gets, build_list_latest, build_puts, build_search,
};

/// A build, without its plan.
#[derive(Debug, Clone)]
pub struct BuildRow {
    /// Its id.
    pub id: BuildId,
    /// Its pipeline.
    pub pipeline: PipelineId,
    /// Its job.
    pub job: JobId,
    /// The names of team, pipeline and job.
    pub team: String,
    /// The pipeline's name.
    pub pipeline_name: String,
    /// The job's name.
    pub job_name: String,
    /// `7`, or `7.1` for a rerun.
    pub name: String,
    /// The original of a rerun.
    pub rerun_of: Option<BuildId>,
    /// Its place in history: the original's id for a rerun.
    pub ord: i64,
    /// Its status.
    pub status: BuildStatus,
    /// Whether a person triggered it.
    pub manual: bool,
    /// Who.
    pub created_by: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// When somebody asked to abort it.
    pub abort_at: Option<Timestamp>,
    /// Who.
    pub abort_by: Option<String>,
    /// Why.
    pub abort_reason: Option<String>,
    /// Why it ended, where that is not in its log.
    pub end_reason: Option<String>,
    /// The bag that it must start, for a deployment of one named bag.
    pub fixed_bag: Option<i64>,
    /// Whether it goes before all others that wait for the lock: a hand-over.
    pub first_in_line: bool,
    /// The reason that was given for triggering it.
    pub reason: Option<String>,
    /// The deployment that it made or works for.
    pub deployment: Option<DeploymentId>,
    /// The worker that has its artifacts.
    pub worker: Option<String>,
}

const SELECT: &str = "SELECT b.id, b.pipeline_id, b.job_id, t.name, p.name, j.name, b.name, b.rerun_of, b.ord, \
     b.status, b.manual, b.created_by, b.created_at, b.started_at, b.ended_at, b.abort_at, b.abort_by, \
     b.abort_reason, b.end_reason, b.fixed_bag, b.first_in_line, b.reason, b.deployment_id, b.worker \
     FROM build b JOIN job j ON j.id = b.job_id JOIN pipeline p ON p.id = b.pipeline_id \
     JOIN team t ON t.id = p.team_id";

fn from_row(row: &Row) -> Result<BuildRow, StoreError> {
    let status: String = row.get(9)?;
    Ok(BuildRow {
        id: row.get(0)?,
        pipeline: row.get(1)?,
        job: row.get(2)?,
        team: row.get(3)?,
        pipeline_name: row.get(4)?,
        job_name: row.get(5)?,
        name: row.get(6)?,
        rerun_of: row.get(7)?,
        ord: row.get(8)?,
        status: BuildStatus::from_name(&status)
            .ok_or_else(|| StoreError::Inconsistent(format!("build status {status}")))?,
        manual: row.get(10)?,
        created_by: row.get(11)?,
        created_at: row.get(12)?,
        started_at: row.get(13)?,
        ended_at: row.get(14)?,
        abort_at: row.get(15)?,
        abort_by: row.get(16)?,
        abort_reason: row.get(17)?,
        end_reason: row.get(18)?,
        fixed_bag: row.get(19)?,
        first_in_line: row.get(20)?,
        reason: row.get(21)?,
        deployment: row.get(22)?,
        worker: row.get(23)?,
    })
}

fn rows(rows: &[Row]) -> Result<Vec<BuildRow>, StoreError> {
    rows.iter().map(from_row).collect()
}

/// A build by its id.
pub fn build_get(tx: &mut Tx<'_>, id: BuildId) -> Result<Option<BuildRow>, StoreError> {
    tx.query_one(&format!("{SELECT} WHERE b.id = ?1"), params![id])?.map(|row| from_row(&row)).transpose()
}

/// A build of a job by its name.
pub fn build_find(tx: &mut Tx<'_>, job: JobId, name: &str) -> Result<Option<BuildRow>, StoreError> {
    tx.query_one(
        &format!("{SELECT} WHERE b.job_id = ?1 AND b.name = ?2 ORDER BY b.id DESC LIMIT 1"),
        params![job, name],
    )?
    .map(|row| from_row(&row))
    .transpose()
}

/// The builds of a job, newest first.
pub fn build_list_of_job(
    tx: &mut Tx<'_>,
    job: JobId,
    below: Option<BuildId>,
    limit: i64,
) -> Result<Vec<BuildRow>, StoreError> {
    let found = tx.query(
        &format!("{SELECT} WHERE b.job_id = ?1 AND b.id < ?2 ORDER BY b.id DESC LIMIT ?3"),
        params![job, below.map_or(i64::MAX, |id| id.0), limit],
    )?;
    rows(&found)
}

/// All builds, newest first.
pub fn build_list(tx: &mut Tx<'_>, below: Option<BuildId>, limit: i64) -> Result<Vec<BuildRow>, StoreError> {
    let found = tx.query(
        &format!("{SELECT} WHERE b.id < ?1 ORDER BY b.id DESC LIMIT ?2"),
        params![below.map_or(i64::MAX, |id| id.0), limit],
    )?;
    rows(&found)
}

/// The builds of a job that have not started, in the order in which they will (reference, section 3.6); those that
/// take a lock over go first.
pub fn build_list_pending(tx: &mut Tx<'_>, job: JobId) -> Result<Vec<BuildRow>, StoreError> {
    let found = tx.query(
        &format!("{SELECT} WHERE b.job_id = ?1 AND b.status = 'pending' ORDER BY b.first_in_line DESC, b.ord, b.id"),
        params![job],
    )?;
    rows(&found)
}

/// The builds that have not started, of jobs that are not in a pipeline any more.
pub fn build_list_pending_removed(tx: &mut Tx<'_>, pipeline: PipelineId) -> Result<Vec<BuildRow>, StoreError> {
    let found = tx.query(
        &format!("{SELECT} WHERE j.pipeline_id = ?1 AND j.active = 0 AND b.status = 'pending' ORDER BY b.id"),
        params![pipeline],
    )?;
    rows(&found)
}

/// The builds that have not ended, oldest first.
pub fn build_list_open(tx: &mut Tx<'_>) -> Result<Vec<BuildRow>, StoreError> {
    let found = tx.query(&format!("{SELECT} WHERE b.status IN ('pending', 'started') ORDER BY b.id"), &[])?;
    rows(&found)
}

/// The builds of a deployment, oldest first.
pub fn build_list_of_deployment(tx: &mut Tx<'_>, deployment: DeploymentId) -> Result<Vec<BuildRow>, StoreError> {
    let found = tx.query(&format!("{SELECT} WHERE b.deployment_id = ?1 ORDER BY b.id"), params![deployment])?;
    rows(&found)
}

/// Lets the steps of a build that are still to come run on any worker: the one that had it is gone, and its artifacts with
/// it.
pub fn build_leave_worker(tx: &mut Tx<'_>, build: BuildId) -> Result<(), StoreError> {
    tx.execute("UPDATE build SET worker = NULL WHERE id = ?1", params![build])?;
    tx.signal(Signal::Workers);
    Ok(())
}

/// What was asked for in the future, by a clock that was set back since, was asked for now: what it waits for is checked
/// after that. Gives of how many builds that is so.
pub fn build_after_clock(tx: &mut Tx<'_>, now: Timestamp) -> Result<u64, StoreError> {
    tx.execute(
        "UPDATE build SET created_at = ?1 WHERE status = 'pending' AND status IN ('pending', 'started') \
         AND created_at > ?1",
        params![now],
    )
}

/// What a new build is.
#[derive(Debug, Clone, Default)]
pub struct NewBuild {
    /// Whether a person triggered it.
    pub manual: bool,
    /// Who.
    pub created_by: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// The bag that it must start.
    pub fixed_bag: Option<i64>,
    /// Whether it goes before all others that wait for the lock.
    pub first_in_line: bool,
}

/// Makes a pending build of a job.
pub fn build_create(tx: &mut Tx<'_>, job: JobId, new: &NewBuild, now: Timestamp) -> Result<BuildId, StoreError> {
    let row = tx
        .query_one(
            "UPDATE job SET next_number = next_number + 1 WHERE id = ?1 RETURNING next_number - 1, pipeline_id",
            params![job],
        )?
        .ok_or_else(|| StoreError::Inconsistent(format!("job {job} is gone")))?;
    let number: i64 = row.get(0)?;
    let pipeline: PipelineId = row.get(1)?;
    let id = BuildId(tx.insert(
        "INSERT INTO build (pipeline_id, job_id, number, name, ord, status, manual, created_by, created_at, reason, \
         fixed_bag, first_in_line) VALUES (?1, ?2, ?3, ?4, 0, 'pending', ?5, ?6, ?7, ?8, ?9, ?10) RETURNING id",
        params![
            pipeline,
            job,
            number,
            number.to_string(),
            new.manual,
            new.created_by.as_deref(),
            now,
            new.reason.as_deref(),
            new.fixed_bag,
            new.first_in_line
        ],
    )?);
    tx.execute("UPDATE build SET ord = id WHERE id = ?1", params![id])?;
    jobs::mark(tx, job)?;
    tx.signal(Signal::Board);
    Ok(id)
}

/// Makes a pending rerun of a build, named `N.k`; a rerun of a rerun is one of the original.
pub fn build_rerun(
    tx: &mut Tx<'_>,
    of: &BuildRow,
    by: &str,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<BuildId, StoreError> {
    let original = of.rerun_of.unwrap_or(of.id);
    let floor = epoch::rerun_floor(tx, original.0)?;
    let row = tx
        .query_one(
            "SELECT number, (SELECT COALESCE(MAX(r.rerun_number), 0) FROM build r WHERE r.rerun_of = ?1) \
             FROM build WHERE id = ?1",
            params![original],
        )?
        .ok_or_else(|| StoreError::Inconsistent(format!("build {original} is gone")))?;
    let number: i64 = row.get(0)?;
    let rerun: i64 = row.get::<i64>(1)?.max(floor) + 1;
    let id = BuildId(tx.insert(
        "INSERT INTO build (pipeline_id, job_id, number, name, rerun_of, rerun_number, ord, status, manual, \
         created_by, created_at, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?5, 'pending', 1, ?7, ?8, ?9) RETURNING id",
        params![of.pipeline, of.job, number, format!("{number}.{rerun}"), original, rerun, by, now, reason],
    )?);
    jobs::mark(tx, of.job)?;
    tx.signal(Signal::Board);
    Ok(id)
}

/// Lets a waiting build count as one that a person triggered.
pub fn build_make_manual(tx: &mut Tx<'_>, id: BuildId, by: &str, reason: Option<&str>) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE build SET manual = 1, created_by = ?2, reason = ?3 WHERE id = ?1 AND status = 'pending'",
        params![id, by, reason],
    )?;
    Ok(())
}

/// An input that a build starts with.
#[derive(Debug, Clone)]
pub struct BuildInput {
    /// The input's name.
    pub name: String,
    /// The resource.
    pub resource: ResourceId,
    /// The version.
    pub version: Version,
    /// Whether the job had it for the first time.
    pub first_occurrence: bool,
}

/// Starts a pending build with its inputs, the builds that vouched for them, and its plan (JSON), unless none can be
/// made. Gives `false`, and changes nothing, where it is not pending any more.
pub fn build_start(
    tx: &mut Tx<'_>,
    id: BuildId,
    inputs: &[BuildInput],
    pipes: &[BuildId],
    plan: Option<&str>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let started = tx.query_one(
        "UPDATE build SET status = 'started', started_at = ?2, plan = ?3 WHERE id = ?1 AND status = 'pending' \
         AND abort_at IS NULL RETURNING job_id",
        params![id, now, plan],
    )?;
    let Some(row) = started else { return Ok(false) };
    let job: JobId = row.get(0)?;
    for input in inputs {
        tx.execute(
            "INSERT INTO build_input (build_id, job_id, name, resource_id, digest, version, first_occurrence) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                id,
                job,
                &input.name,
                input.resource,
                &input.version.digest(),
                &input.version,
                input.first_occurrence
            ],
        )?;
    }
    for from in pipes {
        tx.execute(
            "INSERT INTO build_pipe (to_build, from_build) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            params![id, *from],
        )?;
    }
    tx.signal(Signal::Build(id));
    tx.signal(Signal::Board);
    Ok(true)
}

/// Says for which deployment a build works.
pub fn build_set_deployment(tx: &mut Tx<'_>, id: BuildId, deployment: DeploymentId) -> Result<(), StoreError> {
    tx.execute("UPDATE build SET deployment_id = ?2 WHERE id = ?1", params![id, deployment])?;
    Ok(())
}

/// The plan of a build, where it has started.
pub fn build_plan(tx: &mut Tx<'_>, id: BuildId) -> Result<Option<String>, StoreError> {
    match tx.query_one("SELECT plan FROM build WHERE id = ?1", params![id])? {
        Some(row) => row.get(0),
        None => Ok(None),
    }
}

/// Ends a build. Gives `false`, and changes nothing, where it has ended already. A success is written down as what
/// later jobs may build on: outputs first, then inputs, each once (reference, section 3.1).
pub fn build_finish(
    tx: &mut Tx<'_>,
    id: BuildId,
    status: BuildStatus,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let row = tx.query_one(
        "UPDATE build SET status = ?2, ended_at = ?3, end_reason = ?4 WHERE id = ?1 \
         AND status IN ('pending', 'started') RETURNING job_id, ord",
        params![id, status.as_str(), now, reason],
    )?;
    let Some(row) = row else { return Ok(false) };
    let job: JobId = row.get(0)?;
    let ord: i64 = row.get(1)?;
    tx.execute("DELETE FROM timer WHERE build_id = ?1", params![id])?;
    if status == BuildStatus::Succeeded {
        let mut seen: Vec<(ResourceId, VersionDigest)> = Vec::new();
        let outputs = tx
            .query("SELECT resource_id, digest FROM build_output WHERE build_id = ?1 ORDER BY position", params![id])?;
        let inputs =
            tx.query("SELECT resource_id, digest FROM build_input WHERE build_id = ?1 ORDER BY name", params![id])?;
        for row in outputs.iter().chain(&inputs) {
            let pair = (row.get(0)?, row.get(1)?);
            if !seen.contains(&pair) {
                seen.push(pair);
            }
        }
        for (position, (resource, digest)) in seen.iter().enumerate() {
            tx.execute(
                "INSERT INTO vouched (build_id, position, job_id, ord, resource_id, digest) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![id, position, job, ord, *resource, digest],
            )?;
        }
    }
    jobs::mark_after(tx, job)?;
    tx.signal(Signal::Build(id));
    tx.signal(Signal::Workers);
    Ok(true)
}

/// Asks to abort a build. Gives `false` where it has ended, or somebody asked already.
pub fn build_request_abort(
    tx: &mut Tx<'_>,
    id: BuildId,
    by: &str,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let row = tx.query_one(
        "UPDATE build SET abort_at = ?2, abort_by = ?3, abort_reason = ?4 WHERE id = ?1 AND abort_at IS NULL \
         AND status IN ('pending', 'started') RETURNING job_id",
        params![id, now, by, reason],
    )?;
    match row {
        None => Ok(false),
        Some(row) => {
            jobs::mark(tx, row.get(0)?)?;
            Ok(true)
        }
    }
}

/// The inputs of a build, by name.
pub fn build_inputs(tx: &mut Tx<'_>, id: BuildId) -> Result<Vec<BuildInput>, StoreError> {
    tx.query(
        "SELECT name, resource_id, version, first_occurrence FROM build_input WHERE build_id = ?1 ORDER BY name",
        params![id],
    )?
    .iter()
    .map(|row| {
        Ok(BuildInput { name: row.get(0)?, resource: row.get(1)?, version: row.get(2)?, first_occurrence: row.get(3)? })
    })
    .collect()
}

/// The builds that vouched for a build's inputs.
pub fn build_pipes(tx: &mut Tx<'_>, id: BuildId) -> Result<Vec<BuildId>, StoreError> {
    tx.query("SELECT from_build FROM build_pipe WHERE to_build = ?1 ORDER BY from_build", params![id])?
        .iter()
        .map(|row| row.get(0))
        .collect()
}

/// Records what a put gave: a build may put under one name more than once, and what it has put stays.
pub fn build_output_add(
    tx: &mut Tx<'_>,
    id: BuildId,
    name: &str,
    resource: ResourceId,
    version: &Version,
) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO build_output (build_id, name, resource_id, digest, version, position) \
         SELECT CAST(?1 AS BIGINT), CAST(?2 AS TEXT), CAST(?3 AS BIGINT), CAST(?4 AS TEXT), CAST(?5 AS TEXT), \
         (SELECT COUNT(*) FROM build_output WHERE build_id = ?1) WHERE NOT EXISTS \
         (SELECT 1 FROM build_output WHERE build_id = ?1 AND name = ?2 AND resource_id = ?3 AND digest = ?4)",
        params![id, name, resource, &version.digest(), version],
    )?;
    Ok(())
}

/// The outputs of a build: name and version.
pub fn build_outputs(tx: &mut Tx<'_>, id: BuildId) -> Result<Vec<(String, Version)>, StoreError> {
    tx.query("SELECT name, version FROM build_output WHERE build_id = ?1 ORDER BY position", params![id])?
        .iter()
        .map(|row| Ok((row.get(0)?, row.get(1)?)))
        .collect()
}

/// Whether a version is still known in the resource's scope.
pub fn version_is_known(tx: &mut Tx<'_>, resource: ResourceId, version: &Version) -> Result<bool, StoreError> {
    let row = tx.query_one(
        "SELECT 1 FROM version v JOIN resource r ON r.scope_id = v.scope_id WHERE r.id = ?1 AND v.digest = ?2",
        params![resource, &version.digest()],
    )?;
    Ok(row.is_some())
}

/// The versions of a resource that running builds of a pipeline have as inputs. The `+` keeps the databases from walking all
/// builds of the pipeline.
pub fn running_input_versions(
    tx: &mut Tx<'_>,
    pipeline: PipelineId,
    resource: ResourceId,
) -> Result<Vec<Version>, StoreError> {
    tx.query(
        "SELECT i.version FROM build b JOIN build_input i ON i.build_id = b.id \
         WHERE b.status = 'started' AND b.status IN ('pending', 'started') AND +b.pipeline_id = ?1 AND i.resource_id = ?2",
        params![pipeline, resource],
    )?
    .iter()
    .map(|row| row.get(0))
    .collect()
}
