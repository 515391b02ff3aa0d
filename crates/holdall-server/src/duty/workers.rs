//! What workers are told and what they tell, inside the store's transactions (`holdall_protocol::worker`).
//!
//! Nothing that a worker was told counts as having arrived. What it has of attempts it says in each poll: an attempt
//! that is its own and that it does not have is sent again, and a worker that has had it already knows so from its
//! disk. Where it cannot know, it says so ([`Forgot`]), and what it does not have is lost. What it may remove is sent until it asks again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holdall_engine::ids::BuildId;
use holdall_engine::time::{Span, Timestamp};
use holdall_engine::version::Version;
use holdall_protocol::api::code;
use holdall_protocol::worker::{
    Assignment, CheckOrder, Ending, Fact, Forgot, Hello, Orders, Poll, Report, ReportAnswer, StopOrder, StopReason,
    Welcome,
};
use holdall_store::attempts::{self, AttemptRow};
use holdall_store::checks;
use holdall_store::versions::NewVersion;
use holdall_store::workers::{self, WorkerRow};
use holdall_store::{Signal, Store, StoreError, Tx};

use super::{track, watcher};
use crate::epoch;
use crate::error::{Error, Refusal, from_json, json_text};
use crate::lifecycle::now;

/// How often it is written down that a worker that only waits is there.
pub const SEEN_EVERY: Span = Span::seconds(4);

/// How long a worker may say nothing before it counts as lost.
pub const LOST_AFTER: Span = Span::seconds(9);

/// How many checks one worker has at once.
const MOST_CHECKS: i64 = 16;

/// How long a check may take.
const CHECK_TIMEOUT_SECONDS: f64 = 600.0;

/// How many queued attempts are looked at in one go.
const PAGE: i64 = 200;

/// How many folders a worker is told to remove at once.
const MOST_FORGOTTEN: i64 = 200;

/// The state of a worker that is there.
const RUNNING: &str = "running";

/// The longest name of a worker.
const MAX_NAME: usize = 200;

/// Begins a session: an older one of the same name is over. What its worker has lost has ended.
///
/// # Errors
///
/// The name or the number of slots makes no sense.
pub fn hello(tx: &mut Tx<'_>, hello: &Hello, now: Timestamp) -> Result<Welcome, Error> {
    let welcome = welcome(tx, hello, now)?;
    for attempt in missing(tx, hello)? {
        lose(tx, hello, &attempt, now)?;
    }
    Ok(welcome)
}

/// The same, where the end of one attempt that cannot be written down does not keep the worker from working.
pub(crate) async fn hello_each(store: &Store, hello: Hello) -> Result<Welcome, Error> {
    let hello = Arc::new(hello);
    let whole = Arc::clone(&hello);
    match store.write(move |tx| self::hello(tx, &whole, now())).await {
        Err(Error::Store(error)) if error.is_confined() => {}
        other => return other,
    }
    let greeted = Arc::clone(&hello);
    let (welcome, missing) =
        store.write(move |tx| Ok::<_, Error>((welcome(tx, &greeted, now())?, missing(tx, &greeted)?))).await?;
    for attempt in missing {
        let (one, of) = (attempt.clone(), Arc::clone(&hello));
        match store.write(move |tx| lose(tx, &of, &one, now())).await {
            Err(error) if error.is_confined() => {
                let (id, build) = (&attempt.id, attempt.build.0);
                tracing::error!(worker = %hello.name, attempt = id, build, "a lost step cannot be ended: {error}");
                // As long as it has not ended, it must not be sent again.
                store.write(move |tx| attempts::attempt_started(tx, &attempt.id, now())).await?;
            }
            other => other?,
        }
    }
    Ok(welcome)
}

