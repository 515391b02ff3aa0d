//! Bags, the tags that say where they passed, and the suspects that roll backs threw out.

use holdall_engine::ids::{BuildId, DeploymentId, EnvironmentId, ScopeId, SystemId};
use holdall_engine::time::Timestamp;
use holdall_engine::version::{Version, VersionDigest};

use crate::params;
use crate::value::{Row, Value};
use crate::{Signal, StoreError, Tx};

/// A bag.
#[derive(Debug, Clone)]
pub struct BagRow {
    /// Its row.
    pub id: i64,
    /// Its system.
    pub system: SystemId,
    /// Its number.
    pub number: i64,
    /// Where it was packed.
    pub environment: EnvironmentId,
    /// When.
    pub packed_at: Timestamp,
    /// By whom.
    pub packed_by: String,
    /// The build that packed it.
    pub build: Option<BuildId>,
    /// Equal for equal contents.
    pub contents_digest: String,
    /// What proofs are about.
    pub digest: String,
    /// The bag itself: JSON of the engine's type.
    pub body: String,
}

const SELECT: &str = "SELECT id, system_id, number, environment_id, packed_at, packed_by, build_id, contents_digest, \
     digest, body FROM bag";

fn from_row(row: &Row) -> Result<BagRow, StoreError> {
    Ok(BagRow {
        id: row.get(0)?,
        system: row.get(1)?,
        number: row.get(2)?,
        environment: row.get(3)?,
        packed_at: row.get(4)?,
        packed_by: row.get(5)?,
        build: row.get(6)?,
        contents_digest: row.get(7)?,
        digest: row.get(8)?,
        body: row.get(9)?,
    })
}

/// The number that the next bag of a system gets; taking it twice gives two.
pub fn bag_next_number(tx: &mut Tx<'_>, system: SystemId) -> Result<i64, StoreError> {
    tx.query_one("UPDATE system SET next_bag = next_bag + 1 WHERE id = ?1 RETURNING next_bag - 1", params![system])?
        .ok_or_else(|| StoreError::Inconsistent("the system is gone".to_owned()))?
        .get(0)
}

/// Keeps a bag; gives its row.
pub fn bag_create(tx: &mut Tx<'_>, bag: &BagRow) -> Result<i64, StoreError> {
    let id = tx.insert(
        "INSERT INTO bag (system_id, number, environment_id, packed_at, packed_by, build_id, contents_digest, \
         digest, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) RETURNING id",
        params![
            bag.system,
            bag.number,
            bag.environment,
            bag.packed_at,
            &bag.packed_by,
            bag.build,
            &bag.contents_digest,
            &bag.digest,
            &bag.body
        ],
    )?;
    tx.signal(Signal::Board);
    Ok(id)
}

/// A bag by its number.
pub fn bag_find(tx: &mut Tx<'_>, system: SystemId, number: i64) -> Result<Option<BagRow>, StoreError> {
    tx.query_one(&format!("{SELECT} WHERE system_id = ?1 AND number = ?2"), params![system, number])?
        .map(|row| from_row(&row))
        .transpose()
}

/// The newest bag that was packed in an environment.
pub fn bag_newest_in(tx: &mut Tx<'_>, environment: EnvironmentId) -> Result<Option<BagRow>, StoreError> {
    tx.query_one(&format!("{SELECT} WHERE environment_id = ?1 ORDER BY number DESC LIMIT 1"), params![environment])?
        .map(|row| from_row(&row))
        .transpose()
}

/// Bags of a system, newest first, with numbers below `below`.
pub fn bag_list(tx: &mut Tx<'_>, system: SystemId, below: Option<i64>, limit: i64) -> Result<Vec<BagRow>, StoreError> {
    tx.query(
        &format!("{SELECT} WHERE system_id = ?1 AND number < ?2 ORDER BY number DESC LIMIT ?3"),
        params![system, below.unwrap_or(i64::MAX), limit],
    )?
    .iter()
    .map(from_row)
    .collect()
}

/// Bags that were packed in an environment and have passed all of `passed`, with numbers above one, oldest first.
pub fn bag_list_above(
    tx: &mut Tx<'_>,
    packing: EnvironmentId,
    passed: &[EnvironmentId],
    above: i64,
    limit: i64,
) -> Result<Vec<BagRow>, StoreError> {
    let mut args: Vec<Value> = vec![packing.into(), above.into(), limit.into()];
    let tagged = tagged(passed, &mut args);
    tx.query(&format!("{SELECT} WHERE environment_id = ?1 AND number > ?2{tagged} ORDER BY number LIMIT ?3"), &args)?
        .iter()
        .map(from_row)
        .collect()
}

