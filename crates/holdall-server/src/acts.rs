//! Acts: everything that a person does to the server's state (release model, section 7).
//!
//! An act is one transaction: what it writes, everything that starts because of it, and its entry in the audit log.
//! Its preview is the same transaction, undone: the act is applied, the scheduler runs to its end, and what is
//! different is what would change. There is no second implementation that could say something else.

mod bags;
mod deploy;
mod jobs;
mod locks;
mod names;
mod picture;

use holdall_engine::time::Timestamp;
use holdall_protocol::api::{Act, ActAnswer, ActRequest, Made, Preview, Time, code};
use holdall_store::Tx;
use holdall_store::audit::{AuditRow, audit_add};

pub use locks::{Acquired, WAITING_LAPSES, acquire, release, renew};
pub(crate) use names::build_ref;
pub use names::{version_argument, version_by_text};
pub(crate) use picture::wire_hold;

use crate::duty::schedule::schedule_all;
use crate::error::{Error, Refusal};
use picture::Picture;

/// Who does something.
#[derive(Debug, Clone)]
pub struct Actor {
    /// The name of the token.
    pub name: String,
    /// From where: `cli`, `web`, `api`.
    pub origin: &'static str,
}

/// What carrying out an act gave.
#[derive(Debug, Clone, Default)]
struct Outcome {
    /// What it made.
    made: Made,
    /// What it was done to, for the audit log: `notify/production`.
    target: String,
    /// How it was before, in words.
    before: Option<String>,
    /// How it is since.
    after: Option<String>,
    /// What it comes to, most important first.
    sentences: Vec<String>,
    /// The differences of configurations.
    diff: Option<String>,
    /// The system whose environments are looked at for the preview; `None`: none.
    system: Option<String>,
}

/// Carries an act out, or only says what it would do.
///
/// # Errors
///
/// A refusal changes nothing; `preview_changed` carries the new preview.
pub fn act(tx: &mut Tx<'_>, actor: &Actor, request: &ActRequest, now: Timestamp) -> Result<ActAnswer, Error> {
    let reason = request.reason.as_deref().map(str::trim).filter(|reason| !reason.is_empty());
    if request.act.needs_reason() && reason.is_none() && !request.dry_run {
        let message = format!("{} needs a reason: add --reason \"...\"", request.act.name().replace('_', " "));
        return Err(Refusal::new(422, code::REASON_REQUIRED, message).into());
    }
    let reason = with_ticket(reason, request.ticket.as_deref());
    must_end_later(&request.act, now)?;
    // What is due anyway is not this act's doing.
    schedule_all(tx, now)?;
    if request.dry_run {
        let (_, preview) = tx.undone(|tx| carry_out(tx, actor, &request.act, reason.as_deref(), now))?;
        return Ok(ActAnswer { preview, done: false, made: Made::default() });
    }
    let (made, preview) = carry_out(tx, actor, &request.act, reason.as_deref(), now)?;
    if let Some(token) = &request.preview_token
        && *token != preview.token
    {
        // The error undoes everything that the act wrote.
        let mut refusal =
            Refusal::new(409, code::PREVIEW_CHANGED, "what the preview showed has changed; look at the new one");
        refusal.preview = Some(Box::new(preview));
        return Err(refusal.into());
    }
    Ok(ActAnswer { preview, done: true, made })
}

/// What ends at once holds nothing, and would take the place of what does.
fn must_end_later(act: &Act, now: Timestamp) -> Result<(), Error> {
    match act.until() {
        Some(until) if until.0 <= now.0 => {
            Err(Error::invalid(format!("{until} is past: it is {} now; give a time to come", Time(now.0))))
        }
        _ => Ok(()),
    }
}

fn with_ticket(reason: Option<&str>, ticket: Option<&str>) -> Option<String> {
    match (reason, ticket) {
        (Some(reason), Some(ticket)) => Some(format!("{reason} [{ticket}]")),
        (Some(reason), None) => Some(reason.to_owned()),
        (None, Some(ticket)) => Some(format!("[{ticket}]")),
        (None, None) => None,
    }
}

