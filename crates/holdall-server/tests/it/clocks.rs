//! Workers whose clocks are wrong: what they say of times is shown, and decides nothing.

use std::collections::BTreeMap;

use holdall_engine::ids::BuildId;
use holdall_engine::status::BuildStatus;
use holdall_engine::time::{Span, Timestamp};
use holdall_protocol::api::{AcquireRequest, Act};
use holdall_protocol::worker::{
    Assignment, Ending, Fact, HeldAttempt, Hello, Orders, Poll, Report, ResourceResult, StepSpec,
};
use holdall_server::acts::{self, Acquired, Actor};
use holdall_server::duty::{schedule, timekeeper, workers};
use holdall_server::error::Error;
use holdall_server::pipelines;
use holdall_store::builds::{self, NewBuild};
use holdall_store::{Store, Tx, checks, jobs, locks, resources};

use crate::locks::LOAD_TEST;
use crate::world::{Fate, SYSTEM, World};

mod on_stores {
    mod both {
        holdall_store::on_both_databases!(
            a_build_goes_its_way_whatever_the_clock_of_its_worker_says,
            a_person_gets_a_lock_for_as_long_as_was_asked,
        );
    }

    fn a_build_goes_its_way_whatever_the_clock_of_its_worker_says(store: holdall_store::Store) {
        super::a_build_goes_its_way_whatever_the_clock_of_its_worker_says(store);
    }

    fn a_person_gets_a_lock_for_as_long_as_was_asked(store: holdall_store::Store) {
        super::a_person_gets_a_lock_for_as_long_as_was_asked(store);
    }
}

/// A step, and one with a limit around it that begins to count when the first has ended.
const PIPELINE: &str = "
resources:
- { name: source, type: mock, source: { initial_version: one } }
jobs:
- name: build
  plan:
  - { get: source, trigger: true }
  - task: first
    config: { platform: linux, run: { path: 'true' } }
  - do:
    - task: second
      config: { platform: linux, run: { path: 'true' } }
    timeout: 10m
";

/// A worker on a server whose time the test moves.
struct Skewed<'a> {
    store: &'a Store,
    name: &'static str,
    now: Timestamp,
    skew: Span,
}

impl Skewed<'_> {
    fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tx<'_>, Timestamp) -> Result<T, Error> + Send + 'static,
    ) -> T {
        let now = self.now;
        self.store.write_blocking(move |tx| work(tx, now)).expect("the store works")
    }

    /// When it is, by this worker's clock.
    fn at(&self) -> i64 {
        (self.now + self.skew).0
    }

    fn hello(&self, attempts: Vec<HeldAttempt>) {
        let hello = Hello {
            name: self.name.to_owned(),
            session: "1".to_owned(),
            platform: "linux".to_owned(),
            tags: Vec::new(),
            team: None,
            slots: 4,
            version: "0".to_owned(),
            attempts,
            history: None,
            builds: Vec::new(),
            forgot: None,
        };
        self.write(move |tx, now| workers::hello(tx, &hello, now));
    }

    fn orders(&self) -> Orders {
        let poll = Poll { name: self.name.to_owned(), session: "1".to_owned(), free_slots: 4, running: Vec::new() };
        self.write(move |tx, now| {
            schedule::schedule_all(tx, now)?;
            workers::orders(tx, &poll, now)
        })
    }

    fn report(&self, facts: Vec<Fact>) {
        let report = Report { name: self.name.to_owned(), session: "1".to_owned(), facts };
        let answer = self.write(move |tx, now| workers::report(tx, &report, now));
        assert_eq!(answer.refused, [""; 0]);
    }

    fn started(&self, step: &Assignment) -> Fact {
        Fact::Started { attempt: step.attempt.clone(), fence: step.fence, at: self.at() }
    }

    fn finished(&self, step: &Assignment) -> Fact {
        let result = match &step.spec {
            StepSpec::Get { version, .. } => Some(ResourceResult { version: version.clone(), metadata: Vec::new() }),
            StepSpec::Put { .. } | StepSpec::Task { .. } | StepSpec::Files { .. } => None,
        };
        let ending = Ending::Exited { status: 0, result, artifacts: Vec::new() };
        Fact::Finished { attempt: step.attempt.clone(), fence: step.fence, at: self.at(), ending }
    }

    fn status(&self, build: BuildId) -> BuildStatus {
        self.write(move |tx, _| Ok(builds::build_get(tx, build)?.expect("the build").status))
    }
}

