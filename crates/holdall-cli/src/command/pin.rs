//! `holdall pin` and `holdall unpin`.

use clap::Args;
use holdall_protocol::api::{Act, BagDetail, PinTarget};

use crate::act::{ActArgs, Care, UntilArgs, perform};
use crate::client::escape;
use crate::context::{Context, SystemArgs};
use crate::error::{CliError, Kind};
use crate::names::ResourceName;

/// Chooses one version of a service and no other, for the bags to come
///
/// Bags that are packed already go on. To hold an environment at a bag use `holdall freeze`.
#[derive(Debug, Args)]
pub struct PinArgs {
    /// A service, or TEAM/PIPELINE/RESOURCE
    #[arg(value_name = "SERVICE")]
    target: ResourceName,
    /// The version: KEY:VALUE, or the beginning of a value, such as a commit
    #[arg(required_unless_present = "as_in", conflicts_with = "as_in")]
    version: Option<String>,
    /// The version that this bag has
    #[arg(long, value_name = "BAG")]
    as_in: Option<i64>,
    /// Only where this environment packs
    #[arg(long, value_name = "NAME")]
    environment: Option<String>,
    #[command(flatten)]
    until: UntilArgs,
    #[command(flatten)]
    system: SystemArgs,
    #[command(flatten)]
    act: ActArgs,
}

/// Takes a pin away: the newest version is chosen again
#[derive(Debug, Args)]
pub struct UnpinArgs {
    /// A service, or TEAM/PIPELINE/RESOURCE
    #[arg(value_name = "SERVICE")]
    target: ResourceName,
    /// Only where this environment packs
    #[arg(long, value_name = "NAME")]
    environment: Option<String>,
    #[command(flatten)]
    system: SystemArgs,
    #[command(flatten)]
    act: ActArgs,
}

/// Pins.
pub fn run(ctx: &Context, args: PinArgs) -> Result<(), CliError> {
    let version = version(ctx, &args.system, &args.target, args.version, args.as_in)?;
    let target = target(ctx, &args.system, args.target, args.environment)?;
    let act = Act::Pin { target, version, until: args.until.time() };
    perform(ctx, act, &args.act, Care::Ordinary).map(drop)
}

/// Unpins.
pub fn run_unpin(ctx: &Context, args: UnpinArgs) -> Result<(), CliError> {
    let target = target(ctx, &args.system, args.target, args.environment)?;
    perform(ctx, Act::Unpin { target }, &args.act, Care::Ordinary).map(drop)
}

fn target(
    ctx: &Context,
    system: &SystemArgs,
    name: ResourceName,
    environment: Option<String>,
) -> Result<PinTarget, CliError> {
    Ok(match name {
        ResourceName::Service(service) => {
            let system = system_of(ctx, system, environment.as_deref())?;
            PinTarget::Service { system, service, environment }
        }
        ResourceName::Resource { pipeline, resource } => {
            PinTarget::Resource { team: pipeline.team, pipeline: pipeline.pipeline, resource }
        }
    })
}

/// The system that is meant, with an environment or without.
pub fn system_of(ctx: &Context, system: &SystemArgs, environment: Option<&str>) -> Result<String, CliError> {
    match environment {
        Some(environment) => ctx.system_of(system, environment),
        None => ctx.system(system),
    }
}

/// The version as it was written, or as a bag has it.
pub fn version(
    ctx: &Context,
    system: &SystemArgs,
    target: &ResourceName,
    version: Option<String>,
    as_in: Option<i64>,
) -> Result<String, CliError> {
    match (version, as_in, target) {
        (Some(version), _, _) => Ok(version),
        (None, Some(bag), ResourceName::Service(service)) => {
            let path = format!("systems/{}/bags/{bag}", escape(&ctx.system(system)?));
            let detail: BagDetail = ctx.client()?.get(&path)?;
            let found = detail.services.get(service).ok_or_else(|| {
                CliError::new(Kind::NotFound, format!("bag {bag} has no service {service}"))
                    .hint(format!("`holdall bag show {bag}` shows what it has"))
            })?;
            let pairs: Vec<String> = found.version.iter().map(|(key, value)| format!("{key}:{value}")).collect();
            Ok(pairs.join(","))
        }
        _ => Err(CliError::invalid("which version?").hint("name it: KEY:VALUE, or the beginning of a value")),
    }
}
