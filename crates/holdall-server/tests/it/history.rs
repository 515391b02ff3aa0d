//! The history of a job taken out of a running server: resolved elsewhere, it gives what the server's builds took.

use std::collections::BTreeMap;

use holdall_engine::ids::{BuildId, PipelineId};
use holdall_engine::resolve::Wanted;
use holdall_engine::resolve::document::{Document, DocumentResource, DocumentVersion, Evaluation};
use holdall_engine::status::BuildStatus;
use holdall_engine::version::Version;
use holdall_protocol::api::{Act, ActAnswer, ActRequest, PinTarget, TickTarget};
use holdall_protocol::worker::Ending;
use holdall_server::lifecycle::now;
use holdall_store::builds::{self, BuildRow};
use holdall_store::versions::{self, NewVersion};
use holdall_store::{Tx, jobs, resources};

use crate::support::{FakeWorker, Place, TestServer, finished, on_both_databases, output, started, success};

on_both_databases!(
    what_is_resolved_elsewhere_is_what_the_next_build_takes,
    what_was_never_checked_and_what_is_gone_or_pinned_is_exported_as_it_is_decided,
);

/// `ship` starts only when a person says so: then nothing happens between a look at the history and its build.
const PIPELINE: &str = "
resources:
- { name: repo, type: mock, source: { initial_version: one } }
- { name: image, type: mock, source: { no_initial_version: true } }
jobs:
- name: unit
  plan:
  - { get: repo, trigger: true, version: every }
  - task: unit
    config: { platform: linux, run: { path: 'true' } }
- name: lint
  plan:
  - { get: repo, trigger: true, version: every }
  - task: lint
    config: { platform: linux, run: { path: 'true' } }
- name: pack
  plan:
  - { get: repo, trigger: true, passed: [unit], version: every }
  - { put: image, params: { version: packed } }
- name: ship
  plan:
  - { get: repo, passed: [unit, lint] }
  - { get: image, passed: [pack] }
- name: audit
  plan:
  - { get: code, resource: repo, passed: [unit], version: every }
";

/// `log` is never checked: all that is known of it comes from puts.
const UNCHECKED: &str = "
resources:
- { name: repo, type: mock, source: { initial_version: one } }
- { name: log, type: mock, check_every: never, source: { no_initial_version: true } }
jobs:
- name: unit
  plan:
  - { get: repo, trigger: true, version: every }
- name: note
  plan:
  - { put: log, params: { version: noted } }
- name: read
  plan:
  - { get: log, passed: [note] }
- name: audit
  plan:
  - { get: code, resource: repo, passed: [unit], version: every }
";

struct Live {
    server: TestServer,
    worker: FakeWorker,
    pipeline: PipelineId,
    /// Versions that fail `lint`.
    bad: Vec<&'static str>,
}

impl Live {
    fn start(place: &Place, pipeline: &str) -> Live {
        let server = TestServer::start(place);
        let pipeline = server.pipeline("p", pipeline);
        let worker = FakeWorker::new("w");
        worker.hello(&server);
        Live { server, worker, pipeline, bad: Vec::new() }
    }

    fn builds(&self, job: &str) -> Vec<BuildRow> {
        self.server.builds_of(self.server.job(self.pipeline, job))
    }

    fn got(&self, build: BuildId) -> BTreeMap<String, Version> {
        let inputs = self.server.store().read_blocking(move |tx| builds::build_inputs(tx, build)).expect("a read");
        inputs.into_iter().map(|input| (input.name, input.version)).collect()
    }

    /// Waits until the scheduler has looked at everything; gives whether any build is open then, or none was made yet.
    fn is_busy(&self) -> bool {
        let looked = |tx: &mut Tx<'_>| Ok(jobs::dirty(tx, 1)?.is_empty().then_some(()));
        self.server.wait("the scheduler has looked", looked);
        let builds = self.server.store().read_blocking(|tx| builds::build_list(tx, None, 1000)).expect("a read");
        builds.is_empty() || builds.iter().any(|build| !build.status.is_terminal())
    }

    /// Works until there is nothing left to do.
    fn settle(&mut self) {
        while self.is_busy() {
            let orders = self.worker.poll(&self.server);
            self.worker.check(&self.server, &orders.checks);
            for step in orders.start {
                let version = self.got(BuildId(step.build)).remove("repo").unwrap_or_default();
                let fails = step.name == "lint" && self.bad.iter().any(|bad| version.0["version"] == *bad);
                let end = match fails {
                    true => Ending::Exited { status: 1, result: None, artifacts: Vec::new() },
                    false => success(&step),
                };
                let name = format!("{}\n", step.name);
                let facts = vec![started(&step), output(&step, 0, name.as_bytes()), finished(&step, end)];
                self.worker.report(&self.server, facts);
            }
        }
    }

