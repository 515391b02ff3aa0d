//! From a step of a plan to the attempt that a worker takes.

use std::collections::BTreeMap;

use holdall_engine::ids::BuildId;
use holdall_engine::pipeline::PutInputs;
use holdall_engine::plan::{GetPlan, Plan, PlanKind, PutPlan, TaskPlan, VersionSource};
use holdall_engine::release::Role;
use holdall_engine::status::Outcome;
use holdall_engine::time::{Span, Timestamp};
use holdall_engine::version::Version;
use holdall_protocol::worker::{Assignment, PutArtifacts, StepSpec, StopPolicy};
use holdall_store::attempts as rows;
use holdall_store::builds::{self, BuildRow};
use holdall_store::{StoreError, Tx, environments};
use serde_json::Value;

use super::Walk;
use crate::error::json_text;
use crate::release::EnvironmentSpec;
use crate::release::bags::bag_number;
use crate::release::deployments::deployment_of_version;

/// Queues an attempt of a step; gives a message where the step cannot be run at all.
pub(super) fn start(
    tx: &mut Tx<'_>,
    walk: &Walk,
    node: &Plan,
    version: Option<Version>,
    in_hook: Option<Outcome>,
    now: Timestamp,
) -> Result<Result<(), String>, StoreError> {
    let build = builds::build_get(tx, walk.build.id)?.unwrap_or_else(|| walk.build.clone());
    let release = release_env(tx, &build)?;
    let (spec, tags, timeout) = match &node.kind {
        PlanKind::Get(get) => match get_spec(&build, get, version, in_hook, &release) {
            Ok(spec) => (spec, &get.tags[..], get.timeout),
            Err(message) => return Ok(Err(message)),
        },
        PlanKind::Put(put) => (put_spec(&build, put, in_hook, &release), &put.tags[..], put.timeout),
        PlanKind::Task(task) => {
            (task_spec(&build, task, &release)?, &task.step.tags[..], task.step.timeout.as_ref().map(|t| t.span))
        }
        PlanKind::Files(files) => {
            let spec = StepSpec::Files { artifacts: files.artifacts.clone(), files: files.files.clone() };
            (spec, &[][..], None)
        }
        _ => return Ok(Err("this kind of step is not run on workers".to_owned())),
    };
    let fence = rows::fence_next(tx, build.id)?;
    let id = format!("{}-{}-{fence}", build.id, node.id);
    let assignment = Assignment {
        attempt: id.clone(),
        fence,
        build: build.id.0,
        step: node.id.as_str().to_owned(),
        name: node.name().unwrap_or_default().to_owned(),
        spec,
        stop: stop_policy(tx, walk)?,
        timeout_seconds: timeout.map(|Span(micros)| micros as f64 / 1e6),
    };
    rows::attempt_create(
        tx,
        &id,
        build.id,
        node.id.as_str(),
        fence,
        &build.team,
        &json_text(&tags)?,
        &json_text(&assignment)?,
        now,
    )?;
    Ok(Ok(()))
}

/// Wants the attempt of a step stopped. Gives `true` where no worker had taken it: then it has ended with this.
pub(super) fn stop(tx: &mut Tx<'_>, build: BuildId, step: &str, why: &str, now: Timestamp) -> Result<bool, StoreError> {
    let Some(attempt) = rows::attempt_of_step(tx, build, step)? else { return Ok(true) };
    match attempt.state.as_str() {
        "queued" => rows::attempt_finish(tx, &attempt.id, "{\"ending\":\"never_started\"}", now),
        "finished" => Ok(false),
        _ => {
            rows::attempt_stop(tx, &attempt.id, why)?;
            Ok(false)
        }
    }
}

/// How the steps of a build are stopped: as the environment says in its deploy jobs, as the reference says elsewhere.
fn stop_policy(tx: &mut Tx<'_>, walk: &Walk) -> Result<StopPolicy, StoreError> {
    if let Some(Role::Deploy { .. }) = walk.spec.role
        && let Some(environment) = environments::environment_of_pipeline(tx, walk.build.pipeline)?
        && let Some((signal, grace_seconds)) = EnvironmentSpec::of(&environment)?.stop
    {
        return Ok(StopPolicy { signal, grace_seconds });
    }
    Ok(StopPolicy::default())
}

