//! Checks: one per scope at a time, however many resources share it; wanted by a person, a webhook, a waiting
//! build or the clock, claimed by a worker, and recorded with what they found.

use holdall_engine::ids::ScopeId;
use holdall_engine::resolve::History;
use holdall_engine::time::{Span, Timestamp};
use holdall_engine::version::Version;

use crate::history::TxHistory;
use crate::params;
use crate::versions::{self, NewVersion};
use crate::{Signal, StoreError, Tx, jobs};

/// How often a resource is checked that says nothing (reference, section 1.5).
pub const DEFAULT_INTERVAL: Span = Span::seconds(60);

/// The longest pause between checks that fail.
pub const LONGEST_BACKOFF: Span = Span::seconds(600);

/// A check that a worker is to make.
#[derive(Debug, Clone)]
pub struct CheckRow {
    /// Its id, unique for ever.
    pub id: String,
    /// The scope.
    pub scope: ScopeId,
    /// The scope's type.
    pub kind: String,
    /// The scope's source: JSON.
    pub source: String,
    /// From which version on: the newest known one, or a pinned one that is not known.
    pub from: Option<Version>,
}

/// Wants a check of a scope, at once; one that runs already does not count, it may have looked too early.
pub fn check_want(tx: &mut Tx<'_>, scope: ScopeId, now: Timestamp) -> Result<(), StoreError> {
    tx.execute("UPDATE scope SET wanted_at = ?2 WHERE id = ?1 AND wanted_at IS NULL", params![scope, now])?;
    tx.signal(Signal::Workers);
    Ok(())
}

/// What was checked in the future, by a clock that was set back since, was checked before `now`, and is due at once and
/// not when that time comes again. Gives of how many scopes that is so.
pub fn check_after_clock(tx: &mut Tx<'_>, now: Timestamp) -> Result<u64, StoreError> {
    let changed = tx.execute(
        "UPDATE scope SET last_check_at = ?1 - 1, \
         next_check_at = CASE WHEN next_check_at IS NULL THEN NULL ELSE ?1 END WHERE last_check_at > ?1",
        params![now],
    )?;
    tx.signal(Signal::Checks);
    Ok(changed)
}

/// Wants the checks that are due by `now`; gives when the next is.
pub fn check_due(tx: &mut Tx<'_>, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
    let due = tx.query(
        "SELECT id FROM scope WHERE next_check_at IS NOT NULL AND next_check_at <= ?1 ORDER BY next_check_at LIMIT 1000",
        params![now],
    )?;
    for row in &due {
        let scope: ScopeId = row.get(0)?;
        match interval(tx, scope)? {
            // Nobody needs it by itself any more; saving a pipeline makes it due again.
            None => {
                tx.execute("UPDATE scope SET next_check_at = NULL WHERE id = ?1", params![scope])?;
            }
            Some(interval) => {
                tx.execute("UPDATE scope SET next_check_at = ?2 WHERE id = ?1", params![scope, now + interval])?;
                check_want(tx, scope, now)?;
            }
        }
    }
    match tx.query_one("SELECT MIN(next_check_at) FROM scope WHERE next_check_at IS NOT NULL", &[])? {
        Some(row) => row.get(0),
        None => Ok(None),
    }
}

/// How often a scope is to be checked: the shortest interval of the resources that need it, because a new version starts a
/// build, an input has none, or one is pinned to a version that is not known (reference, section 4.2); `None`: never.
fn interval(tx: &mut Tx<'_>, scope: ScopeId) -> Result<Option<Span>, StoreError> {
    let row = tx.query_one(
        "SELECT MIN(COALESCE(r.check_every, ?2)) FROM resource r JOIN pipeline p ON p.id = r.pipeline_id \
         JOIN scope s ON s.id = r.scope_id \
         WHERE r.scope_id = ?1 AND r.active = 1 AND p.paused = 0 AND (r.check_every IS NULL OR r.check_every >= 0) \
         AND (r.is_trigger = 1 OR s.last_check_at IS NULL OR s.last_check_error IS NOT NULL \
              OR (NOT EXISTS (SELECT 1 FROM version v WHERE v.scope_id = s.id) \
                  AND EXISTS (SELECT 1 FROM job_input i JOIN job j ON j.id = i.job_id \
                              WHERE i.resource_id = r.id AND j.active = 1)))",
        params![scope, DEFAULT_INTERVAL],
    )?;
    let needed: Option<Span> = row.map(|row| row.get(0)).transpose()?.flatten();
    let pinned = pins_unknown(tx, scope)?.into_iter().filter_map(|pin| pin.every);
    Ok(needed.into_iter().chain(pinned).min())
}

