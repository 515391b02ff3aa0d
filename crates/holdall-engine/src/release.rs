//! The release model's own decisions: which bag may start, who gets a lock, and what state things are in.

pub mod bags;
pub mod lock;
pub mod state;

use serde::{Deserialize, Serialize};

/// What a job of an environment's pipeline is for (release model, section 4). Read from its plan, kept with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Packs bags.
    Pack,
    /// Takes the lock and makes the deployment.
    StartDeploy,
    /// One of the deploy jobs; `last`: the one after which the bag is current.
    Deploy {
        /// Whether no deploy job comes after it.
        last: bool,
    },
    /// Runs suites.
    Test,
    /// Tags the bag and gives the lock back.
    Signal,
    /// The operator's.
    ForceUnlock,
    /// Runs on a clock.
    Periodic,
}
