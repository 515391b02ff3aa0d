//! The deliberately naive oracle: what becomes of a plan, by recursion over it, with times instead of events.
//!
//! It knows beforehand what the walk can only learn: when each step would end, when the abort comes, when a time is
//! over. So there are no states here. Only `fail_fast` needs a second look: first as if there were none, then with
//! what it stops.

use std::collections::BTreeMap;

use super::world::{History, Trace, World};
use crate::plan::{Plan, PlanId, PlanKind, VersionSource};
use crate::run::CancelReason;
use crate::status::{BuildStatus, Outcome};

/// From when on nothing may run, and why.
type Limit = Option<(i64, CancelReason)>;

struct End {
    at: i64,
    outcome: Outcome,
    steps: BTreeMap<PlanId, Trace>,
}

/// What becomes of a plan.
pub fn foretell(plan: &Plan, world: &World) -> History {
    let limit = world.abort_at.map(|at| (at, CancelReason::Abort));
    let end = node(plan, 0, limit, world);
    let status = match end.outcome {
        Outcome::Succeeded => BuildStatus::Succeeded,
        Outcome::Failed => BuildStatus::Failed,
        Outcome::Errored => BuildStatus::Errored,
        Outcome::Aborted => BuildStatus::Aborted,
    };
    History { steps: end.steps, status, ended: end.at }
}

fn over(limit: Limit, at: i64) -> Option<Outcome> {
    limit.filter(|(from, _)| *from <= at).map(|(_, reason)| match reason {
        CancelReason::Abort | CancelReason::FailFast => Outcome::Aborted,
        CancelReason::Timeout => Outcome::Failed,
    })
}

fn earlier(a: Limit, b: Limit) -> Limit {
    [a, b].into_iter().flatten().min_by_key(|(at, _)| *at)
}

fn node(plan: &Plan, at: i64, limit: Limit, world: &World) -> End {
    if let Some(outcome) = over(limit, at) {
        return End { at, outcome, steps: BTreeMap::new() };
    }
    match &plan.kind {
        PlanKind::Get(get) => match &get.version {
            VersionSource::From(put) if !world.behaviours[put].gives_version => {
                End { at, outcome: Outcome::Errored, steps: BTreeMap::new() }
            }
            VersionSource::From(_) | VersionSource::Fixed(_) => step(plan, at, limit, world),
        },
        PlanKind::Put(_) | PlanKind::Task(_) | PlanKind::Release(_) | PlanKind::Files(_) => {
            step(plan, at, limit, world)
        }
        PlanKind::Do(steps) => {
            let mut all = End { at, outcome: Outcome::Succeeded, steps: BTreeMap::new() };
            for step in steps {
                if all.outcome == Outcome::Succeeded {
                    all = then(all, |at| node(step, at, limit, world));
                }
            }
            all
        }
        PlanKind::Retry(attempts) => {
            let mut all = End { at, outcome: Outcome::Failed, steps: BTreeMap::new() };
            for attempt in attempts {
                all = then(all, |at| node(attempt, at, limit, world));
                if let Some(outcome) = over(limit, all.at) {
                    all.outcome = outcome;
                    break;
                }
                if all.outcome == Outcome::Succeeded {
                    break;
                }
            }
            all
        }
        PlanKind::Try(step) => {
            let mut end = node(step, at, limit, world);
            if end.outcome != Outcome::Aborted {
                end.outcome = Outcome::Succeeded;
            }
            end
        }
        PlanKind::Timeout { step, span } => {
            node(step, at, earlier(limit, Some((at + span.0, CancelReason::Timeout))), world)
        }
        PlanKind::OnSuccess { step, hook } => {
            let end = node(step, at, limit, world);
            if end.outcome == Outcome::Succeeded { then(end, |at| node(hook, at, limit, world)) } else { end }
        }
        PlanKind::OnFailure { step, hook } => {
            let end = node(step, at, limit, world);
            if end.outcome != Outcome::Failed {
                return end;
            }
            let mut end = then(end, |at| node(hook, at, limit, world));
            if end.outcome == Outcome::Succeeded {
                end.outcome = Outcome::Failed;
            }
            end
        }
        PlanKind::OnError { step, hook } => apart(step, hook, Outcome::Errored, at, limit, world),
        PlanKind::OnAbort { step, hook } => apart(step, hook, Outcome::Aborted, at, limit, world),
        PlanKind::Ensure { step, hook } => {
            let end = node(step, at, limit, world);
            let first = end.outcome;
            let free = if over(limit, end.at).is_some() { None } else { limit };
            let mut end = then(end, |at| node(hook, at, free, world));
            end.outcome = over(limit, end.at).unwrap_or(worst([first, end.outcome]));
            end
        }
        PlanKind::InParallel { steps, limit: slots, fail_fast } => {
            let slots = if *slots == 0 { steps.len() } else { *slots as usize };
            in_parallel(steps, slots, *fail_fast, at, limit, world)
        }
    }
}