/// What every step of an environment's jobs sees (release model, section 4).
fn release_env(tx: &mut Tx<'_>, build: &BuildRow) -> Result<BTreeMap<String, String>, StoreError> {
    let mut env = BTreeMap::new();
    let Some(environment) = environments::environment_of_pipeline(tx, build.pipeline)? else { return Ok(env) };
    env.insert("HOLDALL_SYSTEM".to_owned(), environment.system_name.clone());
    env.insert("HOLDALL_ENVIRONMENT".to_owned(), environment.name.clone());
    let deployment = match build.deployment {
        Some(id) => Some(environments::deployment_get(tx, id)?),
        None => {
            let mut found = None;
            for input in builds::build_inputs(tx, build.id)? {
                if let Some(deployment) = deployment_of_version(tx, &environment, &input.version)? {
                    found = Some(deployment);
                } else if let Some(bag) = bag_number(&input.version) {
                    env.insert("HOLDALL_BAG".to_owned(), bag.to_string());
                }
            }
            found
        }
    };
    if let Some(deployment) = deployment {
        env.insert("HOLDALL_BAG".to_owned(), deployment.bag.to_string());
        env.insert("HOLDALL_DEPLOYMENT".to_owned(), deployment.number.to_string());
        env.insert("HOLDALL_DIRECTION".to_owned(), deployment.direction.clone());
        if let Some(previous) = deployment.previous_bag {
            env.insert("HOLDALL_PREVIOUS_BAG".to_owned(), previous.to_string());
        }
    }
    Ok(env)
}

/// What the steps of resources see (reference, section 2.3).
fn resource_env(
    build: &BuildRow,
    in_hook: Option<Outcome>,
    release: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut env = release.clone();
    let mut add = |key: &str, value: String| env.insert(key.to_owned(), value);
    add("BUILD_ID", build.id.to_string());
    add("BUILD_NAME", build.name.clone());
    add("BUILD_TEAM_NAME", build.team.clone());
    add("BUILD_JOB_ID", build.job.to_string());
    add("BUILD_JOB_NAME", build.job_name.clone());
    add("BUILD_PIPELINE_ID", build.pipeline.to_string());
    add("BUILD_PIPELINE_NAME", build.pipeline_name.clone());
    if let Some(status) = in_hook {
        let status = match status {
            Outcome::Succeeded => "succeeded",
            Outcome::Failed => "failed",
            Outcome::Errored => "errored",
            Outcome::Aborted => "aborted",
        };
        add("BUILD_STATUS", status.to_owned());
    }
    env
}

fn get_spec(
    build: &BuildRow,
    get: &GetPlan,
    version: Option<Version>,
    in_hook: Option<Outcome>,
    release: &BTreeMap<String, String>,
) -> Result<StepSpec, String> {
    let version = match (version, &get.version) {
        (Some(version), _) => version,
        (None, VersionSource::Fixed(version)) => version.clone(),
        (None, VersionSource::From(put)) => return Err(format!("step {put} gave no version to get")),
    };
    Ok(StepSpec::Get {
        resource_type: get.resource_type.clone(),
        source: Value::Object(get.source.clone()),
        params: Value::Object(get.params.clone()),
        version: version.0,
        artifact: get.artifact.clone(),
        env: resource_env(build, in_hook, release),
    })
}

fn put_spec(build: &BuildRow, put: &PutPlan, in_hook: Option<Outcome>, release: &BTreeMap<String, String>) -> StepSpec {
    let inputs = match &put.inputs {
        PutInputs::All => PutArtifacts::All,
        PutInputs::Detect => PutArtifacts::Detected(detected(&put.params)),
        PutInputs::None(_) => PutArtifacts::Named(Vec::new()),
        PutInputs::Named(names) => PutArtifacts::Named(names.clone()),
    };
    StepSpec::Put {
        resource_type: put.resource_type.clone(),
        source: Value::Object(put.source.clone()),
        params: Value::Object(put.params.clone()),
        inputs,
        env: resource_env(build, in_hook, release),
    }
}

/// The first path segments of all texts in the params: the artifacts that they may mean (reference, section 1.8).
fn detected(params: &holdall_engine::pipeline::Object) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Vec<&Value> = params.values().collect();
    while let Some(value) = open.pop() {
        match value {
            Value::String(text) => {
                let first = text.split('/').find(|part| !matches!(*part, "." | ".."));
                if let Some(first) = first.filter(|first| !first.is_empty() && !found.iter().any(|f| f == first)) {
                    found.push(first.to_owned());
                }
            }
            Value::Array(values) => open.extend(values),
            Value::Object(values) => open.extend(values.values()),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    found.sort();
    found
}

fn task_spec(build: &BuildRow, task: &TaskPlan, release: &BTreeMap<String, String>) -> Result<StepSpec, StoreError> {
    let step = &task.step;
    let config = step.config.as_ref().map(|config| holdall_config::task::to_json(config).to_string());
    Ok(StepSpec::Task {
        config,
        file: step.file.clone(),
        vars: Value::Object(step.vars.clone()),
        params: Value::Object(step.params.clone()),
        env: release.clone(),
        input_mapping: step.input_mapping.clone(),
        output_mapping: step.output_mapping.clone(),
        cache_key: Some(format!("{}/{}", build.job, step.name)),
        image: step.image.clone(),
    })
}
