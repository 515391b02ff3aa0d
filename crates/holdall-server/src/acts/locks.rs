//! Locks by people: taking, renewing, giving back, and taking away by force.

use holdall_engine::ids::LockId;
use holdall_engine::release::bags::starts_by_itself;
use holdall_engine::release::lock::{Asker, obstacles};
use holdall_engine::status::BuildStatus;
use holdall_engine::time::{Span, Timestamp};
use holdall_protocol::api::{AcquireRequest, Granted, LockMode, Then, Time, code};
use holdall_store::audit::{AuditRow, audit_add};
use holdall_store::builds::{self, BuildRow};
use holdall_store::environments::{self, DeploymentMark, DeploymentRow, EnvironmentRow};
use holdall_store::locks::{self, HoldingRow, WaitRow};
use holdall_store::{Tx, jobs};

use super::{Actor, Outcome, jobs as job_acts};
use crate::duty::schedule::schedule_all;
use crate::error::{Error, Refusal};
use crate::release::bags::Judge;
use crate::release::deployments::deployment_open;
use crate::release::ends;
use crate::release::locks::{lock_view, note, running_holders, settle};

/// How long a client that waits or holds may say nothing before it counts as gone. A client that runs a command under
/// a lock renews far more often; an hour is the most that a lock outlives it (release model, section 5, rule 9).
pub const WAITING_LAPSES: Span = Span::seconds(30);

/// What asking for a lock gave.
#[derive(Debug, Clone)]
pub enum Acquired {
    /// The lock is had.
    Granted(Granted),
    /// It is taken, and the asker has a place in the queue.
    Queued {
        /// Shown when asking again.
        place: String,
        /// From 1.
        position: u32,
    },
}

/// Asks for a lock, or asks again with a place in its queue. `secret`: a fresh random token, used if one is needed.
///
/// # Errors
///
/// `locked` where it is taken and the request does not wait.
pub fn acquire(
    tx: &mut Tx<'_>,
    actor: &Actor,
    environment: &str,
    request: &AcquireRequest,
    secret: &str,
    now: Timestamp,
) -> Result<Acquired, Error> {
    let reason = request.reason.trim();
    if reason.is_empty() {
        let message = "taking a lock needs a reason: add --reason \"...\"";
        return Err(Refusal::new(422, code::REASON_REQUIRED, message).into());
    }
    let lock = locks::lock_find(tx, environment)?
        .ok_or_else(|| Error::not_found(format!("lock or environment {environment}")))?;
    if let Some(place) = &request.place {
        is_there(tx, lock, place, now)?;
    }
    schedule_all(tx, now)?;
    settle(tx, lock, environment, now)?;
    if let Some(place) = &request.place {
        if let Some(holding) =
            locks::holding_list(tx, lock)?.into_iter().find(|holding| holding.token.as_deref() == Some(place))
        {
            // It is known to have the lock from here on: it has it until its end, however long it says nothing.
            locks::holding_renew(tx, holding.id, holding.until, None)?;
            return Ok(Acquired::Granted(granted(&holding)));
        }
        let waiting = locks::wait_list(tx, lock)?;
        let found = waiting.iter().position(|wait| wait.token.as_deref() == Some(place));
        let Some(index) = found else {
            return Err(Refusal::new(409, code::LOCK_LOST, "the place in the queue has lapsed; ask anew").into());
        };
        let position = u32::try_from(index + 1).unwrap_or(u32::MAX);
        return Ok(Acquired::Queued { place: place.clone(), position });
    }
    let shared = request.mode == LockMode::Shared;
    let view = lock_view(tx, lock, environment)?;
    let holds = obstacles(&view, Asker::New, shared, false);
    let mode = if shared { "shared" } else { "exclusive" };
    let span = request.for_seconds.map(|seconds| Span::seconds(i64::try_from(seconds).unwrap_or(i64::MAX / 2_000_000)));
    if !holds.is_empty() && !request.wait {
        let why: Vec<&str> = holds.iter().map(|hold| hold.sentence.as_str()).collect();
        return Err(Refusal::new(423, code::LOCKED, why.join("; "))
            .command(format!("holdall lock acquire {environment} --wait --reason \"...\""))
            .holds(holds)
            .into());
    }
    if holds.is_empty() {
        let mut holding = HoldingRow {
            id: 0,
            lock,
            kind: "person".to_owned(),
            name: actor.name.clone(),
            mode: mode.to_owned(),
            build: None,
            deployment: None,
            token: Some(secret.to_owned()),
            reason: Some(reason.to_owned()),
            since: now,
            until: span.map(|span| now + span),
            alive_until: None,
            fence: 0,
        };
        holding.fence = locks::holding_add(tx, &holding)?;
        write_down(tx, actor, "lock_acquire", environment, Some(reason), None, Some("held"), now)?;
        return Ok(Acquired::Granted(granted(&holding)));
    }
    locks::wait_add(
        tx,
        &WaitRow {
            id: 0,
            lock,
            kind: "person".to_owned(),
            name: actor.name.clone(),
            mode: mode.to_owned(),
            build: None,
            token: Some(secret.to_owned()),
            reason: Some(reason.to_owned()),
            since: now,
            for_span: span,
            alive_until: Some(now + WAITING_LAPSES),
        },
    )?;
    write_down(tx, actor, "lock_wait", environment, Some(reason), None, Some("waiting"), now)?;
    let position = u32::try_from(locks::wait_list(tx, lock)?.len()).unwrap_or(u32::MAX);
    Ok(Acquired::Queued { place: secret.to_owned(), position })
}

