//! While the database does not answer: the queue has an end, and who gives up takes back what was not begun.

use std::pin::{Pin, pin};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};

use holdall_engine::time::Timestamp;
use holdall_store::{Store, StoreError, access};

mod both {
    holdall_store::on_both_databases!(
        a_full_queue_refuses_at_once,
        who_gives_up_takes_back_what_was_not_begun,
        what_was_begun_is_done,
    );
}

/// More than ever wait.
const MANY: usize = 100_000;

type Write<'s> = Pin<Box<dyn Future<Output = Result<(), StoreError>> + 's>>;

/// A write that is under way until the other end says something; and when it has begun.
fn block(store: &Store) -> (mpsc::Receiver<()>, mpsc::Sender<()>, std::thread::JoinHandle<Result<(), StoreError>>) {
    let (begins, begun) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let store = store.clone();
    let blocked = std::thread::spawn(move || {
        store.write_blocking(move |tx| {
            access::token_create(tx, "blocked", "blocked", Timestamp(5))?;
            begins.send(()).expect("the test listens");
            wait.recv().expect("the test says go");
            Ok(())
        })
    });
    (begun, go, blocked)
}

fn write(store: &Store, number: usize) -> Write<'_> {
    let name = format!("t{number}");
    Box::pin(store.write(move |tx| access::token_create(tx, &name, &name, Timestamp(5))))
}

fn poll(write: &mut Write<'_>) -> Poll<Result<(), StoreError>> {
    write.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

fn wait(write: Write<'_>) -> Result<(), StoreError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(pin!(write))
}

fn tokens(store: &Store) -> Vec<String> {
    let tokens = store.read_blocking(access::token_list).expect("a read");
    tokens.into_iter().map(|token| token.name).collect()
}

fn a_full_queue_refuses_at_once(store: Store) {
    let (begun, go, blocked) = block(&store);
    begun.recv().expect("it begins");
    let mut waiting = Vec::new();
    let refused = loop {
        assert!(waiting.len() < MANY, "the queue has no end");
        let mut one = write(&store, waiting.len());
        match poll(&mut one) {
            Poll::Pending => waiting.push(one),
            Poll::Ready(refused) => break refused.expect_err("nothing is done meanwhile"),
        }
    };
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused}");
    let accepted = waiting.len();
    // Those who give up make room.
    waiting.truncate(accepted / 2);
    let mut late = write(&store, accepted);
    assert!(poll(&mut late).is_pending());
    waiting.push(late);
    go.send(()).expect("it waits");
    blocked.join().expect("no panic").expect("it was done");
    for one in waiting {
        wait(one).expect("it is done");
    }
    let mut expected = vec!["blocked".to_owned()];
    expected.extend((0..accepted / 2).chain([accepted]).map(|number| format!("t{number}")));
    assert_eq!(tokens(&store), expected);
    wait(write(&store, MANY)).expect("everything goes on");
}

fn who_gives_up_takes_back_what_was_not_begun(store: Store) {
    let (begun, go, blocked) = block(&store);
    begun.recv().expect("it begins");
    let (mut given_up, mut waits) = (write(&store, 1), write(&store, 2));
    assert!(poll(&mut given_up).is_pending() && poll(&mut waits).is_pending());
    drop(given_up);
    go.send(()).expect("it waits");
    blocked.join().expect("no panic").expect("it was done");
    wait(waits).expect("it is done");
    assert_eq!(tokens(&store), ["blocked", "t2"]);
}

fn what_was_begun_is_done(store: Store) {
    let (begins, begun) = mpsc::channel();
    let (go, wait_for_go) = mpsc::channel::<()>();
    let mut begun_write: Write<'_> = Box::pin(store.write(move |tx| {
        begins.send(()).expect("the test listens");
        wait_for_go.recv().expect("the test says go");
        access::token_create(tx, "begun", "begun", Timestamp(5))
    }));
    assert!(poll(&mut begun_write).is_pending());
    begun.recv().expect("it begins");
    drop(begun_write);
    go.send(()).expect("it waits");
    wait(write(&store, 1)).expect("it is done");
    assert_eq!(tokens(&store), ["begun", "t1"]);
}
