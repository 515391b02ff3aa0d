//! Environments and their deployments.

use serde::{Deserialize, Serialize};

use super::{BuildRef, Hold, JobSummary, LockDetail, LockSummary, Time, Version};

/// An environment in a list. Scripts rely on the names and meanings of the first seven fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnvironmentSummary {
    /// Its name.
    pub environment: String,
    /// Its system.
    pub system: String,
    /// The bag whose deploy last succeeded there.
    pub current: Option<i64>,
    /// The bag whose later deploy began and did not succeed.
    pub mixed_with: Option<i64>,
    /// What is going on.
    pub state: EnvironmentState,
    /// The bag that it is frozen at.
    pub frozen_at: Option<i64>,
    /// Who has its lock and who waits; `None`: nobody.
    pub lock: Option<LockSummary>,
    /// The bag that is being deployed or tested, or whose deployment failed.
    #[serde(default)]
    pub under_way: Option<i64>,
    /// Since when it is in this state.
    #[serde(default)]
    pub since: Option<Time>,
    /// What it comes after; empty: it packs for itself.
    #[serde(default)]
    pub after: Vec<String>,
}

/// An environment's state (release model, section 11); the first that applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EnvironmentState {
    /// Nobody knows how its deployment ended.
    InDoubt,
    /// A deploy is under way.
    Deploying,
    /// A deployment is being tested.
    Testing,
    /// A deploy began and did not succeed.
    Mixed,
    /// A deployment failed and holds the lock.
    Failed,
    /// A bag is eligible and does not start.
    Waiting,
    /// It is held at a bag.
    Frozen,
    /// There is nothing to do.
    Idle,
}

super::wire_names!(EnvironmentState {
    InDoubt = "in-doubt",
    Deploying = "deploying",
    Testing = "testing",
    Mixed = "mixed",
    Failed = "failed",
    Waiting = "waiting",
    Frozen = "frozen",
    Idle = "idle",
});

/// An environment, whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnvironmentDetail {
    /// As in a list.
    #[serde(flatten)]
    pub summary: EnvironmentSummary,
    /// The team that owns its pipeline.
    pub team: String,
    /// Its pipeline.
    pub pipeline: String,
    /// Whether it packs bags.
    pub packs: bool,
    /// `latest` or `queue`.
    pub superseding: String,
    /// `automatic` or `manual`.
    pub promotion: String,
    /// The bag that was current before.
    pub previous: Option<i64>,
    /// The deployment under way, or the one that failed and holds the lock.
    pub deployment: Option<Deployment>,
    /// Its lock with everything that is known.
    pub lock_detail: LockDetail,
    /// Its freeze.
    pub freeze: Option<Freeze>,
    /// Versions that a roll back threw out.
    pub suspects: Vec<Suspect>,
    /// The newest deployments, newest first.
    pub deployments: Vec<Deployment>,
    /// The jobs of its pipeline, in order.
    pub jobs: Vec<JobSummary>,
    /// What holds the next bag back.
    pub holds: Vec<Hold>,
}

/// One attempt to put one bag into one environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    /// Its number in the environment.
    pub deployment: i64,
    /// The environment.
    pub environment: String,
    /// The bag.
    pub bag: i64,
    /// The bag that was current when it began.
    pub previous_bag: Option<i64>,
    /// Which way it goes.
    pub direction: Direction,
    /// How it stands.
    pub state: DeploymentState,
    /// A sentence where the state needs one: why it ended.
    pub note: Option<String>,
    /// Who started it: a person, or `automatic`.
    pub started_by: String,
    /// Why, where a person did.
    pub reason: Option<String>,
    /// When it began.
    pub started_at: Time,
    /// When it ended.
    pub ended_at: Option<Time>,
    /// The tag that it gave.
    pub tag: Option<String>,
    /// Its builds, oldest first.
    pub builds: Vec<BuildRef>,
    /// Bags that were passed over for it.
    pub superseded: Vec<i64>,
}

/// Which way a deployment goes: `HOLDALL_DIRECTION`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// To a newer bag.
    Forward,
    /// To an older bag.
    Rollback,
    /// The bag that is there.
    Same,
}

super::wire_names!(Direction { Forward = "forward", Rollback = "rollback", Same = "same" });

/// How a deployment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeploymentState {
    /// It has the lock; its deploy has not started.
    Starting,
    /// Its deploy runs.
    Deploying,
    /// Its deploy succeeded; its tests run, or are to.
    Testing,
    /// A job of it failed; it keeps the lock.
    Failed,
    /// Nobody knows how a step of it ended.
    InDoubt,
    /// It passed: the bag is tagged.
    Passed,
    /// It was ended: force-unlocked, taken over, or its environment was removed.
    Ended,
}

super::wire_names!(DeploymentState {
    Starting = "starting",
    Deploying = "deploying",
    Testing = "testing",
    Failed = "failed",
    InDoubt = "in-doubt",
    Passed = "passed",
    Ended = "ended",
});

/// That an environment is held at a bag.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Freeze {
    /// The bag.
    pub bag: i64,
    /// Who did it.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// A ticket elsewhere.
    pub ticket: Option<String>,
    /// When.
    pub since: Time,
    /// When it ends by itself.
    pub until: Option<Time>,
}

/// A service's version that a roll back threw out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Suspect {
    /// The service.
    pub service: String,
    /// The version.
    pub version: Version,
    /// The bag that brought it.
    pub bag: i64,
    /// Who rolled back.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// When.
    pub since: Time,
    /// The environment where the roll back was, when this one comes after it.
    pub inherited_from: Option<String>,
}
