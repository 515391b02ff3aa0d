//! Teams, tokens, and what there is one of.

use holdall_engine::ids::TeamId;
use holdall_engine::time::Timestamp;

use crate::params;
use crate::{StoreError, Tx};

/// A token, without its secret.
#[derive(Debug, Clone)]
pub struct TokenRow {
    /// Whom the audit log shows.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom; `None`: by the server.
    pub created_by: Option<String>,
    /// When it was last used, give or take a minute.
    pub used_at: Option<Timestamp>,
}

/// The team of that name, made where there is none.
pub fn team_ensure(tx: &mut Tx<'_>, name: &str) -> Result<TeamId, StoreError> {
    if let Some(row) = tx.query_one("SELECT id FROM team WHERE name = ?1", params![name])? {
        return row.get(0);
    }
    Ok(TeamId(tx.insert("INSERT INTO team (name) VALUES (?1) RETURNING id", params![name])?))
}

/// Keeps a token's hash (SHA-256 in hexadecimal) under a name.
pub fn token_create(tx: &mut Tx<'_>, name: &str, hash: &str, now: Timestamp) -> Result<(), StoreError> {
    tx.execute("INSERT INTO token (name, hash, created_at) VALUES (?1, ?2, ?3)", params![name, hash, now])?;
    Ok(())
}

/// The name of the token with that hash.
pub fn token_find(tx: &mut Tx<'_>, hash: &str) -> Result<Option<String>, StoreError> {
    tx.query_one("SELECT name FROM token WHERE hash = ?1", params![hash])?.map(|row| row.get(0)).transpose()
}

/// All tokens, oldest first.
pub fn token_list(tx: &mut Tx<'_>) -> Result<Vec<TokenRow>, StoreError> {
    tx.query("SELECT name, created_at, created_by, used_at FROM token ORDER BY id", &[])?
        .iter()
        .map(|row| {
            Ok(TokenRow { name: row.get(0)?, created_at: row.get(1)?, created_by: row.get(2)?, used_at: row.get(3)? })
        })
        .collect()
}

/// Remembers who made a token.
pub fn token_made_by(tx: &mut Tx<'_>, hash: &str, by: &str) -> Result<(), StoreError> {
    tx.execute("UPDATE token SET created_by = ?2 WHERE hash = ?1", params![hash, by])?;
    Ok(())
}

/// Notes that a token was used.
pub fn token_used(tx: &mut Tx<'_>, hash: &str, at: Timestamp) -> Result<(), StoreError> {
    tx.execute("UPDATE token SET used_at = ?2 WHERE hash = ?1", params![hash, at])?;
    Ok(())
}

/// Deletes the tokens of a name; gives whether there was one.
pub fn token_delete(tx: &mut Tx<'_>, name: &str) -> Result<bool, StoreError> {
    Ok(tx.execute("DELETE FROM token WHERE name = ?1", params![name])? > 0)
}

/// A value of the installation.
pub fn meta_get(tx: &mut Tx<'_>, key: &str) -> Result<Option<String>, StoreError> {
    tx.query_one("SELECT value FROM meta WHERE key = ?1", params![key])?.map(|row| row.get(0)).transpose()
}

/// Sets a value of the installation.
pub fn meta_set(tx: &mut Tx<'_>, key: &str, value: &str) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        params![key, value],
    )?;
    Ok(())
}
