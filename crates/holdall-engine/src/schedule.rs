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
use crate::time::{Span, Timestamp};

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
    /// Whether it was never checked.
    pub overdue: bool,
    /// For how long a check is good enough for builds that no person triggered; `None`: for ever.
    pub every: Option<Span>,
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
    /// Everything that holds the first waiting build back, or the job where none waits: once all of it is lifted, it
    /// starts. What a build waits for next, but cannot be known before its inputs are, is not among it.
    pub holds: Vec<Hold>,
}

/// What stands between a waiting build and its start, in the order in which it is looked at.
#[derive(Default)]
struct Obstacles {
    /// Pauses of the job and its pipeline.
    pauses: Vec<Hold>,
    /// The limit on builds at once, and a held environment.
    room: Vec<Hold>,
    /// Checks that have to end first.
    checks: Vec<Hold>,
    /// Why its inputs cannot be had.
    inputs: Vec<Hold>,
    /// Who has the lock, or comes before it.
    lock: Vec<Hold>,
}

impl Obstacles {
    /// Whether nothing but the lock is missing. No lock is taken, and no place in its queue, before (release model,
    /// section 5, rule 2).
    fn only_lock(&self) -> bool {
        [&self.pauses, &self.room, &self.checks, &self.inputs].into_iter().all(Vec::is_empty)
    }

    fn into_holds(self) -> Vec<Hold> {
        let Obstacles { pauses, room, mut checks, inputs, lock } = self;
        // Of a resource that was never checked, its missing version says the same already.
        let same = |a: &Hold, b: &Hold| a.code == b.code && a.command == b.command;
        checks.retain(|check| !inputs.iter().any(|input| same(check, input)));
        [pauses, room, checks, inputs, lock].into_iter().flatten().collect()
    }
}

