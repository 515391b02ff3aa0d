//! What a machine can do to a server: no room on its disk, a disk that cannot be written, a damaged database, a clock
//! that jumps, a sleep, and output that is no text. Each ends in a clear message, and what is not concerned goes on.

use std::fs;
use std::process::Command;
use std::time::Instant;

use holdall_engine::time::{Span, Timestamp};
use holdall_protocol::api::Act;
use holdall_protocol::worker::{Hello, Poll, Report};
use holdall_server::duty::workers as session;
use holdall_server::serve::restore::back_up;
use holdall_store::{Database, Store, StoreError, backup, events, workers};

use crate::small_disk::{SmallDisk, succeeds};
use crate::support::{FakeWorker, PATIENCE, Place, TestServer, finished, on_both_databases, output, started, success};
use crate::world::{Fate, World};

on_both_databases!(output_that_is_no_text_is_kept_as_it_is);

mod on_stores {
    mod both {
        holdall_store::on_both_databases!(
            a_clock_that_jumps_changes_no_order,
            a_machine_that_slept_finds_its_workers_again,
        );
    }

    fn a_clock_that_jumps_changes_no_order(store: holdall_store::Store) {
        super::a_clock_that_jumps_changes_no_order(store);
    }

    fn a_machine_that_slept_finds_its_workers_again(store: holdall_store::Store) {
        super::a_machine_that_slept_finds_its_workers_again(store);
    }
}

const ONE_TASK: &str = "jobs: [{name: build, plan: [{task: t, config: {platform: linux, run: {path: \"true\"}}}]}]";

const MEGABYTE: usize = 1 << 20;

#[test]
fn a_full_disk_is_said_and_survived() {
    let Some(disk) = SmallDisk::mount(24, "hostile::a_full_disk_is_said_and_survived") else { return };
    let place = Place::at(tempfile::tempdir_in(disk.path()).unwrap());
    let server = TestServer::start(&place);
    let job = server.job(server.pipeline("p", ONE_TASK), "build");
    let build = server.trigger(job);
    let mut worker = FakeWorker::new("w");
    worker.hello(&server);
    let task = worker.take(&server);
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![0; 64 * MEGABYTE]).expect_err("there is not that much room");

    let facts = vec![started(&task), output(&task, 0, &vec![b'x'; 2 * MEGABYTE])];
    let report = Report { name: worker.name.clone(), session: worker.session.clone(), facts: facts.clone() };
    for _ in 0..3 {
        let refused = server.send("POST", "/worker/report", &report);
        let body = refused.json();
        assert_eq!((refused.status, body["code"].as_str()), (503, Some("unavailable")), "{body}");
        assert_eq!(body["message"], "the disk of the server's database is full; nothing was changed");
    }
    assert_eq!(server.send("GET", "/builds", &()).status, 200, "what is there can be looked at");
    let checks = server.send("GET", "/doctor", &()).json()["checks"].clone();
    let disk_check = checks.as_array().unwrap().iter().find(|check| check["name"] == "disk").unwrap();
    assert_eq!((&disk_check["state"], &disk_check["remedy"]), (&"warning".into(), &"free some space".into()));

    fs::remove_file(&ballast).unwrap();
    assert_eq!(worker.report(&server, facts).refused, [""; 0]);
    worker.report(&server, vec![finished(&task, success(&task))]);
    assert_eq!(server.build(build).status.as_str(), "succeeded");
    let log = server.send("GET", &format!("/builds/{build}/log"), &());
    assert_eq!(log.body.len(), 2 * MEGABYTE);
    let next = server.trigger(job);
    assert_eq!(worker.take(&server).build, next.0, "everything goes on");
    server.stop();
}

#[test]
fn a_read_only_disk_is_said_so() {
    let Some(disk) = SmallDisk::mount(24, "hostile::a_read_only_disk_is_said_so") else { return };
    let place = Place::at(tempfile::tempdir_in(disk.path()).unwrap());
    TestServer::start(&place).stop();
    // It is refused until the last thread of the server has closed the database.
    let since = Instant::now();
    while !succeeds(Command::new("mount").args(["-o", "remount,bind,ro"]).arg(disk.path())) {
        assert!(since.elapsed() < PATIENCE, "the disk stays writable");
    }
    let Err(refused) = TestServer::start_with(place.config()) else { panic!("it started") };
    let refused = refused.to_string();
    assert!(refused.contains("data folder") && refused.contains("Read-only file system"), "{refused}");
    assert!(refused.contains("check its owner and mode"), "{refused}");
}

