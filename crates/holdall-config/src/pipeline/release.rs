//! The built-in release types: `deployment-bag`, `deployment`, `current-bag` and `lock` (release model, sections 4
//! and 5). A pipeline that brings a type of the same name means its own, and nothing is checked.

use std::collections::HashMap;

use holdall_engine::pipeline::{PutStep, Resource, Step};

use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::yaml::{Fields, Node, Reader};

use super::decode::Decoded;
use super::emit::{hooks, job_hooks};
use super::validate::at;

/// What a put of a lock can ask for. The first three are conditions of the job.
const ACTIONS: [&str; 5] = ["acquire", "require", "during", "release", "force_release"];

/// Checks the sources of release types, and the puts of locks.
pub(super) fn check(reader: &mut Reader, decoded: &Decoded<'_>) {
    let pipeline = &decoded.pipeline;
    let own = |kind: &str| pipeline.resource_types.iter().any(|other| other.name == kind);
    let mut locks: HashMap<&str, &Resource> = HashMap::new();
    for (resource, node) in pipeline.resources.iter().zip(&decoded.resources) {
        let known: &[&'static str] = match resource.kind.as_str() {
            kind if own(kind) => continue,
            "deployment-bag" | "deployment" | "current-bag" => &["system", "environment"],
            "lock" => &["environment"],
            _ => continue,
        };
        if resource.kind == "lock" {
            locks.insert(&resource.name, resource);
        }
        source(reader, node, &format!("resources.{}.source", resource.name), known);
    }
    if locks.is_empty() {
        return;
    }
    for (job, node) in pipeline.jobs.iter().zip(&decoded.jobs) {
        let mut puts = Puts { reader, locks: &locks };
        let plan = at(node, "plan");
        // The conditions are the puts of locks that the plan begins with.
        let mut top = true;
        for (i, step) in job.plan.iter().enumerate() {
            let node = plan.as_list().and_then(|nodes| nodes.get(i)).unwrap_or(plan);
            top &= matches!(step, Step::Put(put) if puts.is_condition(put));
            puts.step(step, node, &format!("jobs.{}.plan[{i}]", job.name), top);
        }
        for (name, hook) in job_hooks(&job.hooks) {
            puts.step(hook, at(node, name), &format!("jobs.{}.{name}", job.name), false);
        }
    }
}

/// `source` of a release type: exactly these keys, each a text.
fn source(reader: &mut Reader, resource: &Node, path: &str, known: &[&'static str]) {
    let source = at(resource, "source");
    let empty = crate::yaml::Map::default();
    let map = resource.get("source").and_then(Node::as_map).unwrap_or(&empty);
    let mut fields = Fields::new(map, source.span, path);
    for key in known {
        fields.required(reader, key, Reader::name);
    }
    fields.finish(reader);
}

struct Puts<'a, 'p> {
    reader: &'a mut Reader,
    locks: &'a HashMap<&'p str, &'p Resource>,
}

impl Puts<'_, '_> {
    /// Whether it is a put of a lock that asks for a condition of the job.
    fn is_condition(&self, put: &PutStep) -> bool {
        self.locks.contains_key(put.resource_name()) && ACTIONS[..3].iter().any(|key| put.params.contains_key(*key))
    }

    fn step(&mut self, step: &Step, node: &Node, path: &str, top: bool) {
        if let Some((name, inner, hook)) = hooks(step) {
            self.step(inner, node, path, false);
            return self.step(hook, at(node, name), &format!("{path}.{name}"), false);
        }
        match step {
            Step::Put(put) if self.locks.contains_key(put.resource_name()) => self.put(put, node, path, top),
            Step::Get(get) if self.locks.contains_key(get.resource_name()) => {
                let found = Diagnostic::error("lock", format!("'{}' is a lock, and a lock cannot be got", get.name))
                    .at(at(node, "get").span)
                    .under(format!("{path}.get"));
                self.reader.push(found.help("put it with `params: {require: true}` at the top of the plan"));
            }
            Step::Try(inner) => self.step(inner, at(node, "try"), &format!("{path}.try"), false),
            Step::Do(steps) => self.list(steps, at(node, "do"), &format!("{path}.do")),
            Step::InParallel(parallel) => {
                let node = at(node, "in_parallel");
                self.list(&parallel.steps, at(node, "steps"), &format!("{path}.in_parallel.steps"));
            }
            Step::Across(across) => self.step(&across.step, node, path, false),
            Step::Attempts(inner, _) | Step::Timeout(inner, _) => self.step(inner, node, path, false),
            _ => {}
        }
    }

    fn list(&mut self, steps: &[Step], node: &Node, path: &str) {
        for (i, step) in steps.iter().enumerate() {
            let node = node.as_list().and_then(|nodes| nodes.get(i)).unwrap_or(node);
            self.step(step, node, &format!("{path}[{i}]"), false);
        }
    }

    /// A put of a lock: one action, and `mode` beside `during`.
    fn put(&mut self, put: &PutStep, node: &Node, path: &str, top: bool) {
        let params = at(node, "params");
        let path = format!("{path}.put.params");
        let place = |key: &str| at(params, key).span;
        let asked: Vec<&str> = ACTIONS.into_iter().filter(|action| put.params.contains_key(*action)).collect();
        let mut refuse = |key: &str, message: String, help: &str| {
            let found = Diagnostic::error("lock", message).at(place(key)).under(path.as_str());
            self.reader.push(if help.is_empty() { found } else { found.help(help) });
        };
        for key in put.params.keys().filter(|key| *key != "mode" && !ACTIONS.contains(&key.as_str())) {
            let meant = did_you_mean(key, ACTIONS.into_iter().chain(["mode"]));
            let help =
                meant.map_or(format!("known here: {}, mode", ACTIONS.join(", ")), |m| format!("did you mean '{m}'?"));
            refuse(key, format!("a lock does not know '{key}'"), &help);
        }
        match asked[..] {
            [] if put.params.keys().any(|key| key != "mode") => {}
            [] => refuse("", "a put of a lock must say what to do".into(), &format!("one of: {}", ACTIONS.join(", "))),
            [_] => {}
            [_, second, ..] => {
                refuse(second, format!("a put of a lock does one thing, not {}", asked.join(" and ")), "")
            }
        }
        for key in asked.iter().filter(|key| put.params[**key] != true) {
            refuse(key, format!("'{key}' can only be true"), "leave the step out for anything else");
        }
        match put.params.get("mode") {
            None => {}
            Some(_) if !asked.contains(&"during") => {
                refuse("mode", "'mode' goes with 'during' only: a deployment holds the lock alone".into(), "");
            }
            Some(mode) if mode != "shared" && mode != "exclusive" => {
                refuse("mode", format!("unknown mode {mode}"), "'shared' or 'exclusive'");
            }
            Some(_) => {}
        }
        if let Some(key) = asked.iter().find(|action| ACTIONS[..3].contains(action) && !top) {
            refuse(
                key,
                format!("'{key}' can only stand at the top of a plan: it is a condition for the build to start"),
                "move the put to the start of the job's plan, without modifiers, before everything but other such puts",
            );
        }
    }
}