/// Who asks again is there: its place, or what became of it while it did not ask, does not lapse now.
fn is_there(tx: &mut Tx<'_>, lock: LockId, place: &str, now: Timestamp) -> Result<(), Error> {
    for wait in locks::wait_list(tx, lock)?.into_iter().filter(|wait| wait.token.as_deref() == Some(place)) {
        locks::wait_renew(tx, wait.id, now + WAITING_LAPSES)?;
    }
    for holding in locks::holding_list(tx, lock)?.into_iter().filter(|one| one.token.as_deref() == Some(place)) {
        locks::holding_renew(tx, holding.id, holding.until, None)?;
    }
    Ok(())
}

fn granted(holding: &HoldingRow) -> Granted {
    Granted {
        token: holding.token.clone().unwrap_or_default(),
        fence: holding.fence,
        until: holding.until.map(|until| Time(until.0)),
    }
}

#[allow(clippy::too_many_arguments)]
fn write_down(
    tx: &mut Tx<'_>,
    actor: &Actor,
    act: &str,
    lock: &str,
    reason: Option<&str>,
    before: Option<&str>,
    after: Option<&str>,
    now: Timestamp,
) -> Result<(), Error> {
    audit_add(
        tx,
        &AuditRow {
            id: 0,
            at: now,
            who: actor.name.clone(),
            origin: actor.origin.to_owned(),
            act: act.to_owned(),
            target: format!("lock/{lock}"),
            reason: reason.map(str::to_owned),
            before: before.map(str::to_owned),
            after: after.map(str::to_owned),
        },
    )?;
    Ok(())
}

/// Holds a lock for so many seconds more, from now.
///
/// # Errors
///
/// `lock_lost` where the holding has ended.
pub fn renew(
    tx: &mut Tx<'_>,
    environment: &str,
    token: &str,
    for_seconds: u64,
    now: Timestamp,
) -> Result<Granted, Error> {
    let lost = || Refusal::new(409, code::LOCK_LOST, format!("the lock of {environment} is not held any more"));
    let lock = locks::lock_find(tx, environment)?.ok_or_else(lost)?;
    settle(tx, lock, environment, now)?;
    let mut holding = locks::holding_list(tx, lock)?
        .into_iter()
        .find(|holding| holding.token.as_deref() == Some(token))
        .ok_or_else(lost)?;
    holding.until = Some(now + Span::seconds(i64::try_from(for_seconds.min(3600)).unwrap_or(3600)));
    locks::holding_renew(tx, holding.id, holding.until, None)?;
    Ok(granted(&holding))
}

