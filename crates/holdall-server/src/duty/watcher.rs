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
pub fn lose(tx: &mut Tx<'_>, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
    let before = Timestamp(now.0 - LOST_AFTER.0);
    for name in workers::worker_mark_lost(tx, before)? {
        tracing::warn!(worker = %name, "a worker has said nothing for {} seconds", LOST_AFTER.0 / 1_000_000);
        // Others can make its checks: a check may be made twice.
        checks::check_abandon(tx, &name, now)?;
        tx.signal(Signal::Workers);
    }
    workers::worker_quietest(tx)
}

#[cfg(test)]
mod tests {
    use holdall_store::workers::WorkerRow;

    use super::*;

    #[test]
    fn a_worker_is_lost_when_it_has_been_quiet_for_too_long() {
        let dir = tempfile::tempdir().unwrap();
        let store = holdall_store::testing::sqlite(dir.path()).unwrap();
        let at = |seconds: i64| Timestamp(1_000_000_000 + seconds * 1_000_000);
        let worker = |name: &str, seconds: i64| WorkerRow {
            name: name.to_owned(),
            session: "1".to_owned(),
            platform: "linux".to_owned(),
            tags: "[]".to_owned(),
            team: None,
            slots: 1,
            version: "0".to_owned(),
            started_at: at(0),
            seen_at: at(seconds),
            state: String::new(),
        };
        let (quiet, lively) = (worker("quiet", 0), worker("lively", 8));
        let states = store
            .write_blocking(move |tx| {
                workers::worker_hello(tx, &quiet)?;
                workers::worker_hello(tx, &lively)?;
                let mut states = Vec::new();
                for seconds in [10, 11, 18, 19] {
                    let quietest = lose(tx, at(seconds))?;
                    let lost = workers::worker_list(tx)?.into_iter().filter(|worker| worker.state == "lost");
                    states.push((seconds, quietest, lost.map(|worker| worker.name).collect::<Vec<_>>()));
                }
                Ok::<_, StoreError>(states)
            })
            .unwrap();
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            states,
            [
                (10, Some(at(0)), names(&[])),
                (11, Some(at(8)), names(&["quiet"])),
                (18, Some(at(8)), names(&["quiet"])),
                (19, None, names(&["lively", "quiet"])),
            ]
        );
    }
}
