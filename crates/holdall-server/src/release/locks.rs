//! How a lock stands, as the engine sees it, and what happens when it comes free.

use holdall_engine::ids::LockId;
use holdall_engine::release::lock::{Asker, Holder, LockView, Trouble, Waiter, obstacles};
use holdall_engine::report::Code;
use holdall_engine::status::BuildStatus;
use holdall_engine::time::Timestamp;
use holdall_store::audit::{AuditRow, audit_add};
use holdall_store::environments::{self, DeploymentRow};
use holdall_store::locks::{self, HoldingRow};
use holdall_store::{StoreError, Tx, builds, jobs};

use super::EnvironmentSpec;

/// Reads how a lock stands.
pub fn lock_view(tx: &mut Tx<'_>, lock: LockId, name: &str) -> Result<LockView, StoreError> {
    let mut holders = Vec::new();
    for row in locks::holding_list(tx, lock)? {
        let trouble = match row.deployment {
            Some(deployment) => {
                let deployment = environments::deployment_get(tx, deployment)?;
                trouble(tx, &deployment)?
            }
            None => None,
        };
        holders.push(Holder {
            kind: row.kind,
            name: row.name,
            shared: row.mode == "shared",
            reason: row.reason,
            since: row.since,
            until: row.until,
            build: row.build,
            deployment: row.deployment,
            trouble,
        });
    }
    let queue = locks::wait_list(tx, lock)?
        .into_iter()
        .map(|row| Waiter {
            id: row.id,
            kind: row.kind,
            name: row.name,
            shared: row.mode == "shared",
            since: row.since,
            build: row.build,
        })
        .collect();
    Ok(LockView { name: name.to_owned(), holders, queue })
}

/// Whether an environment of that name lets the jobs of a pipeline (`team/pipeline`) hold its lock while they run:
/// `lock.allow` in a system file. `None`: there is no such environment.
pub fn allows(tx: &mut Tx<'_>, environment: &str, pipeline: &str) -> Result<Option<bool>, StoreError> {
    let Some(lock) = locks::lock_find(tx, environment)? else { return Ok(None) };
    let rows = environments::environment_list_of_lock(tx, lock)?;
    let mut known = None;
    for row in rows {
        let is_named = EnvironmentSpec::of(&row)?.allow.iter().any(|name| name == pipeline);
        known = Some(known.unwrap_or(false) || is_named);
    }
    Ok(known)
}

/// How the jobs of a deployment stand.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// A build of it is pending or runs.
    pub working: bool,
    /// The newest build of one of its jobs did not succeed: the job and the build, newest first.
    pub failed: Option<builds::BuildRow>,
}

/// Looks at the newest build of each job of a deployment.
pub fn progress(tx: &mut Tx<'_>, deployment: &DeploymentRow) -> Result<Progress, StoreError> {
    let mut progress = Progress::default();
    let mut seen = Vec::new();
    for build in builds::build_list_of_deployment(tx, deployment.id)?.into_iter().rev() {
        if seen.contains(&build.job) {
            continue;
        }
        seen.push(build.job);
        match build.status {
            BuildStatus::Pending | BuildStatus::Started => progress.working = true,
            BuildStatus::Failed | BuildStatus::Errored | BuildStatus::Aborted => {
                if progress.failed.is_none() {
                    progress.failed = Some(build);
                }
            }
            BuildStatus::Succeeded => {}
        }
    }
    Ok(progress)
}

/// What went wrong with a deployment that has not ended, if something did.
pub fn trouble(tx: &mut Tx<'_>, deployment: &DeploymentRow) -> Result<Option<Trouble>, StoreError> {
    if deployment.ended_at.is_some() {
        return Ok(None);
    }
    let progress = progress(tx, deployment)?;
    let Some(build) = progress.failed else {
        // After a loss of history there may be no build that shows it.
        return Ok(deployment.in_doubt.then(|| Trouble {
            code: Code::InDoubt,
            place: format!("deployment {}", deployment.number),
            build: deployment.build,
            since: Some(deployment.started_at),
        }));
    };
    if progress.working && !deployment.in_doubt {
        return Ok(None);
    }
    let code = if deployment.in_doubt {
        Code::InDoubt
    } else if deployment.deployed_at.is_none() {
        Code::DeployFailed
    } else {
        Code::TestFailed
    };
    Ok(Some(Trouble {
        code,
        place: format!("{} {}", build.job_name, build.name),
        build: build.id,
        since: build.ended_at,
    }))
}

