//! Many pipelines: what they cost while nothing happens, and what they cost everything else.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::api::Api;
use super::figure::{Figure, Limit, Of, percentile};
use super::installation::{Installation, Steps};
use super::machine::{cpu_seconds, family, pss_mib};
use super::{Bench, releases, triggers};

/// How long CPU time is watched.
const MINUTE: Duration = Duration::from_secs(60);

/// How many pipelines an installation has that is used by many.
const MANY: usize = 1_000;

/// How many the largest has.
pub const MOST: usize = 10_000;

/// How many samples both sides have before the first that counts.
const WARM_UP: usize = 20;

/// How many jobs each of them has.
const JOBS: usize = 10;

/// Sets pipelines of ten jobs each, all of which could run, and none of which has anything to do.
pub fn set(api: &Api, pipelines: usize) -> Result<()> {
    const PARTS: usize = 2;
    let setting: Vec<_> = (0..PARTS)
        .map(|part| {
            let api = api.clone();
            thread::spawn(move || -> Result<()> {
                for n in (part..pipelines).step_by(PARTS) {
                    let name = format!("load-{n}");
                    api.act(json!({"act": "pipeline_set", "team": "load", "pipeline": name, "text": pipeline(n)}))?;
                    api.act(json!({"act": "pipeline_unpause", "team": "load", "pipeline": name}))?;
                }
                Ok(())
            })
        })
        .collect();
    setting.into_iter().try_for_each(|thread| thread.join().ok().context("a thread panicked")?)
}

/// A resource with a source of its own that is not checked by itself, and jobs one after the other.
fn pipeline(n: usize) -> String {
    let mut text = format!(
        "resources:\n- {{name: source, type: mock, check_every: never, source: {{no_initial_version: true, log: 'load {n}'}}}}\njobs:\n"
    );
    for job in 0..JOBS {
        let passed = job.checked_sub(1).map(|before| format!(", passed: [job-{before}]")).unwrap_or_default();
        text.push_str(&format!(
            "- name: job-{job}\n  plan:\n  - {{get: source, trigger: true{passed}}}\n  - {{task: run, config: {{platform: linux, run: {{path: 'true'}}}}}}\n"
        ));
    }
    text
}

/// A thousand pipelines: CPU time in the minute after they were set and in the next one, and memory then.
pub fn many(bench: &Bench) -> Result<()> {
    let place = Installation::start(bench, Steps::Apart(64))?;
    set(&place.api, MANY)?;
    let holdall = [place.server_pid(), place.worker_pid()];
    let database = bench.postgres.as_ref().map(|postgres| postgres.borrow().pid());
    let minutes = [("after-setting", Limit::AtMost(1.0)), ("idle", Limit::AtMost(0.1))];
    for (name, limit) in minutes {
        let of_database = database.map(|pid| cpu_seconds(&family(pid)));
        let before = cpu_seconds(&holdall);
        thread::sleep(MINUTE);
        let share = |seconds: f64| vec![seconds / MINUTE.as_secs_f64() * 100.0];
        let samples = share(cpu_seconds(&holdall) - before);
        bench.print(&Figure { name: format!("many.cpu-{name}"), unit: "% of a core", samples, of: Of::Most, limit });
        if let (Some(pid), Some(before)) = (database, of_database) {
            let samples = share(cpu_seconds(&family(pid)) - before);
            let name = format!("many.cpu-{name}-of-postgresql");
            bench.print(&Figure { name, unit: "% of a core", samples, of: Of::Most, limit: Limit::None });
        }
    }
    let mut memory = vec![("many.memory", pss_mib(&holdall)?, Limit::AtMost(64.0))];
    if let Some(pid) = database {
        memory.push(("many.memory-of-postgresql", pss_mib(&family(pid))?, Limit::None));
    }
    for (name, mib, limit) in memory {
        bench.print(&Figure { name: name.to_owned(), unit: "MiB", samples: vec![mib], of: Of::Most, limit });
    }
    Ok(())
}

/// The chain, the webhook and the promotion on an empty server and on one with ten thousand pipelines, in turns: which of
/// them comes first alternates, so that what the machine does meanwhile is on both sides.
pub fn beside(bench: &Bench) -> Result<()> {
    let places = [Installation::start(bench, Steps::Inside)?, Installation::start(bench, Steps::Inside)?];
    set(&places[1].api, MOST)?;
    // PostgreSQL plans by the sizes that it knows of: a table must not be empty when it counts it.
    for place in &places {
        measure(&place.api, 0, WARM_UP)?;
    }
    if let Some(postgres) = &bench.postgres {
        // Its clearing up after so much would fall into the first samples.
        postgres.borrow().settle()?;
    }
    let mut found: [Vec<(&str, Vec<f64>)>; 2] = [Vec::new(), Vec::new()];
    for turn in 1..=bench.rounds {
        for which in [turn % 2, 1 - turn % 2] {
            let measured = measure(&places[which].api, turn, bench.samples)?;
            for (name, samples) in measured {
                match found[which].iter_mut().find(|(known, _)| *known == name) {
                    Some((_, all)) => all.extend(samples),
                    None => found[which].push((name, samples)),
                }
            }
        }
    }
    let [alone, loaded] = found;
    for ((name, alone), (_, loaded)) in alone.into_iter().zip(loaded) {
        for (which, percent) in [("p50", 50.0), ("p99", 99.0)] {
            let more = (percentile(&loaded, percent) / percentile(&alone, percent) - 1.0) * 100.0;
            let name = format!("beside.{name}-more-{which}");
            bench.print(&Figure { name, unit: "%", samples: vec![more], of: Of::Most, limit: Limit::AtMost(20.0) });
        }
        for (what, samples) in [("alone", alone), ("loaded", loaded)] {
            let name = format!("beside.{name}-{what}");
            bench.print(&Figure { name, unit: "ms", samples, of: Of::P99, limit: Limit::None });
        }
    }
    Ok(())
}

/// What [`beside`] measures on one server, in a turn that each has of its own.
fn measure(api: &Api, turn: usize, samples: usize) -> Result<[(&'static str, Vec<f64>); 4]> {
    let chained = triggers::run_chain(api, turn, samples)?;
    Ok([
        ("bag-mock", releases::run_bag_mock(api, turn, samples)?),
        ("version-to-process", chained.version),
        ("upstream-to-process", chained.upstream),
        ("tag-to-process", releases::run_promotion(api, turn, samples.div_ceil(2))?),
    ])
}
