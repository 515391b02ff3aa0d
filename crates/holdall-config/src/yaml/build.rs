//! From the scanner's events to a tree: anchors, aliases, merge keys, duplicate keys, bounds.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, Tag};

use crate::diagnostic::{Diagnostic, Parsed, Span};

use super::node::{Entry, Map, Node, Yaml};
use super::scalar::{go_float, resolve};
use super::{MAX_BYTES, MAX_DEPTH, MAX_EXPANDED, MAX_NODES, input};

/// At most this many mistakes are reported; what is wrong more often than that is wrong in the same way.
const MAX_DIAGNOSTICS: usize = 200;

/// What to do about a key that is written twice in one map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DuplicateKeys {
    /// It is an error: pipelines and systems.
    Refuse,
    /// The last one wins: task files (reference, validation, section 3).
    LastWins,
}

/// Reads the first document of a text (see [`super::parse`]).
pub fn parse_with(text: &str, duplicates: DuplicateKeys) -> Parsed<Node> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.len() > MAX_BYTES {
        let message = format!("the file has {} bytes; at most {MAX_BYTES} are read", text.len());
        return Parsed::failed(Diagnostic::error("too-large", message));
    }
    if let Err(diagnostic) = input::check(text) {
        return Parsed::failed(*diagnostic);
    }
    let mut builder = Builder {
        text,
        duplicates,
        stack: Vec::new(),
        anchors: HashMap::new(),
        nodes: 0,
        bytes: 0,
        diagnostics: Vec::new(),
    };
    match builder.document() {
        Ok(root) => Parsed::new(root, builder.diagnostics),
        Err(diagnostic) => {
            builder.diagnostics.push(*diagnostic);
            Parsed { value: None, diagnostics: builder.diagnostics }
        }
    }
}

/// A mistake after which nothing more can be read.
type Fatal = Box<Diagnostic>;

struct Builder<'a> {
    text: &'a str,
    duplicates: DuplicateKeys,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Anchored>,
    nodes: usize,
    bytes: usize,
    diagnostics: Vec<Diagnostic>,
}

/// A finished value that aliases may name, with what each use of it costs.
struct Anchored {
    node: Node,
    raw: Option<RawKey>,
    size: Size,
}

#[derive(Clone, Copy, Default)]
struct Size {
    nodes: usize,
    bytes: usize,
    depth: usize,
}

/// A list or a map that is not finished.
struct Frame {
    start: Span,
    anchor: usize,
    size: Size,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map(Building),
}

#[derive(Default)]
struct Building {
    map: Map,
    index: HashMap<String, usize>,
    written: HashMap<RawKey, usize>,
    key: Option<PendingKey>,
}

enum PendingKey {
    /// `<<`.
    Merge,
    /// A key as text.
    Plain(String, Span),
    /// A key that was reported; its value is dropped.
    Bad,
}

/// A key as written, which is what duplicates are found by.
#[derive(Clone, PartialEq, Eq, Hash)]
enum RawKey {
    Scalar(String),
    Alias(usize),
}