/// The session itself.
fn welcome(tx: &mut Tx<'_>, hello: &Hello, now: Timestamp) -> Result<Welcome, Error> {
    if hello.name.is_empty() || hello.name.len() > MAX_NAME || hello.name.chars().any(char::is_control) {
        return Err(Error::invalid(format!("a worker's name has 1 to {MAX_NAME} characters")));
    }
    if let Some(known) = &hello.history {
        epoch::compare(tx, &hello.name, known, now)?;
    }
    watcher::tell_builds(tx, &hello.name)?;
    workers::worker_hello(
        tx,
        &WorkerRow {
            name: hello.name.clone(),
            session: hello.session.clone(),
            platform: hello.platform.clone(),
            tags: json_text(&hello.tags)?,
            team: hello.team.clone(),
            slots: i64::from(hello.slots),
            version: hello.version.clone(),
            started_at: now,
            seen_at: now,
            state: String::new(),
        },
    )?;
    let mut welcome = Welcome { history: epoch::history(tx)?, ..Welcome::default() };
    // It may not have been told of their end, or not have been able to remove what it has of them.
    for build in &hello.builds {
        if !attempts::build_is_open(tx, BuildId(*build))? {
            welcome.forget_builds.push(*build);
        }
    }
    for held in &hello.attempts {
        let Some(attempt) = attempts::attempt_get(tx, &held.attempt)? else { continue };
        if is_of(&attempt, &hello.name, held.fence) && attempt.state != "finished" {
            welcome.resume.insert(attempt.id, u64::try_from(attempt.output_offset).unwrap_or(0));
        }
    }
    // What this worker was told may never have arrived.
    attempts::attempt_stops_unsent(tx, &hello.name)?;
    checks::check_abandon(tx, &hello.name, now)?;
    Ok(welcome)
}

/// What a worker had and does not have any more. What was assigned to it and never reported as started may not have
/// arrived, and is sent again; unless the worker says that it may have forgotten it, or its disk was lost, which shows
/// in what ran: then it may have begun, and nothing begins twice.
fn missing(tx: &mut Tx<'_>, hello: &Hello) -> Result<Vec<AttemptRow>, StoreError> {
    let held: BTreeSet<&str> = hello.attempts.iter().map(|held| held.attempt.as_str()).collect();
    let mut missing = attempts::attempt_list_of_worker(tx, &hello.name)?;
    missing.retain(|attempt| !held.contains(attempt.id.as_str()));
    if hello.forgot.is_none() && !missing.iter().any(|attempt| attempt.state == "running") {
        missing.clear();
    }
    Ok(missing)
}

/// Ends an attempt that its worker does not have any more.
fn lose(tx: &mut Tx<'_>, hello: &Hello, attempt: &AttemptRow, now: Timestamp) -> Result<(), StoreError> {
    tracing::error!(worker = %hello.name, attempt = %attempt.id, "a worker has lost a step that ran on it");
    let why = match hello.forgot {
        None => "its work folder was lost or changed",
        Some(Forgot::NewFolder) => "its work folder is new and says nothing of what was begun before",
        Some(Forgot::Restart) => "its machine was started anew, and what it had noted last may be lost",
    };
    let message = format!("worker {} does not have it any more: {why}", hello.name);
    track::attempt_finished(tx, attempt, &Ending::Lost { message }, now)
}

/// The worker of a session that counts.
///
/// # Errors
///
/// 409: another session of that name has begun since. 404: the server does not know the worker, which has to say hello.
fn session(tx: &mut Tx<'_>, name: &str, session: &str) -> Result<WorkerRow, Error> {
    let worker = workers::worker_find(tx, name)?.ok_or_else(|| Error::not_found(format!("worker {name}")))?;
    if worker.session != session {
        return Err(Refusal::new(409, code::REFUSED, format!("another worker named {name} has connected since")).into());
    }
    Ok(worker)
}

/// Writes down that a worker is there; one that was lost is back.
fn seen(tx: &mut Tx<'_>, worker: &WorkerRow, now: Timestamp) -> Result<(), StoreError> {
    workers::worker_seen(tx, &worker.name, now)?;
    if worker.state != RUNNING {
        tracing::info!(worker = %worker.name, "a worker that was lost is back");
        watcher::tell_builds(tx, &worker.name)?;
        tx.signal(Signal::Board);
    }
    Ok(())
}

fn is_of(attempt: &AttemptRow, worker: &str, fence: i64) -> bool {
    attempt.worker.as_deref() == Some(worker) && attempt.fence == fence
}

/// What looking without writing found.
#[derive(Debug, Clone, Copy)]
pub struct Looked {
    /// There may be something to do.
    pub has_orders: bool,
    /// When it was last written down that the worker is there.
    pub seen_at: Timestamp,
}

