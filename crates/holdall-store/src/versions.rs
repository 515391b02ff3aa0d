//! Versions of scopes: saving them in order, finding them, and those that are unticked.

use holdall_engine::ids::{ResourceId, ScopeId};
use holdall_engine::time::Timestamp;
use holdall_engine::version::{Version, VersionDigest};

use crate::params;
use crate::value::{Row, Value};
use crate::{StoreError, Tx, jobs};

/// A version as it is stored.
#[derive(Debug, Clone)]
pub struct VersionRow {
    /// Its digest within the scope.
    pub digest: VersionDigest,
    /// The version.
    pub version: Version,
    /// What the type says of it: name and value, in order.
    pub metadata: Vec<(String, String)>,
    /// Its place: higher is newer.
    pub order: i64,
    /// When it was first seen.
    pub created_at: Timestamp,
}

const COLUMNS: &str = "v.digest, v.version, v.metadata, v.check_order, v.created_at";

fn from_row(row: &Row) -> Result<VersionRow, StoreError> {
    Ok(VersionRow {
        digest: row.get(0)?,
        version: row.get(1)?,
        metadata: row.opt_json(2)?.unwrap_or_default(),
        order: row.get(3)?,
        created_at: row.get(4)?,
    })
}

/// A version to save.
pub struct NewVersion {
    /// The version.
    pub version: Version,
    /// What the type says of it; empty: nothing, and what was known stays.
    pub metadata: Vec<(String, String)>,
}

/// Saves versions, oldest first, as a check or a put gives them (reference, section 2.2): if any of them is new,
/// all of them go to the newest end in their order. Gives whether any was new; then the jobs that take them are
/// marked.
pub fn versions_save(
    tx: &mut Tx<'_>,
    scope: ScopeId,
    versions: &[NewVersion],
    now: Timestamp,
) -> Result<bool, StoreError> {
    let mut any_new = false;
    let mut digests = Vec::with_capacity(versions.len());
    for version in versions {
        let digest = version.version.digest();
        let metadata = metadata_text(&version.metadata)?;
        let known = tx.query_one(
            "SELECT check_order FROM version WHERE scope_id = ?1 AND digest = ?2",
            params![scope, &digest],
        )?;
        match known {
            None => {
                any_new = true;
                tx.execute(
                    "INSERT INTO version (scope_id, digest, version, metadata, check_order, created_at) \
                     VALUES (?1, ?2, ?3, ?4, 0, ?5)",
                    params![scope, &digest, &version.version, metadata, now],
                )?;
            }
            Some(row) => {
                any_new |= row.get::<i64>(0)? == 0;
                if metadata.is_some() {
                    tx.execute(
                        "UPDATE version SET metadata = ?3 WHERE scope_id = ?1 AND digest = ?2",
                        params![scope, &digest, metadata],
                    )?;
                }
            }
        }
        digests.push(digest);
    }
    if any_new {
        for digest in &digests {
            let order = next_order(tx, scope)?;
            tx.execute(
                "UPDATE version SET check_order = ?3 WHERE scope_id = ?1 AND digest = ?2",
                params![scope, digest, order],
            )?;
        }
        jobs::mark_scope(tx, scope)?;
    }
    Ok(any_new)
}

fn next_order(tx: &mut Tx<'_>, scope: ScopeId) -> Result<i64, StoreError> {
    tx.query_one("UPDATE scope SET next_order = next_order + 1 WHERE id = ?1 RETURNING next_order - 1", params![scope])?
        .ok_or_else(|| StoreError::Inconsistent(format!("scope {scope} is gone")))?
        .get(0)
}

/// Saves a version whose place is given: a bag's is its number, whatever the order of arrival (release model,
/// section 4). Gives whether it is new; then the jobs that take it are marked.
pub fn version_save_at(
    tx: &mut Tx<'_>,
    scope: ScopeId,
    version: &Version,
    order: i64,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let new = tx.execute(
        "INSERT INTO version (scope_id, digest, version, check_order, created_at) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (scope_id, digest) DO NOTHING",
        params![scope, &version.digest(), version, order, now],
    )? > 0;
    // Also when it is not new: a tag on an older bag may let it start.
    jobs::mark_scope(tx, scope)?;
    Ok(new)
}

fn metadata_text(metadata: &[(String, String)]) -> Result<Option<String>, StoreError> {
    if metadata.is_empty() {
        return Ok(None);
    }
    serde_json::to_string(metadata).map(Some).map_err(|error| StoreError::Inconsistent(error.to_string()))
}

