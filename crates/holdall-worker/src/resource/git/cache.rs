//! One bare clone per repository and credentials, shared by all checks and gets of a worker.
//!
//! Whoever opens a cache holds its lock until it is dropped, so checks and gets of the same repository run one after
//! the other, in whichever processes they are.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::super::{Context, ResourceError};
use super::command::Git;
use super::source::Source;

/// The bare clone, locked.
pub(super) struct Cache {
    repository: PathBuf,
    /// Held until the cache is dropped.
    _lock: Option<File>,
    /// The directory of a cache that nothing outlives.
    _temporary: Option<TempDir>,
}

/// What git says of a clone that a crash or a full disk has left unusable, or of a branch whose name is now a folder.
const BEYOND_REPAIR: [&str; 7] = [
    "not a git repository",
    "corrupt",
    "unable to read",
    "bad object",
    "invalid sha1 pointer",
    "does not point to a valid object",
    "; cannot create",
];

impl Cache {
    /// Opens the cache of the source's repository, waiting for whoever has it open.
    ///
    /// # Errors
    /// When the cache directory cannot be used, or git is too old to make one.
    pub(super) fn open(source: &Source, git: &Git, ctx: &Context) -> Result<Cache, ResourceError> {
        let cache = match directory(ctx) {
            Some(parent) => {
                fs::create_dir_all(&parent).map_err(ResourceError::file("make", &parent))?;
                let repository = parent.join(source.cache_key());
                let lock_path = repository.with_extension("lock");
                let file = File::create(&lock_path).map_err(ResourceError::file("make", &lock_path))?;
                file.lock().map_err(ResourceError::file("lock", &lock_path))?;
                Cache { repository, _lock: Some(file), _temporary: None }
            }
            None => {
                let temporary = ctx.temp_dir()?;
                Cache { repository: temporary.path().join("cache"), _lock: None, _temporary: Some(temporary) }
            }
        };
        if cache.repository.join("HEAD").is_file() {
            remove_left_locks(&cache.repository);
        } else {
            cache.make(git)?;
        }
        Ok(cache)
    }

    /// The bare repository.
    pub(super) fn repository(&self) -> &Path {
        &self.repository
    }

    fn make(&self, git: &Git) -> Result<(), ResourceError> {
        git.require_version()?;
        if self.repository.exists() {
            fs::remove_dir_all(&self.repository).map_err(ResourceError::file("remove", &self.repository))?;
        }
        fs::create_dir_all(&self.repository).map_err(ResourceError::file("make", &self.repository))?;
        git.run(&self.repository, &["init", "--quiet", "--bare", "."])?;
        git.run(&self.repository, &["config", "uploadpack.allowAnySHA1InWant", "true"])
    }

    /// Brings refs from the remote. A cache that is beyond repair is made anew, once.
    ///
    /// # Errors
    /// What keeps git from fetching them.
    pub(super) fn fetch(&self, source: &Source, git: &Git, refspecs: &[String]) -> Result<(), ResourceError> {
        let mut args = ["fetch", "--quiet", "--force", "--prune", "--no-write-fetch-head", "--", &source.uri]
            .map(str::to_owned)
            .to_vec();
        args.extend_from_slice(refspecs);
        let Err(failure) = git.try_run(&self.repository, &args)? else { return Ok(()) };
        if !BEYOND_REPAIR.iter().any(|phrase| failure.stderr.contains(phrase)) {
            return Err(git.explain(&args, &failure));
        }
        self.make(git)?;
        git.run(&self.repository, &args)
    }

    /// The commit that a name stands for, if the cache has it.
    pub(super) fn commit(&self, git: &Git, name: &str) -> Result<Option<String>, ResourceError> {
        let object = format!("{name}^{{commit}}");
        let args = ["rev-parse", "--quiet", "--verify", "--end-of-options", &object];
        if !git.holds(&self.repository, &["cat-file", "-e", &object])? {
            return Ok(None);
        }
        Ok(Some(git.read(&self.repository, &args)?.trim().to_owned()))
    }
}

/// Where caches are; `None`: nowhere.
pub(super) fn directory(ctx: &Context) -> Option<PathBuf> {
    ctx.var("HOLDALL_CACHE_DIR").map(|dir| Path::new(dir).join("git"))
}

/// Removes the lock files of a git that was killed: nobody else is in the cache now. What cannot be removed is reported
/// by the git that stumbles over it.
fn remove_left_locks(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && path.file_name().is_none_or(|name| name != "objects") => {
                remove_left_locks(&path)
            }
            Ok(kind) if kind.is_file() && path.extension().is_some_and(|extension| extension == "lock") => {
                let _ = fs::remove_file(&path);
            }
            _ => {}
        }
    }
}
