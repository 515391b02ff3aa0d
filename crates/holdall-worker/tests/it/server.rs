//! A server as far as a worker sees it: hands out orders and keeps what is reported.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use holdall_protocol::worker::{
    Assignment, Ending, Fact, Hello, History, Orders, Poll, Report, ReportAnswer, StopOrder, StopReason, Stream,
    Welcome,
};

/// How long anything may take in these tests before they say what did not happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What the server knows of one attempt.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    pub fence: i64,
    pub started: usize,
    /// How much it printed; `output` is empty where [`State::discard`] is set.
    pub length: u64,
    pub output: Vec<u8>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub pieces: usize,
    pub endings: Vec<Ending>,
}

impl Seen {
    /// What came from standard output. A shell says things of its own on the other stream when it is stopped.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }
}

#[derive(Default)]
pub struct State {
    pub seen: BTreeMap<String, Seen>,
    pub checked: BTreeMap<String, Result<Vec<BTreeMap<String, String>>, String>>,
    pub hellos: Vec<Hello>,
    pub refuse: HashSet<String>,
    /// Builds that have ended.
    pub ended: HashSet<i64>,
    /// What the worker said last that it has.
    pub running: Vec<String>,
    /// Of which nothing can be taken.
    pub damaged: HashSet<String>,
    /// How often it was tried in vain.
    pub in_vain: usize,
    /// Which installation it is.
    pub installation: Option<String>,
    /// What reports are answered with in place of 200.
    pub report_status: Option<u16>,
    /// What hellos are answered with in place of 200.
    pub hello_status: Option<u16>,
    pub largest_report: usize,
    /// Output is counted and not kept.
    pub discard: bool,
    orders: Orders,
    connections: Vec<TcpStream>,
    down: bool,
}

pub struct Server {
    pub address: SocketAddr,
    shared: Arc<(Mutex<State>, Condvar)>,
    acceptor: Option<thread::JoinHandle<()>>,
}

impl Server {
    pub fn start() -> Server {
        let mut server =
            Server { address: SocketAddr::from(([127, 0, 0, 1], 0)), shared: Arc::default(), acceptor: None };
        server.up();
        server
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap()
    }

    /// Listens (again), on the same port as before.
    pub fn up(&mut self) {
        let listener = TcpListener::bind(self.address).expect("bind");
        self.address = listener.local_addr().unwrap();
        self.state().down = false;
        let shared = Arc::clone(&self.shared);
        self.acceptor = Some(thread::spawn(move || {
            for connection in listener.incoming() {
                let Ok(connection) = connection else { continue };
                let mut state = shared.0.lock().unwrap();
                if state.down {
                    return;
                }
                state.connections.push(connection.try_clone().unwrap());
                drop(state);
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(connection, &shared));
            }
        }));
    }

    /// Breaks all connections and listens no more; what it knows stays.
    pub fn down(&mut self) {
        {
            let mut state = self.state();
            state.down = true;
            for connection in state.connections.drain(..) {
                let _ = connection.shutdown(Shutdown::Both);
            }
        }
        let _ = TcpStream::connect(self.address);
        self.acceptor.take().unwrap().join().unwrap();
        self.shared.1.notify_all();
    }

    pub fn order(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut self.state().orders);
        self.shared.1.notify_all();
    }

    pub fn give(&self, assignment: Assignment) {
        self.order(|orders| orders.start.push(assignment));
    }

    pub fn stop(&self, attempt: &str) {
        self.order(|orders| {
            orders.stop.push(StopOrder { attempt: attempt.to_owned(), fence: 1, reason: StopReason::Abort })
        });
    }

    /// Waits until what is known satisfies `is`; says `what` did not happen otherwise.
    pub fn wait<T>(&self, what: &str, mut is: impl FnMut(&State) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state();
        loop {
            if let Some(result) = is(&state) {
                return result;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "did not happen: {what}; seen: {:?}", state.seen.keys());
            state = self.shared.1.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Waits for the attempt's end.
    pub fn finished(&self, attempt: &str) -> (Ending, Seen) {
        self.wait(&format!("{attempt} ends"), |state| {
            let seen = state.seen.get(attempt)?;
            Some((seen.endings.first()?.clone(), seen.clone()))
        })
    }

    /// Waits until the attempt has printed `text`.
    pub fn printed(&self, attempt: &str, text: &str) {
        self.wait(&format!("{attempt} prints {text}"), |state| {
            state.seen.get(attempt).filter(|seen| seen.text().contains(text)).map(|_| ())
        });
    }
}

fn serve(connection: TcpStream, shared: &(Mutex<State>, Condvar)) {
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    let mut writer = connection;
    writer.set_nodelay(true).unwrap();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let (mut length, mut authorized) = (0, false);
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header).unwrap_or(0) == 0 {
                return;
            }
            if header == "\r\n" {
                break;
            }
            let (name, value) = header.split_once(':').unwrap();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap(),
                "authorization" => authorized = value.trim() == "Bearer test-token",
                _ => {}
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let (status, answer) = if authorized { answer(&path, &body, &writer, shared) } else { (401, "{}".to_owned()) };
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        if writer.write_all((head + &answer).as_bytes()).is_err() {
            return;
        }
    }
}

