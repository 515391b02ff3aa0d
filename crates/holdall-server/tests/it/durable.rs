//! Backups of a running server, restoring them, and what begins after a loss of history.

use std::io::Write;

use holdall_engine::ids::BuildId;
use holdall_engine::status::BuildStatus;
use holdall_protocol::api::{Act, AuditEntry, List, Then};
use holdall_protocol::worker::{Ending, History};
use holdall_server::epoch;
use holdall_server::serve::restore::{Site, back_up, restore};
use holdall_store::epoch::{IDS, NUMBERS};
use holdall_store::{Database, Store, attempts, backup};

use crate::support::{FakeWorker, Place, TestServer, all_facts, finished, on_both_databases, output, started};
use crate::world::{Fate, World, deploy};

on_both_databases!(
    a_backup_of_a_running_server_is_restored_elsewhere,
    a_database_that_lags_is_found_out_by_a_worker,
    a_backup_needs_no_server,
);

mod on_stores {
    mod both {
        holdall_store::on_both_databases!(
            every_environment_waits_until_a_person_confirms,
            what_was_under_way_is_in_doubt_and_ends,
            a_deploy_that_had_not_begun_is_in_doubt_too,
        );
    }

    fn every_environment_waits_until_a_person_confirms(store: holdall_store::Store) {
        super::every_environment_waits_until_a_person_confirms(store);
    }

    fn a_deploy_that_had_not_begun_is_in_doubt_too(store: holdall_store::Store) {
        super::a_deploy_that_had_not_begun_is_in_doubt_too(store);
    }

    fn what_was_under_way_is_in_doubt_and_ends(store: holdall_store::Store) {
        super::what_was_under_way_is_in_doubt_and_ends(store);
    }
}

/// A step, and a hook that begins when the build ends, however it ends.
const WITH_HOOK: &str = "jobs: [{name: build, plan: [{task: work, config: {platform: linux, run: {path: \"true\"}}}], \
     ensure: {task: clean, config: {platform: linux, run: {path: \"true\"}}}}]";

fn confirm(environment: &str) -> Act {
    Act::EnvironmentConfirm { system: "notify".to_owned(), environment: environment.to_owned() }
}

fn lose(world: &World) -> epoch::Begun {
    world.write(|tx, now| epoch::begin(tx, "a test", now))
}

fn pushed(world: &mut World) {
    world.push("api", "api-1");
    world.push("admin", "admin-1");
    world.run();
}

fn every_environment_waits_until_a_person_confirms(store: Store) {
    let mut world = World::new(store);
    pushed(&mut world);
    assert_eq!(world.live(), [1, 1, 1]);
    assert_eq!(world.refused(confirm("preview"), Some("why not")), "refused", "nothing was lost yet");
    let begun = lose(&world);
    assert_eq!((begun.epoch, begun.builds, begun.in_doubt.len()), (2, 0, 0));
    assert_eq!(begun.held, ["notify/preview", "notify/staging", "notify/production"]);
    world.push("api", "api-2");
    world.run();
    assert_eq!((world.bags(), world.live()), (vec![1], vec![1, 1, 1]), "nothing goes on by itself");
    assert_eq!(world.holds_of("preview", "pack-bag"), ["restored"]);

    assert_eq!(world.refused(confirm("preview"), None), "reason_required");
    let preview = world.preview(confirm("preview"));
    assert_eq!(preview.sentences[0], "bag 1 counts as live in preview, which goes on by itself");
    assert_eq!(world.holds_of("preview", "pack-bag"), ["restored"], "a preview changes nothing");
    world.act(confirm("preview"));
    world.run();
    let next = 2 + NUMBERS;
    assert_eq!((world.bags(), world.live()), (vec![1, next], vec![next, 1, 1]));
    assert!(world.holds("staging").contains(&"restored".to_owned()), "{:?}", world.holds("staging"));
    let starts = world.preview(confirm("staging")).starts;
    assert_eq!(starts.iter().map(|start| start.bag).collect::<Vec<_>>(), [Some(next)], "{starts:?}");
    world.act(confirm("staging"));
    // Deploying by hand says what is to be live, too.
    world.run();
    assert_eq!(world.live(), [next, next, 1]);
    world.act(deploy("production", next, false));
    world.run();
    assert_eq!(world.live(), [next, next, next]);
    assert_eq!(world.refused(confirm("production"), Some("again")), "refused");
}

