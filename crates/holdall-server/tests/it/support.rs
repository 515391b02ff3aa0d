//! A real server on a free port, requests to it, and a worker that does what a test says.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use holdall_engine::ids::{BuildId, JobId, PipelineId};
use holdall_engine::status::BuildStatus;
use holdall_protocol::worker::{
    Assignment, CheckOrder, Ending, Fact, Forgot, HeldAttempt, Hello, History, Orders, Poll, Report, ReportAnswer,
    ResourceResult, StepSpec, Stream, Welcome,
};
use holdall_server::lifecycle::now;
use holdall_server::serve::restore::Site;
use holdall_server::serve::{ServeConfig, Server, WorkerChoice};
use holdall_server::{pipelines, serve};
use holdall_store::builds::{BuildRow, NewBuild};
use holdall_store::events::EventRow;
use holdall_store::{Store, StoreError, builds, events, jobs};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// How long anything may take before a test says what did not happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a test function `fn(place: &Place)` once on SQLite and once on PostgreSQL.
macro_rules! on_both_databases {
    ($($name:ident),* $(,)?) => {
        mod both {$(
            mod $name {
                #[test]
                fn sqlite() {
                    super::super::$name(&crate::support::Place::sqlite());
                }

                #[test]
                fn postgres() {
                    if let Some(place) = crate::support::Place::postgres() {
                        super::super::$name(&place);
                    }
                }
            }
        )*}
    };
}
pub(crate) use on_both_databases;

/// Where a server keeps its data.
pub struct Place {
    dir: tempfile::TempDir,
    database: Option<String>,
}

impl Place {
    pub fn sqlite() -> Place {
        Place { dir: tempfile::tempdir().expect("a folder"), database: None }
    }

    /// `None`, loudly, where there is no PostgreSQL.
    pub fn postgres() -> Option<Place> {
        let Some(store) = holdall_store::testing::postgres() else {
            assert!(
                std::env::var_os("HOLDALL_REQUIRE_TOOLS").is_none(),
                "no PostgreSQL server: HOLDALL_TEST_POSTGRES is not set"
            );
            eprintln!("NOT RUN on PostgreSQL: HOLDALL_TEST_POSTGRES is not set; use cargo xtask test");
            return None;
        };
        let (_, url) = store.expect("a database");
        Some(Place { database: Some(url), ..Place::sqlite() })
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// On SQLite, in a folder that a test has made.
    pub fn at(dir: tempfile::TempDir) -> Place {
        Place { dir, database: None }
    }

    /// Where a backup is restored to for a server here.
    pub fn site(&self) -> Site {
        match &self.database {
            Some(url) => Site::Postgres(url.clone()),
            None => Site::Folder(self.dir.path().join("data")),
        }
    }

    /// Another place of the same kind where nothing is.
    pub fn empty_like(other: &Place) -> Place {
        let database = other.database.as_ref().map(|_| {
            let url = holdall_store::testing::postgres_empty().expect("there was one");
            url.expect("a database")
        });
        Place { database, ..Place::sqlite() }
    }

    pub fn config(&self) -> ServeConfig {
        let mut config = ServeConfig::new(self.dir.path().join("data"), "/nonexistent/holdall");
        config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        config.database = self.database.clone();
        config.worker = WorkerChoice::None;
        config
    }
}

pub struct TestServer {
    server: Server,
    pub address: SocketAddr,
    pub token: String,
}

/// An answer as it came.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?} is no JSON"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

impl TestServer {
    pub fn start(place: &Place) -> TestServer {
        TestServer::start_with(place.config()).expect("a server")
    }

    pub fn start_with(config: ServeConfig) -> Result<TestServer, serve::ServeError> {
        let server = Server::start(config)?;
        let running = server.running().expect("it runs");
        let token = std::fs::read_to_string(&running.token_file).expect("a token").trim().to_owned();
        Ok(TestServer { address: running.address, token, server })
    }

    pub fn stop(mut self) {
        self.server.stop();
    }

    pub fn store(&self) -> Store {
        self.server.running().expect("it runs").store.clone()
    }

