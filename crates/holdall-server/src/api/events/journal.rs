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
    /// Whether none came after them.
    pub(super) is_whole: bool,
    /// The beginning of each step that started in them.
    pub(super) begun: BTreeMap<String, Begun>,
    /// What holds the build back.
    pub(super) holds: Vec<Hold>,
    /// Whether the build has started.
    pub(super) started: bool,
    /// When the build ended.
    pub(super) ended_at: Option<Timestamp>,
}

/// How a step began.
#[derive(Debug)]
pub(super) struct Begun {
    /// Its worker.
    pub(super) worker: String,
    /// When, by the worker's clock.
    pub(super) at: Option<Timestamp>,
}

/// The beginnings of the steps that started in these rows.
pub(super) fn begun(tx: &mut Tx<'_>, build: BuildId, rows: &[EventRow]) -> Result<BTreeMap<String, Begun>, StoreError> {
    let mut begun = BTreeMap::new();
    for row in rows.iter().filter(|row| row.kind == "run") {
        if let (Some(step), Some(RunEvent::StepStarted { .. })) = (&row.step, run_event(row))
            && let Some((worker, at)) = attempts::attempt_start_of_step(tx, build, step)?
        {
            begun.insert(step.clone(), Begun { worker, at });
        }
    }
    Ok(begun)
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
    /// How and when the process of a step ended that is about to be reported as finished.
    ended: BTreeMap<String, (Option<i32>, Timestamp)>,
}

impl Lines {
    /// The event of a row; at most one, so that its place names it. What only the engine needs gives none.
    pub(super) fn event(&mut self, row: &EventRow, journal: &Journal) -> Option<BuildEvent> {
        let mut at = row.at;
        let kind = match row.kind.as_str() {
            "run" => {
                let (kind, shown) = self.run(row, journal)?;
                at = shown.unwrap_or(at);
                kind
            }
            "output" => self.output(row)?,
            "status" => status(row)?,
            "note" => BuildEventKind::Message { message: row.payload.clone()? },
            "ending" => self.ending(row)?,
            _ => return None,
        };
        Some(BuildEvent { seq: row.seq, at: Time(at.0), step: row.step.clone(), kind })
    }

    /// What happened to a step, and when by its worker's clock: the row has the time by which the server decides.
    fn run(&mut self, row: &EventRow, journal: &Journal) -> Option<(BuildEventKind, Option<Timestamp>)> {
        let step = row.step.as_ref()?;
        match run_event(row)? {
            RunEvent::StepStarted { .. } => {
                let begun = journal.begun.get(step);
                let worker = begun.map(|begun| begun.worker.clone());
                Some((BuildEventKind::Started { worker }, begun.and_then(|begun| begun.at)))
            }
            RunEvent::StepFinished { outcome, .. } => Some(self.finished(step, outcome)),
            RunEvent::StepLost { .. } => Some(self.finished(step, Outcome::Errored)),
            RunEvent::Start | RunEvent::TimerFired { .. } | RunEvent::Abort => None,
        }
    }

    fn finished(&mut self, step: &str, outcome: Outcome) -> (BuildEventKind, Option<Timestamp>) {
        let (exit_status, at) = self.ended.remove(step).map_or((None, None), |(how, at)| (how, Some(at)));
        let outcome = match outcome {
            Outcome::Succeeded => StepOutcome::Succeeded,
            Outcome::Failed => StepOutcome::Failed,
            Outcome::Errored => StepOutcome::Errored,
            Outcome::Aborted => StepOutcome::Aborted,
        };
        (BuildEventKind::Finished { outcome, exit_status }, at)
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

    /// How an attempt ended: its version is an event, its time and its exit status come with the step's end.
    fn ending(&mut self, row: &EventRow) -> Option<BuildEventKind> {
        let (status, result) = match serde_json::from_str(row.payload.as_deref()?).ok()? {
            Ending::Exited { status, result, .. } => (Some(status), result),
            _ => (None, None),
        };
        self.ended.insert(row.step.clone()?, (status, row.at));
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
        events(rows).into_iter().map(|event| event.kind).collect()
    }

    fn events(rows: Vec<EventRow>) -> Vec<BuildEvent> {
        let begun = Begun { worker: "w1".to_owned(), at: Some(Timestamp(-7)) };
        let journal = Journal {
            rows,
            is_whole: true,
            begun: BTreeMap::from([("1".to_owned(), begun)]),
            holds: Vec::new(),
            started: true,
            ended_at: None,
        };
        let mut lines = Lines::default();
        journal.rows.iter().filter_map(|row| lines.event(row, &journal)).collect()
    }

    #[test]
    fn a_step_began_and_ended_when_its_worker_says() {
        let finished = r#"{"event":"step_finished","step":"1","outcome":"succeeded"}"#;
        let rows = vec![
            row(1, "run", r#"{"event":"step_started","step":"1"}"#, b""),
            EventRow { at: Timestamp(-5), ..row(2, "ending", r#"{"ending":"timed_out"}"#, b"") },
            row(3, "run", finished, b""),
            row(4, "run", finished, b""),
        ];
        let times: Vec<(i64, i64)> = events(rows).into_iter().map(|event| (event.seq, event.at.0)).collect();
        assert_eq!(times, [(1, -7), (3, -5), (4, 4)]);
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
