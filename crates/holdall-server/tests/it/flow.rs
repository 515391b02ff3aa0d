//! Pipelines from a new version to the end.

use holdall_engine::ids::BuildId;
use holdall_engine::status::BuildStatus;
use holdall_engine::time::{Span, Timestamp};
use holdall_protocol::worker::{Ending, StopReason};
use holdall_server::lifecycle::now;
use holdall_store::locks::{self, HoldingRow, WaitRow};
use holdall_store::{Tx, attempts};

use crate::support::{
    FakeWorker, Place, TestServer, all_facts, finished, has_succeeded, on_both_databases, output, started, success,
};

on_both_databases!(
    a_version_goes_through_all_jobs,
    reports_that_come_twice_change_nothing,
    a_restarted_server_goes_on,
    a_timeout_stops_a_step,
    a_lock_that_expires_goes_to_the_next,
);

/// One job makes a version, the next takes it.
pub const TWO_JOBS: &str = "
resources:
- { name: source, type: mock, source: { initial_version: one } }
- { name: product, type: mock, source: { no_initial_version: true } }
jobs:
- name: build
  plan:
  - { get: source, trigger: true }
  - task: unit
    config: { platform: linux, run: { path: 'true' } }
  - { put: product, params: { version: p1 } }
- name: ship
  plan:
  - { get: product, trigger: true, passed: [build] }
";

/// One job with one task.
pub const ONE_TASK: &str = "
jobs:
- name: build
  plan:
  - task: unit
    config: { platform: linux, run: { path: 'true' } }
";

fn run_two_jobs(place: &Place, twice: bool) -> (Vec<String>, String, Vec<String>) {
    let server = TestServer::start(place);
    let pipeline = server.pipeline("p", TWO_JOBS);
    let (build, ship) = (server.job(pipeline, "build"), server.job(pipeline, "ship"));
    let mut worker = FakeWorker::new("w");
    worker.twice = twice;
    worker.hello(&server);
    worker.work_until(&server, |server| server.builds_of(ship).iter().any(has_succeeded));
    assert_eq!(server.builds_of(build).len(), 1, "one version, one build");
    assert_eq!(server.builds_of(ship).len(), 1);
    let build = server.builds_of(build)[0].id;
    let kinds: Vec<String> = server
        .journal(build)
        .iter()
        .map(|row| format!("{} {}", row.kind, row.step.clone().unwrap_or_default()))
        .collect();
    server.journal(server.builds_of(ship)[0].id);
    let log = server.send("GET", &format!("/builds/{build}/log"), &());
    let events = server.events(&format!("/builds/{build}/events"), None, |_| false);
    let names = events.iter().map(|(_, event)| event["kind"].as_str().unwrap_or_default().to_owned()).collect();
    (kinds, String::from_utf8(log.body).unwrap(), names)
}

