//! Resources: finding and pinning them.

use holdall_engine::ids::{PipelineId, ResourceId, ScopeId, SystemId};
use holdall_engine::time::{Span, Timestamp};
use holdall_engine::version::Version;

use crate::params;
use crate::value::Row;
use crate::{StoreError, Tx, jobs};

/// A resource of a pipeline.
#[derive(Debug, Clone)]
pub struct ResourceRow {
    /// Its id.
    pub id: ResourceId,
    /// Its pipeline.
    pub pipeline: PipelineId,
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// Its versions' scope.
    pub scope: Option<ScopeId>,
    /// Its pin.
    pub pin: Option<Pin>,
    /// The secret of its webhook.
    pub webhook_token: Option<String>,
    /// When its last check ended.
    pub checked_at: Option<Timestamp>,
    /// What went wrong in it.
    pub check_error: Option<String>,
}

/// A pin of a resource.
#[derive(Debug, Clone)]
pub struct Pin {
    /// The version, or a subset of its keys.
    pub version: Version,
    /// Whether the configuration says so: then only the configuration can change it.
    pub in_config: bool,
    /// Who.
    pub by: Option<String>,
    /// Since when.
    pub at: Option<Timestamp>,
    /// Until when, if it ends by itself.
    pub until: Option<Timestamp>,
    /// Why.
    pub reason: Option<String>,
}

const SELECT: &str = "SELECT r.id, r.pipeline_id, r.name, r.type, r.scope_id, r.pin, r.pin_config, r.pin_by, \
     r.pin_at, r.pin_until, r.pin_reason, r.webhook_token, s.last_check_at, s.last_check_error \
     FROM resource r LEFT JOIN scope s ON s.id = r.scope_id";

fn from_row(row: &Row) -> Result<ResourceRow, StoreError> {
    let pin = match row.get::<Option<Version>>(5)? {
        None => None,
        Some(version) => Some(Pin {
            version,
            in_config: row.get(6)?,
            by: row.get(7)?,
            at: row.get(8)?,
            until: row.get(9)?,
            reason: row.get(10)?,
        }),
    };
    Ok(ResourceRow {
        id: row.get(0)?,
        pipeline: row.get(1)?,
        name: row.get(2)?,
        kind: row.get(3)?,
        scope: row.get(4)?,
        pin,
        webhook_token: row.get(11)?,
        checked_at: row.get(12)?,
        check_error: row.get(13)?,
    })
}

/// A resource by its name.
pub fn resource_find(tx: &mut Tx<'_>, pipeline: PipelineId, name: &str) -> Result<Option<ResourceRow>, StoreError> {
    tx.query_one(
        &format!("{SELECT} WHERE r.pipeline_id = ?1 AND r.name = ?2 AND r.active = 1"),
        params![pipeline, name],
    )?
    .map(|row| from_row(&row))
    .transpose()
}

/// The first resource of a type in a pipeline; of the release types there is one each.
pub fn resource_of_type(tx: &mut Tx<'_>, pipeline: PipelineId, kind: &str) -> Result<Option<ResourceRow>, StoreError> {
    tx.query_one(
        &format!("{SELECT} WHERE r.pipeline_id = ?1 AND r.type = ?2 AND r.active = 1 ORDER BY r.position LIMIT 1"),
        params![pipeline, kind],
    )?
    .map(|row| from_row(&row))
    .transpose()
}

/// The resources of a pipeline in the order in which they are written.
pub fn resource_list(tx: &mut Tx<'_>, pipeline: PipelineId) -> Result<Vec<ResourceRow>, StoreError> {
    tx.query(&format!("{SELECT} WHERE r.pipeline_id = ?1 AND r.active = 1 ORDER BY r.position"), params![pipeline])?
        .iter()
        .map(from_row)
        .collect()
}

/// Pins a resource.
pub fn pin(tx: &mut Tx<'_>, resource: ResourceId, pin: &Pin) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE resource SET pin = ?2, pin_config = ?3, pin_by = ?4, pin_at = ?5, pin_until = ?6, pin_reason = ?7 \
         WHERE id = ?1",
        params![resource, &pin.version, pin.in_config, pin.by.as_deref(), pin.at, pin.until, pin.reason.as_deref()],
    )?;
    jobs::mark_resource(tx, resource)
}

