//! The release model over the store: what an environment is, how its bags and its lock stand, and what its
//! builds do to them. Decisions are the engine's; this module reads what they need and writes what they say.

pub mod bags;
pub mod deployments;
pub mod ends;
pub mod locks;
pub mod steps;

use std::collections::BTreeMap;

use holdall_engine::release::bags::Superseding;
use holdall_store::environments::{self, EnvironmentRow};
use holdall_store::{StoreError, Tx};
use serde::{Deserialize, Serialize};

use crate::error::from_json;

/// What a system file says of an environment, but for its pipeline: kept with the environment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct EnvironmentSpec {
    /// Whether bags are packed here.
    pub packs: bool,
    /// The environments that must have passed a bag before it comes here.
    pub after: Vec<String>,
    /// Every bag in order, rather than the newest.
    pub queue: bool,
    /// Whether only a person starts bags here.
    pub manual_promotion: bool,
    /// How steps of the deploy jobs are stopped: signal, and grace in seconds.
    pub stop: Option<(String, f64)>,
    /// The deploy jobs, in order.
    pub deploy_jobs: Vec<String>,
    /// The services that the plans need by name.
    pub needs: Vec<String>,
    /// Where the services' code is.
    pub repositories: BTreeMap<String, String>,
    /// The services in the order of the file.
    pub services: Vec<String>,
    /// Pipelines (`team/pipeline`) that may take the lock.
    pub allow: Vec<String>,
}

impl EnvironmentSpec {
    /// Reads what is kept with an environment.
    pub fn of(environment: &EnvironmentRow) -> Result<EnvironmentSpec, StoreError> {
        from_json(&environment.spec)
    }

    /// How waiting bags give way.
    pub fn superseding(&self) -> Superseding {
        if self.queue { Superseding::Queue } else { Superseding::Latest }
    }
}

/// The environments of a system by name, with their specs.
pub fn environments_of(
    tx: &mut Tx<'_>,
    system: holdall_engine::ids::SystemId,
) -> Result<Vec<(EnvironmentRow, EnvironmentSpec)>, StoreError> {
    environments::environment_list(tx, system)?
        .into_iter()
        .map(|row| {
            let spec = EnvironmentSpec::of(&row)?;
            Ok((row, spec))
        })
        .collect()
}

/// All environments that come before one, nearest first, without repetition.
pub fn ancestors(chain: &[(EnvironmentRow, EnvironmentSpec)], name: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut open: Vec<String> =
        chain.iter().find(|(row, _)| row.name == name).map(|(_, spec)| spec.after.clone()).unwrap_or_default();
    while !open.is_empty() {
        let mut next = Vec::new();
        for name in open {
            if found.contains(&name) {
                continue;
            }
            if let Some((_, spec)) = chain.iter().find(|(row, _)| row.name == name) {
                next.extend(spec.after.iter().cloned());
            }
            found.push(name);
        }
        open = next;
    }
    found
}

/// All environments that come after one, in the order of the file.
pub fn descendants(chain: &[(EnvironmentRow, EnvironmentSpec)], name: &str) -> Vec<String> {
    chain
        .iter()
        .filter(|(row, _)| ancestors(chain, &row.name).iter().any(|ancestor| ancestor == name))
        .map(|(row, _)| row.name.clone())
        .collect()
}

/// The environment in which the bags of one are packed.
pub fn packed_in(chain: &[(EnvironmentRow, EnvironmentSpec)], name: &str) -> Option<String> {
    let own = chain.iter().find(|(row, _)| row.name == name)?;
    if own.1.packs {
        return Some(name.to_owned());
    }
    ancestors(chain, name)
        .into_iter()
        .find(|ancestor| chain.iter().any(|(row, spec)| row.name == *ancestor && spec.packs))
}
