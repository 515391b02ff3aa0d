//! The schema and its migrations: forward only, the same numbers on both databases.

use crate::Tx;
use crate::access::{meta_get, meta_set};
use crate::connection::Connection;
use crate::error::StoreError;
use crate::params;

/// The migrations in order; the position of each, from 1, is its number.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/0001.sql"),
    include_str!("schema/0002.sql"),
    include_str!("schema/0003.sql"),
    include_str!("schema/0004.sql"),
    include_str!("schema/0005.sql"),
    include_str!("schema/0006.sql"),
];

/// Where the database has the version of the program that last changed its schema.
const PROGRAM: &str = "program";

/// The newest schema version that this program knows.
pub const NEWEST: usize = MIGRATIONS.len();

/// A table, as its migration makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Whether the database gives its ids.
    pub gives_ids: bool,
}

/// The tables that a database has at a schema version, each after those that it refers to; one that a later migration
/// makes anew is where it was.
pub fn tables(version: usize) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    let all = MIGRATIONS.iter().take(version).flat_map(|text| text.split("CREATE TABLE ").skip(1));
    for (name, columns) in all.filter_map(|text| text.split_once('(')) {
        let table = Table { name: name.trim(), gives_ids: columns.trim_start().starts_with("id {id}") };
        match tables.iter_mut().find(|known| known.name == table.name) {
            Some(known) => *known = table,
            None => tables.push(table),
        }
    }
    tables
}

/// Brings the database to the newest schema. Refuses one that a newer program wrote.
pub(crate) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    if migrate_to(connection, NEWEST)? {
        connection.begin_write()?;
        sign(&mut Tx::new(connection))?;
        connection.batch("COMMIT")?;
    }
    Ok(())
}

/// Writes down which program last changed the schema.
fn sign(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    meta_set(tx, PROGRAM, env!("CARGO_PKG_VERSION"))
}

/// Brings the database to one schema version, each migration in a transaction of its own; gives whether there was one.
pub(crate) fn migrate_to(connection: &mut Connection, target: usize) -> Result<bool, StoreError> {
    connection.begin_write()?;
    prepare(connection)?;
    connection.batch("COMMIT")?;
    let mut changed = false;
    loop {
        connection.begin_write()?;
        match step(connection, target) {
            Ok(true) => {
                connection.batch("COMMIT")?;
                changed = true;
            }
            Ok(false) => {
                connection.batch("ROLLBACK")?;
                return Ok(changed);
            }
            Err(error) => {
                let _ = connection.batch("ROLLBACK");
                return Err(error);
            }
        }
    }
}

/// Makes an empty database's tables as they were at a schema version, inside the transaction that is under way.
pub(crate) fn make(connection: &mut Connection, version: usize) -> Result<(), StoreError> {
    prepare(connection)?;
    while step(connection, version)? {}
    Ok(())
}

/// Brings the database to the newest schema inside the transaction that is under way.
pub(crate) fn migrate_within(connection: &mut Connection) -> Result<(), StoreError> {
    let mut changed = false;
    while step(connection, NEWEST)? {
        changed = true;
    }
    if changed { sign(&mut Tx::new(connection)) } else { Ok(()) }
}

/// Makes the table that says which migrations the database has had.
fn prepare(connection: &mut Connection) -> Result<(), StoreError> {
    let ddl = connection.ddl("CREATE TABLE IF NOT EXISTS schema_version (version {int} NOT NULL) {strict}");
    connection.batch(&ddl)
}

/// Applies the next migration; gives whether there was one.
fn step(connection: &mut Connection, target: usize) -> Result<bool, StoreError> {
    let found = version(&mut Tx::new(connection))?;
    let known = MIGRATIONS.len() as i64;
    if found > known {
        return Err(newer(&mut Tx::new(connection), found));
    }
    let next = found as usize;
    if next >= target {
        return Ok(false);
    }
    let ddl = connection.ddl(MIGRATIONS[next]);
    connection.batch(&ddl)?;
    let mut tx = Tx::new(connection);
    tx.execute("DELETE FROM schema_version", &[])?;
    tx.execute("INSERT INTO schema_version (version) VALUES (?1)", params![found + 1])?;
    Ok(true)
}

/// Says that a newer program has used the database.
pub(crate) fn newer(tx: &mut Tx<'_>, found: i64) -> StoreError {
    // A schema that is not known may not have that table any more.
    let by = meta_get(tx, PROGRAM).ok().flatten();
    StoreError::Newer { found, by, known: NEWEST as i64 }
}

/// The schema version of the database; 0: none yet.
pub fn version(tx: &mut Tx<'_>) -> Result<i64, StoreError> {
    match tx.query_one("SELECT version FROM schema_version", &[])? {
        Some(row) => row.get(0),
        None => Ok(0),
    }
}

#[cfg(test)]
pub(crate) mod tests;
