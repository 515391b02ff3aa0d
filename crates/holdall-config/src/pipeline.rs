//! Pipelines: from text to [`Pipeline`], with everything that is wrong, and back to Concourse's JSON.
//!
//! [`parse`] accepts and refuses what `fly validate-pipeline` does (reference, section 1.12, and validation), but
//! reports every mistake of a file at once. What Concourse ignores without a word is a warning here. Beyond
//! Concourse's rules it checks the built-in release types (release model, sections 4 and 5).

pub(crate) mod decode;
mod emit;
mod identifier;
mod release;
pub(crate) mod step;
mod unsupported;
mod validate;
mod var_sources;

use holdall_engine::pipeline::Pipeline;

use crate::diagnostic::{Diagnostic, Parsed};
use crate::vars;
use crate::yaml::{self, Node, Reader};

pub(crate) use emit::task_config;
pub use emit::to_json;
pub use identifier::{Identifier, identifier};
pub use step::MAX_STEP_DEPTH;
pub use unsupported::unsupported;
pub(crate) use validate::cores;

/// Reads and checks a pipeline. YAML or JSON; `((vars))` that stand where text may stand stay as they are.
pub fn parse(text: &str) -> Parsed<Pipeline> {
    let parsed = yaml::parse(text);
    match parsed.value {
        Some(node) => {
            let mut found = parse_node(&node);
            found.diagnostics.splice(0..0, parsed.diagnostics);
            found
        }
        None => Parsed { value: None, diagnostics: parsed.diagnostics },
    }
}

/// The same from a tree, for example after its vars were replaced, or from a stored JSON value
/// (see [`yaml::from_json`]).
pub fn parse_node(node: &Node) -> Parsed<Pipeline> {
    let mut reader = Reader::new();
    vars::check(node).into_iter().for_each(|found| reader.push(found));
    let decoded = decode::pipeline(&mut reader, node);
    validate::pipeline(&mut reader, &decoded);
    let mut diagnostics = reader.into_diagnostics();
    diagnostics.sort_by_key(|found| found.span.map_or((0, 0), |span| (span.line, span.column)));
    Parsed::new(decoded.pipeline, diagnostics)
}

/// Gives diagnostics that have only a path, as [`unsupported()`] makes them, the position that the path has in the
/// tree the pipeline was read from.
pub fn locate(diagnostics: &mut [Diagnostic], root: &Node) {
    for diagnostic in diagnostics.iter_mut().filter(|diagnostic| diagnostic.span.is_none()) {
        diagnostic.span = root.find(&diagnostic.path).map(|node| node.span);
    }
}

#[cfg(test)]
mod tests;
