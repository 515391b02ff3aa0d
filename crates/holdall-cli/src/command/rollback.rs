//! `holdall rollback`.

use std::collections::BTreeSet;

use clap::Args;
use holdall_protocol::api::{Act, BagDiff, EnvironmentDetail, Suspects};

use crate::act::{ActArgs, Care, ask_line, perform};
use crate::client::escape;
use crate::context::{Context, SystemArgs};
use crate::error::{CliError, Kind};
use crate::output::{self, Style, change_lines};

/// Goes back to an older bag, and stays there
///
/// The bags after it are unticked in the environment, and in those after it unless `--here-only`. The versions that
/// are suspect do not start there again, in whatever bag, until they are replaced or cleared.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// Where
    environment: String,
    /// The bag to go back to [default: the one that was current before]
    #[arg(long, value_name = "N")]
    to: Option<i64>,
    /// Services whose versions are to blame: names, `all`, or `none`; on a terminal you are asked
    #[arg(long, value_name = "SERVICE,...|all|none")]
    suspect: Option<String>,
    /// Untick the suspects where bags are packed, too, so that the other services go on
    #[arg(long)]
    and_untick: bool,
    /// Leave the environments after this one alone
    #[arg(long)]
    here_only: bool,
    #[command(flatten)]
    system: SystemArgs,
    #[command(flatten)]
    act: ActArgs,
}

/// Rolls back.
pub fn run(ctx: &Context, args: RollbackArgs) -> Result<(), CliError> {
    let system = ctx.system_of(&args.system, &args.environment)?;
    let suspects = match &args.suspect {
        Some(text) => read_suspects(text)?,
        None if output::is_interactive() && !args.act.dry_run => ask_suspects(ctx, &system, &args)?,
        None => {
            return Err(CliError::invalid("which services are to blame?")
                .hint("say it with --suspect: services separated by commas, all, or none"));
        }
    };
    let act = Act::RollBack {
        system,
        environment: args.environment,
        to: args.to,
        suspects,
        and_untick: args.and_untick,
        here_only: args.here_only,
    };
    perform(ctx, act, &args.act, Care::Destructive).map(drop)
}

fn read_suspects(text: &str) -> Result<Suspects, CliError> {
    match text {
        "all" => Ok(Suspects::All),
        "none" => Ok(Suspects::None),
        _ => {
            let services: BTreeSet<String> =
                text.split([',', ' ']).filter(|name| !name.is_empty()).map(str::to_owned).collect();
            match services.is_empty() || services.contains("all") || services.contains("none") {
                true => Err(CliError::invalid(format!("'{text}' does not say which services are to blame"))
                    .hint("services separated by commas, or `all` alone, or `none` alone")),
                false => Ok(Suspects::Services(services.into_iter().collect())),
            }
        }
    }
}

/// Shows what would be taken back and asks what of it is to blame.
fn ask_suspects(ctx: &Context, system: &str, args: &RollbackArgs) -> Result<Suspects, CliError> {
    let client = ctx.client()?;
    let path = format!("systems/{}/environments/{}", escape(system), escape(&args.environment));
    let detail: EnvironmentDetail = client.get(&path)?;
    let from = detail.summary.mixed_with.or(detail.summary.current);
    let to = args.to.or(match detail.summary.mixed_with {
        Some(_) => detail.summary.current,
        None => detail.previous,
    });
    let (Some(from), Some(to)) = (from, to) else {
        return Err(CliError::new(Kind::Held, format!("no bag was current in {} before", args.environment))
            .hint("name the bag to go back to: --to N"));
    };
    let diff: BagDiff = client.get(&format!("systems/{}/bags/{from}/diff?with={to}", escape(system)))?;
    output::note(&format!("From bag {to} to bag {from}, which this takes back:"));
    output::note(change_lines(&diff.services, &Style::stdout()).trim_end());
    let answer = ask_line("Which services are to blame (names, all, none)? ")?;
    read_suspects(&answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspects_are_names_or_one_word_alone() {
        assert_eq!(read_suspects("all").unwrap(), Suspects::All);
        assert_eq!(read_suspects("none").unwrap(), Suspects::None);
        assert_eq!(read_suspects("b, a,b").unwrap(), Suspects::Services(vec!["a".into(), "b".into()]));
        for text in ["", " ,", "api,all", "none,api"] {
            assert_eq!(read_suspects(text).unwrap_err().exit_code(), 2, "{text}");
        }
    }
}
