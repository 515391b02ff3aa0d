//! Systems.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{EnvironmentSummary, PinState, Time};

/// A system in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SystemSummary {
    /// Its name.
    pub system: String,
    /// Its services, as written.
    pub services: Vec<String>,
    /// Its environments, in chain order.
    pub environments: Vec<String>,
    /// The newest bag.
    pub newest_bag: Option<i64>,
    /// When it was last set.
    pub set_at: Time,
    /// By whom.
    pub set_by: String,
}

/// A system, whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SystemDetail {
    /// Its name.
    pub system: String,
    /// Its file, as it was set.
    pub text: String,
    /// The vars that it was set with.
    pub vars: BTreeMap<String, Value>,
    /// When it was last set.
    pub set_at: Time,
    /// By whom.
    pub set_by: String,
    /// Its services, as written.
    pub services: Vec<ServiceSummary>,
    /// Its environments, in chain order.
    pub environments: Vec<EnvironmentSummary>,
    /// Environments whose new pipeline waits for a deployment to end.
    pub pending: Vec<String>,
}

/// A service of a system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceSummary {
    /// Its name.
    pub service: String,
    /// Its resource type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where its source is.
    pub repository: Option<String>,
    /// Whether a new version packs a bag.
    pub trigger: bool,
    /// Its pins, by packing environment.
    pub pins: BTreeMap<String, PinState>,
}
