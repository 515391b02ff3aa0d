//! `((vars))`: what counts as one, and putting values in their place (reference, section 1.11).
//!
//! A variable that is a whole scalar keeps the type of its value; inside other text only text and whole numbers may
//! stand. Values that were put in are never looked at again.

mod reference;
mod values;

use std::collections::HashMap;

use serde_json::Value;

use crate::diagnostic::{Diagnostic, Parsed, Span};
use crate::yaml::{Entry, Map, Node, Yaml};

pub use reference::{Reference, references};
pub use values::Vars;

/// What to do about variables without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Each is an error.
    Strict,
    /// They stay in the text, for whoever knows the value later.
    Lenient,
}

/// Where values come from: a variable's name and source to its value, `None` when there is none. The path behind the
/// name (`((name.field))`) is followed by the caller.
pub type Lookup<'a> = dyn FnMut(&Reference) -> Option<Value> + 'a;

/// Puts values in the place of the variables of a tree; positions are kept. Keys are treated like other text.
/// Every variable that cannot be replaced is reported, at its place.
pub fn interpolate(node: &Node, lookup: &mut Lookup<'_>, mode: Mode) -> Parsed<Node> {
    let mut work = Work { lookup, mode, diagnostics: Vec::new() };
    let node = work.node(node, "");
    Parsed::new(node, work.diagnostics)
}

/// The same for a JSON value, for example the `source` of a resource just before it is used.
///
/// # Errors
/// Every variable that could not be replaced, with its path.
pub fn interpolate_json(value: &Value, lookup: &mut Lookup<'_>, mode: Mode) -> Result<Value, Vec<Diagnostic>> {
    let mut work = Work { lookup, mode, diagnostics: Vec::new() };
    let value = work.json(value, "");
    if work.diagnostics.is_empty() { Ok(value) } else { Err(work.diagnostics) }
}

/// Every variable of a tree that is not written correctly, for example `((a..b))`: such a text is refused even where
/// nothing is replaced (reference, validation, section 21).
pub fn check(node: &Node) -> Vec<Diagnostic> {
    interpolate(node, &mut |_| None, Mode::Lenient).diagnostics
}

struct Work<'a, 'b> {
    lookup: &'a mut Lookup<'b>,
    mode: Mode,
    diagnostics: Vec<Diagnostic>,
}

impl Work<'_, '_> {
    fn node(&mut self, node: &Node, path: &str) -> Node {
        let value = match &node.value {
            Yaml::String(text) => match self.text(text, Some(node.span), path) {
                Value::String(text) => Yaml::String(text),
                value => {
                    let placed = placed(&value, node.span);
                    if placed.is_none() {
                        self.report("too-deep", "the value of a var is nested too deep", Some(node.span), path);
                    }
                    return placed.unwrap_or_else(|| Node::null(node.span));
                }
            },
            Yaml::List(items) => {
                Yaml::List(items.iter().enumerate().map(|(i, item)| self.node(item, &format!("{path}[{i}]"))).collect())
            }
            Yaml::Map(map) => {
                let mut entries: Vec<Entry> = Vec::with_capacity(map.entries.len());
                let mut places: HashMap<String, usize> = HashMap::new();
                for entry in &map.entries {
                    let path = joined(path, &entry.key);
                    let key = self.key(&entry.key, Some(entry.key_span), &path);
                    let value = self.node(&entry.value, &path);
                    let entry = Entry { key: key.clone(), key_span: entry.key_span, value };
                    match places.insert(key, entries.len()) {
                        Some(at) => {
                            places.insert(entry.key.clone(), at);
                            entries[at] = entry;
                        }
                        None => entries.push(entry),
                    }
                }
                Yaml::Map(Map { entries })
            }
            other => other.clone(),
        };
        Node { value, span: node.span }
    }

    fn json(&mut self, value: &Value, path: &str) -> Value {
        match value {
            Value::String(text) => self.text(text, None, path),
            Value::Array(items) => {
                items.iter().enumerate().map(|(i, item)| self.json(item, &format!("{path}[{i}]"))).collect()
            }
            Value::Object(map) => {
                let mut object = serde_json::Map::new();
                for (key, value) in map {
                    let path = joined(path, key);
                    object.insert(self.key(key, None, &path), self.json(value, &path));
                }
                Value::Object(object)
            }
            other => other.clone(),
        }
    }

    fn key(&mut self, key: &str, span: Option<Span>, path: &str) -> String {
        match self.text(key, span, path) {
            Value::String(text) => text,
            _ => {
                self.report("var-type", "a key can only be replaced by text", span, path);
                key.to_owned()
            }
        }
    }

    /// A text with its variables replaced.
    fn text(&mut self, text: &str, span: Option<Span>, path: &str) -> Value {
        let mut out = String::new();
        let mut end = 0;
        for (range, parsed) in references(text) {
            let whole = range.len() == text.len();
            out.push_str(&text[end..range.start]);
            end = range.end;
            let value = match parsed {
                Ok(reference) => self.value(&reference, span, path),
                Err(message) => {
                    self.report("invalid-var", &message, span, path);
                    None
                }
            };
            match value {
                Some(value) if whole => return value,
                Some(Value::String(value)) => out.push_str(&value),
                Some(Value::Number(number)) if !number.is_f64() => out.push_str(&number.to_string()),
                Some(value) => {
                    let message = format!("cannot put {} into text, from var: {}", kind(&value), &text[range]);
                    self.report("var-type", &message, span, path);
                }
                None => out.push_str(&text[range]),
            }
        }
        out.push_str(&text[end..]);
        Value::String(out)
    }

    /// The value of a variable, followed along its path.
    fn value(&mut self, reference: &Reference, span: Option<Span>, path: &str) -> Option<Value> {
        let Some(mut value) = (self.lookup)(reference) else {
            if self.mode == Mode::Strict {
                self.report("undefined-var", &format!("undefined var: {reference}"), span, path);
            }
            return None;
        };
        for field in &reference.fields {
            let kind = kind(&value);
            let Value::Object(mut map) = value else {
                let message = format!("cannot access field '{field}' of {kind}, from var: {reference}");
                self.report("var-type", &message, span, path);
                return None;
            };
            match map.remove(field) {
                Some(inner) => value = inner,
                None => {
                    self.report("missing-field", &format!("missing field '{field}' in var: {reference}"), span, path);
                    return None;
                }
            }
        }
        Some(value)
    }

    fn report(&mut self, code: &'static str, message: &str, span: Option<Span>, path: &str) {
        if self.diagnostics.len() < 500 {
            self.diagnostics.push(Diagnostic { span, ..Diagnostic::error(code, message).under(path) });
        }
    }
}

/// A value that takes the place of a variable, every part of it at the variable's place.
/// `None` if it is nested deeper than a tree may be.
fn placed(value: &Value, span: Span) -> Option<Node> {
    fn place(node: &mut Node, span: Span) {
        node.span = span;
        match &mut node.value {
            Yaml::List(items) => items.iter_mut().for_each(|item| place(item, span)),
            Yaml::Map(map) => {
                for entry in &mut map.entries {
                    entry.key_span = span;
                    place(&mut entry.value, span);
                }
            }
            _ => {}
        }
    }
    let mut node = crate::yaml::from_json(value).value?;
    place(&mut node, span);
    Some(node)
}

/// The kind of a value, with its article.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

#[cfg(test)]
mod tests;
