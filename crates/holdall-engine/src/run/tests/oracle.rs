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

/// How a node ended.
#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    With(Outcome),
    /// The time of a `timeout` around it was over, which what is inside that one takes for an error.
    OutOfTime,
    /// Nobody knows.
    Lost,
}

const OK: How = How::With(Outcome::Succeeded);

struct End {
    at: i64,
    how: How,
    steps: BTreeMap<PlanId, Trace>,
}

/// What becomes of a plan.
pub fn foretell(plan: &Plan, world: &World) -> History {
    let limit = world.abort_at.map(|at| (at, CancelReason::Abort));
    let end = node(plan, 0, limit, world);
    let status = match end.how {
        How::With(Outcome::Succeeded) => BuildStatus::Succeeded,
        How::With(Outcome::Failed) | How::OutOfTime => BuildStatus::Failed,
        How::With(Outcome::Errored) | How::Lost => BuildStatus::Errored,
        How::With(Outcome::Aborted) => BuildStatus::Aborted,
    };
    History { steps: end.steps, status, ended: end.at }
}

fn over(limit: Limit, at: i64) -> Option<Outcome> {
    limit.filter(|(from, _)| *from <= at).map(|(_, reason)| match reason {
        CancelReason::Abort | CancelReason::FailFast => Outcome::Aborted,
        CancelReason::Timeout => Outcome::Failed,
    })
}

impl End {
    fn is_error(&self) -> bool {
        matches!(self.how, How::With(Outcome::Errored) | How::OutOfTime | How::Lost)
    }

    /// What has several steps below it ends with what it was stopped for, except that what is lost stays so.
    fn stopped_by(mut self, limit: Limit) -> End {
        match limit.filter(|(from, _)| *from <= self.at).map(|(_, reason)| reason) {
            Some(CancelReason::Timeout) if self.how != How::Lost => self.how = How::OutOfTime,
            Some(CancelReason::FailFast) if self.how != How::Lost => self.how = How::With(Outcome::Aborted),
            Some(CancelReason::Abort) => self.how = How::With(Outcome::Aborted),
            _ => {}
        }
        self
    }
}

fn earlier(a: Limit, b: Limit) -> Limit {
    [a, b].into_iter().flatten().min_by_key(|(at, _)| *at)
}

