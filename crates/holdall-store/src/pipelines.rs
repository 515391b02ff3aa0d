//! Pipelines: saving their configuration with all that the scheduler reads of it, and finding them again.

use std::collections::BTreeMap;

use holdall_engine::ids::{JobId, PipelineId, ResourceId, TeamId};
use holdall_engine::pipeline::{CheckEvery, GetStep, Job, Pipeline, Resource, VersionChoice};
use holdall_engine::time::Timestamp;
use holdall_engine::version::hex;
use sha2::{Digest, Sha256};

use crate::params;
use crate::value::Row;
use crate::{Signal, StoreError, Tx, jobs};

/// A pipeline, but for its configuration.
#[derive(Debug, Clone)]
pub struct PipelineRow {
    /// Its id.
    pub id: PipelineId,
    /// Its team.
    pub team: String,
    /// Its name, unique in the team.
    pub name: String,
    /// Whether nothing of it is scheduled.
    pub paused: bool,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// Since when.
    pub paused_at: Option<Timestamp>,
    /// Why.
    pub paused_reason: Option<String>,
    /// Grows with each change of the configuration, over all pipelines.
    pub config_version: i64,
    /// When it was last set.
    pub updated_at: Timestamp,
}

const COLUMNS: &str = "p.id, t.name, p.name, p.paused, p.paused_by, p.paused_at, p.paused_reason, p.config_version, \
     p.updated_at";

fn from_row(row: &Row) -> Result<PipelineRow, StoreError> {
    Ok(PipelineRow {
        id: row.get(0)?,
        team: row.get(1)?,
        name: row.get(2)?,
        paused: row.get(3)?,
        paused_by: row.get(4)?,
        paused_at: row.get(5)?,
        paused_reason: row.get(6)?,
        config_version: row.get(7)?,
        updated_at: row.get(8)?,
    })
}

/// The pipeline of that name in the team.
pub fn pipeline_find(tx: &mut Tx<'_>, team: &str, name: &str) -> Result<Option<PipelineRow>, StoreError> {
    tx.query_one(
        &format!(
            "SELECT {COLUMNS} FROM pipeline p JOIN team t ON t.id = p.team_id \
             WHERE t.name = ?1 AND p.name = ?2 AND p.active = 1"
        ),
        params![team, name],
    )?
    .map(|row| from_row(&row))
    .transpose()
}

/// A pipeline by its id, destroyed or not.
pub fn pipeline_get(tx: &mut Tx<'_>, id: PipelineId) -> Result<PipelineRow, StoreError> {
    let row = tx
        .query_one(
            &format!("SELECT {COLUMNS} FROM pipeline p JOIN team t ON t.id = p.team_id WHERE p.id = ?1"),
            params![id],
        )?
        .ok_or_else(|| StoreError::Inconsistent(format!("pipeline {id} is gone")))?;
    from_row(&row)
}

/// The pipelines of a team, those that were removed included, in no particular order.
pub fn pipeline_ids_of_team(tx: &mut Tx<'_>, team: &str) -> Result<Vec<PipelineId>, StoreError> {
    let sql = "SELECT p.id FROM pipeline p JOIN team t ON t.id = p.team_id WHERE t.name = ?1";
    tx.query(sql, params![team])?.iter().map(|row| row.get(0)).collect()
}

/// All pipelines, by team and name.
pub fn pipeline_list(tx: &mut Tx<'_>) -> Result<Vec<PipelineRow>, StoreError> {
    tx.query(
        &format!(
            "SELECT {COLUMNS} FROM pipeline p JOIN team t ON t.id = p.team_id WHERE p.active = 1 \
             ORDER BY t.name, p.name"
        ),
        &[],
    )?
    .iter()
    .map(from_row)
    .collect()
}

/// The configuration of a pipeline.
pub fn pipeline_config(tx: &mut Tx<'_>, id: PipelineId) -> Result<Pipeline, StoreError> {
    tx.query_one("SELECT config FROM pipeline WHERE id = ?1", params![id])?
        .ok_or_else(|| StoreError::Inconsistent(format!("pipeline {id} is gone")))?
        .json(0)
}

