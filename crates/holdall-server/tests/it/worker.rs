//! The session with workers: what is lost on the way, what is old, and which worker takes what.

use std::collections::BTreeMap;

use holdall_engine::status::BuildStatus;
use holdall_protocol::worker::{Assignment, Fact, Forgot, MetadataField, Report};
use holdall_server::lifecycle::now;
use holdall_store::{attempts, checks, events, resources, versions};
use serde_json::json;

use crate::flow::ONE_TASK;
use crate::support::{FakeWorker, Place, TestServer, all_facts, finished, on_both_databases, output, started, success};

on_both_databases!(
    a_worker_that_lost_its_disk_is_not_believed_to_have_finished,
    what_a_worker_may_have_begun_and_forgotten_is_not_sent_again,
    old_sessions_and_fences_are_refused,
    checks_keep_what_the_type_says_of_versions,
    a_worker_is_told_which_of_its_builds_have_ended,
    a_damaged_build_keeps_no_other_from_being_reported,
    a_lost_step_of_a_damaged_build_keeps_no_worker_away,
);

/// A build of one task whose task a worker has.
fn one_task(server: &TestServer, worker: &mut FakeWorker) -> (holdall_engine::ids::BuildId, Assignment) {
    let pipeline = server.pipeline("p", ONE_TASK);
    let build = server.trigger(server.job(pipeline, "build"));
    worker.hello(server);
    let task = worker.take(server);
    (build, task)
}

fn a_worker_that_lost_its_disk_is_not_believed_to_have_finished(place: &Place) {
    let server = TestServer::start(place);
    let mut worker = FakeWorker::new("w");
    let (build, task) = one_task(&server, &mut worker);
    worker.report(&server, vec![started(&task)]);
    worker.held.clear();
    worker.session = "w-2".to_owned();
    let welcome = worker.hello(&server);
    assert_eq!(welcome.resume, BTreeMap::new());
    let ended = server.build(build);
    assert_eq!(ended.status, BuildStatus::Errored);
    let said: Vec<String> =
        server.journal(build).into_iter().filter(|row| row.kind == "note").filter_map(|row| row.payload).collect();
    assert_eq!(said.len(), 1);
    assert!(said[0].contains("nobody knows how this step ended") && said[0].contains("worker w"), "{said:?}");
    // Should it find the step again, it is to stop it.
    assert_eq!(worker.report(&server, vec![output(&task, 0, b"late")]).refused, [task.attempt]);
}

fn what_a_worker_may_have_begun_and_forgotten_is_not_sent_again(place: &Place) {
    let server = TestServer::start(place);
    let job = server.job(server.pipeline("p", ONE_TASK), "build");
    for (forgot, why) in [(Forgot::NewFolder, "its work folder is new"), (Forgot::Restart, "was started anew")] {
        let mut worker = FakeWorker { forgot: Some(forgot), ..FakeWorker::new("w") };
        worker.hello(&server);
        let [(first, kept), (second, gone)] = [(); 2].map(|()| (server.trigger(job), worker.take(&server)));
        let builds = [first, second];
        // It has begun both, and has said so of neither.
        worker.session = "w-2".to_owned();
        worker.held.remove(&gone.attempt);
        let welcome = worker.hello(&server);
        assert_eq!(welcome.resume.keys().collect::<Vec<_>>(), [&kept.attempt]);
        let status = builds.map(|build| server.build(build).status);
        assert_eq!(status, [BuildStatus::Started, BuildStatus::Errored], "{forgot:?}");
        let said = server.journal(builds[1]).into_iter().find(|row| row.kind == "note").and_then(|row| row.payload);
        assert!(said.as_ref().is_some_and(|said| said.contains(why)), "{said:?}");
        assert_eq!(worker.report(&server, all_facts(&gone)).refused, [gone.attempt]);
        assert_eq!(worker.report(&server, all_facts(&kept)).refused, [""; 0]);
    }
    // Where it has forgotten nothing, the answer was lost on the way.
    let mut worker = FakeWorker::new("w");
    worker.hello(&server);
    let build = server.trigger(job);
    let lost = worker.poll(&server).start.remove(0);
    worker.hello(&server);
    assert_eq!(worker.take(&server), lost);
    assert_eq!(server.build(build).status, BuildStatus::Started);
}

