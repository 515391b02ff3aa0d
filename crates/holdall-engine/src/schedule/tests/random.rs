//! Random jobs: what is decided is what a naive reading of the rules says, comes to an end, and the report names
//! everything that holds the rest back.

use std::collections::BTreeSet;

use super::{build, job};
use crate::ids::{BuildId, DeploymentId, ScopeId};
use crate::plan::LockMode;
use crate::release::lock::{Holder, LockView, Waiter};
use crate::report::{Code, Hold};
use crate::schedule::{
    Action, CheckView, Decision, DeploymentView, FixedView, InputsView, JobView, LimitView, Pause, PendingView,
    schedule,
};
use crate::time::{Span, Timestamp};

/// How many jobs are looked at; `HOLDALL_JOBS` says otherwise.
const JOBS: u64 = 30_000;

/// A point in time after everything else.
const LATER: Timestamp = Timestamp(1_000);

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    fn pause(&mut self) -> Option<Pause> {
        self.once_in(8).then(Pause::default)
    }

    fn deployment(&mut self) -> DeploymentView {
        let id = 1 + i64::try_from(self.below(3)).unwrap();
        let ended = self.once_in(8).then(|| "ann unlocked it".to_owned());
        DeploymentView { id: DeploymentId(id), number: id, ended }
    }

    fn lock(&mut self) -> Option<(LockMode, LockView)> {
        let mode = match self.below(6) {
            0 | 1 => return None,
            2 => LockMode::Acquire,
            3 => LockMode::Require,
            4 => LockMode::During { shared: true },
            _ => LockMode::During { shared: false },
        };
        let holders = (0..self.below(3)).map(|nth| {
            let deployment = self.once_in(2).then(|| self.deployment().id);
            Holder { shared: self.once_in(2), deployment, ..holder(&format!("holder {nth}")) }
        });
        let holders = holders.collect();
        let queue = (0..self.below(3)).map(|nth| waiter(&format!("waiter {nth}"), self.once_in(2), None)).collect();
        Some((mode, LockView { name: "staging".to_owned(), holders, queue }))
    }

    fn check(&mut self, nth: u64) -> CheckView {
        CheckView {
            input: format!("r{nth}"),
            resource: format!("main/p/r{nth}"),
            scope: ScopeId(i64::try_from(nth).unwrap()),
            trigger: self.once_in(2),
            checked_at: self.once_in(2).then(|| Timestamp(i64::try_from(95 + self.below(10)).unwrap())),
            overdue: self.once_in(3),
            every: self.once_in(2).then(|| Span(i64::try_from(self.below(10)).unwrap())),
            wanted: self.once_in(2),
        }
    }

    fn limit(&mut self) -> LimitView {
        LimitView {
            max: usize::try_from(1 + self.below(2)).unwrap(),
            shared: self.once_in(2),
            running: (0..self.below(5)).map(|nth| ("other".to_owned(), format!("{nth}"))).collect(),
            before: self.once_in(4).then(|| (BuildId(1), "another".to_owned())),
        }
    }

    fn pending(&mut self, nth: u64, lock: &mut Option<(LockMode, LockView)>) -> PendingView {
        let id = 100 + i64::try_from(nth).unwrap();
        let rerun = self.once_in(3);
        let fixed = (rerun || self.once_in(6)).then(|| FixedView {
            holds: match self.once_in(2) {
                true => vec![Hold::new(Code::BagDisabled, format!("{id} lacks its inputs"))],
                false => Vec::new(),
            },
            impossible: false,
            deployment: Some(self.deployment()),
        });
        let mut queued = false;
        if let Some((LockMode::Acquire | LockMode::During { .. }, lock)) = lock {
            queued = self.once_in(3);
            if queued {
                let at = usize::try_from(self.below(lock.queue.len() as u64 + 1)).unwrap();
                lock.queue.insert(at, waiter(&format!("build {id}"), self.once_in(2), Some(BuildId(id))));
            }
        }
        PendingView {
            manual: self.once_in(2),
            rerun,
            abort: self.once_in(10).then(|| "ann aborted it".to_owned()),
            first_in_line: self.once_in(10),
            queued,
            fixed,
            ..build(id)
        }
    }
}

fn holder(name: &str) -> Holder {
    Holder {
        kind: "deployment".to_owned(),
        name: name.to_owned(),
        shared: false,
        reason: None,
        since: Timestamp(1),
        until: None,
        build: None,
        deployment: None,
        trouble: None,
    }
}

fn waiter(name: &str, shared: bool, build: Option<BuildId>) -> Waiter {
    Waiter { id: 1, kind: "pipeline".to_owned(), name: name.to_owned(), shared, since: Timestamp(1), build }
}

