//! Running programs so that nothing is left behind: one at a time, in a process group of its own, to which INT, TERM
//! and HUP are passed on.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The group of the program that runs now.
static RUNNING: Mutex<Option<Pid>> = Mutex::new(None);
/// Whether a signal has come: nothing new is started, and what was started is cleaned up on the way out.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// From now on a signal ends the running program, not this one. The second one kills it.
pub fn pass_signals_on() -> Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).context("cannot receive signals")?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            let signal = match STOPPED.swap(true, Ordering::SeqCst) {
                false => Signal::try_from(signal).unwrap_or(Signal::SIGTERM),
                true => Signal::SIGKILL,
            };
            if let Some(group) = *running() {
                let _ = kill(Pid::from_raw(-group.as_raw()), signal);
            }
        }
    });
    Ok(())
}

fn running() -> std::sync::MutexGuard<'static, Option<Pid>> {
    RUNNING.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Fails once a signal has come.
pub fn check_stopped() -> Result<()> {
    if STOPPED.load(Ordering::SeqCst) {
        bail!("stopped by a signal");
    }
    Ok(())
}

/// Runs a program to its end; anything but success is an error.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    eprintln!("$ {shown}");
    let status = {
        // Held while the program starts, so that a signal finds it or comes before it.
        let mut group = running();
        check_stopped()?;
        let mut child =
            command.process_group(0).stdin(Stdio::null()).spawn().with_context(|| format!("cannot run {shown}"))?;
        *group = Some(Pid::from_raw(i32::try_from(child.id())?));
        drop(group);
        let status = child.wait();
        *running() = None;
        status.with_context(|| format!("lost track of {shown}"))?
    };
    check_stopped()?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}

/// Runs a program and gives what it prints.
pub fn read(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {shown}"))?;
    if !output.status.success() {
        bail!("{shown}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{shown} printed something that is not text"))
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// The cargo that runs this, in the root of the workspace.
pub fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    command
}

/// The root of the workspace.
pub fn root() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map_or(manifest.clone(), PathBuf::from)
}

/// `cargo metadata`, with the resolved dependencies.
pub fn metadata() -> Result<serde_json::Value> {
    let text = read(&mut cargo(&["metadata", "--format-version", "1", "--locked"]))?;
    serde_json::from_str(&text).context("cargo metadata is not JSON")
}
