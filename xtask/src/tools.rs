//! The programs that tests use: found, or installed where this runs as root on a system with apt.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;

/// Set for tests where a tool that is missing is a failure.
pub const REQUIRE: &str = "HOLDALL_REQUIRE_TOOLS";

/// What it means that a tool is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// It is said loudly what does not run.
    IsSaid,
    /// Nothing runs.
    IsAFailure,
}

/// One program that tests use.
struct Tool {
    /// What to call it.
    name: &'static str,
    /// Where it is.
    find: fn() -> Option<PathBuf>,
    /// The Debian package that has it; `None`: it has to be installed by hand, and its tests have a replacement.
    package: Option<&'static str>,
    /// What does not run without it.
    without: &'static str,
}

const TOOLS: [Tool; 4] = [
    Tool { name: "git", find: || on_path("git"), package: Some("git"), without: "nothing runs" },
    Tool {
        name: "PostgreSQL",
        find: || postgres_bin().map(|dir| dir.join("postgres")),
        package: Some("postgresql"),
        without: "the store and the flow run on SQLite only",
    },
    Tool {
        name: "docker-registry",
        find: || on_path("docker-registry"),
        package: Some("docker-registry"),
        without: "registry-image is tested against a fake registry only",
    },
    Tool {
        name: "terraform or tofu",
        find: || on_path("terraform").or_else(|| on_path("tofu")),
        package: None,
        without: "deployments run with the demo's own script, which uses the same state and lock",
    },
];

/// Finds every tool, installs what is missing where that is allowed, and says loudly what stays missing.
///
/// # Errors
/// Git is missing; or, with [`Missing::IsAFailure`], anything that has a package.
pub fn ensure(missing_is: Missing) -> Result<()> {
    let missing: Vec<&Tool> = TOOLS.iter().filter(|tool| (tool.find)().is_none()).collect();
    let packages: Vec<&str> = missing.iter().filter_map(|tool| tool.package).collect();
    if !packages.is_empty() && nix::unistd::geteuid().is_root() && on_path("apt-get").is_some() {
        install(&packages)?;
    }
    for tool in missing {
        if (tool.find)().is_some() {
            continue;
        }
        let remedy = match tool.package {
            Some(package) => format!("install it with: sudo apt-get update && sudo apt-get install --yes {package}"),
            None => "put it on the PATH".to_owned(),
        };
        let required = tool.name == "git" || (tool.package.is_some() && missing_is == Missing::IsAFailure);
        if required {
            bail!("{} is missing; {remedy}", tool.name);
        }
        eprintln!("*** {} IS MISSING: {}; {remedy}", tool.name, tool.without);
    }
    Ok(())
}

fn install(packages: &[&str]) -> Result<()> {
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(args);
        command
    };
    // An update that fails (one source of several is down) does not keep the packages from being there.
    if let Err(error) = command::run(&mut apt(&["update", "--quiet"])) {
        command::check_stopped()?;
        eprintln!("xtask: {error:#}");
    }
    let install = ["install", "--quiet", "--yes", "--no-install-recommends"];
    command::run(&mut apt(&[&install, packages].concat())).context("cannot install what tests need")
}

/// A program on the `PATH`.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The directory with `postgres` and `initdb`: Debian's newest, else the one on the `PATH`.
pub fn postgres_bin() -> Option<PathBuf> {
    let packaged = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |dir: &Path| dir.file_name()?.to_str()?.parse::<u32>().ok();
    let mut found: Vec<(u32, PathBuf)> = packaged
        .filter_map(|entry| Some((version(&entry.path())?, entry.path().join("bin"))))
        .filter(|(_, bin)| is_executable(&bin.join("initdb")) && is_executable(&bin.join("postgres")))
        .collect();
    found.sort();
    match found.pop() {
        Some((_, bin)) => Some(bin),
        None => on_path("initdb")?.parent().filter(|bin| is_executable(&bin.join("postgres"))).map(Path::to_owned),
    }
}
