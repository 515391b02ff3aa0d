//! What workers report of attempts. Every report may come twice: what is known already changes nothing.
//!
//! `at` is when something happened by the worker's clock, for people to read. That clock may be hours off, and a report
//! may come hours late: everything that is decided counts from `now`, when the server hears of it.

use holdall_engine::plan::{PlanId, PlanKind};
use holdall_engine::run::RunEvent;
use holdall_engine::status::Outcome;
use holdall_engine::time::Timestamp;
use holdall_engine::version::Version;
use holdall_protocol::worker::{Ending, ResourceResult, Stream};
use holdall_store::attempts::{self, AttemptRow};
use holdall_store::versions::NewVersion;
use holdall_store::{StoreError, Tx, builds, events, resources, versions};

use super::{Walk, feed, note};
use crate::error::json_text;
use crate::release::ends;

/// The attempt's process runs.
pub fn attempt_started(tx: &mut Tx<'_>, attempt: &AttemptRow, at: Timestamp, now: Timestamp) -> Result<(), StoreError> {
    if !attempts::attempt_started(tx, &attempt.id, at)? {
        return Ok(());
    }
    if let Some(walk) = Walk::read(tx, attempt.build)? {
        let step = PlanId(attempt.step.clone());
        let touches = walk.plan.find(&step).is_some_and(|node| !matches!(node.kind, PlanKind::Files(_)));
        if touches && !is_fetch(&walk, &step) {
            ends::deploy_step_started(tx, &walk.build, walk.spec.role, now)?;
        }
    }
    feed(tx, attempt.build, RunEvent::StepStarted { step: PlanId(attempt.step.clone()) }, now)
}

/// Whether a step only brings something to the worker.
fn is_fetch(walk: &Walk, step: &PlanId) -> bool {
    walk.plan.find(step).is_some_and(|node| matches!(node.kind, PlanKind::Get(_)))
}

/// Output of an attempt, from a place in its whole output on. What is stored already is left out.
pub fn attempt_output(
    tx: &mut Tx<'_>,
    attempt: &AttemptRow,
    offset: u64,
    at: Timestamp,
    stream: Stream,
    bytes: &[u8],
) -> Result<(), StoreError> {
    let known = u64::try_from(attempt.output_offset).unwrap_or(0);
    let end = offset.saturating_add(bytes.len() as u64);
    // A gap would lose something: the worker is at fault and is not believed.
    if offset > known || end <= known {
        return Ok(());
    }
    let fresh = bytes[usize::try_from(known - offset).unwrap_or(0)..].to_vec();
    let to = i64::try_from(end).unwrap_or(i64::MAX);
    if attempts::attempt_advance(tx, &attempt.id, attempt.output_offset, to)? {
        let stream = match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        events::event_append(tx, attempt.build, at, "output", Some(&attempt.step), Some(stream), Some(fresh))?;
    }
    Ok(())
}

/// The server says that an attempt has ended.
pub fn attempt_finished(
    tx: &mut Tx<'_>,
    attempt: &AttemptRow,
    ending: &Ending,
    now: Timestamp,
) -> Result<(), StoreError> {
    attempt_ended(tx, attempt, ending, now, now)
}

