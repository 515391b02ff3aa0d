//! A private world for tests of resource types: directories, an environment, a log, and real git repositories.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use holdall_worker::resource::{self, Context, Log};
use serde_json::{Value, json};
use tempfile::TempDir;

/// One test's world.
pub struct World {
    pub root: TempDir,
    pub ctx: Context,
    log: Arc<Mutex<Vec<u8>>>,
}

impl World {
    pub fn new() -> World {
        let root = TempDir::new().expect("a temporary directory");
        let log = Arc::new(Mutex::new(Vec::new()));
        let tmp = root.path().join("tmp");
        fs::create_dir(&tmp).expect("made");
        let mut env = BTreeMap::from([
            ("PATH".to_owned(), std::env::var("PATH").expect("a PATH")),
            ("TMPDIR".to_owned(), tmp.display().to_string()),
        ]);
        env.insert("HOLDALL_CACHE_DIR".to_owned(), root.path().join("cache").display().to_string());
        let ctx = Context { env, log: Log::to(log.clone()) };
        World { root, ctx, log }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn set_env(&mut self, name: &str, value: &str) {
        self.ctx.env.insert(name.to_owned(), value.to_owned());
    }

    /// What was logged since the last call.
    pub fn logged(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.log.lock().expect("no panic elsewhere"))).expect("text")
    }

    /// Runs an operation; the error is its message.
    pub fn run(&self, kind: &str, op: &str, dir: Option<&Path>, request: &Value) -> Result<Value, String> {
        let text = serde_json::to_vec(request).expect("JSON");
        let answer = resource::run(kind, op, dir, &text, &self.ctx);
        let left = fs::read_dir(self.path("tmp")).expect("readable").count();
        assert_eq!(left, 0, "an operation leaves nothing in TMPDIR");
        answer.map_err(|error| error.to_string())
    }

    pub fn check(&self, kind: &str, source: &Value, version: Value) -> Result<Vec<Value>, String> {
        let answer = self.run(kind, "check", None, &json!({"source": source, "version": version}))?;
        Ok(answer.as_array().expect("a list of versions").clone())
    }

    pub fn get(&self, kind: &str, source: &Value, version: &Value, params: Value, name: &str) -> Result<Value, String> {
        let request = json!({"source": source, "version": version, "params": params});
        self.run(kind, "in", Some(&self.path(name)), &request)
    }

    pub fn put(&self, kind: &str, source: &Value, params: Value) -> Result<Value, String> {
        self.run(kind, "out", Some(self.root.path()), &json!({"source": source, "params": params}))
    }

    pub fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    /// A bare repository whose branch is `main`.
    pub fn bare(&self, name: &str) -> Value {
        git(self.root.path(), &["init", "--quiet", "--bare", "--initial-branch=main", name]);
        let dir = self.path(name);
        // Two pushes at once are the point of some tests: git's own housekeeping is not.
        git(&dir, &["config", "gc.auto", "0"]);
        json!({"uri": dir.display().to_string(), "branch": "main"})
    }

    /// Commits a file to the branch `main` of a bare repository, through a working copy of its own.
    pub fn commit(&self, bare: &str, file: &str, message: &str) -> String {
        let work = self.path(&format!("{bare}-work"));
        if !work.exists() {
            git(self.root.path(), &["init", "--quiet", "--initial-branch=main", &work.display().to_string()]);
            git(&work, &["remote", "add", "origin", &self.path(bare).display().to_string()]);
        }
        let path = work.join(file);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        let mut content = fs::read_to_string(&path).unwrap_or_default();
        content.push_str(&format!("{message}\n"));
        fs::write(&path, content).expect("written");
        git(&work, &["add", "--all"]);
        git(&work, &["commit", "--quiet", "--message", message]);
        git(&work, &["push", "--quiet", "origin", "HEAD:main"]);
        git(&work, &["rev-parse", "HEAD"])
    }

    /// Puts a `git` that counts in front of the real one, and gives where it counts.
    pub fn count_git(&mut self) -> Counter {
        let dir = self.path("counting");
        fs::create_dir(&dir).expect("made");
        let file = dir.join("calls");
        let real = which("git");
        let script = format!("#!/bin/sh\necho \"$*\" >> '{}'\nexec '{}' \"$@\"\n", file.display(), real.display());
        let mut wrapper = fs::File::create(dir.join("git")).expect("made");
        wrapper.write_all(script.as_bytes()).expect("written");
        wrapper.set_permissions(fs::Permissions::from_mode(0o755)).expect("executable");
        drop(wrapper);
        let path = format!("{}:{}", dir.display(), self.ctx.env["PATH"]);
        self.set_env("PATH", &path);
        Counter { file }
    }
}

/// Counts the git processes that an operation starts.
pub struct Counter {
    file: PathBuf,
}

impl Counter {
    /// The command lines since the last call.
    pub fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        let _ = fs::remove_file(&self.file);
        text.lines().map(str::to_owned).collect()
    }
}

/// Where a program is.
pub fn which(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").expect("a PATH");
    let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{program} is not installed"))
}

/// Runs git as Ann, with no configuration, and gives what it prints.
pub fn git(dir: &Path, args: &[&str]) -> String {
    try_git(dir, args).unwrap_or_else(|error| panic!("git {args:?}: {error}"))
}

pub fn try_git(dir: &Path, args: &[&str]) -> Result<String, String> {
    let output = Command::new("git")
        .current_dir(dir)
        .args(args)
        .env("HOME", "/nonexistent")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .envs([("GIT_AUTHOR_NAME", "Ann"), ("GIT_AUTHOR_EMAIL", "ann@example.org")])
        .envs([("GIT_COMMITTER_NAME", "Ann"), ("GIT_COMMITTER_EMAIL", "ann@example.org")])
        .output()
        .expect("git runs");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// `{"ref": ..}`.
pub fn reference(commit: &str) -> Value {
    json!({"ref": commit})
}
