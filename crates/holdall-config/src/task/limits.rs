//! `container_limits` (reference, section 1.8; validation, section 23).

use holdall_engine::pipeline::Object;

use crate::yaml::{Fields, Node, Reader, Yaml};

use super::refuse;

/// Limits as Concourse keeps them: `cpu` in shares, `memory` in bytes. Other keys are ignored with a warning.
pub(crate) fn container_limits(reader: &mut Reader, node: &Node, path: &str) -> Option<Object> {
    let mut fields = Fields::new(reader.map(node, path)?, node.span, path);
    let mut limits = Object::new();
    if let Some(cpu) = fields.optional(reader, "cpu", cpu) {
        limits.insert("cpu".into(), cpu.into());
    }
    if let Some(memory) = fields.optional(reader, "memory", memory) {
        limits.insert("memory".into(), memory.into());
    }
    fields.finish_ignoring(reader);
    Some(limits)
}

/// Shares: a number, of which a fraction is dropped.
fn cpu(reader: &mut Reader, node: &Node, path: &str) -> Option<i64> {
    match node.value {
        Yaml::Int(value) => Some(value as f64 as i64),
        Yaml::Float(value) => Some(value as i64),
        _ => {
            refuse(reader, "limits", node, path, "cpu limit must be an integer".into());
            None
        }
    }
}

/// Bytes: a number, or text with a unit, of which K, M and G are powers of 1024 with or without the `i`.
fn memory(reader: &mut Reader, node: &Node, path: &str) -> Option<u64> {
    // What does not fit becomes what the reference's machines make of it.
    let bounded = |value: f64| (value as u64).min(1 << 63);
    match &node.value {
        Yaml::Int(value) => Some(bounded(*value as f64)),
        Yaml::Float(value) => Some(bounded(*value)),
        Yaml::String(text) => match bytes(text) {
            Some(bytes) => Some(bytes),
            None => {
                refuse(reader, "limits", node, path, "could not parse container memory limit".into());
                None
            }
        },
        _ => Some(0),
    }
}

/// The grammar `^([0-9]+)(([KMG])(i)?B?)?$`, without case.
fn bytes(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..end].parse().ok()?;
    let unit = match text[end..].to_ascii_lowercase().as_str() {
        "" => 1,
        "k" | "ki" | "kb" | "kib" => 1 << 10,
        "m" | "mi" | "mb" | "mib" => 1 << 20,
        "g" | "gi" | "gb" | "gib" => 1 << 30,
        _ => return None,
    };
    Some(number.wrapping_mul(unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_units_are_powers_of_1024() {
        for (text, value) in
            [("5", Some(5)), ("10MB", Some(10 << 20)), ("1GiB", Some(1 << 30)), ("2k", Some(2048)), ("1TB", None)]
        {
            assert_eq!(bytes(text), value, "{text}");
        }
        for text in ["", "1.5gb", "1 G", "-1", "B", "99999999999999999999"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