/// A worker says that an attempt has ended.
pub fn attempt_ended(
    tx: &mut Tx<'_>,
    attempt: &AttemptRow,
    ending: &Ending,
    at: Timestamp,
    now: Timestamp,
) -> Result<(), StoreError> {
    if !attempts::attempt_finish(tx, &attempt.id, &json_text(ending)?, at)? {
        return Ok(());
    }
    let Some(walk) = Walk::read(tx, attempt.build)? else { return Ok(()) };
    let step = PlanId(attempt.step.clone());
    let (mut outcome, message) = judge(ending);
    if let Some(message) = message {
        note(tx, attempt.build, Some(&attempt.step), &message, at)?;
    }
    let mut version = None;
    if let (Ending::Exited { status: 0, result, .. }, Some(node)) = (ending, walk.plan.find(&step)) {
        match (&node.kind, result) {
            (PlanKind::Put(put), Some(result)) => {
                version = Some(save_put(tx, &walk, &put.name, &put.resource, result, now)?);
            }
            (PlanKind::Get(get), Some(result)) => save_get(tx, &walk, &get.resource, result)?,
            (PlanKind::Put(_) | PlanKind::Get(_), None) => {
                note(tx, attempt.build, Some(&attempt.step), "the resource gave no version", at)?;
                outcome = Outcome::Errored;
            }
            _ => {}
        }
    }
    let in_doubt = matches!(ending, Ending::Lost { .. }) && ends::step_lost(tx, &walk.build, walk.spec.role, now)?;
    let payload = json_text(ending)?;
    events::event_append(tx, attempt.build, at, "ending", Some(&attempt.step), Some(&payload), None)?;
    let event = match in_doubt {
        true => RunEvent::StepLost { step },
        false => RunEvent::StepFinished { step, outcome, version },
    };
    feed(tx, attempt.build, event, now)
}

/// Ends an attempt of which nobody will hear any more: its worker is gone, and its process with it. What its build does
/// then, its hooks for instance, runs on any worker, without the build's artifacts.
pub fn attempt_lost(tx: &mut Tx<'_>, attempt: &AttemptRow, message: &str, now: Timestamp) -> Result<(), StoreError> {
    builds::build_leave_worker(tx, attempt.build)?;
    attempt_finished(tx, attempt, &Ending::Lost { message: message.to_owned() }, now)
}

/// What an ending means for the step, and what its log says of it.
fn judge(ending: &Ending) -> (Outcome, Option<String>) {
    match ending {
        Ending::Exited { status: 0, .. } => (Outcome::Succeeded, None),
        Ending::Exited { status, .. } => (Outcome::Failed, Some(format!("exit status {status}"))),
        Ending::Signalled { signal } => (Outcome::Failed, Some(format!("ended by signal {signal}"))),
        Ending::TimedOut => (Outcome::Failed, Some("timeout exceeded".to_owned())),
        Ending::Stopped { killed: false } => (Outcome::Aborted, Some("interrupted".to_owned())),
        Ending::Stopped { killed: true } => {
            (Outcome::Aborted, Some("interrupted, and killed when its grace was over".to_owned()))
        }
        Ending::CouldNotRun { message } => (Outcome::Errored, Some(message.clone())),
        Ending::Lost { message } => (Outcome::Errored, Some(format!("nobody knows how this step ended: {message}"))),
    }
}

/// A put made a version: everyone who has the same source knows it at once.
fn save_put(
    tx: &mut Tx<'_>,
    walk: &Walk,
    name: &str,
    resource: &str,
    result: &ResourceResult,
    now: Timestamp,
) -> Result<Version, StoreError> {
    let version = Version(result.version.clone());
    if let Some(row) = resources::resource_find(tx, walk.build.pipeline, resource)? {
        if let Some(scope) = row.scope {
            let new = NewVersion { version: version.clone(), metadata: pairs(result) };
            versions::versions_save(tx, scope, &[new], now)?;
        }
        builds::build_output_add(tx, walk.build.id, name, row.id, &version)?;
    }
    Ok(version)
}

fn save_get(tx: &mut Tx<'_>, walk: &Walk, resource: &str, result: &ResourceResult) -> Result<(), StoreError> {
    if let Some(row) = resources::resource_find(tx, walk.build.pipeline, resource)?
        && let Some(scope) = row.scope
    {
        let digest = Version(result.version.clone()).digest();
        versions::version_set_metadata(tx, scope, &digest, &pairs(result))?;
    }
    Ok(())
}

fn pairs(result: &ResourceResult) -> Vec<(String, String)> {
    result.metadata.iter().map(|field| (field.name.clone(), field.value.clone())).collect()
}
