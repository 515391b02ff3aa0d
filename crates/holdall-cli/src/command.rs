//! The command line: one module a command, each with its arguments (their docs are the help) and a `run`.
//!
//! To add a command: a file in `command/` with `XArgs` and `run(ctx, args)`, a variant of [`Command`], a line in
//! [`run`]. A variant without a doc comment takes its help from the doc comment of its arguments.

mod admin;
mod audit;
mod backup;
mod bag;
mod build;
mod completion;
mod deploy;
mod doctor;
mod env;
mod freeze;
mod help;
pub mod internal;
mod job;
mod lock;
mod pin;
mod pipeline;
mod resolve;
mod resource;
mod rollback;
pub mod serve;
mod suspect;
mod system;
mod tick;
mod token;
mod whereis;
mod why;
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

/// Every command, in the order of the help: what one looks at, what one does, what one runs.
#[derive(Debug, Subcommand)]
pub enum Command {
    Env(env::EnvArgs),
    Bag(bag::BagArgs),
    Why(why::WhyArgs),
    Where(whereis::WhereArgs),
    System(system::SystemCommands),
    Deploy(deploy::DeployArgs),
    Rollback(rollback::RollbackArgs),
    Suspect(suspect::SuspectArgs),
    Freeze(freeze::FreezeArgs),
    Unfreeze(freeze::UnfreezeArgs),
    Pin(pin::PinArgs),
    Unpin(pin::UnpinArgs),
    Enable(tick::EnableArgs),
    Disable(tick::DisableArgs),
    Lock(lock::LockArgs),
    Build(build::BuildArgs),
    Job(job::JobArgs),
    Resource(resource::ResourceArgs),
    Pipeline(pipeline::PipelineArgs),
    Audit(audit::AuditArgs),
    Token(token::TokenArgs),
    Doctor(doctor::DoctorArgs),
    Admin(admin::AdminArgs),
    Demo(demo::DemoArgs),
    Serve(serve::ServeArgs),
    Backup(backup::BackupArgs),
    Restore(backup::RestoreArgs),
    Worker(worker::WorkerArgs),
    Resolve(resolve::ResolveArgs),
    Completion(completion::CompletionArgs),
    Help(help::HelpArgs),
    #[command(flatten)]
    DemoTool(demo::Tool),
}

/// Runs a command.
pub fn run(ctx: &Context, command: Command) -> Result<(), CliError> {
    match command {
        Command::Env(args) => env::run(ctx, args),
        Command::Bag(args) => bag::run(ctx, args),
        Command::Why(args) => why::run(ctx, args),
        Command::Where(args) => whereis::run(ctx, args),
        Command::System(args) => system::run(ctx, args),
        Command::Deploy(args) => deploy::run(ctx, args),
        Command::Rollback(args) => rollback::run(ctx, args),
        Command::Suspect(args) => suspect::run(ctx, args),
        Command::Freeze(args) => freeze::run(ctx, args),
        Command::Unfreeze(args) => freeze::run_unfreeze(ctx, args),
        Command::Pin(args) => pin::run(ctx, args),
        Command::Unpin(args) => pin::run_unpin(ctx, args),
        Command::Enable(args) => tick::run_enable(ctx, args),
        Command::Disable(args) => tick::run_disable(ctx, args),
        Command::Lock(args) => lock::run(ctx, args),
        Command::Build(args) => build::run(ctx, args),
        Command::Job(args) => job::run(ctx, args),
        Command::Resource(args) => resource::run(ctx, args),
        Command::Pipeline(args) => pipeline::run(ctx, args),
        Command::Audit(args) => audit::run(ctx, args),
        Command::Token(args) => token::run(ctx, args),
        Command::Doctor(args) => doctor::run(ctx, args),
        Command::Admin(args) => admin::run(ctx, args),
        Command::Demo(args) => demo::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Backup(args) => backup::run(ctx, args),
        Command::Restore(args) => backup::run_restore(args),
        Command::Worker(args) => worker::run(ctx, args),
        Command::Completion(args) => completion::run(ctx, args),
        Command::Help(args) => help::run(ctx, args),
        Command::Resolve(args) => resolve::run(ctx, args),
        Command::DemoTool(tool) => demo::run_tool(tool),
    }
}

/// Prints what clap has to say of a command line: help and version to standard output with code 0, mistakes to
/// standard error with code 2.
pub fn print_parse_error(message: &clap::Error) -> ExitCode {
    let _ = message.print();
    ExitCode::from(u8::try_from(message.exit_code()).unwrap_or(2))
}

#[cfg(test)]
mod tests;