/// The builds that run for those who hold a lock: workers may be busy with their steps.
pub fn running_holders(tx: &mut Tx<'_>, lock: LockId) -> Result<Vec<builds::BuildRow>, StoreError> {
    let mut running = Vec::new();
    for holding in locks::holding_list(tx, lock)? {
        match (holding.deployment, holding.build) {
            (Some(deployment), _) => running.extend(builds::build_list_of_deployment(tx, deployment)?),
            (None, Some(build)) => running.extend(builds::build_get(tx, build)?),
            (None, None) => {}
        }
    }
    running.retain(|build| build.status == BuildStatus::Started);
    Ok(running)
}

/// Lets the lock go on to whom it belongs now: people at the head of the queue get it in this transaction, builds
/// are looked at by the scheduler. To be called after every change of the lock's holders or queue.
pub fn settle(tx: &mut Tx<'_>, lock: LockId, name: &str, now: Timestamp) -> Result<(), StoreError> {
    for holding in locks::holding_list(tx, lock)? {
        let over = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
        if over(holding.until) || over(holding.alive_until) {
            let how = if over(holding.until) { "expired" } else { "expired: its client is gone" };
            note(tx, "holdall", "lock_expired", name, Some(how), Some(&holding.name), None, now)?;
            locks::holding_remove(tx, &holding)?;
        }
    }
    for wait in locks::wait_list(tx, lock)? {
        if wait.alive_until.is_some_and(|at| at <= now) {
            locks::wait_remove(tx, wait.id)?;
        }
    }
    loop {
        let view = lock_view(tx, lock, name)?;
        let waiting = locks::wait_list(tx, lock)?;
        let next = waiting.into_iter().find(|wait| {
            wait.build.is_none() && obstacles(&view, Asker::Place(wait.id), wait.mode == "shared", false).is_empty()
        });
        let Some(wait) = next else { break };
        locks::wait_remove(tx, wait.id)?;
        let holding = HoldingRow {
            id: 0,
            lock,
            kind: wait.kind,
            name: wait.name.clone(),
            mode: wait.mode,
            build: None,
            deployment: None,
            token: wait.token,
            reason: wait.reason.clone(),
            since: now,
            until: wait.for_span.map(|span| now + span),
            alive_until: wait.alive_until,
            fence: 0,
        };
        locks::holding_add(tx, &holding)?;
        note(tx, &wait.name, "lock_granted", name, wait.reason.as_deref(), None, Some(&wait.name), now)?;
    }
    locks::mark_waiters(tx, lock)
}

/// Writes a change of a lock into the audit log.
#[allow(clippy::too_many_arguments)]
pub fn note(
    tx: &mut Tx<'_>,
    who: &str,
    act: &str,
    lock: &str,
    reason: Option<&str>,
    before: Option<&str>,
    after: Option<&str>,
    now: Timestamp,
) -> Result<(), StoreError> {
    audit_add(
        tx,
        &AuditRow {
            id: 0,
            at: now,
            who: who.to_owned(),
            origin: "engine".to_owned(),
            act: act.to_owned(),
            target: format!("lock/{lock}"),
            reason: reason.map(str::to_owned),
            before: before.map(str::to_owned),
            after: after.map(str::to_owned),
        },
    )
}

/// Marks the job of a build for the scheduler.
pub fn mark_job_of(tx: &mut Tx<'_>, build: holdall_engine::ids::BuildId) -> Result<(), StoreError> {
    if let Some(row) = builds::build_get(tx, build)? {
        jobs::mark(tx, row.job)?;
    }
    Ok(())
}
