//! More than a thousand real and made-up files: the verdict of `fly` on each, the words of its errors and warnings,
//! and the configuration that a server keeps.
//!
//! The files are not part of this repository. They are looked for in `$HOLDALL_CORPUS`, then in `../shared/corpus`
//! beside the workspace; where there are none, the tests say so and have nothing to compare.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use holdall_config::diagnostic::{Diagnostic, Parsed};
use holdall_config::{pipeline, task, yaml};
use serde_json::{Value, json};

/// Files whose verdict differs from that of `fly`, and why.
const OTHER_VERDICT: &[(&str, &str)] = &[
    ("edge/doc-escape-slash.yml", "`\\/` is valid JSON and YAML 1.2; refusing it helps nobody"),
    ("edge/doc-escape-surrogate.yml", "a surrogate pair is valid JSON; refusing it helps nobody"),
    ("edge/doc-tab-indented-comment.yml", "a tab before a comment means nothing"),
    ("edge/str-job-name-inf.yml", "`fly` takes a job named `.inf`, and the server refuses it"),
];

/// Files whose configuration differs from what a server keeps, and why.
const OTHER_CONFIG: &[(&str, &str)] = &[
    ("edge/doc-c1-control-and-nel.yml", "U+0085 ended lines in YAML 1.1; here it is a character"),
    ("edge/in-parallel-limit-negative.yml", "a limit below 0 is kept as 0, which means the same"),
];

/// Files where some of `fly`'s words have no counterpart, and why.
const OTHER_WORDS: &[(&str, &str)] = &[
    ("edge/str-job-name-inf.yml", "the job has another verdict"),
    ("edge/var-source-idtoken-algorithm-bad.yml", "the reference names the scope where it means the algorithm"),
    ("edge/var-source-vault-lookup-template-bad.yml", "the words of Go's templates"),
];

/// A file and what `fly` says about it.
pub struct Case {
    /// Where it is, below the corpus.
    pub file: String,
    /// What is in it.
    pub bytes: Vec<u8>,
    expected: Value,
}

/// Where the corpus is, if it is there.
pub fn folder() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    let folder = std::env::var_os("HOLDALL_CORPUS").map_or(beside, PathBuf::from);
    if folder.join("index.json").is_file() {
        return Some(folder);
    }
    eprintln!("NOTHING WAS COMPARED: there is no corpus in {} (set HOLDALL_CORPUS)", folder.display());
    None
}

/// All files.
pub fn cases(folder: &Path) -> Vec<Case> {
    let index = std::fs::read_to_string(folder.join("index.json")).expect("the index can be read");
    let index: Vec<Value> = serde_json::from_str(&index).expect("the index is a list");
    let case = |expected: Value| {
        let file = expected["file"].as_str().expect("every entry names a file").to_owned();
        let bytes = std::fs::read(folder.join(&file)).expect("every file is there");
        Case { file, bytes, expected }
    };
    index.into_iter().map(case).collect()
}

impl Case {
    /// Whether it is a task's file, and not a pipeline.
    pub fn is_task(&self) -> bool {
        self.expected["kind"] == "task"
    }

    fn accepted(&self) -> bool {
        self.expected["accepted"] == true
    }

    /// The configuration as JSON, if the file is accepted, and everything that was said about it.
    pub fn parse(&self) -> Parsed<Value> {
        let text = match yaml::decode(&self.bytes) {
            Ok(text) => text,
            Err(diagnostic) => return Parsed::failed(*diagnostic),
        };
        if self.is_task() {
            let found = task::parse(&text);
            Parsed { value: found.value.as_ref().map(task::to_json), diagnostics: found.diagnostics }
        } else {
            let found = pipeline::parse(&text);
            Parsed { value: found.value.as_ref().map(pipeline::to_json), diagnostics: found.diagnostics }
        }
    }

    fn texts(&self, key: &str) -> Vec<String> {
        let items = self.expected[key].as_array().cloned().unwrap_or_default();
        let text = |item: Value| item.get("message").unwrap_or(&item).as_str().unwrap_or_default().to_owned();
        items.into_iter().map(text).collect()
    }
}

