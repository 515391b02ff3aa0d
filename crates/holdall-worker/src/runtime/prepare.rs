//! Filling a step's folder: inputs, caches, and the shim's `spec.json`. Every error is a sentence for the build's
//! page.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use holdall_engine::pipeline::TaskConfig;
use holdall_protocol::worker::{Assignment, PutArtifacts, StepSpec, Stream};
use serde_json::{Value, json};

use super::artifacts::Artifacts;
use super::collect::Collect;
use super::{CACHE_DIR, Runtime, bad_artifact, disk, task, tree};
use crate::output::Writer;
use crate::shim::{Spec, now_micros, write_json};

/// What a step's environment names besides `PATH` and its own, and which of its folders: by them a process is known to
/// be the step's. Params and env of the same name win.
pub(super) const OWN_FOLDERS: [(&str, &str); 2] = [("HOME", "home"), ("TMPDIR", "tmp")];

impl Runtime {
    /// Fills the step's folder and writes the shim's `spec.json`.
    pub(super) fn prepare(&self, assignment: &Assignment, folder: &Path) -> Result<(), String> {
        for inner in ["work", "home", "tmp"] {
            tree::remove_tree(&folder.join(inner)).map_err(disk)?;
            fs::create_dir(folder.join(inner)).map_err(disk)?;
        }
        let mut spec = Spec {
            argv: Vec::new(),
            env: BTreeMap::new(),
            cwd: folder.join("work"),
            stdin: None,
            stop: assignment.stop.clone(),
            timeout_seconds: assignment.timeout_seconds,
            capture_stdout: false,
        };
        let log = match &assignment.spec {
            StepSpec::Task { .. } => self.prepare_task(assignment, folder, &mut spec)?,
            resource => {
                self.prepare_resource(assignment.build, resource, folder, &mut spec)?;
                String::new()
            }
        };
        spec.env.entry("PATH".to_owned()).or_insert_with(|| self.path.clone());
        for (name, inner) in OWN_FOLDERS {
            spec.env.entry(name.to_owned()).or_insert(text(&folder.join(inner))?);
        }
        check_environment(&spec.env)?;
        // A worker that was killed in here may have reported what is in the output already: it stays.
        if !log.is_empty() && !folder.join("output").exists() {
            let new = folder.join("output.new");
            Writer::open(&new)
                .map_err(disk)?
                .append(now_micros(), Stream::Stderr, log.as_bytes())
                .map_err(|e| disk(e.source))?;
            fs::rename(new, folder.join("output")).map_err(disk)?;
        }
        write_json(&folder.join("spec.json"), &spec).map_err(disk)?;
        Ok(())
    }

    /// A get or a put: `holdall resource TYPE in|out DIR` with its request on standard input.
    fn prepare_resource(&self, build: i64, step: &StepSpec, folder: &Path, spec: &mut Spec) -> Result<(), String> {
        let (resource_type, operation, request, env) = match step {
            StepSpec::Get { resource_type, source, params, version, env, artifact } => {
                if !tree::is_file_name(artifact) {
                    return Err(bad_artifact(artifact));
                }
                (resource_type, "in", json!({"source": source, "params": params, "version": version}), env)
            }
            StepSpec::Put { resource_type, source, params, env, .. } => {
                (resource_type, "out", json!({"source": source, "params": params}), env)
            }
            StepSpec::Task { .. } | StepSpec::Files { .. } => return Err("this step has no resource".to_owned()),
        };
        let target = spec.cwd.join("resource");
        fs::create_dir(&target).map_err(disk)?;
        if let StepSpec::Put { inputs, .. } = step {
            let artifacts = self.artifacts(build);
            for name in put_artifacts(&artifacts, inputs)? {
                let from = artifacts.get(&name)?.ok_or_else(|| format!("input not found: {name}"))?;
                let to = target.join(&name);
                fs::create_dir(&to).and_then(|()| tree::copy_tree(&from, &to)).map_err(disk)?;
            }
        }
        let stdin = folder.join("request.json");
        write_json(&stdin, &request).map_err(disk)?;
        spec.argv = [&text(&self.executable)?, "resource", resource_type, operation, &text(&target)?]
            .into_iter()
            .map(str::to_owned)
            .collect();
        spec.stdin = Some(stdin);
        spec.capture_stdout = true;
        spec.env = env.clone();
        spec.env.insert(CACHE_DIR.to_owned(), text(&self.work_dir.join("resource-cache"))?);
        Ok(())
    }

