//! A store for tests, on either database: the whole suite runs on both. [`load`] fills one for measurements, [`fault`]
//! lets one go wrong, and a [`Replica`] takes the place of one.

pub mod load;
mod replica;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{Store, StoreError};

pub use replica::Replica;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// What goes wrong with a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The database fails after so many statements, and carries out none of the transaction's from there on.
    Statement(u32),
    /// All statements are carried out and the commit is refused.
    Commit,
    /// The commit is carried out and its answer is lost: nobody is told, and nobody is woken.
    Answer,
    /// The database fails after so many statements of a transaction that only reads.
    Read(u32),
}

impl Fault {
    /// What the asker hears.
    pub(crate) fn error() -> StoreError {
        StoreError::Unavailable("a fault that a test asked for".to_owned())
    }
}

/// The faults of the next transactions that write, and of the next that read, in their order.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    writes: Mutex<VecDeque<Option<Fault>>>,
    reads: Mutex<VecDeque<Option<Fault>>>,
}

impl Faults {
    /// What goes wrong with the transaction that begins now and writes.
    pub(crate) fn take(&self) -> Option<Fault> {
        list(&self.writes).pop_front().flatten()
    }

    /// After how many statements the database fails in the transaction that begins now and reads.
    pub(crate) fn take_read(&self) -> Option<u32> {
        match list(&self.reads).pop_front().flatten() {
            Some(Fault::Read(after)) => Some(after),
            Some(Fault::Statement(_) | Fault::Commit | Fault::Answer) | None => None,
        }
    }

    /// Lets the transaction go wrong that comes after `after` others of its kind, and forgets what was to go wrong before.
    pub(crate) fn set(&self, after: usize, fault: Fault) {
        let mut list = match fault {
            Fault::Read(_) => list(&self.reads),
            Fault::Statement(_) | Fault::Commit | Fault::Answer => list(&self.writes),
        };
        list.clear();
        list.extend(std::iter::repeat_n(None, after));
        list.push_back(Some(fault));
    }

    fn clear(&self) {
        list(&self.writes).clear();
        list(&self.reads).clear();
    }
}

fn list(of: &Mutex<VecDeque<Option<Fault>>>) -> MutexGuard<'_, VecDeque<Option<Fault>>> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets one of the next transactions go wrong: the one that comes after `after` others that write, or that read.
pub fn fault(store: &Store, after: usize, fault: Fault) {
    store.faults().set(after, fault);
}

/// How many steps SQLite has taken for a store so far; on PostgreSQL none. What they are is SQLite's own affair: the same
/// work takes the same number of them, on any machine.
pub fn steps(store: &Store) -> u64 {
    store.steps()
}

/// Lets nothing go wrong any more.
pub fn faultless(store: &Store) {
    store.faults().clear();
}

/// A scratch SQLite store in a folder of the caller.
pub fn sqlite(dir: &std::path::Path) -> Result<Store, StoreError> {
    Store::open_sqlite(&dir.join("holdall.sqlite"))
}

/// A scratch database on the PostgreSQL server that `HOLDALL_TEST_POSTGRES` names (`cargo xtask test` starts one);
/// `None` where there is no such server.
pub fn postgres() -> Option<Result<(Store, String), StoreError>> {
    let url = postgres_empty()?;
    Some(url.and_then(|url| Ok((Store::open_postgres(&url)?, url))))
}

/// The URL of a scratch database on that server in which nothing is.
pub fn postgres_empty() -> Option<Result<String, StoreError>> {
    let server = std::env::var("HOLDALL_TEST_POSTGRES").ok()?;
    Some(postgres_at(&server))
}

fn postgres_at(server: &str) -> Result<String, StoreError> {
    let name = format!("t{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let mut admin = postgres::Client::connect(server, postgres::NoTls)?;
    admin.batch_execute(&format!("DROP DATABASE IF EXISTS {name}"))?;
    admin.batch_execute(&format!("CREATE DATABASE {name}"))?;
    let (base, query) = server.split_once('?').map_or((server, None), |(base, query)| (base, Some(query)));
    let root = match base.rfind('/') {
        Some(at) if at > "postgres://".len() => &base[..at],
        _ => base,
    };
    Ok(match query {
        Some(query) => format!("{root}/{name}?{query}"),
        None => format!("{root}/{name}"),
    })
}

/// An empty place for a database, for the tests of this crate.
#[cfg(test)]
pub(crate) struct Scratch {
    pub(crate) database: crate::Database,
    _dir: Option<tempfile::TempDir>,
}

#[cfg(test)]
impl Scratch {
    pub(crate) fn sqlite() -> Scratch {
        let dir = tempfile::tempdir().expect("a folder");
        Scratch { database: crate::Database::Sqlite(dir.path().join("holdall.sqlite")), _dir: Some(dir) }
    }

    fn postgres() -> Option<Scratch> {
        let Some(url) = postgres_empty() else {
            assert!(
                std::env::var_os("HOLDALL_REQUIRE_TOOLS").is_none(),
                "no PostgreSQL server: HOLDALL_TEST_POSTGRES is not set"
            );
            eprintln!("NOT RUN on PostgreSQL: HOLDALL_TEST_POSTGRES is not set; use cargo xtask test");
            return None;
        };
        Some(Scratch { database: crate::Database::Postgres(url.expect("a database")), _dir: None })
    }

    /// One of each kind; only one, loudly, where there is no PostgreSQL.
    pub(crate) fn each() -> Vec<Scratch> {
        std::iter::once(Scratch::sqlite()).chain(Scratch::postgres()).collect()
    }

    /// Another one of the same kind.
    pub(crate) fn like(other: &Scratch) -> Scratch {
        match other.database {
            crate::Database::Sqlite(_) => Scratch::sqlite(),
            crate::Database::Postgres(_) => Scratch::postgres().expect("there was one"),
        }
    }
}

/// Runs a test function `fn(store: Store)` once on SQLite and once on PostgreSQL, as `NAME::sqlite` and
/// `NAME::postgres`. Without a server the second says so, and fails where `HOLDALL_REQUIRE_TOOLS` is set.
#[macro_export]
macro_rules! on_both_databases {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            #[test]
            fn sqlite() {
                let dir = tempfile::tempdir().expect("a folder for the database");
                super::super::$name($crate::testing::sqlite(dir.path()).expect("a store"));
            }

            #[test]
            fn postgres() {
                match $crate::testing::postgres() {
                    Some(store) => super::super::$name(store.expect("a store").0),
                    None => {
                        assert!(
                            std::env::var_os("HOLDALL_REQUIRE_TOOLS").is_none(),
                            "no PostgreSQL server: HOLDALL_TEST_POSTGRES is not set"
                        );
                        eprintln!("NOT RUN on PostgreSQL: HOLDALL_TEST_POSTGRES is not set; use cargo xtask test");
                    }
                }
            }
        }
    )*};
}
