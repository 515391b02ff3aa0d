//! Journals of builds, read in parts.

use holdall_engine::ids::BuildId;
use holdall_engine::time::Timestamp;
use holdall_store::events::{event_append, event_list_within};
use holdall_store::{Store, StoreError};

use crate::{history, random};

mod both {
    holdall_store::on_both_databases!(a_journal_is_read_as_far_as_it_fits);
}

fn a_journal_is_read_as_far_as_it_fits(store: Store) {
    let world = (0..).map(random::world).find(|world| !world.builds.is_empty()).expect("one of them");
    let build = BuildId(1);
    store
        .write_blocking(move |tx| {
            history::write(tx, &world)?;
            for size in [None, Some(10), Some(10), Some(100), Some(1), None] {
                event_append(tx, build, Timestamp(5), "output", None, None, size.map(|size| vec![b'x'; size]))?;
            }
            Ok::<(), StoreError>(())
        })
        .expect("a journal");
    let read = |from: i64, limit: i64, bytes: i64| {
        let (rows, is_all) =
            store.read_blocking(|tx| event_list_within(tx, build, from, limit, bytes)).expect("a part of it");
        (rows.iter().map(|row| row.seq).collect::<Vec<_>>(), is_all)
    };
    assert_eq!(read(0, 9, 1000), (vec![0, 1, 2, 3, 4, 5], true));
    assert_eq!(read(0, 9, 20), (vec![0, 1, 2], false), "as much as fits");
    assert_eq!(read(0, 9, 19), (vec![0, 1], false));
    assert_eq!(read(3, 9, 19), (vec![3], false), "one, however large it is");
    assert_eq!(read(4, 9, 1), (vec![4, 5], true));
    assert_eq!(read(0, 2, 1000), (vec![0, 1], false), "as many as are wanted: there may be more");
    assert_eq!(read(6, 9, 1000), (vec![], true));
}
