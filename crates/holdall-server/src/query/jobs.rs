//! Pipelines and jobs as they are shown.

use holdall_engine::ids::PipelineId;
use holdall_engine::pipeline::Pipeline;
use holdall_engine::resolve::document::Document;
use holdall_engine::schedule::JobSpec;
use holdall_protocol::api::{Group, JobDetail, JobInput, JobSummary, PipelineDetail, PipelineSummary};
use holdall_store::builds::{self, BuildRow};
use holdall_store::jobs::{self, JobRow};
use holdall_store::pipelines::{self, PipelineRow};
use holdall_store::{Tx, environments};

use super::{builds as build_query, time, why};
use crate::acts::build_ref;
use crate::duty::schedule::look;
use crate::error::{Error, from_json};

/// How many of its builds a job shows.
const SHOWN_BUILDS: i64 = 30;

/// All pipelines, or one team's.
pub fn pipeline_list(tx: &mut Tx<'_>, team: Option<&str>) -> Result<Vec<PipelineSummary>, Error> {
    let owners = environments::pipeline_owners(tx)?;
    Ok(pipelines::pipeline_list(tx)?
        .into_iter()
        .filter(|row| team.is_none_or(|team| row.team == team))
        .map(|row| {
            let system = owners.iter().find(|owner| owner.pipeline == row.id).map(|owner| owner.system.clone());
            pipeline_summary(row, system)
        })
        .collect())
}

fn pipeline_summary(row: PipelineRow, system: Option<String>) -> PipelineSummary {
    PipelineSummary {
        team: row.team,
        pipeline: row.name,
        paused: row.paused,
        system,
        set_at: time(row.updated_at),
        config_version: row.config_version,
    }
}

/// A pipeline, whole.
pub fn pipeline(tx: &mut Tx<'_>, team: &str, name: &str) -> Result<PipelineDetail, Error> {
    let row = super::pipeline(tx, team, name)?;
    let config = pipelines::pipeline_config(tx, row.id)?;
    let system = environments::environment_of_pipeline(tx, row.id)?.map(|environment| environment.system_name);
    Ok(PipelineDetail {
        text: holdall_config::yaml::emit(&holdall_config::pipeline::to_json(&config)),
        groups: config
            .groups
            .iter()
            .map(|group| Group {
                name: group.name.clone(),
                jobs: config
                    .jobs
                    .iter()
                    .filter(|job| in_group(&group.jobs, &job.name))
                    .map(|job| job.name.clone())
                    .collect(),
            })
            .collect(),
        summary: pipeline_summary(row, system),
    })
}

fn in_group(patterns: &[String], job: &str) -> bool {
    patterns.iter().any(|pattern| {
        pattern == job || holdall_config::glob::Glob::of_group(pattern).is_some_and(|glob| glob.matches(job))
    })
}

/// The jobs of a pipeline, in the order in which they are written.
pub fn list(tx: &mut Tx<'_>, team: &str, name: &str) -> Result<Vec<JobSummary>, Error> {
    let row = super::pipeline(tx, team, name)?;
    list_of(tx, row.id)
}

pub(super) fn list_of(tx: &mut Tx<'_>, id: PipelineId) -> Result<Vec<JobSummary>, Error> {
    let config = pipelines::pipeline_config(tx, id)?;
    let latest = builds::build_list_latest(tx, id)?;
    let rows = jobs::job_list(tx, id)?;
    Ok(rows.iter().map(|row| summary(row, &config, &latest)).collect())
}

fn summary(row: &JobRow, config: &Pipeline, latest: &[BuildRow]) -> JobSummary {
    let mine = || latest.iter().filter(|build| build.job == row.id);
    JobSummary {
        team: row.team.clone(),
        pipeline: row.pipeline_name.clone(),
        job: row.name.clone(),
        groups: config
            .groups
            .iter()
            .filter(|group| in_group(&group.jobs, &row.name))
            .map(|group| group.name.clone())
            .collect(),
        paused: row.paused.is_some(),
        finished: mine().filter(|build| build.status.is_terminal()).max_by_key(|build| build.id).map(build_ref),
        next: mine().filter(|build| !build.status.is_terminal()).min_by_key(|build| build.id).map(build_ref),
    }
}

/// A job, whole.
pub fn detail(tx: &mut Tx<'_>, team: &str, pipeline_name: &str, name: &str) -> Result<JobDetail, Error> {
    let row = super::job(tx, team, pipeline_name, name)?;
    let spec: JobSpec = from_json(&row.spec)?;
    let config = pipelines::pipeline_config(tx, row.pipeline)?;
    let latest = builds::build_list_latest(tx, row.pipeline)?;
    let chosen = look(tx, row.id)?.map(|look| look.inputs).unwrap_or_default();
    let mut inputs = Vec::new();
    for input in jobs::job_inputs(tx, row.id)? {
        let mut passed = Vec::new();
        for id in &input.passed {
            passed.extend(jobs::job_get(tx, *id)?.map(|job| job.name));
        }
        inputs.push(JobInput {
            version: chosen.iter().find(|found| found.name == input.name).map(|found| found.version.0.clone()),
            name: input.name,
            resource: input.resource_name,
            passed,
            trigger: input.trigger,
        });
    }
    let shown = builds::build_list_of_job(tx, row.id, None, SHOWN_BUILDS)?;
    Ok(JobDetail {
        inputs,
        report: why::job(tx, row.id)?,
        builds: build_query::summaries(tx, &shown)?,
        disable_manual_trigger: spec.disable_manual_trigger,
        guarded: build_query::is_guarded(&spec),
        summary: summary(&row, &config, &latest),
    })
}

/// Everything that the resolution of a job's inputs depends on.
pub fn history(tx: &mut Tx<'_>, team: &str, pipeline: &str, name: &str) -> Result<Document, Error> {
    let row = super::job(tx, team, pipeline, name)?;
    holdall_store::history::export(tx, row.id)?.ok_or_else(|| Error::not_found(format!("job {team}/{pipeline}/{name}")))
}