fn is_closed(connection: &TcpStream) -> bool {
    connection.set_nonblocking(true).unwrap();
    let closed = matches!(connection.peek(&mut [0]), Ok(0)) || connection.take_error().unwrap().is_some();
    connection.set_nonblocking(false).unwrap();
    closed
}

fn answer(path: &str, body: &[u8], connection: &TcpStream, shared: &(Mutex<State>, Condvar)) -> (u16, String) {
    let mut state = shared.0.lock().unwrap();
    match path.rsplit('/').next().unwrap() {
        "hello" => {
            if let Some(status) = state.hello_status {
                return (status, r#"{"code":"no","message":"not you"}"#.to_owned());
            }
            let hello: Hello = serde_json::from_slice(body).unwrap();
            let resume = hello
                .attempts
                .iter()
                .filter_map(|held| {
                    let seen = state.seen.get(&held.attempt).cloned().unwrap_or_default();
                    (!state.refuse.contains(&held.attempt)).then(|| (held.attempt.clone(), seen.length))
                })
                .collect();
            let forget_builds = hello.builds.iter().copied().filter(|build| state.ended.contains(build)).collect();
            state.hellos.push(hello);
            shared.1.notify_all();
            let history = state.installation.clone().map(|installation| History { installation, builds: 1, acts: 1 });
            (200, serde_json::to_string(&Welcome { resume, forget_builds, history }).unwrap())
        }
        "poll" => {
            let poll: Poll = serde_json::from_slice(body).unwrap();
            state.running.clone_from(&poll.running);
            shared.1.notify_all();
            let is_old = |state: &State| state.hellos.last().is_some_and(|hello| hello.session != poll.session);
            let deadline = Instant::now() + Duration::from_secs(30);
            while state.orders == Orders::default() && !state.down && !is_old(&state) && Instant::now() < deadline {
                state = shared.1.wait_timeout(state, Duration::from_millis(100)).unwrap().0;
            }
            if is_old(&state) {
                return (409, r#"{"code":"session-old","message":"old"}"#.to_owned());
            }
            // Orders are not given to a worker that has been killed in the meantime.
            if state.down || is_closed(connection) {
                return (503, String::new());
            }
            (200, serde_json::to_string(&std::mem::take(&mut state.orders)).unwrap())
        }
        "report" => {
            if let Some(status) = state.report_status {
                return (status, String::new());
            }
            let report: Report = serde_json::from_slice(body).unwrap();
            state.largest_report = state.largest_report.max(body.len());
            let (mut refused, mut later) = (Vec::new(), Vec::new());
            for fact in report.facts {
                if state.damaged.contains(fact.subject()) {
                    later.push(fact.subject().to_owned());
                } else {
                    state.take(fact, &mut refused);
                }
            }
            later.dedup();
            state.in_vain += later.len();
            shared.1.notify_all();
            (200, serde_json::to_string(&ReportAnswer { refused, later }).unwrap())
        }
        _ => (404, String::new()),
    }
}

impl State {
    fn take(&mut self, fact: Fact, refused: &mut Vec<String>) {
        match fact {
            Fact::Started { attempt, fence, .. } => {
                let seen = self.seen.entry(attempt).or_default();
                seen.fence = fence;
                seen.started += 1;
            }
            Fact::Output { attempt, offset, stream, bytes, .. } => {
                if self.refuse.contains(&attempt) {
                    refused.push(attempt);
                    return;
                }
                let seen = self.seen.entry(attempt).or_default();
                let have = seen.length;
                assert!(offset <= have, "output is missing between {have} and {offset}");
                let new = bytes.get((have - offset) as usize..).unwrap_or_default();
                assert!(seen.endings.is_empty() || new.is_empty(), "output after the end");
                seen.length += new.len() as u64;
                seen.pieces += 1;
                if self.discard {
                    return;
                }
                seen.output.extend_from_slice(new);
                match stream {
                    Stream::Stdout => seen.stdout.extend_from_slice(new),
                    Stream::Stderr => seen.stderr.extend_from_slice(new),
                }
            }
            Fact::Finished { attempt, ending, .. } => self.seen.entry(attempt).or_default().endings.push(ending),
            Fact::Checked { check, result, .. } => {
                self.checked.insert(check, result);
            }
        }
    }
}
