//! The command line: one module a command, each with its arguments (their docs are the help) and a `run`.
//!
//! To add a command: a file in `command/` with `XArgs` and `run(ctx, args)`, a variant of [`Command`], a line in
//! [`run`]. A variant without a doc comment takes its help from the doc comment of its arguments.

mod completion;
mod help;
pub mod internal;
mod resolve;
mod worker;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::context::{Context, GlobalArgs};
use crate::demo;
use crate::error::CliError;

/// Packs the versions of all services of a system into one bag and deploys it, environment by environment.
#[derive(Debug, Parser)]
#[command(name = "holdall", version, disable_help_subcommand = true, subcommand_required = true)]
#[command(arg_required_else_help = true, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// Every command.
#[derive(Debug, Subcommand)]
pub enum Command {
    Completion(completion::CompletionArgs),
    Help(help::HelpArgs),
    Resolve(resolve::ResolveArgs),
    Worker(worker::WorkerArgs),
    #[command(flatten)]
    DemoTool(demo::Tool),
}

/// Runs a command.
pub fn run(ctx: &Context, command: Command) -> Result<(), CliError> {
    match command {
        Command::Completion(args) => completion::run(ctx, args),
        Command::Help(args) => help::run(ctx, args),
        Command::Resolve(args) => resolve::run(ctx, args),
        Command::Worker(args) => worker::run(ctx, args),
        Command::DemoTool(tool) => demo::run_tool(tool),
    }
}

/// Prints what clap has to say of a command line: help and version to standard output with code 0, mistakes to
/// standard error with code 2.
pub fn print_parse_error(message: &clap::Error) -> ExitCode {
    let _ = message.print();
    ExitCode::from(u8::try_from(message.exit_code()).unwrap_or(2))
}
