//! What steps print, on its way to a reader.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Bench;
use super::api::{Api, PATIENCE, micros};
use super::figure::{Figure, Limit, Of};
use super::installation::{Installation, Steps};
use super::machine::{family, now_micros, pss_mib};

/// How long a line is, with its end.
const LINE: usize = 80;

/// How many lines a step prints as fast as it can.
const LINES: usize = 6_000_000;

/// How many lines a second a step prints that is followed with the least delay.
const PACE: usize = 600_000;

/// How many times a second such a step prints a part of them.
const BURSTS: usize = 100;

/// For how many seconds it does.
const PACED_SECONDS: usize = 5;

/// What stands before the time in the first line of each burst.
const STAMP: &str = "printed at ";

/// How many lines come one by one.
const SLOW_LINES: usize = 300;

/// How many steps print at once.
const STEPS: usize = 500;

/// Lines as fast as a step can print them, as many as are asked for a second, and lines one by one.
pub fn lines(bench: &Bench) -> Result<()> {
    let place = Installation::start(bench, Steps::Inside)?;
    let text = "x".repeat(LINE - 1);
    place.api.set_pipeline("fast", &job(&format!("yes {text} | head -n {LINES}")))?;
    let mut rates = Vec::new();
    let mut behind = Vec::new();
    for _ in 0..bench.rounds {
        let build = place.api.trigger("fast", "print")?;
        let ended = read_raw(&place.api, build, |_| ())?;
        let events = place.api.get(&format!("builds/{build}"))?;
        let size = log_size(&place.api, build)?;
        if size != LINES * LINE {
            bail!("{size} of {} bytes arrived: {events}", LINES * LINE);
        }
        let (began, finished) = step_times(&place.api, build)?;
        rates.push(LINES as f64 / ((ended - began) as f64 / 1e6));
        behind.push((ended - finished) as f64 / 1e3);
    }
    let limit = Limit::AtLeast(600_000.0);
    bench.print(&Figure { name: "lines.rate".to_owned(), unit: "lines/s", samples: rates, of: Of::Median, limit });
    // The step is faster than what follows it: this is how long that takes.
    let name = "lines.behind-at-the-end".to_owned();
    bench.print(&Figure { name, unit: "ms", samples: behind, of: Of::Median, limit: Limit::None });

    place.api.set_pipeline("paced", &job_of("perl", "-e", &paced_script()))?;
    let build = place.api.trigger("paced", "print")?;
    let mut samples = Vec::new();
    let mut rest = String::new();
    read_raw(&place.api, build, |bytes| {
        let now = now_micros();
        rest.push_str(&String::from_utf8_lossy(bytes));
        while let Some((micros, end)) = stamp(&rest) {
            samples.push((now - micros) as f64 / 1e3);
            rest.drain(..end);
        }
        // A stamp may be cut.
        let keep = rest.len().saturating_sub(LINE);
        if let Some(keep) = (keep..rest.len()).find(|at| rest.is_char_boundary(*at)) {
            rest.drain(..keep);
        }
    })?;
    if samples.len() != BURSTS * PACED_SECONDS {
        bail!("{} of {} bursts of lines arrived", samples.len(), BURSTS * PACED_SECONDS);
    }
    let name = format!("lines.delay-at-{PACE}-a-second");
    bench.print(&Figure { name, unit: "ms", samples, of: Of::P99, limit: Limit::AtMost(50.0) });

    let script = format!("for n in $(seq {SLOW_LINES}); do date +%s%N; sleep 0.02; done");
    place.api.set_pipeline("slow", &job(&script))?;
    let build = place.api.trigger("slow", "print")?;
    let mut samples = Vec::new();
    place.api.stream(build, |event| {
        let now = now_micros();
        if let Some(nanos) = event["text"].as_str().and_then(|text| text.lines().next()?.parse::<i64>().ok()) {
            samples.push((now - nanos / 1000) as f64 / 1e3);
        }
        true
    })?;
    let name = "lines.delay".to_owned();
    bench.print(&Figure { name, unit: "ms", samples, of: Of::P99, limit: Limit::AtMost(50.0) });
    Ok(())
}

