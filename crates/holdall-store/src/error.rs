//! What can go wrong in the store, and whether trying again may help.

/// An error of the store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached or is busy; the transaction was not carried out. Trying again may help.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// The database went away while it was asked to keep what a transaction wrote: nobody knows whether it did. Who
    /// tries again looks first.
    #[error("the database went away, and may have kept what was written or not: {0}")]
    Unknown(String),
    /// There is no room left on the disk of the database; nothing was written.
    #[error("the database's disk is full: {0}; free some space, nothing was lost")]
    DiskFull(String),
    /// The database refuses to be written.
    #[error("the database cannot be written: {0}; check the owner and the mode of the data folder")]
    ReadOnly(String),
    /// The database file is damaged.
    #[error("the database is damaged: {0}; restore it from a backup")]
    Corrupt(String),
    /// The database was written by a newer version of Holdall.
    #[error("the database has schema version {found}{}", newer(by.as_deref(), *known))]
    Newer {
        /// The version that the database has.
        found: i64,
        /// The version of the program that gave it, as far as it can be read.
        by: Option<String>,
        /// The newest version that this program knows.
        known: i64,
    },
    /// A value in the database is not what the program wrote: a bug, or somebody else's hand.
    #[error("inconsistent data in the database: {0}")]
    Inconsistent(String),
    /// A statement was refused: a bug.
    #[error("a statement failed: {0}")]
    Statement(String),
}

fn newer(by: Option<&str>, known: i64) -> String {
    let own = env!("CARGO_PKG_VERSION");
    match by {
        Some(by) => format!(
            ", which holdall {by} gave it, and this holdall {own} knows {known} at most; use holdall {by} or newer"
        ),
        None => format!(", and this holdall {own} knows {known} at most; use a newer holdall"),
    }
}

impl StoreError {
    /// Whether the same work may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, StoreError::Unavailable(_) | StoreError::Unknown(_) | StoreError::DiskFull(_))
    }

    /// Whether what was asked for is at fault, or the data that it is about: other work may succeed at the same time.
    pub fn is_confined(&self) -> bool {
        matches!(self, StoreError::Corrupt(_) | StoreError::Inconsistent(_) | StoreError::Statement(_))
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        use rusqlite::ErrorCode;
        let text = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::SystemIoFailure) => {
                StoreError::Unavailable(text)
            }
            Some(ErrorCode::DiskFull) => StoreError::DiskFull(text),
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                StoreError::ReadOnly(text)
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Corrupt(text),
            _ => StoreError::Statement(text),
        }
    }
}

impl From<postgres::Error> for StoreError {
    fn from(error: postgres::Error) -> StoreError {
        let text = match error.as_db_error() {
            Some(db) => format!("{}: {}", db.code().code(), db.message()),
            None => match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            },
        };
        match error.code().map(|code| code.code().to_owned()) {
            // Classes 08 (connection), 57 (operator intervention), 40 (serialisation) of the SQL standard.
            Some(code) if code.starts_with("08") || code.starts_with("57") || code.starts_with("40") => {
                StoreError::Unavailable(text)
            }
            Some(code) if code == "53100" => StoreError::DiskFull(text),
            Some(code) if code == "25006" => StoreError::ReadOnly(text),
            Some(_) => StoreError::Statement(text),
            None => StoreError::Unavailable(text),
        }
    }
}
