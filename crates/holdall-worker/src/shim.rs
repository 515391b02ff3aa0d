//! The process around each step (`holdall shim DIR`). It outlives the worker that started it: a worker that is
//! restarted or upgraded finds the step still running and its output in the folder.
//!
//! The folder:
//!
//! | file | written by | what |
//! |---|---|---|
//! | `spec.json` | worker | a [`Spec`]: what to run and how it is stopped |
//! | `lock` | worker | open and locked (`flock`) as the shim's standard input: locked as long as the shim lives |
//! | `control` | worker | a FIFO; any byte in it makes the shim look at `stop` |
//! | `stop` | worker | that the step is to be stopped; written before the FIFO is, so that no stop is lost |
//! | `began` | shim | made, and never before, right before the process is started |
//! | `child.json` | shim | a [`ChildRecord`], when the process runs |
//! | `output` | both | see [`crate::output`]; the worker writes only before the shim starts |
//! | `exit.json` | shim | an [`ExitRecord`]; appears whole and last |
//!
//! When `exit.json` is there, the shim closes its standard output, by which the worker that started it knows, and
//! only then waits until everything is on the disk. A power cut in these few milliseconds may take the record: then
//! the step counts as lost where the server had not heard of its end.
//!
//! # Whose processes
//!
//! The step's process leads a process group of its own, and the shim is the *subreaper* of all that descends from
//! it: a process that forks away, changes its group or its session comes back to the shim when its parent ends. So
//! the shim knows when nothing of the step is left, and can end what is.
//!
//! # Ends
//!
//! - The process ends by itself: what it left behind has [`LINGER`] to write what it has to write (a `tee`, say),
//!   or until it closes the step's output; then it is killed. What it had written by then is kept.
//! - A stop or the time limit, which goes on while the machine sleeps ([`clock`]): the signal goes to the process group *once*; output is kept on being read; the
//!   step ends when nothing of it is left, or after the grace, when everything of it is killed.
//!
//! So a step never ends while a process of it runs, and never waits for one that only holds its output open.
//! After the last process has ended, its pipes are read until they are empty; a process outside (one that was
//! handed the pipe over a socket) cannot prolong that.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use holdall_protocol::worker::StopPolicy;
use nix::sys::signal::Signal;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub mod clock;
mod sink;
mod start;
mod supervise;

use clock::Clock;

/// How long what a process leaves behind may go on writing output after it has ended by itself.
pub const LINGER: Duration = Duration::from_millis(500);

/// How much a resource may print on its standard output.
pub const MAX_RESULT: usize = 4 * 1024 * 1024;

/// What a shim runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// Program and arguments. A program without `/` is looked up on `PATH` of `env`, a relative one from `cwd`.
    pub argv: Vec<String>,
    /// The environment, whole: nothing is inherited.
    pub env: BTreeMap<String, String>,
    /// Where it runs.
    pub cwd: PathBuf,
    /// What is on its standard input; `None`: nothing.
    pub stdin: Option<PathBuf>,
    /// How it is stopped.
    pub stop: StopPolicy,
    /// How long it may take.
    pub timeout_seconds: Option<f64>,
    /// Whether standard output is a result (a resource's) and not output for people (a task's).
    pub capture_stdout: bool,
}

/// The process of a step, as it is named on this machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChildRecord {
    /// Its process id, which is its group's too.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`: with it, a process id is not mistaken for that of a later process.
    pub start_ticks: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
    /// When it was started, microseconds since 1970.
    pub at: i64,
}

/// How a step's process ended, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Microseconds since 1970.
    pub at: i64,
    /// How.
    pub end: End,
    /// What a resource's process printed on its standard output if it exited with 0: at most [`MAX_RESULT`] bytes,
    /// and some more where there was more; it ends with U+FFFD in the place of the first byte that is not UTF-8.
    #[serde(default)]
    pub result: Option<String>,
}

/// How a step's process ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum End {
    /// By itself.
    Exited {
        /// Its exit status.
        status: i32,
    },
    /// By a signal that the shim did not send.
    Signalled {
        /// The signal's number.
        signal: i32,
    },
    /// By the time limit.
    TimedOut {
        /// Whether it was killed after the grace.
        killed: bool,
    },
    /// By a stop.
    Stopped {
        /// Whether it was killed after the grace.
        killed: bool,
    },
    /// It was never started.
    CouldNotStart {
        /// Why, with the remedy where there is one.
        message: String,
    },
}

/// Runs the step in `dir` to its end; `holdall shim DIR` is this and nothing else. Its standard input is the open
/// and locked lock file of the folder. Gives success if the step's end is recorded, whatever it is.
pub fn shim_main(dir: &Path) -> ExitCode {
    shim_main_with(dir, Settings::default())
}

/// What a shim goes by; the default is how it is, and anything else is for tests.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// By which limits and graces are over.
    pub clock: Clock,
}

/// The same as [`shim_main`], with other settings.
pub fn shim_main_with(dir: &Path, settings: Settings) -> ExitCode {
    match supervise::run(dir, settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is `shim.log` of the folder; nobody is there to tell if that cannot be written.
            let _ = writeln!(io::stderr(), "holdall shim: {}: {error}", dir.display());
            ExitCode::FAILURE
        }
    }
}

/// The signal that a policy names; TERM for a name that is not one of the six.
pub fn stop_signal(policy: &StopPolicy) -> Signal {
    match policy.signal.trim_start_matches("SIG") {
        "INT" => Signal::SIGINT,
        "HUP" => Signal::SIGHUP,
        "QUIT" => Signal::SIGQUIT,
        "USR1" => Signal::SIGUSR1,
        "USR2" => Signal::SIGUSR2,
        _ => Signal::SIGTERM,
    }
}

/// A span from seconds that came from outside; what is not a sensible number becomes the nearest that is.
pub fn seconds(seconds: f64) -> Duration {
    const MOST: f64 = 10.0 * 365.0 * 86400.0;
    if seconds.is_nan() { Duration::ZERO } else { Duration::from_secs_f64(seconds.clamp(0.0, MOST)) }
}

/// Microseconds since 1970.
pub fn now_micros() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

/// Writes JSON so that the file appears whole or not at all. Gives the file, for who wants to wait until it is on the
/// disk.
pub fn write_json(path: &Path, value: &impl Serialize) -> io::Result<File> {
    let mut temporary = OsString::from(path);
    temporary.push(".new");
    let mut file = File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    fs::rename(&temporary, path)?;
    Ok(file)
}

/// Reads a file of JSON; `None` where there is none.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
