//! `holdall build`.

use std::io::{Read, Write};

use clap::{Args, Subcommand, ValueEnum};
use holdall_protocol::api::{
    Act, BuildDetail, BuildEvent, BuildEventKind, BuildStatus, BuildSummary, PlanStep, StepOutcome,
};

use crate::act::{ActArgs, Care, perform};
use crate::client::{ClientError, escape, events, with_query};
use crate::context::{Context, SystemArgs};
use crate::error::{CliError, Kind};
use crate::names::{BuildName, JobName};
use crate::output::{self, OutputArgs, Style, Table, Tone, cell, cell_or_dash, plain, version_words};

/// Builds: list, follow, read, abort, run again
#[derive(Debug, Args)]
pub struct BuildArgs {
    #[command(subcommand)]
    command: BuildCommand,
}

#[derive(Debug, Subcommand)]
enum BuildCommand {
    List(ListArgs),
    Watch(WatchArgs),
    Logs(LogsArgs),
    Abort(AbortArgs),
    Rerun(RerunArgs),
}

/// Lists builds, newest first
#[derive(Debug, Args)]
struct ListArgs {
    /// Only this job's: TEAM/PIPELINE/JOB, or ENVIRONMENT/JOB
    job: Option<JobName>,
    /// Only this environment's
    #[arg(long, value_name = "NAME", conflicts_with = "job")]
    environment: Option<String>,
    /// Only those in this status
    #[arg(long, value_enum)]
    status: Option<StatusArg>,
    /// How many at most
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(flatten)]
    system: SystemArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// A status on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum StatusArg {
    Pending,
    Started,
    Succeeded,
    Failed,
    Errored,
    Aborted,
}

/// Follows a build until it has ended
///
/// Exit code 0 when it succeeded, 1 when it failed, 2 when it errored, 3 when it was aborted. Leaving with Ctrl-C
/// does not stop the build.
#[derive(Debug, Args)]
struct WatchArgs {
    /// Its id, or TEAM/PIPELINE/JOB/NUMBER, or ENVIRONMENT/JOB/NUMBER
    build: BuildName,
    #[command(flatten)]
    system: SystemArgs,
}

/// Prints what a build has written so far
#[derive(Debug, Args)]
struct LogsArgs {
    /// Its id, or TEAM/PIPELINE/JOB/NUMBER, or ENVIRONMENT/JOB/NUMBER
    build: BuildName,
    #[command(flatten)]
    system: SystemArgs,
}

/// Stops a build
///
/// The build has ended when its processes have. A guarded build, a deploy, needs `--force`. Where the worker is lost for
/// good, `--worker-is-dead` says so: then nobody waits for its processes, and a deployment that was under way is in doubt.
#[derive(Debug, Args)]
struct AbortArgs {
    /// Its id, or TEAM/PIPELINE/JOB/NUMBER, or ENVIRONMENT/JOB/NUMBER
    build: BuildName,
    /// Also when it is guarded
    #[arg(long)]
    force: bool,
    /// Its worker is gone for good, and its processes with it
    #[arg(long)]
    worker_is_dead: bool,
    #[command(flatten)]
    system: SystemArgs,
    #[command(flatten)]
    act: ActArgs,
}

/// Runs a build again with the same versions
#[derive(Debug, Args)]
struct RerunArgs {
    /// Its id, or TEAM/PIPELINE/JOB/NUMBER, or ENVIRONMENT/JOB/NUMBER
    build: BuildName,
    /// Follow the build until it has ended
    #[arg(long, short = 'w')]
    watch: bool,
    #[command(flatten)]
    system: SystemArgs,
    #[command(flatten)]
    act: ActArgs,
}

