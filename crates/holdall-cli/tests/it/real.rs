//! What the tests of whole flows share: the real binary as demo, server, worker and client, each test in a folder and
//! on a database of its own. What they promise is looked up outside the programs under test: in files, in the demo's
//! state server, and in the database when no server has it open.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use holdall_store::builds::{self, BuildRow};
use holdall_store::events::{self, EventRow};
use holdall_store::{Store, StoreError};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use scratch_postgres::Postgres;
use serde_json::Value;

use crate::fake::{Ran, holdall, run_in};

/// How long anything may take before a test says what did not happen: long, for machines that do much else.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How long a process may take to end after it was asked to, before it is killed.
const END: Duration = Duration::from_secs(20);

/// How much of a log is shown when a test fails.
const SHOWN: u64 = 8 * 1024;

/// A folder and a database of one test.
pub struct Place {
    dir: tempfile::TempDir,
    /// `None`: SQLite in the data folder.
    pub database: Option<String>,
    /// Where its server listens, over all restarts.
    pub port: u16,
}

impl Place {
    /// On SQLite.
    pub fn sqlite() -> Place {
        Place { dir: tempfile::tempdir().unwrap(), database: None, port: free_port() }
    }

    /// On PostgreSQL; `None`, loudly, where there is none.
    pub fn postgres() -> Option<Place> {
        let Some(made) = holdall_store::testing::postgres() else {
            assert!(
                std::env::var_os("HOLDALL_REQUIRE_TOOLS").is_none(),
                "no PostgreSQL server: HOLDALL_TEST_POSTGRES is not set"
            );
            eprintln!("NOT RUN on PostgreSQL: HOLDALL_TEST_POSTGRES is not set; use cargo xtask test");
            return None;
        };
        let (_, url) = made.unwrap();
        Some(Place { database: Some(url), ..Place::sqlite() })
    }

    /// On a PostgreSQL server of its own, which ends with this thread; `None`, loudly, where that cannot be.
    pub fn own_postgres() -> Option<(Place, Postgres)> {
        let Some(programs) = std::env::var_os("HOLDALL_POSTGRES_BIN") else {
            assert!(
                std::env::var_os("HOLDALL_REQUIRE_TOOLS").is_none(),
                "no programs of PostgreSQL: HOLDALL_POSTGRES_BIN is not set"
            );
            eprintln!("NOT RUN on PostgreSQL: HOLDALL_POSTGRES_BIN is not set; use cargo xtask test");
            return None;
        };
        let server = Postgres::start_to_be_killed(Path::new(&programs), || Ok(())).unwrap();
        let database = Some(server.database("holdall").unwrap());
        Some((Place { database, ..Place::sqlite() }, server))
    }

    /// Its folder, by the path that programs see.
    pub fn path(&self, inner: &str) -> PathBuf {
        fs::canonicalize(self.dir.path()).unwrap().join(inner)
    }

    /// The server's address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Starts the binary; its output goes to `NAME.log` in the folder.
    pub fn start(&self, name: &str, args: &[&str]) -> Process {
        Process::start(holdall(args).current_dir(self.path("")), &self.path(&format!("{name}.log")))
    }

    /// Starts a server on the database of this place, with its data in the folder `data`; `args` are more of its options.
    pub fn start_server(&self, args: &[&str]) -> Process {
        let listen = format!("127.0.0.1:{}", self.port);
        let database = self.database_args();
        let mut all = vec!["serve", "--data-dir", "data", "--listen", &listen];
        all.extend(database.iter().map(String::as_str).chain(args.iter().copied()));
        self.start("server", &all)
    }

    /// [`Place::start_server`], and waits until it answers.
    pub fn start_server_that_answers(&self, args: &[&str]) -> Process {
        let mut server = self.start_server(args);
        until("the server answers", || {
            server.assert_runs();
            if !self.path("data/.holdall/client.json").exists() {
                return Err(server.said());
            }
            let ran = self.run("data", &["system", "list", "-o", "json"]);
            (ran.code == 0).then_some(()).ok_or(ran.err)
        });
        server
    }

    /// Starts a worker of the server, with its files in the folder `work`.
    pub fn start_worker(&self) -> Process {
        let url = self.url();
        let token = "data/worker-token";
        self.start(
            "worker",
            &["worker", "--server", &url, "--token-file", token, "--work-dir", "work", "--name", "one"],
        )
    }

    /// The options of a server on the database of this place.
    pub fn database_args(&self) -> Vec<String> {
        self.database.iter().flat_map(|url| ["--database".to_owned(), url.clone()]).collect()
    }

    /// Runs a client command below a folder of this place that knows its server.
    pub fn run(&self, inner: &str, args: &[&str]) -> Ran {
        run_in(&self.path(inner), args)
    }

    /// Sets a pipeline whose only job runs that shell script, and triggers it.
    pub fn trigger_script(&self, team_and_pipeline: &str, script: &str) {
        let text = format!(
            "jobs: [{{name: job, plan: [{{task: step, config: {{platform: linux, run: {{path: sh, args: [-ec, \"{script}\"]}}}}}}]}}]"
        );
        fs::write(self.path("pipeline.yml"), text).unwrap();
        for args in [
            &["pipeline", "set", team_and_pipeline, "../pipeline.yml", "--yes", "--reason", "a test"][..],
            &["pipeline", "unpause", team_and_pipeline, "--yes", "--reason", "a test"],
            &["job", "trigger", &format!("{team_and_pipeline}/job"), "--yes", "--reason", "a test"],
        ] {
            let ran = self.run("data", args);
            assert_eq!(ran.code, 0, "{ran:?}");
        }
    }

