//! Resources and their versions.

use serde::{Deserialize, Serialize};

use super::{Time, Version};

/// A resource in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResourceSummary {
    /// Its team.
    pub team: String,
    /// Its pipeline.
    pub pipeline: String,
    /// Its name.
    pub resource: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its newest version.
    pub latest: Option<Version>,
    /// Its pin.
    pub pin: Option<PinState>,
    /// When it was last checked.
    pub checked_at: Option<Time>,
    /// Why the last check failed.
    pub check_error: Option<String>,
    /// How often it is checked, as written; `never` where only webhooks do.
    pub check_every: String,
}

/// A pin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PinState {
    /// The version, or some of its keys.
    pub version: Version,
    /// Who pinned it; `None`: the pipeline does.
    pub by: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// A ticket elsewhere.
    pub ticket: Option<String>,
    /// When.
    pub since: Option<Time>,
    /// When it ends by itself.
    pub until: Option<Time>,
}

/// A version of a resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResourceVersion {
    /// The version.
    pub version: Version,
    /// For people.
    pub metadata: Vec<MetadataField>,
    /// When it was first seen.
    pub first_seen: Time,
    /// Whether it is ticked.
    pub enabled: bool,
    /// Who unticked it, when it is not.
    pub tick: Option<TickState>,
    /// Whether it is the pinned one.
    pub pinned: bool,
}

/// That a version was unticked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TickState {
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// A ticket elsewhere.
    pub ticket: Option<String>,
    /// When.
    pub since: Time,
    /// When it is ticked again by itself.
    pub until: Option<Time>,
}

/// One line of a version's metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataField {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// Asks for a check of a resource at once.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CheckRequest {
    /// How long the answer may wait for the check to end; the server may wait less.
    #[serde(default)]
    pub wait_seconds: u64,
}

/// What became of a [`CheckRequest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckAnswer {
    /// Whether it ended while the answer waited.
    pub done: bool,
    /// Why it failed.
    pub error: Option<String>,
    /// The newest version.
    pub latest: Option<Version>,
}
