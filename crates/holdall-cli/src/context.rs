//! What every command is given: the options that all of them have, and the server when it needs one.

use std::cell::OnceCell;

use clap::Args;
use holdall_protocol::api::{EnvironmentSummary, SystemSummary};

use crate::client::discover::{Told, discover};
use crate::client::{Client, escape};
use crate::error::CliError;

/// Options of every command.
#[derive(Debug, Clone, Default, Args)]
pub struct GlobalArgs {
    /// The server's address; without it the nearest `.holdall/client.json` upwards from here says it
    #[arg(
        long,
        global = true,
        env = "HOLDALL_SERVER",
        hide_env_values = true,
        value_name = "URL",
        help_heading = "Global options"
    )]
    pub server: Option<String>,
}

/// What a command is given besides its arguments.
#[derive(Debug)]
pub struct Context {
    pub global: GlobalArgs,
    client: OnceCell<Client>,
}

impl Context {
    /// A context for this process.
    pub fn new(global: GlobalArgs) -> Context {
        Context { global, client: OnceCell::new() }
    }

    /// The server's client; found when it is first wanted.
    pub fn client(&self) -> Result<&Client, CliError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let told = Told {
            server: self.global.server.clone().filter(|server| !server.is_empty()),
            token: std::env::var("HOLDALL_TOKEN").ok().filter(|token| !token.is_empty()),
            folder: std::env::current_dir()?,
        };
        let client = discover(&told)?;
        Ok(self.client.get_or_init(|| client))
    }

    /// The system that is meant: the one that was named, or the only one that there is.
    pub fn system(&self, named: &SystemArgs) -> Result<String, CliError> {
        self.system_among(named, |_| true)
    }

    /// The system that is meant, when an environment is known: the only one that has it.
    pub fn system_of(&self, named: &SystemArgs, environment: &str) -> Result<String, CliError> {
        self.system_among(named, |system| system.environments.iter().any(|name| name == environment))
    }

    fn system_among(&self, named: &SystemArgs, fits: impl Fn(&SystemSummary) -> bool) -> Result<String, CliError> {
        if let Some(system) = &named.system {
            return Ok(system.clone());
        }
        let systems: Vec<SystemSummary> = self.client()?.list("systems", None)?;
        let names = |systems: &mut dyn Iterator<Item = &SystemSummary>| {
            systems.map(|system| system.system.clone()).collect::<Vec<String>>().join(", ")
        };
        match &systems[..] {
            [] => Err(CliError::new(crate::error::Kind::NotFound, "the server has no system")
                .hint("make one: holdall system set FILE")),
            [only] => Ok(only.system.clone()),
            _ => {
                let mut fitting = systems.iter().filter(|system| fits(system));
                match (fitting.next(), fitting.next()) {
                    (Some(only), None) => Ok(only.system.clone()),
                    _ => Err(CliError::invalid("the server has several systems")
                        .hint(format!("say which: --system NAME, one of {}", names(&mut systems.iter())))),
                }
            }
        }
    }

    /// The environments of a system, in chain order.
    pub fn environments(&self, system: &str) -> Result<Vec<EnvironmentSummary>, CliError> {
        Ok(self.client()?.list(&format!("systems/{}/environments", escape(system)), None)?)
    }
}

/// Names a system.
#[derive(Debug, Clone, Default, Args)]
pub struct SystemArgs {
    /// The system; needed only where the server has several
    #[arg(long, value_name = "NAME")]
    pub system: Option<String>,
}
