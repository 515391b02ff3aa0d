//! `holdall system`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use holdall_config::system::{self, System};
use holdall_protocol::api::{Act, SystemDetail, SystemSummary};

use crate::act::{ActArgs, Care, diff_text, perform};
use crate::client::escape;
use crate::context::{Context, SystemArgs};
use crate::error::{CliError, Kind};
use crate::output::{self, OutputArgs, Style, Table, cell, cell_or_dash, note, plain, plain_lines};
use crate::vars::{VarArgs, read_file};

/// Systems: everything that is released together, and its way to production
#[derive(Debug, Args)]
pub struct SystemCommands {
    #[command(subcommand)]
    command: SystemCommand,
}

#[derive(Debug, Subcommand)]
enum SystemCommand {
    /// Says everything that is wrong with a system file, without a server
    ///
    /// Exit code 2 when there is a mistake.
    Validate(FileArgs),
    Render(RenderArgs),
    /// Shows what setting a system file would change: in words, then pipeline by pipeline
    Diff(FileArgs),
    Set(SetArgs),
    Show(ShowArgs),
    List(ListArgs),
    Destroy(DestroyArgs),
    /// Prints the JSON Schema of system files, for editors
    Schema,
}

/// A system file.
#[derive(Debug, Args)]
struct FileArgs {
    /// The system file, YAML; `-` is standard input
    file: PathBuf,
    #[command(flatten)]
    vars: VarArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Prints the pipelines that a system file compiles to, without a server
#[derive(Debug, Args)]
struct RenderArgs {
    /// The system file, YAML; `-` is standard input
    file: PathBuf,
    /// Only this environment's
    #[arg(long, value_name = "NAME")]
    environment: Option<String>,
    #[command(flatten)]
    vars: VarArgs,
}

/// Makes or changes a system; shows what changes first
#[derive(Debug, Args)]
struct SetArgs {
    /// The system file, YAML; `-` is standard input
    file: PathBuf,
    #[command(flatten)]
    vars: VarArgs,
    /// Changes environments with a deployment under way at once, not when it ends
    #[arg(long)]
    now: bool,
    #[command(flatten)]
    act: ActArgs,
}

/// Shows a system: its services and environments
#[derive(Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    system: SystemArgs,
    /// Its file, as it was set
    #[arg(long)]
    file: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// Lists the systems
#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    output: OutputArgs,
}

/// Takes a system and its pipelines out of use; its bags, tags and builds are kept
#[derive(Debug, Args)]
struct DestroyArgs {
    /// Which
    system: String,
    #[command(flatten)]
    act: ActArgs,
}

/// Runs one of the commands.
pub fn run(ctx: &Context, args: SystemCommands) -> Result<(), CliError> {
    match args.command {
        SystemCommand::Validate(args) => validate(&args),
        SystemCommand::Render(args) => render(&args),
        SystemCommand::Diff(args) => diff(ctx, &args),
        SystemCommand::Set(args) => set(ctx, args),
        SystemCommand::Show(args) => show(ctx, &args),
        SystemCommand::List(args) => list(ctx, &args),
        SystemCommand::Destroy(args) => {
            perform(ctx, Act::SystemDestroy { system: args.system }, &args.act, Care::Destructive).map(drop)
        }
        SystemCommand::Schema => output::print(&output::json(&system::schema())?),
    }
}

/// Reads and checks a file; its mistakes are printed, all of them, each with its place.
fn parse(file: &Path, vars: &VarArgs) -> Result<(System, String), CliError> {
    let text = read_file(file)?;
    let name = file.display().to_string();
    let parsed = system::parse(&text, &vars.read()?);
    for warning in parsed.warnings() {
        note(plain_lines(&warning.render(&name, &text)).trim_end());
    }
    let mut count = 0;
    for error in parsed.errors() {
        note(plain_lines(&error.render(&name, &text)).trim_end());
        count += 1;
    }
    parsed.value.map(|system| (system, text)).ok_or_else(|| {
        let plural = if count == 1 { "mistake" } else { "mistakes" };
        CliError::invalid(format!("{name} has {count} {plural}"))
    })
}

