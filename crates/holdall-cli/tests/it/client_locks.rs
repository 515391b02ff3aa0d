//! Taking locks, and holding one while a command runs.

use std::path::PathBuf;
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::fake::{Answer, Fake, Ran, error, eventually, finish, unexpected};

fn granted() -> Value {
    json!({"answer": "granted", "token": "t-1", "fence": 9, "until": "2026-11-24T10:15:02Z"})
}

fn lock() -> Value {
    json!({
        "environment": "staging", "systems": ["notify"], "held_after_unlock": null,
        "holders": [{
            "kind": "person", "name": "ann", "mode": "exclusive", "reason": "load test", "ticket": null,
            "since": "2026-11-24T10:15:02Z", "until": null, "expected_end": null, "fence": 8, "system": null, "bag": null,
        }],
        "queue": [],
    })
}

/// A server that grants the lock, and renews it until that file is there.
fn granting_until(file: PathBuf) -> Fake {
    Fake::start(move |seen| match seen.line().as_str() {
        "POST locks/staging/acquire" => Answer::Json(200, granted()),
        "POST locks/staging/renew" if !file.exists() => {
            Answer::Json(200, json!({"token": "t-1", "fence": 9, "until": "2026-11-24T10:15:02Z"}))
        }
        "POST locks/staging/renew" => error(409, "lock_lost", "ben forced the lock", json!({})),
        "POST locks/staging/release" => Answer::Json(200, json!({})),
        _ => unexpected(seen),
    })
}

/// A server that grants the lock and renews it for ever.
fn granting() -> Fake {
    granting_until(PathBuf::from("/nowhere/at/all"))
}

fn spawn(fake: &Fake, args: &[&str]) -> Child {
    fake.command(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn released(fake: &Fake) -> Vec<Value> {
    fake.seen_at("POST locks/staging/release").into_iter().map(|seen| seen.body["token"].clone()).collect()
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id() as i32), signal).unwrap();
}

#[test]
fn the_code_is_the_command_s_and_the_lock_is_given_back() {
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137)] {
        let fake = granting();
        let ran = fake.run(&["lock", "run", "staging", "--reason", "test", "--", "sh", "-c", script]);
        assert_eq!(ran.code, code, "{script}: {}", ran.err);
        assert_eq!(released(&fake), ["t-1"], "{script}");
    }
    let fake = granting();
    let ran = fake.run(&["lock", "run", "staging", "--", "/no/such/command"]);
    assert_eq!(ran.code, 127);
    assert!(ran.err.contains("/no/such/command could not be started"), "{}", ran.err);
    assert_eq!(released(&fake), ["t-1"], "given back although nothing ran");
    let request = &fake.seen_at("POST locks/staging/acquire")[0].body;
    assert_eq!((&request["reason"], &request["for_seconds"]), (&json!("runs /no/such/command"), &json!(600)));
}

#[test]
fn the_command_sees_the_fence_and_its_own_streams() {
    let fake = granting();
    let script = "echo $HOLDALL_LOCK $HOLDALL_LOCK_FENCE; echo oops >&2; cat";
    let ran = fake.run(&["lock", "run", "staging", "--", "sh", "-c", script]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "staging 9\n", "oops\n"));
}

#[test]
fn a_lost_lock_stops_the_command_and_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let ready = folder.path().join("ready");
    let fake = granting_until(ready.clone());
    let below = format!("trap 'echo below; exit 0' TERM; : > {}; while :; do sleep 0.05; done", ready.display());
    let script = format!("trap 'echo stopped' TERM; sh -c \"{below}\" & while ! wait; do :; done");
    let args = ["lock", "run", "staging", "--lease", "1s", "--", "sh", "-c", &script];
    let ran = finish(spawn(&fake, &args));
    assert_eq!(ran.code, 75, "{ran:?}");
    assert!(ran.out.contains("stopped") && ran.out.contains("below"), "{ran:?}");
    assert!(ran.err.contains("the lock of staging is lost: ben forced the lock; stopping the command"), "{ran:?}");
}

#[test]
fn a_command_that_does_not_end_is_killed_after_the_grace() {
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let fake = granting_until(pid.clone());
    let script =
        format!("trap '' TERM; echo $$ > {0}.new; mv {0}.new {0}; while :; do sleep 0.05; done", pid.display());
    let ran =
        finish(spawn(&fake, &["lock", "run", "staging", "--lease", "1s", "--grace", "1s", "--", "sh", "-c", &script]));
    assert_eq!(ran.code, 75, "{ran:?}");
    let pid = Pid::from_raw(std::fs::read_to_string(&pid).unwrap().trim().parse().unwrap());
    assert_eq!(kill(pid, None), Err(nix::errno::Errno::ESRCH), "the command is still there");
}

