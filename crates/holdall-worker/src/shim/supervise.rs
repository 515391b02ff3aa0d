//! The shim's loop: one thread, one `poll`, buffers of fixed size. A step that prints faster than the disk takes it
//! waits in its own `write`.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use holdall_protocol::worker::Stream;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpgid, getpid, setsid};

use super::clock::Clock;
use super::sink::{self, Sink};
use super::start::{Started, start, take_signals};
use super::{
    ChildRecord, End, ExitRecord, LINGER, MAX_RESULT, Settings, Spec, now_micros, read_json, seconds, stop_signal,
    write_json,
};
use crate::output::{MAX_RECORD, is_full};
use crate::process::{self, Stat};

/// More than a pipe holds; so much is read at the most when everything that could write has ended.
const MAX_LEFT_IN_PIPE: usize = 2 * 1024 * 1024;

/// How late it is noticed at the most that the machine has slept: `poll` counts only the time in which it was awake.
const LOOK: Duration = Duration::from_secs(1);

/// Runs the step in `dir` and writes `exit.json`. No error comes back while the step's process is there: whatever
/// cannot be written, it is watched to its end.
pub fn run(dir: &Path, settings: Settings) -> io::Result<()> {
    // The worker's session and terminal are not the step's. Fails where the shim leads a group already: fine.
    let _ = setsid();
    let spec: Spec = read_json(&dir.join("spec.json"))?.ok_or_else(|| io::Error::other("there is no spec.json"))?;
    let wakes = take_signals()?;
    nix::sys::prctl::set_child_subreaper(true)?;
    let control =
        OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(dir.join("control"))?;
    let mut sink = Sink::open(dir)?;
    let mut result = None;
    let end = if dir.join("stop").exists() {
        End::Stopped { killed: false }
    } else {
        // From here on the step may have run: a second shim, or a worker that finds no end, must know.
        OpenOptions::new().write(true).create_new(true).open(dir.join("began"))?;
        match start(&spec) {
            Err(message) => End::CouldNotStart { message },
            Ok(Started { pid, pipes }) => {
                if let Err(error) = record_child(dir, pid) {
                    say("cannot note which process it is", &error);
                }
                let (stopping, ended, printed) = (None, None, Vec::new());
                let clock = settings.clock;
                let mut supervisor =
                    Supervisor { dir, spec: &spec, clock, pid, pipes, sink, control, wakes, stopping, ended, printed };
                let end = supervisor.run();
                if spec.capture_stdout && matches!(end, End::Exited { status: 0 }) {
                    result = Some(as_text(supervisor.printed));
                }
                sink = supervisor.sink;
                end
            }
        }
    };
    while !sink.finish() {
        std::thread::sleep(sink::RETRY);
    }
    let record = record_end(dir, ExitRecord { at: now_micros(), end, result })?;
    // The worker goes on; what is left to be done nobody has to wait for.
    nix::unistd::dup2_stdout(&File::open("/dev/null")?)?;
    if let Err(error) = sink.sync().and_then(|()| record.sync_all()) {
        say("cannot wait for the disk", &error);
    }
    Ok(())
}

/// Writes down how it ended. While the disk is full, the step has not ended: only its record says that it has.
fn record_end(dir: &Path, record: ExitRecord) -> io::Result<File> {
    loop {
        match write_json(&dir.join("exit.json"), &record) {
            Err(e) if is_full(&e) => std::thread::sleep(sink::RETRY),
            result => return result,
        }
    }
}

/// What a resource printed, as [`ExitRecord::result`] has it.
fn as_text(printed: Vec<u8>) -> String {
    String::from_utf8(printed).unwrap_or_else(|error| {
        let valid = error.utf8_error().valid_up_to();
        let mut text = String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned();
        text.push(char::REPLACEMENT_CHARACTER);
        text
    })
}

/// Tells `shim.log`, which nobody reads but who looks for a mistake.
fn say(what: &str, error: &io::Error) {
    let _ = writeln!(io::stderr(), "holdall shim: {what}: {error}");
}

/// Leaves a note of which process it is, for a worker that finds the shim gone.
fn record_child(dir: &Path, pid: Pid) -> io::Result<File> {
    let record = ChildRecord {
        pid: pid.as_raw(),
        start_ticks: Stat::of(pid).and_then(|stat| stat.start_ticks()).unwrap_or_default(),
        boot: process::boot(),
        at: now_micros(),
    };
    write_json(&dir.join("child.json"), &record)
}

/// A stop that is under way.
struct Stopping {
    timed_out: bool,
    /// When what is left is killed, by the [`Clock`].
    kill_at: Duration,
    killed: bool,
}

/// How the step's first process ended, and what is waited for since.
struct Ended {
    status: WaitStatus,
    /// Until when what it left behind may go on.
    linger_until: Instant,
    /// Whether that is over.
    killed: bool,
}

struct Supervisor<'a> {
    dir: &'a Path,
    spec: &'a Spec,
    clock: Clock,
    pid: Pid,
    /// Standard output and standard error; `None` when read to the end.
    pipes: [Option<File>; 2],
    sink: Sink,
    control: File,
    wakes: UnixStream,
    stopping: Option<Stopping>,
    ended: Option<Ended>,
    /// A resource's standard output.
    printed: Vec<u8>,
}

