//! From a build's journal to the events that clients see.

use std::collections::BTreeMap;

use holdall_engine::ids::BuildId;
use holdall_engine::run::RunEvent;
use holdall_engine::status::Outcome;
use holdall_engine::time::Timestamp;
use holdall_protocol::api::{
    BuildEvent, BuildEventKind, BuildStatus, Hold, MetadataField, OutputStream, StepOutcome, Time,
};
use holdall_protocol::worker::Ending;
use holdall_store::events::EventRow;
use holdall_store::{StoreError, Tx, attempts};

/// Some rows of a journal, and what else their events say.
pub(super) struct Journal {
    pub(super) rows: Vec<EventRow>,
    /// The worker of each step that started in them.
    pub(super) workers: BTreeMap<String, String>,
    /// What holds the build back.
    pub(super) holds: Vec<Hold>,
    /// Whether the build has started.
    pub(super) started: bool,
    /// When the build ended.
    pub(super) ended_at: Option<Timestamp>,
}

/// The workers of the steps that started in these rows.
pub(super) fn workers(
    tx: &mut Tx<'_>,
    build: BuildId,
    rows: &[EventRow],
) -> Result<BTreeMap<String, String>, StoreError> {
    let mut workers = BTreeMap::new();
    for row in rows.iter().filter(|row| row.kind == "run") {
        if let (Some(step), Some(RunEvent::StepStarted { .. })) = (&row.step, run_event(row))
            && let Some(worker) = attempts::attempt_of_step(tx, build, step)?.and_then(|attempt| attempt.worker)
        {
            workers.insert(step.clone(), worker);
        }
    }
    Ok(workers)
}

fn run_event(row: &EventRow) -> Option<RunEvent> {
    serde_json::from_str(row.payload.as_deref()?).ok()
}

/// The end of a stream.
pub(super) fn end(seq: i64, at: Timestamp) -> BuildEvent {
    BuildEvent { seq, at: Time(at.0), step: None, kind: BuildEventKind::End }
}

/// Turns rows into events, in order: characters that two rows share, and how a process ended, are remembered from one
/// row to the next.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The beginnings of characters whose ends are in later rows, by step and stream.
    partial: BTreeMap<(String, OutputStream), Vec<u8>>,
    /// How the process of a step ended that is about to be reported as finished.
    exit_status: BTreeMap<String, i32>,
}

impl Lines {
    /// The event of a row; at most one, so that its place names it. What only the engine needs gives none.
    pub(super) fn event(&mut self, row: &EventRow, journal: &Journal) -> Option<BuildEvent> {
        let kind = match row.kind.as_str() {
            "run" => self.run(row, journal)?,
            "output" => self.output(row)?,
            "status" => status(row)?,
            "note" => BuildEventKind::Message { message: row.payload.clone()? },
            "ending" => self.ending(row)?,
            _ => return None,
        };
        Some(BuildEvent { seq: row.seq, at: Time(row.at.0), step: row.step.clone(), kind })
    }

    fn run(&mut self, row: &EventRow, journal: &Journal) -> Option<BuildEventKind> {
        let step = row.step.as_ref()?;
        match run_event(row)? {
            RunEvent::StepStarted { .. } => {
                Some(BuildEventKind::Started { worker: journal.workers.get(step).cloned() })
            }
            RunEvent::StepFinished { outcome, .. } => Some(BuildEventKind::Finished {
                outcome: match outcome {
                    Outcome::Succeeded => StepOutcome::Succeeded,
                    Outcome::Failed => StepOutcome::Failed,
                    Outcome::Errored => StepOutcome::Errored,
                    Outcome::Aborted => StepOutcome::Aborted,
                },
                exit_status: self.exit_status.remove(step),
            }),
            RunEvent::Start | RunEvent::TimerFired { .. } | RunEvent::Abort => None,
        }
    }

    /// What a step printed, as text. A character that is cut by the end of a row comes with the next one.
    fn output(&mut self, row: &EventRow) -> Option<BuildEventKind> {
        let stream = match row.payload.as_deref() {
            Some("stderr") => OutputStream::Stderr,
            _ => OutputStream::Stdout,
        };
        let partial = self.partial.entry((row.step.clone().unwrap_or_default(), stream)).or_default();
        let mut bytes = std::mem::take(partial);
        bytes.extend_from_slice(row.bytes.as_deref().unwrap_or_default());
        let whole = whole_characters(&bytes);
        partial.extend_from_slice(&bytes[whole..]);
        let text = String::from_utf8_lossy(&bytes[..whole]).into_owned();
        (!text.is_empty()).then_some(BuildEventKind::Output { stream, text })
    }

