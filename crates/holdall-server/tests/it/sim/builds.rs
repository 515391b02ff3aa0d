//! What must hold of each build by itself: its journal, what is left of it when it has ended, its hooks and its limits.

use std::collections::{BTreeMap, BTreeSet};

use holdall_engine::ids::BuildId;
use holdall_engine::plan::{Plan, PlanKind};
use holdall_engine::run::RunEvent;
use holdall_engine::status::{BuildStatus, Outcome};
use holdall_store::builds::{self, BuildRow};
use holdall_store::{StoreError, Tx, events};

use super::picture::Picture;
use super::rules::{Broken, name_of};

/// What is remembered from look to look.
#[derive(Default)]
pub struct Builds {
    /// How many rows of each build's journal were looked at.
    journals: BTreeMap<BuildId, i64>,
    /// The journals of those that have ended, as they were then.
    ended: BTreeMap<BuildId, Sums>,
    looks: u32,
}

/// Rows, the highest place, and characters.
type Sums = (i64, i64, i64);

/// All journals take their time, so they are not looked at each time.
const ALL_EVERY: u32 = 16;

impl Builds {
    /// Looks at what every build has become since `before`.
    pub fn look(&mut self, tx: &mut Tx<'_>, before: &Picture, now: &Picture) -> Result<Result<(), Broken>, StoreError> {
        for build in now.builds.values() {
            if before.builds.get(&build.id).is_some_and(|before| before.status.is_terminal()) {
                continue;
            }
            let mut kept = self.journal(tx, build)?;
            if kept.is_ok() && build.status.is_terminal() {
                kept = hooks(tx, build)?;
                self.ended.extend(sums(tx, Some(build.id))?);
            }
            if kept.is_err() {
                return Ok(kept);
            }
        }
        self.looks += 1;
        if self.looks.is_multiple_of(ALL_EVERY)
            && let Err(broken) = self.journals_of_ended(tx)?
        {
            return Ok(Err(broken));
        }
        nothing_is_left(tx, now)
    }

    /// Journals have no gaps, and end with the build.
    fn journal(&mut self, tx: &mut Tx<'_>, build: &BuildRow) -> Result<Result<(), Broken>, StoreError> {
        let next = self.journals.entry(build.id).or_insert(0);
        let name = name_of(build);
        let mut ended = false;
        for row in events::event_list(tx, build.id, *next, 100_000)? {
            if row.seq != *next {
                return Ok(Err(format!("the journal of {name} has a gap: {} comes after {}", row.seq, *next - 1)));
            }
            if ended {
                return Ok(Err(format!("the journal of {name} goes on after its end: {} {:?}", row.kind, row.payload)));
            }
            *next += 1;
            let status = row.payload.as_deref().filter(|_| row.kind == "status").unwrap_or("");
            ended = ["succeeded", "failed", "errored", "aborted"]
                .iter()
                .any(|status_name| status.contains(&format!("\"status\":\"{status_name}\"")));
        }
        if build.status.is_terminal() && !ended {
            return Ok(Err(format!("the journal of {name} does not end with its end")));
        }
        Ok(Ok(()))
    }

    /// The journal of a build that has ended stays as it is.
    pub fn journals_of_ended(&self, tx: &mut Tx<'_>) -> Result<Result<(), Broken>, StoreError> {
        let is: BTreeMap<_, _> = sums(tx, None)?.into_iter().collect();
        let changed = self.ended.iter().find(|(id, was)| is.get(id) != Some(was));
        Ok(changed.map_or(Ok(()), |(id, was)| {
            Err(format!("the journal of build {id} changed after its end: {was:?} became {:?}", is.get(id)))
        }))
    }
}

/// Of the journals of all builds, or of one: rows, the highest place, and characters.
fn sums(tx: &mut Tx<'_>, of: Option<BuildId>) -> Result<Vec<(BuildId, Sums)>, StoreError> {
    let from = "SELECT build_id, COUNT(*), MAX(seq), \
         CAST(SUM(COALESCE(LENGTH(payload), 0) + COALESCE(LENGTH(bytes), 0) + at) AS BIGINT) FROM build_event";
    let rows = match of {
        Some(id) => tx.query(&format!("{from} WHERE build_id = ?1 GROUP BY build_id"), &[id.into()])?,
        None => tx.query(&format!("{from} GROUP BY build_id"), &[])?,
    };
    rows.iter().map(|row| Ok((BuildId(row.get(0)?), (row.get(1)?, row.get(2)?, row.get(3)?)))).collect()
}

