//! The worker's session with a server: it dials out, says what it holds, asks for orders and reports.
//!
//! Threads: one polls for orders; one reports ([`report`]); one for each attempt that is under way, which does
//! nothing but wait most of the time; and a fixed number for checks ([`check`]). When the process ends, the shims
//! of the attempts go on, and the next worker on the same folder takes the attempts up again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use holdall_protocol::worker::{Assignment, Ending, HeldAttempt, Hello, Orders, Poll, StopOrder, Welcome};

use crate::runtime::{self, OpenError, Runtime};

mod check;
mod client;
mod report;

use check::Checks;
use client::{Client, Failure};
use report::Reporter;

/// How many attempts that are gone are remembered, so that a late order does not start one again.
const REMEMBERED: usize = 4096;

/// What a worker is.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// The server's address, `http://HOST:PORT`.
    pub server: String,
    /// What it lets workers in with.
    pub token: String,
    /// The worker's name, stable over restarts.
    pub name: String,
    /// Where everything is kept.
    pub work_dir: PathBuf,
    /// `holdall`; [`WorkerConfig::OWN_EXECUTABLE`] is this process's own.
    pub executable: PathBuf,
    /// How many steps at once.
    pub slots: u32,
    /// How many checks at once.
    pub checks: usize,
    /// Only steps with one of these tags; empty: steps without tags.
    pub tags: Vec<String>,
    /// Only this team's steps; `None`: everyone's.
    pub team: Option<String>,
    /// `PATH` of steps.
    pub path: String,
}

impl WorkerConfig {
    /// The running program, also when its file has been replaced by a newer one.
    pub const OWN_EXECUTABLE: &str = "/proc/self/exe";

    /// How many steps run at once by default. Most of a step's time is spent waiting for something.
    pub const SLOTS: u32 = 64;

    /// A worker with the defaults: [`WorkerConfig::SLOTS`] steps and 8 checks at once, no tags, every team's, [`runtime::DEFAULT_PATH`].
    pub fn new(server: &str, token: &str, name: &str, work_dir: &Path) -> WorkerConfig {
        WorkerConfig {
            server: server.to_owned(),
            token: token.to_owned(),
            name: name.to_owned(),
            work_dir: work_dir.to_owned(),
            executable: PathBuf::from(WorkerConfig::OWN_EXECUTABLE),
            slots: WorkerConfig::SLOTS,
            checks: 8,
            tags: Vec::new(),
            team: None,
            path: runtime::DEFAULT_PATH.to_owned(),
        }
    }
}

/// A session could not be started, or has ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The work folder cannot be used.
    #[error(transparent)]
    WorkDir(#[from] OpenError),
    /// Another process has the worker's name now.
    #[error(
        "the server says that this session of worker `{0}` is old: another worker of that name has started since; give each worker a name of its own"
    )]
    Replaced(String),
    /// The token is wrong, or may not do this.
    #[error(
        "the server {server} refuses the worker's token ({detail}); give it one that `holdall token create` made there"
    )]
    Refused {
        /// The server.
        server: String,
        /// What it said.
        detail: String,
    },
    /// The machine does not give what is needed.
    #[error("cannot start the worker")]
    Io(#[from] std::io::Error),
}

/// A worker that runs in threads of this process.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    session: Mutex<Option<JoinHandle<Result<(), Error>>>>,
}

impl Worker {
    /// Takes the work folder and starts the session; connecting goes on in the background for as long as it takes.
    pub fn start(config: WorkerConfig) -> Result<Worker, Error> {
        let runtime = Runtime::open(&config.work_dir, &config.executable, &config.path)?;
        let client = Client::new(&config.server, &config.token);
        let session_id = random_id()?;
        let reporter = Reporter::new(client.clone(), &config.name, &session_id)?;
        let checks = Checks::new(&config, runtime.work_dir(), Arc::clone(&reporter));
        let shared = Arc::new(Shared {
            runtime,
            client,
            session_id,
            reporter,
            checks,
            stopping: AtomicBool::new(false),
            attempts: Mutex::default(),
            config,
        });
        let session = {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name("worker".to_owned()).spawn(move || shared.run())?
        };
        Ok(Worker { shared, session: Mutex::new(Some(session)) })
    }

    /// Lets go of the server; steps go on under their shims. Returns at once; [`Worker::wait`] waits for it.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.reporter.stop();
    }

    /// Waits until the session has ended, and says why if it was not [`Worker::stop`]. Only the first call waits.
    pub fn wait(&self) -> Result<(), Error> {
        let Some(session) = self.session.lock().unwrap_or_else(PoisonError::into_inner).take() else { return Ok(()) };
        session.join().unwrap_or_else(|_| Err(Error::Io(std::io::Error::other("the worker's thread panicked"))))
    }
}