fn old_sessions_and_fences_are_refused(place: &Place) {
    let server = TestServer::start(place);
    let mut worker = FakeWorker::new("w");
    let unknown = server.send("POST", "/worker/poll", &worker.poll_message());
    assert_eq!(unknown.status, 404, "it has to say hello: {unknown:?}");

    let (build, task) = one_task(&server, &mut worker);
    let before = server.journal(build).len();
    for wrong in [
        Assignment { fence: task.fence + 1, ..task.clone() },
        Assignment { fence: task.fence - 1, ..task.clone() },
        Assignment { attempt: "none".to_owned(), ..task.clone() },
    ] {
        let answer = worker.report(&server, all_facts(&wrong));
        assert_eq!(answer.refused, [wrong.attempt]);
    }
    let other = FakeWorker::new("other");
    other.hello(&server);
    assert_eq!(
        other.report(&server, all_facts(&task)).refused,
        std::slice::from_ref(&task.attempt),
        "it is not the other's"
    );
    assert_eq!(server.journal(build).len(), before);

    let newer = FakeWorker { session: "w-2".to_owned(), held: worker.held.clone(), ..FakeWorker::new("w") };
    assert_eq!(newer.hello(&server).resume.len(), 1);
    let poll = server.send("POST", "/worker/poll", &worker.poll_message());
    let report = json!({"name": "w", "session": "w-1", "facts": []});
    let report = server.send("POST", "/worker/report", &report);
    assert_eq!((poll.status, report.status), (409, 409), "{poll:?}");
    newer.report(&server, vec![started(&task), finished(&task, success(&task))]);
    assert_eq!(server.build(build).status, BuildStatus::Succeeded);
}

fn a_worker_is_told_which_of_its_builds_have_ended(place: &Place) {
    let server = TestServer::start(place);
    let job = server.job(server.pipeline("p", ONE_TASK), "build");
    let mut worker = FakeWorker::new("w");
    worker.hello(&server);
    let ended = server.trigger(job);
    let task = worker.take(&server);
    worker.report(&server, all_facts(&task));
    assert_eq!(server.build(ended).status, BuildStatus::Succeeded);
    // It is told with the first of these, and counts as told with the second.
    let [_, open] = [(); 2].map(|()| {
        let build = server.trigger(job);
        worker.take(&server);
        build
    });
    let nobodys = open.0 + 1000;
    worker.builds = vec![ended.0, open.0, nobodys];
    assert_eq!(worker.hello(&server).forget_builds, [ended.0, nobodys]);
}

fn a_damaged_build_keeps_no_other_from_being_reported(place: &Place) {
    let server = TestServer::start(place);
    let job = server.job(server.pipeline("p", ONE_TASK), "build");
    let mut worker = FakeWorker::new("w");
    worker.hello(&server);
    let broken = server.trigger(job);
    let bad = worker.take(&server);
    assert_eq!(bad.build, broken.0);
    let healthy = server.trigger(job);
    let good = worker.take(&server);
    assert_eq!(good.build, healthy.0);
    // Nobody can replay this journal.
    server
        .store()
        .write_blocking(move |tx| events::event_append(tx, broken, now(), "run", None, Some("{"), None))
        .unwrap();
    let before = server.journal(broken).len();
    let facts: Vec<Fact> = [started(&bad), started(&good), output(&bad, 0, b"bad"), output(&good, 0, b"good")].into();
    let answer = worker.report(&server, facts);
    assert_eq!((answer.refused, answer.later), (vec![], vec![bad.attempt.clone()]));
    assert_eq!(server.journal(broken).len(), before, "all of it is reported again");
    let facts = vec![finished(&good, success(&good)), finished(&bad, success(&bad))];
    let answer = worker.report(&server, facts);
    assert_eq!((answer.refused, answer.later), (vec![], vec![bad.attempt.clone()]));
    assert_eq!(server.build(healthy).status, BuildStatus::Succeeded);
    assert_eq!(server.build(broken).status, BuildStatus::Started);

    // An old session is an old session for all of them.
    let newer = FakeWorker { session: "w-2".to_owned(), held: worker.held.clone(), ..FakeWorker::new("w") };
    newer.hello(&server);
    let report = Report { name: worker.name, session: worker.session, facts: vec![started(&bad)] };
    assert_eq!(server.send("POST", "/worker/report", &report).status, 409);
}

fn a_lost_step_of_a_damaged_build_keeps_no_worker_away(place: &Place) {
    let server = TestServer::start(place);
    let job = server.job(server.pipeline("p", ONE_TASK), "build");
    let mut worker = FakeWorker::new("w");
    worker.hello(&server);
    let broken = server.trigger(job);
    let bad = worker.take(&server);
    let healthy = server.trigger(job);
    let good = worker.take(&server);
    worker.report(&server, vec![started(&good)]);
    server
        .store()
        .write_blocking(move |tx| events::event_append(tx, broken, now(), "run", None, Some("{"), None))
        .unwrap();
    let mut again = FakeWorker { session: "w-2".to_owned(), ..FakeWorker::new("w") };
    assert_eq!(again.hello(&server).resume, BTreeMap::new());
    assert_eq!(server.build(healthy).status, BuildStatus::Errored);
    assert_eq!(server.build(broken).status, BuildStatus::Started);
    let next = server.trigger(job);
    assert_eq!(again.take(&server).build, next.0, "what is lost is not sent again: {}", bad.attempt);
}

