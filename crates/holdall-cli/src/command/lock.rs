//! `holdall lock`.

mod acquire;
mod run;

use clap::{Args, Subcommand, ValueEnum};
use holdall_protocol::api::{Act, LockDetail, Then};

use crate::act::{ActArgs, Care, perform};
use crate::client::escape;
use crate::context::Context;
use crate::error::CliError;
use crate::output::{OutputArgs, Style, Table, Tone, cell, lock_lines, plain};

/// Locks: who has an environment, and who waits for it
#[derive(Debug, Args)]
pub struct LockArgs {
    #[command(subcommand)]
    command: LockCommand,
}

#[derive(Debug, Subcommand)]
enum LockCommand {
    List(ListArgs),
    Show(ShowArgs),
    Acquire(acquire::AcquireArgs),
    Release(ReleaseArgs),
    Run(run::RunArgs),
    ForceUnlock(ForceUnlockArgs),
}

/// Lists the locks
#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    output: OutputArgs,
}

/// Shows a lock: its holders and its queue
#[derive(Debug, Args)]
struct ShowArgs {
    /// The environment
    environment: String,
    #[command(flatten)]
    output: OutputArgs,
}

/// Gives back a lock that you took, or leaves its queue
#[derive(Debug, Args)]
struct ReleaseArgs {
    /// The environment
    environment: String,
    #[command(flatten)]
    act: ActArgs,
}

/// Takes a lock away from whoever holds it
///
/// It is refused while a step of the holder runs: `--abort-running` stops that first.
#[derive(Debug, Args)]
struct ForceUnlockArgs {
    /// The environment
    environment: String,
    /// Stop what runs first; the lock comes free when its process has ended
    #[arg(long)]
    abort_running: bool,
    /// The worker of what runs is gone for good, and its process with it: you know that
    #[arg(long)]
    worker_is_dead: bool,
    /// What happens next
    #[arg(long, value_enum, default_value_t = ThenArg::Hold)]
    then: ThenArg,
    #[command(flatten)]
    act: ActArgs,
}

/// What happens after a force-unlock.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ThenArg {
    /// Nothing starts until a person starts it
    Hold,
    /// The newest eligible bag starts
    Start,
}

/// Runs one of the commands.
pub fn run(ctx: &Context, args: LockArgs) -> Result<(), CliError> {
    match args.command {
        LockCommand::List(args) => {
            let locks: Vec<LockDetail> = ctx.client()?.list("locks", None)?;
            args.output.print(&locks, |style| list_text(&locks, style))
        }
        LockCommand::Show(args) => {
            let lock: LockDetail = ctx.client()?.get(&format!("locks/{}", escape(&args.environment)))?;
            args.output.print(&lock, |style| show_text(&lock, style))
        }
        LockCommand::Acquire(args) => acquire::run(ctx, args),
        LockCommand::Release(args) => {
            perform(ctx, Act::LockRelease { environment: args.environment }, &args.act, Care::Ordinary).map(drop)
        }
        LockCommand::Run(args) => run::run(ctx, args),
        LockCommand::ForceUnlock(args) => {
            let act = Act::ForceUnlock {
                environment: args.environment,
                abort_running: args.abort_running,
                worker_is_dead: args.worker_is_dead,
                then: match args.then {
                    ThenArg::Hold => Then::Hold,
                    ThenArg::Start => Then::Start,
                },
            };
            perform(ctx, act, &args.act, Care::Destructive).map(drop)
        }
    }
}

fn list_text(locks: &[LockDetail], style: &Style) -> String {
    let mut table = Table::new(&["ENVIRONMENT", "HELD BY", "FOR", "WAITING", "REASON"]);
    for lock in locks {
        let first = lock.holders.first();
        table.row(vec![
            cell(&lock.environment),
            cell(match (first, lock.holders.len()) {
                (None, _) => "nobody".to_owned(),
                (Some(holder), 1) => format!("{} {}", holder.kind, holder.name),
                (Some(holder), n) => format!("{} {} and {} more", holder.kind, holder.name, n - 1),
            }),
            cell(first.map(|holder| style.age(holder.since)).unwrap_or_default()),
            cell(lock.queue.len()),
            cell(first.and_then(|holder| holder.reason.as_deref()).unwrap_or_default()),
        ]);
    }
    table.render(style, "No locks.")
}

fn show_text(lock: &LockDetail, style: &Style) -> String {
    let mut out = format!("{}\n", style.paint(Tone::Bold, &plain(&lock.environment)));
    match lock_lines(lock) {
        lines if lines.is_empty() => out.push_str("free\n"),
        lines => lines.into_iter().for_each(|line| out.push_str(&format!("{line}\n"))),
    }
    for end in lock.holders.iter().filter_map(|holder| holder.expected_end) {
        out.push_str(&format!("expected to end {}\n", style.ago(end)));
    }
    if let Some(since) = lock.held_after_unlock {
        let ago = style.ago(since);
        out.push_str(&format!("unlocked by a person {ago}: nothing starts until a person starts it\n"));
    }
    out
}
