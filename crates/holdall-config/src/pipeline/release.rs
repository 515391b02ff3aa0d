//! The built-in release types: `deployment-bag`, `deployment`, `current-bag` and `lock` (release model, sections 4
//! and 5). A pipeline that brings a type of the same name means its own, and nothing is checked.

use std::collections::{HashMap, HashSet};

use holdall_engine::pipeline::{PutStep, Step};
use serde_json::Value;

use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::yaml::{Fields, Node, Reader};

use super::decode::Decoded;
use super::emit::{hooks, job_hooks};
use super::validate::at;

/// What a put of a lock can ask for. The first three are conditions of the job.
const LOCK_ACTIONS: [&str; 5] = ["acquire", "require", "during", "release", "force_release"];

/// What a put of a `deployment-bag` can ask for.
const BAG_ACTIONS: [&str; 2] = ["pack", "tag"];

/// A release type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    DeploymentBag,
    Deployment,
    CurrentBag,
    Lock,
}

/// Checks the sources of release types, and the steps on them.
pub(super) fn check(reader: &mut Reader, decoded: &Decoded<'_>) {
    let pipeline = &decoded.pipeline;
    let own: HashSet<&str> = pipeline.resource_types.iter().map(|kind| kind.name.as_str()).collect();
    let mut kinds: HashMap<&str, Kind> = HashMap::new();
    for (resource, node) in pipeline.resources.iter().zip(&decoded.resources) {
        let kind = match resource.kind.as_str() {
            kind if own.contains(kind) => continue,
            "deployment-bag" => Kind::DeploymentBag,
            "deployment" => Kind::Deployment,
            "current-bag" => Kind::CurrentBag,
            "lock" => Kind::Lock,
            _ => continue,
        };
        kinds.insert(&resource.name, kind);
        let known: &[&'static str] = if kind == Kind::Lock { &["environment"] } else { &["system", "environment"] };
        source(reader, node, &format!("resources.{}.source", resource.name), known);
    }
    if kinds.is_empty() {
        return;
    }
    for (job, node) in pipeline.jobs.iter().zip(&decoded.jobs) {
        let mut walk = Walk { reader, kinds: &kinds };
        let plan = at(node, "plan");
        for (i, step) in job.plan.iter().enumerate() {
            let node = plan.as_list().and_then(|nodes| nodes.get(i)).unwrap_or(plan);
            walk.step(step, node, &format!("jobs.{}.plan[{i}]", job.name), i == 0);
        }
        for (name, hook) in job_hooks(&job.hooks) {
            walk.step(hook, at(node, name), &format!("jobs.{}.{name}", job.name), false);
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

struct Walk<'a, 'p> {
    reader: &'a mut Reader,
    kinds: &'a HashMap<&'p str, Kind>,
}

impl Walk<'_, '_> {
    /// Checks a step; `top` says that it is the first of its plan and has no modifiers.
    fn step(&mut self, step: &Step, node: &Node, path: &str, top: bool) {
        if let Some((name, inner, hook)) = hooks(step) {
            self.step(inner, node, path, false);
            return self.step(hook, at(node, name), &format!("{path}.{name}"), false);
        }
        match step {
            Step::Put(put) => {
                if let Some(kind) = self.kinds.get(put.resource_name()) {
                    self.put(*kind, put, node, path, top);
                }
            }
            Step::Get(get) if self.kinds.get(get.resource_name()) == Some(&Kind::Lock) => {
                let found = Diagnostic::error("lock", format!("'{}' is a lock, and a lock cannot be got", get.name))
                    .at(at(node, "get").span)
                    .under(format!("{path}.get"));
                self.reader.push(found.help("put it with `params: {require: true}` at the top of the plan"));
            }
            Step::Get(get) if self.kinds.contains_key(get.resource_name()) => {
                let services = node.get("params").and_then(|params| params.get("services"));
                if let Some(services) = services.filter(|services| !services.is_null()) {
                    self.reader.strings(services, &format!("{path}.get.params.services"));
                }
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

    fn put(&mut self, kind: Kind, put: &PutStep, node: &Node, path: &str, top: bool) {
        let path = format!("{path}.put");
        match kind {
            Kind::Deployment => {}
            Kind::CurrentBag => {
                let found =
                    Diagnostic::error("current-bag", "a current-bag cannot be put: it follows from deployments");
                self.reader.push(found.at(at(node, "put").span).under(path));
            }
            Kind::DeploymentBag => {
                self.action("bag", &BAG_ACTIONS, put, at(node, "params"), &path);
            }
            Kind::Lock => self.lock(put, at(node, "params"), &path, top),
        }
    }

    /// What a put asks for: one of `actions`, set to true. Reports anything else.
    fn action<'k>(
        &mut self,
        what: &'static str,
        actions: &[&'k str],
        put: &PutStep,
        params: &Node,
        path: &str,
    ) -> Option<&'k str> {
        let path = format!("{path}.params");
        let said = |value: Option<&Value>| value.is_some_and(|value| *value != false && !value.is_null());
        let asked: Vec<&str> = actions.iter().copied().filter(|action| said(put.params.get(*action))).collect();
        let mut refuse = |key: &str, message: String, help: String| {
            self.reader
                .push(Diagnostic::error("params", message).at(at(params, key).span).under(path.as_str()).help(help));
        };
        for key in asked.iter().filter(|key| put.params[**key] != true) {
            refuse(key, format!("'{key}' is true or false"), format!("write `{key}: true`"));
        }
        match asked[..] {
            [one] => return Some(one),
            [] => {
                refuse("", format!("a put of a {what} must say what to do"), format!("one of: {}", actions.join(", ")))
            }
            [_, second, ..] => refuse(
                second,
                format!("a put of a {what} does one thing, not {}", asked.join(" and ")),
                "write a step for each".into(),
            ),
        }
        None
    }

    /// A put of a lock: one action, `mode` beside `during`, conditions at the top only.
    fn lock(&mut self, put: &PutStep, params: &Node, path: &str, top: bool) {
        let mut known = true;
        for key in put.params.keys().filter(|key| *key != "mode" && !LOCK_ACTIONS.contains(&key.as_str())) {
            known = false;
            let help = match did_you_mean(key, LOCK_ACTIONS.into_iter().chain(["mode"])) {
                Some(meant) => format!("did you mean '{meant}'?"),
                None => format!("known here: {}, mode", LOCK_ACTIONS.join(", ")),
            };
            self.refuse(params, key, path, format!("a lock does not know '{key}'"), &help);
        }
        if !known {
            return;
        }
        let Some(action) = self.action("lock", &LOCK_ACTIONS, put, params, path) else { return };
        match put.params.get("mode").filter(|mode| !mode.is_null()) {
            None => {}
            Some(_) if action != "during" => self.refuse(
                params,
                "mode",
                path,
                "'mode' goes with 'during' only".into(),
                "a deployment holds its lock alone: leave it out",
            ),
            Some(mode) if mode != "shared" && mode != "exclusive" => {
                self.refuse(params, "mode", path, format!("unknown mode {mode}"), "'shared' or 'exclusive'");
            }
            Some(_) => {}
        }
        if LOCK_ACTIONS[..3].contains(&action) && !top {
            self.refuse(
                params,
                action,
                path,
                format!("'{action}' can only stand at the top of a plan: it is a condition for the build to start"),
                "make the put the first step of the job's plan, without modifiers",
            );
        }
    }

    fn refuse(&mut self, params: &Node, key: &str, path: &str, message: String, help: &str) {
        let found = Diagnostic::error("lock", message).at(at(params, key).span).under(format!("{path}.params"));
        self.reader.push(found.help(help));
    }
}
