//! What is wrong with a file, where, and what would be right: for people as text, for programs as JSON.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

mod suggest;

pub use suggest::did_you_mean;

/// How many characters of a source line a rendering shows around the caret.
const SHOWN_LINE: usize = 140;

/// Whether a diagnostic keeps the file from being used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is accepted; something is probably not meant.
    Warning,
}

/// A piece of a text. Lines and columns count from 1, columns in characters; the end is exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
pub struct Span {
    /// Line of the first character.
    pub line: usize,
    /// Column of the first character.
    pub column: usize,
    /// Line of the end.
    pub end_line: usize,
    /// Column behind the last character.
    pub end_column: usize,
}

impl Span {
    /// The span of one character.
    pub fn point(line: usize, column: usize) -> Span {
        Span { line, column, end_line: line, end_column: column + 1 }
    }

    /// From the start of this to the end of `other`.
    pub fn to(self, other: Span) -> Span {
        Span { end_line: other.end_line, end_column: other.end_column, ..self }
    }
}

/// One mistake, or one thing that is probably not meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Whether it keeps the file from being used.
    pub severity: Severity,
    /// A stable name for the kind of mistake, for example `unknown-key`.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What would be right, where that is known.
    pub help: Option<String>,
    /// Where, where that is known.
    pub span: Option<Span>,
    /// The place in the structure, for example `jobs.ship.plan[1].get`; empty: the whole file.
    pub path: String,
}

impl Diagnostic {
    /// An error without a position.
    pub fn error(code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            code,
            message: message.into(),
            help: None,
            span: None,
            path: String::new(),
        }
    }

    /// A warning without a position.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(code, message) }
    }

    /// The same, at a position.
    pub fn at(mut self, span: Span) -> Diagnostic {
        self.span = Some(span);
        self
    }

    /// The same, at a place in the structure.
    pub fn under(mut self, path: impl Into<String>) -> Diagnostic {
        self.path = path.into();
        self
    }

    /// The same, with a word about what would be right.
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }

    /// Whether it is an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The diagnostic as people read it: `FILE:LINE:COL: error[code]: message`, the source line with a caret under
    /// the place, and the help. Without a position the path stands in its place. `source` is the text that was parsed; a position outside it shows no line.
    pub fn render(&self, file: &str, source: &str) -> String {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let mut out = match self.span {
            Some(span) => format!("{file}:{}:{}: ", span.line, span.column),
            None if self.path.is_empty() => format!("{file}: "),
            None => format!("{file}: {}: ", self.path),
        };
        let _ = writeln!(out, "{severity}[{}]: {}", self.code, self.message);
        if let Some(span) = self.span
            && let Some(line) = lines(source).nth(span.line.saturating_sub(1))
        {
            push_source(&mut out, span, line);
        }
        if let Some(help) = &self.help {
            for (i, line) in help.lines().enumerate() {
                let _ = writeln!(out, "  {} {line}", if i == 0 { "= help:" } else { "       " });
            }
        }
        out
    }

    /// The diagnostic as JSON: `file`, `severity`, `code`, `message`, `help`, `path` and `span` (an object, or null).
    pub fn to_json(&self, file: &str) -> Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Value::Object(map) = &mut value {
            map.insert("file".into(), file.into());
        }
        value
    }
}

/// Writes the source line, cut to a readable piece, and a line with carets under the span.
fn push_source(out: &mut String, span: Span, line: &str) {
    let start = span.column.saturating_sub(1);
    let skipped = start.saturating_sub(SHOWN_LINE / 2);
    let mut rest = line.chars().skip(skipped);
    let shown: String = rest.by_ref().take(SHOWN_LINE).map(visible).collect();
    let (before, after) = (if skipped > 0 { "…" } else { "" }, if rest.next().is_some() { "…" } else { "" });
    let width = shown.chars().count();
    let offset = (start - skipped).min(width);
    let end = if span.end_line == span.line { span.end_column.saturating_sub(1) } else { usize::MAX };
    let marks = end.saturating_sub(start).min(width - offset).max(1);
    let number = span.line.to_string();
    let margin = " ".repeat(number.len());
    let _ = writeln!(out, " {number} | {before}{shown}{after}");
    let _ = writeln!(out, " {margin} | {}{}", " ".repeat(before.chars().count() + offset), "^".repeat(marks));
}

