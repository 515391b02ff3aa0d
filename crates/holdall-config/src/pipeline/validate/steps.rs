//! What must hold for steps: names, resources, `passed`, local vars.

use std::collections::HashSet;

use holdall_engine::pipeline::{AcrossStep, GetStep, Step};

use crate::diagnostic::Diagnostic;
use crate::yaml::{Node, Reader};

use super::super::decode::Decoded;
use super::super::emit::{hooks, job_hooks};
use super::super::identifier::{Identifier, identifier};
use super::{Index, at, item_span, judge, missing};

/// Checks the steps of all jobs.
pub(super) fn check(reader: &mut Reader, decoded: &Decoded<'_>, index: &Index<'_>) {
    let prototypes = decoded.pipeline.prototypes.iter().map(|prototype| prototype.name.as_str()).collect();
    for (i, (job, node)) in decoded.pipeline.jobs.iter().zip(&decoded.jobs).enumerate() {
        let path = if job.name.is_empty() { format!("jobs[{i}]") } else { format!("jobs.{}", job.name) };
        let mut checker =
            Checker { reader, index, prototypes: &prototypes, got: HashSet::new(), scopes: vec![HashSet::new()] };
        checker.list(&job.plan, at(node, "plan"), &format!("{path}.plan"));
        for (name, hook) in job_hooks(&job.hooks) {
            checker.step(hook, at(node, name), &format!("{path}.{name}"), false);
        }
    }
}

struct Checker<'a, 'p> {
    reader: &'a mut Reader,
    index: &'a Index<'p>,
    prototypes: &'a HashSet<&'p str>,
    /// The names of the gets so far; each may be given once in a job.
    got: HashSet<&'p str>,
    /// The local vars of each scope, the innermost last.
    scopes: Vec<HashSet<&'p str>>,
}