fn a_version_goes_through_all_jobs(place: &Place) {
    let (_, log, events) = run_two_jobs(place, false);
    assert_eq!(log, "source\nunit\nproduct\nproduct\n");
    let step = |last: &[&'static str]| [&["started", "output"], last, &["finished"]].concat();
    let expected =
        [vec!["status"], step(&["version"]), step(&[]), step(&["version"]), step(&["version"]), vec!["status", "end"]]
            .concat();
    assert_eq!(events, expected);
}

fn reports_that_come_twice_change_nothing(place: &Place) {
    let (once, log, _) = run_two_jobs(&Place::sqlite(), false);
    let (twice, twice_log, _) = run_two_jobs(place, true);
    assert_eq!(once, twice);
    assert_eq!(log, twice_log);
}

fn a_restarted_server_goes_on(place: &Place) {
    let server = TestServer::start(place);
    let pipeline = server.pipeline("p", ONE_TASK);
    let build = server.trigger(server.job(pipeline, "build"));
    let mut worker = FakeWorker::new("w");
    worker.hello(&server);
    let task = worker.take(&server);
    worker.report(&server, vec![started(&task), output(&task, 0, b"one ")]);
    server.stop();

    let server = TestServer::start(place);
    assert_eq!(server.build(build).status, BuildStatus::Started);
    let welcome = worker.hello(&server);
    assert_eq!(welcome.resume.into_iter().collect::<Vec<_>>(), [(task.attempt.clone(), 4)]);
    // The last report may have arrived or not: it is sent again.
    let answer =
        worker.report(&server, vec![started(&task), output(&task, 0, b"one two "), output(&task, 8, b"three\n")]);
    assert_eq!(answer.refused, [""; 0]);
    worker.report(&server, vec![finished(&task, success(&task))]);
    assert_eq!(server.build(build).status, BuildStatus::Succeeded);
    let log = server.send("GET", &format!("/builds/{build}/log"), &());
    assert_eq!(log.body, b"one two three\n");
    server.journal(build);
}

fn a_timeout_stops_a_step(place: &Place) {
    let server = TestServer::start(place);
    let pipeline = server.pipeline(
        "p",
        "
jobs:
- name: build
  plan:
  - do:
    - task: unit
      config: { platform: linux, run: { path: 'true' } }
    timeout: 3s
",
    );
    let mut worker = FakeWorker::new("w");
    worker.hello(&server);
    let build = server.trigger(server.job(pipeline, "build"));
    let task = worker.take(&server);
    worker.report(&server, vec![started(&task)]);
    let orders = worker.poll(&server);
    assert_eq!(orders.stop.len(), 1, "{orders:?}");
    assert_eq!((orders.stop[0].attempt.as_str(), orders.stop[0].reason), (task.attempt.as_str(), StopReason::Cancel));
    assert_eq!(server.build(build).status, BuildStatus::Started, "it has not ended before its process");
    worker.report(&server, vec![finished(&task, Ending::Stopped { killed: false })]);
    assert_eq!(server.build(build).status, BuildStatus::Failed);
}

fn a_lock_that_expires_goes_to_the_next(place: &Place) {
    let server = TestServer::start(place);
    let lock = server
        .store()
        .write_blocking(|tx| {
            let lock = locks::lock_ensure(tx, "staging")?;
            let at = now();
            locks::holding_add(
                tx,
                &HoldingRow {
                    id: 0,
                    lock,
                    kind: "person".to_owned(),
                    name: "ann".to_owned(),
                    mode: "exclusive".to_owned(),
                    build: None,
                    deployment: None,
                    token: Some("t1".to_owned()),
                    reason: Some("load test".to_owned()),
                    since: at,
                    until: Some(at + Span(200_000)),
                    alive_until: None,
                    fence: 0,
                },
            )?;
            locks::wait_add(
                tx,
                &WaitRow {
                    id: 0,
                    lock,
                    kind: "person".to_owned(),
                    name: "bob".to_owned(),
                    mode: "exclusive".to_owned(),
                    build: None,
                    token: Some("t2".to_owned()),
                    reason: None,
                    since: at,
                    for_span: None,
                    alive_until: None,
                },
            )?;
            Ok::<_, holdall_store::StoreError>(lock)
        })
        .unwrap();
    let holder = |tx: &mut Tx<'_>| Ok(locks::holding_list(tx, lock)?.into_iter().find(|row| row.name == "bob"));
    let bob = server.wait("bob gets the lock", holder);
    assert_eq!(bob.fence, 2);
}

#[test]
fn what_a_worker_may_remove_is_told_until_it_asks_again() {
    let place = Place::sqlite();
    let server = TestServer::start(&place);
    let pipeline = server.pipeline("p", ONE_TASK);
    let job = server.job(pipeline, "build");
    let first = server.trigger(job);
    let mut worker = FakeWorker::new("w");
    worker.hello(&server);
    let task = worker.take(&server);
    worker.report(&server, all_facts(&task));
    assert!(has_succeeded(&server.build(first)));
    // Something else to do: what can go comes along. This answer is lost.
    server.trigger(job);
    let lost = worker.poll(&server);
    assert_eq!((&lost.forget[..], &lost.forget_builds[..]), (&[task.attempt.clone()][..], &[first.0][..]));
    assert_eq!(lost.start.len(), 1);
    worker.session = "w-2".to_owned();
    worker.held.clear();
    worker.hello(&server);
    let again = worker.poll(&server);
    assert_eq!((&again.forget, &again.forget_builds), (&lost.forget, &lost.forget_builds));
    assert_eq!(again.start, lost.start, "what was assigned and never began is sent again");
    let second = again.start[0].clone();
    worker.held.insert(second.attempt.clone(), second.clone());
    // Asking again says that the answer has arrived.
    server.trigger(job);
    let after = worker.poll(&server);
    assert_eq!((after.forget.len(), after.forget_builds.len()), (0, 0));
}

#[test]
fn an_aborted_build_ends_when_its_process_has() {
    let place = Place::sqlite();
    let server = TestServer::start(&place);
    let pipeline = server.pipeline("p", ONE_TASK);
    let build = server.trigger(server.job(pipeline, "build"));
    let mut worker = FakeWorker::new("w");
    worker.hello(&server);
    let task = worker.take(&server);
    worker.report(&server, vec![started(&task)]);
    abort(&server, build);
    let orders = worker.poll(&server);
    assert_eq!(orders.stop.len(), 1);
    assert_eq!(orders.stop[0].reason, StopReason::Abort);
    // Output goes on flowing during the grace.
    worker.report(&server, vec![output(&task, 0, b"cleaning up\n")]);
    assert_eq!(server.build(build).status, BuildStatus::Started);
    worker.report(&server, vec![finished(&task, Ending::Stopped { killed: true })]);
    assert_eq!(server.build(build).status, BuildStatus::Aborted);
    let open = server.store().read_blocking(|tx| attempts::attempt_list_open(tx, build)).unwrap();
    assert!(open.is_empty());
}

fn abort(server: &TestServer, build: BuildId) {
    let at: Timestamp = now();
    server
        .store()
        .write_blocking(move |tx| {
            holdall_store::builds::build_request_abort(tx, build, "ann", None, at)?;
            holdall_server::duty::track::abort(tx, build, at)
        })
        .unwrap();
}

#[test]
fn one_broken_job_does_not_keep_the_others_waiting() {
    let place = Place::sqlite();
    let server = TestServer::start(&place);
    let broken = server.pipeline("broken", ONE_TASK);
    let broken_job = server.job(broken, "build");
    server
        .store()
        .write_blocking(move |tx| {
            tx.execute(&format!("UPDATE job SET spec = 'not JSON' WHERE id = {broken_job}"), &[])?;
            Ok::<_, holdall_store::StoreError>(())
        })
        .unwrap();
    let stuck = server.trigger(broken_job);
    let mut worker = FakeWorker::new("w");
    worker.hello(&server);
    let pipeline = server.pipeline("p", ONE_TASK);
    for _ in 0..2 {
        let build = server.trigger(server.job(pipeline, "build"));
        let task = worker.take(&server);
        assert_eq!(task.build, build.0);
        worker.held.remove(&task.attempt);
        worker.report(&server, all_facts(&task));
        assert!(has_succeeded(&server.build(build)));
    }
    assert_eq!(server.build(stuck).status, BuildStatus::Pending);
}
