//! The process runtime: each step in a folder of its own, under a shim of its own.
//!
//! ```text
//! WORKDIR/lock                        one worker at a time
//! WORKDIR/welcomed                    which boot of the machine a server has heard of
//! WORKDIR/attempts/ATTEMPT/           one try to run one step; kept until the server says that it can go
//!     boot                            during which boot of the machine it was taken
//!     assignment.json                 what the server wants; a folder without it is not an attempt
//!     (the shim's files)              see [`crate::shim`]
//!     collect.json                    outputs and caches to take out when the step has ended
//!     work/  home/  tmp/              the step's directory, HOME and TMPDIR
//!     ending.json                     how it ended; everything has been collected
//! WORKDIR/builds/BUILD/               see [`artifacts`]
//! WORKDIR/gets/KEY/                   see [`gets`]
//! WORKDIR/caches/KEY/                 a task's cache; in the step's directory while the step runs
//! WORKDIR/resource-cache/             what resource types keep, such as clones
//! WORKDIR/trash/                      what is being removed; emptied when the worker starts
//! ```
//!
//! [`Runtime::run`] brings an attempt from whatever state its folder is in to its end, so it is the same after a
//! restart of the worker as the first time. A step is started only while its folder's lock is free, `began` is not
//! there, and the machine has not been started anew since the attempt was taken; so it is never started twice. Nothing
//! waits until `began` is on the disk, so after a power cut it may be missing. With the lock free, `began` there or
//! perhaps lost, and no `exit.json`, nobody knows how it ended: [`Ending::Lost`].

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use holdall_protocol::worker::{Assignment, Ending, StepSpec};
use sha2::{Digest, Sha256};

use crate::process;
use crate::shim::{ExitRecord, now_micros, read_json, write_json};

pub mod artifacts;
mod collect;
mod gets;
mod orphans;
mod prepare;
pub mod task;
pub mod tree;

use artifacts::Artifacts;

/// `PATH` of steps where the worker was not told another.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Names the folder in which resource types keep what outlives a step, such as clones, in their environment.
pub const CACHE_DIR: &str = "HOLDALL_CACHE_DIR";

/// A worker that is killed while it starts a program may leave a copy of itself, which was to become that program and
/// has the folder's lock until then: so long it is waited for.
const COPY_LIVES: Duration = Duration::from_secs(2);

/// How often it is looked whether the lock is free.
const LOOK: Duration = Duration::from_millis(20);

/// How much of what a shim said before it failed goes into a message.
const MAX_SHIM_LOG: usize = 2048;

/// Runs steps as plain processes below one folder.
#[derive(Debug)]
pub struct Runtime {
    work_dir: PathBuf,
    executable: PathBuf,
    path: String,
    /// Which boot of the machine this is.
    boot: String,
    /// See [`gets`].
    gets: Mutex<()>,
    /// Held for the worker's life.
    _lock: File,
}

