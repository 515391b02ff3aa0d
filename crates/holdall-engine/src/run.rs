//! Walks the plan of a build: takes what happened, says what to do.
//!
//! A [`Run`] is the state of one build. It is made from the plan and fed the build's journal, event by event; each
//! event gives [`Effect`]s. Nothing else is remembered anywhere: after a restart the journal is fed again, its effects
//! are dropped, and [`Run::outstanding`] says what should be going on now. Events that come twice, too late, or about
//! something that there is not, change nothing.
//!
//! # What each node does
//!
//! The rules are the reference's (section 1.9). Every node runs in a *context*, which can be *done*: the build's by an
//! abort, that of the inside of a `timeout` when its time is over, that of an `in_parallel` with `fail_fast` when one
//! of its steps did not succeed. A context that is inside another is done with it. When a context is done, the
//! steps that run in it are cancelled, each once, and no further node is started in it.
//!
//! | node | outcome |
//! |---|---|
//! | step | what is reported for it. Cancelled ones that report `aborted` have *failed* where a `timeout` cancelled them |
//! | `do` | of the first that does not succeed; the rest is not started |
//! | `in_parallel` | the worst of its steps: errored, failed, succeeded. Steps that `fail_fast` stopped do not count |
//! | `try` | succeeded; aborted stays aborted |
//! | `retry` | of the first attempt that succeeds, or of the last |
//! | `timeout` | of its step |
//! | `on_success` | of the step, or of the hook if the step succeeded |
//! | `on_failure` | failed if the step failed, or as the hook if that errored or was aborted |
//! | `on_error`, `on_abort` | of the step, whatever the hook does |
//! | `ensure` | the worse of step and hook |
//!
//! - A node that would be started in a context that is done is not, and counts as aborted, or as failed where the
//!   cause is a `timeout`. The same is the outcome of an `in_parallel`, a `retry` or an `ensure` that ends in one.
//! - The hooks of `on_error` and `on_abort`, and that of `ensure` when the context is done, run in a context of their
//!   own, which nothing outside of them ends: no second abort, no `timeout` around them. A step that `fail_fast`
//!   stopped counts as aborted for its own hooks.
//! - The build ends when its root does, and a node ends only after everything that was started in it: no abort, no
//!   `timeout` and no `fail_fast` ends a build before its processes have ended.

mod tree;
mod walk;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::plan::{Plan, PlanId};
use crate::status::{BuildStatus, Outcome};
use crate::time::Timestamp;
use crate::version::Version;

use tree::{Kind, Node};
use walk::{Context, State, Turn};

/// Something that happened to a build: a line of its journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum RunEvent {
    /// The build starts.
    Start,
    /// A step's process runs.
    StepStarted {
        /// Which.
        step: PlanId,
    },
    /// A step ended, and nothing of it runs any more.
    StepFinished {
        /// Which.
        step: PlanId,
        /// How; `Aborted` where it was stopped because of a [`Effect::CancelStep`], whatever that one's reason.
        outcome: Outcome,
        /// What a put gave, for the get after it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<Version>,
    },
    /// Nobody knows how a step ended, and only a person may have it done again (release model, section 4): it counts as
    /// errored, and neither `attempts` nor `try` nor what waits in an `in_parallel` goes on after it.
    StepLost {
        /// Which.
        step: PlanId,
    },
    /// The time of a [`Effect::SetTimer`] has come.
    TimerFired {
        /// Which.
        timer: PlanId,
    },
    /// Someone wants the build to end.
    Abort,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// Start a step. [`RunEvent::StepFinished`] must follow, also when it cannot be started.
    StartStep {
        /// Which.
        step: PlanId,
        /// The version that a get fetches.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<Version>,
        /// `BUILD_STATUS` for a step inside a hook: what the hook is run for. None inside `ensure` (reference,
        /// section 2.3).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        in_hook: Option<Outcome>,
    },
    /// Stop a step, whether it runs already or not. [`RunEvent::StepFinished`] must follow.
    CancelStep {
        /// Which.
        step: PlanId,
        /// Why.
        reason: CancelReason,
    },
    /// Report [`RunEvent::TimerFired`] at a time, or as soon after it as possible.
    SetTimer {
        /// The timer is named after its `timeout` node.
        timer: PlanId,
        /// When.
        at: Timestamp,
    },
    /// The timer is not needed any more.
    ClearTimer {
        /// Which.
        timer: PlanId,
    },
    /// The build has ended; nothing follows.
    Finish {
        /// How.
        status: BuildStatus,
    },
}

/// Why a step is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelReason {
    /// The build was aborted.
    Abort,
    /// The time of a `timeout` around it is over.
    Timeout,
    /// Another step of an `in_parallel` with `fail_fast` did not succeed.
    FailFast,
}

/// How far a node of the plan is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Its turn has not come, or nothing of it runs yet.
    Pending,
    /// It runs; for a node that holds others: one of them may.
    Running,
    /// It ended, and succeeded.
    Succeeded,
    /// It ended, and failed.
    Failed,
    /// It ended, and errored.
    Errored,
    /// It ended, and was aborted.
    Aborted,
    /// It will not run.
    Skipped,
}

