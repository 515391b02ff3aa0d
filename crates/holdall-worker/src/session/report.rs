//! Reports: one thread follows the output files of all attempts and sends what is new.
//!
//! Output stays in the attempts' files until the server has said that it has it, so memory does not grow with what
//! steps print or with how long the server is away: there is one batch of at most about [`BATCH`] bytes. The files
//! are followed with inotify, not on a clock: a write wakes the thread. While it is busy sending, what comes
//! gathers in the files and goes out together.
//!
//! What the server cannot take of one attempt or check ([`holdall_protocol::worker::ReportAnswer::later`]) is set aside
//! for a pause that grows, and the rest goes on. The step runs on meanwhile, and its output is kept in its file.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use holdall_protocol::worker::{Assignment, Ending, Fact, Report, ReportAnswer, Stream};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use super::client::{Backoff, Client, Failure};
use crate::output::{Chunk, Cursor};
use crate::shim::{ChildRecord, now_micros, read_json};

/// About how many bytes of output go into one report.
const BATCH: usize = 1024 * 1024;

/// How much of one attempt's output goes into a report before it is the next one's turn; when all have had theirs and
/// there is room, it is the first one's turn again.
const SHARE: usize = 128 * 1024;

/// Output of one stream whose times differ by at most this many microseconds is reported as one piece.
const SAME_TIME: i64 = 5_000;

/// How often files are looked at that the system does not want to watch, in milliseconds.
const BLIND: u16 = 100;

/// How long what the server could not take is set aside for, the first time: somebody may be at work on the database.
const ASIDE: Duration = Duration::from_secs(1);

/// The longest that it is.
const LONGEST_ASIDE: Duration = Duration::from_secs(300);

/// How often output is tried to be read again that could not be.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// How long output may not be readable before its step's end is reported without it: a machine that is short of something
/// may have it again after a while.
const LONGEST_UNREAD: Duration = Duration::from_secs(600);

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
    /// What the server could not take, by attempt or check.
    aside: BTreeMap<String, Aside>,
    /// How often the server has said what it has: what was put together before may not fit any more.
    hellos: u64,
    /// Where the next report begins, so that no attempt has to wait behind a busy one.
    turn: Option<String>,
}

/// Something that is not reported for a while.
#[derive(Debug)]
struct Aside {
    pause: Duration,
    until: Instant,
}

/// Output that cannot be read.
#[derive(Debug, Clone, Copy)]
struct Unread {
    since: Instant,
    /// When it is tried again.
    until: Instant,
}

#[derive(Debug)]
struct Followed {
    fence: i64,
    folder: PathBuf,
    watch: Option<WatchDescriptor>,
    cursor: Cursor,
    unread: Option<Unread>,
    started_sent: bool,
    ending: Option<(i64, Ending)>,
    finished_sent: bool,
    /// Changes when the server says that it has less than was believed: what is on its way then does not count.
    generation: u64,
}

/// What a batch brings the server.
struct Sending {
    facts: Vec<Fact>,
    /// How far the attempts are then.
    progress: Vec<Progress>,
    /// Which of the loose facts are in it.
    loose: BTreeSet<usize>,
    /// When what is set aside can go.
    again: Option<Instant>,
}