/// A job, and how many more versions there are for inputs with `version: every`.
#[derive(Debug, Clone)]
struct World {
    view: JobView,
    more: u64,
    next_id: i64,
    started: Vec<BuildId>,
}

fn world(seed: u64) -> World {
    let mut random = Random(seed);
    let mut lock = random.lock();
    let unresolved = random.once_in(3);
    let holds = if unresolved { vec![Hold::new(Code::NoVersion, "it has no version")] } else { Vec::new() };
    let triggers = !unresolved && random.once_in(2);
    let deployment = Some(random.deployment()).filter(|_| !unresolved || random.once_in(2));
    let inputs = InputsView { holds, in_vain: unresolved && random.once_in(4), triggers, deployment };
    let checks = (0..random.below(3)).map(|nth| random.check(nth)).collect();
    let pending = (0..random.below(4)).map(|nth| random.pending(nth, &mut lock)).collect();
    let held = random.once_in(6);
    let view = JobView {
        paused: random.pause(),
        pipeline_paused: random.pause(),
        lock,
        inputs,
        checks,
        limit: random.once_in(2).then(|| random.limit()),
        pending,
        automatic_holds: if held { vec![Hold::new(Code::HeldAfterUnlock, "it is held")] } else { Vec::new() },
        ..job()
    };
    World { view, more: random.below(3), next_id: 200, started: Vec::new() }
}

impl World {
    /// Does what was decided, as whoever applies it would.
    fn apply(&mut self, action: &Action) {
        let view = &mut self.view;
        match action {
            Action::CreatePending => {
                assert!(view.pending.is_empty(), "one pending build at a time");
                view.pending.push(build(self.next_id));
                self.next_id += 1;
            }
            Action::Abort { build, reason } => {
                assert!(!reason.is_empty());
                self.remove(*build);
            }
            Action::WantChecks(scopes) => {
                for check in view.checks.iter_mut().filter(|check| scopes.contains(&check.scope)) {
                    assert!(!check.wanted, "it is wanted already");
                    check.wanted = true;
                }
            }
            Action::Queue(build) => {
                let (mode, lock) = view.lock.as_mut().expect("a lock");
                let shared = matches!(mode, LockMode::During { shared: true });
                lock.queue.push(waiter(&format!("build {build}"), shared, Some(*build)));
                for pending in view.pending.iter_mut().filter(|pending| pending.id == *build) {
                    assert!(!pending.queued, "it is in the queue already");
                    pending.queued = true;
                }
            }
            Action::Unqueue(build) => {
                for pending in view.pending.iter_mut().filter(|pending| pending.id == *build) {
                    assert!(pending.queued, "it is not in the queue");
                    pending.queued = false;
                }
                self.leave_queue(*build);
            }
            Action::Start(build) => self.start(*build),
        }
    }

    fn start(&mut self, build: BuildId) {
        assert!(may_start(&self.view, self.pending(build)), "{build} may not start");
        let before = self.view.pending.iter().take_while(|pending| pending.id != build);
        assert!(before.clone().all(|other| is_passed_over(&self.view, other)), "{build} goes before others");
        if self.pending(build).fixed.is_none() {
            self.view.inputs.triggers &= self.more > 0;
            self.more = self.more.saturating_sub(1);
        }
        self.remove(build);
        if let Some(limit) = &mut self.view.limit {
            limit.running.push(("ship".to_owned(), build.to_string()));
        }
        if let Some((mode @ (LockMode::Acquire | LockMode::During { .. }), lock)) = &mut self.view.lock {
            let shared = matches!(mode, LockMode::During { shared: true });
            lock.holders.push(Holder { shared, build: Some(build), ..holder(&format!("build {build}")) });
        }
        self.started.push(build);
    }

    fn pending(&self, build: BuildId) -> &PendingView {
        self.view.pending.iter().find(|pending| pending.id == build).expect("it is pending")
    }

    fn remove(&mut self, build: BuildId) {
        let before = self.view.pending.len();
        self.view.pending.retain(|pending| pending.id != build);
        assert_eq!(self.view.pending.len(), before - 1, "{build} is pending");
        self.leave_queue(build);
    }

    fn leave_queue(&mut self, build: BuildId) {
        if let Some((_, lock)) = &mut self.view.lock {
            lock.queue.retain(|waiter| waiter.build != Some(build));
        }
    }

