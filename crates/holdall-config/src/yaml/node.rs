//! The tree that a text becomes.

use serde_json::Value;

use crate::diagnostic::Span;

use super::scalar::number;

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Yaml,
    /// Where it was written. A value that came through an alias has the alias's place, and what is inside it the
    /// place where it was defined.
    pub span: Span,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Yaml {
    /// Nothing, `~` or `null`.
    Null,
    /// `true`, `yes`, `on`, `y` and their opposites.
    Bool(bool),
    /// A whole number between -2^63 and 2^64 - 1.
    Int(i128),
    /// Any other number; always finite.
    Float(f64),
    /// Text.
    String(String),
    /// A list.
    List(Vec<Node>),
    /// A map.
    Map(Map),
}

/// A map in the order in which it was written, its merge keys applied.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Map {
    /// The entries; keys are unique.
    pub entries: Vec<Entry>,
}

/// One entry of a map.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key as text: `1`, `true` and the like are written out.
    pub key: String,
    /// Where the key was written.
    pub key_span: Span,
    /// The value.
    pub value: Node,
}

impl Map {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// The entry of a key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }
}

impl Node {
    /// A null at a place.
    pub fn null(span: Span) -> Node {
        Node { value: Yaml::Null, span }
    }

    /// The kind of value, with its article, as messages name it.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Yaml::Null => "nothing",
            Yaml::Bool(_) => "a boolean",
            Yaml::Int(_) | Yaml::Float(_) => "a number",
            Yaml::String(_) => "a string",
            Yaml::List(_) => "a list",
            Yaml::Map(_) => "a map",
        }
    }

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        self.value == Yaml::Null
    }

    /// The map, if it is one.
    pub fn as_map(&self) -> Option<&Map> {
        if let Yaml::Map(map) = &self.value { Some(map) } else { None }
    }

    /// The list, if it is one.
    pub fn as_list(&self) -> Option<&[Node]> {
        if let Yaml::List(items) = &self.value { Some(items) } else { None }
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Yaml::String(text) = &self.value { Some(text) } else { None }
    }

    /// The value of a key, if it is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.as_map()?.get(key)
    }

    /// The value at a path as diagnostics write it, for example `jobs.ship.plan[1].get`: an item of a list is named
    /// by its position, or by its `name`. `None` if there is nothing.
    pub fn find(&self, path: &str) -> Option<&Node> {
        if path.is_empty() {
            return Some(self);
        }
        // What follows a name or a position: the end, a dot, or a position.
        let behind = |name: &str| {
            let rest = path.strip_prefix(name)?;
            if rest.is_empty() || rest.starts_with('[') { Some(rest) } else { rest.strip_prefix('.') }
        };
        match &self.value {
            Yaml::Map(map) => map
                .entries
                .iter()
                .find_map(|entry| entry.value.find(behind(&entry.key).filter(|_| !entry.key.is_empty())?)),
            Yaml::List(items) => match path.strip_prefix('[') {
                Some(rest) => {
                    let (index, rest) = rest.split_once(']')?;
                    items.get(index.parse::<usize>().ok()?)?.find(rest.strip_prefix('.').unwrap_or(rest))
                }
                None => items.iter().find_map(|item| {
                    let name = item.get("name").and_then(Node::as_str).filter(|name| !name.is_empty())?;
                    item.find(behind(name)?)
                }),
            },
            _ => None,
        }
    }

    /// As JSON. Numbers become what JSON tools make of them: 64-bit floats, whole ones written without a point
    /// (reference, validation, section 9).
    pub fn to_json(&self) -> Value {
        match &self.value {
            Yaml::Null => Value::Null,
            Yaml::Bool(value) => (*value).into(),
            Yaml::Int(value) => number(*value as f64),
            Yaml::Float(value) => number(*value),
            Yaml::String(text) => text.as_str().into(),
            Yaml::List(items) => items.iter().map(Node::to_json).collect(),
            Yaml::Map(map) => Value::Object(map.to_json()),
        }
    }

    /// Of a JSON value, without positions; `None` if it nests deeper than `depth`.
    pub(super) fn from_json(value: &Value, depth: usize) -> Option<Node> {
        let inner = depth.checked_sub(1);
        let value = match value {
            Value::Null => Yaml::Null,
            Value::Bool(value) => Yaml::Bool(*value),
            Value::Number(n) => match (n.as_i64(), n.as_u64(), n.as_f64()) {
                (Some(n), _, _) => Yaml::Int(n.into()),
                (_, Some(n), _) => Yaml::Int(n.into()),
                (_, _, n) => Yaml::Float(n?),
            },
            Value::String(text) => Yaml::String(text.clone()),
            Value::Array(items) => {
                Yaml::List(items.iter().map(|item| Node::from_json(item, inner?)).collect::<Option<_>>()?)
            }
            Value::Object(map) => {
                let entry = |(key, value): (&String, &Value)| {
                    let value = Node::from_json(value, inner?)?;
                    Some(Entry { key: key.clone(), key_span: Span::default(), value })
                };
                Yaml::Map(Map { entries: map.iter().map(entry).collect::<Option<_>>()? })
            }
        };
        Some(Node { value, span: Span::default() })
    }
}

impl Map {
    /// As a JSON object (see [`Node::to_json`]).
    pub fn to_json(&self) -> serde_json::Map<String, Value> {
        self.entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect()
    }
}
