//! The built-in resource types that touch the world, behind Concourse's resource protocol.
//!
//! `holdall resource TYPE check|in|out [DIR]` reads one JSON object from standard input, writes its answer as JSON to
//! standard output and everything for people to standard error (reference, section 2.1). A step runs it under the
//! shim like any other process, a check as a child of the worker; nothing here knows about either.
//!
//! Every type is a module with three functions `check`, `get` and `put`. They take a [`Request`] and a [`Context`],
//! which holds all that they may use of their surroundings, so that tests call [`run`] without a process.
//! The release types (`deployment-bag`, `deployment`, `current-bag`, `lock`) are not here: the server answers them.

mod duration;
mod fields;
mod git;
mod glob;
mod mock;
mod registry_image;
mod time;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use holdall_protocol::worker::{MetadataField, ResourceResult};
use serde_json::{Map, Value, json};

use fields::Fields;

/// A version as it crosses the protocol: a map of strings.
pub type Version = BTreeMap<String, String>;

/// The types that this module answers for.
pub const TYPES: [&str; 4] = ["git", "mock", "registry-image", "time"];

/// No request is larger: sources and params are configuration, not data.
const MAX_REQUEST_BYTES: u64 = 16 << 20;

/// Why an operation failed. What it shows is the message in the build's log.
#[derive(Debug, thiserror::Error)]
pub enum ResourceError {
    /// The request itself is wrong; one sentence per mistake.
    #[error("{}", .0.join("\n"))]
    Invalid(Vec<String>),
    /// The world did not play along: a sentence with the remedy, where there is one.
    #[error("{0}")]
    Failed(String),
    /// A file of ours could not be used.
    #[error("cannot {action} {}", path.display())]
    File {
        /// `read`, `write`, `make`.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl ResourceError {
    /// A failure with this message.
    pub(crate) fn failed(message: impl Into<String>) -> ResourceError {
        ResourceError::Failed(message.into())
    }

    /// For `map_err` on file operations.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ResourceError {
        let path = path.to_owned();
        move |source| ResourceError::File { action, path, source }
    }
}

/// What an operation is asked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Request {
    /// The resource's `source`.
    pub source: Map<String, Value>,
    /// The step's `params` (`in` and `out` only).
    pub params: Map<String, Value>,
    /// The version to start from (`check`) or to fetch (`in`).
    pub version: Option<Version>,
}

impl Request {
    /// Reads `{"source": {..}, "version": {..}, "params": {..}}`; `null` is the same as an absent key.
    ///
    /// # Errors
    /// [`ResourceError::Invalid`] for anything but JSON of that shape; a version whose values are not all strings
    /// is refused (reference, section 2.1).
    pub fn parse(text: &[u8]) -> Result<Request, ResourceError> {
        let invalid = |message: String| ResourceError::Invalid(vec![message]);
        let value: Value =
            serde_json::from_slice(text).map_err(|e| invalid(format!("the request is not JSON: {e}")))?;
        let Value::Object(object) = value else {
            return Err(invalid("the request is not a JSON object".to_owned()));
        };
        let mut fields = Fields::new("the request", object);
        let source = fields.object("source").unwrap_or_default();
        let params = fields.object("params").unwrap_or_default();
        let version = fields.text_map("version");
        fields.finish()?;
        Ok(Request { source, params, version })
    }

    /// The version that `in` needs.
    pub(crate) fn required_version(&self) -> Result<&Version, ResourceError> {
        self.version
            .as_ref()
            .filter(|version| !version.is_empty())
            .ok_or_else(|| ResourceError::Invalid(vec!["the request has no `version` to fetch".to_owned()]))
    }
}

/// Where messages for people go: standard error, or a buffer of a test.
#[derive(Clone)]
pub struct Log(Arc<Mutex<dyn Write + Send>>);

impl Log {
    /// Writes to `sink`.
    pub fn to(sink: Arc<Mutex<dyn Write + Send>>) -> Log {
        Log(sink)
    }

    /// Writes one line. A log that cannot be written to is no reason to fail.
    pub fn line(&self, text: impl fmt::Display) {
        self.bytes(format!("{text}\n").as_bytes());
    }

    /// Writes bytes as they are.
    pub fn bytes(&self, bytes: &[u8]) {
        if let Ok(mut sink) = self.0.lock() {
            let _ = sink.write_all(bytes).and_then(|()| sink.flush());
        }
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Log")
    }
}

/// What an operation may use of its surroundings.
#[derive(Debug, Clone)]
pub struct Context {
    /// The environment of the process. `PATH` finds git, `TMPDIR` holds what is private to the operation,
    /// `HOLDALL_CACHE_DIR` what outlives it (absent: nothing does), `HOLDALL_PRIVILEGED` is `true` where the
    /// runtime runs the step privileged.
    pub env: BTreeMap<String, String>,
    /// Messages for people.
    pub log: Log,
}

impl Context {
    /// The process's own environment and standard error. Variables that are not UTF-8 are left out.
    pub fn of_process() -> Context {
        let env = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Context { env, log: Log::to(Arc::new(Mutex::new(std::io::stderr()))) }
    }

