//! The demo's supervisor: runs the deployed services of every environment as processes that answer HTTP. A deploy step
//! asks it and ends; the services go on, are started again when they die, and come back with the demo.
//!
//! What is to run is in `world/running.json`. A service notices by its standard input that its supervisor is gone, so
//! none is left behind, not even by a demo that was killed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::folder::{Folder, write_whole};
use super::git::{GitError, git, run_git};
use super::runner::{Launch, Phase, Runner};
use super::service::Conf;
use super::state::is_name;

/// How long a service may take until it listens.
const START_LIMIT: Duration = Duration::from_secs(15);

/// What a deploy step asks for: these services at these commits, and no others, in one environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    /// The bag that they come from.
    pub bag: String,
    /// Service to commit.
    pub services: BTreeMap<String, String>,
}

/// What runs in an environment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EnvironmentView {
    /// The bag that was asked for last.
    pub bag: String,
    /// By name.
    pub services: BTreeMap<String, ServiceView>,
}

/// One running service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceView {
    /// The commit that it runs.
    pub commit: String,
    /// Where it answers: `http://127.0.0.1:PORT`. `None` while it does not.
    pub address: Option<String>,
    /// Why it does not.
    pub problem: Option<String>,
}

/// What a deploy did with one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Its name.
    pub service: String,
    /// The commit that ran before.
    pub before: Option<String>,
    /// The commit that runs now.
    pub after: Option<String>,
    /// Where it answers.
    pub address: Option<String>,
    /// What is to be said about it.
    pub note: Option<String>,
}

/// Why the supervisor did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// The request makes no sense.
    #[error("{0}")]
    Refused(String),
    /// Services that do not run as they should.
    #[error("{}", .0.join("; "))]
    NotRunning(Vec<String>),
    /// A commit cannot be had.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The system says no.
    #[error("cannot write {path}: {source}")]
    Write {
        /// What.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The demo ends.
    #[error("the demo is being stopped")]
    Stopping,
}

