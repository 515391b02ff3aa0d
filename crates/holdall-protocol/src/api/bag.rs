//! Bags: what is in them, where they are, what changed between two of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Hold, MetadataField, Time, Version};

/// A bag in a list. Scripts rely on the names and meanings of the first six fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BagSummary {
    /// Its number.
    pub bag: i64,
    /// Its system.
    pub system: String,
    /// When it was packed.
    pub packed_at: Time,
    /// The environment that packed it.
    pub packed_in: String,
    /// The newest passed tag of each environment that it passed.
    pub passed: BTreeMap<String, String>,
    /// Its state in each environment that it can go to.
    pub environments: BTreeMap<String, BagState>,
    /// The build or person that packed it.
    #[serde(default)]
    pub packed_by: Option<String>,
    /// Digest of its contents: equal for bags of the same versions.
    #[serde(default)]
    pub contents_digest: String,
}

/// A bag's state in an environment (release model, section 11); the first that applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BagState {
    /// It is live there.
    Current,
    /// Its deploy is under way.
    Deploying,
    /// It is being tested.
    Testing,
    /// Its deployment failed and holds the lock.
    Failed,
    /// It was live there.
    Previous,
    /// It is unticked there.
    Disabled,
    /// Something holds it back, see the report.
    Held,
    /// It is the next to start.
    Waiting,
    /// A newer one started first.
    Superseded,
    /// It has not passed what comes before.
    NotEligible,
}

super::wire_names!(BagState {
    Current = "current",
    Deploying = "deploying",
    Testing = "testing",
    Failed = "failed",
    Previous = "previous",
    Disabled = "disabled",
    Held = "held",
    Waiting = "waiting",
    Superseded = "superseded",
    NotEligible = "not-eligible",
});

/// A bag, whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BagDetail {
    /// As in a list.
    #[serde(flatten)]
    pub summary: BagSummary,
    /// Its services.
    pub services: BTreeMap<String, BagService>,
    /// The bag that the same environment packed before it.
    pub previous: Option<i64>,
    /// An earlier bag of the same contents.
    pub same_contents_as: Option<i64>,
    /// Pins that were in force when it was packed, sentences.
    pub pins: Vec<String>,
    /// Unticked versions that were passed over when it was packed, sentences.
    pub disabled: Vec<String>,
    /// Digest of its `bag.json`.
    pub digest: String,
    /// Every passed tag, newest first.
    pub tags: Vec<PassedTag>,
    /// What holds it back, by environment; environments without an entry are held by nothing.
    pub holds: BTreeMap<String, Vec<Hold>>,
}

/// What a bag says about one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BagService {
    /// The resource type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The version.
    pub version: Version,
    /// Identifies the bits: a commit, `repository@digest`.
    pub bits: String,
    /// Whether fetching it later is certain to give the same bits.
    pub exact: bool,
    /// Where its source is, for change lists.
    pub repository: Option<String>,
    /// For people.
    pub metadata: Vec<MetadataField>,
}

/// That a bag passed an environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PassedTag {
    /// `passed-ENVIRONMENT-TIMESTAMP`.
    pub tag: String,
    /// The environment.
    pub environment: String,
    /// When.
    pub at: Time,
    /// Who: the build.
    pub by: String,
    /// The deployment's number.
    pub deployment: i64,
}

/// What changed from one bag to another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BagDiff {
    /// The system.
    pub system: String,
    /// The older side; `None`: nothing.
    pub from: Option<i64>,
    /// The newer side.
    pub to: i64,
    /// Services that differ.
    pub services: Vec<ServiceChange>,
}

/// How one service changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceChange {
    /// The service.
    pub service: String,
    /// Whether the change brings something new or takes something away.
    pub direction: ChangeDirection,
    /// The version before; `None`: the service is new.
    pub from: Option<Version>,
    /// The version after; `None`: the service is removed.
    pub to: Option<Version>,
    /// What lies between, newest first, as far as it is known.
    pub commits: Vec<Commit>,
    /// Whether `commits` is all that lies between.
    pub complete: bool,
}

/// Which way a [`ServiceChange`] goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeDirection {
    /// To a newer version, or the service is new.
    Gains,
    /// To an older version, or the service is removed.
    Loses,
    /// The order of the two versions is not known.
    Unknown,
}

super::wire_names!(ChangeDirection { Gains = "gains", Loses = "loses", Unknown = "unknown" });

/// A change to a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// The commit's id, or what the version says in its place.
    pub id: String,
    /// Who wrote it.
    pub author: Option<String>,
    /// When.
    pub at: Option<Time>,
    /// The first line of its message.
    pub message: Option<String>,
    /// A page about it.
    pub url: Option<String>,
}

/// Where a commit is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Where {
    /// The system.
    pub system: String,
    /// What was asked for.
    pub commit: String,
    /// Versions that it fits; more than one when the beginning of a commit is ambiguous, or services share a repository.
    pub matches: Vec<WhereMatch>,
}

/// Where one version of a service is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WhereMatch {
    /// The service.
    pub service: String,
    /// The version.
    pub version: Version,
    /// What is known of the commit.
    pub commit: Commit,
    /// Bags that hold it, or something newer of the service, newest first; at most the newest 50.
    pub bags: Vec<i64>,
    /// The first bag that holds it, of the newest 1000 and those that are live; `None`: none of them does.
    pub first_bag: Option<i64>,
    /// Environments in chain order.
    pub environments: Vec<WhereEnvironment>,
    /// Why it is not packed, where it is not.
    pub not_packed: Vec<Hold>,
}

/// Whether a commit is in an environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WhereEnvironment {
    /// The environment.
    pub environment: String,
    /// Whether what is current there holds it.
    pub live: bool,
    /// The bag by which it is or will be there.
    pub bag: Option<i64>,
    /// Since when it is live.
    pub since: Option<Time>,
    /// What it waits for.
    pub holds: Vec<Hold>,
}