/// A pin that no known version of its scope has.
struct UnknownPin {
    pin: Version,
    /// How often its resource is to be checked by itself; `None`: never.
    every: Option<Span>,
}

/// The pins of inputs that no known version of a scope has; a step's goes before its resource's (reference, section 3.1).
fn pins_unknown(tx: &mut Tx<'_>, scope: ScopeId) -> Result<Vec<UnknownPin>, StoreError> {
    let pins = tx.query(
        "SELECT DISTINCT r.id, COALESCE(i.pin, r.pin), COALESCE(r.check_every, ?2), p.paused FROM resource r \
         JOIN pipeline p ON p.id = r.pipeline_id JOIN job_input i ON i.resource_id = r.id JOIN job j ON j.id = i.job_id \
         WHERE r.scope_id = ?1 AND r.active = 1 AND j.active = 1 AND COALESCE(i.pin, r.pin) IS NOT NULL ORDER BY 1, 2",
        params![scope, DEFAULT_INTERVAL],
    )?;
    let mut unknown = Vec::new();
    for row in &pins {
        let pin: Version = row.get(1)?;
        let is_known = versions::version_get(tx, scope, &pin.digest())?.is_some()
            || TxHistory::new(tx).newest_matching(row.get(0)?, &pin)?.is_some();
        if !is_known {
            let (every, is_paused): (Span, bool) = (row.get(2)?, row.get(3)?);
            unknown.push(UnknownPin { pin, every: Some(every).filter(|every| every.0 >= 0 && !is_paused) });
        }
    }
    Ok(unknown)
}

/// Makes the scopes of a pipeline that are due for a check of their own say so: after it was saved or unpaused.
pub fn check_rearm(
    tx: &mut Tx<'_>,
    pipeline: holdall_engine::ids::PipelineId,
    now: Timestamp,
) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE scope SET next_check_at = ?2 WHERE next_check_at IS NULL AND type NOT IN \
         ('deployment-bag', 'deployment', 'current-bag', 'lock') AND id IN (SELECT scope_id FROM resource \
         WHERE pipeline_id = ?1 AND active = 1 AND (check_every IS NULL OR check_every >= 0))",
        params![pipeline, now],
    )?;
    tx.signal(Signal::Checks);
    Ok(())
}

/// Gives up to `limit` wanted checks to a worker.
pub fn check_claim(tx: &mut Tx<'_>, worker: &str, limit: i64, now: Timestamp) -> Result<Vec<CheckRow>, StoreError> {
    let wanted = tx.query(
        "SELECT id, type, source FROM scope WHERE wanted_at IS NOT NULL AND check_id IS NULL \
         ORDER BY wanted_at, id LIMIT ?1",
        params![limit],
    )?;
    let mut claimed = Vec::with_capacity(wanted.len());
    for row in &wanted {
        let scope: ScopeId = row.get(0)?;
        let id = format!("{scope}-{}", now.0);
        tx.execute(
            "UPDATE scope SET wanted_at = NULL, check_id = ?2, check_started_at = ?3, check_worker = ?4 WHERE id = ?1",
            params![scope, &id, now, worker],
        )?;
        // What a pin wants may be older than all that is known (reference, section 4.2).
        let from = match pins_unknown(tx, scope)?.into_iter().next() {
            Some(unknown) => Some(unknown.pin),
            None => versions::version_newest(tx, scope)?.map(|row| row.version),
        };
        claimed.push(CheckRow { id, scope, kind: row.get(1)?, source: row.get(2)?, from });
    }
    Ok(claimed)
}

/// Records how a check ended: its versions with what the type says of each, or what went wrong. A check that nobody knows any more changes nothing.
pub fn check_finish(
    tx: &mut Tx<'_>,
    id: &str,
    result: Result<Vec<NewVersion>, String>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Some(row) =
        tx.query_one("SELECT id, check_started_at, failures FROM scope WHERE check_id = ?1", params![id])?
    else {
        return Ok(());
    };
    let scope: ScopeId = row.get(0)?;
    let failures: i64 = row.get(2)?;
    let interval = interval(tx, scope)?.unwrap_or(DEFAULT_INTERVAL);
    match result {
        Ok(found) => {
            tx.execute(
                "UPDATE scope SET check_id = NULL, check_worker = NULL, last_check_at = ?2, last_check_error = NULL, \
                 failing_since = NULL, failures = 0, next_check_at = ?3 WHERE id = ?1",
                params![scope, now, now + spread(interval, scope)],
            )?;
            versions::versions_save(tx, scope, &found, now)?;
        }
        Err(message) => {
            let factor = 1_i64 << failures.clamp(0, 10);
            let pause = Span(interval.0.saturating_mul(factor).min(LONGEST_BACKOFF.0.max(interval.0)));
            tx.execute(
                "UPDATE scope SET check_id = NULL, check_worker = NULL, last_check_at = ?2, last_check_error = ?3, \
                 failing_since = COALESCE(failing_since, ?2), failures = failures + 1, next_check_at = ?4 WHERE id = ?1",
                params![scope, now, message, now + spread(pause, scope)],
            )?;
        }
    }
    // Builds that wait for this check are looked at again, whatever it found.
    jobs::mark_waiting(tx, scope)?;
    tx.signal(Signal::Checks);
    Ok(())
}

