//! What happens with a job next, and what holds it back (reference, part 4; release model, sections 5 and 6).
//!
//! [`schedule`] looks at one job and gives the actions that are due now, together with the report on everything
//! that is not. Whoever applies the actions looks again, until none is left: `schedule` over what its own actions
//! made decides nothing more.

use serde::{Deserialize, Serialize};

use crate::ids::{BuildId, ScopeId};
use crate::plan::{LockDemand, LockMode};
use crate::release::Role;
use crate::release::lock::{Asker, LockView, is_shared, obstacles, required};
use crate::report::{Code, Hold};
use crate::time::Timestamp;

/// What is kept of a job's configuration for the scheduler.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobSpec {
    /// What the job is for in an environment's pipeline.
    #[serde(default)]
    pub role: Option<Role>,
    /// The lock that it needs.
    #[serde(default)]
    pub demand: Option<LockDemand>,
    /// Whether triggering by hand is refused.
    #[serde(default)]
    pub disable_manual_trigger: bool,
    /// Whether reruns are refused.
    #[serde(default)]
    pub disable_reruns: bool,
}

/// A job as the decision sees it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct JobView {
    /// `team/pipeline/job`, for sentences and commands.
    pub name: String,
    /// The pipeline's `team/pipeline`.
    pub pipeline: String,
    /// Who paused the job.
    pub paused: Option<Pause>,
    /// Who paused the pipeline.
    pub pipeline_paused: Option<Pause>,
    /// The lock that the job needs, and how it stands.
    pub lock: Option<(LockMode, LockView)>,
    /// The newest inputs that fit together.
    pub inputs: InputsView,
    /// The plain inputs, for which a check may be needed first.
    pub checks: Vec<CheckView>,
    /// How many builds at once, if that is limited.
    pub limit: Option<LimitView>,
    /// The builds that wait, in the order in which they start.
    pub pending: Vec<PendingView>,
    /// Why builds do not start by themselves here although their inputs fit: a held environment.
    pub automatic_holds: Vec<Hold>,
    /// What holds nothing back now but may leave people waiting in vain: a resource that cannot be checked.
    pub notes: Vec<Hold>,
}

/// Who paused something.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pause {
    /// Who.
    pub by: Option<String>,
    /// Since when.
    pub at: Option<Timestamp>,
    /// Why.
    pub reason: Option<String>,
}

/// What input resolution gave for a job.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct InputsView {
    /// Why they do not resolve; empty: they do.
    pub holds: Vec<Hold>,
    /// Whether a build that waits for them waits in vain: a `start-deploy` for which no bag is left. A bag that comes
    /// later gets a build of its own (release model, section 5, rule 2).
    pub in_vain: bool,
    /// Whether a version that the job never had, of an input with `trigger`, is among them.
    pub triggers: bool,
    /// The deployment that they name.
    pub deployment: Option<DeploymentView>,
}

/// A deployment that a build works for.
#[derive(Debug, Clone, PartialEq)]
pub struct DeploymentView {
    /// Its id.
    pub id: crate::ids::DeploymentId,
    /// Its number in the environment.
    pub number: i64,
    /// How it ended, if it has, in words: `ann unlocked production by force`.
    pub ended: Option<String>,
}

/// An input without `passed` and without a pin.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckView {
    /// The input.
    pub input: String,
    /// The resource, for commands: `team/pipeline/resource`.
    pub resource: String,
    /// What is checked.
    pub scope: ScopeId,
    /// Whether a new version starts a build.
    pub trigger: bool,
    /// When the last check ended.
    pub checked_at: Option<Timestamp>,
    /// Whether a check is due that has not ended: it was never checked, or a check is wanted or runs.
    pub overdue: bool,
    /// Whether one is wanted or runs already.
    pub wanted: bool,
}

/// A limit on builds at once.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitView {
    /// How many.
    pub max: usize,
    /// Whether it is a serial group that other jobs share.
    pub shared: bool,
    /// What runs: job and build.
    pub running: Vec<(String, String)>,
    /// The build of another job that goes first: its id and job.
    pub before: Option<(BuildId, String)>,
}

/// A build that waits.
#[derive(Debug, Clone, PartialEq)]
pub struct PendingView {
    /// Its id.
    pub id: BuildId,
    /// Its name.
    pub name: String,
    /// Whether a person triggered it.
    pub manual: bool,
    /// Whether it repeats another build with its inputs.
    pub rerun: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Why it is to be aborted.
    pub abort: Option<String>,
    /// Why it goes before all others that wait for the lock.
    pub first_in_line: bool,
    /// Whether it stands in the lock's queue.
    pub queued: bool,
    /// What it will start with, where that is not the newest inputs: a rerun's copies, a deployment's one bag.
    pub fixed: Option<FixedView>,
}

