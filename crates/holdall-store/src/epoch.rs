//! Epochs: stretches of history without a gap. A new one begins when history was lost: what was given after the last
//! moment that is known may have been given to somebody, so all that is counted skips ahead.

use serde::{Deserialize, Serialize};

use crate::access::{meta_get, meta_set};
use crate::{StoreError, Tx, params, schema};

/// By how much the numbers skip that people say: of bags, deployments and builds, and the revisions of systems and
/// pipelines. More than are given between two backups.
pub const NUMBERS: i64 = 100_000;

/// By how much ids and fences skip.
pub const IDS: i64 = 1_000_000_000;

const KEY: &str = "epoch";

/// An epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// Its number, from 1.
    pub number: i64,
    /// Builds with lower ids are of earlier ones.
    pub first_build: i64,
}

/// How far a history goes: what somebody else remembers of it can be compared with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The newest build's id.
    pub builds: i64,
    /// The newest act's place in the audit log.
    pub acts: i64,
}

/// The epoch that the database is in.
pub fn current(tx: &mut Tx<'_>) -> Result<Epoch, StoreError> {
    match meta_get(tx, KEY)? {
        Some(text) => serde_json::from_str(&text).map_err(|error| StoreError::Inconsistent(format!("epoch: {error}"))),
        None => Ok(Epoch { number: 1, first_build: 1 }),
    }
}

/// The lowest number that a rerun of a build may have: those of an earlier epoch may have had more than are known.
pub(crate) fn rerun_floor(tx: &mut Tx<'_>, original: i64) -> Result<i64, StoreError> {
    let epoch = current(tx)?;
    Ok(if original < epoch.first_build { (epoch.number - 1) * NUMBERS } else { 0 })
}

/// How far the history goes.
pub fn extent(tx: &mut Tx<'_>) -> Result<Extent, StoreError> {
    let row = tx
        .query_one("SELECT COALESCE((SELECT MAX(id) FROM build), 0), COALESCE((SELECT MAX(id) FROM audit), 0)", &[])?
        .ok_or_else(|| StoreError::Inconsistent("no maximum".to_owned()))?;
    // What an epoch has skipped may have been given before it.
    let skipped = current(tx)?.first_build - 1;
    Ok(Extent { builds: row.get::<i64>(0)?.max(skipped), acts: row.get(1)? })
}

/// Begins a new epoch: all that is counted skips ahead.
pub fn begin(tx: &mut Tx<'_>) -> Result<Epoch, StoreError> {
    tx.execute("UPDATE job SET next_number = next_number + ?1", params![NUMBERS])?;
    tx.execute("UPDATE system SET next_bag = next_bag + ?1, revision = revision + ?1", params![NUMBERS])?;
    tx.execute("UPDATE environment SET next_deployment = next_deployment + ?1", params![NUMBERS])?;
    tx.execute("UPDATE pipeline SET config_version = config_version + ?1", params![NUMBERS])?;
    tx.execute("UPDATE lock SET next_fence = next_fence + ?1", params![IDS])?;
    tx.execute("UPDATE build SET next_fence = next_fence + ?1 WHERE status IN ('pending', 'started')", params![IDS])?;
    for table in schema::tables(schema::NEWEST).into_iter().filter(|table| table.gives_ids) {
        let next = tx.next_id(table.name)?;
        tx.set_next_id(table.name, next + IDS)?;
    }
    let epoch = Epoch { number: current(tx)?.number + 1, first_build: tx.next_id("build")? };
    let text = serde_json::to_string(&epoch).map_err(|error| StoreError::Inconsistent(error.to_string()))?;
    meta_set(tx, KEY, &text)?;
    Ok(epoch)
}
