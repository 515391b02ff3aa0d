//! Runs the scheduler whenever a job is marked, until none is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use holdall_engine::ids::JobId;
use holdall_store::{Store, StoreError, jobs};

use super::pace::Pace;
use super::schedule;
use crate::api::App;
use crate::lifecycle::now;

/// How long a job that cannot be scheduled is left alone.
const SET_ASIDE: Duration = Duration::from_secs(60);

/// How many jobs are looked at one by one.
const MOST: i64 = 1000;

/// Runs until the server stops.
pub(super) async fn run(app: App) {
    let mut pace = Pace::new("scheduler", app.store.signals().schedule(), app.lifecycle.stopping().clone());
    let mut aside: BTreeMap<JobId, Instant> = BTreeMap::new();
    loop {
        pace.looks();
        let goes_on = match drain(&app.store).await {
            Ok(()) => pace.wait(None).await,
            // One job that cannot be scheduled must not keep the others from being.
            Err(error) if error.is_confined() => match one_by_one(&app.store, &mut aside).await {
                Ok(()) => pace.wait(None).await,
                Err(error) => pace.failed(&error).await,
            },
            Err(error) => pace.failed(&error).await,
        };
        if !goes_on {
            return;
        }
    }
}

/// Looks at marked jobs until none is left, some in each transaction.
async fn drain(store: &Store) -> Result<(), StoreError> {
    loop {
        let (_, more) = store.write(|tx| schedule::schedule_some(tx, now())).await?;
        if !more {
            return Ok(());
        }
    }
}

/// Looks at marked jobs, each in a transaction of its own, and leaves those alone that failed lately.
async fn one_by_one(store: &Store, aside: &mut BTreeMap<JobId, Instant>) -> Result<(), StoreError> {
    aside.retain(|_, since| since.elapsed() < SET_ASIDE);
    for job in store.read(|tx| jobs::dirty(tx, MOST)).await? {
        if aside.contains_key(&job) {
            continue;
        }
        let done: Result<(), StoreError> = store
            .write(move |tx| {
                jobs::unmark(tx, job)?;
                schedule::schedule_job(tx, job, now())?;
                Ok(())
            })
            .await;
        match done {
            Ok(()) => {}
            Err(error) if !error.is_confined() => return Err(error),
            Err(error) => {
                tracing::error!(job.id = job.0, "a job cannot be scheduled and is set aside: {error}");
                aside.insert(job, Instant::now());
            }
        }
    }
    Ok(())
}
