//! Locks: who holds them, who waits, and the fences that only grow.

use holdall_engine::ids::{BuildId, DeploymentId, LockId};
use holdall_engine::time::{Span, Timestamp};

use crate::params;
use crate::value::Row;
use crate::{Signal, StoreError, Tx, epoch};

/// One holder of a lock.
#[derive(Debug, Clone)]
pub struct HoldingRow {
    /// Its row.
    pub id: i64,
    /// The lock.
    pub lock: LockId,
    /// `deployment`, `person` or `pipeline`.
    pub kind: String,
    /// The holder's name, for people.
    pub name: String,
    /// `exclusive` or `shared`.
    pub mode: String,
    /// The build that took it.
    pub build: Option<BuildId>,
    /// The deployment that holds it.
    pub deployment: Option<DeploymentId>,
    /// What a person shows to renew or release it.
    pub token: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// Since when.
    pub since: Timestamp,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
    /// When it ends unless its client says that it lives.
    pub alive_until: Option<Timestamp>,
    /// Its fencing token.
    pub fence: i64,
}

/// One who waits for a lock.
#[derive(Debug, Clone)]
pub struct WaitRow {
    /// Its row.
    pub id: i64,
    /// The lock.
    pub lock: LockId,
    /// `deployment`, `person` or `pipeline`.
    pub kind: String,
    /// The waiter's name, for people.
    pub name: String,
    /// `exclusive` or `shared`.
    pub mode: String,
    /// The build that waits.
    pub build: Option<BuildId>,
    /// What a person shows to keep the place.
    pub token: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// Since when.
    pub since: Timestamp,
    /// How long it wants the lock.
    pub for_span: Option<Span>,
    /// When the place is lost unless its client says that it lives.
    pub alive_until: Option<Timestamp>,
}

impl WaitRow {
    /// A build that waits for an exclusive lock.
    pub fn of_build(lock: LockId, kind: &str, name: String, build: BuildId, since: Timestamp) -> WaitRow {
        WaitRow {
            id: 0,
            lock,
            kind: kind.to_owned(),
            name,
            mode: "exclusive".to_owned(),
            build: Some(build),
            token: None,
            reason: None,
            since,
            for_span: None,
            alive_until: None,
        }
    }
}

const HOLDING: &str = "SELECT id, lock_id, kind, name, mode, build_id, deployment_id, token, reason, since, until, \
     alive_until, fence FROM lock_holding";
const WAIT: &str = "SELECT w.id, w.lock_id, w.kind, w.name, w.mode, w.build_id, w.token, w.reason, w.since, w.for_span, \
     w.alive_until FROM lock_wait w";

fn holding_from(row: &Row) -> Result<HoldingRow, StoreError> {
    Ok(HoldingRow {
        id: row.get(0)?,
        lock: row.get(1)?,
        kind: row.get(2)?,
        name: row.get(3)?,
        mode: row.get(4)?,
        build: row.get(5)?,
        deployment: row.get(6)?,
        token: row.get(7)?,
        reason: row.get(8)?,
        since: row.get(9)?,
        until: row.get(10)?,
        alive_until: row.get(11)?,
        fence: row.get(12)?,
    })
}

fn wait_from(row: &Row) -> Result<WaitRow, StoreError> {
    Ok(WaitRow {
        id: row.get(0)?,
        lock: row.get(1)?,
        kind: row.get(2)?,
        name: row.get(3)?,
        mode: row.get(4)?,
        build: row.get(5)?,
        token: row.get(6)?,
        reason: row.get(7)?,
        since: row.get(8)?,
        for_span: row.get(9)?,
        alive_until: row.get(10)?,
    })
}

/// The lock of that name, made where there is none.
pub fn lock_ensure(tx: &mut Tx<'_>, name: &str) -> Result<LockId, StoreError> {
    if let Some(id) = lock_find(tx, name)? {
        return Ok(id);
    }
    // One of that name may have been there before history was lost.
    let first = epoch::current(tx)?.first_build;
    let sql = "INSERT INTO lock (name, next_fence) VALUES (?1, ?2) RETURNING id";
    Ok(LockId(tx.insert(sql, params![name, first])?))
}

/// The lock of that name.
pub fn lock_find(tx: &mut Tx<'_>, name: &str) -> Result<Option<LockId>, StoreError> {
    tx.query_one("SELECT id FROM lock WHERE name = ?1", params![name])?.map(|row| row.get(0)).transpose()
}