fn what_was_under_way_is_in_doubt_and_ends(store: Store) {
    let mut world = World::new(store);
    pushed(&mut world);
    // A test that runs, and a build that waits.
    world.rule("preview/test", Fate::Runs);
    world.push("api", "api-2");
    world.run();
    let (team, pipeline, job) = ("staging".to_owned(), "deploy-notify".to_owned(), "start-deploy".to_owned());
    world.act(Act::JobPause { team: team.clone(), pipeline: pipeline.clone(), job: job.clone() });
    world.act(Act::JobTrigger { team: team.clone(), pipeline: pipeline.clone(), job: job.clone() });
    assert_eq!((world.build("preview", "test").status, world.live()), (BuildStatus::Started, vec![2, 1, 1]));
    assert_eq!(world.build("staging", "start-deploy").status, BuildStatus::Pending);
    let begun = lose(&world);
    assert_eq!((begun.builds, begun.in_doubt.len()), (2, 0), "{begun:?}");
    let test = world.build("preview", "test");
    assert_eq!(test.status, BuildStatus::Errored, "{test:?}");
    assert_eq!(world.build("staging", "start-deploy").status, BuildStatus::Aborted, "one that waited");
    assert_eq!(world.deployments("preview"), ["1 passed", "2 open"], "no lock is lost");
    assert_eq!(world.write(|tx, _| attempts::attempt_list_of_worker(tx, "w")).len(), 0);

    // A deploy that runs.
    world.act(Act::JobUnpause { team, pipeline, job });
    for name in ["preview", "staging", "production"] {
        world.act(confirm(name));
    }
    world.rule("preview/test", Fate::Exit(0));
    world.rule("staging/deploy", Fate::Runs);
    world.act(Act::BuildRerun { build: test.id.0 });
    world.run();
    assert_eq!(world.build("staging", "deploy").status, BuildStatus::Started);
    let begun = lose(&world);
    let in_doubt = format!("notify/staging deployment {} of bag 2", 2 + NUMBERS);
    assert_eq!((begun.epoch, &begun.in_doubt[..]), (3, &[in_doubt][..]));
    let preview = world.preview(confirm("staging"));
    assert!(preview.sentences[1].contains("stays in doubt and keeps the lock of staging"), "{preview:?}");
    world.act(confirm("staging"));
    world.run();
    assert_eq!(world.deployments("staging"), ["1 passed", "2 open"], "nothing starts beside what is in doubt");
    let why = world.store.read_blocking(|tx| holdall_server::query::why::why(tx, "notify", "staging", None));
    let codes: Vec<String> = why.expect("a report").into_iter().map(|hold| hold.code).collect();
    assert!(codes.contains(&"in-doubt".to_owned()), "{codes:?}");
    world.rule("staging/deploy", Fate::Exit(0));
    world.act(Act::ForceUnlock {
        environment: "staging".to_owned(),
        abort_running: false,
        worker_is_dead: false,
        then: Then::Start,
    });
    world.act(deploy("staging", 2, false));
    world.run();
    assert_eq!(world.current("staging"), 2);
}

