//! Deployments: from a version to its row, and what ends them.

use holdall_engine::schedule::DeploymentView;
use holdall_engine::time::Timestamp;
use holdall_engine::version::Version;
use holdall_store::environments::{self, DeploymentMark, DeploymentRow, EnvironmentRow};
use holdall_store::{StoreError, Tx, jobs, locks};

use super::locks::{note, settle};

/// A deployment as a version of `deployment` and of `current-bag`.
pub fn deployment_version(number: i64, bag: i64) -> Version {
    let mut version = Version::of("deployment", &number.to_string());
    version.0.insert("bag".to_owned(), bag.to_string());
    version
}

/// The deployment that a version names.
pub fn deployment_of_version(
    tx: &mut Tx<'_>,
    environment: &EnvironmentRow,
    version: &Version,
) -> Result<Option<DeploymentRow>, StoreError> {
    match version.0.get("deployment").and_then(|number| number.parse().ok()) {
        Some(number) => environments::deployment_find(tx, environment.id, number),
        None => Ok(None),
    }
}

/// A deployment as the scheduler sees it.
pub fn deployment_view(deployment: &DeploymentRow, environment: &str) -> DeploymentView {
    let by = deployment.ended_by.as_deref().unwrap_or("somebody");
    let ended = deployment.ended_how.as_deref().map(|how| match how {
        "passed" => format!("it passed {environment}"),
        "handed-over" => format!("{by} handed the lock of {environment} over to another deployment"),
        _ => format!("{by} unlocked {environment} by force"),
    });
    DeploymentView { id: deployment.id, number: deployment.number, ended }
}

/// The deployment that has not ended in an environment: there is one at most, and it holds the lock.
pub fn deployment_open(tx: &mut Tx<'_>, environment: &EnvironmentRow) -> Result<Option<DeploymentRow>, StoreError> {
    for holding in locks::holding_list(tx, environment.lock)? {
        if let Some(id) = holding.deployment {
            let deployment = environments::deployment_get(tx, id)?;
            if deployment.environment == environment.id && deployment.ended_at.is_none() {
                return Ok(Some(deployment));
            }
        }
    }
    Ok(None)
}

/// Ends a deployment and gives its lock back, in one go. Its pending builds end as aborted when the scheduler looks
/// at them (release model, section 5, rule 5). The lock does not go on to the next in the queue: a hand-over keeps it for
/// itself, others call [`deployment_end_and_settle`].
pub fn deployment_end(
    tx: &mut Tx<'_>,
    environment: &EnvironmentRow,
    deployment: &DeploymentRow,
    how: &str,
    by: &str,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    if !environments::deployment_mark(tx, deployment.id, DeploymentMark::Ended { how, by }, now)? {
        return Ok(false);
    }
    let name = holder_name(deployment.number, deployment.bag);
    for holding in locks::holding_list(tx, environment.lock)? {
        if holding.deployment == Some(deployment.id) {
            locks::holding_remove(tx, &holding)?;
            note(tx, by, "lock_released", &environment.name, reason.or(Some(how)), Some(&name), None, now)?;
        }
    }
    jobs::mark_pipeline(tx, environment.pipeline)?;
    // Before anything else starts there.
    crate::systems::take_waiting(tx, environment, now)?;
    Ok(true)
}

/// How a deployment is called as the holder of a lock.
pub fn holder_name(number: i64, bag: i64) -> String {
    format!("deployment {number} of bag {bag}")
}

/// Ends a deployment and lets the lock go on.
pub fn deployment_end_and_settle(
    tx: &mut Tx<'_>,
    environment: &EnvironmentRow,
    deployment: &DeploymentRow,
    how: &str,
    by: &str,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let ended = deployment_end(tx, environment, deployment, how, by, reason, now)?;
    settle(tx, environment.lock, &environment.name, now)?;
    Ok(ended)
}