/// Pauses or unpauses a pipeline.
pub fn pipeline_pause(
    tx: &mut Tx<'_>,
    id: PipelineId,
    paused: bool,
    by: &str,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (by, at) = if paused { (Some(by), Some(now)) } else { (None, None) };
    tx.execute(
        "UPDATE pipeline SET paused = ?2, paused_by = ?3, paused_at = ?4, paused_reason = ?5 WHERE id = ?1",
        params![id, paused, by, at, reason.filter(|_| paused)],
    )?;
    jobs::mark_pipeline(tx, id)
}

/// Takes a pipeline out of use; its builds and their logs stay.
pub fn pipeline_destroy(tx: &mut Tx<'_>, id: PipelineId, now: Timestamp) -> Result<(), StoreError> {
    tx.execute("UPDATE pipeline SET active = 0, updated_at = ?2 WHERE id = ?1", params![id, now])?;
    tx.execute("UPDATE job SET active = 0, dirty = 0 WHERE pipeline_id = ?1", params![id])?;
    tx.execute("UPDATE resource SET active = 0 WHERE pipeline_id = ?1", params![id])?;
    tx.signal(Signal::Board);
    Ok(())
}

/// Where a pipeline is to be.
#[derive(Debug, Clone)]
pub struct PipelineMove {
    /// The pipeline.
    pub id: PipelineId,
    /// The team that it belongs to from now on.
    pub team: TeamId,
    /// Its name there.
    pub name: String,
}

/// Moves pipelines to other teams or names, with all that they have: jobs, builds, resources, pins and ticks. Two may
/// change places. A pipeline that was destroyed makes room: it is kept under a name that nothing can have. The caller
/// has looked that no other one has such a name.
pub fn pipeline_move(tx: &mut Tx<'_>, moves: &[PipelineMove]) -> Result<(), StoreError> {
    // All leave their old names first: one may be the new name of another.
    for PipelineMove { id, .. } in moves {
        tx.execute("UPDATE pipeline SET name = ?2 WHERE id = ?1", params![*id, format!("(moved {id})")])?;
    }
    for PipelineMove { id, team, name } in moves {
        let sql = "SELECT id FROM pipeline WHERE team_id = ?1 AND name = ?2 AND active = 0";
        if let Some(row) = tx.query_one(sql, params![*team, name])? {
            let gone: PipelineId = row.get(0)?;
            let kept = format!("{name} (removed {gone})");
            tx.execute("UPDATE pipeline SET name = ?2 WHERE id = ?1", params![gone, kept])?;
        }
        tx.execute("UPDATE pipeline SET team_id = ?2, name = ?3 WHERE id = ?1", params![*id, *team, name])?;
        // What no worker has taken yet is for the workers of the new team.
        tx.execute(
            "UPDATE attempt SET team = (SELECT t.name FROM team t WHERE t.id = ?2) WHERE state = 'queued' \
             AND state <> 'finished' AND build_id IN (SELECT b.id FROM build b WHERE b.pipeline_id = ?1)",
            params![*id, *team],
        )?;
        jobs::mark_pipeline(tx, *id)?;
    }
    tx.signal(Signal::Board);
    Ok(())
}

/// What saving a pipeline takes.
pub struct PipelineSave<'a> {
    /// The team.
    pub team: TeamId,
    /// The pipeline's name.
    pub name: &'a str,
    /// The configuration, validated.
    pub config: &'a Pipeline,
    /// What the scheduler keeps of each job, by name: JSON text.
    pub specs: &'a BTreeMap<String, String>,
    /// Expands a `passed` glob to the names of jobs.
    pub passed: &'a dyn Fn(&str, &Pipeline) -> Vec<String>,
    /// The gets of a job.
    pub inputs: &'a dyn for<'j> Fn(&'j Job) -> Vec<&'j GetStep>,
    /// Whether a new pipeline starts paused, as Concourse's do.
    pub paused: bool,
}