/// Inputs that a build has from the start.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FixedView {
    /// Why they cannot be had.
    pub holds: Vec<Hold>,
    /// Whether that can never change: then the build is aborted, saying why.
    pub impossible: bool,
    /// The deployment that they name.
    pub deployment: Option<DeploymentView>,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make a pending build for new inputs.
    CreatePending,
    /// End a waiting build as aborted, saying why.
    Abort {
        /// Which.
        build: BuildId,
        /// Why.
        reason: String,
    },
    /// Check these before a build starts.
    WantChecks(Vec<ScopeId>),
    /// Put a build into the lock's queue.
    Queue(BuildId),
    /// Take a build out of the lock's queue: something else holds it back now.
    Unqueue(BuildId),
    /// Start a build with its inputs, and grant it the lock where it takes one.
    Start(BuildId),
}

/// What to do, and what holds the rest back.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decision {
    /// What to do now; then look again.
    pub actions: Vec<Action>,
    /// What holds the first waiting build back, or the job where none waits.
    pub holds: Vec<Hold>,
}

/// Decides what happens with a job.
pub fn schedule(job: &JobView) -> Decision {
    let mut decision = decide(job);
    if decision.actions.is_empty() {
        decision.holds.extend(job.notes.iter().cloned());
    }
    decision
}

fn decide(job: &JobView) -> Decision {
    let mut decision = Decision::default();
    for build in &job.pending {
        if let Some(reason) = &build.abort {
            decision.actions.push(Action::Abort { build: build.id, reason: reason.clone() });
        } else if let Some(reason) = ended(job, build) {
            decision.actions.push(Action::Abort { build: build.id, reason });
        }
    }
    if !decision.actions.is_empty() {
        return decision;
    }
    let pauses = pauses(job);
    if !pauses.is_empty() {
        decision.holds = pauses;
        decision.holds.extend(job.inputs.holds.iter().cloned());
        unqueue(job, &mut decision);
        return decision;
    }
    if job.pending.is_empty() {
        let ended = job.inputs.deployment.as_ref().is_some_and(|deployment| deployment.ended.is_some());
        if job.inputs.holds.is_empty() && job.inputs.triggers && !ended && job.automatic_holds.is_empty() {
            decision.actions.push(Action::CreatePending);
        } else {
            decision.holds.extend(job.inputs.holds.iter().cloned());
            if job.inputs.triggers {
                decision.holds.extend(job.automatic_holds.iter().cloned());
            }
        }
        return decision;
    }
    pending(job, &mut decision);
    decision
}

/// Why a waiting build can never start: what it was to start with cannot be had any more, or its deployment has ended
/// (release model, section 5, rules 2 and 5).
fn ended(job: &JobView, build: &PendingView) -> Option<String> {
    let lost = match &build.fixed {
        Some(fixed) => fixed.impossible.then_some(&fixed.holds),
        None => job.inputs.in_vain.then_some(&job.inputs.holds),
    };
    if let Some(holds) = lost {
        let why: Vec<&str> = holds.iter().map(|hold| hold.sentence.as_str()).collect();
        return Some(why.join("; "));
    }
    let requires = matches!(job.lock, Some((LockMode::Require, _)));
    let deployment = match &build.fixed {
        Some(fixed) => fixed.deployment.as_ref(),
        None => job.inputs.deployment.as_ref(),
    };
    let ended = deployment.filter(|_| requires)?.ended.as_ref()?;
    Some(format!("deployment {} has ended: {ended}", deployment?.number))
}

fn pauses(job: &JobView) -> Vec<Hold> {
    let because = |pause: &Pause| pause.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let mut holds = Vec::new();
    if let Some(pause) = &job.pipeline_paused {
        holds.push(
            Hold::new(Code::PipelinePaused, format!("the pipeline {} is paused{}", job.pipeline, because(pause)))
                .since(pause.at)
                .by(pause.by.clone())
                .command(format!("holdall pipeline unpause {}", job.pipeline)),
        );
    }
    if let Some(pause) = &job.paused {
        holds.push(
            Hold::new(Code::JobPaused, format!("the job {} is paused{}", job.name, because(pause)))
                .since(pause.at)
                .by(pause.by.clone())
                .command(format!("holdall job unpause {}", job.name)),
        );
    }
    holds
}

