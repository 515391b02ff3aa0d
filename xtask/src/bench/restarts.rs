//! Servers and workers that are killed while a step runs.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Bench;
use super::api::Api;
use super::figure::{Figure, Limit, Of};
use super::installation::{Installation, Steps};
use super::logs::job;
use super::machine::now_micros;

/// How many lines the step prints.
const LINES: usize = 60;

/// After how many of them something is killed.
const KILLED_AFTER: usize = 20;

/// A step that prints its lines one by one, each with the time at which it was printed.
fn counting() -> String {
    job(&format!("for n in $(seq {LINES}); do echo $n $(date +%s%N); sleep 0.1; done"))
}

/// What a reader saw: when a line came, its number, and when it was printed, in microseconds.
type Seen = (i64, usize, i64);

/// A reader that goes on after each end of its connection from where it was, as browsers do.
fn reader(api: &Api, build: i64) -> (mpsc::Receiver<Seen>, thread::JoinHandle<()>) {
    let (send, receive) = mpsc::channel();
    let api = api.clone();
    let thread = thread::spawn(move || {
        let mut last = None;
        let mut ended = false;
        while !ended {
            // A server that is away is asked again.
            let _ = api.stream_after(build, last, |event| {
                last = event["seq"].as_i64().or(last);
                ended = event["kind"] == "end";
                for line in event["text"].as_str().unwrap_or_default().lines() {
                    let Some((number, nanos)) = line.split_once(' ') else { continue };
                    if let (Ok(number), Ok(nanos)) = (number.parse(), nanos.parse::<i64>()) {
                        let _ = send.send((now_micros(), number, nanos / 1000));
                    }
                }
                true
            });
            if !ended {
                thread::sleep(Duration::from_millis(5));
            }
        }
    });
    (receive, thread)
}

/// Runs the counting step, does `break_it` in its midst, and gives how long it took from there until a line came that
/// was printed later, in seconds, and how many lines never came.
fn broken(place: &mut Installation, break_it: impl FnOnce(&mut Installation) -> Result<i64>) -> Result<(f64, usize)> {
    place.api.set_pipeline("count", &counting())?;
    let build = place.api.trigger("count", "print")?;
    let (lines, reading) = reader(&place.api, build);
    let mut seen = Vec::new();
    while seen.len() < KILLED_AFTER {
        seen.push(lines.recv().context("the reader ended")?);
    }
    let since = break_it(place)?;
    seen.extend(lines.iter());
    reading.join().ok().context("the reader panicked")?;
    let again = seen.iter().find(|(_, _, printed)| *printed > since).context("nothing came after it")?.0;
    let numbers: Vec<usize> = seen.iter().map(|(_, number, _)| *number).collect();
    let lost = (1..=LINES).filter(|number| !numbers.contains(number)).count();
    if numbers.len() > LINES {
        bail!("lines came twice: {numbers:?}");
    }
    Ok(((again - since) as f64 / 1e6, lost))
}

fn print(bench: &Bench, what: &str, found: &[(f64, usize)]) {
    let samples = found.iter().map(|(seconds, _)| *seconds).collect();
    let name = format!("{what}.followed-again");
    bench.print(&Figure { name, unit: "s", samples, of: Of::Most, limit: Limit::AtMost(1.0) });
    let samples = found.iter().map(|(_, lost)| *lost as f64).collect();
    let name = format!("{what}.lines-lost");
    bench.print(&Figure { name, unit: "lines", samples, of: Of::Most, limit: Limit::AtMost(0.0) });
}

/// The server is killed and started again.
pub fn server(bench: &Bench) -> Result<()> {
    let mut found = Vec::new();
    for _ in 0..bench.rounds {
        let mut place = Installation::start(bench, Steps::Apart(8))?;
        found.push(broken(&mut place, |place| {
            place.kill_server();
            let since = now_micros();
            place.start_server()?;
            Ok(since)
        })?);
    }
    print(bench, "restart-server", &found);
    Ok(())
}

/// The worker is killed and started again; its step goes on meanwhile.
pub fn worker(bench: &Bench) -> Result<()> {
    let mut found = Vec::new();
    for _ in 0..bench.rounds {
        let mut place = Installation::start(bench, Steps::Apart(8))?;
        found.push(broken(&mut place, |place| {
            place.kill_worker();
            let since = now_micros();
            place.start_worker()?;
            Ok(since)
        })?);
    }
    print(bench, "restart-worker", &found);
    Ok(())
}

/// The worker is killed and stays away: until the build says so.
pub fn lost_worker(bench: &Bench) -> Result<()> {
    let mut samples = Vec::new();
    for _ in 0..bench.rounds {
        let mut place = Installation::start(bench, Steps::Apart(8))?;
        place.api.set_pipeline("count", &counting())?;
        let build = place.api.trigger("count", "print")?;
        place.api.wait("the step runs", || {
            Ok((place.api.get(&format!("builds/{build}"))?["status"] == "started").then_some(()))
        })?;
        // The longest that it takes: the worker was heard of this moment.
        thread::sleep(Duration::from_secs(1));
        place.kill_worker();
        let since = now_micros();
        place.api.wait("the build says that its worker is lost", || {
            let detail = place.api.get(&format!("builds/{build}"))?;
            let holds = detail["report"].as_array().map(Vec::as_slice).unwrap_or_default();
            let says = holds.iter().any(|hold: &Value| hold["code"] == "worker-lost");
            Ok((says || !detail["ended_at"].is_null()).then_some(()))
        })?;
        samples.push((now_micros() - since) as f64 / 1e6);
        place.start_worker()?;
        place.api.follow(build)?;
    }
    let limit = Limit::AtMost(10.0);
    bench.print(&Figure { name: "lost-worker.said".to_owned(), unit: "s", samples, of: Of::Most, limit });
    Ok(())
}
