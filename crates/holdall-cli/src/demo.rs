//! `holdall demo`: a small but real system, "notify", in a folder of its own, released by a real server.
//!
//! The folder (`folder`, `system`) holds git repositories, working copies and the system file. What is outside Holdall
//! (`world`) is Terraform's state server (`state`) and the deployed services (`supervisor`, `runner`, `service`); it
//! runs inside the demo's process beside the server. The scripts of the system use `/bin/sh`, git and the subcommands
//! of [`Tool`], and nothing else.

mod apply;
mod check;
mod database;
mod deploy;
mod folder;
mod follow;
mod git;
mod hints;
mod interrupt;
mod notify;
mod progress;
mod run;
mod runner;
mod service;
mod state;
mod supervisor;
mod system;
mod world;

use std::io::Read;
use std::path::PathBuf;

use clap::Subcommand;

use crate::error::{CliError, Kind};

pub use run::{DemoArgs, run};

/// The demo's system.
const SYSTEM: &str = "notify";

/// The first environment on the way: it packs the bags.
const FIRST: &str = "preview";

/// The last environment on the way.
const LAST: &str = "production";

/// What the demo's own scripts, hooks and processes call; people do not.
#[derive(Debug, Subcommand)]
pub enum Tool {
    /// Applies the demo's infrastructure where there is no Terraform
    #[command(name = "demo-apply", hide = true)]
    Apply(apply::ApplyArgs),
    /// Makes one request and judges the answer
    #[command(name = "demo-check", hide = true)]
    Check(check::CheckArgs),
    /// Applies migrations to an environment's database
    #[command(name = "demo-db", hide = true)]
    Database(database::DatabaseArgs),
    /// Has the services of a bag run
    #[command(name = "demo-deploy", hide = true)]
    Deploy(deploy::DeployArgs),
    /// Tells the server of a push
    #[command(name = "demo-notify", hide = true)]
    Notify(notify::NotifyArgs),
    /// Runs one service of the demo
    #[command(name = "demo-service", hide = true)]
    Service(service::ServiceArgs),
    /// Runs what is outside Holdall in the demo until standard input ends
    #[command(name = "demo-world", hide = true)]
    World(WorldArgs),
}

/// Arguments of `demo-world`.
#[derive(Debug, clap::Args)]
pub struct WorldArgs {
    /// The demo's folder; filled where it is empty.
    #[arg(long)]
    dir: PathBuf,
    /// Empties the folder of an earlier demo first.
    #[arg(long)]
    reset: bool,
}

/// Runs one of the tools.
pub fn run_tool(tool: Tool) -> Result<(), CliError> {
    let done = match tool {
        Tool::Apply(args) => apply::run(&args),
        Tool::Check(args) => check::run(&args),
        Tool::Database(args) => database::run(&args),
        Tool::Deploy(args) => deploy::run(&args),
        Tool::Notify(args) => {
            notify::run(&args);
            Ok(())
        }
        Tool::Service(args) => service::run(args),
        Tool::World(args) => run_world(&args),
    };
    done.map_err(|error| CliError::new(Kind::Failed, format!("{error:#}")))
}

/// Only the world, without a server: for tests, and for looking at it alone. Prints its address.
fn run_world(args: &WorldArgs) -> anyhow::Result<()> {
    git::check_git()?;
    let open = if args.reset { folder::OwnFolder::reset } else { folder::OwnFolder::open };
    let mut own = open(&args.dir)?;
    system::fill(&mut own)?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let world = world::World::start(&own.folder).await?;
        println!("http://{}", world.address());
        let end = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        let _ended = end.await?;
        world.stop().await;
        Ok(())
    })
}
