//! Keeps one service of the demo running: starts its process, reads from it where it listens, starts it again when it
//! dies, and ends it. The supervisor says what is to run; this does not know why.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a service may take to end after it was asked to, before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// The pause before a service that died is started again; doubled each time up to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// How to start a service.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Where it runs.
    pub environment: String,
    /// What it is.
    pub service: String,
    /// Its version.
    pub commit: String,
    /// Where it is to listen, if that is free.
    pub port: Option<u16>,
    /// Its files.
    pub release: PathBuf,
    /// The environment's database.
    pub database: PathBuf,
    /// Where its log is appended.
    pub log: PathBuf,
}

/// How a service does.
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    /// Started, and does not listen yet.
    Starting,
    /// Answers at the port.
    Listening {
        /// On 127.0.0.1.
        port: u16,
    },
    /// Ended or never started; it is tried again.
    Down {
        /// What happened.
        problem: String,
    },
}

/// A service that is kept running until this is dropped.
#[derive(Debug)]
pub struct Runner {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    is_stopping: bool,
    /// The process, until it has been waited for. Closing its standard input asks it to end.
    process: Option<(Pid, Option<ChildStdin>)>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, phase: Phase) {
        self.lock().phase = phase;
        self.changed.notify_all();
    }
}

impl Runner {
    /// Starts it and returns at once.
    pub fn start(launch: Launch) -> Runner {
        let state = State { phase: Phase::Starting, is_stopping: false, process: None };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let for_thread = Arc::clone(&shared);
        let thread = thread::spawn(move || keep_running(&for_thread, launch));
        Runner { shared, thread: Some(thread) }
    }

    /// How it does now.
    pub fn phase(&self) -> Phase {
        self.shared.lock().phase.clone()
    }

    /// Waits until it listens or is down, at most that long.
    pub fn wait_until_settled(&self, limit: Duration) -> Phase {
        let state = self.shared.lock();
        let is_open = |state: &mut State| state.phase == Phase::Starting;
        let waited = self.shared.changed.wait_timeout_while(state, limit, is_open);
        waited.unwrap_or_else(PoisonError::into_inner).0.phase.clone()
    }

    /// Asks it to end and returns at once.
    pub fn ask_to_stop(&self) {
        let mut state = self.shared.lock();
        state.is_stopping = true;
        if let Some((_, input)) = &mut state.process {
            *input = None;
        }
        self.shared.changed.notify_all();
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.ask_to_stop();
        let state = self.shared.lock();
        let is_there = |state: &mut State| state.process.is_some();
        let waited = self.shared.changed.wait_timeout_while(state, STOP_LIMIT, is_there);
        let state = waited.unwrap_or_else(PoisonError::into_inner).0;
        if let Some((pid, _)) = &state.process {
            // That it just ended is no error.
            let _ended = kill(*pid, Signal::SIGKILL);
        }
        drop(state);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed; there is nothing left to stop.
            let _result = thread.join();
        }
    }
}

fn keep_running(shared: &Shared, mut launch: Launch) {
    let mut pause = PAUSES.0;
    loop {
        let begun = Instant::now();
        let problem = match spawn(&launch) {
            Ok(child) => run_once(shared, &mut launch, child),
            Err(error) => format!("cannot be started: {error}"),
        };
        let mut state = shared.lock();
        if state.is_stopping {
            return;
        }
        state.phase = Phase::Down { problem };
        shared.changed.notify_all();
        pause = if begun.elapsed() > PAUSES.1 { PAUSES.0 } else { (pause * 2).min(PAUSES.1) };
        let waited = shared.changed.wait_timeout_while(state, pause, |state| !state.is_stopping);
        if waited.unwrap_or_else(PoisonError::into_inner).0.is_stopping {
            return;
        }
    }
}

fn spawn(launch: &Launch) -> std::io::Result<Child> {
    let log = fs::OpenOptions::new().create(true).append(true).open(&launch.log)?;
    Command::new(&launch.program)
        .arg("demo-service")
        .args(["--environment", &launch.environment, "--service", &launch.service, "--commit", &launch.commit])
        .args(["--port", &launch.port.unwrap_or(0).to_string()])
        .arg("--database")
        .arg(&launch.database)
        .current_dir(&launch.release)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        // Ctrl-C in the demo's terminal is for the demo, which stops its services in order.
        .process_group(0)
        .spawn()
}

/// Follows one process to its end, and says how it ended.
fn run_once(shared: &Shared, launch: &mut Launch, mut child: Child) -> String {
    let output = child.stdout.take();
    {
        let mut state = shared.lock();
        let input = child.stdin.take().filter(|_| !state.is_stopping);
        state.process = Some((Pid::from_raw(child.id().cast_signed()), input));
    }
    // The first line says where it listens. The end of its output is the end of the process, which is waited for
    // under the lock: whoever finds `process` there may send it a signal, since its id is still its own.
    let mut port = None;
    for line in output.into_iter().flat_map(|output| BufReader::new(output).lines().map_while(Result::ok)) {
        if let Some(heard) = line.strip_prefix("listening ").and_then(|port| port.parse().ok()) {
            port = Some(heard);
            launch.port = port;
            shared.set(Phase::Listening { port: heard });
        }
    }
    let mut state = shared.lock();
    let ended = child.kill().and_then(|()| child.wait());
    state.process = None;
    shared.changed.notify_all();
    drop(state);
    let log = launch.log.display();
    match ended {
        Ok(status) if port.is_none() => format!("ended before it listened ({status}); see {log}"),
        Ok(status) => format!("ended ({status}); see {log}"),
        Err(error) => format!("cannot be waited for: {error}"),
    }
}
