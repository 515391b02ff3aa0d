//! The git of the machine, as the demo uses it: which version it is, and running it without what the environment
//! and the user's own configuration would change.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// The oldest git that the demo's repositories and the resource type work with.
const OLDEST: (u32, u32) = (2, 29);

/// What is wrong with git.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// None on the PATH.
    #[error("git is not on the PATH; install it, at least version {}.{}", OLDEST.0, OLDEST.1)]
    Missing,
    /// Too old.
    #[error("git is version {version}, and at least {}.{} is needed", OLDEST.0, OLDEST.1)]
    TooOld {
        /// Which it is.
        version: String,
    },
    /// `git --version` says something else.
    #[error("the git on the PATH does not say which version it is, but: {0}")]
    Unknown(String),
    /// It cannot be started.
    #[error("cannot run git")]
    Start(#[source] io::Error),
    /// It failed.
    #[error("git {command} failed in {folder}: {message}")]
    Failed {
        /// What it was to do.
        command: String,
        /// Where.
        folder: String,
        /// What it said.
        message: String,
    },
}

/// Checks that there is a git and that it is new enough.
pub fn check_git() -> Result<(), GitError> {
    let output = match Command::new("git").arg("--version").stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(GitError::Missing),
        Err(error) => return Err(GitError::Start(error)),
    };
    judge_version(&String::from_utf8_lossy(&output.stdout))
}

fn judge_version(said: &str) -> Result<(), GitError> {
    let unknown = || GitError::Unknown(said.trim().chars().take(200).collect());
    let version = said.trim().strip_prefix("git version ").ok_or_else(unknown)?;
    let version = version.split_whitespace().next().ok_or_else(unknown)?;
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) if (major, minor) >= OLDEST => Ok(()),
        (Some(_), Some(_)) => Err(GitError::TooOld { version: version.to_owned() }),
        _ => Err(unknown()),
    }
}

/// Git in that folder, untouched by the caller's environment (a hook's `GIT_DIR`) and by hooks, signing and line
/// endings of the user's configuration.
pub fn git(folder: &Path) -> Command {
    let mut command = Command::new("git");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GIT_") {
            command.env_remove(name);
        }
    }
    command
        .current_dir(folder)
        .args(["-c", "core.hooksPath=/dev/null", "-c", "commit.gpgSign=false", "-c", "core.autocrlf=false"])
        .args(["-c", "init.templateDir=", "-c", "advice.detachedHead=false"])
        .stdin(Stdio::null());
    command
}

/// Runs git in that folder and gives what it printed, without the end of the last line.
pub fn run_git(folder: &Path, args: &[&str]) -> Result<String, GitError> {
    let output = git(folder).args(args).output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if folder.is_dir() => GitError::Missing,
        _ => GitError::Start(error),
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
    }
    let message: String = String::from_utf8_lossy(&output.stderr).trim().chars().take(1000).collect();
    Err(GitError::Failed {
        command: args.first().copied().unwrap_or_default().to_owned(),
        folder: folder.display().to_string(),
        message: if message.is_empty() { output.status.to_string() } else { message },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_versions() {
        for good in
            ["git version 2.29.0\n", "git version 2.39.5 (Apple Git-154)", "git version 3.0.rc1", "git version 2.100"]
        {
            assert!(judge_version(good).is_ok(), "{good}");
        }
        for old in ["git version 2.28.9", "git version 1.8.3.1\n"] {
            assert!(matches!(judge_version(old), Err(GitError::TooOld { .. })), "{old}");
        }
        for odd in ["", "git", "git version", "git version x.y", "xcode-select: note: no developer tools"] {
            assert!(matches!(judge_version(odd), Err(GitError::Unknown(_))), "{odd}");
        }
        let error = judge_version("git version 2.17.1").unwrap_err();
        assert_eq!(error.to_string(), "git is version 2.17.1, and at least 2.29 is needed");
    }

    #[test]
    fn failures_say_what_and_where() {
        let dir = tempfile::tempdir().unwrap();
        let error = run_git(dir.path(), &["rev-parse", "HEAD"]).unwrap_err().to_string();
        assert!(error.contains("rev-parse failed in") && error.contains("not a git repository"), "{error}");
    }
}
