//! Too much of everything, through server, worker and shim as processes of their own.

use std::fs;

use holdall_store::{builds, events};
use nix::unistd::Pid;

use crate::real::{Place, Process, Steps, until};

/// How much the step prints, in megabytes, where `HOLDALL_PRINTS_MB` does not say it.
const PRINTS_MB: usize = 200;

/// What server, worker and shim may have had of memory at the most, in KiB, however much a step prints.
const SERVER_KIB: u64 = 128 * 1024;
const WORKER_KIB: u64 = 64 * 1024;
const SHIM_KIB: u64 = 24 * 1024;

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

#[test]
fn what_a_loud_step_prints_is_kept_whole_in_little_memory() {
    let megabytes: usize = std::env::var("HOLDALL_PRINTS_MB")
        .map_or(PRINTS_MB, |size| size.parse().expect("HOLDALL_PRINTS_MB is a number"));
    let lines = megabytes * 1_000_000 / LINE.len();
    let mut run = Run::start();
    let steps = Steps(run.place.path("work"));
    let line = String::from_utf8_lossy(LINE);
    let go = run.place.path("go").display().to_string();
    let script = format!("yes {} | head -n {lines}; while ! [ -e {go} ]; do sleep 0.02; done; echo end", line.trim());
    run.place.trigger_script("main/loud", &script);
    let (shim, attempt) = until("its shim runs", || steps.shims().pop().ok_or(run.worker.said()));
    let output = steps.0.join("attempts").join(attempt).join("output");
    until("it has printed everything", || {
        let length = fs::metadata(&output).map_or(0, |meta| meta.len());
        (length >= (lines * LINE.len()) as u64).then_some(()).ok_or(format!("{length} bytes"))
    });
    let shim_kib = peak_memory(shim);
    fs::write(run.place.path("go"), "").unwrap();
    until("it is all with the server", || {
        let status = run.place.newest_status();
        (status == "succeeded").then_some(()).ok_or(status.to_string())
    });
    let (server_kib, worker_kib) = (peak_memory(run.server.pid()), peak_memory(run.worker.pid()));
    println!("{megabytes} MB: server {server_kib} KiB, worker {worker_kib} KiB, shim {shim_kib} KiB at the most");
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
    assert_output(&place, lines);
}

/// The journal of the first build has so many lines, one after the other, and the step's last word.
fn assert_output(place: &Place, lines: usize) {
    let store = place.store("data");
    let build = store.read_blocking(|tx| builds::build_list(tx, None, i64::MAX)).unwrap().pop().unwrap().id;
    let expected: Vec<u8> = LINE.repeat(2 * 1024 * 1024 / LINE.len());
    let (mut seq, mut length, mut end) = (0, 0, Vec::new());
    loop {
        let page = store.read_blocking(|tx| events::event_list(tx, build, seq, PAGE)).unwrap();
        let Some(last) = page.last() else { break };
        seq = last.seq + 1;
        for row in page.iter().filter(|row| row.kind == "output") {
            let mut bytes = row.bytes.as_deref().unwrap();
            while length < lines * LINE.len() && !bytes.is_empty() {
                let from = length % LINE.len();
                let taken = bytes.len().min(lines * LINE.len() - length).min(expected.len() - from);
                assert!(bytes[..taken] == expected[from..from + taken], "wrong after {length} bytes");
                length += taken;
                bytes = &bytes[taken..];
            }
            end.extend_from_slice(bytes);
        }
    }
    assert_eq!((length, String::from_utf8_lossy(&end).as_ref()), (lines * LINE.len(), "end\n"));
}