/// A build that has ended has no process, no timer, no place in a queue and no lock.
fn nothing_is_left(tx: &mut Tx<'_>, now: &Picture) -> Result<Result<(), Broken>, StoreError> {
    let ended = |id: BuildId| now.builds.get(&id).filter(|build| build.status.is_terminal());
    for (sql, what) in [
        ("SELECT DISTINCT build_id FROM timer", "a timer"),
        ("SELECT DISTINCT build_id FROM attempt WHERE state <> 'finished'", "a step under way"),
    ] {
        for row in tx.query(sql, &[])? {
            if let Some(build) = ended(BuildId(row.get(0)?)) {
                return Ok(Err(format!("{} has ended and has {what}", name_of(build))));
            }
        }
    }
    for lock in now.locks.values() {
        let holding = lock.holdings.iter().filter(|one| one.deployment.is_none()).filter_map(|one| one.build);
        let waiting = lock.queue.iter().filter_map(|one| one.build);
        if let Some(build) = holding.chain(waiting).find_map(ended) {
            return Ok(Err(format!("{} has ended and holds or awaits the lock of {}", name_of(build), lock.name)));
        }
    }
    Ok(Ok(()))
}

/// What a build's journal says of its steps.
#[derive(Debug, Default)]
struct Story {
    /// How each step ended.
    outcomes: BTreeMap<String, Outcome>,
    /// Where each step first and last appears.
    places: BTreeMap<String, (usize, usize)>,
    aborted: Option<usize>,
    timed_out: Option<usize>,
    /// The steps by which a deployment came to be in doubt.
    lost: BTreeSet<String>,
}

impl Story {
    fn read(tx: &mut Tx<'_>, build: BuildId) -> Result<Story, StoreError> {
        let mut story = Story::default();
        for (place, (_, text)) in events::event_list_run(tx, build)?.into_iter().enumerate() {
            let mut appears = |step: &str| story.places.entry(step.to_owned()).or_insert((place, place)).1 = place;
            match serde_json::from_str(&text).expect("a journal is JSON") {
                RunEvent::Start => {}
                RunEvent::StepStarted { step } => appears(step.as_str()),
                RunEvent::StepFinished { step, outcome, .. } => {
                    appears(step.as_str());
                    story.outcomes.insert(step.as_str().to_owned(), outcome);
                }
                RunEvent::StepLost { step } => {
                    appears(step.as_str());
                    story.outcomes.insert(step.as_str().to_owned(), Outcome::Errored);
                    story.lost.insert(step.as_str().to_owned());
                }
                RunEvent::TimerFired { .. } => story.timed_out = story.timed_out.or(Some(place)),
                RunEvent::Abort => story.aborted = story.aborted.or(Some(place)),
            }
        }
        Ok(story)
    }
}

/// The steps below a node.
fn steps(node: &Plan) -> Vec<&str> {
    node.nodes().into_iter().filter(|node| node.is_step()).map(|node| node.id.as_str()).collect()
}