/// Fails with the files that differ and are not in the table, and with those that are in it and do not differ.
fn compare(what: &str, differing: BTreeMap<String, String>, known: &[(&str, &str)]) {
    let known: BTreeSet<&str> = known.iter().map(|(file, _)| *file).collect();
    let mut wrong: Vec<String> = Vec::new();
    for (file, how) in &differing {
        if !known.contains(file.as_str()) {
            wrong.push(format!("{file}: {how}"));
        }
    }
    for file in known.iter().filter(|file| !differing.contains_key(**file)) {
        wrong.push(format!("{file}: is in the table and does not differ"));
    }
    assert!(wrong.is_empty(), "{what}: {} files\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_file_gets_the_verdict_of_fly() {
    let Some(folder) = folder() else { return };
    let mut differing = BTreeMap::new();
    for case in cases(&folder) {
        let found = case.parse();
        if found.value.is_some() != case.accepted() {
            let said: Vec<&str> = found.errors().map(|error| error.message.as_str()).take(3).collect();
            let fly = case.texts("errors").join("; ");
            let how =
                if case.accepted() { format!("refused: {}", said.join("; ")) } else { format!("accepted: {fly}") };
            differing.insert(case.file, how);
        }
    }
    compare("verdicts", differing, OTHER_VERDICT);
}

#[test]
fn validation_says_what_fly_says() {
    let Some(folder) = folder() else { return };
    let mut differing = BTreeMap::new();
    for case in cases(&folder) {
        let found = case.parse();
        let says = |all: Vec<&Diagnostic>, wanted: &str| {
            all.iter().any(|one| one.message.lines().any(|line| wanted.trim().ends_with(line.trim())))
        };
        let mut lost = Vec::new();
        if case.expected["stage"] == "validate" {
            let errors = case.texts("errors");
            lost.extend(
                errors
                    .into_iter()
                    .filter(|wanted| !said_by_keys(wanted, &found) && !says(found.errors().collect(), wanted)),
            );
        }
        lost.extend(case.texts("warnings").into_iter().filter(|wanted| !says(found.warnings().collect(), wanted)));
        if !lost.is_empty() {
            let ours: Vec<&str> = found.diagnostics.iter().map(|one| one.message.as_str()).take(5).collect();
            differing.insert(case.file, format!("{lost:?} not in {ours:?}"));
        }
    }
    compare("words", differing, OTHER_WORDS);
}

/// `fly` lists unknown keys in one message; here each has its own, at its place.
fn said_by_keys(wanted: &str, found: &Parsed<Value>) -> bool {
    wanted.contains("unknown fields") && found.errors().any(|error| error.code == "unknown-key")
}

#[test]
fn every_configuration_is_what_a_server_keeps() {
    let Some(folder) = folder() else { return };
    let text = std::fs::read_to_string(folder.join("configs.jsonl")).expect("the configurations can be read");
    let kept: BTreeMap<String, Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("every line is JSON"))
        .map(|line| (line["file"].as_str().unwrap_or_default().to_owned(), line["config"].clone()))
        .collect();
    assert!(!kept.is_empty());
    let mut differing = BTreeMap::new();
    for case in cases(&folder) {
        let (Some(kept), Some(ours)) = (kept.get(&case.file), case.parse().value) else { continue };
        let (kept, ours) = (normal(kept, None), normal(&ours, None));
        if kept != ours {
            differing.insert(case.file, first_difference(&kept, &ours, ""));
        }
    }
    compare("configurations", differing, OTHER_CONFIG);
}

#[test]
fn what_a_server_keeps_can_be_read_again() {
    let Some(folder) = folder() else { return };
    let text = std::fs::read_to_string(folder.join("configs.jsonl")).expect("the configurations can be read");
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).expect("every line is JSON");
        let (file, config) = (&line["file"], &line["config"]);
        if config.get("platform").is_some() {
            continue;
        }
        let found = pipeline::parse(&config.to_string());
        let errors: Vec<&str> = found.errors().map(|error| error.message.as_str()).collect();
        let written = found.value.as_ref().map(pipeline::to_json).unwrap_or_else(|| panic!("{file}: {errors:?}"));
        let (kept, ours) = (normal(config, None), normal(&written, None));
        assert!(
            kept == ours || file == "edge/in-parallel-limit-negative.yml",
            "{file}: {}",
            first_difference(&kept, &ours, "")
        );
    }
}