fn a_deploy_that_had_not_begun_is_in_doubt_too(store: Store) {
    let mut world = World::new(store);
    pushed(&mut world);
    let (team, pipeline, job) = ("preview".to_owned(), "deploy-notify".to_owned(), "deploy".to_owned());
    world.act(Act::JobPause { team: team.clone(), pipeline: pipeline.clone(), job: job.clone() });
    world.push("api", "api-2");
    world.run();
    assert_eq!(world.deployments("preview"), ["1 passed", "2 open"]);
    assert_eq!(lose(&world).in_doubt, ["notify/preview deployment 2 of bag 2"]);
    world.act(Act::JobUnpause { team: team.clone(), pipeline: pipeline.clone(), job: job.clone() });
    world.act(confirm("preview"));
    world.run();
    assert_eq!((world.current("preview"), world.holds_of("preview", "deploy")), (1, vec!["in-doubt".to_owned()]));
    world.act(Act::JobTrigger { team, pipeline, job });
    world.run();
    assert_eq!((world.current("preview"), world.deployments("preview").len()), (2, 2), "a person said so");
}

/// A server's backup over HTTP.
fn backup_of(server: &TestServer) -> Vec<u8> {
    let answer = server.send("POST", "/backup", &());
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/jsonl")));
    backup::verify(&mut &*answer.body).expect("it is whole");
    answer.body
}

fn put_back(place: &Place, backup: &[u8]) -> epoch::Begun {
    restore(&place.site(), "b.jsonl", &mut &*backup, true).expect("it is restored").after
}

fn a_backup_of_a_running_server_is_restored_elsewhere(place: &Place) {
    let server = TestServer::start(place);
    let pipeline = server.pipeline("p", WITH_HOOK);
    let job = server.job(pipeline, "build");
    let running = server.trigger(job);
    let mut worker = FakeWorker::new("w");
    worker.hello(&server);
    let task = worker.take(&server);
    worker.report(&server, vec![started(&task), output(&task, 0, b"before\n")]);
    let backup = backup_of(&server);
    // What comes after it is lost, and the worker knows of it.
    worker.report(
        &server,
        vec![
            output(&task, 7, b"after\n"),
            finished(&task, Ending::Exited { status: 0, result: None, artifacts: vec![] }),
        ],
    );
    let hook = worker.take(&server);
    assert_eq!(hook.name, "clean");
    let lost = server.trigger(job);
    let busy = restore(&Site::Folder(place.dir().join("data")), "b.jsonl", &mut &*backup, true);
    let refused = busy.expect_err("a server is there").to_string();
    assert!(refused.contains("in use by another server") || refused.contains("is not empty"), "{refused}");
    server.stop();

    for to in [Some(Place::sqlite()), Some(Place::empty_like(place))].into_iter().flatten() {
        let dry = restore(&to.site(), "b.jsonl", &mut &*backup, false).expect("it would be restored").after;
        assert_eq!(put_back(&to, &backup), dry);
        assert_eq!((dry.epoch, dry.builds), (2, 1));
        let server = TestServer::start(&to);
        let build = server.build(running);
        assert_eq!(build.status, BuildStatus::Aborted, "{build:?}");
        let printed: Vec<u8> = server.journal(running).into_iter().filter_map(|row| row.bytes).flatten().collect();
        assert_eq!(printed, b"before\n");
        // The worker has to say hello, and has nothing that is wanted.
        assert_eq!(server.send("POST", "/worker/poll", &worker.poll_message()).status, 404);
        assert_eq!(worker.hello(&server).resume.len(), 0);
        let again = server.trigger(job);
        assert!(again.0 > lost.0 + IDS / 2, "{again} could be {lost}");
        let mut fresh = FakeWorker { session: "w-9".to_owned(), ..FakeWorker::new("w") };
        fresh.hello(&server);
        let next = fresh.take(&server);
        assert_eq!((next.build, next.name.as_str()), (again.0, "work"), "no hook of what was lost runs");
        let acts: List<AuditEntry> = server.ask("GET", "/audit", &());
        let names: Vec<&str> = acts.items.iter().map(|entry| entry.act.as_str()).collect();
        assert_eq!(names, ["new_epoch", "backup"]);
        let reason = acts.items[0].reason.clone().unwrap_or_default();
        assert!(reason.starts_with("b.jsonl, a backup of 20") && reason.ends_with("Z, was restored"), "{reason}");
        server.stop();
    }
}

