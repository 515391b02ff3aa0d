//! Decoding a tree into types, collecting every mistake.
//!
//! A [`Reader`] collects diagnostics; its methods take a node and its path and give the value, or `None` after
//! reporting why not. [`Fields`] walks the keys of one map and reports those that nobody asked for, with the nearest
//! one that exists.
//!
//! ```
//! use holdall_config::yaml::{self, Reader};
//!
//! let node = yaml::parse("name: api\ntriger: true\n").value.unwrap();
//! let mut reader = Reader::new();
//! let mut fields = reader.fields(&node, "services.api").unwrap();
//! let name = fields.required(&mut reader, "name", Reader::string);
//! let trigger = fields.optional(&mut reader, "trigger", Reader::bool);
//! fields.finish(&mut reader);
//! assert_eq!((name.as_deref(), trigger), (Some("api"), None));
//! let found = reader.into_diagnostics();
//! assert_eq!(found[0].message, "unknown key 'triger'");
//! assert_eq!(found[0].help.as_deref(), Some("did you mean 'trigger'?"));
//! ```

use serde_json::Value;

use crate::diagnostic::{Diagnostic, Severity, Span, did_you_mean};

use super::node::{Entry, Map, Node, Yaml};

/// At most this many diagnostics are kept of one file.
const MAX_DIAGNOSTICS: usize = 500;

/// Collects what is wrong with a tree while it is decoded.
#[derive(Debug, Default)]
pub struct Reader {
    diagnostics: Vec<Diagnostic>,
}

impl Reader {
    /// A reader that has found nothing yet.
    pub fn new() -> Reader {
        Reader::default()
    }

    /// Everything that was found, in the order in which it was found.
    pub fn into_diagnostics(self) -> Vec<Diagnostic> {
        self.diagnostics
    }

    /// Whether an error was found.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }

    /// Whether so much was found that nothing more is kept.
    pub fn is_full(&self) -> bool {
        self.diagnostics.len() >= MAX_DIAGNOSTICS
    }