/// A configuration with what means the same written the same.
fn normal(value: &Value, key: Option<&str>) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.iter().map(|item| normal(item, None)).collect(),
        Value::Object(map) => {
            let mut out = serde_json::Map::new();
            for (key, value) in map {
                let value = normal(value, Some(key));
                let plain = match (key.as_str(), &value) {
                    // Nothing is an empty map or list.
                    ("source" | "plan" | "do" | "config", Value::Null) => continue,
                    ("source", Value::Object(map)) if map.is_empty() => continue,
                    ("plan" | "do", Value::Array(items)) if items.is_empty() => continue,
                    ("run", Value::Object(map)) if map.is_empty() => continue,
                    // The defaults.
                    ("version", Value::String(text)) if text.is_empty() || text == "latest" => continue,
                    ("inputs", Value::String(text)) if text == "detect" => continue,
                    ("inputs", Value::String(text)) if text != "all" => json!(""),
                    ("max_in_flight", _) if map.contains_key("var") && value == json!(1.0) => continue,
                    _ => value,
                };
                out.insert(key.clone(), plain);
            }
            // Tags of a `do` or an `in_parallel` are given to its steps.
            if (out.contains_key("do") || out.contains_key("in_parallel"))
                && let Some(tags) = out.remove("tags")
            {
                for key in ["do", "in_parallel"] {
                    if let Some(inner) = out.get_mut(key) {
                        push_down(inner, &tags);
                    }
                }
            }
            Value::Object(out)
        }
        Value::String(text) if key == Some("file") => text.as_str().into(),
        other => other.clone(),
    }
}

fn push_down(steps: &mut Value, tags: &Value) {
    match steps {
        Value::Array(items) => items.iter_mut().for_each(|item| push_down(item, tags)),
        Value::Object(map) => {
            for key in
                ["steps", "do", "in_parallel", "try", "on_success", "on_failure", "on_error", "on_abort", "ensure"]
            {
                if let Some(inner) = map.get_mut(key) {
                    push_down(inner, tags);
                }
            }
            if ["get", "put", "task"].iter().any(|key| map.contains_key(*key)) {
                map.entry("tags").or_insert_with(|| tags.clone());
            }
        }
        _ => {}
    }
}

/// Where two values differ first.
fn first_difference(kept: &Value, ours: &Value, path: &str) -> String {
    match (kept, ours) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            let key = keys.into_iter().find(|key| a.get(*key) != b.get(*key));
            let Some(key) = key else { return String::new() };
            let none = Value::Null;
            first_difference(a.get(key).unwrap_or(&none), b.get(key).unwrap_or(&none), &format!("{path}.{key}"))
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let at = a.iter().zip(b).position(|(a, b)| a != b).unwrap_or(0);
            first_difference(&a[at], &b[at], &format!("{path}[{at}]"))
        }
        _ => format!("{path}: kept {kept}, ours {ours}"),
    }
}

#[test]
fn every_pipeline_survives_being_written_and_stored() {
    let Some(folder) = folder() else { return };
    for case in cases(&folder).into_iter().filter(|case| !case.is_task()) {
        let Ok(text) = yaml::decode(&case.bytes) else { continue };
        let Some(read) = pipeline::parse(&text).value else { continue };
        let written = pipeline::to_json(&read);
        let again = pipeline::parse_node(&yaml::from_json(&written).value.expect("it is not too deep"));
        assert_eq!(again.value.as_ref(), Some(&read), "{} through a JSON value", case.file);
        let again = pipeline::parse(&written.to_string());
        assert_eq!(again.value.as_ref(), Some(&read), "{} through text: {:?}", case.file, again.diagnostics);
        let stored = serde_json::to_string(&read).expect("it can be written");
        assert_eq!(
            serde_json::from_str::<holdall_engine::pipeline::Pipeline>(&stored).ok(),
            Some(read),
            "{}",
            case.file
        );
    }
}