/// A server's data folder with a build whose log is in the middle of the database.
fn with_a_log(place: &Place) -> holdall_engine::ids::BuildId {
    let server = TestServer::start(place);
    let build = server.trigger(server.job(server.pipeline("p", ONE_TASK), "build"));
    let mut worker = FakeWorker::new("w");
    worker.hello(&server);
    let task = worker.take(&server);
    worker.report(&server, vec![started(&task), output(&task, 0, &vec![b'x'; 2 * MEGABYTE])]);
    worker.report(&server, vec![finished(&task, success(&task))]);
    server.stop();
    // All of it in one file, none in SQLite's journal beside it.
    let mut whole = Vec::new();
    back_up(&place.site(), &mut whole).unwrap();
    let file = place.dir().join("data/holdall.sqlite");
    for end in ["", "-wal", "-shm"] {
        // There may be no journal.
        let _ = fs::remove_file(format!("{}{end}", file.display()));
    }
    backup::restore(&Database::Sqlite(file), &mut &*whole, true, |_, _| Ok(())).unwrap();
    build
}

#[test]
fn a_database_damaged_at_its_beginning_is_refused() {
    let place = Place::sqlite();
    with_a_log(&place);
    let file = place.dir().join("data/holdall.sqlite");
    let mut bytes = fs::read(&file).unwrap();
    bytes[..100].fill(0xA5);
    fs::write(&file, &bytes).unwrap();
    let Err(refused) = TestServer::start_with(place.config()) else { panic!("it started") };
    let refused = refused.to_string();
    assert!(refused.contains("holdall.sqlite: the database is damaged: "), "{refused}");
    assert!(refused.contains("restore it from a backup"), "{refused}");
    let refused = back_up(&place.site(), &mut std::io::sink()).expect_err("there is none of that").to_string();
    assert!(refused.contains("the database is damaged"), "{refused}");
}

#[test]
fn a_database_damaged_in_its_middle_serves_what_is_whole() {
    let place = Place::sqlite();
    let build = with_a_log(&place);
    let file = place.dir().join("data/holdall.sqlite");
    let mut bytes = fs::read(&file).unwrap();
    // Pages of the log: each begins with the number of the next.
    let page = 4096;
    let inner: Vec<usize> =
        (0..bytes.len() / page).filter(|n| bytes[n * page + 4..(n + 1) * page].iter().all(|b| *b == b'x')).collect();
    assert!(inner.len() > 100, "{} pages are the log's", inner.len());
    for n in inner {
        bytes[n * page..(n + 1) * page].fill(0xA5);
    }
    fs::write(&file, &bytes).unwrap();

    let server = TestServer::start(&place);
    let read = server.store().read_blocking(|tx| events::event_list(tx, build, 0, 100));
    let error = read.expect_err("it is damaged");
    assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
    let refused = back_up(&place.site(), &mut std::io::sink()).expect_err("not all can be read").to_string();
    assert!(refused.contains("the database is damaged") && refused.contains("restore it from a backup"), "{refused}");
    assert_eq!(server.send("GET", "/builds", &()).status, 200);
    let next = server.trigger(server.job(server.pipeline("p", ONE_TASK), "build"));
    let mut worker = FakeWorker::new("w");
    worker.hello(&server);
    assert_eq!(worker.take(&server).build, next.0, "what is whole goes on");
    server.stop();
}

fn output_that_is_no_text_is_kept_as_it_is(place: &Place) {
    let server = TestServer::start(place);
    let build = server.trigger(server.job(server.pipeline("p", ONE_TASK), "build"));
    let mut worker = FakeWorker::new("w");
    worker.hello(&server);
    let task = worker.take(&server);
    let bytes: Vec<u8> = [0xFF, 0xFE, 0x00, 0xC3].into_iter().chain(0..=255).chain([0xE2, 0x82]).collect();
    worker.report(&server, vec![started(&task), output(&task, 0, &bytes), finished(&task, success(&task))]);
    assert_eq!(server.send("GET", &format!("/builds/{build}/log"), &()).body, bytes);
    let ends = |event: &serde_json::Value| event["kind"] == "status" && event["status"] == "succeeded";
    let events = server.events(&format!("/builds/{build}/events"), None, ends);
    let text: String = events.iter().filter_map(|(_, event)| event["text"].as_str()).collect();
    assert!(text.contains('\u{FFFD}') && text.contains("0123456789"), "{text:?}");
    let head = format!("Host: localhost\r\nCookie: holdall_token={}\r\n", server.token);
    let page = server.raw("GET", &format!("/builds/{build}"), &head, b"");
    assert_eq!(page.status, 200, "{}", page.head);
    assert!(String::from_utf8(page.body).is_ok(), "a page is text");
    server.stop();
}