    /// Works until a check has found a version of the only resource that the job gets, and there is nothing left to do.
    fn settle_checked(&mut self, job: &str) {
        while self.history(job).versions.iter().all(|known| known.order.is_none()) {
            let orders = self.worker.poll(&self.server);
            assert_eq!(orders.start, [], "nothing can start yet");
            self.worker.check(&self.server, &orders.checks);
        }
        self.settle();
    }

    /// Pushes versions, each after the one before has gone through the jobs.
    fn push(&mut self, names: &[&'static str]) {
        for name in names {
            let pipeline = self.pipeline;
            let new = NewVersion { version: Version::of("version", name), metadata: Vec::new() };
            self.server
                .store()
                .write_blocking(move |tx| {
                    let row = resources::resource_find(tx, pipeline, "repo")?.expect("the resource");
                    versions::versions_save(tx, row.scope.expect("a scope"), &[new], now())
                })
                .expect("a write");
            self.settle();
        }
    }

    fn act(&self, act: Act) {
        let request =
            ActRequest { act, reason: Some("because".to_owned()), ticket: None, dry_run: false, preview_token: None };
        let answer: ActAnswer = self.server.ask("POST", "/acts", &request);
        assert!(answer.done);
    }

    fn history(&self, job: &str) -> Document {
        let answer = self.server.send("GET", &format!("/jobs/main/p/{job}/history"), &());
        assert_eq!(answer.status, 200, "{answer:?}");
        Document::parse(&answer.body).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    /// Resolves the history of a job, lets the server start a build, and compares all that was decided.
    fn compare(&mut self, job: &str) -> Evaluation {
        let decided = self.history(job).evaluate();
        let build = self.server.trigger(self.server.job(self.pipeline, job));
        if decided.resolution.resolved {
            self.settle();
        } else {
            self.is_busy();
        }
        let settled = self.server.build(build);
        if !decided.resolution.resolved {
            assert_eq!(settled.status, BuildStatus::Pending, "nothing resolves, nothing starts");
            self.act(Act::BuildAbort { build: build.0, force: false, worker_is_dead: false });
            self.settle();
            return decided;
        }
        assert_eq!(settled.status, BuildStatus::Succeeded);
        let (took, from) = self
            .server
            .store()
            .read_blocking(move |tx| {
                Ok::<_, holdall_store::StoreError>((builds::build_inputs(tx, build)?, builds::build_pipes(tx, build)?))
            })
            .expect("a read");
        let mut vouched: Vec<BuildId> = Vec::new();
        for input in &decided.resolution.inputs {
            let resolved = input.result.as_ref().expect("all are resolved");
            let took = took.iter().find(|took| took.name == input.name).expect("the build has the input");
            assert_eq!(took.version, resolved.version, "{job}, {}", input.name);
            assert_eq!(took.first_occurrence, resolved.first_occurrence, "{job}, {}", input.name);
            vouched.extend(&resolved.passed_builds);
        }
        assert_eq!(took.len(), decided.resolution.inputs.len());
        vouched.sort();
        vouched.dedup();
        assert_eq!(from, vouched, "{job}: the builds that vouched");
        decided
    }
}

/// The chosen version of an input.
fn chosen(decided: &Evaluation, input: &str) -> String {
    let input = decided.resolution.inputs.iter().find(|other| other.name == input).expect("the input");
    match &input.result {
        Ok(resolved) => resolved.version.0["version"].clone(),
        Err(unresolved) => unresolved.failure.to_string(),
    }
}

fn what_is_resolved_elsewhere_is_what_the_next_build_takes(place: &Place) {
    let mut live = Live::start(place, PIPELINE);
    live.settle();
    assert_eq!(chosen(&live.compare("ship"), "repo"), "one");
    assert_eq!(chosen(&live.compare("audit"), "code"), "one");

    live.bad = vec!["three"];
    live.push(&["two", "three"]);
    assert_eq!(live.builds("lint").len(), 3);
    let ship = live.compare("ship");
    assert_eq!((chosen(&ship, "repo"), chosen(&ship, "image")), ("two".to_owned(), "packed".to_owned()));
    assert_eq!(chosen(&live.compare("ship"), "repo"), "two", "the same once more, and no first occurrence");
    // One at a time, each newer than the last.
    for version in ["two", "three", "three"] {
        assert_eq!(chosen(&live.compare("audit"), "code"), version);
    }

    let version = |name: &str| TickTarget::Resource {
        team: "main".to_owned(),
        pipeline: "p".to_owned(),
        resource: "repo".to_owned(),
        version: format!("version:{name}"),
    };
    live.act(Act::Disable { target: version("two"), and_bags: false, until: None });
    live.settle();
    assert_eq!(chosen(&live.compare("ship"), "repo"), "one");

    let repo =
        || PinTarget::Resource { team: "main".to_owned(), pipeline: "p".to_owned(), resource: "repo".to_owned() };
    live.act(Act::Pin { target: repo(), version: "version:three".to_owned(), until: None });
    live.settle();
    let ship = live.compare("ship");
    assert_eq!(chosen(&ship, "repo"), "no satisfiable builds from passed jobs found for set of inputs");
    assert_eq!(chosen(&live.compare("audit"), "code"), "three");
    live.act(Act::Unpin { target: repo() });

    // A job is gone: it is not in the document, and what only it held back goes on.
    live.pipeline = live.server.pipeline(
        "p",
        &PIPELINE.replace("[unit, lint]", "[unit]").replace("- name: lint\n", "- name: style\n  old_name: lint\n"),
    );
    live.settle();
    assert_eq!(live.history("ship").jobs, ["unit", "pack", "ship"]);
    assert_eq!(chosen(&live.compare("ship"), "repo"), "three");
    assert_eq!(chosen(&live.compare("audit"), "code"), "three");

    for unknown in ["/jobs/main/p/nothing/history", "/jobs/main/nothing/ship/history", "/jobs/nobody/p/ship/history"] {
        let answer = live.server.send("GET", unknown, &());
        assert_eq!((answer.status, answer.json()["code"].as_str()), (404, Some("not_found")), "{answer:?}");
    }
}

fn what_was_never_checked_and_what_is_gone_or_pinned_is_exported_as_it_is_decided(place: &Place) {
    let mut live = Live::start(place, UNCHECKED);
    let nothing_satisfies = "no satisfiable builds from passed jobs found for set of inputs";
    // No check has ended yet.
    for (job, resource) in [("audit", "repo"), ("unit", "repo"), ("read", "log")] {
        let history = live.history(job);
        assert_eq!(history.resources, [DocumentResource { name: resource.to_owned(), checked: false }], "{job}");
        assert_eq!(history.versions, []);
    }
    assert_eq!(chosen(&live.history("unit").evaluate(), "repo"), "version of resource not found");
    assert_eq!(chosen(&live.compare("audit"), "code"), nothing_satisfies);
    live.settle_checked("audit");

    // What a put saved is a version, and there can be none of what is said to have been never checked.
    assert_eq!(chosen(&live.compare("read"), "log"), nothing_satisfies);
    let note = live.server.trigger(live.server.job(live.pipeline, "note"));
    live.settle();
    assert_eq!(live.server.build(note).status, BuildStatus::Succeeded);
    let read = live.server.job(live.pipeline, "read");
    let inputs = live.server.store().read_blocking(move |tx| jobs::job_inputs(tx, read)).expect("a read");
    assert_eq!((inputs.len(), inputs[0].checked_at), (1, None), "no check of it ever ended");
    let history = live.history("read");
    assert_eq!(history.resources, [DocumentResource { name: "log".to_owned(), checked: true }]);
    let orders: Vec<Option<i64>> = history.versions.iter().map(|version| version.order).collect();
    assert_eq!(orders, [Some(1)], "a put gives its version a place as a check does");
    assert_eq!(chosen(&live.compare("read"), "log"), "noted");

    // Another source has versions of its own: the others are gone, and those that were disabled still are.
    assert_eq!(chosen(&live.compare("audit"), "code"), "one");
    live.push(&["two"]);
    assert_eq!(chosen(&live.compare("audit"), "code"), "two");
    let one = TickTarget::Resource {
        team: "main".to_owned(),
        pipeline: "p".to_owned(),
        resource: "repo".to_owned(),
        version: "version:one".to_owned(),
    };
    live.act(Act::Disable { target: one, and_bags: false, until: None });
    live.settle();
    live.pipeline = live.server.pipeline("p", &UNCHECKED.replace("initial_version: one", "initial_version: zero"));
    let history = live.history("audit");
    let gone = |known: &DocumentVersion| (known.version.0["version"].clone(), known.order, known.enabled);
    assert_eq!(history.versions.iter().map(gone).collect::<Vec<_>>(), [("one".to_owned(), None, false)]);
    let decided = live.compare("audit");
    let unresolved = decided.resolution.inputs[0].result.as_ref().expect_err("all is gone");
    let causes: Vec<&str> = unresolved.why.iter().map(|why| why.cause.as_str()).collect();
    assert_eq!(causes, ["version-gone", "version-disabled", "no-more-builds"]);
    live.settle_checked("audit");
    let history = live.history("audit");
    let known = history.versions.iter().filter(|known| known.order.is_some());
    assert_eq!(known.map(|known| known.version.0["version"].as_str()).collect::<Vec<_>>(), ["zero"]);
    assert_eq!(chosen(&live.compare("audit"), "code"), "zero");

    // Pinned, `every` still says from which build on the builds before are tried.
    for _ in 0..2 {
        live.server.trigger(live.server.job(live.pipeline, "unit"));
        live.settle();
    }
    let target = PinTarget::Resource { team: "main".to_owned(), pipeline: "p".to_owned(), resource: "repo".to_owned() };
    live.act(Act::Pin { target, version: "version:zero".to_owned(), until: None });
    live.settle();
    let pin = Some(Version::of("version", "zero"));
    assert_eq!(live.history("audit").inputs[0].wanted.0, Wanted { every: true, pin });
    let decided = live.compare("audit");
    assert_eq!(chosen(&decided, "code"), "zero");
}