/// Takes the pin off a resource.
pub fn unpin(tx: &mut Tx<'_>, resource: ResourceId) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE resource SET pin = NULL, pin_config = 0, pin_by = NULL, pin_at = NULL, pin_until = NULL, \
         pin_reason = NULL WHERE id = ?1",
        params![resource],
    )?;
    jobs::mark_resource(tx, resource)
}

/// A resource that some (type, source) concerns, for webhooks: with the source to compare.
#[derive(Debug, Clone)]
pub struct ScopeRow {
    /// The scope.
    pub id: ScopeId,
    /// Its type.
    pub kind: String,
    /// Its source, JSON.
    pub source: String,
}

/// The scopes of the given types that an active resource uses.
pub fn scopes_of_types(tx: &mut Tx<'_>, kinds: &[&str]) -> Result<Vec<ScopeRow>, StoreError> {
    let args: Vec<crate::Value> = kinds.iter().map(|kind| (*kind).into()).collect();
    tx.query(
        &format!(
            "SELECT s.id, s.type, s.source FROM scope s WHERE s.type IN ({}) AND EXISTS \
             (SELECT 1 FROM resource r WHERE r.scope_id = s.id AND r.active = 1) ORDER BY s.id",
            crate::versions::placeholders(1, kinds.len())
        ),
        &args,
    )?
    .iter()
    .map(|row| Ok(ScopeRow { id: row.get(0)?, kind: row.get(1)?, source: row.get(2)? }))
    .collect()
}

/// Which resources a list shows; what is `None` does not matter.
#[derive(Debug, Clone, Default)]
pub struct ResourceFilter {
    /// Of a team.
    pub team: Option<String>,
    /// Of pipelines of that name.
    pub pipeline: Option<String>,
    /// Of a system's environments.
    pub system: Option<SystemId>,
}

/// A resource as lists show it.
#[derive(Debug, Clone)]
pub struct ResourceShown {
    /// The resource.
    pub row: ResourceRow,
    /// Its team.
    pub team: String,
    /// Its pipeline's name.
    pub pipeline_name: String,
    /// Its newest version.
    pub latest: Option<Version>,
    /// How often it is checked; `None`: nothing is said.
    pub check_every: Option<Span>,
}

/// Resources that fit a filter, by team and pipeline, in the order in which they are written.
pub fn resource_search(tx: &mut Tx<'_>, filter: &ResourceFilter) -> Result<Vec<ResourceShown>, StoreError> {
    tx.query(
        "SELECT r.id, r.pipeline_id, r.name, r.type, r.scope_id, r.pin, r.pin_config, r.pin_by, r.pin_at, \
         r.pin_until, r.pin_reason, r.webhook_token, s.last_check_at, s.last_check_error, t.name, p.name, \
         r.check_every, (SELECT v.version FROM version v WHERE v.scope_id = r.scope_id AND v.check_order > 0 \
         ORDER BY v.check_order DESC LIMIT 1) FROM resource r LEFT JOIN scope s ON s.id = r.scope_id \
         JOIN pipeline p ON p.id = r.pipeline_id JOIN team t ON t.id = p.team_id \
         WHERE r.active = 1 AND p.active = 1 AND (CAST(?1 AS TEXT) IS NULL OR t.name = ?1) \
         AND (CAST(?2 AS TEXT) IS NULL OR p.name = ?2) AND (CAST(?3 AS BIGINT) IS NULL OR p.id IN \
         (SELECT e.pipeline_id FROM environment e WHERE e.system_id = ?3 AND e.active = 1)) \
         ORDER BY t.name, p.name, r.position",
        params![filter.team.as_deref(), filter.pipeline.as_deref(), filter.system],
    )?
    .iter()
    .map(|row| {
        Ok(ResourceShown {
            row: from_row(row)?,
            team: row.get(14)?,
            pipeline_name: row.get(15)?,
            check_every: row.get(16)?,
            latest: row.get(17)?,
        })
    })
    .collect()
}