/// Bags that were packed in an environment and have passed all of `passed`, with numbers above one and below another,
/// newest first.
pub fn bag_list_between(
    tx: &mut Tx<'_>,
    packing: EnvironmentId,
    passed: &[EnvironmentId],
    above: i64,
    below: Option<i64>,
    limit: i64,
) -> Result<Vec<BagRow>, StoreError> {
    let mut args: Vec<Value> = vec![packing.into(), above.into(), below.unwrap_or(i64::MAX).into(), limit.into()];
    let tagged = tagged(passed, &mut args);
    tx.query(
        &format!(
            "{SELECT} WHERE environment_id = ?1 AND number > ?2 AND number < ?3{tagged} ORDER BY number DESC LIMIT ?4"
        ),
        &args,
    )?
    .iter()
    .map(from_row)
    .collect()
}

/// The condition that a bag has passed each of some environments.
fn tagged(passed: &[EnvironmentId], args: &mut Vec<Value>) -> String {
    let mut condition = String::new();
    for environment in passed {
        args.push((*environment).into());
        let one = "SELECT 1 FROM tag t WHERE t.bag_id = bag.id AND t.environment_id = ?";
        condition.push_str(&format!(" AND EXISTS ({one}{})", args.len()));
    }
    condition
}

/// The numbers of the bags that have passed all of `passed` and are no versions of a scope of `deployment-bag`,
/// ascending.
pub fn bags_to_arrive(tx: &mut Tx<'_>, scope: ScopeId, passed: &[EnvironmentId]) -> Result<Vec<i64>, StoreError> {
    let Some(first) = passed.first() else { return Ok(Vec::new()) };
    let mut args: Vec<Value> = vec![scope.into(), (*first).into()];
    let tagged = tagged(&passed[1..], &mut args);
    tx.query(
        &format!(
            "SELECT number FROM bag WHERE id IN (SELECT f.bag_id FROM tag f WHERE f.environment_id = ?2){tagged} \
             AND NOT EXISTS (SELECT 1 FROM version v WHERE v.scope_id = ?1 AND v.check_order = bag.number) \
             ORDER BY number"
        ),
        &args,
    )?
    .iter()
    .map(|row| row.get(0))
    .collect()
}

/// A passed tag.
#[derive(Debug, Clone)]
pub struct TagRow {
    /// The bag's number.
    pub bag: i64,
    /// Where it passed.
    pub environment: EnvironmentId,
    /// `passed-<environment>-<timestamp>`.
    pub name: String,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// The deployment that passed.
    pub deployment: DeploymentId,
}

fn tag_from(row: &Row) -> Result<TagRow, StoreError> {
    Ok(TagRow {
        bag: row.get(0)?,
        environment: row.get(1)?,
        name: row.get(2)?,
        at: row.get(3)?,
        by: row.get(4)?,
        deployment: row.get(5)?,
    })
}

/// Tags a bag as passed; `builds` is the JSON list of the builds that showed it.
#[allow(clippy::too_many_arguments)]
pub fn tag_create(
    tx: &mut Tx<'_>,
    bag_id: i64,
    environment: EnvironmentId,
    name: &str,
    by: &str,
    deployment: DeploymentId,
    builds: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO tag (bag_id, environment_id, name, at, by_name, deployment_id, builds) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![bag_id, environment, name, now, by, deployment, builds],
    )?;
    tx.signal(Signal::Board);
    Ok(())
}

/// The tags of a bag, newest first.
pub fn tag_list(tx: &mut Tx<'_>, bag_id: i64) -> Result<Vec<TagRow>, StoreError> {
    tx.query(
        "SELECT b.number, t.environment_id, t.name, t.at, t.by_name, t.deployment_id FROM tag t \
         JOIN bag b ON b.id = t.bag_id WHERE t.bag_id = ?1 ORDER BY t.id DESC",
        params![bag_id],
    )?
    .iter()
    .map(tag_from)
    .collect()
}

/// The newest tag of a bag in an environment.
pub fn tag_newest(tx: &mut Tx<'_>, bag_id: i64, environment: EnvironmentId) -> Result<Option<TagRow>, StoreError> {
    tx.query_one(
        "SELECT b.number, t.environment_id, t.name, t.at, t.by_name, t.deployment_id FROM tag t \
         JOIN bag b ON b.id = t.bag_id WHERE t.bag_id = ?1 AND t.environment_id = ?2 ORDER BY t.id DESC LIMIT 1",
        params![bag_id, environment],
    )?
    .map(|row| tag_from(&row))
    .transpose()
}

