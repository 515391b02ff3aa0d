//! The process runtime: each step in a folder of its own, under a shim of its own.
//!
//! ```text
//! WORKDIR/lock                        one worker at a time
//! WORKDIR/attempts/ATTEMPT/           one try to run one step; kept until the server says that it can go
//!     assignment.json                 what the server wants; a folder without it is not an attempt
//!     (the shim's files)              see [`crate::shim`]
//!     collect.json                    outputs and caches to take out when the step has ended
//!     work/  home/  tmp/              the step's directory, HOME and TMPDIR
//!     ending.json                     how it ended; everything has been collected
//! WORKDIR/builds/BUILD/               see [`artifacts`]
//! WORKDIR/caches/KEY/                 a task's cache; in the step's directory while the step runs
//! WORKDIR/resource-cache/             what resource types keep, such as clones
//! ```
//!
//! [`Runtime::run`] brings an attempt from whatever state its folder is in to its end, so it is the same after a
//! restart of the worker as the first time. A step is started only while its folder's lock is free and `began` is
//! not there; so it is never started twice. With the lock free, `began` there and no `exit.json`, nobody knows how
//! it ended: [`Ending::Lost`].

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use holdall_protocol::worker::{Assignment, Ending, PutArtifacts, ResourceResult, StepSpec, Stream};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::output::Writer;
use crate::shim::{self, End, ExitRecord, Spec, now_micros, read_json, write_json};

pub mod artifacts;
pub mod task;
pub mod tree;

use artifacts::Artifacts;

/// `PATH` of steps where the worker was not told another.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Names the folder in which resource types keep what outlives a step, such as clones, in their environment.
pub const CACHE_DIR: &str = "HOLDALL_CACHE_DIR";

/// Runs steps as plain processes below one folder.
#[derive(Debug)]
pub struct Runtime {
    work_dir: PathBuf,
    executable: PathBuf,
    path: String,
    /// Held for the worker's life.
    _lock: File,
}

/// The worker's folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another worker uses it.
    #[error("the work folder {0} is in use by another worker; stop that one, or give this one a folder of its own")]
    InUse(PathBuf),
    /// It cannot be made or written.
    #[error("cannot use the work folder {dir}")]
    Io {
        /// The folder.
        dir: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What is to be taken out of a step's folder when it has ended.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Collect {
    /// Artifact name and where it is, below the step's directory.
    outputs: Vec<(String, PathBuf)>,
    /// Where a cache is, below the step's directory, and the name of its folder in `WORKDIR/caches`.
    caches: Vec<(PathBuf, String)>,
}

impl Runtime {
    /// Takes the folder `work_dir` for this process, making it if need be. `executable` is `holdall`, or what stands
    /// in for it in tests; `path` is `PATH` of the steps.
    pub fn open(work_dir: &Path, executable: &Path, path: &str) -> Result<Runtime, OpenError> {
        let failed = |source| OpenError::Io { dir: work_dir.to_owned(), source };
        for folder in ["attempts", "builds", "caches"] {
            fs::create_dir_all(work_dir.join(folder)).map_err(failed)?;
        }
        let work_dir = fs::canonicalize(work_dir).map_err(failed)?;
        let lock = File::create(work_dir.join("lock")).map_err(failed)?;
        lock.try_lock().map_err(|_| OpenError::InUse(work_dir.clone()))?;
        Ok(Runtime { work_dir, executable: executable.to_owned(), path: path.to_owned(), _lock: lock })
    }

    /// The worker's folder, as an absolute path.
    pub fn work_dir(&self) -> &Path {
        &self.work_dir
    }

    /// The folder of an attempt.
    pub fn folder(&self, attempt: &str) -> PathBuf {
        self.work_dir.join("attempts").join(attempt)
    }

    /// The attempts on the disk. Folders that never became attempts are removed.
    pub fn held(&self) -> io::Result<Vec<Assignment>> {
        let mut held = Vec::new();
        for name in tree::names(&self.work_dir.join("attempts"))? {
            match read_json::<Assignment>(&self.folder(&name).join("assignment.json")) {
                Ok(Some(assignment)) if assignment.attempt == name => held.push(assignment),
                _ => tree::remove_tree(&self.folder(&name))?,
            }
        }
        Ok(held)
    }

