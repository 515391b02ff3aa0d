//! A whole installation in one process without processes: the real store, scheduler, tracker and acts, and a worker
//! that ends every step as the test says. Time stands still until it is moved.

use std::collections::{BTreeMap, BTreeSet};

use holdall_engine::time::{Span, Timestamp};
use holdall_engine::version::Version;
use holdall_protocol::api::{AcquireRequest, Act, ActAnswer, ActRequest, AuditEntry, Hold, Preview};
use holdall_protocol::worker::{Assignment, Ending, ResourceResult, StepSpec};
use holdall_server::acts::{self, Acquired, Actor};
use holdall_server::duty::{schedule, track};
use holdall_server::error::{Error, Refusal};
use holdall_server::query;
use holdall_store::builds::BuildRow;
use holdall_store::environments::{self, DeploymentRow, EnvironmentRow};
use holdall_store::versions::NewVersion;
use holdall_store::{Store, StoreError, Tx, attempts, bags, builds, jobs, pipelines, resources, systems, versions};

/// The system that the tests release.
pub const SYSTEM: &str = "\
system: notify
services:
  api: { type: mock, source: { initial_version: api } }
  admin: { type: mock, source: { initial_version: admin } }
environments:
  preview:
    pack: true
    deploy: [{ task: apply, file: api/apply.yml }]
    tests: { functional: [{ task: functional, file: api/functional.yml }] }
  staging:
    after: preview
    deploy: [{ task: apply, file: api/apply.yml }]
    tests: { smoke: [{ task: smoke, file: api/smoke.yml }] }
  production:
    after: staging
    deploy: [{ task: apply, file: api/apply.yml }]
    tests: { smoke: [{ task: smoke, file: api/smoke.yml }] }
";

/// What becomes of a step: by `environment/job/step`.
pub type Rule = (String, Fate);

/// How the fake worker ends a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// With that exit status.
    Exit(i32),
    /// Not at all.
    Runs,
    /// Nobody knows how.
    Lost,
}

/// An installation.
pub struct World {
    pub store: Store,
    pub now: Timestamp,
    rules: Vec<Rule>,
    /// Every task that ran: `environment/job/step bag N`.
    pub ran: Vec<String>,
}

impl World {
    /// With the system set, and nothing pushed.
    pub fn new(store: Store) -> World {
        let mut world = World { store, now: Timestamp(1_764_000_000_000_000), rules: Vec::new(), ran: Vec::new() };
        world.act(Act::SystemSet { text: SYSTEM.to_owned(), vars: BTreeMap::new(), now: false });
        world
    }

