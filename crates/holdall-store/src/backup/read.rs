//! Reading backups: checking one, and restoring a database from it. What [`super::write`] wrote is believed only when
//! its last line says that all of it is there.

use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use super::{BackupError, EndLine, FORMAT, Header, TableLine, Written, hex};
use crate::connection::{Connection, Tx, quoted};
use crate::value::Value;
use crate::{Database, StoreError, schema};

/// The longest line that is read: the largest row is a few megabytes of output.
const MAX_LINE: u64 = 256 << 20;

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored<T> {
    /// What the backup says of itself, and how many rows it had.
    pub backup: Written,
    /// What was done after the rows were there.
    pub after: T,
}

/// A line after the header.
enum Line {
    Row(Vec<Cell>),
    Table(TableLine),
    End(EndLine),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Cell {
    Int(i64),
    Text(String),
    Bytes { b: String },
    Null(()),
}

/// Lines with their numbers and their sum.
struct Lines<'i> {
    input: &'i mut dyn BufRead,
    hash: Sha256,
    /// The sum of all lines before the last one that was read.
    before: Sha256,
    number: u64,
    line: Vec<u8>,
}

impl Lines<'_> {
    fn new(input: &mut dyn BufRead) -> Lines<'_> {
        Lines { input, hash: Sha256::new(), before: Sha256::new(), number: 0, line: Vec::new() }
    }

    /// Reads the next line; an end before it says that the backup is cut short.
    fn read(&mut self) -> Result<&[u8], BackupError> {
        self.line.clear();
        let mut limited = Read::take(&mut *self.input, MAX_LINE);
        limited.read_until(b'\n', &mut self.line).map_err(BackupError::Read)?;
        if self.line.last() != Some(&b'\n') {
            if self.line.len() as u64 == MAX_LINE {
                self.number += 1;
                return Err(self.damaged("it is longer than any that holdall writes"));
            }
            return Err(BackupError::CutShort(self.number));
        }
        self.number += 1;
        self.before = self.hash.clone();
        self.hash.update(&self.line);
        Ok(&self.line)
    }

    fn damaged(&self, why: impl std::fmt::Display) -> BackupError {
        BackupError::Damaged { line: self.number, why: why.to_string() }
    }

    /// The line that was read, which is not the first.
    fn parsed(&self) -> Result<Line, BackupError> {
        let wrong = |error: serde_json::Error| self.damaged(error);
        if self.line.first() == Some(&b'[') {
            return serde_json::from_slice(&self.line).map(Line::Row).map_err(wrong);
        }
        let line: Json = serde_json::from_slice(&self.line).map_err(wrong)?;
        match line.get("table") {
            Some(_) => serde_json::from_value(line).map(Line::Table).map_err(wrong),
            None => serde_json::from_value(line).map(Line::End).map_err(wrong),
        }
    }

    /// Reads the first line.
    fn header(&mut self) -> Result<Header, BackupError> {
        if let Err(error) = self.read() {
            return Err(match error {
                BackupError::CutShort(_) => BackupError::Damaged { line: 1, why: "there is no whole line".to_owned() },
                other => other,
            });
        }
        let first: Json = serde_json::from_slice(&self.line).map_err(|error| self.damaged(error))?;
        match first.get("holdall_backup").and_then(Json::as_u64) {
            None => return Err(self.damaged("it does not begin with `holdall_backup`")),
            Some(format) if format != u64::from(FORMAT) => {
                return Err(self.damaged(format!("its format is {format}, this holdall knows {FORMAT}")));
            }
            Some(_) => {}
        }
        let header: Header = serde_json::from_value(first).map_err(|error| self.damaged(error))?;
        let known = schema::NEWEST as i64;
        if header.schema > known {
            return Err(BackupError::Newer { found: header.schema, known, program: header.program });
        }
        Ok(header)
    }

    /// The last line must say what was read, and nothing may come after it.
    fn end(&mut self, end: &EndLine, rows: u64) -> Result<(), BackupError> {
        if end.rows != rows {
            return Err(self.damaged(format!("it says {} rows, and there are {rows}", end.rows)));
        }
        if end.sha256 != hex(&self.before.clone().finalize()) {
            return Err(self.damaged("the SHA-256 of what comes before it is another one: something was changed"));
        }
        match self.input.fill_buf().map_err(BackupError::Read)? {
            [] => Ok(()),
            _ => {
                self.number += 1;
                Err(self.damaged("it comes after the end"))
            }
        }
    }
}

/// Reads a backup to its end and looks whether all of it is there, unchanged.
///
/// # Errors
///
/// What is wrong with it, and where.
pub fn verify(input: &mut dyn BufRead) -> Result<Written, BackupError> {
    let mut lines = Lines::new(input);
    let header = lines.header()?;
    let mut rows = 0;
    loop {
        // A row need not be understood for that.
        if lines.read()?.first() == Some(&b'[') {
            rows += 1;
            continue;
        }
        match lines.parsed()? {
            Line::Row(_) | Line::Table(_) => {}
            Line::End(end) => {
                lines.end(&end, rows)?;
                return Ok(Written { header, rows });
            }
        }
    }
}