/// The version with that digest.
pub fn version_get(tx: &mut Tx<'_>, scope: ScopeId, digest: &VersionDigest) -> Result<Option<VersionRow>, StoreError> {
    tx.query_one(
        &format!("SELECT {COLUMNS} FROM version v WHERE v.scope_id = ?1 AND v.digest = ?2"),
        params![scope, digest],
    )?
    .map(|row| from_row(&row))
    .transpose()
}

/// The newest version, unticked or not.
pub fn version_newest(tx: &mut Tx<'_>, scope: ScopeId) -> Result<Option<VersionRow>, StoreError> {
    tx.query_one(
        &format!(
            "SELECT {COLUMNS} FROM version v WHERE v.scope_id = ?1 AND v.check_order > 0 \
             ORDER BY v.check_order DESC LIMIT 1"
        ),
        params![scope],
    )?
    .map(|row| from_row(&row))
    .transpose()
}

/// Versions older than a place, newest first.
pub fn version_list(
    tx: &mut Tx<'_>,
    scope: ScopeId,
    below: Option<i64>,
    limit: i64,
) -> Result<Vec<VersionRow>, StoreError> {
    tx.query(
        &format!(
            "SELECT {COLUMNS} FROM version v WHERE v.scope_id = ?1 AND v.check_order > 0 AND v.check_order < ?2 \
             ORDER BY v.check_order DESC LIMIT ?3"
        ),
        params![scope, below.unwrap_or(i64::MAX), limit],
    )?
    .iter()
    .map(from_row)
    .collect()
}

/// The versions from one place (exclusive) to another (inclusive), oldest first: a change list.
pub fn version_between(
    tx: &mut Tx<'_>,
    scope: ScopeId,
    after: i64,
    up_to: i64,
    limit: i64,
) -> Result<Vec<VersionRow>, StoreError> {
    tx.query(
        &format!(
            "SELECT {COLUMNS} FROM version v WHERE v.scope_id = ?1 AND v.check_order > ?2 AND v.check_order <= ?3 \
             ORDER BY v.check_order LIMIT ?4"
        ),
        params![scope, after, up_to, limit],
    )?
    .iter()
    .map(from_row)
    .collect()
}

/// Versions that have for each of `values` a value that begins with it, newest first: a person names a commit by its
/// first letters.
pub fn version_search(
    tx: &mut Tx<'_>,
    scope: ScopeId,
    values: &[&str],
    limit: i64,
) -> Result<Vec<VersionRow>, StoreError> {
    let mut args: Vec<Value> = vec![scope.into(), limit.into()];
    let mut filter = String::new();
    for value in values {
        let escaped = value.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        args.push(format!("%:\"{escaped}%").into());
        filter.push_str(&format!(" AND v.version LIKE ?{} ESCAPE '\\'", args.len()));
    }
    tx.query(
        &format!("SELECT {COLUMNS} FROM version v WHERE v.scope_id = ?1{filter} ORDER BY v.check_order DESC LIMIT ?2"),
        &args,
    )?
    .iter()
    .map(from_row)
    .collect()
}

/// Versions of which a value, or what the type says is its commit, begins with a text, newest first. A person names a
/// commit in lower case, as git prints it.
pub fn version_search_commit(
    tx: &mut Tx<'_>,
    scope: ScopeId,
    text: &str,
    limit: i64,
) -> Result<Vec<VersionRow>, StoreError> {
    let escaped = text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    let found = tx.query(
        &format!(
            "SELECT {COLUMNS} FROM version v WHERE v.scope_id = ?1 AND v.check_order > 0 \
             AND (v.version LIKE ?2 ESCAPE '\\' OR v.metadata LIKE ?3 ESCAPE '\\') \
             ORDER BY v.check_order DESC LIMIT ?4"
        ),
        params![scope, format!("%:\"{escaped}%"), format!("%[\"commit\",\"{escaped}%"), limit],
    )?;
    found.iter().map(from_row).collect()
}

/// Who unticked a version.
#[derive(Debug, Clone)]
pub struct DisabledRow {
    /// Which version.
    pub digest: VersionDigest,
    /// Who.
    pub by: String,
    /// Since when.
    pub at: Timestamp,
    /// Until when, if it ends by itself.
    pub until: Option<Timestamp>,
    /// Why.
    pub reason: Option<String>,
    /// Whether the environments after this one are concerned too.
    pub withdraws: bool,
}

