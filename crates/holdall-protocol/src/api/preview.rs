//! What an act would change, computed before it is done.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Hold, ServiceChange, Version};

/// What an act changes: the same decision that follows the act, made on the changed state.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Preview {
    /// Stands for what is shown here, see [`ActRequest::preview_token`](super::ActRequest::preview_token).
    pub token: String,
    /// What it comes to, for people, most important first.
    pub sentences: Vec<String>,
    /// The next bag that would be packed, where the act changes it.
    pub next_bag: Option<NextBag>,
    /// What would start by itself.
    pub starts: Vec<Start>,
    /// Bags that would not go where they would have gone.
    pub dropped: Vec<Dropped>,
    /// What each environment would gain or lose.
    pub changes: Vec<EnvironmentChange>,
    /// What would still hold things back, or refuses the act.
    pub held: Vec<Hold>,
    /// For `system_set` and `pipeline_set`: the differences, as a unified diff of the compiled pipelines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff: Option<String>,
}

/// A bag that is not packed yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NextBag {
    /// The system.
    pub system: String,
    /// Where it would be packed.
    pub environment: String,
    /// Its number, if it is packed next.
    pub bag: i64,
    /// The version of each service.
    pub services: BTreeMap<String, Version>,
}

/// Something that would start by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Start {
    /// The system, for a job of the release model.
    pub system: Option<String>,
    /// The environment, for a job of the release model.
    pub environment: Option<String>,
    /// The bag that it is about.
    pub bag: Option<i64>,
    /// The team.
    pub team: String,
    /// The pipeline.
    pub pipeline: String,
    /// The job.
    pub job: String,
}

/// A bag that would not go where it would have gone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Dropped {
    /// The environment.
    pub environment: String,
    /// The bag.
    pub bag: i64,
    /// Why.
    pub how: HowDropped,
    /// The bag that goes in its place.
    pub by: Option<i64>,
}

/// Why a bag is [`Dropped`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HowDropped {
    /// A newer one starts first.
    Superseded,
    /// It is unticked.
    Disabled,
    /// It holds a version that a roll back threw out.
    Suspect,
    /// It was thrown out of an environment before.
    Withdrawn,
    /// The environment is held at another bag.
    Frozen,
    /// A person must start it now.
    Held,
    /// It lacks a service that the environment's plan needs now.
    Incomplete,
    /// The environment comes after another one now, which it has not passed.
    NotPassed,
}

super::wire_names!(HowDropped {
    Superseded = "superseded",
    Disabled = "disabled",
    Suspect = "suspect",
    Withdrawn = "withdrawn",
    Frozen = "frozen",
    Held = "held",
    Incomplete = "incomplete",
    NotPassed = "not-passed",
});

/// What an environment would gain or lose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnvironmentChange {
    /// The system.
    pub system: String,
    /// The environment.
    pub environment: String,
    /// The bag that is current there.
    pub from: Option<i64>,
    /// The bag that would be; `None`: one that is not packed yet.
    pub to: Option<i64>,
    /// Services whose version changes.
    pub services: Vec<ServiceChange>,
}
