//! Many git resources at one server, with nothing new in any of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::Bench;
use super::api::{Api, micros};
use super::figure::{Figure, Limit, Of};
use super::installation::{Installation, Steps};
use super::machine::now_micros;
use crate::command;

/// How many resources there are.
const RESOURCES: usize = 2_000;

/// How many of them a pipeline has.
const EACH: usize = 200;

/// How many different sources they have: each is in two pipelines.
const SOURCES: usize = RESOURCES / 2;

/// How long checks are watched that the server wants by itself, once a minute each.
const WATCHED: Duration = Duration::from_secs(180);

/// One round of all, wanted at once, beside the same questions asked by git alone; and then the checks that the
/// server wants by itself.
pub fn git(bench: &Bench) -> Result<()> {
    let mut place = Installation::prepare(bench, Steps::Apart(64))?;
    repositories(place.dir())?;
    place.start_server()?;
    place.start_worker()?;
    for pipeline in 0..RESOURCES / EACH {
        let name = format!("git-{pipeline}");
        place.api.act(
            json!({"act": "pipeline_set", "team": "main", "pipeline": &name, "text": text(place.dir(), pipeline)}),
        )?;
        place.api.act(json!({"act": "job_pause", "team": "main", "pipeline": &name, "job": "all"}))?;
        place.api.act(json!({"act": "pipeline_unpause", "team": "main", "pipeline": &name}))?;
    }
    place.api.wait("every resource has been checked", || {
        Ok(checked(&place.api)?.values().all(Option::is_some).then_some(()))
    })?;

    let asked = Instant::now();
    let list = "seq 0 $1 | xargs -P 8 -I N git ls-remote --symref -- $2/N refs/heads/main > $2/answers";
    let mut alone = Command::new("sh");
    alone.args(["-c", list, "sh", &(SOURCES - 1).to_string()]).arg(place.dir().join("repositories"));
    command::run(&mut alone)?;
    let samples = vec![asked.elapsed().as_secs_f64()];
    bench.print(&Figure {
        name: "git-round.git-alone".to_owned(),
        unit: "s",
        samples,
        of: Of::Most,
        limit: Limit::None,
    });

    let counted = place.dir().join("counted");
    let samples = vec![round(&place.api)?];
    bench.print(&Figure {
        name: "git-round.all-at-once".to_owned(),
        unit: "s",
        samples,
        of: Of::Most,
        limit: Limit::None,
    });
    place.kill_worker();
    place.path = Some(format!("{}:/usr/bin:/bin", counting_git(&place.dir().join("bin"), &counted)?));
    place.start_worker()?;
    fs::write(&counted, "")?;
    round(&place.api)?;
    let samples = vec![fs::read(&counted)?.len() as f64 / SOURCES as f64];
    let name = "git-round.processes-a-source".to_owned();
    bench.print(&Figure { name, unit: "processes", samples, of: Of::Most, limit: Limit::AtMost(1.0) });
    place.kill_worker();
    place.path = None;
    place.start_worker()?;
    watch(bench, &place.api)
}

/// Has every source checked at once, for one of its resources; gives how many seconds it took until all were.
fn round(api: &Api) -> Result<f64> {
    let since = now_micros();
    for resource in 0..SOURCES {
        api.post(
            &format!("resources/main/git-{}/source-{resource}/check", resource / EACH),
            &json!({"wait_seconds": 0}),
        )?;
    }
    api.wait("every resource has been checked again", || {
        let last = checked(api)?.values().map(|at| at.filter(|at| *at > since)).collect::<Option<Vec<i64>>>();
        Ok(last.and_then(|all| all.into_iter().max()).map(|last| (last - since) as f64 / 1e6))
    })
}

