//! Systems: their files and what they say.

use holdall_engine::ids::SystemId;
use holdall_engine::time::Timestamp;

use crate::params;
use crate::value::Row;
use crate::{Signal, StoreError, Tx};

/// A system.
#[derive(Debug, Clone)]
pub struct SystemRow {
    /// Its id.
    pub id: SystemId,
    /// Its name.
    pub name: String,
    /// The file as it was set.
    pub text: String,
    /// The vars it was set with: JSON object.
    pub vars: String,
    /// What the file says: JSON.
    pub model: String,
    /// Grows with each change.
    pub revision: i64,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

const COLUMNS: &str = "id, name, text, vars, model, revision, updated_at";

fn from_row(row: &Row) -> Result<SystemRow, StoreError> {
    Ok(SystemRow {
        id: row.get(0)?,
        name: row.get(1)?,
        text: row.get(2)?,
        vars: row.get(3)?,
        model: row.get(4)?,
        revision: row.get(5)?,
        updated_at: row.get(6)?,
    })
}

/// A system by its name.
pub fn system_find(tx: &mut Tx<'_>, name: &str) -> Result<Option<SystemRow>, StoreError> {
    tx.query_one(&format!("SELECT {COLUMNS} FROM system WHERE name = ?1 AND active = 1"), params![name])?
        .map(|row| from_row(&row))
        .transpose()
}

/// A system by its id.
pub fn system_get(tx: &mut Tx<'_>, id: SystemId) -> Result<SystemRow, StoreError> {
    let row = tx
        .query_one(&format!("SELECT {COLUMNS} FROM system WHERE id = ?1"), params![id])?
        .ok_or_else(|| StoreError::Inconsistent(format!("system {id} is gone")))?;
    from_row(&row)
}

/// All systems, by name.
pub fn system_list(tx: &mut Tx<'_>) -> Result<Vec<SystemRow>, StoreError> {
    tx.query(&format!("SELECT {COLUMNS} FROM system WHERE active = 1 ORDER BY name"), &[])?
        .iter()
        .map(from_row)
        .collect()
}

/// Saves a system's file and what it says; one that was destroyed comes back with its history.
pub fn system_save(
    tx: &mut Tx<'_>,
    name: &str,
    text: &str,
    vars: &str,
    model: &str,
    now: Timestamp,
) -> Result<SystemId, StoreError> {
    let id = tx.insert(
        "INSERT INTO system (name, text, vars, model, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?5) \
         ON CONFLICT (name) DO UPDATE SET text = excluded.text, vars = excluded.vars, model = excluded.model, \
         revision = system.revision + 1, active = 1, updated_at = excluded.updated_at RETURNING id",
        params![name, text, vars, model, now],
    )?;
    tx.signal(Signal::Board);
    Ok(SystemId(id))
}

/// Takes a system out of use; its bags, tags and builds stay.
pub fn system_destroy(tx: &mut Tx<'_>, id: SystemId, now: Timestamp) -> Result<(), StoreError> {
    tx.execute("UPDATE system SET active = 0, updated_at = ?2 WHERE id = ?1", params![id, now])?;
    tx.execute("UPDATE environment SET active = 0 WHERE system_id = ?1", params![id])?;
    tx.signal(Signal::Board);
    Ok(())
}

/// The number that the next bag will get, without taking it.
pub fn system_next_bag(tx: &mut Tx<'_>, id: SystemId) -> Result<i64, StoreError> {
    tx.query_one("SELECT next_bag FROM system WHERE id = ?1", params![id])?
        .ok_or_else(|| StoreError::Inconsistent(format!("system {id} is gone")))?
        .get(0)
}
