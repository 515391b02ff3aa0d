//! What the tests of the demo share: a running "world" (state server and supervisor, without a Holdall server), and a
//! deploy step's folder and environment without Holdall.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The binary under test.
pub const HOLDALL: &str = env!("CARGO_BIN_EXE_holdall");

/// How long anything may take before a test fails.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A running world in a folder of its own.
pub struct World {
    pub dir: PathBuf,
    pub address: String,
    child: Child,
}

impl World {
    /// Starts a world in that folder, which is filled if it is empty.
    pub fn start(dir: &Path) -> World {
        World::start_with_path(dir, &std::env::var("PATH").unwrap())
    }

    /// Starts a world that sees these programs.
    pub fn start_with_path(dir: &Path, path: &str) -> World {
        let mut child = Command::new(HOLDALL)
            .args(["demo-world", "--dir"])
            .arg(dir)
            .env("PATH", path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        assert!(address.starts_with("http://127.0.0.1:"), "the world did not start: {address:?}");
        World { dir: fs::canonicalize(dir).unwrap(), address: address.trim().to_owned(), child }
    }

    /// Stops it in order and waits for the end.
    pub fn stop(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }

    /// Kills it, as a power cut would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The body of a GET, as JSON.
    pub fn get(&self, path: &str) -> Value {
        let (status, body) = request("GET", &format!("{}{path}", self.address), "");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// The counters of an environment.
    pub fn counters(&self, environment: &str) -> Value {
        self.get("/counters")["environments"][environment].clone()
    }

    /// Where a service of an environment answers.
    pub fn address_of(&self, environment: &str, service: &str) -> Option<String> {
        let address = &self.get("/environments")[environment]["services"][service]["address"];
        address.as_str().map(str::to_owned)
    }

    /// The newest commit of each service that was pushed.
    pub fn heads(&self) -> BTreeMap<String, String> {
        let entries = fs::read_dir(self.dir.join("repositories")).unwrap().map(|entry| entry.unwrap().path());
        let head = |path: PathBuf| (name_of(&path), git(&path, &["rev-parse", "main"]));
        entries.map(head).collect()
    }

    /// Changes a file in the working copy of a service and pushes it; gives what git said.
    pub fn push(&self, service: &str, file: &str, change: impl FnOnce(String) -> String) -> String {
        push(&self.dir, service, file, change)
    }

    /// A folder like that of a deploy step: the bag with the newest commits, and the services' files.
    pub fn step(&self, bag: i64, environment: &str) -> Step {
        let dir = tempfile::tempdir().unwrap();
        let heads = self.heads();
        for (service, commit) in &heads {
            let to = dir.path().join(service);
            git(
                dir.path(),
                &["clone", "--quiet", &path_of(&self.dir.join("repositories").join(format!("{service}.git"))), service],
            );
            git(&to, &["checkout", "--quiet", commit]);
        }
        for (name, text) in bag_files(bag, &heads) {
            fs::create_dir_all(dir.path().join("bag")).unwrap();
            fs::write(dir.path().join("bag").join(name), text).unwrap();
        }
        Step { dir, demo: self.dir.clone(), environment: environment.to_owned(), deployment: bag.to_string() }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Already gone after `stop` and `kill`.
        if self.child.try_wait().unwrap().is_none() {
            drop(self.child.stdin.take());
            self.child.wait().unwrap();
        }
    }
}

/// The folder of a step and what it is started with.
pub struct Step {
    pub dir: tempfile::TempDir,
    demo: PathBuf,
    environment: String,
    deployment: String,
}

impl Step {
    /// A command in the step's folder with nothing but the environment that Holdall gives.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.dir.path())
            .env("TMPDIR", std::env::temp_dir())
            .env("DEMO", &self.demo)
            .env("HOLDALL_SYSTEM", "notify")
            .env("HOLDALL_ENVIRONMENT", &self.environment)
            .env("HOLDALL_DEPLOYMENT", &self.deployment)
            .env("HOLDALL_DIRECTION", "forward")
            .stdin(Stdio::null());
        command
    }

    /// Runs a script and gives how it ended and all that it said.
    pub fn run(&self, script: &str) -> (bool, String) {
        finished(self.command("sh").args(["-c", script]).output().unwrap())
    }
}

/// How a process ended and all that it said.
pub fn finished(output: Output) -> (bool, String) {
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// The files of the artifact `bag`.
fn bag_files(number: i64, commits: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    use holdall_engine::bag::{BAG_SCHEMA_VERSION, Bag, BagService};
    use holdall_engine::version::Version;
    let service = |commit: &String| {
        let version = Version([("ref".to_owned(), commit.clone())].into());
        BagService::new("git", &serde_json::Map::new(), version, None, Vec::new())
    };
    let bag = Bag {
        schema_version: BAG_SCHEMA_VERSION,
        system: "notify".to_owned(),
        number,
        packed_at: holdall_engine::time::Timestamp(0),
        packed_by: "test".to_owned(),
        packed_in: "preview".to_owned(),
        services: commits.iter().map(|(name, commit)| (name.clone(), service(commit))).collect(),
        pins: BTreeMap::new(),
        unticks: BTreeMap::new(),
        previous: None,
        contents_digest: String::new(),
        digest: String::new(),
    };
    bag.seal().files()
}

/// One request; no proxy, no errors for statuses.
pub fn request(method: &str, url: &str, body: &str) -> (u16, String) {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .timeout_global(Some(LIMIT))
        .proxy(None)
        .build()
        .into();
    let request = ureq::http::Request::builder().method(method).uri(url).body(body.to_owned()).unwrap();
    let mut response = agent.run(request).unwrap_or_else(|error| panic!("{method} {url}: {error}"));
    (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
}

/// Whether something answers there.
pub fn answers(url: &str) -> bool {
    let host = url.trim_start_matches("http://").split('/').next().unwrap();
    std::net::TcpStream::connect(host).is_ok()
}

/// Changes a file in the working copy of a service in a demo's folder and pushes it; gives what git said.
pub fn push(demo: &Path, service: &str, file: &str, change: impl FnOnce(String) -> String) -> String {
    let copy = demo.join("services").join(service);
    let path = copy.join(file);
    fs::write(&path, change(fs::read_to_string(&path).unwrap_or_default())).unwrap();
    git(&copy, &["add", "--all"]);
    git(&copy, &["commit", "--quiet", "-m", "Change something"]);
    let output = Command::new("git").current_dir(&copy).arg("push").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

/// Runs git and gives what it printed.
pub fn git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git").current_dir(dir).args(args).output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Waits until it is so.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LIMIT, "it never came true that {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn name_of(repository: &Path) -> String {
    repository.file_stem().unwrap().to_string_lossy().into_owned()
}

fn path_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[test]
fn a_second_start_in_the_same_folder_is_refused_in_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path());
    let output = Command::new(HOLDALL).args(["demo-world", "--dir"]).arg(dir.path()).stdin(Stdio::null()).output();
    let (succeeded, said) = finished(output.unwrap());
    assert!(!succeeded && said.contains("a demo runs in") && said.trim().lines().count() == 1, "{said}");
    world.stop();
}

#[test]
fn a_missing_or_old_git_is_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let run = || {
        let mut command = Command::new(HOLDALL);
        command.args(["demo-world", "--dir"]).arg(dir.path().join("demo")).env("PATH", &bin).stdin(Stdio::null());
        finished(command.output().unwrap())
    };
    let (succeeded, said) = run();
    assert!(!succeeded && said.contains("git is not on the PATH"), "{said}");
    fs::write(bin.join("git"), "#!/bin/sh\necho git version 1.8.3\n").unwrap();
    let executable: fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(bin.join("git"), executable).unwrap();
    let (succeeded, said) = run();
    assert!(!succeeded && said.contains("git is version 1.8.3, and at least 2.29 is needed"), "{said}");
    assert!(!dir.path().join("demo").exists());
}

#[test]
fn the_state_server_answers_only_programs_of_this_machine() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path());
    let url = format!("{}/state/preview", world.address);
    let lock = json!({ "ID": "1" }).to_string();
    assert_eq!(request("LOCK", &url, &lock).0, 200);
    assert_eq!(request("POST", &format!("{url}?ID=1"), "{}").0, 200);
    assert_eq!(request("POST", &format!("{url}?ID=2"), "{}").0, 423);
    assert_eq!(request("UNLOCK", &url, &lock).0, 200);
    let large = format!("{{\"x\":\"{}\"}}", "x".repeat(33 * 1024 * 1024));
    assert_eq!(request("LOCK", &url, &lock).0, 200);
    assert_eq!(request("POST", &format!("{url}?ID=1"), &large).0, 413);
    let port = world.address.rsplit(':').next().unwrap();
    assert_eq!(request("GET", &format!("http://localhost:{port}/counters"), "").0, 200);
    let mut stream = std::net::TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    let request = "GET /counters HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    world.stop();
}
