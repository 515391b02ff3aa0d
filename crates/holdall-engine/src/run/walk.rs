//! The walk itself: starts nodes, takes their ends, and passes outcomes up the tree.

use crate::plan::{PlanId, VersionSource};
use crate::run::tree::{Hook, Kind};
use crate::run::{CancelReason, Effect, Phase, Run};
use crate::status::{BuildStatus, Outcome};
use crate::time::Timestamp;
use crate::version::Version;

/// What a node runs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Context {
    /// The one around it: it is done when that one is.
    parent: Option<usize>,
    /// Why it is done, if it is; the first reason stays.
    pub done: Option<CancelReason>,
}

impl Context {
    pub fn new(parent: Option<usize>) -> Context {
        Context { parent, done: None }
    }
}

/// How far a node is. `context` is where it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Not started.
    Waiting,
    /// A step that was started.
    Step { context: usize, running: bool, cancelled: Option<CancelReason> },
    /// A `do` or a `retry`; `next` is the child to start next.
    Sequence { context: usize, next: usize },
    /// An `in_parallel`; its children run in `inner`, `open` of them now.
    Parallel { context: usize, inner: usize, next: usize, open: usize, worst: End },
    /// A `try`.
    Try { context: usize },
    /// A `timeout`; its step runs in `inner`.
    Timed { inner: usize, timer: Option<Timestamp> },
    /// A node with a hook; `step` is how its step ended, once the hook runs.
    Hooked { context: usize, step: Option<End> },
    /// Ended.
    Ended(End),
}

/// How a node ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// With an outcome.
    With(Outcome),
    /// The time of a `timeout` around it was over. What has several steps below it ends so rather than failed: up to that
    /// `timeout`, which fails, it is an error (reference, 1.9).
    OutOfTime,
    /// Nobody knows how a step below it ended. Nothing is tried again.
    Lost,
}

impl End {
    const SUCCEEDED: End = End::With(Outcome::Succeeded);

    /// Its outcome, as a build and a step have one.
    pub fn outcome(self) -> Outcome {
        match self {
            End::With(outcome) => outcome,
            End::OutOfTime => Outcome::Failed,
            End::Lost => Outcome::Errored,
        }
    }

    /// Whether it is an error for what is around it.
    fn is_error(self) -> bool {
        matches!(self, End::OutOfTime | End::Lost | End::With(Outcome::Errored))
    }
}

/// One event being dealt with.
pub(super) struct Turn {
    now: Timestamp,
    pub effects: Vec<Effect>,
}

impl Turn {
    pub fn new(now: Timestamp) -> Turn {
        Turn { now, effects: Vec::new() }
    }
}

/// The outcome of what ends, or is not started, in a context that is done.
fn outcome_of(reason: CancelReason) -> Outcome {
    match reason {
        CancelReason::Abort | CancelReason::FailFast => Outcome::Aborted,
        CancelReason::Timeout => Outcome::Failed,
    }
}

/// The end of what has several steps below it and whose context is done.
fn end_of(reason: CancelReason) -> End {
    match reason {
        CancelReason::Abort | CancelReason::FailFast => End::With(outcome_of(reason)),
        CancelReason::Timeout => End::OutOfTime,
    }
}

/// The worse of two ends of things that both count: lost, out of time, errored, failed, aborted, succeeded.
fn worse(a: End, b: End) -> End {
    let rank = |end| match end {
        End::With(Outcome::Succeeded) => 0,
        End::With(Outcome::Aborted) => 1,
        End::With(Outcome::Failed) => 2,
        End::With(Outcome::Errored) => 3,
        End::OutOfTime => 4,
        End::Lost => 5,
    };
    if rank(a) >= rank(b) { a } else { b }
}

/// The context of the build as a whole.
const BUILD: usize = 0;

impl Run {
    /// Starts the build.
    pub(super) fn begin(&mut self, turn: &mut Turn) {
        if self.phase != Phase::NotStarted {
            return;
        }
        self.phase = Phase::Walking;
        if let Some(end) = self.start(0, BUILD, turn) {
            self.finish(end.outcome(), turn);
        }
    }

