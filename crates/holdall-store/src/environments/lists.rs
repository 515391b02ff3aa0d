//! Deployments of many bags or builds at once, and what is known of past ones.

use holdall_engine::ids::{DeploymentId, EnvironmentId, PipelineId};
use holdall_engine::time::{Span, Timestamp};

use super::{DEPLOYMENT, DeploymentRow, deployment_from};
use crate::params;
use crate::value::Value;
use crate::versions::placeholders;
use crate::{StoreError, Tx};

/// The deployments in an environment of the bags with numbers from `low` to `high`, oldest first. The `+` keeps the databases
/// from walking all deployments.
pub fn deployment_list_of_bags(
    tx: &mut Tx<'_>,
    environment: EnvironmentId,
    low: i64,
    high: i64,
) -> Result<Vec<DeploymentRow>, StoreError> {
    tx.query(
        &format!(
            "{DEPLOYMENT} WHERE d.environment_id = ?1 AND d.bag_id IN (SELECT x.id FROM bag x WHERE x.number >= ?2 \
             AND x.number <= ?3 AND x.system_id = (SELECT e.system_id FROM environment e WHERE e.id = ?1)) \
             ORDER BY +d.number"
        ),
        params![environment, low, high],
    )?
    .iter()
    .map(deployment_from)
    .collect()
}

/// The newest deployment of which a step of the deploy plan has started.
pub fn deployment_last_begun(tx: &mut Tx<'_>, environment: EnvironmentId) -> Result<Option<DeploymentRow>, StoreError> {
    tx.query_one(
        &format!(
            "{DEPLOYMENT} WHERE d.environment_id = ?1 AND d.deploy_began_at IS NOT NULL ORDER BY d.number DESC LIMIT 1"
        ),
        params![environment],
    )?
    .map(|row| deployment_from(&row))
    .transpose()
}

/// The deployments whose bag was live, the one that is live first.
pub fn deployment_list_deployed(
    tx: &mut Tx<'_>,
    environment: EnvironmentId,
    limit: i64,
) -> Result<Vec<DeploymentRow>, StoreError> {
    tx.query(
        &format!(
            "{DEPLOYMENT} WHERE d.environment_id = ?1 AND d.deployed_at IS NOT NULL \
             ORDER BY d.deployed_at DESC, d.number DESC LIMIT ?2"
        ),
        params![environment, limit],
    )?
    .iter()
    .map(deployment_from)
    .collect()
}

/// How long the newest deployments took that passed, newest first.
pub fn deployment_durations(tx: &mut Tx<'_>, environment: EnvironmentId, limit: i64) -> Result<Vec<Span>, StoreError> {
    tx.query(
        "SELECT started_at, ended_at FROM deployment WHERE environment_id = ?1 AND ended_how = 'passed' \
         AND ended_at IS NOT NULL ORDER BY number DESC LIMIT ?2",
        params![environment, limit],
    )?
    .iter()
    .map(|row| Ok(row.get::<Timestamp>(1)? - row.get::<Timestamp>(0)?))
    .collect()
}

/// The deployments among `ids`, in no particular order.
pub fn deployment_get_many(tx: &mut Tx<'_>, ids: &[DeploymentId]) -> Result<Vec<DeploymentRow>, StoreError> {
    let mut found = Vec::with_capacity(ids.len());
    for chunk in ids.chunks(200) {
        let args: Vec<Value> = chunk.iter().map(|id| Value::from(*id)).collect();
        let rows = tx.query(&format!("{DEPLOYMENT} WHERE d.id IN ({})", placeholders(1, chunk.len())), &args)?;
        for row in &rows {
            found.push(deployment_from(row)?);
        }
    }
    Ok(found)
}

/// Whose a pipeline is that a system file compiled to.
#[derive(Debug, Clone)]
pub struct PipelineOwner {
    /// The pipeline.
    pub pipeline: PipelineId,
    /// The system.
    pub system: String,
    /// The environment.
    pub environment: EnvironmentId,
    /// The environment's name.
    pub name: String,
    /// The pipeline's team.
    pub team: String,
    /// The pipeline's name.
    pub pipeline_name: String,
}

/// Whose the pipelines of all systems are.
pub fn pipeline_owners(tx: &mut Tx<'_>) -> Result<Vec<PipelineOwner>, StoreError> {
    tx.query(
        "SELECT e.pipeline_id, s.name, e.id, e.name, t.name, p.name FROM environment e \
         JOIN system s ON s.id = e.system_id JOIN pipeline p ON p.id = e.pipeline_id \
         JOIN team t ON t.id = p.team_id WHERE e.active = 1 AND s.active = 1 ORDER BY s.name, e.position",
        &[],
    )?
    .iter()
    .map(|row| {
        Ok(PipelineOwner {
            pipeline: row.get(0)?,
            system: row.get(1)?,
            environment: row.get(2)?,
            name: row.get(3)?,
            team: row.get(4)?,
            pipeline_name: row.get(5)?,
        })
    })
    .collect()
}
