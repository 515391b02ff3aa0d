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
    let mut failed = None;
    for due in store.read(|tx| due(tx, now())).await? {
        let happened = store.write(move |tx| happen(tx, &due, now())).await;
        failed = failed.or(happened.err());
    }
    match failed {
        Some(error) => Err(error),
        None => store.read(next).await,
    }
}

/// Something that time has brought about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// A timer of a build fires.
    Timer(BuildId, String),
    /// Something ends on a lock, by its name.
    Lock(LockId, String),
    /// A pin or an untick ends.
    Choice,
}

/// What is due by `now`; each happens in a transaction of its own ([`happen`]).
pub fn due(tx: &mut Tx<'_>, now: Timestamp) -> Result<Vec<Due>, StoreError> {
    let mut due: Vec<Due> =
        events::timer_due(tx, now)?.into_iter().map(|(build, timer)| Due::Timer(build, timer)).collect();
    due.extend(locks_due(tx, now)?.into_iter().map(|(lock, name)| Due::Lock(lock, name)));
    if versions::expire_next(tx)?.is_some_and(|at| at <= now) {
        due.push(Due::Choice);
    }
    Ok(due)
}

/// Lets one thing happen.
pub fn happen(tx: &mut Tx<'_>, due: &Due, now: Timestamp) -> Result<(), StoreError> {
    match due {
        Due::Timer(build, timer) => track::timer_fired(tx, *build, timer, now),
        Due::Lock(lock, name) => settle(tx, *lock, name, now),
        Due::Choice => versions::expire(tx, now),
    }
}

/// When the next thing is due.
pub fn next(tx: &mut Tx<'_>) -> Result<Option<Timestamp>, StoreError> {
    let nexts = [versions::expire_next(tx)?, events::timer_next(tx)?, locks::lock_due(tx, Timestamp(i64::MIN))?.1];
    Ok(nexts.into_iter().flatten().min())
}

/// The locks on which something ends, with their names.
fn locks_due(tx: &mut Tx<'_>, now: Timestamp) -> Result<Vec<(LockId, String)>, StoreError> {
    let (due, _) = locks::lock_due(tx, now)?;
    if due.is_empty() {
        return Ok(Vec::new());
    }
    Ok(locks::lock_list(tx)?.into_iter().filter(|(lock, _)| due.contains(lock)).collect())
}
