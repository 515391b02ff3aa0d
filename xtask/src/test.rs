//! `cargo xtask test`: the tests of the workspace with everything that they need.
//!
//! Tests find it in the environment: `HOLDALL_BIN` is the built binary, `HOLDALL_TEST_POSTGRES` a PostgreSQL server
//! in which they may make databases, `HOLDALL_POSTGRES_BIN` the folder of its programs, for a server of their own.

use std::path::PathBuf;

use anyhow::{Context, Result};
use scratch_postgres::Postgres;

use crate::command::{self, cargo};
use crate::tools::{self, Missing};

/// Runs the tests. `args`: `-p CRATE`, words that names of tests must contain, and after `--` what goes to the test
/// programs.
///
/// # Errors
/// When a test fails, or something that tests need.
pub fn run(args: &[&str]) -> Result<()> {
    command::pass_signals_on()?;
    let missing = match std::env::var_os(tools::REQUIRE) {
        Some(_) => Missing::IsAFailure,
        None => Missing::IsSaid,
    };
    run_with(args, missing)
}

/// As [`run`], where signals are passed on already.
pub fn run_with(args: &[&str], missing: Missing) -> Result<()> {
    tools::ensure(missing)?;
    let (packages, filters) = split(args);

    // The end-to-end tests run the binary, on the profile that the tests are built with.
    command::run(&mut cargo(&["build", "--locked", "--workspace", "--bins"]))?;
    let target = command::metadata()?["target_directory"].as_str().map(PathBuf::from);
    let binary = target.context("cargo metadata names no target directory")?.join("debug/holdall");

    let programs = tools::postgres_bin();
    let postgres = programs.as_ref().map(|bin| Postgres::start(bin, command::check_stopped)).transpose()?;
    let mut test = cargo(&["test", "--locked"]);
    test.args(if packages.is_empty() { vec!["--workspace"] } else { packages });
    test.arg("--").args(filters).env("HOLDALL_BIN", binary);
    match postgres.as_ref().zip(programs) {
        Some((server, programs)) => {
            test.env("HOLDALL_TEST_POSTGRES", server.url()).env("HOLDALL_POSTGRES_BIN", programs)
        }
        None => test.env_remove("HOLDALL_TEST_POSTGRES").env_remove("HOLDALL_POSTGRES_BIN"),
    };
    if missing == Missing::IsAFailure {
        test.env(tools::REQUIRE, "1");
    }
    command::run(&mut test)
}

/// What goes to cargo, and what to the test programs.
fn split<'a>(args: &[&'a str]) -> (Vec<&'a str>, Vec<&'a str>) {
    let (mut packages, mut filters) = (Vec::new(), Vec::new());
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match *arg {
            "-p" | "--package" => packages.extend([*arg].into_iter().chain(rest.next().copied())),
            "--" => filters.extend(rest.by_ref()),
            filter => filters.push(filter),
        }
    }
    (packages, filters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_go_where_they_belong() {
        let (packages, filters) = split(&["-p", "holdall-worker", "git", "--", "--nocapture"]);
        assert_eq!(packages, ["-p", "holdall-worker"]);
        assert_eq!(filters, ["git", "--nocapture"]);
    }
}