/// A character as it may be printed: tabs and control characters take one column and do nothing to a terminal.
fn visible(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// The lines of a text, divided as YAML does: at LF, CRLF and CR.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text.strip_prefix('\u{feff}').unwrap_or(text));
    std::iter::from_fn(move || {
        let text = rest?;
        match text.find(['\n', '\r']) {
            None => rest = None,
            Some(end) => {
                let width = if text[end..].starts_with("\r\n") { 2 } else { 1 };
                rest = Some(&text[end + width..]);
                return Some(&text[..end]);
            }
        }
        Some(text)
    })
}

/// What parsing gives: a value when there was no error, and everything there is to say.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed<T> {
    /// The value; `None` exactly when one of the diagnostics is an error.
    pub value: Option<T>,
    /// Errors and warnings, in the order of the file where they have a position.
    pub diagnostics: Vec<Diagnostic>,
}

impl<T> Parsed<T> {
    /// Of a value and what was found on the way; the value is dropped if there was an error.
    pub fn new(value: T, diagnostics: Vec<Diagnostic>) -> Parsed<T> {
        let refused = diagnostics.iter().any(Diagnostic::is_error);
        Parsed { value: (!refused).then_some(value), diagnostics }
    }

    /// Of a single error.
    pub fn failed(diagnostic: Diagnostic) -> Parsed<T> {
        Parsed { value: None, diagnostics: vec![diagnostic] }
    }

    /// The errors.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().filter(|diagnostic| diagnostic.is_error())
    }

    /// The warnings.
    pub fn warnings(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().filter(|diagnostic| !diagnostic.is_error())
    }

    /// The value, or all diagnostics.
    pub fn into_result(self) -> Result<T, Vec<Diagnostic>> {
        self.value.ok_or(self.diagnostics)
    }

    /// All diagnostics as people read them, one after the other (see [`Diagnostic::render`]).
    pub fn render(&self, file: &str, source: &str) -> String {
        self.diagnostics.iter().map(|diagnostic| diagnostic.render(file, source)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_its_line_and_a_caret() {
        let source = "jobs:\n- nme: ship\n";
        let found = Diagnostic::error("unknown-key", "unknown key 'nme'")
            .at(Span { line: 2, column: 3, end_line: 2, end_column: 6 })
            .help("did you mean 'name'?");
        assert_eq!(
            found.render("ci.yml", source),
            "ci.yml:2:3: error[unknown-key]: unknown key 'nme'\n 2 | - nme: ship\n   |   ^^^\n  = help: did you mean 'name'?\n"
        );
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let source = format!("a: {}X{}", "y".repeat(5_000_000), "z".repeat(1000));
        let shown = Diagnostic::error("x", "m").at(Span::point(1, 5_000_004)).render("f", &source);
        assert!(shown.len() < 1000, "{}", shown.len());
        assert!(shown.contains("yX") && shown.contains('…'));
    }

    #[test]
    fn control_characters_and_positions_outside_do_no_harm() {
        let found = Diagnostic::warning("x", "m").at(Span::point(1, 1));
        assert!(!found.render("f", "\u{1b}[31m").contains('\u{1b}'));
        assert_eq!(found.clone().at(Span::point(9, 9)).render("f", "a"), "f:9:9: warning[x]: m\n");
        assert!(found.at(Span { line: 1, column: 9, end_line: 1, end_column: 2 }).render("f", "a").contains('^'));
    }

    #[test]
    fn without_a_position_the_path_is_shown() {
        let found = Diagnostic::error("x", "m").under("jobs.a.plan[0]");
        assert_eq!(found.render("f", ""), "f: jobs.a.plan[0]: error[x]: m\n");
    }

    #[test]
    fn json_has_file_and_position() {
        let json = Diagnostic::error("x", "m").at(Span::point(3, 4)).under("jobs[0]").to_json("ci.yml");
        assert_eq!(json["file"], "ci.yml");
        assert_eq!(json["span"]["line"], 3);
        assert_eq!(json["severity"], "error");
        assert_eq!(json["path"], "jobs[0]");
    }

    #[test]
    fn lines_end_at_lf_crlf_and_cr() {
        assert_eq!(lines("\u{feff}a\r\nb\rc\nd").collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    }
}
