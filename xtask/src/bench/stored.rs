//! What large databases cost: starting a server on one, and resolving inputs in long histories. They are filled in
//! bulk by the example `fill` of the store.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::figure::{Figure, Limit, Of};
use super::installation::{Installation, Steps};
use super::{Bench, load};
use crate::command;

/// How many builds each job has: 1,000,000 over 10,000 pipelines of 10 jobs.
const BUILDS: &str = "10";

/// From starting the process to the first answer, with 10,000 pipelines and 1,000,000 builds stored.
pub fn start(bench: &Bench) -> Result<()> {
    let mut place = Installation::start(bench, Steps::Inside)?;
    load::set(&place.api, load::MOST)?;
    place.stop_server();
    command::run(&mut fill(bench, &place.database(), &["builds", BUILDS]))?;
    let mut samples = Vec::new();
    for round in 0..bench.rounds {
        let took = place.start_server()?;
        samples.push(took.as_secs_f64() * 1e3);
        if round == 0 {
            let builds = place.api.get("builds?limit=1")?;
            let newest = builds["items"][0]["id"].as_i64().context("no builds")?;
            if newest < 1_000_000 {
                bail!("there are only {newest} builds");
            }
        }
        place.stop_server();
    }
    let limit = Limit::AtMost(300.0);
    bench.print(&Figure { name: "start.serving".to_owned(), unit: "ms", samples, of: Of::Most, limit });
    if empty_caches(bench)? {
        let took = place.start_server()?;
        let name = "start.serving-cold".to_owned();
        let samples = vec![took.as_secs_f64() * 1e3];
        bench.print(&Figure { name, unit: "ms", samples, of: Of::Most, limit });
    }
    Ok(())
}

/// Inputs of a job with long histories: over and over on one connection, and on a new one when nothing is in memory.
pub fn resolve(bench: &Bench) -> Result<()> {
    for (shape, warm_limit) in [("ten-inputs", 2.0), ("many-passed", 20.0)] {
        let place = Installation::prepare(bench, Steps::Inside)?;
        fs::create_dir(place.dir().join("data"))?;
        command::run(&mut fill(bench, &place.database(), &["history", shape]))?;
        let mut cold = Vec::new();
        for _ in 0..bench.rounds {
            if !empty_caches(bench)? {
                eprintln!("NOT MEASURED from a cold store: only root can empty the kernel's caches");
                break;
            }
            cold.extend(times(bench, &place, 1)?);
        }
        let mut warm = times(bench, &place, bench.samples + 5)?;
        warm.drain(..5);
        let name = format!("resolve.{shape}-warm");
        let limit = Limit::AtMost(warm_limit);
        bench.print(&Figure { name, unit: "ms", samples: warm, of: Of::Median, limit });
        if !cold.is_empty() {
            let name = format!("resolve.{shape}-cold");
            let limit = Limit::AtMost(150.0);
            bench.print(&Figure { name, unit: "ms", samples: cold, of: Of::Median, limit });
        }
    }
    Ok(())
}

/// How many milliseconds the resolution took, each time.
fn times(bench: &Bench, place: &Installation, times: usize) -> Result<Vec<f64>> {
    let text = command::read(&mut fill(bench, &place.database(), &["resolve", &times.to_string()]))?;
    text.lines().map(|micros| Ok(micros.parse::<f64>()? / 1e3)).collect()
}

/// Runs the example `fill`.
pub fn fill(bench: &Bench, database: &str, args: &[&str]) -> Command {
    let mut command = Command::new(&bench.filler);
    command.arg(database).args(args);
    command
}

/// Empties what is kept in memory: PostgreSQL's buffers, by starting it again, and the kernel's caches of files; `false`
/// where that is not allowed.
fn empty_caches(bench: &Bench) -> Result<bool> {
    if let Some(postgres) = &bench.postgres {
        postgres.borrow_mut().launch()?;
    }
    nix::unistd::sync();
    Ok(fs::write("/proc/sys/vm/drop_caches", "3").is_ok())
}
