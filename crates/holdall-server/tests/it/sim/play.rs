//! An installation that plays a history: the real store, acts, duties and sessions of workers, and nothing else that is
//! real. Whatever goes wrong in it goes wrong on purpose.

use std::collections::{BTreeMap, BTreeSet};

use holdall_engine::ids::PipelineId;
use holdall_engine::time::{Span, Timestamp};
use holdall_engine::version::Version;
use holdall_protocol::api::{
    AcquireRequest, Act, ActAnswer, ActRequest, LockMode, PinTarget, Suspects, Then, TickTarget, Time,
};
use holdall_protocol::worker::CheckOrder;
use holdall_server::acts::{self, Acquired, Actor};
use holdall_server::duty::{schedule, workers};
use holdall_server::error::Error;
use holdall_store::testing::{self, Fault};
use holdall_store::{
    Store, StoreError, Tx, builds, checks, environments, jobs, pipelines, resources, systems, versions,
};

use super::duties::Duties;
use super::op::{Change, How, Op, SET_AHEAD, Way};
use super::place::Place;
use super::rules::{Broken, Rules};
use super::shown::Stand;
use super::system::{EVERY, Shape, TOOLS, TOOLS_PIPELINE};
use super::worker::Worker;

/// After so many rounds something goes in circles.
const MOST_ROUNDS: u32 = 400;

/// How much the clock of one worker is behind the server's, and that of the other ahead.
const SKEW: Span = Span::seconds(2 * 3600);

/// Why something was not done.
pub enum Failure {
    /// On purpose: the database failed, or its answer was lost.
    Fault,
    /// The server refused it: with this code.
    Refused(&'static str, String),
    /// A rule is broken.
    Broken(Broken),
}

/// What a history came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub acts: usize,
    pub refused: usize,
    pub faults: usize,
    pub deployments: usize,
}

/// Services that are pinned; services and versions that are unticked.
type Choices = (Vec<String>, Vec<(String, String)>);

pub struct Sim {
    place: Place,
    pub store: Store,
    pub now: Timestamp,
    /// Seconds that have passed, whatever the clock says.
    pub passed: i64,
    pub rules: Rules,
    pub duties: Duties,
    pub stalled: bool,
    pub shape: Shape,
    pub workers: Vec<Worker>,
    pub fates: Vec<(String, How)>,
    /// How many versions each service has.
    pushed: BTreeMap<String, usize>,
    broken_sources: BTreeSet<String>,
    /// What people show for their places and holdings, by person and lock.
    tokens: BTreeMap<(String, String), String>,
    tokens_given: u32,
    /// Who has started an attempt.
    started: BTreeMap<String, String>,
    /// The fence under which a step of a build was started last.
    fences: BTreeMap<(i64, String), i64>,
    /// What goes wrong next.
    armed: Option<Fault>,
    /// After how many more reads of the server's one goes wrong, and after how many of its statements.
    armed_read: Option<(usize, u32)>,
    played: usize,
    /// Whether something was written since the last look.
    unseen: bool,
    pub tally: Tally,
    /// What happened, for people.
    pub log: Vec<String>,
}

impl Sim {
    pub fn new(place: Place) -> Result<Sim, Broken> {
        let store = place.open().map_err(|error| error.to_string())?;
        let mut sim = Sim {
            duties: Duties::new(&store),
            place,
            store,
            now: Timestamp(1_764_000_000_000_000),
            passed: 0,
            rules: Rules::default(),
            stalled: false,
            shape: Shape::first(),
            workers: vec![Worker::new("w1", Span(-SKEW.0)), Worker::new("w2", SKEW)],
            fates: Vec::new(),
            pushed: BTreeMap::new(),
            broken_sources: BTreeSet::new(),
            tokens: BTreeMap::new(),
            tokens_given: 0,
            started: BTreeMap::new(),
            fences: BTreeMap::new(),
            armed: None,
            armed_read: None,
            played: 0,
            unseen: true,
            tally: Tally::default(),
            log: Vec::new(),
        };
        // A pipeline that takes locks is set while it may.
        let set = |shape: Shape| Act::SystemSet { text: shape.text(), vars: BTreeMap::new(), now: false };
        let (team, pipeline) = (TOOLS.to_owned(), "deploy-notify".to_owned());
        let tools = (TOOLS_PIPELINE.to_owned(), BTreeMap::new());
        for act in [
            set(sim.shape.with(Change::Allow(true))),
            Act::PipelineSet { team: team.clone(), pipeline: pipeline.clone(), text: tools.0, vars: tools.1 },
            Act::PipelineUnpause { team, pipeline },
            set(sim.shape),
        ] {
            sim.act("ann", act)?.ok_or("what it begins with was refused")?;
        }
        sim.look()?;
        Ok(sim)
    }

