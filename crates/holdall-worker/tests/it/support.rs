//! Assignments, folders and processes for tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use holdall_protocol::worker::{Assignment, StepSpec, StopPolicy};
use serde_json::{Value, json};

use crate::server::PATIENCE;

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

/// A path as text.
pub fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// The number in a file that a step writes, when it is there.
pub fn number_in(path: &PathBuf) -> Option<i32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}
