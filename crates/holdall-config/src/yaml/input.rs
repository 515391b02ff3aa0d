//! From bytes to text that the scanner may see: encodings, characters that YAML does not allow, directives.

use crate::diagnostic::{Diagnostic, Span};

/// Bytes as text: UTF-8, or UTF-16 with a byte order mark. A mark at the start is left out.
///
/// # Errors
/// When the bytes are not such a text; the diagnostic has the line and column of the first bad byte.
pub fn decode(bytes: &[u8]) -> Result<String, Box<Diagnostic>> {
    let utf16 = |read: fn([u8; 2]) -> u16| {
        let (pairs, rest) = bytes[2..].as_chunks::<2>();
        match String::from_utf16(&pairs.iter().map(|pair| read(*pair)).collect::<Vec<_>>()) {
            Ok(text) if rest.is_empty() => Ok(text),
            _ => Err(Box::new(Diagnostic::error("encoding", "the text is not valid UTF-16"))),
        }
    };
    match bytes {
        [0xff, 0xfe, ..] => utf16(u16::from_le_bytes),
        [0xfe, 0xff, ..] => utf16(u16::from_be_bytes),
        _ => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text).to_owned()),
            Err(error) => {
                let (before, bad) = bytes.split_at(error.valid_up_to());
                let message = format!("the text is not valid UTF-8: byte 0x{:02x}", bad.first().unwrap_or(&0));
                Err(Box::new(
                    Diagnostic::error("encoding", message)
                        .at(position(&String::from_utf8_lossy(before)))
                        .help("save the file as UTF-8"),
                ))
            }
        },
    }
}

/// The position behind a text.
fn position(before: &str) -> Span {
    let (mut line, mut column, mut previous) = (1, 1, ' ');
    for c in before.chars() {
        match c {
            '\n' if previous == '\r' => {}
            '\n' | '\r' => (line, column) = (line + 1, 1),
            _ => column += 1,
        }
        previous = c;
    }
    Span::point(line, column)
}

/// What the scanner would accept and Go's does not: control characters, and directives other than `%YAML 1.1` and
/// `%TAG`.
pub(super) fn check(text: &str) -> Result<(), Box<Diagnostic>> {
    let allowed = |c: char| {
        matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..)
            && c != '\u{feff}'
    };
    if let Some((at, c)) = text.char_indices().find(|(_, c)| !allowed(*c)) {
        let message = format!("the character U+{:04X} is not allowed", c as u32);
        return Err(Box::new(
            Diagnostic::error("control-character", message)
                .at(position(&text[..at]))
                .help("inside double quotes it can be written as an escape, for example \"\\u0001\""),
        ));
    }
    for (i, line) in text.lines().enumerate() {
        let Some(directive) = line.strip_prefix('%') else {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            break;
        };
        let mut words = directive.split_whitespace();
        let problem = match (words.next().unwrap_or_default(), words.next()) {
            ("TAG", _) | ("YAML", Some("1.1")) => continue,
            ("YAML", _) => "this reads YAML 1.1, and the document says that it is another version".to_owned(),
            (name, _) => format!("unknown directive '%{name}'"),
        };
        return Err(Box::new(Diagnostic::error("directive", problem).at(Span::point(i + 1, 1))));
    }
    Ok(())
}
