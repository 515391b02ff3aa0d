//! `holdall suspect`.

use clap::{Args, Subcommand};
use holdall_protocol::api::{Act, EnvironmentDetail, Suspect};
use serde::Serialize;

use crate::act::{ActArgs, Care, perform};
use crate::client::escape;
use crate::context::{Context, SystemArgs};
use crate::error::CliError;
use crate::output::{OutputArgs, Table, cell, cell_or_dash, version_short};

/// Versions that a roll back threw out
#[derive(Debug, Args)]
pub struct SuspectArgs {
    #[command(subcommand)]
    command: SuspectCommand,
}

#[derive(Debug, Subcommand)]
enum SuspectCommand {
    List(ListArgs),
    Clear(ClearArgs),
}

/// Lists suspects
#[derive(Debug, Args)]
struct ListArgs {
    /// Only this environment's
    environment: Option<String>,
    #[command(flatten)]
    system: SystemArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Lets suspect versions start again
#[derive(Debug, Args)]
struct ClearArgs {
    /// Where
    environment: String,
    /// Whose versions
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<String>,
    #[command(flatten)]
    system: SystemArgs,
    #[command(flatten)]
    act: ActArgs,
}

/// A suspect with its environment.
#[derive(Debug, Serialize)]
struct Row {
    environment: String,
    #[serde(flatten)]
    suspect: Suspect,
}

/// Runs one of the commands.
pub fn run(ctx: &Context, args: SuspectArgs) -> Result<(), CliError> {
    match args.command {
        SuspectCommand::List(args) => list(ctx, args),
        SuspectCommand::Clear(args) => {
            let act = Act::ClearSuspect {
                system: ctx.system_of(&args.system, &args.environment)?,
                environment: args.environment,
                services: args.services,
            };
            perform(ctx, act, &args.act, Care::Ordinary).map(drop)
        }
    }
}

fn list(ctx: &Context, args: ListArgs) -> Result<(), CliError> {
    let system = super::pin::system_of(ctx, &args.system, args.environment.as_deref())?;
    let environments = match args.environment {
        Some(environment) => vec![environment],
        None => ctx.environments(&system)?.into_iter().map(|summary| summary.environment).collect(),
    };
    let mut rows = Vec::new();
    for environment in environments {
        let path = format!("systems/{}/environments/{}", escape(&system), escape(&environment));
        let detail: EnvironmentDetail = ctx.client()?.get(&path)?;
        rows.extend(detail.suspects.into_iter().map(|suspect| Row { environment: environment.clone(), suspect }));
    }
    args.output.print(&rows, |style| {
        let mut table = Table::new(&["ENVIRONMENT", "SERVICE", "VERSION", "BAG", "SINCE", "BY", "REASON"]);
        for Row { environment, suspect } in &rows {
            table.row(vec![
                cell(environment),
                cell(&suspect.service),
                cell(version_short(&suspect.version)),
                cell(suspect.bag),
                cell(style.age(suspect.since)),
                cell(&suspect.by),
                cell_or_dash(suspect.reason.as_ref()),
            ]);
        }
        table.render(style, "No version is suspect.")
    })
}