    pub fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tx<'_>, Timestamp) -> Result<T, StoreError> + Send + 'static,
    ) -> T {
        let now = self.now;
        self.store.write_blocking(move |tx| work(tx, now)).expect("the store works")
    }

    pub fn pass(&mut self, seconds: i64) {
        self.now = self.now + Span::seconds(seconds);
    }

    /// From now on, steps whose `environment/job/step` begins with `place` end like that; the newest rule counts.
    pub fn rule(&mut self, place: &str, fate: Fate) {
        self.rules.insert(0, (place.to_owned(), fate));
    }

    /// Pushes a version of a service.
    pub fn push(&mut self, service: &str, version: &str) {
        self.pass(1);
        let (service, version) = (service.to_owned(), version.to_owned());
        self.write(move |tx, now| {
            // All environments have the same versions of a service.
            let system = systems::system_find(tx, "notify")?.expect("the system");
            let environment = environments::environment_list(tx, system.id)?.remove(0);
            let row = resources::resource_find(tx, environment.pipeline, &service)?.expect("the service");
            let new = NewVersion { version: Version::of("version", &version), metadata: Vec::new() };
            versions::versions_save(tx, row.scope.expect("a scope"), &[new], now)?;
            Ok(())
        });
    }

    /// Pushes the first version of both services, which goes to production.
    pub fn push_first(&mut self) {
        self.push("api", "api-1");
        self.push("admin", "admin-1");
        self.run();
    }

    /// What bob gets who asks for a lock and would wait for it; `place`: that he has in its queue.
    pub fn ask_for_lock(&mut self, environment: &str, place: Option<String>) -> Result<Acquired, Error> {
        let request = AcquireRequest { reason: "load test".to_owned(), wait: true, place, ..AcquireRequest::default() };
        let (now, name) = (self.now, environment.to_owned());
        self.store.write_blocking(move |tx| acts::acquire(tx, &bob(), &name, &request, "secret-of-bob", now))
    }

    /// Lets bob take a lock that is free; gives its token.
    pub fn take_lock(&mut self, environment: &str) -> String {
        match self.ask_for_lock(environment, None) {
            Ok(Acquired::Granted(granted)) => granted.token,
            other => panic!("{other:?}"),
        }
    }

    /// Lets bob give a lock back.
    pub fn give_back(&mut self, environment: &str, token: String) {
        let (now, name) = (self.now, environment.to_owned());
        let was = self.store.write_blocking(move |tx| acts::release(tx, &bob(), &name, &token, None, now));
        assert!(was.expect("the release"));
        self.run();
    }

    /// Lets the scheduler and the worker go on until nothing moves.
    pub fn run(&mut self) {
        for _ in 0..10_000 {
            self.write(|tx, now| schedule::schedule_all(tx, now).map(|_| ()));
            let queued = self.write(|tx, _| attempts::attempt_list_queued_for(tx, "w", None, 100, 0));
            let mut moved = false;
            for queued in queued {
                let attempt = queued.attempt;
                let assignment: Assignment = serde_json::from_str(&attempt.assignment).expect("an assignment");
                let place = self.write({
                    let build = attempt.build;
                    move |tx, _| {
                        let row = builds::build_get(tx, build)?.expect("the build");
                        let bag = match row.deployment {
                            Some(id) => environments::deployment_get(tx, id)?.bag,
                            None => 0,
                        };
                        Ok((row.team.clone(), row.job_name.clone(), bag))
                    }
                });
                let (environment, job, bag) = place;
                let place = format!("{environment}/{job}/{}", assignment.name);
                let fate = self.rules.iter().find(|(start, _)| place.starts_with(start)).map(|(_, fate)| *fate);
                let fate = fate.unwrap_or(Fate::Exit(0));
                if let StepSpec::Task { .. } = assignment.spec {
                    self.ran.push(format!("{place} bag {bag}"));
                }
                self.write(move |tx, now| {
                    attempts::attempt_assign(tx, &attempt, "w", now)?;
                    track::attempt_started(tx, &attempt, now, now)?;
                    let ending = match fate {
                        Fate::Runs => return Ok(()),
                        Fate::Lost => Ending::Lost { message: "killed".to_owned() },
                        Fate::Exit(status) => Ending::Exited { status, result: result(&assignment), artifacts: vec![] },
                    };
                    track::attempt_finished(tx, &attempt, &ending, now)
                });
                moved = true;
            }
            if !moved {
                return self.forgot_nothing();
            }
        }
        panic!("it never comes to rest");
    }

    /// At rest, the scheduler has nothing to do in any job, whether something has marked it or not.
    fn forgot_nothing(&self) {
        let forgotten = self.write(|tx, _| {
            let mut forgotten = Vec::new();
            for pipeline in pipelines::pipeline_list(tx)? {
                for job in jobs::job_list(tx, pipeline.id)? {
                    let Some(look) = schedule::look(tx, job.id)? else { continue };
                    let due = holdall_engine::schedule::schedule(&look.view).actions;
                    forgotten.extend(due.into_iter().map(|action| (look.view.name.clone(), action)));
                }
            }
            Ok(forgotten)
        });
        assert_eq!(forgotten, []);
    }

    /// Ends every running step with an exit status, or as stopped where it is to be stopped.
    pub fn end_running(&mut self, status: i32) {
        self.write(move |tx, now| {
            for attempt in attempts::attempt_list_of_worker(tx, "w")? {
                let assignment: Assignment = serde_json::from_str(&attempt.assignment).expect("an assignment");
                let ending = match attempt.stop {
                    Some(_) => Ending::Stopped { killed: false },
                    None => Ending::Exited { status, result: result(&assignment), artifacts: vec![] },
                };
                track::attempt_finished(tx, &attempt, &ending, now)?;
            }
            Ok(())
        });
        self.run();
    }

    pub fn request(&mut self, act: Act, reason: Option<&str>, dry_run: bool) -> Result<ActAnswer, Error> {
        self.pass(1);
        let now = self.now;
        let request = ActRequest { act, reason: reason.map(str::to_owned), ticket: None, dry_run, preview_token: None };
        let actor = Actor { name: "ann".to_owned(), origin: "cli" };
        self.store.write_blocking(move |tx| acts::act(tx, &actor, &request, now))
    }

    /// Does something, with a reason, after looking at its preview: it does what that said, and nothing starts that
    /// was not named in it.
    pub fn act(&mut self, act: Act) -> ActAnswer {
        self.write(|tx, now| schedule::schedule_all(tx, now).map(|_| ()));
        let preview = self.preview(act.clone());
        let before = self.started();
        let answer = self.request(act, Some("because"), false).expect("the act is accepted");
        assert_eq!(answer.preview.sentences, preview.sentences);
        assert_eq!(answer.preview.token, preview.token);
        let started = self.started().into_iter().filter(|(id, _)| !before.contains_key(id)).map(|(_, place)| place);
        let started: BTreeSet<String> = started.collect();
        let named = preview.starts.iter().map(|start| format!("{}/{}/{}", start.team, start.pipeline, start.job));
        assert_eq!(started, named.collect(), "what started, and what the preview named");
        answer
    }

    /// The builds that have started, with their jobs.
    fn started(&self) -> BTreeMap<i64, String> {
        self.write(|tx, _| {
            let builds = builds::build_list(tx, None, 100_000)?;
            let started = builds.into_iter().filter(|build| build.started_at.is_some());
            Ok(started
                .map(|build| (build.id.0, format!("{}/{}/{}", build.team, build.pipeline_name, build.job_name)))
                .collect())
        })
    }

    /// What holds an environment back, or a bag in it: codes and sentences.
    pub fn why(&self, name: &str, bag: Option<i64>) -> Vec<Hold> {
        let name = name.to_owned();
        self.store.write_blocking(move |tx| query::why::why(tx, "notify", &name, bag)).expect("the report")
    }

    /// What the newest deployment of a bag changed in an environment: `service from -> to`.
    pub fn changes(&self, name: &str, bag: i64) -> Vec<String> {
        let row = {
            let name = name.to_owned();
            self.write(move |tx, _| {
                let row = environment(tx, &name)?;
                Ok(environments::deployment_list_of_bag(tx, row.id, bag)?.pop().expect("a deployment of the bag"))
            })
        };
        let diff = self
            .store
            .write_blocking(move |tx| query::bags::diff(tx, "notify", bag, row.previous_bag))
            .expect("the difference");
        let version = |version: &Option<holdall_protocol::api::Version>| match version {
            Some(version) => version["version"].clone(),
            None => "none".to_owned(),
        };
        diff.services
            .iter()
            .map(|change| format!("{} {} -> {}", change.service, version(&change.from), version(&change.to)))
            .collect()
    }

    /// The acts in the audit log of the system, newest first.
    pub fn audit(&self) -> Vec<AuditEntry> {
        self.store.write_blocking(|tx| query::audit::list(tx, Some("notify"), None, None, 1000)).expect("the audit log")
    }

    /// What an act would do.
    pub fn preview(&mut self, act: Act) -> Preview {
        self.request(act, Some("because"), true).expect("the preview").preview
    }

    /// The code of the refusal of an act.
    pub fn refused(&mut self, act: Act, reason: Option<&str>) -> &'static str {
        self.refusal(act, reason).code
    }

    /// The refusal of an act.
    pub fn refusal(&mut self, act: Act, reason: Option<&str>) -> Box<Refusal> {
        match self.request(act, reason, false) {
            Err(Error::Refused(refusal)) => refusal,
            Err(error) => panic!("{error}"),
            Ok(answer) => panic!("it was accepted: {:?}", answer.preview.sentences),
        }
    }

    /// The bag that is live, in the order of the chain; 0: none.
    pub fn live(&self) -> Vec<i64> {
        ["preview", "staging", "production"].iter().map(|name| self.current(name)).collect()
    }

    pub fn current(&self, name: &str) -> i64 {
        let name = name.to_owned();
        self.write(move |tx, _| {
            let row = environment(tx, &name)?;
            Ok(environments::deployment_current(tx, row.id)?.map_or(0, |deployment| deployment.bag))
        })
    }

    /// The deployments of an environment, oldest first: bag and how it ended.
    pub fn deployments(&self, name: &str) -> Vec<String> {
        let name = name.to_owned();
        self.write(move |tx, _| {
            let row = environment(tx, &name)?;
            let list = environments::deployment_list(tx, row.id, 100)?;
            Ok(list.iter().rev().map(describe).collect())
        })
    }

    /// The numbers of all bags.
    pub fn bags(&self) -> Vec<i64> {
        self.write(|tx, _| {
            let system = systems::system_find(tx, "notify")?.expect("the system");
            Ok(bags::bag_list(tx, system.id, None, 1000)?.iter().rev().map(|row| row.number).collect())
        })
    }

    /// What holds the next start of an environment back.
    pub fn holds(&self, name: &str) -> Vec<String> {
        self.holds_of(name, "start-deploy")
    }

    /// What holds a job of an environment back.
    pub fn holds_of(&self, name: &str, job: &str) -> Vec<String> {
        let (name, job) = (name.to_owned(), job.to_owned());
        self.write(move |tx, _| {
            let row = environment(tx, &name)?;
            let job = holdall_store::jobs::job_find(tx, row.pipeline, &job)?.expect("the job");
            let look = schedule::look(tx, job.id)?.expect("the job is there");
            let decision = holdall_engine::schedule::schedule(&look.view);
            assert!(decision.actions.is_empty(), "something was left to do: {:?}", decision.actions);
            Ok(decision.holds.iter().map(|hold| hold.code.as_str().to_owned()).collect())
        })
    }

    /// The newest build of a job of an environment.
    /// The builds of a pipeline of one's own, oldest first.
    pub fn pipeline_builds(&self, team: &str, pipeline: &str) -> Vec<BuildRow> {
        let mut all = self.write(|tx, _| builds::build_list(tx, None, 100_000));
        all.retain(|build| build.team == team && build.pipeline_name == pipeline);
        all.sort_by_key(|build| build.id);
        all
    }

    pub fn build(&self, name: &str, job: &str) -> BuildRow {
        let (name, job) = (name.to_owned(), job.to_owned());
        self.write(move |tx, _| {
            let row = environment(tx, &name)?;
            let job = holdall_store::jobs::job_find(tx, row.pipeline, &job)?.expect("the job");
            Ok(builds::build_list_of_job(tx, job.id, None, 1)?.remove(0))
        })
    }
}

fn bob() -> Actor {
    Actor { name: "bob".to_owned(), origin: "cli" }
}

fn describe(deployment: &DeploymentRow) -> String {
    format!("{} {}", deployment.bag, deployment.ended_how.as_deref().unwrap_or("open"))
}

pub fn environment(tx: &mut Tx<'_>, name: &str) -> Result<EnvironmentRow, StoreError> {
    let system = systems::system_find(tx, "notify")?.expect("the system");
    Ok(environments::environment_find(tx, system.id, name)?.expect("the environment"))
}

fn result(assignment: &Assignment) -> Option<ResourceResult> {
    match &assignment.spec {
        StepSpec::Get { version, .. } => Some(ResourceResult { version: version.clone(), metadata: vec![] }),
        StepSpec::Put { .. } => Some(ResourceResult { version: Version::of("version", "put").0, metadata: vec![] }),
        StepSpec::Task { .. } | StepSpec::Files { .. } => None,
    }
}

/// The acts that the tests use most.
pub fn deploy(environment: &str, bag: i64, take_over: bool) -> Act {
    Act::Deploy {
        system: "notify".to_owned(),
        environment: environment.to_owned(),
        bag,
        take_over,
        clear_suspects: Vec::new(),
    }
}