fn a_database_that_lags_is_found_out_by_a_worker(place: &Place) {
    let server = TestServer::start(place);
    let pipeline = server.pipeline("p", WITH_HOOK);
    let job = server.job(pipeline, "build");
    let mut worker = FakeWorker::new("w");
    worker.history = worker.hello(&server).history;
    assert_eq!(worker.hello(&server).history, worker.history, "nothing has happened");
    // A replica, as it is now.
    let replica = backup_of(&server);
    let lost = server.trigger(job);
    let orders = worker.poll(&server);
    let known = orders.history.expect("workers are told");
    assert_eq!(known.builds, lost.0);
    server.stop();

    let to = Place::empty_like(place);
    let database = match to.site() {
        Site::Folder(dir) => {
            std::fs::create_dir(&dir).unwrap();
            Database::Sqlite(dir.join("holdall.sqlite"))
        }
        Site::Postgres(url) => Database::Postgres(url),
    };
    backup::restore(&database, &mut &*replica, true, |_, _| Ok(())).expect("a replica");
    let server = TestServer::start(&to);
    let mut worker = FakeWorker::new("w");
    worker.history = Some(History { installation: "another".to_owned(), ..known.clone() });
    worker.hello(&server);
    let acts = |server: &TestServer| -> Vec<String> {
        let acts: List<AuditEntry> = server.ask("GET", "/audit", &());
        acts.items.into_iter().map(|entry| entry.act).collect()
    };
    assert_eq!(acts(&server), ["backup"], "another installation says nothing of this one");
    worker.history = Some(known);
    let told = worker.hello(&server).history.expect("workers are told");
    assert!(told.builds > lost.0, "{told:?}");
    assert_eq!(acts(&server), ["new_epoch", "backup"]);
    worker.hello(&server);
    worker.history = Some(told);
    worker.hello(&server);
    assert_eq!(acts(&server), ["new_epoch", "backup"], "once is enough");
    assert!(server.trigger(job).0 > lost.0 + IDS / 2);
    let mut worker = FakeWorker { history: worker.history, ..FakeWorker::new("w") };
    let task = worker.take(&server);
    assert_eq!(worker.report(&server, all_facts(&task)).refused, [""; 0]);
    server.stop();
}

fn a_backup_needs_no_server(place: &Place) {
    let server = TestServer::start(place);
    let build = server.trigger(server.job(server.pipeline("p", WITH_HOOK), "build"));
    let mut running = Vec::new();
    back_up(&place.site(), &mut running).expect("a backup beside the server");
    server.stop();
    let mut out = Vec::new();
    let written = back_up(&place.site(), &mut out).expect("a backup");
    assert_eq!(written, backup::verify(&mut &*out).expect("it is whole"));
    let to = Place::empty_like(place);
    put_back(&to, &out);
    let server = TestServer::start(&to);
    assert_eq!(server.build(BuildId(build.0)).status, BuildStatus::Aborted);
    server.stop();
}

#[test]
fn there_is_no_backup_of_an_empty_folder() {
    let place = Place::sqlite();
    let refused = back_up(&place.site(), &mut std::io::sink().by_ref()).expect_err("there is nothing").to_string();
    assert!(refused.contains("there is no database in the data folder"), "{refused}");
    assert!(!place.dir().join("data").exists());
    let refused = restore(&place.site(), "b", &mut &b"no backup\n"[..], true).expect_err("it is none").to_string();
    assert!(refused.contains("line 1 is not of a backup of holdall"), "{refused}");
    assert!(!place.dir().join("data").exists(), "what was made for nothing goes");
}
