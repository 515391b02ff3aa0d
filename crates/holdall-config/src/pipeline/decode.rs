//! Decoding everything around the steps: groups, resources, types, jobs (reference, sections 1.2 to 1.7).

use std::collections::BTreeMap;

use holdall_engine::pipeline::{
    CheckEvery, Group, Hooks, Job, Object, Pipeline, Resource, ResourceType, Step, VarSource,
};
use holdall_engine::version::Version;

use crate::diagnostic::{Span, did_you_mean};
use crate::duration::{canonical, endless, parse_duration};
use crate::task::{refuse, tags};
use crate::yaml::{Fields, Map, Node, Reader, Yaml, go_float};

use super::step::{step, steps};

/// The sections of a pipeline whose text is ours to know.
const SECTIONS: [&str; 8] =
    ["groups", "var_sources", "resources", "resource_types", "prototypes", "jobs", "display", "user_data"];

/// A pipeline, and the node of each item of its sections, in the same order.
#[derive(Debug, Default)]
pub(super) struct Decoded<'n> {
    pub pipeline: Pipeline,
    pub span: Span,
    pub groups: Vec<&'n Node>,
    pub var_sources: Vec<&'n Node>,
    pub resources: Vec<&'n Node>,
    pub resource_types: Vec<&'n Node>,
    pub prototypes: Vec<&'n Node>,
    pub jobs: Vec<&'n Node>,
    /// Whether `jobs` says anything, right or wrong.
    pub has_jobs: bool,
    pub display: Option<&'n Node>,
}

/// Reads a whole pipeline.
pub(super) fn pipeline<'n>(reader: &mut Reader, root: &'n Node) -> Decoded<'n> {
    let mut decoded = Decoded { span: root.span, ..Decoded::default() };
    if root.is_null() {
        return decoded;
    }
    let Some(map) = reader.map(root, "") else {
        decoded.has_jobs = true;
        return decoded;
    };
    let mut fields = Fields::folding(map, root.span, "");
    let found = &mut decoded;
    (found.pipeline.groups, found.groups) = section(reader, &mut fields, "groups", group);
    (found.pipeline.var_sources, found.var_sources) = section(reader, &mut fields, "var_sources", var_source);
    (found.pipeline.resources, found.resources) = section(reader, &mut fields, "resources", resource);
    (found.pipeline.resource_types, found.resource_types) =
        section(reader, &mut fields, "resource_types", resource_type);
    (found.pipeline.prototypes, found.prototypes) = section(reader, &mut fields, "prototypes", resource_type);
    (found.pipeline.jobs, found.jobs) = section(reader, &mut fields, "jobs", job);
    found.has_jobs = fields.get("jobs").is_some_and(|jobs| jobs.as_list().is_none_or(|items| !items.is_empty()));
    found.display = fields.get("display");
    found.pipeline.display = fields.optional(reader, "display", display);
    found.pipeline.user_data = fields.optional(reader, "user_data", Reader::any);
    // Other top-level keys are where people keep anchors; only a mistyped section is worth a word.
    for entry in fields.unread() {
        if let Some(meant) = did_you_mean(&entry.key, SECTIONS.into_iter().filter(|section| map.get(section).is_none()))
        {
            let message = format!("top-level key '{}' is ignored: did you mean '{meant}'?", entry.key);
            reader.warning("ignored-key", entry.key_span, &entry.key, message);
        }
    }
    decoded
}

/// The items of a section, with their nodes. A null item is an empty one.
fn section<'n, T>(
    reader: &mut Reader,
    fields: &mut Fields<'n>,
    key: &'static str,
    mut item: impl FnMut(&mut Reader, Fields<'n>) -> T,
) -> (Vec<T>, Vec<&'n Node>) {
    static EMPTY: Map = Map { entries: Vec::new() };
    let read = |reader: &mut Reader, node: &'n Node, path: &str| {
        let Some(nodes) = node.as_list() else {
            reader.mismatch(node, path, "a list");
            return None;
        };
        let mut found = (Vec::new(), Vec::new());
        for (i, node) in nodes.iter().enumerate() {
            let map = match &node.value {
                Yaml::Null => &EMPTY,
                Yaml::Map(map) => map,
                _ => {
                    reader.mismatch(node, &format!("{path}[{i}]"), "a map");
                    continue;
                }
            };
            let path = match map.get("name").and_then(Node::as_str) {
                Some(name) if !name.is_empty() => format!("{path}.{name}"),
                _ => format!("{path}[{i}]"),
            };
            found.0.push(item(reader, Fields::folding(map, node.span, &path)));
            found.1.push(node);
        }
        Some(found)
    };
    fields.optional(reader, key, read).unwrap_or_default()
}

