//! Task configurations: the file of a task, and `config:` of a task step (reference, section 1.10).

mod limits;

use serde_json::{Map as Object, Value};

use holdall_engine::pipeline::{TaskCache, TaskConfig, TaskInput, TaskOutput, TaskRun};

use crate::diagnostic::{Diagnostic, Parsed};
use crate::duration::parse_duration;
use crate::vars;
use crate::yaml::{self, DuplicateKeys, Fields, Node, Reader, Yaml};

pub(crate) use limits::container_limits;

/// Reads a task file. Of keys that are written twice the last one counts, and `((vars))` stay as they are.
pub fn parse(text: &str) -> Parsed<TaskConfig> {
    let parsed = yaml::parse_with(text, DuplicateKeys::LastWins);
    match parsed.value {
        Some(node) => {
            let mut found = parse_node(&node);
            found.diagnostics.splice(0..0, parsed.diagnostics);
            found
        }
        None => Parsed { value: None, diagnostics: parsed.diagnostics },
    }
}

/// The same from a tree, for example after its vars were replaced.
pub fn parse_node(node: &Node) -> Parsed<TaskConfig> {
    let mut reader = Reader::new();
    vars::check(node).into_iter().for_each(|found| reader.push(found));
    let empty = Node { value: Yaml::Map(yaml::Map::default()), span: node.span };
    let config = decode(&mut reader, if node.is_null() { &empty } else { node }, "", Numbers::AsWritten);
    Parsed::new(config.unwrap_or_default(), reader.into_diagnostics())
}

/// A task's configuration as JSON, in Concourse's shape.
pub fn to_json(config: &TaskConfig) -> Value {
    crate::pipeline::task_config(config)
}

/// How numbers in `params` become text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// As they are: task files.
    AsWritten,
    /// Through a 64-bit float: pipelines (reference, validation, section 9).
    AsFloats,
}

/// Reads a task configuration at `path`.
pub(crate) fn decode(reader: &mut Reader, node: &Node, path: &str, numbers: Numbers) -> Option<TaskConfig> {
    let mut fields = reader.fields(node, path)?;
    let config = TaskConfig {
        platform: fields.optional(reader, "platform", Reader::string).unwrap_or_default(),
        image_resource: fields.optional(reader, "image_resource", image_resource),
        rootfs_uri: fields.optional(reader, "rootfs_uri", Reader::string).filter(|uri| !uri.is_empty()),
        container_limits: fields.optional(reader, "container_limits", container_limits),
        params: fields
            .optional(reader, "params", |reader, node, path| params(reader, node, path, numbers))
            .unwrap_or_default()
            .into_iter()
            .collect(),
        run: fields.optional(reader, "run", run).unwrap_or_default(),
        inputs: fields.optional(reader, "inputs", |r, n, p| items(r, n, p, input)).unwrap_or_default(),
        outputs: fields.optional(reader, "outputs", |r, n, p| items(r, n, p, output)).unwrap_or_default(),
        caches: fields.optional(reader, "caches", |r, n, p| items(r, n, p, cache)).unwrap_or_default(),
    };
    if fields.get("platform").is_none_or(|node| node.as_str() == Some("")) {
        reader.error("missing-key", fields.span, path, "missing 'platform'");
    }
    fields.finish(reader);
    Some(config)
}

