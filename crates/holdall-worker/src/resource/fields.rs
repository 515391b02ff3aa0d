//! Reading `source` and `params`: every mistake is reported at once, an unknown key with what was probably meant.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde_json::{Map, Value};

use super::ResourceError;

/// The keys of one JSON object, taken one after the other. [`Fields::finish`] reports what was wrong with them and
/// what was left over.
pub(crate) struct Fields {
    /// `source`, `params`: for messages.
    place: &'static str,
    values: Map<String, Value>,
    known: Vec<&'static str>,
    problems: Vec<String>,
}

impl Fields {
    /// Starts to read `values`, which messages call `place`.
    pub(crate) fn new(place: &'static str, values: Map<String, Value>) -> Fields {
        Fields { place, values, known: Vec::new(), problems: Vec::new() }
    }

    /// Notes something that is wrong.
    pub(crate) fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }

    /// The value as it is; `null` is the same as an absent key.
    pub(crate) fn value(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.values.remove(key).filter(|value| !value.is_null())
    }

    /// A string. Anything else is a mistake, also a number: YAML has made `1.20` into `1.2` by the time it is here.
    pub(crate) fn text(&mut self, key: &'static str) -> Option<String> {
        match self.value(key)? {
            Value::String(text) => Some(text),
            other => self.wrong(key, "a string", &other),
        }
    }

    /// A string that must be there and not be empty. After a mistake it is empty, and `finish` fails.
    pub(crate) fn required_text(&mut self, key: &'static str) -> String {
        let problems = self.problems.len();
        let text = self.text(key).unwrap_or_default();
        if text.is_empty() && self.problems.len() == problems {
            self.problem(format!("{} needs `{key}`", self.place));
        }
        text
    }

    /// A string that something else is parsed from.
    pub(crate) fn parsed<T: FromStr<Err = String>>(&mut self, key: &'static str) -> Option<T> {
        let text = self.text(key)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(message) => {
                self.problem(format!("`{key}` in {}: {message}", self.place));
                None
            }
        }
    }

    /// `true` or `false`, also as a string, because that is what a var may have made of it. Absent: `false`.
    pub(crate) fn flag(&mut self, key: &'static str) -> bool {
        self.optional_flag(key).unwrap_or(false)
    }

    /// `true` or `false`, also as a string; absent: `None`.
    pub(crate) fn optional_flag(&mut self, key: &'static str) -> Option<bool> {
        match self.value(key)? {
            Value::Bool(flag) => Some(flag),
            Value::String(text) if text == "true" || text == "false" => Some(text == "true"),
            other => self.wrong(key, "`true` or `false`", &other),
        }
    }

    /// A whole number from 0 on, also as a string.
    pub(crate) fn count(&mut self, key: &'static str) -> Option<u32> {
        let value = self.value(key)?;
        let count = match &value {
            Value::Number(number) => number.as_u64().and_then(|n| u32::try_from(n).ok()),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        if count.is_none() {
            return self.wrong(key, "a whole number", &value);
        }
        count
    }

    /// A list of strings; absent: empty.
    pub(crate) fn texts(&mut self, key: &'static str) -> Vec<String> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let list = match &value {
            Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
            _ => None,
        };
        if list.is_none() {
            return self.wrong(key, "a list of strings", &value).unwrap_or_default();
        }
        list.unwrap_or_default()
    }

    /// A list of `{name, value}`; absent: empty.
    pub(crate) fn pairs(&mut self, key: &'static str) -> Vec<(String, String)> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let pair = |item: &Value| {
            let object = item.as_object().filter(|object| object.len() == 2)?;
            Some((object.get("name")?.as_str()?.to_owned(), object.get("value")?.as_str()?.to_owned()))
        };
        let pairs: Option<Vec<_>> = value.as_array().and_then(|items| items.iter().map(pair).collect());
        if pairs.is_none() {
            return self.wrong(key, "a list of `{name: TEXT, value: TEXT}`", &value).unwrap_or_default();
        }
        pairs.unwrap_or_default()
    }

    /// An object.
    pub(crate) fn object(&mut self, key: &'static str) -> Option<Map<String, Value>> {
        match self.value(key)? {
            Value::Object(object) => Some(object),
            other => self.wrong(key, "an object", &other),
        }
    }

    /// An object whose values are all strings.
    pub(crate) fn text_map(&mut self, key: &'static str) -> Option<BTreeMap<String, String>> {
        let object = self.object(key)?;
        let mut map = BTreeMap::new();
        for (name, value) in object {
            match value {
                Value::String(text) => {
                    map.insert(name, text);
                }
                other => {
                    self.problem(format!("`{key}.{name}` in {} must be a string, not {}", self.place, shown(&other)));
                }
            }
        }
        Some(map)
    }

    /// A key that others' implementations of the type know and this one does not.
    pub(crate) fn unsupported(&mut self, keys: &[&'static str], remedy: &str) {
        for key in keys {
            if self.values.remove(*key).is_some() {
                self.problem(format!("`{key}` in {} is not supported: {remedy}", self.place));
            }
        }
    }

    /// Everything that was wrong, unknown keys included.
    pub(crate) fn finish(mut self) -> Result<(), ResourceError> {
        for key in self.values.keys() {
            let meant = did_you_mean(key, self.known.iter().copied());
            self.problems.push(format!("{} has an unknown key `{key}`{meant}", self.place));
        }
        if self.problems.is_empty() { Ok(()) } else { Err(ResourceError::Invalid(self.problems)) }
    }

    fn wrong<T>(&mut self, key: &str, wanted: &str, got: &Value) -> Option<T> {
        self.problem(format!("`{key}` in {} must be {wanted}, not {}", self.place, shown(got)));
        None
    }
}

