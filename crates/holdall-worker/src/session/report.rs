//! Reports: one thread follows the output files of all attempts and sends what is new.
//!
//! Output stays in the attempts' files until the server has said that it has it, so memory does not grow with what
//! steps print or with how long the server is away: there is one batch of at most about [`BATCH`] bytes. The files
//! are followed with inotify, not on a clock: a write wakes the thread. While it is busy sending, what comes
//! gathers in the files and goes out together.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use holdall_protocol::worker::{Assignment, Ending, Fact, Report, Stream};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use super::client::{Backoff, Client, Failure};
use crate::output::Cursor;
use crate::shim::{ChildRecord, now_micros, read_json};

/// About how many bytes of output go into one report.
const BATCH: usize = 1024 * 1024;

/// How much of one attempt's output goes into a report before it is the next one's turn.
const SHARE: usize = 128 * 1024;

/// Output of one stream whose times differ by at most this many microseconds is reported as one piece.
const SAME_TIME: i64 = 5_000;

/// Everything that is to be reported, and the thread that does.
#[derive(Debug)]
pub struct Reporter {
    client: Client,
    name: String,
    session: String,
    inotify: Inotify,
    /// Wakes the thread for what inotify does not see.
    wake: UnixStream,
    woken: UnixStream,
    state: Mutex<State>,
    /// Wakes who sleeps in [`Reporter::sleep`].
    stopped: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stopping: bool,
    /// Nothing is sent before the server has said from where.
    welcomed: bool,
    followed: BTreeMap<String, Followed>,
    /// Facts that are in no file: results of checks, attempts that have no folder.
    loose: VecDeque<Fact>,
    /// Where the next report begins, so that no attempt has to wait behind a busy one.
    turn: Option<String>,
}

#[derive(Debug)]
struct Followed {
    fence: i64,
    folder: PathBuf,
    watch: Option<WatchDescriptor>,
    cursor: Cursor,
    started_sent: bool,
    ending: Option<(i64, Ending)>,
    finished_sent: bool,
    /// Changes when the server says that it has less than was believed: what is on its way then does not count.
    generation: u64,
}

/// How far an attempt is when a batch has arrived.
struct Progress {
    attempt: String,
    generation: u64,
    cursor: Cursor,
    started: bool,
    finished: bool,
}

impl Reporter {
    /// A reporter for a session.
    pub fn new(client: Client, name: &str, session: &str) -> io::Result<Arc<Reporter>> {
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        Ok(Arc::new(Reporter {
            client,
            name: name.to_owned(),
            session: session.to_owned(),
            inotify: Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?,
            wake,
            woken,
            state: Mutex::default(),
            stopped: Condvar::new(),
        }))
    }

    /// Follows an attempt from the beginning of its output, or from where [`Reporter::rewind`] says.
    pub fn follow(&self, assignment: &Assignment, folder: &Path) {
        // `child.json` is renamed into place, `output` is written to.
        let events = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_MOVED_TO;
        let watch = match self.inotify.add_watch(folder, events) {
            Ok(watch) => Some(watch),
            Err(error) => {
                tracing::warn!(%error, "a step's output cannot be followed; it is reported when the step ends");
                None
            }
        };
        let followed = Followed {
            fence: assignment.fence,
            folder: folder.to_owned(),
            watch,
            cursor: Cursor::default(),
            started_sent: false,
            ending: None,
            finished_sent: false,
            generation: 0,
        };
        self.state().followed.insert(assignment.attempt.clone(), followed);
        self.wake();
    }

    /// The server has this many bytes of the attempt's output: reporting goes on from there, and how it ended is
    /// reported again.
    pub fn rewind(&self, attempt: &str, offset: u64) {
        let mut state = self.state();
        let Some(followed) = state.followed.get_mut(attempt) else { return };
        if let Ok(file) = File::open(followed.folder.join("output")) {
            match Cursor::seek(&file, offset) {
                Ok(cursor) => followed.cursor = cursor,
                Err(error) => tracing::warn!(attempt, %error, "the output of a step cannot be read"),
            }
        }
        followed.generation += 1;
        followed.started_sent = false;
        followed.finished_sent = false;
    }

    /// The server has answered hello: reports can go.
    pub fn resume(&self) {
        self.state().welcomed = true;
        self.wake();
    }

