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

/// The key of what tells this installation from others.
const INSTALLATION: &str = "installation";

/// Counts a commit; gives the count.
pub(crate) const COUNT: &str = "INSERT INTO progress (id, commits) VALUES (1, 1) \
     ON CONFLICT (id) DO UPDATE SET commits = progress.commits + 1 RETURNING commits";

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

/// How much an installation has kept. What somebody remembers of it tells whether some of it was lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The name of the installation; `None` where it has none yet.
    pub installation: Option<String>,
    /// How many transactions were committed that wrote something. A new epoch skips ahead.
    pub commits: i64,
}

/// What a database is to somebody who remembers how much it has kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compared {
    /// All that is remembered is there.
    Whole,
    /// Some of it was lost.
    Lost(Loss),
    /// It is another installation's.
    Another,
}

/// A loss of history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// How many commits somebody remembers.
    pub known: i64,
    /// How many the database has.
    pub found: i64,
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Loss { known, found } = self;
        write!(
            f,
            "commit {known}, and the database ends with commit {found}: it is older than what it takes the place of"
        )
    }
}

impl Progress {
    /// Compares what is remembered with what a database has.
    pub fn compare(&self, found: &Progress) -> Compared {
        if self.installation.is_some() && self.installation != found.installation {
            return Compared::Another;
        }
        // It may have more: a commit whose answer was lost is not remembered.
        match found.commits < self.commits {
            true => Compared::Lost(Loss { known: self.commits, found: found.commits }),
            false => Compared::Whole,
        }
    }
}

/// How much the database has kept.
pub fn progress(tx: &mut Tx<'_>) -> Result<Progress, StoreError> {
    let row = tx.query_one("SELECT commits FROM progress", &[])?;
    let commits = row.map_or(Ok(0), |row| row.get(0))?;
    Ok(Progress { installation: installation(tx)?, commits })
}

/// The name that tells this installation from others.
pub fn installation(tx: &mut Tx<'_>) -> Result<Option<String>, StoreError> {
    meta_get(tx, INSTALLATION)
}

/// Gives the installation a name, where it has none; gives its name.
pub fn installation_name(tx: &mut Tx<'_>, fresh: &str) -> Result<String, StoreError> {
    if let Some(name) = installation(tx)? {
        return Ok(name);
    }
    meta_set(tx, INSTALLATION, fresh)?;
    Ok(fresh.to_owned())
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
    // Who remembers what was lost must not find it lost once more.
    tx.execute(
        "INSERT INTO progress (id, commits) VALUES (1, ?1) \
         ON CONFLICT (id) DO UPDATE SET commits = progress.commits + excluded.commits",
        params![IDS],
    )?;
    let epoch = Epoch { number: current(tx)?.number + 1, first_build: tx.next_id("build")? };
    let text = serde_json::to_string(&epoch).map_err(|error| StoreError::Inconsistent(error.to_string()))?;
    meta_set(tx, KEY, &text)?;
    Ok(epoch)
}
