//! `holdall deploy`.

use clap::Args;
use holdall_protocol::api::Act;

use crate::act::{ActArgs, Care, perform};
use crate::context::{Context, SystemArgs};
use crate::error::CliError;

/// Starts a deployment of a bag in an environment
///
/// When a failed deployment holds the environment's lock, `--take-over` takes it from that.
#[derive(Debug, Args)]
pub struct DeployArgs {
    /// Where to
    environment: String,
    /// Which bag
    #[arg(long, value_name = "N")]
    bag: i64,
    /// Take the lock from a deployment that failed
    #[arg(long)]
    take_over: bool,
    /// Clear these services' suspects in the same act
    #[arg(long, value_name = "SERVICE,...", value_delimiter = ',')]
    clear_suspects: Vec<String>,
    #[command(flatten)]
    system: SystemArgs,
    #[command(flatten)]
    act: ActArgs,
}

/// Deploys.
pub fn run(ctx: &Context, args: DeployArgs) -> Result<(), CliError> {
    let care = if args.take_over { Care::Destructive } else { Care::Ordinary };
    let act = Act::Deploy {
        system: ctx.system_of(&args.system, &args.environment)?,
        environment: args.environment,
        bag: args.bag,
        take_over: args.take_over,
        clear_suspects: args.clear_suspects,
    };
    perform(ctx, act, &args.act, care).map(drop)
}
