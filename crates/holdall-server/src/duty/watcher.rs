//! Says which workers are lost: they have said nothing for a while. What ran on one stays as it is until the worker
//! comes back or a person decides, because nobody knows whether it still runs.

use holdall_engine::time::Timestamp;
use holdall_store::{Signal, StoreError, Tx, attempts, checks, workers};

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
        tell_builds(tx, &name)?;
        tx.signal(Signal::Workers);
    }
    workers::worker_quietest(tx)
}

/// Wakes those who follow builds with steps on a worker: whether it is there has changed.
pub(super) fn tell_builds(tx: &mut Tx<'_>, worker: &str) -> Result<(), StoreError> {
    for attempt in attempts::attempt_list_of_worker(tx, worker)? {
        tx.signal(Signal::Build(attempt.build));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use holdall_protocol::worker::Hello;
    use holdall_store::builds::{self, NewBuild};
    use holdall_store::workers::WorkerRow;
    use holdall_store::{Store, jobs};

    use super::*;
    use crate::duty::schedule::schedule_all;
    use crate::duty::workers as session;
    use crate::error::Error;
    use crate::{pipelines, query};

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

    #[test]
    fn a_build_says_that_its_worker_is_lost_and_wakes_who_follows_it() {
        const PIPELINE: &str = "jobs: [{name: j, plan: [{task: t, config: {platform: linux, run: {path: 'true'}}}]}]";
        let dir = tempfile::tempdir().unwrap();
        let store = holdall_store::testing::sqlite(dir.path()).unwrap();
        let at = |seconds: i64| Timestamp(1_000_000_000 + seconds * 1_000_000);
        let hello = Hello {
            name: "quiet".to_owned(),
            session: "1".to_owned(),
            platform: "linux".to_owned(),
            tags: Vec::new(),
            team: None,
            slots: 1,
            version: "0".to_owned(),
            attempts: Vec::new(),
            history: None,
        };
        let again = hello.clone();
        let build = store
            .write_blocking(move |tx| {
                let (config, _) = pipelines::parse(PIPELINE, &BTreeMap::new())?;
                let id = pipelines::save(tx, "main", "p", &config, &BTreeMap::new(), false, at(0))?;
                let job = jobs::job_find(tx, id, "j")?.unwrap();
                let build = builds::build_create(tx, job.id, &NewBuild::default(), at(0))?;
                schedule_all(tx, at(0))?;
                session::hello(tx, &hello, at(0))?;
                let queued = attempts::attempt_list_queued_for(tx, "quiet", None, 1, 0)?;
                assert!(attempts::attempt_assign(tx, &queued[0].attempt, "quiet", at(1))?);
                Ok::<_, Error>(build)
            })
            .unwrap();
        let holds = |store: &Store| {
            let detail = store.read_blocking(|tx| query::builds::detail(tx, build.0)).unwrap();
            detail.report.into_iter().map(|hold| hold.code).collect::<Vec<_>>()
        };
        // What a transaction signals is sent at the latest when the next one runs.
        let settle = || store.write_blocking(|_| Ok::<_, StoreError>(())).unwrap();
        settle();
        let mut follower = store.signals().changes();
        let mut is_woken = || {
            settle();
            let mut woken = false;
            while let Ok(signal) = follower.try_recv() {
                woken |= signal == Signal::Build(build);
            }
            woken
        };
        store.write_blocking(move |tx| lose(tx, at(9))).unwrap();
        assert_eq!((holds(&store), is_woken()), (vec![], false));
        store.write_blocking(move |tx| lose(tx, at(11))).unwrap();
        assert_eq!((holds(&store), is_woken()), (vec!["worker-lost".to_owned()], true));
        store.write_blocking(move |tx| session::hello(tx, &again, at(20))).unwrap();
        assert_eq!((holds(&store), is_woken()), (vec![], true));
    }
}
