//! Writing, following and repairing output files.

use super::*;

fn read_all(path: &Path, from: u64, ended: bool) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut cursor = Cursor::seek(&file, from)?;
    let (mut bytes, mut buffer) = (Vec::new(), Vec::new());
    while cursor.read_block(&file, &mut buffer, ended, &mut |chunk| {
        assert_eq!(chunk.offset, from + bytes.len() as u64);
        bytes.extend_from_slice(chunk.bytes);
        true
    })? {}
    assert_eq!(cursor.offset(), from + bytes.len() as u64);
    Ok(bytes)
}

#[test]
fn every_offset_can_be_resumed_at() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("output");
    let mut writer = Writer::open(&path).unwrap();
    let mut payload = Vec::new();
    for (n, size) in [1, 7, 0, 300, 2, MAX_RECORD, 5, MAX_RECORD * 2 + 1, 3].into_iter().enumerate() {
        let part: Vec<u8> = (0..size).map(|i| (i * 31 + n) as u8).collect();
        writer.append(n as i64 + 1, if n % 2 == 0 { Stream::Stdout } else { Stream::Stderr }, &part).unwrap();
        payload.extend_from_slice(&part);
    }
    let interesting = (0..400).chain(MAX_RECORD as u64..MAX_RECORD as u64 + 400).chain([payload.len() as u64]);
    for offset in interesting {
        assert_eq!(read_all(&path, offset, false).unwrap(), payload[offset as usize..], "from {offset}");
    }
}

#[test]
fn a_record_that_was_cut_short_is_read_only_after_the_end_and_removed_by_the_next_writer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("output");
    let mut writer = Writer::open(&path).unwrap();
    writer.append(1, Stream::Stdout, b"whole").unwrap();
    writer.append(2, Stream::Stdout, b"cut short").unwrap();
    let length = std::fs::metadata(&path).unwrap().len();
    File::options().write(true).open(&path).unwrap().set_len(length - 6).unwrap();

    assert_eq!(read_all(&path, 0, false).unwrap(), b"whole");
    assert_eq!(read_all(&path, 0, true).unwrap(), b"wholecut");
    Writer::open(&path).unwrap().append(3, Stream::Stderr, b" again").unwrap();
    assert_eq!(read_all(&path, 0, true).unwrap(), b"whole again");
}

#[test]
fn a_chunk_that_is_not_taken_comes_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("output");
    let mut writer = Writer::open(&path).unwrap();
    for part in ["one", "two", "three"] {
        writer.append(1, Stream::Stdout, part.as_bytes()).unwrap();
    }
    let file = File::open(&path).unwrap();
    let (mut cursor, mut buffer, mut seen) = (Cursor::default(), Vec::new(), Vec::new());
    cursor.read_block(&file, &mut buffer, false, &mut |chunk| chunk.bytes != b"two").unwrap();
    assert_eq!(cursor.offset(), 3);
    cursor
        .read_block(&file, &mut buffer, false, &mut |chunk| {
            seen.push(String::from_utf8_lossy(chunk.bytes).into_owned());
            true
        })
        .unwrap();
    assert_eq!(seen, ["two", "three"]);
}

#[test]
fn a_file_of_something_else_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("output");
    std::fs::write(&path, [b'x'; 100]).unwrap();
    assert_eq!(read_all(&path, 0, false).unwrap_err().kind(), io::ErrorKind::InvalidData);
    std::fs::write(&path, [0; 100]).unwrap();
    assert_eq!(read_all(&path, 0, true).unwrap(), b"");
}
