//! A world in which plans are carried out: steps take their time, end as it was decided beforehand, and take their
//! time to stop. It drives a [`Run`] and checks on the way what must always hold.

use std::collections::{BTreeMap, BTreeSet};

use crate::plan::{Plan, PlanId};
use crate::run::{CancelReason, Effect, Run, RunEvent};
use crate::status::{BuildStatus, Outcome};
use crate::time::Timestamp;
use crate::version::Version;

/// What a step would do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Behaviour {
    /// How long it runs if it is let.
    pub takes: i64,
    /// How it ends then; never aborted.
    pub outcome: Outcome,
    /// Nobody knows how it ends then.
    pub lost: bool,
    /// How long it runs on at most once it was told to stop.
    pub stop_takes: i64,
    /// Whether it gives a version, if it is a put.
    pub gives_version: bool,
}

/// What one run of a plan depends on.
#[derive(Debug, Clone)]
pub struct World {
    pub behaviours: BTreeMap<PlanId, Behaviour>,
    /// When someone aborts the build.
    pub abort_at: Option<i64>,
    /// Whether timers that were cleared come all the same.
    pub late_timers: bool,
    /// Whether every event comes twice, among others that mean nothing.
    pub noisy: bool,
    /// After how many events the server dies, each time again.
    pub crash_every: Option<usize>,
}

/// What became of one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    pub started: i64,
    pub cancelled: Option<(i64, CancelReason)>,
    pub ended: i64,
}

/// What became of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    pub steps: BTreeMap<PlanId, Trace>,
    pub status: BuildStatus,
    pub ended: i64,
}

impl World {
    /// Carries a plan out.
    pub fn carry_out(&self, plan: &Plan) -> History {
        let mut drive = Drive {
            world: self,
            plan,
            run: Run::new(plan),
            queue: BTreeMap::new(),
            journal: Vec::new(),
            steps: BTreeMap::new(),
            finish: None,
            timers: BTreeMap::new(),
        };
        drive.push(0, RunEvent::Start);
        if let Some(at) = self.abort_at {
            drive.push(at, RunEvent::Abort);
        }
        while let Some(((at, _), event)) = drive.queue.pop_first() {
            drive.happen(at, event);
        }
        let (ended, status) = drive.finish.expect("the build ends");
        let steps = drive.steps.into_iter().map(|(id, step)| (id, step.trace())).collect();
        History { steps, status, ended }
    }
}

#[derive(Debug, Clone)]
struct Going {
    started: i64,
    cancelled: Option<(i64, CancelReason)>,
    ended: Option<i64>,
}

impl Going {
    fn trace(self) -> Trace {
        Trace { started: self.started, cancelled: self.cancelled, ended: self.ended.expect("it ended") }
    }
}

struct Drive<'a> {
    world: &'a World,
    plan: &'a Plan,
    run: Run,
    /// By time, then in the order of coming.
    queue: BTreeMap<(i64, usize), RunEvent>,
    journal: Vec<(RunEvent, Timestamp)>,
    steps: BTreeMap<PlanId, Going>,
    finish: Option<(i64, BuildStatus)>,
    /// Those that are set.
    timers: BTreeMap<PlanId, Timestamp>,
}