/// The items of a list of maps; null is an empty map.
fn items<T>(
    reader: &mut Reader,
    node: &Node,
    path: &str,
    mut item: impl FnMut(&mut Reader, Fields<'_>, usize) -> T,
) -> Option<Vec<T>> {
    let empty = yaml::Map::default();
    let mut at = 0;
    reader.list(node, path, |reader, node, path| {
        let map = if node.is_null() { &empty } else { reader.map(node, path)? };
        at += 1;
        Some(item(reader, Fields::folding(map, node.span, path), at - 1))
    })
}

fn input(reader: &mut Reader, mut fields: Fields<'_>, at: usize) -> TaskInput {
    let input = TaskInput {
        name: fields.optional(reader, "name", Reader::string).unwrap_or_default(),
        path: fields.optional(reader, "path", Reader::string).filter(|path| !path.is_empty()),
        optional: fields.optional(reader, "optional", Reader::bool).unwrap_or(false),
    };
    named(reader, fields, &format!("input in position {at} is missing a name"));
    input
}

fn output(reader: &mut Reader, mut fields: Fields<'_>, at: usize) -> TaskOutput {
    let output = TaskOutput {
        name: fields.optional(reader, "name", Reader::string).unwrap_or_default(),
        path: fields.optional(reader, "path", Reader::string).filter(|path| !path.is_empty()),
    };
    named(reader, fields, &format!("output in position {at} is missing a name"));
    output
}

/// Reports a missing or empty name, and warns of unknown keys.
fn named(reader: &mut Reader, mut fields: Fields<'_>, message: &str) {
    if fields.get("name").is_none_or(|node| node.as_str() == Some("")) {
        reader.error("missing-key", fields.span, &fields.path, message);
    }
    fields.finish_ignoring(reader);
}

fn cache(reader: &mut Reader, mut fields: Fields<'_>, _at: usize) -> TaskCache {
    let ttl = fields.optional(reader, "ttl", |reader, node, path| {
        let text = reader.string(node, path).filter(|text| !text.is_empty())?;
        let message = match parse_duration(&text) {
            Ok(duration) if duration.span.0 >= 1_000_000 => return Some(duration),
            Ok(_) => format!("cache ttl must be at least 1s, got '{text}'"),
            Err(message) => format!("invalid cache ttl '{text}': {message}"),
        };
        reader.error("duration", node.span, path, message);
        None
    });
    let path = fields.optional(reader, "path", Reader::string).unwrap_or_default();
    fields.finish_ignoring(reader);
    TaskCache { path, ttl }
}

fn run(reader: &mut Reader, node: &Node, path: &str) -> Option<TaskRun> {
    let mut fields = Fields::folding(reader.map(node, path)?, node.span, path);
    let run = TaskRun {
        path: fields.optional(reader, "path", Reader::string).unwrap_or_default(),
        args: fields.optional(reader, "args", texts).unwrap_or_default(),
        dir: fields.optional(reader, "dir", Reader::string).filter(|dir| !dir.is_empty()),
        user: fields.optional(reader, "user", Reader::string).filter(|user| !user.is_empty()),
    };
    fields.finish_ignoring(reader);
    Some(run)
}

/// An image: `type`, `source`, and optionally `params`, `version`, `tags` and `name`.
fn image_resource(reader: &mut Reader, node: &Node, path: &str) -> Option<Value> {
    let mut fields = Fields::folding(reader.map(node, path)?, node.span, path);
    let mut image = Object::new();
    for key in ["name", "type"] {
        let text = fields.optional(reader, key, Reader::string).unwrap_or_default();
        if key == "type" || !text.is_empty() {
            image.insert(key.into(), text.into());
        }
    }
    for key in ["source", "params"] {
        if let Some(object) = fields.optional(reader, key, Reader::object) {
            image.insert(key.into(), object.into());
        } else if key == "source" {
            image.insert(key.into(), Value::Null);
        }
    }
    if let Some(version) = fields.optional(reader, "version", text_map) {
        image.insert("version".into(), Value::Object(version.into_iter().map(|(k, v)| (k, v.into())).collect()));
    }
    if let Some(tags) = fields.optional(reader, "tags", tags).filter(|tags| !tags.is_empty()) {
        image.insert("tags".into(), tags.into());
    }
    fields.finish_ignoring(reader);
    Some(Value::Object(image))
}

/// A list of texts in which null is the empty text.
pub(crate) fn texts(reader: &mut Reader, node: &Node, path: &str) -> Option<Vec<String>> {
    reader.list(node, path, |reader, node, path| match node.value {
        Yaml::Null => Some(String::new()),
        _ => reader.string(node, path),
    })
}

/// Worker tags: a list of texts, of which the empty ones are left out.
pub(crate) fn tags(reader: &mut Reader, node: &Node, path: &str) -> Option<Vec<String>> {
    Some(texts(reader, node, path)?.into_iter().filter(|tag| !tag.is_empty()).collect())
}

/// A map of texts in which null is the empty text.
pub(crate) fn text_map(reader: &mut Reader, node: &Node, path: &str) -> Option<Vec<(String, String)>> {
    let map = reader.map(node, path)?;
    let mut pairs = Vec::with_capacity(map.entries.len());
    for entry in &map.entries {
        let text = match entry.value.value {
            Yaml::Null => Some(String::new()),
            _ => reader.string(&entry.value, &format!("{path}.{}", entry.key)),
        };
        pairs.extend(text.map(|text| (entry.key.clone(), text)));
    }
    Some(pairs)
}

/// Environment variables: a map whose values become text. Null is empty, lists and maps become JSON.
pub(crate) fn params(reader: &mut Reader, node: &Node, path: &str, numbers: Numbers) -> Option<Vec<(String, String)>> {
    let map = reader.map(node, path)?;
    let text = |node: &Node| match &node.value {
        Yaml::Null => String::new(),
        Yaml::String(text) => text.clone(),
        Yaml::Bool(value) => value.to_string(),
        Yaml::Int(value) if numbers == Numbers::AsWritten => value.to_string(),
        Yaml::Int(value) => json_float(*value as f64),
        Yaml::Float(value) => json_float(*value),
        Yaml::List(_) | Yaml::Map(_) => json_text(&node.to_json()),
    };
    Some(map.entries.iter().map(|entry| (entry.key.clone(), text(&entry.value))).collect())
}

/// A number as Go's JSON writes it: an exponent only below 1e-6 and from 1e21.
fn json_float(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        return "0".into();
    }
    if (1e-6..1e21).contains(&size) {
        return value.to_string();
    }
    let text = format!("{value:e}");
    if size >= 1e21 { text.replacen('e', "e+", 1) } else { text }
}

/// A value as Go's JSON writes it, with `<`, `>` and `&` escaped.
fn json_text(value: &Value) -> String {
    match value {
        Value::Number(number) => json_float(number.as_f64().unwrap_or_default()),
        Value::String(_) => {
            let plain = value.to_string();
            let escaped = |c: char| match c {
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => format!("\\u{:04x}", c as u32),
                c => c.to_string(),
            };
            plain.chars().map(escaped).collect()
        }
        Value::Array(items) => format!("[{}]", items.iter().map(json_text).collect::<Vec<_>>().join(",")),
        Value::Object(map) => {
            let pair =
                |(key, value): (&String, &Value)| format!("{}:{}", json_text(&key.as_str().into()), json_text(value));
            format!("{{{}}}", map.iter().map(pair).collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

/// A diagnostic for a value that is refused for what it says, not for its type.
pub(crate) fn refuse(reader: &mut Reader, code: &'static str, node: &Node, path: &str, message: String) {
    reader.push(Diagnostic::error(code, message).at(node.span).under(path));
}

#[cfg(test)]
mod tests;
