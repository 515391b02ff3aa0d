//! `holdall where`.

use clap::Args;
use holdall_protocol::api::{Where, WhereMatch};

use crate::client::escape;
use crate::context::{Context, SystemArgs};
use crate::error::{CliError, Kind};
use crate::output::{OutputArgs, Style, Tone, commit_line, hold_lines, plain};

/// Says where a commit is: which bags hold it, where it is live, what it waits for
#[derive(Debug, Args)]
pub struct WhereArgs {
    /// The commit, or the beginning of it
    commit: String,
    #[command(flatten)]
    system: SystemArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Prints where it is.
pub fn run(ctx: &Context, args: WhereArgs) -> Result<(), CliError> {
    let system = ctx.system(&args.system)?;
    let path = format!("systems/{}/where?commit={}", escape(&system), escape(&args.commit));
    let found: Where = ctx.client()?.get(&path)?;
    if found.matches.is_empty() && !args.output.is_json() {
        return Err(CliError::new(Kind::NotFound, format!("{system} knows no version {}", plain(&args.commit))).hint(
            "is it pushed to the branch that the system follows? `holdall resource check SERVICE` looks at once",
        ));
    }
    args.output.print(&found, |style| found.matches.iter().map(|found| match_text(found, style)).collect())
}

fn match_text(found: &WhereMatch, style: &Style) -> String {
    let service = style.paint(Tone::Bold, &plain(&found.service));
    let mut out = format!("{service}  {}\n", commit_line(&found.commit, style));
    match (found.first_bag, &found.bags[..]) {
        (None, _) => {
            out.push_str("  not packed yet\n");
            out.push_str(&indented(&hold_lines(&found.not_packed, style)));
        }
        (Some(first), bags) => {
            let since = bags.iter().any(|bag| *bag != first);
            let and = if since { format!(" and the bags after it, up to {}", bags[0]) } else { String::new() };
            out.push_str(&format!("  in bag {first}{and}\n"));
        }
    }
    for place in &found.environments {
        let state = match (place.live, place.bag) {
            (true, Some(bag)) => style.paint(Tone::Good, &format!("live with bag {bag}")),
            (true, None) => style.paint(Tone::Good, "live"),
            (false, Some(bag)) => format!("not live; comes with bag {bag}"),
            (false, None) => "not live".to_owned(),
        };
        let since = place.since.map(|since| format!(" {}", style.since(since))).unwrap_or_default();
        out.push_str(&format!("  {}: {state}{since}\n", plain(&place.environment)));
        out.push_str(&indented(&hold_lines(&place.holds, style)));
    }
    out
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}
