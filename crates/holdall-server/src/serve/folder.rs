//! The data folder: whose it is, and the tokens in it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use holdall_store::{Store, access};

use super::ServeError;
use crate::auth::{new_secret, secret_hash};
use crate::lifecycle::now;

/// A data folder that this process has for itself, until it is dropped.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Locked; the operating system unlocks it when the process ends, however it ends.
    _lock: File,
}

/// A server with a worker inside that is killed while it starts a program may leave a copy of itself, which was to become
/// that program and has the lock until then: so long it is waited for.
const COPY_LIVES: Duration = Duration::from_secs(2);

/// How often it is looked whether the lock is free.
const LOOK: Duration = Duration::from_millis(20);

impl Folder {
    /// Takes a data folder, and makes it, for its owner only, where there is none.
    pub(super) fn open(path: &Path) -> Result<Folder, ServeError> {
        let fails = |path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| ServeError::DataDir { path, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(fails(path))?;
        let lock_file = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_file)
            .map_err(fails(&lock_file))?;
        let begun = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {
                    let pid = fs::read_to_string(&lock_file).ok().map(|pid| pid.trim().to_owned());
                    let pid = pid.filter(|pid| !pid.is_empty());
                    let is_gone = pid.as_ref().is_some_and(|pid| !Path::new("/proc").join(pid).exists());
                    if !is_gone || begun.elapsed() > COPY_LIVES {
                        return Err(ServeError::InUse { path: path.to_owned(), pid });
                    }
                    std::thread::sleep(LOOK);
                }
                Err(TryLockError::Error(source)) => return Err(fails(&lock_file)(source)),
            }
        }
        lock.set_len(0).map_err(fails(&lock_file))?;
        lock.write_all(format!("{}\n", std::process::id()).as_bytes()).map_err(fails(&lock_file))?;
        Ok(Folder { path: path.to_owned(), _lock: lock })
    }

    /// Something in the folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The secret in a file, made where there is none.
    pub(super) fn secret(&self, file: &str) -> Result<String, ServeError> {
        let path = self.path(file);
        let fails = |source: io::Error| ServeError::DataDir { path: path.clone(), source };
        match fs::read_to_string(&path) {
            Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
            Ok(_) => write_secret(&path).map_err(fails),
            Err(error) if error.kind() == io::ErrorKind::NotFound => write_secret(&path).map_err(fails),
            Err(error) => Err(fails(error)),
        }
    }

    /// The token in a file, which the store knows. One that the store does not know, because somebody took it away or
    /// the database is new, opens nothing any more: another one takes its place.
    pub(super) async fn token(&self, store: &Store, file: &str, name: &str) -> Result<String, ServeError> {
        let fails = |source| ServeError::Database { database: store.backend().to_owned(), source };
        let mut secret = self.secret(file)?;
        let hash = secret_hash(&secret);
        if store.read(move |tx| access::token_find(tx, &hash)).await.map_err(fails)?.is_some() {
            return Ok(secret);
        }
        let path = self.path(file);
        secret = write_secret(&path).map_err(|source| ServeError::DataDir { path, source })?;
        let (hash, name) = (secret_hash(&secret), name.to_owned());
        // On PostgreSQL the token of that name may be another server's.
        let is_alone = store.backend() == "sqlite";
        let made = store.write(move |tx| {
            if is_alone {
                access::token_delete(tx, &name)?;
            }
            access::token_create(tx, &name, &hash, now())
        });
        made.await.map_err(fails)?;
        Ok(secret)
    }
}

/// Writes a new secret into a file that only its owner can read.
fn write_secret(path: &Path) -> io::Result<String> {
    let secret = new_secret()?;
    let scratch = path.with_extension("new");
    // One that is left over may be readable by others.
    match fs::remove_file(&scratch) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&scratch)?;
    file.write_all(format!("{secret}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&scratch, path)?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_folder_has_one_server() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data/holdall");
        let first = Folder::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let refused = Folder::open(&path).unwrap_err().to_string();
        assert!(refused.contains(&format!("in use by another server (process {})", std::process::id())), "{refused}");
        drop(first);
        Folder::open(&path).unwrap();
    }

    #[test]
    fn a_folder_that_is_none_is_said_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "").unwrap();
        let refused = Folder::open(&path).unwrap_err().to_string();
        assert!(refused.starts_with(&format!("the data folder {} cannot be used: ", path.display())), "{refused}");
    }

    #[tokio::test]
    async fn a_token_survives_and_is_made_again_where_its_file_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let store = holdall_store::testing::sqlite(dir.path()).unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let token = folder.token(&store, "token", "admin").await.unwrap();
        assert_eq!(fs::metadata(folder.path("token")).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(folder.token(&store, "token", "admin").await.unwrap(), token);
        fs::remove_file(folder.path("token")).unwrap();
        let again = folder.token(&store, "token", "admin").await.unwrap();
        assert_ne!(again, token);
        let tokens = store.read(access::token_list).await.unwrap();
        assert_eq!(tokens.len(), 1, "a token whose file is gone opens nothing");

        store.write(|tx| access::token_delete(tx, "admin")).await.unwrap();
        let after = folder.token(&store, "token", "admin").await.unwrap();
        assert_ne!(after, again, "what was taken away does not come back");
        assert_eq!(fs::read_to_string(folder.path("token")).unwrap().trim(), after);
    }
}