/// Gives back what a token stands for: a holding, or a place in the queue. Gives whether there was one.
pub fn release(
    tx: &mut Tx<'_>,
    actor: &Actor,
    environment: &str,
    token: &str,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<bool, Error> {
    let Some(lock) = locks::lock_find(tx, environment)? else { return Ok(false) };
    let mut found = false;
    for holding in locks::holding_list(tx, lock)? {
        if holding.token.as_deref() == Some(token) {
            locks::holding_remove(tx, &holding)?;
            found = true;
        }
    }
    for wait in locks::wait_list(tx, lock)? {
        if wait.token.as_deref() == Some(token) {
            locks::wait_remove(tx, wait.id)?;
            found = true;
        }
    }
    if found {
        write_down(tx, actor, "lock_release", environment, reason, Some("held"), None, now)?;
        settle(tx, lock, environment, now)?;
        schedule_all(tx, now)?;
    }
    Ok(found)
}

/// Gives back the lock that a person took, whatever client took it.
pub(super) fn release_own(
    tx: &mut Tx<'_>,
    who: &str,
    environment: &str,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<Outcome, Error> {
    let lock = locks::lock_find(tx, environment)?.ok_or_else(|| Error::not_found(format!("lock {environment}")))?;
    let mut outcome = Outcome { target: format!("lock/{environment}"), ..Outcome::default() };
    let holdings = locks::holding_list(tx, lock)?;
    for holding in holdings.iter().filter(|holding| holding.kind == "person" && holding.name == who) {
        locks::holding_remove(tx, holding)?;
        note(tx, who, "lock_released", environment, reason, Some(&holding.name), None, now)?;
        outcome.sentences.push(format!("{who} gives the lock of {environment} back"));
    }
    for wait in locks::wait_list(tx, lock)? {
        if wait.kind == "person" && wait.name == who {
            locks::wait_remove(tx, wait.id)?;
            outcome.sentences.push(format!("{who} does not wait for the lock of {environment} any more"));
        }
    }
    if outcome.sentences.is_empty() {
        let holders: Vec<&str> = holdings.iter().map(|holding| holding.name.as_str()).collect();
        return Err(match holders.is_empty() {
            true => Error::refused(
                format!("{who} does not hold the lock of {environment}: nobody does"),
                format!("holdall lock show {environment}"),
            ),
            false => Error::refused(
                format!("{who} does not hold the lock of {environment}: {} does", holders.join(", ")),
                format!("holdall lock force-unlock {environment} --reason \"...\""),
            ),
        });
    }
    settle(tx, lock, environment, now)?;
    Ok(outcome)
}

/// Taking a lock away.
pub(super) struct ForceUnlock<'a> {
    pub(super) environment: &'a str,
    pub(super) abort_running: bool,
    pub(super) worker_is_dead: bool,
    pub(super) then: Then,
}

/// The environment that a lock is for: of systems that share one, that whose deployment holds it.
fn environment_of_lock(tx: &mut Tx<'_>, name: &str) -> Result<EnvironmentRow, Error> {
    let unknown = || Error::not_found(format!("environment {name}"));
    let lock = locks::lock_find(tx, name)?.ok_or_else(unknown)?;
    let environments = environments::environment_list_of_lock(tx, lock)?;
    for holding in locks::holding_list(tx, lock)? {
        let Some(deployment) = holding.deployment else { continue };
        let held = environments::deployment_get(tx, deployment)?.environment;
        if let Some(row) = environments.iter().find(|row| row.id == held) {
            return Ok(row.clone());
        }
    }
    environments.into_iter().next().ok_or_else(unknown)
}

pub(super) fn force_unlock(
    tx: &mut Tx<'_>,
    who: &str,
    order: &ForceUnlock<'_>,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<Outcome, Error> {
    let environment = environment_of_lock(tx, order.environment)?;
    let name = &environment.name;
    let why = reason.unwrap_or("");
    let mut outcome = Outcome { target: format!("lock/{name}"), ..Outcome::default() };
    let holdings = locks::holding_list(tx, environment.lock)?;
    if holdings.is_empty() {
        outcome.sentences.push(format!("nobody holds the lock of {name}"));
        return Ok(outcome);
    }
    outcome.before = Some(holdings.iter().map(|holding| holding.name.as_str()).collect::<Vec<_>>().join(", "));
    let open = deployment_open(tx, &environment)?;
    let running = running_holders(tx, environment.lock)?;
    if !running.is_empty() {
        let abort_first = format!("holdall lock force-unlock {name} --abort-running --reason \"...\"");
        let holders = outcome.before.clone().unwrap_or_default();
        if order.worker_is_dead {
            for build in &running {
                job_acts::must_be_lost(tx, build, &abort_first, now)?;
            }
            lose(tx, who, &running, open.as_ref(), now)?;
        } else if order.abort_running {
            abort_holders(tx, who, &running, open.as_ref(), now)?;
        } else {
            return Err(Error::refused(
                format!(
                    "a step of {holders} runs in {name}: --abort-running stops it first, --worker-is-dead says that its \
                     worker and its process are gone"
                ),
                abort_first,
            ));
        }
        // Hooks of what was stopped or lost may still run.
        if !running_holders(tx, environment.lock)?.is_empty() {
            let hold = order.then == Then::Hold;
            match &open {
                Some(open) => environments::unlock_when_ended(tx, open.id, who, why, hold)?,
                // What has made no deployment gives the lock back by itself.
                None if hold => ends::hold(tx, &environment, who, why, now)?,
                None => {}
            }
            outcome.sentences.push(match order.worker_is_dead {
                true => format!(
                    "{holders} is stopped; the lock of {name} is given back when its hooks have run, which begin on \
                     another worker: the same command again gives up those that no worker has taken"
                ),
                false => {
                    format!("{holders} is stopped; the lock of {name} is given back when its processes have ended")
                }
            });
            return Ok(outcome);
        }
    }
    ends::force_unlock(tx, &environment, who, why, order.then == Then::Hold, now)?;
    outcome.sentences.push(format!("the lock of {name} is taken from {}", outcome.before.clone().unwrap_or_default()));
    outcome.sentences.push(match order.then {
        Then::Hold if a_person_has_asked(tx, &environment)? => {
            format!("{name} starts what a person has asked for already, and nothing by itself")
        }
        Then::Hold => format!("{name} waits for a person: trigger start-deploy, or deploy a bag"),
        // What starts, if anything does, the preview says by itself.
        Then::Start => {
            let now = environments::environment_get(tx, environment.id)?;
            match starts_by_itself(&Judge::read(tx, now)?.view) {
                true => format!("{name} goes on by itself"),
                false => format!("{name} still waits for a person: `holdall why {name}` says for what"),
            }
        }
    });
    if order.then == Then::Start
        && let Some(job) = jobs::job_find(tx, environment.pipeline, "start-deploy")?
    {
        jobs::mark(tx, job.id)?;
    }
    Ok(outcome)
}

/// Whether a start that a person has asked for waits.
fn a_person_has_asked(tx: &mut Tx<'_>, environment: &EnvironmentRow) -> Result<bool, Error> {
    let Some(job) = jobs::job_find(tx, environment.pipeline, "start-deploy")? else { return Ok(false) };
    Ok(builds::build_list_pending(tx, job.id)?.iter().any(|build| build.manual))
}

/// Stops what runs for those who hold a lock, and what waits to.
fn abort_holders(
    tx: &mut Tx<'_>,
    who: &str,
    running: &[BuildRow],
    open: Option<&DeploymentRow>,
    now: Timestamp,
) -> Result<(), Error> {
    let mut builds = running.to_vec();
    if let Some(open) = open {
        let waits = |build: &BuildRow| build.status == BuildStatus::Pending;
        builds.extend(builds::build_list_of_deployment(tx, open.id)?.into_iter().filter(waits));
    }
    for build in &builds {
        job_acts::abort_build(tx, who, build, Some("the lock is taken away by force"), now)?;
    }
    Ok(())
}

/// A person says that the worker of what runs is gone and its processes with it.
fn lose(
    tx: &mut Tx<'_>,
    who: &str,
    running: &[BuildRow],
    open: Option<&DeploymentRow>,
    now: Timestamp,
) -> Result<(), Error> {
    for build in running {
        job_acts::lose_build(tx, who, build, Some("the lock is taken away by force"), now)?;
    }
    if let Some(open) = open {
        environments::deployment_mark(tx, open.id, DeploymentMark::InDoubt(false), now)?;
    }
    Ok(())
}
