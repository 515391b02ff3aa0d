//! Builds as lists show them: filtered, by page, and what is told of many at once.

use std::collections::BTreeMap;

use holdall_engine::ids::{BuildId, DeploymentId, JobId, PipelineId};
use holdall_engine::status::BuildStatus;
use holdall_engine::version::Version;

use super::{BuildRow, SELECT, rows};
use crate::params;
use crate::value::Value;
use crate::versions::placeholders;
use crate::{StoreError, Tx};

/// How many jobs or pipelines are asked about at once: SQLite takes 500 parts in one statement.
const PARTS: usize = 100;

/// Which builds a list shows; what is `None` does not matter.
#[derive(Debug, Clone, Default)]
pub struct BuildFilter {
    /// Of some of all pipelines or jobs.
    pub within: Option<Within>,
    /// Of a deployment.
    pub deployment: Option<DeploymentId>,
    /// With this status.
    pub status: Option<BuildStatus>,
}

/// Where builds belong.
#[derive(Debug, Clone)]
pub enum Within {
    /// To one of these pipelines.
    Pipelines(Vec<PipelineId>),
    /// To one of these jobs.
    Jobs(Vec<JobId>),
}

/// Builds that fit a filter, newest first, with ids below `below`.
pub fn build_search(
    tx: &mut Tx<'_>,
    filter: &BuildFilter,
    below: Option<BuildId>,
    limit: i64,
) -> Result<Vec<BuildRow>, StoreError> {
    let mut args: Vec<Value> = vec![below.map_or(i64::MAX, |id| id.0).into(), limit.into()];
    let mut conditions = String::from("b.id < ?1");
    let mut and = |condition: &str, value: Value| {
        args.push(value);
        conditions.push_str(&format!(" AND {condition} = ?{}", args.len()));
    };
    if let Some(deployment) = filter.deployment {
        and("b.deployment_id", deployment.into());
    }
    if let Some(status) = filter.status {
        and("b.status", status.as_str().into());
        // Lets the databases use the indexes of those that are open, and of those that did not succeed.
        match status {
            BuildStatus::Pending | BuildStatus::Started => {
                conditions.push_str(" AND b.status IN ('pending', 'started')");
            }
            BuildStatus::Failed | BuildStatus::Errored | BuildStatus::Aborted => {
                conditions.push_str(" AND b.status IN ('failed', 'errored', 'aborted')");
            }
            BuildStatus::Succeeded => {}
        }
    }
    let (column, ids): (&str, Vec<Value>) = match &filter.within {
        None => {
            return rows(&tx.query(&format!("{SELECT} WHERE {conditions} ORDER BY b.id DESC LIMIT ?2"), &args)?);
        }
        // With the `+` the open ones are walked, and not all builds of the pipeline.
        Some(Within::Pipelines(ids)) if filter.status.is_some_and(|status| !status.is_terminal()) => {
            ("+b.pipeline_id", ids.iter().map(|id| (*id).into()).collect())
        }
        Some(Within::Pipelines(ids)) => ("b.pipeline_id", ids.iter().map(|id| (*id).into()).collect()),
        Some(Within::Jobs(ids)) => ("b.job_id", ids.iter().map(|id| (*id).into()).collect()),
    };
    // The newest of each, and of them the newest: of all together the databases would sort everything there is.
    let mut found: Vec<BuildId> = Vec::new();
    for ids in ids.chunks(PARTS) {
        let parts = (1..=ids.len()).map(|part| {
            let place = args.len() + part;
            format!(
                "SELECT part.id FROM (SELECT b.id FROM build b WHERE {column} = ?{place} AND {conditions} \
                 ORDER BY b.id DESC LIMIT ?2) AS part"
            )
        });
        let parts: Vec<String> = parts.collect();
        let args: Vec<Value> = args.iter().chain(ids).cloned().collect();
        for row in tx.query(&parts.join(" UNION ALL "), &args)? {
            found.push(row.get(0)?);
        }
    }
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.truncate(usize::try_from(limit).unwrap_or_default());
    let args: Vec<Value> = found.into_iter().map(Value::from).collect();
    if args.is_empty() {
        return Ok(Vec::new());
    }
    rows(&tx.query(&format!("{SELECT} WHERE b.id IN ({}) ORDER BY b.id DESC", placeholders(1, args.len())), &args)?)
}