/// Applies an act with everything that follows from it, and says what is different.
fn carry_out(
    tx: &mut Tx<'_>,
    actor: &Actor,
    act: &Act,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<(Made, Preview), Error> {
    let system = names::system_of(tx, act)?;
    let before = Picture::take(tx, system.as_deref())?;
    let mut outcome = apply(tx, actor, act, reason, now)?;
    let system = outcome.system.clone().or(system);
    let done = schedule_all(tx, now)?;
    let after = Picture::take(tx, system.as_deref())?;
    if outcome.made.deployment.is_none()
        && let Some(build) = &outcome.made.build
    {
        outcome.made.deployment = picture::deployment_of_build(tx, build.id)?;
    }
    audit_add(
        tx,
        &AuditRow {
            id: 0,
            at: now,
            who: actor.name.clone(),
            origin: actor.origin.to_owned(),
            act: act.name().to_owned(),
            target: outcome.target.clone(),
            reason: reason.map(str::to_owned),
            before: outcome.before.clone(),
            after: outcome.after.clone(),
        },
    )?;
    let mut preview = before.compare(tx, &after, &done)?;
    let mut sentences = outcome.sentences;
    sentences.append(&mut preview.sentences);
    preview.sentences = sentences;
    preview.diff = outcome.diff;
    preview.token = picture::token(&preview)?;
    Ok((outcome.made, preview))
}

fn apply(tx: &mut Tx<'_>, actor: &Actor, act: &Act, reason: Option<&str>, now: Timestamp) -> Result<Outcome, Error> {
    let who = actor.name.as_str();
    match act {
        Act::Pin { target, version, until } => {
            bags::pin(tx, who, target, version, until.map(|until| Timestamp(until.0)), reason, now)
        }
        Act::Unpin { target } => bags::unpin(tx, target),
        Act::Disable { target, and_bags, until } => {
            bags::disable(tx, who, target, *and_bags, until.map(|until| Timestamp(until.0)), reason, now)
        }
        Act::Enable { target } => bags::enable(tx, target),
        Act::Assemble { system, environment, like, with } => {
            bags::assemble(tx, who, system, environment.as_deref(), *like, with, now)
        }
        Act::Deploy { system, environment, bag, take_over, clear_suspects } => {
            let order = deploy::Deploy { system, environment, bag: *bag, take_over: *take_over, clear_suspects };
            deploy::deploy(tx, who, &order, reason, now)
        }
        Act::RollBack { system, environment, to, suspects, and_untick, here_only } => {
            let order = deploy::RollBack {
                system,
                environment,
                to: *to,
                suspects,
                and_untick: *and_untick,
                here_only: *here_only,
            };
            deploy::roll_back(tx, who, &order, reason, now)
        }
        Act::ClearSuspect { system, environment, services } => {
            deploy::clear_suspects(tx, who, system, environment, services, reason, now)
        }
        Act::EnvironmentConfirm { system, environment } => deploy::confirm(tx, system, environment),
        Act::Freeze { system, environment, at, until, deploy } => {
            let until = until.map(|until| Timestamp(until.0));
            deploy::freeze(tx, who, system, environment, *at, until, *deploy, reason, now)
        }
        Act::Unfreeze { system, environment } => deploy::unfreeze(tx, system, environment),
        Act::LockRelease { environment } => locks::release_own(tx, who, environment, reason, now),
        Act::ForceUnlock { environment, abort_running, worker_is_dead, then } => {
            let order = locks::ForceUnlock {
                environment,
                abort_running: *abort_running,
                worker_is_dead: *worker_is_dead,
                then: *then,
            };
            locks::force_unlock(tx, who, &order, reason, now)
        }
        Act::JobTrigger { team, pipeline, job } => jobs::trigger(tx, who, team, pipeline, job, reason, now),
        Act::JobPause { team, pipeline, job } => jobs::pause_job(tx, who, (team, pipeline, job), true, reason, now),
        Act::JobUnpause { team, pipeline, job } => jobs::pause_job(tx, who, (team, pipeline, job), false, reason, now),
        Act::BuildAbort { build, force, worker_is_dead } => {
            jobs::abort(tx, who, *build, *force, *worker_is_dead, reason, now)
        }
        Act::BuildRerun { build } => jobs::rerun(tx, who, *build, reason, now),
        Act::PipelinePause { team, pipeline } => jobs::pause_pipeline(tx, who, team, pipeline, true, reason, now),
        Act::PipelineUnpause { team, pipeline } => jobs::pause_pipeline(tx, who, team, pipeline, false, reason, now),
        Act::PipelineDestroy { team, pipeline } => jobs::destroy_pipeline(tx, team, pipeline, now),
        Act::PipelineSet { team, pipeline, text, vars } => jobs::set_pipeline(tx, team, pipeline, text, vars, now),
        Act::SystemSet { text, vars, now: at_once } => {
            let change = crate::systems::set(tx, text, vars, *at_once, now)?;
            Ok(Outcome {
                target: change.name.clone(),
                sentences: change.sentences,
                diff: change.diff,
                system: Some(change.name),
                ..Outcome::default()
            })
        }
        Act::SystemDestroy { system } => {
            crate::systems::destroy(tx, system, now)?;
            Ok(Outcome {
                target: system.clone(),
                sentences: vec![format!("system {system} is gone; its bags, tags and builds are kept")],
                ..Outcome::default()
            })
        }
    }
}
