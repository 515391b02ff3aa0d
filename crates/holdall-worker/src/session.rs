//! The worker's session with a server: it dials out, says what it holds, asks for orders and reports.
//!
//! Threads: one polls for orders; one reports ([`report`]); one for each attempt that is under way, which does
//! nothing but wait most of the time; and a fixed number for checks ([`check`]). When the process ends, the shims
//! of the attempts go on, and the next worker on the same folder takes the attempts up again.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use holdall_protocol::worker::{Assignment, HeldAttempt, Hello, History, Orders, Poll, StopOrder, Welcome};

use crate::runtime::{self, OpenError, Runtime, tree};

mod check;
mod client;
mod history;
mod memory;
mod report;

use check::Checks;
use client::{Client, Failure};
use history::Remembered;
use memory::Memory;
use report::Reporter;

/// How many attempts that are gone are remembered, so that a late order does not start one again.
const REMEMBERED: usize = 4096;

/// How many builds are named at once: what can be removed of them is removed before anything else is done.
const MOST_BUILDS: usize = 200;

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

/// A worker that runs in threads of this process. Dropping it changes nothing: it runs until it is stopped.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
}

impl Worker {
    /// Takes the work folder and starts the session; connecting goes on in the background for as long as it takes.
    /// One process cannot start a second worker on the same folder, also not after the first was stopped: the steps
    /// that run are still the first one's.
    pub fn start(config: WorkerConfig) -> Result<Worker, Error> {
        let runtime = Runtime::open(&config.work_dir, &config.executable, &config.path)?;
        let memory = Memory::open(runtime.work_dir(), runtime.boot());
        // Nothing is given to a worker before the file is there that the memory looks at, so that what is in the folder
        // was made during an earlier boot.
        if memory.forgot().is_some() {
            runtime.distrust()?;
        }
        let client = Client::new(&config.server, &config.token);
        let session_id = random_id()?;
        let reporter = Reporter::new(client.clone(), &config.name, &session_id)?;
        let checks = Checks::new(&config, runtime.work_dir(), Arc::clone(&reporter));
        let shared = Arc::new(Shared {
            history: Remembered::open(runtime.work_dir()),
            memory,
            runtime,
            client,
            session_id,
            reporter,
            checks,
            end: End::default(),
            attempts: Mutex::default(),
            config,
        });
        empty_trash(&shared.runtime)?;
        let session = Arc::clone(&shared);
        thread::Builder::new().name("worker".to_owned()).spawn(move || {
            let result = session.run();
            session.end(result);
        })?;
        Ok(Worker { shared })
    }

    /// Lets go of the server; steps go on under their shims. Returns at once.
    pub fn stop(&self) {
        self.shared.end(Ok(()));
    }

    /// Waits until the session has ended, and says why if it was not [`Worker::stop`]. Only one caller is told.
    pub fn wait(&self) -> Result<(), Error> {
        self.shared.end.wait()
    }
}

/// Whether the session has ended, and how: what ends it first counts.
#[derive(Debug, Default)]
struct End {
    /// The inner one is taken by who waits.
    result: Mutex<Option<Option<Result<(), Error>>>>,
    changed: Condvar,
}

impl End {
    fn set(&self, result: Result<(), Error>) {
        let mut end = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        end.get_or_insert(Some(result));
        self.changed.notify_all();
    }

    fn is_set(&self) -> bool {
        self.result.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn wait(&self) -> Result<(), Error> {
        let end = self.result.lock().unwrap_or_else(PoisonError::into_inner);
        let mut end = self.changed.wait_while(end, |end| end.is_none()).unwrap_or_else(PoisonError::into_inner);
        end.as_mut().and_then(Option::take).unwrap_or(Ok(()))
    }
}

/// The attempts of this process.
#[derive(Debug, Default)]
struct Attempts {
    held: BTreeMap<String, Held>,
    /// Those that are gone, with the installation that they were of.
    gone: VecDeque<(Option<String>, String)>,
}

impl Attempts {
    /// Remembers an attempt that a late order must not start.
    fn note_gone(&mut self, installation: Option<String>, attempt: &str) {
        self.gone.push_back((installation, attempt.to_owned()));
        if self.gone.len() > REMEMBERED {
            self.gone.pop_front();
        }
    }
}

/// An attempt whose folder is here.
#[derive(Debug)]
struct Held {
    fence: i64,
    /// The server's installation; one that began with an empty database gives the same ids once more.
    installation: Option<String>,
    /// A thread brings it to its end.
    busy: bool,
    /// It goes as soon as it has ended.
    unwanted: bool,
    /// It is to be stopped, and the disk has not taken that yet. Nobody says so again: the server has said it.
    owes_stop: bool,
}

impl Held {
    /// One that is about to be brought to its end.
    fn new(assignment: &Assignment, installation: Option<String>) -> Held {
        Held { fence: assignment.fence, installation, busy: true, unwanted: false, owes_stop: false }
    }
}

#[derive(Debug)]
struct Shared {
    config: WorkerConfig,
    session_id: String,
    runtime: Runtime,
    client: Client,
    reporter: Arc<Reporter>,
    checks: Arc<Checks>,
    history: Remembered,
    memory: Memory,
    end: End,
    attempts: Mutex<Attempts>,
}

impl Shared {
    /// The session, from hello to its end.
    fn run(self: &Arc<Shared>) -> Result<(), Error> {
        let on_disk = self.runtime.held()?;
        let shared = Arc::clone(self);
        thread::Builder::new().name("reporter".to_owned()).spawn(move || {
            let refused = |attempt: &str| shared.drop_attempt(attempt);
            if let Err(failure) = shared.reporter.run(&refused) {
                tracing::debug!(%failure, "reporting ends");
                shared.end(Err(shared.replaced()));
            }
        })?;
        self.serve(on_disk)
    }