    pub fn pass(&mut self, seconds: i64) {
        self.now = self.now + Span::seconds(seconds);
        self.passed += seconds.max(0);
        for worker in &mut self.workers {
            worker.pass(self.passed);
        }
    }

    /// A transaction that writes.
    pub fn write<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Tx<'_>, Timestamp) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Failure> {
        let now = self.now;
        self.unseen = true;
        match self.store.write_blocking(move |tx| work(tx, now)) {
            Ok(done) => Ok(done),
            Err(Error::Refused(refusal)) => Err(Failure::Refused(refusal.code, refusal.message.clone())),
            Err(Error::Store(StoreError::Unavailable(_))) if self.armed.is_some() => {
                if self.armed.take() == Some(Fault::Answer) {
                    self.duties.nobody_was_woken();
                }
                self.tally.faults += 1;
                self.log.push("  the database fails".to_owned());
                Err(Failure::Fault)
            }
            Err(Error::Store(error)) => Err(Failure::Broken(format!("the store failed: {error}"))),
        }
    }

    /// A transaction of the server's that reads.
    pub fn look_at<T, E: Into<Error> + From<StoreError>>(
        &mut self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T, E>,
    ) -> Result<T, Failure> {
        let armed = self.armed_read.take();
        self.armed_read = armed.and_then(|(after, statements)| Some((after.checked_sub(1)?, statements)));
        let goes_wrong = armed.filter(|_| self.armed_read.is_none());
        if let Some((_, statements)) = goes_wrong {
            testing::fault(&self.store, 0, Fault::Read(statements));
        }
        match self.store.read_blocking(work).map_err(Into::into) {
            Ok(looked) => Ok(looked),
            Err(Error::Store(StoreError::Unavailable(_))) if goes_wrong.is_some() => {
                self.tally.faults += 1;
                self.log.push("  the database fails a reader".to_owned());
                Err(Failure::Fault)
            }
            Err(error) => Err(Failure::Broken(format!("a reader failed: {error}"))),
        }
    }

    /// Looks at the database, behind the server's back: nothing goes wrong with it.
    pub fn read<T>(&self, work: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError>) -> Result<T, Broken> {
        self.store.read_blocking(work).map_err(|error: StoreError| format!("the store failed: {error}"))
    }

    /// Looks whether the rules are kept, where something was written since the last look.
    pub fn look(&mut self) -> Result<(), Broken> {
        if !std::mem::take(&mut self.unseen) {
            return Ok(());
        }
        let (store, now) = (self.store.clone(), self.now);
        store.read_blocking(|tx| self.rules.look(tx, now)).map_err(|error: StoreError| error.to_string())?
    }

    /// Lets one thing happen, with what follows from it.
    pub fn play(&mut self, op: &Op) -> Result<(), Broken> {
        self.log.push(op.to_string());
        self.pass(1);
        self.perform(op)?;
        self.go_on()?;
        self.look()?;
        // It takes its time, so not after everything that happens.
        self.played += 1;
        if self.played.is_multiple_of(5) { self.forgot_nothing() } else { Ok(()) }
    }

    /// The duties do what they are woken for.
    pub fn go_on(&mut self) -> Result<(), Broken> {
        if self.stalled { Ok(()) } else { Duties::go_on(self) }
    }

    /// At rest, the scheduler has nothing to do anywhere, whether somebody woke it for that or not.
    pub fn forgot_nothing(&mut self) -> Result<(), Broken> {
        if self.stalled || self.duties.may_have_missed_something() {
            return Ok(());
        }
        let now = self.now;
        self.read(|tx| super::builds::limits(tx, now))??;
        self.read(|tx| {
            let Some(system) = systems::system_find(tx, "notify")? else { return Ok(Ok(())) };
            let rows = environments::environment_list(tx, system.id)?;
            let mut pipelines: Vec<_> = rows.into_iter().map(|row| (row.name, row.pipeline)).collect();
            let tools = pipelines::pipeline_find(tx, TOOLS, "deploy-notify")?;
            pipelines.extend(tools.map(|row| (TOOLS.to_owned(), row.id)));
            for (name, pipeline) in pipelines {
                for job in jobs::job_list(tx, pipeline)? {
                    let Some(look) = schedule::look(tx, job.id)? else { continue };
                    let decision = holdall_engine::schedule::schedule(&look.view);
                    if !decision.actions.is_empty() {
                        let place = format!("{name}/{}", job.name);
                        let marked = jobs::dirty(tx, 100)?.contains(&job.id);
                        let done: Vec<String> = self
                            .rules
                            .seen
                            .builds
                            .values()
                            .map(|build| format!("{} {}", super::rules::name_of(build), build.status.as_str()))
                            .collect();
                        return Ok(Err(format!(
                            "{place} was forgotten (marked: {marked}): {:?} {done:?}",
                            decision.actions
                        )));
                    }
                }
            }
            Ok(Ok(()))
        })?
    }

    fn perform(&mut self, op: &Op) -> Result<(), Broken> {
        match op {
            Op::Push { service, quiet } => self.push(service, *quiet),
            Op::Source { service, broken: true } => {
                self.broken_sources.insert(service.clone());
                Ok(())
            }
            Op::Source { service, broken: false } => {
                self.broken_sources.remove(service);
                Ok(())
            }
            Op::Work { rounds } => self.work(*rounds),
            Op::Fate { place, how } => {
                self.fates.insert(0, (place.clone(), *how));
                Ok(())
            }
            Op::Poll { worker, lost } => self.poll(index(worker), *lost).map(|_| ()),
            Op::End { worker, how } => {
                let worker = &mut self.workers[index(worker)];
                if let Some(oldest) = worker.running().first() {
                    worker.end(&oldest.attempt, *how);
                }
                Ok(())
            }
            Op::Report { worker, way } => self.report(index(worker), *way).map(|_| ()),
            Op::Restart { worker, empty } => {
                self.workers[index(worker)].restart(*empty);
                Ok(())
            }
            Op::Acquire { person, environment, wait, shared, seconds } => {
                self.acquire(person, environment, *wait, *shared, *seconds)
            }
            Op::Renew { person, environment } => self.renew(person, environment),
            Op::Set { change, now } => {
                let shape = self.shape.with(*change);
                let act = Act::SystemSet { text: shape.text(), vars: BTreeMap::new(), now: *now };
                if self.act("ann", act)?.is_some() {
                    self.shape = shape;
                }
                Ok(())
            }
            Op::Clock { seconds } if *seconds >= SET_AHEAD => {
                self.duties.nobody_looked(self.now);
                self.now = self.now + Span::seconds(*seconds);
                Ok(())
            }
            Op::Clock { seconds } => {
                self.pass(*seconds);
                // A server's own time goes back only from one process to the next.
                if *seconds < 0 { self.after_start() } else { Ok(()) }
            }
            Op::Stall => {
                self.stalled = true;
                Ok(())
            }
            Op::Go => {
                self.stalled = false;
                Ok(())
            }
            Op::Crash => self.crash(),
            Op::Fault { after, fault: Fault::Read(statements) } => {
                self.armed_read = Some((*after, *statements));
                Ok(())
            }
            Op::Fault { after, fault } => {
                testing::fault(&self.store, *after, *fault);
                self.armed = Some(*fault);
                Ok(())
            }
            Op::Release { person, environment } => {
                self.act(person, Act::LockRelease { environment: environment.clone() }).map(|_| ())
            }
            other => match self.act_of(other) {
                Some(act) => self.act("ann", act).map(|_| ()),
                None => Ok(()),
            },
        }
    }

    /// The act that an operation stands for; `None`: there is nothing that it could mean.
    fn act_of(&self, op: &Op) -> Option<Act> {
        let system = || "notify".to_owned();
        let until = |seconds: &Option<i64>| seconds.map(|seconds| Time((self.now + Span::seconds(seconds)).0));
        let pin =
            |service: &String| PinTarget::Service { system: system(), service: service.clone(), environment: None };
        let tick = |service: &String, back: usize| {
            let version = self.version(service, back)?;
            Some(TickTarget::Service { system: system(), service: service.clone(), environment: None, version })
        };
        let tick_bag = |back: usize, environment: &Option<String>| {
            Some(TickTarget::Bag { system: system(), bag: self.bag(back)?, environment: environment.clone() })
        };
        let team = |environment: &String| (environment.clone(), "deploy-notify".to_owned());
        Some(match op {
            Op::Pin { service, back, seconds } => {
                Act::Pin { target: pin(service), version: self.version(service, *back)?, until: until(seconds) }
            }
            Op::Unpin { service } => Act::Unpin { target: pin(service) },
            Op::Untick { service, back, and_bags } => {
                Act::Disable { target: tick(service, *back)?, and_bags: *and_bags, until: None }
            }
            Op::Tick { service, back } => Act::Enable { target: tick(service, *back)? },
            Op::UntickBag { back, environment, seconds } => {
                Act::Disable { target: tick_bag(*back, environment)?, and_bags: false, until: until(seconds) }
            }
            Op::TickBag { back, environment } => Act::Enable { target: tick_bag(*back, environment)? },
            Op::Assemble { back, service, version } => Act::Assemble {
                system: system(),
                environment: None,
                like: self.bag(*back)?,
                with: BTreeMap::from([(service.clone(), self.version(service, *version)?)]),
            },
            Op::Freeze { environment, back, deploy, seconds } => Act::Freeze {
                system: system(),
                environment: environment.clone(),
                at: back.map(|back| self.bag(back)).map_or(Some(None), |bag| bag.map(Some))?,
                until: until(seconds),
                deploy: *deploy,
            },
            Op::Unfreeze { environment } => Act::Unfreeze { system: system(), environment: environment.clone() },
            Op::Deploy { environment, back, take_over } => Act::Deploy {
                system: system(),
                environment: environment.clone(),
                bag: self.bag(*back)?,
                take_over: *take_over,
                clear_suspects: Vec::new(),
            },
            Op::RollBack { environment, back, suspects, and_untick, here_only } => Act::RollBack {
                system: system(),
                environment: environment.clone(),
                to: back.map(|back| self.bag(back)).map_or(Some(None), |bag| bag.map(Some))?,
                suspects: match suspects.trim_start_matches("suspect=") {
                    "all" => Suspects::All,
                    "none" => Suspects::None,
                    service => Suspects::Services(vec![service.to_owned()]),
                },
                and_untick: *and_untick,
                here_only: *here_only,
            },
            Op::ClearSuspect { environment, service } => Act::ClearSuspect {
                system: system(),
                environment: environment.clone(),
                services: vec![service.clone()],
            },
            Op::Trigger { environment, job } => {
                let (team, pipeline) = team(environment);
                Act::JobTrigger { team, pipeline, job: job.clone() }
            }
            Op::Pause { environment, job, paused } => {
                let (team, pipeline) = team(environment);
                match (job.as_str(), paused) {
                    ("*", true) => Act::PipelinePause { team, pipeline },
                    ("*", false) => Act::PipelineUnpause { team, pipeline },
                    (_, true) => Act::JobPause { team, pipeline, job: job.clone() },
                    (_, false) => Act::JobUnpause { team, pipeline, job: job.clone() },
                }
            }
            Op::Abort { environment, job, force, dead } => {
                Act::BuildAbort { build: self.build(environment, job)?, force: *force, worker_is_dead: *dead }
            }
            Op::Rerun { environment, job } => Act::BuildRerun { build: self.build(environment, job)? },
            Op::Unlock { environment, abort_running, dead, start } => Act::ForceUnlock {
                environment: environment.clone(),
                abort_running: *abort_running,
                worker_is_dead: *dead,
                then: if *start { Then::Start } else { Then::Hold },
            },
            _ => return None,
        })
    }

    fn version(&self, service: &str, back: usize) -> Option<String> {
        let newest = self.pushed.get(service)?;
        let serial = newest.checked_sub(back).filter(|serial| *serial > 0)?;
        Some(format!("version:{}", version_of(service, serial)))
    }

    fn bag(&self, back: usize) -> Option<i64> {
        self.rules.seen.bags.keys().rev().nth(back).copied()
    }

    /// The newest build of a job.
    pub fn build(&self, environment: &str, job: &str) -> Option<i64> {
        let of_job = |build: &&builds::BuildRow| build.team == environment && build.job_name == job;
        self.rules.seen.builds.values().rev().find(of_job).map(|build| build.id.0)
    }

    pub fn push(&mut self, service: &str, quiet: bool) -> Result<(), Broken> {
        *self.pushed.entry(service.to_owned()).or_insert(0) += 1;
        if quiet {
            return Ok(());
        }
        let service = service.to_owned();
        tolerate(self.write(move |tx, now| {
            let Some(system) = systems::system_find(tx, "notify")? else { return Ok(()) };
            let Some(preview) = environments::environment_find(tx, system.id, "preview")? else { return Ok(()) };
            let resource = resources::resource_find(tx, preview.pipeline, &service)?;
            if let Some(scope) = resource.and_then(|resource| resource.scope) {
                checks::check_want(tx, scope, now)?;
            }
            Ok(())
        }))
        .map(|_| ())
    }

    /// The services that are pinned, and the versions that are unticked, by service.
    pub fn choices(&self) -> Result<Choices, Broken> {
        self.read(|tx| {
            let (mut pins, mut unticks) = (Vec::new(), Vec::new());
            let Some(system) = systems::system_find(tx, "notify")? else { return Ok((pins, unticks)) };
            let Some(preview) = environments::environment_find(tx, system.id, "preview")? else {
                return Ok((pins, unticks));
            };
            for service in self.shape.services() {
                let Some(row) = resources::resource_find(tx, preview.pipeline, service)? else { continue };
                if row.pin.is_some() {
                    pins.push(service.to_owned());
                }
                for digest in versions::disabled_list(tx, row.id)?.into_iter().map(|row| row.digest) {
                    let unticked = (1..=self.newest(service))
                        .map(|serial| version_of(service, serial))
                        .find(|version| Version::of("version", version).digest() == digest);
                    unticks.extend(unticked.map(|version| (service.to_owned(), format!("version:{version}"))));
                }
            }
            Ok((pins, unticks))
        })
    }

    /// The jobs of a pipeline that are paused; `*`: it itself.
    pub fn paused(&self, pipeline: PipelineId) -> Result<Vec<String>, Broken> {
        self.read(|tx| {
            let list = jobs::job_list(tx, pipeline)?;
            let whole = list.first().is_some_and(|job| job.pipeline_paused.is_some()).then(|| "*".to_owned());
            let paused = list.into_iter().filter(|job| job.paused.is_some()).map(|job| job.name);
            Ok(whole.into_iter().chain(paused).collect())
        })
    }

    /// The newest version of a service.
    pub fn newest(&self, service: &str) -> usize {
        self.pushed.get(service).copied().unwrap_or(0)
    }

    pub fn mend(&mut self) {
        testing::faultless(&self.store);
        self.armed = None;
        self.armed_read = None;
        self.broken_sources.clear();
        self.fates.clear();
        self.stalled = false;
    }

    fn crash(&mut self) -> Result<(), Broken> {
        self.armed = None;
        self.armed_read = None;
        self.stalled = false;
        self.store = self.place.open().map_err(|error| format!("it does not start again: {error}"))?;
        self.duties = Duties::new(&self.store);
        for worker in &mut self.workers {
            worker.greets = true;
        }
        self.after_start()
    }

    fn after_start(&mut self) -> Result<(), Broken> {
        tolerate(self.write(|tx, now| Ok(holdall_server::serve::after_start(tx, now)?))).map(|_| ())
    }

    /// Does something as a person does: looks at what it would do, and then does exactly that. Gives what it came to
    /// where it was done.
    pub fn act(&mut self, person: &str, act: Act) -> Result<Option<ActAnswer>, Broken> {
        self.tally.acts += 1;
        // Where the duties lag behind, the act does first what is due anyway.
        let at_rest = !self.stalled && !self.duties.may_have_missed_something() && !self.rules.seen.builds.is_empty();
        let fingerprint = at_rest.then(|| self.rules.seen.fingerprint());
        let shown = self.ask(person, &act, None);
        self.look()?;
        let before = self.stand()?;
        if let (Some(fingerprint), Ok(_)) = (&fingerprint, &shown)
            && *fingerprint != before.picture.fingerprint()
        {
            return Err(format!(
                "the preview changed something: {fingerprint} became {}",
                before.picture.fingerprint()
            ));
        }
        let token = shown.as_ref().ok().map(|answer| answer.preview.token.clone());
        let armed = self.armed;
        let done = self.ask(person, &act, token);
        self.look()?;
        let same = before.picture.fingerprint() == self.rules.seen.fingerprint();
        match (shown, done) {
            (Err(Failure::Broken(broken)), _) | (_, Err(Failure::Broken(broken))) => Err(broken),
            (_, Err(Failure::Fault)) if !same && armed != Some(Fault::Answer) => Err(format!(
                "half of an act was done: {} became {}",
                before.picture.fingerprint(),
                self.rules.seen.fingerprint()
            )),
            (_, Err(Failure::Fault)) => Ok(None),
            (_, Err(Failure::Refused(code, _))) if !same => Err(format!("a refusal ({code}) changed something")),
            (Err(Failure::Fault), done) => Ok(done.ok()),
            (Ok(shown), Err(Failure::Refused(code, message))) => {
                Err(format!("the preview showed {:?}, and it was refused: {code}: {message}", shown.preview.sentences))
            }
            (Err(Failure::Refused(code, message)), Ok(_)) => {
                Err(format!("the preview was refused, and the act was not: {code}: {message}"))
            }
            (Err(Failure::Refused(shown, message)), Err(Failure::Refused(done, _))) => {
                self.tally.refused += 1;
                self.log.push(format!("  refused: {done}: {message}"));
                if shown == done { Ok(None) } else { Err(format!("refused as {done}, and its preview as {shown}")) }
            }
            (Ok(shown), Ok(done)) => {
                for sentence in &done.preview.sentences {
                    self.log.push(format!("  {sentence}"));
                }
                if shown.preview != done.preview {
                    return Err(format!("shown: {:?}; done: {:?}", shown.preview, done.preview));
                }
                super::shown::compare(&act, &before, &self.stand()?, &done)?;
                Ok(Some(done))
            }
        }
    }

    fn ask(&mut self, person: &str, act: &Act, token: Option<String>) -> Result<ActAnswer, Failure> {
        let request = ActRequest {
            act: act.clone(),
            reason: Some("because".to_owned()),
            ticket: None,
            dry_run: token.is_none(),
            preview_token: token,
        };
        let actor = Actor { name: person.to_owned(), origin: "cli" };
        self.write(move |tx, now| acts::act(tx, &actor, &request, now))
    }

    /// How things stand, as it was looked at last.
    fn stand(&self) -> Result<Stand, Broken> {
        self.read(|tx| Stand::take(tx, &self.rules.seen))
    }

    fn acquire(
        &mut self,
        person: &str,
        environment: &str,
        wait: bool,
        shared: bool,
        seconds: Option<i64>,
    ) -> Result<(), Broken> {
        self.tokens_given += 1;
        let secret = format!("secret-{}", self.tokens_given);
        let request = AcquireRequest {
            reason: "load test".to_owned(),
            wait,
            mode: if shared { LockMode::Shared } else { LockMode::Exclusive },
            for_seconds: seconds.map(i64::unsigned_abs),
            ..AcquireRequest::default()
        };
        self.ask_for_lock(person, environment, request, secret)
    }

    fn ask_for_lock(
        &mut self,
        person: &str,
        environment: &str,
        request: AcquireRequest,
        secret: String,
    ) -> Result<(), Broken> {
        let key = (person.to_owned(), environment.to_owned());
        let actor = Actor { name: person.to_owned(), origin: "cli" };
        let name = environment.to_owned();
        let asked = self.write(move |tx, now| acts::acquire(tx, &actor, &name, &request, &secret, now));
        if let Some(acquired) = tolerate(asked)? {
            let token = match acquired {
                Acquired::Granted(granted) => {
                    self.rules.told.insert(granted.token.clone());
                    granted.token
                }
                Acquired::Queued { place, .. } => place,
            };
            self.tokens.insert(key, token);
        }
        Ok(())
    }

    fn renew(&mut self, person: &str, environment: &str) -> Result<(), Broken> {
        let Some(token) = self.tokens.get(&(person.to_owned(), environment.to_owned())).cloned() else { return Ok(()) };
        let waits = self.rules.seen.locks.values().flat_map(|lock| &lock.queue);
        if waits.into_iter().any(|wait| wait.token.as_deref() == Some(&token)) {
            let request =
                AcquireRequest { reason: "load test".to_owned(), place: Some(token), ..AcquireRequest::default() };
            return self.ask_for_lock(person, environment, request, String::new());
        }
        let name = environment.to_owned();
        tolerate(self.write(move |tx, now| acts::renew(tx, &name, &token, 60, now))).map(|_| ())
    }

    /// So many rounds, or until nothing moves: the duties, then each worker asks, lets everything end, and reports.
    pub fn work(&mut self, rounds: Option<u32>) -> Result<(), Broken> {
        for _ in 0..rounds.unwrap_or(MOST_ROUNDS) {
            self.pass(1);
            self.go_on()?;
            let mut moved = false;
            for index in 0..self.workers.len() {
                moved |= self.poll(index, false)?;
                for assignment in self.workers[index].running() {
                    let how = self.fate(assignment.build)?;
                    moved |= how != How::Runs;
                    self.workers[index].end(&assignment.attempt, how);
                }
                moved |= self.report(index, Way::Once)?;
            }
            self.go_on()?;
            self.look()?;
            if !moved {
                return Ok(());
            }
        }
        match rounds {
            Some(_) => Ok(()),
            None => {
                let reports: Vec<_> = self.workers.iter().map(|worker| worker.report(self.now)).collect();
                let unfinished = self.rules.seen.builds.values().filter(|build| !build.status.is_terminal());
                let unfinished: Vec<String> = unfinished.map(super::rules::name_of).collect();
                Err(format!("it never comes to rest: {unfinished:?}, {reports:?}"))
            }
        }
    }

    fn fate(&self, build: i64) -> Result<How, Broken> {
        if self.fates.is_empty() {
            return Ok(How::Ok);
        }
        let row = self.read(|tx| builds::build_get(tx, holdall_engine::ids::BuildId(build)))?;
        let place = row.map(|row| format!("{}/{}", row.team, row.job_name)).unwrap_or_default();
        Ok(self.fates.iter().find(|(start, _)| place.starts_with(start)).map_or(How::Ok, |(_, how)| *how))
    }

    /// A worker asks for orders; gives whether there were any. It says hello first where it has to.
    fn poll(&mut self, index: usize, lost: bool) -> Result<bool, Broken> {
        if self.workers[index].greets {
            let hello = self.workers[index].hello();
            let Some(welcome) = tolerate(self.write(move |tx, now| workers::hello(tx, &hello, now)))? else {
                return Ok(false);
            };
            self.workers[index].welcomed(&welcome);
        }
        let poll = self.workers[index].poll();
        let looked = match self.look_at(|tx| workers::look(tx, &poll)) {
            Ok(looked) => looked,
            // It asks again.
            Err(Failure::Fault) => return Ok(true),
            Err(Failure::Refused(_, message) | Failure::Broken(message)) => return Err(message),
        };
        if !looked.has_orders && looked.seen_at + workers::SEEN_EVERY > self.now {
            return Ok(false);
        }
        let told = self.write(move |tx, now| workers::orders(tx, &poll, now));
        let orders = match told {
            Ok(orders) if !lost => orders,
            // Whatever it was, the worker has not heard it: it says hello before it asks again.
            Ok(_) | Err(Failure::Fault) => {
                self.workers[index].greets = true;
                return Ok(true);
            }
            Err(Failure::Refused(code, message)) => return Err(format!("a worker was refused: {code}: {message}")),
            Err(Failure::Broken(broken)) => return Err(broken),
        };
        let moved = workers::is_urgent(&orders);
        let (pushed, broken, now) = (self.pushed.clone(), self.broken_sources.clone(), self.now);
        let versions = |order: &CheckOrder| match order.resource_type.as_str() {
            "time" => Ok(vec![tick_of_clock(order, now)]),
            _ => found(&pushed, &broken, order),
        };
        let started = self.workers[index].follow(orders, &versions, self.now);
        let name = self.workers[index].name.clone();
        for assignment in started {
            // Its process begins at once, whatever becomes of the disk afterwards.
            if let Some(by) = self.started.insert(assignment.attempt.clone(), name.clone()) {
                return Err(format!("{} was started by {by} and again by {name}", assignment.attempt));
            }
            let last = self.fences.entry((assignment.build, assignment.step.clone())).or_insert(-1);
            if assignment.fence < *last {
                return Err(format!("{} was started after fence {last}", assignment.attempt));
            }
            *last = assignment.fence;
        }
        Ok(moved)
    }

    /// A worker reports; gives whether there was anything.
    fn report(&mut self, index: usize, way: Way) -> Result<bool, Broken> {
        if self.workers[index].greets {
            return Ok(false);
        }
        let Some(report) = self.workers[index].report(self.now) else { return Ok(false) };
        for _ in 0..if way == Way::Twice { 2 } else { 1 } {
            let sent = report.clone();
            let answer = tolerate(self.write(move |tx, now| workers::report(tx, &sent, now)))?;
            if let Some(answer) = answer.filter(|_| way != Way::Unanswered) {
                self.workers[index].confirmed(&report, &answer);
            }
        }
        Ok(true)
    }
}

