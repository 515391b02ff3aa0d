//! YAML with positions, typed as Concourse's tools type it.
//!
//! [`parse`] reads the first document of a text into a tree of [`Node`]s. It follows sigs.k8s.io/yaml, which `fly`
//! uses (`reference/validation.md`): YAML 1.1 words are booleans (`yes`, `on`, `y`), `0755` is octal, a merge key
//! `<<` is applied where it stands, duplicate keys are compared as written, and whatever JSON cannot hold (`.inf`,
//! null keys) is refused wherever it stands. Size, nesting and what aliases expand to are bounded.
//!
//! [`Reader`] and [`Fields`] decode a tree into types and collect *every* mistake on the way.

mod build;
mod emit;
mod input;
mod node;
mod reader;
mod scalar;

pub use build::{DuplicateKeys, parse_with};
pub use emit::emit;
pub use input::decode;
pub use node::{Entry, Map, Node, Yaml};
pub use reader::{Fields, Reader};
pub use scalar::{go_float, number};

use crate::diagnostic::{Diagnostic, Parsed};

/// The longest text that is read, in bytes.
pub const MAX_BYTES: usize = 16 * 1024 * 1024;
/// How deep lists and maps may nest. With it, no recursion over a tree can exhaust a stack.
pub const MAX_DEPTH: usize = 64;
/// How many values a document may have once its aliases are expanded.
pub const MAX_NODES: usize = 1_000_000;
/// How many bytes of text a document may have once its aliases are expanded.
pub const MAX_EXPANDED: usize = 64 * 1024 * 1024;

/// Reads the first document of a text; an empty one is null. Duplicate keys are errors. All mistakes that leave the
/// structure intact are reported, and the first one that does not.
pub fn parse(text: &str) -> Parsed<Node> {
    parse_with(text, DuplicateKeys::Refuse)
}

/// The same from bytes: UTF-8, or UTF-16 with a byte order mark. Broken text is an error that says where.
pub fn from_bytes(bytes: &[u8]) -> Parsed<Node> {
    match decode(bytes) {
        Ok(text) => parse(&text),
        Err(diagnostic) => Parsed::failed(*diagnostic),
    }
}

/// A value that came as JSON, for example from a store: it has no positions.
pub fn from_json(value: &serde_json::Value) -> Parsed<Node> {
    match Node::from_json(value, MAX_DEPTH) {
        Some(node) => Parsed::new(node, Vec::new()),
        None => Parsed::failed(Diagnostic::error("too-deep", format!("nested deeper than {MAX_DEPTH} levels"))),
    }
}

#[cfg(test)]
mod tests;