    /// Applies decisions until there are none; gives the report.
    fn settle(&mut self) -> Vec<Hold> {
        let most = 8 + 4 * self.view.pending.len() + 4 * usize::try_from(self.more).unwrap();
        let mut done: Vec<Action> = Vec::new();
        for _ in 0..most {
            let decision = schedule(&self.view);
            if decision.actions.is_empty() {
                assert_eq!(schedule(&self.view), decision, "the same job, the same decision");
                return decision.holds;
            }
            let Decision { actions, .. } = decision;
            for action in actions {
                self.apply(&action);
                let again = done.contains(&action) && action != Action::CreatePending;
                assert!(!again, "{action:?} is done twice");
                done.push(action);
            }
        }
        panic!("no end: {done:?}");
    }

    /// Makes what a hold names go away.
    fn lift(&mut self, hold: &Hold) {
        let view = &mut self.view;
        match hold.code {
            Code::JobPaused => view.paused = None,
            Code::PipelinePaused => view.pipeline_paused = None,
            Code::SerialGroup if hold.sentence.contains("waits before it") => {
                view.limit.as_mut().expect("a limit").before = None;
            }
            Code::MaxInFlight | Code::SerialGroup => {
                let running = &mut view.limit.as_mut().expect("a limit").running;
                let said = hold.by.as_ref().and_then(|by| by.strip_prefix("the end of ")).expect("what has to end");
                let end = match said.split_once(" of ") {
                    None | Some(("one", _)) => 1,
                    Some(("all", _)) => running.len(),
                    Some((number, _)) => number.parse().expect("a number"),
                };
                running.drain(..end);
            }
            Code::CheckPending => {
                let command = |check: &CheckView| format!("holdall resource check {}", check.resource);
                for check in view.checks.iter_mut().filter(|check| hold.command == Some(command(check))) {
                    (check.checked_at, check.overdue, check.wanted) = (Some(LATER), false, false);
                }
            }
            Code::NoVersion => {
                (view.inputs.holds, view.inputs.in_vain) = (Vec::new(), false);
                let deployment = DeploymentView { id: DeploymentId(1), number: 1, ended: None };
                view.inputs.deployment.get_or_insert(deployment);
            }
            Code::BagDisabled => {
                for fixed in view.pending.iter_mut().filter_map(|pending| pending.fixed.as_mut()) {
                    fixed.holds.retain(|other| other != hold);
                }
            }
            Code::HeldAfterUnlock => view.automatic_holds.clear(),
            Code::LockHeld => {
                let (mode, lock) = view.lock.as_mut().expect("a lock");
                lock.holders.retain(|holder| Some(&holder.name) != hold.by.as_ref());
                if *mode == LockMode::Require {
                    // Its own deployment has it, whichever that is.
                    let all = (1..=3).map(|id| Holder { deployment: Some(DeploymentId(id)), ..holder("its own") });
                    lock.holders = all.collect();
                }
            }
            Code::LockQueue => {
                let (_, lock) = view.lock.as_mut().expect("a lock");
                lock.queue.retain(|waiter| Some(&waiter.name) != hold.by.as_ref());
            }
            other => panic!("nothing in this world is held by {}", other.as_str()),
        }
    }
}

/// Whether a build may start now, by a reading of the rules one by one.
fn may_start(view: &JobView, build: &PendingView) -> bool {
    let has_room = view.limit.as_ref().is_none_or(|limit| limit.running.len() < limit.max && limit.before.is_none());
    let is_free = view.paused.is_none() && view.pipeline_paused.is_none() && build.abort.is_none();
    let is_let = build.manual || view.automatic_holds.is_empty();
    is_free && has_room && is_let && has_inputs(view, build) && has_lock(view, build)
}

fn has_inputs(view: &JobView, build: &PendingView) -> bool {
    let is_checked = |check: &CheckView| match build.manual {
        true => check.checked_at.is_some_and(|at| at >= build.created_at),
        false => {
            let good_until = check.checked_at.map(|at| at.0 + check.every.map_or(0, |every| every.0));
            check.trigger || (!check.overdue && good_until.is_none_or(|until| until >= build.created_at.0))
        }
    };
    match &build.fixed {
        Some(fixed) => fixed.holds.is_empty(),
        None => view.inputs.holds.is_empty() && view.checks.iter().all(is_checked),
    }
}

fn has_lock(view: &JobView, build: &PendingView) -> bool {
    let Some((mode, lock)) = &view.lock else { return true };
    let shared = match mode {
        LockMode::Require => {
            let deployment = match &build.fixed {
                Some(fixed) => &fixed.deployment,
                None => &view.inputs.deployment,
            };
            let id = deployment.as_ref().map(|deployment| deployment.id);
            return lock.holders.iter().any(|holder| holder.deployment == id);
        }
        LockMode::Acquire => false,
        LockMode::During { shared } => *shared,
    };
    let before = lock.queue.iter().take_while(|waiter| waiter.build != Some(build.id));
    lock.holders.iter().all(|holder| shared && holder.shared)
        && (build.first_in_line || before.clone().all(|waiter| shared && waiter.shared))
}

