//! `holdall bag`.

use clap::{Args, Subcommand};
use holdall_protocol::api::{Act, BagDetail, BagDiff, BagSummary};

use crate::act::{ActArgs, Care, perform};
use crate::client::escape;
use crate::context::{Context, SystemArgs};
use crate::error::CliError;
use crate::names::BagName;
use crate::output::{
    OutputArgs, Style, Table, Tone, cell, cell_or_dash, change_lines, hold_lines, plain, short, version_words,
};

/// Bags: list them, look into one, compare two, make one by hand
#[derive(Debug, Args)]
pub struct BagArgs {
    #[command(subcommand)]
    command: BagCommand,
}

#[derive(Debug, Subcommand)]
enum BagCommand {
    List(ListArgs),
    Show(ShowArgs),
    Diff(DiffArgs),
    Assemble(AssembleArgs),
}

/// Lists bags with their state in each environment, newest first
#[derive(Debug, Args)]
struct ListArgs {
    /// How many at most
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(flatten)]
    system: SystemArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Shows a bag: its versions, its tags, and what holds it back
#[derive(Debug, Args)]
struct ShowArgs {
    /// Its number, or an environment where it is current
    bag: BagName,
    #[command(flatten)]
    system: SystemArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Shows what changed from one bag to another, with commits
///
/// With one bag: since the bag that was packed before it. An environment's name stands for the bag that is current
/// there: `holdall bag diff production 42` shows what 42 would bring to production.
#[derive(Debug, Args)]
struct DiffArgs {
    /// One or two of: a bag's number, or an environment where it is current
    #[arg(value_name = "BAG", num_args = 1..=2, required = true)]
    bags: Vec<BagName>,
    #[command(flatten)]
    system: SystemArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Makes a bag by hand: like another one, but for the services that are named
///
/// It becomes the newest bag of the environment that packs it, and goes through the whole chain.
#[derive(Debug, Args)]
struct AssembleArgs {
    /// The bag that it is like: its number, or an environment where it is current
    #[arg(long, value_name = "BAG")]
    like: BagName,
    /// A service's version; KEY:VALUE, or the beginning of a value; may be given several times
    #[arg(long, value_name = "SERVICE=VERSION", value_parser = split)]
    with: Vec<(String, String)>,
    /// Where it is packed [default: where the other one was]
    #[arg(long, value_name = "NAME")]
    environment: Option<String>,
    #[command(flatten)]
    system: SystemArgs,
    #[command(flatten)]
    act: ActArgs,
}

fn split(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("'{text}' is not SERVICE=VERSION")),
    }
}

/// Runs one of the commands.
pub fn run(ctx: &Context, args: BagArgs) -> Result<(), CliError> {
    match args.command {
        BagCommand::List(args) => list(ctx, args),
        BagCommand::Show(args) => show(ctx, args),
        BagCommand::Diff(args) => diff(ctx, args),
        BagCommand::Assemble(args) => assemble(ctx, args),
    }
}

fn list(ctx: &Context, args: ListArgs) -> Result<(), CliError> {
    let system = ctx.system(&args.system)?;
    let path = format!("systems/{}/bags", escape(&system));
    let bags: Vec<BagSummary> = ctx.client()?.list(&path, Some(args.limit as usize))?;
    if args.output.is_json() {
        return args.output.print(&bags, |_| String::new());
    }
    let environments = ctx.environments(&system)?;
    args.output.print(&bags, |style| {
        let mut headings = vec!["BAG", "PACKED", "IN"];
        headings.extend(environments.iter().map(|summary| summary.environment.as_str()));
        let mut table = Table::new(&headings);
        for bag in &bags {
            let mut row = vec![cell(bag.bag), cell(style.age(bag.packed_at)), cell(&bag.packed_in)];
            row.extend(environments.iter().map(|environment| match bag.environments.get(&environment.environment) {
                Some(state) => cell(state),
                None => (String::new(), None),
            }));
            table.row(row);
        }
        table.render(style, "No bag has been packed yet.")
    })
}

