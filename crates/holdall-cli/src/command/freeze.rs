//! `holdall freeze` and `holdall unfreeze`.

use clap::Args;
use holdall_protocol::api::Act;

use crate::act::{ActArgs, Care, UntilArgs, perform};
use crate::context::{Context, SystemArgs};
use crate::error::CliError;

/// Holds an environment at a bag: nothing else starts there
///
/// A deployment that is under way ends normally.
#[derive(Debug, Args)]
pub struct FreezeArgs {
    /// Where
    environment: String,
    /// The bag [default: the one under way, else the current one]
    #[arg(long, value_name = "N")]
    at: Option<i64>,
    /// Deploy the bag if it is not live
    #[arg(long)]
    deploy: bool,
    #[command(flatten)]
    until: UntilArgs,
    #[command(flatten)]
    system: SystemArgs,
    #[command(flatten)]
    act: ActArgs,
}

/// Lets a frozen environment go on
#[derive(Debug, Args)]
pub struct UnfreezeArgs {
    /// Where
    environment: String,
    #[command(flatten)]
    system: SystemArgs,
    #[command(flatten)]
    act: ActArgs,
}

/// Freezes.
pub fn run(ctx: &Context, args: FreezeArgs) -> Result<(), CliError> {
    let act = Act::Freeze {
        system: ctx.system_of(&args.system, &args.environment)?,
        environment: args.environment,
        at: args.at,
        until: args.until.time(),
        deploy: args.deploy,
    };
    perform(ctx, act, &args.act, Care::Ordinary).map(drop)
}

/// Unfreezes.
pub fn run_unfreeze(ctx: &Context, args: UnfreezeArgs) -> Result<(), CliError> {
    let act = Act::Unfreeze { system: ctx.system_of(&args.system, &args.environment)?, environment: args.environment };
    perform(ctx, act, &args.act, Care::Ordinary).map(drop)
}
