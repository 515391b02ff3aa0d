//! Values of variables that a person gives: on the command line and in files.

use serde_json::{Map, Value};

use crate::diagnostic::Diagnostic;
use crate::yaml;

use super::reference::Reference;

/// Values by name. Those given one by one beat those of files, and later files beat earlier ones
/// (reference, section 1.11).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Vars {
    single: Map<String, Value>,
    files: Map<String, Value>,
}

impl Vars {
    /// No values.
    pub fn new() -> Vars {
        Vars::default()
    }

    /// Sets one value. The name may have fields: `db.user` sets the field `user` of `db`.
    ///
    /// # Errors
    /// When the name is not one that a variable can have.
    pub fn set(&mut self, name: &str, value: Value) -> Result<(), String> {
        let reference: Reference = name.parse()?;
        if reference.source.is_some() {
            return Err(format!("var '{name}' belongs to a var source and cannot be given"));
        }
        let mut map = &mut self.single;
        let mut key = reference.name;
        for field in reference.fields {
            let inner = map.entry(key).or_insert_with(|| Value::Object(Map::new()));
            if !inner.is_object() {
                *inner = Value::Object(Map::new());
            }
            let Value::Object(next) = inner else { return Ok(()) };
            (map, key) = (next, field);
        }
        map.insert(key, value);
        Ok(())
    }

    /// Sets one value from `NAME=TEXT`; the value is the text as it is.
    ///
    /// # Errors
    /// When there is no `=`, or the name cannot be one.
    pub fn set_text(&mut self, pair: &str) -> Result<(), String> {
        let (name, value) = split(pair)?;
        self.set(name, value.into())
    }

    /// Sets one value from `NAME=YAML`.
    ///
    /// # Errors
    /// When there is no `=`, the name cannot be one, or the value is not YAML.
    pub fn set_yaml(&mut self, pair: &str) -> Result<(), String> {
        let (name, text) = split(pair)?;
        let node = yaml::parse(text).into_result().map_err(|found| format!("var '{name}': {}", said(&found)))?;
        self.set(name, node.to_json())
    }

    /// Adds the values of a file: a YAML map.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn add_file(&mut self, text: &str) -> Result<(), Vec<Diagnostic>> {
        match yaml::parse(text).into_result()?.to_json() {
            Value::Object(map) => self.files.extend(map),
            Value::Null => {}
            _ => return Err(vec![Diagnostic::error("wrong-type", "a file of vars must be a map of names to values")]),
        }
        Ok(())
    }

    /// The value of a variable's name; variables of a source have none here.
    pub fn get(&self, reference: &Reference) -> Option<Value> {
        if reference.source.is_some() {
            return None;
        }
        self.single.get(&reference.name).or_else(|| self.files.get(&reference.name)).cloned()
    }
}

fn split(pair: &str) -> Result<(&str, &str), String> {
    pair.split_once('=').ok_or_else(|| format!("'{pair}' is not of the form NAME=VALUE"))
}

fn said(found: &[Diagnostic]) -> String {
    found.iter().map(|diagnostic| diagnostic.message.as_str()).collect::<Vec<_>>().join("; ")
}