/// Runs one of the commands.
pub fn run(ctx: &Context, args: BuildArgs) -> Result<(), CliError> {
    match args.command {
        BuildCommand::List(args) => list(ctx, args),
        BuildCommand::Watch(args) => watch(ctx, args.build.resolve(ctx, &args.system)?),
        BuildCommand::Logs(args) => logs(ctx, args.build.resolve(ctx, &args.system)?),
        BuildCommand::Abort(args) => {
            let build = args.build.resolve(ctx, &args.system)?;
            let care = if args.force || args.worker_is_dead { Care::Destructive } else { Care::Ordinary };
            let act = Act::BuildAbort { build, force: args.force, worker_is_dead: args.worker_is_dead };
            perform(ctx, act, &args.act, care).map(drop)
        }
        BuildCommand::Rerun(args) => {
            let build = args.build.resolve(ctx, &args.system)?;
            let made = perform(ctx, Act::BuildRerun { build }, &args.act, Care::Ordinary)?;
            match made.and_then(|made| made.build) {
                Some(build) if args.watch => watch(ctx, build.id),
                _ => Ok(()),
            }
        }
    }
}

fn list(ctx: &Context, args: ListArgs) -> Result<(), CliError> {
    let mut query = Vec::new();
    if let Some(job) = &args.job {
        let (pipeline, job) = job.resolve(ctx, &args.system)?;
        query.push(format!("team={}", escape(&pipeline.team)));
        query.push(format!("pipeline={}", escape(&pipeline.pipeline)));
        query.push(format!("job={}", escape(&job)));
    } else if let Some(system) = &args.system.system {
        query.push(format!("system={}", escape(system)));
    }
    query.extend(args.environment.map(|environment| format!("environment={}", escape(&environment))));
    query.extend(args.status.and_then(|status| status.to_possible_value()).map(|s| format!("status={}", s.get_name())));
    let builds: Vec<BuildSummary> = ctx.client()?.list(&with_query("builds", &query), Some(args.limit as usize))?;
    args.output.print(&builds, |style| {
        let mut table = Table::new(&["ID", "JOB", "BUILD", "STATUS", "BAG", "CREATED", "TOOK", "BY"]);
        for summary in &builds {
            let build = &summary.build;
            let took = summary.started_at.map(|start| {
                output::span_words(summary.ended_at.unwrap_or_else(output::now).0.saturating_sub(start.0))
            });
            table.row(vec![
                cell(build.id),
                cell(format!("{}/{}/{}", build.team, build.pipeline, build.job)),
                cell(format!("#{}", build.name)),
                cell(build.status),
                cell_or_dash(summary.bag),
                cell(style.age(summary.created_at)),
                cell_or_dash(took),
                cell_or_dash(summary.created_by.as_ref()),
            ]);
        }
        table.render(style, "No builds.")
    })
}

fn logs(ctx: &Context, build: i64) -> Result<(), CliError> {
    let mut body = ctx.client()?.open(&format!("builds/{build}/log"), &[])?;
    let mut out = std::io::stdout().lock();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = body.read(&mut buffer).map_err(|error| {
            CliError::new(Kind::Unreachable, format!("the log broke off: {error}")).hint("run it again")
        })?;
        if length == 0 {
            out.flush()?;
            return Ok(());
        }
        out.write_all(&buffer[..length])?;
    }
}

