//! The plan of a build: a tree of steps with everything that is needed to run them, made once when the build
//! starts and stored with it.
//!
//! [`build_plan`] makes it from a job, its pipeline and the versions that were chosen; [`crate::run`] walks it.
//! What a job asks for before it can start (inputs, outputs, its lock) is read by [`job_inputs`], [`job_outputs`]
//! and [`lock_demand`].

mod build;
mod read;
mod release;

use serde::{Deserialize, Serialize};

use crate::pipeline::{Object, PutInputs, TaskStep};
use crate::time::Span;
use crate::version::Version;

pub use build::{MAX_JSON_DEPTH, MAX_PLAN_DEPTH, MAX_PLAN_NODES, PlanError, PlanInputs, build_plan};
pub use read::{LockDemand, LockMode, job_inputs, job_outputs, job_packs, lock_demand};
pub use release::{FilesPlan, LockAction, ReleaseAction, ReleaseStep, ReleaseType};

/// Where a node stands in its plan: `0` is the root, `2` its second child, `2.1` that one's first.
///
/// Unique in the plan, and the same whenever the same plan is built again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlanId(pub String);

impl PlanId {
    /// The root's.
    pub fn root() -> PlanId {
        PlanId("0".to_owned())
    }

    /// The `nth` child's, counted from 1.
    pub fn child(&self, nth: usize) -> PlanId {
        if self.0 == "0" { PlanId(nth.to_string()) } else { PlanId(format!("{}.{nth}", self.0)) }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for PlanId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A node of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Where it stands.
    pub id: PlanId,
    /// What it does.
    pub kind: PlanKind,
}

/// What a node does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanKind {
    /// Fetches a version.
    Get(GetPlan),
    /// Pushes a version.
    Put(PutPlan),
    /// Runs a process.
    Task(TaskPlan),
    /// Something that the server answers by itself.
    Release(ReleaseStep),
    /// Makes artifacts of text that the server has.
    Files(FilesPlan),
    /// One after the other, until one does not succeed.
    Do(Vec<Plan>),
    /// Side by side.
    InParallel {
        /// Started in this order.
        steps: Vec<Plan>,
        /// How many at a time; 0: all.
        limit: u32,
        /// The first that does not succeed stops the others.
        fail_fast: bool,
    },
    /// Succeeds whatever the step does, except that an abort stays one.
    Try(Box<Plan>),
    /// The same step again, each time with ids of its own, until one succeeds.
    Retry(Vec<Plan>),
    /// Stops the step when it takes longer.
    Timeout {
        /// What is limited.
        step: Box<Plan>,
        /// How long it may take.
        span: Span,
    },
    /// The step, then the hook if it succeeded.
    OnSuccess {
        /// The step.
        step: Box<Plan>,
        /// The hook.
        hook: Box<Plan>,
    },
    /// The step, then the hook if it failed.
    OnFailure {
        /// The step.
        step: Box<Plan>,
        /// The hook.
        hook: Box<Plan>,
    },
    /// The step, then the hook if it errored.
    OnError {
        /// The step.
        step: Box<Plan>,
        /// The hook.
        hook: Box<Plan>,
    },
    /// The step, then the hook if it was aborted.
    OnAbort {
        /// The step.
        step: Box<Plan>,
        /// The hook.
        hook: Box<Plan>,
    },
    /// The step, then the hook whatever happened.
    Ensure {
        /// The step.
        step: Box<Plan>,
        /// The hook.
        hook: Box<Plan>,
    },
}

/// A `get`, or the implicit get after a `put`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GetPlan {
    /// The step's name.
    pub name: String,
    /// The pipeline's resource.
    pub resource: String,
    /// Its type.
    pub resource_type: String,
    /// Its source as written: `((vars))` are resolved when the step starts.
    pub source: Object,
    /// For the type's `in`, as written.
    pub params: Object,
    /// What is fetched.
    pub version: VersionSource,
    /// The artifact that it becomes.
    pub artifact: String,
    /// Tags of the workers that may run it; the job's where the step has none.
    pub tags: Vec<String>,
    /// The limit of its process.
    pub timeout: Option<Span>,
}

/// Which version a [`GetPlan`] fetches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VersionSource {
    /// This one.
    Fixed(Version),
    /// The one that this put gives.
    From(PlanId),
}

/// A `put`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PutPlan {
    /// The step's name.
    pub name: String,
    /// The pipeline's resource.
    pub resource: String,
    /// Its type.
    pub resource_type: String,
    /// Its source as written.
    pub source: Object,
    /// For the type's `out`, as written.
    pub params: Object,
    /// Which artifacts it sees.
    pub inputs: PutInputs,
    /// Tags of the workers that may run it; the job's where the step has none.
    pub tags: Vec<String>,
    /// The limit of its process.
    pub timeout: Option<Span>,
}

/// A `task`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskPlan {
    /// The step as written, with the job's tags where it has none of its own.
    pub step: Box<TaskStep>,
}

impl Plan {
    /// The name of the step as it was written; nodes that only hold others together have none.
    pub fn name(&self) -> Option<&str> {
        match &self.kind {
            PlanKind::Get(get) => Some(&get.name),
            PlanKind::Put(put) => Some(&put.name),
            PlanKind::Task(task) => Some(&task.step.name),
            PlanKind::Release(step) => Some(&step.name),
            PlanKind::Files(files) => Some(&files.name),
            PlanKind::Do(_)
            | PlanKind::InParallel { .. }
            | PlanKind::Try(_)
            | PlanKind::Retry(_)
            | PlanKind::Timeout { .. }
            | PlanKind::OnSuccess { .. }
            | PlanKind::OnFailure { .. }
            | PlanKind::OnError { .. }
            | PlanKind::OnAbort { .. }
            | PlanKind::Ensure { .. } => None,
        }
    }

    /// Whether something is run for this node itself: it has no children.
    pub fn is_step(&self) -> bool {
        self.name().is_some()
    }

    /// The nodes below this one, in the order of their ids; a hook comes after its step.
    pub fn children(&self) -> Vec<&Plan> {
        match &self.kind {
            PlanKind::Get(_) | PlanKind::Put(_) | PlanKind::Task(_) | PlanKind::Release(_) | PlanKind::Files(_) => {
                Vec::new()
            }
            PlanKind::Do(steps) | PlanKind::Retry(steps) | PlanKind::InParallel { steps, .. } => steps.iter().collect(),
            PlanKind::Try(step) | PlanKind::Timeout { step, .. } => vec![step],
            PlanKind::OnSuccess { step, hook }
            | PlanKind::OnFailure { step, hook }
            | PlanKind::OnError { step, hook }
            | PlanKind::OnAbort { step, hook }
            | PlanKind::Ensure { step, hook } => vec![step, hook],
        }
    }

    /// Every node, parents before their children.
    pub fn nodes(&self) -> Vec<&Plan> {
        let mut found = Vec::new();
        let mut open = vec![self];
        while let Some(node) = open.pop() {
            found.push(node);
            open.extend(node.children().into_iter().rev());
        }
        found
    }

    /// The node with that id.
    pub fn find(&self, id: &PlanId) -> Option<&Plan> {
        self.nodes().into_iter().find(|node| node.id == *id)
    }
}

#[cfg(test)]
mod tests;
