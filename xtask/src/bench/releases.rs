//! The way of a bag: from a webhook to the packed bag, and from a passed tag to the next environment.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::api::{Api, first_process, micros};
use super::figure::{Figure, Limit, Of};
use super::installation::{Installation, Steps};
use super::machine::now_micros;
use super::registry::Registry;
use super::triggers::id;
use super::{Bench, stored};
use crate::command;

/// How often everything runs before the first sample.
const WARM_UP: usize = 3;

/// How many services a system has: three are known already, and a webhook says that the fourth has something.
const SERVICES: usize = 4;

/// At most this from a webhook to the packed bag.
const PACKED: Limit = Limit::AtMost(50.0);

/// A webhook of a `mock` service that is the last one without a version: a `mock` finds one only once, so each sample
/// has a system of its own.
pub fn bag_mock(bench: &Bench) -> Result<()> {
    let place = Installation::start(bench, Steps::Inside)?;
    let samples = run_bag_mock(&place.api, 0, bench.samples)?;
    bench.print(&Figure { name: "bag-mock.packed".to_owned(), unit: "ms", samples, of: Of::P99, limit: PACKED });
    Ok(())
}

/// Packs a bag in each of as many systems, which each `turn` has of its own.
pub fn run_bag_mock(api: &Api, turn: usize, samples: usize) -> Result<Vec<f64>> {
    let mut found = Vec::new();
    for round in 0..samples + WARM_UP {
        let system = format!("mock{turn}-{round}");
        let services = (0..SERVICES)
            .map(|n| service(&format!("service-{n}"), "mock", &json!({"initial_version": format!("{system}-{n}")})));
        set_system(api, &packing(&system, &services.collect::<String>()))?;
        for n in 1..SERVICES {
            check(api, &system, &format!("service-{n}"))?;
        }
        let packed = hook_to_bag(api, &system, "service-0", 0)?;
        if round >= WARM_UP {
            found.push(packed);
        }
    }
    Ok(found)
}

/// A webhook after a tag of an image was moved in a registry on loopback.
pub fn bag_registry(bench: &Bench) -> Result<()> {
    let Some(registry) = Registry::start(&bench.dir.join(bench.unique("registry")))? else {
        eprintln!("NOT MEASURED: docker-registry is not installed");
        return Ok(());
    };
    let place = Installation::start(bench, Steps::Inside)?;
    registry.push("service", "0")?;
    let source = json!({"repository": format!("{}/service", registry.address()), "tag": "latest", "insecure": true});
    let samples =
        repeat(&place.api, "images", &service("service-0", "registry-image", &source), bench.samples, |round| {
            registry.push("service", &round.to_string())
        })?;
    bench.print(&Figure { name: "bag-registry.packed".to_owned(), unit: "ms", samples, of: Of::P99, limit: PACKED });
    Ok(())
}

/// A webhook after a commit to a local repository; then the same again with a `git` that writes down how long each of
/// its processes took.
pub fn bag_git(bench: &Bench) -> Result<()> {
    let place = Installation::start(bench, Steps::Apart(64))?;
    let repository = place.dir().join("repository");
    fs::create_dir(&repository)?;
    git(&repository, &["init", "--quiet", "--initial-branch=main", "."])?;
    commit(&repository)?;
    let source = json!({"uri": repository.display().to_string(), "branch": "main"});
    let of_service = service("service-0", "git", &source);
    let samples = repeat(&place.api, "commits", &of_service, bench.samples, |_| commit(&repository))?;
    let name = "bag-git.packed".to_owned();
    bench.print(&Figure { name, unit: "ms", samples, of: Of::P99, limit: Limit::None });

    drop(place);
    let mut place = Installation::prepare(bench, Steps::Apart(64))?;
    let (repository, tools, times) =
        (place.dir().join("repository"), place.dir().join("bin"), place.dir().join("times"));
    fs::create_dir(&repository)?;
    git(&repository, &["init", "--quiet", "--initial-branch=main", "."])?;
    commit(&repository)?;
    timed_git(&tools, &times)?;
    place.path = Some(format!("{}:/usr/bin:/bin", tools.display()));
    place.start_server()?;
    place.start_worker()?;
    let source = json!({"uri": repository.display().to_string(), "branch": "main"});
    let mut spent = Vec::new();
    repeat(&place.api, "timed", &service("service-0", "git", &source), bench.samples.min(50), |_| {
        commit(&repository)?;
        spent.push(taken(&times)?);
        Ok(())
    })?;
    // What came before the first commit is the first clone.
    let samples: Vec<f64> = spent.into_iter().skip(1 + WARM_UP).collect();
    let name = "bag-git.git-alone".to_owned();
    bench.print(&Figure { name, unit: "ms", samples, of: Of::Median, limit: Limit::None });
    Ok(())
}