    /// Writes down that the attempt is this worker's. The error is a sentence.
    pub fn accept(&self, assignment: &Assignment) -> Result<(), String> {
        let folder = self.folder(&assignment.attempt);
        fs::create_dir_all(&folder)
            .and_then(|()| write_json(&folder.join("assignment.json"), assignment, false))
            .map_err(|e| format!("the worker cannot write to its folder {}: {e}", folder.display()))
    }

    /// Makes the attempt stop: before it starts, or with its signal and grace.
    pub fn stop(&self, attempt: &str) -> io::Result<()> {
        let folder = self.folder(attempt);
        File::create(folder.join("stop"))?;
        poke(&folder.join("control"));
        Ok(())
    }

    /// Removes what is left of an attempt that has ended.
    pub fn forget(&self, attempt: &str) -> io::Result<()> {
        // Renamed first, so that what a crash leaves behind is not taken for an attempt.
        let folder = self.folder(attempt);
        let _ = fs::remove_file(folder.join("assignment.json"));
        tree::remove_tree(&folder)
    }

    /// Removes the artifacts of a build.
    pub fn forget_build(&self, build: i64) -> io::Result<()> {
        tree::remove_tree(&self.build_folder(build))
    }

    /// Brings an attempt to its end and says how it ended;
    /// blocks until then.
    pub fn run(&self, assignment: &Assignment) -> Ending {
        let folder = self.folder(&assignment.attempt);
        if let Ok(Some(ending)) = read_json(&folder.join("ending.json")) {
            return ending;
        }
        let ending = self.run_to_exit(assignment, &folder);
        let _ = write_json(&folder.join("ending.json"), &ending, false);
        ending
    }

    fn run_to_exit(&self, assignment: &Assignment, folder: &Path) -> Ending {
        let could_not = |message: String| Ending::CouldNotRun { message };
        let failed = |e: io::Error| could_not(format!("the worker cannot use its folder {}: {e}", folder.display()));
        if let StepSpec::Files { artifact, files } = &assignment.spec {
            return match self.make_files(assignment, folder, artifact, files) {
                Ok(()) => Ending::Exited { status: 0, result: None, artifacts: vec![artifact.clone()] },
                Err(message) => could_not(message),
            };
        }
        let lock = match File::create(folder.join("lock")) {
            Ok(lock) => lock,
            Err(e) => return failed(e),
        };
        // Waits for as long as a shim that an earlier worker started is there.
        if let Err(e) = lock.lock() {
            return failed(e);
        }
        match read_json::<ExitRecord>(&folder.join("exit.json")) {
            Ok(Some(exit)) => return self.collect(assignment, folder, exit),
            Ok(None) => {}
            Err(e) => return could_not(format!("the record of the step's end cannot be read: {e}")),
        }
        if !folder.join("began").exists() {
            // Taken out of a folder that an earlier worker had begun to fill, so that no cache is thrown away.
            let collect = read_json::<Collect>(&folder.join("collect.json")).ok().flatten().unwrap_or_default();
            self.return_caches(folder, &collect);
            if let Err(message) = self.prepare(assignment, folder) {
                self.return_caches(folder, &read_json(&folder.join("collect.json")).ok().flatten().unwrap_or_default());
                return could_not(message);
            }
            if folder.join("stop").exists() {
                self.return_caches(folder, &read_json(&folder.join("collect.json")).ok().flatten().unwrap_or_default());
                return Ending::Stopped { killed: false };
            }
            if let Err(e) = self.run_shim(folder, lock) {
                return could_not(format!("the step's shim cannot be started: {e}"));
            }
            if let Ok(Some(exit)) = read_json::<ExitRecord>(&folder.join("exit.json")) {
                return self.collect(assignment, folder, exit);
            }
        }
        let collect = read_json::<Collect>(&folder.join("collect.json")).ok().flatten().unwrap_or_default();
        self.return_caches(folder, &collect);
        Ending::Lost { message: "the step's shim ended without a record of how the step ended".to_owned() }
    }

