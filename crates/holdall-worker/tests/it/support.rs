//! Assignments, folders and processes for tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use holdall_protocol::worker::{Assignment, Ending, StepSpec, StopPolicy};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::{PATIENCE, Seen, Server};

/// What stands in for `holdall`.
pub const HOLDALL: &str = env!("CARGO_BIN_EXE_holdall-worker-for-tests");

/// A worker in a process of its own; killed when it is dropped.
pub struct WorkerProcess(pub Child);

impl WorkerProcess {
    pub fn start(server: &str, work_dir: &Path) -> WorkerProcess {
        WorkerProcess(Command::new(HOLDALL).args(["worker", server]).arg(work_dir).spawn().expect("start a worker"))
    }

    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server and a worker that is connected to it.
pub struct Setup {
    pub server: Server,
    pub worker: Option<WorkerProcess>,
    /// Dropped last: the folder of the worker.
    pub dir: TempDir,
}

impl Setup {
    pub fn new() -> Setup {
        Setup::in_dir(tempfile::tempdir().unwrap())
    }

    pub fn in_dir(dir: TempDir) -> Setup {
        let server = Server::start();
        let worker = Some(WorkerProcess::start(&server.url(), dir.path()));
        Setup { server, worker, dir }
    }

    /// Kills the worker with KILL and starts another on the same folder.
    pub fn restart_worker(&mut self) {
        self.kill_worker();
        self.start_worker();
    }

    pub fn kill_worker(&mut self) {
        self.worker.take().unwrap().kill();
    }

    pub fn start_worker(&mut self) {
        self.worker = Some(WorkerProcess::start(&self.server.url(), self.dir.path()));
    }

    /// Runs a step to its end.
    pub fn run(&self, id: &str, spec: StepSpec) -> (Ending, Seen) {
        self.server.give(attempt(id, spec));
        self.server.finished(id)
    }

    /// The folder of an attempt.
    pub fn folder(&self, attempt: &str) -> PathBuf {
        self.dir.path().join("attempts").join(attempt)
    }

    /// The process ids of an attempt's process and of its shim.
    pub fn pids(&self, attempt: &str) -> (i32, i32) {
        let child = self.folder(attempt).join("child.json");
        eventually("the step's process is noted", || child.exists());
        let child: Value = serde_json::from_slice(&std::fs::read(child).unwrap()).unwrap();
        let child = child["pid"].as_i64().unwrap() as i32;
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap();
        let parent = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(1).unwrap().parse().unwrap();
        (child, parent)
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        drop(self.worker.take());
        // Steps outlive their worker; none is to outlive its test.
        for entry in std::fs::read_dir(self.dir.path().join("attempts")).into_iter().flatten().flatten() {
            let _ = std::fs::write(entry.path().join("stop"), "");
            let Ok(child) = std::fs::read(entry.path().join("child.json")) else { continue };
            let Ok(child) = serde_json::from_slice::<Value>(&child) else { continue };
            if let (Some(pid), false) = (child["pid"].as_i64(), entry.path().join("exit.json").exists()) {
                kill(-(pid as i32), nix::sys::signal::Signal::SIGKILL);
            }
        }
    }
}

/// An attempt to run `spec` in build 1.
pub fn attempt(id: &str, spec: StepSpec) -> Assignment {
    Assignment {
        attempt: id.to_owned(),
        fence: 1,
        build: 1,
        step: format!("step-{id}"),
        name: id.to_owned(),
        spec,
        stop: StopPolicy::default(),
        timeout_seconds: None,
    }
}

/// A task that runs a shell script, with more in its configuration.
pub fn task_with(script: &str, more: Value) -> StepSpec {
    let mut config = json!({"platform": "linux", "run": {"path": "sh", "args": ["-c", script]}});
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    StepSpec::Task {
        config: Some(config.to_string()),
        file: None,
        vars: json!({}),
        params: json!({}),
        env: BTreeMap::new(),
        input_mapping: BTreeMap::new(),
        output_mapping: BTreeMap::new(),
        cache_key: None,
        image: None,
    }
}

/// A task that runs a shell script.
pub fn task(script: &str) -> StepSpec {
    task_with(script, json!({}))
}

/// A get whose resource type runs `script`.
pub fn get(script: &str, artifact: &str) -> StepSpec {
    StepSpec::Get {
        resource_type: "scripted".into(),
        source: json!({"in": script}),
        params: json!({}),
        version: BTreeMap::from([("n".into(), "1".into())]),
        artifact: artifact.into(),
        env: BTreeMap::new(),
    }
}

/// An artifact of files.
pub fn files(artifact: &str, files: &[(&str, &str)]) -> StepSpec {
    let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    StepSpec::Files { artifacts: vec![artifact.to_owned()], files }
}

/// The end of a task that exited with `status` and made these artifacts.
pub fn exited(status: i32, artifacts: &[&str]) -> Ending {
    Ending::Exited { status, result: None, artifacts: artifacts.iter().map(|name| (*name).to_owned()).collect() }
}

/// Waits until `is` holds; looks every few milliseconds, for what gives no sign of itself.
pub fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "did not happen: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether the process is there and has not ended.
pub fn runs(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

/// Sends a signal to a process, or to a group with a negative number.
pub fn kill(pid: i32, signal: nix::sys::signal::Signal) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
}

/// The numbers that follow `name=` in a text.
pub fn numbers(text: &str, name: &str) -> Vec<i32> {
    text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')?.parse().ok()).collect()
}