/// Text, where numbers and booleans become text as well: names and the like outside of steps (reference,
/// validation, section 7).
fn loose(reader: &mut Reader, node: &Node, path: &str) -> Option<String> {
    match &node.value {
        Yaml::Null => Some(String::new()),
        Yaml::String(text) => Some(text.clone()),
        Yaml::Bool(value) => Some(value.to_string()),
        Yaml::Int(value) => Some(value.to_string()),
        Yaml::Float(value) => Some(go_float(*value)),
        Yaml::List(_) | Yaml::Map(_) => {
            reader.mismatch(node, path, "a string");
            None
        }
    }
}

fn loose_list(reader: &mut Reader, node: &Node, path: &str) -> Option<Vec<String>> {
    reader.list(node, path, loose)
}

/// The accessors that all sections share.
struct Section<'r, 'n> {
    reader: &'r mut Reader,
    fields: Fields<'n>,
}

impl Section<'_, '_> {
    fn text(&mut self, key: &'static str) -> Option<String> {
        self.fields.optional(self.reader, key, loose).filter(|text| !text.is_empty())
    }

    fn name(&mut self) -> String {
        self.text("name").unwrap_or_default()
    }

    fn bool(&mut self, key: &'static str) -> bool {
        self.fields.optional(self.reader, key, Reader::bool).unwrap_or(false)
    }

    fn texts(&mut self, key: &'static str) -> Vec<String> {
        self.fields.optional(self.reader, key, loose_list).unwrap_or_default()
    }

    fn object(&mut self, key: &'static str) -> Object {
        self.fields.optional(self.reader, key, Reader::object).unwrap_or_default()
    }

    fn tags(&mut self) -> Vec<String> {
        self.fields.optional(self.reader, "tags", tags).unwrap_or_default()
    }

    fn finish(self) {
        self.fields.finish_ignoring(self.reader);
    }
}

fn group(reader: &mut Reader, fields: Fields<'_>) -> Group {
    let mut section = Section { reader, fields };
    let group = Group { name: section.name(), jobs: section.texts("jobs"), resources: section.texts("resources") };
    section.finish();
    group
}

fn var_source(reader: &mut Reader, fields: Fields<'_>) -> VarSource {
    let mut section = Section { reader, fields };
    let source = VarSource {
        name: section.name(),
        kind: section.text("type").unwrap_or_default(),
        config: section.fields.optional(section.reader, "config", Reader::any),
    };
    section.finish();
    source
}

fn resource(reader: &mut Reader, fields: Fields<'_>) -> Resource {
    let mut section = Section { reader, fields };
    let resource = Resource {
        name: section.name(),
        old_name: section.text("old_name"),
        kind: section.text("type").unwrap_or_default(),
        source: section.object("source"),
        public: section.bool("public"),
        webhook_token: section.text("webhook_token"),
        check_every: section.fields.optional(section.reader, "check_every", check_every),
        check_timeout: section.fields.optional(section.reader, "check_timeout", check_timeout),
        tags: section.tags(),
        version: section.fields.optional(section.reader, "version", pinned),
        icon: section.text("icon"),
        expose_build_created_by: section.bool("expose_build_created_by"),
    };
    section.finish();
    resource
}

fn resource_type(reader: &mut Reader, fields: Fields<'_>) -> ResourceType {
    let mut section = Section { reader, fields };
    let found = ResourceType {
        name: section.name(),
        kind: section.text("type").unwrap_or_default(),
        source: section.object("source"),
        params: section.object("params"),
        defaults: section.object("defaults"),
        privileged: section.bool("privileged"),
        check_every: section.fields.optional(section.reader, "check_every", check_every),
        tags: section.tags(),
    };
    section.finish();
    found
}

