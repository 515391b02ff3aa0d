//! How long it takes from what starts a job to the job's first process.

use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Bench;
use super::api::{Api, first_process, micros};
use super::figure::{Figure, Limit, Of};
use super::installation::{Installation, Steps};
use super::machine::now_micros;

/// How often everything runs before the first sample: programs and statements are read from the disk once.
const WARM_UP: usize = 5;

/// A job of one trivial task.
const TRIVIAL: &str = "\
jobs:
- name: trivial
  plan: [{task: nothing, config: {platform: linux, run: {path: 'true'}}}]
";

/// `make` puts a new version with each build, `take` is triggered by it, and `next` by the end of `take`. Each turn has
/// versions of its own.
const CHAIN: &str = "\
resources:
- {name: thing, type: mock, check_every: never, source: {no_initial_version: true, log: TURN}}
jobs:
- name: make
  plan:
  - task: number
    config:
      platform: linux
      outputs: [{name: version}]
      run: {path: sh, args: [-c, 'date +%s%N > version/number']}
  - {put: thing, params: {file: version/number}, no_get: true}
- name: take
  plan:
  - {get: thing, trigger: true}
  - {task: nothing, config: {platform: linux, run: {path: 'true'}}}
- name: next
  plan:
  - {get: thing, trigger: true, passed: [take]}
  - {task: nothing, config: {platform: linux, run: {path: 'true'}}}
";

/// A trivial job, from the request that triggers it to the event that says that it ended, as a client sees both.
pub fn by_hand(bench: &Bench) -> Result<()> {
    let place = Installation::start(bench, Steps::Inside)?;
    place.api.set_pipeline("bench", TRIVIAL)?;
    let mut samples = Vec::new();
    for round in 0..bench.samples + WARM_UP {
        let since = Instant::now();
        let build = place.api.trigger("bench", "trivial")?;
        place.api.follow(build)?;
        if round >= WARM_UP {
            samples.push(since.elapsed().as_secs_f64() * 1e3);
        }
    }
    let name = "by-hand.finished".to_owned();
    bench.print(&Figure { name, unit: "ms", samples, of: Of::Median, limit: Limit::AtMost(60.0) });
    Ok(())
}

/// A hundred jobs triggered at once over four connections, until the last has ended.
pub fn hundred(bench: &Bench) -> Result<()> {
    const JOBS: usize = 100;
    let place = Installation::start(bench, Steps::Inside)?;
    let jobs = (0..JOBS).map(|n| {
        format!("- {{name: job-{n}, plan: [{{task: nothing, config: {{platform: linux, run: {{path: 'true'}}}}}}]}}\n")
    });
    place.api.set_pipeline("bench", &format!("jobs:\n{}", jobs.collect::<String>()))?;
    let mut samples = Vec::new();
    for _ in 0..bench.rounds {
        let since = now_micros();
        let triggers: Vec<_> = (0..4)
            .map(|part| {
                let api = place.api.clone();
                thread::spawn(move || -> Result<Vec<i64>> {
                    (part..JOBS).step_by(4).map(|n| api.trigger("bench", &format!("job-{n}"))).collect()
                })
            })
            .collect();
        let mut last = since;
        let builds = triggers.into_iter().map(|thread| thread.join().ok().context("a thread panicked")?);
        for build in builds.collect::<Result<Vec<_>>>()?.concat() {
            let ended = place.api.wait("the build has ended", || ended_at(&place.api, build))?;
            last = last.max(ended);
        }
        samples.push((last - since) as f64 / 1e6);
    }
    let name = "hundred.finished".to_owned();
    bench.print(&Figure { name, unit: "s", samples, of: Of::Median, limit: Limit::AtMost(2.0) });
    Ok(())
}

/// When a build ended, if it has.
fn ended_at(api: &Api, build: i64) -> Result<Option<i64>> {
    let detail = api.get(&format!("builds/{build}"))?;
    if detail["ended_at"].is_null() { Ok(None) } else { micros(&detail["ended_at"]).map(Some) }
}

/// What the chain of jobs gave, in milliseconds.
#[derive(Debug, Default)]
pub struct Chained {
    /// From the version's being there to the first process of the job that it triggers.
    pub version: Vec<f64>,
    /// From the upstream build's end to the first process of the downstream job.
    pub upstream: Vec<f64>,
}

/// New versions through a chain of three jobs.
pub fn chain(bench: &Bench) -> Result<()> {
    let place = Installation::start(bench, Steps::Inside)?;
    let chained = run_chain(&place.api, 0, bench.samples)?;
    for (name, samples) in
        [("chain.version-to-process", chained.version), ("chain.upstream-to-process", chained.upstream)]
    {
        let name = name.to_owned();
        bench.print(&Figure { name, unit: "ms", samples, of: Of::P99, limit: Limit::AtMost(60.0) });
    }
    Ok(())
}

/// Sends versions through the chain on a server, which each `turn` has of its own.
pub fn run_chain(api: &Api, turn: usize, samples: usize) -> Result<Chained> {
    let pipeline = format!("bench{turn}");
    api.set_pipeline(&pipeline, &CHAIN.replace("TURN", &pipeline))?;
    let mut chained = Chained::default();
    let (mut take, mut next) = (0, 0);
    for round in 0..samples + WARM_UP {
        let made = api.trigger(&pipeline, "make")?;
        api.follow(made)?;
        let downstream = api.ended_after("main", &pipeline, "next", next)?;
        let upstream = api.ended_after("main", &pipeline, "take", take)?;
        (take, next) = (id(&upstream)?, id(&downstream)?);
        let versions = api.get(&format!("resources/main/{pipeline}/thing/versions?limit=1"))?;
        let saved = micros(&versions["items"][0]["first_seen"])?;
        let triggered = first_process(&api.follow(take)?)?;
        let downstream = first_process(&api.follow(next)?)?;
        if round >= WARM_UP {
            chained.version.push((triggered - saved) as f64 / 1e3);
            chained.upstream.push((downstream - micros(&upstream["ended_at"])?) as f64 / 1e3);
        }
    }
    Ok(chained)
}

/// The id of a build.
pub fn id(build: &Value) -> Result<i64> {
    build["id"].as_i64().with_context(|| format!("a build without an id: {}", json!(build)))
}