/// The worker's folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another worker uses it.
    #[error("the work folder {0} is in use by another worker; stop that one, or give this one a folder of its own")]
    InUse(PathBuf),
    /// It cannot be made or written.
    #[error("cannot use the work folder {dir}")]
    Io {
        /// The folder.
        dir: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Runtime {
    /// Takes the folder `work_dir` for this process, making it if need be. `executable` is `holdall`, or what stands
    /// in for it in tests; `path` is `PATH` of the steps.
    pub fn open(work_dir: &Path, executable: &Path, path: &str) -> Result<Runtime, OpenError> {
        let failed = |source| OpenError::Io { dir: work_dir.to_owned(), source };
        // Sources and params of steps are in there: nobody else's business.
        make_own(work_dir).map_err(failed)?;
        let work_dir = fs::canonicalize(work_dir).map_err(failed)?;
        let lock = File::create(work_dir.join("lock")).map_err(failed)?;
        let begun = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(fs::TryLockError::WouldBlock) if begun.elapsed() < COPY_LIVES => thread::sleep(LOOK),
                Err(fs::TryLockError::WouldBlock) => return Err(OpenError::InUse(work_dir)),
                Err(fs::TryLockError::Error(e)) => return Err(failed(e)),
            }
        }
        for folder in ["attempts", "builds", "caches", "gets", "trash"] {
            make_own(&work_dir.join(folder)).map_err(failed)?;
        }
        let (executable, path, boot) = (executable.to_owned(), path.to_owned(), process::boot());
        Ok(Runtime { work_dir, executable, path, boot, gets: Mutex::default(), _lock: lock })
    }

    /// The worker's folder, as an absolute path.
    pub fn work_dir(&self) -> &Path {
        &self.work_dir
    }

    /// Which boot of the machine this is.
    pub fn boot(&self) -> &str {
        &self.boot
    }

    /// The folder of an attempt.
    pub fn folder(&self, attempt: &str) -> PathBuf {
        self.work_dir.join("attempts").join(attempt)
    }

    /// The attempts on the disk. Folders that never became attempts, or were being removed, are removed if that can be
    /// done; one that cannot be read but has a shim is left alone.
    pub fn held(&self) -> io::Result<Vec<Assignment>> {
        let mut held = Vec::new();
        for name in tree::names(&self.work_dir.join("attempts"))? {
            let folder = self.folder(&name);
            match read_json::<Assignment>(&folder.join("assignment.json")) {
                Ok(Some(assignment)) if assignment.attempt == name => held.push(assignment),
                _ if File::open(folder.join("lock")).is_ok_and(|lock| lock.try_lock().is_err()) => {
                    tracing::warn!(
                        attempt = name,
                        "a step runs that this worker does not understand; it is left alone"
                    );
                }
                _ => {
                    if let Err(error) = tree::remove_tree(&folder) {
                        let folder = folder.display();
                        tracing::warn!(%folder, %error, "what is left of a step cannot be removed");
                    }
                }
            }
        }
        Ok(held)
    }

    /// The builds that have artifacts here.
    pub fn builds(&self) -> io::Result<Vec<i64>> {
        Ok(tree::names(&self.work_dir.join("builds"))?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Writes down that the attempt is this worker's. The error is a sentence.
    pub fn accept(&self, assignment: &Assignment) -> Result<(), String> {
        if !tree::is_file_name(&assignment.attempt) {
            return Err(format!("the attempt's id {:?} cannot be the name of a folder", assignment.attempt));
        }
        let folder = self.folder(&assignment.attempt);
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(folder.join("boot"), &self.boot))
            .and_then(|()| write_json(&folder.join("assignment.json"), assignment))
            .map(drop)
            .map_err(|e| format!("the worker cannot write to its folder {}: {e}", folder.display()))
    }

    /// Makes the attempt stop: before it starts, or with its signal and grace.
    pub fn stop(&self, attempt: &str) -> io::Result<()> {
        let folder = self.folder(attempt);
        File::create(folder.join("stop"))?;
        poke(&folder.join("control"));
        Ok(())
    }

    /// Removes what is left of an attempt that has ended.
    pub fn forget(&self, attempt: &str) -> io::Result<()> {
        // First, so that what a crash leaves behind is not taken for an attempt.
        let folder = self.folder(attempt);
        let _ = fs::remove_file(folder.join("assignment.json"));
        tree::remove_tree(&folder)
    }

    /// Removes the artifacts of a build.
    pub fn forget_build(&self, build: i64) -> io::Result<()> {
        tree::remove_tree(&self.build_folder(build))?;
        self.trim_gets()
    }

    /// Throws away the artifacts of builds, and what gets fetched; for when the machine was started anew. Nothing waits
    /// until these are on the disk, because that takes as long as everything else that is written there, so after a power
    /// cut nobody can tell the whole ones from the others, nor a power cut from an orderly end. A step that needs an
    /// artifact that was there says so ([`artifacts`]); a get fetches anew.
    pub fn distrust(&self) -> Result<(), OpenError> {
        let failed = |source| OpenError::Io { dir: self.work_dir.clone(), source };
        let gets = self.work_dir.join("gets");
        let fetched = tree::names(&gets).map_err(failed)?.into_iter().map(|name| gets.join(name));
        let volumes = self.builds().map_err(failed)?.into_iter().map(|build| self.build_folder(build).join("volumes"));
        for folder in fetched.chain(volumes).filter(|folder| folder.exists()) {
            self.discard(&folder).map_err(failed)?;
        }
        Ok(())
    }

    /// Throws away what is kept under the ids of builds and jobs, once no attempt is there. What gets fetched is kept under
    /// what it is.
    pub fn forget_ids(&self) -> io::Result<()> {
        for folder in ["builds", "caches"].map(|name| self.work_dir.join(name)) {
            if folder.exists() {
                self.discard(&folder)?;
            }
            make_own(&folder)?;
        }
        Ok(())
    }

    /// What an earlier worker was about to remove, or threw away: it may be removed at leisure.
    pub fn trash(&self) -> io::Result<Vec<PathBuf>> {
        let trash = self.work_dir.join("trash");
        Ok(tree::names(&trash)?.iter().map(|name| trash.join(name)).collect())
    }

    /// Moves a folder out of the way, whole, so that nobody ever finds half of it; gives where it is now, to be removed.
    /// One at a time: the callers see to that.
    fn discard(&self, folder: &Path) -> io::Result<PathBuf> {
        let trash = self.work_dir.join("trash");
        let mut number = now_micros();
        let mut place = trash.join(number.to_string());
        while place.exists() {
            number += 1;
            place = trash.join(number.to_string());
        }
        fs::rename(folder, &place)?;
        Ok(place)
    }

    /// Brings an attempt to its end; blocks until then. `ended` is called with how it ended, as soon as that is known;
    /// after it there is nothing to do but to wait for the shim's last strokes.
    pub fn run(&self, assignment: &Assignment, ended: impl FnOnce(Ending)) {
        let folder = self.folder(&assignment.attempt);
        if let Ok(Some(ending)) = read_json(&folder.join("ending.json")) {
            return ended(ending);
        }
        let mut shim = None;
        let ending =
            self.run_to_exit(assignment, &folder, &mut shim).unwrap_or_else(|message| Ending::CouldNotRun { message });
        // Without the file it is worked out again after a restart, with the same result.
        let _ = write_json(&folder.join("ending.json"), &ending);
        ended(ending);
        if let Some(mut shim) = shim {
            let _ = shim.wait();
        }
    }

    /// The same up to how it ended, which its shim may outlive for a moment; the error is why it could not be run.
    fn run_to_exit(&self, assignment: &Assignment, folder: &Path, shim: &mut Option<Child>) -> Result<Ending, String> {
        if let StepSpec::Files { artifacts, files } = &assignment.spec {
            for artifact in artifacts {
                self.make_files(assignment, folder, artifact, files)?;
            }
            return Ok(Ending::Exited { status: 0, result: None, artifacts: artifacts.clone() });
        }
        // Waits for as long as a shim that an earlier worker started is there.
        let lock = File::create(folder.join("lock"))
            .and_then(|lock| lock.lock().map(|()| lock))
            .map_err(|e| format!("the worker cannot use its folder {}: {e}", folder.display()))?;
        // A power cut may have left a record that is none.
        let exit = || read_json::<ExitRecord>(&folder.join("exit.json")).ok().flatten();
        if let Some(exit) = exit() {
            return self.collect(assignment, folder, exit);
        }
        let began = folder.join("began");
        if !began.exists() && !self.is_of_this_boot(folder) {
            self.return_caches(folder);
            let message = "the machine was started anew after this worker had taken the step, and whether it had begun by \
                           then is not known";
            return Ok(Ending::Lost { message: message.to_owned() });
        }
        if !began.exists() {
            // An earlier worker may have filled the folder; no cache is thrown away with what it did.
            self.return_caches(folder);
            if folder.join("stop").exists() {
                return Ok(Ending::Stopped { killed: false });
            }
            if let Some(known) = self.known_get(assignment, folder)? {
                return Ok(known);
            }
            let ran = self.prepare(assignment, folder).and_then(|()| {
                self.run_shim(folder, lock, shim).map_err(|e| format!("the step's shim cannot be started: {e}"))
            });
            if let Some(exit) = exit() {
                return self.collect(assignment, folder, exit);
            }
            if !began.exists() {
                self.return_caches(folder);
                ran?;
                return Err(format!("the step's shim failed before it started the step: {}", shim_log(folder)));
            }
        }
        let message = orphans::end(folder, &assignment.stop);
        self.return_caches(folder);
        Ok(Ending::Lost { message })
    }

    /// Starts the shim and waits until it has recorded the step's end, or is gone. It gets the lock as its standard
    /// input: the lock is free when neither this process nor the shim has it open any more.
    fn run_shim(&self, folder: &Path, lock: File, shim: &mut Option<Child>) -> io::Result<()> {
        let control = folder.join("control");
        match nix::unistd::mkfifo(&control, nix::sys::stat::Mode::from_bits_truncate(0o600)) {
            Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
            Err(e) => return Err(e.into()),
        }
        // The command, and the lock in it, is dropped before this process waits.
        let child = Command::new(&self.executable)
            .arg0("holdall")
            .arg("shim")
            .arg(folder)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(lock))
            .stdout(Stdio::piped())
            .stderr(File::create(folder.join("shim.log"))?)
            .spawn()?;
        // Nothing comes out of it: it is closed.
        if let Some(mut stdout) = shim.insert(child).stdout.take() {
            io::copy(&mut stdout, &mut io::sink())?;
        }
        Ok(())
    }

    /// Whether the attempt in `folder` was taken since the machine was started.
    fn is_of_this_boot(&self, folder: &Path) -> bool {
        fs::read(folder.join("boot")).is_ok_and(|boot| boot == self.boot.as_bytes())
    }

    /// Whether it is this step that says that images are not used: the first of its build.
    fn note_image(&self, build: i64) -> bool {
        let folder = self.build_folder(build);
        fs::create_dir_all(&folder).is_ok() && File::create_new(folder.join("image-noted")).is_ok()
    }

    fn build_folder(&self, build: i64) -> PathBuf {
        self.work_dir.join("builds").join(build.to_string())
    }

    fn artifacts(&self, build: i64) -> Artifacts {
        Artifacts::new(self.build_folder(build))
    }
}

