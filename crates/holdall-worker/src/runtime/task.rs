//! What a task's configuration says, as far as a process needs it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// A task's configuration (reference, section 1.10).
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct TaskConfig {
    /// Where it can run.
    pub platform: String,
    /// Whether it names an image, which this runtime does not use.
    #[serde(default)]
    pub image_resource: Option<Value>,
    /// The environment as written.
    #[serde(default)]
    pub params: BTreeMap<String, Value>,
    /// What runs.
    pub run: Run,
    /// Artifacts that it sees.
    #[serde(default)]
    pub inputs: Vec<Input>,
    /// Artifacts that it makes.
    #[serde(default)]
    pub outputs: Vec<Output>,
    /// Folders that are kept for the next build.
    #[serde(default)]
    pub caches: Vec<Cache>,
}

/// What a task runs.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct Run {
    /// The program.
    #[serde(default)]
    pub path: String,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Where, below the step's directory.
    #[serde(default)]
    pub dir: String,
    /// As whom; not used by this runtime.
    #[serde(default)]
    pub user: String,
}

/// An artifact that a task sees.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// Where; default: its name.
    #[serde(default)]
    pub path: String,
    /// Whether the task runs without it too.
    #[serde(default)]
    pub optional: bool,
}

/// An artifact that a task makes.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// Where; default: its name.
    #[serde(default)]
    pub path: String,
}

/// A folder that is kept.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct Cache {
    /// Where.
    pub path: String,
}

/// Reads a task's configuration.
pub fn parse(text: &str) -> Result<TaskConfig, String> {
    serde_json::from_str(text).map_err(|e| format!("invalid task configuration:\n{e}"))
}

/// A param as the environment has it (reference, section 1.10): nothing is empty, text as it is, numbers and truth
/// as they are written, lists and maps as JSON.
pub fn env_value(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
