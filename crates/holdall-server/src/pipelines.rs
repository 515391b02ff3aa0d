//! Saving a pipeline: what the store keeps of it for the scheduler.

use std::collections::BTreeMap;

use holdall_config::diagnostic::Diagnostic;
use holdall_config::glob::Glob;
use holdall_config::pipeline;
use holdall_config::vars::{self, Mode, Vars};
use holdall_config::yaml;
use holdall_engine::ids::PipelineId;
use holdall_engine::pipeline::Pipeline;
use holdall_engine::plan::{ReleaseType, job_inputs, job_outputs, lock_demand};
use holdall_engine::release::Role;
use holdall_engine::schedule::JobSpec;
use holdall_engine::status::BuildStatus;
use holdall_engine::time::Timestamp;
use holdall_store::builds::build_list_pending_removed;
use holdall_store::pipelines::{PipelineSave, pipeline_destroy, pipeline_save};
use holdall_store::{StoreError, Tx, access, checks};
use serde_json::Value;

use crate::duty::track;
use crate::error::{Error, json_text};
use crate::release::locks;
use crate::systems::wrong_file;

/// Reads a pipeline with values for its vars; gives it with the warnings about it. What a later release brings is
/// refused by name.
pub fn parse(text: &str, values: &BTreeMap<String, Value>) -> Result<(Pipeline, Vec<String>), Error> {
    let mut vars = Vars::new();
    for (name, value) in values {
        vars.set(name, value.clone()).map_err(|problem| Error::invalid(format!("var {name}: {problem}")))?;
    }
    let tree = yaml::parse(text).into_result().map_err(|found| wrong_file("the pipeline", &found))?;
    let tree = vars::interpolate(&tree, &mut |reference| vars.get(reference), Mode::Strict)
        .into_result()
        .map_err(|found| wrong_file("the pipeline", &found))?;
    let parsed = pipeline::parse_node(&tree);
    let mut found = parsed.diagnostics;
    if let Some(config) = &parsed.value {
        found.extend(pipeline::unsupported(config));
    }
    pipeline::locate(&mut found, &tree);
    match parsed.value {
        Some(config) if !found.iter().any(Diagnostic::is_error) => {
            Ok((config, found.into_iter().map(|warning| warning.message).collect()))
        }
        _ => Err(wrong_file("the pipeline", &found)),
    }
}

/// Checks what a pipeline of one's own does with the release types: it may hold an environment's lock while a job runs,
/// where the environment allows it, and nothing else (release model, sections 4 and 5).
pub fn check_release_types(tx: &mut Tx<'_>, team: &str, name: &str, config: &Pipeline) -> Result<(), Error> {
    let own = format!("{team}/{name}");
    for resource in &config.resources {
        match ReleaseType::of(config, resource) {
            None => {}
            Some(ReleaseType::Lock) => {
                let environment = resource.source.get("environment").and_then(Value::as_str).unwrap_or_default();
                match locks::allows(tx, environment, &own)? {
                    Some(true) => {}
                    Some(false) => {
                        return Err(Error::refused(
                            format!(
                                "resource {}: {environment} does not let {own} hold its lock; `lock: {{allow: [{own}]}}` \
                                 in its system file does",
                                resource.name
                            ),
                            "holdall system set FILE",
                        ));
                    }
                    None => {
                        return Err(Error::not_found(format!(
                            "environment {environment:?}, whose lock resource {} is",
                            resource.name
                        )));
                    }
                }
            }
            Some(kind) => {
                return Err(Error::invalid(format!(
                    "resource {}: the type {} is for the pipelines that a system file compiles to",
                    resource.name,
                    kind.as_str()
                )));
            }
        }
    }
    let is_lock = |name: &str| config.resource(name).and_then(|found| ReleaseType::of(config, found)).is_some();
    for job in &config.jobs {
        if let Some(get) = job_inputs(job).into_iter().find(|get| is_lock(get.resource_name())) {
            return Err(Error::invalid(format!("job {}: step {}: a lock is put, never got", job.name, get.name)));
        }
        for put in job_outputs(job).into_iter().filter(|put| is_lock(put.resource_name())) {
            if put.params.get("during") != Some(&Value::Bool(true)) {
                return Err(Error::invalid(format!(
                    "job {}: step {}: a pipeline of your own holds a lock while a job runs, with `during: true`; \
                     taking and releasing it is for deployments",
                    job.name, put.name
                )));
            }
        }
    }
    Ok(())
}

/// Saves a pipeline that was validated. `roles`: what its jobs are for, in an environment's pipeline; empty for a
/// pipeline of one's own. `paused`: whether it starts paused where it is new.
pub fn save(
    tx: &mut Tx<'_>,
    team: &str,
    name: &str,
    config: &Pipeline,
    roles: &BTreeMap<String, Role>,
    paused: bool,
    now: Timestamp,
) -> Result<PipelineId, Error> {
    let mut specs = BTreeMap::new();
    for job in &config.jobs {
        let demand = lock_demand(job, config)
            .map_err(|error| Error::invalid(format!("job {} of {team}/{name}: {error}", job.name)))?;
        let spec = JobSpec {
            role: roles.get(&job.name).copied(),
            demand,
            disable_manual_trigger: job.disable_manual_trigger,
            disable_reruns: job.disable_reruns,
        };
        specs.insert(job.name.clone(), json_text(&spec)?);
    }
    let team = access::team_ensure(tx, team)?;
    let id = pipeline_save(
        tx,
        &PipelineSave { team, name, config, specs: &specs, passed: &expand_passed, inputs: &job_inputs, paused },
        now,
    )?;
    checks::check_rearm(tx, id, now)?;
    end_removed(tx, id, "its job is not in the pipeline any more", now)?;
    Ok(id)
}

/// Takes a pipeline out of use; its builds and their logs are kept.
///
/// # Errors
///
/// Those of the database.
pub fn destroy(tx: &mut Tx<'_>, id: PipelineId, now: Timestamp) -> Result<(), StoreError> {
    pipeline_destroy(tx, id, now)?;
    end_removed(tx, id, "its pipeline was destroyed", now)
}

/// Ends what waits to start of jobs that are gone: the scheduler looks at them no more, and a place in the queue of a
/// lock would be kept for ever.
fn end_removed(tx: &mut Tx<'_>, pipeline: PipelineId, why: &str, now: Timestamp) -> Result<(), StoreError> {
    for build in build_list_pending_removed(tx, pipeline)? {
        track::end_pending(tx, build.id, BuildStatus::Aborted, why, now)?;
    }
    Ok(())
}

/// The jobs that a `passed` entry names: itself, or all that its glob matches (reference, section 1.8).
fn expand_passed(pattern: &str, config: &Pipeline) -> Vec<String> {
    if config.job(pattern).is_some() {
        return vec![pattern.to_owned()];
    }
    match Glob::of_passed(pattern) {
        Some(glob) => config.jobs.iter().map(|job| &job.name).filter(|name| glob.matches(name)).cloned().collect(),
        None => Vec::new(),
    }
}
