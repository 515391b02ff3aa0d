//! The journal of a build: rows without gaps, read from any point on.

use holdall_engine::ids::BuildId;
use holdall_engine::time::Timestamp;

use crate::params;
use crate::{Signal, StoreError, Tx};

/// One row of a journal.
#[derive(Debug, Clone)]
pub struct EventRow {
    /// Its place, from 0, without gaps.
    pub seq: i64,
    /// When it happened.
    pub at: Timestamp,
    /// `run` (replays the plan), `output`, `status`, `note`, ...
    pub kind: String,
    /// The step that it is about.
    pub step: Option<String>,
    /// JSON or text.
    pub payload: Option<String>,
    /// What a step printed.
    pub bytes: Option<Vec<u8>>,
}

/// Appends a row to a build's journal; gives its place.
pub fn event_append(
    tx: &mut Tx<'_>,
    build: BuildId,
    at: Timestamp,
    kind: &str,
    step: Option<&str>,
    payload: Option<&str>,
    bytes: Option<Vec<u8>>,
) -> Result<i64, StoreError> {
    let seq: i64 = tx
        .query_one("UPDATE build SET next_seq = next_seq + 1 WHERE id = ?1 RETURNING next_seq - 1", params![build])?
        .ok_or_else(|| StoreError::Inconsistent(format!("build {build} is gone")))?
        .get(0)?;
    tx.execute(
        "INSERT INTO build_event (build_id, seq, at, kind, step, payload, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![build, seq, at, kind, step, payload, bytes],
    )?;
    tx.signal(Signal::Build(build));
    Ok(seq)
}

/// The rows from a place on, at most `limit`.
pub fn event_list(tx: &mut Tx<'_>, build: BuildId, from: i64, limit: i64) -> Result<Vec<EventRow>, StoreError> {
    tx.query(
        "SELECT seq, at, kind, step, payload, bytes FROM build_event WHERE build_id = ?1 AND seq >= ?2 \
         ORDER BY seq LIMIT ?3",
        params![build, from, limit],
    )?
    .iter()
    .map(|row| {
        Ok(EventRow {
            seq: row.get(0)?,
            at: row.get(1)?,
            kind: row.get(2)?,
            step: row.get(3)?,
            payload: row.get(4)?,
            bytes: row.get(5)?,
        })
    })
    .collect()
}

/// The same, as far as what their steps printed fits into `bytes`, and at least one; and whether those are all.
pub fn event_list_within(
    tx: &mut Tx<'_>,
    build: BuildId,
    from: i64,
    limit: i64,
    bytes: i64,
) -> Result<(Vec<EventRow>, bool), StoreError> {
    let sizes = tx.query(
        "SELECT COALESCE(LENGTH(bytes), 0) FROM build_event WHERE build_id = ?1 AND seq >= ?2 ORDER BY seq LIMIT ?3",
        params![build, from, limit],
    )?;
    let (mut fits, mut sum) = (0, 0);
    for row in &sizes {
        sum += row.get::<i64>(0)?;
        if fits > 0 && sum > bytes {
            break;
        }
        fits += 1;
    }
    let is_all = fits == sizes.len() && (sizes.len() as i64) < limit;
    Ok((event_list(tx, build, from, i64::try_from(fits).unwrap_or(limit))?, is_all))
}

/// The rows that replay the plan: when, and the event's JSON.
pub fn event_list_run(tx: &mut Tx<'_>, build: BuildId) -> Result<Vec<(Timestamp, String)>, StoreError> {
    tx.query("SELECT at, payload FROM build_event WHERE build_id = ?1 AND kind = 'run' ORDER BY seq", params![build])?
        .iter()
        .map(|row| Ok((row.get(0)?, row.get(1)?)))
        .collect()
}

/// Arms a timer of a build.
pub fn timer_set(tx: &mut Tx<'_>, build: BuildId, name: &str, at: Timestamp) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO timer (build_id, name, at) VALUES (?1, ?2, ?3) ON CONFLICT (build_id, name) \
         DO UPDATE SET at = excluded.at",
        params![build, name, at],
    )?;
    tx.signal(Signal::Timers);
    Ok(())
}

/// Disarms a timer.
pub fn timer_clear(tx: &mut Tx<'_>, build: BuildId, name: &str) -> Result<(), StoreError> {
    tx.execute("DELETE FROM timer WHERE build_id = ?1 AND name = ?2", params![build, name])?;
    Ok(())
}

/// The timers that are due by `now`.
pub fn timer_due(tx: &mut Tx<'_>, now: Timestamp) -> Result<Vec<(BuildId, String)>, StoreError> {
    tx.query("SELECT build_id, name FROM timer WHERE at <= ?1 ORDER BY at, build_id LIMIT 500", params![now])?
        .iter()
        .map(|row| Ok((row.get(0)?, row.get(1)?)))
        .collect()
}

/// When the next timer is due.
pub fn timer_next(tx: &mut Tx<'_>) -> Result<Option<Timestamp>, StoreError> {
    match tx.query_one("SELECT MIN(at) FROM timer", &[])? {
        Some(row) => row.get(0),
        None => Ok(None),
    }
}
