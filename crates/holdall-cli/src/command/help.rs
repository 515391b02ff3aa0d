//! `holdall help`.

use std::io::Write;

use clap::{Args, CommandFactory, Parser};

use crate::command::Cli;
use crate::context::Context;
use crate::error::{CliError, EXIT_CODES};

/// Prints help for a command, or for a topic: exit-codes
#[derive(Debug, Args)]
pub struct HelpArgs {
    /// A command, or `exit-codes`
    #[arg(value_name = "COMMAND|TOPIC")]
    topic: Vec<String>,
}

/// Prints the help.
pub fn run(_ctx: &Context, args: HelpArgs) -> Result<(), CliError> {
    let mut out = std::io::stdout();
    if args.topic == ["exit-codes"] {
        out.write_all(EXIT_CODES.as_bytes())?;
        return Ok(());
    }
    let mut root = Cli::command();
    let mut command = &mut root;
    for word in &args.topic {
        command = command.find_subcommand_mut(word).ok_or_else(|| {
            CliError::invalid(format!("there is no command or topic '{}'", args.topic.join(" ")))
                .hint("`holdall help` lists the commands; the one topic is exit-codes")
        })?;
    }
    // Asked as `--help` is, so that both say the same.
    let words = ["holdall"].into_iter().chain(args.topic.iter().map(String::as_str)).chain(["--help"]);
    match Cli::try_parse_from(words) {
        Err(help) => Ok(help.print()?),
        Ok(_) => Err(CliError::failed("there is no help")),
    }
}
