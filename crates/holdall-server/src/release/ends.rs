//! What the end of a build, or of one of its steps, means for its environment.

use holdall_engine::release::Role;
use holdall_engine::report::Code;
use holdall_engine::status::BuildStatus;
use holdall_engine::time::Timestamp;
use holdall_store::bags;
use holdall_store::builds::{self, BuildRow};
use holdall_store::environments::{self, DeploymentMark, DeploymentRow, EnvironmentRow, Held};
use holdall_store::{StoreError, Tx, jobs, locks, resources, versions};

use super::bags::bag_arrive;
use super::deployments::{deployment_end_and_settle, deployment_open, deployment_version};
use super::environments_of;
use super::locks::{note, settle};
use crate::error::json_text;

/// Writes what the end of a build means for its environment, in the transaction that ends it.
pub fn after_build(
    tx: &mut Tx<'_>,
    build: &BuildRow,
    role: Option<Role>,
    status: BuildStatus,
    now: Timestamp,
) -> Result<(), StoreError> {
    locks::wait_remove_build(tx, build.id)?;
    release_of_build(tx, build, now)?;
    let Some(role) = role else { return Ok(()) };
    let Some(environment) = environments::environment_of_pipeline(tx, build.pipeline)? else { return Ok(()) };
    let succeeded = status == BuildStatus::Succeeded;
    match role {
        Role::Deploy { last: true } if succeeded => deployed(tx, build, &environment, now)?,
        Role::Signal if succeeded => passed(tx, build, &environment, now)?,
        Role::ForceUnlock if succeeded => {
            let by = build.created_by.clone().unwrap_or_else(|| "somebody".to_owned());
            let reason = build.reason.clone().unwrap_or_else(|| "no reason given (force-unlock-pipeline)".to_owned());
            force_unlock(tx, &environment, &by, &reason, true, now)?;
        }
        Role::Pack
        | Role::StartDeploy
        | Role::Deploy { .. }
        | Role::Test
        | Role::Signal
        | Role::ForceUnlock
        | Role::Periodic => {}
    }
    if matches!(role, Role::Deploy { .. } | Role::Signal) {
        // What must not run beside it waits for its end.
        jobs::mark_pipeline(tx, build.pipeline)?;
    }
    unlock_if_wanted(tx, build, &environment, now)
}

/// Carries out a force-unlock that waited for this build's processes to end (release model, section 5, rule 7).
fn unlock_if_wanted(
    tx: &mut Tx<'_>,
    build: &BuildRow,
    environment: &EnvironmentRow,
    now: Timestamp,
) -> Result<(), StoreError> {
    let Some(id) = build.deployment else { return Ok(()) };
    let Some(wanted) = environments::pending_unlock(tx, id)? else { return Ok(()) };
    let runs = builds::build_list_of_deployment(tx, id)?.iter().any(|build| build.status == BuildStatus::Started);
    if runs {
        return Ok(());
    }
    force_unlock(tx, environment, &wanted.by, &wanted.reason, wanted.hold, now)
}

/// Gives back a lock that the build itself holds: one for the time of the build, or one of a `start-deploy` that made
/// no deployment (release model, section 5, rule 3).
fn release_of_build(tx: &mut Tx<'_>, build: &BuildRow, now: Timestamp) -> Result<(), StoreError> {
    for (lock, name) in locks::lock_list_of_build(tx, build.id)? {
        for holding in locks::holding_list(tx, lock)? {
            if holding.build == Some(build.id) && holding.deployment.is_none() {
                locks::holding_remove(tx, &holding)?;
                note(tx, "holdall", "lock_released", &name, Some("its build ended"), Some(&holding.name), None, now)?;
            }
        }
        settle(tx, lock, &name, now)?;
    }
    Ok(())
}

/// The deploy plan has succeeded: the bag is current.
fn deployed(tx: &mut Tx<'_>, build: &BuildRow, environment: &EnvironmentRow, now: Timestamp) -> Result<(), StoreError> {
    let Some(id) = build.deployment else { return Ok(()) };
    let deployment = environments::deployment_get(tx, id)?;
    environments::deployment_mark(tx, id, DeploymentMark::Deployed, now)?;
    if let Some(resource) = resources::resource_of_type(tx, environment.pipeline, "current-bag")?
        && let Some(scope) = resource.scope
    {
        let version = deployment_version(deployment.number, deployment.bag);
        versions::version_save_at(tx, scope, &version, deployment.number, now)?;
    }
    Ok(())
}

