//! What must hold between the parts of a pipeline (reference, section 1.12).

mod cycle;
mod steps;

use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use holdall_engine::pipeline::{Job, Pipeline, Resource, Step};
use holdall_engine::plan::{ReleaseType, job_inputs};

use crate::diagnostic::{Diagnostic, Span, did_you_mean};
use crate::glob::{Glob, is_pattern};
use crate::yaml::{Node, Reader};

use super::decode::Decoded;
use super::emit::{hooks, job_hooks};
use super::identifier::{Identifier, identifier};
use super::{release, var_sources};

/// Reports everything that is wrong between the parts of a pipeline.
pub(super) fn pipeline(reader: &mut Reader, decoded: &Decoded<'_>) {
    let index = Index::new(&decoded.pipeline.jobs, &decoded.pipeline.resources);
    groups(reader, decoded, &index);
    resources(reader, decoded, &index);
    types(reader, decoded);
    var_sources::check(reader, &decoded.pipeline.var_sources, &decoded.var_sources);
    jobs(reader, decoded);
    steps::check(reader, decoded, &index);
    display(reader, decoded);
    cycle::check(reader, decoded, &index);
    release::check(reader, decoded);
    if index.gave_up() {
        let message = format!("globs times jobs are more than {MAX_COMPARISONS}");
        reader.push(Diagnostic::error("too-many-globs", message).at(decoded.span));
    }
}

/// How often globs may be held against job names in one pipeline, so that none takes long to check.
const MAX_COMPARISONS: usize = 2_000_000;

/// What jobs and resources there are, and which job touches which resource.
pub(super) struct Index<'p> {
    pub jobs: HashMap<&'p str, usize>,
    pub resources: HashSet<&'p str>,
    /// For each job, the resources of its gets and puts.
    pub touched: Vec<HashSet<&'p str>>,
    /// For each job, the `passed` entries of its gets.
    pub passed: Vec<Vec<&'p str>>,
    /// The names of the jobs, by position.
    pub names: Vec<&'p str>,
    /// How often a glob may still be held against a job's name.
    comparisons: Cell<usize>,
}

impl<'p> Index<'p> {
    fn new(jobs: &'p [Job], resources: &'p [Resource]) -> Index<'p> {
        let mut index = Index {
            jobs: HashMap::new(),
            resources: resources.iter().map(|resource| resource.name.as_str()).collect(),
            touched: Vec::new(),
            passed: Vec::new(),
            names: jobs.iter().map(|job| job.name.as_str()).collect(),
            comparisons: Cell::new(MAX_COMPARISONS),
        };
        for (at, job) in jobs.iter().enumerate() {
            index.jobs.entry(&job.name).or_insert(at);
            let (mut touched, mut passed) = (HashSet::new(), Vec::new());
            for step in job.plan.iter().chain(job_hooks(&job.hooks).map(|(_, hook)| hook)) {
                cores(step, &mut |step| match step {
                    Step::Get(get) => {
                        touched.insert(get.resource_name());
                        passed.extend(get.passed.iter().map(String::as_str));
                    }
                    Step::Put(put) => {
                        touched.insert(put.resource_name());
                    }
                    _ => {}
                });
            }
            index.touched.push(touched);
            index.passed.push(passed);
        }
        index
    }

    /// The jobs that a `passed` entry means: a name, or a glob. `None` once too many globs were held against too
    /// many jobs.
    pub(super) fn matching(&self, entry: &str) -> Option<Vec<usize>> {
        if !is_pattern(entry) {
            return Some(self.jobs.get(entry).copied().into_iter().collect());
        }
        match Glob::of_passed(entry) {
            Some(glob) => self.matched_by(&glob),
            None => Some(Vec::new()),
        }
    }

    /// The jobs that a glob matches; `None` once too many globs were held against too many jobs.
    fn matched_by(&self, glob: &Glob) -> Option<Vec<usize>> {
        let left = self.comparisons.get().checked_sub(self.names.len());
        self.comparisons.set(left.unwrap_or(0));
        left?;
        Some((0..self.names.len()).filter(|at| glob.matches(self.names[*at])).collect())
    }

    /// Whether [`Index::matching`] has given up.
    fn gave_up(&self) -> bool {
        self.comparisons.get() < self.names.len()
    }
}