impl Supervisor<'_> {
    /// Watches the step to its end.
    fn run(&mut self) -> End {
        let time_limit = self.spec.timeout_seconds.map(|limit| self.clock.now() + seconds(limit));
        self.look_at_stop();
        while self.reap() {
            let now = self.clock.now();
            if self.ended.is_none() && self.stopping.is_none() && time_limit.is_some_and(|limit| limit <= now) {
                self.begin_stop(true);
            }
            self.kill_what_is_due(now);
            self.wait(time_limit);
        }
        // Everything that could write has ended, so what is in the pipes is all there will be. Not more than a pipe
        // holds is read: a process outside that was handed the pipe could go on feeding it.
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut read = 0;
            while read < MAX_LEFT_IN_PIPE {
                match self.read_once(stream) {
                    0 => break,
                    n => read += n,
                }
            }
        }
        self.end()
    }

    /// Reaps what has ended. Returns whether anything of the step is left.
    fn reap(&mut self) -> bool {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => return true,
                Ok(status) if status.pid() == Some(self.pid) => {
                    self.ended = Some(Ended { status, linger_until: Instant::now() + LINGER, killed: false });
                }
                Ok(_) | Err(Errno::EINTR) => {}
                // There are no children any more.
                Err(_) => return false,
            }
        }
    }

    /// Sleeps until something happens or is due, and reads what there is to read.
    fn wait(&mut self, time_limit: Option<Duration>) {
        let until = |at: Duration| at.saturating_sub(self.clock.now()).min(LOOK);
        let mut left = match (&self.stopping, &self.ended) {
            (Some(stopping), _) => (!stopping.killed).then(|| until(stopping.kill_at)),
            (None, Some(ended)) => {
                (!ended.killed).then(|| ended.linger_until.saturating_duration_since(Instant::now()))
            }
            (None, None) => time_limit.map(until),
        };
        self.sink.retry();
        let stalled = self.sink.is_stalled();
        if stalled {
            left = Some(left.map_or(sink::RETRY, |left| left.min(sink::RETRY)));
        }
        let mut fds = vec![
            PollFd::new(self.wakes.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.control.as_fd(), PollFlags::POLLIN),
        ];
        let listened = [0, 1].map(|slot| !stalled && self.pipes[slot].is_some());
        fds.extend(self.pipes.iter().flatten().filter(|_| !stalled).map(|p| PollFd::new(p.as_fd(), PollFlags::POLLIN)));
        // Interrupted or not: everything that is read below is read without blocking.
        let _ = poll(&mut fds, poll_timeout(left));
        let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(true)).collect::<Vec<_>>().into_iter();
        let (woken, ordered) = (ready.next() == Some(true), ready.next() == Some(true));
        let readable = listened.map(|listened| listened && ready.next() == Some(true));
        if woken {
            drain(&mut self.wakes);
        }
        if ordered {
            drain(&mut self.control);
            self.look_at_stop();
        }
        for (stream, readable) in [Stream::Stdout, Stream::Stderr].into_iter().zip(readable) {
            if readable {
                self.read_once(stream);
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
        let kill_at = self.clock.now() + seconds(self.spec.stop.grace_seconds);
        // The process has not been reaped, so its group cannot be another's. An error says that it just ended.
        let _ = kill(group(self.pid), stop_signal(&self.spec.stop));
        self.stopping = Some(Stopping { timed_out, kill_at, killed: false });
    }

    /// Kills what has outstayed its grace or, after the process ended by itself, its linger; and then everything
    /// that comes to light because of it.
    fn kill_what_is_due(&mut self, now: Duration) {
        let nobody_writes = self.pipes.iter().all(Option::is_none);
        let due = match (&mut self.stopping, &mut self.ended) {
            (Some(stopping), _) => {
                stopping.killed |= stopping.kill_at <= now;
                stopping.killed
            }
            (None, Some(ended)) => {
                ended.killed |= nobody_writes || ended.linger_until <= Instant::now();
                ended.killed
            }
            (None, None) => false,
        };
        if !due {
            return;
        }
        if self.ended.is_none() {
            let _ = kill(group(self.pid), Signal::SIGKILL);
        }
        // Children that are not reaped keep their process ids, so these cannot hit anyone else. What they leave
        // behind becomes the shim's child in turn, which wakes it.
        for child in children() {
            if getpgid(Some(child)) == Ok(self.pid) {
                let _ = kill(group(self.pid), Signal::SIGKILL);
            }
            let _ = kill(child, Signal::SIGKILL);
        }
    }

    /// Reads one buffer of a stream; gives how much that was.
    fn read_once(&mut self, stream: Stream) -> usize {
        let slot = match stream {
            Stream::Stdout => 0,
            Stream::Stderr => 1,
        };
        let Some(pipe) = &mut self.pipes[slot] else { return 0 };
        let mut buffer = [0; MAX_RECORD];
        match pipe.read(&mut buffer) {
            Ok(0) => {
                self.pipes[slot] = None;
                0
            }
            Ok(read) => {
                self.keep(stream, &buffer[..read]);
                read
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
            Err(_) => {
                self.pipes[slot] = None;
                0
            }
        }
    }

    fn keep(&mut self, stream: Stream, bytes: &[u8]) {
        if stream == Stream::Stdout && self.spec.capture_stdout {
            let room = (MAX_RESULT + 1).saturating_sub(self.printed.len());
            self.printed.extend_from_slice(&bytes[..bytes.len().min(room)]);
        } else {
            self.sink.keep(stream, bytes);
        }
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

fn poll_timeout(left: Option<Duration>) -> PollTimeout {
    match left {
        None => PollTimeout::NONE,
        // Rounded up: waking too early would make the loop spin.
        Some(left) => PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX),
    }
}

fn drain(file: &mut impl Read) {
    let mut buffer = [0; 256];
    while file.read(&mut buffer).is_ok_and(|n| n > 0) {}
}

/// The shim's children, by a walk over all processes: only needed where a step leaves some behind.
fn children() -> Vec<Pid> {
    let own = getpid().as_raw();
    let all = process::all().unwrap_or_default();
    all.into_iter().filter(|(_, stat)| stat.parent() == Some(own)).map(|(pid, _)| pid).collect()
}
