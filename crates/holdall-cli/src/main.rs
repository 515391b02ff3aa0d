//! The only binary: server, worker, demo and the client commands.
//!
//! Data goes to standard output, everything else to standard error. The exit code says how it ended; the codes
//! are listed in [`error`] and by `holdall help exit-codes`.

mod act;
mod client;
mod command;
mod context;
mod demo;
mod error;
mod names;
mod output;
mod signals;
mod vars;

use std::process::ExitCode;

use clap::Parser;

use crate::command::Cli;
use crate::context::Context;

fn main() -> ExitCode {
    if let Some(code) = command::internal::run(std::env::args_os()) {
        return code;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(message) => return command::print_parse_error(&message),
    };
    let ctx = Context::new(cli.global);
    match command::run(&ctx, cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(text) = error.render() {
                // Nobody is left to tell when standard error is closed.
                let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
            }
            ExitCode::from(error.exit_code())
        }
    }
}