    /// Starts the shim and waits for its end. It gets the lock as its standard input: the lock is free when neither
    /// this process nor the shim holds it any more.
    fn run_shim(&self, folder: &Path, lock: File) -> io::Result<()> {
        let control = folder.join("control");
        match nix::unistd::mkfifo(&control, nix::sys::stat::Mode::from_bits_truncate(0o600)) {
            Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
            Err(e) => return Err(e.into()),
        }
        // The command, and the lock in it, is dropped before this process waits.
        let mut child = Command::new(&self.executable)
            .arg0("holdall")
            .arg("shim")
            .arg(folder)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(lock))
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("shim.log"))?)
            .spawn()?;
        child.wait()?;
        Ok(())
    }

    /// Fills the step's folder and writes the shim's `spec.json`. The error is a sentence.
    fn prepare(&self, assignment: &Assignment, folder: &Path) -> Result<(), String> {
        let disk = |e: io::Error| format!("the worker cannot fill the step's directory: {e}");
        for inner in ["work", "home", "tmp"] {
            tree::remove_tree(&folder.join(inner)).map_err(disk)?;
            fs::create_dir(folder.join(inner)).map_err(disk)?;
        }
        let work = folder.join("work");
        let artifacts = Artifacts::new(self.build_folder(assignment.build));
        let mut log = Vec::new();
        let mut spec = Spec {
            argv: Vec::new(),
            env: BTreeMap::new(),
            cwd: work.clone(),
            stdin: None,
            stop: assignment.stop.clone(),
            timeout_seconds: assignment.timeout_seconds,
            capture_stdout: false,
        };
        match &assignment.spec {
            StepSpec::Get { resource_type, source, params, version, env, .. } => {
                let request = serde_json::json!({"source": source, "params": params, "version": version});
                let target = work.join("get");
                fs::create_dir(&target).map_err(disk)?;
                self.prepare_resource(&mut spec, folder, resource_type, "in", request, env, &target)?;
            }
            StepSpec::Put { resource_type, source, params, inputs, env } => {
                let request = serde_json::json!({"source": source, "params": params});
                let target = work.join("put");
                fs::create_dir(&target).map_err(disk)?;
                for name in put_artifacts(&artifacts, inputs)? {
                    let Some(from) = artifacts.get(&name) else { return Err(format!("input not found: {name}")) };
                    let to = target.join(&name);
                    fs::create_dir(&to).and_then(|()| tree::copy_tree(&from, &to)).map_err(disk)?;
                }
                self.prepare_resource(&mut spec, folder, resource_type, "out", request, env, &target)?;
            }
            StepSpec::Task { config, file, vars: _, params, env, input_mapping, output_mapping, cache_key, image } => {
                let text = match (config, file) {
                    (Some(config), _) => config.clone(),
                    (None, Some(file)) => artifacts.read_config(file)?,
                    (None, None) => return Err("the task has neither `config` nor `file`".to_owned()),
                };
                let config = task::parse(&text)?;
                if config.platform != "linux" {
                    return Err(format!("the task is for platform '{}', and this worker is 'linux'", config.platform));
                }
                if (config.image_resource.is_some() || image.is_some()) && self.note_image(assignment.build) {
                    log.push("holdall: images are not used by the process runtime: tasks of this build run with the programs of the worker\n".to_owned());
                }
                spec.env.extend(config.params.iter().map(|(name, value)| (name.clone(), task::env_value(value))));
                if let Some(params) = params.as_object() {
                    for (name, value) in params {
                        if !config.params.contains_key(name) {
                            log.push(format!("[WARNING] {name} was defined in pipeline but missing from task file\n"));
                        }
                        spec.env.insert(name.clone(), task::env_value(value));
                    }
                }
                spec.env.extend(env.clone());
                let collect =
                    self.prepare_task(&config, &artifacts, &work, input_mapping, output_mapping, cache_key.as_deref())?;
                write_json(&folder.join("collect.json"), &collect, false).map_err(disk)?;
                self.bring_caches(&work, &collect).map_err(disk)?;
                spec.cwd = work.join(tree::inner_path(&config.run.dir)?);
                spec.argv = std::iter::once(config.run.path).chain(config.run.args).collect();
            }
            StepSpec::Files { .. } => {}
        }
        let own = [
            ("PATH", self.path.clone()),
            ("HOME", text(&folder.join("home"))?),
            ("TMPDIR", text(&folder.join("tmp"))?),
        ];
        for (name, value) in own {
            spec.env.entry(name.to_owned()).or_insert(value);
        }
        let mut output = Writer::open(&folder.join("output")).map_err(disk)?;
        for line in log {
            output.append(now_micros(), Stream::Stderr, line.as_bytes()).map_err(|e| disk(e.source))?;
        }
        write_json(&folder.join("spec.json"), &spec, false).map_err(disk)
    }

    #[allow(clippy::too_many_arguments)]
    fn prepare_resource(
        &self,
        spec: &mut Spec,
        folder: &Path,
        resource_type: &str,
        operation: &str,
        request: serde_json::Value,
        env: &BTreeMap<String, String>,
        target: &Path,
    ) -> Result<(), String> {
        write_json(&folder.join("request.json"), &request, false)
            .map_err(|e| format!("the worker cannot fill the step's directory: {e}"))?;
        spec.argv = vec![
            text(&self.executable)?,
            "resource".into(),
            resource_type.to_owned(),
            operation.to_owned(),
            text(target)?,
        ];
        spec.env = env.clone();
        spec.env.insert(CACHE_DIR.to_owned(), text(&self.work_dir.join("resource-cache"))?);
        spec.stdin = Some(folder.join("request.json"));
        spec.capture_stdout = true;
        Ok(())
    }

    /// Inputs into place, folders for outputs; what is to be collected afterwards.
    fn prepare_task(
        &self,
        config: &task::TaskConfig,
        artifacts: &Artifacts,
        work: &Path,
        input_mapping: &BTreeMap<String, String>,
        output_mapping: &BTreeMap<String, String>,
        cache_key: Option<&str>,
    ) -> Result<Collect, String> {
        let mut missing = Vec::new();
        let mut inputs = Vec::new();
        for input in &config.inputs {
            let artifact = input_mapping.get(&input.name).unwrap_or(&input.name);
            match artifacts.get(artifact) {
                Some(from) => inputs.push((from, tree::inner_path(or(&input.path, &input.name))?)),
                None if input.optional => {}
                None => missing.push(artifact.as_str()),
            }
        }
        if !missing.is_empty() {
            return Err(format!("missing inputs: {}", missing.join(", ")));
        }
        // Outer ones first, so that an input inside another lies over it.
        inputs.sort_by_key(|(_, path)| path.components().count());
        for (from, path) in inputs {
            tree::make_dirs(work, &path)
                .and_then(|to| tree::copy_tree(&from, &to))
                .map_err(|e| format!("the input {} cannot be copied: {e}", path.display()))?;
        }
        let mut collect = Collect::default();
        for output in &config.outputs {
            let artifact = output_mapping.get(&output.name).unwrap_or(&output.name);
            if !tree::is_file_name(artifact) {
                return Err(format!(
                    "output {artifact:?} cannot be the name of a folder; use letters, digits, `-`, `_` and `.`"
                ));
            }
            let path = tree::inner_path(or(&output.path, &output.name))?;
            tree::make_dirs(work, &path).map_err(|e| format!("the output {} cannot be made: {e}", path.display()))?;
            collect.outputs.push((artifact.clone(), path));
        }
        for cache in &config.caches {
            let path = tree::inner_path(&cache.path)?;
            tree::make_dirs(work, &path).map_err(|e| format!("the cache {} cannot be made: {e}", path.display()))?;
            if let (Some(key), false) = (cache_key, path.as_os_str().is_empty()) {
                let name = digest(&[key, &path.to_string_lossy()]);
                collect.caches.push((path, name));
            }
        }
        // Inner ones are taken out first: an output inside another is not part of it.
        collect.outputs.sort_by_key(|(_, path)| std::cmp::Reverse(path.components().count()));
        collect.caches.sort_by_key(|(path, _)| path.components().count());
        Ok(collect)
    }

    /// Moves the caches into the step's directory. What is there already makes room.
    fn bring_caches(&self, work: &Path, collect: &Collect) -> io::Result<()> {
        for (path, name) in &collect.caches {
            let kept = self.work_dir.join("caches").join(name);
            let place = tree::make_dirs(work, path)?;
            if kept.is_dir() {
                tree::remove_tree(&place)?;
                match fs::rename(&kept, &place) {
                    Ok(()) => {}
                    // Another step was faster: this one begins without.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => fs::create_dir(&place)?,
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(())
    }

    /// Moves the caches out of the step's directory, inner ones first. A cache that another step brought back in the
    /// meantime is replaced. What cannot be moved is lost: it is a cache.
    fn return_caches(&self, folder: &Path, collect: &Collect) {
        for (path, name) in collect.caches.iter().rev() {
            let Some(place) = tree::existing_dir(&folder.join("work"), path) else { continue };
            let kept = self.work_dir.join("caches").join(name);
            let old = folder.join("old-cache");
            if fs::rename(&kept, &old).is_ok() {
                let _ = tree::remove_tree(&old);
            }
            if let Err(error) = fs::rename(&place, &kept) {
                tracing::warn!(cache = %path.display(), %error, "a cache could not be kept");
            }
        }
    }

    /// Takes out of the step's folder what it made.
    fn collect(&self, assignment: &Assignment, folder: &Path, exit: ExitRecord) -> Ending {
        let collect = read_json::<Collect>(&folder.join("collect.json")).ok().flatten().unwrap_or_default();
        self.return_caches(folder, &collect);
        let artifacts = Artifacts::new(self.build_folder(assignment.build));
        let mut made = Vec::new();
        for (name, path) in &collect.outputs {
            match self.collect_output(assignment, folder, &artifacts, name, path) {
                Ok(()) => made.push(name.clone()),
                Err(e) => return Ending::CouldNotRun { message: format!("the output {name} cannot be kept: {e}") },
            }
        }
        match exit.end {
            End::TimedOut { .. } => Ending::TimedOut,
            End::Stopped { killed } => Ending::Stopped { killed },
            End::Signalled { signal } => Ending::Signalled { signal },
            End::CouldNotStart { message } => Ending::CouldNotRun { message },
            End::Exited { status: 0 } => match self.resource_result(assignment, folder, &artifacts) {
                Ok(None) => Ending::Exited { status: 0, result: None, artifacts: made },
                Ok(Some((result, artifacts))) => Ending::Exited { status: 0, result: Some(result), artifacts },
                Err(message) => Ending::CouldNotRun { message },
            },
            End::Exited { status } => Ending::Exited { status, result: None, artifacts: made },
        }
    }

    fn collect_output(
        &self,
        assignment: &Assignment,
        folder: &Path,
        artifacts: &Artifacts,
        name: &str,
        path: &Path,
    ) -> io::Result<()> {
        let place = match tree::existing_dir(&folder.join("work"), path) {
            Some(place) => place,
            // The step removed it, or put something else there: the artifact is empty.
            None => {
                let empty = folder.join("empty");
                fs::create_dir_all(&empty)?;
                empty
            }
        };
        artifacts.put(name, &assignment.attempt, &place)
    }

    /// What a get or a put gave, and the artifacts that it made; `None` for a task.
    fn resource_result(
        &self,
        assignment: &Assignment,
        folder: &Path,
        artifacts: &Artifacts,
    ) -> Result<Option<(ResourceResult, Vec<String>)>, String> {
        let (resource_type, operation, artifact) = match &assignment.spec {
            StepSpec::Get { resource_type, artifact, .. } => (resource_type, "in", Some(artifact)),
            StepSpec::Put { resource_type, .. } => (resource_type, "out", None),
            _ => return Ok(None),
        };
        let text = match fs::read(folder.join("result")) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(format!("the resource's result cannot be read: {e}")),
        };
        let result = parse_result(resource_type, operation, &text)?;
        let mut made = Vec::new();
        if let Some(artifact) = artifact {
            if !tree::is_file_name(artifact) {
                return Err(format!(
                    "artifact {artifact:?} cannot be the name of a folder; use letters, digits, `-`, `_` and `.`"
                ));
            }
            artifacts
                .put(artifact, &assignment.attempt, &folder.join("work/get"))
                .map_err(|e| format!("the artifact {artifact} cannot be kept: {e}"))?;
            made.push(artifact.clone());
        }
        Ok(Some((result, made)))
    }

    fn make_files(
        &self,
        assignment: &Assignment,
        folder: &Path,
        artifact: &str,
        files: &BTreeMap<String, String>,
    ) -> Result<(), String> {
        if !tree::is_file_name(artifact) {
            return Err(format!(
                "artifact {artifact:?} cannot be the name of a folder; use letters, digits, `-`, `_` and `.`"
            ));
        }
        let place = folder.join("work");
        let disk = |e: io::Error| format!("the files of {artifact} cannot be written: {e}");
        fs::create_dir_all(&place).map_err(disk)?;
        for (path, contents) in files {
            let inner = tree::inner_path(path)?;
            let Some(name) = inner.file_name() else { return Err(format!("{path:?} is not the path of a file")) };
            let parent = inner.parent().unwrap_or(Path::new(""));
            let parent = tree::make_dirs(&place, parent).map_err(disk)?;
            fs::write(parent.join(name), contents).map_err(disk)?;
        }
        Artifacts::new(self.build_folder(assignment.build)).put(artifact, &assignment.attempt, &place).map_err(disk)
    }

    /// Whether it is this step that says that images are not used: the first of its build.
    fn note_image(&self, build: i64) -> bool {
        let folder = self.build_folder(build);
        fs::create_dir_all(&folder).is_ok() && File::create_new(folder.join("image-noted")).is_ok()
    }

    fn build_folder(&self, build: i64) -> PathBuf {
        self.work_dir.join("builds").join(build.to_string())
    }
}

/// Which artifacts a put sees. The error is a sentence.
fn put_artifacts(artifacts: &Artifacts, wanted: &PutArtifacts) -> Result<Vec<String>, String> {
    match wanted {
        PutArtifacts::All => artifacts.names().map_err(|e| format!("the build's artifacts cannot be listed: {e}")),
        PutArtifacts::Detected(names) => {
            Ok(names.iter().filter(|name| artifacts.get(name).is_some()).cloned().collect())
        }
        PutArtifacts::Named(names) => Ok(names.clone()),
    }
}

/// What `in` or `out` printed (reference, section 2.1). The error is a sentence.
fn parse_result(resource_type: &str, operation: &str, text: &[u8]) -> Result<ResourceResult, String> {
    #[derive(Deserialize)]
    struct Printed {
        version: Option<BTreeMap<String, String>>,
        metadata: Option<Vec<holdall_protocol::worker::MetadataField>>,
    }
    if text.len() > shim::MAX_RESULT {
        return Err(format!("{resource_type} {operation} printed more than {} bytes", shim::MAX_RESULT));
    }
    let null = format!("resource script ({resource_type} {operation}) output a null version");
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(null);
    }
    let printed: Printed = serde_json::from_slice(text)
        .map_err(|e| format!("{resource_type} {operation} printed something else than a version and metadata: {e}"))?;
    let version = printed.version.ok_or(null)?;
    if operation == "out" && version.is_empty() {
        return Err("resource output version is empty. Version must contain at least one key-value pair".to_owned());
    }
    Ok(ResourceResult { version, metadata: printed.metadata.unwrap_or_default() })
}

/// Makes a shim that is there look at `stop`. One that is not there yet looks by itself.
fn poke(control: &Path) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    if let Ok(mut fifo) = File::options().write(true).custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits()).open(control) {
        let _ = fifo.write(b"s");
    }
}

/// A name for a folder that depends on all of `parts`.
pub(crate) fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn or<'a>(path: &'a str, name: &'a str) -> &'a str {
    if path.is_empty() { name } else { path }
}

fn text(path: &Path) -> Result<String, String> {
    path.to_str().map(str::to_owned).ok_or_else(|| format!("the worker's path {} is not UTF-8", path.display()))
}
