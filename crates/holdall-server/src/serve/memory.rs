//! What a data folder remembers of the database that it is used with: how much that had kept. A server that starts finds
//! by it that the database was put back to an older state meanwhile.
//!
//! The file is written after the database, and not for each commit: it says too little after a crash, and never too much.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use holdall_store::epoch::Progress;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The file's name in the data folder.
pub(super) const FILE: &str = "progress.json";

/// How often it is written at most.
const PACE: Duration = Duration::from_secs(1);

/// The file, and what goes into it.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    path: PathBuf,
    installation: String,
    commits: watch::Receiver<i64>,
}

/// What the file of an earlier server says. One that cannot be read says nothing: it is a second look at what the
/// database says itself, and must not keep a server from starting.
pub(super) fn remembered(path: &std::path::Path) -> Option<Progress> {
    let wrong = |error: &dyn std::fmt::Display| {
        tracing::warn!(path = %path.display(), "a loss of history would not be found at this start: {error}");
    };
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| wrong(&error)).ok(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            wrong(&error);
            None
        }
    }
}

impl Memory {
    /// Of a database of that installation, which has so many commits.
    pub(super) fn new(path: PathBuf, installation: String, commits: watch::Receiver<i64>) -> Memory {
        Memory { path, installation, commits }
    }

    /// Writes down what the database has kept, as it grows, until the server stops.
    pub(super) async fn keep(mut self, stopping: CancellationToken) {
        self.commits.mark_changed();
        let mut is_said = false;
        loop {
            tokio::select! {
                changed = self.commits.changed() => if changed.is_err() { return },
                () = stopping.cancelled() => return,
            }
            self.commits.borrow_and_update();
            match self.write().await {
                Ok(()) => is_said = false,
                Err(error) if !is_said => {
                    is_said = true;
                    tracing::warn!(path = %self.path.display(), "what the database has kept was not written down: {error}");
                }
                Err(_) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(PACE) => {}
                () = stopping.cancelled() => return,
            }
        }
    }

    /// Writes down what the database has kept by now.
    pub(super) async fn write(&self) -> io::Result<()> {
        let memory = self.clone();
        tokio::task::spawn_blocking(move || memory.write_blocking()).await.map_err(io::Error::other)?
    }

    fn write_blocking(&self) -> io::Result<()> {
        let progress = Progress { installation: Some(self.installation.clone()), commits: *self.commits.borrow() };
        let scratch = self.path.with_extension("new");
        let mut file = File::create(&scratch)?;
        file.write_all(&serde_json::to_vec(&progress)?)?;
        // Otherwise a power cut can leave the new name without its text.
        file.sync_all()?;
        fs::rename(&scratch, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_kept_is_written_down_as_it_grows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        assert_eq!(remembered(&path), None);
        let commits = watch::Sender::new(7);
        let memory = Memory::new(path.clone(), "i".to_owned(), commits.subscribe());
        let stopping = CancellationToken::new();
        let kept = tokio::spawn(memory.clone().keep(stopping.clone()));
        let says = |commits| Some(Progress { installation: Some("i".to_owned()), commits });
        while remembered(&path) != says(7) {
            tokio::task::yield_now().await;
        }
        commits.send_replace(8);
        stopping.cancel();
        kept.await.unwrap();
        memory.write().await.unwrap();
        assert_eq!(remembered(&path), says(8));
        fs::write(&path, "{").unwrap();
        assert_eq!(remembered(&path), None, "a file that says nothing keeps no server from starting");
    }
}
