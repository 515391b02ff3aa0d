//! The build tracker: walks plans by their journals. It alone completes builds.
//!
//! Nothing about a build is kept in memory: each event replays the journal into the engine's [`Run`], appends
//! itself, and writes the effects, in one transaction. A server that dies between two of them loses nothing.

mod attempts;
mod endings;

use std::collections::VecDeque;

use holdall_engine::ids::BuildId;
use holdall_engine::plan::{Plan, PlanId, PlanKind};
use holdall_engine::run::{CancelReason, Effect, Run, RunEvent};
use holdall_engine::schedule::JobSpec;
use holdall_engine::status::{BuildStatus, Outcome};
use holdall_engine::time::Timestamp;
use holdall_store::builds::{self, BuildRow};
use holdall_store::{StoreError, Tx, events, jobs};

use crate::error::{from_json, json_text};
use crate::release::{ends, steps};

pub use endings::{attempt_ended, attempt_finished, attempt_lost, attempt_output, attempt_started};

/// Begins to walk the plan of a build that has just started.
pub fn begin(tx: &mut Tx<'_>, build: BuildId, now: Timestamp) -> Result<(), StoreError> {
    status_event(tx, build, BuildStatus::Started, None, now)?;
    feed(tx, build, RunEvent::Start, now)
}

/// Ends a build that has just started with its inputs, and whose plan cannot be made. It has had the inputs: nothing
/// tries the same ones again by itself (reference, section 4).
pub fn begin_without_plan(tx: &mut Tx<'_>, build: BuildId, why: &str, now: Timestamp) -> Result<(), StoreError> {
    status_event(tx, build, BuildStatus::Started, None, now)?;
    note(tx, build, None, why, now)?;
    let row = builds::build_get(tx, build)?
        .ok_or_else(|| StoreError::Inconsistent(format!("build {build} started and is not there")))?;
    complete(tx, &row, BuildStatus::Errored, Some(why), now)
}

/// Aborts a running build: steps are stopped, and it ends when they have.
pub fn abort(tx: &mut Tx<'_>, build: BuildId, now: Timestamp) -> Result<(), StoreError> {
    feed(tx, build, RunEvent::Abort, now)
}

/// Lets the timer of a build fire.
pub fn timer_fired(tx: &mut Tx<'_>, build: BuildId, timer: &str, now: Timestamp) -> Result<(), StoreError> {
    events::timer_clear(tx, build, timer)?;
    feed(tx, build, RunEvent::TimerFired { timer: PlanId(timer.to_owned()) }, now)
}

/// Ends a build that has not started.
pub fn end_pending(
    tx: &mut Tx<'_>,
    build: BuildId,
    status: BuildStatus,
    reason: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Some(row) = builds::build_get(tx, build)?.filter(|row| row.status == BuildStatus::Pending) else {
        return Ok(());
    };
    note(tx, build, None, reason, now)?;
    complete(tx, &row, status, Some(reason), now)
}

/// Writes a line of Holdall's own into a build's journal.
pub fn note(tx: &mut Tx<'_>, build: BuildId, step: Option<&str>, text: &str, now: Timestamp) -> Result<(), StoreError> {
    events::event_append(tx, build, now, "note", step, Some(text), None)?;
    Ok(())
}

fn status_event(
    tx: &mut Tx<'_>,
    build: BuildId,
    status: BuildStatus,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let payload = serde_json::json!({ "status": status.as_str(), "reason": reason }).to_string();
    events::event_append(tx, build, now, "status", None, Some(&payload), None)?;
    Ok(())
}

/// What is needed to walk one build, read once a transaction.
pub(super) struct Walk {
    pub(super) build: BuildRow,
    pub(super) plan: Plan,
    pub(super) spec: JobSpec,
}

impl Walk {
    fn read(tx: &mut Tx<'_>, build: BuildId) -> Result<Option<Walk>, StoreError> {
        let Some(row) = builds::build_get(tx, build)?.filter(|row| row.status == BuildStatus::Started) else {
            return Ok(None);
        };
        let plan = builds::build_plan(tx, build)?
            .ok_or_else(|| StoreError::Inconsistent(format!("build {build} runs without a plan")))?;
        let job = jobs::job_get(tx, row.job)?
            .ok_or_else(|| StoreError::Inconsistent(format!("build {build} is of no job")))?;
        Ok(Some(Walk { build: row, plan: from_json(&plan)?, spec: from_json(&job.spec)? }))
    }
}