/// Gives a lock another name.
pub fn lock_rename(tx: &mut Tx<'_>, lock: LockId, name: &str) -> Result<(), StoreError> {
    tx.execute("UPDATE lock SET name = ?2 WHERE id = ?1", params![lock, name])?;
    Ok(())
}

/// Lets the fences of a lock go on from those of another, which it takes the place of.
pub fn lock_follow(tx: &mut Tx<'_>, lock: LockId, before: LockId) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE lock SET next_fence = (SELECT MAX(l.next_fence) FROM lock l WHERE l.id = ?1 OR l.id = ?2) WHERE id = ?1",
        params![lock, before],
    )?;
    Ok(())
}

/// All locks, by name.
pub fn lock_list(tx: &mut Tx<'_>) -> Result<Vec<(LockId, String)>, StoreError> {
    tx.query("SELECT id, name FROM lock ORDER BY name", &[])?.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

/// The holders of a lock, oldest first.
pub fn holding_list(tx: &mut Tx<'_>, lock: LockId) -> Result<Vec<HoldingRow>, StoreError> {
    tx.query(&format!("{HOLDING} WHERE lock_id = ?1 ORDER BY id"), params![lock])?.iter().map(holding_from).collect()
}

/// Makes a holder, under a new fence, which it gives. The row's id and fence are not looked at.
pub fn holding_add(tx: &mut Tx<'_>, holding: &HoldingRow) -> Result<i64, StoreError> {
    let fence: i64 = tx
        .query_one(
            "UPDATE lock SET next_fence = next_fence + 1 WHERE id = ?1 RETURNING next_fence - 1",
            params![holding.lock],
        )?
        .ok_or_else(|| StoreError::Inconsistent("the lock is gone".to_owned()))?
        .get(0)?;
    tx.execute(
        "INSERT INTO lock_holding (lock_id, kind, name, mode, build_id, deployment_id, token, reason, since, until, \
         alive_until, fence) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        params![
            holding.lock,
            &holding.kind,
            &holding.name,
            &holding.mode,
            holding.build,
            holding.deployment,
            holding.token.as_deref(),
            holding.reason.as_deref(),
            holding.since,
            holding.until,
            holding.alive_until,
            fence
        ],
    )?;
    tx.signal(Signal::Timers);
    tx.signal(Signal::Board);
    Ok(fence)
}

/// Turns the holding of a build of `start-deploy` into one of the deployment that it made.
pub fn holding_set_deployment(
    tx: &mut Tx<'_>,
    build: BuildId,
    deployment: DeploymentId,
    name: &str,
) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE lock_holding SET deployment_id = ?2, name = ?3 WHERE build_id = ?1",
        params![build, deployment, name],
    )?;
    Ok(())
}

/// Renews a person's holding. Gives `false` where it is gone.
pub fn holding_renew(
    tx: &mut Tx<'_>,
    id: i64,
    until: Option<Timestamp>,
    alive_until: Option<Timestamp>,
) -> Result<bool, StoreError> {
    let changed = tx.execute(
        "UPDATE lock_holding SET until = ?2, alive_until = ?3 WHERE id = ?1",
        params![id, until, alive_until],
    )?;
    tx.signal(Signal::Timers);
    Ok(changed > 0)
}

/// Ends a holding and marks the jobs that may want the lock now. Gives `false` where it was gone.
pub fn holding_remove(tx: &mut Tx<'_>, holding: &HoldingRow) -> Result<bool, StoreError> {
    let changed = tx.execute("DELETE FROM lock_holding WHERE id = ?1", params![holding.id])? > 0;
    mark_waiters(tx, holding.lock)?;
    Ok(changed)
}

/// Marks the jobs with a build that waits for a lock, or waits to work under it. A job for which no build waits does
/// the same whoever has the lock: many systems may share an environment, and those where nothing is going on are left
/// alone.
pub fn mark_waiters(tx: &mut Tx<'_>, lock: LockId) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE job SET dirty = 1 WHERE active = 1 AND dirty = 0 AND id IN (SELECT b.job_id FROM lock_wait w \
         JOIN build b ON b.id = w.build_id WHERE w.lock_id = ?1 UNION SELECT j.id FROM job j \
         JOIN environment e ON e.pipeline_id = j.pipeline_id WHERE e.lock_id = ?1 AND e.active = 1 \
         AND EXISTS (SELECT 1 FROM build b WHERE b.job_id = j.id AND b.status = 'pending'))",
        params![lock],
    )?;
    tx.signal(Signal::Schedule);
    tx.signal(Signal::Timers);
    tx.signal(Signal::Board);
    Ok(())
}

