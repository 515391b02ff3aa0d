//! Environments, and what they are made of.

use std::collections::BTreeMap;

use holdall_engine::pipeline::Step;

use super::super::model::{DeployJob, Environment, Override, Periodic, Plan, Promotion, Stop, Suite, Superseding};
use super::{LATER, check_every, duration, judge_name, later, object, plain_name, word};
use crate::diagnostic::Diagnostic;
use crate::pipeline::step::steps;
use crate::yaml::{Node, Reader, Yaml};

/// The signals that a step can be stopped with.
const SIGNALS: [&str; 6] = ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2"];

/// The shortest interval of something periodic, in seconds.
const SHORTEST_PERIOD: i64 = 10;

pub(super) fn environments(reader: &mut Reader, node: &Node, path: &str) -> Option<Vec<Environment>> {
    let map = reader.map(node, path)?;
    if map.entries.is_empty() {
        reader.error("no-environments", node.span, path, "a system needs at least one environment");
    }
    let mut environments = Vec::new();
    for entry in &map.entries {
        let path = format!("{path}.{}", entry.key);
        let named = judge_name(reader, &entry.key, entry.key_span, &path);
        if let Some(environment) = environment(reader, &entry.key, &entry.value, &path).filter(|_| named) {
            environments.push(environment);
        }
    }
    Some(environments)
}

fn environment(reader: &mut Reader, name: &str, node: &Node, path: &str) -> Option<Environment> {
    let mut fields = reader.fields(node, path)?;
    let packs = fields.optional(reader, "pack", Reader::bool).unwrap_or(false);
    let after = fields.optional(reader, "after", one_or_more).unwrap_or_default();
    if packs && fields.has("after") {
        reader.push(
            Diagnostic::error("pack-and-after", format!("{name} has both 'pack: true' and 'after'"))
                .at(fields.span)
                .under(path)
                .help("an environment packs bags of its own, or comes after others: leave one of them out"),
        );
    } else if !packs && !fields.has("after") {
        reader.push(
            Diagnostic::error("no-pack-no-after", format!("{name} has neither 'pack: true' nor 'after'"))
                .at(fields.span)
                .under(path)
                .help("say 'pack: true' where bags are packed, or 'after: NAME' for what comes before it"),
        );
    } else if !packs && after.is_empty() {
        reader.error("empty-after", fields.span, path, format!("'after' of {name} names no environment"));
    }
    let services = fields.optional(reader, "services", overrides).unwrap_or_default();
    if !packs && let Some(node) = fields.get("services") {
        reader.push(
            Diagnostic::error("override-without-pack", format!("{name} packs no bags, so its services come from them"))
                .at(node.span)
                .under(format!("{path}.services"))
                .help("say where the services come from in the environment that packs"),
        );
    }
    let environment = Environment {
        name: name.to_owned(),
        old_name: fields.optional(reader, "old_name", plain_name),
        team: fields.optional(reader, "team", plain_name).unwrap_or_else(|| name.to_owned()),
        pack: packs,
        after,
        services,
        stop: fields.optional(reader, "stop", stop),
        // They are put in before anything is read.
        vars: fields.optional(reader, "vars", object).unwrap_or_default(),
        deploy: fields.required(reader, "deploy", deploy).unwrap_or_default(),
        suites: fields.optional(reader, "tests", suites).unwrap_or_default(),
        periodic: fields.optional(reader, "periodic", periodics).unwrap_or_default(),
        on_start: fields.optional(reader, "on_start", plan),
        on_passed: fields.optional(reader, "on_passed", plan),
        on_failed: fields.optional(reader, "on_failed", plan),
        tags: fields.optional(reader, "tags", Reader::strings).unwrap_or_default(),
        timeout: fields.optional(reader, "timeout", duration),
        superseding: fields
            .optional(reader, "superseding", |reader, node, path| {
                word(reader, node, path, &[("latest", Superseding::Latest), ("queue", Superseding::Queue)])
            })
            .unwrap_or_default(),
        promotion: fields
            .optional(reader, "promotion", |reader, node, path| {
                word(reader, node, path, &[("automatic", Promotion::Automatic), ("manual", Promotion::Manual)])
            })
            .unwrap_or_default(),
        allow: fields.optional(reader, "lock", lock).unwrap_or_default(),
    };
    for (key, what) in LATER {
        later(reader, &mut fields, key, what);
    }
    later(reader, &mut fields, "resource_types", "resource types of one's own");
    later(reader, &mut fields, "var_sources", "credential managers");
    fields.finish(reader);
    Some(environment)
}

/// A name, or a list of names.
fn one_or_more(reader: &mut Reader, node: &Node, path: &str) -> Option<Vec<String>> {
    match node.value {
        Yaml::String(_) => reader.name(node, path).map(|name| vec![name]),
        _ => reader.list(node, path, Reader::name),
    }
}

fn overrides(reader: &mut Reader, node: &Node, path: &str) -> Option<BTreeMap<String, Override>> {
    let map = reader.map(node, path)?;
    let mut found = BTreeMap::new();
    for entry in &map.entries {
        let path = format!("{path}.{}", entry.key);
        let Some(mut fields) = reader.fields(&entry.value, &path) else { continue };
        let over = Override {
            source: fields.optional(reader, "source", object).unwrap_or_default(),
            trigger: fields.optional(reader, "trigger", Reader::bool),
            check_every: fields.optional(reader, "check_every", check_every),
        };
        fields.finish(reader);
        found.insert(entry.key.clone(), over);
    }
    Some(found)
}