/// Follows a build until it has ended; its status is the exit code.
pub fn watch(ctx: &Context, build: i64) -> Result<(), CliError> {
    let client = ctx.client()?;
    let detail: BuildDetail = client.get(&format!("builds/{build}"))?;
    let summary = &detail.summary.build;
    let (team, pipeline, job, name) = (&summary.team, &summary.pipeline, &summary.job, &summary.name);
    output::note(&plain(&format!("{team}/{pipeline}/{job} #{name} (build {build})")));
    for hold in &detail.report {
        output::note(&format!("waits: {}", plain(&hold.sentence)));
    }
    let mut watcher = Watcher { style: Style::stdout(), names: Names::default(), status: summary.status, bol: true };
    let ended = events::follow(
        client,
        &format!("builds/{build}/events"),
        |event| {
            let event: BuildEvent = serde_json::from_str(&event.data)
                .map_err(|error| ClientError::Strange(format!("an event of the build cannot be read: {error}")))?;
            if let Some(step) = &event.step
                && !watcher.names.knows(step)
            {
                // The plan is there from when the build starts.
                watcher.names = Names::of(client.find(&format!("builds/{build}/plan"))?);
            }
            Ok(watcher.show(&event).map_or_else(|error| Some(Err(error)), |end| end.map(Ok)))
        },
        |why| output::note(&format!("{why}; waiting for the server")),
    )?;
    match ended? {
        BuildStatus::Succeeded => Ok(()),
        BuildStatus::Failed | BuildStatus::Pending | BuildStatus::Started => Err(CliError::silent(Kind::Exit(1))),
        BuildStatus::Errored => Err(CliError::silent(Kind::Exit(2))),
        BuildStatus::Aborted => Err(CliError::silent(Kind::Exit(3))),
    }
}

/// What each step of a plan is called.
#[derive(Debug, Default)]
struct Names(std::collections::BTreeMap<String, String>);

impl Names {
    fn of(plan: Option<PlanStep>) -> Names {
        let mut names = Names::default();
        let mut left: Vec<PlanStep> = plan.into_iter().collect();
        while let Some(step) = left.pop() {
            let name = match &step.name {
                Some(name) => format!("{} {name}", step.kind),
                None => step.kind.clone(),
            };
            names.0.insert(step.id, plain(&name));
            left.extend(step.steps);
        }
        names
    }

    fn knows(&self, step: &str) -> bool {
        self.0.contains_key(step)
    }

    fn name<'n>(&'n self, step: &'n Option<String>) -> &'n str {
        step.as_ref().map_or("build", |step| self.0.get(step).map_or(step.as_str(), String::as_str))
    }
}

/// Shows the events of a build: output to standard output, what is said about it to standard error.
struct Watcher {
    style: Style,
    names: Names,
    status: BuildStatus,
    /// Whether the output is at the beginning of a line.
    bol: bool,
}

impl Watcher {
    /// Shows an event; gives the build's status when it was the last.
    fn show(&mut self, event: &BuildEvent) -> Result<Option<BuildStatus>, CliError> {
        let name = self.names.name(&event.step).to_owned();
        match &event.kind {
            BuildEventKind::Status { status } => {
                self.status = *status;
                if status.is_terminal() {
                    self.say(&self.style.state(status.as_str()))?;
                }
            }
            BuildEventKind::Waiting { holds } => {
                for hold in holds {
                    let way_out = hold.command.as_ref().map(|command| format!(" ({})", plain(command)));
                    let line = format!("waits: {}{}", plain(&hold.sentence), way_out.unwrap_or_default());
                    self.say(&self.style.paint(Tone::Dim, &line))?;
                }
            }
            BuildEventKind::Started { .. } => self.say(&self.style.paint(Tone::Bold, &name))?,
            BuildEventKind::Output { text, .. } => {
                output::print(text)?;
                self.bol = text.is_empty() && self.bol || text.ends_with('\n');
            }
            BuildEventKind::Version { version, .. } => self.say(&format!("{name}: {}", version_words(version)))?,
            BuildEventKind::Message { message } => self.say(&format!("{name}: {}", plain(message)))?,
            BuildEventKind::Finished { outcome, exit_status } => {
                let status = exit_status.map(|status| format!(" (exit status {status})")).unwrap_or_default();
                if *outcome != StepOutcome::Succeeded {
                    self.say(&format!("{name}: {}{status}", self.style.state(outcome.as_str())))?;
                }
            }
            BuildEventKind::End => return Ok(Some(self.status)),
        }
        Ok(None)
    }

    /// A line on standard error, never in the middle of a line of output.
    fn say(&mut self, line: &str) -> Result<(), CliError> {
        if !self.bol {
            output::print("\n")?;
            self.bol = true;
        }
        output::note(line);
        Ok(())
    }
}