/// Those who wait for a lock: a hand-over before all others, and those in the order in which they came.
pub fn wait_list(tx: &mut Tx<'_>, lock: LockId) -> Result<Vec<WaitRow>, StoreError> {
    let order =
        "LEFT JOIN build b ON b.id = w.build_id WHERE w.lock_id = ?1 ORDER BY COALESCE(b.first_in_line, 0) DESC, w.id";
    tx.query(&format!("{WAIT} {order}"), params![lock])?.iter().map(wait_from).collect()
}

/// Puts somebody into the queue; the row's id is not looked at.
pub fn wait_add(tx: &mut Tx<'_>, wait: &WaitRow) -> Result<i64, StoreError> {
    let id = tx.insert(
        "INSERT INTO lock_wait (lock_id, kind, name, mode, build_id, token, reason, since, for_span, alive_until) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) RETURNING id",
        params![
            wait.lock,
            &wait.kind,
            &wait.name,
            &wait.mode,
            wait.build,
            wait.token.as_deref(),
            wait.reason.as_deref(),
            wait.since,
            wait.for_span,
            wait.alive_until
        ],
    )?;
    tx.signal(Signal::Timers);
    tx.signal(Signal::Board);
    Ok(id)
}

/// Keeps a person's place in the queue for longer.
pub fn wait_renew(tx: &mut Tx<'_>, id: i64, alive_until: Timestamp) -> Result<bool, StoreError> {
    Ok(tx.execute("UPDATE lock_wait SET alive_until = ?2 WHERE id = ?1", params![id, alive_until])? > 0)
}

/// Nobody could ask again for a while: what lapses when nobody asks, places and locks that nobody has come for, does so
/// at `alive_until` at the earliest.
pub fn wait_after_silence(tx: &mut Tx<'_>, alive_until: Timestamp) -> Result<(), StoreError> {
    for table in ["lock_wait", "lock_holding"] {
        tx.execute(&format!("UPDATE {table} SET alive_until = ?1 WHERE alive_until < ?1"), params![alive_until])?;
    }
    Ok(())
}

/// Takes somebody out of the queue.
pub fn wait_remove(tx: &mut Tx<'_>, id: i64) -> Result<(), StoreError> {
    tx.execute("DELETE FROM lock_wait WHERE id = ?1", params![id])?;
    tx.signal(Signal::Board);
    Ok(())
}

/// Takes a build out of every queue, and marks the jobs that may have waited behind it.
pub fn wait_remove_build(tx: &mut Tx<'_>, build: BuildId) -> Result<(), StoreError> {
    for row in tx.query("DELETE FROM lock_wait WHERE build_id = ?1 RETURNING lock_id", params![build])? {
        mark_waiters(tx, row.get(0)?)?;
    }
    Ok(())
}

/// The locks on which something ends by `now`, and when the next thing ends.
pub fn lock_due(tx: &mut Tx<'_>, now: Timestamp) -> Result<(Vec<LockId>, Option<Timestamp>), StoreError> {
    let due = tx
        .query(
            "SELECT DISTINCT lock_id FROM lock_holding WHERE until <= ?1 OR alive_until <= ?1 \
             UNION SELECT DISTINCT lock_id FROM lock_wait WHERE alive_until <= ?1",
            params![now],
        )?
        .iter()
        .map(|row| row.get(0))
        .collect::<Result<_, StoreError>>()?;
    let next = tx
        .query_one(
            "SELECT MIN(at) FROM (SELECT MIN(until) AS at FROM lock_holding UNION ALL \
             SELECT MIN(alive_until) AS at FROM lock_holding UNION ALL SELECT MIN(alive_until) AS at FROM lock_wait) \
             AS ends",
            &[],
        )?
        .map(|row| row.get(0))
        .transpose()?
        .flatten();
    Ok((due, next))
}

/// The locks that a build holds: id and name.
pub fn lock_list_of_build(tx: &mut Tx<'_>, build: BuildId) -> Result<Vec<(LockId, String)>, StoreError> {
    tx.query(
        "SELECT DISTINCT l.id, l.name FROM lock_holding h JOIN lock l ON l.id = h.lock_id WHERE h.build_id = ?1",
        params![build],
    )?
    .iter()
    .map(|row| Ok((row.get(0)?, row.get(1)?)))
    .collect()
}