/// Looks whether there is something for a worker to do.
///
/// # Errors
///
/// Those of an old session.
pub fn look(tx: &mut Tx<'_>, poll: &Poll) -> Result<Looked, Error> {
    let worker = session(tx, &poll.name, &poll.session)?;
    let own = attempts::attempt_list_of_worker(tx, &worker.name)?;
    let has_orders = own.iter().any(|attempt| is_resent(attempt, poll))
        || !attempts::attempt_list_to_stop(tx, &worker.name)?.is_empty()
        || !fitting(tx, &worker, free_slots(&worker, &own).min(1))?.is_empty()
        || (check_room(tx, &worker)? > 0 && checks::check_is_any_wanted(tx)?);
    Ok(Looked { has_orders, seen_at: worker.seen_at })
}

/// Takes what there is for a worker to do.
///
/// # Errors
///
/// Those of an old session.
pub fn orders(tx: &mut Tx<'_>, poll: &Poll, now: Timestamp) -> Result<Orders, Error> {
    let worker = session(tx, &poll.name, &poll.session)?;
    seen(tx, &worker, now)?;
    let mut orders = Orders::default();
    let own = attempts::attempt_list_of_worker(tx, &worker.name)?;
    orders.start.extend(own.iter().filter(|attempt| is_resent(attempt, poll)).filter_map(assignment));
    let free = free_slots(&worker, &own);
    for attempt in fitting(tx, &worker, free)? {
        if attempts::attempt_assign(tx, &attempt, &worker.name, now)? {
            orders.start.extend(assignment(&attempt));
        }
    }
    for attempt in attempts::attempt_list_to_stop(tx, &worker.name)? {
        let reason = if attempt.stop.as_deref() == Some("abort") { StopReason::Abort } else { StopReason::Cancel };
        attempts::attempt_stop_sent(tx, &attempt.id)?;
        orders.stop.push(StopOrder { attempt: attempt.id, fence: attempt.fence, reason });
    }
    let room = check_room(tx, &worker)?;
    for check in checks::check_claim(tx, &worker.name, room, now)? {
        orders.checks.push(CheckOrder {
            check: check.id,
            resource_type: check.kind,
            source: from_json(&check.source)?,
            version: check.from.map(|version| version.0),
            timeout_seconds: CHECK_TIMEOUT_SECONDS,
        });
    }
    orders.forget = attempts::attempt_list_forgettable(tx, &worker.name, MOST_FORGOTTEN)?;
    let builds = attempts::build_list_forgettable(tx, &worker.name, MOST_FORGOTTEN)?;
    orders.history = epoch::history(tx)?;
    orders.forget_builds = builds.into_iter().map(|build| build.0).collect();
    Ok(orders)
}

/// Whether orders are worth being sent at once. What can be removed can wait for company.
pub fn is_urgent(orders: &Orders) -> bool {
    !orders.start.is_empty() || !orders.stop.is_empty() || !orders.checks.is_empty()
}

/// What the worker is told of an attempt. One that cannot be read must not keep the others from being told.
fn assignment(attempt: &AttemptRow) -> Option<Assignment> {
    from_json(&attempt.assignment)
        .inspect_err(|error| {
            let (id, build) = (&attempt.id, attempt.build.0);
            tracing::error!(attempt = id, build, "a step cannot be given to a worker: {error}");
        })
        .ok()
}

fn is_resent(attempt: &AttemptRow, poll: &Poll) -> bool {
    attempt.state == "assigned" && !poll.running.contains(&attempt.id)
}

/// How many more attempts a worker can have. What it says of free slots is of when it asked.
fn free_slots(worker: &WorkerRow, own: &[AttemptRow]) -> usize {
    usize::try_from(worker.slots).unwrap_or(0).saturating_sub(own.len())
}

/// The first queued attempts that a worker may take, at most `most` (reference, section 7.3).
fn fitting(tx: &mut Tx<'_>, worker: &WorkerRow, most: usize) -> Result<Vec<AttemptRow>, StoreError> {
    let mut found = Vec::new();
    let mut offset = 0;
    if most == 0 {
        return Ok(found);
    }
    let tags: Vec<String> = from_json(&worker.tags)?;
    let mut others: Option<Vec<(Option<String>, Vec<String>)>> = None;
    loop {
        let page = attempts::attempt_list_queued_for(tx, &worker.name, worker.team.as_deref(), PAGE, offset)?;
        let is_last = (page.len() as i64) < PAGE;
        for queued in page {
            let wanted: Vec<String> = from_json(&queued.tags)?;
            if !has_tags(&tags, &wanted) {
                continue;
            }
            // Where a team has workers of its own, its steps go to those only.
            if worker.team.is_none() && queued.build_worker.is_none() {
                if others.is_none() {
                    others = Some(team_workers(tx)?);
                }
                let is_theirs = others
                    .iter()
                    .flatten()
                    .any(|(team, tags)| team.as_ref() == Some(&queued.team) && has_tags(tags, &wanted));
                if is_theirs {
                    continue;
                }
            }
            found.push(queued.attempt);
            if found.len() == most {
                return Ok(found);
            }
        }
        if is_last {
            return Ok(found);
        }
        offset += PAGE;
    }
}