/// The attempts of this process.
#[derive(Debug, Default)]
struct Attempts {
    /// Those that the server knows that this worker has, with whether a thread still brings them to their end.
    held: BTreeMap<String, (i64, bool)>,
    /// Those that are gone.
    gone: VecDeque<String>,
    /// Those to be removed as soon as they have ended.
    unwanted: BTreeSet<String>,
}

#[derive(Debug)]
struct Shared {
    config: WorkerConfig,
    session_id: String,
    runtime: Runtime,
    client: Client,
    reporter: Arc<Reporter>,
    checks: Arc<Checks>,
    stopping: AtomicBool,
    attempts: Mutex<Attempts>,
}

impl Shared {
    fn run(self: &Arc<Shared>) -> Result<(), Error> {
        let on_disk: BTreeMap<String, Assignment> =
            self.runtime.held()?.into_iter().map(|held| (held.attempt.clone(), held)).collect();
        let reporting = {
            let reporter = Arc::clone(&self.reporter);
            let refused = {
                let shared = Arc::clone(self);
                move |attempt: &str| shared.drop_attempt(attempt)
            };
            thread::Builder::new().name("reporter".to_owned()).spawn(move || reporter.run(&refused))?
        };
        let result = self.serve(on_disk);
        self.reporter.stop();
        self.checks.stop();
        let _ = reporting.join();
        if self.stopping.load(Ordering::SeqCst) { Ok(()) } else { result }
    }

