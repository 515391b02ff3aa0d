//! Setting a system: its environments, their pipelines, and what is under way meanwhile (release model, section 2).
//! What moves with an environment that gets another name or another team is in [`moves`].

pub(crate) mod moves;

use std::collections::BTreeMap;

use holdall_config::system::{self, CompiledEnvironment, System};
use holdall_engine::ids::{EnvironmentId, SystemId};
use holdall_engine::pipeline::Pipeline;
use holdall_engine::release::Role;
use holdall_engine::time::Timestamp;
use holdall_protocol::api::code;
use holdall_store::environments::{self, EnvironmentRow};
use holdall_store::{StoreError, Tx, bags, jobs, locks, pipelines as pipeline_rows, resources, systems};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Refusal, from_json, json_text};
use crate::pipelines;
use crate::release::bags::bag_arrive;
use crate::release::deployments::deployment_open;
use crate::release::{EnvironmentSpec, environments_of};

/// A pipeline and spec that wait for a deployment to end.
#[derive(Debug, Serialize, Deserialize)]
struct Waiting {
    team: String,
    pipeline: String,
    config: Pipeline,
    spec: EnvironmentSpec,
}

/// What setting a system did.
#[derive(Debug, Clone, Default)]
pub struct SystemChange {
    /// The system's name.
    pub name: String,
    /// Sentences about what changed and what waits.
    pub sentences: Vec<String>,
    /// The differences of the compiled pipelines.
    pub diff: Option<String>,
}

/// Parses a system file; all mistakes are in the refusal.
pub fn parse(text: &str, vars: &BTreeMap<String, Value>) -> Result<System, Error> {
    let parsed = system::parse(text, vars);
    match parsed.into_result() {
        Ok(system) => Ok(system),
        Err(diagnostics) => Err(wrong_file("the system file", &diagnostics)),
    }
}

/// The refusal of a file with mistakes: all of them, each with its place.
pub(crate) fn wrong_file(what: &str, diagnostics: &[holdall_config::diagnostic::Diagnostic]) -> Error {
    let mistakes = diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
    let plural = if mistakes == 1 { "mistake" } else { "mistakes" };
    let mut refusal = Refusal::new(422, code::INVALID, format!("{what} has {mistakes} {plural}"));
    refusal.diagnostics = diagnostics.iter().map(to_wire).collect();
    refusal.into()
}

fn to_wire(diagnostic: &holdall_config::diagnostic::Diagnostic) -> holdall_protocol::api::Diagnostic {
    let place = |n: usize| u32::try_from(n).ok();
    holdall_protocol::api::Diagnostic {
        severity: if diagnostic.is_error() {
            holdall_protocol::api::Severity::Error
        } else {
            holdall_protocol::api::Severity::Warning
        },
        code: diagnostic.code.to_owned(),
        line: diagnostic.span.and_then(|span| place(span.line)),
        column: diagnostic.span.and_then(|span| place(span.column)),
        message: diagnostic.message.clone(),
        help: diagnostic.help.clone(),
    }
}

/// Makes or changes a system. Environments with a deployment under way take their new pipeline when it ends, or at
/// once with `at_once`.
pub fn set(
    tx: &mut Tx<'_>,
    text: &str,
    vars: &BTreeMap<String, Value>,
    at_once: bool,
    now: Timestamp,
) -> Result<SystemChange, Error> {
    let model = parse(text, vars)?;
    let mut change = SystemChange { name: model.name.clone(), ..SystemChange::default() };
    let old = match systems::system_find(tx, &model.name)? {
        Some(row)
            if row.text == text
                && from_json::<BTreeMap<String, Value>>(&row.vars)? == *vars
                && !any_can_take(tx, row.id, at_once)? =>
        {
            change.sentences.push("nothing changes".to_owned());
            return Ok(change);
        }
        Some(row) => Some(from_json::<System>(&row.model)?),
        None => None,
    };
    let different = system::diff(old.as_ref(), &model);
    change.sentences.extend(different.sentences());
    change.diff = Some(different.pipelines()).filter(|text| !text.is_empty());
    let id = systems::system_save(tx, &model.name, text, &json_text(vars)?, &json_text(&model)?, now)?;
    let compiled = system::compile(&model);
    moves::rename(tx, id, &compiled, now)?;
    remove(tx, id, &compiled, now)?;
    moves::relocate(tx, id, &compiled, at_once, now, &mut change)?;
    for (position, environment) in compiled.iter().enumerate() {
        set_environment(tx, id, position, &model, environment, at_once, now, &mut change)?;
    }
    arrive(tx, id, now)?;
    Ok(change)
}

