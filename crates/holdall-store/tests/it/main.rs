//! The store on both databases.

mod builds;
mod events;
mod history;
mod loss;
mod queue;
#[allow(dead_code, reason = "the engine's own tests need more of it")]
#[path = "../../../holdall-engine/tests/it/random.rs"]
mod random;
#[allow(dead_code, reason = "the engine's own tests need more of it")]
#[path = "../../../holdall-engine/tests/it/world.rs"]
mod world;

use holdall_engine::time::Timestamp;
use holdall_store::audit::{AuditRow, audit_add, audit_add_after_loss, audit_list};
use holdall_store::epoch::IDS;
use holdall_store::{Store, StoreError, Tx, access, locks};

mod both {
    holdall_store::on_both_databases!(
        a_write_is_read_back,
        an_error_undoes_what_was_written,
        a_panic_costs_only_its_own_work,
        a_preview_leaves_nothing,
        acts_have_ids_without_gaps,
    );
}

fn a_write_is_read_back(store: Store) {
    store.write_blocking(|tx| access::token_create(tx, "ann", "h1", Timestamp(5))).expect("a token");
    let found = store.read_blocking(|tx| access::token_find(tx, "h1")).expect("a read");
    assert_eq!(found.as_deref(), Some("ann"));
}

fn an_error_undoes_what_was_written(store: Store) {
    let result: Result<(), StoreError> = store.write_blocking(|tx| {
        access::token_create(tx, "ann", "h1", Timestamp(5))?;
        Err(StoreError::Inconsistent("on purpose".to_owned()))
    });
    assert!(result.is_err());
    let found = store.read_blocking(|tx| access::token_find(tx, "h1")).expect("a read");
    assert_eq!(found, None);
}

fn a_panic_costs_only_its_own_work(store: Store) {
    let result: Result<(), StoreError> = store.write_blocking(|tx| {
        access::token_create(tx, "ann", "h1", Timestamp(5))?;
        panic!("on purpose")
    });
    let error = result.expect_err("it panicked");
    assert!(!error.is_transient(), "trying again does not help: {error}");
    store.write_blocking(|tx| access::token_create(tx, "bob", "h2", Timestamp(5))).expect("the store goes on");
    let found = store
        .read_blocking(|tx| Ok::<_, StoreError>((access::token_find(tx, "h1")?, access::token_find(tx, "h2")?)))
        .expect("a read");
    assert_eq!(found, (None, Some("bob".to_owned())));
}

fn a_preview_leaves_nothing(store: Store) {
    let seen = store
        .write_blocking(|tx| {
            tx.undone(|tx| {
                let lock = locks::lock_ensure(tx, "staging")?;
                locks::holding_list(tx, lock)?;
                locks::lock_find(tx, "staging")
            })
        })
        .expect("a preview");
    assert!(seen.is_some());
    let after = store.read_blocking(|tx| locks::lock_find(tx, "staging")).expect("a read");
    assert_eq!(after, None);
}

fn acts_have_ids_without_gaps(store: Store) {
    let act = || AuditRow {
        id: 0,
        at: Timestamp(5),
        who: "ann".to_owned(),
        origin: "cli".to_owned(),
        act: "freeze".to_owned(),
        target: "notify/production".to_owned(),
        reason: None,
        before: None,
        after: None,
    };
    for _ in 0..3 {
        let refused: Result<(), StoreError> = store.write_blocking(move |tx| {
            audit_add(tx, &act())?;
            Err(StoreError::Inconsistent("on purpose".to_owned()))
        });
        refused.expect_err("it was undone");
        store.write_blocking(move |tx| tx.undone(|tx| audit_add(tx, &act()))).expect("a preview");
        store.write_blocking(move |tx| audit_add(tx, &act())).expect("an act");
    }
    store.write_blocking(move |tx| audit_add_after_loss(tx, &act())).expect("a loss");
    store.write_blocking(move |tx| audit_add(tx, &act())).expect("an act");
    let acts = store.read_blocking(|tx| audit_list(tx, None, None, 100)).expect("a read");
    let ids: Vec<i64> = acts.iter().rev().map(|act| act.id).collect();
    assert_eq!(ids, [1, 2, 3, IDS + 4, IDS + 5]);
}

/// Ends all connections of a database but one's own.
fn cut_off(url: &str) {
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    // Not through a store: opening one waits for who writes.
    let mut client = postgres::Client::connect(url, postgres::NoTls).expect("a connection of its own");
    client.batch_execute(sql).expect("an end of all others");
}

#[test]
fn connections_that_broke_are_replaced() {
    let Some(made) = holdall_store::testing::postgres() else {
        assert!(std::env::var_os("HOLDALL_REQUIRE_TOOLS").is_none(), "no PostgreSQL server");
        eprintln!("NOT RUN on PostgreSQL: HOLDALL_TEST_POSTGRES is not set; use cargo xtask test");
        return;
    };
    let (store, url) = made.expect("a store");
    let find = |name: &'static str| store.read_blocking(move |tx| access::token_find(tx, name)).expect("a read");
    assert_eq!(find("h1"), None);
    cut_off(&url);
    store.write_blocking(|tx| access::token_create(tx, "ann", "h1", Timestamp(5))).expect("the next write");
    assert_eq!(find("h1").as_deref(), Some("ann"));

    // In the middle of a transaction: it is refused, and nothing of it is kept.
    let cut: Result<(), StoreError> = store.write_blocking(move |tx| {
        access::token_create(tx, "bob", "h2", Timestamp(5))?;
        cut_off(&url);
        Ok(())
    });
    let error = cut.expect_err("its connection broke");
    assert!(error.is_transient() && !error.to_string().contains("the store is closed"), "{error}");
    assert_eq!(find("h2"), None);
    store.write_blocking(|tx| access::token_create(tx, "bob", "h2", Timestamp(5))).expect("the next write");
    assert_eq!(find("h2").as_deref(), Some("bob"));
}

#[test]
fn a_commit_is_on_the_disk_when_it_is_answered_whatever_the_default() {
    let Some(made) = holdall_store::testing::postgres() else {
        assert!(std::env::var_os("HOLDALL_REQUIRE_TOOLS").is_none(), "no PostgreSQL server");
        eprintln!("NOT RUN on PostgreSQL: HOLDALL_TEST_POSTGRES is not set; use cargo xtask test");
        return;
    };
    let (_, url) = made.expect("a store");
    for (default, used) in [
        ("off", "on"),
        ("local", "on"),
        ("on", "on"),
        ("remote_write", "remote_write"),
        ("remote_apply", "remote_apply"),
    ] {
        let store =
            Store::open_postgres(&format!("{url}?options=-c%20synchronous_commit%3D{default}")).expect("a store");
        let show = |tx: &mut Tx<'_>| {
            tx.query_one("SELECT current_setting('synchronous_commit')", &[])?.expect("a row").get::<String>(0)
        };
        assert_eq!(store.write_blocking(show).expect("a look"), used, "{default}");
    }
}
