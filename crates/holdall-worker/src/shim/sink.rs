//! Where a step's output goes, also when the disk is full.
//!
//! A disk that takes nothing must not end a step that may be in the middle of changing the world. So, in this order:
//! the space that was set aside when the step began is used; the step's output is not read, so that the step waits;
//! after [`STALL_LIMIT`] the step goes on and what it prints is thrown away, and counted. Once there is space again,
//! a line in the output says how much is missing.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use holdall_protocol::worker::Stream;

use super::now_micros;
use crate::output::Writer;

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
    /// What waits for space, and since when.
    pending: Option<(Instant, Stream, Vec<u8>)>,
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
        Ok(Sink { writer, reserve, pending: None, missing: 0, given_up: false })
    }

    /// Whether output waits for space: then no more is to be read.
    pub fn is_stalled(&self) -> bool {
        self.pending.is_some()
    }

    /// Keeps output that was just read.
    pub fn keep(&mut self, stream: Stream, bytes: &[u8]) {
        self.keep_since(Instant::now(), stream, bytes);
    }

    /// Tries again to keep what waits; gives up on it after [`STALL_LIMIT`].
    pub fn retry(&mut self) {
        if let Some((since, stream, bytes)) = self.pending.take() {
            self.keep_since(since, stream, &bytes);
        }
    }

    /// No more comes: what waits is kept or given up, and the space that was set aside is given back.
    pub fn finish(&mut self) {
        self.given_up = true;
        self.retry();
        let _ = fs::remove_file(&self.reserve);
        self.note_missing();
    }

    /// Waits until everything is on the disk.
    pub fn sync(&mut self) -> io::Result<()> {
        self.writer.sync()
    }

    fn keep_since(&mut self, since: Instant, stream: Stream, bytes: &[u8]) {
        let rest = self.append(stream, bytes);
        if rest.is_empty() {
            self.given_up = false;
        } else if self.given_up || since.elapsed() >= STALL_LIMIT {
            self.given_up = true;
            self.missing += rest.len() as u64;
        } else {
            self.pending = Some((since, stream, rest.to_vec()));
        }
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

    /// Says how much is missing, if anything is; gives whether nothing is left to say.
    fn note_missing(&mut self) -> bool {
        if self.missing > 0 {
            let note =
                format!("\nholdall: {} bytes of output are missing here: the worker's disk was full\n", self.missing);
            if self.writer.append(now_micros(), Stream::Stderr, note.as_bytes()).is_err() {
                return false;
            }
            self.missing = 0;
        }
        true
    }
}