    /// Adds a diagnostic that was made elsewhere.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if !self.is_full() {
            self.diagnostics.push(diagnostic);
        }
    }

    /// Reports an error at a place.
    pub fn error(&mut self, code: &'static str, span: Span, path: &str, message: impl Into<String>) {
        self.push(Diagnostic::error(code, message).at(span).under(path));
    }

    /// Reports a warning at a place.
    pub fn warning(&mut self, code: &'static str, span: Span, path: &str, message: impl Into<String>) {
        self.push(Diagnostic::warning(code, message).at(span).under(path));
    }

    /// Reports that a value has another type than it must have; `expected` with its article.
    pub fn mismatch(&mut self, node: &Node, path: &str, expected: &str) {
        let name = if path.is_empty() { "the file" } else { last_of(path) };
        let found = Diagnostic::error("wrong-type", format!("{name} must be {expected}, not {}", node.kind()));
        let found = found.at(node.span).under(path);
        let found = match (&node.value, expected) {
            (Yaml::Bool(_), "a string") => {
                found.help("YAML reads y, n, yes, no, on and off as booleans: put it in quotes")
            }
            (Yaml::Int(_) | Yaml::Float(_), "a string") => found.help("put it in quotes"),
            (Yaml::String(text), _) if text.starts_with("((") => {
                found.help("a variable can only stand where text is wanted")
            }
            (Yaml::String(text), "a boolean") if matches!(text.as_str(), "true" | "false" | "yes" | "no") => {
                found.help("leave the quotes out")
            }
            (Yaml::String(text), "a whole number") if text.parse::<i64>().is_ok() => found.help("leave the quotes out"),
            (Yaml::String(_) | Yaml::Map(_), "a list" | "a list of strings") => found.help("write it as a list: [..]"),
            _ => found,
        };
        self.push(found);
    }

    /// Text.
    pub fn string(&mut self, node: &Node, path: &str) -> Option<String> {
        match &node.value {
            Yaml::String(text) => Some(text.clone()),
            _ => self.refuse(node, path, "a string"),
        }
    }

    /// Text that is not empty.
    pub fn name(&mut self, node: &Node, path: &str) -> Option<String> {
        let text = self.string(node, path)?;
        if text.is_empty() {
            self.error("empty", node.span, path, format!("{} must not be empty", last_of(path)));
            return None;
        }
        Some(text)
    }

    /// A boolean.
    pub fn bool(&mut self, node: &Node, path: &str) -> Option<bool> {
        match node.value {
            Yaml::Bool(value) => Some(value),
            _ => self.refuse(node, path, "a boolean"),
        }
    }

    /// A whole number of 64 bits; `1.0` and `1e3` are whole.
    pub fn int(&mut self, node: &Node, path: &str) -> Option<i64> {
        let value = match node.value {
            Yaml::Int(value) => i64::try_from(value).ok(),
            Yaml::Float(value) if value.fract() == 0.0 && value.abs() < i64::MAX as f64 => Some(value as i64),
            _ => None,
        };
        if value.is_none() {
            self.mismatch(node, path, "a whole number");
        }
        value
    }

    /// A map as a JSON object.
    pub fn object(&mut self, node: &Node, path: &str) -> Option<serde_json::Map<String, Value>> {
        match &node.value {
            Yaml::Map(map) => Some(map.to_json()),
            _ => self.refuse(node, path, "a map"),
        }
    }

    /// Any value, as JSON.
    pub fn any(&mut self, node: &Node, _path: &str) -> Option<Value> {
        Some(node.to_json())
    }

    /// A list; each item is read with `item`, and those that are wrong are left out after they were reported.
    pub fn list<T>(
        &mut self,
        node: &Node,
        path: &str,
        mut item: impl FnMut(&mut Reader, &Node, &str) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Yaml::List(items) = &node.value else { return self.refuse(node, path, "a list") };
        Some(items.iter().enumerate().filter_map(|(i, node)| item(self, node, &format!("{path}[{i}]"))).collect())
    }

    /// A list of texts.
    pub fn strings(&mut self, node: &Node, path: &str) -> Option<Vec<String>> {
        self.list(node, path, Reader::string)
    }

    /// A map of texts, in the order in which it was written.
    pub fn string_map(&mut self, node: &Node, path: &str) -> Option<Vec<(String, String)>> {
        let map = self.map(node, path)?;
        let pair = |reader: &mut Reader, entry: &Entry| {
            Some((entry.key.clone(), reader.string(&entry.value, &join(path, &entry.key))?))
        };
        Some(map.entries.iter().filter_map(|entry| pair(self, entry)).collect())
    }

    /// A map, to walk through its entries.
    pub fn map<'n>(&mut self, node: &'n Node, path: &str) -> Option<&'n Map> {
        match &node.value {
            Yaml::Map(map) => Some(map),
            _ => self.refuse(node, path, "a map"),
        }
    }

    /// A map, to ask for its keys one by one.
    pub fn fields<'n>(&mut self, node: &'n Node, path: &str) -> Option<Fields<'n>> {
        let map = self.map(node, path)?;
        Some(Fields::new(map, node.span, path))
    }

    fn refuse<T>(&mut self, node: &Node, path: &str, expected: &str) -> Option<T> {
        self.mismatch(node, path, expected);
        None
    }
}

/// A path with one more key: `jobs` and `ship` give `jobs.ship`.
pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The last part of a path, which names a value in messages.
fn last_of(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// Whether a key is another in upper case; the long s and the Kelvin sign fold as well.
fn folds(written: &str, key: &str) -> bool {
    let lower = written.chars().map(|c| match c {
        'ſ' => 's',
        'K' => 'k',
        c => c.to_ascii_lowercase(),
    });
    lower.eq(key.chars())
}

/// The keys of one map while they are read.
#[derive(Debug)]
pub struct Fields<'n> {
    /// Where the map is.
    pub span: Span,
    /// The path of the map.
    pub path: String,
    map: &'n Map,
    read: Vec<bool>,
    known: Vec<&'static str>,
    folding: bool,
}

