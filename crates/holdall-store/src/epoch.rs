//! Epochs: stretches of history without a gap. A new one begins when history was lost: what was given after the last
//! moment that is known may have been given to somebody, so all that is counted skips ahead.
//!
//! How far depends on the moment ([`Skip`]), and not on what is left: the same backup can be restored twice, or an older
//! one after a newer one, and nothing in them says what was given in between.

use holdall_engine::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::access::{meta_get, meta_set};
use crate::{StoreError, Tx, params, schema};

/// From when on the moment counts: before anything was given. 2026-01-01T00:00:00Z.
const ORIGIN: Timestamp = Timestamp(1_767_225_600_000_000);

/// By how much the numbers skip that people say, where the clock does not say more: of bags, deployments and builds, and
/// the revisions of systems and pipelines. More than are given between two backups.
pub const NUMBERS: i64 = 100_000;

/// By how much ids and fences skip, where the clock does not say more.
pub const IDS: i64 = 1_000_000_000;

/// How something that is counted skips ahead: to as many as can have been given since [`ORIGIN`], if one was each time
/// that `each` went by. So an epoch begins beyond all that was given before its moment, whatever epochs there were and
/// whichever of them are known. Where the clock stands too far back to be right, the skip is a constant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Skip {
    each: Span,
    least: i64,
}

impl Skip {
    /// Of bags and deployments, which people say aloud: seven digits for three years, eight for 28 more. They are rare,
    /// and after a restore none is made before a person has confirmed an environment.
    const BAGS: Skip = Skip { each: Span::seconds(10), least: NUMBERS };

    /// Of the builds of a job, of reruns and of revisions.
    const BUILDS: Skip = Skip { each: Span::seconds(1), least: NUMBERS };

    /// Of ids, fences and commits: no database gives one each microsecond. JSON readers that only know floating point
    /// have them right until the year 2311.
    pub(crate) const IDS: Skip = Skip { each: Span(1), least: IDS };

    /// The least that is given next at a moment.
    fn floor(self, now: Timestamp) -> i64 {
        now.0.saturating_sub(ORIGIN.0) / self.each.0
    }

    /// What is given next at a moment, where it would have been `next`.
    pub(crate) fn ahead(self, next: i64, now: Timestamp) -> i64 {
        match self.floor(now) {
            floor if floor > next => floor,
            _ => next.saturating_add(self.least),
        }
    }
}

/// What is counted in columns: how, in which of which table, and of which rows.
const COUNTED: [(Skip, &str, &str, &str); 7] = [
    (Skip::BUILDS, "job", "next_number", ""),
    (Skip::BUILDS, "system", "revision", ""),
    (Skip::BUILDS, "pipeline", "config_version", ""),
    (Skip::BAGS, "system", "next_bag", ""),
    (Skip::BAGS, "environment", "next_deployment", ""),
    (Skip::IDS, "lock", "next_fence", ""),
    (Skip::IDS, "build", "next_fence", "WHERE status IN ('pending', 'started')"),
];

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
    /// Reruns of theirs have higher numbers.
    #[serde(default)]
    reruns: i64,
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
        None => Ok(Epoch { number: 1, first_build: 1, reruns: 0 }),
    }
}

/// What the number of a build's next rerun is beyond: those of an earlier epoch may have had more than are known.
pub(crate) fn rerun_floor(tx: &mut Tx<'_>, original: i64) -> Result<i64, StoreError> {
    let epoch = current(tx)?;
    Ok(if original < epoch.first_build { epoch.reruns } else { 0 })
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

/// Begins a new epoch at that moment: all that is counted skips ahead.
pub fn begin(tx: &mut Tx<'_>, now: Timestamp) -> Result<Epoch, StoreError> {
    for (skip, table, column, rows) in COUNTED {
        let sql =
            format!("UPDATE {table} SET {column} = CASE WHEN {column} < ?1 THEN ?1 ELSE {column} + ?2 END {rows}");
        tx.execute(&sql, params![skip.floor(now), skip.least])?;
    }
    for table in schema::tables(schema::NEWEST).into_iter().filter(|table| table.gives_ids) {
        let next = tx.next_id(table.name)?;
        tx.set_next_id(table.name, Skip::IDS.ahead(next, now))?;
    }
    // Who remembers what was lost must not find it lost once more.
    let known = progress(tx)?.commits;
    tx.execute(
        "INSERT INTO progress (id, commits) VALUES (1, ?1) ON CONFLICT (id) DO UPDATE SET commits = excluded.commits",
        params![Skip::IDS.ahead(known, now)],
    )?;
    let before = current(tx)?;
    let epoch = Epoch {
        number: before.number + 1,
        first_build: tx.next_id("build")?,
        reruns: Skip::BUILDS.ahead(before.reruns, now),
    };
    let text = serde_json::to_string(&epoch).map_err(|error| StoreError::Inconsistent(error.to_string()))?;
    meta_set(tx, KEY, &text)?;
    Ok(epoch)
}