/// Restores an empty place from a backup, brings its schema up to date, and does `after` with it. All of it is one
/// transaction: either everything is there in the end, or the place is as empty as before. With `keep` false it is
/// undone in the end, to see what would be done.
///
/// # Errors
///
/// The place is not empty, the backup is damaged or of a newer program, the database fails, or `after` does. With
/// [`BackupError::Unknown`] all of it may be there nevertheless.
pub fn restore<T>(
    database: &Database,
    input: &mut dyn BufRead,
    keep: bool,
    after: impl FnOnce(&mut Tx<'_>, &Header) -> Result<T, StoreError>,
) -> Result<Restored<T>, BackupError> {
    match database {
        Database::Postgres(url) => {
            let mut connection = Connection::postgres(url)?;
            fill(&mut connection, input, keep, after)
        }
        Database::Sqlite(path) => {
            for name in ["", "-wal", "-shm"] {
                let there = beside(path, name);
                if there.exists() {
                    return Err(BackupError::NotEmpty(there.display().to_string()));
                }
            }
            // What is not whole never has the name that a server opens.
            let scratch = Scratch(beside(path, ".restoring"));
            scratch.remove();
            let mut connection = Connection::sqlite(&scratch.0, false)?;
            let restored = fill(&mut connection, input, keep, after)?;
            connection.batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode=DELETE")?;
            drop(connection);
            if keep {
                move_into_place(&scratch.0, path).map_err(BackupError::Write)?;
            }
            Ok(restored)
        }
    }
}

/// A file of SQLite's that goes when nobody wants it any more.
struct Scratch(PathBuf);

impl Scratch {
    fn remove(&self) {
        for name in ["", "-wal", "-shm", "-journal"] {
            // There may be none.
            let _ = std::fs::remove_file(beside(&self.0, name));
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.remove();
    }
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

fn move_into_place(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::File::open(from)?.sync_all()?;
    std::fs::rename(from, to)?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all()
}

fn fill<T>(
    connection: &mut Connection,
    input: &mut dyn BufRead,
    keep: bool,
    after: impl FnOnce(&mut Tx<'_>, &Header) -> Result<T, StoreError>,
) -> Result<Restored<T>, BackupError> {
    connection.begin_write()?;
    let filled = fill_within(connection, input, after);
    match &filled {
        Ok(_) if keep => connection.commit().map_err(|error| match error {
            StoreError::Unknown(why) => BackupError::Unknown(why),
            other => other.into(),
        })?,
        // A failure of undoing what failed says nothing new.
        Ok(_) | Err(_) => drop(connection.batch("ROLLBACK")),
    }
    filled
}

fn fill_within<T>(
    connection: &mut Connection,
    input: &mut dyn BufRead,
    after: impl FnOnce(&mut Tx<'_>, &Header) -> Result<T, StoreError>,
) -> Result<Restored<T>, BackupError> {
    if let Some(table) = Tx::new(connection).tables()?.first() {
        return Err(BackupError::NotEmpty(format!("the database, which has a table `{table}`,")));
    }
    let mut lines = Lines::new(input);
    let header = lines.header()?;
    schema::make(connection, usize::try_from(header.schema).unwrap_or(0))?;
    let rows = insert_rows(&mut Tx::new(connection), &mut lines, &header)?;
    schema::migrate_within(connection)?;
    let after = after(&mut Tx::new(connection), &header)?;
    Ok(Restored { backup: Written { header, rows }, after })
}

/// Inserts the rows of all tables; gives how many there were.
fn insert_rows(tx: &mut Tx<'_>, lines: &mut Lines<'_>, header: &Header) -> Result<u64, BackupError> {
    let mut missing = schema::tables(usize::try_from(header.schema).unwrap_or(0));
    let mut insert = String::new();
    let mut width = 0;
    let mut rows = 0;
    loop {
        lines.read()?;
        match lines.parsed()? {
            Line::Row(cells) => {
                if cells.len() != width {
                    return Err(lines.damaged(format!("a row has {} values for {width} columns", cells.len())));
                }
                let values = values(cells).ok_or_else(|| lines.damaged("bytes are not base64"))?;
                tx.execute(&insert, &values).map_err(|error| match error {
                    StoreError::Statement(why) => lines.damaged(why),
                    other => other.into(),
                })?;
                rows += 1;
            }
            Line::Table(line) => {
                let place = missing.iter().position(|table| table.name == line.table);
                let Some(place) = place else {
                    return Err(lines.damaged(format!("there is no table `{}`, or it came before", line.table)));
                };
                let table = missing.remove(place);
                let known = tx.columns(table.name)?;
                if let Some(column) = line.columns.iter().find(|column| !known.contains(column)) {
                    return Err(lines.damaged(format!("the table `{}` has no column `{column}`", table.name)));
                }
                width = line.columns.len();
                let named: Vec<String> = line.columns.iter().map(|column| quoted(column)).collect();
                let places: Vec<String> = (1..=width).map(|place| format!("?{place}")).collect();
                let (named, places) = (named.join(", "), places.join(", "));
                insert = format!("INSERT INTO {} ({named}) VALUES ({places})", quoted(table.name));
                if let (true, Some(next)) = (table.gives_ids, line.next) {
                    // Giving ids by hand moves SQLite's own count forward at most.
                    tx.set_next_id(table.name, next)?;
                }
            }
            Line::End(end) => {
                lines.end(&end, rows)?;
                return match missing.first() {
                    None => Ok(rows),
                    Some(table) => Err(lines.damaged(format!("the table `{}` is missing", table.name))),
                };
            }
        }
    }
}

fn values(cells: Vec<Cell>) -> Option<Vec<Value>> {
    let value = |cell| {
        Some(match cell {
            Cell::Null(()) => Value::Null,
            Cell::Int(n) => Value::Int(n),
            Cell::Text(text) => Value::Text(text),
            Cell::Bytes { b } => Value::Blob(STANDARD.decode(b).ok()?),
        })
    };
    cells.into_iter().map(value).collect()
}
