//! Workers as the server knows them.

use holdall_engine::time::Timestamp;

use crate::params;
use crate::value::Row;
use crate::{Signal, StoreError, Tx};

/// A worker.
#[derive(Debug, Clone)]
pub struct WorkerRow {
    /// Its name.
    pub name: String,
    /// The session that counts.
    pub session: String,
    /// `linux`.
    pub platform: String,
    /// Its tags: JSON list.
    pub tags: String,
    /// The team whose steps alone it takes.
    pub team: Option<String>,
    /// How many steps at once.
    pub slots: i64,
    /// The version of its program.
    pub version: String,
    /// When its session began.
    pub started_at: Timestamp,
    /// When it last said something.
    pub seen_at: Timestamp,
    /// `running` or `lost`.
    pub state: String,
}

const COLUMNS: &str = "name, session, platform, tags, team, slots, version, started_at, seen_at, state";

fn from_row(row: &Row) -> Result<WorkerRow, StoreError> {
    Ok(WorkerRow {
        name: row.get(0)?,
        session: row.get(1)?,
        platform: row.get(2)?,
        tags: row.get(3)?,
        team: row.get(4)?,
        slots: row.get(5)?,
        version: row.get(6)?,
        started_at: row.get(7)?,
        seen_at: row.get(8)?,
        state: row.get(9)?,
    })
}

/// Begins a session of a worker; an older one of the same name is ended by it.
pub fn worker_hello(tx: &mut Tx<'_>, worker: &WorkerRow) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO worker (name, session, platform, tags, team, slots, version, started_at, seen_at, state) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'running') ON CONFLICT (name) DO UPDATE SET \
         session = excluded.session, platform = excluded.platform, tags = excluded.tags, team = excluded.team, \
         slots = excluded.slots, version = excluded.version, started_at = excluded.started_at, \
         seen_at = excluded.seen_at, state = 'running'",
        params![
            &worker.name,
            &worker.session,
            &worker.platform,
            &worker.tags,
            worker.team.as_deref(),
            worker.slots,
            &worker.version,
            worker.started_at,
            worker.seen_at
        ],
    )?;
    tx.signal(Signal::Board);
    Ok(())
}

/// Forgets all workers: each has to say hello before it is listened to again.
pub fn worker_forget_all(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    tx.execute("DELETE FROM worker", &[])?;
    tx.signal(Signal::Workers);
    tx.signal(Signal::Board);
    Ok(())
}

/// A worker by its name.
pub fn worker_find(tx: &mut Tx<'_>, name: &str) -> Result<Option<WorkerRow>, StoreError> {
    tx.query_one(&format!("SELECT {COLUMNS} FROM worker WHERE name = ?1"), params![name])?
        .map(|row| from_row(&row))
        .transpose()
}

/// All workers, by name.
pub fn worker_list(tx: &mut Tx<'_>) -> Result<Vec<WorkerRow>, StoreError> {
    tx.query(&format!("SELECT {COLUMNS} FROM worker ORDER BY name"), &[])?.iter().map(from_row).collect()
}

/// Notes that a worker said something.
pub fn worker_seen(tx: &mut Tx<'_>, name: &str, now: Timestamp) -> Result<(), StoreError> {
    tx.execute("UPDATE worker SET seen_at = ?2, state = 'running' WHERE name = ?1", params![name, now])?;
    Ok(())
}

/// No worker could say anything for a while: each gets its time again until it counts as lost.
pub fn worker_after_silence(tx: &mut Tx<'_>, now: Timestamp) -> Result<(), StoreError> {
    tx.execute("UPDATE worker SET state = 'running', seen_at = ?1 WHERE state IN ('running', 'lost')", params![now])?;
    Ok(())
}

/// Marks the running workers that have said nothing since `before` as lost; gives their names.
pub fn worker_mark_lost(tx: &mut Tx<'_>, before: Timestamp) -> Result<Vec<String>, StoreError> {
    let lost = tx
        .query(
            "UPDATE worker SET state = 'lost' WHERE state = 'running' AND seen_at < ?1 RETURNING name",
            params![before],
        )?
        .iter()
        .map(|row| row.get(0))
        .collect::<Result<Vec<String>, StoreError>>()?;
    if !lost.is_empty() {
        tx.signal(Signal::Board);
    }
    Ok(lost)
}

/// When the running worker that was quiet for longest last said something.
pub fn worker_quietest(tx: &mut Tx<'_>) -> Result<Option<Timestamp>, StoreError> {
    match tx.query_one("SELECT MIN(seen_at) FROM worker WHERE state = 'running'", &[])? {
        Some(row) => row.get(0),
        None => Ok(None),
    }
}
