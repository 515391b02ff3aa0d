//! Resources and their versions as they are shown.

use holdall_engine::time::Span;
use holdall_protocol::api::{CheckAnswer, MetadataField, PinState, ResourceSummary, ResourceVersion, TickState};
use holdall_store::resources::{self, Pin, ResourceFilter, ResourceRow};
use holdall_store::{Tx, checks, pipelines, systems, versions};

use super::time;
use crate::error::Error;

/// A resource by its names.
pub fn find(tx: &mut Tx<'_>, team: &str, pipeline: &str, name: &str) -> Result<ResourceRow, Error> {
    let missing = || Error::not_found(format!("resource {team}/{pipeline}/{name}"));
    let row = pipelines::pipeline_find(tx, team, pipeline)?.ok_or_else(missing)?;
    resources::resource_find(tx, row.id, name)?.ok_or_else(missing)
}

pub(super) fn pin_state(pin: &Pin) -> PinState {
    PinState {
        version: pin.version.0.clone(),
        by: pin.by.clone(),
        reason: pin.reason.clone(),
        ticket: None,
        since: pin.at.map(time),
        until: pin.until.map(time),
    }
}

/// Resources of a team, a pipeline or a system.
pub fn list(
    tx: &mut Tx<'_>,
    team: Option<String>,
    pipeline: Option<String>,
    system: Option<&str>,
) -> Result<Vec<ResourceSummary>, Error> {
    let system = system.map(|name| super::system(tx, name)).transpose()?.map(|row| row.id);
    if let (Some(team), Some(name)) = (&team, &pipeline) {
        super::pipeline(tx, team, name)?;
    }
    let found = resources::resource_search(tx, &ResourceFilter { team, pipeline, system })?;
    Ok(found
        .into_iter()
        .map(|shown| ResourceSummary {
            team: shown.team,
            pipeline: shown.pipeline_name,
            check_every: match shown.check_every {
                _ if pipelines::is_release_type(&shown.row.kind) => "never".to_owned(),
                None => seconds(checks::DEFAULT_INTERVAL),
                Some(Span(..0)) => "never".to_owned(),
                Some(span) => seconds(span),
            },
            resource: shown.row.name,
            kind: shown.row.kind,
            latest: shown.latest.map(|version| version.0),
            pin: shown.row.pin.as_ref().map(pin_state),
            checked_at: shown.row.checked_at.map(time),
            check_error: shown.row.check_error,
        })
        .collect())
}

fn seconds(span: Span) -> String {
    format!("{}s", span.0 / 1_000_000)
}

/// The versions of a resource, newest first; `below`: older than that place. Gives the place of the last, for the
/// next page.
pub fn version_list(
    tx: &mut Tx<'_>,
    row: &ResourceRow,
    below: Option<i64>,
    limit: i64,
) -> Result<(Vec<ResourceVersion>, Option<i64>), Error> {
    let Some(scope) = row.scope else { return Ok((Vec::new(), None)) };
    let unticked = versions::disabled_list(tx, row.id)?;
    let found = versions::version_list(tx, scope, below, limit)?;
    let last = found.last().map(|version| version.order);
    let shown = found
        .into_iter()
        .map(|version| {
            let tick = unticked.iter().find(|row| row.digest == version.digest);
            ResourceVersion {
                enabled: tick.is_none(),
                tick: tick.map(|row| TickState {
                    by: row.by.clone(),
                    reason: row.reason.clone(),
                    ticket: None,
                    since: time(row.at),
                    until: row.until.map(time),
                }),
                pinned: row.pin.as_ref().is_some_and(|pin| version.version.matches(&pin.version)),
                version: version.version.0,
                metadata: version.metadata.into_iter().map(|(name, value)| MetadataField { name, value }).collect(),
                first_seen: time(version.created_at),
            }
        })
        .collect();
    Ok((shown, last))
}

/// How a check that was asked for stands; `asked_at`: when it was.
pub fn check_answer(
    tx: &mut Tx<'_>,
    row: &ResourceRow,
    asked_at: holdall_engine::time::Timestamp,
) -> Result<CheckAnswer, Error> {
    let Some(scope) = row.scope else { return Err(Error::not_found("version list of this resource")) };
    let state = checks::check_state(tx, scope)?;
    Ok(CheckAnswer {
        done: !state.wanted && !state.running && state.checked_at.is_some_and(|at| at >= asked_at),
        error: state.error,
        latest: versions::version_newest(tx, scope)?.map(|version| version.version.0),
    })
}

/// The systems' names, for those who name none where there is only one.
pub fn system_names(tx: &mut Tx<'_>) -> Result<Vec<String>, Error> {
    Ok(systems::system_list(tx)?.into_iter().map(|row| row.name).collect())
}
