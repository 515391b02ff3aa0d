//! Server-sent events: a stream that goes on where it was when the connection breaks.

use std::io::{BufRead, BufReader, Read};
use std::time::{Duration, Instant};

use crate::client::{Client, ClientError};

/// The longest line that is taken: an event's data is on one.
const LINE_LIMIT: u64 = 16 << 20;

/// How long a server may be away before a stream gives up.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long to wait before connecting again.
const PAUSE: Duration = Duration::from_millis(500);

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    /// Its id; empty when it has none.
    pub id: String,
    /// Its data.
    pub data: String,
}

/// Reads the events of one connection.
pub struct Reader<R> {
    lines: BufReader<R>,
}

impl<R: Read> Reader<R> {
    /// Reads from a body of type `text/event-stream`.
    pub fn new(body: R) -> Reader<R> {
        Reader { lines: BufReader::new(body) }
    }

    /// The next event; `None` when the connection ended. What was begun and not ended is not an event.
    pub fn next(&mut self) -> std::io::Result<Option<Event>> {
        let mut event = Event::default();
        let mut has_data = false;
        loop {
            let mut line = Vec::new();
            (&mut self.lines).take(LINE_LIMIT).read_until(b'\n', &mut line)?;
            if line.last() != Some(&b'\n') {
                return match line.len() as u64 {
                    LINE_LIMIT => Err(std::io::Error::other("an event is too large")),
                    _ => Ok(None),
                };
            }
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            if line.is_empty() {
                if has_data {
                    return Ok(Some(event));
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => value.clone_into(&mut event.id),
                "data" => {
                    if has_data {
                        event.data.push('\n');
                    }
                    event.data.push_str(value);
                    has_data = true;
                }
                // Comments keep the connection alive; event names and retry times are not used.
                _ => {}
            }
        }
    }
}

/// Reads the events of a path, one after the other, until `each` says that it has enough.
///
/// A connection that ends or breaks is made again with `Last-Event-ID`; the server may be away for two minutes.
/// `on_break` hears of each break once.
pub fn follow<T>(
    client: &Client,
    path: &str,
    mut each: impl FnMut(Event) -> Result<Option<T>, ClientError>,
    mut on_break: impl FnMut(&str),
) -> Result<T, ClientError> {
    let mut last_id = String::new();
    let mut away_since: Option<Instant> = None;
    loop {
        let mut headers = vec![("Accept", "text/event-stream")];
        if !last_id.is_empty() {
            headers.push(("Last-Event-ID", &*last_id));
        }
        let why = match client.open(path, &headers) {
            Ok(body) => {
                let mut events = Reader::new(body);
                loop {
                    match events.next() {
                        Ok(Some(event)) => {
                            away_since = None;
                            if !event.id.is_empty() {
                                last_id.clone_from(&event.id);
                            }
                            if let Some(result) = each(event)? {
                                return Ok(result);
                            }
                        }
                        Ok(None) => break "the connection ended".to_owned(),
                        Err(error) => break error.to_string(),
                    }
                }
            }
            Err(ClientError::Transport(why)) => why,
            // A server that is going down says so before it is gone.
            Err(ClientError::Refused { status: 502..=504, body }) => body.message,
            Err(error) => return Err(error),
        };
        let since = *away_since.get_or_insert_with(|| {
            on_break(&why);
            Instant::now()
        });
        if since.elapsed() > PATIENCE {
            return Err(ClientError::Transport(why));
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(text: &str) -> Vec<Event> {
        let mut reader = Reader::new(text.as_bytes());
        std::iter::from_fn(|| reader.next().unwrap()).collect()
    }

    fn event(id: &str, data: &str) -> Event {
        Event { id: id.into(), data: data.into() }
    }

    #[test]
    fn fields_comments_and_line_ends_are_read_as_the_standard_says() {
        assert_eq!(
            events(
                ": hello\n\nid: 1\ndata: {\"a\":1}\n\nid:2\r\nevent: x\r\ndata:two\r\ndata\r\ndata:  lines\r\n\r\nretry: 3\n\n"
            ),
            [event("1", "{\"a\":1}"), event("2", "two\n\n lines")]
        );
    }

    #[test]
    fn an_event_that_was_cut_off_is_not_an_event() {
        assert_eq!(events("id: 1\ndata: whole\n\nid: 2\ndata: cut"), [event("1", "whole")]);
        assert_eq!(events("id: 2\ndata: cut\n"), []);
        assert_eq!(events(""), []);
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let endless = std::io::repeat(b'x');
        assert!(Reader::new(endless).next().is_err());
    }
}