/// Takes builds out of the queue that something else holds back: they must not stand before others.
fn unqueue(job: &JobView, decision: &mut Decision) {
    for build in job.pending.iter().filter(|build| build.queued) {
        decision.actions.push(Action::Unqueue(build.id));
    }
}

/// Looks at the waiting builds in their order; the first that cannot start holds the others back.
fn pending(job: &JobView, decision: &mut Decision) {
    let mut passed_over = Vec::new();
    for build in &job.pending {
        let holds = before_lock(job, build, decision);
        if !holds.is_empty() {
            if build.queued {
                decision.actions.push(Action::Unqueue(build.id));
            }
            if build.rerun && !is_full(job) && decision.actions.is_empty() {
                // A rerun that cannot have its inputs does not hold up what comes after it.
                passed_over.extend(holds);
                continue;
            }
            decision.holds = holds;
            decision.holds.extend(passed_over);
            return;
        }
        let holds = lock_holds(job, build);
        if holds.is_empty() {
            decision.actions.push(Action::Start(build.id));
            return;
        }
        let waits_in_line = matches!(job.lock, Some((LockMode::Acquire | LockMode::During { .. }, _))) && !build.queued;
        if waits_in_line {
            decision.actions.push(Action::Queue(build.id));
        }
        decision.holds = holds;
        decision.holds.extend(passed_over);
        return;
    }
    decision.holds = passed_over;
}

/// What holds a build back before the lock is looked at: the limit, checks, and its inputs. No lock is taken, and
/// no place in its queue, while one of these does (release model, section 5, rule 2).
fn before_lock(job: &JobView, build: &PendingView, decision: &mut Decision) -> Vec<Hold> {
    let mut holds = limit_holds(job);
    if !build.manual {
        holds.extend(job.automatic_holds.iter().cloned());
    }
    if !holds.is_empty() {
        return holds;
    }
    if let Some(fixed) = &build.fixed {
        return fixed.holds.clone();
    }
    let unready: Vec<&CheckView> = job.checks.iter().filter(|check| !is_ready(build, check)).collect();
    let unwanted: Vec<ScopeId> = unready.iter().filter(|check| !check.wanted).map(|check| check.scope).collect();
    if !unwanted.is_empty() {
        decision.actions.push(Action::WantChecks(unwanted));
    }
    for check in &unready {
        holds.push(
            Hold::new(Code::CheckPending, format!("{} is checked for newer versions first", check.resource))
                .since(build.created_at)
                .command(format!("holdall resource check {}", check.resource)),
        );
    }
    if holds.is_empty() {
        holds.extend(job.inputs.holds.iter().cloned());
    }
    holds
}

/// Whether an input has been checked recently enough for a build (reference, section 3.6, step 3).
fn is_ready(build: &PendingView, check: &CheckView) -> bool {
    if build.manual {
        check.checked_at.is_some_and(|at| at >= build.created_at)
    } else {
        check.trigger || !check.overdue
    }
}

fn is_full(job: &JobView) -> bool {
    job.limit.as_ref().is_some_and(|limit| limit.running.len() >= limit.max || limit.before.is_some())
}

fn limit_holds(job: &JobView) -> Vec<Hold> {
    let Some(limit) = &job.limit else { return Vec::new() };
    let code = if limit.shared { Code::SerialGroup } else { Code::MaxInFlight };
    let mut holds = Vec::new();
    if limit.running.len() >= limit.max {
        let running: Vec<String> = limit.running.iter().map(|(job, build)| format!("{job} {build}")).collect();
        let runs = if running.len() == 1 { "runs" } else { "run" };
        holds.push(Hold::new(code, format!("{} {runs}, and at most {} may at a time", running.join(", "), limit.max)));
    } else if let Some((_, other)) = &limit.before {
        holds
            .push(Hold::new(Code::SerialGroup, format!("a build of {other} waits before it in the same serial group")));
    }
    holds
}

fn lock_holds(job: &JobView, build: &PendingView) -> Vec<Hold> {
    let Some((mode, lock)) = &job.lock else { return Vec::new() };
    match mode {
        LockMode::Acquire | LockMode::During { .. } => {
            obstacles(lock, Asker::Build(build.id), is_shared(*mode), build.first_in_line)
        }
        LockMode::Require => {
            let deployment = match &build.fixed {
                Some(fixed) => fixed.deployment.as_ref(),
                None => job.inputs.deployment.as_ref(),
            };
            required(lock, deployment.map(|deployment| deployment.id))
        }
    }
}

#[cfg(test)]
mod tests;
