//! Follows the first bag of the demo on its way, through the same API that everyone uses.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use holdall_protocol::api::{BagSummary, EnvironmentState, EnvironmentSummary, Hold};

use super::interrupt::Interrupt;
use super::progress::Progress;
use super::{LAST, SYSTEM};
use crate::client::Client;
use crate::error::CliError;
use crate::output::plain;

/// How often it is looked at.
const INTERVAL: Duration = Duration::from_millis(200);

/// How following ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Followed {
    /// The first bag has passed the last environment.
    Arrived {
        /// Its number.
        bag: i64,
    },
    /// It will not get there by itself.
    Stuck {
        /// Where, why, and what to do: a line each.
        reasons: Vec<String>,
    },
    /// A signal came.
    Interrupted,
}

/// Shows how the first bag gets on until it has arrived, cannot, or `limit` is over.
pub fn follow(client: &Client, interrupt: &Interrupt, limit: Duration) -> Result<Followed, CliError> {
    let begun = Instant::now();
    let mut progress = Progress::new(io::stdout(), io::stdout().is_terminal());
    loop {
        let environments: Vec<EnvironmentSummary> = client.list(&format!("systems/{SYSTEM}/environments"), None)?;
        progress.update(&environments, begun.elapsed())?;
        if let Some(bag) = arrived(client)? {
            return Ok(Followed::Arrived { bag });
        }
        if let Some(environment) = environments.iter().find(|environment| has_failed(environment)) {
            return Ok(Followed::Stuck { reasons: reasons(client, &environment.environment)? });
        }
        if begun.elapsed() > limit {
            // The first on the way that it has not passed holds it up.
            let next = environments.iter().find(|environment| environment.current.is_none());
            let next = next.map_or(LAST, |environment| &environment.environment);
            let mut reasons = reasons(client, next)?;
            reasons.insert(0, format!("it has not arrived after {} seconds", limit.as_secs()));
            return Ok(Followed::Stuck { reasons });
        }
        if interrupt.came_within(INTERVAL) {
            return Ok(Followed::Interrupted);
        }
    }
}

/// The oldest bag that has passed the last environment.
pub fn arrived(client: &Client) -> Result<Option<i64>, CliError> {
    let bags: Vec<BagSummary> = client.list(&format!("systems/{SYSTEM}/bags"), None)?;
    Ok(bags.iter().rev().find(|bag| bag.passed.contains_key(LAST)).map(|bag| bag.bag))
}

/// Whether a person has to do something there.
fn has_failed(environment: &EnvironmentSummary) -> bool {
    match environment.state {
        EnvironmentState::InDoubt | EnvironmentState::Mixed | EnvironmentState::Failed => true,
        EnvironmentState::Deploying
        | EnvironmentState::Testing
        | EnvironmentState::Waiting
        | EnvironmentState::Frozen
        | EnvironmentState::Idle => false,
    }
}

/// Why nothing moves in an environment, and what lifts it.
fn reasons(client: &Client, environment: &str) -> Result<Vec<String>, CliError> {
    let holds: Vec<Hold> = client.list(&format!("systems/{SYSTEM}/environments/{environment}/why"), None)?;
    if holds.is_empty() {
        return Ok(vec![format!("nothing holds {environment} back; look at it with: holdall env show {environment}")]);
    }
    let line = |hold: &Hold| {
        let command = hold.command.iter().map(|command| format!(" ({})", plain(command))).collect::<String>();
        format!("{environment}: {}{command}", plain(&hold.sentence))
    };
    Ok(holds.iter().map(line).collect())
}
