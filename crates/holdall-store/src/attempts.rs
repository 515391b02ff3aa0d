//! Attempts: one try to run one step once, given to one worker, under a fence that only grows per build.

use std::collections::BTreeMap;

use holdall_engine::ids::{BuildId, DeploymentId, JobId, PipelineId};
use holdall_engine::time::Timestamp;

use crate::params;
use crate::value::Row;
use crate::{Signal, StoreError, Tx};

/// An attempt.
#[derive(Debug, Clone)]
pub struct AttemptRow {
    /// Its id.
    pub id: String,
    /// Its build.
    pub build: BuildId,
    /// The step in the build's plan.
    pub step: String,
    /// Its fence.
    pub fence: i64,
    /// `queued`, `assigned`, `running` or `finished`.
    pub state: String,
    /// The worker that has it.
    pub worker: Option<String>,
    /// What the worker gets: JSON.
    pub assignment: String,
    /// How many bytes of its output are stored.
    pub output_offset: i64,
    /// Why it is to be stopped.
    pub stop: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
}

const COLUMNS: &str =
    "a.id, a.build_id, a.step, a.fence, a.state, a.worker, a.assignment, a.output_offset, a.stop, a.created_at";

fn from_row(row: &Row) -> Result<AttemptRow, StoreError> {
    Ok(AttemptRow {
        id: row.get(0)?,
        build: row.get(1)?,
        step: row.get(2)?,
        fence: row.get(3)?,
        state: row.get(4)?,
        worker: row.get(5)?,
        assignment: row.get(6)?,
        output_offset: row.get(7)?,
        stop: row.get(8)?,
        created_at: row.get(9)?,
    })
}

/// The next fence of a build.
pub fn fence_next(tx: &mut Tx<'_>, build: BuildId) -> Result<i64, StoreError> {
    tx.query_one("UPDATE build SET next_fence = next_fence + 1 WHERE id = ?1 RETURNING next_fence - 1", params![build])?
        .ok_or_else(|| StoreError::Inconsistent(format!("build {build} is gone")))?
        .get(0)
}

/// Queues an attempt for the workers of a team with all of the tags (JSON list).
#[allow(clippy::too_many_arguments)]
pub fn attempt_create(
    tx: &mut Tx<'_>,
    id: &str,
    build: BuildId,
    step: &str,
    fence: i64,
    team: &str,
    tags: &str,
    assignment: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO attempt (id, build_id, step, fence, state, team, tags, assignment, created_at) \
         VALUES (?1, ?2, ?3, ?4, 'queued', ?5, ?6, ?7, ?8)",
        params![id, build, step, fence, team, tags, assignment, now],
    )?;
    tx.signal(Signal::Workers);
    Ok(())
}

/// An attempt by its id.
pub fn attempt_get(tx: &mut Tx<'_>, id: &str) -> Result<Option<AttemptRow>, StoreError> {
    tx.query_one(&format!("SELECT {COLUMNS} FROM attempt a WHERE a.id = ?1"), params![id])?
        .map(|row| from_row(&row))
        .transpose()
}

/// The newest attempt of a step.
pub fn attempt_of_step(tx: &mut Tx<'_>, build: BuildId, step: &str) -> Result<Option<AttemptRow>, StoreError> {
    tx.query_one(
        &format!("SELECT {COLUMNS} FROM attempt a WHERE a.build_id = ?1 AND a.step = ?2 ORDER BY a.fence DESC LIMIT 1"),
        params![build, step],
    )?
    .map(|row| from_row(&row))
    .transpose()
}

/// The worker of the newest attempt of a step, and when the process runs since by that worker's clock.
pub fn attempt_start_of_step(
    tx: &mut Tx<'_>,
    build: BuildId,
    step: &str,
) -> Result<Option<(String, Option<Timestamp>)>, StoreError> {
    tx.query_one(
        "SELECT worker, started_at FROM attempt WHERE build_id = ?1 AND step = ?2 AND worker IS NOT NULL \
         ORDER BY fence DESC LIMIT 1",
        params![build, step],
    )?
    .map(|row| Ok((row.get(0)?, row.get(1)?)))
    .transpose()
}

/// The attempts of a build that have not finished.
pub fn attempt_list_open(tx: &mut Tx<'_>, build: BuildId) -> Result<Vec<AttemptRow>, StoreError> {
    tx.query(
        &format!("SELECT {COLUMNS} FROM attempt a WHERE a.build_id = ?1 AND a.state <> 'finished' ORDER BY a.fence"),
        params![build],
    )?
    .iter()
    .map(from_row)
    .collect()
}

/// Gives a queued attempt to a worker, which from now on has the build's artifacts.
pub fn attempt_assign(tx: &mut Tx<'_>, attempt: &AttemptRow, worker: &str, now: Timestamp) -> Result<bool, StoreError> {
    let changed = tx.execute(
        "UPDATE attempt SET state = 'assigned', worker = ?2, assigned_at = ?3 WHERE id = ?1 AND state = 'queued'",
        params![&attempt.id, worker, now],
    )?;
    tx.execute("UPDATE build SET worker = ?2 WHERE id = ?1 AND worker IS NULL", params![attempt.build, worker])?;
    Ok(changed > 0)
}