    /// The attempt has ended; it is reported when all of its output has been.
    pub fn ended(&self, attempt: &str, ending: Ending) {
        if let Some(followed) = self.state().followed.get_mut(attempt) {
            followed.ending = Some((now_micros(), ending));
        }
        self.wake();
    }

    /// Reports the end of an attempt that could not even be written down.
    pub fn ended_without_folder(&self, assignment: &Assignment, ending: Ending) {
        self.add(Fact::Finished {
            attempt: assignment.attempt.clone(),
            fence: assignment.fence,
            at: now_micros(),
            ending,
        });
    }

    /// Reports a fact that is in no file.
    pub fn add(&self, fact: Fact) {
        self.state().loose.push_back(fact);
        self.wake();
    }

    /// Nothing of the attempt is reported any more.
    pub fn leave(&self, attempt: &str) {
        let left = self.state().followed.remove(attempt);
        if let Some(watch) = left.and_then(|followed| followed.watch) {
            // Fails where the folder is gone, and its watch with it.
            let _ = self.inotify.rm_watch(watch);
        }
    }

    /// Ends the thread.
    pub fn stop(&self) {
        self.state().stopping = true;
        self.stopped.notify_all();
        self.wake();
    }

    /// Waits for that long, or until the reporter is stopped.
    pub fn sleep(&self, time: Duration) {
        let state = self.state();
        let _ = self.stopped.wait_timeout_while(state, time, |state| !state.stopping);
    }

    /// The thread: sends what there is, sleeps until there is more. `refused` is called for attempts that the
    /// server does not want.
    pub fn run(&self, refused: &dyn Fn(&str)) {
        let mut buffer = Vec::new();
        loop {
            match self.batch(&mut buffer) {
                None => return,
                Some((facts, _, _)) if facts.is_empty() => self.wait(),
                Some((facts, progress, loose)) => {
                    let Some(unwanted) = self.send(facts) else { return };
                    self.sent(progress, loose);
                    for attempt in unwanted {
                        refused(&attempt);
                    }
                }
            }
        }
    }

    /// Sends a batch until the server has it. Gives the attempts that it does not want; `None` when the session or
    /// the worker ends.
    fn send(&self, facts: Vec<Fact>) -> Option<Vec<String>> {
        let report = Report { name: self.name.clone(), session: self.session.clone(), facts };
        let mut backoff = Backoff::default();
        loop {
            if self.state().stopping {
                return None;
            }
            match self.client.report(&report) {
                Ok(answer) => return Some(answer.refused),
                // The poll hears the same and ends the worker.
                Err(Failure::Conflict(_)) => return None,
                Err(failure) => {
                    tracing::debug!(%failure, "a report did not arrive; it is sent again");
                    self.sleep(backoff.next());
                }
            }
        }
    }

    /// The next batch, what will have been reported when it has arrived, and how many loose facts are in it; `None`
    /// when the thread is to end.
    fn batch(&self, buffer: &mut Vec<u8>) -> Option<(Vec<Fact>, Vec<Progress>, usize)> {
        let mut state = self.state();
        if state.stopping {
            return None;
        }
        if !state.welcomed {
            return Some((Vec::new(), Vec::new(), 0));
        }
        let mut facts: Vec<Fact> = state.loose.iter().take(64).cloned().collect();
        let loose = facts.len();
        let mut room = BATCH;
        let mut progress = Vec::new();
        let turn = state.turn.take().unwrap_or_default();
        let order = state.followed.range(turn.clone()..).chain(state.followed.range(..turn));
        let mut next_turn = None;
        for (attempt, followed) in order {
            if followed.finished_sent {
                continue;
            }
            if room == 0 {
                next_turn = Some(attempt.clone());
                break;
            }
            let share = room.min(SHARE);
            if let Some((done, used)) = followed.facts(attempt, share, buffer, &mut facts) {
                room = room.saturating_sub(used);
                progress.push(done);
            }
        }
        state.turn = next_turn;
        Some((facts, progress, loose))
    }

