//! Taking out of a step's folder what it made. Everything here can be done again after it broke off in the middle.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use holdall_protocol::worker::{Assignment, Ending, MetadataField, ResourceResult, StepSpec};
use serde::{Deserialize, Serialize};

use super::{Runtime, bad_artifact, tree};
use crate::shim::{End, ExitRecord, MAX_RESULT, read_json};

/// What is to be taken out of a task's directory when it has ended.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Collect {
    /// Artifact name and where it is, below the step's directory.
    pub outputs: Vec<(String, PathBuf)>,
    /// Where a cache is, below the step's directory, and the name of its folder in `WORKDIR/caches`.
    pub caches: Vec<(PathBuf, String)>,
}

impl Collect {
    fn read(folder: &Path) -> Collect {
        read_json(&folder.join("collect.json")).ok().flatten().unwrap_or_default()
    }

    /// Outputs from the innermost out: one inside another is not part of it. Caches from the outermost in: the order
    /// in which they are brought.
    pub fn sort(&mut self) {
        self.outputs.sort_by_key(|(_, path)| std::cmp::Reverse(path.components().count()));
        self.caches.sort_by_key(|(path, _)| path.components().count());
    }
}

impl Runtime {
    /// Moves the caches into the step's directory, where folders for them are.
    pub(super) fn bring_caches(&self, work: &Path, collect: &Collect) -> io::Result<()> {
        for (path, name) in &collect.caches {
            let kept = self.work_dir.join("caches").join(name);
            let place = tree::make_dirs(work, path)?;
            if kept.is_dir() {
                tree::remove_tree(&place)?;
                match fs::rename(&kept, &place) {
                    Ok(()) => {}
                    // Another step of this name was faster: this one begins without.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => fs::create_dir(&place)?,
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(())
    }

    /// Moves the caches out of the step's directory, inner ones first. A cache that another step brought back in the
    /// meantime is replaced. What cannot be moved is lost: it is a cache.
    pub(super) fn return_caches(&self, folder: &Path) {
        let collect = Collect::read(folder);
        for (path, name) in collect.caches.iter().rev() {
            let Some(place) = tree::existing_dir(&folder.join("work"), path) else { continue };
            let kept = self.work_dir.join("caches").join(name);
            let old = folder.join("old-cache");
            let replaced = tree::remove_tree(&old).and_then(|()| match fs::rename(&kept, &old) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                _ => fs::rename(&place, &kept),
            });
            if let Err(error) = replaced {
                tracing::warn!(cache = %path.display(), %error, "a cache could not be kept");
            }
            let _ = tree::remove_tree(&old);
        }
    }

    /// Takes out of the step's folder what it made, and says how it ended. The error is a sentence.
    pub(super) fn collect(&self, assignment: &Assignment, folder: &Path, exit: ExitRecord) -> Result<Ending, String> {
        self.return_caches(folder);
        let outputs = Collect::read(folder).outputs;
        // The record of its end was waited for; what it made was not.
        let is_sure = self.is_of_this_boot(folder);
        for (name, path) in &outputs {
            let kept = match is_sure {
                true => self.collect_output(assignment, folder, name, path),
                false => self.artifacts(assignment.build).lose(name, &assignment.attempt),
            };
            kept.map_err(|e| format!("the output `{name}` cannot be kept: {e}"))?;
        }
        let made: Vec<String> = outputs.into_iter().map(|(name, _)| name).collect();
        let printed = exit.result.unwrap_or_default();
        Ok(match exit.end {
            End::TimedOut { .. } => Ending::TimedOut,
            End::Stopped { killed } => Ending::Stopped { killed },
            End::Signalled { signal } => Ending::Signalled { signal },
            End::CouldNotStart { message } => return Err(message),
            End::Exited { status } if status != 0 => Ending::Exited { status, result: None, artifacts: made },
            End::Exited { status } => match &assignment.spec {
                StepSpec::Get { resource_type, artifact, .. } => {
                    let result = parse_result(resource_type, "in", &printed)?;
                    if is_sure {
                        self.keep_get(assignment, folder, &result)?;
                    } else {
                        self.artifacts(assignment.build)
                            .lose(artifact, &assignment.attempt)
                            .map_err(|e| format!("what the get fetched cannot be kept: {e}"))?;
                    }
                    Ending::Exited { status, result: Some(result), artifacts: vec![artifact.clone()] }
                }
                StepSpec::Put { resource_type, .. } => {
                    let result = parse_result(resource_type, "out", &printed)?;
                    Ending::Exited { status, result: Some(result), artifacts: made }
                }
                StepSpec::Task { .. } | StepSpec::Files { .. } => {
                    Ending::Exited { status, result: None, artifacts: made }
                }
            },
        })
    }

    fn collect_output(&self, assignment: &Assignment, folder: &Path, name: &str, path: &Path) -> io::Result<()> {
        let place = match tree::existing_dir(&folder.join("work"), path) {
            Some(place) => place,
            // The step removed it, or put something else there: the artifact is empty.
            None => {
                let empty = folder.join("empty");
                fs::create_dir_all(&empty)?;
                empty
            }
        };
        self.artifacts(assignment.build).put(name, &assignment.attempt, &place)
    }

    /// An artifact of files that the server has.
    pub(super) fn make_files(
        &self,
        assignment: &Assignment,
        folder: &Path,
        artifact: &str,
        files: &BTreeMap<String, String>,
    ) -> Result<(), String> {
        if !tree::is_file_name(artifact) {
            return Err(bad_artifact(artifact));
        }
        let place = folder.join("work");
        let failed = |e: io::Error| format!("the files of `{artifact}` cannot be written: {e}");
        fs::create_dir_all(&place).map_err(failed)?;
        for (path, contents) in files {
            let inner = tree::inner_path(path)?;
            let Some(name) = inner.file_name() else { return Err(format!("{path:?} is not the path of a file")) };
            let parent = inner.parent().unwrap_or(Path::new(""));
            let parent = tree::make_dirs(&place, parent).map_err(failed)?;
            fs::write(parent.join(name), contents).map_err(failed)?;
        }
        self.artifacts(assignment.build).put(artifact, &assignment.attempt, &place).map_err(failed)
    }
}

/// What `in` or `out` printed (reference, section 2.1). The error is a sentence.
fn parse_result(resource_type: &str, operation: &str, text: &str) -> Result<ResourceResult, String> {
    #[derive(Deserialize)]
    struct Printed {
        version: Option<BTreeMap<String, String>>,
        metadata: Option<Vec<MetadataField>>,
    }
    if text.len() > MAX_RESULT {
        return Err(format!("{resource_type} {operation} printed more than {MAX_RESULT} bytes on its standard output"));
    }
    let null = format!("resource script ({resource_type} {operation}) output a null version");
    if text.trim_ascii().is_empty() {
        return Err(null);
    }
    let printed: Option<Printed> = serde_json::from_str(text).map_err(|e| {
        format!(
            "{resource_type} {operation} printed something else than a version and metadata on its standard output: {e}"
        )
    })?;
    let Some(Printed { version: Some(version), metadata }) = printed else { return Err(null) };
    if version.is_empty() {
        return Err("resource output version is empty. Version must contain at least one key-value pair".to_owned());
    }
    Ok(ResourceResult { version, metadata: metadata.unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_what_the_resource_protocol_says() {
        let good = parse_result("git", "in", r#" {"version":{"ref":"abc"},"metadata":[{"name":"a","value":"b"}]} "#);
        assert_eq!(good.unwrap().version["ref"], "abc");
        assert_eq!(parse_result("git", "in", r#"{"version":{"ref":"abc"}}"#).unwrap().metadata, []);
        for (text, message) in [
            ("", "resource script (git in) output a null version"),
            ("null", "resource script (git in) output a null version"),
            ("{}", "resource script (git in) output a null version"),
            (r#"{"version":null}"#, "resource script (git in) output a null version"),
            (r#"{"version":{}}"#, "resource output version is empty"),
            (r#"{"version":{"n":1}}"#, "git in printed something else than a version and metadata"),
            (r#"{"version":{"ref":"a"}} trailing"#, "git in printed something else"),
            ("[1]", "git in printed something else"),
            ("\u{fffd}", "git in printed something else"),
            (&"[".repeat(100_000), "git in printed something else"),
            (&" ".repeat(MAX_RESULT + 1), "git in printed more than"),
        ] {
            let error = parse_result("git", "in", text).unwrap_err();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
