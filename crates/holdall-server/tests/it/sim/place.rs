//! Where a history keeps its database: each has one of its own, which is gone with it.

use std::path::Path;

use holdall_store::{Store, StoreError};

/// A place for one database.
pub enum Place {
    Sqlite(tempfile::TempDir),
    Postgres(String),
}

impl Place {
    /// A folder in memory, where there is one: nothing here is about disks.
    pub fn sqlite() -> Place {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        Place::Sqlite(dir.expect("a folder"))
    }

    /// A database of the server that the tests have; `None` where they have none.
    pub fn postgres() -> Option<Place> {
        let (_, url) = holdall_store::testing::postgres()?.expect("a database");
        Some(Place::Postgres(url))
    }

    pub fn open(&self) -> Result<Store, StoreError> {
        match self {
            Place::Sqlite(dir) => holdall_store::testing::sqlite(dir.path()),
            Place::Postgres(url) => Store::open_postgres(url),
        }
    }
}