impl<'n> Fields<'n> {
    /// The fields of a map that is at `path`.
    pub fn new(map: &'n Map, span: Span, path: &str) -> Fields<'n> {
        let read = vec![false; map.entries.len()];
        Fields { span, path: path.to_owned(), map, read, known: Vec::new(), folding: false }
    }

    /// The same, but keys match in upper and lower case, as in Go's JSON (reference, validation, section 15).
    pub fn folding(map: &'n Map, span: Span, path: &str) -> Fields<'n> {
        Fields { folding: true, ..Fields::new(map, span, path) }
    }

    /// The entry of a key, which counts as known from now on. Of keys that differ in case the last by text.
    pub fn entry(&mut self, key: &'static str) -> Option<&'n Entry> {
        self.entries(key).pop()
    }

    /// All entries that a key may stand for, by their text.
    fn entries(&mut self, key: &'static str) -> Vec<&'n Entry> {
        self.known.push(key);
        let mut found = Vec::new();
        for (entry, read) in self.map.entries.iter().zip(&mut self.read) {
            if entry.key == key || (self.folding && folds(&entry.key, key)) {
                *read = true;
                found.push(entry);
            }
        }
        found.sort_by_key(|entry| &entry.key);
        found
    }

    /// Whether a key is there, even as null. It does not become known by that.
    pub fn has(&self, key: &str) -> bool {
        self.map.get(key).is_some()
    }

    /// The value of a key, which counts as known from now on; null is as if the key were not there.
    pub fn get(&mut self, key: &'static str) -> Option<&'n Node> {
        self.entry(key).map(|entry| &entry.value).filter(|node| !node.is_null())
    }

    /// A key that may be missing.
    pub fn optional<T>(
        &mut self,
        reader: &mut Reader,
        key: &'static str,
        mut read: impl FnMut(&mut Reader, &'n Node, &str) -> Option<T>,
    ) -> Option<T> {
        let entries = self.entries(key);
        let path = join(&self.path, key);
        let values = entries.iter().map(|entry| &entry.value).filter(|node| !node.is_null());
        values.fold(None, |last, node| read(reader, node, &path).or(last))
    }

    /// A key that must be there.
    pub fn required<T>(
        &mut self,
        reader: &mut Reader,
        key: &'static str,
        read: impl FnMut(&mut Reader, &'n Node, &str) -> Option<T>,
    ) -> Option<T> {
        if self.get(key).is_none() {
            reader.error("missing-key", self.span, &self.path, format!("key '{key}' is missing"));
            return None;
        }
        self.optional(reader, key, read)
    }

    /// The path of a key of this map.
    pub fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// The entries that were not asked for.
    pub fn unread(&self) -> impl Iterator<Item = &'n Entry> {
        self.map.entries.iter().zip(&self.read).filter(|(_, read)| !**read).map(|(entry, _)| entry)
    }

    /// Reports every key that was not asked for.
    pub fn finish(self, reader: &mut Reader) {
        for entry in self.unread() {
            if reader.is_full() {
                return;
            }
            reader.push(self.unknown(entry));
        }
    }

    /// Warns of every key that was not asked for: it is ignored.
    pub fn finish_ignoring(self, reader: &mut Reader) {
        for entry in self.unread() {
            if reader.is_full() {
                return;
            }
            let found = self.unknown(entry);
            let message = format!("key '{}' is not known here and ignored", entry.key);
            reader.push(Diagnostic { code: "ignored-key", message, severity: Severity::Warning, ..found });
        }
    }

    /// The error for a key that is not known here.
    fn unknown(&self, entry: &Entry) -> Diagnostic {
        let found = Diagnostic::error("unknown-key", format!("unknown key '{}'", entry.key))
            .at(entry.key_span)
            .under(join(&self.path, &entry.key));
        let unused = self.known.iter().copied().filter(|key| self.map.get(key).is_none());
        match did_you_mean(&entry.key, unused) {
            Some(meant) => found.help(format!("did you mean '{meant}'?")),
            None if self.known.len() <= 12 && !self.known.is_empty() => {
                found.help(format!("known here: {}", self.known.join(", ")))
            }
            None => found,
        }
    }
}
