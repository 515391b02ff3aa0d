//! Jobs: what the scheduler reads of them, and the marks that say which to look at.

use holdall_engine::ids::{BuildId, JobId, PipelineId, ResourceId, ScopeId};
use holdall_engine::pipeline::VersionChoice;
use holdall_engine::resolve::{Input, Wanted};
use holdall_engine::time::{Span, Timestamp};
use holdall_engine::version::Version;

use crate::params;
use crate::value::Row;
use crate::{Signal, StoreError, Tx, checks};

/// A job with what holds it back, without its configuration.
#[derive(Debug, Clone)]
pub struct JobRow {
    /// Its id.
    pub id: JobId,
    /// Its pipeline.
    pub pipeline: PipelineId,
    /// The pipeline's team.
    pub team: String,
    /// The pipeline's name.
    pub pipeline_name: String,
    /// Its name.
    pub name: String,
    /// Whether it is still configured.
    pub active: bool,
    /// Who paused it, since when and why.
    pub paused: Option<Pause>,
    /// The same of its pipeline.
    pub pipeline_paused: Option<Pause>,
    /// How many builds at once over its groups; 0: no limit.
    pub max_in_flight: i64,
    /// What the scheduler keeps of its configuration: JSON.
    pub spec: String,
    /// Whether it had inputs when the scheduler last looked at it.
    pub inputs_determined: bool,
}

/// Who paused something.
#[derive(Debug, Clone)]
pub struct Pause {
    /// Who.
    pub by: Option<String>,
    /// Since when.
    pub at: Option<Timestamp>,
    /// Why.
    pub reason: Option<String>,
}

const COLUMNS: &str = "j.id, j.pipeline_id, t.name, p.name, j.name, j.active, j.paused, j.paused_by, j.paused_at, \
     j.paused_reason, p.paused, p.paused_by, p.paused_at, p.paused_reason, j.max_in_flight, j.spec, j.inputs_determined";
const FROM: &str = "FROM job j JOIN pipeline p ON p.id = j.pipeline_id JOIN team t ON t.id = p.team_id";

fn from_row(row: &Row) -> Result<JobRow, StoreError> {
    let pause = |at: usize| -> Result<Option<Pause>, StoreError> {
        Ok(if row.get::<bool>(at)? {
            Some(Pause { by: row.get(at + 1)?, at: row.get(at + 2)?, reason: row.get(at + 3)? })
        } else {
            None
        })
    };
    Ok(JobRow {
        id: row.get(0)?,
        pipeline: row.get(1)?,
        team: row.get(2)?,
        pipeline_name: row.get(3)?,
        name: row.get(4)?,
        active: row.get(5)?,
        paused: pause(6)?,
        pipeline_paused: pause(10)?,
        max_in_flight: row.get(14)?,
        spec: row.get(15)?,
        inputs_determined: row.get(16)?,
    })
}

/// A job by its id.
pub fn job_get(tx: &mut Tx<'_>, id: JobId) -> Result<Option<JobRow>, StoreError> {
    tx.query_one(&format!("SELECT {COLUMNS} {FROM} WHERE j.id = ?1"), params![id])?
        .map(|row| from_row(&row))
        .transpose()
}

/// A job by its name.
pub fn job_find(tx: &mut Tx<'_>, pipeline: PipelineId, name: &str) -> Result<Option<JobRow>, StoreError> {
    tx.query_one(
        &format!("SELECT {COLUMNS} {FROM} WHERE j.pipeline_id = ?1 AND j.name = ?2 AND j.active = 1"),
        params![pipeline, name],
    )?
    .map(|row| from_row(&row))
    .transpose()
}

/// The jobs of a pipeline in the order in which they are written.
pub fn job_list(tx: &mut Tx<'_>, pipeline: PipelineId) -> Result<Vec<JobRow>, StoreError> {
    tx.query(
        &format!("SELECT {COLUMNS} {FROM} WHERE j.pipeline_id = ?1 AND j.active = 1 ORDER BY j.position"),
        params![pipeline],
    )?
    .iter()
    .map(from_row)
    .collect()
}

