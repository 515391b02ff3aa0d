//! The audit log: one row an act, written in the act's own transaction, never changed.

use holdall_engine::time::Timestamp;

use crate::epoch::{self, Skip};
use crate::params;
use crate::value::{Row, Value};
use crate::{StoreError, Tx};

/// One act.
#[derive(Debug, Clone)]
pub struct AuditRow {
    /// Its place in the log.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// Who: the name of the token, or `holdall` for what happens by itself.
    pub who: String,
    /// From where: `cli`, `web`, `api`, `engine`.
    pub origin: String,
    /// What was done.
    pub act: String,
    /// To what: `notify/production`, `preview/deploy-notify/deploy`, ...
    pub target: String,
    /// Why.
    pub reason: Option<String>,
    /// What it was before: JSON or text.
    pub before: Option<String>,
    /// What it is since.
    pub after: Option<String>,
}

/// Writes an act down, under the id after the newest one's: that of an act which is missing is seen, on both databases.
pub fn audit_add(tx: &mut Tx<'_>, row: &AuditRow) -> Result<(), StoreError> {
    add(tx, row, 0)
}

/// Writes down that history was lost. The ids of acts skip ahead, since those that are not known any more had some.
pub fn audit_add_after_loss(tx: &mut Tx<'_>, row: &AuditRow) -> Result<(), StoreError> {
    let next = epoch::extent(tx)?.acts + 1;
    add(tx, row, Skip::IDS.ahead(next, row.at) - next)
}

fn add(tx: &mut Tx<'_>, row: &AuditRow, skip: i64) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO audit (id, at, who, origin, act, target, reason, before, after) \
         VALUES ((SELECT COALESCE(MAX(id), 0) FROM audit) + 1 + ?9, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            row.at,
            &row.who,
            &row.origin,
            &row.act,
            &row.target,
            row.reason.as_deref(),
            row.before.as_deref(),
            row.after.as_deref(),
            skip
        ],
    )?;
    Ok(())
}

/// Acts, newest first, at most `limit`, older than `below`; of one target (and what is below it) if one is given.
pub fn audit_list(
    tx: &mut Tx<'_>,
    target: Option<&str>,
    below: Option<i64>,
    limit: i64,
) -> Result<Vec<AuditRow>, StoreError> {
    tx.query(
        "SELECT id, at, who, origin, act, target, reason, before, after FROM audit WHERE id < ?1 \
         AND (CAST(?2 AS TEXT) IS NULL OR target = ?2 OR target LIKE ?3) ORDER BY id DESC LIMIT ?4",
        params![below.unwrap_or(i64::MAX), target, target.map(|target| format!("{target}/%")), limit],
    )?
    .iter()
    .map(from_row)
    .collect()
}

fn from_row(row: &Row) -> Result<AuditRow, StoreError> {
    Ok(AuditRow {
        id: row.get(0)?,
        at: row.get(1)?,
        who: row.get(2)?,
        origin: row.get(3)?,
        act: row.get(4)?,
        target: row.get(5)?,
        reason: row.get(6)?,
        before: row.get(7)?,
        after: row.get(8)?,
    })
}

/// Acts on any of some targets and what is below them, newest first, older than `below`.
pub fn audit_search(
    tx: &mut Tx<'_>,
    targets: &[String],
    below: Option<i64>,
    limit: i64,
) -> Result<Vec<AuditRow>, StoreError> {
    let mut args: Vec<Value> = vec![below.unwrap_or(i64::MAX).into(), limit.into()];
    let mut conditions = Vec::with_capacity(targets.len());
    for target in targets {
        let escaped = target.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        let at = args.len() + 1;
        conditions.push(format!("target = ?{at} OR target LIKE ?{} ESCAPE '\\'", at + 1));
        args.push(target.into());
        args.push(format!("{escaped}/%").into());
    }
    if conditions.is_empty() {
        return Ok(Vec::new());
    }
    tx.query(
        &format!(
            "SELECT id, at, who, origin, act, target, reason, before, after FROM audit WHERE id < ?1 AND ({}) \
             ORDER BY id DESC LIMIT ?2",
            conditions.join(" OR ")
        ),
        &args,
    )?
    .iter()
    .map(from_row)
    .collect()
}

/// The newest act of a name on a target.
pub fn audit_newest(tx: &mut Tx<'_>, act: &str, target: &str) -> Result<Option<AuditRow>, StoreError> {
    tx.query_one(
        "SELECT id, at, who, origin, act, target, reason, before, after FROM audit WHERE target = ?1 AND act = ?2 \
         ORDER BY id DESC LIMIT 1",
        params![target, act],
    )?
    .map(|row| from_row(&row))
    .transpose()
}