/// What went wrong on purpose, or was refused, is nothing; what is broken is broken.
pub fn tolerate<T>(result: Result<T, Failure>) -> Result<Option<T>, Broken> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(Failure::Fault | Failure::Refused(..)) => Ok(None),
        Err(Failure::Broken(broken)) => Err(broken),
    }
}

fn index(worker: &str) -> usize {
    usize::from(worker == "w2")
}

fn version_of(service: &str, serial: usize) -> String {
    format!("{service}-{serial:04}")
}

/// What the check of a clock finds: the time where the last one is long enough ago, and the last one else.
fn tick_of_clock(order: &CheckOrder, now: Timestamp) -> Version {
    let seconds = now.0 / 1_000_000;
    let last = order.version.as_ref().and_then(|version| version["time"].parse::<i64>().ok());
    let tick = last.filter(|last| seconds - last < EVERY).unwrap_or(seconds);
    Version::of("time", &tick.to_string())
}

/// What a check finds: everything from the version that is known on.
fn found(
    pushed: &BTreeMap<String, usize>,
    broken: &BTreeSet<String>,
    order: &CheckOrder,
) -> Result<Vec<Version>, String> {
    let service = order.source["initial_version"].as_str().unwrap_or_default();
    if broken.contains(service) {
        return Err("the source cannot be reached".to_owned());
    }
    let from = order.version.as_ref().and_then(|version| super::picture::serial(&Version(version.clone())));
    let newest = pushed.get(service).copied().unwrap_or(0);
    Ok((from.unwrap_or(1)..=newest).map(|serial| Version::of("version", &version_of(service, serial))).collect())
}