/// Marks one job for the scheduler.
pub fn mark(tx: &mut Tx<'_>, job: JobId) -> Result<(), StoreError> {
    tx.execute("UPDATE job SET dirty = 1 WHERE id = ?1 AND dirty = 0 AND active = 1", params![job])?;
    tx.signal(Signal::Schedule);
    Ok(())
}

/// Marks all jobs of a pipeline.
pub fn mark_pipeline(tx: &mut Tx<'_>, pipeline: PipelineId) -> Result<(), StoreError> {
    tx.execute("UPDATE job SET dirty = 1 WHERE pipeline_id = ?1 AND active = 1 AND dirty = 0", params![pipeline])?;
    tx.signal(Signal::Schedule);
    tx.signal(Signal::Board);
    Ok(())
}

/// Marks the jobs that have pending builds.
pub fn mark_pending(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE job SET dirty = 1 WHERE active = 1 AND dirty = 0 AND id IN (SELECT job_id FROM build \
         WHERE status = 'pending' AND status IN ('pending', 'started'))",
        &[],
    )?;
    tx.signal(Signal::Schedule);
    Ok(())
}

/// Marks the jobs with an input of that scope: one of its versions is new, or ticked or unticked.
pub fn mark_scope(tx: &mut Tx<'_>, scope: ScopeId) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE job SET dirty = 1 WHERE active = 1 AND dirty = 0 AND id IN (SELECT i.job_id FROM job_input i \
         JOIN resource r ON r.id = i.resource_id WHERE r.scope_id = ?1 AND r.active = 1)",
        params![scope],
    )?;
    tx.signal(Signal::Schedule);
    tx.signal(Signal::Board);
    Ok(())
}

/// Marks the jobs with an input of that scope and a build that may wait for its check. What a check found marks by itself
/// whoever it concerns: one that found nothing new costs the jobs without pending builds nothing.
pub fn mark_waiting(tx: &mut Tx<'_>, scope: ScopeId) -> Result<(), StoreError> {
    let marked = tx.execute(
        "UPDATE job SET dirty = 1 WHERE active = 1 AND dirty = 0 AND id IN (SELECT i.job_id FROM job_input i \
         JOIN resource r ON r.id = i.resource_id WHERE r.scope_id = ?1 AND r.active = 1) \
         AND EXISTS (SELECT 1 FROM build b WHERE b.job_id = job.id AND b.status = 'pending')",
        params![scope],
    )?;
    if marked > 0 {
        tx.signal(Signal::Schedule);
    }
    tx.signal(Signal::Board);
    Ok(())
}

/// Marks the jobs with an input of that resource.
pub fn mark_resource(tx: &mut Tx<'_>, resource: ResourceId) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE job SET dirty = 1 WHERE active = 1 AND dirty = 0 \
         AND id IN (SELECT job_id FROM job_input WHERE resource_id = ?1)",
        params![resource],
    )?;
    tx.signal(Signal::Schedule);
    tx.signal(Signal::Board);
    Ok(())
}

/// Marks what a build of `job` that ended may let start: the jobs after it, and those that share a group with it.
pub fn mark_after(tx: &mut Tx<'_>, job: JobId) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE job SET dirty = 1 WHERE active = 1 AND dirty = 0 AND id IN (SELECT CAST(?1 AS BIGINT) \
         UNION SELECT job_id FROM job_input_passed WHERE passed_job_id = ?1 \
         UNION SELECT o.job_id FROM job_group g JOIN job_group o \
                   ON o.pipeline_id = g.pipeline_id AND o.name = g.name WHERE g.job_id = ?1)",
        params![job],
    )?;
    tx.signal(Signal::Schedule);
    tx.signal(Signal::Board);
    Ok(())
}

/// Some marked jobs, lowest id first.
pub fn dirty(tx: &mut Tx<'_>, limit: i64) -> Result<Vec<JobId>, StoreError> {
    tx.query("SELECT id FROM job WHERE dirty = 1 ORDER BY id LIMIT ?1", params![limit])?
        .iter()
        .map(|row| row.get(0))
        .collect()
}

