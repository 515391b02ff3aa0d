//! A new epoch: what is done when history was lost, because a backup was restored or a replica that lagged took over.
//!
//! What happened after the last moment that is known did happen: bags were deployed, steps ran, numbers were given.
//! So all numbers skip ahead, nothing that was under way goes on by itself, and every environment waits until a
//! person has confirmed what is live there (`restored`).

use holdall_engine::status::BuildStatus;
use holdall_engine::time::Timestamp;
use holdall_protocol::worker::{Ending, History};
use holdall_store::audit::{AuditRow, audit_add_after_loss};
use holdall_store::builds::BuildRow;
use holdall_store::environments::{self, DeploymentMark, EnvironmentRow, Held};
use holdall_store::epoch::{Compared, Loss, Progress};
use holdall_store::{StoreError, Tx, attempts, builds, checks, epoch, jobs, systems, workers};

use crate::duty::track;
use crate::release::deployments::deployment_open;

/// The code of the hold.
pub(crate) const RESTORED: &str = "restored";

/// How often what runs in a build is ended: its hooks begin when its steps have ended, and end in the same way.
const MOST_ROUNDS: usize = 1000;

/// A new epoch, and what it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// Its number.
    pub epoch: i64,
    /// The environments that wait for a person: `system/environment`.
    pub held: Vec<String>,
    /// The deployments of which nobody knows how they ended: `system/environment deployment N of bag M`.
    pub in_doubt: Vec<String>,
    /// How many builds were ended that had not.
    pub builds: usize,
}

/// Begins a new epoch. `why`: what is known of the loss, as the audit log and the environments say it.
pub fn begin(tx: &mut Tx<'_>, why: &str, now: Timestamp) -> Result<Begun, StoreError> {
    let number = epoch::begin(tx, now)?.number;
    workers::worker_forget_all(tx)?;
    checks::check_abandon_all(tx, now)?;
    let mut begun = Begun { epoch: number, held: Vec::new(), in_doubt: Vec::new(), builds: 0 };
    for system in systems::system_list(tx)? {
        for environment in environments::environment_list(tx, system.id)? {
            hold(tx, &environment, why, &mut begun, now)?;
        }
    }
    for build in builds::build_list_open(tx)? {
        end(tx, &build, why, now)?;
        begun.builds += 1;
    }
    audit_add_after_loss(
        tx,
        &AuditRow {
            id: 0,
            at: now,
            who: "holdall".to_owned(),
            origin: "engine".to_owned(),
            act: "new_epoch".to_owned(),
            target: "server".to_owned(),
            reason: Some(why.to_owned()),
            before: Some(format!("epoch {}", number - 1)),
            after: Some(format!("epoch {number}")),
        },
    )?;
    tracing::warn!(epoch = number, "a new epoch begins: {why}");
    Ok(begun)
}

/// Holds an environment. What was under way there and had not been deployed may have been, since.
fn hold(
    tx: &mut Tx<'_>,
    environment: &EnvironmentRow,
    why: &str,
    begun: &mut Begun,
    now: Timestamp,
) -> Result<(), StoreError> {
    let before = environment.held.as_ref().filter(|held| held.code != RESTORED);
    let before = before.map(|held| format!("; before that: {} by {}", held.code, held.by)).unwrap_or_default();
    let held =
        Held { code: RESTORED.to_owned(), at: now, by: "holdall".to_owned(), reason: Some(format!("{why}{before}")) };
    environments::environment_hold(tx, environment.id, Some(&held))?;
    let name = format!("{}/{}", environment.system_name, environment.name);
    if let Some(open) = deployment_open(tx, environment)?
        && open.deployed_at.is_none()
    {
        environments::deployment_mark(tx, open.id, DeploymentMark::InDoubt(true), now)?;
        begun.in_doubt.push(format!("{name} deployment {} of bag {}", open.number, open.bag));
    }
    begun.held.push(name);
    jobs::mark_pipeline(tx, environment.pipeline)
}

/// Ends a build that had not ended. Its steps may have run on, or have ended, and the steps after them may have run:
/// nothing of it is started, not even a hook.
fn end(tx: &mut Tx<'_>, build: &BuildRow, why: &str, now: Timestamp) -> Result<(), StoreError> {
    if build.status == BuildStatus::Pending {
        return track::end_pending(tx, build.id, BuildStatus::Aborted, &format!("history was lost: {why}"), now);
    }
    let ending = Ending::Lost { message: format!("history was lost: {why}") };
    // Also what was still in the queue may have been given to a worker.
    attempts::attempt_assume_running(tx, build.id)?;
    track::abort(tx, build.id, now)?;
    for _ in 0..MOST_ROUNDS {
        let open = attempts::attempt_list_open(tx, build.id)?;
        if open.is_empty() {
            return Ok(());
        }
        for attempt in open {
            track::attempt_finished(tx, &attempt, &ending, now)?;
        }
    }
    Err(StoreError::Inconsistent(format!("build {} finds no end", build.id)))
}

/// How far the history goes, for workers to remember; `None` where the installation has no name.
pub(crate) fn history(tx: &mut Tx<'_>) -> Result<Option<History>, StoreError> {
    let Some(installation) = epoch::installation(tx)? else { return Ok(None) };
    let extent = epoch::extent(tx)?;
    Ok(Some(History { installation, builds: extent.builds, acts: extent.acts }))
}

/// Begins a new epoch because the database has fewer commits than `who` remembers.
pub(crate) fn begin_after(tx: &mut Tx<'_>, who: &str, loss: Loss, now: Timestamp) -> Result<(), StoreError> {
    begin(tx, &format!("{who} knows of {loss}"), now).map(drop)
}

/// Compares the history with what a data folder remembers of it: where it remembers more of the same installation, some
/// was lost, and a new epoch begins.
pub(crate) fn compare_progress(tx: &mut Tx<'_>, known: &Progress, now: Timestamp) -> Result<(), StoreError> {
    match known.compare(&epoch::progress(tx)?) {
        Compared::Lost(loss) => begin_after(tx, "the data folder", loss, now),
        Compared::Whole | Compared::Another => Ok(()),
    }
}

/// Compares the history with what a worker remembers of it, which finds a loss of the server's data folder, too: where the worker remembers more, some of it was lost, and
/// a new epoch begins.
pub(crate) fn compare(tx: &mut Tx<'_>, worker: &str, known: &History, now: Timestamp) -> Result<(), StoreError> {
    let Some(own) = history(tx)?.filter(|own| own.installation == known.installation) else { return Ok(()) };
    if known.builds <= own.builds && known.acts <= own.acts {
        return Ok(());
    }
    let why = format!(
        "worker {worker} knows of build {} and act {}, and the database ends with build {} and act {}: it is older \
         than what it takes the place of",
        known.builds, known.acts, own.builds, own.acts
    );
    begin(tx, &why, now).map(drop)
}
