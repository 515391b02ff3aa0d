//! From a system to the pipelines that deploy it: one for each environment, in Concourse's language with the four
//! release types (release model, sections 4 and 5). Nothing here is known to the engine beforehand: what a pipeline
//! does can be read from it.

mod jobs;
mod needs;

use holdall_engine::pipeline::{CheckEvery, Group, Object, Pipeline, Resource};
use holdall_engine::time::Span;
use serde_json::Value;

use crate::vars::{Mode, interpolate_json};

use super::model::{Environment, Promotion, Service, Stop, Superseding, System};

/// The resource of an environment's lock.
pub(super) const LOCK: &str = "environment-lock";
/// The resource, and the type, of the bags that may start.
pub(super) const BAGS: &str = "deployment-bag";
/// The resource, and the type, of the deployments.
pub(super) const DEPLOYMENTS: &str = "deployment";
/// The resource, and the type, of what is live.
pub(super) const CURRENT: &str = "current-bag";

/// The job that packs bags.
pub(super) const PACK_BAG: &str = "pack-bag";
/// The job that takes the lock and makes the deployment.
pub(super) const START_DEPLOY: &str = "start-deploy";
/// The job that runs the suites without one of their own.
pub(super) const TEST: &str = "test";
/// The job that tags the bag and gives the lock back.
pub(super) const SIGNAL: &str = "signal-deploy-completion";
/// The operator's job.
pub(super) const FORCE_UNLOCK: &str = "force-unlock-pipeline";

/// The tab with the way of a bag.
pub(super) const DEPLOY_TAB: &str = "deploy";
/// The operator's tab.
pub(super) const OPERATOR_TAB: &str = "operator";

/// A clock that ticks more often than this is looked at as often as it ticks; others as the server does anyway.
const LONGEST_CHECK: Span = Span::seconds(60);

/// What a system file says about one environment, as the server wants it.
#[derive(Debug, Clone, PartialEq)]
pub struct CompiledEnvironment {
    /// Its name; the lock has the same.
    pub environment: String,
    /// The name it had.
    pub old_name: Option<String>,
    /// The team that owns the pipeline.
    pub team: String,
    /// The pipeline's name: `deploy-<system>`.
    pub pipeline: String,
    /// The pipeline.
    pub config: Pipeline,
    /// Whether bags are packed here.
    pub packs: bool,
    /// The environments that must have passed a bag before it comes here.
    pub after: Vec<String>,
    /// Whether every bag is deployed in its turn, rather than the newest.
    pub queue: bool,
    /// Whether only a person starts bags here.
    pub manual_promotion: bool,
    /// How steps of the deploy jobs are stopped.
    pub stop: Option<Stop>,
    /// The deploy jobs, in order: guarded against interruption, the last one makes a bag current.
    pub deploy_jobs: Vec<String>,
    /// The jobs that all must pass a deployment before it is complete.
    pub test_jobs: Vec<String>,
    /// The services without which a bag cannot be deployed here (`bag-incomplete`).
    pub needs: Vec<String>,
    /// Other pipelines that may take the lock: `team/pipeline`.
    pub allow: Vec<String>,
}

/// Compiles each environment, in the order of the file. The same system gives the same pipelines.
pub fn compile(system: &System) -> Vec<CompiledEnvironment> {
    system.environments.iter().map(|environment| environment_of(system, environment)).collect()
}

fn environment_of(system: &System, environment: &Environment) -> CompiledEnvironment {
    let jobs = jobs::Jobs { system, environment };
    let config = Pipeline {
        groups: groups(environment),
        resources: resources(system, environment),
        jobs: jobs.all(),
        ..Pipeline::default()
    };
    CompiledEnvironment {
        environment: environment.name.clone(),
        old_name: environment.old_name.clone(),
        team: environment.team.clone(),
        pipeline: system.pipeline_name(),
        config,
        packs: environment.pack,
        after: environment.after.clone(),
        queue: environment.superseding == Superseding::Queue,
        manual_promotion: environment.promotion == Promotion::Manual,
        stop: environment.stop.clone(),
        deploy_jobs: deploy_jobs(environment),
        test_jobs: test_jobs(environment),
        needs: needs::of(system, environment),
        allow: environment.allow.clone(),
    }
}

/// The names of the deploy jobs, in order.
pub(super) fn deploy_jobs(environment: &Environment) -> Vec<String> {
    environment.deploy.iter().map(super::DeployJob::job_name).collect()
}

