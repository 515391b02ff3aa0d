//! Where a step's output goes, also when the disk is full.
//!
//! A disk that takes nothing must not end a step that may be in the middle of changing the world. So, in this order:
//! the space that was set aside when the step began is used; the step's output is not read, so that the step waits;
//! after [`STALL_LIMIT`] the step goes on and what it prints is thrown away, and counted. Once there is space again,
//! a line in the output says how much is missing.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use holdall_protocol::worker::Stream;

use super::now_micros;
use crate::output::{Writer, is_full};

/// How long a step waits for space before its output is thrown away.
pub const STALL_LIMIT: Duration = Duration::from_secs(60);

/// How often it is tried again while the disk is full.
pub const RETRY: Duration = Duration::from_millis(200);

/// How much space is set aside for the last words of a step that fills the disk.
const RESERVE: i64 = 64 * 1024;

/// Appends to the output file and knows what to do when that fails.
#[derive(Debug)]
pub struct Sink {
    writer: Writer,
    reserve: PathBuf,
    /// What waits for space, and since when; the oldest first.
    pending: VecDeque<(Instant, Stream, Vec<u8>)>,
    /// How long it waits.
    stall_limit: Duration,
    /// Bytes that were thrown away since the last line that said so.
    missing: u64,
    /// The step does not wait any more.
    given_up: bool,
}

impl Sink {
    /// Opens `output` in `dir` and sets space aside.
    pub fn open(dir: &Path) -> io::Result<Sink> {
        let writer = Writer::open(&dir.join("output"))?;
        let reserve = dir.join("reserve");
        // File systems that cannot set space aside do without.
        let _ = File::create(&reserve).map(|file| nix::fcntl::posix_fallocate(&file, 0, RESERVE));
        Ok(Sink { writer, reserve, pending: VecDeque::new(), stall_limit: STALL_LIMIT, missing: 0, given_up: false })
    }

    /// Whether output waits for space: then no more is to be read.
    pub fn is_stalled(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Keeps output that was just read, behind what waits for space.
    pub fn keep(&mut self, stream: Stream, bytes: &[u8]) {
        let rest = if self.is_stalled() { bytes } else { self.append(stream, bytes) };
        if rest.is_empty() {
            self.given_up = false;
            return;
        }
        self.pending.push_back((Instant::now(), stream, rest.to_vec()));
        if self.given_up {
            self.retry();
        }
    }

    /// Tries again to keep what waits; gives up on it after [`STALL_LIMIT`].
    pub fn retry(&mut self) {
        while let Some((since, stream, bytes)) = self.pending.pop_front() {
            let rest = self.append(stream, &bytes);
            if rest.is_empty() {
                self.given_up = false;
            } else if self.given_up || since.elapsed() >= self.stall_limit {
                self.given_up = true;
                self.missing += rest.len() as u64;
            } else {
                let rest = rest.to_vec();
                self.pending.push_front((since, stream, rest));
                return;
            }
        }
    }

    /// No more comes: what waits is kept or, after [`STALL_LIMIT`], given up, and the space that was set aside is given
    /// back. Gives `false` where something waits still, or where the disk is too full even to say how much is missing: then
    /// it is to be called again.
    pub fn finish(&mut self) -> bool {
        self.retry();
        if self.is_stalled() {
            return false;
        }
        let _ = fs::remove_file(&self.reserve);
        self.note_missing()
    }

    /// Waits until everything is on the disk.
    pub fn sync(&mut self) -> io::Result<()> {
        self.writer.sync()
    }

    /// Appends; gives what could not be.
    fn append<'a>(&mut self, stream: Stream, bytes: &'a [u8]) -> &'a [u8] {
        if !self.note_missing() {
            return bytes;
        }
        let mut rest = bytes;
        while let Err(error) = self.writer.append(now_micros(), stream, rest) {
            rest = &rest[error.written..];
            if fs::remove_file(&self.reserve).is_err() {
                return rest;
            }
        }
        &[]
    }

    /// Says how much is missing, if anything is; gives `false` where there is no space for that.
    fn note_missing(&mut self) -> bool {
        if self.missing > 0 {
            let note =
                format!("\nholdall: {} bytes of output are missing here: the worker's disk was full\n", self.missing);
            match self.writer.append(now_micros(), Stream::Stderr, note.as_bytes()) {
                Err(error) if is_full(&error.source) => return false,
                // A file that takes nothing at all never says it.
                Ok(()) | Err(_) => self.missing = 0,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sink on a disk that is full, as long as nobody gives it another file.
    fn full() -> Sink {
        let file = File::options().read(true).write(true).open("/dev/full").unwrap();
        let writer = Writer::at(file, 0);
        let reserve = PathBuf::from("/nonexistent/reserve");
        Sink { writer, reserve, pending: VecDeque::new(), stall_limit: STALL_LIMIT, missing: 0, given_up: false }
    }

    #[test]
    fn what_comes_while_something_waits_is_kept_behind_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut sink = full();
        sink.keep(Stream::Stdout, b"one ");
        sink.keep(Stream::Stderr, b"two ");
        assert!(sink.is_stalled());
        sink.retry();
        sink.writer = Writer::open(&dir.path().join("output")).unwrap();
        sink.retry();
        sink.keep(Stream::Stdout, b"three");
        assert!(!sink.is_stalled() && sink.finish());
        let written = fs::read(dir.path().join("output")).unwrap();
        let place = |text: &str| written.windows(text.len()).position(|part| part == text.as_bytes());
        assert!(place("one ").is_some() && place("one ") < place("two ") && place("two ") < place("three"));
    }

    #[test]
    fn a_step_that_ends_while_the_disk_is_full_loses_nothing_before_its_time() {
        let dir = tempfile::tempdir().unwrap();
        let mut sink = full();
        sink.keep(Stream::Stdout, b"one ");
        assert!(!sink.finish() && !sink.finish(), "it waits");
        sink.keep(Stream::Stderr, b"two ");
        sink.writer = Writer::open(&dir.path().join("output")).unwrap();
        assert!(sink.finish());
        let written = String::from_utf8_lossy(&fs::read(dir.path().join("output")).unwrap()).into_owned();
        assert!(written.contains("one ") && written.contains("two ") && !written.contains("missing"), "{written}");
        // When it has waited for long enough.
        let mut sink = full();
        sink.keep(Stream::Stdout, b"one ");
        sink.stall_limit = Duration::ZERO;
        assert!(!sink.finish() && !sink.is_stalled(), "there is no room to say it");
    }

    #[test]
    fn what_is_thrown_away_is_counted_and_said_once_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let mut sink = full();
        sink.stall_limit = Duration::ZERO;
        sink.keep(Stream::Stdout, b"one ");
        sink.keep(Stream::Stderr, b"two ");
        sink.retry();
        assert!(!sink.is_stalled(), "the step does not wait any more");
        sink.keep(Stream::Stdout, b"three");
        assert!(!sink.is_stalled());
        assert!(!sink.finish(), "there is no room to say it");
        sink.writer = Writer::open(&dir.path().join("output")).unwrap();
        assert!(sink.finish());
        let written = String::from_utf8_lossy(&fs::read(dir.path().join("output")).unwrap()).into_owned();
        assert!(written.contains("holdall: 13 bytes of output are missing here"), "{written}");
        assert!(sink.finish() && !written.contains("three"));
    }
}