/// Takes the mark off a job; gives whether it had one.
pub fn unmark(tx: &mut Tx<'_>, job: JobId) -> Result<bool, StoreError> {
    Ok(tx.execute("UPDATE job SET dirty = 0 WHERE id = ?1 AND dirty = 1", params![job])? > 0)
}

/// Pauses or unpauses a job.
pub fn job_pause(
    tx: &mut Tx<'_>,
    job: JobId,
    paused: bool,
    by: &str,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (by, at) = if paused { (Some(by), Some(now)) } else { (None, None) };
    tx.execute(
        "UPDATE job SET paused = ?2, paused_by = ?3, paused_at = ?4, paused_reason = ?5 WHERE id = ?1",
        params![job, paused, by, at, reason.filter(|_| paused)],
    )?;
    mark_after(tx, job)
}

/// An input of a job with the resource's state.
#[derive(Debug, Clone)]
pub struct InputRow {
    /// The input's name.
    pub name: String,
    /// The resource.
    pub resource: ResourceId,
    /// Its name.
    pub resource_name: String,
    /// Its type.
    pub resource_type: String,
    /// `latest`, `every` or `pinned`.
    pub choice: String,
    /// The pin of the step.
    pub step_pin: Option<Version>,
    /// The pin of the resource.
    pub resource_pin: Option<Version>,
    /// Whether a new version starts a build.
    pub trigger: bool,
    /// The jobs that must have passed it.
    pub passed: Vec<JobId>,
    /// Whether `passed` is written, also when no such job is left.
    pub has_passed: bool,
    /// The scope.
    pub scope: Option<ScopeId>,
    /// When its last check ended.
    pub checked_at: Option<Timestamp>,
    /// How often it is to be checked; `None`: never by itself.
    pub check_every: Option<Span>,
    /// What went wrong in it.
    pub check_error: Option<String>,
    /// Since when checks fail.
    pub failing_since: Option<Timestamp>,
}

impl InputRow {
    /// The input as resolution wants it.
    pub fn to_resolve(&self) -> Input {
        let step = match self.choice.as_str() {
            "every" => VersionChoice::Every,
            "pinned" => VersionChoice::Pinned(self.step_pin.clone().unwrap_or_default()),
            _ => VersionChoice::Latest,
        };
        Input {
            name: self.name.clone(),
            resource: self.resource,
            passed: self.passed.clone(),
            wanted: Wanted::new(&step, self.resource_pin.as_ref()),
            trigger: self.trigger,
        }
    }
}

/// The inputs of a job in the order in which they are written.
pub fn job_inputs(tx: &mut Tx<'_>, job: JobId) -> Result<Vec<InputRow>, StoreError> {
    let mut inputs: Vec<InputRow> = tx
        .query(
            "SELECT i.name, i.resource_id, r.name, r.type, i.choice, i.pin, r.pin, i.is_trigger, i.has_passed, \
             r.scope_id, s.last_check_at, s.last_check_error, s.failing_since, COALESCE(r.check_every, ?2) FROM job_input i \
             JOIN resource r ON r.id = i.resource_id LEFT JOIN scope s ON s.id = r.scope_id \
             WHERE i.job_id = ?1 ORDER BY i.position",
            params![job, checks::DEFAULT_INTERVAL],
        )?
        .iter()
        .map(|row| {
            Ok(InputRow {
                name: row.get(0)?,
                resource: row.get(1)?,
                resource_name: row.get(2)?,
                resource_type: row.get(3)?,
                choice: row.get(4)?,
                step_pin: row.get(5)?,
                resource_pin: row.get(6)?,
                trigger: row.get(7)?,
                has_passed: row.get(8)?,
                passed: Vec::new(),
                scope: row.get(9)?,
                checked_at: row.get(10)?,
                check_error: row.get(11)?,
                failing_since: row.get(12)?,
                check_every: Some(row.get::<Span>(13)?).filter(|every| every.0 >= 0),
            })
        })
        .collect::<Result<_, StoreError>>()?;
    if inputs.iter().any(|input| input.has_passed) {
        let passed = tx.query(
            "SELECT input, passed_job_id FROM job_input_passed WHERE job_id = ?1 ORDER BY passed_job_id",
            params![job],
        )?;
        for row in passed {
            let name: String = row.get(0)?;
            if let Some(input) = inputs.iter_mut().find(|input| input.name == name) {
                input.passed.push(row.get(1)?);
            }
        }
    }
    Ok(inputs)
}

