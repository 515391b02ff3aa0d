//! `holdall admin`: what is needed to look after a server, rather than to release with it.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::de::IgnoredAny;

use crate::client::escape;
use crate::context::{Context, SystemArgs};
use crate::error::{CliError, Kind};
use crate::names::JobName;
use crate::output::print;

/// Looks after a server: takes a job's history out of it
#[derive(Debug, Args)]
pub struct AdminArgs {
    #[command(subcommand)]
    command: AdminCommand,
}

#[derive(Debug, Subcommand)]
enum AdminCommand {
    ExportHistory(ExportHistoryArgs),
}

/// Writes everything that decides which versions a job gets, as JSON for `holdall resolve`
///
/// That is the job's inputs, the versions of their resources, and the builds of the job and of those in `passed`, as
/// they are now. `holdall resolve` gives the versions that a build that starts now gets, and says why where there are
/// none; nothing of a version's content, of sources or of credentials is in it. The document is one line, so that several
/// are a file for `holdall resolve --lines`. Two keys stand there only where a history cannot be told without them:
/// `"every": true` beside a pinned version that the job would take one by one, and `"order": null` for a version that is
/// gone and still known to be disabled. Which bag `start-deploy` of an environment takes is decided by more than
/// versions and builds: see `holdall why`.
#[derive(Debug, Args)]
struct ExportHistoryArgs {
    /// TEAM/PIPELINE/JOB, or ENVIRONMENT/JOB
    job: JobName,
    /// Where to [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    system: SystemArgs,
}

/// Runs one of the commands.
pub fn run(ctx: &Context, args: AdminArgs) -> Result<(), CliError> {
    match args.command {
        AdminCommand::ExportHistory(args) => export_history(ctx, args),
    }
}

fn export_history(ctx: &Context, args: ExportHistoryArgs) -> Result<(), CliError> {
    let (pipeline, job) = args.job.resolve(ctx, &args.system)?;
    let path = format!("jobs/{}/{}/history", pipeline.path(), escape(&job));
    let client = ctx.client()?;
    let broken = |why: String| {
        CliError::new(Kind::Unreachable, format!("the answer of {} cannot be read: {why}", client.server()))
            .hint("try again; if it stays so, look whether the server has the same version")
    };
    let mut text = String::new();
    client.open(&path, &[])?.read_to_string(&mut text).map_err(|error| broken(error.to_string()))?;
    // What was cut off on the way is no JSON.
    serde_json::from_str::<IgnoredAny>(&text).map_err(|error| broken(error.to_string()))?;
    text.push('\n');
    match &args.out {
        None => print(&text),
        Some(file) => write(file, &text),
    }
}

fn write(file: &Path, text: &str) -> Result<(), CliError> {
    std::fs::write(file, text)
        .map_err(|error| CliError::failed(format!("{} cannot be written: {error}", file.display())))
}