fn a_clock_that_jumps_changes_no_order(store: Store) {
    let mut world = World::new(store);
    world.push("api", "api-1");
    world.push("admin", "admin-1");
    world.run();
    assert_eq!(world.live(), [1, 1, 1]);
    for (bag, jump) in [(2, -3600), (3, 3600), (4, -3600), (5, -3600)] {
        world.rule("production/deploy", Fate::Runs);
        world.push("api", &format!("api-{bag}"));
        world.run();
        assert_eq!(world.live(), [bag, bag, bag - 1]);
        world.pass(jump);
        world.rule("production/deploy", Fate::Exit(0));
        world.end_running(0);
        assert_eq!(world.live(), [bag, bag, bag], "the newest is live, whatever the clock says");
        assert_eq!(world.holds("production"), ["no-version"]);
    }
    world.act(Act::RollBack {
        system: "notify".to_owned(),
        environment: "production".to_owned(),
        to: None,
        suspects: holdall_protocol::api::Suspects::None,
        and_untick: false,
        here_only: true,
    });
    world.run();
    assert_eq!(world.current("production"), 4, "the one before is the one before");
}

#[test]
fn a_clock_that_was_set_back_between_two_servers_keeps_nothing_waiting() {
    let place = Place::sqlite();
    let server = TestServer::start(&place);
    server.pipeline(
        "p",
        "resources: [{name: r, type: mock, source: {initial_version: a}}]\n\
                      jobs: [{name: j, plan: [{get: r, trigger: true}]}]",
    );
    let mut worker = FakeWorker::new("w");
    worker.hello(&server);
    worker.take(&server);
    server.stop();
    // As it is after a clock that was an hour ahead.
    let file = place.dir().join("data/holdall.sqlite");
    let store = Store::open_sqlite(&file).unwrap();
    store
        .write_blocking(|tx| {
            tx.execute("UPDATE worker SET seen_at = seen_at + 3600000000", &[])?;
            tx.execute(
                "UPDATE scope SET last_check_at = last_check_at + 3600000000, \
             next_check_at = next_check_at + 3600000000, wanted_at = NULL",
                &[],
            )
        })
        .unwrap();
    drop(store);
    let server = TestServer::start(&place);
    let quietest = server.store().read_blocking(workers::worker_quietest).unwrap();
    assert!(quietest.is_some_and(|seen| seen <= holdall_server::lifecycle::now()), "{quietest:?}");
    server
        .wait("the resource is checked again", |tx| Ok(holdall_store::checks::check_is_any_wanted(tx)?.then_some(())));
    server.stop();
}

fn a_machine_that_slept_finds_its_workers_again(store: Store) {
    let hello = Hello {
        name: "w".to_owned(),
        session: "1".to_owned(),
        platform: "linux".to_owned(),
        tags: Vec::new(),
        team: None,
        slots: 1,
        version: "0".to_owned(),
        attempts: Vec::new(),
        history: None,
        builds: Vec::new(),
        forgot: None,
    };
    let poll = Poll { name: "w".to_owned(), session: "1".to_owned(), free_slots: 1, running: Vec::new() };
    let before = Timestamp(1_764_000_000_000_000);
    let states = store.write_blocking(move |tx| {
        let mut states = Vec::new();
        session::hello(tx, &hello, before)?;
        // An hour of sleep; then an hour back, as after a clock that was set wrong.
        for now in [before + Span::seconds(3600), before] {
            workers::worker_mark_lost(tx, Timestamp(now.0 - session::LOST_AFTER.0))?;
            session::orders(tx, &poll, now)?;
            let row = workers::worker_find(tx, "w")?.expect("it is known");
            states.push((row.state, row.seen_at));
        }
        Ok::<_, holdall_server::error::Error>(states)
    });
    let running = |at| ("running".to_owned(), at);
    let states = states.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(states, [running(before + Span::seconds(3600)), running(before)]);
}
