//! The shim's loop: one thread, one `poll`.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use holdall_protocol::worker::Stream;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpgid, getpid, setsid};

use super::{
    ChildRecord, End, ExitRecord, LINGER, MAX_RESULT, Spec, now_micros, read_json, seconds, stop_signal, write_json,
};
use crate::output::{MAX_RECORD, Writer};

/// Runs the step in `dir` and writes `exit.json`.
pub fn run(dir: &Path) -> io::Result<()> {
    // The worker's session and terminal are not the step's. Fails where the shim leads a group already: fine.
    let _ = setsid();
    let spec: Spec = read_json(&dir.join("spec.json"))?.ok_or_else(|| io::Error::other("there is no spec.json"))?;
    let wakes = take_signals()?;
    nix::sys::prctl::set_child_subreaper(true)?;
    let control =
        OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(dir.join("control"))?;
    let writer = Writer::open(&dir.join("output"))?;

    // From here on the step may have run: a second shim, or a worker that finds no end, must know.
    OpenOptions::new().write(true).create_new(true).open(dir.join("began"))?;
    let end = match start(&spec) {
        Ok((pid, pipes)) => {
            record_child(dir, pid)?;
            Supervisor {
                dir,
                spec: &spec,
                pid,
                pipes,
                writer,
                control,
                wakes,
                stopping: None,
                ended: None,
                result: None,
            }
            .run()?
        }
        Err(message) => End::CouldNotStart { message },
    };
    write_json(&dir.join("exit.json"), &ExitRecord { at: now_micros(), end }, true)
}

/// Catches every signal that could end the shim (it takes orders from its FIFO only) and those that the worker may
/// have been started with as ignored: what is caught is back at its default in the step's process, what is ignored
/// would stay ignored. Gives a stream that becomes readable when a child ends.
fn take_signals() -> io::Result<UnixStream> {
    use signal_hook::consts::{
        SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2,
    };
    let unused = Arc::new(AtomicBool::new(false));
    for signal in [SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2] {
        signal_hook::flag::register(signal, Arc::clone(&unused))?;
    }
    let (read, write) = UnixStream::pair()?;
    read.set_nonblocking(true)?;
    write.set_nonblocking(true)?;
    signal_hook::low_level::pipe::register(SIGCHLD, write)?;
    SigSet::empty().thread_set_mask()?;
    Ok(read)
}

/// One stream of the step's process; `None` when it has been read to its end.
type Pipe = Option<File>;

/// Starts the step's process in a group of its own. The error is a sentence for people.
fn start(spec: &Spec) -> Result<(Pid, [Pipe; 2]), String> {
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
        .map_err(|e| format!("cannot start {program}: {e}"))?;
    let stdout = child.stdout.take().map(|pipe| File::from(std::os::fd::OwnedFd::from(pipe)));
    let stderr = child.stderr.take().map(|pipe| File::from(std::os::fd::OwnedFd::from(pipe)));
    for pipe in [&stdout, &stderr].into_iter().flatten() {
        fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|e| format!("cannot read without blocking: {e}"))?;
    }
    Ok((Pid::from_raw(child.id() as i32), [stdout, stderr]))
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
    let is_program = |file: &PathBuf| {
        use std::os::unix::fs::PermissionsExt;
        file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    path.split(':')
        .filter(|folder| !folder.is_empty())
        .map(|folder| spec.cwd.join(folder).join(program))
        .find(is_program)
        .ok_or_else(|| format!("{program} is not on the worker's PATH ({path}); install it there, or start the worker with a `--path` that has it"))
}

/// Leaves a note of which process it is, for a worker that finds the shim gone.
fn record_child(dir: &Path, pid: Pid) -> io::Result<()> {
    let record = ChildRecord {
        pid: pid.as_raw(),
        start_ticks: stat_fields(pid).and_then(|stat| stat.start_ticks()).unwrap_or_default(),
        boot: std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned(),
        at: now_micros(),
    };
    write_json(&dir.join("child.json"), &record, false)
}

/// A stop that is under way.
struct Stopping {
    timed_out: bool,
    /// When what is left is killed.
    kill_at: Instant,
    killed: bool,
}

/// How the step's first process ended, and what is waited for since.
struct Ended {
    status: WaitStatus,
    /// Until when what it left behind may go on.
    linger_until: Instant,
}