/// How far an attempt is when a batch has arrived.
struct Progress {
    attempt: String,
    generation: u64,
    cursor: Cursor,
    /// It cannot be read on from there.
    unread: Option<Unread>,
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
                let sysctl = "fs.inotify.max_user_watches";
                tracing::warn!(%error, sysctl, "the system does not watch a step's output; raise its limit");
                None
            }
        };
        let followed = Followed {
            fence: assignment.fence,
            folder: folder.to_owned(),
            watch,
            cursor: Cursor::default(),
            unread: None,
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
        let cursor = File::open(followed.folder.join("output")).and_then(|file| Cursor::seek(&file, offset));
        // What the server has already it ignores; what comes behind a gap, too.
        followed.cursor = cursor.unwrap_or_default();
        followed.generation += 1;
        followed.started_sent = false;
        followed.finished_sent = false;
    }

    /// The server has answered hello: reports can go.
    pub fn resume(&self) {
        let mut state = self.state();
        state.welcomed = true;
        state.hellos += 1;
        // It may be another server, or have been repaired.
        state.aside.clear();
        drop(state);
        self.wake();
    }

    /// What is in no file is of a server that is gone, and nothing is sent before another one has said from where.
    pub fn begin_anew(&self) {
        let mut state = self.state();
        state.welcomed = false;
        state.hellos += 1;
        state.loose.clear();
        state.aside.clear();
    }

    /// The attempt has ended; it is reported when all of its output has been.
    pub fn ended(&self, attempt: &str, ending: Ending) {
        if let Some(followed) = self.state().followed.get_mut(attempt) {
            followed.ending = Some((now_micros(), ending));
        }
        self.wake();
    }

    /// Reports the end of an attempt that could not even be written down.
    pub fn could_not_accept(&self, assignment: &Assignment, message: String) {
        let (attempt, fence) = (assignment.attempt.clone(), assignment.fence);
        self.add(Fact::Finished { attempt, fence, at: now_micros(), ending: Ending::CouldNotRun { message } });
    }

    /// The attempts without a folder of whose end the server may not know yet, with their fences.
    pub fn untold(&self) -> Vec<(String, i64)> {
        let state = self.state();
        let end = |fact: &Fact| match fact {
            Fact::Finished { attempt, fence, .. } => Some((attempt.clone(), *fence)),
            Fact::Started { .. } | Fact::Output { .. } | Fact::Checked { .. } => None,
        };
        state.loose.iter().filter_map(end).collect()
    }

    /// Reports a fact that is in no file.
    pub fn add(&self, fact: Fact) {
        self.state().loose.push_back(fact);
        self.wake();
    }

    /// Nothing of the attempt is reported any more.
    pub fn leave(&self, attempt: &str) {
        let left = {
            let mut state = self.state();
            state.aside.remove(attempt);
            state.followed.remove(attempt)
        };
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
    /// server does not want. Ends when it is stopped, or with an error when the session is old.
    pub fn run(&self, refused: &dyn Fn(&str)) -> Result<(), Failure> {
        let mut buffer = Vec::new();
        while let Some(sending) = self.batch(&mut buffer) {
            if sending.facts.is_empty() {
                self.wait(sending.again);
                continue;
            }
            if let Some(answer) = self.send(sending.facts)? {
                self.sent(sending.progress, &sending.loose, &answer.later);
                for attempt in answer.refused {
                    refused(&attempt);
                }
            }
        }
        Ok(())
    }

    /// Sends a batch until the server has it. Gives its answer; `None` where the batch is to be put together anew because
    /// the server said hello again meanwhile, or not at all because this ends.
    fn send(&self, facts: Vec<Fact>) -> Result<Option<ReportAnswer>, Failure> {
        let report = Report { name: self.name.clone(), session: self.session.clone(), facts };
        let mut backoff = Backoff::default();
        let hellos = self.state().hellos;
        let mut warned = false;
        loop {
            match self.client.report(&report) {
                Ok(answer) => return Ok(Some(answer)),
                Err(failure @ Failure::Conflict(_)) => return Err(failure),
                Err(failure) => {
                    if !warned {
                        tracing::warn!(%failure, "a report did not arrive; it is sent until it does");
                    }
                    warned = true;
                    self.sleep(backoff.next());
                }
            }
            let state = self.state();
            if state.stopping || state.hellos != hellos {
                return Ok(None);
            }
        }
    }

    /// The next batch; `None` when the thread is to end.
    fn batch(&self, buffer: &mut Vec<u8>) -> Option<Sending> {
        let mut state = self.state();
        if state.stopping {
            return None;
        }
        if !state.welcomed {
            return Some(Sending { facts: Vec::new(), progress: Vec::new(), loose: BTreeSet::new(), again: None });
        }
        let now = Instant::now();
        let is_aside = |subject: &str| state.aside.get(subject).is_some_and(|aside| aside.until > now);
        let unread = state.followed.values().filter_map(|followed| followed.unread).map(|unread| unread.until);
        let later = state.aside.values().map(|aside| aside.until).chain(unread);
        let mut again = later.filter(|until| *until > now).min();
        let mut batch = Batch { facts: Vec::new(), room: BATCH };
        let mut loose = BTreeSet::new();
        for (index, fact) in state.loose.iter().enumerate().filter(|(_, fact)| !is_aside(fact.subject())) {
            if batch.room == 0 {
                break;
            }
            batch.push(fact.clone());
            loose.insert(index);
        }
        let turn = state.turn.clone().unwrap_or_default();
        let order = state.followed.range(turn.clone()..).chain(state.followed.range(..turn));
        let mut waiting: Vec<(&Followed, Progress)> = order
            .filter(|(attempt, followed)| !followed.finished_sent && !is_aside(attempt))
            .filter(|(_, followed)| followed.unread.is_none_or(|unread| unread.until <= now))
            .map(|(attempt, followed)| (followed, followed.progress(attempt)))
            .collect();
        let mut progress = Vec::new();
        while batch.room > 0 && !waiting.is_empty() {
            let mut more = Vec::new();
            for (followed, mut at) in waiting {
                if batch.room == 0 || followed.facts(&mut at, buffer, &mut batch) {
                    more.push((followed, at));
                } else {
                    progress.push(at);
                }
            }
            waiting = more;
        }
        // The first that did not get to its end is the first one of the next batch.
        let turn = waiting.first().map(|(_, at)| at.attempt.clone());
        progress.extend(waiting.into_iter().map(|(_, at)| at));
        for at in &progress {
            again = again.into_iter().chain(at.unread.map(|unread| unread.until)).min();
            if let Some(followed) = state.followed.get_mut(&at.attempt) {
                followed.unread = at.unread;
            }
        }
        state.turn = turn;
        Some(Sending { facts: batch.facts, progress, loose, again })
    }

    /// The server has a batch, but for what it has set aside.
    fn sent(&self, progress: Vec<Progress>, loose: &BTreeSet<usize>, later: &[String]) {
        let mut state = self.state();
        let State { loose: facts, aside, .. } = &mut *state;
        let later: BTreeSet<&str> = later.iter().map(String::as_str).collect();
        for subject in &later {
            set_aside(aside, subject);
        }
        let mut index = 0..;
        facts.retain(|fact| {
            let is_taken = index.next().is_some_and(|index| loose.contains(&index)) && !later.contains(fact.subject());
            if is_taken {
                aside.remove(fact.subject());
            }
            !is_taken
        });
        for done in progress.into_iter().filter(|done| !later.contains(done.attempt.as_str())) {
            state.aside.remove(&done.attempt);
            let Some(followed) = state.followed.get_mut(&done.attempt) else { continue };
            if followed.generation == done.generation {
                followed.cursor = done.cursor;
                followed.started_sent = done.started;
                followed.finished_sent = done.finished;
            }
        }
    }

    /// Sleeps until a file changes, someone wakes the thread, or what was set aside is to be reported.
    fn wait(&self, again: Option<Instant>) {
        let mut fds =
            [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN), PollFd::new(self.woken.as_fd(), PollFlags::POLLIN)];
        let blind = self.state().followed.values().any(|followed| followed.watch.is_none() && !followed.finished_sent);
        let timeout = match again {
            _ if blind => PollTimeout::from(BLIND),
            None => PollTimeout::NONE,
            Some(again) => {
                // Rounded up: waking too early would make the loop spin.
                let left = again.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            }
        };
        let _ = poll(&mut fds, timeout);
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

/// Lets something be reported after a pause, a longer one each time.
fn set_aside(all: &mut BTreeMap<String, Aside>, subject: &str) {
    let pause = all.get(subject).map_or(ASIDE, |before| (before.pause * 2).min(LONGEST_ASIDE));
    let seconds = pause.as_secs();
    tracing::error!(subject, "the server cannot take what is reported of this; it is told again in {seconds} s");
    all.insert(subject.to_owned(), Aside { pause, until: Instant::now() + pause });
}

/// Facts that go out together.
struct Batch {
    facts: Vec<Fact>,
    /// About how many bytes may still be added.
    room: usize,
}

impl Batch {
    fn push(&mut self, fact: Fact) {
        self.room = self.room.saturating_sub(size(&fact));
        self.facts.push(fact);
    }
}

/// About how large a fact is on the wire.
fn size(fact: &Fact) -> usize {
    const FIXED: usize = 256;
    let versions =
        |version: &BTreeMap<String, String>| -> usize { version.iter().map(|(k, v)| k.len() + v.len() + 8).sum() };
    FIXED
        + match fact {
            Fact::Started { .. } => 0,
            // Base64 makes a third more of it; room is counted in bytes of output.
            Fact::Output { bytes, .. } => bytes.len(),
            Fact::Finished { ending: Ending::Exited { result: Some(result), .. }, .. } => {
                let metadata = result.metadata.iter().map(|field| field.name.len() + field.value.len() + 32);
                versions(&result.version) + metadata.sum::<usize>()
            }
            Fact::Finished { .. } => 0,
            Fact::Checked { result: Ok(found), metadata, .. } => {
                let said = metadata.iter().flatten().map(|field| field.name.len() + field.value.len() + 32);
                found.iter().map(versions).sum::<usize>() + said.sum::<usize>()
            }
            Fact::Checked { result: Err(message), .. } => message.len(),
        }
}

impl Followed {
    /// Where the attempt is now.
    fn progress(&self, attempt: &str) -> Progress {
        let (generation, cursor) = (self.generation, self.cursor);
        let started = self.started_sent;
        Progress { attempt: attempt.to_owned(), generation, cursor, unread: None, started, finished: false }
    }

    /// Adds what is new about the attempt since `at`, at most about [`SHARE`] bytes of output. Returns whether there
    /// is more.
    fn facts(&self, at: &mut Progress, buffer: &mut Vec<u8>, batch: &mut Batch) -> bool {
        if !at.started
            && let Ok(Some(child)) = read_json::<ChildRecord>(&self.folder.join("child.json"))
        {
            batch.push(Fact::Started { attempt: at.attempt.clone(), fence: self.fence, at: child.at });
            at.started = true;
        }
        let read = match File::open(self.folder.join("output")) {
            Ok(file) => self.output(&file, at, buffer, batch),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        };
        let more = match read {
            Ok(more) => more,
            Err(error) => {
                let unread = self.note_unread(&at.attempt, &error);
                at.unread = Some(unread);
                if error.kind() != io::ErrorKind::InvalidData && unread.since.elapsed() < LONGEST_UNREAD {
                    return false;
                }
                if self.ending.is_some() {
                    batch.push(self.missing(at, &error));
                }
                false
            }
        };
        if !more && let Some((time, ending)) = &self.ending {
            let (attempt, ending) = (at.attempt.clone(), ending.clone());
            batch.push(Fact::Finished { attempt, fence: self.fence, at: *time, ending });
            at.finished = true;
        }
        more
    }

    /// Output cannot be read; it is said the first time.
    fn note_unread(&self, attempt: &str, error: &io::Error) -> Unread {
        let now = Instant::now();
        if self.unread.is_none() {
            tracing::error!(attempt, %error, "the output of a step cannot be read on; it is tried again");
        }
        Unread { since: self.unread.map_or(now, |unread| unread.since), until: now + READ_AGAIN }
    }

    /// Says in the output's place that the rest of it cannot be read.
    fn missing(&self, at: &Progress, error: &io::Error) -> Fact {
        let note =
            format!("\nholdall: the rest of the output is missing here, because the worker cannot read it: {error}\n");
        Fact::Output {
            attempt: at.attempt.clone(),
            fence: self.fence,
            offset: at.cursor.offset(),
            at: now_micros(),
            stream: Stream::Stderr,
            bytes: note.into_bytes(),
        }
    }

    /// Adds output; gives whether there is more.
    fn output(&self, file: &File, at: &mut Progress, buffer: &mut Vec<u8>, batch: &mut Batch) -> io::Result<bool> {
        let share = batch.room.min(SHARE);
        let mut pieces = Pieces { attempt: &at.attempt, fence: self.fence, batch, open: None };
        let mut used = 0;
        loop {
            let mut full = false;
            let read = at.cursor.read_block(file, buffer, self.ending.is_some(), &mut |chunk| {
                full = used >= share;
                if !full {
                    used += chunk.bytes.len();
                    pieces.add(chunk);
                }
                !full
            });
            let more = match read {
                Ok(_) if full => Ok(true),
                Ok(true) => continue,
                Ok(false) => Ok(false),
                Err(error) => Err(error),
            };
            pieces.close();
            return more;
        }
    }
}

/// Puts bytes that belong together into one fact.
struct Pieces<'a> {
    attempt: &'a str,
    fence: i64,
    batch: &'a mut Batch,
    open: Option<(u64, i64, Stream, Vec<u8>)>,
}

impl Pieces<'_> {
    fn add(&mut self, chunk: Chunk<'_>) {
        match &mut self.open {
            Some((_, first, of, gathered)) if *of == chunk.stream && (chunk.at - *first).abs() <= SAME_TIME => {
                gathered.extend_from_slice(chunk.bytes);
            }
            _ => {
                self.close();
                self.open = Some((chunk.offset, chunk.at, chunk.stream, chunk.bytes.to_vec()));
            }
        }
    }

    fn close(&mut self) {
        if let Some((offset, at, stream, bytes)) = self.open.take() {
            let attempt = self.attempt.to_owned();
            self.batch.push(Fact::Output { attempt, fence: self.fence, offset, at, stream, bytes });
        }
    }
}
