//! Backups: everything that a database holds, as text that either database is restored from.
//!
//! A backup is JSON, one value a line: a [`Header`]; for each table an object with its name, its columns and the id
//! that its next row gets, then its rows as arrays, bytes as `{"b": BASE64}`; and an object that says how many rows
//! there were and what the SHA-256 of all before it is. A file without that last line is cut short and is refused.
//! It is written from one snapshot, beside a server that runs, and neither it nor a restore needs more memory than the
//! largest row.

mod read;

use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use holdall_engine::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use crate::connection::{Tx, quoted};
use crate::schema::{self, Table};
use crate::value::{Row, Value};
use crate::{Database, StoreError, epoch};

pub use read::{Restored, restore, verify};

/// The version of the format.
const FORMAT: u32 = 1;

/// The first line of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The version of the format.
    pub holdall_backup: u32,
    /// The schema version of the tables.
    pub schema: i64,
    /// The program that wrote it.
    pub program: String,
    /// When, in microseconds since 1970.
    pub taken_at: i64,
    /// The epoch of the history.
    pub epoch: i64,
}

/// What stands before the rows of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TableLine {
    table: String,
    columns: Vec<String>,
    /// The id that the next row gets, where the database gives them.
    next: Option<i64>,
}

/// The last line of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EndLine {
    rows: u64,
    sha256: String,
}

/// Why a backup was not written, or nothing was restored from it.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The backup could not be written.
    #[error("the backup cannot be written: {0}")]
    Write(#[source] io::Error),
    /// The backup could not be read.
    #[error("the backup cannot be read: {0}")]
    Read(#[source] io::Error),
    /// It is something else, or was changed.
    #[error("line {line} is not of a backup of holdall: {why}")]
    Damaged {
        /// Which line.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The database went away while it was asked to keep what was restored.
    #[error(
        "the database went away at the last moment, and has all of the backup now or nothing: {0}; restore it once more: \
         that is refused, as not empty, where it has all of it"
    )]
    Unknown(String),
    /// Its end is missing.
    #[error("the backup ends after line {0} and is cut short")]
    CutShort(u64),
    /// A newer program wrote it.
    #[error(
        "the backup has schema version {found} and was written by holdall {program}, this holdall knows {known} at \
         most; use a newer holdall"
    )]
    Newer {
        /// Its schema version.
        found: i64,
        /// The newest that is known.
        known: i64,
        /// Who wrote it.
        program: String,
    },
    /// There is something already where it is to be restored.
    #[error("{0} is not empty; restore into a new place, or move what is there away first")]
    NotEmpty(String),
    /// What was to be done after the rows were there was not done.
    #[error("{0}")]
    Refused(String),
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The backup's first line.
    pub header: Header,
    /// How many rows of all tables.
    pub rows: u64,
}

/// Writes a backup of a database, whether a server uses it or not; its schema stays as it is.
///
/// # Errors
///
/// There is no database of Holdall, it is of a newer one, or the backup cannot be written.
pub fn write(database: &Database, now: Timestamp, out: &mut dyn Write) -> Result<Written, BackupError> {
    let mut connection = database.connect(true)?;
    connection.begin_read()?;
    let mut tx = Tx::new(&mut connection);
    let found = match tx.tables()?.iter().any(|table| table == "schema_version") {
        true => schema::version(&mut tx)?,
        false => 0,
    };
    let known = schema::NEWEST as i64;
    if found > known {
        return Err(schema::newer(&mut tx, found).into());
    }
    let mut tables = schema::tables(usize::try_from(found).unwrap_or(0));
    if tables.is_empty() {
        return Err(BackupError::Refused("there is no database of holdall: nothing was ever kept in it".to_owned()));
    }
    let header = Header {
        holdall_backup: FORMAT,
        schema: found,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        taken_at: now.0,
        epoch: epoch::current(&mut tx)?.number,
    };
    let mut writer = Writer { out, hash: Sha256::new(), rows: 0 };
    writer.line(&header)?;
    for table in tables.drain(..) {
        write_table(&mut tx, table, &mut writer)?;
    }
    let rows = writer.rows;
    let sha256 = hex(&writer.hash.clone().finalize());
    writer.line(&EndLine { rows, sha256 })?;
    writer.out.flush().map_err(BackupError::Write)?;
    Ok(Written { header, rows })
}

fn write_table(tx: &mut Tx<'_>, table: Table, writer: &mut Writer<'_>) -> Result<(), BackupError> {
    let columns = tx.columns(table.name)?;
    let next = table.gives_ids.then(|| tx.next_id(table.name)).transpose()?;
    let named: Vec<String> = columns.iter().map(|column| quoted(column)).collect();
    let sql = format!("SELECT {} FROM {}", named.join(", "), quoted(table.name));
    writer.line(&TableLine { table: table.name.to_owned(), columns, next })?;
    tx.each(&sql, |row| {
        writer.rows += 1;
        writer.line(&row_json(row))
    })
}

fn row_json(Row(values): Row) -> Vec<Json> {
    let json = |value| match value {
        Value::Null => Json::Null,
        Value::Int(n) => Json::from(n),
        Value::Text(text) => Json::String(text),
        Value::Blob(bytes) => serde_json::json!({ "b": STANDARD.encode(bytes) }),
    };
    values.into_iter().map(json).collect()
}

/// Writes lines and keeps their sum.
struct Writer<'o> {
    out: &'o mut dyn Write,
    hash: Sha256,
    rows: u64,
}

impl Writer<'_> {
    fn line(&mut self, value: &impl Serialize) -> Result<(), BackupError> {
        let mut line = serde_json::to_vec(value).map_err(|error| BackupError::Write(error.into()))?;
        line.push(b'\n');
        self.hash.update(&line);
        self.out.write_all(&line).map_err(BackupError::Write)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
