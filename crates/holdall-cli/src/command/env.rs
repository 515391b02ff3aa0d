//! `holdall env`.

use clap::{Args, Subcommand};
use holdall_protocol::api::{Act, Deployment, EnvironmentDetail, EnvironmentSummary, LockSummary};

use crate::act::{ActArgs, Care, perform};
use crate::client::escape;
use crate::context::{Context, SystemArgs};
use crate::error::CliError;
use crate::output::{OutputArgs, Style, Table, Tone, cell, cell_or_dash, hold_lines, lock_lines, plain, version_short};

/// Environments: what is live, what goes on, who holds the lock
#[derive(Debug, Args)]
pub struct EnvArgs {
    #[command(subcommand)]
    command: EnvCommand,
}

#[derive(Debug, Subcommand)]
enum EnvCommand {
    List(ListArgs),
    Show(ShowArgs),
    Confirm(ConfirmArgs),
}

/// Lists the environments, in chain order
#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    system: SystemArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Shows an environment, whole
#[derive(Debug, Args)]
struct ShowArgs {
    /// Its name
    environment: String,
    #[command(flatten)]
    system: SystemArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Says that what an environment shows is what is live there, after its history was restored
///
/// Until then nothing starts there by itself. Look first what is live, and deploy the right bag by hand where it is not
/// the one that is shown.
#[derive(Debug, Args)]
struct ConfirmArgs {
    /// Its name
    environment: String,
    #[command(flatten)]
    system: SystemArgs,
    #[command(flatten)]
    act: ActArgs,
}

/// Runs one of the commands.
pub fn run(ctx: &Context, args: EnvArgs) -> Result<(), CliError> {
    match args.command {
        EnvCommand::List(args) => {
            let system = ctx.system(&args.system)?;
            let environments = ctx.environments(&system)?;
            args.output.print(&environments, |style| list_text(&environments, style))
        }
        EnvCommand::Show(args) => {
            let system = ctx.system_of(&args.system, &args.environment)?;
            let path = format!("systems/{}/environments/{}", escape(&system), escape(&args.environment));
            let detail: EnvironmentDetail = ctx.client()?.get(&path)?;
            args.output.print(&detail, |style| detail_text(&detail, style))
        }
        EnvCommand::Confirm(args) => {
            let system = ctx.system_of(&args.system, &args.environment)?;
            let act = Act::EnvironmentConfirm { system, environment: args.environment };
            perform(ctx, act, &args.act, Care::Destructive).map(drop)
        }
    }
}

fn list_text(environments: &[EnvironmentSummary], style: &Style) -> String {
    let mut table = Table::new(&["ENVIRONMENT", "STATE", "CURRENT", "UNDER WAY", "FROZEN AT", "LOCK"]);
    for summary in environments {
        let current = match (summary.current, summary.mixed_with) {
            (Some(current), Some(other)) => Some(format!("{current} mixed with {other}")),
            (None, Some(other)) => Some(format!("mixed with {other}")),
            (current, None) => current.map(|bag| bag.to_string()),
        };
        table.row(vec![
            cell(&summary.environment),
            cell(summary.state),
            cell_or_dash(current),
            cell_or_dash(summary.under_way),
            cell_or_dash(summary.frozen_at),
            cell_or_dash(summary.lock.as_ref().map(|lock| lock_words(lock, style))),
        ]);
    }
    table.render(style, "The system has no environments.")
}

/// A lock in a few words.
fn lock_words(lock: &LockSummary, style: &Style) -> String {
    let mut words: Vec<String> = Vec::new();
    for holder in &lock.holders {
        let reason = holder.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        words.push(format!("{} {} for {}{reason}", holder.kind, holder.name, style.age(holder.since)));
    }
    if !lock.queue.is_empty() {
        words.push(format!("{} waiting", lock.queue.len()));
    }
    words.join(", ")
}

fn detail_text(detail: &EnvironmentDetail, style: &Style) -> String {
    let summary = &detail.summary;
    let heading = format!("{} of {}", plain(&summary.environment), plain(&summary.system));
    let since = summary.since.map(|since| format!(" {}", style.since(since))).unwrap_or_default();
    let mut out = format!("{}: {}{since}\n", style.paint(Tone::Bold, &heading), style.state(summary.state.as_str()));
    let bag = |bag: Option<i64>| bag.map_or("none".to_owned(), |bag| format!("bag {bag}"));
    let mut line = |name: &str, value: String| out.push_str(&format!("{name:<11} {value}\n"));
    line("current", bag(summary.current));
    if let Some(other) = summary.mixed_with {
        line("mixed with", format!("bag {other}: its deploy began and did not succeed"));
    }
    line("previous", bag(detail.previous));
    match summary.after.is_empty() {
        true => line("bags", "packed here".to_owned()),
        false => line("bags", format!("that passed {}", plain(&summary.after.join(", ")))),
    }
    line("promotion", format!("{}, superseding: {}", plain(&detail.promotion), plain(&detail.superseding)));
    line("pipeline", plain(&format!("{}/{}", detail.team, detail.pipeline)));
    if let Some(freeze) = &detail.freeze {
        let reason = freeze.reason.as_ref().map(|reason| format!(": {}", plain(reason))).unwrap_or_default();
        let until = freeze.until.map(|until| format!(", ends {}", style.ago(until))).unwrap_or_default();
        let who = plain(&freeze.by);
        line("frozen at", format!("bag {} by {who} {}{until}{reason}", freeze.bag, style.ago(freeze.since)));
    }
    if let Some(deployment) = &detail.deployment {
        line("deployment", deployment_words(deployment, style));
    }
    match lock_lines(&detail.lock_detail) {
        lines if lines.is_empty() => line("lock", "free".to_owned()),
        lines => lines.into_iter().for_each(|text| line("lock", text)),
    }
    if let Some(since) = detail.lock_detail.held_after_unlock {
        line("", format!("held after it was unlocked {}: a person starts what comes next", style.ago(since)));
    }
    for suspect in &detail.suspects {
        let version = version_short(&suspect.version);
        line("suspect", format!("{} {version}, brought by bag {}", plain(&suspect.service), suspect.bag));
    }
    out.push('\n');
    let mut table = Table::new(&["JOB", "LAST", "NEXT", ""]);
    for job in &detail.jobs {
        let build = |build: &Option<holdall_protocol::api::BuildRef>| {
            build.as_ref().map(|build| format!("#{} {} (build {})", build.name, build.status, build.id))
        };
        let paused = if job.paused { "paused" } else { "" };
        table.row(vec![
            cell(&job.job),
            cell_or_dash(build(&job.finished)),
            cell_or_dash(build(&job.next)),
            cell(paused),
        ]);
    }
    out.push_str(&table.render(style, "No jobs."));
    out.push('\n');
    let mut table = Table::new(&["DEPLOYMENT", "BAG", "STATE", "DIRECTION", "BY", "STARTED", "NOTE"]);
    for deployment in &detail.deployments {
        table.row(vec![
            cell(deployment.deployment),
            cell(deployment.bag),
            cell(deployment.state),
            cell(deployment.direction),
            cell(&deployment.started_by),
            cell(style.age(deployment.started_at)),
            cell_or_dash(deployment.note.as_ref()),
        ]);
    }
    out.push_str(&table.render(style, "No deployments yet."));
    if !detail.holds.is_empty() {
        out.push_str(&format!("\n{}\n", style.paint(Tone::Bold, "Held back:")));
        out.push_str(&hold_lines(&detail.holds, style));
    }
    out
}

fn deployment_words(deployment: &Deployment, style: &Style) -> String {
    let by = plain(&deployment.started_by);
    let note = deployment.note.as_ref().map(|note| format!(": {}", plain(note))).unwrap_or_default();
    format!(
        "{} of bag {}, {}, started {} by {by}{note}",
        deployment.deployment,
        deployment.bag,
        style.state(deployment.state.as_str()),
        style.ago(deployment.started_at),
    )
}