impl From<Outcome> for StepState {
    fn from(outcome: Outcome) -> StepState {
        match outcome {
            Outcome::Succeeded => StepState::Succeeded,
            Outcome::Failed => StepState::Failed,
            Outcome::Errored => StepState::Errored,
            Outcome::Aborted => StepState::Aborted,
        }
    }
}

/// How far the build as a whole is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    NotStarted,
    Walking,
    Finished(BuildStatus),
}

/// The state of a build whose plan is being walked.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    nodes: Vec<Node>,
    index: BTreeMap<PlanId, usize>,
    states: Vec<State>,
    contexts: Vec<Context>,
    versions: BTreeMap<PlanId, Version>,
    phase: Phase,
}

impl Run {
    /// A build that has not started.
    pub fn new(plan: &Plan) -> Run {
        let nodes = tree::flatten(plan);
        let index = nodes.iter().enumerate().map(|(nth, node)| (node.id.clone(), nth)).collect();
        Run {
            states: vec![State::Waiting; nodes.len()],
            nodes,
            index,
            contexts: vec![Context::new(None)],
            versions: BTreeMap::new(),
            phase: Phase::NotStarted,
        }
    }

    /// The state after a journal.
    pub fn replay(plan: &Plan, journal: impl IntoIterator<Item = (RunEvent, Timestamp)>) -> Run {
        let mut run = Run::new(plan);
        for (event, at) in journal {
            run.on(event, at);
        }
        run
    }

    /// Takes an event that happened at `now`, and gives what is to be done, in this order.
    pub fn on(&mut self, event: RunEvent, now: Timestamp) -> Vec<Effect> {
        let mut turn = Turn::new(now);
        match event {
            RunEvent::Start => self.begin(&mut turn),
            RunEvent::StepStarted { step } => self.step_started(&step),
            RunEvent::StepFinished { step, outcome, version } => {
                self.step_finished(&step, outcome, version, &mut turn);
            }
            RunEvent::StepLost { step } => self.step_lost(&step, &mut turn),
            RunEvent::TimerFired { timer } => self.timer_fired(&timer, &mut turn),
            RunEvent::Abort => self.abort(&mut turn),
        }
        turn.effects
    }

    /// What should be going on now: the steps that were started and have not finished (those that are to be stopped
    /// as [`Effect::CancelStep`] alone), and the timers that are set. Both in the order of the plan.
    pub fn outstanding(&self) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (node, state) in self.nodes.iter().zip(&self.states) {
            match state {
                State::Step { cancelled: Some(reason), .. } => {
                    effects.push(Effect::CancelStep { step: node.id.clone(), reason: *reason });
                }
                State::Step { cancelled: None, .. } => effects.push(self.start_effect(node)),
                State::Timed { timer: Some(at), .. } => {
                    effects.push(Effect::SetTimer { timer: node.id.clone(), at: *at });
                }
                State::Waiting
                | State::Sequence { .. }
                | State::Parallel { .. }
                | State::Try { .. }
                | State::Timed { .. }
                | State::Hooked { .. }
                | State::Ended(_) => {}
            }
        }
        effects
    }

    /// How the build ended, if it has.
    pub fn finished(&self) -> Option<BuildStatus> {
        match self.phase {
            Phase::Finished(status) => Some(status),
            Phase::NotStarted | Phase::Walking => None,
        }
    }

    /// How far each node of the plan is.
    pub fn step_states(&self) -> BTreeMap<PlanId, StepState> {
        let mut states: Vec<StepState> = Vec::with_capacity(self.nodes.len());
        for (node, state) in self.nodes.iter().zip(&self.states) {
            states.push(match state {
                State::Waiting => {
                    // Parents come before their children.
                    let over = match node.parent {
                        None => self.finished().is_some(),
                        Some((parent, _)) => !matches!(states[parent], StepState::Pending | StepState::Running),
                    };
                    if over { StepState::Skipped } else { StepState::Pending }
                }
                State::Step { running: false, .. } => StepState::Pending,
                State::Step { running: true, .. }
                | State::Sequence { .. }
                | State::Parallel { .. }
                | State::Try { .. }
                | State::Timed { .. }
                | State::Hooked { .. } => StepState::Running,
                State::Ended(end) => StepState::from(end.outcome()),
            });
        }
        self.nodes.iter().map(|node| node.id.clone()).zip(states).collect()
    }

    /// The node of that id.
    fn node(&self, id: &PlanId) -> Option<usize> {
        self.index.get(id).copied()
    }

    /// The effect that starts a step.
    fn start_effect(&self, node: &Node) -> Effect {
        let version = match &node.kind {
            Kind::Step { version } => version.as_ref().and_then(|source| self.version(source)),
            Kind::Do | Kind::InParallel { .. } | Kind::Try | Kind::Retry | Kind::Timeout { .. } | Kind::Hook(_) => None,
        };
        Effect::StartStep { step: node.id.clone(), version, in_hook: node.in_hook }
    }
}

#[cfg(test)]
mod tests;
