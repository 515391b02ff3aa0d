//! The file that holds a step's output: records of (time, stream, bytes), appended by the shim and followed by the
//! session. The *payload* is the bytes of all records one after the other; offsets that leave this machine count
//! payload, so a reader can go on at any byte of it, also in the middle of a record.
//!
//! A record is a header of [`HEADER`] bytes (time i64, length u32, stream u8, then [`MAGIC`]; little endian) and
//! its bytes. A record that is not complete yet is not read until it is, or until the step has ended.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use holdall_protocol::worker::Stream;

/// Bytes in front of each record.
pub const HEADER: usize = 16;

/// The most bytes of payload in one record.
pub const MAX_RECORD: usize = 64 * 1024;

/// What a header ends with.
const MAGIC: [u8; 3] = *b"hO1";

/// How much of the file is read at once; more than the largest record.
const BLOCK: usize = 256 * 1024;

/// Appends records.
#[derive(Debug)]
pub struct Writer {
    file: File,
    /// Where the next record begins; what a failed write left behind it is cut off.
    end: u64,
}

impl Writer {
    /// Opens the file for appending, making it if it is not there. A record that is cut short at the end is removed.
    pub fn open(path: &Path) -> io::Result<Writer> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut cursor = Cursor::default();
        let mut buffer = Vec::new();
        while cursor.read_block(&file, &mut buffer, false, &mut |_| true)? {}
        file.set_len(cursor.frame)?;
        Ok(Writer::at(file, cursor.frame))
    }

    /// Appends to a file from `end` on.
    pub(crate) fn at(file: File, end: u64) -> Writer {
        Writer { file, end }
    }

    /// Appends bytes that were read from `stream` at `at` (microseconds since 1970); more than [`MAX_RECORD`] become
    /// several records. Where the disk is full, what fits is appended: else a step that waits for space would leave some
    /// of it free between its tries. After an error nothing of a record that failed is in the file; `bytes` that were
    /// written before it are, and their number is in the error's place: see [`AppendError`].
    pub fn append(&mut self, at: i64, stream: Stream, bytes: &[u8]) -> Result<(), AppendError> {
        let (mut written, mut most) = (0, MAX_RECORD);
        while written < bytes.len() {
            let part = &bytes[written..bytes.len().min(written + most)];
            let mut record = Vec::with_capacity(HEADER + part.len());
            record.extend_from_slice(&at.to_le_bytes());
            record.extend_from_slice(&(part.len() as u32).to_le_bytes());
            record.push(stream_code(stream));
            record.extend_from_slice(&MAGIC);
            record.extend_from_slice(part);
            if let Err(source) = self.file.write_all_at(&record, self.end) {
                // Fails only where the file cannot be written at all; then the reader stops at the cut record.
                let _ = self.file.set_len(self.end);
                if part.len() > 1 && is_full(&source) {
                    most = part.len() / 2;
                    continue;
                }
                return Err(AppendError { written, source });
            }
            self.end += record.len() as u64;
            written += part.len();
        }
        Ok(())
    }

    /// Waits until what was appended is on the disk.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.sync_data()
    }
}

/// Output could not be appended.
#[derive(Debug, thiserror::Error)]
#[error("cannot append to the output")]
pub struct AppendError {
    /// How many of the bytes are in the file.
    pub written: usize,
    /// Why not the rest.
    #[source]
    pub source: io::Error,
}

/// Whether the disk, or what of it this user may use, is full.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Bytes of one record, from wherever in it the reader was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// Where the bytes begin in the payload.
    pub offset: u64,
    /// When they were read, microseconds since 1970.
    pub at: i64,
    /// From which stream.
    pub stream: Stream,
    /// The bytes.
    pub bytes: &'a [u8],
}

/// A place in the payload of an output file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// Where the record that is read next begins in the file.
    frame: u64,
    /// How many bytes of that record were read already.
    skip: u64,
    /// The same place, in the payload.
    offset: u64,
}

impl Cursor {
    /// The place where `offset` bytes of payload are behind; at the end of what there is if the file has fewer.
    pub fn seek(file: &File, offset: u64) -> io::Result<Cursor> {
        let mut cursor = Cursor::default();
        let mut buffer = Vec::new();
        let mut header = [0; HEADER];
        // A walk over the headers; the bytes between them are read with them only where records are small.
        loop {
            if file.read_at(&mut header, cursor.frame)? < HEADER {
                return Ok(cursor);
            }
            let Some((_, _, length)) = parse_header(&header)? else { return Ok(cursor) };
            if cursor.offset + length > offset {
                cursor.skip = offset - cursor.offset;
                cursor.offset = offset;
                return Ok(cursor);
            }
            if length as usize >= BLOCK / 64 {
                cursor.frame += HEADER as u64 + length;
                cursor.offset += length;
                continue;
            }
            let more = cursor
                .read_block(file, &mut buffer, true, &mut |chunk| chunk.offset + chunk.bytes.len() as u64 <= offset)?;
            if !more {
                return Ok(cursor);
            }
        }
    }

    /// How many bytes of payload are behind this place.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Gives the chunks that come next to `take` until it says `false` (that chunk is not passed then), the file
    /// ends, or about `BLOCK` bytes were read. `ended`: a record that is cut short is given as far as it goes.
    /// Returns whether anything was read; an error of kind `InvalidData` where the file is not an output file.
    pub fn read_block(
        &mut self,
        file: &File,
        buffer: &mut Vec<u8>,
        ended: bool,
        take: &mut dyn FnMut(Chunk<'_>) -> bool,
    ) -> io::Result<bool> {
        buffer.resize(BLOCK, 0);
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read_at(&mut buffer[filled..], self.frame + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        let at_end = filled < buffer.len();
        let mut rest = &buffer[..filled];
        let mut any = false;
        while rest.len() >= HEADER {
            let Some((at, stream, length)) = parse_header(&rest[..HEADER])? else { break };
            let body = &rest[HEADER..];
            let complete = body.len() as u64 >= length;
            let cut_for_good = ended && at_end;
            if !complete && !cut_for_good {
                break;
            }
            let body = &body[..body.len().min(length as usize)];
            let unread = body.get(self.skip as usize..).unwrap_or_default();
            if !unread.is_empty() {
                if !take(Chunk { offset: self.offset, at, stream, bytes: unread }) {
                    return Ok(any);
                }
                any = true;
            }
            self.offset += unread.len() as u64;
            if !complete {
                self.skip += unread.len() as u64;
                break;
            }
            self.frame += HEADER as u64 + length;
            self.skip = 0;
            any = true;
            rest = &rest[HEADER + length as usize..];
        }
        Ok(any)
    }
}

/// Time, stream and length; `None` for a header of zeros (space that a crash of the machine left behind).
fn parse_header(header: &[u8]) -> io::Result<Option<(i64, Stream, u64)>> {
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "not a record of output");
    if header.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let at = i64::from_le_bytes(header[0..8].try_into().map_err(|_| broken())?);
    let length = u32::from_le_bytes(header[8..12].try_into().map_err(|_| broken())?);
    let stream = match header[12] {
        1 => Stream::Stdout,
        2 => Stream::Stderr,
        _ => return Err(broken()),
    };
    if header[13..16] != MAGIC || length == 0 || length as usize > MAX_RECORD {
        return Err(broken());
    }
    Ok(Some((at, stream, u64::from(length))))
}

fn stream_code(stream: Stream) -> u8 {
    match stream {
        Stream::Stdout => 1,
        Stream::Stderr => 2,
    }
}

#[cfg(test)]
mod tests;
