//! The audit log as it is shown.

use holdall_protocol::api::AuditEntry;
use holdall_store::audit::{self, AuditRow};
use holdall_store::{StoreError, Tx, environments, pipelines, systems};
use serde_json::Value;

use super::time;
use crate::error::Error;
use crate::systems::moves::{MOVED, RENAMED};

/// Acts, newest first, with ids below `below`; all, or those on a system or on environments of a name.
pub fn list(
    tx: &mut Tx<'_>,
    system: Option<&str>,
    environment: Option<&str>,
    below: Option<i64>,
    limit: i64,
) -> Result<Vec<AuditEntry>, Error> {
    let rows = match targets(tx, system, environment)? {
        Some(targets) => audit::audit_search(tx, &targets, below, limit)?,
        None => audit::audit_list(tx, None, below, limit)?,
    };
    let known: Vec<String> = systems::system_list(tx)?.into_iter().map(|row| row.name).collect();
    Ok(rows.into_iter().map(|row| entry(row, &known)).collect())
}

/// What the acts on a system, or on environments of a name, were done to; `None`: to anything.
fn targets(tx: &mut Tx<'_>, system: Option<&str>, environment: Option<&str>) -> Result<Option<Vec<String>>, Error> {
    let within = match (system, environment) {
        (None, None) => return Ok(None),
        (Some(name), _) => vec![super::system(tx, name)?],
        (None, Some(_)) => systems::system_list(tx)?,
    };
    let mut targets = Vec::new();
    for row in within {
        // Also those that its file has no more: what was done to them is still to be read.
        for known in environments::environment_list_all(tx, row.id)? {
            if environment.is_some_and(|wanted| wanted != known.name) {
                continue;
            }
            targets.push(format!("lock/{}", known.name));
            let pipeline = pipelines::pipeline_get(tx, known.pipeline)?;
            targets.push(format!("{}/{}", pipeline.team, pipeline.name));
            targets.push(format!("{}/{}", row.name, known.name));
            for place in earlier(tx, MOVED, &format!("{}/{}", pipeline.team, pipeline.name))? {
                let (team, name) = place.split_once('/').unwrap_or_default();
                if pipelines::pipeline_find(tx, team, name)?.is_none() {
                    targets.push(place);
                }
            }
            for place in earlier(tx, RENAMED, &format!("{}/{}", row.name, known.name))? {
                let (_, name) = place.split_once('/').unwrap_or_default();
                if environments::environment_find(tx, row.id, name)?.is_none() {
                    targets.push(format!("lock/{name}"));
                    targets.push(place);
                }
            }
        }
        if environment.is_none() {
            targets.push(row.name);
        }
    }
    match environment {
        Some(name) if targets.is_empty() => Err(super::no_environment(tx, system, name)?),
        _ => Ok(Some(targets)),
    }
}

/// What something was called before, newest first; a name that something else has now is its own.
fn earlier(tx: &mut Tx<'_>, act: &str, target: &str) -> Result<Vec<String>, StoreError> {
    let mut names: Vec<String> = Vec::new();
    let mut open = Some(target.to_owned());
    while let Some(target) = open {
        open = audit::audit_newest(tx, act, &target)?.and_then(|row| row.before).filter(|name| !names.contains(name));
        names.extend(open.clone());
    }
    Ok(names)
}

fn entry(row: AuditRow, systems: &[String]) -> AuditEntry {
    let mut parts = row.target.split('/');
    let first = parts.next().unwrap_or_default().to_owned();
    let second = parts.next().map(str::to_owned);
    let (system, environment) = match (first.as_str(), second) {
        ("lock", Some(name)) => (None, Some(name)),
        (_, second) if systems.contains(&first) => (Some(first.clone()), second),
        (_, Some(_)) => (None, None),
        (_, None) => (None, None),
    };
    AuditEntry {
        id: row.id,
        at: time(row.at),
        who: row.who,
        via: row.origin,
        act: row.act,
        what: row.target,
        system,
        environment,
        reason: row.reason,
        ticket: None,
        before: row.before.map_or(Value::Null, Value::String),
        after: row.after.map_or(Value::Null, Value::String),
    }
}
