//! History that was lost is found without any worker: by a server that runs, and by one that starts.

use std::collections::BTreeMap;
use std::fs;

use holdall_protocol::api::{AcquireAnswer, AcquireRequest, Act, ActRequest, AuditEntry, Granted, List};
use holdall_server::serve::restore::{Site, restore};
use holdall_store::epoch::IDS;
use holdall_store::testing::Replica;
use holdall_store::{Database, backup, environments, systems};

use crate::support::{Place, TestServer, on_both_databases};
use crate::world::SYSTEM;

on_both_databases!(
    a_database_that_was_put_back_is_found_out_when_a_server_starts,
    a_restore_is_one_new_epoch,
    the_folder_of_another_installation_says_nothing,
);

/// What the data folder remembers.
const MEMORY: &str = "data/progress.json";

/// A server with a system that nobody has confirmed anything of.
fn start(place: &Place) -> TestServer {
    let server = TestServer::start(place);
    let act = Act::SystemSet { text: SYSTEM.to_owned(), vars: BTreeMap::new(), now: false };
    let request =
        ActRequest { act, reason: Some("because".to_owned()), ticket: None, dry_run: false, preview_token: None };
    assert_eq!(server.send("POST", "/acts", &request).status, 200);
    server
}

/// Takes the lock of staging; gives the fencing token.
fn take(server: &TestServer) -> i64 {
    let request = AcquireRequest { reason: "a look".to_owned(), ..AcquireRequest::default() };
    match server.ask("POST", "/locks/staging/acquire", &request) {
        AcquireAnswer::Granted(Granted { fence, .. }) => fence,
        other => panic!("{other:?}"),
    }
}

fn epochs(server: &TestServer) -> Vec<String> {
    let acts: List<AuditEntry> = server.ask("GET", "/audit", &());
    let begun = acts.items.into_iter().filter(|entry| entry.act == "new_epoch");
    begun.map(|entry| entry.reason.unwrap_or_default()).collect()
}

/// Why each environment is held.
fn held(server: &TestServer) -> Vec<String> {
    let held = server.store().read_blocking(|tx| {
        let system = systems::system_find(tx, "notify")?.expect("the system");
        let all = environments::environment_list(tx, system.id)?;
        Ok::<_, holdall_store::StoreError>(
            all.into_iter().map(|one| one.held.map(|held| held.code).unwrap_or_default()).collect(),
        )
    });
    held.expect("a read")
}

/// Puts a backup where nothing is, as if it were the database itself, and what another place's folder remembers with it.
fn put_back(to: &Place, backup: &[u8], from: &Place) {
    let database = match to.site() {
        Site::Folder(dir) => Database::Sqlite(dir.join("holdall.sqlite")),
        Site::Postgres(url) => Database::Postgres(url),
    };
    remember(to, from);
    backup::restore(&database, &mut &*backup, true, |_, _| Ok(())).expect("it is put back");
}

fn remember(to: &Place, from: &Place) {
    fs::create_dir_all(to.dir().join("data")).unwrap();
    fs::copy(from.dir().join(MEMORY), to.dir().join(MEMORY)).unwrap();
}

fn a_database_that_was_put_back_is_found_out_when_a_server_starts(place: &Place) {
    let server = start(place);
    let old = server.send("POST", "/backup", &()).body;
    let lost = take(&server);
    server.stop();
    let server = TestServer::start(place);
    assert_eq!(epochs(&server), [""; 0], "nothing was lost");
    server.stop();

    let to = Place::empty_like(place);
    put_back(&to, &old, place);
    let server = TestServer::start(&to);
    let begun = epochs(&server);
    assert!(begun[0].starts_with("the data folder knows of commit "), "{begun:?}");
    assert_eq!(held(&server), ["restored"; 3]);
    assert!(take(&server) > lost + IDS / 2, "a fencing token is given once");
    server.stop();
    let server = TestServer::start(&to);
    assert_eq!(epochs(&server).len(), 1, "once is enough");
    server.stop();
}

fn a_restore_is_one_new_epoch(place: &Place) {
    let server = start(place);
    let old = server.send("POST", "/backup", &()).body;
    let lost = take(&server);
    server.stop();
    let to = Place::empty_like(place);
    remember(&to, place);
    restore(&to.site(), "b.jsonl", &mut &*old, true).expect("it is restored");
    let server = TestServer::start(&to);
    let begun = epochs(&server);
    assert!(begun.len() == 1 && begun[0].starts_with("b.jsonl, "), "{begun:?}");
    assert!(take(&server) > lost + IDS / 2);
    server.stop();
}

fn the_folder_of_another_installation_says_nothing(place: &Place) {
    let server = start(place);
    take(&server);
    server.stop();
    let to = Place::empty_like(place);
    remember(&to, place);
    let before = fs::read(to.dir().join(MEMORY)).unwrap();
    let server = TestServer::start(&to);
    assert_eq!(epochs(&server), [""; 0]);
    server.stop();
    assert_ne!(fs::read(to.dir().join(MEMORY)).unwrap(), before, "it remembers this one from now on");
}

#[test]
fn a_replica_that_takes_over_is_found_out_by_a_server_that_runs() {
    let Some(place) = Place::postgres() else { return };
    let Site::Postgres(url) = place.site() else { panic!("it is on PostgreSQL") };
    let server = start(&place);
    let replica = Replica::of(&url).expect("a replica");
    let lost = take(&server);
    assert_eq!(epochs(&server), [""; 0], "other connections to the same database are no loss");
    replica.promote().expect("it takes over");
    let again = take(&server);
    assert!(again > lost + IDS / 2, "{again} could be {lost}");
    assert_eq!(held(&server), ["restored"; 3]);
    let begun = epochs(&server);
    assert!(begun.len() == 1 && begun[0].starts_with("the server knows of commit "), "{begun:?}");
    server.stop();
    let server = TestServer::start(&place);
    assert_eq!(epochs(&server).len(), 1, "once is enough");
    server.stop();
}
