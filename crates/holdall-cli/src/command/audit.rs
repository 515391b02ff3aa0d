//! `holdall audit`.

use clap::Args;
use holdall_protocol::api::AuditEntry;

use crate::client::{escape, with_query};
use crate::context::{Context, SystemArgs};
use crate::error::CliError;
use crate::output::{OutputArgs, Table, cell, cell_or_dash};

/// Shows who did what, when and why, newest first
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// Only what was done to this environment
    #[arg(long, value_name = "NAME")]
    environment: Option<String>,
    /// How many entries at most
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(flatten)]
    system: SystemArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Prints the log.
pub fn run(ctx: &Context, args: AuditArgs) -> Result<(), CliError> {
    // A name says which environment only together with its system.
    let system = match &args.environment {
        Some(environment) => Some(ctx.system_of(&args.system, environment)?),
        None => args.system.system.clone(),
    };
    let mut query = Vec::new();
    query.extend(system.map(|system| format!("system={}", escape(&system))));
    query.extend(args.environment.as_ref().map(|environment| format!("environment={}", escape(environment))));
    let entries: Vec<AuditEntry> = ctx.client()?.list(&with_query("audit", &query), Some(args.limit as usize))?;
    args.output.print(&entries, |style| {
        let mut table = Table::new(&["WHEN", "WHO", "VIA", "ACT", "WHAT", "REASON"]);
        for entry in &entries {
            table.row(vec![
                cell(style.ago(entry.at)),
                cell(&entry.who),
                cell(&entry.via),
                cell(&entry.act),
                cell(&entry.what),
                cell_or_dash(entry.reason.as_ref()),
            ]);
        }
        table.render(style, "Nothing was done yet.")
    })
}