/// Calls `visit` for each core step, hooks included.
pub(crate) fn cores<'p>(step: &'p Step, visit: &mut impl FnMut(&'p Step)) {
    match step {
        Step::Try(inner) | Step::Attempts(inner, _) | Step::Timeout(inner, _) => cores(inner, visit),
        Step::Across(across) => cores(&across.step, visit),
        Step::Do(steps) => steps.iter().for_each(|step| cores(step, visit)),
        Step::InParallel(parallel) => parallel.steps.iter().for_each(|step| cores(step, visit)),
        _ => match hooks(step) {
            Some((_, inner, hook)) => {
                cores(inner, visit);
                cores(hook, visit);
            }
            None => visit(step),
        },
    }
}

/// The node of a key, or of the whole if it is not there.
pub(super) fn at<'n>(node: &'n Node, key: &str) -> &'n Node {
    node.get(key).unwrap_or(node)
}

/// Judges a name, where one was given that could be read.
pub(super) fn judge(reader: &mut Reader, name: &str, node: &Node, key: &str, path: &str) {
    if node.get(key).is_some_and(|node| node.as_list().is_some() || node.as_map().is_some()) {
        return;
    }
    match identifier(name) {
        Identifier::Fine => {}
        empty @ Identifier::Empty => reader.error("identifier", at(node, key).span, path, empty.to_string()),
        odd @ Identifier::Odd(_) => reader.warning("identifier", at(node, key).span, path, odd.to_string()),
    }
}

/// Reports something that is not there, with the nearest that is.
pub(super) fn missing<'a>(
    reader: &mut Reader,
    code: &'static str,
    span: Span,
    path: &str,
    message: String,
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) {
    if reader.is_full() {
        return;
    }
    let found = Diagnostic::error(code, message).at(span).under(path);
    reader.push(match did_you_mean(name, known) {
        Some(meant) => found.help(format!("did you mean '{meant}'?")),
        None => found,
    });
}

/// Items of one or two sections that share a namespace: names and types are there, no name is there twice.
struct Names<'p> {
    seen: HashMap<&'p str, String>,
}

impl<'p> Names<'p> {
    fn new() -> Names<'p> {
        Names { seen: HashMap::new() }
    }

    fn check(&mut self, reader: &mut Reader, section: &str, at_index: usize, name: &'p str, node: &Node) -> String {
        let place = format!("{section}[{at_index}]");
        let path = if name.is_empty() { place.clone() } else { format!("{section}.{name}") };
        judge(reader, name, node, "name", &path);
        if name.is_empty() {
            reader.error("missing-key", node.span, &path, format!("{place} has no name"));
        } else if let Some(first) = self.seen.get(name) {
            let message = format!("{first} and {place} have the same name ('{name}')");
            reader.error("duplicate-name", at(node, "name").span, &path, message);
        } else {
            self.seen.insert(name, place);
        }
        path
    }
}

fn has_type(reader: &mut Reader, kind: &str, node: &Node, path: &str) {
    let readable = node.get("type").is_none_or(|node| node.as_list().is_none() && node.as_map().is_none());
    if kind.is_empty() && readable {
        reader.error("missing-key", node.span, path, format!("{path} has no type"));
    }
}