    /// The status of the newest build.
    pub fn newest_status(&self) -> Value {
        let ran = self.run("data", &["build", "list", "-o", "json"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        ran.json()[0]["status"].clone()
    }

    /// Its database, for a look: no server may have it open.
    pub fn store(&self, data: &str) -> Store {
        let store = match &self.database {
            Some(url) => Store::open_postgres(url),
            None => Store::open_sqlite(&self.path(data).join("holdall.sqlite")),
        };
        store.unwrap()
    }

    /// All builds, oldest first, with their journals, straight from the database: no server may have it open.
    pub fn journals(&self, data: &str) -> Vec<(BuildRow, Vec<EventRow>)> {
        let read = self.store(data).read_blocking(|tx| {
            let mut all = builds::build_list(tx, None, i64::MAX)?;
            all.reverse();
            let journal = |build: BuildRow| Ok((build.clone(), events::event_list(tx, build.id, 0, i64::MAX)?));
            all.into_iter().map(journal).collect::<Result<Vec<_>, StoreError>>()
        });
        read.unwrap()
    }
}

/// A port that nobody has: below those that the system gives to clients, of which one could have it when a server that
/// is killed comes back.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Tests that run side by side in several processes begin at different places.
    let first = 10_000 + (std::process::id() % 200) as u16 * 100;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 100;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A process that ends with the test. Only it is ended, by its id.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it; all that it says is appended to the file.
    pub fn start(command: &mut Command, log: &Path) -> Process {
        let out = File::options().create(true).append(true).open(log).unwrap();
        let child = command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
        Process { child, log: log.to_owned() }
    }

    /// Its id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// Fails the test when it has ended by itself.
    pub fn assert_runs(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("it ended by itself: {status}\n{}", self.said());
        }
    }

    /// Kills it, as a power cut would; fails the test when it had ended by itself.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "it ended by itself: {status}\n{}", self.said());
    }

    /// Asks it to end and waits for that.
    pub fn stop(mut self) -> ExitStatus {
        kill(self.pid(), Signal::SIGTERM).unwrap();
        self.wait()
    }

    /// Waits until it has ended.
    pub fn wait(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The end of what it said.
    pub fn said(&self) -> String {
        end_of(&self.log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
            return;
        }
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.said());
        }
        let _ = kill(self.pid(), Signal::SIGTERM);
        let begun = Instant::now();
        while self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if begun.elapsed() > END {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn end_of(log: &Path) -> String {
    let Ok(mut file) = File::open(log) else { return String::new() };
    let length = file.metadata().map_or(0, |meta| meta.len());
    let _ = file.seek(SeekFrom::Start(length.saturating_sub(SHOWN)));
    let mut bytes = Vec::new();
    let _ = file.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The steps that run under a worker's folder; they are ended with the test, since they outlive their worker.
pub struct Steps(pub PathBuf);

impl Steps {
    /// The process groups of the attempts that have not ended.
    pub fn groups(&self) -> Vec<Pid> {
        let attempts = fs::read_dir(self.0.join("attempts")).into_iter().flatten().flatten();
        let folders = attempts.map(|entry| entry.path()).filter(|folder| !folder.join("exit.json").exists());
        let child = |folder: PathBuf| {
            let record: Value = serde_json::from_slice(&fs::read(folder.join("child.json")).ok()?).ok()?;
            Some(Pid::from_raw(i32::try_from(record["pid"].as_i64()?).ok()?))
        };
        folders.filter_map(child).collect()
    }

    /// The shims that run, by the attempts that they run.
    pub fn shims(&self) -> Vec<(Pid, String)> {
        let mut begin = b"holdall\0shim\0".to_vec();
        begin.extend(self.0.join("attempts/").as_os_str().as_encoded_bytes());
        let attempt = |pid: Pid| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let attempt = command.strip_prefix(begin.as_slice())?.strip_suffix(b"\0")?;
            Some((pid, String::from_utf8(attempt.to_vec()).ok()?))
        };
        let names = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.file_name());
        let pids = names.filter_map(|name| name.to_str()?.parse().ok().map(Pid::from_raw));
        pids.filter_map(attempt).collect()
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        for group in self.groups() {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// Waits until `look` finds something; its last error is what the test fails with.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => assert!(begun.elapsed() < PATIENCE, "it did not happen: {what}; last seen: {seen}"),
        }
        // Looking starts a process, most of the time, which takes its share of the machine.
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Asserts that an object has these keys.
pub fn assert_keys(value: &Value, keys: &[&str]) {
    let object = value.as_object().unwrap_or_else(|| panic!("{value} is no object"));
    for key in keys {
        assert!(object.contains_key(*key), "{value} has no {key}");
    }
}

/// Asserts that a text is a moment like `2026-11-24T10:15:02Z`.
pub fn assert_time(value: &Value) {
    let text = value.as_str().unwrap_or_else(|| panic!("{value} is no time"));
    assert!(text.parse::<jiff::Timestamp>().is_ok() && text.ends_with('Z'), "{text} is no time");
}