/// Changes the one service of a system again and again, and has it looked at by a webhook.
fn repeat(
    api: &Api,
    system: &str,
    of_service: &str,
    samples: usize,
    mut change: impl FnMut(usize) -> Result<()>,
) -> Result<Vec<f64>> {
    set_system(api, &packing(system, of_service))?;
    check(api, system, "service-0")?;
    let first = bag_after(api, system, 0)?.0;
    let mut found = Vec::new();
    for round in 1..=samples + WARM_UP {
        change(round)?;
        let packed = hook_to_bag(api, system, "service-0", first + i64::try_from(round)? - 1)?;
        if round > WARM_UP {
            found.push(packed);
        }
    }
    Ok(found)
}

/// From the sending of a webhook to the next bag, in milliseconds.
fn hook_to_bag(api: &Api, system: &str, service: &str, bag: i64) -> Result<f64> {
    let sent = now_micros();
    api.webhook(&format!(
        "teams/preview/pipelines/deploy-{system}/resources/{service}/check/webhook?webhook_token=hush"
    ))?;
    let (number, packed_at) = bag_after(api, system, bag)?;
    if number != bag + 1 {
        bail!("bag {number} of {system} came after bag {bag}");
    }
    Ok((packed_at - sent) as f64 / 1e3)
}

/// The newest bag once it is newer than `bag`, and when it was packed.
fn bag_after(api: &Api, system: &str, bag: i64) -> Result<(i64, i64)> {
    api.wait(&format!("a bag of {system} after bag {bag}"), || {
        let bags = api.get(&format!("systems/{system}/bags?limit=1"))?;
        let newest = &bags["items"][0];
        match newest["bag"].as_i64().filter(|number| *number > bag) {
            Some(number) => Ok(Some((number, micros(&newest["packed_at"])?))),
            None => Ok(None),
        }
    })
}

fn check(api: &Api, system: &str, service: &str) -> Result<()> {
    let path = format!("resources/preview/deploy-{system}/{service}/check");
    let answer = api.post(&path, &json!({"wait_seconds": 30}))?;
    if answer["done"] != json!(true) || !answer["error"].is_null() {
        bail!("checking {service} of {system}: {answer}");
    }
    Ok(())
}

fn service(name: &str, kind: &str, source: &Value) -> String {
    format!("  {name}: {{type: {kind}, check_every: never, webhook_token: hush, source: {source}}}\n")
}

fn set_system(api: &Api, text: &str) -> Result<()> {
    api.act(json!({"act": "system_set", "text": text})).map(drop)
}

/// A system that packs and deploys nothing by itself.
fn packing(system: &str, services: &str) -> String {
    format!(
        "system: {system}\nservices:\n{services}environments:\n  preview:\n    pack: true\n    promotion: manual\n    \
         deploy: [{{task: nothing, config: {{platform: linux, run: {{path: 'true'}}}}}}]\n"
    )
}

/// A job outside the system that makes versions of its service, whose source is `SOURCE`.
const FEED: &str = "\
resources:
- {name: api, type: mock, check_every: never, source: SOURCE}
jobs:
- name: feed
  plan:
  - task: number
    config:
      platform: linux
      outputs: [{name: version}]
      run: {path: sh, args: [-c, 'date +%s%N > version/number']}
  - {put: api, params: {file: version/number}, no_get: true}
";

/// The environments of the promotion's chain, in order.
const ENVIRONMENTS: [&str; 3] = ["preview", "staging", "production"];

/// Bags through a chain of three environments: from each passed tag to the process of the next `start-deploy`, which
/// is that of its `on_start`.
pub fn promotion(bench: &Bench) -> Result<()> {
    let place = Installation::start(bench, Steps::Inside)?;
    let samples = run_promotion(&place.api, 0, bench.samples.div_ceil(2))?;
    let name = "promotion.tag-to-process".to_owned();
    bench.print(&Figure { name, unit: "ms", samples, of: Of::P99, limit: Limit::AtMost(100.0) });
    Ok(())
}