    /// Notes that a step's process runs.
    pub(super) fn step_started(&mut self, step: &PlanId) {
        let Some(node) = self.node(step) else { return };
        if let State::Step { running, .. } = &mut self.states[node] {
            *running = true;
        }
    }

    /// Takes it that a step has ended with an outcome.
    pub(super) fn step_finished(
        &mut self,
        step: &PlanId,
        reported: Outcome,
        version: Option<Version>,
        turn: &mut Turn,
    ) {
        let Some(node) = self.node(step) else { return };
        let State::Step { context, .. } = self.states[node] else { return };
        let outcome = match (reported, self.contexts[context].done) {
            (Outcome::Aborted, Some(reason)) => outcome_of(reason),
            // It was stopped and nobody wanted that.
            (Outcome::Aborted, None) => Outcome::Errored,
            (Outcome::Succeeded | Outcome::Failed | Outcome::Errored, _) => reported,
        };
        if let (Outcome::Succeeded, Some(version)) = (outcome, version) {
            self.versions.insert(step.clone(), version);
        }
        self.ended(node, End::With(outcome), turn);
    }

    /// Takes it that nobody knows how a step ended.
    pub(super) fn step_lost(&mut self, step: &PlanId, turn: &mut Turn) {
        let Some(node) = self.node(step) else { return };
        if let State::Step { .. } = self.states[node] {
            self.ended(node, End::Lost, turn);
        }
    }

    /// Takes the end of a step, and goes on from there.
    fn ended(&mut self, mut node: usize, mut end: End, turn: &mut Turn) {
        self.states[node] = State::Ended(end);
        while let Some((parent, _)) = self.nodes[node].parent {
            match self.advance(parent, Some(end), turn) {
                None => return,
                Some(its) => end = its,
            }
            node = parent;
        }
        self.finish(end.outcome(), turn);
    }

    /// Takes a timer.
    pub(super) fn timer_fired(&mut self, timer: &PlanId, turn: &mut Turn) {
        let Some(node) = self.node(timer) else { return };
        if let State::Timed { inner, timer: timer @ Some(_), .. } = &mut self.states[node] {
            *timer = None;
            let inner = *inner;
            self.cancel(inner, CancelReason::Timeout, turn);
        }
    }

    /// Aborts the build.
    pub(super) fn abort(&mut self, turn: &mut Turn) {
        match self.phase {
            Phase::NotStarted => self.finish(Outcome::Aborted, turn),
            Phase::Walking => self.cancel(BUILD, CancelReason::Abort, turn),
            Phase::Finished(_) => {}
        }
    }

    fn finish(&mut self, outcome: Outcome, turn: &mut Turn) {
        let status = match outcome {
            Outcome::Succeeded => BuildStatus::Succeeded,
            Outcome::Failed => BuildStatus::Failed,
            Outcome::Errored => BuildStatus::Errored,
            Outcome::Aborted => BuildStatus::Aborted,
        };
        self.phase = Phase::Finished(status);
        turn.effects.push(Effect::Finish { status });
    }

    /// Makes a context done, with all inside it: cancels the steps and clears the timers there.
    fn cancel(&mut self, context: usize, reason: CancelReason, turn: &mut Turn) {
        if self.contexts[context].done.is_some() {
            return;
        }
        self.contexts[context].done = Some(reason);
        // A context comes after the one around it.
        for inside in context + 1..self.contexts.len() {
            let around = self.contexts[inside].parent.and_then(|parent| self.contexts[parent].done);
            let inside = &mut self.contexts[inside];
            inside.done = inside.done.or(around);
        }
        for (node, state) in self.nodes.iter().zip(&mut self.states) {
            match state {
                State::Step { context, cancelled: cancelled @ None, .. } => {
                    let Some(reason) = self.contexts[*context].done else { continue };
                    *cancelled = Some(reason);
                    turn.effects.push(Effect::CancelStep { step: node.id.clone(), reason });
                }
                // It has nothing left to stop.
                State::Timed { inner, timer: timer @ Some(_) } if self.contexts[*inner].done.is_some() => {
                    *timer = None;
                    turn.effects.push(Effect::ClearTimer { timer: node.id.clone() });
                }
                State::Waiting
                | State::Step { .. }
                | State::Sequence { .. }
                | State::Parallel { .. }
                | State::Try { .. }
                | State::Timed { .. }
                | State::Hooked { .. }
                | State::Ended(_) => {}
            }
        }
    }

