//! The form of `bag.json`.

use serde_json::Value;

/// The canonical JSON of a value (RFC 8785): no spaces, keys in the order of their UTF-16 code units, strings with
/// the fewest escapes. Bags hold no numbers but integers, so that the RFC's rules about fractions do not matter here.
pub fn canonical_json(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
            fields.sort_by(|a, b| a.0.encode_utf16().cmp(b.0.encode_utf16()));
            text.push('{');
            for (nth, (key, value)) in fields.into_iter().enumerate() {
                if nth > 0 {
                    text.push(',');
                }
                write(&Value::String(key.clone()), text);
                text.push(':');
                write(value, text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (nth, item) in items.iter().enumerate() {
                if nth > 0 {
                    text.push(',');
                }
                write(item, text);
            }
            text.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => text.push_str(&value.to_string()),
    }
}

/// A time as RFC 3339 text.
pub(super) mod timestamp {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::time::Timestamp;

    pub fn serialize<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&time.to_rfc3339())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(from)?;
        Timestamp::from_rfc3339(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is not a time in UTC")))
    }
}

/// Metadata as a list of `{"name", "value"}`, as resources give it.
pub(super) mod metadata {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Field {
        name: String,
        value: String,
    }

    pub fn serialize<S: Serializer>(metadata: &[(String, String)], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(metadata.iter().map(|(name, value)| Field { name: name.clone(), value: value.clone() }))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(String, String)>, D::Error> {
        let fields = Vec::<Field>::deserialize(from)?;
        Ok(fields.into_iter().map(|field| (field.name, field.value)).collect())
    }
}