impl Drive<'_> {
    fn push(&mut self, at: i64, event: RunEvent) {
        let nth = self.queue.range((at, 0)..(at + 1, 0)).count();
        let before = self.queue.insert((at, nth), event);
        assert!(before.is_none());
    }

    fn happen(&mut self, at: i64, event: RunEvent) {
        let now = Timestamp(at);
        if self.world.noisy {
            self.noise(now);
        }
        match &event {
            RunEvent::StepFinished { step, .. } | RunEvent::StepLost { step } => {
                let step = self.steps.get_mut(step).expect("only what was started ends");
                assert_eq!(step.ended.replace(at), None);
            }
            RunEvent::TimerFired { timer } => {
                self.timers.remove(timer);
            }
            RunEvent::Start | RunEvent::StepStarted { .. } | RunEvent::Abort => {}
        }
        let effects = self.run.on(event.clone(), now);
        self.journal.push((event.clone(), now));
        for effect in effects {
            self.apply(at, effect);
        }
        if self.world.noisy {
            let before = self.run.clone();
            assert_eq!(self.run.on(event, now), [], "an event that comes twice");
            assert_eq!(self.run, before);
        }
        if self.world.crash_every.is_some_and(|every| self.journal.len().is_multiple_of(every)) {
            self.crash();
        }
        self.check_outstanding();
    }

    /// Events that come too late, too early, or about nothing: they change nothing.
    fn noise(&mut self, now: Timestamp) {
        let before = self.run.clone();
        for node in self.plan.nodes() {
            let id = &node.id;
            if self.steps.get(id).is_none_or(|step| step.ended.is_some()) {
                let event = RunEvent::StepFinished { step: id.clone(), outcome: Outcome::Failed, version: None };
                assert_eq!(self.run.on(event, now), []);
                assert_eq!(self.run.on(RunEvent::StepLost { step: id.clone() }, now), []);
            }
            if !self.timers.contains_key(id) {
                assert_eq!(self.run.on(RunEvent::TimerFired { timer: id.clone() }, now), []);
            }
        }
        if !self.journal.is_empty() {
            assert_eq!(self.run.on(RunEvent::Start, now), []);
        }
        assert_eq!(self.run, before);
    }

    fn crash(&mut self) {
        let text = serde_json::to_string(&self.journal).unwrap();
        let journal: Vec<(RunEvent, Timestamp)> = serde_json::from_str(&text).unwrap();
        let replayed = Run::replay(self.plan, journal);
        assert_eq!(replayed, self.run, "a replay gives the same state");
        self.run = replayed;
    }

    fn apply(&mut self, at: i64, effect: Effect) {
        assert_eq!(self.finish, None, "nothing follows the end");
        match effect {
            Effect::StartStep { step, .. } => {
                let behaviour = self.world.behaviours[&step];
                let before = self.steps.insert(step.clone(), Going { started: at, cancelled: None, ended: None });
                assert!(before.is_none(), "{step} is started twice");
                self.push(at, RunEvent::StepStarted { step: step.clone() });
                let version = behaviour.gives_version.then(|| Version::of("v", &step.to_string()));
                let outcome = behaviour.outcome;
                let end = match behaviour.lost {
                    true => RunEvent::StepLost { step },
                    false => RunEvent::StepFinished { step, outcome, version },
                };
                self.push(at + behaviour.takes, end);
            }
            Effect::CancelStep { step, reason } => {
                let going = self.steps.get_mut(&step).expect("only what was started is cancelled");
                assert_eq!((going.ended, going.cancelled), (None, None), "{step} runs and is cancelled once");
                going.cancelled = Some((at, reason));
                let ends = |event: &RunEvent| match event {
                    RunEvent::StepFinished { step: of, .. } | RunEvent::StepLost { step: of } => *of == step,
                    _ => false,
                };
                let (&(natural, nth), _) = self.queue.iter().find(|(_, event)| ends(event)).expect("it will end");
                let stopped = at + self.world.behaviours[&step].stop_takes;
                if stopped < natural {
                    self.queue.remove(&(natural, nth));
                    self.push(stopped, RunEvent::StepFinished { step, outcome: Outcome::Aborted, version: None });
                }
            }
            Effect::SetTimer { timer, at } => {
                assert_eq!(self.timers.insert(timer.clone(), at), None, "{timer} is set twice");
                self.push(at.0, RunEvent::TimerFired { timer });
            }
            Effect::ClearTimer { timer } => {
                assert!(self.timers.remove(&timer).is_some(), "{timer} is set");
                if !self.world.late_timers {
                    self.queue.retain(|_, event| *event != RunEvent::TimerFired { timer: timer.clone() });
                }
            }
            Effect::Finish { status } => {
                let running: Vec<&PlanId> =
                    self.steps.iter().filter(|(_, step)| step.ended.is_none()).map(|(id, _)| id).collect();
                assert!(running.is_empty(), "{running:?} run when the build ends");
                assert!(self.timers.is_empty(), "{:?} are set when the build ends", self.timers);
                self.finish = Some((at, status));
            }
        }
    }

    /// What the run says should be going on is what goes on.
    fn check_outstanding(&self) {
        let (mut running, mut stopping, mut timers) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        for effect in self.run.outstanding() {
            match effect {
                Effect::StartStep { step, .. } => assert!(running.insert(step)),
                Effect::CancelStep { step, .. } => assert!(stopping.insert(step)),
                Effect::SetTimer { timer, at } => assert_eq!(timers.insert(timer, at), None),
                Effect::ClearTimer { .. } | Effect::Finish { .. } => panic!("{effect:?} is not outstanding"),
            }
        }
        let going = |cancelled: bool| -> BTreeSet<PlanId> {
            let going = self.steps.iter().filter(|(_, step)| step.ended.is_none());
            going.filter(|(_, step)| step.cancelled.is_some() == cancelled).map(|(id, _)| id.clone()).collect()
        };
        assert_eq!(running, going(false));
        assert_eq!(stopping, going(true));
        assert_eq!(timers, self.timers);
    }
}