    /// A new context.
    fn context(&mut self, parent: Option<usize>) -> usize {
        self.contexts.push(Context::new(parent));
        self.contexts.len() - 1
    }

    /// The version that a get fetches, if it is known.
    pub(super) fn version(&self, source: &VersionSource) -> Option<Version> {
        match source {
            VersionSource::Fixed(version) => Some(version.clone()),
            VersionSource::From(put) => self.versions.get(put).cloned(),
        }
    }

    /// Starts a node. Gives how it ended if it ends at once.
    fn start(&mut self, node: usize, context: usize, turn: &mut Turn) -> Option<End> {
        if let Some(reason) = self.contexts[context].done {
            return Some(match self.nodes[node].kind {
                Kind::Retry | Kind::InParallel { .. } | Kind::Hook(Hook::Ensure) => end_of(reason),
                _ => End::With(outcome_of(reason)),
            });
        }
        self.states[node] = match &self.nodes[node].kind {
            Kind::Step { version } => {
                // A put that gave no version: there is nothing to get (reference, section 2.4).
                if version.as_ref().is_some_and(|source| self.version(source).is_none()) {
                    let end = End::With(Outcome::Errored);
                    self.states[node] = State::Ended(end);
                    return Some(end);
                }
                turn.effects.push(self.start_effect(&self.nodes[node]));
                self.states[node] = State::Step { context, running: false, cancelled: None };
                return None;
            }
            Kind::Do | Kind::Retry => State::Sequence { context, next: 0 },
            Kind::Try => State::Try { context },
            Kind::Hook(_) => State::Hooked { context, step: None },
            Kind::InParallel { .. } => {
                let inner = self.context(Some(context));
                State::Parallel { context, inner, next: 0, open: 0, worst: End::SUCCEEDED }
            }
            Kind::Timeout { span } => {
                let at = turn.now + *span;
                turn.effects.push(Effect::SetTimer { timer: self.nodes[node].id.clone(), at });
                let inner = self.context(Some(context));
                State::Timed { inner, timer: Some(at) }
            }
        };
        self.advance(node, None, turn)
    }

    /// Goes on with a node that was just started, or one of whose children just ended. Gives how it ended if it does.
    fn advance(&mut self, node: usize, ended: Option<End>, turn: &mut Turn) -> Option<End> {
        let end = match self.states[node] {
            State::Sequence { context, .. } if self.nodes[node].kind == Kind::Retry => {
                self.advance_retry(node, context, ended, turn)
            }
            State::Sequence { context, .. } => self.advance_do(node, context, ended, turn),
            State::Parallel { .. } => self.advance_parallel(node, ended, turn),
            State::Try { context } => {
                let step = self.nodes[node].children[0];
                ended.or_else(|| self.start(step, context, turn)).map(|end| match end {
                    End::With(Outcome::Aborted) | End::Lost => end,
                    End::With(_) | End::OutOfTime => End::SUCCEEDED,
                })
            }
            State::Timed { inner, .. } => {
                let step = self.nodes[node].children[0];
                let end = ended.or_else(|| self.start(step, inner, turn));
                if let (Some(_), State::Timed { timer: Some(_), .. }) = (end, self.states[node]) {
                    turn.effects.push(Effect::ClearTimer { timer: self.nodes[node].id.clone() });
                }
                end.map(|end| if end == End::OutOfTime { End::With(end.outcome()) } else { end })
            }
            State::Hooked { context, step } => self.advance_hook(node, context, step, ended, turn),
            State::Waiting | State::Step { .. } | State::Ended(_) => None,
        };
        if let Some(end) = end {
            self.states[node] = State::Ended(end);
        }
        end
    }

    /// Starts the next child of a `do` or a `retry`. `None`: there is none left.
    fn start_next(&mut self, node: usize, context: usize, turn: &mut Turn) -> Option<Option<End>> {
        let State::Sequence { next, .. } = &mut self.states[node] else { return None };
        let child = *self.nodes[node].children.get(*next)?;
        *next += 1;
        Some(self.start(child, context, turn))
    }