    /// A task; gives what there is to say about it before it runs.
    fn prepare_task(&self, assignment: &Assignment, folder: &Path, spec: &mut Spec) -> Result<String, String> {
        let StepSpec::Task { config, file, vars, params, env, input_mapping, output_mapping, cache_key, image } =
            &assignment.spec
        else {
            return Err("this step is not a task".to_owned());
        };
        let artifacts = self.artifacts(assignment.build);
        let config = match (config, file) {
            (Some(config), _) => task::parse(config)?,
            (None, Some(file)) => task::parse_file(&artifacts.read_config(file)?, file, vars)?,
            (None, None) => return Err("the task has neither `config` nor `file`; give it one of them".to_owned()),
        };
        if config.platform != "linux" {
            return Err(format!("the task is for platform '{}', and this worker is 'linux'", config.platform));
        }
        let mut log = String::new();
        if (config.image_resource.is_some() || config.rootfs_uri.is_some() || image.is_some())
            && self.note_image(assignment.build)
        {
            log.push_str(
                "holdall: images are not used by the process runtime: the tasks of this build run with the programs \
                 of the worker's machine\n",
            );
        }
        if let Some(user) = &config.run.user {
            log.push_str(&format!("holdall: `run.user: {user}` is not used by the process runtime\n"));
        }
        spec.env = config.params.clone();
        for (name, value) in params.as_object().into_iter().flatten() {
            if !config.params.contains_key(name) {
                log.push_str(&format!("[WARNING] {name} was defined in pipeline but missing from task file\n"));
            }
            spec.env.insert(name.clone(), env_value(value));
        }
        spec.env.extend(env.clone());
        let work = spec.cwd.clone();
        let collect = place(&config, &artifacts, &work, input_mapping, output_mapping, cache_key.as_deref())?;
        write_json(&folder.join("collect.json"), &collect).map_err(disk)?;
        self.bring_caches(&work, &collect).map_err(disk)?;
        spec.cwd = work.join(tree::inner_path(config.run.dir.as_deref().unwrap_or_default())?);
        if config.run.path.is_empty() {
            return Err("the task has no `run.path`; images, which may name a program, are not used here".to_owned());
        }
        spec.argv = std::iter::once(config.run.path).chain(config.run.args).collect();
        Ok(log)
    }
}

/// Inputs into place, folders for outputs and caches; what is to be collected afterwards.
fn place(
    config: &TaskConfig,
    artifacts: &Artifacts,
    work: &Path,
    input_mapping: &BTreeMap<String, String>,
    output_mapping: &BTreeMap<String, String>,
    cache_key: Option<&str>,
) -> Result<Collect, String> {
    let mut missing = Vec::new();
    let mut inputs: Vec<(PathBuf, PathBuf)> = Vec::new();
    for input in &config.inputs {
        let artifact = input_mapping.get(&input.name).unwrap_or(&input.name);
        match artifacts.get(artifact)? {
            Some(from) => inputs.push((from, tree::inner_path(input.path.as_ref().unwrap_or(&input.name))?)),
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
            .map_err(|e| format!("the input `{}` cannot be copied: {e}", path.display()))?;
    }
    let mut collect = Collect::default();
    for output in &config.outputs {
        let artifact = output_mapping.get(&output.name).unwrap_or(&output.name);
        if !tree::is_file_name(artifact) {
            return Err(bad_artifact(artifact));
        }
        let path = tree::inner_path(output.path.as_ref().unwrap_or(&output.name))?;
        tree::make_dirs(work, &path).map_err(|e| format!("the output `{}` cannot be made: {e}", path.display()))?;
        collect.outputs.push((artifact.clone(), path));
    }
    for cache in &config.caches {
        let path = tree::inner_path(&cache.path)?;
        tree::make_dirs(work, &path).map_err(|e| format!("the cache `{}` cannot be made: {e}", path.display()))?;
        if let (Some(key), false) = (cache_key, path.as_os_str().is_empty()) {
            let name = super::digest(&[key, &path.to_string_lossy()]);
            collect.caches.push((path, name));
        }
    }
    collect.sort();
    Ok(collect)
}

/// Which artifacts a put sees.
fn put_artifacts(artifacts: &Artifacts, wanted: &PutArtifacts) -> Result<Vec<String>, String> {
    match wanted {
        PutArtifacts::All => artifacts.names().map_err(|e| format!("the build's artifacts cannot be listed: {e}")),
        PutArtifacts::Detected(names) => {
            let mut found = Vec::new();
            for name in names {
                if artifacts.get(name)?.is_some() {
                    found.push(name.clone());
                }
            }
            found.sort();
            found.dedup();
            Ok(found)
        }
        PutArtifacts::Named(names) => {
            let mut names = names.clone();
            names.sort();
            names.dedup();
            Ok(names)
        }
    }
}

/// A param as the environment has it (reference, section 1.10): nothing is empty, text as it is, numbers as they are
/// written, everything else as JSON.
fn env_value(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Refuses what cannot be in an environment; values are not shown, they may be secret.
fn check_environment(env: &BTreeMap<String, String>) -> Result<(), String> {
    for (name, value) in env {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(format!("{name:?} cannot be the name of an environment variable; rename the param"));
        }
        if value.contains('\0') {
            return Err(format!("the value of the param {name} contains a NUL; remove it"));
        }
    }
    Ok(())
}

fn text(path: &Path) -> Result<String, String> {
    path.to_str().map(str::to_owned).ok_or_else(|| format!("the worker's path {} is not UTF-8", path.display()))
}