/// The attempts that a worker has and has not finished.
pub fn attempt_list_of_worker(tx: &mut Tx<'_>, worker: &str) -> Result<Vec<AttemptRow>, StoreError> {
    tx.query(
        &format!(
            "SELECT {COLUMNS} FROM attempt a WHERE a.worker = ?1 AND a.state IN ('assigned', 'running') \
             AND a.state <> 'finished' ORDER BY a.created_at, a.fence, a.id"
        ),
        params![worker],
    )?
    .iter()
    .map(from_row)
    .collect()
}

/// The attempts that run on workers that are lost, with when each of these was last heard of.
pub fn attempt_list_lost(tx: &mut Tx<'_>) -> Result<Vec<(AttemptRow, Timestamp)>, StoreError> {
    tx.query(
        &format!(
            "SELECT {COLUMNS}, w.seen_at FROM worker w JOIN attempt a ON a.worker = w.name \
             WHERE w.state = 'lost' AND a.state = 'running' AND a.state <> 'finished' ORDER BY a.created_at, a.id"
        ),
        &[],
    )?
    .iter()
    .map(|row| Ok((from_row(row)?, row.get(10)?)))
    .collect()
}

/// Says that an attempt's process runs, since `at` by its worker's clock; gives `false` where that was known.
pub fn attempt_started(tx: &mut Tx<'_>, id: &str, at: Timestamp) -> Result<bool, StoreError> {
    Ok(tx.execute(
        "UPDATE attempt SET state = 'running', started_at = ?2 WHERE id = ?1 AND state IN ('queued', 'assigned')",
        params![id, at],
    )? > 0)
}

/// After a loss of history: a worker may have got what still waits in a build's queue, so it counts as running.
pub fn attempt_assume_running(tx: &mut Tx<'_>, build: BuildId) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE attempt SET state = 'running' WHERE build_id = ?1 AND state IN ('queued', 'assigned')",
        params![build],
    )?;
    Ok(())
}

/// Moves the end of an attempt's stored output forward, if it is where it is expected to be.
pub fn attempt_advance(tx: &mut Tx<'_>, id: &str, from: i64, to: i64) -> Result<bool, StoreError> {
    Ok(tx.execute(
        "UPDATE attempt SET output_offset = ?3 WHERE id = ?1 AND output_offset = ?2 AND state <> 'finished'",
        params![id, from, to],
    )? > 0)
}

/// Ends an attempt, at `at` by its worker's clock; gives `false` where it had ended.
pub fn attempt_finish(tx: &mut Tx<'_>, id: &str, ending: &str, at: Timestamp) -> Result<bool, StoreError> {
    Ok(tx.execute(
        "UPDATE attempt SET state = 'finished', finished_at = ?2, ending = ?3 WHERE id = ?1 AND state <> 'finished'",
        params![id, at, ending],
    )? > 0)
}

/// Wants an attempt stopped, for `abort` or `cancel`.
pub fn attempt_stop(tx: &mut Tx<'_>, id: &str, why: &str) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE attempt SET stop = ?2 WHERE id = ?1 AND state <> 'finished' AND stop IS NULL",
        params![id, why],
    )?;
    tx.signal(Signal::Workers);
    Ok(())
}

/// The finished attempts of a worker whose folders it still keeps.
pub fn attempt_list_forgettable(tx: &mut Tx<'_>, worker: &str, limit: i64) -> Result<Vec<String>, StoreError> {
    tx.query(
        "SELECT id FROM attempt WHERE worker = ?1 AND forgotten = 0 AND state = 'finished' LIMIT ?2",
        params![worker, limit],
    )?
    .iter()
    .map(|row| row.get(0))
    .collect()
}

/// Remembers that a worker was told to remove an attempt.
pub fn attempt_forgotten(tx: &mut Tx<'_>, id: &str) -> Result<(), StoreError> {
    tx.execute("UPDATE attempt SET forgotten = 1 WHERE id = ?1", params![id])?;
    Ok(())
}

/// The ended builds whose artifacts a worker still keeps.
pub fn build_list_forgettable(tx: &mut Tx<'_>, worker: &str, limit: i64) -> Result<Vec<BuildId>, StoreError> {
    tx.query(
        "SELECT id FROM build WHERE worker = ?1 AND forgotten = 0 AND status NOT IN ('pending', 'started') LIMIT ?2",
        params![worker, limit],
    )?
    .iter()
    .map(|row| row.get(0))
    .collect()
}

/// Remembers that a worker was told to remove a build's artifacts.
pub fn build_forgotten(tx: &mut Tx<'_>, id: BuildId) -> Result<(), StoreError> {
    tx.execute("UPDATE build SET forgotten = 1 WHERE id = ?1", params![id])?;
    Ok(())
}

/// Whether there is a build of that id that has not ended.
pub fn build_is_open(tx: &mut Tx<'_>, id: BuildId) -> Result<bool, StoreError> {
    let open = tx.query_one("SELECT id FROM build WHERE id = ?1 AND status IN ('pending', 'started')", params![id])?;
    Ok(open.is_some())
}