    fn advance_do(&mut self, node: usize, context: usize, ended: Option<End>, turn: &mut Turn) -> Option<End> {
        let mut last = ended.unwrap_or(End::SUCCEEDED);
        while last == End::SUCCEEDED {
            match self.start_next(node, context, turn) {
                None => break,
                Some(end) => last = end?,
            }
        }
        Some(last)
    }

    fn advance_retry(&mut self, node: usize, context: usize, mut ended: Option<End>, turn: &mut Turn) -> Option<End> {
        loop {
            if let Some(ended) = ended
                && (ended == End::SUCCEEDED || ended == End::Lost || self.contexts[context].done.is_some())
            {
                return Some(self.end_in(context, ended));
            }
            match self.start_next(node, context, turn) {
                None => return Some(ended.unwrap_or(End::SUCCEEDED)),
                Some(end) => ended = Some(end?),
            }
        }
    }

    fn advance_parallel(&mut self, node: usize, ended: Option<End>, turn: &mut Turn) -> Option<End> {
        let Kind::InParallel { limit, fail_fast } = self.nodes[node].kind else { return None };
        let State::Parallel { context, inner, mut next, mut open, mut worst } = self.states[node] else { return None };
        let mut just_ended = ended;
        if ended.is_some() {
            open -= 1;
        }
        loop {
            if let Some(end) = just_ended.take() {
                worst = worse(worst, end);
                if fail_fast && end != End::SUCCEEDED {
                    self.cancel(inner, CancelReason::FailFast, turn);
                }
            }
            let may_start = self.contexts[inner].done.is_none() && worst != End::Lost && (limit == 0 || open < limit);
            let Some(child) = self.nodes[node].children.get(next).copied().filter(|_| may_start) else { break };
            next += 1;
            just_ended = self.start(child, inner, turn);
            if just_ended.is_none() {
                open += 1;
            }
        }
        self.states[node] = State::Parallel { context, inner, next, open, worst };
        if open > 0 {
            return None;
        }
        Some(self.end_in(context, worst))
    }

    /// How what has several steps below it ends in its context, after those have ended so.
    fn end_in(&self, context: usize, own: End) -> End {
        match self.contexts[context].done {
            Some(CancelReason::Timeout | CancelReason::FailFast) if own == End::Lost => own,
            Some(reason) => end_of(reason),
            None => own,
        }
    }

    /// `step` is how the step ended, if the hook runs already.
    fn advance_hook(
        &mut self,
        node: usize,
        context: usize,
        step: Option<End>,
        ended: Option<End>,
        turn: &mut Turn,
    ) -> Option<End> {
        let Kind::Hook(hook) = self.nodes[node].kind else { return None };
        let (main, after) = (self.nodes[node].children[0], self.nodes[node].children[1]);
        let (step, ended) = match (step, ended) {
            (Some(step), ended) => (step, ended?),
            (None, ended) => {
                let step = match ended {
                    Some(step) => step,
                    None => self.start(main, context, turn)?,
                };
                let wanted = match hook {
                    Hook::Success => step == End::SUCCEEDED,
                    Hook::Failure => step == End::With(Outcome::Failed),
                    Hook::Error => step.is_error(),
                    Hook::Abort => step == End::With(Outcome::Aborted),
                    Hook::Ensure => true,
                };
                if !wanted {
                    return Some(step);
                }
                let apart = match hook {
                    Hook::Success | Hook::Failure => false,
                    Hook::Error | Hook::Abort => true,
                    Hook::Ensure => self.contexts[context].done.is_some(),
                };
                let inner = if apart { self.context(None) } else { context };
                self.states[node] = State::Hooked { context, step: Some(step) };
                (step, self.start(after, inner, turn)?)
            }
        };
        Some(match hook {
            Hook::Success => ended,
            Hook::Failure if ended.is_error() || ended == End::With(Outcome::Aborted) => ended,
            Hook::Failure | Hook::Error | Hook::Abort if ended == End::Lost => ended,
            Hook::Failure | Hook::Error | Hook::Abort => step,
            Hook::Ensure => self.end_in(context, worse(step, ended)),
        })
    }
}
