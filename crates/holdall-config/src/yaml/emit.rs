//! JSON as readable YAML: what `system render` and `pipeline get` print.

use serde_json::Value;

/// A value as YAML, in blocks, ending with a newline. Reading it again gives the same value.
pub fn emit(value: &Value) -> String {
    let mut text = String::new();
    block(value, 0, &mut text);
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

fn is_inline(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty() || items.iter().all(|item| !item.is_object() && !item.is_array()),
        Value::Object(map) => map.is_empty(),
        _ => true,
    }
}

fn block(value: &Value, indent: usize, text: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (index, (key, value)) in map.iter().enumerate() {
                if index > 0 {
                    text.push_str(&" ".repeat(indent));
                }
                text.push_str(&scalar(key));
                text.push(':');
                entry(value, indent, text);
            }
        }
        Value::Array(items) if !is_inline(value) => {
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push_str(&" ".repeat(indent));
                }
                text.push_str("- ");
                block(item, indent + 2, text);
                if !text.ends_with('\n') {
                    text.push('\n');
                }
            }
        }
        other => text.push_str(&inline(other)),
    }
}

fn entry(value: &Value, indent: usize, text: &mut String) {
    if is_inline(value) {
        if let Value::String(line) = value
            && line.contains('\n')
            && is_literal(line)
        {
            text.push_str(if line.ends_with('\n') { " |\n" } else { " |-\n" });
            for line in line.lines() {
                if !line.is_empty() {
                    text.push_str(&" ".repeat(indent + 2));
                    text.push_str(line);
                }
                text.push('\n');
            }
            return;
        }
        text.push(' ');
        text.push_str(&inline(value));
        text.push('\n');
        return;
    }
    text.push('\n');
    // Lists stand under their key, not further in, as people write them.
    let inner = if value.is_array() { indent } else { indent + 2 };
    text.push_str(&" ".repeat(inner));
    block(value, inner, text);
}

/// Whether a text can stand in a literal block as it is.
fn is_literal(text: &str) -> bool {
    !text.starts_with([' ', '\n'])
        && !text.ends_with("\n\n")
        && text.chars().all(|c| c == '\n' || c == '\t' || !c.is_control())
        && !text.contains(['\u{2028}', '\u{2029}', '\u{85}', '\u{feff}'])
}

fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        Value::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Object(map) if map.is_empty() => "{}".to_owned(),
        other => other.to_string(),
    }
}

/// Text without quotes where nobody can mistake it for anything else, as JSON's text otherwise.
fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '+' | '@');
    let word = text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '_'))
        && text.chars().all(plain)
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null"
        );
    if word { text.to_owned() } else { Value::String(text.to_owned()).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_is_read_again() {
        let values = [
            json!({"a": 1, "list": [{"x": [1, 2], "y": {}}, [["deep"], {}], "no", ""], "text": "a\n b\n", "e": []}),
            json!({"": "", "yes": "1e3", "n": null, "u": "\u{85}x\n", "tail": "a\n\n", "t": "a: b # c", "z": "\ttab"}),
            json!([[], {}, [{"k": "((v))"}]]),
            json!("only"),
        ];
        for value in values {
            let text = emit(&value);
            let read = crate::yaml::parse(&text).value.map(|node| node.to_json());
            assert_eq!(read, Some(value), "{text}");
        }
    }

    #[test]
    fn it_reads_like_what_people_write() {
        let value = json!({"jobs": [{"name": "unit", "plan": [{"get": "repo", "trigger": true}]}], "script": "a\nb\n"});
        assert_eq!(
            emit(&value),
            "jobs:\n- name: unit\n  plan:\n  - get: repo\n    trigger: true\nscript: |\n  a\n  b\n"
        );
    }
}