/// A queued attempt with what a worker must have to take it.
#[derive(Debug, Clone)]
pub struct QueuedRow {
    /// The attempt.
    pub attempt: AttemptRow,
    /// Its team.
    pub team: String,
    /// Its tags: JSON list.
    pub tags: String,
    /// The worker that has the build's artifacts.
    pub build_worker: Option<String>,
}

/// Queued attempts that are for a worker as far as its team (`None`: all teams) and the artifacts of their builds
/// say, oldest first; `offset` of them are left out. A build stays with its worker, also when its pipeline has gone to
/// another team since.
pub fn attempt_list_queued_for(
    tx: &mut Tx<'_>,
    worker: &str,
    team: Option<&str>,
    limit: i64,
    offset: i64,
) -> Result<Vec<QueuedRow>, StoreError> {
    tx.query(
        &format!(
            "SELECT {COLUMNS}, a.team, a.tags, b.worker FROM attempt a JOIN build b ON b.id = a.build_id \
             WHERE a.state = 'queued' AND a.state <> 'finished' AND (b.worker IS NULL OR b.worker = ?1) \
             AND (a.team = COALESCE(?2, a.team) OR b.worker = ?1) \
             ORDER BY a.created_at, a.fence, a.id LIMIT ?3 OFFSET ?4"
        ),
        params![worker, team, limit, offset],
    )?
    .iter()
    .map(|row| {
        Ok(QueuedRow { attempt: from_row(row)?, team: row.get(10)?, tags: row.get(11)?, build_worker: row.get(12)? })
    })
    .collect()
}

/// The attempts of a worker that are to be stopped and of which it has not been told.
pub fn attempt_list_to_stop(tx: &mut Tx<'_>, worker: &str) -> Result<Vec<AttemptRow>, StoreError> {
    tx.query(
        &format!(
            "SELECT {COLUMNS} FROM attempt a WHERE a.worker = ?1 AND a.state <> 'finished' AND a.stop IS NOT NULL \
             AND a.stop_sent = 0 ORDER BY a.created_at, a.fence, a.id"
        ),
        params![worker],
    )?
    .iter()
    .map(from_row)
    .collect()
}

/// Remembers that a worker was told to stop an attempt.
pub fn attempt_stop_sent(tx: &mut Tx<'_>, id: &str) -> Result<(), StoreError> {
    tx.execute("UPDATE attempt SET stop_sent = 1 WHERE id = ?1", params![id])?;
    Ok(())
}

/// A worker may not have heard what it was told to stop: it is told again.
pub fn attempt_stops_unsent(tx: &mut Tx<'_>, worker: &str) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE attempt SET stop_sent = 0 WHERE worker = ?1 AND state <> 'finished' AND stop_sent = 1",
        params![worker],
    )?;
    Ok(())
}

/// An attempt that has not finished, with what it waits for or who has it.
#[derive(Debug, Clone)]
pub struct OpenRow {
    /// The attempt.
    pub attempt: AttemptRow,
    /// Its team.
    pub team: String,
    /// Its tags: JSON list.
    pub tags: String,
    /// The worker that has the build's artifacts.
    pub build_worker: Option<String>,
    /// Its job.
    pub job: JobId,
    /// The job's name.
    pub job_name: String,
    /// The build's name.
    pub build_name: String,
    /// The deployment that the build works for.
    pub deployment: Option<DeploymentId>,
}

/// The attempts of a pipeline's builds that have not finished, oldest first. The `+` keeps the databases from walking all its
/// builds.
pub fn attempt_list_open_of_pipeline(tx: &mut Tx<'_>, pipeline: PipelineId) -> Result<Vec<OpenRow>, StoreError> {
    tx.query(
        &format!(
            "SELECT {COLUMNS}, a.team, a.tags, b.worker, b.job_id, j.name, b.name, b.deployment_id FROM attempt a \
             JOIN build b ON b.id = a.build_id JOIN job j ON j.id = b.job_id \
             WHERE a.state <> 'finished' AND +b.pipeline_id = ?1 ORDER BY a.created_at, a.fence, a.id"
        ),
        params![pipeline],
    )?
    .iter()
    .map(|row| {
        Ok(OpenRow {
            attempt: from_row(row)?,
            team: row.get(10)?,
            tags: row.get(11)?,
            build_worker: row.get(12)?,
            job: row.get(13)?,
            job_name: row.get(14)?,
            build_name: row.get(15)?,
            deployment: row.get(16)?,
        })
    })
    .collect()
}

/// How many attempts each worker has that has any.
pub fn attempt_count_by_worker(tx: &mut Tx<'_>) -> Result<BTreeMap<String, i64>, StoreError> {
    tx.query(
        "SELECT a.worker, COUNT(*) FROM attempt a WHERE a.state <> 'finished' AND a.worker IS NOT NULL \
         GROUP BY a.worker",
        &[],
    )?
    .iter()
    .map(|row| Ok((row.get(0)?, row.get(1)?)))
    .collect()
}