/// A wrong value in a message: its kind, and itself where it is short and cannot be a secret.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => format!("`{flag}`"),
        Value::Number(number) => format!("the number {number} (write it in quotes for a string)"),
        Value::String(_) => "this string".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// `: did you mean `x`?` for the known word that is nearest to `word`, or nothing when none is near.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| format!(": did you mean `{candidate}`?"))
        .unwrap_or_default()
}

/// How many letters must be added, removed, changed or swapped with their neighbour. Long words are cut: nobody means them.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().take(64).collect();
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let changed = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = changed.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Fields {
        Fields::new("source", value.as_object().expect("an object").clone())
    }

    #[test]
    fn reports_every_mistake_at_once() {
        let mut fields = fields(
            json!({"brnach": "x", "depth": -1, "flag": "maybe", "tag": 1.2, "list": ["a", 1], "git_crypt_key": "k"}),
        );
        assert_eq!(fields.required_text("uri"), "");
        assert_eq!(fields.text("branch"), None);
        assert_eq!(fields.count("depth"), None);
        assert!(!fields.flag("flag"));
        assert_eq!(fields.text("tag"), None);
        assert!(fields.texts("list").is_empty());
        fields.unsupported(&["git_crypt_key"], "unlock it in a task");
        let message = fields.finish().expect_err("there are mistakes").to_string();
        assert_eq!(
            message,
            "source needs `uri`\n\
             `depth` in source must be a whole number, not the number -1 (write it in quotes for a string)\n\
             `flag` in source must be `true` or `false`, not this string\n\
             `tag` in source must be a string, not the number 1.2 (write it in quotes for a string)\n\
             `list` in source must be a list of strings, not a list\n\
             `git_crypt_key` in source is not supported: unlock it in a task\n\
             source has an unknown key `brnach`: did you mean `branch`?"
        );
    }

    #[test]
    fn takes_what_a_var_may_have_made_of_a_value() {
        let mut fields = fields(json!({"a": "true", "b": "7", "c": null, "d": [{"name": "n", "value": "v"}]}));
        assert!(fields.flag("a"));
        assert_eq!(fields.count("b"), Some(7));
        assert_eq!(fields.text("c"), None);
        assert_eq!(fields.pairs("d"), [("n".to_owned(), "v".to_owned())]);
        fields.finish().expect("nothing is wrong");
    }

    #[test]
    fn suggests_only_what_is_near() {
        assert_eq!(did_you_mean("tag_fliter", ["tag_filter", "tag_regex"]), ": did you mean `tag_filter`?");
        assert_eq!(did_you_mean("x", ["uri", "branch"]), "");
        assert_eq!(did_you_mean(&"x".repeat(100_000), ["uri"]), "");
    }
}
