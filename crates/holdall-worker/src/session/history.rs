//! What a worker remembers of its server's history: how far it went. It says so with each hello, so that a database that
//! ends before, a replica that lagged or an old copy, is found out.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use holdall_protocol::worker::History;

/// The file in the work folder.
const FILE: &str = "history.json";

/// The farthest history that the worker was told of, on its disk too.
#[derive(Debug)]
pub struct Remembered {
    path: PathBuf,
    known: Mutex<Option<History>>,
}

impl Remembered {
    /// What the work folder has; nothing where there is no file, or none that can be read.
    pub fn open(work_dir: &Path) -> Remembered {
        let path = work_dir.join(FILE);
        let known = fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Remembered { path, known: Mutex::new(known) }
    }

    /// The farthest history that is known.
    pub fn get(&self) -> Option<History> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The installation that the worker works for, once it is known.
    pub fn installation(&self) -> Option<String> {
        self.get().map(|history| history.installation)
    }

    /// Takes what the server says; another installation's history has nothing to do with the one before.
    pub fn learn(&self, told: Option<&History>) {
        let Some(told) = told else { return };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let farthest = match &*known {
            Some(known) if known.installation == told.installation => History {
                installation: told.installation.clone(),
                builds: known.builds.max(told.builds),
                acts: known.acts.max(told.acts),
            },
            _ => told.clone(),
        };
        if known.as_ref() == Some(&farthest) {
            return;
        }
        // It need not survive a power cut: then less is remembered, which is never wrong.
        if let Err(error) = self.save(&farthest) {
            tracing::debug!(%error, "the history of the server cannot be written down");
        }
        *known = Some(farthest);
    }

    /// Takes another installation's history, which the work folder is of from now on.
    pub fn begin_anew(&self, told: &History) -> io::Result<()> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        self.save(told)?;
        *known = Some(told.clone());
        Ok(())
    }

    fn save(&self, history: &History) -> io::Result<()> {
        let scratch = self.path.with_extension("new");
        fs::write(&scratch, serde_json::to_vec(history)?)?;
        fs::rename(&scratch, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_farthest_is_remembered_over_restarts_and_for_one_installation() {
        let dir = tempfile::tempdir().unwrap();
        let told = |installation: &str, builds, acts| History { installation: installation.to_owned(), builds, acts };
        let memory = Remembered::open(dir.path());
        assert_eq!(memory.get(), None);
        memory.learn(None);
        memory.learn(Some(&told("a", 7, 3)));
        memory.learn(Some(&told("a", 5, 4)));
        assert_eq!(Remembered::open(dir.path()).get(), Some(told("a", 7, 4)));
        memory.learn(Some(&told("b", 1, 1)));
        assert_eq!(Remembered::open(dir.path()).get(), Some(told("b", 1, 1)));
        fs::write(dir.path().join(FILE), "{").unwrap();
        assert_eq!(Remembered::open(dir.path()).get(), None);
    }
}
