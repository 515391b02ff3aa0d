//! What the tests of the client commands share: a server whose answers the test writes, and the binary run against it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::demo_world::{HOLDALL, LIMIT};

/// A request that the fake got.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `GET`, ...
    pub method: String,
    /// With the query, without `/api/holdall/v1/`.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its JSON body; null when it has none.
    pub body: Value,
}

impl Seen {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// `METHOD PATH`, without the query.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path.split('?').next().unwrap())
    }
}

/// What the fake answers.
pub enum Answer {
    /// JSON with a status.
    Json(u16, Value),
    /// Bytes with a status and a type; the connection is closed after them.
    Raw(u16, &'static str, Vec<u8>),
}

/// The error body of a code.
pub fn error(status: u16, code: &str, message: &str, details: Value) -> Answer {
    Answer::Json(status, json!({"code": code, "message": message, "details": details, "request_id": "r-1"}))
}

/// A complete list.
pub fn list(items: Value) -> Answer {
    Answer::Json(200, json!({"items": items, "next": null}))
}

/// What anything that a test did not expect gets: its output then says what it was.
pub fn unexpected(seen: &Seen) -> Answer {
    error(500, "internal", &format!("the test did not expect {} {}", seen.method, seen.path), json!({}))
}

/// A server of one test.
pub struct Fake {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    over: Arc<AtomicBool>,
}

impl Fake {
    /// Starts a server that answers so.
    pub fn start(answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (seen, over, answer) =
            (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)), Arc::new(answer));
        let fake = Fake { url, seen: Arc::clone(&seen), over: Arc::clone(&over) };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream.unwrap(), &seen, &*answer));
            }
        });
        fake
    }

    /// A server of one system, `notify`, with `preview` and `staging`, beside what the test answers.
    pub fn with_system(answer: impl Fn(&Seen) -> Option<Answer> + Send + Sync + 'static) -> Fake {
        Fake::start(move |seen| {
            answer(seen).unwrap_or_else(|| match seen.line().as_str() {
                "GET systems" => list(json!([{
                    "system": "notify", "services": ["api"], "environments": ["preview", "staging"],
                    "newest_bag": 42, "set_at": "2026-11-24T10:15:02Z", "set_by": "ann",
                }])),
                "GET systems/notify/environments" => {
                    list(json!([environment("preview", &[]), environment("staging", &["preview"])]))
                }
                _ => unexpected(seen),
            })
        })
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The requests of one method and path.
    pub fn seen_at(&self, line: &str) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.line() == line).collect()
    }

    /// The binary, told where this server is, in a bare environment.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = holdall(args);
        command.env("HOLDALL_SERVER", &self.url).env("HOLDALL_TOKEN", "secret");
        command
    }

    /// Runs the binary against this server.
    pub fn run(&self, args: &[&str]) -> Ran {
        Ran::from(self.command(args).stdin(Stdio::null()).output().unwrap())
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Wakes the listener so that it sees that it is over.
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
    }
}

/// An environment in a list.
pub fn environment(name: &str, after: &[&str]) -> Value {
    json!({
        "environment": name, "system": "notify", "current": 41, "mixed_with": null, "state": "idle",
        "frozen_at": null, "lock": null, "under_way": null, "since": null, "after": after,
    })
}

/// The binary in a bare environment, below no folder that knows a server.
pub fn holdall(args: &[&str]) -> Command {
    let mut command = Command::new(HOLDALL);
    command.args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("COLUMNS", "100");
    command.current_dir("/");
    command
}

/// How a run of the binary ended.
#[derive(Debug)]
pub struct Ran {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        Ran {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    /// Standard output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs the binary in a folder.
pub fn run_in(dir: &Path, args: &[&str]) -> Ran {
    Ran::from(holdall(args).current_dir(dir).stdin(Stdio::null()).output().unwrap())
}

/// Waits until something is so.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LIMIT, "{what} did not come to be");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits for a process to end, and kills it when it takes too long.
pub fn finish(mut child: Child) -> Ran {
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > LIMIT {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ran::from(child.wait_with_output().unwrap())
}

fn serve(stream: TcpStream, seen: &Mutex<Vec<Seen>>, answer: &dyn Fn(&Seen) -> Answer) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    let mut words = line.split(' ');
    let method = words.next().unwrap().to_owned();
    let path = words.next().unwrap().trim_start_matches("/api/holdall/v1/").to_owned();
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line).unwrap();
        match line.trim().split_once(':') {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
            None => break,
        }
    }
    let length =
        headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let request = Seen { method, path, headers, body: serde_json::from_slice(&body).unwrap_or(Value::Null) };
    seen.lock().unwrap().push(request.clone());
    let (status, kind, body) = match answer(&request) {
        Answer::Json(status, value) => (status, "application/json", value.to_string().into_bytes()),
        Answer::Raw(status, kind, body) => (status, kind, body),
    };
    let head = format!("HTTP/1.1 {status} x\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n");
    let mut stream = stream;
    // The client may be gone: then nobody wants the answer.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
}