/// The names of the test jobs: `test` first, where a suite runs in it.
pub(super) fn test_jobs(environment: &Environment) -> Vec<String> {
    let shared = environment.suites.iter().any(|suite| !suite.own_job).then(|| TEST.to_owned());
    let own = environment.suites.iter().filter(|suite| suite.own_job).map(super::Suite::job_name);
    shared.into_iter().chain(own).collect()
}

/// The tabs. Every job is in one.
fn groups(environment: &Environment) -> Vec<Group> {
    let group = |name: &str, jobs: Vec<String>| Group { name: name.to_owned(), jobs, resources: Vec::new() };
    let mut deploy = vec![START_DEPLOY.to_owned()];
    deploy.extend(deploy_jobs(environment));
    deploy.extend(test_jobs(environment));
    deploy.push(SIGNAL.to_owned());
    let mut groups = vec![group(DEPLOY_TAB, deploy)];
    if environment.pack {
        groups.push(group(PACK_BAG, vec![PACK_BAG.to_owned()]));
    }
    groups.push(group(OPERATOR_TAB, vec![FORCE_UNLOCK.to_owned()]));
    groups.extend(environment.periodic.iter().map(|periodic| group(&periodic.name, vec![periodic.name.clone()])));
    groups
}

fn resources(system: &System, environment: &Environment) -> Vec<Resource> {
    let mut resources: Vec<Resource> =
        system.services.iter().map(|service| service_resource(system, environment, service)).collect();
    resources.push(built_in(LOCK, "lock", [("environment", &environment.name)]));
    for kind in [BAGS, DEPLOYMENTS, CURRENT] {
        resources.push(built_in(kind, kind, [("system", &system.name), ("environment", &environment.name)]));
    }
    for periodic in &environment.periodic {
        let mut clock = built_in(&periodic.name, "time", [("interval", &periodic.every.text)]);
        if periodic.every.span < LONGEST_CHECK {
            clock.check_every = Some(CheckEvery::Every(periodic.every.clone()));
        }
        resources.push(clock);
    }
    resources
}

fn built_in<const N: usize>(name: &str, kind: &str, source: [(&str, &String); N]) -> Resource {
    let source = source.into_iter().map(|(key, value)| (key.to_owned(), Value::String(value.clone()))).collect();
    Resource { name: name.to_owned(), kind: kind.to_owned(), source, ..Resource::default() }
}

/// The resource of a service: with the source that its bags are packed with, so that the same bits are found, and
/// checked only where bags are packed.
fn service_resource(system: &System, environment: &Environment, service: &Service) -> Resource {
    let difference = environment.services.get(&service.name);
    let check_every = match environment.pack {
        true => difference.and_then(|found| found.check_every.clone()).or_else(|| service.check_every.clone()),
        false => Some(CheckEvery::Never),
    };
    Resource {
        name: service.name.clone(),
        old_name: service.old_name.clone(),
        kind: service.kind.clone(),
        source: service_source(system, environment, service),
        webhook_token: service.webhook_token.clone().filter(|_| environment.pack),
        check_every,
        ..Resource::default()
    }
}

/// A service's source in an environment: with what is different where its bags are packed, and with the
/// environment's vars. A var without a value stays as it is; `parse` accepts none.
pub(super) fn service_source(system: &System, environment: &Environment, service: &Service) -> Object {
    let mut source = service.source.clone();
    let packing = system.packed_in(&environment.name).unwrap_or(environment);
    if let Some(difference) = packing.services.get(&service.name) {
        source.extend(difference.source.clone());
    }
    let mut lookup = |var: &crate::vars::Reference| match var.source {
        None => environment.vars.get(&var.name).cloned(),
        Some(_) => None,
    };
    match interpolate_json(&Value::Object(source.clone()), &mut lookup, Mode::Lenient) {
        Ok(Value::Object(source)) => source,
        _ => source,
    }
}

/// The services of several plans in one job. `None`: all.
fn union<'a>(plans: impl IntoIterator<Item = Option<&'a Vec<String>>>) -> Option<Vec<String>> {
    let mut all: Vec<String> = Vec::new();
    for services in plans {
        for name in services? {
            if !all.contains(name) {
                all.push(name.clone());
            }
        }
    }
    Some(all)
}
