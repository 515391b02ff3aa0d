//! `holdall token`.

use clap::{Args, Subcommand};
use holdall_protocol::api::{Done, Token, TokenMade, TokenRequest};

use crate::act::ask;
use crate::client::escape;
use crate::context::Context;
use crate::error::{CliError, Kind};
use crate::output::{self, OutputArgs, Table, cell, cell_or_dash, plain};

/// Tokens: who may talk to the server
#[derive(Debug, Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    Create(CreateArgs),
    List(ListArgs),
    Revoke(RevokeArgs),
}

/// Makes a token and prints it, this once
#[derive(Debug, Args)]
struct CreateArgs {
    /// Who it is for: the name that the audit log shows
    name: String,
    #[command(flatten)]
    output: OutputArgs,
}

/// Lists the tokens, without their secrets
#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    output: OutputArgs,
}

/// Takes a token away
#[derive(Debug, Args)]
struct RevokeArgs {
    /// Whose
    name: String,
    /// Do not ask
    #[arg(long, short = 'y')]
    yes: bool,
}

/// Runs one of the commands.
pub fn run(ctx: &Context, args: TokenArgs) -> Result<(), CliError> {
    match args.command {
        TokenCommand::Create(args) => {
            let made: TokenMade = ctx.client()?.post("tokens", &TokenRequest { name: args.name })?;
            args.output.print(&made, |_| format!("{}\n", plain(&made.token)))
        }
        TokenCommand::List(args) => {
            let tokens: Vec<Token> = ctx.client()?.list("tokens", None)?;
            args.output.print(&tokens, |style| {
                let mut table = Table::new(&["NAME", "MADE", "BY", "USED"]);
                for token in &tokens {
                    table.row(vec![
                        cell(&token.name),
                        cell(style.age(token.created_at)),
                        cell_or_dash(token.created_by.as_ref()),
                        cell_or_dash(token.used_at.map(|at| style.age(at))),
                    ]);
                }
                table.render(style, "No tokens.")
            })
        }
        TokenCommand::Revoke(args) => {
            if !args.yes && output::is_interactive() && !ask(&format!("Take the token of {} away?", plain(&args.name)))?
            {
                return Err(CliError::new(Kind::Interrupted, "nothing was changed"));
            }
            let _: Done = ctx.client()?.delete(&format!("tokens/{}", escape(&args.name)))?;
            output::note("Done.");
            Ok(())
        }
    }
}
