//! From the text of a system file to a [`System`], with every mistake at once.
//!
//! [`parse`] decodes each element here; `check` holds them against each other; and last the pipelines that the
//! system compiles to are checked like anyone's, so that nothing comes out that could not be set.

mod check;
mod environment;

use std::collections::BTreeMap;

use holdall_engine::pipeline::{CheckEvery, Duration, Object};
use serde_json::Value;

use super::model::{Service, System};
use crate::diagnostic::{Diagnostic, Parsed};
use crate::duration::parse_duration;
use crate::pipeline::{Identifier, identifier};
use crate::vars::{self, Mode, Vars};
use crate::yaml::{self, Map, Node, Reader, Yaml};

/// Keys that a later release brings, with what they are for.
const LATER: [(&str, &str); 2] = [("gates", "gates (approval, soak, windows)"), ("schema", "schema versions")];

/// Reads and checks a system file; `values`: what its `((vars))` stand for, besides the environments' own `vars`.
pub fn parse(text: &str, values: &BTreeMap<String, Value>) -> Parsed<System> {
    let parsed = yaml::parse(text);
    let Some(root) = parsed.value else { return Parsed { value: None, diagnostics: parsed.diagnostics } };
    let mut reader = Reader::new();
    parsed.diagnostics.into_iter().for_each(|found| reader.push(found));
    let root = interpolate(&mut reader, &root, values);
    let system = read(&mut reader, &root);
    if let Some(system) = &system {
        check::check(&mut reader, system, &root);
        if !reader.has_errors() {
            check::compiled(&mut reader, system, &root);
        }
    }
    let mut diagnostics = reader.into_diagnostics();
    diagnostics.sort_by_key(|found| found.span.map_or((0, 0), |span| (span.line, span.column)));
    Parsed::new(system.unwrap_or_default(), diagnostics)
}

/// Puts the vars in: in an environment its own go before those that were given with the file.
fn interpolate(reader: &mut Reader, root: &Node, values: &BTreeMap<String, Value>) -> Node {
    let mut global = Vars::new();
    for (name, value) in values {
        if let Err(problem) = global.set(name, value.clone()) {
            reader.push(Diagnostic::error("bad-var", format!("var {name}: {problem}")));
        }
    }
    let Yaml::Map(map) = &root.value else { return root.clone() };
    let mut entries = Vec::with_capacity(map.entries.len());
    for entry in &map.entries {
        let mut entry = entry.clone();
        match (&entry.value.value, entry.key.as_str()) {
            (Yaml::Map(environments), "environments") => {
                let mut inner = environments.clone();
                for environment in &mut inner.entries {
                    environment.value = with_own_vars(reader, &environment.value, &global);
                }
                entry.value.value = Yaml::Map(inner);
            }
            _ => entry.value = put_in(reader, &entry.value, &mut |reference| global.get(reference)),
        }
        entries.push(entry);
    }
    Node { value: Yaml::Map(Map { entries }), span: root.span }
}

fn with_own_vars(reader: &mut Reader, environment: &Node, global: &Vars) -> Node {
    let mut own = Vars::new();
    if let Some(Yaml::Map(map)) = environment.get("vars").map(|node| &node.value) {
        for entry in &map.entries {
            let value = put_in(reader, &entry.value, &mut |reference| global.get(reference));
            if let Err(problem) = own.set(&entry.key, value.to_json()) {
                reader.error("bad-var", entry.key_span, "vars", problem);
            }
        }
    }
    put_in(reader, environment, &mut |reference| own.get(reference).or_else(|| global.get(reference)))
}

fn put_in(reader: &mut Reader, node: &Node, lookup: &mut vars::Lookup<'_>) -> Node {
    let parsed = vars::interpolate(node, lookup, Mode::Strict);
    for found in parsed.diagnostics {
        reader.push(found.help("give it with --var NAME=VALUE or --vars-file FILE, or in the environment's vars"));
    }
    parsed.value.unwrap_or_else(|| node.clone())
}

fn read(reader: &mut Reader, root: &Node) -> Option<System> {
    if root.is_null() {
        reader.push(
            Diagnostic::error("empty-file", "the file is empty")
                .at(root.span)
                .help("it needs system, services and environments: see `holdall system schema`"),
        );
        return None;
    }
    let mut fields = reader.fields(root, "")?;
    let name = fields.required(reader, "system", plain_name).unwrap_or_default();
    let services = fields.required(reader, "services", services).unwrap_or_default();
    let environments = fields.required(reader, "environments", environment::environments).unwrap_or_default();
    later(reader, &mut fields, "require_reasons", "reasons that every client must give");
    // Keys that begin with `x-` are where people keep anchors.
    for entry in fields.unread().filter(|entry| !entry.key.starts_with("x-")).collect::<Vec<_>>() {
        reader.push(unknown(entry, &["system", "services", "environments"]));
    }
    Some(System { name, services, environments })
}