fn cannot_write(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> SupervisorError {
    let path = path.into();
    move |source| SupervisorError::Write { path, source }
}

/// What is to run, as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Desired {
    environments: BTreeMap<String, DesiredEnvironment>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct DesiredEnvironment {
    bag: String,
    services: BTreeMap<String, DesiredService>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct DesiredService {
    commit: String,
    /// Where it listened last; kept over restarts and versions.
    port: Option<u16>,
}

/// The supervisor of one demo. Calls block; deploys come one after the other.
#[derive(Debug)]
pub struct Supervisor {
    folder: Folder,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    desired: Desired,
    running: BTreeMap<(String, String), Runner>,
    is_stopping: bool,
}

impl Supervisor {
    /// Opens the supervisor and starts everything that ran when it was last stopped.
    pub fn start(folder: &Folder) -> Result<Supervisor, SupervisorError> {
        let path = folder.world().join("running.json");
        let desired = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| SupervisorError::Refused(format!("{} cannot be read: {error}", path.display())))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Desired::default(),
            Err(error) => return Err(cannot_write(path)(error)),
        };
        let supervisor = Supervisor { folder: folder.clone(), inner: Mutex::new(Inner::default()) };
        let mut inner = supervisor.lock();
        for (environment, wanted) in &desired.environments {
            for (service, at) in &wanted.services {
                // A commit that is gone leaves the others running; the view says that this one is not there.
                if supervisor.release(service, &at.commit).is_ok() {
                    let runner = Runner::start(supervisor.launch(environment, service, at));
                    inner.running.insert((environment.clone(), service.clone()), runner);
                }
            }
        }
        inner.desired = desired;
        drop(inner);
        Ok(supervisor)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What runs, by environment.
    pub fn view(&self) -> BTreeMap<String, EnvironmentView> {
        let inner = self.lock();
        let environments = inner.desired.environments.iter().map(|(environment, wanted)| {
            let services = wanted.services.iter().map(|(service, at)| {
                let phase = inner.running.get(&(environment.clone(), service.clone())).map(Runner::phase);
                (service.clone(), view(&at.commit, phase))
            });
            let view = EnvironmentView { bag: wanted.bag.clone(), services: services.collect() };
            (environment.clone(), view)
        });
        environments.collect()
    }

    /// Makes the environment run just these services, and waits until each listens. Services that run already at the
    /// commit are left alone. What was asked for stays asked for, also when a service does not start.
    pub fn deploy(&self, environment: &str, wanted: &Wanted) -> Result<Vec<Change>, SupervisorError> {
        check_wanted(environment, wanted)?;
        let mut inner = self.lock();
        if inner.is_stopping {
            return Err(SupervisorError::Stopping);
        }
        // Everything that can be wrong is found before anything is touched.
        let mut changes = Vec::new();
        let mut to_run = BTreeMap::new();
        for (service, commit) in &wanted.services {
            match self.prepare(service, commit)? {
                None => {
                    to_run.insert(service.clone(), commit.clone());
                }
                Some(note) => changes.push(Change {
                    service: service.clone(),
                    before: None,
                    after: Some(commit.clone()),
                    address: None,
                    note: Some(note),
                }),
            }
        }
        let before = inner.desired.environments.get(environment).cloned().unwrap_or_default();
        let port = |service: &String| before.services.get(service).and_then(|at| at.port);
        let services = to_run
            .iter()
            .map(|(service, commit)| (service.clone(), DesiredService { commit: commit.clone(), port: port(service) }))
            .collect();
        let desired = DesiredEnvironment { bag: wanted.bag.clone(), services };
        inner.desired.environments.insert(environment.to_owned(), desired.clone());
        self.save(&inner.desired)?;

        for (service, was) in &before.services {
            if !desired.services.contains_key(service) {
                inner.running.remove(&(environment.to_owned(), service.clone()));
                changes.push(Change {
                    service: service.clone(),
                    before: Some(was.commit.clone()),
                    after: None,
                    address: None,
                    note: Some("is not in the bag: stopped".to_owned()),
                });
            }
        }
        for (service, at) in &desired.services {
            let key = (environment.to_owned(), service.clone());
            let is_same = before.services.get(service).is_some_and(|was| was.commit == at.commit);
            let is_up = inner.running.get(&key).is_some_and(|runner| matches!(runner.phase(), Phase::Listening { .. }));
            if !(is_same && is_up) {
                // The old process ends before the new one begins: they share a port.
                inner.running.remove(&key);
                inner.running.insert(key, Runner::start(self.launch(environment, service, at)));
            }
        }
        let mut problems = Vec::new();
        for (service, at) in &desired.services {
            let key = (environment.to_owned(), service.clone());
            let Some(runner) = inner.running.get(&key) else { continue };
            let (address, problem) = match runner.wait_until_settled(START_LIMIT) {
                Phase::Listening { port } => {
                    remember_port(&mut inner.desired, environment, service, port);
                    (Some(address(port)), None)
                }
                Phase::Starting => (None, Some(format!("does not listen after {} seconds", START_LIMIT.as_secs()))),
                Phase::Down { problem } => (None, Some(problem)),
            };
            problems.extend(problem.iter().map(|problem| format!("{service} at {:.7} {problem}", at.commit)));
            let was = before.services.get(service).map(|was| was.commit.clone());
            changes.push(Change {
                service: service.clone(),
                before: was,
                after: Some(at.commit.clone()),
                address,
                note: problem,
            });
        }
        self.save(&inner.desired)?;
        self.forget_releases(&inner.desired);
        if problems.is_empty() { Ok(changes) } else { Err(SupervisorError::NotRunning(problems)) }
    }

    /// Stops every service; what ran is remembered for the next start.
    pub fn stop(&self) {
        let mut inner = self.lock();
        inner.is_stopping = true;
        let running = std::mem::take(&mut inner.running);
        // Told all at once, then waited for.
        for runner in running.values() {
            runner.ask_to_stop();
        }
        drop(running);
    }

    fn save(&self, desired: &Desired) -> Result<(), SupervisorError> {
        let path = self.folder.world().join("running.json");
        let text = serde_json::to_vec_pretty(desired).map_err(|error| cannot_write(path.clone())(error.into()))?;
        write_whole(&path, &text).map_err(cannot_write(path))
    }

    fn release_path(&self, service: &str, commit: &str) -> PathBuf {
        self.folder.world().join("releases").join(service).join(commit)
    }

    /// The files of a service at a commit, checked out if they are not there yet.
    fn release(&self, service: &str, commit: &str) -> Result<PathBuf, SupervisorError> {
        let path = self.release_path(service, commit);
        if path.is_dir() {
            return Ok(path);
        }
        let new = path.with_extension("new");
        if new.exists() {
            fs::remove_dir_all(&new).map_err(cannot_write(&new))?;
        }
        fs::create_dir_all(&new).map_err(cannot_write(&new))?;
        let index = path.with_extension("index");
        let repository = self.folder.repository(service);
        // Says clearly that a commit is not there, which the checkout would call a pathspec.
        run_git(&repository, &["cat-file", "-e", &format!("{commit}^{{commit}}")])?;
        let output = git(&repository)
            .arg("--git-dir=.")
            .arg(format!("--work-tree={}", new.display()))
            .args(["checkout", "--quiet", "--force", commit, "--", "."])
            .env("GIT_INDEX_FILE", &index)
            .output()
            .map_err(GitError::Start)?;
        let removed = fs::remove_file(&index);
        if !output.status.success() {
            return Err(GitError::Failed {
                command: "checkout".to_owned(),
                folder: repository.display().to_string(),
                message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            }
            .into());
        }
        removed.map_err(cannot_write(&index))?;
        fs::rename(&new, &path).map_err(cannot_write(&path))?;
        Ok(path)
    }

    /// Has the files of a service ready; gives a note where they are nothing to run.
    fn prepare(&self, service: &str, commit: &str) -> Result<Option<String>, SupervisorError> {
        if !self.folder.repository(service).is_dir() {
            return Ok(Some("is not a repository of the demo: nothing to run".to_owned()));
        }
        let conf = self.release(service, commit)?.join("service.conf");
        match fs::read_to_string(&conf) {
            Ok(text) => match Conf::parse(&text) {
                Ok(_) => Ok(None),
                Err(problem) => Err(SupervisorError::Refused(format!("{service} at {commit:.7}: {problem}"))),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some("has nothing to run".to_owned())),
            Err(error) => Err(SupervisorError::Refused(format!("{service} at {commit:.7}: service.conf: {error}"))),
        }
    }

    fn launch(&self, environment: &str, service: &str, at: &DesiredService) -> Launch {
        Launch {
            program: self.folder.bin().join("holdall"),
            environment: environment.to_owned(),
            service: service.to_owned(),
            commit: at.commit.clone(),
            port: at.port,
            release: self.release_path(service, &at.commit),
            database: self.folder.database(environment),
            log: self.folder.service_log(environment, service),
        }
    }

    /// Removes files of commits that nothing runs any more. A failure only costs space.
    fn forget_releases(&self, desired: &Desired) {
        let wanted: BTreeSet<PathBuf> = desired
            .environments
            .values()
            .flat_map(|environment| &environment.services)
            .map(|(service, at)| self.release_path(service, &at.commit))
            .collect();
        let entries = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        for release in entries(self.folder.world().join("releases")).flat_map(entries) {
            if !wanted.contains(&release) && release.is_dir() {
                fs::remove_dir_all(&release).unwrap_or_default();
            }
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop();
    }
}

fn remember_port(desired: &mut Desired, environment: &str, service: &str, port: u16) {
    let environment = desired.environments.get_mut(environment);
    if let Some(at) = environment.and_then(|environment| environment.services.get_mut(service)) {
        at.port = Some(port);
    }
}

fn address(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn view(commit: &str, phase: Option<Phase>) -> ServiceView {
    let (address, problem) = match phase {
        Some(Phase::Listening { port }) => (Some(address(port)), None),
        Some(Phase::Starting) => (None, Some("is being started".to_owned())),
        Some(Phase::Down { problem }) => (None, Some(problem)),
        None => (None, Some("cannot be started: its commit is gone".to_owned())),
    };
    ServiceView { commit: commit.to_owned(), address, problem }
}

/// Names and commits become parts of paths.
fn check_wanted(environment: &str, wanted: &Wanted) -> Result<(), SupervisorError> {
    let refuse = |text: String| Err(SupervisorError::Refused(text));
    if !is_name(environment) {
        return refuse(format!("{environment:?} is not the name of an environment"));
    }
    for (service, commit) in &wanted.services {
        if !is_name(service) {
            return refuse(format!("{service:?} is not the name of a service"));
        }
        if !matches!(commit.len(), 40 | 64) || !commit.chars().all(|c| c.is_ascii_hexdigit()) {
            return refuse(format!("{service}: {commit:?} is not a git commit"));
        }
    }
    Ok(())
}