/// Makes a folder that only this user can read.
fn make_own(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Makes a shim that is there look at `stop`. One that is not there yet looks by itself.
fn poke(control: &Path) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let options = nix::fcntl::OFlag::O_NONBLOCK.bits();
    if let Ok(mut fifo) = File::options().write(true).custom_flags(options).open(control) {
        let _ = fifo.write(b"s");
    }
}

/// What a shim said, from its end.
fn shim_log(folder: &Path) -> String {
    let log = fs::read(folder.join("shim.log")).unwrap_or_default();
    let log = &log[log.len().saturating_sub(MAX_SHIM_LOG)..];
    String::from_utf8_lossy(log).trim().to_owned()
}

/// A name for a folder that depends on all of `parts`.
pub(crate) fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// A sentence for a name that cannot be an artifact's.
fn bad_artifact(name: &str) -> String {
    format!("artifact {name:?} cannot be the name of a folder; use letters, digits, `-`, `_` and `.`")
}

/// A sentence for what went wrong with the step's folder.
fn disk(error: io::Error) -> String {
    format!("the worker cannot fill the step's directory: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_waited_for_that_a_killed_worker_has_for_a_moment_still() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Runtime::open(dir.path(), Path::new("/bin/false"), DEFAULT_PATH);
        drop(open().unwrap());
        let left = File::open(dir.path().join("lock")).unwrap();
        left.lock().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                // The moment is what is tested.
                thread::sleep(LOOK * 5);
                drop(left);
            });
            open().unwrap();
        });
    }
}
