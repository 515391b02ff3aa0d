//! The demo's folder: where everything in it is, who may use it, and what marks it as the demo's own.
//!
//! What is put into it is the business of `system`, and what runs in it of `world` and of the server.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The file that marks a folder as made by `holdall demo`.
pub const MARKER: &str = ".holdall-demo";

/// What is wrong with the folder. Each message is one whole sentence fragment that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// There is something else.
    #[error("{0} has something else in it; name another folder with --dir")]
    SomethingElse(PathBuf),
    /// It is a file.
    #[error("{0} is not a folder; name another one with --dir")]
    NotAFolder(PathBuf),
    /// Scripts and URLs need text.
    #[error(
        "{0:?} cannot be used: its name has to be UTF-8 without line breaks, quotes and \"((\"; name another folder with --dir"
    )]
    Name(PathBuf),
    /// A second demo.
    #[error("a demo runs in {0} already; stop it, or name another folder with --dir")]
    InUse(PathBuf),
    /// Made by another version.
    #[error("{0} was made by another version of holdall; start over with --reset")]
    OtherVersion(PathBuf),
    /// The system says no.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl FolderError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FolderError + use<> {
        let path = path.to_owned();
        move |source| FolderError::Io { action, path, source }
    }
}

/// What [`MARKER`] holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Marker {
    /// Version of the folder's layout.
    pub layout: u32,
    /// Where the folder was when it was last used: paths in its files begin with this.
    pub root: String,
    /// Secret of the webhook that a push calls.
    pub webhook_token: String,
}

/// The layout that this program makes.
const LAYOUT: u32 = 1;

/// A demo's folder, by its absolute path. Says where things are; reads and writes nothing by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// The folder at that absolute path.
    pub fn at(root: impl Into<PathBuf>) -> Folder {
        Folder { root: root.into() }
    }

    /// Its absolute path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The marker.
    pub fn marker(&self) -> PathBuf {
        self.root.join(MARKER)
    }

    /// Programs that the scripts call, and that a person can put on the PATH.
    pub fn bin(&self) -> PathBuf {
        self.root.join("bin")
    }

    /// The bare repository of a service.
    pub fn repository(&self, service: &str) -> PathBuf {
        self.root.join("repositories").join(format!("{service}.git"))
    }

    /// The working copy of a service.
    pub fn working_copy(&self, service: &str) -> PathBuf {
        self.root.join("services").join(service)
    }

    /// The system file.
    pub fn system_file(&self) -> PathBuf {
        self.root.join("system.yml")
    }

    /// What is outside Holdall: states, databases, running services.
    pub fn world(&self) -> PathBuf {
        self.root.join("world")
    }

    /// The file with the address of the demo's state server and supervisor.
    pub fn world_address(&self) -> PathBuf {
        self.world().join("address")
    }

    /// The file with the address of the server.
    pub fn server_address(&self) -> PathBuf {
        self.world().join("server")
    }

    /// The SQLite file of an environment's services.
    pub fn database(&self, environment: &str) -> PathBuf {
        self.world().join("databases").join(format!("{environment}.sqlite"))
    }

    /// Where the log of a running service goes.
    pub fn service_log(&self, environment: &str, service: &str) -> PathBuf {
        self.world().join("logs").join(format!("{environment}-{service}.log"))
    }
}

/// A folder that this process alone uses, until it is dropped.
#[derive(Debug)]
pub struct OwnFolder {
    /// The folder.
    pub folder: Folder,
    /// What its marker says.
    pub marker: Marker,
    /// Where it was before, if it has been moved since it was last used.
    pub moved_from: Option<String>,
    lock: File,
}

impl OwnFolder {
    /// Opens the folder, or makes it where there is none or an empty one, and takes it for this process.
    pub fn open(path: &Path) -> Result<OwnFolder, FolderError> {
        let root = std::path::absolute(path).map_err(FolderError::io("find", path))?;
        if !is_usable_name(&root) {
            return Err(FolderError::Name(root));
        }
        match fs::metadata(&root) {
            Ok(found) if !found.is_dir() => return Err(FolderError::NotAFolder(root)),
            Ok(_) => {
                let is_empty = fs::read_dir(&root).map_err(FolderError::io("read", &root))?.next().is_none();
                if !is_empty && !root.join(MARKER).is_file() {
                    return Err(FolderError::SomethingElse(root));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&root).map_err(FolderError::io("make", &root))?;
            }
            Err(error) => return Err(FolderError::io("read", &root)(error)),
        }
        // Symbolic links are resolved: git and the scripts compare paths.
        let root = fs::canonicalize(&root).map_err(FolderError::io("find", &root))?;
        if !is_usable_name(&root) {
            return Err(FolderError::Name(root));
        }
        OwnFolder::take(Folder::at(root))
    }