/// A step that is started.
fn step(plan: &Plan, at: i64, limit: Limit, world: &World) -> End {
    let behaviour = world.behaviours[&plan.id];
    let mut trace = Trace { started: at, cancelled: None, ended: at + behaviour.takes };
    let mut outcome = behaviour.outcome;
    if let Some((from, reason)) = limit.filter(|(from, _)| *from < trace.ended) {
        trace.cancelled = Some((from, reason));
        if from + behaviour.stop_takes < trace.ended {
            trace.ended = from + behaviour.stop_takes;
            outcome = over(limit, trace.ended).expect("it is over");
        }
    }
    End { at: trace.ended, outcome, steps: BTreeMap::from([(plan.id.clone(), trace)]) }
}

/// What comes next, with the traces of both.
fn then(mut first: End, next: impl FnOnce(i64) -> End) -> End {
    let next = next(first.at);
    first.steps.extend(next.steps);
    End { at: next.at, outcome: next.outcome, steps: first.steps }
}

/// A hook that nothing stops, and that changes nothing.
fn apart(step: &Plan, hook: &Plan, on: Outcome, at: i64, limit: Limit, world: &World) -> End {
    let end = node(step, at, limit, world);
    if end.outcome != on {
        return end;
    }
    End { outcome: on, ..then(end, |at| node(hook, at, None, world)) }
}

fn worst(outcomes: impl IntoIterator<Item = Outcome>) -> Outcome {
    let outcomes: Vec<Outcome> = outcomes.into_iter().collect();
    let by_weight = [Outcome::Errored, Outcome::Failed, Outcome::Aborted];
    by_weight.into_iter().find(|outcome| outcomes.contains(outcome)).unwrap_or(Outcome::Succeeded)
}

fn in_parallel(steps: &[Plan], slots: usize, fail_fast: bool, at: i64, limit: Limit, world: &World) -> End {
    let mut ends = side_by_side(steps, slots, &[], at, limit, world);
    let first_bad = ends.iter().filter(|end| end.outcome != Outcome::Succeeded).map(|end| end.at).min();
    if let Some(stop) = first_bad.filter(|_| fail_fast) {
        let limit = earlier(limit, Some((stop, CancelReason::FailFast)));
        // What had ended by then is as it was.
        ends = side_by_side(steps, slots, &ends, at, limit, world);
    }
    let last = ends.iter().map(|end| end.at).max().unwrap_or(at);
    let outcome = over(limit, last).unwrap_or_else(|| worst(ends.iter().map(|end| end.outcome)));
    End { at: last, outcome, steps: ends.into_iter().flat_map(|end| end.steps).collect() }
}

/// The ends of the steps that are started, each as soon as one of the slots is free. Those of `known` that ended
/// before everything is over are taken from there.
fn side_by_side(steps: &[Plan], slots: usize, known: &[End], at: i64, limit: Limit, world: &World) -> Vec<End> {
    let mut free = vec![at; slots];
    let mut ends = Vec::new();
    for (nth, step) in steps.iter().enumerate() {
        let slot = (0..free.len()).min_by_key(|slot| free[*slot]).expect("there is a slot");
        let end = match (known.get(nth), limit) {
            (Some(end), Some((over, _))) if end.at <= over => {
                End { at: end.at, outcome: end.outcome, steps: end.steps.clone() }
            }
            _ if over(limit, free[slot]).is_some() => break,
            _ => node(step, free[slot], limit, world),
        };
        free[slot] = end.at;
        ends.push(end);
    }
    ends
}
