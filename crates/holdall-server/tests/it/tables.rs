//! One pipeline in a store, and the scheduler over it: builds start and end, and nothing runs. Time stands still until
//! it is moved.

use std::collections::BTreeMap;

use holdall_engine::ids::{BuildId, JobId, PipelineId};
use holdall_engine::report::Hold;
use holdall_engine::schedule::schedule;
use holdall_engine::status::BuildStatus;
use holdall_engine::time::{Span, Timestamp};
use holdall_protocol::api::{Act, ActRequest};
use holdall_server::acts::{self, Actor};
use holdall_server::duty::schedule::{look, schedule_all};
use holdall_server::pipelines;
use holdall_store::builds::{self, BuildRow, NewBuild};
use holdall_store::{Store, StoreError, Tx, jobs};

pub struct Tables {
    pub store: Store,
    pub pipeline: PipelineId,
    pub now: Timestamp,
}

impl Tables {
    /// With a pipeline `main/p`.
    pub fn new(store: Store, text: &str) -> Tables {
        let mut tables = Tables { store, pipeline: PipelineId(0), now: Timestamp(1_764_000_000_000_000) };
        tables.set(text);
        tables
    }

    /// Sets the pipeline.
    pub fn set(&mut self, text: &str) {
        let (config, _) = pipelines::parse(text, &BTreeMap::new()).expect("a pipeline");
        let now = self.now;
        let saved = self
            .store
            .write_blocking(move |tx| pipelines::save(tx, "main", "p", &config, &BTreeMap::new(), false, now));
        self.pipeline = saved.expect("a pipeline");
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

    pub fn job(&self, name: &'static str) -> JobId {
        let pipeline = self.pipeline;
        self.write(move |tx, _| jobs::job_find(tx, pipeline, name)).expect("a job").id
    }

    /// A person triggers a job.
    pub fn trigger(&mut self, job: &'static str) -> BuildId {
        self.pass(1);
        let job = self.job(job);
        let new = NewBuild { manual: true, created_by: Some("ann".to_owned()), ..NewBuild::default() };
        self.write(move |tx, now| builds::build_create(tx, job, &new, now))
    }

    pub fn rerun(&mut self, build: BuildId) -> BuildId {
        self.pass(1);
        let of = self.build(build);
        self.write(move |tx, now| builds::build_rerun(tx, &of, "ann", None, now))
    }

    pub fn build(&self, build: BuildId) -> BuildRow {
        self.write(move |tx, _| builds::build_get(tx, build)).expect("a build")
    }

    pub fn end(&mut self, build: BuildId, status: BuildStatus) {
        self.pass(1);
        assert!(self.write(move |tx, now| builds::build_finish(tx, build, status, None, now)), "{build} had ended");
    }

    /// Lets the scheduler look at everything that is marked.
    pub fn schedule(&self) {
        self.write(|tx, now| schedule_all(tx, now).map(|_| ()));
    }

    /// A person does something.
    pub fn act(&mut self, act: Act) {
        self.pass(1);
        let now = self.now;
        let reason = Some("because".to_owned());
        let request = ActRequest { act, reason, ticket: None, dry_run: false, preview_token: None };
        let actor = Actor { name: "ann".to_owned(), origin: "cli" };
        self.store.write_blocking(move |tx| acts::act(tx, &actor, &request, now)).expect("the act is accepted");
    }

    /// What holds a job back.
    pub fn report(&self, job: &'static str) -> Vec<Hold> {
        let job = self.job(job);
        let look = self.write(move |tx, _| look(tx, job)).expect("a job");
        schedule(&look.view).holds
    }

    /// What holds a job back, in sentences.
    pub fn holds(&self, job: &'static str) -> Vec<String> {
        self.report(job).into_iter().map(|hold| hold.sentence).collect()
    }
}
