//! Too much of everything, through server, worker and shim as processes of their own.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use holdall_store::{builds, events};
use nix::unistd::Pid;
use serde_json::Value;

use crate::real::{PATIENCE, Place, Process, Steps, until};

/// How much the step prints, in megabytes, where `HOLDALL_PRINTS_MB` does not say it.
const PRINTS_MB: usize = 200;

/// What server, worker and shim may have had of memory at the most, in KiB, however much a step prints.
const SERVER_KIB: u64 = 128 * 1024;
const WORKER_KIB: u64 = 64 * 1024;
const SHIM_KIB: u64 = 24 * 1024;

/// How many follow a build without taking anything of it, and how many ask for its log.
const FOLLOWERS: usize = 3;

/// One of the lines.
const LINE: &[u8; 80] = b"0123456789012345678901234567890123456789012345678901234567890123456789012345678\n";

/// How many rows of a journal are looked at together.
const PAGE: i64 = 16;

/// The most memory that a process has had, in KiB.
fn peak_memory(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

struct Run {
    place: Place,
    server: Process,
    worker: Process,
}

impl Run {
    fn start() -> Run {
        let place = Place::sqlite();
        let server = place.start_server_that_answers(&["--no-worker"]);
        let worker = place.start_worker();
        Run { place, server, worker }
    }
}

/// Somebody who asks for something of a build and takes none of it, before everything is over.
struct SlowReader(TcpStream);

impl SlowReader {
    fn ask(place: &Place, build: &Value, what: &str) -> SlowReader {
        let mut connection = TcpStream::connect(("127.0.0.1", place.port)).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        let token = fs::read_to_string(place.path("data/token")).unwrap();
        let head = format!(
            "GET /api/holdall/v1/builds/{build}/{what} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
             Connection: close\r\n\r\n",
            token.trim()
        );
        connection.write_all(head.as_bytes()).unwrap();
        SlowReader(connection)
    }

    /// Takes all of it; gives how often a byte is in it.
    fn count(self, wanted: u8) -> usize {
        let mut reader = BufReader::with_capacity(1 << 20, self.0);
        let mut count = 0;
        loop {
            let bytes = reader.fill_buf().unwrap();
            let length = bytes.len();
            if length == 0 {
                return count;
            }
            count += bytes.iter().filter(|byte| **byte == wanted).count();
            reader.consume(length);
        }
    }
}

/// What a step prints again and again, and the part of its script that does.
struct Loud<'a> {
    piece: &'a [u8],
    times: usize,
    script: &'a str,
}

#[test]
fn what_a_loud_step_prints_is_kept_whole_in_little_memory() {
    let megabytes: usize = std::env::var("HOLDALL_PRINTS_MB")
        .map_or(PRINTS_MB, |size| size.parse().expect("HOLDALL_PRINTS_MB is a number"));
    let times = megabytes * 1_000_000 / LINE.len();
    let script = format!("yes {} | head -n {times}", String::from_utf8_lossy(LINE).trim());
    is_kept_whole_in_little_memory(&Loud { piece: LINE, times, script: &script });
}

/// Escaped as JSON for those who follow it, each byte is six.
#[test]
fn what_has_no_end_of_a_line_is_kept_whole_in_little_memory() {
    let (times, script) = (100_000_000, "head -c 100000000 /dev/zero");
    is_kept_whole_in_little_memory(&Loud { piece: b"\0", times, script });
}

fn is_kept_whole_in_little_memory(loud: &Loud) {
    let mut run = Run::start();
    let steps = Steps(run.place.path("work"));
    let go = run.place.path("go").display().to_string();
    let script = format!("{}; while ! [ -e {go} ]; do sleep 0.02; done; echo end", loud.script);
    run.place.trigger_script("main/loud", &script);
    let build = run.place.run("data", &["build", "list", "-o", "json"]).json()[0]["id"].clone();
    let mut followers: Vec<SlowReader> =
        (0..FOLLOWERS).map(|_| SlowReader::ask(&run.place, &build, "events")).collect();
    let (shim, attempt) = until("its shim runs", || steps.shims().pop().ok_or(run.worker.said()));
    let output = steps.0.join("attempts").join(attempt).join("output");
    let bytes = loud.times * loud.piece.len();
    until("it has printed everything", || {
        let length = fs::metadata(&output).map_or(0, |meta| meta.len());
        (length >= bytes as u64).then_some(()).ok_or(format!("{length} bytes"))
    });
    let shim_kib = peak_memory(shim);
    fs::write(run.place.path("go"), "").unwrap();
    until("it is all with the server", || {
        let status = run.place.newest_status();
        (status == "succeeded").then_some(()).ok_or(status.to_string())
    });
    let mut readers: Vec<SlowReader> = (0..FOLLOWERS).map(|_| SlowReader::ask(&run.place, &build, "log")).collect();
    // The others take nothing while one does.
    let follower = followers.remove(0);
    // Both an end of a line and a zero are written with a backslash in JSON, and nothing else here is.
    assert_eq!(follower.count(b'\\'), loud.times + 1, "events");
    let count = readers.remove(0).count(*loud.piece.last().unwrap());
    // The answer has ends of lines of its own.
    assert!(count >= loud.times, "{count} in the log");
    let (server_kib, worker_kib) = (peak_memory(run.server.pid()), peak_memory(run.worker.pid()));
    println!("{bytes} bytes: server {server_kib} KiB, worker {worker_kib} KiB, shim {shim_kib} KiB at the most");
    assert!(server_kib < SERVER_KIB, "the server had {server_kib} KiB");
    assert!(worker_kib < WORKER_KIB, "the worker had {worker_kib} KiB");
    assert!(shim_kib < SHIM_KIB, "the shim had {shim_kib} KiB");

    // Everything goes on.
    run.place.trigger_script("main/quiet", "echo fine");
    until("the next build succeeds", || {
        let status = run.place.newest_status();
        (status == "succeeded").then_some(()).ok_or(status.to_string())
    });
    run.server.assert_runs();
    run.worker.assert_runs();
    let Run { place, server, worker } = run;
    assert!(worker.stop().success());
    assert!(server.stop().success());
    assert_output(&place, loud);
}

/// The journal of the first build has what the step printed, one piece after the other, and its last word.
fn assert_output(place: &Place, loud: &Loud) {
    let store = place.store("data");
    let build = store.read_blocking(|tx| builds::build_list(tx, None, i64::MAX)).unwrap().pop().unwrap().id;
    let (size, whole) = (loud.piece.len(), loud.times * loud.piece.len());
    let expected: Vec<u8> = loud.piece.repeat(2 * 1024 * 1024 / size);
    let (mut seq, mut length, mut end) = (0, 0, Vec::new());
    loop {
        let page = store.read_blocking(|tx| events::event_list(tx, build, seq, PAGE)).unwrap();
        let Some(last) = page.last() else { break };
        seq = last.seq + 1;
        for row in page.iter().filter(|row| row.kind == "output") {
            let mut bytes = row.bytes.as_deref().unwrap();
            while length < whole && !bytes.is_empty() {
                let from = length % size;
                let taken = bytes.len().min(whole - length).min(expected.len() - from);
                assert!(bytes[..taken] == expected[from..from + taken], "wrong after {length} bytes");
                length += taken;
                bytes = &bytes[taken..];
            }
            end.extend_from_slice(bytes);
        }
    }
    assert_eq!((length, String::from_utf8_lossy(&end).as_ref()), (whole, "end\n"));
}
