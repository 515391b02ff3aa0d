//! Checks: `holdall resource TYPE check` as a child process, a fixed number at once.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use holdall_protocol::worker::{CheckOrder, Fact, MetadataField};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::WorkerConfig;
use super::report::Reporter;
use crate::runtime::{self, tree};
use crate::shim::{now_micros, seconds, write_json};

/// How much a check may print: versions.
const MAX_VERSIONS: usize = 16 * 1024 * 1024;

/// How much of what a check says on standard error is kept: the end of it, where the error is.
const MAX_LOG: usize = 8 * 1024;

/// The checks that wait, and the threads that make them.
#[derive(Debug)]
pub struct Checks {
    work_dir: PathBuf,
    executable: PathBuf,
    path: String,
    cache_dir: PathBuf,
    reporter: Arc<Reporter>,
    queue: Mutex<Queue>,
    changed: Condvar,
    most: usize,
}

#[derive(Debug, Default)]
struct Queue {
    stopping: bool,
    threads: usize,
    idle: usize,
    waiting: VecDeque<CheckOrder>,
}

type Versions = Vec<BTreeMap<String, String>>;

/// What a check found: versions, and what is known of each.
#[derive(Debug, Default, serde::Deserialize)]
struct Found {
    versions: Versions,
    #[serde(default)]
    metadata: Vec<Vec<MetadataField>>,
}

impl Checks {
    /// No checks yet, and no threads: those are started as they are needed.
    pub fn new(config: &WorkerConfig, work_dir: &Path, reporter: Arc<Reporter>) -> Arc<Checks> {
        Arc::new(Checks {
            work_dir: work_dir.join("checks"),
            executable: config.executable.clone(),
            path: config.path.clone(),
            cache_dir: work_dir.join("resource-cache"),
            reporter,
            queue: Mutex::default(),
            changed: Condvar::new(),
            most: config.checks.max(1),
        })
    }

    /// Makes the check when its turn comes.
    pub fn add(self: &Arc<Checks>, order: CheckOrder) {
        let mut queue = self.queue();
        queue.waiting.push_back(order);
        if queue.idle < queue.waiting.len() && queue.threads < self.most {
            let checks = Arc::clone(self);
            match thread::Builder::new().name("check".to_owned()).stack_size(512 * 1024).spawn(move || checks.work()) {
                Ok(_) => queue.threads += 1,
                Err(error) => tracing::error!(%error, "no thread for a check"),
            }
        }
        drop(queue);
        self.changed.notify_one();
    }

    /// Lets the threads end when they have made the check that they are at.
    pub fn stop(&self) {
        self.queue().stopping = true;
        self.changed.notify_all();
    }

    fn work(&self) {
        loop {
            let order = {
                let mut queue = self.queue();
                loop {
                    if queue.stopping {
                        return;
                    }
                    if let Some(order) = queue.waiting.pop_front() {
                        break order;
                    }
                    queue.idle += 1;
                    queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                    queue.idle -= 1;
                }
            };
            let (result, metadata) = match self.check(&order) {
                Ok(found) => (Ok(found.versions), found.metadata),
                Err(message) => (Err(message), Vec::new()),
            };
            self.reporter.add(Fact::Checked { check: order.check, at: now_micros(), result, metadata });
        }
    }

    fn check(&self, order: &CheckOrder) -> Result<Found, String> {
        let folder = self.work_dir.join(runtime::digest(&[&order.check]));
        let disk = |e: io::Error| format!("the worker cannot use its folder {}: {e}", folder.display());
        fs::create_dir_all(folder.join("home")).and_then(|()| fs::create_dir_all(folder.join("tmp"))).map_err(disk)?;
        let mut request = serde_json::json!({"source": order.source});
        if let Some(version) = &order.version {
            request["version"] = serde_json::json!(version);
        }
        let result =
            write_json(&folder.join("request.json"), &request).map_err(disk).and_then(|_| self.run(order, &folder));
        if let Err(error) = tree::remove_tree(&folder) {
            tracing::warn!(%error, "the folder of a check cannot be removed");
        }
        result
    }

