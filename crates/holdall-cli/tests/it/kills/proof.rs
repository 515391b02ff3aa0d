//! What is looked at when all is over: what steps wrote down themselves, the journals and the audit log, straight from
//! the database.

use std::collections::{BTreeMap, BTreeSet};

use holdall_engine::status::BuildStatus;
use holdall_engine::time::Timestamp;
use holdall_protocol::worker::Ending;
use holdall_store::audit::{AuditRow, audit_list};
use holdall_store::builds::BuildRow;
use holdall_store::events::EventRow;

use super::{CHAIN, LINES, Run};

/// A build and a step of it.
type Key = (i64, String);

/// The steps that ran, as they wrote it down themselves.
#[derive(Default)]
struct Ran {
    /// What they are called.
    begun: BTreeMap<Key, String>,
    ended: BTreeSet<Key>,
}

impl Run {
    /// Looks at everything that is left behind. `killed`: the attempts whose shims were killed.
    pub fn assert_whole(&self, killed: &BTreeSet<String>) {
        let killed: BTreeSet<Key> = killed.iter().map(|attempt| key(attempt)).collect();
        let ran = self.ran_steps();
        for step in ran.begun.keys().filter(|step| !ran.ended.contains(step)) {
            assert!(killed.contains(step), "{step:?} did not come to its end, and its shim was not killed");
        }
        let (mut whole, mut holdings) = (BTreeSet::new(), Vec::new());
        for (build, journal) in self.place.journals("data") {
            whole.extend(assert_journal(&build, &journal, &ran, &killed));
            holdings.extend(journal.iter().filter_map(|row| Some((row.at, fence(row)?))));
        }
        holdings.sort_by_key(|(at, _)| *at);
        assert_fences(&holdings);
        let missing: Vec<&Key> = ran.begun.keys().filter(|key| !whole.contains(key) && !killed.contains(key)).collect();
        assert!(missing.is_empty(), "steps ran of which there is no output: {missing:?}");
        // The last bag went the whole way.
        assert!(ran.ended.len() >= CHAIN.len() * 4, "only {} steps ran", ran.ended.len());
        let mut acts = self.place.store("data").read_blocking(|tx| audit_list(tx, None, None, i64::MAX)).unwrap();
        acts.reverse();
        assert_acts(&acts);
    }

    /// None ran twice, and applies did not overlap.
    fn ran_steps(&self) -> Ran {
        let mut ran = Ran::default();
        for line in self.steps_log().lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [what, name, attempt] = words[..] else { panic!("{line:?} was not written by a step") };
            let key = key(attempt);
            match what {
                "begin" => {
                    let before = ran.begun.insert(key, name.to_owned());
                    assert_eq!(before, None, "{attempt} is not the first that ran the step");
                }
                "end" => assert!(ran.ended.insert(key), "{attempt} ended twice"),
                _ => panic!("{line}"),
            }
        }
        ran
    }
}

/// Of an attempt: BUILD-STEP-FENCE.
fn key(attempt: &str) -> Key {
    let (build_and_step, _fence) = attempt.rsplit_once('-').unwrap();
    let (build, step) = build_and_step.split_once('-').unwrap();
    (build.parse().unwrap(), step.to_owned())
}

