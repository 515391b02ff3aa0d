//! Starting the step's process.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::SigSet;
use nix::unistd::Pid;
use signal_hook::consts as signals;

use super::Spec;

/// Signals that the shim catches and does nothing about: it takes orders from its FIFO only. There is a second
/// reason: what is caught is back at its default in the step's process, while what the worker may have been started
/// with as ignored (a shell does that to `&`) would stay ignored there.
const CAUGHT: [i32; 10] = [
    signals::SIGALRM,
    signals::SIGHUP,
    signals::SIGINT,
    signals::SIGQUIT,
    signals::SIGTERM,
    signals::SIGTSTP,
    signals::SIGTTIN,
    signals::SIGTTOU,
    signals::SIGUSR1,
    signals::SIGUSR2,
];

/// Sets the shim's signals up; gives a stream that becomes readable when a child ends.
pub fn take_signals() -> io::Result<UnixStream> {
    let unused = Arc::new(AtomicBool::new(false));
    for signal in CAUGHT {
        signal_hook::flag::register(signal, Arc::clone(&unused))?;
    }
    let (read, write) = UnixStream::pair()?;
    read.set_nonblocking(true)?;
    write.set_nonblocking(true)?;
    signal_hook::low_level::pipe::register(signals::SIGCHLD, write)?;
    SigSet::empty().thread_set_mask()?;
    Ok(read)
}

/// The step's process and the other ends of its standard output and standard error.
pub struct Started {
    /// The process, which leads a group of its own.
    pub pid: Pid,
    /// Standard output and standard error, to be read without blocking.
    pub pipes: [Option<File>; 2],
}

/// Starts the step's process. The error is a sentence for people.
pub fn start(spec: &Spec) -> Result<Started, String> {
    let (program, arguments) = spec.argv.split_first().ok_or("there is no program to run")?;
    let found = find_program(program, spec)?;
    let stdin = match &spec.stdin {
        Some(path) => Stdio::from(File::open(path).map_err(|e| format!("cannot open {}: {e}", path.display()))?),
        None => Stdio::null(),
    };
    let mut child = Command::new(&found)
        .arg0(program)
        .args(arguments)
        .env_clear()
        .envs(&spec.env)
        .current_dir(&spec.cwd)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|e| format!("cannot start {program}: {}", explain(&e, &found)))?;
    let pipes = [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)];
    let pipes = pipes.map(|fd| fd.map(File::from));
    for pipe in pipes.iter().flatten() {
        // Cannot fail on a pipe; if it did, reading would only be less prompt.
        let _ = fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
    }
    Ok(Started { pid: Pid::from_raw(child.id() as i32), pipes })
}

/// What the system says, with what it means where that is not what it says.
fn explain(error: &io::Error, program: &Path) -> String {
    if error.kind() == io::ErrorKind::NotFound && program.exists() {
        return format!("{error}: the interpreter that its first line names is not on this machine");
    }
    if error.kind() == io::ErrorKind::PermissionDenied {
        return format!(
            "{error}: make it executable (`chmod +x`, and `git update-index --chmod=+x` where it is in git)"
        );
    }
    error.to_string()
}

/// Where the program is. Looked up here and not by `exec`, so that what is missing can be said well.
fn find_program(program: &str, spec: &Spec) -> Result<PathBuf, String> {
    if !spec.cwd.is_dir() {
        return Err(format!(
            "the directory {} does not exist; give `run.dir` one that the task's inputs or outputs make",
            spec.cwd.display()
        ));
    }
    if program.contains('/') {
        let path = spec.cwd.join(program);
        return match path.metadata() {
            Ok(found) if found.is_dir() => Err(format!("{program} is a directory, not a program")),
            Ok(_) => Ok(path),
            Err(e) => Err(format!("{program} cannot be run from {}: {e}", spec.cwd.display())),
        };
    }
    let path = spec.env.get("PATH").map(String::as_str).unwrap_or_default();
    let is_program =
        |file: &PathBuf| file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
    path.split(':')
        .filter(|folder| !folder.is_empty())
        .map(|folder| spec.cwd.join(folder).join(program))
        .find(is_program)
        .ok_or_else(|| {
            format!(
                "{program} is not on the worker's PATH ({path}); install it there, or start the worker with a `--path` \
                 that has it"
            )
        })
}