/// Gives an event to a build's plan and does what follows from it.
pub(super) fn feed(tx: &mut Tx<'_>, build: BuildId, event: RunEvent, now: Timestamp) -> Result<(), StoreError> {
    let Some(walk) = Walk::read(tx, build)? else { return Ok(()) };
    let journal = events::event_list_run(tx, build)?
        .into_iter()
        .map(|(at, event)| Ok((from_json(&event)?, at)))
        .collect::<Result<Vec<(RunEvent, Timestamp)>, StoreError>>()?;
    let mut run = Run::replay(&walk.plan, journal);
    let mut queue = VecDeque::from([event]);
    while let Some(event) = queue.pop_front() {
        let effects = run.on(event.clone(), now);
        let step = match &event {
            RunEvent::StepStarted { step } | RunEvent::StepFinished { step, .. } | RunEvent::StepLost { step } => {
                Some(step.as_str())
            }
            RunEvent::Start | RunEvent::TimerFired { .. } | RunEvent::Abort => None,
        };
        events::event_append(tx, build, now, "run", step, Some(&json_text(&event)?), None)?;
        for effect in effects {
            carry_out(tx, &walk, effect, &mut queue, now)?;
        }
    }
    Ok(())
}

fn carry_out(
    tx: &mut Tx<'_>,
    walk: &Walk,
    effect: Effect,
    queue: &mut VecDeque<RunEvent>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let build = walk.build.id;
    match effect {
        Effect::StartStep { step, version, in_hook } => {
            let node = walk
                .plan
                .find(&step)
                .ok_or_else(|| StoreError::Inconsistent(format!("build {build} has no step {step}")))?;
            if let PlanKind::Release(release) = &node.kind {
                // The build's row may have changed since the walk began: a deployment may have been made.
                let row = builds::build_get(tx, build)?.unwrap_or_else(|| walk.build.clone());
                let performed = steps::perform(tx, &row, release, now)?;
                if !performed.message.is_empty() {
                    note(tx, build, Some(step.as_str()), &performed.message, now)?;
                }
                queue.push_back(RunEvent::StepFinished {
                    step,
                    outcome: performed.outcome,
                    version: performed.version,
                });
                return Ok(());
            }
            if let Err(message) = attempts::start(tx, walk, node, version, in_hook, now)? {
                note(tx, build, Some(step.as_str()), &message, now)?;
                queue.push_back(RunEvent::StepFinished { step, outcome: Outcome::Errored, version: None });
            }
            Ok(())
        }
        Effect::CancelStep { step, reason } => {
            let why = match reason {
                CancelReason::Abort => "abort",
                CancelReason::Timeout | CancelReason::FailFast => "cancel",
            };
            if attempts::stop(tx, build, step.as_str(), why, now)? {
                queue.push_back(RunEvent::StepFinished { step, outcome: Outcome::Aborted, version: None });
            }
            Ok(())
        }
        Effect::SetTimer { timer, at } => events::timer_set(tx, build, timer.as_str(), at),
        Effect::ClearTimer { timer } => events::timer_clear(tx, build, timer.as_str()),
        Effect::Finish { status } => {
            let row = builds::build_get(tx, build)?.unwrap_or_else(|| walk.build.clone());
            complete(tx, &row, status, None, now)
        }
    }
}

/// Ends a build, with all that its end means.
fn complete(
    tx: &mut Tx<'_>,
    build: &BuildRow,
    status: BuildStatus,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<(), StoreError> {
    status_event(tx, build.id, status, reason, now)?;
    if !builds::build_finish(tx, build.id, status, reason, now)? {
        return Ok(());
    }
    let role = match jobs::job_get(tx, build.job)? {
        Some(job) => from_json::<JobSpec>(&job.spec)?.role,
        None => None,
    };
    ends::after_build(tx, build, role, status, now)
}