/// A suspect.
#[derive(Debug, Clone)]
pub struct SuspectRow {
    /// Its row.
    pub id: i64,
    /// Where it was thrown out.
    pub environment: EnvironmentId,
    /// The service.
    pub service: String,
    /// Its version's digest.
    pub digest: VersionDigest,
    /// Its version.
    pub version: Version,
    /// The bag that brought it.
    pub bag: i64,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// Whether the environments after this one are not concerned.
    pub here_only: bool,
}

/// The suspects of an environment that nobody has cleared, oldest first.
pub fn suspect_list(tx: &mut Tx<'_>, environment: EnvironmentId) -> Result<Vec<SuspectRow>, StoreError> {
    tx.query(
        "SELECT id, environment_id, service, digest, version, bag, at, by_name, reason, here_only FROM suspect \
         WHERE environment_id = ?1 AND cleared_at IS NULL ORDER BY id",
        params![environment],
    )?
    .iter()
    .map(|row| {
        Ok(SuspectRow {
            id: row.get(0)?,
            environment: row.get(1)?,
            service: row.get(2)?,
            digest: row.get(3)?,
            version: row.get(4)?,
            bag: row.get(5)?,
            at: row.get(6)?,
            by: row.get(7)?,
            reason: row.get(8)?,
            here_only: row.get(9)?,
        })
    })
    .collect()
}

/// Adds a suspect, unless the same version of the service is one there already.
pub fn suspect_add(tx: &mut Tx<'_>, suspect: &SuspectRow) -> Result<(), StoreError> {
    let known = tx.query_one(
        "SELECT id FROM suspect WHERE environment_id = ?1 AND service = ?2 AND digest = ?3 AND cleared_at IS NULL",
        params![suspect.environment, &suspect.service, &suspect.digest],
    )?;
    if known.is_none() {
        tx.execute(
            "INSERT INTO suspect (environment_id, service, digest, version, bag, at, by_name, reason, here_only) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                suspect.environment,
                &suspect.service,
                &suspect.digest,
                &suspect.version,
                suspect.bag,
                suspect.at,
                &suspect.by,
                suspect.reason.as_deref(),
                suspect.here_only
            ],
        )?;
    }
    tx.signal(Signal::Board);
    Ok(())
}

/// Clears the suspects of a service (all services: `None`); gives how many there were.
pub fn suspect_clear(
    tx: &mut Tx<'_>,
    environment: EnvironmentId,
    service: Option<&str>,
    by: &str,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let cleared = tx.execute(
        "UPDATE suspect SET cleared_at = ?3, cleared_by = ?4, clear_reason = ?5 WHERE environment_id = ?1 \
         AND cleared_at IS NULL AND (CAST(?2 AS TEXT) IS NULL OR service = ?2)",
        params![environment, service, now, by, reason],
    )?;
    tx.signal(Signal::Board);
    Ok(cleared)
}

/// The tags of the bags of a system with numbers from `low` to `high`, newest first.
pub fn tag_list_of_bags(tx: &mut Tx<'_>, system: SystemId, low: i64, high: i64) -> Result<Vec<TagRow>, StoreError> {
    tx.query(
        "SELECT b.number, t.environment_id, t.name, t.at, t.by_name, t.deployment_id FROM tag t \
         JOIN bag b ON b.id = t.bag_id WHERE b.system_id = ?1 AND b.number >= ?2 AND b.number <= ?3 \
         ORDER BY t.id DESC",
        params![system, low, high],
    )?
    .iter()
    .map(tag_from)
    .collect()
}

/// The number of the newest bag below one that has the same contents.
pub fn bag_same_contents(
    tx: &mut Tx<'_>,
    system: SystemId,
    contents_digest: &str,
    below: i64,
) -> Result<Option<i64>, StoreError> {
    tx.query_one(
        "SELECT number FROM bag WHERE system_id = ?1 AND contents_digest = ?2 AND number < ?3 \
         ORDER BY number DESC LIMIT 1",
        params![system, contents_digest, below],
    )?
    .map(|row| row.get(0))
    .transpose()
}

/// Bags of a packing environment that were packed at a time or later, with numbers above one, oldest first.
pub fn bag_list_since(
    tx: &mut Tx<'_>,
    environment: EnvironmentId,
    at: Timestamp,
    above: i64,
    limit: i64,
) -> Result<Vec<BagRow>, StoreError> {
    tx.query(
        &format!("{SELECT} WHERE environment_id = ?1 AND number > ?2 AND packed_at >= ?3 ORDER BY number LIMIT ?4"),
        params![environment, above, at, limit],
    )?
    .iter()
    .map(from_row)
    .collect()
}