/// Looks at one journal; gives the steps whose output is whole.
fn assert_journal(build: &BuildRow, journal: &[EventRow], ran: &Ran, killed: &BTreeSet<Key>) -> Vec<Key> {
    let place = format!("{}/{} {}", build.team, build.job_name, build.name);
    let seqs: Vec<i64> = journal.iter().map(|row| row.seq).collect();
    assert_eq!(seqs, (0..journal.len() as i64).collect::<Vec<_>>(), "the journal of {place} has gaps");
    let mut outputs: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    let mut broken = false;
    let mut well = BTreeSet::new();
    for row in journal {
        let step = row.step.as_deref().unwrap_or_default();
        match row.kind.as_str() {
            "output" => outputs.entry(step).or_default().extend(row.bytes.as_deref().unwrap()),
            "ending" => {
                let ending: Ending = serde_json::from_str(row.payload.as_deref().unwrap()).unwrap();
                if matches!(ending, Ending::Exited { status: 0, .. }) {
                    assert!(well.insert(step), "{place}: {step} ended twice");
                } else {
                    let shim_was_killed = killed.contains(&(build.id.0, step.to_owned()));
                    assert!(shim_was_killed, "{place}: {step} ended with {ending:?}");
                    broken = true;
                }
            }
            _ => {}
        }
    }
    let begun = journal.iter().any(|row| row.kind == "output");
    match build.status {
        BuildStatus::Succeeded => assert!(!broken, "{place} succeeded: {journal:#?}"),
        BuildStatus::Errored | BuildStatus::Failed => assert!(broken, "{place}: {journal:#?}"),
        // What waited for a deployment that a person ended.
        BuildStatus::Aborted => assert!(!begun, "{place}: {journal:#?}"),
        BuildStatus::Pending | BuildStatus::Started => panic!("{place} has not ended"),
    }
    let mut whole = Vec::new();
    for (step, output) in outputs {
        let key = (build.id.0, step.to_owned());
        let Some(name) = ran.begun.get(&key) else { continue };
        let expected: String = (1..=LINES).map(|line| format!("{name} {line}\n")).collect();
        if !well.contains(step) {
            let length = output.len();
            assert!(expected.as_bytes().starts_with(&output), "{place} {name}: the first {length} bytes are wrong");
            continue;
        }
        let text = String::from_utf8(output).unwrap();
        let first = text.lines().zip(expected.lines()).position(|(line, expected)| line != expected);
        assert!(text == expected, "{place} {name}: {} lines, wrong from {first:?}", text.lines().count());
        assert!(ran.ended.contains(&key), "{place} {name} has not ended");
        whole.push(key);
    }
    whole
}

/// The lock that a build said that it works under, and the fence: `... holds the lock of preview, fence 5`.
fn fence(row: &EventRow) -> Option<(String, i64)> {
    let text = row.payload.as_deref().filter(|_| row.kind == "note")?;
    let (_, holding) = text.split_once(" holds the lock of ")?;
    let (lock, fence) = holding.split_once(", fence ")?;
    Some((lock.to_owned(), fence.parse().unwrap()))
}

/// Nobody worked under a lock after somebody had got it later.
fn assert_fences(holdings: &[(Timestamp, (String, i64))]) {
    let mut newest: BTreeMap<&str, i64> = BTreeMap::new();
    for (at, (lock, fence)) in holdings {
        let before = newest.insert(lock, *fence).unwrap_or(0);
        assert!(before <= *fence, "{lock}: fence {fence} after {before}, at {at:?}");
    }
    assert_eq!(newest.len(), CHAIN.len(), "{newest:?}");
}

/// No act is missing, and nobody got a lock that another one had.
fn assert_acts(acts: &[AuditRow]) {
    let ids: Vec<i64> = acts.iter().map(|act| act.id).collect();
    assert_eq!(ids, (1..=acts.len() as i64).collect::<Vec<_>>(), "the audit log has gaps");
    let mut holders: BTreeMap<&str, &str> = BTreeMap::new();
    // What people did to a lock is there beside what became of it.
    for act in acts.iter().filter(|act| act.origin == "engine") {
        let Some(lock) = act.target.strip_prefix("lock/") else { continue };
        let (before, after) = (act.before.as_deref(), act.after.as_deref());
        match act.act.as_str() {
            "lock_granted" => {
                let other = holders.insert(lock, after.unwrap());
                assert_eq!(other, None, "{act:?}: it was held");
            }
            "lock_handed_to_deployment" => {
                assert!(holders.insert(lock, after.unwrap()).is_some(), "{act:?}: it was not held");
            }
            "lock_released" | "lock_expired" | "force_unlock" => {
                assert_eq!(holders.remove(lock), before, "{act:?}: that one did not hold it");
            }
            _ => {}
        }
    }
    assert_eq!(holders, BTreeMap::new(), "a lock is still held");
}