/// Whether the builds after this one do not wait for it: a rerun that cannot have its inputs, or that may not start
/// by itself.
fn is_passed_over(view: &JobView, build: &PendingView) -> bool {
    build.rerun && (!has_inputs(view, build) || (!build.manual && !view.automatic_holds.is_empty()))
}

/// What is wrong once nothing more is decided.
fn check_rest(world: &World, holds: &[Hold]) {
    let view = &world.view;
    assert!(view.pending.iter().all(|pending| pending.abort.is_none()), "aborted builds end");
    let full = view.limit.as_ref().is_some_and(|limit| limit.running.len() >= limit.max || limit.before.is_some());
    let paused = view.paused.is_some() || view.pipeline_paused.is_some();
    // The one that is next, and what it waits for.
    let next = view.pending.iter().find(|pending| paused || full || !is_passed_over(view, pending));
    if let Some(next) = next {
        assert!(!may_start(view, next), "{} may start and does not", next.id);
        let takes_lock = matches!(view.lock, Some((LockMode::Acquire | LockMode::During { .. }, _)));
        let without_lock = JobView { lock: None, ..view.clone() };
        let waits_for_lock = takes_lock && may_start(&without_lock, next);
        for pending in &view.pending {
            assert_eq!(pending.queued, waits_for_lock && pending.id == next.id, "{} in the queue", pending.id);
        }
    }
    if view.pending.is_empty() {
        let ended = view.inputs.deployment.as_ref().is_some_and(|deployment| deployment.ended.is_some());
        let due = view.inputs.triggers && !ended;
        assert!(!due || paused || !view.automatic_holds.is_empty(), "a build is due");
        assert!(!due || !holds.is_empty(), "a build is due, and nothing says why there is none");
    } else {
        assert!(!holds.is_empty(), "a build waits, and nothing says for what");
    }
    for (nth, hold) in holds.iter().enumerate() {
        assert!(!holds[..nth].contains(hold), "twice: {hold:?}");
        let is_ours = !matches!(hold.code, Code::NoVersion | Code::BagDisabled | Code::HeldAfterUnlock);
        assert!(!is_ours || hold.by.is_some() || hold.command.is_some(), "what lifts it? {hold:?}");
    }
}

/// Each hold is one that is in the way, and together they are all.
fn check_report(world: &World, holds: &[Hold], met: &mut BTreeSet<Code>) {
    for hold in holds {
        met.insert(hold.code);
        let mut without = world.clone();
        without.lift(hold);
        let after = without.settle();
        let moved =
            without.started.len() > world.started.len() || without.view.pending.len() < world.view.pending.len();
        assert!(moved || !after.contains(hold), "lifting it changes nothing: {hold:?}");
    }
    let mut without = world.clone();
    holds.iter().for_each(|hold| without.lift(hold));
    let mut after = without.settle();
    if matches!(world.view.lock, Some((LockMode::Require, _))) && world.view.inputs.deployment.is_none() {
        // Whose lock it needs is known only now.
        after.iter().for_each(|hold| without.lift(hold));
        after = without.settle();
    }
    let moved = without.started.len() > world.started.len() || without.view.pending.len() < world.view.pending.len();
    assert!(moved || world.view.pending.is_empty(), "with all of it lifted nothing starts: {after:?}");
    if world.view.pending.is_empty() && !holds.is_empty() {
        assert!(!holds.iter().any(|hold| after.contains(hold)), "still held: {after:?}");
    }
}

#[test]
fn decisions_come_to_an_end_and_the_report_names_everything_that_is_in_the_way() {
    let jobs = std::env::var("HOLDALL_JOBS").ok().map_or(JOBS, |jobs| jobs.parse().expect("a number"));
    let mut met = BTreeSet::new();
    let mut started = 0;
    for seed in 0..jobs {
        let mut world = world(seed);
        let before = world.clone();
        let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let holds = world.settle();
            check_rest(&world, &holds);
            check_report(&world, &holds, &mut met);
        }));
        assert!(tried.is_ok(), "seed {seed}: {before:#?}");
        started += world.started.len();
    }
    let codes: Vec<&str> = met.iter().map(|code| code.as_str()).collect();
    let all = [
        "no-version",
        "bag-disabled",
        "lock-held",
        "lock-queue",
        "held-after-unlock",
        "job-paused",
        "pipeline-paused",
        "max-in-flight",
        "serial-group",
        "check-pending",
    ];
    assert!(all.iter().all(|code| codes.contains(code)), "only {codes:?} were met");
    assert!(started as u64 > jobs / 10, "only {started} builds started");
}