    /// A variable that is set and not empty.
    pub(crate) fn var(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A private directory that goes when it is dropped.
    pub(crate) fn temp_dir(&self) -> Result<tempfile::TempDir, ResourceError> {
        let parent = self.var("TMPDIR").map_or_else(std::env::temp_dir, PathBuf::from);
        tempfile::Builder::new()
            .prefix("holdall-resource-")
            .tempdir_in(&parent)
            .map_err(ResourceError::file("make a directory in", &parent))
    }

    /// Whether the runtime runs this step privileged.
    pub(crate) fn is_privileged(&self) -> bool {
        self.var("HOLDALL_PRIVILEGED") == Some("true")
    }
}

/// Runs one operation of the process: request on standard input, answer on standard output, messages on standard
/// error. `dir` is where `in` puts its files and where `out` finds the artifacts; `check` has none.
///
/// Exit codes: 0 for an answer, 1 for a failure, whose message is the last thing on standard error.
pub fn resource_main(kind: &str, op: &str, dir: Option<&Path>) -> ExitCode {
    let ctx = Context::of_process();
    let outcome = read_bounded(std::io::stdin().lock()).and_then(|text| run(kind, op, dir, &text, &ctx));
    match outcome {
        Ok(answer) => {
            let mut stdout = std::io::stdout().lock();
            match writeln!(stdout, "{answer}").and_then(|()| stdout.flush()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    ctx.log.line(format_args!("cannot write the answer: {error}"));
                    ExitCode::FAILURE
                }
            }
        }
        Err(error) => {
            ctx.log.line(with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

/// Where this variable is set, a `check` answers `{"versions", "metadata"}`: what is known of each version, for change
/// lists. Holdall's own worker sets it; without it the answer is Concourse's.
pub const DESCRIBE: &str = "HOLDALL_DESCRIBE";

/// Runs one operation on the text of a request and gives the JSON of its answer: a list of versions for `check`,
/// `{"version", "metadata"}` for `in` and `out`.
///
/// # Errors
/// An unknown type or operation, a request that the type does not understand, or the failure of the operation.
pub fn run(kind: &str, op: &str, dir: Option<&Path>, text: &[u8], ctx: &Context) -> Result<Value, ResourceError> {
    if !TYPES.contains(&kind) {
        return Err(ResourceError::Invalid(vec![format!(
            "there is no built-in resource type `{kind}`{}",
            fields::did_you_mean(kind, TYPES)
        )]));
    }
    let request = Request::parse(text)?;
    let directory = || dir.ok_or_else(|| ResourceError::failed(format!("`{op}` needs a directory as its argument")));
    let result = match op {
        "check" => {
            let versions = match kind {
                "git" => git::check(&request, ctx)?,
                "registry-image" => registry_image::check(&request, ctx)?,
                "time" => time::check(&request, ctx)?,
                _ => mock::check(&request, ctx)?,
            };
            if ctx.var(DESCRIBE).is_none() {
                return Ok(serde_json::to_value(versions).expect("versions are always JSON"));
            }
            let metadata = if kind == "git" { git::describe(&request, ctx, &versions) } else { Vec::new() };
            let metadata: Vec<Vec<Value>> = metadata
                .into_iter()
                .map(|fields| fields.into_iter().map(|(name, value)| json!({ "name": name, "value": value })).collect())
                .collect();
            return Ok(json!({ "versions": versions, "metadata": metadata }));
        }
        "in" => {
            let dir = directory()?;
            std::fs::create_dir_all(dir).map_err(ResourceError::file("make", dir))?;
            match kind {
                "git" => git::get(&request, dir, ctx)?,
                "registry-image" => registry_image::get(&request, dir, ctx)?,
                "time" => time::get(&request, dir, ctx)?,
                _ => mock::get(&request, dir, ctx)?,
            }
        }
        "out" => match kind {
            "git" => git::put(&request, directory()?, ctx)?,
            "registry-image" => registry_image::put(&request, directory()?, ctx)?,
            "time" => time::put(&request, directory()?, ctx)?,
            _ => mock::put(&request, directory()?, ctx)?,
        },
        other => {
            return Err(ResourceError::Invalid(vec![format!(
                "there is no operation `{other}`: it is `check`, `in` or `out`"
            )]));
        }
    };
    Ok(serde_json::to_value(result).expect("a result is always JSON"))
}

/// An error with everything that caused it, in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// Reads a whole request, and no more than the largest one.
fn read_bounded(input: impl Read) -> Result<Vec<u8>, ResourceError> {
    let mut text = Vec::new();
    input
        .take(MAX_REQUEST_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(|error| ResourceError::failed(format!("cannot read the request: {error}")))?;
    if text.len() as u64 > MAX_REQUEST_BYTES {
        return Err(ResourceError::Invalid(vec![format!("the request is larger than {MAX_REQUEST_BYTES} bytes")]));
    }
    Ok(text)
}

/// `relative` below `dir`, where it may not lead out of it.
///
/// # Errors
/// [`ResourceError::Invalid`], naming `key`, for an absolute path, a path with `..` and an empty one.
pub(crate) fn path_below(dir: &Path, key: &str, relative: &str) -> Result<PathBuf, ResourceError> {
    let path = Path::new(relative);
    let stays = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if relative.is_empty() || relative.contains('\0') || !stays {
        return Err(ResourceError::Invalid(vec![format!(
            "`{key}` must be a relative path without `..`, not `{relative}`"
        )]));
    }
    Ok(dir.join(path))
}

/// The result of an `in` or `out`.
pub(crate) fn result(version: Version, metadata: Vec<(&str, String)>) -> ResourceResult {
    let metadata = metadata.into_iter().map(|(name, value)| MetadataField { name: name.to_owned(), value }).collect();
    ResourceResult { version, metadata }
}

#[cfg(test)]
mod tests;