fn validate(args: &FileArgs) -> Result<(), CliError> {
    if args.output.is_json() {
        let text = read_file(&args.file)?;
        let parsed = system::parse(&text, &args.vars.read()?);
        let name = args.file.display().to_string();
        let found: Vec<_> = parsed.diagnostics.iter().map(|found| found.to_json(&name)).collect();
        output::print(&output::json(&found)?)?;
        return if parsed.value.is_some() { Ok(()) } else { Err(CliError::silent(Kind::Invalid)) };
    }
    let (system, _) = parse(&args.file, &args.vars)?;
    output::print(&format!(
        "{} is right: system {} of {} services and {} environments.\n",
        args.file.display(),
        system.name,
        system.services.len(),
        system.environments.len()
    ))?;
    for service in &system.services {
        if !matches!(service.kind.as_str(), "git" | "registry-image") {
            note(&format!(
                "service {} is of type {}: fetching one of its versions later may give other bits (exact: false)",
                service.name, service.kind
            ));
        }
    }
    Ok(())
}

fn render(args: &RenderArgs) -> Result<(), CliError> {
    let (system, _) = parse(&args.file, &args.vars)?;
    let mut text = String::new();
    for compiled in system::compile(&system) {
        if args.environment.as_ref().is_some_and(|name| *name != compiled.environment) {
            continue;
        }
        let config = holdall_config::pipeline::to_json(&compiled.config);
        text.push_str(&format!(
            "# team {}, pipeline {}\n---\n{}",
            compiled.team,
            compiled.pipeline,
            holdall_config::yaml::emit(&config)
        ));
    }
    if text.is_empty() {
        let name = args.environment.clone().unwrap_or_default();
        return Err(CliError::new(Kind::NotFound, format!("the system has no environment {name}")));
    }
    output::print(&text)
}

fn diff(ctx: &Context, args: &FileArgs) -> Result<(), CliError> {
    let (new, _) = parse(&args.file, &args.vars)?;
    let known: Option<SystemDetail> = ctx.client()?.find(&format!("systems/{}", escape(&new.name)))?;
    let old = known.and_then(|known| system::parse(&known.text, &known.vars).value);
    let found = system::diff(old.as_ref(), &new);
    args.output.print(&found, |style| {
        let mut text = found.sentences().iter().map(|line| format!("{line}\n")).collect::<String>();
        text.push_str(&diff_text(&found.pipelines(), style));
        if text.is_empty() { "Nothing changes.\n".to_owned() } else { text }
    })
}

fn set(ctx: &Context, args: SetArgs) -> Result<(), CliError> {
    let (_, text) = parse(&args.file, &args.vars)?;
    let act = Act::SystemSet { text, vars: args.vars.read()?, now: args.now };
    perform(ctx, act, &args.act, Care::Destructive).map(drop)
}

fn show(ctx: &Context, args: &ShowArgs) -> Result<(), CliError> {
    let name = ctx.system(&args.system)?;
    let detail: SystemDetail = ctx.client()?.get(&format!("systems/{}", escape(&name)))?;
    if args.file {
        return output::print(&detail.text);
    }
    args.output.print(&detail, |style| detail_text(&detail, style))
}

fn detail_text(detail: &SystemDetail, style: &Style) -> String {
    let (name, by) = (plain(&detail.system), plain(&detail.set_by));
    let mut text = format!("System {name}, set {} by {by}\n\n", style.ago(detail.set_at));
    let mut services = Table::new(&["SERVICE", "TYPE", "REPOSITORY", ""]);
    for service in &detail.services {
        services.row(vec![
            cell(&service.service),
            cell(&service.kind),
            cell_or_dash(service.repository.as_ref()),
            cell(if service.trigger { "" } else { "packs nothing by itself" }),
        ]);
    }
    text.push_str(&services.render(style, "No services."));
    text.push('\n');
    let mut environments = Table::new(&["ENVIRONMENT", "AFTER", "CURRENT", "STATE"]);
    for environment in &detail.environments {
        let after = environment.after.join(", ");
        environments.row(vec![
            cell(&environment.environment),
            cell(if after.is_empty() { "packs bags" } else { &after }),
            cell_or_dash(environment.current),
            cell(environment.state),
        ]);
    }
    text.push_str(&environments.render(style, "No environments."));
    for name in &detail.pending {
        text.push_str(&format!("{name} takes its new pipeline when the deployment under way has ended.\n"));
    }
    text
}

fn list(ctx: &Context, args: &ListArgs) -> Result<(), CliError> {
    let systems: Vec<SystemSummary> = ctx.client()?.list("systems", None)?;
    args.output.print(&systems, |style| {
        let mut table = Table::new(&["SYSTEM", "SERVICES", "ENVIRONMENTS", "NEWEST BAG", "SET"]);
        for summary in &systems {
            table.row(vec![
                cell(&summary.system),
                cell(summary.services.len()),
                cell(summary.environments.join(", ")),
                cell_or_dash(summary.newest_bag),
                cell(style.age(summary.set_at)),
            ]);
        }
        table.render(style, "No systems. Make one: holdall system set FILE")
    })
}