fn groups(reader: &mut Reader, decoded: &Decoded<'_>, index: &Index<'_>) {
    let pipeline = &decoded.pipeline;
    let resources: HashSet<&str> = pipeline.resources.iter().map(|resource| resource.name.as_str()).collect();
    let mut grouped = vec![false; pipeline.jobs.len()];
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for (i, (group, node)) in pipeline.groups.iter().zip(&decoded.groups).enumerate() {
        let name = group.name.as_str();
        let path = if name.is_empty() { format!("groups[{i}]") } else { format!("groups.{name}") };
        judge(reader, name, node, "name", &path);
        *counts.entry(name).or_default() += 1;
        if counts[name] == 2 {
            let times = pipeline.groups.iter().filter(|other| other.name == name).count();
            let message = format!("group '{name}' appears {times} times. Duplicate names are not allowed.");
            reader.error("duplicate-name", at(node, "name").span, &path, message);
        }
        for (j, pattern) in group.jobs.iter().enumerate() {
            let span = item_span(node, "jobs", j);
            let path = format!("{path}.jobs[{j}]");
            let Some(glob) = Glob::of_group(pattern) else {
                let message = format!("invalid glob expression '{pattern}' for group '{name}'");
                reader.error("glob", span, &path, message);
                continue;
            };
            let matched = match pattern.contains(['*', '?', '[', '{', '\\']) {
                true => index.matched_by(&glob),
                false => Some(index.jobs.get(pattern.as_str()).copied().into_iter().collect()),
            };
            let Some(matched) = matched else { continue };
            matched.iter().for_each(|job| grouped[*job] = true);
            if matched.is_empty() {
                let message = format!("no jobs match '{pattern}' for group '{name}'");
                let known = pipeline.jobs.iter().map(|job| job.name.as_str());
                missing(reader, "unknown-job", span, &path, message, pattern, known);
            }
        }
        for (j, resource) in group.resources.iter().enumerate().filter(|(_, r)| !resources.contains(r.as_str())) {
            let span = item_span(node, "resources", j);
            let message = format!("group '{name}' has unknown resource '{resource}'");
            let path = format!("{path}.resources[{j}]");
            missing(reader, "unknown-resource", span, &path, message, resource, resources.iter().copied());
        }
    }
    if pipeline.groups.is_empty() || index.gave_up() {
        return;
    }
    for ((job, node), _) in pipeline.jobs.iter().zip(&decoded.jobs).zip(&grouped).filter(|(_, grouped)| !**grouped) {
        let message = format!("job '{}' belongs to no group", job.name);
        reader.error("no-group", at(node, "name").span, &format!("jobs.{}", job.name), message);
    }
}

/// Where an item of a list is, or the next best place.
pub(super) fn item_span(node: &Node, key: &str, index: usize) -> Span {
    let list = at(node, key);
    list.as_list().and_then(|items| items.get(index)).map_or(list.span, |item| item.span)
}

fn resources(reader: &mut Reader, decoded: &Decoded<'_>, index: &Index<'_>) {
    let used: HashSet<&str> = index.touched.iter().flatten().copied().collect();
    let gets_bags = gets_bags(&decoded.pipeline);
    let mut names = Names::new();
    for (i, (resource, node)) in decoded.pipeline.resources.iter().zip(&decoded.resources).enumerate() {
        let path = names.check(reader, "resources", i, &resource.name, node);
        has_type(reader, &resource.kind, node, &path);
        if !gets_bags && !used.contains(resource.name.as_str()) {
            let message = format!("resource '{}' is not used", resource.name);
            let found = Diagnostic::error("unused", message).at(at(node, "name").span).under(path);
            reader.push(found.help("a resource is used by a get or a put; as a task's image or in a group it is not"));
        }
    }
}

/// Whether a pipeline gets bags: that gets the services in them, through resources that no step may name (release
/// model, section 4).
fn gets_bags(pipeline: &Pipeline) -> bool {
    let is_bag =
        |resource: &&Resource| ReleaseType::of(pipeline, resource).is_some_and(|kind| kind != ReleaseType::Lock);
    let bags: HashSet<&str> = pipeline.resources.iter().filter(is_bag).map(|resource| resource.name.as_str()).collect();
    !bags.is_empty() && pipeline.jobs.iter().flat_map(job_inputs).any(|get| bags.contains(get.resource_name()))
}

