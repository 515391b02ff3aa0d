//! What gets fetched, kept for the next get of the same: `WORKDIR/gets/KEY/` holds `files/` and `result.json`. The
//! key is made of type, source, version and params, so what is there is what would be fetched (reference, sections
//! 2.4 and 7.6). An artifact of a build is a link to it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use holdall_protocol::worker::{Assignment, Ending, ResourceResult, StepSpec, Stream};

use super::{Runtime, bad_artifact, digest, tree};
use crate::output::Writer;
use crate::shim::{now_micros, read_json, write_json};

/// How many that no build uses are kept.
const KEPT: usize = 64;

impl Runtime {
    /// How a get ends that was made before; `None` for one that was not, and for everything else.
    pub(super) fn known_get(&self, assignment: &Assignment, folder: &Path) -> Result<Option<Ending>, String> {
        let StepSpec::Get { artifact, .. } = &assignment.spec else { return Ok(None) };
        if !tree::is_file_name(artifact) {
            return Err(bad_artifact(artifact));
        }
        let Some(kept) = self.get_folder(&assignment.spec) else { return Ok(None) };
        let Ok(Some(result)) = read_json::<ResourceResult>(&kept.join("result.json")) else { return Ok(None) };
        let linked = touch(&kept)
            .and_then(|()| self.artifacts(assignment.build).link(artifact, &assignment.attempt, &kept.join("files")));
        if linked.is_err() {
            return Ok(None);
        }
        if !folder.join("output").exists() {
            let line = b"INFO: found existing resource cache\n";
            let written = Writer::open(&folder.join("output"))
                .map(|mut writer| writer.append(now_micros(), Stream::Stderr, line));
            if let Err(error) = written {
                tracing::debug!(%error, "a line could not be written");
            }
        }
        Ok(Some(Ending::Exited { status: 0, result: Some(result), artifacts: vec![artifact.clone()] }))
    }

    /// Keeps what a get fetched, and makes it the build's artifact. The error is a sentence.
    pub(super) fn keep_get(
        &self,
        assignment: &Assignment,
        folder: &Path,
        result: &ResourceResult,
    ) -> Result<(), String> {
        let (StepSpec::Get { artifact, .. }, Some(kept)) = (&assignment.spec, self.get_folder(&assignment.spec)) else {
            return Ok(());
        };
        let keep = || -> io::Result<()> {
            let fetched = folder.join("work/resource");
            if fetched.is_dir() {
                let whole = folder.join("get");
                fs::create_dir_all(&whole)?;
                write_json(&whole.join("result.json"), result)?;
                fs::rename(&fetched, whole.join("files"))?;
            }
            // It is there already where another step fetched the same at the same time.
            if !kept.is_dir() {
                match fs::rename(folder.join("get"), &kept) {
                    Err(_) if kept.is_dir() => {}
                    done => done?,
                }
            }
            touch(&kept)?;
            self.artifacts(assignment.build).link(artifact, &assignment.attempt, &kept.join("files"))
        };
        keep().map_err(|e| format!("what the get fetched cannot be kept: {e}"))
    }

    /// Removes what no build uses, but for the [`KEPT`] that were used last.
    pub(super) fn trim_gets(&self) -> io::Result<()> {
        let gets = self.work_dir.join("gets");
        let names = tree::names(&gets)?;
        if names.len() <= KEPT {
            return Ok(());
        }
        let mut used = Vec::new();
        for build in self.builds()? {
            used.extend(self.artifacts(build).targets()?);
        }
        let mut unused: Vec<(SystemTime, PathBuf)> = Vec::new();
        for name in names {
            let folder = gets.join(name);
            if !used.iter().any(|target| target.starts_with(&folder)) {
                unused.push((fs::metadata(&folder)?.modified()?, folder));
            }
        }
        unused.sort();
        unused.reverse();
        for (_, folder) in unused.into_iter().skip(KEPT) {
            let _ = fs::remove_file(folder.join("result.json"));
            tree::remove_tree(&folder)?;
        }
        Ok(())
    }

    fn get_folder(&self, spec: &StepSpec) -> Option<PathBuf> {
        let StepSpec::Get { resource_type, source, params, version, .. } = spec else { return None };
        // Objects of `serde_json` are sorted by key, so the same is always written the same way.
        let version = serde_json::to_string(version).ok()?;
        Some(self.work_dir.join("gets").join(digest(&[
            resource_type,
            &source.to_string(),
            &version,
            &params.to_string(),
        ])))
    }
}

/// Notes that something was used now.
fn touch(folder: &Path) -> io::Result<()> {
    File::open(folder)?.set_modified(SystemTime::now())
}