/// Watches the checks that fall due, each once a minute: how long one is waited for, and how many come at once.
fn watch(bench: &Bench, api: &Api) -> Result<()> {
    let since = now_micros();
    let deadline = Instant::now() + WATCHED;
    let mut seen: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
    while Instant::now() < deadline {
        command::check_stopped()?;
        for (name, at) in checked(api)? {
            seen.entry(name).or_default().extend(at);
        }
        thread::sleep(Duration::from_secs(5));
    }
    let gaps = seen.values().flat_map(|times| {
        let times: Vec<i64> = times.iter().copied().collect();
        times.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e6).collect::<Vec<_>>()
    });
    let samples: Vec<f64> = gaps.collect();
    if let Some((name, _)) = seen.iter().find(|(_, times)| times.range(since..).count() == 0) {
        bail!("{name} was not checked in {} s", WATCHED.as_secs());
    }
    // An interval is a minute and a tenth at most, and then it is the turn of whoever has waited for longest.
    let limit = Limit::AtMost(75.0);
    bench.print(&Figure { name: "git-round.interval".to_owned(), unit: "s", samples, of: Of::Most, limit });
    let mut seconds: BTreeMap<i64, f64> = BTreeMap::new();
    for at in seen.values().flatten().filter(|at| **at > since + 30_000_000) {
        *seconds.entry(at / 1_000_000).or_default() += 1.0;
    }
    let samples = seconds.into_values().collect();
    let name = "git-round.resources-a-second".to_owned();
    bench.print(&Figure { name, unit: "resources", samples, of: Of::Most, limit: Limit::None });
    Ok(())
}

/// When each resource was last checked.
fn checked(api: &Api) -> Result<BTreeMap<String, Option<i64>>> {
    let all = api.get("resources?team=main")?;
    let all = all["items"].as_array().context("no list of resources")?;
    if all.len() != RESOURCES {
        bail!("there are {} resources instead of {RESOURCES}", all.len());
    }
    all.iter().map(one).collect()
}

fn one(resource: &Value) -> Result<(String, Option<i64>)> {
    if !resource["check_error"].is_null() {
        bail!("{resource}");
    }
    let at = if resource["checked_at"].is_null() { None } else { Some(micros(&resource["checked_at"])?) };
    Ok((format!("{}/{}", resource["pipeline"], resource["resource"]), at))
}

/// A repository with one commit, under as many names as there are sources.
fn repositories(dir: &Path) -> Result<()> {
    let (repository, all) = (dir.join("repository"), dir.join("repositories"));
    fs::create_dir(&repository)?;
    fs::create_dir(&all)?;
    for args in [
        &["init", "--quiet", "--initial-branch=main", "."][..],
        &[
            "-c",
            "user.name=bench",
            "-c",
            "user.email=bench@localhost",
            "commit",
            "--quiet",
            "--allow-empty",
            "--message=one",
        ],
    ] {
        command::read(Command::new("git").current_dir(&repository).args(args))?;
    }
    for source in 0..SOURCES {
        std::os::unix::fs::symlink(&repository, all.join(source.to_string()))?;
    }
    Ok(())
}

/// A pipeline with its resources and a job that they all trigger.
fn text(dir: &Path, pipeline: usize) -> String {
    let mut text = "resources:\n".to_owned();
    let mut plan = String::new();
    for resource in pipeline * EACH..(pipeline + 1) * EACH {
        let uri = dir.join("repositories").join((resource % SOURCES).to_string());
        text.push_str(&format!(
            "- {{name: source-{resource}, type: git, source: {{uri: '{}', branch: main}}}}\n",
            uri.display()
        ));
        plan.push_str(&format!("  - {{get: source-{resource}, trigger: true}}\n"));
    }
    text + "jobs:\n- name: all\n  plan:\n" + &plan
}

/// Makes a `git` that adds a byte to a file each time; gives its folder.
fn counting_git(dir: &Path, counted: &Path) -> Result<String> {
    use std::os::unix::fs::PermissionsExt;
    let real = crate::tools::on_path("git").context("there is no git")?;
    fs::create_dir(dir)?;
    let script = format!("#!/bin/sh\nprintf 1 >> {}\nexec {} \"$@\"\n", counted.display(), real.display());
    fs::write(dir.join("git"), script)?;
    fs::set_permissions(dir.join("git"), fs::Permissions::from_mode(0o755))?;
    Ok(dir.display().to_string())
}