/// Every suite has passed: tag the bag, give the lock back, and let the bag arrive in the environments after this
/// one (release model, sections 5 and 6).
fn passed(tx: &mut Tx<'_>, build: &BuildRow, environment: &EnvironmentRow, now: Timestamp) -> Result<(), StoreError> {
    let Some(id) = build.deployment else { return Ok(()) };
    let deployment = environments::deployment_get(tx, id)?;
    if deployment.ended_at.is_some() {
        return Ok(());
    }
    let Some(bag) = bags::bag_find(tx, environment.system, deployment.bag)? else { return Ok(()) };
    let shown: Vec<String> = builds::build_list_of_deployment(tx, id)?
        .into_iter()
        .filter(|shown| shown.status == BuildStatus::Succeeded)
        .map(|shown| format!("{}/{}", shown.job_name, shown.name))
        .collect();
    let name = format!("passed-{}-{}", environment.name, compact_utc(now));
    bags::tag_create(tx, bag.id, environment.id, &name, "holdall", id, &json_text(&shown)?, now)?;
    let chain = environments_of(tx, environment.system)?;
    for (next, spec) in &chain {
        if !spec.after.contains(&environment.name) {
            continue;
        }
        let mut all = true;
        for before in &spec.after {
            if let Some((row, _)) = chain.iter().find(|(row, _)| row.name == *before) {
                all &= bags::tag_newest(tx, bag.id, row.id)?.is_some();
            }
        }
        if all {
            bag_arrive(tx, next, deployment.bag, now)?;
        }
    }
    deployment_end_and_settle(tx, environment, &deployment, "passed", "holdall", Some("every suite passed"), now)?;
    Ok(())
}

/// A time as `20261124T101502Z`.
fn compact_utc(at: Timestamp) -> String {
    jiff::Timestamp::from_microsecond(at.0)
        .map(|at| at.strftime("%Y%m%dT%H%M%SZ").to_string())
        .unwrap_or_else(|_| at.0.to_string())
}

/// Takes the lock from whoever holds it exclusively (release model, section 5, rule 7). `hold`: the environments wait
/// for a person to start the next deployment.
pub fn force_unlock(
    tx: &mut Tx<'_>,
    environment: &EnvironmentRow,
    by: &str,
    reason: &str,
    hold: bool,
    now: Timestamp,
) -> Result<(), StoreError> {
    let open = deployment_open(tx, environment)?;
    if let Some(deployment) = &open {
        end_in_place(tx, environment, deployment, by, reason, now)?;
    }
    for holding in locks::holding_list(tx, environment.lock)? {
        locks::holding_remove(tx, &holding)?;
        note(tx, by, "force_unlock", &environment.name, Some(reason), Some(&holding.name), None, now)?;
    }
    if hold {
        for row in environments::environment_list_of_lock(tx, environment.lock)? {
            self::hold(tx, &row, by, reason, now)?;
        }
    } else if environment.held.as_ref().is_some_and(|held| held.code == Code::HeldAfterUnlock.as_str()) {
        // An earlier unlock left it to a person, who says now that it goes on.
        environments::environment_hold(tx, environment.id, None)?;
    }
    settle(tx, environment.lock, &environment.name, now)
}

/// Lets an environment wait for a person to start its next deployment.
pub fn hold(
    tx: &mut Tx<'_>,
    environment: &EnvironmentRow,
    by: &str,
    reason: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let held = Held {
        code: Code::HeldAfterUnlock.as_str().to_owned(),
        at: now,
        by: by.to_owned(),
        reason: Some(reason.to_owned()),
    };
    environments::environment_hold(tx, environment.id, Some(&held))?;
    // What waits to start by itself does not wait any more.
    jobs::mark_pipeline(tx, environment.pipeline)
}

fn end_in_place(
    tx: &mut Tx<'_>,
    environment: &EnvironmentRow,
    deployment: &DeploymentRow,
    by: &str,
    reason: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    super::deployments::deployment_end(tx, environment, deployment, "unlocked", by, Some(reason), now)?;
    environments::deployment_mark(tx, deployment.id, DeploymentMark::InDoubt(false), now)?;
    Ok(())
}

/// A step of a deploy job runs: from now on the environment is between two bags until the plan has succeeded.
pub fn deploy_step_started(
    tx: &mut Tx<'_>,
    build: &BuildRow,
    role: Option<Role>,
    now: Timestamp,
) -> Result<(), StoreError> {
    if let (Some(Role::Deploy { .. }), Some(deployment)) = (role, build.deployment) {
        environments::deployment_mark(tx, deployment, DeploymentMark::DeployBegan, now)?;
    }
    Ok(())
}

/// Nobody knows how a step ended: a deployment whose deploy step it was is in doubt until a person says what is true.
/// Gives whether it is one.
pub fn step_lost(tx: &mut Tx<'_>, build: &BuildRow, role: Option<Role>, now: Timestamp) -> Result<bool, StoreError> {
    let (Some(Role::Deploy { .. }), Some(deployment)) = (role, build.deployment) else { return Ok(false) };
    environments::deployment_mark(tx, deployment, DeploymentMark::InDoubt(true), now)?;
    Ok(true)
}
