//! Commits are counted, and a database that has fewer than it had is found out before anything else is written.

use std::sync::{Arc, Mutex};

use holdall_engine::time::Timestamp;
use holdall_store::epoch::{IDS, Loss, begin, installation_name, progress};
use holdall_store::testing::{Fault, Replica, fault, postgres};
use holdall_store::{Store, StoreError, access};

mod both {
    holdall_store::on_both_databases!(
        what_writes_is_counted_and_nothing_else,
        a_commit_whose_answer_was_lost_is_no_loss,
        a_loss_is_dealt_with_once_and_before_anything_else,
        a_loss_that_is_not_dealt_with_lets_nothing_be_written,
        a_new_epoch_is_no_loss,
        another_installation_is_left_alone,
    );
}

fn token(store: &Store, name: &'static str) -> Result<(), StoreError> {
    store.write_blocking(move |tx| access::token_create(tx, name, name, Timestamp(5)))
}

fn count(store: &Store) -> i64 {
    let known = *store.commits().borrow();
    let found = store.read_blocking(progress).expect("a read").commits;
    assert_eq!(known, found, "what is known is what is there");
    found
}

/// Losses as they are dealt with, each with the tokens that were there.
type Seen = Arc<Mutex<Vec<(Loss, usize)>>>;

fn watched(store: &Store) -> Seen {
    let seen = Seen::default();
    let saw = Arc::clone(&seen);
    store.on_loss(move |tx, loss| {
        saw.lock().unwrap().push((loss, access::token_list(tx)?.len()));
        begin(tx, Timestamp(5)).map(drop)
    });
    seen
}

/// Lets the database have fewer commits than it had.
fn go_back(store: &Store, by: i64) {
    let sql = "UPDATE progress SET commits = commits - ?1";
    store.write_blocking(move |tx| tx.execute(sql, &[by.into()])).expect("a write");
}

fn what_writes_is_counted_and_nothing_else(store: Store) {
    assert_eq!(count(&store), 0);
    token(&store, "ann").expect("a token");
    assert_eq!(count(&store), 1);
    store.write_blocking(access::token_list).expect("a look");
    store.write_blocking(|tx| access::token_delete(tx, "nobody")).expect("nothing to delete");
    store.write_blocking(|tx| tx.undone(|tx| access::team_ensure(tx, "preview"))).expect("a preview");
    let refused: Result<(), StoreError> = store.write_blocking(|tx| {
        access::team_ensure(tx, "refused")?;
        Err(StoreError::Inconsistent("on purpose".to_owned()))
    });
    refused.expect_err("it was undone");
    assert_eq!(count(&store), 1, "nothing was written");
    store.write_blocking(|tx| access::team_ensure(tx, "main")).expect("a row that is given back");
    assert_eq!(count(&store), 2);
}

fn a_commit_whose_answer_was_lost_is_no_loss(store: Store) {
    let seen = watched(&store);
    token(&store, "ann").expect("a token");
    fault(&store, 0, Fault::Answer);
    token(&store, "bob").expect_err("its answer was lost");
    fault(&store, 0, Fault::Commit);
    token(&store, "cid").expect_err("it was refused");
    token(&store, "dan").expect("a token");
    assert_eq!((count(&store), seen.lock().unwrap().len()), (3, 0));
}

fn a_loss_is_dealt_with_once_and_before_anything_else(store: Store) {
    let seen = watched(&store);
    for name in ["ann", "bob", "cid"] {
        token(&store, name).expect("a token");
    }
    go_back(&store, 2);
    token(&store, "dan").expect("a token");
    token(&store, "eve").expect("a token");
    assert_eq!(*seen.lock().unwrap(), [(Loss { known: 3, found: 2 }, 3)]);
    assert_eq!(count(&store), 2 + IDS + 1 + 2);
}

fn a_loss_that_is_not_dealt_with_lets_nothing_be_written(store: Store) {
    token(&store, "ann").expect("a token");
    go_back(&store, 2);
    for _ in 0..2 {
        let refused = token(&store, "bob").expect_err("nobody deals with it").to_string();
        assert!(refused.contains("knows of commit 1, and the database ends with commit 0"), "{refused}");
    }
    assert_eq!(store.read_blocking(access::token_list).expect("a read").len(), 1);
}

fn a_new_epoch_is_no_loss(store: Store) {
    let seen = watched(&store);
    store.write_blocking(|tx| begin(tx, Timestamp(5))).expect("an epoch");
    fault(&store, 0, Fault::Commit);
    token(&store, "ann").expect_err("it was refused");
    token(&store, "ann").expect("a token");
    assert_eq!((count(&store), seen.lock().unwrap().len()), (IDS + 2, 0));
}

fn another_installation_is_left_alone(store: Store) {
    let seen = watched(&store);
    store.write_blocking(|tx| installation_name(tx, "one")).expect("a name");
    // What it is called is known from the next connection on.
    fault(&store, 0, Fault::Commit);
    token(&store, "ann").expect_err("it was refused");
    token(&store, "ann").expect("a token");
    store.write_blocking(|tx| access::meta_set(tx, "installation", "other")).expect("a write");
    go_back(&store, 1);
    let refused = token(&store, "bob").expect_err("it is another's");
    assert!(refused.is_transient() && refused.to_string().contains("another installation's"), "{refused}");
    assert!(seen.lock().unwrap().is_empty());
}

#[test]
fn a_replica_that_lagged_is_found_out() {
    let Some(made) = postgres() else {
        assert!(std::env::var_os("HOLDALL_REQUIRE_TOOLS").is_none(), "no PostgreSQL server");
        eprintln!("NOT RUN on PostgreSQL: HOLDALL_TEST_POSTGRES is not set; use cargo xtask test");
        return;
    };
    let (store, url) = made.expect("a store");
    let seen = watched(&store);
    token(&store, "ann").expect("a token");
    let replica = Replica::of(&url).expect("a replica");
    token(&store, "bob").expect("a token");
    assert_eq!(seen.lock().unwrap().len(), 0, "another connection is no loss");
    replica.promote().expect("it takes over");
    token(&store, "cid").expect("a token");
    assert_eq!(*seen.lock().unwrap(), [(Loss { known: 2, found: 1 }, 1)]);
    let names: Vec<String> =
        store.read_blocking(access::token_list).expect("a read").into_iter().map(|token| token.name).collect();
    assert_eq!(names, ["ann", "cid"]);
}
