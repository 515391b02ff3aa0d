//! Queries: what there is, as the API and the pages show it. A query reads one snapshot and decides nothing; what
//! holds something back comes from the functions that the scheduler itself asks.

pub mod audit;
pub mod bags;
pub mod builds;
pub mod doctor;
pub mod environments;
pub mod jobs;
pub mod locks;
pub mod resources;
pub mod systems;
pub mod whereis;
pub mod why;

use holdall_engine::time::Timestamp;
use holdall_protocol::api::Time;
use holdall_store::Tx;
use holdall_store::environments::EnvironmentRow;
use holdall_store::jobs::JobRow;
use holdall_store::pipelines::PipelineRow;
use holdall_store::systems::SystemRow;

use crate::error::Error;

/// A time as the API gives it.
pub(crate) fn time(at: Timestamp) -> Time {
    Time(at.0)
}

pub(crate) fn system(tx: &mut Tx<'_>, name: &str) -> Result<SystemRow, Error> {
    holdall_store::systems::system_find(tx, name)?.ok_or_else(|| Error::not_found(format!("system {name}")))
}

pub(crate) fn environment(tx: &mut Tx<'_>, system_name: &str, name: &str) -> Result<EnvironmentRow, Error> {
    let row = system(tx, system_name)?;
    match holdall_store::environments::environment_find(tx, row.id, name)? {
        Some(found) => Ok(found),
        None => Err(no_environment(Some(system_name), name)),
    }
}

/// That there is no such environment, in a system or in any.
pub(crate) fn no_environment(system_name: Option<&str>, name: &str) -> Error {
    let place = system_name.map(|system| format!(" in system {system}")).unwrap_or_default();
    Error::not_found(format!("environment {name}{place}"))
}

pub(crate) fn pipeline(tx: &mut Tx<'_>, team: &str, name: &str) -> Result<PipelineRow, Error> {
    holdall_store::pipelines::pipeline_find(tx, team, name)?
        .ok_or_else(|| Error::not_found(format!("pipeline {team}/{name}")))
}

pub(crate) fn job(tx: &mut Tx<'_>, team: &str, pipeline_name: &str, name: &str) -> Result<JobRow, Error> {
    let row = pipeline(tx, team, pipeline_name)?;
    holdall_store::jobs::job_find(tx, row.id, name)?
        .ok_or_else(|| Error::not_found(format!("job {team}/{pipeline_name}/{name}")))
}
