//! A store for tests, on either database: the whole suite runs on both. [`load`] fills one for measurements.

pub mod load;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Store, StoreError};

static NEXT: AtomicU64 = AtomicU64::new(0);

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
