//! Backups of a server that need not run, and restoring one where no server is.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use holdall_store::Database;
use holdall_store::backup::{self, BackupError, Restored, Written};

use super::folder::Folder;
use super::{ServeError, database_file, without_password};
use crate::epoch::{self, Begun};
use crate::lifecycle::now;

/// Where a server keeps, or will keep, what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Site {
    /// SQLite in a data folder.
    Folder(PathBuf),
    /// A PostgreSQL database.
    Postgres(String),
}

impl Site {
    fn database(&self) -> Database {
        match self {
            Site::Folder(dir) => Database::Sqlite(database_file(dir)),
            Site::Postgres(url) => Database::Postgres(url.clone()),
        }
    }
}

impl std::fmt::Display for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Site::Folder(dir) => write!(f, "{}", database_file(dir).display()),
            Site::Postgres(url) => f.write_str(&without_password(url)),
        }
    }
}

/// Why there is no backup, or nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// The folder cannot be used, or a server uses it.
    #[error(transparent)]
    Folder(#[from] ServeError),
    /// There is nothing.
    #[error(
        "there is no database in the data folder {}; give --database where the server uses PostgreSQL", .0.display()
    )]
    Nothing(PathBuf),
    /// The backup is none that can be restored.
    #[error(transparent)]
    File(BackupError),
    /// The database, or what the backup is written to.
    #[error("{site}: {source}")]
    Backup {
        /// Which database.
        site: String,
        /// What is wrong.
        source: BackupError,
    },
}

/// Writes a backup of what is at a site, whether a server runs there or not.
///
/// # Errors
///
/// There is nothing, or it cannot be read or written.
pub fn back_up(site: &Site, out: &mut dyn Write) -> Result<Written, SiteError> {
    if let Site::Folder(dir) = site
        && !database_file(dir).exists()
    {
        return Err(SiteError::Nothing(dir.clone()));
    }
    let fails = |source| SiteError::Backup { site: site.to_string(), source };
    backup::write(&site.database(), now(), out).map_err(fails)
}

/// Restores a backup at a site where there is nothing, and begins a new epoch there. `name`: what the backup is called
/// in the audit log. Without `keep` it only says what it would do.
///
/// # Errors
///
/// The site is in use or not empty, or the backup is not good. Then nothing has changed.
pub fn restore(site: &Site, name: &str, input: &mut dyn BufRead, keep: bool) -> Result<Restored<Begun>, SiteError> {
    let fails = |source| SiteError::Backup { site: site.to_string(), source };
    let folder = match site {
        Site::Folder(dir) => Some((dir.exists(), Folder::open(dir)?)),
        Site::Postgres(_) => None,
    };
    let restored = backup::restore(&site.database(), input, keep, |tx, header| {
        epoch::begin(tx, &format!("{name}, a backup of {}, was restored", utc(header.taken_at)), now())
    });
    if let (Some((false, _)), Site::Folder(dir)) = (&folder, site)
        && (restored.is_err() || !keep)
    {
        unmake(dir);
    }
    restored.map_err(|source| match source {
        BackupError::Read(_) | BackupError::Damaged { .. } | BackupError::CutShort(_) | BackupError::Newer { .. } => {
            SiteError::File(source)
        }
        BackupError::Store(_)
        | BackupError::Unknown(_)
        | BackupError::Write(_)
        | BackupError::NotEmpty(_)
        | BackupError::Refused(_) => fails(source),
    })
}

/// Removes a folder that was made for nothing.
fn unmake(dir: &Path) {
    // One that holds something else after all stays.
    let _ = std::fs::remove_file(dir.join("lock"));
    let _ = std::fs::remove_dir(dir);
}

/// A time as `2026-11-24T10:15:02Z`.
fn utc(micros: i64) -> String {
    jiff::Timestamp::from_microsecond(micros)
        .map_or_else(|_| micros.to_string(), |at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}