    fn run(&self, order: &CheckOrder, folder: &Path) -> Result<Found, String> {
        let deadline = Instant::now() + seconds(order.timeout_seconds);
        let request = File::open(folder.join("request.json")).map_err(|e| e.to_string())?;
        let mut child = Command::new(&self.executable)
            .arg0("holdall")
            .args(["resource", &order.resource_type, "check"])
            .env_clear()
            .env("PATH", &self.path)
            .env("HOME", folder.join("home"))
            .env("TMPDIR", folder.join("tmp"))
            .env(runtime::CACHE_DIR, &self.cache_dir)
            .env(crate::resource::DESCRIBE, "1")
            .current_dir(folder)
            .stdin(request)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|e| format!("the check cannot be started: {e}"))?;
        let printed = Printed::read(&mut child, deadline);
        // Whatever it left behind goes with it. It has not been waited for, so the group is still its own.
        let finished = matches!(printed, Ok(Printed { complete: true, .. })) && wait_until(&mut child, deadline);
        if !finished {
            let _ = kill(Pid::from_raw(-(child.id() as i32)), Signal::SIGKILL);
        }
        let status = child.wait().map_err(|e| e.to_string())?;
        let printed = printed.map_err(|e| format!("the check's output cannot be read: {e}"))?;
        if !finished {
            return Err(format!(
                "the check took longer than {} seconds and was stopped{}",
                order.timeout_seconds,
                said(&printed.log)
            ));
        }
        if !status.success() {
            return Err(format!("the check failed ({status}){}", said(&printed.log)));
        }
        parse_versions(&printed.versions)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the child to end, but not longer than until `deadline`.
fn wait_until(child: &mut Child, deadline: Instant) -> bool {
    loop {
        match child.try_wait() {
            Ok(Some(_)) => return true,
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(1)),
            Ok(None) | Err(_) => return false,
        }
    }
}

/// What a check printed.
#[derive(Debug, Default)]
struct Printed {
    versions: Vec<u8>,
    log: Vec<u8>,
    /// Whether both streams were read to their ends.
    complete: bool,
}

impl Printed {
    fn read(child: &mut Child, deadline: Instant) -> io::Result<Printed> {
        let mut printed = Printed::default();
        let mut pipes = [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)]
            .map(|fd| fd.map(File::from));
        for pipe in pipes.iter().flatten() {
            fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        let mut buffer = vec![0; 64 * 1024];
        while pipes.iter().any(Option::is_some) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(printed);
            }
            let mut fds: Vec<PollFd> =
                pipes.iter().flatten().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)).collect();
            let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
            match poll(&mut fds, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
            for (number, slot) in pipes.iter_mut().enumerate() {
                let Some(pipe) = slot else { continue };
                match pipe.read(&mut buffer) {
                    Ok(0) => *slot = None,
                    Ok(n) if number == 0 => {
                        printed.versions.extend_from_slice(&buffer[..n]);
                        if printed.versions.len() > MAX_VERSIONS {
                            return Err(io::Error::other(format!("it is longer than {MAX_VERSIONS} bytes")));
                        }
                    }
                    Ok(n) => {
                        printed.log.extend_from_slice(&buffer[..n]);
                        let surplus = printed.log.len().saturating_sub(MAX_LOG);
                        printed.log.drain(..surplus);
                    }
                    Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                    Err(e) => return Err(e),
                }
            }
        }
        printed.complete = true;
        Ok(printed)
    }
}

fn said(log: &[u8]) -> String {
    let log = String::from_utf8_lossy(log);
    match log.trim() {
        "" => String::new(),
        log => format!(": {log}"),
    }
}

/// What `check` prints: a list of versions (reference, section 2.1; nothing and `null` are none), or versions with what
/// is known of them.
fn parse_versions(text: &[u8]) -> Result<Found, String> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(Found::default());
    }
    let unreadable = |e: serde_json::Error| format!("the check printed something else than a list of versions: {e}");
    let is_described = text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    let found = if is_described {
        serde_json::from_slice(text).map_err(unreadable)?
    } else {
        let versions: Option<Versions> = serde_json::from_slice(text).map_err(unreadable)?;
        Found { versions: versions.unwrap_or_default(), metadata: Vec::new() }
    };
    if found.versions.iter().any(BTreeMap::is_empty) {
        return Err("resource output version is empty. Version must contain at least one key-value pair".to_owned());
    }
    Ok(found)
}
