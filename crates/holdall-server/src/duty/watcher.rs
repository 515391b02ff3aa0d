//! Says which workers are lost: they have said nothing for a while. What ran on one stays as it is until the worker
//! comes back, the step's limit decides, or a person does, because nobody knows whether it still runs.

use holdall_engine::time::{Span, Timestamp};
use holdall_protocol::worker::Assignment;
use holdall_store::attempts::AttemptRow;
use holdall_store::{Signal, StoreError, Tx, attempts, checks, locks, workers};

use super::pace::Pace;
use super::track;
use super::workers::LOST_AFTER;
use crate::acts::WAITING_LAPSES;
use crate::api::App;
use crate::lifecycle::now;

/// How late a look may be before it counts as silence: for so long nobody may have been heard.
const AWAY: Span = Span::seconds(2);

/// Runs until the server stops.
pub(super) async fn run(app: App) {
    let mut pace = Pace::by_clock("watcher", app.lifecycle.stopping().clone());
    let mut due = now();
    loop {
        if !pace.wait(Some(due)).await {
            return;
        }
        let planned = due;
        let looked = match app.store.read(next).await {
            Ok(Some(next)) if next < now() || is_late(planned, now()) => {
                app.store.write(move |tx| look(tx, planned, now())).await
            }
            other => other,
        };
        match looked {
            // Often enough to know how long nobody could be heard.
            Ok(next) => due = next.map_or(now() + LOST_AFTER, |next| next.max(now()).min(now() + LOST_AFTER)),
            // What was planned stays so: until it is done, nobody is heard.
            Err(error) => {
                if !pace.failed(&error).await {
                    return;
                }
            }
        }
    }
}

fn is_late(planned: Timestamp, now: Timestamp) -> bool {
    now > planned + AWAY
}

/// Looks who is lost, where that was to be looked at by `planned`; gives when to look again. A look that comes much later
/// was kept from it, and so was everybody who had something to say: the machine slept, the clock was set ahead, the
/// database was away. Nobody is lost for that, and no limit decides.
pub fn look(tx: &mut Tx<'_>, planned: Timestamp, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
    if is_late(planned, now) {
        tracing::warn!("for {} seconds nobody could be heard", (now.0 - planned.0) / 1_000_000);
        after_silence(tx, now)?;
    }
    lose(tx, now)
}

/// For a while nobody could say anything: who counts as gone when nothing is heard of it gets its time again.
pub fn after_silence(tx: &mut Tx<'_>, now: Timestamp) -> Result<(), StoreError> {
    workers::worker_after_silence(tx, now)?;
    locks::wait_after_silence(tx, now + WAITING_LAPSES)
}

/// When the next worker counts as lost, or the limit of a step on one that is lost decides.
pub fn next(tx: &mut Tx<'_>) -> Result<Option<Timestamp>, StoreError> {
    let quietest = workers::worker_quietest(tx)?.map(|seen| seen + LOST_AFTER);
    let limits = attempts::attempt_list_lost(tx)?;
    Ok(limits.iter().filter_map(|(attempt, seen)| decided_at(attempt, *seen)).chain(quietest).min())
}

/// How much longer than for its limit and its grace a step is waited for, so that a worker that is there after all, but
/// could not reach the server, tells how it ended.
const MARGIN: Span = Span::seconds(60);

/// When nothing of an attempt runs any more whose worker was last heard of at `seen`, however the worker fares: its shim
/// stops it at its limit. Where the worker's machine slept, that is when it wakes, and what is left of the grace later.
/// `None`: it has no limit, or it may begin yet.
pub(crate) fn decided_at(attempt: &AttemptRow, seen: Timestamp) -> Option<Timestamp> {
    let assignment: Assignment = serde_json::from_str(&attempt.assignment).ok()?;
    let seconds = assignment.timeout_seconds? + assignment.stop.grace_seconds;
    (attempt.state == "running").then(|| seen + Span((seconds * 1e6) as i64) + MARGIN)
}

