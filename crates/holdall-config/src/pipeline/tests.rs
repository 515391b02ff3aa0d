//! Each element of a pipeline, right and wrong.

mod elements;
mod hostile;
mod release;

use super::*;

/// The errors of a pipeline, as `LINE PATH: MESSAGE`.
fn errors(text: &str) -> Vec<String> {
    let found = parse(text);
    assert!(found.value.is_none(), "accepted:\n{text}");
    shown(found.errors())
}

/// The warnings of a pipeline that is accepted.
fn warnings(text: &str) -> Vec<String> {
    let found = parse(text);
    assert!(found.value.is_some(), "{}", found.render("test.yml", text));
    shown(found.warnings())
}

fn shown<'a>(found: impl Iterator<Item = &'a crate::diagnostic::Diagnostic>) -> Vec<String> {
    found.map(|d| format!("{} {}: {}", d.span.map_or(0, |span| span.line), d.path, d.message)).collect()
}

/// The pipeline; panics with the diagnostics where it is refused.
fn accepted(text: &str) -> Pipeline {
    let found = parse(text);
    found.value.unwrap_or_else(|| panic!("{}", parse(text).render("test.yml", text)))
}