fn a_build_goes_its_way_whatever_the_clock_of_its_worker_says(store: Store) {
    let begin = Timestamp(1_764_000_000_000_000);
    let (job, scope) = store
        .write_blocking(move |tx| {
            let (config, _) = pipelines::parse(PIPELINE, &BTreeMap::new())?;
            let id = pipelines::save(tx, "main", "p", &config, &BTreeMap::new(), false, begin)?;
            let source = resources::resource_find(tx, id, "source")?.expect("the resource");
            Ok::<_, Error>((jobs::job_find(tx, id, "build")?.expect("the job").id, source.scope.expect("a scope")))
        })
        .expect("a pipeline");
    for (hour, name, skew) in [(0, "behind", -3600), (3, "ahead", 3600)] {
        let now = begin + Span::seconds(hour * 3600);
        let mut worker = Skewed { store: &store, name, now, skew: Span::seconds(skew) };
        worker.hello(Vec::new());
        let build = worker.write(move |tx, now| {
            Ok(builds::build_create(tx, job, &NewBuild { manual: true, ..NewBuild::default() }, now)?)
        });
        worker.now = worker.now + Span::seconds(1);
        let checks = worker.orders().checks;
        assert_eq!(checks.len(), 1, "{name}: the build wants the newest version");
        let found = Ok(vec![BTreeMap::from([("version".to_owned(), "one".to_owned())])]);
        let check = checks[0].check.clone();
        worker.now = worker.now + Span::seconds(1);
        worker.report(vec![Fact::Checked { check, at: worker.at(), result: found, metadata: Vec::new() }]);
        let (state, due) = worker.write(move |tx, now| {
            let state = checks::check_state(tx, scope)?;
            Ok((state, checks::check_due(tx, now)?.expect("it is checked again")))
        });
        assert_eq!(state.checked_at, Some(worker.now), "{name}");
        let (soonest, latest) = (worker.now + Span::seconds(54), worker.now + Span::seconds(66));
        assert!(soonest <= due && due <= latest, "{name}: {due:?}, and it is {:?}", worker.now);

        // One check is enough for the build, and no step of it was late before it began.
        for step in ["source", "first", "second"] {
            let mut orders = worker.orders();
            assert_eq!(worker.status(build), BuildStatus::Started, "{name} {step}");
            assert_eq!((orders.checks.len(), orders.stop.len(), orders.start.len()), (0, 0, 1), "{name} {step}");
            let assignment = orders.start.remove(0);
            assert_eq!(assignment.name, step);
            let (next, due) = worker.write(|tx, now| Ok((timekeeper::next(tx)?, timekeeper::due(tx, now)?)));
            let limit = (step == "second").then_some(worker.now + Span::seconds(600));
            assert_eq!((next, due), (limit, Vec::new()), "{name} {step}");
            worker.report(vec![worker.started(&assignment), worker.finished(&assignment)]);
        }
        let row = worker.write(move |tx, _| Ok(builds::build_get(tx, build)?.expect("the build")));
        assert_eq!((row.status, row.ended_at), (BuildStatus::Succeeded, Some(worker.now)), "{name}");
    }
}

fn a_person_gets_a_lock_for_as_long_as_was_asked(store: Store) {
    let mut world = World::new(store);
    let allow = "    after: preview\n    lock: { allow: [main/tests] }\n";
    let text = SYSTEM.replace("    after: preview\n", allow);
    world.act(Act::SystemSet { text, vars: BTreeMap::new(), now: false });
    let (team, pipeline) = ("main".to_owned(), "tests".to_owned());
    let text = LOAD_TEST.to_owned();
    world.act(Act::PipelineSet { team: team.clone(), pipeline: pipeline.clone(), text, vars: BTreeMap::new() });
    world.act(Act::PipelineUnpause { team: team.clone(), pipeline: pipeline.clone() });
    world.rule("main/load", Fate::Runs);
    world.act(Act::JobTrigger { team, pipeline, job: "load".to_owned() });
    world.run();
    let request = AcquireRequest {
        reason: "a demonstration".to_owned(),
        wait: true,
        for_seconds: Some(1800),
        ..AcquireRequest::default()
    };
    let now = world.now;
    let acquired = world.store.write_blocking(move |tx| {
        let bob = Actor { name: "bob".to_owned(), origin: "cli" };
        acts::acquire(tx, &bob, "staging", &request, "secret", now)
    });
    assert!(matches!(acquired, Ok(Acquired::Queued { .. })), "{acquired:?}");

    let behind = Skewed { store: &world.store, name: "w", now: world.now, skew: Span::seconds(-3600) };
    let load: Assignment = world.write(|tx, _| {
        let open = holdall_store::attempts::attempt_list_of_worker(tx, "w")?.remove(0);
        Ok(serde_json::from_str(&open.assignment).expect("an assignment"))
    });
    behind.hello(vec![HeldAttempt { attempt: load.attempt.clone(), fence: load.fence }]);
    behind.report(vec![behind.finished(&load)]);
    let holdings = world.write(|tx, _| {
        let lock = locks::lock_find(tx, "staging")?.expect("the lock");
        locks::holding_list(tx, lock)
    });
    let held: Vec<_> = holdings.into_iter().map(|row| (row.name, row.since, row.until)).collect();
    assert_eq!(held, [("bob".to_owned(), world.now, Some(world.now + Span::seconds(1800)))]);
}