/// A worker of a team: the team and the worker's tags.
type TeamWorker = (Option<String>, Vec<String>);

/// The teams and tags of the running workers that work for one team.
fn team_workers(tx: &mut Tx<'_>) -> Result<Vec<TeamWorker>, StoreError> {
    workers::worker_list(tx)?
        .into_iter()
        .filter(|worker| worker.team.is_some() && worker.state == RUNNING)
        .map(|worker| Ok((worker.team, from_json(&worker.tags)?)))
        .collect()
}

/// Whether a worker with these tags takes a step with those: the worker must have all of the step's, and one that
/// has tags takes no step without.
fn has_tags(worker: &[String], step: &[String]) -> bool {
    step.iter().all(|tag| worker.contains(tag)) && (worker.is_empty() || !step.is_empty())
}

/// How many more checks a worker can have. Workers with tags, or of one team, make checks where there is no other.
fn check_room(tx: &mut Tx<'_>, worker: &WorkerRow) -> Result<i64, StoreError> {
    let is_general = |worker: &WorkerRow| worker.team.is_none() && worker.tags == "[]";
    if !is_general(worker) && workers::worker_list(tx)?.iter().any(|other| other.state == RUNNING && is_general(other))
    {
        return Ok(0);
    }
    Ok((MOST_CHECKS - checks::check_count_of_worker(tx, &worker.name)?).max(0))
}

/// Takes what a worker reports, in order. What is known already changes nothing.
///
/// # Errors
///
/// Those of an old session. Then, and when the store fails, nothing of the report was taken.
pub fn report(tx: &mut Tx<'_>, report: &Report, now: Timestamp) -> Result<ReportAnswer, Error> {
    let worker = session(tx, &report.name, &report.session)?;
    if worker.seen_at + SEEN_EVERY <= now || worker.state != RUNNING {
        seen(tx, &worker, now)?;
    }
    let mut refused = BTreeSet::new();
    for fact in &report.facts {
        match fact {
            Fact::Checked { check, result, metadata, .. } => {
                let result = match result {
                    Ok(versions) => Ok(found(versions, metadata)),
                    Err(message) => Err(message.clone()),
                };
                checks::check_finish(tx, check, result, now)?;
                // There is room for another check.
                tx.signal(Signal::Workers);
            }
            Fact::Started { attempt, fence, .. }
            | Fact::Output { attempt, fence, .. }
            | Fact::Finished { attempt, fence, .. } => {
                let known = attempts::attempt_get(tx, attempt)?.filter(|row| is_of(row, &worker.name, *fence));
                let Some(row) = known else {
                    refused.insert(attempt.clone());
                    continue;
                };
                if !attempt_fact(tx, &row, fact, now)? {
                    refused.insert(attempt.clone());
                }
            }
        }
    }
    Ok(ReportAnswer { refused: refused.into_iter().collect(), later: Vec::new() })
}

