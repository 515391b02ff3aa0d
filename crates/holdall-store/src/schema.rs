//! The schema and its migrations: forward only, the same numbers on both databases.

use crate::Tx;
use crate::connection::Connection;
use crate::error::StoreError;
use crate::params;

/// The migrations in order; the position of each, from 1, is its number.
const MIGRATIONS: &[&str] = &[include_str!("schema/0001.sql")];

/// Brings the database to the newest schema. Refuses one that a newer program wrote.
pub(crate) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    migrate_to(connection, MIGRATIONS.len())
}

/// Brings the database to one schema version, each migration in a transaction of its own.
pub(crate) fn migrate_to(connection: &mut Connection, target: usize) -> Result<(), StoreError> {
    connection.begin_write()?;
    let ddl = connection.ddl("CREATE TABLE IF NOT EXISTS schema_version (version {int} NOT NULL) {strict}");
    connection.batch(&ddl)?;
    connection.batch("COMMIT")?;
    loop {
        connection.begin_write()?;
        match step(connection, target) {
            Ok(true) => connection.batch("COMMIT")?,
            Ok(false) => return connection.batch("ROLLBACK"),
            Err(error) => {
                let _ = connection.batch("ROLLBACK");
                return Err(error);
            }
        }
    }
}

/// Applies the next migration; gives whether there was one.
fn step(connection: &mut Connection, target: usize) -> Result<bool, StoreError> {
    let found = version(&mut Tx::new(connection))?;
    let known = MIGRATIONS.len() as i64;
    if found > known {
        return Err(StoreError::Newer { found, known });
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

/// The schema version of the database; 0: none yet.
pub fn version(tx: &mut Tx<'_>) -> Result<i64, StoreError> {
    match tx.query_one("SELECT version FROM schema_version", &[])? {
        Some(row) => row.get(0),
        None => Ok(0),
    }
}