impl Builder<'_> {
    /// Reads to the end of the first document.
    fn document(&mut self) -> Result<Node, Fatal> {
        let options = granit_parser::options! {
            emit_comments: false,
            block_scalar_eof_without_line_feed: true,
            flow_nesting_limit: MAX_DEPTH + 1,
            block_nesting_limit: MAX_DEPTH + 1,
            simple_key_max_lookahead: 1024,
        };
        let mut root = None;
        for item in Parser::new_from_str_with_options(self.text, options) {
            let (event, place) = item.map_err(|error| Box::new(scan_error(&error)))?;
            let span = span(place);
            let done = match event {
                Event::Scalar(text, style, anchor, tag) => self.scalar(&text, style, anchor, tag.as_deref(), span)?,
                Event::Alias(id) => self.alias(id, span)?,
                Event::SequenceStart(_, anchor, _) => self.open(Content::List(Vec::new()), anchor, span)?,
                Event::MappingStart(_, anchor, _) => self.open(Content::Map(Building::default()), anchor, span)?,
                Event::SequenceEnd | Event::MappingEnd => self.close(span)?,
                Event::DocumentEnd | Event::StreamEnd => break,
                _ => None,
            };
            // What stands behind the root is still read: it may be a mistake.
            root = done.or(root);
        }
        Ok(root.unwrap_or_else(|| Node::null(Span::point(1, 1))))
    }

    fn report(&mut self, diagnostic: Diagnostic) {
        if self.diagnostics.len() < MAX_DIAGNOSTICS {
            self.diagnostics.push(diagnostic);
        }
    }

    /// Counts what a value costs, and refuses the document when it is too much.
    fn charge(&mut self, size: Size, span: Span) -> Result<(), Fatal> {
        self.nodes = self.nodes.saturating_add(size.nodes);
        self.bytes = self.bytes.saturating_add(size.bytes);
        let fatal = |code, message: String| Err(Box::new(Diagnostic::error(code, message).at(span)));
        if self.nodes > MAX_NODES {
            return fatal("too-many-values", format!("more than {MAX_NODES} values, aliases expanded"));
        }
        if self.bytes > MAX_EXPANDED {
            return fatal("too-large", format!("more than {MAX_EXPANDED} bytes of text, aliases expanded"));
        }
        if self.stack.len() + size.depth > MAX_DEPTH {
            return Err(Box::new(too_deep(span)));
        }
        Ok(())
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        span: Span,
    ) -> Result<Option<Node>, Fatal> {
        let size = Size { nodes: 1, bytes: text.len(), depth: 0 };
        self.charge(size, span)?;
        let value = match typed(text, style, tag) {
            Ok(value) => value,
            Err(message) => {
                self.report(Diagnostic::error("scalar", message).at(span).under(self.path()));
                Yaml::Null
            }
        };
        let raw = Some(RawKey::Scalar(text.to_owned()));
        self.finish(Node { value, span }, raw, anchor, size)
    }

    fn alias(&mut self, id: usize, span: Span) -> Result<Option<Node>, Fatal> {
        let Some(anchored) = self.anchors.get(&id) else {
            let message = "the value of an anchor contains itself";
            return Err(Box::new(Diagnostic::error("anchor", message).at(span).under(self.path())));
        };
        let size = anchored.size;
        let raw = anchored.raw.is_some().then_some(RawKey::Alias(id));
        let list = anchored.node.as_list().is_some();
        let merging = matches!(self.stack.last(), Some(Frame { content: Content::Map(building), .. })
            if matches!(building.key, Some(PendingKey::Merge)));
        if list && merging {
            let found = Diagnostic::error("merge", "a merge (`<<`) cannot take a list through an alias");
            self.report(found.at(span).under(self.path()).help("write the list out: `<<: [*a, *b]`"));
        }
        self.charge(size, span)?;
        let node = Node { value: self.anchors[&id].node.value.clone(), span };
        self.finish(node, raw, 0, size)
    }

    fn open(&mut self, content: Content, anchor: usize, start: Span) -> Result<Option<Node>, Fatal> {
        self.charge(Size { nodes: 1, bytes: 0, depth: 1 }, start)?;
        self.stack.push(Frame { start, anchor, size: Size { nodes: 1, bytes: 0, depth: 0 }, content });
        Ok(None)
    }

    fn close(&mut self, end: Span) -> Result<Option<Node>, Fatal> {
        let Some(frame) = self.stack.pop() else { return Ok(None) };
        let value = match frame.content {
            Content::List(items) => Yaml::List(items),
            Content::Map(building) => Yaml::Map(building.map),
        };
        let size = Size { depth: frame.size.depth + 1, ..frame.size };
        let node = Node { value, span: frame.start.to(end) };
        self.finish(node, None, frame.anchor, size)
    }

    /// Puts a finished value where it belongs; gives the root.
    fn finish(&mut self, node: Node, raw: Option<RawKey>, anchor: usize, size: Size) -> Result<Option<Node>, Fatal> {
        if anchor != 0 {
            self.anchors.insert(anchor, Anchored { node: node.clone(), raw: raw.clone(), size });
        }
        let Some(frame) = self.stack.last_mut() else { return Ok(Some(node)) };
        frame.size.nodes += size.nodes;
        frame.size.bytes += size.bytes;
        frame.size.depth = frame.size.depth.max(size.depth);
        let found = match &mut frame.content {
            Content::List(items) => {
                items.push(node);
                None
            }
            Content::Map(building) => match building.key.take() {
                None => building.start_entry(node, raw, self.duplicates),
                Some(key) => building.end_entry(key, node),
            },
        };
        if let Some(diagnostic) = found {
            let diagnostic = diagnostic.under(self.path());
            self.report(diagnostic);
        }
        Ok(None)
    }

    /// Where the builder is, for example `jobs[0].plan`.
    fn path(&self) -> String {
        let mut path = String::new();
        for frame in &self.stack {
            match &frame.content {
                Content::List(items) => path.push_str(&format!("[{}]", items.len())),
                Content::Map(Building { key: Some(PendingKey::Plain(key, _)), .. }) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.extend(key.chars().take(80));
                }
                Content::Map(_) => {}
            }
        }
        path
    }
}