/// The unticked versions of a resource.
pub fn disabled_list(tx: &mut Tx<'_>, resource: ResourceId) -> Result<Vec<DisabledRow>, StoreError> {
    tx.query(
        "SELECT digest, by_name, at, until, reason, withdraws FROM disabled_version WHERE resource_id = ?1",
        params![resource],
    )?
    .iter()
    .map(|row| {
        Ok(DisabledRow {
            digest: row.get(0)?,
            by: row.get(1)?,
            at: row.get(2)?,
            until: row.get(3)?,
            reason: row.get(4)?,
            withdraws: row.get(5)?,
        })
    })
    .collect()
}

/// Unticks a version of a resource.
pub fn disable(tx: &mut Tx<'_>, resource: ResourceId, row: &DisabledRow) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO disabled_version (resource_id, digest, by_name, at, until, reason, withdraws) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (resource_id, digest) DO UPDATE SET \
         by_name = excluded.by_name, at = excluded.at, until = excluded.until, reason = excluded.reason, \
         withdraws = excluded.withdraws",
        params![resource, &row.digest, &row.by, row.at, row.until, row.reason.as_deref(), row.withdraws],
    )?;
    jobs::mark_resource(tx, resource)
}

/// Ticks a version of a resource again; gives whether it was unticked.
pub fn enable(tx: &mut Tx<'_>, resource: ResourceId, digest: &VersionDigest) -> Result<bool, StoreError> {
    let changed = tx
        .execute("DELETE FROM disabled_version WHERE resource_id = ?1 AND digest = ?2", params![resource, digest])?
        > 0;
    jobs::mark_resource(tx, resource)?;
    Ok(changed)
}

/// Unticks and pins that ended by themselves by `now`: removes them and marks their jobs.
pub fn expire(tx: &mut Tx<'_>, now: Timestamp) -> Result<(), StoreError> {
    let ended = tx.query("SELECT resource_id, digest FROM disabled_version WHERE until <= ?1", params![now])?;
    for row in &ended {
        enable(tx, row.get(0)?, &row.get(1)?)?;
    }
    let unpinned = tx.query("SELECT id FROM resource WHERE pin_until <= ?1", params![now])?;
    for row in &unpinned {
        crate::resources::unpin(tx, row.get(0)?)?;
    }
    Ok(())
}

/// When the next untick or pin ends by itself.
pub fn expire_next(tx: &mut Tx<'_>) -> Result<Option<Timestamp>, StoreError> {
    let next = tx.query_one(
        "SELECT MIN(until) FROM (SELECT MIN(until) AS until FROM disabled_version WHERE until IS NOT NULL \
         UNION ALL SELECT MIN(pin_until) AS until FROM resource WHERE pin_until IS NOT NULL) AS ends",
        &[],
    )?;
    match next {
        Some(row) => row.get(0),
        None => Ok(None),
    }
}

/// Text arguments as values, for statements with a list.
pub(crate) fn placeholders(from: usize, count: usize) -> String {
    (from..from + count).map(|n| format!("?{n}")).collect::<Vec<_>>().join(", ")
}

/// The versions among `digests` that exist in the scope.
pub fn version_get_many(
    tx: &mut Tx<'_>,
    scope: ScopeId,
    digests: &[VersionDigest],
) -> Result<Vec<VersionRow>, StoreError> {
    let mut found = Vec::new();
    for chunk in digests.chunks(200) {
        let mut args: Vec<Value> = vec![scope.into()];
        args.extend(chunk.iter().map(Value::from));
        let rows = tx.query(
            &format!(
                "SELECT {COLUMNS} FROM version v WHERE v.scope_id = ?1 AND v.digest IN ({})",
                placeholders(2, chunk.len())
            ),
            &args,
        )?;
        for row in &rows {
            found.push(from_row(row)?);
        }
    }
    Ok(found)
}

/// Sets what a type says of a known version; an unknown one stays unknown.
pub fn version_set_metadata(
    tx: &mut Tx<'_>,
    scope: ScopeId,
    digest: &VersionDigest,
    metadata: &[(String, String)],
) -> Result<(), StoreError> {
    let text = metadata_text(metadata)?;
    tx.execute(
        "UPDATE version SET metadata = COALESCE(?3, metadata) WHERE scope_id = ?1 AND digest = ?2",
        params![scope, digest, text],
    )?;
    Ok(())
}