/// How full the groups of a job are.
#[derive(Debug, Clone, Default)]
pub struct InFlight {
    /// Running builds of all jobs that share a group with it: (job's name, build's name).
    pub running: Vec<(String, String)>,
    /// The first pending build over those jobs, when it is of another job.
    pub before: Option<WaitingBuild>,
}

/// A pending build of a job that shares a group with another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingBuild {
    /// By what they start one after the other: its original's id for a rerun and its own otherwise, then its own.
    pub order: (BuildId, BuildId),
    /// Its job's name.
    pub job: String,
}

/// Reads how full the groups of a job are, and which pending build is first over them (reference, section 4.3).
pub fn in_flight(tx: &mut Tx<'_>, job: JobId) -> Result<InFlight, StoreError> {
    let sharing = "SELECT DISTINCT o.job_id FROM job_group g JOIN job_group o \
         ON o.pipeline_id = g.pipeline_id AND o.name = g.name WHERE g.job_id = ?1";
    let running = tx
        .query(
            &format!(
                "SELECT j.name, b.name FROM build b JOIN job j ON j.id = b.job_id \
                 WHERE b.status = 'started' AND b.job_id IN ({sharing}) ORDER BY b.id"
            ),
            params![job],
        )?
        .iter()
        .map(|row| Ok((row.get(0)?, row.get(1)?)))
        .collect::<Result<_, StoreError>>()?;
    let before = tx
        .query_one(
            &format!(
                "SELECT b.ord, b.id, j.name, b.job_id FROM build b JOIN job j ON j.id = b.job_id \
                 WHERE b.status = 'pending' AND j.paused = 0 AND j.active = 1 AND b.job_id IN ({sharing}) \
                 AND (j.inputs_determined = 1 OR b.rerun_of IS NOT NULL OR b.fixed_bag IS NOT NULL) \
                 ORDER BY b.ord, b.id LIMIT 1"
            ),
            params![job],
        )?
        .map(|row| {
            let waiting = WaitingBuild { order: (row.get(0)?, row.get(1)?), job: row.get(2)? };
            Ok::<_, StoreError>((waiting, row.get::<JobId>(3)?))
        })
        .transpose()?
        .filter(|(_, of)| *of != job)
        .map(|(waiting, _)| waiting);
    Ok(InFlight { running, before })
}

/// Notes whether a job has inputs, which says whether its builds go before those of other jobs in its groups.
pub fn inputs_determine(tx: &mut Tx<'_>, job: JobId, determined: bool) -> Result<(), StoreError> {
    tx.execute("UPDATE job SET inputs_determined = ?2 WHERE id = ?1", params![job, determined])?;
    tx.execute(
        "UPDATE job SET dirty = 1 WHERE active = 1 AND dirty = 0 AND id <> ?1 AND id IN (SELECT o.job_id \
         FROM job_group g JOIN job_group o ON o.pipeline_id = g.pipeline_id AND o.name = g.name WHERE g.job_id = ?1)",
        params![job],
    )?;
    tx.signal(Signal::Schedule);
    Ok(())
}

/// Whether a job shares a serial group with another one.
pub fn shares_group(tx: &mut Tx<'_>, job: JobId) -> Result<bool, StoreError> {
    let row = tx.query_one(
        "SELECT 1 FROM job_group g JOIN job_group o ON o.pipeline_id = g.pipeline_id AND o.name = g.name \
         AND o.job_id <> g.job_id WHERE g.job_id = ?1 LIMIT 1",
        params![job],
    )?;
    Ok(row.is_some())
}
