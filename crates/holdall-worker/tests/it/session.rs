//! Orders in, facts out, whatever dies in between.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use holdall_protocol::worker::{CheckOrder, Ending, Forgot};
use serde_json::json;

use crate::server::Server;
use crate::support::{HOLDALL, Setup, attempt, eventually, exited, runs, task, task_with};

#[test]
fn checks_give_versions_or_say_what_went_wrong() {
    let setup = Setup::new();
    let check = |id: &str, script: &str, timeout_seconds| CheckOrder {
        check: id.to_owned(),
        resource_type: "scripted".into(),
        source: json!({"check": script}),
        version: Some(BTreeMap::from([("n".into(), "1".into())])),
        timeout_seconds,
    };
    setup.server.order(|orders| {
        orders.checks = vec![
            check("good", r#"echo '[{"n":"1"},{"n":"2"}]'"#, 30.0),
            check("asked", r#"[ "$REQUEST" = '{"source":{"check":"x"}}' ] || echo "$REQUEST" >&2; exit 1"#, 30.0),
            check("none", "true", 30.0),
            check("null", "echo null", 30.0),
            check("bad", "echo cannot reach it >&2; exit 1", 30.0),
            check("odd", "echo 17", 30.0),
            check("empty", "echo '[{}]'", 30.0),
            check("slow", "echo waiting >&2; sleep 1000", 0.3),
            check("leaves", "sleep 1000 & echo '[]'", 0.3),
            check("endless", "yes", 30.0),
            check("../../evil", "pwd >&2; exit 1", 30.0),
        ];
    });
    let checked =
        setup.server.wait("all checks end", |state| (state.checked.len() == 11).then(|| state.checked.clone()));
    assert_eq!(checked["good"].as_ref().unwrap().len(), 2);
    assert_eq!(checked["none"], Ok(vec![]));
    assert_eq!(checked["null"], Ok(vec![]));
    assert!(checked["asked"].as_ref().unwrap_err().contains(r#""version":{"n":"1"}"#), "{checked:?}");
    assert_eq!(checked["bad"], Err("the check failed (exit status: 1): cannot reach it".into()));
    assert!(checked["odd"].as_ref().unwrap_err().contains("something else than a list of versions"), "{checked:?}");
    assert!(checked["empty"].as_ref().unwrap_err().contains("at least one key-value pair"), "{checked:?}");
    assert_eq!(checked["slow"], Err("the check took longer than 0.3 seconds and was stopped: waiting".into()));
    assert!(checked["leaves"].as_ref().unwrap_err().starts_with("the check took longer"), "{checked:?}");
    assert!(checked["endless"].as_ref().unwrap_err().contains("longer than 16777216 bytes"), "{checked:?}");
    let checks = setup.dir.path().canonicalize().unwrap().join("checks");
    let evil = checked["../../evil"].as_ref().unwrap_err();
    assert!(evil.contains(&format!("{}/", checks.display())), "{evil}");
    eventually("nothing is left of the checks", || std::fs::read_dir(&checks).unwrap().next().is_none());
}

/// Prints `lines` numbered lines over some time, and `done`.
fn counting(lines: usize) -> String {
    format!("i=0; while [ $i -lt {lines} ]; do i=$((i+1)); echo line $i; sleep 0.005; done; echo done")
}

fn counted(lines: usize) -> String {
    (1..=lines).map(|i| format!("line {i}\n")).chain(["done\n".to_owned()]).collect()
}

#[test]
fn a_killed_worker_takes_its_steps_up_again_and_nothing_is_missing_or_doubled() {
    let mut setup = Setup::new();
    setup.server.give(attempt("long", task(&counting(300))));
    for line in [20, 60, 100, 140, 180] {
        setup.server.printed("long", &format!("line {line}\n"));
        setup.restart_worker();
    }
    let (ending, seen) = setup.server.finished("long");
    assert_eq!(ending, exited(0, &[]));
    assert_eq!(seen.text(), counted(300));
    // What ended while no worker was there is reported by the next one.
    setup.server.give(attempt(
        "short",
        task("echo ready; while [ -e ../child.json ] && ! [ -e go ]; do sleep 0.01; done; echo end"),
    ));
    setup.server.printed("short", "ready\n");
    setup.kill_worker();
    std::fs::write(setup.folder("short").join("work/go"), "").unwrap();
    eventually("the step ends", || setup.folder("short").join("exit.json").exists());
    setup.start_worker();
    let (ending, seen) = setup.server.finished("short");
    assert_eq!((ending, seen.text().as_str()), (exited(0, &[]), "ready\nend\n"));
}

#[test]
fn a_server_that_is_away_misses_nothing() {
    let mut setup = Setup::new();
    setup.server.give(attempt("long", task(&counting(200))));
    setup.server.give(attempt("short", task(&counting(20))));
    for line in [30, 60, 90] {
        setup.server.printed("long", &format!("line {line}\n"));
        setup.server.down();
        eventually("the step goes on", || {
            let output = std::fs::read(setup.folder("long").join("output")).unwrap();
            String::from_utf8_lossy(&output).contains(&format!("line {}\n", line + 20))
        });
        setup.server.up();
    }
    assert_eq!(setup.server.finished("long").1.text(), counted(200));
    assert_eq!(setup.server.finished("short").1.text(), counted(20));
    let sessions: Vec<_> = setup.server.state().hellos.iter().map(|hello| hello.session.clone()).collect();
    assert!(sessions.len() >= 2 && sessions.iter().all(|session| *session == sessions[0]), "{sessions:?}");
}

#[test]
fn a_server_that_lost_what_it_had_gets_it_again() {
    let mut setup = Setup::new();
    setup.server.give(attempt("one", task("echo one; echo two")));
    setup.server.finished("one");
    // Reports come one after the other: when this one is there, the answer to the one before has arrived.
    setup.run("two", task("echo two"));
    setup.server.down();
    setup.server.state().seen.remove("one");
    setup.server.up();
    let (ending, seen) = setup.server.finished("one");
    assert_eq!((ending, seen.text().as_str(), seen.started), (exited(0, &[]), "one\ntwo\n", 1));
}

#[test]
fn reports_that_fail_are_sent_again() {
    let setup = Setup::new();
    setup.server.state().report_status = Some(500);
    setup.server.give(attempt("one", task("echo one")));
    eventually("the step ends", || setup.folder("one").join("ending.json").exists());
    setup.server.state().report_status = None;
    let (ending, seen) = setup.server.finished("one");
    assert_eq!((ending, seen.text().as_str()), (exited(0, &[]), "one\n"));
}

#[test]
fn what_the_server_cannot_take_of_one_step_keeps_no_other_from_being_reported() {
    let setup = Setup::new();
    let go = setup.dir.path().join("go");
    setup.server.state().damaged.extend(["bad".to_owned(), "check".to_owned()]);
    setup.server.order(|orders| {
        orders.checks.push(CheckOrder {
            check: "check".into(),
            resource_type: "scripted".into(),
            source: json!({"check": "echo '[]'"}),
            version: None,
            timeout_seconds: 30.0,
        });
    });
    let script = format!("echo one; while ! [ -e {} ]; do sleep 0.01; done; echo two", go.display());
    setup.server.give(attempt("bad", task(&script)));
    setup.server.wait("the bad ones are reported", |state| (state.in_vain >= 2).then_some(()));
    assert_eq!(setup.run("good", task("echo good")).1.text(), "good\n");
    setup.server.wait("the bad ones are reported again", |state| (state.in_vain >= 4).then_some(()));
    assert!(runs(setup.pids("bad").0), "nobody wants it stopped");
    assert_eq!(setup.run("better", task("echo better")).1.text(), "better\n");
    std::fs::write(go, "").unwrap();
    eventually("the step ends", || setup.folder("bad").join("ending.json").exists());
    setup.server.state().damaged.clear();
    let (ending, seen) = setup.server.finished("bad");
    assert_eq!((ending, seen.text().as_str(), seen.started), (exited(0, &[]), "one\ntwo\n", 1));
    setup.server.wait("the check is reported", |state| state.checked.get("check").cloned()).unwrap();
    assert!(setup.server.state().in_vain < 20, "it is tried now and then");
}

#[test]
fn a_worker_says_where_it_may_have_forgotten_what_it_has_begun() {
    let mut setup = Setup::new();
    let heard = setup.dir.path().join("welcomed");
    let said = |setup: &Setup, hellos: usize| {
        setup.server.wait("the worker says hello", |state| Some(state.hellos.get(hellos - 1)?.forgot))
    };
    assert_eq!(said(&setup, 1), Some(Forgot::NewFolder));
    eventually("it is noted that the server has heard it", || heard.exists());
    setup.restart_worker();
    assert_eq!(said(&setup, 2), None);
    setup.kill_worker();
    std::fs::write(&heard, "another boot").unwrap();
    setup.start_worker();
    assert_eq!(said(&setup, 3), Some(Forgot::Restart));
}

#[test]
fn an_order_that_comes_twice_is_followed_once() {
    let mut setup = Setup::new();
    let marker = setup.dir.path().join("marker");
    let given =
        attempt("twice", task(&format!("echo x >> {0}; while ! [ -e {0}.go ]; do sleep 0.01; done", marker.display())));
    setup.server.order(|orders| orders.start = vec![given.clone(), given.clone()]);
    eventually("it runs", || marker.exists());
    setup.server.give(given.clone());
    setup.restart_worker();
    setup.server.give(given.clone());
    std::fs::write(marker.with_extension("go"), "").unwrap();
    setup.server.finished("twice");
    setup.server.give(given.clone());
    setup.server.order(|orders| orders.forget.push("twice".into()));
    eventually("it is forgotten", || !setup.folder("twice").exists());
    setup.server.give(given);
    setup.run("after", task("true"));
    assert_eq!(std::fs::read_to_string(&marker).unwrap(), "x\n");
}

#[test]
fn a_stop_that_the_disk_did_not_take_is_tried_again() {
    let setup = Setup::new();
    for id in ["aborted", "refused"] {
        setup.server.give(attempt(id, task("echo ready; while :; do sleep 0.01; done")));
        setup.server.printed(id, "ready\n");
        // Nothing can be written through it.
        std::os::unix::fs::symlink("/nonexistent/stop", setup.folder(id).join("stop")).unwrap();
    }
    let pids = ["aborted", "refused"].map(|id| setup.pids(id).0);
    setup.server.order(|orders| orders.forget.push("refused".into()));
    setup.server.stop("aborted");
    setup.run("after", task("true"));
    assert!(pids.into_iter().all(runs));
    for id in ["aborted", "refused"] {
        std::fs::remove_file(setup.folder(id).join("stop")).unwrap();
    }
    setup.run("later", task("true"));
    assert_eq!(setup.server.finished("aborted").0, Ending::Stopped { killed: false });
    eventually("what nobody wants is gone", || !runs(pids[1]) && !setup.folder("refused").exists());
}

#[test]
fn what_nobody_wants_is_not_begun_where_the_disk_does_not_take_its_stop() {
    let mut setup = Setup::new();
    let (folder, marker) = (setup.folder("waiting"), setup.dir.path().join("marker"));
    setup.kill_worker();
    std::fs::create_dir_all(&folder).unwrap();
    let given = attempt("waiting", task(&format!("touch {}", marker.display())));
    std::fs::write(folder.join("assignment.json"), serde_json::to_vec(&given).unwrap()).unwrap();
    let boot = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap();
    std::fs::write(folder.join("boot"), boot.trim_ascii()).unwrap();
    std::os::unix::fs::symlink("/nonexistent/stop", folder.join("stop")).unwrap();
    setup.server.state().refuse.insert("waiting".into());
    setup.start_worker();
    setup.run("after", task("true"));
    assert!(!marker.exists() && folder.exists());
    std::fs::remove_file(folder.join("stop")).unwrap();
    setup.run("later", task("true"));
    eventually("it is gone", || !folder.exists());
    assert!(!marker.exists());
}

#[test]
fn what_the_server_does_not_want_any_more_is_stopped_and_removed() {
    let mut setup = Setup::new();
    setup.server.give(attempt("refused", task("echo pid=$$; while :; do echo x; sleep 0.01; done")));
    setup.server.give(attempt("dropped", task("echo pid=$$; while :; do sleep 0.01; done")));
    setup.server.printed("refused", "pid=");
    setup.server.printed("dropped", "pid=");
    let (refused, dropped) = (setup.pids("refused").0, setup.pids("dropped").0);
    // Refused in the answer to a report; not named in the answer to hello.
    setup.server.state().refuse.insert("refused".into());
    eventually("the refused one is gone", || !runs(refused) && !setup.folder("refused").exists());
    assert!(runs(dropped));
    setup.kill_worker();
    setup.server.state().refuse.insert("dropped".into());
    setup.start_worker();
    eventually("the dropped one is gone", || !runs(dropped) && !setup.folder("dropped").exists());
    // One that was not started yet is not started for that.
    let folder = setup.folder("waiting");
    setup.kill_worker();
    std::fs::create_dir(&folder).unwrap();
    let marker = setup.dir.path().join("marker");
    let given = attempt("waiting", task(&format!("touch {}", marker.display())));
    std::fs::write(folder.join("assignment.json"), serde_json::to_vec(&given).unwrap()).unwrap();
    setup.server.state().refuse.insert("waiting".into());
    setup.start_worker();
    eventually("the waiting one is gone", || !folder.exists());
    assert!(!marker.exists());
}

#[test]
fn a_server_that_begins_anew_may_give_the_ids_of_before() {
    let mut setup = Setup::new();
    setup.server.state().installation = Some("before".to_owned());
    setup.restart_worker();
    setup.server.give(attempt("1-1-1", task("echo pid=$$; while :; do sleep 0.01; done")));
    setup.server.printed("1-1-1", "pid=");
    let before = setup.pids("1-1-1").0;
    // Another database, in which nothing has run yet: what the worker has is not of it.
    setup.server.down();
    {
        let mut state = setup.server.state();
        state.installation = Some("anew".to_owned());
        state.seen.clear();
        state.refuse.insert("1-1-1".into());
    }
    setup.server.up();
    eventually("the one of before is gone", || !runs(before) && !setup.folder("1-1-1").exists());
    setup.server.state().refuse.clear();
    setup.server.give(attempt("1-1-1", task("echo anew")));
    assert_eq!(setup.server.finished("1-1-1").1.text(), "anew\n");
}

#[test]
fn what_builds_of_another_installation_made_is_not_taken_for_this_ones() {
    let mut setup = Setup::new();
    setup.server.state().installation = Some("0".to_owned());
    setup.restart_worker();
    let output = |name: &str| json!({"outputs": [{"name": name}]});
    let make = |text: &str| task_with(&format!("echo {text} > out/file"), output("out"));
    for (installation, is_dead) in [("1", false), ("2", true)] {
        let [makes, stopped, sees] = [1, 2, 3].map(|step| format!("1-{step}-{installation}"));
        assert_eq!(setup.run(&makes, make("before")).0, exited(0, &["out"]));
        // It makes something when it is stopped, too.
        let stops = "trap 'echo late > late/file; exit 0' TERM; echo ready; while :; do sleep 0.01; done";
        setup.server.give(attempt(&stopped, task_with(stops, output("late"))));
        setup.server.printed(&stopped, "ready\n");
        if is_dead {
            setup.kill_worker();
        } else {
            setup.server.down();
        }
        {
            let mut state = setup.server.state();
            state.installation = Some(installation.to_owned());
            state.seen.clear();
            // It knows nothing of them; or of others that have the same ids.
            if !is_dead {
                state.refuse.extend([makes.clone(), stopped.clone()]);
            }
        }
        if is_dead {
            setup.start_worker();
        } else {
            setup.server.up();
        }
        eventually("what is of before is gone", || !setup.folder(&stopped).exists() && !setup.folder(&makes).exists());
        {
            let mut state = setup.server.state();
            state.seen.clear();
            state.refuse.clear();
        }
        assert_eq!(setup.run(&makes, make("anew")).0, exited(0, &["out"]));
        let see = task_with("cat out/file", json!({"inputs": [{"name": "out"}]}));
        assert_eq!(setup.run(&sees, see).1.text(), "anew\n");
        let artifacts = std::fs::read_dir(setup.dir.path().join("builds/1/artifacts")).unwrap();
        assert_eq!(artifacts.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>(), ["out"]);
    }
}

#[test]
fn what_ended_builds_have_left_is_removed_when_the_worker_is_back() {
    let mut setup = Setup::new();
    setup.run("one", task_with("true", json!({"outputs": [{"name": "out"}]})));
    let builds = setup.dir.path().join("builds");
    std::fs::create_dir_all(builds.join("7/volumes/some")).unwrap();
    setup.server.state().ended.insert(7);
    setup.restart_worker();
    eventually("what is left is removed", || !builds.join("7").exists());
    assert!(builds.join("1/artifacts/out").exists());
}

#[test]
fn a_second_worker_of_the_same_name_ends_the_first_and_its_steps_go_on() {
    let mut setup = Setup::new();
    setup.server.give(attempt("one", task(&counting(100))));
    setup.server.printed("one", "line 1\n");
    let other = tempfile::tempdir().unwrap();
    let second = crate::support::WorkerProcess::start(&setup.server.url(), other.path());
    setup.server.wait("the second says hello", |state| (state.hellos.len() == 2).then_some(()));
    let mut first = setup.worker.take().unwrap();
    assert!(!first.0.wait().unwrap().success());
    second.kill();
    setup.start_worker();
    assert_eq!(setup.server.finished("one").1.text(), counted(100));
}

#[test]
fn a_worker_that_cannot_work_says_why() {
    let server = Server::start();
    let setup = Setup::new();
    let worker = |url: &str, dir: &str| {
        let output = Command::new(HOLDALL).args(["worker", url, dir]).stderr(Stdio::piped()).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    setup.run("one", task("true"));
    let message = worker(&server.url(), setup.dir.path().to_str().unwrap());
    assert!(message.contains("is in use by another worker"), "{message}");
    let message = worker(&server.url(), "/proc/no-such-folder");
    assert!(message.contains("cannot use the work folder /proc/no-such-folder"), "{message}");
    let dir = tempfile::tempdir().unwrap();
    server.state().hello_status = Some(401);
    let message = worker(&server.url(), dir.path().to_str().unwrap());
    assert!(message.contains("refuses the worker's token"), "{message}");
}

#[test]
fn output_is_reported_while_the_step_runs_without_delay() {
    // A step that prints what it is told when it is told, and the time until the server has it.
    let setup = Setup::new();
    setup.server.give(attempt(
        "delay",
        task("mkfifo pipe; exec 3<> pipe; echo ready; while read line <&3; do echo got $line; done"),
    ));
    setup.server.printed("delay", "ready\n");
    let mut delays = Vec::new();
    for n in 0..50 {
        let sent = Instant::now();
        std::fs::write(setup.folder("delay").join("work/pipe"), format!("{n}\n")).unwrap();
        setup.server.printed("delay", &format!("got {n}\n"));
        delays.push(sent.elapsed());
    }
    delays.sort();
    assert!(delays[25] < Duration::from_millis(50), "half of the lines took longer than {:?}", delays[25]);
}

#[test]
fn facts_are_bounded_however_much_waits() {
    let setup = Setup::new();
    setup.server.state().report_status = Some(503);
    for n in 0..3 {
        setup.server.give(attempt(&format!("loud-{n}"), task("head -c 3000000 /dev/zero | tr '\\0' x")));
    }
    for n in 0..3 {
        eventually("they end", || setup.folder(&format!("loud-{n}")).join("ending.json").exists());
    }
    setup.server.state().report_status = None;
    for n in 0..3 {
        let (ending, seen) = setup.server.finished(&format!("loud-{n}"));
        assert_eq!((ending, seen.output.len()), (exited(0, &[]), 3_000_000));
    }
    let largest = setup.server.state().largest_report;
    assert!(largest < 2_000_000, "a report of {largest} bytes");
}

#[test]
fn a_step_that_cannot_be_kept_is_reported_as_not_run() {
    let setup = Setup::new();
    for id in ["../../evil", "a/b", "..", ""] {
        setup.server.give(attempt(id, task("true")));
        let (ending, _) = setup.server.finished(id);
        let Ending::CouldNotRun { message } = ending else { panic!("{ending:?}") };
        assert!(message.ends_with("cannot be the name of a folder"), "{message}");
    }
}

#[test]
fn a_step_that_is_reported_as_not_run_is_not_begun_later() {
    let setup = Setup::new();
    setup.run("first", task("true"));
    let folder = setup.folder("kept");
    // As long as it is there, no folder can be made.
    std::fs::write(&folder, "").unwrap();
    setup.server.state().report_status = Some(503);
    let given = attempt("kept", task("true"));
    setup.server.order(|orders| orders.start = vec![given.clone(), given.clone(), attempt("next", task("true"))]);
    eventually("the next one is taken", || setup.folder("next").exists());
    std::fs::remove_file(&folder).unwrap();
    setup.server.order(|orders| orders.start = vec![given.clone(), attempt("later", task("true"))]);
    eventually("the later one is taken", || setup.folder("later").exists());
    assert!(!folder.exists(), "it was reported as not run");
    setup.server.wait("the server need not send it", |state| {
        state.running.iter().any(|attempt| attempt == "kept").then_some(())
    });
    setup.server.state().report_status = None;
    setup.server.finished("later");
    setup.server.order(|orders| orders.start = vec![given, attempt("last", task("true"))]);
    setup.server.finished("last");
    let (ending, seen) = setup.server.finished("kept");
    assert!(matches!(ending, Ending::CouldNotRun { .. }) && seen.endings.len() == 1, "{:?}", seen.endings);
    assert!(!folder.exists());
    setup.server.wait("it is over", |state| (!state.running.contains(&"kept".to_owned())).then_some(()));
}

#[test]
fn an_end_is_not_reported_before_output_that_cannot_be_read_now() {
    let setup = Setup::new();
    setup.server.give(attempt("one", task("echo ready; while ! [ -e go ]; do sleep 0.01; done; echo end")));
    setup.server.printed("one", "ready\n");
    let output = setup.folder("one").join("output");
    let elsewhere = output.with_extension("kept");
    std::fs::rename(&output, &elsewhere).unwrap();
    // Opening it fails.
    std::os::unix::fs::symlink("output", &output).unwrap();
    std::fs::write(setup.folder("one").join("work/go"), "").unwrap();
    eventually("the step ends", || setup.folder("one").join("ending.json").exists());
    setup.run("other", task("echo other"));
    setup.run("another", task("echo another"));
    std::fs::rename(&elsewhere, &output).unwrap();
    let (ending, seen) = setup.server.finished("one");
    assert_eq!((ending, seen.text().as_str()), (exited(0, &[]), "ready\nend\n"));
}

#[test]
fn output_that_is_damaged_is_said_to_be() {
    let setup = Setup::new();
    setup.server.give(attempt("one", task("echo ready; while ! [ -e go ]; do sleep 0.01; done")));
    setup.server.printed("one", "ready\n");
    let mut output = std::fs::File::options().append(true).open(setup.folder("one").join("output")).unwrap();
    output.write_all(&[7; 64]).unwrap();
    std::fs::write(setup.folder("one").join("work/go"), "").unwrap();
    let (ending, seen) = setup.server.finished("one");
    assert_eq!(ending, exited(0, &[]));
    let said =
        "ready\n\nholdall: the rest of the output is missing here, because the worker cannot read it: not a record";
    assert!(seen.text().starts_with(said), "{}", seen.text());
}
