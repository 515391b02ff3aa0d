//! Says which workers are lost: they have said nothing for a while. What ran on one stays as it is until the worker
//! comes back or a person decides, because nobody knows whether it still runs.

use holdall_engine::time::Timestamp;
use holdall_store::{Signal, StoreError, Tx, checks, workers};

use super::pace::Pace;
use super::workers::LOST_AFTER;
use crate::api::App;
use crate::lifecycle::now;

/// Runs until the server stops.
pub(super) async fn run(app: App) {
    let mut pace = Pace::by_clock("watcher", app.lifecycle.stopping().clone());
    // While no server ran, no worker could say anything.
    let mut due = now() + LOST_AFTER;
    loop {
        if !pace.wait(Some(due)).await {
            return;
        }
        let quietest = match app.store.read(workers::worker_quietest).await {
            Ok(Some(seen)) if seen + LOST_AFTER < now() => app.store.write(|tx| lose(tx, now())).await,
            other => other,
        };
        due = match quietest {
            Ok(seen) => seen.unwrap_or(now()) + LOST_AFTER,
            Err(error) => {
                if !pace.failed(&error).await {
                    return;
                }
                now()
            }
        };
    }
}

/// Marks the workers that have said nothing; gives when the quietest of the others last did.
fn lose(tx: &mut Tx<'_>, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
    let before = Timestamp(now.0 - LOST_AFTER.0);
    for name in workers::worker_mark_lost(tx, before)? {
        tracing::warn!(worker = %name, "a worker has said nothing for {} seconds", LOST_AFTER.0 / 1_000_000);
        // Others can make its checks: a check may be made twice.
        checks::check_abandon(tx, &name, now)?;
        tx.signal(Signal::Workers);
    }
    workers::worker_quietest(tx)
}
