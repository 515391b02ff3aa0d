//! What gets fetched, kept for the next get of the same: `WORKDIR/gets/KEY/` holds `files/` and `result.json`. The
//! key is made of type, source, version and params, so what is there is what would be fetched (reference, sections
//! 2.4 and 7.6). An artifact of a build is a link to it.
//!
//! Steps end and builds are forgotten in threads of their own, so what looks at `gets/` and then changes it or links to
//! it has [`Runtime::lock_gets`] meanwhile. A folder comes and goes whole, by a rename, whenever the worker is killed;
//! one that is not [`whole`] all the same is none. Nothing waits until it has reached the disk: see [`Runtime::distrust`].

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};
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
        let gets = self.lock_gets();
        let Some(result) = whole(&kept) else { return Ok(None) };
        let linked = touch(&kept)
            .and_then(|()| self.artifacts(assignment.build).link(artifact, &assignment.attempt, &kept.join("files")));
        drop(gets);
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
            let _gets = self.lock_gets();
            // It is there already where another step fetched the same at the same time.
            if whole(&kept).is_none() {
                if kept.exists() {
                    // Left for the next start of the worker: it is rare, and the lock is held.
                    self.discard(&kept)?;
                }
                fs::rename(folder.join("get"), &kept)?;
            }
            touch(&kept)?;
            self.artifacts(assignment.build).link(artifact, &assignment.attempt, &kept.join("files"))
        };
        keep().map_err(|e| format!("what the get fetched cannot be kept: {e}"))
    }

    /// Removes what no build uses, but for the [`KEPT`] that were used last.
    pub(super) fn trim_gets(&self) -> io::Result<()> {
        for folder in self.discard_unused_gets()? {
            tree::remove_tree(&folder)?;
        }
        Ok(())
    }

    /// Moves them out of the way; gives where they are now.
    fn discard_unused_gets(&self) -> io::Result<Vec<PathBuf>> {
        // From the look at what builds use to the last rename.
        let _gets = self.lock_gets();
        let gets = self.work_dir.join("gets");
        let names = tree::names(&gets)?;
        if names.len() <= KEPT {
            return Ok(Vec::new());
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
        unused.into_iter().skip(KEPT).map(|(_, folder)| self.discard(&folder)).collect()
    }

    /// Held by who looks at `gets/` and then acts on what is there.
    fn lock_gets(&self) -> MutexGuard<'_, ()> {
        self.gets.lock().unwrap_or_else(PoisonError::into_inner)
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

/// What a get that is kept gave; `None` where there is none, or not all of it.
fn whole(kept: &Path) -> Option<ResourceResult> {
    if !kept.join("files").is_dir() {
        return None;
    }
    read_json(&kept.join("result.json")).ok().flatten()
}

/// Notes that something was used now.
fn touch(folder: &Path) -> io::Result<()> {
    File::open(folder)?.set_modified(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Barrier;
    use std::thread;

    use holdall_protocol::worker::StopPolicy;
    use serde_json::json;

    use super::*;
    use crate::runtime::DEFAULT_PATH;

    fn get(n: usize) -> Assignment {
        Assignment {
            attempt: format!("attempt-{n}"),
            fence: 1,
            build: n as i64,
            step: "step".to_owned(),
            name: "get".to_owned(),
            spec: StepSpec::Get {
                resource_type: "scripted".to_owned(),
                source: json!({}),
                params: json!({}),
                version: BTreeMap::from([("n".to_owned(), n.to_string())]),
                artifact: "code".to_owned(),
                env: BTreeMap::new(),
            },
            stop: StopPolicy::default(),
            timeout_seconds: None,
        }
    }

    fn open(work_dir: &Path) -> Runtime {
        Runtime::open(work_dir, Path::new("/bin/false"), DEFAULT_PATH).unwrap()
    }

    /// Lets a get have fetched a few files, for a build that is forgotten.
    fn fetch(runtime: &Runtime, n: usize) {
        let given = get(n);
        let folder = runtime.folder(&given.attempt);
        let fetched = folder.join("work/resource");
        fs::create_dir_all(&fetched).unwrap();
        for file in ["a", "b", "c"] {
            fs::write(fetched.join(file), "x").unwrap();
        }
        let result = ResourceResult { version: BTreeMap::from([("n".to_owned(), n.to_string())]), metadata: vec![] };
        runtime.keep_get(&given, &folder, &result).unwrap();
        tree::remove_tree(&runtime.build_folder(given.build)).unwrap();
        tree::remove_tree(&folder).unwrap();
    }

    #[test]
    fn what_a_step_takes_is_not_removed_meanwhile() {
        const FETCHED: usize = 2 * KEPT;
        let dir = tempfile::tempdir().unwrap();
        let runtime = open(dir.path());
        for _ in 0..4 {
            for n in 0..FETCHED {
                fetch(&runtime, n);
            }
            let both = Barrier::new(2);
            let taken: Vec<usize> = thread::scope(|scope| {
                scope.spawn(|| {
                    both.wait();
                    runtime.trim_gets().unwrap();
                });
                both.wait();
                // Those that are to be removed, and from the one that is removed last.
                let taken = |n: &usize| runtime.known_get(&get(*n), &runtime.folder("none")).unwrap().is_some();
                (0..FETCHED - KEPT).filter(taken).collect()
            });
            for n in taken {
                let found = runtime.artifacts(n as i64).get("code").unwrap().map(|place| tree::names(&place).unwrap());
                assert_eq!(found.unwrap_or_default(), ["a", "b", "c"], "of {n}");
            }
        }
    }

    #[test]
    fn what_is_trimmed_is_moved_away_whole_first() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = open(dir.path());
        for n in 0..KEPT + 3 {
            fetch(&runtime, n);
        }
        // As far as a worker comes that is killed before it has removed anything.
        let moved = runtime.discard_unused_gets().unwrap();
        assert_eq!((moved.len(), tree::names(&dir.path().join("gets")).unwrap().len()), (3, KEPT));
        assert!(moved.iter().all(|folder| whole(folder).is_some()));
        assert_eq!(runtime.trash().unwrap(), moved, "the next worker removes them");
        fetch(&runtime, KEPT + 3);
        runtime.trim_gets().unwrap();
        assert_eq!(tree::names(&dir.path().join("gets")).unwrap().len(), KEPT);
        assert_eq!(runtime.trash().unwrap(), moved, "what it moved itself it has removed");
    }
}
