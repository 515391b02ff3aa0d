//! The grammar of a variable: `((source:name.field."quoted.field"))`.

use std::fmt;
use std::ops::Range;

/// What stands between the parentheses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// The var source before the colon; `.` for local variables.
    pub source: Option<String>,
    /// The name.
    pub name: String,
    /// The fields behind the name.
    pub fields: Vec<String>,
}

impl fmt::Display for Reference {
    /// As it is written, without the parentheses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(source) = &self.source {
            write!(f, "{source}:")?;
        }
        for (i, part) in std::iter::once(&self.name).chain(&self.fields).enumerate() {
            let dot = if i == 0 { "" } else { "." };
            if part.contains(['.', ':']) { write!(f, "{dot}\"{part}\"")? } else { write!(f, "{dot}{part}")? }
        }
        Ok(())
    }
}

impl std::str::FromStr for Reference {
    type Err = String;

    /// Reads what stands between the parentheses. The error says what is wrong with it.
    fn from_str(text: &str) -> Result<Reference, String> {
        let mut parts = vec![String::new()];
        let (mut source, mut quoted) = (None, false);
        for c in text.chars() {
            match c {
                '"' => quoted = !quoted,
                '.' if !quoted => parts.push(String::new()),
                ':' if !quoted && source.is_none() => {
                    source = Some(parts.join("."));
                    parts = vec![String::new()];
                }
                c => {
                    if let Some(part) = parts.last_mut() {
                        part.push(c);
                    }
                }
            }
        }
        if quoted {
            return Err(format!("invalid var '{text}': a quote is not closed"));
        }
        if parts.iter().any(String::is_empty) {
            return Err(format!("invalid var '{text}': empty field"));
        }
        let name = parts.remove(0);
        Ok(Reference { source, name, fields: parts })
    }
}

/// The variables of a text, in order: where each stands, parentheses included, and what it says or what is wrong with
/// it. Whatever does not fit the grammar, such as `(( x ))`, is just text.
pub fn references(text: &str) -> impl Iterator<Item = (Range<usize>, Result<Reference, String>)> + '_ {
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let start = from + text[from..].find("((")?;
            let inner = &text[start + 2..];
            let length = inner.find(|c| !is_allowed(c)).unwrap_or(inner.len());
            if length == 0 || !inner[length..].starts_with("))") {
                // The second parenthesis may be the first of a variable.
                from = if inner.starts_with('(') { start + 1 } else { start + 2 + length };
                continue;
            }
            from = start + length + 4;
            // A source that is empty is no variable to Concourse's tools either.
            if inner.starts_with(':') {
                continue;
            }
            return Some((start..from, inner[..length].parse()));
        }
    })
}

fn is_allowed(c: char) -> bool {
    matches!(c, '-' | '/' | '.' | ':' | '@' | '"' | '_') || c.is_ascii_digit() || c.is_alphabetic()
}
