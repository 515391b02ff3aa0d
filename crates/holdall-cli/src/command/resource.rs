//! `holdall resource`.

use clap::{Args, Subcommand};
use holdall_protocol::api::{CheckAnswer, CheckRequest, ResourceSummary, ResourceVersion};

use crate::client::{escape, with_query};
use crate::context::{Context, SystemArgs};
use crate::error::{CliError, Kind};
use crate::names::{PipelineName, ResourceName};
use crate::output::{OutputArgs, Table, cell, cell_or_dash, plain, version_short, version_words};

/// How long a check is waited for.
const CHECK_SECONDS: u64 = 60;

/// Resources: list them, their versions, look for new ones
#[derive(Debug, Args)]
pub struct ResourceArgs {
    #[command(subcommand)]
    command: ResourceCommand,
}

#[derive(Debug, Subcommand)]
enum ResourceCommand {
    List(ListArgs),
    Versions(VersionsArgs),
    Check(CheckArgs),
}

/// Lists the resources of a pipeline, or of all
#[derive(Debug, Args)]
struct ListArgs {
    /// Only this pipeline's
    #[arg(value_name = "TEAM/PIPELINE")]
    pipeline: Option<PipelineName>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Lists the versions of a resource, newest first
#[derive(Debug, Args)]
struct VersionsArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// How many at most
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(flatten)]
    output: OutputArgs,
}

/// Looks for new versions of a resource at once
#[derive(Debug, Args)]
struct CheckArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// Do not wait for what it finds
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// Which resource.
#[derive(Debug, Args)]
struct WhichArgs {
    /// A service, or TEAM/PIPELINE/RESOURCE
    #[arg(value_name = "SERVICE")]
    target: ResourceName,
    /// Where this environment packs
    #[arg(long, value_name = "NAME")]
    environment: Option<String>,
    #[command(flatten)]
    system: SystemArgs,
}

impl WhichArgs {
    fn path(&self, ctx: &Context) -> Result<String, CliError> {
        let (pipeline, resource) = self.target.resolve(ctx, &self.system, self.environment.as_deref())?;
        Ok(format!("resources/{}/{}", pipeline.path(), escape(&resource)))
    }
}

/// Runs one of the commands.
pub fn run(ctx: &Context, args: ResourceArgs) -> Result<(), CliError> {
    match args.command {
        ResourceCommand::List(args) => list(ctx, args),
        ResourceCommand::Versions(args) => versions(ctx, args),
        ResourceCommand::Check(args) => check(ctx, args),
    }
}

fn list(ctx: &Context, args: ListArgs) -> Result<(), CliError> {
    let query = args.pipeline.map_or(Vec::new(), |name| {
        vec![format!("team={}", escape(&name.team)), format!("pipeline={}", escape(&name.pipeline))]
    });
    let resources: Vec<ResourceSummary> = ctx.client()?.list(&with_query("resources", &query), None)?;
    args.output.print(&resources, |style| {
        let mut table = Table::new(&["RESOURCE", "TYPE", "LATEST", "PINNED", "CHECKED", "ERROR"]);
        for resource in &resources {
            table.row(vec![
                cell(format!("{}/{}/{}", resource.team, resource.pipeline, resource.resource)),
                cell(&resource.kind),
                cell_or_dash(resource.latest.as_ref().map(version_short)),
                cell_or_dash(resource.pin.as_ref().map(|pin| version_short(&pin.version))),
                cell_or_dash(resource.checked_at.map(|at| style.age(at))),
                cell_or_dash(resource.check_error.as_ref()),
            ]);
        }
        table.render(style, "No resources.")
    })
}

fn versions(ctx: &Context, args: VersionsArgs) -> Result<(), CliError> {
    let path = args.which.path(ctx)?;
    let versions: Vec<ResourceVersion> = ctx.client()?.list(&format!("{path}/versions"), Some(args.limit as usize))?;
    args.output.print(&versions, |style| {
        let mut table = Table::new(&["VERSION", "SEEN", "", "BY", "REASON"]);
        for version in &versions {
            let mark = match (version.pinned, version.enabled) {
                (true, true) => "pinned",
                (true, false) => "pinned, disabled",
                (false, true) => "",
                (false, false) => "disabled",
            };
            table.row(vec![
                cell(version_words(&version.version)),
                cell(style.age(version.first_seen)),
                cell(mark),
                cell(version.tick.as_ref().map_or("", |tick| &tick.by)),
                cell(version.tick.as_ref().and_then(|tick| tick.reason.as_deref()).unwrap_or_default()),
            ]);
        }
        table.render(style, "No versions yet.")
    })
}

fn check(ctx: &Context, args: CheckArgs) -> Result<(), CliError> {
    let path = args.which.path(ctx)?;
    let request = CheckRequest { wait_seconds: if args.no_wait { 0 } else { CHECK_SECONDS } };
    let answer: CheckAnswer = ctx.client()?.post(&format!("{path}/check"), &request)?;
    if let Some(error) = &answer.error
        && !args.output.is_json()
    {
        return Err(CliError::failed(format!("the check failed: {}", plain(error))));
    }
    args.output.print(&answer, |_| match (&answer.latest, answer.done) {
        (_, false) => "The check is under way.\n".to_owned(),
        (Some(version), true) => format!("Newest: {}\n", version_words(version)),
        (None, true) => "There is no version yet.\n".to_owned(),
    })?;
    if answer.error.is_some() { Err(CliError::silent(Kind::Failed)) } else { Ok(()) }
}
