//! What changes when a system or a pipeline is set.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;
use similar::TextDiff;

use super::compile::{CompiledEnvironment, compile};
use super::model::System;

/// What is different between two systems.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct SystemDiff {
    /// Whether the system is new.
    pub is_new: bool,
    /// Services that come.
    pub services_added: Vec<String>,
    /// Services that go.
    pub services_removed: Vec<String>,
    /// Services that are different.
    pub services_changed: Vec<String>,
    /// The environments that are different.
    pub environments: Vec<EnvironmentDiff>,
}

/// What is different in one environment.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct EnvironmentDiff {
    /// Its name.
    pub environment: String,
    /// `added`, `removed`, `renamed` or `changed`.
    pub kind: &'static str,
    /// The name it had, where it is renamed.
    pub old_name: Option<String>,
    /// What it comes after, where that changes.
    pub after: Option<Vec<String>>,
    /// Jobs and suites that it gains.
    pub gains: Vec<String>,
    /// Jobs and suites that it loses.
    pub loses: Vec<String>,
    /// The differences of its pipeline.
    pub pipeline: String,
}

/// Compares two systems; without an old one everything is new.
pub fn diff(old: Option<&System>, new: &System) -> SystemDiff {
    let empty = System::default();
    let before = old.unwrap_or(&empty);
    let mut found = SystemDiff { is_new: old.is_none(), ..SystemDiff::default() };
    for service in &new.services {
        match before.services.iter().find(|known| known.name == service.name) {
            None => found.services_added.push(service.name.clone()),
            Some(known) if known != service => found.services_changed.push(service.name.clone()),
            Some(_) => {}
        }
    }
    for service in &before.services {
        if !new.services.iter().any(|known| known.name == service.name) {
            found.services_removed.push(service.name.clone());
        }
    }
    let (old_compiled, new_compiled) = (compile(before), compile(new));
    for environment in &new_compiled {
        let same = |name: &String| old_compiled.iter().find(|known| known.environment == *name);
        let renamed = environment.old_name.as_ref().and_then(same);
        let known = same(&environment.environment).or(renamed);
        if let Some(diff) = environment_diff(known, environment) {
            found.environments.push(diff);
        }
    }
    for environment in &old_compiled {
        // One that keeps saying what it was called does not take another of that name along.
        let is_known = |name: &String| old_compiled.iter().any(|known| known.environment == *name);
        let stays = new_compiled.iter().any(|known| {
            known.environment == environment.environment
                || (known.old_name.as_ref() == Some(&environment.environment) && !is_known(&known.environment))
        });
        if !stays {
            found.environments.push(EnvironmentDiff {
                environment: environment.environment.clone(),
                kind: "removed",
                loses: parts(environment, new).into_iter().collect(),
                ..EnvironmentDiff::default()
            });
        }
    }
    fill_parts(&mut found, before, new, &old_compiled, &new_compiled);
    found
}

/// The jobs and suites of an environment, as people call them.
fn parts(environment: &CompiledEnvironment, system: &System) -> BTreeSet<String> {
    let jobs = environment.config.jobs.iter().map(|job| format!("job {}", job.name));
    let suites = system
        .environments
        .iter()
        .filter(|known| known.name == environment.environment)
        .flat_map(|known| known.suites.iter().map(|suite| format!("suite {}", suite.name)));
    jobs.chain(suites).collect()
}

fn fill_parts(
    found: &mut SystemDiff,
    before: &System,
    new: &System,
    old_compiled: &[CompiledEnvironment],
    new_compiled: &[CompiledEnvironment],
) {
    for diff in &mut found.environments {
        let old_name = diff.old_name.as_ref().unwrap_or(&diff.environment);
        let had = old_compiled
            .iter()
            .find(|known| known.environment == *old_name)
            .map(|known| parts(known, before))
            .unwrap_or_default();
        let has = new_compiled
            .iter()
            .find(|known| known.environment == diff.environment)
            .map(|known| parts(known, new))
            .unwrap_or_default();
        diff.gains = has.difference(&had).cloned().collect();
        diff.loses = had.difference(&has).cloned().collect();
    }
}

fn environment_diff(old: Option<&CompiledEnvironment>, new: &CompiledEnvironment) -> Option<EnvironmentDiff> {
    let kind = match old {
        None => "added",
        Some(old) if old.environment != new.environment => "renamed",
        Some(old) if CompiledEnvironment { old_name: new.old_name.clone(), ..old.clone() } == *new => return None,
        Some(_) => "changed",
    };
    let before = old.map_or(Value::Null, |old| crate::pipeline::to_json(&old.config));
    Some(EnvironmentDiff {
        environment: new.environment.clone(),
        kind,
        old_name: old.map(|old| old.environment.clone()).filter(|old| *old != new.environment),
        after: old.filter(|old| old.after != new.after).map(|_| new.after.clone()),
        pipeline: pipeline_diff(&before, &crate::pipeline::to_json(&new.config)),
        ..EnvironmentDiff::default()
    })
}

impl SystemDiff {
    /// Whether nothing is different.
    pub fn is_empty(&self) -> bool {
        *self == SystemDiff::default()
    }

    /// What is different, in sentences.
    pub fn sentences(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        for (names, what) in [
            (&self.services_added, "is new"),
            (&self.services_removed, "is removed"),
            (&self.services_changed, "is changed"),
        ] {
            sentences.extend(names.iter().map(|name| format!("service {name} {what}")));
        }
        for environment in &self.environments {
            let name = &environment.environment;
            sentences.push(match (&environment.old_name, environment.kind) {
                (Some(old), _) => format!("environment {old} is called {name} now"),
                (None, "added") => format!("environment {name} is new"),
                (None, "removed") => format!("environment {name} is removed"),
                _ => format!("environment {name} is changed"),
            });
            if let Some(after) = &environment.after {
                sentences.push(format!("{name} comes after {} now", after.join(", ")));
            }
            if environment.kind != "added" && environment.kind != "removed" {
                sentences.extend(environment.gains.iter().map(|part| format!("{name} gains {part}")));
                sentences.extend(environment.loses.iter().map(|part| format!("{name} loses {part}")));
            }
        }
        sentences
    }

    /// The differences of all pipelines, one after the other, each under its environment's name.
    pub fn pipelines(&self) -> String {
        let mut text = String::new();
        for environment in &self.environments {
            if !environment.pipeline.is_empty() {
                text.push_str(&format!("# {}\n{}", environment.environment, environment.pipeline));
            }
        }
        text
    }
}

/// The differences of two pipelines in Concourse's JSON, as a unified diff of their YAML; empty: there are none.
pub fn pipeline_diff(old: &Value, new: &Value) -> String {
    let text = |value: &Value| match value {
        Value::Null => String::new(),
        value => crate::yaml::emit(value),
    };
    let (before, after) = (text(old), text(new));
    if before == after {
        return String::new();
    }
    TextDiff::from_lines(&before, &after).unified_diff().context_radius(3).header("old", "new").to_string()
}