fn node(plan: &Plan, at: i64, limit: Limit, world: &World) -> End {
    if let Some(outcome) = over(limit, at) {
        let nothing = End { at, how: How::With(outcome), steps: BTreeMap::new() };
        let several = matches!(plan.kind, PlanKind::Retry(_) | PlanKind::InParallel { .. } | PlanKind::Ensure { .. });
        return if several { nothing.stopped_by(limit) } else { nothing };
    }
    match &plan.kind {
        PlanKind::Get(get) => match &get.version {
            VersionSource::From(put) if !world.behaviours[put].gives_version => {
                End { at, how: How::With(Outcome::Errored), steps: BTreeMap::new() }
            }
            VersionSource::From(_) | VersionSource::Fixed(_) => step(plan, at, limit, world),
        },
        PlanKind::Put(_) | PlanKind::Task(_) | PlanKind::Release(_) | PlanKind::Files(_) => {
            step(plan, at, limit, world)
        }
        PlanKind::Do(steps) => {
            let mut all = End { at, how: OK, steps: BTreeMap::new() };
            for step in steps {
                if all.how == OK {
                    all = then(all, |at| node(step, at, limit, world));
                }
            }
            all
        }
        PlanKind::Retry(attempts) => {
            let mut all = End { at, how: How::With(Outcome::Failed), steps: BTreeMap::new() };
            for attempt in attempts {
                all = then(all, |at| node(attempt, at, limit, world));
                if over(limit, all.at).is_some() || all.how == OK || all.how == How::Lost {
                    break;
                }
            }
            all.stopped_by(limit)
        }
        PlanKind::Try(step) => {
            let mut end = node(step, at, limit, world);
            if end.how != How::With(Outcome::Aborted) && end.how != How::Lost {
                end.how = OK;
            }
            end
        }
        PlanKind::Timeout { step, span } => {
            let limit = earlier(limit, Some((at + span.0, CancelReason::Timeout)));
            let mut end = node(step, at, limit, world);
            if end.how == How::OutOfTime {
                end.how = How::With(Outcome::Failed);
            }
            end
        }
        PlanKind::OnSuccess { step, hook } => {
            let end = node(step, at, limit, world);
            if end.how == OK { then(end, |at| node(hook, at, limit, world)) } else { end }
        }
        PlanKind::OnFailure { step, hook } => {
            let end = node(step, at, limit, world);
            if end.how != How::With(Outcome::Failed) {
                return end;
            }
            let mut end = then(end, |at| node(hook, at, limit, world));
            if end.how == OK {
                end.how = How::With(Outcome::Failed);
            }
            end
        }
        PlanKind::OnError { step, hook } => apart(step, hook, End::is_error, at, limit, world),
        PlanKind::OnAbort { step, hook } => {
            apart(step, hook, |end| end.how == How::With(Outcome::Aborted), at, limit, world)
        }
        PlanKind::Ensure { step, hook } => {
            let end = node(step, at, limit, world);
            let first = end.how;
            let free = if over(limit, end.at).is_some() { None } else { limit };
            let end = then(end, |at| node(hook, at, free, world));
            End { how: worst([first, end.how]), ..end }.stopped_by(limit)
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
    let mut how = if behaviour.lost { How::Lost } else { How::With(behaviour.outcome) };
    if let Some((from, reason)) = limit.filter(|(from, _)| *from < trace.ended) {
        trace.cancelled = Some((from, reason));
        if from + behaviour.stop_takes < trace.ended {
            trace.ended = from + behaviour.stop_takes;
            how = How::With(over(limit, trace.ended).expect("it is over"));
        }
    }
    End { at: trace.ended, how, steps: BTreeMap::from([(plan.id.clone(), trace)]) }
}

/// What comes next, with the traces of both.
fn then(mut first: End, next: impl FnOnce(i64) -> End) -> End {
    let next = next(first.at);
    first.steps.extend(next.steps);
    End { steps: first.steps, ..next }
}

/// A hook that nothing stops, and that changes nothing.
fn apart(step: &Plan, hook: &Plan, on: fn(&End) -> bool, at: i64, limit: Limit, world: &World) -> End {
    let end = node(step, at, limit, world);
    if !on(&end) {
        return end;
    }
    let first = end.how;
    let end = then(end, |at| node(hook, at, None, world));
    // A hook changes nothing, unless nobody knows how it ended.
    End { how: if end.how == How::Lost { end.how } else { first }, ..end }
}

fn worst(ends: impl IntoIterator<Item = How>) -> How {
    let ends: Vec<How> = ends.into_iter().collect();
    let by_weight = [Outcome::Errored, Outcome::Failed, Outcome::Aborted].map(How::With);
    let by_weight = [How::Lost, How::OutOfTime].into_iter().chain(by_weight);
    by_weight.into_iter().find(|how| ends.contains(how)).unwrap_or(OK)
}

fn in_parallel(steps: &[Plan], slots: usize, fail_fast: bool, at: i64, limit: Limit, world: &World) -> End {
    let mut ends = side_by_side(steps, slots, &[], at, limit, world);
    let first_bad = ends.iter().filter(|end| end.how != OK).map(|end| end.at).min();
    if let Some(stop) = first_bad.filter(|_| fail_fast) {
        let limit = earlier(limit, Some((stop, CancelReason::FailFast)));
        // What had ended by then is as it was.
        ends = side_by_side(steps, slots, &ends, at, limit, world);
    }
    let last = ends.iter().map(|end| end.at).max().unwrap_or(at);
    let how = worst(ends.iter().map(|end| end.how));
    let steps = ends.into_iter().flat_map(|end| end.steps).collect();
    End { at: last, how, steps }.stopped_by(limit)
}

/// The ends of the steps that are started, each as soon as one of the slots is free. Those of `known` that ended
/// before everything is over are taken from there.
fn side_by_side(steps: &[Plan], slots: usize, known: &[End], at: i64, limit: Limit, world: &World) -> Vec<End> {
    let mut free = vec![at; slots];
    let mut ends = Vec::new();
    for (nth, step) in steps.iter().enumerate() {
        let slot = (0..free.len()).min_by_key(|slot| free[*slot]).expect("there is a slot");
        let end = match (known.get(nth), limit) {
            (Some(end), Some((over, _))) if end.at <= over => End { steps: end.steps.clone(), ..*end },
            _ if over(limit, free[slot]).is_some() => break,
            // After what is lost nothing new is begun.
            _ if ends.iter().any(|end: &End| end.how == How::Lost && end.at <= free[slot]) => break,
            _ => node(step, free[slot], limit, world),
        };
        free[slot] = end.at;
        ends.push(end);
    }
    ends
}