/// Saves a pipeline's configuration (reference, section 1.13): jobs and resources keep their history by name, or
/// by `old_name`; those that are gone stay in the database and come back with their name.
pub fn pipeline_save(tx: &mut Tx<'_>, save: &PipelineSave<'_>, now: Timestamp) -> Result<PipelineId, StoreError> {
    let text = serde_json::to_string(save.config).map_err(|error| StoreError::Inconsistent(error.to_string()))?;
    let version: i64 = tx
        .query_one("SELECT COALESCE(MAX(config_version), 0) + 1 FROM pipeline", &[])?
        .ok_or_else(|| StoreError::Inconsistent("no maximum".to_owned()))?
        .get(0)?;
    let found = tx
        .query_one("SELECT id FROM pipeline WHERE team_id = ?1 AND name = ?2", params![save.team, save.name])?
        .map(|row| row.get::<PipelineId>(0))
        .transpose()?;
    let id = match found {
        Some(id) => {
            tx.execute(
                "UPDATE pipeline SET config = ?2, config_version = ?3, updated_at = ?4, active = 1 WHERE id = ?1",
                params![id, text, version, now],
            )?;
            id
        }
        None => PipelineId(tx.insert(
            "INSERT INTO pipeline (team_id, name, config, config_version, paused, created_at, updated_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6) RETURNING id",
            params![save.team, save.name, text, version, save.paused, now],
        )?),
    };
    let old = save.config.jobs.iter().map(|job| (job.old_name.as_deref(), job.name.as_str()));
    rename_all(tx, "job", id, old, "AND active = 0")?;
    let old = save.config.resources.iter().map(|resource| (resource.old_name.as_deref(), resource.name.as_str()));
    rename_all(tx, "resource", id, old, "")?;
    tx.execute("UPDATE job SET active = 0 WHERE pipeline_id = ?1", params![id])?;
    tx.execute("UPDATE resource SET active = 0 WHERE pipeline_id = ?1", params![id])?;
    let mut resources = BTreeMap::new();
    for (position, resource) in save.config.resources.iter().enumerate() {
        resources.insert(resource.name.as_str(), save_resource(tx, id, position, resource, now)?);
    }
    let mut job_ids = BTreeMap::new();
    for (position, job) in save.config.jobs.iter().enumerate() {
        let spec = save.specs.get(&job.name).map_or("{}", String::as_str);
        job_ids.insert(job.name.as_str(), save_job(tx, id, position, job, spec)?);
    }
    tx.execute("UPDATE resource SET is_trigger = 0 WHERE pipeline_id = ?1", params![id])?;
    for job in &save.config.jobs {
        save_inputs(tx, save, job, &job_ids, &resources)?;
    }
    jobs::mark_pipeline(tx, id)?;
    tx.signal(Signal::Checks);
    tx.signal(Signal::Board);
    Ok(id)
}

/// Gives rows their new names: `names` are old and new ones (reference, section 1.13.4). A row that has a new name, and
/// that `may_go` says (in SQL) nobody needs, makes room for it: it is kept under a name that nothing can have.
fn rename_all<'n>(
    tx: &mut Tx<'_>,
    table: &str,
    pipeline: PipelineId,
    names: impl Iterator<Item = (Option<&'n str>, &'n str)>,
    may_go: &str,
) -> Result<(), StoreError> {
    let set_name = format!("UPDATE {table} SET name = ?2 WHERE id = ?1");
    let mut moved = Vec::new();
    // All leave their old names first: one may be the new name of another.
    for (old, new) in names {
        let Some(old) = old.filter(|old| *old != new) else { continue };
        let sql = format!("SELECT id FROM {table} WHERE pipeline_id = ?1 AND name = ?2");
        if let Some(row) = tx.query_one(&sql, params![pipeline, old])? {
            let id: i64 = row.get(0)?;
            tx.execute(&set_name, params![id, format!("{old} (renamed {id})")])?;
            moved.push((id, old, new));
        }
    }
    for (id, old, new) in moved {
        let sql = format!("SELECT id FROM {table} WHERE pipeline_id = ?1 AND name = ?2 {may_go}");
        if let Some(row) = tx.query_one(&sql, params![pipeline, new])? {
            let id: i64 = row.get(0)?;
            tx.execute(&set_name, params![id, format!("{new} (removed {id})")])?;
        }
        let sql = format!("SELECT id FROM {table} WHERE pipeline_id = ?1 AND name = ?2");
        let name = if tx.query_one(&sql, params![pipeline, new])?.is_some() { old } else { new };
        tx.execute(&set_name, params![id, name])?;
    }
    Ok(())
}