#[test]
fn a_server_that_is_away_for_longer_than_the_lease_is_a_lost_lock() {
    let fake = Fake::start(|seen| match seen.line().as_str() {
        "POST locks/staging/acquire" => Answer::Json(200, granted()),
        _ => error(503, "unavailable", "the server is stopping", json!({})),
    });
    let ran = finish(spawn(&fake, &["lock", "run", "staging", "--lease", "1s", "--", "sleep", "600"]));
    assert_eq!(ran.code, 75, "{ran:?}");
    assert!(fake.seen_at("POST locks/staging/renew").len() > 1, "it tries until the lease is over");
    assert!(ran.err.contains("was not given back"), "{ran:?}");
}

#[test]
fn a_signal_reaches_the_command_and_the_lock_is_given_back() {
    for (number, name) in [(Signal::SIGINT, "INT"), (Signal::SIGTERM, "TERM")] {
        let fake = granting();
        let folder = tempfile::tempdir().unwrap();
        let ready = folder.path().join("ready");
        let script =
            format!("trap 'echo got {name}; exit 5' {name}; : > {}; while :; do sleep 0.05; done", ready.display());
        let child = spawn(&fake, &["lock", "run", "staging", "--", "sh", "-c", &script]);
        eventually("the command runs", || ready.exists());
        signal(&child, number);
        let ran = finish(child);
        assert_eq!((ran.code, ran.out.as_str()), (5, &*format!("got {name}\n")), "{ran:?}");
        assert_eq!(released(&fake), ["t-1"]);
    }
}

#[test]
fn a_lock_that_is_taken_is_told_at_once() {
    let fake = Fake::start(|_| error(423, "locked", "staging is locked", json!({"lock": lock()})));
    for args in [
        &["lock", "acquire", "staging", "--reason", "x"][..],
        &["lock", "run", "staging", "--reason", "x", "--", "sh", "-c", "echo it ran"],
    ] {
        let ran = fake.run(args);
        assert_eq!((ran.code, ran.out.as_str()), (3, ""), "{args:?}");
        assert!(ran.err.starts_with("holdall: staging is locked\n  held by person ann for "), "{}", ran.err);
        assert!(ran.err.contains(": load test\n") && ran.err.contains("--wait"), "{}", ran.err);
    }
}

/// A server that queues once, and then answers so.
fn queueing(then: fn() -> Answer) -> Fake {
    Fake::start(move |seen| match (seen.line().as_str(), seen.body["place"].as_str()) {
        ("POST locks/staging/acquire", None) => {
            let queued =
                json!({"answer": "queued", "place": "p-1", "position": 2, "lock": lock(), "lapses_seconds": 60});
            Answer::Json(200, queued)
        }
        ("POST locks/staging/acquire", Some("p-1")) => then(),
        ("POST locks/staging/release", _) => Answer::Json(200, json!({})),
        _ => unexpected(seen),
    })
}

#[test]
fn waiting_asks_again_with_its_place() {
    let fake = queueing(|| Answer::Json(200, granted()));
    let ran = fake.run(&["lock", "acquire", "staging", "--reason", "x", "--wait", "--for", "2h", "-o", "json"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(ran.json(), json!({"token": "t-1", "fence": 9, "until": "2026-11-24T10:15:02Z"}));
    assert!(ran.err.contains("waiting for the lock of staging, position 2\n  held by person ann"), "{}", ran.err);
    let request = &fake.seen()[0].body;
    assert_eq!((&request["for_seconds"], &request["wait"]), (&json!(7200), &json!(true)));
}

#[test]
fn leaving_gives_the_place_back() {
    let fake = queueing(|| {
        let queued = json!({"answer": "queued", "place": "p-1", "position": 1, "lock": lock(), "lapses_seconds": 60});
        Answer::Json(200, queued)
    });
    let child = spawn(&fake, &["lock", "acquire", "staging", "--reason", "x", "--wait"]);
    eventually("it waits", || fake.seen().len() >= 2);
    signal(&child, Signal::SIGINT);
    let ran: Ran = finish(child);
    assert_eq!(ran.code, 130, "{ran:?}");
    assert_eq!(released(&fake), ["p-1"]);
}
