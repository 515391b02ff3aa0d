//! A version of a resource: a small map of strings, identified by the digest of its canonical text.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A version as a resource type gives it, for example `{"ref": "a1b2"}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub BTreeMap<String, String>);

/// What identifies a version everywhere else: the SHA-256 of its canonical text, in hexadecimal
/// (reference, section 2.2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VersionDigest(pub String);

impl Version {
    /// A version of one key.
    pub fn of(key: &str, value: &str) -> Version {
        Version(BTreeMap::from([(key.to_owned(), value.to_owned())]))
    }

    /// The canonical text: JSON with sorted keys, no spaces, and `<`, `>`, `&`, U+2028 and U+2029 escaped, as
    /// Go's `json.Marshal` writes it (reference, section 2.2).
    pub fn canonical(&self) -> String {
        let plain = serde_json::to_string(&self.0).expect("a map of strings is always JSON");
        let mut text = String::with_capacity(plain.len());
        for c in plain.chars() {
            match c {
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => text.push_str(&format!("\\u{:04x}", c as u32)),
                _ => text.push(c),
            }
        }
        text
    }

    /// The digest of the canonical text.
    pub fn digest(&self) -> VersionDigest {
        VersionDigest(hex(&Sha256::digest(self.canonical())))
    }

    /// Whether every key of `pin` is in this version with the same value: a pin may name a subset of the keys.
    pub fn matches(&self, pin: &Version) -> bool {
        pin.0.iter().all(|(key, value)| self.0.get(key) == Some(value))
    }
}

impl std::fmt::Display for Version {
    /// `key:value key2:value2`, as the reference prints versions in its messages.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<String> = self.0.iter().map(|(key, value)| format!("{key}:{value}")).collect();
        f.write_str(&parts.join(" "))
    }
}

/// Bytes as lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_text_escapes_as_go_does() {
        let version = Version::of("ref", "a<b>&\u{2028}");
        assert_eq!(version.canonical(), r#"{"ref":"a\u003cb\u003e\u0026\u2028"}"#);
    }

    #[test]
    fn a_pin_names_a_subset_of_the_keys() {
        let version = Version(BTreeMap::from([("a".into(), "1".into()), ("b".into(), "2".into())]));
        assert!(version.matches(&Version::of("b", "2")));
        assert!(!version.matches(&Version::of("b", "1")));
        assert!(!version.matches(&Version::of("c", "2")));
    }
}