/// The same where each job of the chain has had 10,000 builds before.
pub fn promotion_after(bench: &Bench) -> Result<()> {
    let mut place = Installation::start(bench, Steps::Inside)?;
    set_promotion(&place.api, 0)?;
    place.stop_server();
    command::run(&mut stored::fill(bench, &place.database(), &["builds", "10000"]))?;
    place.start_server()?;
    let samples = send_bags(&place.api, 0, bench.samples.div_ceil(2))?;
    let name = "promotion-after.tag-to-process".to_owned();
    bench.print(&Figure { name, unit: "ms", samples, of: Of::P99, limit: Limit::AtMost(100.0) });
    Ok(())
}

/// Sends as many bags through the chain, which each `turn` has of its own; each gives two samples.
pub fn run_promotion(api: &Api, turn: usize, bags: usize) -> Result<Vec<f64>> {
    set_promotion(api, turn)?;
    send_bags(api, turn, bags)
}

/// Sets the chain of a turn, and the pipeline that feeds it.
fn set_promotion(api: &Api, turn: usize) -> Result<()> {
    let system = format!("promoted{turn}");
    let source = format!("{{no_initial_version: true, log: {system}}}");
    let task = "{task: nothing, config: {platform: linux, run: {path: 'true'}}}";
    let mut text = format!(
        "system: {system}\nservices:\n  api: {{type: mock, check_every: never, source: {source}}}\nenvironments:\n"
    );
    for (at, name) in ENVIRONMENTS.iter().enumerate() {
        let origin = match at.checked_sub(1) {
            None => "pack: true".to_owned(),
            Some(before) => format!("after: {}", ENVIRONMENTS[before]),
        };
        text.push_str(&format!(
            "  {name}:\n    {origin}\n    on_start: [{task}]\n    deploy: [{task}]\n    tests: {{smoke: [{task}]}}\n"
        ));
    }
    set_system(api, &text)?;
    api.set_pipeline("feed", &FEED.replace("SOURCE", &source))
}

fn send_bags(api: &Api, turn: usize, bags: usize) -> Result<Vec<f64>> {
    let system = format!("promoted{turn}");
    let mut samples = Vec::new();
    let newest = api.get("builds?limit=1")?["items"][0]["id"].as_i64().unwrap_or_default();
    let mut starts = [newest; ENVIRONMENTS.len()];
    for round in 0..bags + WARM_UP {
        api.follow(api.trigger("feed", "feed")?)?;
        let bag = i64::try_from(round + 1)?;
        let detail = api.wait(&format!("bag {bag} passes production"), || {
            // Until it is packed there is none.
            let detail = api.get(&format!("systems/{system}/bags/{bag}")).unwrap_or_default();
            Ok((detail["tags"].as_array().map_or(0, Vec::len) == ENVIRONMENTS.len()).then_some(detail))
        })?;
        for (at, name) in ENVIRONMENTS.iter().enumerate() {
            let start = api.ended_after(name, &format!("deploy-{system}"), "start-deploy", starts[at])?;
            starts[at] = id(&start)?;
            let Some(before) = at.checked_sub(1).filter(|_| round >= WARM_UP) else { continue };
            let tags = detail["tags"].as_array().context("a bag without tags")?;
            let tag = tags.iter().find(|tag| tag["environment"] == ENVIRONMENTS[before]).context("no such tag")?;
            let process = first_process(&api.follow(starts[at])?)?;
            samples.push((process - micros(&tag["at"])?) as f64 / 1e3);
        }
    }
    Ok(samples)
}

fn commit(repository: &Path) -> Result<()> {
    git(repository, &["commit", "--quiet", "--allow-empty", "--message=change"])
}

fn git(dir: &Path, args: &[&str]) -> Result<()> {
    let identity = ["-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "gc.auto=0"];
    command::read(Command::new("git").current_dir(dir).args(identity).args(args)).map(drop)
}

/// Makes a `git` in `dir` that writes to `times` how long the real one took, in microseconds.
fn timed_git(dir: &Path, times: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let real = crate::tools::on_path("git").context("there is no git")?;
    let script = format!(
        "#!/bin/bash\nsince=${{EPOCHREALTIME/./}}\n{} \"$@\"\nstatus=$?\necho $((${{EPOCHREALTIME/./}} - since)) >> {}\nexit $status\n",
        real.display(),
        times.display()
    );
    fs::create_dir(dir)?;
    fs::write(dir.join("git"), script)?;
    fs::set_permissions(dir.join("git"), fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// The milliseconds in a file of [`timed_git`], which is empty afterwards.
fn taken(times: &Path) -> Result<f64> {
    let text = fs::read_to_string(times).unwrap_or_default();
    fs::write(times, "")?;
    let micros: Vec<f64> = text.lines().map(str::parse).collect::<Result<_, _>>()?;
    Ok(micros.iter().sum::<f64>() / 1e3)
}
