//! Whether the work folder names every attempt that this worker has begun. A folder that is new does not, where a worker
//! of the same name had another before; nor does one on a machine that was started anew, because nothing waits until what
//! is written there has reached the disk.
//!
//! The server gives an attempt out once more where it may not have arrived. It must know where it may have arrived and
//! was forgotten, because then its process may have run. So the worker says that it may have forgotten some until the
//! server has heard it, and only then the folder gets a file that names the boot of the machine.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use holdall_protocol::worker::Forgot;

/// The file in the work folder.
const FILE: &str = "welcomed";

/// What may be missing in the work folder.
#[derive(Debug)]
pub struct Memory {
    path: PathBuf,
    /// Which boot of the machine this is.
    boot: String,
    forgot: Mutex<Option<Forgot>>,
}

impl Memory {
    /// Looks at the folder.
    pub fn open(work_dir: &Path, boot: &str) -> Memory {
        let path = work_dir.join(FILE);
        let forgot = match fs::read(&path) {
            Ok(known) if known == boot.as_bytes() => None,
            Ok(_) => Some(Forgot::Restart),
            Err(_) => Some(Forgot::NewFolder),
        };
        Memory { path, boot: boot.to_owned(), forgot: Mutex::new(forgot) }
    }

    /// Why attempts may have been begun that the folder does not name.
    pub fn forgot(&self) -> Option<Forgot> {
        *self.forgot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server has been told what was forgotten: what is begun from now on is in the folder.
    pub fn begins(&self) {
        if self.forgot().is_none() {
            return;
        }
        match self.save() {
            Ok(()) => *self.forgot.lock().unwrap_or_else(PoisonError::into_inner) = None,
            // It goes on saying that it may have forgotten some, which is never wrong.
            Err(error) => tracing::warn!(%error, "the worker cannot write to its work folder"),
        }
    }

    /// The folder is a new one for the server that is to be told next: what that one has given to a worker of this name
    /// was given to another.
    pub fn begin_anew(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        *self.forgot.lock().unwrap_or_else(PoisonError::into_inner) = Some(Forgot::NewFolder);
        Ok(())
    }

    /// Writes the file, and waits until it is on the disk: once for each boot of the machine.
    fn save(&self) -> io::Result<()> {
        let scratch = self.path.with_extension("new");
        let mut file = File::create(&scratch)?;
        file.write_all(self.boot.as_bytes())?;
        file.sync_all()?;
        fs::rename(&scratch, &self.path)?;
        File::open(self.path.parent().unwrap_or(Path::new("/")))?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_forgotten_is_said_until_the_server_has_heard_it() {
        let dir = tempfile::tempdir().unwrap();
        let open = |boot: &str| Memory::open(dir.path(), boot);
        assert_eq!(open("a").forgot(), Some(Forgot::NewFolder));
        let memory = open("a");
        assert_eq!(memory.forgot(), Some(Forgot::NewFolder), "nobody has heard it");
        memory.begins();
        assert_eq!((memory.forgot(), open("a").forgot()), (None, None));
        let memory = open("b");
        assert_eq!((memory.forgot(), open("b").forgot()), (Some(Forgot::Restart), Some(Forgot::Restart)));
        memory.begins();
        assert_eq!((memory.forgot(), open("b").forgot(), open("a").forgot()), (None, None, Some(Forgot::Restart)));
        for _ in 0..2 {
            memory.begin_anew().unwrap();
            assert_eq!((memory.forgot(), open("b").forgot()), (Some(Forgot::NewFolder), Some(Forgot::NewFolder)));
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_stays_one_that_forgets() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Memory::open(&dir.path().join("gone"), "a");
        memory.begins();
        assert_eq!(memory.forgot(), Some(Forgot::NewFolder));
    }
}