struct Supervisor<'a> {
    dir: &'a Path,
    spec: &'a Spec,
    pid: Pid,
    /// Standard output and standard error.
    pipes: [Pipe; 2],
    writer: Writer,
    control: File,
    wakes: UnixStream,
    stopping: Option<Stopping>,
    ended: Option<Ended>,
    /// Where a resource's standard output goes, once there is some, and how much there is.
    result: Option<(File, usize)>,
}

impl Supervisor<'_> {
    fn run(mut self) -> io::Result<End> {
        let started = Instant::now();
        let time_limit = self.spec.timeout_seconds.map(|limit| started + seconds(limit));
        self.look_at_stop();
        loop {
            let nothing_left = self.reap()?;
            if nothing_left {
                break;
            }
            let now = Instant::now();
            if self.ended.is_none() && self.stopping.is_none() && time_limit.is_some_and(|limit| limit <= now) {
                self.begin_stop(true);
            }
            self.kill_what_is_due(now)?;
            self.wait(time_limit)?;
        }
        // Everything that could write has ended, so what is in the pipes is all there will be.
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.read_what_is_there(stream)?;
        }
        self.writer.sync()?;
        if let Some((file, _)) = &self.result {
            file.sync_data()?;
        }
        Ok(self.end())
    }

    /// Sleeps until something happens or is due, and reads what there is to read.
    fn wait(&mut self, time_limit: Option<Instant>) -> io::Result<()> {
        let due = match (&self.stopping, &self.ended) {
            (Some(stopping), _) => (!stopping.killed).then_some(stopping.kill_at),
            (None, Some(ended)) => Some(ended.linger_until),
            (None, None) => time_limit,
        };
        let [stdout, stderr] = &self.pipes;
        let mut fds = vec![
            PollFd::new(self.wakes.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.control.as_fd(), PollFlags::POLLIN),
        ];
        for pipe in [stdout, stderr].into_iter().flatten() {
            fds.push(PollFd::new(pipe.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut fds, poll_timeout(due)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(true)).collect::<Vec<_>>().into_iter();
        let (woken, ordered) = (ready.next() == Some(true), ready.next() == Some(true));
        let readable = [stdout, stderr].map(|pipe| pipe.is_some() && ready.next() == Some(true));
        if woken {
            drain(&mut self.wakes);
        }
        if ordered {
            drain(&mut self.control);
            self.look_at_stop();
        }
        for (stream, readable) in [Stream::Stdout, Stream::Stderr].into_iter().zip(readable) {
            if readable {
                self.read_once(stream)?;
            }
        }
        Ok(())
    }

    /// Reaps what has ended. Returns whether the step's process and everything that came from it is gone.
    fn reap(&mut self) -> io::Result<bool> {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => return Ok(false),
                Ok(status) if status.pid() == Some(self.pid) => {
                    self.ended = Some(Ended { status, linger_until: Instant::now() + LINGER });
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::ECHILD) => return Ok(true),
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Stops the step if the worker has asked for it.
    fn look_at_stop(&mut self) {
        if self.stopping.is_none() && self.ended.is_none() && self.dir.join("stop").exists() {
            self.begin_stop(false);
        }
    }

    /// Sends the signal, the only one before KILL.
    fn begin_stop(&mut self, timed_out: bool) {
        let kill_at = Instant::now() + seconds(self.spec.stop.grace_seconds);
        // The process has not been reaped, so its group cannot be another's. An error says that it just ended.
        let _ = kill(group(self.pid), stop_signal(&self.spec.stop));
        self.stopping = Some(Stopping { timed_out, kill_at, killed: false });
    }

    /// Kills what has outstayed its grace or, after the process ended by itself, its linger; and then everything
    /// that comes to light because of it.
    fn kill_what_is_due(&mut self, now: Instant) -> io::Result<()> {
        let nobody_writes = self.pipes.iter().all(Option::is_none);
        let due = match (&mut self.stopping, &self.ended) {
            (Some(stopping), _) if stopping.killed => true,
            (Some(stopping), _) => {
                stopping.killed = stopping.kill_at <= now;
                stopping.killed
            }
            (None, Some(ended)) => nobody_writes || ended.linger_until <= now,
            (None, None) => false,
        };
        if !due {
            return Ok(());
        }
        if self.ended.is_none() {
            let _ = kill(group(self.pid), Signal::SIGKILL);
        }
        // Children that are not reaped keep their process ids, so these cannot hit anyone else. What they leave
        // behind becomes the shim's child in turn, which wakes it.
        for child in children()? {
            if getpgid(Some(child)) == Ok(self.pid) {
                let _ = kill(group(self.pid), Signal::SIGKILL);
            }
            let _ = kill(child, Signal::SIGKILL);
        }
        Ok(())
    }

    /// Reads one buffer of a stream.
    fn read_once(&mut self, stream: Stream) -> io::Result<usize> {
        let mut buffer = [0; MAX_RECORD];
        let slot = match stream {
            Stream::Stdout => 0,
            Stream::Stderr => 1,
        };
        let Some(pipe) = &mut self.pipes[slot] else { return Ok(0) };
        let read = match pipe.read(&mut buffer) {
            Ok(0) => {
                self.pipes[slot] = None;
                0
            }
            Ok(read) => read,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
            Err(e) => return Err(e),
        };
        if read > 0 {
            self.keep(stream, &buffer[..read])?;
        }
        Ok(read)
    }

    /// Reads what a pipe holds; not more than a pipe can hold, so that nobody outside can go on feeding it.
    fn read_what_is_there(&mut self, stream: Stream) -> io::Result<()> {
        const MOST: usize = 1024 * 1024;
        let mut read = 0;
        while read < MOST {
            match self.read_once(stream)? {
                0 => break,
                n => read += n,
            }
        }
        Ok(())
    }

    /// Writes down what was read.
    fn keep(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        if stream == Stream::Stdout && self.spec.capture_stdout {
            if self.result.is_none() {
                self.result = Some((File::create(self.dir.join("result"))?, 0));
            }
            if let Some((file, length)) = &mut self.result {
                let kept = bytes.len().min((MAX_RESULT + 1).saturating_sub(*length));
                file.write_all(&bytes[..kept])?;
                *length += kept;
            }
            return Ok(());
        }
        self.writer.append(now_micros(), stream, bytes).map_err(|e| e.source)
    }

    fn end(&self) -> End {
        match (&self.stopping, self.ended.as_ref().map(|ended| ended.status)) {
            (Some(Stopping { timed_out: true, killed, .. }), _) => End::TimedOut { killed: *killed },
            (Some(Stopping { timed_out: false, killed, .. }), _) => End::Stopped { killed: *killed },
            (None, Some(WaitStatus::Exited(_, status))) => End::Exited { status },
            (None, Some(WaitStatus::Signaled(_, signal, _))) => End::Signalled { signal: signal as i32 },
            (None, _) => End::Signalled { signal: 0 },
        }
    }
}

/// The process group that `leader` leads, as `kill` wants it.
fn group(leader: Pid) -> Pid {
    Pid::from_raw(-leader.as_raw())
}

fn poll_timeout(due: Option<Instant>) -> PollTimeout {
    match due {
        None => PollTimeout::NONE,
        // Rounded up: waking too early would make the loop spin.
        Some(due) => {
            let left = due.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        }
    }
}

fn drain(file: &mut impl Read) {
    let mut buffer = [0; 256];
    while file.read(&mut buffer).is_ok_and(|n| n > 0) {}
}

/// What `/proc/PID/stat` says after the command's name.
struct Stat(String);

impl Stat {
    fn field(&self, number: usize) -> Option<&str> {
        // Fields count from 1, and the first two were cut off.
        self.0.split_ascii_whitespace().nth(number - 3)
    }

    fn parent(&self) -> Option<i32> {
        self.field(4)?.parse().ok()
    }

    fn start_ticks(&self) -> Option<u64> {
        self.field(22)?.parse().ok()
    }
}

fn stat_fields(pid: Pid) -> Option<Stat> {
    let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text);
    Some(Stat(text.rsplit_once(')')?.1.to_owned()))
}

/// The shim's children, by a walk over all processes: only needed where a step leaves some behind.
fn children() -> io::Result<Vec<Pid>> {
    let own = getpid().as_raw();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()).map(Pid::from_raw) else {
            continue;
        };
        if stat_fields(pid).and_then(|stat| stat.parent()) == Some(own) {
            found.push(pid);
        }
    }
    Ok(found)
}
