//! `holdall demo-deploy`: asks the demo's supervisor to run the services of a bag in an environment, each at the bag's
//! commit, and says what changed.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use holdall_engine::bag::{Bag, Bits};

use super::check::world_address;
use super::folder::Folder;
use super::supervisor::{Change, Wanted};
use super::world::{agent, request};

/// How long the supervisor may take until every service listens.
const LIMIT: Duration = Duration::from_secs(120);

/// Arguments of `demo-deploy`.
#[derive(Debug, clap::Args)]
pub struct DeployArgs {
    /// The demo's folder.
    #[arg(long, env = "DEMO")]
    dir: PathBuf,
    /// Where they are to run.
    #[arg(long, env = "HOLDALL_ENVIRONMENT")]
    environment: String,
    /// The `bag.json` that says what.
    #[arg(long)]
    bag: PathBuf,
}

/// Asks, waits, and prints a line for each service.
pub fn run(args: &DeployArgs) -> anyhow::Result<()> {
    let text = fs::read_to_string(&args.bag).with_context(|| format!("cannot read {}", args.bag.display()))?;
    let bag = Bag::from_json(&text)?;
    let commits = bag.services.iter().filter_map(|(name, service)| match &service.bits {
        Bits::Commit(commit) => Some((name.clone(), commit.clone())),
        Bits::Image { .. } | Bits::Version => None,
    });
    let wanted = Wanted { bag: bag.number.to_string(), services: commits.collect() };
    let url = format!("{}/environments/{}", world_address(&Folder::at(&args.dir))?, args.environment);
    let (status, body) = request(&agent(LIMIT), "PUT", &url, &serde_json::to_string(&wanted)?)
        .context("the demo's supervisor does not answer")?;
    if status != 200 {
        let problem = serde_json::from_str::<serde_json::Value>(&body).ok();
        let problem = problem.and_then(|json| json["problem"].as_str().map(str::to_owned)).unwrap_or(body);
        anyhow::bail!("bag {} does not run in {}: {problem}", bag.number, args.environment);
    }
    let changes: Vec<Change> = serde_json::from_str(&body)?;
    for change in &changes {
        println!("{}", line(change));
    }
    Ok(())
}

fn line(change: &Change) -> String {
    let what = match (&change.before, &change.after) {
        (Some(before), Some(after)) if before == after => format!("{after:.7}, unchanged"),
        (Some(before), Some(after)) => format!("{before:.7} -> {after:.7}"),
        (None, Some(after)) => format!("{after:.7}"),
        (Some(before), None) => format!("{before:.7}"),
        (None, None) => String::new(),
    };
    let rest = change.address.as_ref().or(change.note.as_ref());
    format!("{:<18} {what:<20} {}", change.service, rest.map_or("", String::as_str)).trim_end().to_owned()
}
