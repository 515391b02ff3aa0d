//! The audit log: one row an act, written in the act's own transaction, never changed.

use holdall_engine::time::Timestamp;

use crate::params;
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

/// Writes an act down.
pub fn audit_add(tx: &mut Tx<'_>, row: &AuditRow) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO audit (at, who, origin, act, target, reason, before, after) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            row.at,
            &row.who,
            &row.origin,
            &row.act,
            &row.target,
            row.reason.as_deref(),
            row.before.as_deref(),
            row.after.as_deref()
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
    .map(|row| {
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
    })
    .collect()
}