/// Decides what happens with a job.
pub fn schedule(job: &JobView) -> Decision {
    let mut decision = decide(job);
    if decision.actions.is_empty() {
        decision.holds.extend(job.notes.iter().cloned());
    }
    // What holds an environment is in the way of its bags, and of builds.
    let all = std::mem::take(&mut decision.holds);
    for hold in all {
        if !decision.holds.contains(&hold) {
            decision.holds.push(hold);
        }
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
    if job.pending.is_empty() {
        idle(job, &mut decision);
    } else {
        pending(job, &mut decision);
    }
    decision
}

/// A job for which no build waits: makes one for new inputs.
fn idle(job: &JobView, decision: &mut Decision) {
    decision.holds = pauses(job);
    decision.holds.extend(job.inputs.holds.iter().cloned());
    if job.inputs.triggers {
        decision.holds.extend(job.automatic_holds.iter().cloned());
        let ended = job.inputs.deployment.as_ref().is_some_and(|deployment| deployment.ended.is_some());
        if decision.holds.is_empty() && !ended {
            decision.actions.push(Action::CreatePending);
        }
    }
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

/// The pauses of a job and of its pipeline: they hold back also what is not there yet.
pub fn pauses(job: &JobView) -> Vec<Hold> {
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

/// Looks at the waiting builds in their order; the first that cannot start holds the others back.
fn pending(job: &JobView, decision: &mut Decision) {
    let mut passed_over = Vec::new();
    for build in &job.pending {
        let obstacles = obstacles_of(job, build);
        let only_lock = obstacles.only_lock();
        if only_lock && obstacles.lock.is_empty() {
            decision.actions.push(Action::Start(build.id));
            return;
        }
        if only_lock && takes_lock(job) && !build.queued {
            decision.actions.push(Action::Queue(build.id));
        }
        if !only_lock && build.queued {
            // It must not stand before those who could go on.
            decision.actions.push(Action::Unqueue(build.id));
        }
        let unwanted = unwanted_checks(job, build);
        if obstacles.pauses.is_empty() && obstacles.room.is_empty() && !unwanted.is_empty() {
            decision.actions.push(Action::WantChecks(unwanted));
        }
        if build.rerun && !only_lock && decision.actions.is_empty() && pauses(job).is_empty() && !is_full(job) {
            // A rerun that cannot have its inputs does not hold up what comes after it.
            passed_over.extend(obstacles.into_holds());
            continue;
        }
        // Nor must one that this one comes before: each would wait for the other.
        let others = job.pending.iter().filter(|other| other.queued && other.id != build.id);
        decision.actions.extend(others.map(|other| Action::Unqueue(other.id)));
        decision.holds = obstacles.into_holds();
        break;
    }
    decision.holds.extend(passed_over);
}

/// Everything that stands between a build and its start.
fn obstacles_of(job: &JobView, build: &PendingView) -> Obstacles {
    let mut found = Obstacles { pauses: pauses(job), room: limit_holds(job), ..Obstacles::default() };
    if !build.manual {
        found.room.extend(job.automatic_holds.iter().cloned());
    }
    match &build.fixed {
        Some(fixed) => found.inputs = fixed.holds.clone(),
        None => {
            found.checks = unready_checks(job, build).map(|check| check_hold(build, check)).collect();
            found.inputs = job.inputs.holds.clone();
        }
    }
    found.lock = lock_holds(job, build, found.inputs.is_empty());
    found
}

fn check_hold(build: &PendingView, check: &CheckView) -> Hold {
    Hold::new(Code::CheckPending, format!("{} is checked for newer versions first", check.resource))
        .since(build.created_at)
        .command(format!("holdall resource check {}", check.resource))
}

/// The inputs that have to be checked before a build starts; what has its inputs from the start needs none.
fn unready_checks<'a>(job: &'a JobView, build: &'a PendingView) -> impl Iterator<Item = &'a CheckView> {
    job.checks.iter().filter(|check| build.fixed.is_none() && !is_ready(build, check))
}

/// Those of them that nobody has asked for yet.
fn unwanted_checks(job: &JobView, build: &PendingView) -> Vec<ScopeId> {
    unready_checks(job, build).filter(|check| !check.wanted).map(|check| check.scope).collect()
}

/// Whether a start grants the lock: such a build waits in its queue.
fn takes_lock(job: &JobView) -> bool {
    matches!(job.lock, Some((LockMode::Acquire | LockMode::During { .. }, _)))
}

/// Whether an input has been checked recently enough for a build (reference, section 3.6, step 3).
fn is_ready(build: &PendingView, check: &CheckView) -> bool {
    if build.manual {
        check.checked_at.is_some_and(|at| at >= build.created_at)
    } else {
        // Compared with when the build was made: it gets no older while it waits. What nobody checks by the clock (`never`,
        // section 1.5) is as old as its last check.
        let every = check.every.unwrap_or(Span(0));
        let is_stale = check.checked_at.is_some_and(|at| at + every < build.created_at);
        check.trigger || !(check.overdue || is_stale)
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
        // Where the limit was lowered, more run than may.
        let too_many = running.len() - limit.max + 1;
        let runs = if running.len() == 1 { "runs" } else { "run" };
        let end = match too_many {
            _ if running.len() == 1 => "the end of".to_owned(),
            1 => "the end of one of".to_owned(),
            _ if too_many == running.len() => "the end of all of".to_owned(),
            _ => format!("the end of {too_many} of"),
        };
        let running = running.join(", ");
        holds.push(
            Hold::new(code, format!("{running} {runs}, and at most {} may at a time", limit.max))
                .by(format!("{end} {running}")),
        );
    }
    if let Some((_, other)) = &limit.before {
        holds.push(
            Hold::new(Code::SerialGroup, format!("a build of {other} waits before it in the same serial group"))
                .by(format!("the start of that build of {other}")),
        );
    }
    holds
}

/// What stands between a build and the lock. Whose lock a job with `require` needs, its inputs say.
fn lock_holds(job: &JobView, build: &PendingView, has_inputs: bool) -> Vec<Hold> {
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
            if deployment.is_none() && !has_inputs {
                return Vec::new();
            }
            required(lock, deployment.map(|deployment| deployment.id))
        }
    }
}

#[cfg(test)]
mod tests;
