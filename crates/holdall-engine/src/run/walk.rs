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
    Parallel { context: usize, inner: usize, next: usize, open: usize, worst: Outcome },
    /// A `try`.
    Try { context: usize },
    /// A `timeout`; its step runs in `inner`.
    Timed { inner: usize, timer: Option<Timestamp> },
    /// A node with a hook; `step` is how its step ended, once the hook runs.
    Hooked { context: usize, step: Option<Outcome> },
    /// Ended.
    Ended(Outcome),
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

/// The worse of two outcomes of things that both count: errored, failed, aborted, succeeded.
fn worse(a: Outcome, b: Outcome) -> Outcome {
    let rank = |outcome| match outcome {
        Outcome::Succeeded => 0,
        Outcome::Aborted => 1,
        Outcome::Failed => 2,
        Outcome::Errored => 3,
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
        if let Some(outcome) = self.start(0, BUILD, turn) {
            self.finish(outcome, turn);
        }
    }

    /// Notes that a step's process runs.
    pub(super) fn step_started(&mut self, step: &PlanId) {
        let Some(node) = self.node(step) else { return };
        if let State::Step { running, .. } = &mut self.states[node] {
            *running = true;
        }
    }

    /// Takes the end of a step, and goes on from there.
    pub(super) fn step_finished(
        &mut self,
        step: &PlanId,
        reported: Outcome,
        version: Option<Version>,
        turn: &mut Turn,
    ) {
        let Some(mut node) = self.node(step) else { return };
        let State::Step { context, .. } = self.states[node] else { return };
        let mut outcome = match (reported, self.contexts[context].done) {
            (Outcome::Aborted, Some(reason)) => outcome_of(reason),
            // It was stopped and nobody wanted that.
            (Outcome::Aborted, None) => Outcome::Errored,
            (Outcome::Succeeded | Outcome::Failed | Outcome::Errored, _) => reported,
        };
        if let (Outcome::Succeeded, Some(version)) = (outcome, version) {
            self.versions.insert(step.clone(), version);
        }
        self.states[node] = State::Ended(outcome);
        while let Some((parent, _)) = self.nodes[node].parent {
            match self.advance(parent, Some(outcome), turn) {
                None => return,
                Some(its) => outcome = its,
            }
            node = parent;
        }
        self.finish(outcome, turn);
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

    /// Starts a node. Gives its outcome if it ends at once.
    fn start(&mut self, node: usize, context: usize, turn: &mut Turn) -> Option<Outcome> {
        if let Some(reason) = self.contexts[context].done {
            return Some(outcome_of(reason));
        }
        self.states[node] = match &self.nodes[node].kind {
            Kind::Step { version } => {
                // A put that gave no version: there is nothing to get (reference, section 2.4).
                if version.as_ref().is_some_and(|source| self.version(source).is_none()) {
                    self.states[node] = State::Ended(Outcome::Errored);
                    return Some(Outcome::Errored);
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
                State::Parallel { context, inner, next: 0, open: 0, worst: Outcome::Succeeded }
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

    /// Goes on with a node that was just started, or one of whose children just ended. Gives its outcome if it ends.
    fn advance(&mut self, node: usize, ended: Option<Outcome>, turn: &mut Turn) -> Option<Outcome> {
        let outcome = match self.states[node] {
            State::Sequence { context, .. } if self.nodes[node].kind == Kind::Retry => {
                self.advance_retry(node, context, ended, turn)
            }
            State::Sequence { context, .. } => self.advance_do(node, context, ended, turn),
            State::Parallel { .. } => self.advance_parallel(node, ended, turn),
            State::Try { context } => {
                let step = self.nodes[node].children[0];
                ended.or_else(|| self.start(step, context, turn)).map(|outcome| match outcome {
                    Outcome::Succeeded | Outcome::Failed | Outcome::Errored => Outcome::Succeeded,
                    Outcome::Aborted => Outcome::Aborted,
                })
            }
            State::Timed { inner, .. } => {
                let step = self.nodes[node].children[0];
                let outcome = ended.or_else(|| self.start(step, inner, turn));
                if let (Some(_), State::Timed { timer: Some(_), .. }) = (outcome, self.states[node]) {
                    turn.effects.push(Effect::ClearTimer { timer: self.nodes[node].id.clone() });
                }
                outcome
            }
            State::Hooked { context, step } => self.advance_hook(node, context, step, ended, turn),
            State::Waiting | State::Step { .. } | State::Ended(_) => None,
        };
        if let Some(outcome) = outcome {
            self.states[node] = State::Ended(outcome);
        }
        outcome
    }

    /// Starts the next child of a `do` or a `retry`. `None`: there is none left.
    fn start_next(&mut self, node: usize, context: usize, turn: &mut Turn) -> Option<Option<Outcome>> {
        let State::Sequence { next, .. } = &mut self.states[node] else { return None };
        let child = *self.nodes[node].children.get(*next)?;
        *next += 1;
        Some(self.start(child, context, turn))
    }

    fn advance_do(&mut self, node: usize, context: usize, ended: Option<Outcome>, turn: &mut Turn) -> Option<Outcome> {
        let mut last = ended.unwrap_or(Outcome::Succeeded);
        while last == Outcome::Succeeded {
            match self.start_next(node, context, turn) {
                None => break,
                Some(outcome) => last = outcome?,
            }
        }
        Some(last)
    }

    fn advance_retry(
        &mut self,
        node: usize,
        context: usize,
        mut ended: Option<Outcome>,
        turn: &mut Turn,
    ) -> Option<Outcome> {
        loop {
            if let (Some(_), Some(reason)) = (ended, self.contexts[context].done) {
                return Some(outcome_of(reason));
            }
            if ended == Some(Outcome::Succeeded) {
                return ended;
            }
            match self.start_next(node, context, turn) {
                None => return Some(ended.unwrap_or(Outcome::Succeeded)),
                Some(outcome) => ended = Some(outcome?),
            }
        }
    }

    fn advance_parallel(&mut self, node: usize, ended: Option<Outcome>, turn: &mut Turn) -> Option<Outcome> {
        let Kind::InParallel { limit, fail_fast } = self.nodes[node].kind else { return None };
        let State::Parallel { context, inner, mut next, mut open, mut worst } = self.states[node] else { return None };
        let mut just_ended = ended;
        if ended.is_some() {
            open -= 1;
        }
        loop {
            if let Some(outcome) = just_ended.take() {
                worst = worse(worst, outcome);
                if fail_fast && outcome != Outcome::Succeeded {
                    self.cancel(inner, CancelReason::FailFast, turn);
                }
            }
            let may_start = self.contexts[inner].done.is_none() && (limit == 0 || open < limit);
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
        Some(self.contexts[context].done.map_or(worst, outcome_of))
    }

    /// `step` is how the step ended, if the hook runs already.
    fn advance_hook(
        &mut self,
        node: usize,
        context: usize,
        step: Option<Outcome>,
        ended: Option<Outcome>,
        turn: &mut Turn,
    ) -> Option<Outcome> {
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
                    Hook::Success => step == Outcome::Succeeded,
                    Hook::Failure => step == Outcome::Failed,
                    Hook::Error => step == Outcome::Errored,
                    Hook::Abort => step == Outcome::Aborted,
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
            Hook::Failure if matches!(ended, Outcome::Errored | Outcome::Aborted) => ended,
            Hook::Failure | Hook::Error | Hook::Abort => step,
            Hook::Ensure => self.contexts[context].done.map_or(worse(step, ended), outcome_of),
        })
    }
}
