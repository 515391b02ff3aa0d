//! `cargo xtask ci`: everything that must hold before a change lands, and how long each part took.

use std::time::Instant;

use anyhow::{Context, Result};

use crate::command::{self, cargo};
use crate::{test, tidy, tools};

/// Runs all parts, the quick ones first, and stops at the first that fails.
///
/// # Errors
/// What failed.
pub fn run() -> Result<()> {
    command::pass_signals_on()?;
    phase("formatting", || command::run(&mut cargo(&["fmt", "--all", "--check"])))?;
    phase("tidy", tidy::run)?;
    let clippy = ["clippy", "--locked", "--workspace", "--all-targets", "--", "--deny", "warnings"];
    phase("clippy", || command::run(&mut cargo(&clippy)))?;
    let doc = ["doc", "--locked", "--workspace", "--no-deps", "--document-private-items"];
    phase("documentation", || command::run(cargo(&doc).env("RUSTDOCFLAGS", "--deny warnings")))?;
    phase("tests", || test::run_with(&[], tools::Missing::IsAFailure))
}

fn phase(name: &str, run: impl FnOnce() -> Result<()>) -> Result<()> {
    let started = Instant::now();
    eprintln!("== {name}");
    let result = run().with_context(|| format!("{name} failed"));
    eprintln!("== {name}: {:.1} s", started.elapsed().as_secs_f64());
    result
}