    /// Says hello, and asks for orders until the session ends; says hello again when the server was away.
    fn serve(self: &Arc<Shared>, mut on_disk: BTreeMap<String, Assignment>) -> Result<(), Error> {
        let mut first = true;
        'hello: loop {
            let Some(welcome) = self.hello(&on_disk, first)? else { return Ok(()) };
            self.welcomed(&welcome, std::mem::take(&mut on_disk));
            if first {
                tracing::info!(server = %self.config.server, worker = %self.config.name, "the worker is connected");
            }
            first = false;
            while !self.stopping.load(Ordering::SeqCst) {
                let (free_slots, running) = {
                    let attempts = self.attempts();
                    let busy = attempts.held.values().filter(|(_, busy)| *busy).count();
                    (self.config.slots.saturating_sub(busy as u32), attempts.held.keys().cloned().collect())
                };
                let poll =
                    Poll { name: self.config.name.clone(), session: self.session_id.clone(), free_slots, running };
                match self.client.poll(&poll) {
                    Ok(orders) => self.follow(orders),
                    Err(Failure::Conflict(_)) => return Err(Error::Replaced(self.config.name.clone())),
                    Err(failure) => {
                        if !self.stopping.load(Ordering::SeqCst) {
                            tracing::warn!(server = %self.config.server, %failure, "the server is away; steps go on");
                        }
                        continue 'hello;
                    }
                }
            }
            return Ok(());
        }
    }

    /// Says hello until the server answers; `None` when the worker is stopped before. Only the very first refusal of
    /// the token is an error: one that comes later may be a mistake that is being repaired, while steps run.
    fn hello(&self, on_disk: &BTreeMap<String, Assignment>, first: bool) -> Result<Option<Welcome>, Error> {
        let mut backoff = client::Backoff::default();
        loop {
            if self.stopping.load(Ordering::SeqCst) {
                return Ok(None);
            }
            let mut attempts: Vec<HeldAttempt> =
                on_disk.values().map(|held| HeldAttempt { attempt: held.attempt.clone(), fence: held.fence }).collect();
            attempts.extend(
                self.attempts()
                    .held
                    .iter()
                    .map(|(attempt, (fence, _))| HeldAttempt { attempt: attempt.clone(), fence: *fence }),
            );
            let hello = Hello {
                name: self.config.name.clone(),
                session: self.session_id.clone(),
                platform: "linux".to_owned(),
                tags: self.config.tags.clone(),
                team: self.config.team.clone(),
                slots: self.config.slots,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                attempts,
            };
            match self.client.hello(&hello) {
                Ok(welcome) => return Ok(Some(welcome)),
                Err(Failure::Conflict(_)) => return Err(Error::Replaced(self.config.name.clone())),
                Err(Failure::Refused(detail)) if first => {
                    return Err(Error::Refused { server: self.config.server.clone(), detail });
                }
                Err(failure) => {
                    tracing::debug!(server = %self.config.server, %failure, "the server does not answer yet");
                    self.reporter.sleep(backoff.next());
                }
            }
        }
    }

    /// Goes on with what the server still wants, from where it has it, and drops the rest.
    fn welcomed(self: &Arc<Shared>, welcome: &Welcome, on_disk: BTreeMap<String, Assignment>) {
        for (attempt, assignment) in on_disk {
            match welcome.resume.get(&attempt) {
                Some(_) => self.begin(assignment),
                None => {
                    // It has to be brought to its end first, whatever it is doing.
                    self.begin(assignment);
                    self.drop_attempt(&attempt);
                }
            }
        }
        let held: Vec<String> = self.attempts().held.keys().cloned().collect();
        for attempt in held {
            match welcome.resume.get(&attempt) {
                Some(offset) => self.reporter.rewind(&attempt, *offset),
                None => self.drop_attempt(&attempt),
            }
        }
        self.reporter.resume();
    }

    fn follow(self: &Arc<Shared>, orders: Orders) {
        for assignment in orders.start {
            self.start(assignment);
        }
        for order in orders.stop {
            self.stop_attempt(&order);
        }
        for attempt in orders.forget {
            self.drop_attempt(&attempt);
        }
        for build in orders.forget_builds {
            if let Err(error) = self.runtime.forget_build(build) {
                tracing::warn!(build, %error, "the artifacts of a build cannot be removed");
            }
        }
        for check in orders.checks {
            self.checks.add(check);
        }
    }

    /// Takes an attempt that the server hands out; twice is the same as once.
    fn start(self: &Arc<Shared>, assignment: Assignment) {
        {
            let attempts = self.attempts();
            if attempts.held.contains_key(&assignment.attempt) || attempts.gone.contains(&assignment.attempt) {
                return;
            }
        }
        if let Err(message) = self.runtime.accept(&assignment) {
            self.reporter.ended_without_folder(&assignment, Ending::CouldNotRun { message });
            return;
        }
        self.begin(assignment);
        // No new output can have been reported by anyone.
    }

    /// Brings an attempt to its end in a thread of its own, and lets it be reported.
    fn begin(self: &Arc<Shared>, assignment: Assignment) {
        let attempt = assignment.attempt.clone();
        self.attempts().held.insert(attempt.clone(), (assignment.fence, true));
        self.reporter.follow(&assignment, &self.runtime.folder(&attempt));
        let shared = Arc::clone(self);
        let spawned = thread::Builder::new().name(format!("step {attempt}")).stack_size(512 * 1024).spawn(move || {
            let ending = shared.runtime.run(&assignment);
            let unwanted = {
                let mut attempts = shared.attempts();
                if let Some(held) = attempts.held.get_mut(&assignment.attempt) {
                    held.1 = false;
                }
                attempts.unwanted.contains(&assignment.attempt)
            };
            if unwanted {
                shared.remove(&assignment.attempt);
            } else {
                shared.reporter.ended(&assignment.attempt, ending);
            }
        });
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread for a step; it is started when the worker is restarted");
        }
    }

    fn stop_attempt(&self, order: &StopOrder) {
        let held = self.attempts().held.get(&order.attempt).copied();
        if held.is_none_or(|(fence, busy)| fence != order.fence || !busy) {
            return;
        }
        if let Err(error) = self.runtime.stop(&order.attempt) {
            tracing::error!(attempt = %order.attempt, %error, "a step cannot be stopped");
        }
    }

    /// Removes an attempt that nobody wants any more; one that runs is stopped first.
    fn drop_attempt(&self, attempt: &str) {
        let busy = {
            let mut attempts = self.attempts();
            let Some((_, busy)) = attempts.held.get(attempt).copied() else { return };
            if busy {
                attempts.unwanted.insert(attempt.to_owned());
            }
            busy
        };
        self.reporter.leave(attempt);
        if busy {
            if let Err(error) = self.runtime.stop(attempt) {
                tracing::error!(attempt, %error, "a step that nobody wants any more cannot be stopped");
            }
        } else {
            self.remove(attempt);
        }
    }

    fn remove(&self, attempt: &str) {
        if let Err(error) = self.runtime.forget(attempt) {
            tracing::warn!(attempt, %error, "a step's folder cannot be removed");
        }
        let mut attempts = self.attempts();
        attempts.held.remove(attempt);
        attempts.unwanted.remove(attempt);
        attempts.gone.push_back(attempt.to_owned());
        if attempts.gone.len() > REMEMBERED {
            attempts.gone.pop_front();
        }
    }

    fn attempts(&self) -> std::sync::MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn random_id() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// How long a request that is not a poll may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
