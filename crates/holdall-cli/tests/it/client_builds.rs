//! Following builds.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::fake::{Answer, Fake, Seen, error, list, unexpected};

fn build(status: &str) -> Value {
    json!({
        "id": 7, "name": "3.1", "team": "staging", "pipeline": "deploy-notify", "job": "test", "status": status,
        "created_at": "2026-11-24T10:15:02Z", "started_at": null, "ended_at": null, "created_by": null,
        "rerun_of": null, "system": null, "environment": null, "deployment": null, "bag": null, "note": null,
        "guarded": false, "aborting": false, "inputs": [], "outputs": [], "report": [],
    })
}

fn plan() -> Value {
    json!({"id": "1", "kind": "task", "name": "smoke", "role": "step", "steps": []})
}

fn event(seq: i64, step: Option<&str>, kind: Value) -> String {
    let mut event = json!({"seq": seq, "at": "2026-11-24T10:15:02Z", "step": step});
    event.as_object_mut().unwrap().extend(kind.as_object().unwrap().clone());
    format!("id: {seq}\ndata: {event}\n\n")
}

fn stream(text: String) -> Answer {
    Answer::Raw(200, "text/event-stream", text.into_bytes())
}

fn others(seen: &Seen) -> Answer {
    match seen.line().as_str() {
        "GET builds/7" => Answer::Json(200, build("started")),
        "GET builds/7/plan" => Answer::Json(200, plan()),
        _ => unexpected(seen),
    }
}

#[test]
fn the_exit_code_is_the_build_s_status() {
    for (status, code) in [("succeeded", 0), ("failed", 1), ("errored", 2), ("aborted", 3)] {
        let fake = Fake::start(move |seen| match seen.line().as_str() {
            "GET builds/7/events" => stream(
                event(1, Some("1"), json!({"kind": "started", "worker": null}))
                    + &event(2, Some("1"), json!({"kind": "output", "stream": "stdout", "text": "hello"}))
                    + &event(3, Some("1"), json!({"kind": "finished", "outcome": "failed", "exit_status": 7}))
                    + &event(4, None, json!({"kind": "status", "status": status}))
                    + &event(5, None, json!({"kind": "end"})),
            ),
            _ => others(seen),
        });
        let ran = fake.run(&["build", "watch", "7"]);
        assert_eq!(ran.code, code, "{status}: {}", ran.err);
        assert_eq!(ran.out, "hello\n", "what is said never lands in the middle of a line");
        assert_eq!(
            ran.err,
            format!(
                "staging/deploy-notify/test #3.1 (build 7)\ntask smoke\ntask smoke: failed (exit status 7)\n{status}\n"
            )
        );
    }
}

#[test]
fn a_connection_that_breaks_is_taken_up_where_it_was() {
    let calls = AtomicUsize::new(0);
    let fake = Fake::start(move |seen| match seen.line().as_str() {
        "GET builds/7/events" => match (calls.fetch_add(1, Ordering::SeqCst), seen.header("last-event-id")) {
            (0, None) => {
                let whole = event(1, Some("1"), json!({"kind": "output", "stream": "stdout", "text": "one "}));
                let cut = event(2, Some("1"), json!({"kind": "output", "stream": "stdout", "text": "two "}));
                stream(whole + &cut[..cut.len() - 2])
            }
            (1, Some("1")) => error(503, "unavailable", "the server is stopping", json!({})),
            (2, Some("1")) => stream(
                event(2, Some("1"), json!({"kind": "output", "stream": "stdout", "text": "two\n"}))
                    + ": still there\n\n"
                    + &event(3, None, json!({"kind": "status", "status": "succeeded"})),
            ),
            (3, Some("3")) => stream(event(4, None, json!({"kind": "end"}))),
            (call, last) => panic!("call {call} with {last:?}"),
        },
        _ => others(seen),
    });
    let ran = fake.run(&["build", "watch", "7"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "one two\n"), "{}", ran.err);
    assert!(ran.err.contains("waiting for the server"), "{}", ran.err);
}

#[test]
fn a_stream_that_is_none_is_an_error() {
    let fake = Fake::start(|seen| match seen.line().as_str() {
        "GET builds/7/events" => stream("id: 1\ndata: {\"seq\": \"x\"}\n\n".to_owned()),
        _ => others(seen),
    });
    let ran = fake.run(&["build", "watch", "7"]);
    assert_eq!(ran.code, 6, "{}", ran.err);
    assert!(ran.err.contains("an event of the build cannot be read"), "{}", ran.err);
    let fake = Fake::start(|_| error(404, "not_found", "there is no build 7", json!({})));
    assert_eq!(fake.run(&["build", "watch", "7"]).code, 4);
}

#[test]
fn a_log_is_the_bytes_that_it_is() {
    let fake = Fake::start(|seen| match seen.line().as_str() {
        "GET builds/7/log" => Answer::Raw(200, "application/octet-stream", b"a\xff\x00\x1b[31mb".repeat(100_000)),
        _ => others(seen),
    });
    let output = fake.command(&["build", "logs", "7"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout == b"a\xff\x00\x1b[31mb".repeat(100_000));
}

#[test]
fn a_build_is_found_by_its_number_in_its_job() {
    let fake = Fake::start(|seen| match seen.line().as_str() {
        "GET builds" if seen.path.contains("team=staging&pipeline=deploy-notify&job=test") => {
            list(json!([build("failed")]))
        }
        "GET builds/7/log" => Answer::Raw(200, "text/plain", b"found\n".to_vec()),
        _ => unexpected(seen),
    });
    assert_eq!(fake.run(&["build", "logs", "staging/deploy-notify/test/3.1"]).out, "found\n");
    let ran = fake.run(&["build", "logs", "staging/deploy-notify/test/4"]);
    assert_eq!(ran.code, 4);
    assert!(ran.err.contains("staging/deploy-notify/test has no build 4"), "{}", ran.err);
}