impl<'p> Checker<'_, 'p> {
    fn list(&mut self, steps: &'p [Step], node: &Node, path: &str) {
        for (i, step) in steps.iter().enumerate() {
            let node = node.as_list().and_then(|nodes| nodes.get(i)).unwrap_or(node);
            self.step(step, node, &format!("{path}[{i}]"), false);
        }
    }

    /// Checks a step; `across` says that it stands directly under an `across`.
    fn step(&mut self, step: &'p Step, node: &Node, path: &str, across: bool) {
        if let Some((name, inner, hook)) = hooks(step) {
            self.step(inner, node, path, across);
            return self.step(hook, at(node, name), &format!("{path}.{name}"), false);
        }
        match step {
            Step::Get(get) => {
                let path = format!("{path}.get");
                self.name(&get.name, node, "get", &path, across);
                self.get(get, node, &path);
            }
            Step::Put(put) => {
                let path = format!("{path}.put");
                self.name(&put.name, node, "put", &path, across);
                self.resource(put.resource_name(), node, "put", &path);
            }
            Step::Task(task) => self.name(&task.name, node, "task", &format!("{path}.task"), across),
            Step::Run(run) => {
                let text = |key: &str| run.get(key).and_then(|value| value.as_str()).unwrap_or_default();
                let path = format!("{path}.run");
                match identifier(text("run")) {
                    Identifier::Fine => {}
                    odd => self.reader.error("identifier", at(node, "run").span, &path, odd.to_string()),
                }
                let prototype = text("type");
                if !self.prototypes.contains(prototype) {
                    let message = format!("unknown prototype '{prototype}'");
                    let known = self.prototypes.iter().copied();
                    let span = at(node, "type").span;
                    missing(self.reader, "unknown-prototype", span, &path, message, prototype, known);
                }
            }
            Step::SetPipeline(set) => {
                self.name(&set.name, node, "set_pipeline", &format!("{path}.set_pipeline"), across);
            }
            Step::LoadVar(load) => {
                let path = format!("{path}.load_var");
                self.name(&load.name, node, "load_var", &path, across);
                self.declare(&load.name, at(node, "load_var"), &path);
            }
            Step::Try(inner) => self.step(inner, at(node, "try"), &format!("{path}.try"), false),
            Step::Do(steps) => self.list(steps, at(node, "do"), &format!("{path}.do")),
            Step::InParallel(parallel) => {
                let node = at(node, "in_parallel");
                let (node, path) = match node.as_map() {
                    Some(_) => (at(node, "steps"), format!("{path}.in_parallel.steps")),
                    None => (node, format!("{path}.in_parallel")),
                };
                self.list(&parallel.steps, node, &path);
            }
            Step::Across(step) => self.across(step, node, path),
            Step::Attempts(inner, _) | Step::Timeout(inner, _) => self.step(inner, node, path, across),
            Step::OnSuccess(..) | Step::OnFailure(..) | Step::OnError(..) | Step::OnAbort(..) | Step::Ensure(..) => {}
        }
    }

    /// Judges the name of a step. Under an `across` the names of tasks and the like may hold vars; which ones do,
    /// the reference decides by looking for these words in the whole context (validation, section 24).
    fn name(&mut self, name: &str, node: &Node, key: &str, path: &str, across: bool) {
        let context = format!("{key}({name})");
        let spared = across && !name.is_empty() && (context.contains("task") || context.contains("set_pipeline"));
        let readable = node.get(key).is_none_or(|node| node.is_null() || node.as_str().is_some());
        if readable && !spared {
            judge(self.reader, name, node, key, path);
        }
    }

    fn resource(&mut self, name: &str, node: &Node, key: &str, path: &str) {
        if self.index.resources.contains(name) {
            return;
        }
        let place = if node.get("resource").is_some() { "resource" } else { key };
        let message = format!("unknown resource '{name}'");
        let known = self.index.resources.iter().copied();
        missing(self.reader, "unknown-resource", at(node, place).span, path, message, name, known);
    }

    fn get(&mut self, get: &'p GetStep, node: &Node, path: &str) {
        if !self.got.insert(&get.name) {
            self.reader.error("repeated-name", at(node, "get").span, path, "repeated name");
        }
        let resource = get.resource_name();
        self.resource(resource, node, "get", path);
        for (i, entry) in get.passed.iter().enumerate() {
            let span = item_span(node, "passed", i);
            let path = format!("{}.passed[{i}]", path.trim_end_matches(".get"));
            let Some(jobs) = self.index.matching(entry) else { continue };
            if jobs.is_empty() {
                let message = format!("no matching job(s) for '{entry}'");
                let known = self.index.jobs.keys().copied();
                missing(self.reader, "unknown-job", span, &path, message, entry, known);
            }
            for job in jobs {
                if !self.index.touched[job].contains(resource) {
                    let name = self.index.names[job];
                    let message = format!("job '{name}' does not interact with resource '{resource}'");
                    let found = Diagnostic::error("passed", message).at(span).under(path.as_str());
                    self.reader.push(found.help(format!("'{name}' must get or put '{resource}' for that")));
                }
            }
        }
    }

    fn across(&mut self, step: &'p AcrossStep, node: &Node, path: &str) {
        self.scopes.push(HashSet::new());
        for (i, var) in step.vars.iter().enumerate() {
            let list = at(node, "across");
            let place = list.as_list().and_then(|items| items.get(i)).unwrap_or(list);
            self.declare(&var.var, place, &format!("{path}.across[{i}]"));
        }
        self.step(&step.step, node, path, true);
        self.scopes.pop();
    }

    /// Adds a local var: once in a scope; one of an outer scope is hidden, with a warning.
    fn declare(&mut self, name: &'p str, node: &Node, path: &str) {
        let (inner, outer) =
            self.scopes.split_last_mut().map_or((None, &[][..]), |(inner, outer)| (Some(inner), &*outer));
        if outer.iter().any(|scope| scope.contains(name)) {
            self.reader.warning("shadowed-var", node.span, path, format!("shadows local var '{name}'"));
        }
        if inner.is_some_and(|scope| !scope.insert(name)) {
            self.reader.error("repeated-var", node.span, path, "repeated var name");
        }
    }
}