    /// How an attempt ended: its version is an event, its exit status comes with the step's end.
    fn ending(&mut self, row: &EventRow) -> Option<BuildEventKind> {
        let Ending::Exited { status, result, .. } = serde_json::from_str(row.payload.as_deref()?).ok()? else {
            return None;
        };
        self.exit_status.insert(row.step.clone()?, status);
        let result = result?;
        let metadata = result.metadata.into_iter().map(|field| MetadataField { name: field.name, value: field.value });
        Some(BuildEventKind::Version { version: result.version, metadata: metadata.collect() })
    }
}

fn status(row: &EventRow) -> Option<BuildEventKind> {
    let payload: serde_json::Value = serde_json::from_str(row.payload.as_deref()?).ok()?;
    Some(BuildEventKind::Status { status: BuildStatus::from_name(payload.get("status")?.as_str()?)? })
}

/// How many of these bytes are whole characters, or none at all: a character of UTF-8 that is cut at the end is left
/// for later.
fn whole_characters(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let first = bytes[bytes.len() - back];
        let length = match first {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            0x80..=0xBF => continue,
            _ => 1,
        };
        return if length > back { bytes.len() - back } else { bytes.len() };
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seq: i64, kind: &str, payload: &str, bytes: &[u8]) -> EventRow {
        EventRow {
            seq,
            at: Timestamp(seq),
            kind: kind.to_owned(),
            step: Some("1".to_owned()),
            payload: Some(payload.to_owned()),
            bytes: (!bytes.is_empty()).then(|| bytes.to_vec()),
        }
    }

    fn kinds(rows: Vec<EventRow>) -> Vec<BuildEventKind> {
        let journal = Journal {
            rows,
            workers: BTreeMap::from([("1".to_owned(), "w1".to_owned())]),
            holds: Vec::new(),
            started: true,
            ended_at: None,
        };
        let mut lines = Lines::default();
        journal.rows.iter().filter_map(|row| lines.event(row, &journal)).map(|event| event.kind).collect()
    }

    #[test]
    fn a_character_that_two_rows_share_arrives_whole() {
        let euro = "€".as_bytes();
        let text = |text: &str| BuildEventKind::Output { stream: OutputStream::Stdout, text: text.to_owned() };
        let rows = vec![
            row(0, "output", "stdout", &[b"a", &euro[..1]].concat()),
            row(1, "output", "stdout", &euro[1..2]),
            row(2, "output", "stderr", b"other"),
            row(3, "output", "stdout", &[&euro[2..], b"b\xFF"].concat()),
        ];
        let other = BuildEventKind::Output { stream: OutputStream::Stderr, text: "other".to_owned() };
        assert_eq!(kinds(rows), [text("a"), other, text("€b\u{FFFD}")]);
    }

    #[test]
    fn only_what_may_still_become_a_character_is_held_back() {
        for (bytes, whole) in [
            (&b""[..], 0),
            (b"abc", 3),
            (b"a\xE2\x82", 1),
            (b"a\xF0\x9F\x98", 1),
            (b"a\x80\x80\x80", 4),
            (b"a\xE2\x82\xAC", 4),
            (b"\xFF", 1),
        ] {
            assert_eq!(whole_characters(bytes), whole, "{bytes:?}");
        }
    }

    #[test]
    fn each_kind_of_row_gives_its_event_and_unknown_ones_give_none() {
        let ending = r#"{"ending":"exited","status":0,"result":{"version":{"v":"1"},"metadata":[{"name":"n","value":"x"}]},"artifacts":[]}"#;
        let rows = vec![
            row(0, "status", r#"{"status":"started","reason":null}"#, b""),
            row(1, "run", r#"{"event":"start"}"#, b""),
            row(2, "run", r#"{"event":"step_started","step":"1"}"#, b""),
            row(3, "note", "hello", b""),
            row(4, "ending", ending, b""),
            row(5, "run", r#"{"event":"step_finished","step":"1","outcome":"succeeded"}"#, b""),
            row(6, "of-a-later-version", "{}", b""),
            row(7, "run", "not JSON", b""),
        ];
        assert_eq!(
            kinds(rows),
            [
                BuildEventKind::Status { status: BuildStatus::Started },
                BuildEventKind::Started { worker: Some("w1".to_owned()) },
                BuildEventKind::Message { message: "hello".to_owned() },
                BuildEventKind::Version {
                    version: BTreeMap::from([("v".to_owned(), "1".to_owned())]),
                    metadata: vec![MetadataField { name: "n".to_owned(), value: "x".to_owned() }],
                },
                BuildEventKind::Finished { outcome: StepOutcome::Succeeded, exit_status: Some(0) },
            ]
        );
    }
}