fn show(ctx: &Context, args: ShowArgs) -> Result<(), CliError> {
    let client = ctx.client()?;
    let system = ctx.system(&args.system)?;
    let bag = args.bag.resolve(client, &system)?;
    let detail: BagDetail = client.get(&format!("systems/{}/bags/{bag}", escape(&system)))?;
    if args.output.is_json() {
        return args.output.print(&detail, |_| String::new());
    }
    let environments = ctx.environments(&system)?;
    let chain: Vec<&str> = environments.iter().map(|summary| summary.environment.as_str()).collect();
    args.output.print(&detail, |style| detail_text(&detail, &chain, style))
}

fn detail_text(detail: &BagDetail, chain: &[&str], style: &Style) -> String {
    let summary = &detail.summary;
    let heading = format!("Bag {} of {}", summary.bag, plain(&summary.system));
    let mut out = format!("{}\n", style.paint(Tone::Bold, &heading));
    let by = summary.packed_by.as_ref().map(|by| format!(" by {}", plain(by))).unwrap_or_default();
    out.push_str(&format!("packed {} in {}{by}\n", style.ago(summary.packed_at), plain(&summary.packed_in)));
    out.extend(detail.same_contents_as.map(|other| format!("same contents as bag {other}\n")));
    out.push_str(&format!("contents {}\n", short(&detail.summary.contents_digest)));
    out.push('\n');
    let mut table = Table::new(&["SERVICE", "TYPE", "VERSION", "EXACT"]);
    for (name, service) in &detail.services {
        let exact = if service.exact { "yes" } else { "no" };
        table.row(vec![cell(name), cell(&service.kind), cell(version_words(&service.version)), cell(exact)]);
    }
    out.push_str(&table.render(style, "No services."));
    for sentence in detail.pins.iter().chain(&detail.disabled) {
        out.push_str(&format!("{}\n", plain(sentence)));
    }
    out.push('\n');
    let mut table = Table::new(&["ENVIRONMENT", "STATE", "PASSED"]);
    let states = chain.iter().filter_map(|name| Some((*name, summary.environments.get(*name)?)));
    for (environment, state) in states.clone() {
        table.row(vec![cell(environment), cell(state), cell_or_dash(summary.passed.get(environment))]);
    }
    out.push_str(&table.render(style, "It can go to no environment."));
    for (environment, _) in states {
        let holds = detail.holds.get(environment).map(Vec::as_slice).unwrap_or_default();
        if !holds.is_empty() {
            out.push_str(&format!("\n{} in {}:\n", style.paint(Tone::Bold, "Held back"), plain(environment)));
            out.push_str(&hold_lines(holds, style));
        }
    }
    out
}

fn diff(ctx: &Context, args: DiffArgs) -> Result<(), CliError> {
    let client = ctx.client()?;
    let system = ctx.system(&args.system)?;
    let bags: Result<Vec<i64>, CliError> = args.bags.iter().map(|bag| bag.resolve(client, &system)).collect();
    let (from, to) = match bags?[..] {
        [from, to] => (Some(from), to),
        [to] => {
            let detail: BagDetail = client.get(&format!("systems/{}/bags/{to}", escape(&system)))?;
            (detail.previous, to)
        }
        _ => return Err(CliError::invalid("which bags?")),
    };
    let with = from.map(|from| format!("?with={from}")).unwrap_or_default();
    let diff: BagDiff = client.get(&format!("systems/{}/bags/{to}/diff{with}", escape(&system)))?;
    args.output.print(&diff, |style| {
        let from = diff.from.map_or("nothing".to_owned(), |from| format!("bag {from}"));
        let mut out = format!("{}\n", style.paint(Tone::Bold, &format!("From {from} to bag {}:", diff.to)));
        match diff.services.is_empty() {
            true => out.push_str("  the same versions\n"),
            false => out.push_str(&change_lines(&diff.services, style)),
        }
        out
    })
}

fn assemble(ctx: &Context, args: AssembleArgs) -> Result<(), CliError> {
    let system = super::pin::system_of(ctx, &args.system, args.environment.as_deref())?;
    let like = args.like.resolve(ctx.client()?, &system)?;
    let count = args.with.len();
    let with: std::collections::BTreeMap<String, String> = args.with.into_iter().collect();
    if with.len() < count {
        return Err(CliError::invalid("a service is named twice").hint("give each service one --with"));
    }
    perform(ctx, Act::Assemble { system, environment: args.environment, like, with }, &args.act, Care::Ordinary)
        .map(drop)
}