impl Building {
    /// Takes a key. Gives what is wrong with it.
    fn start_entry(&mut self, node: Node, raw: Option<RawKey>, duplicates: DuplicateKeys) -> Option<Diagnostic> {
        let span = node.span;
        let mut problem = None;
        if let (Some(raw), DuplicateKeys::Refuse) = (&raw, duplicates)
            && let Some(first) = self.written.insert(raw.clone(), span.line)
        {
            let merge = *raw == RawKey::Scalar("<<".into());
            let name = key_text(&node.value).unwrap_or_default();
            let found = Diagnostic::error("duplicate-key", format!("key '{name}' is already given in line {first}"));
            let help = if merge { "merge several maps with `<<: [*a, *b]`" } else { "keep one of the two" };
            problem = Some(found.at(span).help(help));
        }
        let (key, found) = match (&raw, key_text(&node.value)) {
            (Some(RawKey::Scalar(text)), _) if text == "<<" => (PendingKey::Merge, None),
            (_, Some(text)) => (PendingKey::Plain(text, span), None),
            (_, None) => (PendingKey::Bad, Some(bad_key(&node))),
        };
        self.key = Some(key);
        problem.or(found)
    }

    /// Takes the value of a key. Gives what is wrong with it.
    fn end_entry(&mut self, key: PendingKey, node: Node) -> Option<Diagnostic> {
        match key {
            PendingKey::Bad => None,
            PendingKey::Plain(key, key_span) => {
                self.set(Entry { key, key_span, value: node });
                None
            }
            PendingKey::Merge => self.merge(node),
        }
    }

    /// Sets a key; the entry keeps the place of the first one.
    fn set(&mut self, entry: Entry) {
        match self.index.get(&entry.key) {
            Some(&at) => self.map.entries[at] = entry,
            None => {
                self.index.insert(entry.key.clone(), self.map.entries.len());
                self.map.entries.push(entry);
            }
        }
    }

    /// Merges a map, or a list of maps of which the first wins, over what was written before it.
    fn merge(&mut self, node: Node) -> Option<Diagnostic> {
        let refuse = |span| Some(Diagnostic::error("merge", "a merge (`<<`) needs a map, or a list of maps").at(span));
        match node.value {
            Yaml::Map(map) => map.entries.into_iter().for_each(|entry| self.set(entry)),
            Yaml::List(items) => {
                for item in items.into_iter().rev() {
                    let Yaml::Map(map) = item.value else { return refuse(item.span) };
                    map.entries.into_iter().for_each(|entry| self.set(entry));
                }
            }
            _ => return refuse(node.span),
        }
        None
    }
}

