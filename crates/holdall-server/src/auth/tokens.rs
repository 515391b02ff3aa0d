//! Tokens: random secrets of which the store has only the hash.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use holdall_engine::version::hex;
use holdall_store::{Store, StoreError, access};
use sha2::{Digest, Sha256};

use crate::lifecycle::now;

/// How long a token that was found is believed without asking the store again. A token that is deleted on this server
/// is forgotten at once.
const REMEMBER: Duration = Duration::from_secs(60);

/// How many tokens are remembered.
const MOST: usize = 1000;

/// A new secret: 256 random bits, with a prefix that scanners for leaked secrets can find.
///
/// # Errors
///
/// The operating system gives no randomness.
pub fn new_secret() -> std::io::Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(format!("holdall_{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// What the store has of a secret: SHA-256 in hexadecimal. The secret is random, so that no salt is needed.
pub fn secret_hash(secret: &str) -> String {
    hex(&Sha256::digest(secret))
}

/// Whether two secrets are the same. How long it takes says nothing about them: only their hashes are compared.
pub fn same_secret(left: &str, right: &str) -> bool {
    Sha256::digest(left) == Sha256::digest(right)
}

/// Finds out whose a token is.
#[derive(Debug, Default)]
pub struct Tokens {
    known: Mutex<HashMap<String, (String, Instant)>>,
}

impl Tokens {
    /// The name of a token, where the store has it.
    pub async fn name_of(&self, store: &Store, token: &str) -> Result<Option<String>, StoreError> {
        let hash = secret_hash(token);
        let remembered = self.known().get(&hash).filter(|(_, since)| since.elapsed() < REMEMBER).cloned();
        if let Some((name, _)) = remembered {
            return Ok(Some(name));
        }
        let asked = hash.clone();
        let Some(name) = store.read(move |tx| access::token_find(tx, &asked)).await? else { return Ok(None) };
        {
            let mut known = self.known();
            if known.len() >= MOST {
                known.clear();
            }
            known.insert(hash.clone(), (name.clone(), Instant::now()));
        }
        let at = now();
        // Whoever may come in may do so also when nothing can be written.
        if let Err(error) = store.write(move |tx| access::token_used(tx, &hash, at)).await {
            tracing::debug!(token = %name, "the use of a token was not written down: {error}");
        }
        Ok(Some(name))
    }

    /// Forgets everything: a token was deleted.
    pub fn forget(&self) {
        self.known().clear();
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, (String, Instant)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_long_and_never_the_same() {
        let (one, other) = (new_secret().unwrap(), new_secret().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.len(), "holdall_".len() + 43);
        assert!(same_secret(&one, &one.clone()) && !same_secret(&one, &other) && !same_secret("", &one));
        assert_eq!(secret_hash(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