/// Marks the workers that have said nothing as lost, and ends the steps whose limits are over on those that are; gives when
/// to look again.
fn lose(tx: &mut Tx<'_>, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
    let before = Timestamp(now.0 - LOST_AFTER.0);
    for name in workers::worker_mark_lost(tx, before)? {
        tracing::warn!(worker = %name, "a worker has said nothing for {} seconds", LOST_AFTER.0 / 1_000_000);
        // Others can make its checks: a check may be made twice.
        checks::check_abandon(tx, &name, now)?;
        tell_builds(tx, &name)?;
        tx.signal(Signal::Workers);
    }
    for (attempt, seen) in attempts::attempt_list_lost(tx)? {
        if decided_at(&attempt, seen).is_some_and(|at| at < now) {
            let worker = attempt.worker.as_deref().unwrap_or_default();
            let message = format!("worker {worker} does not answer, and the limit of the step and its grace are over");
            track::attempt_lost(tx, &attempt, &message, now)?;
        }
    }
    next(tx)
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

    use holdall_engine::ids::BuildId;
    use holdall_protocol::worker::{Ending, Hello};
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
                for seconds in [9, 10, 17, 18] {
                    let next = lose(tx, at(seconds))?;
                    let lost = workers::worker_list(tx)?.into_iter().filter(|worker| worker.state == "lost");
                    states.push((seconds, next, lost.map(|worker| worker.name).collect::<Vec<_>>()));
                }
                Ok::<_, StoreError>(states)
            })
            .unwrap();
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            states,
            [
                (9, Some(at(9)), names(&[])),
                (10, Some(at(17)), names(&["quiet"])),
                (17, Some(at(17)), names(&["quiet"])),
                (18, None, names(&["lively", "quiet"])),
            ]
        );
    }

    #[test]
    fn the_limit_of_a_step_decides_where_its_worker_does_not_come_back() {
        const PIPELINE: &str = "jobs: [{name: j, plan: [\
             {task: t, timeout: 5m, config: {platform: linux, run: {path: 'true'}}, \
              ensure: {task: e, config: {platform: linux, run: {path: 'true'}}}}]}]";
        let dir = tempfile::tempdir().unwrap();
        let store = holdall_store::testing::sqlite(dir.path()).unwrap();
        let at = |seconds: i64| Timestamp(1_000_000_000 + seconds * 1_000_000);
        // Five minutes, the grace, and the margin, after the last word.
        let decided = 300 + 10 + 60;
        store
            .write_blocking(move |tx| {
                let build = on_worker(tx, PIPELINE, at(0))?;
                let attempt = attempts::attempt_list_open(tx, build)?.remove(0);
                track::attempt_started(tx, &attempt, at(1), at(1))?;
                // Nobody could be heard for an hour: all have their time again, and nothing is decided.
                let hour = 3_600;
                assert_eq!(look(tx, at(5), at(hour))?, Some(at(hour + 9)));
                assert_eq!(attempts::attempt_list_open(tx, build)?.len(), 1);
                workers::worker_seen(tx, "quiet", at(0))?;
                assert_eq!(look(tx, at(9), at(10))?, Some(at(decided)), "a look that is in time");
                assert_eq!(lose(tx, at(decided))?, Some(at(decided)), "not before it is over");
                assert_eq!(lose(tx, at(decided + 1))?, None);
                let ended = attempts::attempt_get(tx, &attempt.id)?.unwrap();
                assert_eq!(ended.state, "finished");
                // Its hook goes to any other worker.
                let hook = attempts::attempt_list_queued_for(tx, "another", None, 10, 0)?;
                assert_eq!(hook.len(), 1);
                assert!(attempts::attempt_assign(tx, &hook[0].attempt, "another", at(400))?);
                let ending = Ending::Exited { status: 0, result: None, artifacts: Vec::new() };
                track::attempt_finished(tx, &hook[0].attempt, &ending, at(401))?;
                assert_eq!(builds::build_get(tx, build)?.unwrap().status.as_str(), "errored");
                Ok::<_, Error>(())
            })
            .unwrap();
    }

    #[test]
    fn no_limit_decides_of_a_step_that_may_not_have_begun() {
        const PIPELINE: &str =
            "jobs: [{name: j, plan: [{task: t, timeout: 5m, config: {platform: linux, run: {path: 'true'}}}]}]";
        let dir = tempfile::tempdir().unwrap();
        let store = holdall_store::testing::sqlite(dir.path()).unwrap();
        let at = |seconds: i64| Timestamp(1_000_000_000 + seconds * 1_000_000);
        store
            .write_blocking(move |tx| {
                let build = on_worker(tx, PIPELINE, at(0))?;
                assert_eq!(lose(tx, at(10))?, None);
                assert_eq!(lose(tx, at(10_000))?, None);
                assert_eq!(attempts::attempt_list_open(tx, build)?.len(), 1);
                // A server that starts gives it time again.
                workers::worker_after_silence(tx, at(20_000))?;
                assert_eq!(next(tx)?, Some(at(20_009)));
                Ok::<_, Error>(())
            })
            .unwrap();
    }

    /// A build of the pipeline's job `j`, whose first step the worker `quiet` has; it was last heard of at `now`.
    fn on_worker(tx: &mut Tx<'_>, pipeline: &str, now: Timestamp) -> Result<BuildId, Error> {
        let (config, _) = pipelines::parse(pipeline, &BTreeMap::new())?;
        let id = pipelines::save(tx, "main", "p", &config, &BTreeMap::new(), false, now)?;
        let job = jobs::job_find(tx, id, "j")?.unwrap();
        let build = builds::build_create(tx, job.id, &NewBuild::default(), now)?;
        schedule_all(tx, now)?;
        session::hello(tx, &greeting(), now)?;
        let queued = attempts::attempt_list_queued_for(tx, "quiet", None, 1, 0)?;
        assert!(attempts::attempt_assign(tx, &queued[0].attempt, "quiet", now)?);
        Ok(build)
    }

    fn greeting() -> Hello {
        Hello {
            name: "quiet".to_owned(),
            session: "1".to_owned(),
            platform: "linux".to_owned(),
            tags: Vec::new(),
            team: None,
            slots: 1,
            version: "0".to_owned(),
            attempts: Vec::new(),
            history: None,
            builds: Vec::new(),
            forgot: None,
        }
    }

    #[test]
    fn a_build_says_that_its_worker_is_lost_and_wakes_who_follows_it() {
        const PIPELINE: &str = "jobs: [{name: j, plan: [{task: t, config: {platform: linux, run: {path: 'true'}}}]}]";
        let dir = tempfile::tempdir().unwrap();
        let store = holdall_store::testing::sqlite(dir.path()).unwrap();
        let at = |seconds: i64| Timestamp(1_000_000_000 + seconds * 1_000_000);
        let build = store.write_blocking(move |tx| on_worker(tx, PIPELINE, at(0))).unwrap();
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
        store.write_blocking(move |tx| session::hello(tx, &greeting(), at(20))).unwrap();
        assert_eq!((holds(&store), is_woken()), (vec![], true));
    }
}