    /// Ends all threads but those of the attempts, which wait for their shims.
    fn end(&self, result: Result<(), Error>) {
        self.end.set(result);
        self.reporter.stop();
        self.checks.stop();
    }

    fn replaced(&self) -> Error {
        Error::Replaced(self.config.name.clone())
    }

    /// Says hello, and asks for orders until the session ends; says hello again when the server was away.
    fn serve(self: &Arc<Shared>, mut on_disk: Vec<Assignment>) -> Result<(), Error> {
        let mut first = true;
        // Grows as long as polls fail, also where hellos succeed.
        let mut backoff = client::Backoff::default();
        while let Some(welcome) = self.hello(&on_disk, first)? {
            if let Some(told) = self.another_installation(&welcome) {
                self.begin_anew(told, std::mem::take(&mut on_disk));
                // What this worker has of it: nothing.
                continue;
            }
            self.welcomed(&welcome, std::mem::take(&mut on_disk));
            let again = if first { "" } else { " again" };
            tracing::info!(server = %self.config.server, worker = %self.config.name, "the worker is connected{again}");
            first = false;
            while !self.end.is_set() {
                self.stop_again();
                match self.client.poll(&self.poll()) {
                    // What comes after the end is for the next session, which is told again.
                    Ok(_) if self.end.is_set() => return Ok(()),
                    Ok(orders) => {
                        backoff = client::Backoff::default();
                        self.follow(orders);
                    }
                    Err(Failure::Conflict(_)) => return Err(self.replaced()),
                    Err(_) if self.end.is_set() => return Ok(()),
                    Err(failure) => {
                        tracing::warn!(server = %self.config.server, %failure, "the server is away; steps go on");
                        self.reporter.sleep(backoff.next());
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn poll(&self) -> Poll {
        // They have ended as far as this worker is concerned: the server must not send them again.
        let untold = self.reporter.untold().into_iter().map(|(attempt, _)| attempt);
        let attempts = self.attempts();
        let busy = attempts.held.values().filter(|held| held.busy).count();
        Poll {
            name: self.config.name.clone(),
            session: self.session_id.clone(),
            free_slots: self.config.slots.saturating_sub(u32::try_from(busy).unwrap_or(u32::MAX)),
            running: attempts.held.keys().cloned().chain(untold).collect(),
        }
    }

    /// Says hello until the server answers; `None` when the session ends before. Only the very first refusal of the
    /// token is an error: one that comes later may be a mistake that is being repaired, while steps run.
    fn hello(&self, on_disk: &[Assignment], first: bool) -> Result<Option<Welcome>, Error> {
        let mut backoff = client::Backoff::default();
        while !self.end.is_set() {
            self.stop_again();
            let held =
                self.attempts().held.iter().map(|(attempt, held)| (attempt.clone(), held.fence)).collect::<Vec<_>>();
            let found = on_disk.iter().map(|found| (found.attempt.clone(), found.fence));
            let held = held.into_iter().chain(self.reporter.untold());
            let attempts = found.chain(held).map(|(attempt, fence)| HeldAttempt { attempt, fence }).collect();
            let hello = Hello {
                name: self.config.name.clone(),
                session: self.session_id.clone(),
                platform: "linux".to_owned(),
                tags: self.config.tags.clone(),
                team: self.config.team.clone(),
                slots: self.config.slots,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                attempts,
                builds: self.builds(),
                history: self.history.get(),
                forgot: self.memory.forgot(),
            };
            match self.client.hello(&hello) {
                Ok(welcome) => return Ok(Some(welcome)),
                Err(Failure::Conflict(_)) => return Err(self.replaced()),
                Err(Failure::Refused(detail)) if first => {
                    return Err(Error::Refused { server: self.config.server.clone(), detail });
                }
                Err(failure) => {
                    tracing::debug!(server = %self.config.server, %failure, "the server does not answer yet");
                    self.reporter.sleep(backoff.next());
                }
            }
        }
        Ok(None)
    }

    /// The oldest builds that have artifacts here.
    fn builds(&self) -> Vec<i64> {
        let mut builds = self.runtime.builds().unwrap_or_default();
        builds.sort_unstable();
        builds.truncate(MOST_BUILDS);
        builds
    }

    /// The server's history, where it is not of the installation that the work folder is of.
    fn another_installation<'a>(&self, welcome: &'a Welcome) -> Option<&'a History> {
        let known = self.history.installation()?;
        welcome.history.as_ref().filter(|told| told.installation != known)
    }

    /// Ends and throws away what is of the installation before: the ids of its builds, jobs and attempts may be given once
    /// more. The new one is written down last, so a worker that is killed meanwhile begins with this again.
    fn begin_anew(self: &Arc<Shared>, told: &History, on_disk: Vec<Assignment>) {
        let server = &self.config.server;
        tracing::warn!(%server, "the server is not the one of before: what this worker has of that one is removed first");
        let before = self.history.installation();
        self.reporter.begin_anew();
        for found in on_disk {
            let owes_stop = !self.try_stop(&found.attempt);
            let held = Held { owes_stop, ..Held::new(&found, before.clone()) };
            self.begin(found, held);
        }
        let held: Vec<String> = self.attempts().held.keys().cloned().collect();
        for attempt in held {
            self.drop_attempt(&attempt);
        }
        // Until it has ended, a step may leave artifacts.
        while !self.attempts().held.is_empty() && !self.end.is_set() {
            self.stop_again();
            self.reporter.sleep(ENDS);
        }
        let mut backoff = client::Backoff::default();
        while !self.end.is_set() {
            let forgotten = self.memory.begin_anew().and_then(|()| self.runtime.forget_ids());
            match forgotten.and_then(|()| self.history.begin_anew(told)) {
                Ok(()) => break,
                Err(error) => {
                    tracing::error!(%error, "the worker cannot remove what is of the server before; it is tried again");
                    self.reporter.sleep(backoff.next());
                }
            }
        }
        if let Err(error) = empty_trash(&self.runtime) {
            tracing::warn!(%error, "what is not needed any more is removed when the worker is restarted");
        }
    }

    /// Goes on with what the server still wants, from where it has it, and drops the rest.
    fn welcomed(self: &Arc<Shared>, welcome: &Welcome, on_disk: Vec<Assignment>) {
        // Before it is given anything.
        self.memory.begins();
        let before = self.history.installation();
        self.history.learn(welcome.history.as_ref());
        for found in on_disk {
            // What nobody wants has to be brought to its end too, and must not be started for that.
            let owes_stop = !welcome.resume.contains_key(&found.attempt) && !self.try_stop(&found.attempt);
            let held = Held { owes_stop, ..Held::new(&found, before.clone()) };
            self.begin(found, held);
        }
        let held: Vec<String> = self.attempts().held.keys().cloned().collect();
        for attempt in held {
            match welcome.resume.get(&attempt) {
                Some(offset) => self.reporter.rewind(&attempt, *offset),
                None => self.drop_attempt(&attempt),
            }
        }
        self.reporter.resume();
        self.forget_builds(&welcome.forget_builds);
    }

    fn follow(self: &Arc<Shared>, orders: Orders) {
        self.history.learn(orders.history.as_ref());
        for assignment in orders.start {
            self.start(assignment);
        }
        for order in orders.stop {
            self.stop_attempt(&order);
        }
        for attempt in orders.forget {
            self.drop_attempt(&attempt);
        }
        self.forget_builds(&orders.forget_builds);
        for check in orders.checks {
            self.checks.add(check);
        }
    }

    /// Removes what builds have made here. What cannot be removed is named in the next hello.
    fn forget_builds(&self, builds: &[i64]) {
        for build in builds {
            if let Err(error) = self.runtime.forget_build(*build) {
                tracing::warn!(build, %error, "the artifacts of a build cannot be removed");
            }
        }
    }

    /// Takes an attempt that the server hands out; twice is the same as once.
    fn start(self: &Arc<Shared>, assignment: Assignment) {
        let installation = self.history.installation();
        {
            let attempts = self.attempts();
            let is_gone = attempts.gone.iter().any(|(of, gone)| (of, gone) == (&installation, &assignment.attempt));
            let is_untold = || self.reporter.untold().iter().any(|(untold, _)| *untold == assignment.attempt);
            if is_gone || attempts.held.contains_key(&assignment.attempt) || is_untold() {
                return;
            }
        }
        match self.runtime.accept(&assignment) {
            Ok(()) => {
                let held = Held::new(&assignment, installation);
                self.begin(assignment, held);
            }
            Err(message) => {
                // What is reported as not run must not run, also where the order comes once more and could be followed.
                self.attempts().note_gone(installation, &assignment.attempt);
                self.reporter.could_not_accept(&assignment, message);
            }
        }
    }

    /// Brings an attempt to its end in a thread of its own, and lets it be reported.
    fn begin(self: &Arc<Shared>, assignment: Assignment, held: Held) {
        let attempt = assignment.attempt.clone();
        self.attempts().held.insert(attempt.clone(), held);
        self.reporter.follow(&assignment, &self.runtime.folder(&attempt));
        let shared = Arc::clone(self);
        let thread = thread::Builder::new().name("step".to_owned()).stack_size(STACK);
        if let Err(error) = thread.spawn(move || shared.bring_to_end(&assignment)) {
            tracing::error!(%error, "no thread for a step; it goes on when the worker is restarted");
        }
    }

    fn bring_to_end(&self, assignment: &Assignment) {
        while self.attempts().held.get(&assignment.attempt).is_some_and(|held| held.owes_stop) {
            if self.end.is_set() {
                return;
            }
            self.reporter.sleep(STOP_AGAIN);
            self.stop_again();
        }
        self.runtime.run(assignment, |ending| {
            let unwanted = {
                let mut attempts = self.attempts();
                let held = attempts.held.get_mut(&assignment.attempt);
                held.is_none_or(|held| {
                    held.busy = false;
                    held.unwanted
                })
            };
            if unwanted {
                self.remove(&assignment.attempt);
            } else {
                self.reporter.ended(&assignment.attempt, ending);
            }
        });
    }

    fn stop_attempt(&self, order: &StopOrder) {
        if !self.attempts().held.get(&order.attempt).is_some_and(|held| held.busy && held.fence == order.fence) {
            return;
        }
        self.stop_or_owe(&order.attempt);
    }

    /// Stops an attempt, now or as soon as the disk takes that.
    fn stop_or_owe(&self, attempt: &str) {
        let owes_stop = !self.try_stop(attempt);
        if let Some(held) = self.attempts().held.get_mut(attempt) {
            held.owes_stop |= owes_stop;
        }
    }

    fn try_stop(&self, attempt: &str) -> bool {
        let stopped = self.runtime.stop(attempt);
        if let Err(error) = &stopped {
            tracing::error!(attempt, %error, "a step cannot be stopped yet; it is tried again");
        }
        stopped.is_ok()
    }

    /// Tries the stops again that the disk did not take.
    fn stop_again(&self) {
        let owed = |(attempt, held): (&String, &Held)| held.owes_stop.then(|| attempt.clone());
        let owed: Vec<String> = self.attempts().held.iter().filter_map(owed).collect();
        for attempt in owed {
            if self.runtime.stop(&attempt).is_ok() {
                tracing::warn!(attempt, "a step that could not be stopped at first is told to stop");
                if let Some(held) = self.attempts().held.get_mut(&attempt) {
                    held.owes_stop = false;
                }
            }
        }
    }

    /// Removes an attempt that nobody wants any more; one that runs is stopped first, and removed when it has ended.
    fn drop_attempt(&self, attempt: &str) {
        let busy = {
            let mut attempts = self.attempts();
            let Some(held) = attempts.held.get_mut(attempt) else { return };
            held.unwanted = true;
            held.busy
        };
        self.reporter.leave(attempt);
        if busy {
            self.stop_or_owe(attempt);
        } else {
            self.remove(attempt);
        }
    }

    fn remove(&self, attempt: &str) {
        if let Err(error) = self.runtime.forget(attempt) {
            let folder = self.runtime.folder(attempt);
            let folder = folder.display();
            tracing::warn!(attempt, %folder, %error, "a step's folder cannot be removed before the next start");
        }
        let mut attempts = self.attempts();
        let of = attempts.held.remove(attempt).and_then(|held| held.installation);
        attempts.note_gone(of, attempt);
    }

    fn attempts(&self) -> std::sync::MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes what was thrown away, in a thread: it may be a lot, and nothing waits for it.
fn empty_trash(runtime: &Runtime) -> std::io::Result<()> {
    let trash = runtime.trash()?;
    thread::Builder::new().name("trash".to_owned()).spawn(move || {
        for folder in trash {
            if let Err(error) = tree::remove_tree(&folder) {
                tracing::warn!(folder = %folder.display(), %error, "what is not needed any more cannot be removed");
            }
        }
    })?;
    Ok(())
}

fn random_id() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Stack of the threads of which there may be hundreds.
const STACK: usize = 256 * 1024;

/// How often it is looked whether all steps have ended, where nothing else can be done before.
const ENDS: Duration = Duration::from_millis(50);

/// How often a step that must not begin tries to be stopped instead.
const STOP_AGAIN: Duration = Duration::from_secs(1);

/// How long a request that is not a poll may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