/// A tenth of the interval more or less, by scope, so that checks do not all fall due together.
fn spread(interval: Span, scope: ScopeId) -> Span {
    let tenth = (interval.0 / 10).max(1);
    Span(interval.0 - tenth + scope.0.wrapping_mul(7_919_777).rem_euclid(2 * tenth))
}

/// Wants the checks again that a worker had and will not finish.
pub fn check_abandon(tx: &mut Tx<'_>, worker: &str, now: Timestamp) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE scope SET check_id = NULL, check_worker = NULL, wanted_at = COALESCE(wanted_at, ?2) \
         WHERE check_worker = ?1 AND check_id IS NOT NULL",
        params![worker, now],
    )?;
    tx.signal(Signal::Workers);
    Ok(())
}

/// Wants all checks again that a worker has: no worker is known any more.
pub fn check_abandon_all(tx: &mut Tx<'_>, now: Timestamp) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE scope SET check_id = NULL, check_worker = NULL, wanted_at = COALESCE(wanted_at, ?1) \
         WHERE check_id IS NOT NULL",
        params![now],
    )?;
    tx.signal(Signal::Workers);
    Ok(())
}

/// Whether any check is wanted that no worker has.
pub fn check_is_any_wanted(tx: &mut Tx<'_>) -> Result<bool, StoreError> {
    let row = tx.query_one("SELECT 1 FROM scope WHERE wanted_at IS NOT NULL AND check_id IS NULL LIMIT 1", &[])?;
    Ok(row.is_some())
}

/// How many checks a worker has.
pub fn check_count_of_worker(tx: &mut Tx<'_>, worker: &str) -> Result<i64, StoreError> {
    match tx
        .query_one("SELECT COUNT(*) FROM scope WHERE check_id IS NOT NULL AND check_worker = ?1", params![worker])?
    {
        Some(row) => row.get(0),
        None => Ok(0),
    }
}

/// How the checks of a scope stand.
#[derive(Debug, Clone)]
pub struct CheckState {
    /// Whether one is wanted that has not begun. One that runs may have looked too early for whoever asks.
    pub wanted: bool,
    /// Whether one runs.
    pub running: bool,
    /// When the last one ended.
    pub checked_at: Option<Timestamp>,
    /// What went wrong in it.
    pub error: Option<String>,
}

/// How the checks of a scope stand.
pub fn check_state(tx: &mut Tx<'_>, scope: ScopeId) -> Result<CheckState, StoreError> {
    let row = tx
        .query_one(
            "SELECT wanted_at IS NOT NULL, check_id IS NOT NULL, last_check_at, last_check_error FROM scope WHERE id = ?1",
            params![scope],
        )?
        .ok_or_else(|| StoreError::Inconsistent(format!("scope {scope} is gone")))?;
    Ok(CheckState { wanted: row.get(0)?, running: row.get(1)?, checked_at: row.get(2)?, error: row.get(3)? })
}

/// A resource that cannot be checked.
#[derive(Debug, Clone)]
pub struct FailingRow {
    /// `team/pipeline/resource`.
    pub name: String,
    /// What went wrong.
    pub error: String,
    /// Since when.
    pub since: Option<Timestamp>,
}

/// The resources whose last check failed, the one that has failed for longest first.
pub fn check_list_failing(tx: &mut Tx<'_>, limit: i64) -> Result<Vec<FailingRow>, StoreError> {
    tx.query(
        "SELECT t.name, p.name, r.name, s.last_check_error, s.failing_since FROM scope s \
         JOIN resource r ON r.scope_id = s.id JOIN pipeline p ON p.id = r.pipeline_id \
         JOIN team t ON t.id = p.team_id WHERE s.last_check_error IS NOT NULL AND r.active = 1 AND p.active = 1 \
         AND (r.check_every IS NULL OR r.check_every >= 0) ORDER BY s.failing_since, s.id, r.id LIMIT ?1",
        params![limit],
    )?
    .iter()
    .map(|row| {
        let (team, pipeline, name): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(FailingRow { name: format!("{team}/{pipeline}/{name}"), error: row.get(3)?, since: row.get(4)? })
    })
    .collect()
}