/// The same, where what cannot be taken of one attempt or check does not keep the rest from being taken.
///
/// # Errors
///
/// Those of [`report`]. Then some of it may have been taken, and the worker reports it again.
pub(crate) async fn report_each(store: &Store, report: Report) -> Result<ReportAnswer, Error> {
    let report = Arc::new(report);
    let whole = Arc::clone(&report);
    match store.write(move |tx| self::report(tx, &whole, now())).await {
        Err(Error::Store(error)) if error.is_confined() => {}
        other => return other,
    }
    let mut parts: BTreeMap<&str, Vec<Fact>> = BTreeMap::new();
    for fact in &report.facts {
        parts.entry(fact.subject()).or_default().push(fact.clone());
    }
    let mut answer = ReportAnswer::default();
    for (subject, facts) in parts {
        let part = Report { name: report.name.clone(), session: report.session.clone(), facts };
        match store.write(move |tx| self::report(tx, &part, now())).await {
            Ok(taken) => answer.refused.extend(taken.refused),
            Err(Error::Store(error)) if error.is_confined() => {
                let id = subject.to_owned();
                let attempt = store.read(move |tx| attempts::attempt_get(tx, &id)).await.ok().flatten();
                let build = attempt.map(|attempt| attempt.build.0);
                let worker = &report.name;
                tracing::error!(%worker, subject, build, "what a worker reports cannot be taken, and is set aside: {error}");
                answer.later.push(subject.to_owned());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}

/// Takes a fact about an attempt; `false` where nobody wants to hear of it any more.
fn attempt_fact(tx: &mut Tx<'_>, attempt: &AttemptRow, fact: &Fact, now: Timestamp) -> Result<bool, StoreError> {
    let has_ended = attempt.state == "finished";
    match fact {
        Fact::Started { .. } | Fact::Output { .. } if has_ended => return Ok(false),
        Fact::Started { at, .. } => track::attempt_started(tx, attempt, believed(*at, now), now)?,
        Fact::Output { offset, at, stream, bytes, .. } => {
            track::attempt_output(tx, attempt, *offset, believed(*at, now), *stream, bytes)?;
        }
        Fact::Finished { at, ending, .. } => {
            track::attempt_ended(tx, attempt, ending, believed(*at, now), now)?;
            // There is room for another step.
            tx.signal(Signal::Workers);
        }
        Fact::Checked { .. } => {}
    }
    Ok(true)
}

/// When something happened, as it is shown: by the worker's clock, as far as that is believed. Nothing happens in the
/// future. Nothing is decided by it.
fn believed(at: i64, now: Timestamp) -> Timestamp {
    Timestamp(at.clamp(0, now.0))
}

fn found(
    versions: &[BTreeMap<String, String>],
    metadata: &[Vec<holdall_protocol::worker::MetadataField>],
) -> Vec<NewVersion> {
    versions
        .iter()
        .enumerate()
        .map(|(index, version)| NewVersion {
            version: Version(version.clone()),
            metadata: metadata
                .get(index)
                .into_iter()
                .flatten()
                .map(|field| (field.name.clone(), field.value.clone()))
                .collect(),
        })
        .collect()
}

/// What workers were told to remove and have not yet asked again after: only then it counts as told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    removals: Mutex<HashMap<String, Removals>>,
}

#[derive(Debug, Clone)]
struct Removals {
    session: String,
    attempts: Vec<String>,
    builds: Vec<i64>,
}

impl Told {
    /// Remembers what a worker is told.
    pub(crate) fn tell(&self, poll: &Poll, orders: &Orders) {
        if orders.forget.is_empty() && orders.forget_builds.is_empty() {
            return;
        }
        let removals = Removals {
            session: poll.session.clone(),
            attempts: orders.forget.clone(),
            builds: orders.forget_builds.clone(),
        };
        self.removals().insert(poll.name.clone(), removals);
    }

    /// A worker asks again: the last answer has arrived.
    pub(crate) async fn heard(&self, store: &Store, poll: &Poll) -> Result<(), StoreError> {
        let told = self.removals().remove(&poll.name);
        let Some(told) = told.filter(|told| told.session == poll.session) else { return Ok(()) };
        store
            .write(move |tx| {
                for attempt in &told.attempts {
                    attempts::attempt_forgotten(tx, attempt)?;
                }
                for build in &told.builds {
                    attempts::build_forgotten(tx, BuildId(*build))?;
                }
                Ok(())
            })
            .await
    }

    fn removals(&self) -> MutexGuard<'_, HashMap<String, Removals>> {
        self.removals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_say_which_steps_a_worker_takes() {
        let tags = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>();
        for (worker, step, takes) in [
            (&[][..], &[][..], true),
            (&[], &["a"], false),
            (&["a"], &[], false),
            (&["a"], &["a"], true),
            (&["a", "b"], &["a"], true),
            (&["a"], &["a", "b"], false),
        ] {
            assert_eq!(has_tags(&tags(worker), &tags(step)), takes, "{worker:?} {step:?}");
        }
    }

    #[test]
    fn a_worker_whose_clock_is_ahead_reports_nothing_of_the_future() {
        assert_eq!(believed(5, Timestamp(10)), Timestamp(5));
        assert_eq!(believed(15, Timestamp(10)), Timestamp(10));
        assert_eq!(believed(-1, Timestamp(10)), Timestamp(0));
    }
}
