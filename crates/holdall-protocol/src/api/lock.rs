//! Locks: who has an environment, who waits (release model, section 5).

use serde::{Deserialize, Serialize};

use super::{Preview, Time};

/// A lock as `env list` shows it. Scripts rely on these names and meanings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LockSummary {
    /// Who has it.
    pub holders: Vec<SummaryHolder>,
    /// Who waits, in order.
    pub queue: Vec<SummaryWaiter>,
}

/// A holder as `env list` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SummaryHolder {
    /// What it is.
    pub kind: HolderKind,
    /// A deployment's number, a person's name, a job as `TEAM/PIPELINE/JOB`.
    pub name: String,
    /// Why it has the lock.
    pub reason: Option<String>,
    /// Since when.
    pub since: Time,
}

/// A waiter as `env list` shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SummaryWaiter {
    /// What it is.
    pub kind: HolderKind,
    /// As with a holder; a deployment that waits is named `bag N`, because it has no number yet.
    pub name: String,
    /// Since when.
    pub since: Time,
    /// From 1.
    pub position: u32,
}

/// What holds a lock or waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HolderKind {
    /// A deployment.
    Deployment,
    /// A person.
    Person,
    /// A build of a pipeline of one's own.
    Pipeline,
}

super::wire_names!(HolderKind { Deployment = "deployment", Person = "person", Pipeline = "pipeline" });

/// Whether a lock is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum LockMode {
    /// Nobody else.
    #[default]
    Exclusive,
    /// Beside others that share.
    Shared,
}

super::wire_names!(LockMode { Exclusive = "exclusive", Shared = "shared" });

/// A lock, whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LockDetail {
    /// Its environment.
    pub environment: String,
    /// The systems that share it.
    pub systems: Vec<String>,
    /// Who has it.
    pub holders: Vec<LockHolder>,
    /// Who waits, in order.
    pub queue: Vec<LockWaiter>,
    /// Nothing starts by itself after a force-unlock until a person starts it: since when.
    pub held_after_unlock: Option<Time>,
}

impl LockDetail {
    /// What `env list` shows; `None` when nobody has it and nobody waits.
    pub fn summary(&self) -> Option<LockSummary> {
        if self.holders.is_empty() && self.queue.is_empty() {
            return None;
        }
        let holders = self.holders.iter().map(|holder| SummaryHolder {
            kind: holder.kind,
            name: holder.name.clone(),
            reason: holder.reason.clone(),
            since: holder.since,
        });
        let queue = self.queue.iter().map(|waiter| SummaryWaiter {
            kind: waiter.kind,
            name: waiter.name.clone(),
            since: waiter.since,
            position: waiter.position,
        });
        Some(LockSummary { holders: holders.collect(), queue: queue.collect() })
    }
}

/// Who has a lock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LockHolder {
    /// What it is.
    pub kind: HolderKind,
    /// As in [`SummaryHolder::name`].
    pub name: String,
    /// Whether others may have it too.
    pub mode: LockMode,
    /// Why.
    pub reason: Option<String>,
    /// A ticket elsewhere.
    pub ticket: Option<String>,
    /// Since when.
    pub since: Time,
    /// When the holding ends by itself.
    pub until: Option<Time>,
    /// When it is likely to end: the median of past deployments.
    pub expected_end: Option<Time>,
    /// The holding's fencing token: grows with each holding of the lock.
    pub fence: i64,
    /// The system and bag of a deployment.
    pub system: Option<String>,
    /// The bag of a deployment.
    pub bag: Option<i64>,
}

/// Who waits for a lock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LockWaiter {
    /// What it is.
    pub kind: HolderKind,
    /// As in [`SummaryWaiter::name`].
    pub name: String,
    /// Whether it wants it alone.
    pub mode: LockMode,
    /// Why.
    pub reason: Option<String>,
    /// Since when.
    pub since: Time,
    /// From 1.
    pub position: u32,
}

/// Takes a lock for a person.
///
/// A lock that is taken is answered with 423 (`locked`) at once; with `wait`, with [`AcquireAnswer::Queued`], which the
/// server may hold back for a while: then the client asks again with the place that it got, and loses it when it does not for
/// [`AcquireAnswer::Queued::lapses_seconds`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AcquireRequest {
    /// Why; needed.
    pub reason: String,
    /// A ticket elsewhere.
    #[serde(default)]
    pub ticket: Option<String>,
    /// How long it is held at most, unless it is renewed; `None`: until it is released.
    #[serde(default)]
    pub for_seconds: Option<u64>,
    /// Exclusive or shared.
    #[serde(default)]
    pub mode: LockMode,
    /// Whether to queue.
    #[serde(default)]
    pub wait: bool,
    /// The place in the queue from an earlier answer.
    #[serde(default)]
    pub place: Option<String>,
    /// Only say what it would do.
    #[serde(default)]
    pub dry_run: bool,
}

/// What became of an [`AcquireRequest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum AcquireAnswer {
    /// The lock is had.
    Granted(Granted),
    /// It is taken; the client has a place in the queue.
    Queued {
        /// Given back when asking again.
        place: String,
        /// From 1.
        position: u32,
        /// Who has it, and who else waits.
        lock: Box<LockDetail>,
        /// The place is lost when the client does not ask again for this long.
        lapses_seconds: u64,
    },
    /// With `dry_run`.
    Preview {
        /// What it would do.
        preview: Box<Preview>,
    },
}

/// A lock that is had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// Stands for the holding: needed to renew and to release it. A secret.
    pub token: String,
    /// The holding's fencing token.
    pub fence: i64,
    /// When it ends by itself.
    pub until: Option<Time>,
}

/// Holds a lock longer. Refused with 409 (`lock_lost`) when the holding has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RenewRequest {
    /// From [`Granted`].
    pub token: String,
    /// From now.
    pub for_seconds: u64,
}

/// Gives a lock back, or leaves its queue. Doing it twice is the same as once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleaseRequest {
    /// From [`Granted`], or the place from [`AcquireAnswer::Queued`].
    pub token: String,
    /// Why, for the audit log.
    #[serde(default)]
    pub reason: Option<String>,
}