fn job(reader: &mut Reader, fields: Fields<'_>) -> Job {
    let mut section = Section { reader, fields };
    let job = Job {
        name: section.name(),
        old_name: section.text("old_name"),
        plan: section
            .fields
            .optional(section.reader, "plan", |r, node, path| steps(r, node, path, 0))
            .unwrap_or_default(),
        public: section.bool("public"),
        serial: section.bool("serial"),
        serial_groups: section.texts("serial_groups"),
        max_in_flight: section.fields.optional(section.reader, "max_in_flight", Reader::int).map_or(0, bounded),
        interruptible: section.bool("interruptible"),
        disable_manual_trigger: section.bool("disable_manual_trigger"),
        disable_reruns: section.bool("disable_reruns"),
        tags: section.tags(),
        build_log_retention: section.fields.optional(section.reader, "build_log_retention", retention),
        build_logs_to_retain: section
            .fields
            .optional(section.reader, "build_logs_to_retain", Reader::int)
            .filter(|builds| *builds != 0),
        hooks: Hooks {
            on_success: hook(&mut section, "on_success"),
            on_failure: hook(&mut section, "on_failure"),
            on_error: hook(&mut section, "on_error"),
            on_abort: hook(&mut section, "on_abort"),
            ensure: hook(&mut section, "ensure"),
        },
    };
    section.finish();
    job
}

/// A hook of a job; null is none.
fn hook(section: &mut Section<'_, '_>, key: &'static str) -> Option<Box<Step>> {
    section.fields.optional(section.reader, key, |r, node, path| Some(Box::new(step(r, node, path, 1))))
}

/// A count: below 0 is 0, as Concourse takes it.
fn bounded(count: i64) -> u32 {
    u32::try_from(count.max(0)).unwrap_or(u32::MAX)
}

/// `check_every`: a duration, kept as Go writes it, or `never`; the empty text is the default.
fn check_every(reader: &mut Reader, node: &Node, path: &str) -> Option<CheckEvery> {
    let Yaml::String(text) = &node.value else {
        refuse(reader, "duration", node, path, "non-string value provided".into());
        return None;
    };
    match text.as_str() {
        "" => None,
        "never" => Some(CheckEvery::Never),
        text => match parse_duration(text) {
            Ok(duration) => Some(CheckEvery::Every(canonical(duration))),
            Err(message) => {
                refuse(reader, "duration", node, path, message);
                None
            }
        },
    }
}

/// `check_timeout`: any text; Concourse looks at it when it checks.
fn check_timeout(reader: &mut Reader, node: &Node, path: &str) -> Option<holdall_engine::pipeline::Duration> {
    let text = loose(reader, node, path).filter(|text| !text.is_empty())?;
    Some(parse_duration(&text).unwrap_or_else(|message| {
        reader.warning("duration", node.span, path, format!("{message}: checks have no limit"));
        endless(&text)
    }))
}

/// `version` of a resource: a map of texts.
fn pinned(reader: &mut Reader, node: &Node, path: &str) -> Option<Version> {
    let map = reader.map(node, path)?;
    let mut version = BTreeMap::new();
    for entry in &map.entries {
        let text = loose(reader, &entry.value, &format!("{path}.{}", entry.key));
        version.extend(text.map(|text| (entry.key.clone(), text)));
    }
    Some(Version(version))
}

fn retention(reader: &mut Reader, node: &Node, path: &str) -> Option<Object> {
    let mut fields = Fields::folding(reader.map(node, path)?, node.span, path);
    let mut retention = Object::new();
    for key in ["builds", "days", "minimum_succeeded_builds"] {
        if let Some(count) = fields.optional(reader, key, Reader::int).filter(|count| *count != 0) {
            retention.insert(key.into(), count.into());
        }
    }
    fields.finish_ignoring(reader);
    Some(retention)
}

fn display(reader: &mut Reader, node: &Node, path: &str) -> Option<Object> {
    let mut fields = Fields::folding(reader.map(node, path)?, node.span, path);
    let mut display = Object::new();
    for key in ["background_image", "background_filter"] {
        if let Some(text) = fields.optional(reader, key, loose).filter(|text| !text.is_empty()) {
            display.insert(key.into(), text.into());
        }
    }
    fields.finish_ignoring(reader);
    Some(display)
}
