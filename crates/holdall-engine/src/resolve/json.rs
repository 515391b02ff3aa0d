//! JSON with positions: what `serde_json` does not keep, and a strict reader needs to report every problem of a
//! document where it stands.

use std::borrow::Cow;
use std::fmt;

/// Arrays and objects may be this deep in each other; what is read here is never deeper than 6.
const DEEPEST: usize = 64;

/// Something wrong with a document, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong: a lower-case fragment.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

impl Problem {
    /// A problem at a byte of `text`.
    fn at(text: &[u8], offset: usize, message: String) -> Problem {
        let (line, column) = Walk::new(text).to(offset);
        Problem { line, column, message }
    }

    /// Problems at bytes of `text`, ascending: it is walked once, however many there are.
    pub(super) fn all(text: &[u8], problems: Vec<(usize, String)>) -> Vec<Problem> {
        let mut walk = Walk::new(text);
        let problem = |(offset, message)| {
            let (line, column) = walk.to(offset);
            Problem { line, column, message }
        };
        problems.into_iter().map(problem).collect()
    }
}

/// A way through a text that counts lines and columns.
struct Walk<'t> {
    ahead: &'t [u8],
    at: usize,
    line: usize,
    column: usize,
}

impl<'t> Walk<'t> {
    fn new(text: &'t [u8]) -> Walk<'t> {
        Walk { ahead: text, at: 0, line: 1, column: 1 }
    }

    /// Line and column of a byte that is not before where the walk stands.
    fn to(&mut self, offset: usize) -> (usize, usize) {
        let (passed, ahead) = self.ahead.split_at((offset - self.at).min(self.ahead.len()));
        for byte in passed {
            match byte {
                b'\n' => (self.line, self.column) = (self.line + 1, 1),
                // It continues a character.
                0x80..0xC0 => {}
                _ => self.column += 1,
            }
        }
        (self.ahead, self.at) = (ahead, offset);
        (self.line, self.column)
    }
}

/// The most characters of a document's own text that a message repeats.
const EXCERPT: usize = 60;

/// A text in quotes, for messages; a long one is cut.
pub(super) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(EXCERPT) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}...", &text[..end]),
    }
}

/// A value, and the byte at which it begins.
#[derive(Debug)]
pub(super) struct Node<'t> {
    pub(super) offset: usize,
    pub(super) value: Value<'t>,
}

/// A JSON value. Numbers are kept as they are written.
#[derive(Debug)]
pub(super) enum Value<'t> {
    Null,
    Bool(bool),
    Number(&'t str),
    Text(Cow<'t, str>),
    Array(Vec<Node<'t>>),
    /// Every key with the byte at which it begins, repeated ones too.
    Object(Vec<(usize, Cow<'t, str>, Node<'t>)>),
}

impl Value<'_> {
    /// What it is, for messages.
    pub(super) fn shown(&self) -> String {
        match self {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Number(digits) if digits.len() > EXCERPT => format!("the number {}...", &digits[..EXCERPT]),
            Value::Number(digits) => format!("the number {digits}"),
            Value::Text(text) => format!("the text {}", excerpt(text)),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "an object".to_owned(),
        }
    }
}

/// Reads one value that is the whole of `text`. What is not JSON is one problem: after it nothing can be trusted.
pub(super) fn parse(text: &[u8]) -> Result<Node<'_>, Problem> {
    let text = std::str::from_utf8(text)
        .map_err(|err| Problem::at(text, err.valid_up_to(), "the text is not UTF-8".to_owned()))?;
    let mut parser = Parser { text, at: 0 };
    let result = parser.value(0).and_then(|node| {
        parser.space();
        if parser.at < text.len() { Err(parser.unexpected("the end of the document")) } else { Ok(node) }
    });
    result.map_err(|(offset, message)| Problem::at(text.as_bytes(), offset, message))
}

