//! `holdall job`.

use clap::{Args, Subcommand};
use holdall_protocol::api::{Act, JobSummary, PipelineSummary};

use crate::act::{ActArgs, Care, perform};
use crate::context::{Context, SystemArgs};
use crate::error::CliError;
use crate::names::{JobName, PipelineName};
use crate::output::{OutputArgs, Table, cell, cell_or_dash};

/// Jobs: list, trigger, pause
#[derive(Debug, Args)]
pub struct JobArgs {
    #[command(subcommand)]
    command: JobCommand,
}

#[derive(Debug, Subcommand)]
enum JobCommand {
    List(ListArgs),
    Trigger(TriggerArgs),
    Pause(PauseArgs),
    Unpause(UnpauseArgs),
}

/// Lists the jobs of a pipeline, or of all
#[derive(Debug, Args)]
struct ListArgs {
    /// Only this pipeline's
    #[arg(value_name = "TEAM/PIPELINE")]
    pipeline: Option<PipelineName>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Makes a build of a job
#[derive(Debug, Args)]
struct TriggerArgs {
    #[command(flatten)]
    job: OneJobArgs,
    /// Follow the build until it has ended
    #[arg(long, short = 'w')]
    watch: bool,
    #[command(flatten)]
    act: ActArgs,
}

/// Keeps a job from starting builds
#[derive(Debug, Args)]
struct PauseArgs {
    #[command(flatten)]
    job: OneJobArgs,
    #[command(flatten)]
    act: ActArgs,
}

/// Lets a job start builds again
#[derive(Debug, Args)]
struct UnpauseArgs {
    #[command(flatten)]
    job: OneJobArgs,
    #[command(flatten)]
    act: ActArgs,
}

/// Which job.
#[derive(Debug, Args)]
struct OneJobArgs {
    /// TEAM/PIPELINE/JOB, or ENVIRONMENT/JOB
    job: JobName,
    #[command(flatten)]
    system: SystemArgs,
}

/// Runs one of the commands.
pub fn run(ctx: &Context, args: JobArgs) -> Result<(), CliError> {
    match args.command {
        JobCommand::List(args) => list(ctx, args),
        JobCommand::Trigger(args) => trigger(ctx, args),
        JobCommand::Pause(args) => {
            let (PipelineName { team, pipeline }, job) = args.job.job.resolve(ctx, &args.job.system)?;
            perform(ctx, Act::JobPause { team, pipeline, job }, &args.act, Care::Ordinary).map(drop)
        }
        JobCommand::Unpause(args) => {
            let (PipelineName { team, pipeline }, job) = args.job.job.resolve(ctx, &args.job.system)?;
            perform(ctx, Act::JobUnpause { team, pipeline, job }, &args.act, Care::Ordinary).map(drop)
        }
    }
}

fn trigger(ctx: &Context, args: TriggerArgs) -> Result<(), CliError> {
    let (PipelineName { team, pipeline }, job) = args.job.job.resolve(ctx, &args.job.system)?;
    let made = perform(ctx, Act::JobTrigger { team, pipeline, job }, &args.act, Care::Ordinary)?;
    match made.and_then(|made| made.build) {
        Some(build) if args.watch => super::build::watch(ctx, build.id),
        _ => Ok(()),
    }
}

fn list(ctx: &Context, args: ListArgs) -> Result<(), CliError> {
    let client = ctx.client()?;
    let pipelines = match args.pipeline {
        Some(pipeline) => vec![pipeline],
        None => {
            let all: Vec<PipelineSummary> = client.list("pipelines", None)?;
            all.into_iter().map(|summary| PipelineName { team: summary.team, pipeline: summary.pipeline }).collect()
        }
    };
    let mut jobs: Vec<JobSummary> = Vec::new();
    for pipeline in pipelines {
        jobs.extend(client.list(&format!("pipelines/{}/jobs", pipeline.path()), None)?);
    }
    args.output.print(&jobs, |style| {
        let mut table = Table::new(&["JOB", "LAST", "NEXT", ""]);
        for job in &jobs {
            table.row(vec![
                cell(format!("{}/{}/{}", job.team, job.pipeline, job.job)),
                cell_or_dash(job.finished.as_ref().map(|build| format!("#{} {}", build.name, build.status))),
                cell_or_dash(job.next.as_ref().map(|build| format!("#{} {}", build.name, build.status))),
                cell(if job.paused { "paused" } else { "" }),
            ]);
        }
        table.render(style, "No jobs.")
    })
}