/// Memory of server, worker and shims while many steps print at once.
pub fn printing(bench: &Bench) -> Result<()> {
    let place = Installation::start(bench, Steps::Apart(STEPS as u32))?;
    // The steps print until this file goes, however long it takes until all of them run.
    let goes_on = place.dir().join("goes-on");
    std::fs::write(&goes_on, "")?;
    // Waiting on a pipe starts no process: five hundred steps that slept would be all that this machine does.
    let script = format!(
        "mkfifo pipe; exec 3<>pipe; while [ -e {} ]; do echo a line of a step that prints for as long as it is watched; read -t 0.5 -u 3; done; true",
        goes_on.display()
    );
    let jobs: String = (0..STEPS)
        .map(|n| format!("- {{name: job-{n}, plan: [{{task: print, config: {{platform: linux, run: {{path: bash, args: [-c, '{script}']}}}}}}]}}\n"))
        .collect();
    place.api.set_pipeline("bench", &format!("jobs:\n{jobs}"))?;
    let builds = (0..STEPS).map(|n| place.api.trigger("bench", &format!("job-{n}"))).collect::<Result<Vec<_>>>()?;
    for build in &builds {
        place.api.wait("the step prints", || Ok((log_size(&place.api, *build)? > 0).then_some(())))?;
    }
    let mut samples = Vec::new();
    for _ in 0..bench.rounds {
        thread::sleep(Duration::from_secs(2));
        samples.push(pss_mib(&holdall_processes(&place))?);
    }
    std::fs::remove_file(&goes_on)?;
    let limit = Limit::AtMost(300.0);
    bench.print(&Figure { name: "printing.memory".to_owned(), unit: "MiB", samples, of: Of::Most, limit });
    for build in builds {
        place.api.wait("the build has ended", || {
            Ok((!place.api.get(&format!("builds/{build}"))?["ended_at"].is_null()).then_some(()))
        })?;
    }
    Ok(())
}

/// The server, the worker and the shims: what runs the steps, without the steps.
fn holdall_processes(place: &Installation) -> Vec<u32> {
    let binary = std::fs::read_link(format!("/proc/{}/exe", place.server_pid())).ok();
    let mut all = family(place.server_pid());
    all.extend(family(place.worker_pid()));
    all.retain(|pid| std::fs::read_link(format!("/proc/{pid}/exe")).ok() == binary);
    all
}

/// A pipeline with the job `print` that runs a script.
pub fn job(script: &str) -> String {
    job_of("sh", "-c", script)
}

/// The same in another language; `option` says that the script follows.
fn job_of(program: &str, option: &str, script: &str) -> String {
    format!(
        "jobs:\n- name: print\n  plan: [{{task: print, config: {{platform: linux, run: {{path: {program}, args: [{option}, '{script}']}}}}}}]\n"
    )
}

/// Prints [`PACE`] lines a second in bursts, the first line of each with the time at which it is printed.
fn paced_script() -> String {
    let (burst, bursts) = (PACE / BURSTS, BURSTS * PACED_SECONDS);
    format!(
        "use Time::HiRes qw(time sleep); $| = 1; my $more = (\"x\" x {} . \"\\n\") x {}; my $begun = time; \
         for my $n (1 .. {bursts}) {{ my $line = sprintf(\"{STAMP}%d;\", time * 1e6); \
         print $line, \"x\" x ({} - length $line), \"\\n\", $more; \
         my $left = $begun + $n / {BURSTS} - time; sleep $left if $left > 0 }}",
        LINE - 1,
        burst - 1,
        LINE - 1,
    )
}

/// The first time in a text, and where it ends.
fn stamp(text: &str) -> Option<(i64, usize)> {
    let from = text.find(STAMP)? + STAMP.len();
    let end = from + text[from..].find(';')?;
    Some((text[from..end].parse().ok()?, end))
}

/// When a build's step began and ended.
pub fn step_times(api: &Api, build: i64) -> Result<(i64, i64)> {
    let plan: Vec<Value> = {
        let mut kept = Vec::new();
        // Output is not kept: there may be much of it.
        api.stream(build, |event| {
            if event["kind"] != "output" {
                kept.push(event);
            }
            true
        })?;
        kept
    };
    let at = |kind: &str| {
        plan.iter().find(|event| event["kind"] == kind).context("no such event").and_then(|event| micros(&event["at"]))
    };
    Ok((at("started")?, at("finished")?))
}

/// Reads a build's events as they come over the wire; gives when the last one came.
fn read_raw(api: &Api, build: i64, mut each: impl FnMut(&[u8])) -> Result<i64> {
    let address = api.base.trim_start_matches("http://");
    let mut connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let request = format!(
        "GET /api/holdall/v1/builds/{build}/events HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        api.token
    );
    connection.write_all(request.as_bytes())?;
    let mut buffer = vec![0; 1 << 20];
    let mut last = now_micros();
    loop {
        match connection.read(&mut buffer)? {
            0 => return Ok(last),
            read => {
                last = now_micros();
                each(&buffer[..read]);
            }
        }
    }
}

/// How many bytes a build's log has.
fn log_size(api: &Api, build: i64) -> Result<usize> {
    let url = format!("{}/api/holdall/v1/builds/{build}/log", api.base);
    let answer = ureq::get(url).header("authorization", format!("Bearer {}", api.token)).call()?;
    let mut reader = answer.into_body().into_reader();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    let since = Instant::now();
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(size),
            read => size += read,
        }
        if since.elapsed() > PATIENCE {
            bail!("the log of build {build} has no end");
        }
    }
}