fn unknown(entry: &yaml::Entry, known: &[&str]) -> Diagnostic {
    let found = Diagnostic::error("unknown-key", format!("unknown key '{}'", entry.key)).at(entry.key_span);
    match crate::diagnostic::did_you_mean(&entry.key, known.iter().copied()) {
        Some(meant) => found.help(format!("did you mean '{meant}'?")),
        None => found.help(format!("known here: {}; keys that begin with 'x-' are ignored", known.join(", "))),
    }
}

/// Refuses a key that a later release brings.
fn later(reader: &mut Reader, fields: &mut yaml::Fields<'_>, key: &'static str, what: &str) {
    let path = fields.path_of(key);
    if let Some(node) = fields.get(key)
        && node.value != Yaml::Bool(false)
    {
        reader.push(
            Diagnostic::error(
                "later-release",
                format!("'{key}' is not carried out yet: {what} come in a later release"),
            )
            .at(node.span)
            .under(path)
            .help("leave it out"),
        );
    }
}

/// A name that can be part of pipelines, artifacts, tags and addresses.
fn plain_name(reader: &mut Reader, node: &Node, path: &str) -> Option<String> {
    let name = reader.name(node, path)?;
    judge_name(reader, &name, node.span, path).then_some(name)
}

fn judge_name(reader: &mut Reader, name: &str, span: crate::diagnostic::Span, path: &str) -> bool {
    let problem = match identifier(name) {
        Identifier::Fine if name.len() > 100 => Some("it is longer than 100 characters".to_owned()),
        Identifier::Fine if !name.is_ascii() => Some("it has characters other than a-z, 0-9, '-', '_' and '.'".into()),
        Identifier::Fine => None,
        Identifier::Empty => Some("it is empty".to_owned()),
        Identifier::Odd(why) => Some(why),
    };
    let Some(problem) = problem else { return true };
    reader.push(
        Diagnostic::error("bad-name", format!("'{name}' cannot be a name: {problem}"))
            .at(span)
            .under(path)
            .help("use a-z, 0-9, '-', '_' and '.', beginning with a letter or a digit"),
    );
    false
}

/// A duration such as `10m` or `1h30m`, longer than nothing.
fn duration(reader: &mut Reader, node: &Node, path: &str) -> Option<Duration> {
    let text = reader.string(node, path)?;
    let problem = match parse_duration(&text) {
        Ok(duration) if duration.span.0 > 0 => return Some(duration),
        Ok(_) => "it must be longer than nothing".to_owned(),
        Err(problem) => problem,
    };
    reader.push(
        Diagnostic::error("bad-duration", format!("'{text}' is not a duration: {problem}"))
            .at(node.span)
            .under(path)
            .help("write it like 90s, 10m or 1h30m"),
    );
    None
}

/// A duration, or `never`.
fn check_every(reader: &mut Reader, node: &Node, path: &str) -> Option<CheckEvery> {
    if node.as_str() == Some("never") {
        return Some(CheckEvery::Never);
    }
    duration(reader, node, path).map(CheckEvery::Every)
}

/// One of a few words.
fn word<T: Copy>(reader: &mut Reader, node: &Node, path: &str, words: &[(&str, T)]) -> Option<T> {
    let text = reader.string(node, path)?;
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Some(*value);
    }
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    reader.push(
        Diagnostic::error("bad-word", format!("'{text}' is none of {}", known.join(", ")))
            .at(node.span)
            .under(path)
            .help(match crate::diagnostic::did_you_mean(&text, known.iter().copied()) {
                Some(meant) => format!("did you mean '{meant}'?"),
                None => format!("write {}", known.join(" or ")),
            }),
    );
    None
}

fn services(reader: &mut Reader, node: &Node, path: &str) -> Option<Vec<Service>> {
    let map = reader.map(node, path)?;
    if map.entries.is_empty() {
        reader.error("no-services", node.span, path, "a system needs at least one service");
    }
    let mut services = Vec::new();
    for entry in &map.entries {
        let path = format!("{path}.{}", entry.key);
        let named = judge_name(reader, &entry.key, entry.key_span, &path);
        if let Some(service) = service(reader, &entry.key, &entry.value, &path).filter(|_| named) {
            services.push(service);
        }
    }
    Some(services)
}

fn service(reader: &mut Reader, name: &str, node: &Node, path: &str) -> Option<Service> {
    let mut fields = reader.fields(node, path)?;
    let service = Service {
        name: name.to_owned(),
        old_name: fields.optional(reader, "old_name", plain_name),
        kind: fields.required(reader, "type", Reader::name).unwrap_or_default(),
        source: fields.optional(reader, "source", object).unwrap_or_default(),
        repository: fields.optional(reader, "repository", Reader::name),
        trigger: fields.optional(reader, "trigger", Reader::bool).unwrap_or(true),
        check_every: fields.optional(reader, "check_every", check_every),
        webhook_token: fields.optional(reader, "webhook_token", Reader::name),
    };
    for (key, what) in LATER {
        later(reader, &mut fields, key, what);
    }
    fields.finish(reader);
    Some(service)
}

fn object(reader: &mut Reader, node: &Node, path: &str) -> Option<Object> {
    reader.object(node, path)
}

#[cfg(test)]
mod tests;
