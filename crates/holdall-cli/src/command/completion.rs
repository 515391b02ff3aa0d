//! `holdall completion`.

use std::io::Write;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::command::Cli;
use crate::context::Context;
use crate::error::CliError;

/// Prints a completion script for a shell
///
/// For example, for bash: `source <(holdall completion bash)`.
#[derive(Debug, Args)]
pub struct CompletionArgs {
    /// The shell
    shell: Shell,
}

/// Prints the script.
pub fn run(_ctx: &Context, args: CompletionArgs) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "holdall", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(())
}