fn save_resource(
    tx: &mut Tx<'_>,
    pipeline: PipelineId,
    position: usize,
    resource: &Resource,
    now: Timestamp,
) -> Result<ResourceId, StoreError> {
    let scope = scope_ensure(tx, &resource.kind, &resource.source, now)?;
    let check_every = match &resource.check_every {
        None => None,
        Some(CheckEvery::Never) => Some(-1),
        Some(CheckEvery::Every(duration)) => Some(duration.span.0),
    };
    let id = ResourceId(tx.insert(
        "INSERT INTO resource (pipeline_id, name, position, type, scope_id, check_every, webhook_token) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
         ON CONFLICT (pipeline_id, name) DO UPDATE SET active = 1, position = excluded.position, \
         type = excluded.type, scope_id = excluded.scope_id, check_every = excluded.check_every, \
         webhook_token = excluded.webhook_token RETURNING id",
        params![
            pipeline,
            &resource.name,
            position,
            &resource.kind,
            scope,
            check_every,
            resource.webhook_token.as_deref()
        ],
    )?);
    match &resource.version {
        Some(pin) => {
            tx.execute(
                "UPDATE resource SET pin = ?2, pin_config = 1, pin_by = NULL, pin_at = ?3, pin_until = NULL, \
                 pin_reason = NULL WHERE id = ?1",
                params![id, pin, now],
            )?;
        }
        None => {
            tx.execute(
                "UPDATE resource SET pin = NULL, pin_config = 0, pin_at = NULL WHERE id = ?1 AND pin_config = 1",
                params![id],
            )?;
        }
    }
    Ok(id)
}

/// The scope of a (type, source), made where there is none.
pub fn scope_ensure(
    tx: &mut Tx<'_>,
    kind: &str,
    source: &holdall_engine::pipeline::Object,
    now: Timestamp,
) -> Result<holdall_engine::ids::ScopeId, StoreError> {
    let (text, hash) = source_text(source)?;
    if let Some(row) =
        tx.query_one("SELECT id FROM scope WHERE type = ?1 AND source_hash = ?2", params![kind, &hash])?
    {
        return row.get(0);
    }
    // A new scope of a type that is checked is due at once.
    let due = (!is_release_type(kind)).then_some(now);
    let id = tx.insert(
        "INSERT INTO scope (type, source_hash, source, next_check_at) VALUES (?1, ?2, ?3, ?4) RETURNING id",
        params![kind, hash, text, due],
    )?;
    tx.signal(Signal::Checks);
    Ok(holdall_engine::ids::ScopeId(id))
}

/// Gives a scope another source, under which its versions are found from now on. One that nobody uses any more and that
/// has that source makes room.
pub fn scope_move(
    tx: &mut Tx<'_>,
    scope: holdall_engine::ids::ScopeId,
    source: &holdall_engine::pipeline::Object,
) -> Result<(), StoreError> {
    let (text, hash) = source_text(source)?;
    let sql = "SELECT s.id FROM scope s WHERE s.source_hash = ?2 AND s.id <> ?1 \
               AND s.type = (SELECT own.type FROM scope own WHERE own.id = ?1)";
    if let Some(row) = tx.query_one(sql, params![scope, &hash])? {
        let gone: holdall_engine::ids::ScopeId = row.get(0)?;
        let kept = format!("{hash} (removed {gone})");
        tx.execute("UPDATE scope SET source_hash = ?2 WHERE id = ?1", params![gone, kept])?;
    }
    tx.execute("UPDATE scope SET source = ?2, source_hash = ?3 WHERE id = ?1", params![scope, text, hash])?;
    Ok(())
}