fn types(reader: &mut Reader, decoded: &Decoded<'_>) {
    let mut names = Names::new();
    let pipeline = &decoded.pipeline;
    for (section, items, nodes) in [
        ("resource_types", &pipeline.resource_types, &decoded.resource_types),
        ("prototypes", &pipeline.prototypes, &decoded.prototypes),
    ] {
        for (i, (item, node)) in items.iter().zip(nodes).enumerate() {
            let path = names.check(reader, section, i, &item.name, node);
            has_type(reader, &item.kind, node, &path);
        }
    }
}

fn jobs(reader: &mut Reader, decoded: &Decoded<'_>) {
    if decoded.pipeline.jobs.is_empty() && !decoded.has_jobs {
        let found = Diagnostic::error("no-jobs", "pipeline must contain at least one job").under("jobs");
        reader.push(found.at(decoded.span));
    }
    let mut names = Names::new();
    for (i, (job, node)) in decoded.pipeline.jobs.iter().zip(&decoded.jobs).enumerate() {
        let path = names.check(reader, "jobs", i, &job.name, node);
        retention(reader, job, node, &path);
    }
}

fn retention(reader: &mut Reader, job: &Job, node: &Node, path: &str) {
    let key = "build_logs_to_retain";
    if let Some(builds) = job.build_logs_to_retain {
        let span = at(node, key).span;
        let message = format!("{path}.build_logs_to_retain is deprecated. Use build_log_retention instead.");
        reader.warning("deprecated", span, path, message);
        if job.build_log_retention.is_some() {
            let message = format!("{path} can't use both build_log_retention and build_logs_to_retain");
            reader.error("retention", span, path, message);
        }
        if builds < 0 {
            reader.error("retention", span, path, format!("{path} has negative build_logs_to_retain: {builds}"));
        }
    }
    let Some(retention) = &job.build_log_retention else { return };
    let span = at(node, "build_log_retention").span;
    let count = |key: &str| retention.get(key).and_then(serde_json::Value::as_i64).unwrap_or(0);
    let (builds, succeeded) = (count("builds"), count("minimum_succeeded_builds"));
    for (name, count) in [("builds", builds), ("days", count("days")), ("min_success_builds", succeeded)] {
        if count < 0 {
            let message = format!("{path} has negative build_log_retention.{name}: {count}");
            reader.error("retention", span, path, message);
        }
    }
    if builds > 0 && succeeded > builds {
        let message = format!(
            "{path} has build_log_retention.min_success_builds: {succeeded} greater than \
             build_log_retention.min_success_builds: {builds}"
        );
        let found = Diagnostic::error("retention", message).at(span).under(path);
        reader.push(found.help("minimum_succeeded_builds must not be more than builds"));
    }
}

fn display(reader: &mut Reader, decoded: &Decoded<'_>) {
    let Some(image) = decoded.pipeline.display.as_ref().and_then(|display| display.get("background_image")) else {
        return;
    };
    let (Some(image), Some(node)) = (image.as_str(), decoded.display) else { return };
    let span = at(node, "background_image").span;
    let path = "display.background_image";
    let scheme = image.split_once(':').map(|(scheme, _)| scheme).filter(|scheme| !scheme.contains(['/', '?', '#']));
    let invalid = scheme == Some("")
        || image.chars().any(|c| c.is_control() || c == ' ')
        || image.matches('[').count() != image.matches(']').count();
    if invalid {
        reader.error("display", span, path, format!("background_image is not a valid URL: {image}"));
    } else if scheme.is_some_and(|scheme| !matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https")) {
        reader.error("display", span, path, "background_image scheme must be either http, https or relative");
    }
}