    fn sent(&self, progress: Vec<Progress>, loose: usize) {
        let mut state = self.state();
        state.loose.drain(..loose);
        for done in progress {
            let Some(followed) = state.followed.get_mut(&done.attempt) else { continue };
            if followed.generation == done.generation {
                followed.cursor = done.cursor;
                followed.started_sent |= done.started;
                followed.finished_sent |= done.finished;
            }
        }
    }

    /// Sleeps until a file changes or someone wakes the thread.
    fn wait(&self) {
        let mut fds =
            [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN), PollFd::new(self.woken.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::NONE);
        // What has changed is found by looking; the events only wake.
        while self.inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
        let mut bytes = [0; 64];
        while nix::unistd::read(&self.woken, &mut bytes).is_ok_and(|n| n > 0) {}
    }

    fn wake(&self) {
        match nix::unistd::write(&self.wake, b"w") {
            // Full of wakes already.
            Ok(_) | Err(Errno::EAGAIN) => {}
            Err(error) => tracing::error!(%error, "the reporter cannot be woken"),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Followed {
    /// Adds what is new about the attempt to `facts`, at most about `share` bytes of output. `None`: nothing is.
    fn facts(
        &self,
        attempt: &str,
        share: usize,
        buffer: &mut Vec<u8>,
        facts: &mut Vec<Fact>,
    ) -> Option<(Progress, usize)> {
        let before = facts.len();
        let mut progress = Progress {
            attempt: attempt.to_owned(),
            generation: self.generation,
            cursor: self.cursor,
            started: false,
            finished: false,
        };
        if !self.started_sent
            && let Ok(Some(child)) = read_json::<ChildRecord>(&self.folder.join("child.json"))
        {
            facts.push(Fact::Started { attempt: attempt.to_owned(), fence: self.fence, at: child.at });
            progress.started = true;
        }
        let mut pieces = Pieces { attempt, fence: self.fence, facts, open: None };
        let (all, used) = match File::open(self.folder.join("output")) {
            Ok(file) => self.output(&file, share, buffer, &mut progress.cursor, &mut pieces),
            Err(_) => (true, 0),
        };
        pieces.close();
        if all && let Some((at, ending)) = &self.ending {
            facts.push(Fact::Finished {
                attempt: attempt.to_owned(),
                fence: self.fence,
                at: *at,
                ending: ending.clone(),
            });
            progress.finished = true;
        }
        (facts.len() > before).then_some((progress, used))
    }

    /// Adds output; gives whether this was all there is, and how much it was.
    fn output(
        &self,
        file: &File,
        share: usize,
        buffer: &mut Vec<u8>,
        cursor: &mut Cursor,
        pieces: &mut Pieces<'_>,
    ) -> (bool, usize) {
        let mut used = 0;
        loop {
            let mut full = false;
            let read = cursor.read_block(file, buffer, self.ending.is_some(), &mut |chunk| {
                full = used >= share;
                if !full {
                    used += chunk.bytes.len();
                    pieces.add(chunk.offset, chunk.at, chunk.stream, chunk.bytes);
                }
                !full
            });
            match read {
                Ok(_) if full => return (false, used),
                Ok(true) => {}
                Ok(false) => return (true, used),
                Err(error) => {
                    tracing::error!(attempt = pieces.attempt, %error, "the output of a step cannot be read on");
                    return (true, used);
                }
            }
        }
    }
}

/// Puts bytes that belong together into one fact.
struct Pieces<'a> {
    attempt: &'a str,
    fence: i64,
    facts: &'a mut Vec<Fact>,
    open: Option<(u64, i64, Stream, Vec<u8>)>,
}

impl Pieces<'_> {
    fn add(&mut self, offset: u64, at: i64, stream: Stream, bytes: &[u8]) {
        match &mut self.open {
            Some((_, first, of, gathered)) if *of == stream && (at - *first).abs() <= SAME_TIME => {
                gathered.extend_from_slice(bytes);
            }
            _ => {
                self.close();
                self.open = Some((offset, at, stream, bytes.to_vec()));
            }
        }
    }

    fn close(&mut self) {
        if let Some((offset, at, stream, bytes)) = self.open.take() {
            self.facts.push(Fact::Output {
                attempt: self.attempt.to_owned(),
                fence: self.fence,
                offset,
                at,
                stream,
                bytes: STANDARD.encode(bytes),
            });
        }
    }
}