/// A hook runs after all of its step has ended, for the outcome that it is for, and then it does run; and no step runs
/// twice.
fn hooks(tx: &mut Tx<'_>, build: &BuildRow) -> Result<Result<(), Broken>, StoreError> {
    let Some(plan) = builds::build_plan(tx, build.id)? else { return Ok(Ok(())) };
    let plan: Plan = serde_json::from_str(&plan).expect("a plan is JSON");
    let story = Story::read(tx, build.id)?;
    let name = name_of(build);
    let twice = "SELECT step FROM attempt WHERE build_id = ?1 GROUP BY step HAVING COUNT(*) > 1";
    if let Some(row) = tx.query(twice, &[build.id.into()])?.first() {
        let step: String = row.get(0)?;
        return Ok(Err(format!("step {step} of {name} has run twice")));
    }
    // Of a deployment in doubt nothing is tried again by itself.
    for node in plan.nodes() {
        let PlanKind::Retry(attempts) = &node.kind else { continue };
        let mut lost = None;
        for attempt in attempts {
            let begun = steps(attempt).into_iter().find(|id| story.places.contains_key(*id));
            if let (Some(lost), Some(again)) = (lost, begun) {
                return Ok(Err(format!("step {again} of {name} was tried although {lost} was lost before it")));
            }
            lost = lost.or_else(|| steps(attempt).into_iter().find(|id| story.lost.contains(*id)));
        }
    }
    // Those around the whole job come first.
    let mut around = true;
    for node in plan.nodes() {
        let (step, hook, cause) = match &node.kind {
            PlanKind::OnFailure { step, hook } => (step, hook, Some(BuildStatus::Failed)),
            PlanKind::OnError { step, hook } => (step, hook, Some(BuildStatus::Errored)),
            PlanKind::OnAbort { step, hook } => (step, hook, Some(BuildStatus::Aborted)),
            PlanKind::Ensure { step, hook } => (step, hook, None),
            _ => {
                around = false;
                continue;
            }
        };
        let begun = steps(hook).into_iter().filter_map(|id| story.places.get(id)).map(|(first, _)| *first).min();
        let guarded: Vec<&str> = steps(step);
        let last = guarded.iter().filter_map(|id| story.places.get(*id)).map(|(_, last)| *last).max();
        let ended = |wanted| guarded.iter().any(|id| story.outcomes.get(*id) == Some(&wanted));
        let before = |place: Option<usize>| place.is_some_and(|place| begun.is_some_and(|begun| place < begun));
        let is_due = match cause {
            // What ends in a `timeout` that is over has failed: what reports that it was stopped, an `ensure` with anything.
            Some(BuildStatus::Failed) => ended(Outcome::Failed) || before(story.timed_out),
            // And what has several steps below it has errored then.
            Some(BuildStatus::Errored) => ended(Outcome::Errored) || before(story.timed_out),
            Some(BuildStatus::Aborted) => before(story.aborted),
            _ => true,
        };
        if begun.is_some() && last > begun {
            return Ok(Err(format!("hook {} of {name} began before its step had ended", hook.id)));
        }
        if begun.is_some() && !is_due {
            return Ok(Err(format!(
                "hook {} of {name} ran, and what it is for had not happened: {cause:?}, {story:?}",
                hook.id
            )));
        }
        if begun.is_some() && cause.is_some() && build.status == BuildStatus::Succeeded {
            return Ok(Err(format!("hook {} of {name} ran, which has succeeded", hook.id)));
        }
        // A hook of the whole job runs where the job ends as it is for; one of a step that was reached and must end.
        let must = match cause {
            Some(cause) => around && cause == build.status && cause != BuildStatus::Aborted,
            None => last.is_some(),
        };
        if must && begun.is_none() {
            return Ok(Err(format!("hook {} of {name} never ran, which {}", hook.id, build.status.as_str())));
        }
    }
    Ok(Ok(()))
}

/// Everything that must have ended by now has been told to: at rest, no timer is due, and what was in a `timeout` that is
/// over is being stopped.
pub fn limits(tx: &mut Tx<'_>, now: holdall_engine::time::Timestamp) -> Result<Result<(), Broken>, StoreError> {
    if let Some((build, timer)) = events::timer_due(tx, now)?.first() {
        return Ok(Err(format!("the time of step {timer} of build {build} is over, and nothing happens")));
    }
    for build in builds::build_list_open(tx)? {
        let Some(plan) = builds::build_plan(tx, build.id)? else { continue };
        let plan: Plan = serde_json::from_str(&plan).expect("a plan is JSON");
        let mut over = BTreeSet::new();
        for (_, text) in events::event_list_run(tx, build.id)? {
            if let RunEvent::TimerFired { timer } = serde_json::from_str(&text).expect("a journal is JSON") {
                over.insert(timer);
            }
        }
        for id in over {
            let Some(node) = plan.find(&id) else { continue };
            let hooked: BTreeSet<&str> = node.nodes().into_iter().flat_map(in_hooks).collect();
            for attempt in holdall_store::attempts::attempt_list_open(tx, build.id)? {
                let inside = steps(node).contains(&attempt.step.as_str()) && !hooked.contains(attempt.step.as_str());
                if inside && attempt.stop.is_none() {
                    return Ok(Err(format!("{} runs on in {} after its time", attempt.step, name_of(&build))));
                }
            }
        }
    }
    Ok(Ok(()))
}

/// The steps of the hook that a node has.
fn in_hooks(node: &Plan) -> Vec<&str> {
    match &node.kind {
        PlanKind::OnSuccess { hook, .. }
        | PlanKind::OnFailure { hook, .. }
        | PlanKind::OnError { hook, .. }
        | PlanKind::OnAbort { hook, .. }
        | PlanKind::Ensure { hook, .. } => steps(hook),
        _ => Vec::new(),
    }
}
