//! `holdall disable` and `holdall enable`: unticks and ticks.

use clap::Args;
use holdall_protocol::api::{Act, TickTarget};

use crate::act::{ActArgs, Care, UntilArgs, perform};
use crate::command::pin::{system_of, version};
use crate::context::{Context, SystemArgs};
use crate::error::CliError;
use crate::names::ResourceName;

/// Unticks a version of a service, or a bag: it is not chosen any more
///
/// A service's version is left out of the bags to come; bags that hold it go on, but with `--and-bags`.
/// A bag that is unticked does not start in any environment, or in the one that is named.
#[derive(Debug, Args)]
pub struct DisableArgs {
    #[command(flatten)]
    what: WhatArgs,
    /// Untick the bags under way that hold the version, too
    #[arg(long, conflicts_with = "bag")]
    and_bags: bool,
    #[command(flatten)]
    until: UntilArgs,
    #[command(flatten)]
    system: SystemArgs,
    #[command(flatten)]
    act: ActArgs,
}

/// Ticks a version of a service, or a bag, again
#[derive(Debug, Args)]
pub struct EnableArgs {
    #[command(flatten)]
    what: WhatArgs,
    #[command(flatten)]
    system: SystemArgs,
    #[command(flatten)]
    act: ActArgs,
}

/// What a tick is on.
#[derive(Debug, Args)]
struct WhatArgs {
    /// A service, or TEAM/PIPELINE/RESOURCE
    #[arg(value_name = "SERVICE", required_unless_present = "bag", conflicts_with = "bag")]
    target: Option<ResourceName>,
    /// The version: KEY:VALUE, or the beginning of a value, such as a commit
    #[arg(conflicts_with_all = ["bag", "as_in"])]
    version: Option<String>,
    /// The version that this bag has
    #[arg(long, value_name = "BAG", conflicts_with = "bag")]
    as_in: Option<i64>,
    /// A bag, not a version
    #[arg(long, value_name = "BAG")]
    bag: Option<i64>,
    /// Only in this environment
    #[arg(long, value_name = "NAME")]
    environment: Option<String>,
}

/// Unticks.
pub fn run_disable(ctx: &Context, args: DisableArgs) -> Result<(), CliError> {
    let target = target(ctx, &args.system, args.what)?;
    let act = Act::Disable { target, and_bags: args.and_bags, until: args.until.time() };
    perform(ctx, act, &args.act, Care::Ordinary).map(drop)
}

/// Ticks.
pub fn run_enable(ctx: &Context, args: EnableArgs) -> Result<(), CliError> {
    let target = target(ctx, &args.system, args.what)?;
    perform(ctx, Act::Enable { target }, &args.act, Care::Ordinary).map(drop)
}

fn target(ctx: &Context, system: &SystemArgs, what: WhatArgs) -> Result<TickTarget, CliError> {
    let environment = what.environment;
    let Some(name) = what.target else {
        let bag = what.bag.ok_or_else(|| CliError::invalid("which version or bag?"))?;
        return Ok(TickTarget::Bag { system: system_of(ctx, system, environment.as_deref())?, bag, environment });
    };
    let version = version(ctx, system, &name, what.version, what.as_in)?;
    Ok(match name {
        ResourceName::Service(service) => {
            let system = system_of(ctx, system, environment.as_deref())?;
            TickTarget::Service { system, service, environment, version }
        }
        ResourceName::Resource { pipeline, resource } => {
            TickTarget::Resource { team: pipeline.team, pipeline: pipeline.pipeline, resource, version }
        }
    })
}
