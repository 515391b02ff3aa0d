//! `cargo xtask tidy`: the rules of this code base that neither the compiler nor clippy knows.
//!
//! - [`sources`]: what every file looks like
//! - [`dependencies`]: which crate may know which

mod dependencies;
mod sources;

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;

/// Reports everything that is not tidy.
///
/// # Errors
/// With one line per finding.
pub fn run() -> Result<()> {
    let root = command::root();
    let list = ["ls-files", "--cached", "--others", "--exclude-standard", "-z"];
    let listed = command::read(Command::new("git").args(list).current_dir(&root)).context("tidy needs git")?;
    let mut findings = Vec::new();
    // A file that is listed and not there is one whose removal is not committed yet.
    for path in listed.split('\0').filter(|path| root.join(path).is_file()) {
        let bytes = std::fs::read(root.join(path)).with_context(|| format!("cannot read {path}"))?;
        if let Ok(text) = String::from_utf8(bytes) {
            sources::check(path, &text, &mut findings);
        }
    }
    sources::check_list(|path| root.join(path).is_file(), &mut findings);
    dependencies::check(&command::metadata()?, &mut findings)?;
    if !findings.is_empty() {
        bail!("{} findings:\n{}", findings.len(), findings.join("\n"));
    }
    Ok(())
}