    fn take(folder: Folder) -> Result<OwnFolder, FolderError> {
        let path = folder.marker();
        let mut lock = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(FolderError::io("open", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(FolderError::InUse(folder.root)),
            Err(fs::TryLockError::Error(error)) => return Err(FolderError::io("lock", &path)(error)),
        }
        let mut text = String::new();
        (&mut lock).take(64 * 1024).read_to_string(&mut text).map_err(FolderError::io("read", &path))?;
        let here = folder.root.to_string_lossy().into_owned();
        let mut marker = if text.is_empty() {
            let token = random_token().map_err(FolderError::io("read", Path::new(RANDOM)))?;
            Marker { layout: LAYOUT, root: here.clone(), webhook_token: token }
        } else {
            match serde_json::from_str::<Marker>(&text) {
                Ok(marker) if marker.layout == LAYOUT => marker,
                _ => return Err(FolderError::OtherVersion(folder.root)),
            }
        };
        let moved_from = (marker.root != here).then(|| std::mem::replace(&mut marker.root, here));
        let mut own = OwnFolder { folder, marker, moved_from, lock };
        if text.is_empty() {
            own.write_marker()?;
        }
        Ok(own)
    }

    /// Remembers where the folder is now, after its files have been made to say so.
    pub fn settle(&mut self) -> Result<(), FolderError> {
        self.write_marker()?;
        self.moved_from = None;
        Ok(())
    }

    fn write_marker(&mut self) -> Result<(), FolderError> {
        let path = self.folder.marker();
        let text = format!("{}\n", serde_json::json!(self.marker));
        // In place: the lock is on this very file.
        let write = |file: &mut File| {
            file.rewind()?;
            file.set_len(0)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        write(&mut self.lock).map_err(FolderError::io("write", &path))
    }

    /// Empties the folder of a demo that does not run, and opens it anew. A folder that is not a demo's is left alone.
    pub fn reset(path: &Path) -> Result<OwnFolder, FolderError> {
        let root = std::path::absolute(path).map_err(FolderError::io("find", path))?;
        if !root.exists() {
            return OwnFolder::open(&root);
        }
        match OwnFolder::open(&root) {
            Ok(own) => own.empty()?,
            Err(FolderError::OtherVersion(found)) => remove_contents(&found)?,
            Err(error) => return Err(error),
        }
        OwnFolder::open(&root)
    }

    fn empty(self) -> Result<(), FolderError> {
        remove_contents(self.folder.root())
    }
}

impl Drop for OwnFolder {
    fn drop(&mut self) {
        // Closing alone would not do while a process that is just being started still has the file. An error leaves
        // it to closing.
        let _unlocked = self.lock.unlock();
    }
}

/// Removes everything in the folder, the marker last, so that a removal that was interrupted can be repeated.
fn remove_contents(root: &Path) -> Result<(), FolderError> {
    let entries = fs::read_dir(root).map_err(FolderError::io("read", root))?;
    for entry in entries {
        let entry = entry.map_err(FolderError::io("read", root))?;
        let path = entry.path();
        if entry.file_name() == MARKER {
            continue;
        }
        let is_dir = entry.file_type().map_err(FolderError::io("read", &path))?.is_dir();
        let removed = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(FolderError::io("remove", &path))?;
    }
    let marker = root.join(MARKER);
    fs::remove_file(&marker).map_err(FolderError::io("remove", &marker))
}

/// Whether a path can stand in YAML, in a shell script and in Terraform's environment.
fn is_usable_name(path: &Path) -> bool {
    let Some(text) = path.to_str() else { return false };
    !text.contains("((") && !text.chars().any(|c| c.is_control() || c == '"' || c == '\'' || c == '\\')
}

const RANDOM: &str = "/dev/urandom";

fn random_token() -> io::Result<String> {
    let mut bytes = [0_u8; 16];
    File::open(RANDOM)?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Writes a file so that it is there whole or not at all.
pub fn write_whole(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let mut file = File::create(&new)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_opens_and_resets() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b").join("demo");
        let first = OwnFolder::open(&path).unwrap();
        assert_eq!(first.moved_from, None);
        assert!(matches!(OwnFolder::open(&path), Err(FolderError::InUse(_))));
        assert!(matches!(OwnFolder::reset(&path), Err(FolderError::InUse(_))));
        let token = first.marker.webhook_token.clone();
        assert_eq!(token.len(), 32);
        drop(first);

        let second = OwnFolder::open(&path).unwrap();
        assert_eq!(second.marker.webhook_token, token);
        fs::create_dir(second.folder.world()).unwrap();
        drop(second);

        let third = OwnFolder::reset(&path).unwrap();
        assert_ne!(third.marker.webhook_token, token);
        assert!(!third.folder.world().exists());
    }

    #[test]
    fn leaves_other_folders_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.txt"), "years of work").unwrap();
        assert!(matches!(OwnFolder::open(dir.path()), Err(FolderError::SomethingElse(_))));
        assert!(matches!(OwnFolder::reset(dir.path()), Err(FolderError::SomethingElse(_))));
        let file = dir.path().join("thesis.txt");
        assert!(matches!(OwnFolder::open(&file), Err(FolderError::NotAFolder(_))));
        assert!(matches!(OwnFolder::reset(&file), Err(FolderError::NotAFolder(_))));
        assert_eq!(fs::read_to_string(&file).unwrap(), "years of work");
        assert!(matches!(OwnFolder::open(&dir.path().join("it's")), Err(FolderError::Name(_))));
    }

    #[test]
    fn notices_that_it_was_moved_until_it_is_settled() {
        let dir = tempfile::tempdir().unwrap();
        let (before, after) = (dir.path().join("before"), dir.path().join("after"));
        drop(OwnFolder::open(&before).unwrap());
        fs::rename(&before, &after).unwrap();
        let moved = OwnFolder::open(&after).unwrap();
        assert!(moved.moved_from.is_some());
        drop(moved);
        let mut again = OwnFolder::open(&after).unwrap();
        assert!(again.moved_from.as_deref().unwrap().ends_with("before"));
        again.settle().unwrap();
        drop(again);
        assert_eq!(OwnFolder::open(&after).unwrap().moved_from, None);
    }

    #[test]
    fn a_marker_of_another_version_is_refused_and_can_be_reset() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("demo");
        drop(OwnFolder::open(&path).unwrap());
        for text in ["{\"layout\":99}", "garbage", &"x".repeat(100_000)] {
            fs::write(path.join(MARKER), text).unwrap();
            assert!(matches!(OwnFolder::open(&path), Err(FolderError::OtherVersion(_))), "{text:.20}");
        }
        drop(OwnFolder::reset(&path).unwrap());
        drop(OwnFolder::open(&path).unwrap());
    }
}