fn stop(reader: &mut Reader, node: &Node, path: &str) -> Option<Stop> {
    let mut fields = reader.fields(node, path)?;
    let signal = fields.optional(reader, "signal", |reader, node, path| {
        let words: Vec<(&str, &str)> = SIGNALS.iter().map(|&signal| (signal, signal)).collect();
        word(reader, node, path, &words).map(str::to_owned)
    });
    let grace = fields.required(reader, "grace", duration);
    fields.finish(reader);
    Some(Stop { signal: signal.unwrap_or_else(|| "TERM".to_owned()), grace: grace? })
}

fn lock(reader: &mut Reader, node: &Node, path: &str) -> Option<Vec<String>> {
    let mut fields = reader.fields(node, path)?;
    let allow = fields.required(reader, "allow", |reader, node, path| {
        reader.list(node, path, |reader, node, path| {
            let name = reader.name(node, path)?;
            let parts: Vec<&str> = name.split('/').collect();
            if parts.len() == 2 && parts.iter().all(|part| !part.is_empty()) {
                return Some(name);
            }
            reader.push(
                Diagnostic::error("bad-pipeline-name", format!("'{name}' is not the name of a pipeline"))
                    .at(node.span)
                    .under(path)
                    .help("write TEAM/PIPELINE"),
            );
            None
        })
    });
    fields.finish(reader);
    allow
}

/// Steps as a list, or a map with `plan` and `services`.
fn plan(reader: &mut Reader, node: &Node, path: &str) -> Option<Plan> {
    match node.value {
        Yaml::Map(_) => {
            let mut fields = reader.fields(node, path)?;
            let found = plan_fields(reader, &mut fields);
            fields.finish(reader);
            found
        }
        _ => Some(Plan { steps: plan_steps(reader, node, path)?, services: None }),
    }
}

fn plan_fields(reader: &mut Reader, fields: &mut crate::yaml::Fields<'_>) -> Option<Plan> {
    let services = fields.optional(reader, "services", |reader, node, path| reader.list(node, path, Reader::name));
    let steps = fields.required(reader, "plan", plan_steps)?;
    Some(Plan { steps, services })
}

fn plan_steps(reader: &mut Reader, node: &Node, path: &str) -> Option<Vec<Step>> {
    let found = steps(reader, node, path, 1)?;
    if found.is_empty() {
        reader.push(
            Diagnostic::error("empty-plan", "this plan has no steps")
                .at(node.span)
                .under(path)
                .help("leave it out, or say what it does"),
        );
    }
    Some(found)
}

/// A list of steps; a map with `plan`; or a map of named lists, one job each.
fn deploy(reader: &mut Reader, node: &Node, path: &str) -> Option<Vec<DeployJob>> {
    match &node.value {
        Yaml::Map(map) if map.get("plan").is_none() => {
            if map.entries.is_empty() {
                reader.error("empty-plan", node.span, path, "this plan has no steps");
            }
            let mut found = Vec::new();
            for entry in &map.entries {
                let path = format!("{path}.{}", entry.key);
                judge_name(reader, &entry.key, entry.key_span, &path);
                if let Some(plan) = plan(reader, &entry.value, &path) {
                    found.push(DeployJob { name: Some(entry.key.clone()), plan });
                }
            }
            Some(found)
        }
        _ => Some(vec![DeployJob { name: None, plan: plan(reader, node, path)? }]),
    }
}

fn suites(reader: &mut Reader, node: &Node, path: &str) -> Option<Vec<Suite>> {
    let map = reader.map(node, path)?;
    let mut found = Vec::new();
    for entry in &map.entries {
        let path = format!("{path}.{}", entry.key);
        judge_name(reader, &entry.key, entry.key_span, &path);
        let suite = match entry.value.value {
            Yaml::Map(_) => {
                let Some(mut fields) = reader.fields(&entry.value, &path) else { continue };
                let own_job = fields.optional(reader, "own_job", Reader::bool).unwrap_or(false);
                let plan = plan_fields(reader, &mut fields);
                fields.finish(reader);
                plan.map(|plan| Suite { name: entry.key.clone(), own_job, plan })
            }
            _ => plan_steps(reader, &entry.value, &path).map(|steps| Suite {
                name: entry.key.clone(),
                own_job: false,
                plan: Plan { steps, services: None },
            }),
        };
        found.extend(suite);
    }
    Some(found)
}

fn periodics(reader: &mut Reader, node: &Node, path: &str) -> Option<Vec<Periodic>> {
    let map = reader.map(node, path)?;
    let mut found = Vec::new();
    for entry in &map.entries {
        let path = format!("{path}.{}", entry.key);
        judge_name(reader, &entry.key, entry.key_span, &path);
        let Some(mut fields) = reader.fields(&entry.value, &path) else { continue };
        let every = fields.required(reader, "every", |reader, node, path| {
            let every = duration(reader, node, path)?;
            if every.span.0 < SHORTEST_PERIOD * 1_000_000 {
                reader.push(
                    Diagnostic::error("too-often", format!("every {} is too often", every.text))
                        .at(node.span)
                        .under(path)
                        .help(format!("at most every {SHORTEST_PERIOD}s")),
                );
                return None;
            }
            Some(every)
        });
        let plan = plan_fields(reader, &mut fields);
        fields.finish(reader);
        if let (Some(every), Some(plan)) = (every, plan) {
            found.push(Periodic { name: entry.key.clone(), every, plan });
        }
    }
    Some(found)
}
