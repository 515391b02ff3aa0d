//! The only binary: server, worker, demo and the client commands.

use clap::{Parser, Subcommand};

/// Packs the versions of all services of a system into one bag and deploys it, environment by environment.
#[derive(Parser)]
#[command(name = "holdall", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {}

fn main() {
    match Cli::parse().command {}
}