fn checks_keep_what_the_type_says_of_versions(place: &Place) {
    let server = TestServer::start(place);
    let pipeline = server.pipeline(
        "p",
        "
resources:
- { name: source, type: mock, source: { initial_version: one } }
jobs:
- { name: build, plan: [{ get: source, trigger: true }] }
",
    );
    let worker = FakeWorker::new("w");
    worker.hello(&server);
    let orders = worker.poll(&server);
    assert_eq!(orders.checks.len(), 1);
    let version = |text: &str| BTreeMap::from([("version".to_owned(), text.to_owned())]);
    let fact = Fact::Checked {
        check: orders.checks[0].check.clone(),
        at: now().0,
        result: Ok(vec![version("one"), version("two")]),
        metadata: vec![vec![MetadataField { name: "author".to_owned(), value: "ann".to_owned() }]],
    };
    worker.report(&server, vec![fact]);
    let store = server.store();
    let (scope, known) = store
        .read_blocking(|tx| {
            let resource = resources::resource_find(tx, pipeline, "source")?.expect("a resource");
            let scope = resource.scope.expect("a scope");
            Ok::<_, holdall_store::StoreError>((scope, versions::version_list(tx, scope, None, 10)?))
        })
        .unwrap();
    assert_eq!(known.len(), 2);
    assert_eq!(known[1].metadata, [("author".to_owned(), "ann".to_owned())]);
    assert_eq!(known[0].metadata, []);

    // A worker that goes away in the middle of a check has not made it.
    store.write_blocking(move |tx| checks::check_want(tx, scope, now())).unwrap();
    let mut asked = worker.poll(&server);
    while asked.checks.is_empty() {
        asked = worker.poll(&server);
    }
    let again = FakeWorker { session: "w-2".to_owned(), ..FakeWorker::new("w") };
    again.hello(&server);
    let orders = again.poll(&server);
    assert_eq!(orders.checks.len(), 1);
    assert_ne!(orders.checks[0].check, asked.checks[0].check);
    assert_eq!(orders.checks[0].version, Some(version("two")));
}

#[test]
fn workers_take_what_their_team_tags_and_slots_allow() {
    let place = Place::sqlite();
    let server = TestServer::start(&place);
    let pipeline = server.pipeline(
        "p",
        "
jobs:
- name: plain
  plan:
  - task: unit
    config: { platform: linux, run: { path: 'true' } }
- name: tagged
  plan:
  - task: unit
    tags: [gpu]
    config: { platform: linux, run: { path: 'true' } }
",
    );
    let tagged_job = server.job(pipeline, "tagged");
    let plain_job = server.job(pipeline, "plain");
    let mut tagged = FakeWorker { tags: vec!["gpu".to_owned(), "big".to_owned()], ..FakeWorker::new("tagged") };
    let mut plain = FakeWorker { slots: 1, ..FakeWorker::new("plain") };
    tagged.hello(&server);
    plain.hello(&server);
    let (first, second) = (server.trigger(plain_job), server.trigger(plain_job));
    let third = server.trigger(tagged_job);
    assert_eq!(tagged.take(&server).build, third.0);
    let task = plain.take(&server);
    assert_eq!(task.build, first.0, "oldest first, and one slot");
    plain.held.remove(&task.attempt);
    plain.report(&server, all_facts(&task));
    assert_eq!(plain.take(&server).build, second.0);

    // Where a team has workers, its steps go to them only.
    let mut own = FakeWorker { team: Some("main".to_owned()), ..FakeWorker::new("own") };
    let stranger = FakeWorker { team: Some("other".to_owned()), ..FakeWorker::new("stranger") };
    own.hello(&server);
    stranger.hello(&server);
    let general = FakeWorker::new("general");
    general.hello(&server);
    let fourth = server.trigger(plain_job);
    let queued = |tx: &mut holdall_store::Tx<'_>| Ok(attempts::attempt_list_open(tx, fourth)?.pop());
    server.wait("the step is queued", queued);
    for other in [&general, &stranger] {
        let message = other.poll_message();
        let found = server.store().read_blocking(move |tx| holdall_server::duty::workers::look(tx, &message)).unwrap();
        assert!(!found.has_orders, "{}", other.name);
    }
    assert_eq!(own.take(&server).build, fourth.0);
}

#[test]
fn a_report_that_cannot_be_read_is_refused_whole() {
    let place = Place::sqlite();
    let server = TestServer::start(&place);
    let mut worker = FakeWorker::new("w");
    let (build, task) = one_task(&server, &mut worker);
    let before = server.journal(build).len();
    let mut broken = json!(output(&task, 0, b"text"));
    broken["bytes"] = json!("?");
    let report = json!({"name": "w", "session": "w-1", "facts": [started(&task), broken]});
    let answer = server.send("POST", "/worker/report", &report);
    assert_eq!(answer.status, 400);
    assert!(answer.json()["message"].as_str().unwrap().contains("base64"), "{answer:?}");
    assert_eq!(server.journal(build).len(), before);
    for (what, body) in [("hello", json!({"name": ""})), ("poll", json!([])), ("report", json!("x"))] {
        let answer = server.send("POST", &format!("/worker/{what}"), &body);
        assert_eq!((answer.status, answer.json()["code"].as_str()), (400, Some("bad_request")), "{answer:?}");
    }
}