/// For each job of a pipeline the newest build that ended and the oldest that has not, in no particular order. The `+` keeps
/// the databases from walking all those that have ended.
pub fn build_list_latest(tx: &mut Tx<'_>, pipeline: PipelineId) -> Result<Vec<BuildRow>, StoreError> {
    let found = tx.query(
        &format!(
            "{SELECT} WHERE j.active = 1 AND b.id IN (\
             SELECT (SELECT x.id FROM build x WHERE x.job_id = k.id \
             AND x.status NOT IN ('pending', 'started') ORDER BY x.ord DESC, x.id DESC LIMIT 1) \
             FROM job k WHERE k.pipeline_id = ?1 \
             UNION ALL SELECT (SELECT y.id FROM build y WHERE y.job_id = k.id \
             AND y.status IN ('pending', 'started') ORDER BY +y.ord, y.id LIMIT 1) \
             FROM job k WHERE k.pipeline_id = ?1)"
        ),
        params![pipeline],
    )?;
    rows(&found)
}

/// A version that went into a build or came out of it, with the names that it has there.
#[derive(Debug, Clone)]
pub struct NamedVersion {
    /// The step's name.
    pub name: String,
    /// The resource's.
    pub resource: String,
    /// The version.
    pub version: Version,
    /// Whether no build of the job had it before.
    pub first_occurrence: bool,
}

/// What a build got, by name.
pub fn build_gets(tx: &mut Tx<'_>, id: BuildId) -> Result<Vec<NamedVersion>, StoreError> {
    tx.query(
        "SELECT i.name, r.name, i.version, i.first_occurrence FROM build_input i \
         JOIN resource r ON r.id = i.resource_id WHERE i.build_id = ?1 ORDER BY i.name",
        params![id],
    )?
    .iter()
    .map(|row| {
        Ok(NamedVersion {
            name: row.get(0)?,
            resource: row.get(1)?,
            version: row.get(2)?,
            first_occurrence: row.get(3)?,
        })
    })
    .collect()
}

/// What a build put, in the order in which it did.
pub fn build_puts(tx: &mut Tx<'_>, id: BuildId) -> Result<Vec<NamedVersion>, StoreError> {
    tx.query(
        "SELECT o.name, r.name, o.version FROM build_output o JOIN resource r ON r.id = o.resource_id \
         WHERE o.build_id = ?1 ORDER BY o.position",
        params![id],
    )?
    .iter()
    .map(|row| {
        Ok(NamedVersion { name: row.get(0)?, resource: row.get(1)?, version: row.get(2)?, first_occurrence: false })
    })
    .collect()
}

/// The bag that each of these builds got or packed, as a version of a release type.
pub fn build_bags(tx: &mut Tx<'_>, ids: &[BuildId]) -> Result<BTreeMap<BuildId, Version>, StoreError> {
    let mut found = BTreeMap::new();
    for chunk in ids.chunks(200) {
        let args: Vec<Value> = chunk.iter().map(|id| Value::from(*id)).collect();
        let list = placeholders(1, chunk.len());
        let rows = tx.query(
            &format!(
                "SELECT i.build_id, i.version FROM build_input i JOIN resource r ON r.id = i.resource_id \
                 WHERE i.build_id IN ({list}) AND r.type IN ('deployment-bag', 'deployment', 'current-bag') \
                 UNION ALL SELECT o.build_id, o.version FROM build_output o JOIN resource r ON r.id = o.resource_id \
                 WHERE o.build_id IN ({list}) AND r.type = 'deployment-bag'"
            ),
            &args,
        )?;
        for row in &rows {
            found.entry(row.get(0)?).or_insert(row.get(1)?);
        }
    }
    Ok(found)
}
