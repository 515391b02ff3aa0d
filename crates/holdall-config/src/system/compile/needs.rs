//! Which artifacts steps read, and so which services a bag must have.

use std::collections::BTreeSet;

use holdall_engine::pipeline::{PutInputs, Step};

use crate::pipeline::cores;

use super::super::model::{Environment, Plan, System};

/// The artifacts that a step reads by name, each with the key that names it. What a task's file asks for is not
/// known before it is read.
pub(in crate::system) fn artifacts(step: &Step) -> Vec<(&'static str, &str)> {
    let mut found = Vec::new();
    match step {
        Step::Task(task) => {
            // Without a slash there is no artifact; the step says so when it runs.
            let file = task.file.as_deref().and_then(|file| file.split_once('/'));
            found.extend(file.map(|(artifact, _)| ("file", artifact)));
            found.extend(task.image.as_deref().map(|image| ("image", image)));
            found.extend(task.input_mapping.values().map(|artifact| ("input_mapping", artifact.as_str())));
            for input in task.config.iter().flat_map(|config| &config.inputs) {
                if !input.optional && !task.input_mapping.contains_key(&input.name) {
                    found.push(("config", input.name.as_str()));
                }
            }
        }
        Step::Put(put) => {
            if let PutInputs::Named(names) = &put.inputs {
                found.extend(names.iter().map(|name| ("inputs", name.as_str())));
            }
        }
        _ => {}
    }
    found
}

/// The services without which a bag cannot be deployed: those that a plan names, and those that a step of the deploy
/// or of a suite reads.
pub(super) fn of(system: &System, environment: &Environment) -> Vec<String> {
    let hooks = [&environment.on_start, &environment.on_passed, &environment.on_failed];
    let plans =
        environment.deploy.iter().map(|job| &job.plan).chain(environment.suites.iter().map(|suite| &suite.plan));
    let mut needed: BTreeSet<&str> = BTreeSet::new();
    for plan in plans.clone().chain(hooks.into_iter().flatten()) {
        needed.extend(plan.services.iter().flatten().map(String::as_str));
    }
    for plan in plans {
        read(plan, &mut needed);
    }
    let services = system.services.iter().map(|service| &service.name);
    services.filter(|name| needed.contains(name.as_str())).cloned().collect()
}

fn read<'p>(plan: &'p Plan, into: &mut BTreeSet<&'p str>) {
    for step in &plan.steps {
        cores(step, &mut |step| into.extend(artifacts(step).into_iter().map(|(_, artifact)| artifact)));
    }
}
