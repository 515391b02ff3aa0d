//! Does what time alone brings about: timers of builds, and the ends of locks, pins and unticks.

use holdall_engine::ids::{BuildId, LockId};
use holdall_engine::time::Timestamp;
use holdall_store::{Store, StoreError, Tx, events, locks, versions};

use super::pace::Pace;
use super::track;
use crate::api::App;
use crate::lifecycle::now;
use crate::release::locks::settle;

/// Runs until the server stops.
pub(super) async fn run(app: App) {
    let mut pace = Pace::new("timekeeper", app.store.signals().timers(), app.lifecycle.stopping().clone());
    loop {
        pace.looks();
        let goes_on = match look(&app.store).await {
            Ok(next) => pace.wait(next).await,
            Err(error) => pace.failed(&error).await,
        };
        if !goes_on {
            return;
        }
    }
}

/// Lets everything happen that is due; gives when the next thing is. What fails does not keep the rest from happening.
async fn look(store: &Store) -> Result<Option<Timestamp>, StoreError> {
    let (timers, due_locks) =
        store.read::<_, StoreError, _>(|tx| Ok((events::timer_due(tx, now())?, locks_due(tx, now())?))).await?;
    let mut failed = None;
    for (build, timer) in timers {
        let fired = store.write(move |tx| fire(tx, build, &timer)).await;
        failed = failed.or(fired.err());
    }
    for (lock, name) in due_locks {
        let settled = store.write(move |tx| settle(tx, lock, &name, now())).await;
        failed = failed.or(settled.err());
    }
    let next = store.write(|tx| versions::expire(tx, now())).await?;
    if let Some(error) = failed {
        return Err(error);
    }
    store
        .read(move |tx| {
            let nexts = [next, events::timer_next(tx)?, locks::lock_due(tx, now())?.1];
            Ok(nexts.into_iter().flatten().min())
        })
        .await
}

fn fire(tx: &mut Tx<'_>, build: BuildId, timer: &str) -> Result<(), StoreError> {
    track::timer_fired(tx, build, timer, now())
}

/// The locks on which something ends, with their names.
fn locks_due(tx: &mut Tx<'_>, now: Timestamp) -> Result<Vec<(LockId, String)>, StoreError> {
    let (due, _) = locks::lock_due(tx, now)?;
    if due.is_empty() {
        return Ok(Vec::new());
    }
    Ok(locks::lock_list(tx)?.into_iter().filter(|(lock, _)| due.contains(lock)).collect())
}