    /// Sends a request as it is written: `head` are the lines after the first.
    pub fn raw(&self, method: &str, path: &str, head: &str, body: &[u8]) -> Answer {
        let mut connection = TcpStream::connect(self.address).expect("a connection");
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        let text = format!("{method} {path} HTTP/1.1\r\n{head}Connection: close\r\nContent-Length: {length}\r\n\r\n");
        connection.write_all(text.as_bytes()).unwrap();
        connection.write_all(body).unwrap();
        let mut all = Vec::new();
        connection.read_to_end(&mut all).expect("an answer");
        let at = all.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8_lossy(&all[..at]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        let body = if chunked { unchunk(&all[at + 4..]) } else { all[at + 4..].to_vec() };
        Answer { status, head, body }
    }

    /// A request of the administrator's with a JSON body.
    pub fn send(&self, method: &str, path: &str, body: &impl Serialize) -> Answer {
        let head =
            format!("Host: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n", self.token);
        let body = serde_json::to_vec(body).unwrap();
        self.raw(method, &format!("/api/holdall/v1{path}"), &head, &body)
    }

    /// The same, and the answer must be good.
    pub fn ask<T: DeserializeOwned>(&self, method: &str, path: &str, body: &impl Serialize) -> T {
        let answer = self.send(method, path, body);
        assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
        serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{method} {path}: {error}: {answer:?}"))
    }

    /// Follows server-sent events from after `last`; gives them as (id, data) until `enough` says so or they end.
    pub fn events(&self, path: &str, last: Option<i64>, mut enough: impl FnMut(&Value) -> bool) -> Vec<(i64, Value)> {
        let mut request = ureq::get(format!("http://{}/api/holdall/v1{path}", self.address))
            .header("authorization", format!("Bearer {}", self.token));
        if let Some(last) = last {
            request = request.header("last-event-id", last.to_string());
        }
        let response = request.config().timeout_global(Some(PATIENCE)).build().call().expect("a stream");
        let mut found = Vec::new();
        let (mut id, mut data) = (None, None);
        for line in BufReader::new(response.into_body().into_reader()).lines() {
            let line = line.expect("a line");
            if let Some(text) = line.strip_prefix("id: ") {
                id = Some(text.parse().expect("an id"));
            } else if let Some(text) = line.strip_prefix("data: ") {
                data = Some(serde_json::from_str::<Value>(text).expect("JSON"));
            } else if line.is_empty()
                && let Some(data) = data.take()
            {
                // The empty line ends an event, in whatever order its fields came.
                let last = enough(&data);
                // What is not in the journal has no id, and is sent again to whoever comes again.
                found.extend(id.take().map(|id| (id, data)));
                if last {
                    break;
                }
            }
        }
        found
    }

    /// Saves a pipeline `main/NAME`.
    pub fn pipeline(&self, name: &str, text: &str) -> PipelineId {
        let (config, _) = pipelines::parse(text, &BTreeMap::new()).expect("a pipeline");
        let name = name.to_owned();
        self.store()
            .write_blocking(move |tx| pipelines::save(tx, "main", &name, &config, &BTreeMap::new(), false, now()))
            .expect("a pipeline")
    }

    pub fn job(&self, pipeline: PipelineId, name: &str) -> JobId {
        let found = self.store().read_blocking(|tx| jobs::job_find(tx, pipeline, name)).expect("a read");
        found.expect("a job").id
    }

    pub fn trigger(&self, job: JobId) -> BuildId {
        let new = NewBuild { manual: true, created_by: Some("ann".to_owned()), ..NewBuild::default() };
        self.store().write_blocking(move |tx| builds::build_create(tx, job, &new, now())).expect("a build")
    }

    pub fn build(&self, id: BuildId) -> BuildRow {
        self.store().read_blocking(|tx| builds::build_get(tx, id)).expect("a read").expect("a build")
    }

    pub fn builds_of(&self, job: JobId) -> Vec<BuildRow> {
        self.store().read_blocking(|tx| builds::build_list_of_job(tx, job, None, 100)).expect("a read")
    }

    /// The whole journal of a build, which has no gaps.
    pub fn journal(&self, build: BuildId) -> Vec<EventRow> {
        let rows = self.store().read_blocking(|tx| events::event_list(tx, build, 0, 10_000)).expect("a read");
        let places: Vec<i64> = rows.iter().map(|row| row.seq).collect();
        assert_eq!(places, (0..rows.len() as i64).collect::<Vec<_>>(), "the journal has gaps");
        rows
    }

    /// Waits until something is so.
    pub fn wait<T>(
        &self,
        what: &str,
        mut look: impl FnMut(&mut holdall_store::Tx<'_>) -> Result<Option<T>, StoreError>,
    ) -> T {
        let since = Instant::now();
        loop {
            if let Some(found) = self.store().read_blocking(&mut look).expect("a read") {
                return found;
            }
            assert!(since.elapsed() < PATIENCE, "it did not happen: {what}");
            std::thread::yield_now();
        }
    }
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let at = rest.windows(2).position(|window| window == b"\r\n").expect("a chunk");
        let size = std::str::from_utf8(&rest[..at]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.expect("a chunk's size");
        rest = &rest[at + 2..];
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
}

/// A worker that a test speaks for.
pub struct FakeWorker {
    pub name: String,
    pub session: String,
    pub slots: u32,
    pub tags: Vec<String>,
    pub team: Option<String>,
    /// Attempts that it has on its disk.
    pub held: BTreeMap<String, Assignment>,
    /// Builds of which it has artifacts.
    pub builds: Vec<i64>,
    /// What it remembers of the server's history.
    pub history: Option<History>,
    /// Why it may have had more than it holds.
    pub forgot: Option<Forgot>,
    /// Whether it reports everything twice.
    pub twice: bool,
}

impl FakeWorker {
    pub fn new(name: &str) -> FakeWorker {
        FakeWorker {
            name: name.to_owned(),
            session: format!("{name}-1"),
            slots: 8,
            tags: Vec::new(),
            team: None,
            held: BTreeMap::new(),
            builds: Vec::new(),
            history: None,
            forgot: None,
            twice: false,
        }
    }

    pub fn hello(&self, server: &TestServer) -> Welcome {
        let held = self.held.values();
        let hello = Hello {
            name: self.name.clone(),
            session: self.session.clone(),
            platform: "linux".to_owned(),
            tags: self.tags.clone(),
            team: self.team.clone(),
            slots: self.slots,
            version: "0".to_owned(),
            attempts: held.map(|held| HeldAttempt { attempt: held.attempt.clone(), fence: held.fence }).collect(),
            builds: self.builds.clone(),
            history: self.history.clone(),
            forgot: self.forgot,
        };
        server.ask("POST", "/worker/hello", &hello)
    }

    pub fn poll_message(&self) -> Poll {
        Poll {
            name: self.name.clone(),
            session: self.session.clone(),
            free_slots: self.slots,
            running: self.held.keys().cloned().collect(),
        }
    }

    pub fn poll(&self, server: &TestServer) -> Orders {
        server.ask("POST", "/worker/poll", &self.poll_message())
    }

    /// Polls until there is a step to start, and holds it; checks on the way find what [`versions`] says.
    pub fn take(&mut self, server: &TestServer) -> Assignment {
        loop {
            let mut orders = self.poll(server);
            self.check(server, &orders.checks);
            if let Some(assignment) = orders.start.pop() {
                assert_eq!(orders.start, [], "one step at a time");
                self.held.insert(assignment.attempt.clone(), assignment.clone());
                return assignment;
            }
        }
    }

    pub fn report(&self, server: &TestServer, facts: Vec<Fact>) -> ReportAnswer {
        let report = Report { name: self.name.clone(), session: self.session.clone(), facts };
        let answer = server.ask("POST", "/worker/report", &report);
        if self.twice { server.ask("POST", "/worker/report", &report) } else { answer }
    }

    pub fn check(&self, server: &TestServer, orders: &[CheckOrder]) {
        let facts: Vec<Fact> = orders
            .iter()
            .map(|order| Fact::Checked {
                check: order.check.clone(),
                at: now().0,
                result: Ok(versions(&order.source)),
                metadata: Vec::new(),
            })
            .collect();
        if !facts.is_empty() {
            self.report(server, facts);
        }
    }

    /// Does steps until `done`: each prints its name and succeeds.
    pub fn work_until(&mut self, server: &TestServer, mut done: impl FnMut(&TestServer) -> bool) {
        while !done(server) {
            let orders = self.poll(server);
            self.check(server, &orders.checks);
            for assignment in orders.start {
                let answer = self.report(server, all_facts(&assignment));
                if !self.twice {
                    assert_eq!(answer.refused, [""; 0]);
                }
            }
        }
    }
}

/// What a check of a `mock` finds: what its source says.
fn versions(source: &Value) -> Vec<BTreeMap<String, String>> {
    let version = source.get("initial_version").and_then(Value::as_str);
    version.map(|version| BTreeMap::from([("version".to_owned(), version.to_owned())])).into_iter().collect()
}

/// Everything that there is to report of a step that prints its name and succeeds.
pub fn all_facts(assignment: &Assignment) -> Vec<Fact> {
    let text = format!("{}\n", assignment.name);
    vec![started(assignment), output(assignment, 0, text.as_bytes()), finished(assignment, success(assignment))]
}

pub fn started(assignment: &Assignment) -> Fact {
    Fact::Started { attempt: assignment.attempt.clone(), fence: assignment.fence, at: now().0 }
}

pub fn output(assignment: &Assignment, offset: u64, bytes: &[u8]) -> Fact {
    Fact::Output {
        attempt: assignment.attempt.clone(),
        fence: assignment.fence,
        offset,
        at: now().0,
        stream: Stream::Stdout,
        bytes: bytes.to_vec(),
    }
}

pub fn finished(assignment: &Assignment, ending: Ending) -> Fact {
    Fact::Finished { attempt: assignment.attempt.clone(), fence: assignment.fence, at: now().0, ending }
}

/// The success of a step: a get gives the version that it was to get, a put the one in its params.
pub fn success(assignment: &Assignment) -> Ending {
    let result = match &assignment.spec {
        StepSpec::Get { version, .. } => Some(ResourceResult { version: version.clone(), metadata: Vec::new() }),
        StepSpec::Put { params, .. } => {
            let version = params["version"].as_str().expect("a version").to_owned();
            Some(ResourceResult { version: BTreeMap::from([("version".to_owned(), version)]), metadata: Vec::new() })
        }
        StepSpec::Task { .. } | StepSpec::Files { .. } => None,
    };
    Ending::Exited { status: 0, result, artifacts: Vec::new() }
}

/// Whether a build has ended well; one that ended otherwise fails the test.
pub fn has_succeeded(build: &BuildRow) -> bool {
    match build.status {
        BuildStatus::Succeeded => true,
        BuildStatus::Pending | BuildStatus::Started => false,
        other => panic!("build {} of {} is {other:?}", build.name, build.job_name),
    }
}