/// Whether an environment has its new pipeline still to take, and can.
fn any_can_take(tx: &mut Tx<'_>, system: SystemId, at_once: bool) -> Result<bool, StoreError> {
    for row in environments::environment_list(tx, system)?.iter().filter(|row| row.waiting.is_some()) {
        if at_once || deployment_open(tx, row)?.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What the jobs of an environment's pipeline are for (release model, section 4).
fn roles(compiled: &CompiledEnvironment) -> BTreeMap<String, Role> {
    let last = compiled.deploy_jobs.last();
    compiled
        .config
        .jobs
        .iter()
        .map(|job| {
            let role = match job.name.as_str() {
                "pack-bag" => Role::Pack,
                "start-deploy" => Role::StartDeploy,
                "signal-deploy-completion" => Role::Signal,
                "force-unlock-pipeline" => Role::ForceUnlock,
                name if compiled.deploy_jobs.iter().any(|deploy| deploy == name) => {
                    Role::Deploy { last: last.is_some_and(|last| last == name) }
                }
                name if compiled.test_jobs.iter().any(|test| test == name) => Role::Test,
                _ => Role::Periodic,
            };
            (job.name.clone(), role)
        })
        .collect()
}

fn spec_of(model: &System, compiled: &CompiledEnvironment) -> EnvironmentSpec {
    EnvironmentSpec {
        packs: compiled.packs,
        after: compiled.after.clone(),
        queue: compiled.queue,
        manual_promotion: compiled.manual_promotion,
        stop: compiled.stop.as_ref().map(|stop| (stop.signal.clone(), stop.grace.span.0 as f64 / 1e6)),
        deploy_jobs: compiled.deploy_jobs.clone(),
        needs: compiled.needs.clone(),
        repositories: model
            .services
            .iter()
            .filter_map(|service| Some((service.name.clone(), service.repository.clone()?)))
            .collect(),
        services: model.services.iter().map(|service| service.name.clone()).collect(),
        allow: compiled.allow.clone(),
    }
}

/// Refuses to touch an environment whose lock is held.
fn must_be_free(tx: &mut Tx<'_>, row: &EnvironmentRow, what: &str) -> Result<(), Error> {
    if let Some(holding) = locks::holding_list(tx, row.lock)?.first() {
        return Err(Error::refused(
            format!(
                "{} cannot be {what}: {} holds its lock; wait until it is given back, or unlock it first",
                row.name, holding.name
            ),
            format!("holdall lock force-unlock {} --reason \"...\"", row.name),
        ));
    }
    Ok(())
}

fn remove(tx: &mut Tx<'_>, system: SystemId, compiled: &[CompiledEnvironment], now: Timestamp) -> Result<(), Error> {
    for row in environments::environment_list(tx, system)? {
        if compiled.iter().any(|environment| environment.environment == row.name) {
            continue;
        }
        must_be_free(tx, &row, "removed")?;
        environments::environment_remove(tx, row.id)?;
        pipelines::destroy(tx, row.pipeline, now)?;
        mark_allowed(tx, &EnvironmentSpec::of(&row)?)?;
    }
    Ok(())
}

#[allow(clippy::too_many_arguments)]
fn set_environment(
    tx: &mut Tx<'_>,
    system: SystemId,
    position: usize,
    model: &System,
    compiled: &CompiledEnvironment,
    at_once: bool,
    now: Timestamp,
    change: &mut SystemChange,
) -> Result<(), Error> {
    let name = &compiled.environment;
    let spec = spec_of(model, compiled);
    let position = i64::try_from(position).unwrap_or(i64::MAX);
    if let Some(row) = environments::environment_find(tx, system, name)? {
        environments::environment_set_position(tx, row.id, position)?;
        let config = pipeline_rows::pipeline_config(tx, row.pipeline)?;
        let old = EnvironmentSpec::of(&row)?;
        if config == compiled.config && old == spec && moves::is_there(tx, row.pipeline, compiled)? {
            environments::environment_set_waiting(tx, row.id, None)?;
            return Ok(());
        }
        let open = deployment_open(tx, &row)?;
        if let Some(deployment) = open.as_ref().filter(|_| at_once) {
            change.sentences.push(format!(
                "{name} takes its new pipeline at once, while deployment {} of bag {} is under way",
                deployment.number, deployment.bag
            ));
        }
        if let Some(deployment) = open.filter(|_| !at_once) {
            let waiting = Waiting {
                team: compiled.team.clone(),
                pipeline: compiled.pipeline.clone(),
                config: compiled.config.clone(),
                spec,
            };
            environments::environment_set_waiting(tx, row.id, Some(&json_text(&waiting)?))?;
            change.sentences.push(format!(
                "{name} takes its new pipeline when deployment {} of bag {} has ended; --now applies it at once",
                deployment.number, deployment.bag
            ));
            return Ok(());
        }
        mark_allowed(tx, &old)?;
    }
    let roles = roles(compiled);
    let pipeline = pipelines::save(tx, &compiled.team, &compiled.pipeline, &compiled.config, &roles, false, now)?;
    let lock = locks::lock_ensure(tx, name)?;
    environments::environment_save(tx, system, name, position, lock, pipeline, &json_text(&spec)?)?;
    mark_allowed(tx, &spec)?;
    Ok(())
}

/// Lets be looked at what waits in the pipelines that may take an environment's lock, or might before: some may take it
/// now, and others have no place in its queue any more.
fn mark_allowed(tx: &mut Tx<'_>, spec: &EnvironmentSpec) -> Result<(), StoreError> {
    for (team, name) in spec.allow.iter().filter_map(|allowed| allowed.split_once('/')) {
        if let Some(row) = pipeline_rows::pipeline_find(tx, team, name)? {
            jobs::mark_pipeline(tx, row.id)?;
        }
    }
    Ok(())
}

/// Lets the bags that have passed all that comes before an environment be versions there: an environment may be new,
/// or come after another one now. Every environment is looked at again, also one whose new pipeline waits: what came
/// before it may be gone.
fn arrive(tx: &mut Tx<'_>, system: SystemId, now: Timestamp) -> Result<(), StoreError> {
    let chain = environments_of(tx, system)?;
    for (row, spec) in &chain {
        let before = chain.iter().filter(|(before, _)| spec.after.contains(&before.name));
        let passed: Vec<EnvironmentId> = before.map(|(before, _)| before.id).collect();
        let resource = resources::resource_of_type(tx, row.pipeline, "deployment-bag")?;
        if let Some(scope) = resource.and_then(|resource| resource.scope) {
            for number in bags::bags_to_arrive(tx, scope, &passed)? {
                bag_arrive(tx, row, number, now)?;
            }
        }
        jobs::mark_pipeline(tx, row.pipeline)?;
    }
    Ok(())
}

/// Lets an environment take the pipeline that waits for its deployment to end, if it has.
pub fn take_waiting(tx: &mut Tx<'_>, environment: &EnvironmentRow, now: Timestamp) -> Result<(), StoreError> {
    let row = environments::environment_get(tx, environment.id)?;
    let Some(text) = &row.waiting else { return Ok(()) };
    if deployment_open(tx, &row)?.is_some() {
        return Ok(());
    }
    let waiting: Waiting = from_json(text)?;
    let system = systems::system_get(tx, row.system)?;
    let model: System = from_json(&system.model)?;
    let Some(compiled) = system::compile(&model).into_iter().find(|compiled| compiled.environment == row.name) else {
        return environments::environment_set_waiting(tx, row.id, None);
    };
    let place = (waiting.team.as_str(), waiting.pipeline.as_str());
    let saved = moves::move_alone(tx, &row, place, now)
        .and_then(|()| pipelines::save(tx, place.0, place.1, &waiting.config, &roles(&compiled), false, now));
    let pipeline = match saved {
        Ok(pipeline) => pipeline,
        Err(Error::Store(error)) => return Err(error),
        // It was looked at when it was set, but a pipeline may be in its place since. The environment keeps its old
        // pipeline, and the new one goes on to wait: the next end tries again, and setting the file again says what is
        // in the way.
        Err(Error::Refused(refusal)) => {
            tracing::error!(environment = %row.name, "the waiting pipeline was refused: {refusal}");
            return Ok(());
        }
    };
    environments::environment_save(
        tx,
        row.system,
        &row.name,
        row.position,
        row.lock,
        pipeline,
        &json_text(&waiting.spec)?,
    )?;
    mark_allowed(tx, &EnvironmentSpec::of(&row)?)?;
    mark_allowed(tx, &waiting.spec)?;
    arrive(tx, row.system, now)
}

/// Takes a system out of use: refused while a lock of it is held.
pub fn destroy(tx: &mut Tx<'_>, name: &str, now: Timestamp) -> Result<(), Error> {
    let system = crate::query::system(tx, name)?;
    for row in environments::environment_list(tx, system.id)? {
        must_be_free(tx, &row, "destroyed")?;
        pipelines::destroy(tx, row.pipeline, now)?;
        mark_allowed(tx, &EnvironmentSpec::of(&row)?)?;
    }
    systems::system_destroy(tx, system.id, now)?;
    Ok(())
}