/// A key as text; lists, maps and null cannot be keys.
fn key_text(value: &Yaml) -> Option<String> {
    match value {
        Yaml::String(text) => Some(text.clone()),
        Yaml::Bool(value) => Some(value.to_string()),
        Yaml::Int(value) => Some(value.to_string()),
        Yaml::Float(value) => Some(go_float(*value)),
        Yaml::Null | Yaml::List(_) | Yaml::Map(_) => None,
    }
}

fn bad_key(node: &Node) -> Diagnostic {
    let found = Diagnostic::error("bad-key", format!("{} cannot be a key", node.kind())).at(node.span);
    match &node.value {
        Yaml::Map(_) => found.help("text in double braces must be quoted: \"{{x}}\"; a variable is written ((x))"),
        _ => found,
    }
}

/// The value of a scalar by its style and tag.
fn typed(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Yaml, String> {
    let string = || Yaml::String(text.to_owned());
    let name = tag.and_then(|tag| tag.suffix_in_namespace("tag:yaml.org,2002:"));
    let value = match (tag, name.as_deref()) {
        (None, _) if style == ScalarStyle::Plain => resolve(text),
        (None, _) => string(),
        (_, Some("binary")) => return binary(text),
        (_, Some(name @ ("bool" | "int" | "float" | "null"))) => match (name, resolve(text)) {
            ("bool", value @ Yaml::Bool(_))
            | ("int", value @ Yaml::Int(_))
            | ("float", value @ Yaml::Float(_))
            | ("null", value @ Yaml::Null) => value,
            ("float", Yaml::Int(value)) => Yaml::Float(value as f64),
            _ => return Err(format!("'{}' is not of type !!{name}", shortened(text))),
        },
        _ => string(),
    };
    match value {
        Yaml::Float(value) if !value.is_finite() => Err(format!("'{text}' cannot be written in JSON")),
        value => Ok(value),
    }
}

/// `!!binary`: the text that the base64 text stands for.
fn binary(text: &str) -> Result<Yaml, String> {
    let mut bytes = Vec::new();
    let (mut bits, mut count, mut padded) = (0u32, 0, false);
    for c in text.bytes().filter(|c| !c.is_ascii_whitespace()) {
        let digit = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => {
                padded = true;
                continue;
            }
            _ => return Err("!!binary value contains invalid base64 data".into()),
        };
        if padded {
            return Err("!!binary value contains invalid base64 data".into());
        }
        bits = bits << 6 | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Ok(Yaml::String(String::from_utf8_lossy(&bytes).into_owned()))
}

/// The start of a text that may be long.
fn shortened(text: &str) -> String {
    let mut start: String = text.chars().take(40).collect();
    if start.len() < text.len() {
        start.push('…');
    }
    start
}

fn too_deep(span: Span) -> Diagnostic {
    Diagnostic::error("too-deep", format!("nested deeper than {MAX_DEPTH} levels")).at(span)
}

/// The scanner's error in our words.
fn scan_error(error: &granit_parser::ScanError) -> Diagnostic {
    let mark = error.marker();
    let at = Span::point(mark.line(), mark.col() + 1);
    if *error.kind() == granit_parser::ErrorKind::RecursionLimitExceeded {
        return too_deep(at);
    }
    let text = error.info();
    let found = Diagnostic::error("yaml", text.clone()).at(at);
    if text.contains("tab") { found.help("indent with spaces") } else { found }
}

fn span(place: granit_parser::Span) -> Span {
    Span {
        line: place.start.line(),
        column: place.start.col() + 1,
        end_line: place.end.line(),
        end_column: place.end.col() + 1,
    }
}