type Failure = (usize, String);

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Parser<'t> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn unexpected(&self, wanted: &str) -> Failure {
        let found = match self.text[self.at..].chars().next() {
            None => "the document ends".to_owned(),
            Some(c) => format!("found {c:?}"),
        };
        (self.at, format!("not JSON: expected {wanted}, {found}"))
    }

    fn expect(&mut self, byte: u8, wanted: &str) -> Result<(), Failure> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(self.unexpected(wanted))
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node<'t>, Failure> {
        self.space();
        let offset = self.at;
        if depth > DEEPEST {
            return Err((offset, format!("nested more than {DEEPEST} deep")));
        }
        let value = match self.peek() {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.array(depth)?,
            Some(b'"') => Value::Text(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => self.word()?,
        };
        Ok(Node { offset, value })
    }

    fn word(&mut self) -> Result<Value<'t>, Failure> {
        for (word, value) in [("null", Value::Null), ("true", Value::Bool(true)), ("false", Value::Bool(false))] {
            if self.text[self.at..].starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.unexpected("a value"))
    }

    fn digits(&mut self) -> Result<(), Failure> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.unexpected("a digit"));
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Value<'t>, Failure> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(Value::Number(&self.text[start..self.at]))
    }

    fn array(&mut self, depth: usize) -> Result<Value<'t>, Failure> {
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Value::Array(items));
                }
                _ => return Err(self.unexpected("`,` or `]`")),
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value<'t>, Failure> {
        self.at += 1;
        let mut fields = Vec::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(fields));
        }
        loop {
            self.space();
            let offset = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("a key in double quotes"));
            }
            let key = self.string()?;
            self.space();
            self.expect(b':', "`:`")?;
            fields.push((offset, key, self.value(depth + 1)?));
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Value::Object(fields));
                }
                _ => return Err(self.unexpected("`,` or `}`")),
            }
        }
    }

    fn string(&mut self) -> Result<Cow<'t, str>, Failure> {
        let opened = self.at;
        self.at += 1;
        let mut owned: Option<String> = None;
        let mut start = self.at;
        loop {
            match self.peek() {
                None => return Err((opened, "not JSON: this text has no closing quote".to_owned())),
                Some(b'"') => {
                    let rest = &self.text[start..self.at];
                    self.at += 1;
                    return Ok(match owned {
                        None => Cow::Borrowed(rest),
                        Some(text) => Cow::Owned(text + rest),
                    });
                }
                Some(b'\\') => {
                    let text = owned.get_or_insert_default();
                    text.push_str(&self.text[start..self.at]);
                    let c = self.escape()?;
                    owned.get_or_insert_default().push(c);
                    start = self.at;
                }
                Some(0..0x20) => return Err(self.unexpected("text without line breaks and control characters")),
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<char, Failure> {
        let offset = self.at;
        self.at += 1;
        let c = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(offset),
            _ => return Err(self.unexpected("an escape such as `\\n`")),
        };
        self.at += 1;
        Ok(c)
    }

    fn unicode_escape(&mut self, offset: usize) -> Result<char, Failure> {
        let lone = || (offset, "not JSON: half of a surrogate pair".to_owned());
        let first = self.code_unit()?;
        if !(0xD800..0xE000).contains(&first) {
            return char::from_u32(first).ok_or_else(lone);
        }
        if first >= 0xDC00 || !self.text[self.at..].starts_with("\\u") {
            return Err(lone());
        }
        self.at += 1;
        let second = self.code_unit()?;
        if !(0xDC00..0xE000).contains(&second) {
            return Err(lone());
        }
        char::from_u32(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)).ok_or_else(lone)
    }

    /// The four digits after the `u` at which the parser stands.
    fn code_unit(&mut self) -> Result<u32, Failure> {
        self.at += 1;
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            unit = unit * 16 + digit.ok_or_else(|| self.unexpected("four hexadecimal digits"))?;
            self.at += 1;
        }
        Ok(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value as `serde_json` has it.
    fn plain(node: &Node<'_>) -> serde_json::Value {
        match &node.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Number(text) => serde_json::from_str(text).unwrap(),
            Value::Text(text) => text.as_ref().into(),
            Value::Array(items) => items.iter().map(plain).collect(),
            Value::Object(fields) => fields.iter().map(|(_, key, node)| (key.to_string(), plain(node))).collect(),
        }
    }

    #[test]
    fn reads_what_serde_reads() {
        for text in [
            "null",
            " [true, false,null ,\n-0.5e+3, 12,0] ",
            r#"{"a":{"b":[]},"c":{},"é\u00e9\ud83d\ude00\n\/\"\\":"x"}"#,
            "\"\u{2028}\"",
        ] {
            let expected: serde_json::Value = serde_json::from_str(text).unwrap();
            assert_eq!(plain(&parse(text.as_bytes()).unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn refuses_what_serde_refuses() {
        for text in [
            "",
            " ",
            "nul",
            "nulll",
            "[",
            "[1",
            "[1,",
            "[1,]",
            "[1 2]",
            "{",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1",
            "{\"a\":1,",
            "{\"a\":1,}",
            "{a:1}",
            "{1:1}",
            "\"",
            "\"\\",
            "\"\\x\"",
            "\"\\u12",
            "\"\\u12g4\"",
            "\"\\ud800\"",
            "\"\\ud800\\u0041\"",
            "\"\\udc00\"",
            "\"a\nb\"",
            "01",
            "-",
            "1.",
            "1e",
            ".5",
            "+1",
            "1 1",
            "'a'",
            "// x\n1",
            "\u{feff}1",
            "NaN",
        ] {
            assert!(serde_json::from_str::<serde_json::Value>(text).is_err(), "{text}");
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn problems_have_line_and_column_in_characters() {
        assert_eq!(
            parse(b"{\n  \"a\": [1,\n    x]}").unwrap_err().to_string(),
            "3:5: not JSON: expected a value, found 'x'"
        );
        assert_eq!(
            parse("[\"é\" é]".as_bytes()).unwrap_err().to_string(),
            "1:6: not JSON: expected `,` or `]`, found 'é'"
        );
        assert_eq!(parse(b"[\"a\", \"b\xff\"]").unwrap_err().to_string(), "1:9: the text is not UTF-8");
        assert_eq!(parse(b"[\n").unwrap_err().to_string(), "2:1: not JSON: expected a value, the document ends");
    }

    #[test]
    fn hostile_nesting_is_refused() {
        let deep = "[".repeat(1_000_000);
        assert_eq!(parse(deep.as_bytes()).unwrap_err().to_string(), "1:66: nested more than 64 deep");
    }
}
