//! `holdall pipeline`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use holdall_protocol::api::{Act, PipelineDetail, PipelineSummary};

use crate::act::{ActArgs, Care, perform};
use crate::context::Context;
use crate::error::CliError;
use crate::names::PipelineName;
use crate::output::{OutputArgs, Table, cell, cell_or_dash};
use crate::vars::{VarArgs, read_file};

/// Pipelines of your own, beside those that systems compile to
#[derive(Debug, Args)]
pub struct PipelineArgs {
    #[command(subcommand)]
    command: PipelineCommand,
}

#[derive(Debug, Subcommand)]
enum PipelineCommand {
    Set(SetArgs),
    Get(GetArgs),
    List(ListArgs),
    Pause(PauseArgs),
    Unpause(UnpauseArgs),
    Destroy(DestroyArgs),
}

/// Makes or changes a pipeline; a new team is made with it
#[derive(Debug, Args)]
struct SetArgs {
    /// Which
    #[arg(value_name = "TEAM/PIPELINE")]
    name: PipelineName,
    /// The pipeline's file, YAML; `-` is standard input
    file: PathBuf,
    #[command(flatten)]
    vars: VarArgs,
    #[command(flatten)]
    act: ActArgs,
}

/// Prints a pipeline's text
#[derive(Debug, Args)]
struct GetArgs {
    /// Which
    #[arg(value_name = "TEAM/PIPELINE")]
    name: PipelineName,
    #[command(flatten)]
    output: OutputArgs,
}

/// Lists the pipelines
#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    output: OutputArgs,
}

/// Keeps a pipeline from starting builds
#[derive(Debug, Args)]
struct PauseArgs {
    /// Which
    #[arg(value_name = "TEAM/PIPELINE")]
    name: PipelineName,
    #[command(flatten)]
    act: ActArgs,
}

/// Lets a pipeline start builds again
#[derive(Debug, Args)]
struct UnpauseArgs {
    /// Which
    #[arg(value_name = "TEAM/PIPELINE")]
    name: PipelineName,
    #[command(flatten)]
    act: ActArgs,
}

/// Takes a pipeline out of use; its builds and logs are kept
#[derive(Debug, Args)]
struct DestroyArgs {
    /// Which
    #[arg(value_name = "TEAM/PIPELINE")]
    name: PipelineName,
    #[command(flatten)]
    act: ActArgs,
}

/// Runs one of the commands.
pub fn run(ctx: &Context, args: PipelineArgs) -> Result<(), CliError> {
    match args.command {
        PipelineCommand::Set(args) => set(ctx, args),
        PipelineCommand::Get(args) => {
            let detail: PipelineDetail = ctx.client()?.get(&format!("pipelines/{}", args.name.path()))?;
            args.output.print(&detail, |_| match detail.text.ends_with('\n') {
                true => detail.text.clone(),
                false => format!("{}\n", detail.text),
            })
        }
        PipelineCommand::List(args) => list(ctx, args),
        PipelineCommand::Pause(args) => {
            let PipelineName { team, pipeline } = args.name;
            perform(ctx, Act::PipelinePause { team, pipeline }, &args.act, Care::Ordinary).map(drop)
        }
        PipelineCommand::Unpause(args) => {
            let PipelineName { team, pipeline } = args.name;
            perform(ctx, Act::PipelineUnpause { team, pipeline }, &args.act, Care::Ordinary).map(drop)
        }
        PipelineCommand::Destroy(args) => {
            let PipelineName { team, pipeline } = args.name;
            perform(ctx, Act::PipelineDestroy { team, pipeline }, &args.act, Care::Destructive).map(drop)
        }
    }
}

fn set(ctx: &Context, args: SetArgs) -> Result<(), CliError> {
    let (text, vars) = (read_file(&args.file)?, args.vars.read()?);
    let PipelineName { team, pipeline } = args.name;
    perform(ctx, Act::PipelineSet { team, pipeline, text, vars }, &args.act, Care::Destructive).map(drop)
}

fn list(ctx: &Context, args: ListArgs) -> Result<(), CliError> {
    let pipelines: Vec<PipelineSummary> = ctx.client()?.list("pipelines", None)?;
    args.output.print(&pipelines, |style| {
        let mut table = Table::new(&["PIPELINE", "OF SYSTEM", "SET", ""]);
        for summary in &pipelines {
            table.row(vec![
                cell(format!("{}/{}", summary.team, summary.pipeline)),
                cell_or_dash(summary.system.as_ref()),
                cell(style.age(summary.set_at)),
                cell(if summary.paused { "paused" } else { "" }),
            ]);
        }
        table.render(style, "No pipelines.")
    })
}
