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
use holdall_store::environments::{self as environment_store, EnvironmentRow};
use holdall_store::jobs::{self as job_store, JobRow};
use holdall_store::pipelines::{self, PipelineRow};
use holdall_store::systems::{self as system_store, SystemRow};
use holdall_store::{StoreError, Tx};

use crate::error::Error;

/// A time as the API gives it.
pub(crate) fn time(at: Timestamp) -> Time {
    Time(at.0)
}

pub(crate) fn system(tx: &mut Tx<'_>, name: &str) -> Result<SystemRow, Error> {
    if let Some(row) = system_store::system_find(tx, name)? {
        return Ok(row);
    }
    let known: Vec<String> = system_store::system_list(tx)?.into_iter().map(|row| row.name).collect();
    Err(Error::unknown(format!("system {name}"), name, &known))
}

pub(crate) fn environment(tx: &mut Tx<'_>, system_name: &str, name: &str) -> Result<EnvironmentRow, Error> {
    let row = system(tx, system_name)?;
    match environment_store::environment_find(tx, row.id, name)? {
        Some(found) => Ok(found),
        None => Err(no_environment(tx, Some(system_name), name)?),
    }
}

/// That there is no such environment, in a system or in any.
pub(crate) fn no_environment(tx: &mut Tx<'_>, system_name: Option<&str>, name: &str) -> Result<Error, StoreError> {
    let place = system_name.map(|system| format!(" in system {system}")).unwrap_or_default();
    let owners = environment_store::pipeline_owners(tx)?;
    let within = owners.into_iter().filter(|owner| system_name.is_none_or(|system| system == owner.system));
    let known: Vec<String> = within.map(|owner| owner.name).collect();
    Ok(Error::unknown(format!("environment {name}{place}"), name, &known))
}

pub(crate) fn pipeline(tx: &mut Tx<'_>, team: &str, name: &str) -> Result<PipelineRow, Error> {
    if let Some(row) = pipelines::pipeline_find(tx, team, name)? {
        return Ok(row);
    }
    let all = pipelines::pipeline_list(tx)?;
    let known: Vec<String> = all.into_iter().map(|row| format!("{}/{}", row.team, row.name)).collect();
    let name = format!("{team}/{name}");
    Err(Error::unknown(format!("pipeline {name}"), &name, &known))
}

pub(crate) fn job(tx: &mut Tx<'_>, team: &str, pipeline_name: &str, name: &str) -> Result<JobRow, Error> {
    let row = pipeline(tx, team, pipeline_name)?;
    if let Some(found) = job_store::job_find(tx, row.id, name)? {
        return Ok(found);
    }
    let known: Vec<String> = job_store::job_list(tx, row.id)?.into_iter().map(|job| job.name).collect();
    Err(Error::unknown(format!("job {team}/{pipeline_name}/{name}"), name, &known))
}
