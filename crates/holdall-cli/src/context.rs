//! What every command is given: the options that all of them have.

use clap::Args;

/// Options of every command.
#[derive(Debug, Clone, Default, Args)]
pub struct GlobalArgs {
    /// The server's address; without it the nearest `.holdall/client.json` upwards from here says it
    #[arg(long, global = true, env = "HOLDALL_SERVER", value_name = "URL", help_heading = "Global options")]
    pub server: Option<String>,
}

/// What a command is given besides its arguments.
#[derive(Debug)]
pub struct Context {
    /// Options of every command.
    pub global: GlobalArgs,
}

impl Context {
    /// A context for this process.
    pub fn new(global: GlobalArgs) -> Context {
        Context { global }
    }
}