/// A source as it is kept, and by what it is found.
fn source_text(source: &holdall_engine::pipeline::Object) -> Result<(String, String), StoreError> {
    let text = serde_json::to_string(source).map_err(|error| StoreError::Inconsistent(error.to_string()))?;
    let hash = hex(&Sha256::digest(&text));
    Ok((text, hash))
}

/// Whether the server itself answers for a type (release model, section 4): such types are never checked.
pub fn is_release_type(kind: &str) -> bool {
    matches!(kind, "deployment-bag" | "deployment" | "current-bag" | "lock")
}

fn save_job(
    tx: &mut Tx<'_>,
    pipeline: PipelineId,
    position: usize,
    job: &Job,
    spec: &str,
) -> Result<JobId, StoreError> {
    let max = if job.serial || !job.serial_groups.is_empty() { 1 } else { i64::from(job.max_in_flight) };
    let id = JobId(tx.insert(
        "INSERT INTO job (pipeline_id, name, position, max_in_flight, spec) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (pipeline_id, name) DO UPDATE SET active = 1, position = excluded.position, \
         max_in_flight = excluded.max_in_flight, spec = excluded.spec RETURNING id",
        params![pipeline, &job.name, position, max, spec],
    )?);
    tx.execute("DELETE FROM job_group WHERE job_id = ?1", params![id])?;
    let mut groups = job.serial_groups.clone();
    if groups.is_empty() && max > 0 {
        groups.push(job.name.clone());
    }
    groups.sort();
    groups.dedup();
    for group in groups {
        tx.execute(
            "INSERT INTO job_group (job_id, pipeline_id, name) VALUES (?1, ?2, ?3)",
            params![id, pipeline, group],
        )?;
    }
    Ok(id)
}

fn save_inputs(
    tx: &mut Tx<'_>,
    save: &PipelineSave<'_>,
    job: &Job,
    jobs: &BTreeMap<&str, JobId>,
    resources: &BTreeMap<&str, ResourceId>,
) -> Result<(), StoreError> {
    let id = jobs[job.name.as_str()];
    tx.execute("DELETE FROM job_input_passed WHERE job_id = ?1", params![id])?;
    tx.execute("DELETE FROM job_input WHERE job_id = ?1", params![id])?;
    for (position, get) in (save.inputs)(job).into_iter().enumerate() {
        let Some(resource) = resources.get(get.resource_name()) else {
            return Err(StoreError::Inconsistent(format!("job {} gets an unknown resource", job.name)));
        };
        let (choice, pin) = match &get.version {
            VersionChoice::Latest => ("latest", None),
            VersionChoice::Every => ("every", None),
            VersionChoice::Pinned(version) => ("pinned", Some(version)),
        };
        tx.execute(
            "INSERT INTO job_input (job_id, position, name, resource_id, choice, pin, is_trigger, has_passed) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (job_id, name) DO NOTHING",
            params![id, position, &get.name, *resource, choice, pin, get.trigger, !get.passed.is_empty()],
        )?;
        if get.trigger && get.passed.is_empty() {
            tx.execute("UPDATE resource SET is_trigger = 1 WHERE id = ?1", params![*resource])?;
        }
        for pattern in &get.passed {
            for name in (save.passed)(pattern, save.config) {
                if let Some(passed) = jobs.get(name.as_str()) {
                    tx.execute(
                        "INSERT INTO job_input_passed (job_id, input, passed_job_id) VALUES (?1, ?2, ?3) \
                         ON CONFLICT DO NOTHING",
                        params![id, &get.name, *passed],
                    )?;
                }
            }
        }
    }
    Ok(())
}
