//! What a step's process sees, and how it ends.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use holdall_protocol::worker::{Ending, StepSpec, StopPolicy};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{Setup, attempt, eventually, exited, kill, numbers, runs, task, task_with};

#[test]
fn the_environment_is_exactly_what_was_given() {
    let setup = Setup::new();
    let mut spec = task_with(
        "env | grep -v -e ^PWD= -e ^_= | sort",
        json!({
            "params": {"TEXT": "a b\nc", "NUMBER": 1.5, "YES": true, "NOTHING": null, "LIST": [1, "x"], "OVER": "config"}
        }),
    );
    let StepSpec::Task { params, env, .. } = &mut spec else { unreachable!() };
    *params = json!({"OVER": "step", "EXTRA": {"a": null}});
    *env = BTreeMap::from([("HOLDALL_BAG".into(), "42".into())]);
    let (ending, seen) = setup.run("env", spec);
    assert_eq!(ending, exited(0, &[]));
    let folder = setup.folder("env").canonicalize().unwrap();
    let folder = folder.display();
    let expected = format!(
        "EXTRA={{\"a\":null}}\nHOLDALL_BAG=42\nHOME={folder}/home\nLIST=[1,\"x\"]\nNOTHING=\nNUMBER=1.5\nOVER=step\n\
         PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nTEXT=a b\nTMPDIR={folder}/tmp\nYES=true\nc\n"
    );
    let mut stdout = seen.text();
    let warning = "[WARNING] EXTRA was defined in pipeline but missing from task file\n";
    assert!(stdout.starts_with(warning), "{stdout}");
    stdout.drain(..warning.len());
    assert_eq!(stdout, expected);
}

#[test]
fn a_step_runs_where_it_is_told_with_nothing_on_its_standard_input() {
    let setup = Setup::new();
    let outputs = json!({"outputs": [{"name": "out", "path": "a/b"}],
        "run": {"path": "sh", "args": ["-c", "pwd; cat; echo end"], "dir": "./a"}});
    let (ending, seen) = setup.run("cwd", task_with("", outputs));
    assert_eq!(ending, exited(0, &["out"]));
    let work = setup.folder("cwd").canonicalize().unwrap().join("work/a");
    assert_eq!(seen.text(), format!("{}\nend\n", work.display()));
}

#[test]
fn how_it_exits_is_reported_and_what_it_prints_keeps_its_stream() {
    let setup = Setup::new();
    assert_eq!(setup.run("zero", task("true")).0, exited(0, &[]));
    assert_eq!(setup.run("seven", task("exit 7")).0, exited(7, &[]));
    assert_eq!(setup.run("killed", task("kill -9 $$")).0, Ending::Signalled { signal: 9 });
    assert_eq!(setup.run("int", task("kill -INT $$")).0, Ending::Signalled { signal: 2 });
    let (_, seen) = setup.run("streams", task("echo out; echo err >&2"));
    assert_eq!(seen.stderr, b"err\n");
    assert_eq!(seen.output.len(), 8);
    assert_eq!(seen.started, 1);
}

#[test]
fn what_cannot_be_started_says_why_and_what_to_do() {
    let setup = Setup::new();
    let run = |id: &str, run: serde_json::Value| match setup.run(id, task_with("", json!({"run": run}))) {
        (Ending::CouldNotRun { message }, seen) => {
            assert_eq!((seen.started, seen.text().as_str()), (0, ""));
            message
        }
        other => panic!("{other:?}"),
    };
    let message = run("missing", json!({"path": "no-such-program"}));
    assert!(message.starts_with("no-such-program is not on the worker's PATH (/usr/local/sbin:"), "{message}");
    let message = run("relative", json!({"path": "ci/build.sh"}));
    assert!(message.starts_with("ci/build.sh cannot be run from "), "{message}");
    let message = run("folder", json!({"path": "/tmp"}));
    assert_eq!(message, "/tmp is a directory, not a program");
    let message = run("not-executable", json!({"path": "/etc/passwd"}));
    assert!(message.contains("chmod +x"), "{message}");
    let message = run("dir", json!({"path": "true", "dir": "nowhere"}));
    assert!(message.contains("does not exist; give `run.dir` one"), "{message}");
    let message = run("nothing", json!({}));
    assert!(message.contains("no `run.path`"), "{message}");
    let message = run("huge", json!({"path": "true", "args": ["x".repeat(3_000_000)]}));
    assert!(message.starts_with("cannot start true: Argument list too long"), "{message}");
}

/// Counts the signals that each of a tree of shells receives, as `make` under `sh -c` would.
const COUNTING: &str = r#"
trap 'echo outer' INT
sh -c '
  trap "echo middle" INT
  sh -c "trap \"echo inner; sleep 0.3; echo inner ends; exit 0\" INT; echo ready; while :; do sleep 0.01; done"
  echo middle ends
'
echo outer ends
"#;

#[test]
fn a_stop_is_one_signal_to_the_group_and_output_flows_on() {
    let setup = Setup::new();
    let mut given = attempt("stopped", task(COUNTING));
    given.stop = StopPolicy { signal: "INT".into(), grace_seconds: 30.0 };
    setup.server.give(given);
    setup.server.printed("stopped", "ready\n");
    let (_, shim) = setup.pids("stopped");
    // Asked twice, and with the shim poked a few times more: still one signal.
    setup.server.stop("stopped");
    setup.server.printed("stopped", "inner\n");
    setup.server.stop("stopped");
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD] {
        kill(shim, signal);
    }
    let (ending, seen) = setup.server.finished("stopped");
    assert_eq!(ending, Ending::Stopped { killed: false });
    let mut lines: Vec<_> = seen.stdout().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["inner", "inner ends", "middle", "middle ends", "outer", "outer ends", "ready"]);
}

#[test]
fn the_grace_is_for_the_whole_group_also_when_its_leader_ends_at_once() {
    let setup = Setup::new();
    let script =
        "sh -c 'trap \"sleep 1; echo state saved; exit 0\" TERM; echo ready; while :; do sleep 0.01; done' & wait";
    setup.server.give(attempt("leader", task(script)));
    setup.server.printed("leader", "ready\n");
    setup.server.stop("leader");
    let (ending, seen) = setup.server.finished("leader");
    assert_eq!(ending, Ending::Stopped { killed: false });
    assert_eq!(seen.stdout(), "ready\nstate saved\n");
}

#[test]
fn what_ignores_the_signal_is_killed_after_the_grace() {
    let setup = Setup::new();
    let mut given = attempt("deaf", task("trap 'echo no' TERM; echo pid=$$; while :; do sleep 0.01; done"));
    given.stop.grace_seconds = 0.5;
    setup.server.give(given);
    setup.server.printed("deaf", "pid=");
    let stopped = Instant::now();
    setup.server.stop("deaf");
    let (ending, seen) = setup.server.finished("deaf");
    assert_eq!(ending, Ending::Stopped { killed: true });
    assert!(stopped.elapsed() >= Duration::from_millis(500));
    assert_eq!(seen.text().matches("no\n").count(), 1);
    assert!(!runs(numbers(&seen.text(), "pid")[0]));
}

#[test]
fn the_time_limit_stops_like_a_stop() {
    let setup = Setup::new();
    let mut polite = attempt("polite", task("trap 'echo bye; exit 0' TERM; while :; do sleep 0.01; done"));
    polite.timeout_seconds = Some(0.3);
    let mut deaf = attempt("deaf", task("trap '' TERM; while :; do sleep 0.01; done"));
    deaf.timeout_seconds = Some(0.1);
    deaf.stop.grace_seconds = 0.1;
    setup.server.give(polite);
    setup.server.give(deaf);
    let (ending, seen) = setup.server.finished("polite");
    assert_eq!((ending, seen.stdout().as_str()), (Ending::TimedOut, "bye\n"));
    assert_eq!(setup.server.finished("deaf").0, Ending::TimedOut);
}

#[test]
fn a_machine_that_slept_past_the_limit_stops_the_step_when_it_wakes() {
    const HOUR: &str = "3600";
    let setup = Setup::new();
    let sleeps = |id: &str| std::fs::write(setup.folder(id).join("slept"), HOUR).unwrap();
    let mut polite = attempt("polite", task("trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done"));
    polite.timeout_seconds = Some(3000.0);
    let mut deaf = attempt("deaf", task("trap 'echo no' TERM; echo ready; while :; do sleep 0.01; done"));
    deaf.timeout_seconds = Some(3000.0);
    deaf.stop.grace_seconds = 3000.0;
    for given in [polite, deaf] {
        let id = given.attempt.clone();
        setup.server.give(given);
        setup.server.printed(&id, "ready\n");
        sleeps(&id);
    }
    let (ending, seen) = setup.server.finished("polite");
    assert_eq!((ending, seen.stdout().as_str()), (Ending::TimedOut, "ready\nbye\n"));
    // Its grace begins when it is told, and the next sleep is part of that.
    setup.server.printed("deaf", "no\n");
    assert!(runs(setup.pids("deaf").0));
    sleeps("deaf");
    assert_eq!(setup.server.finished("deaf").0, Ending::TimedOut);
}

#[test]
fn what_forks_away_ends_with_the_step() {
    let setup = Setup::new();
    // A session of its own, no output, not a child of anyone in the step any more.
    let script = "setsid sh -c 'sleep 1000 & echo $! > daemon; exec sleep 1000' >/dev/null 2>&1 </dev/null & \
                  while ! [ -s daemon ]; do sleep 0.01; done; echo daemon=$(cat daemon); echo setsid=$!";
    let started = Instant::now();
    let (ending, seen) = setup.run("forks", task(script));
    assert_eq!(ending, exited(0, &[]));
    assert!(started.elapsed() < Duration::from_secs(20));
    for name in ["daemon", "setsid"] {
        assert!(!runs(numbers(&seen.text(), name)[0]), "{name} still runs");
    }
}

#[test]
fn what_holds_the_output_open_neither_keeps_the_step_nor_loses_what_it_writes_in_time() {
    let setup = Setup::new();
    let (ending, seen) = setup.run("holds", task("(sleep 0.1; echo late; sleep 1000) & echo pid=$!; exit 4"));
    assert_eq!(ending, exited(4, &[]));
    assert!(seen.text().ends_with("late\n"), "{}", seen.text());
    assert!(!runs(numbers(&seen.text(), "pid")[0]));
}

#[test]
fn signals_that_the_worker_was_started_without_arrive_at_steps() {
    let setup = Setup::new();
    // What `nohup worker &` in a script does to the worker.
    let mut setup = setup;
    setup.kill_worker();
    let dir = setup.dir.path().to_owned();
    let command = format!(
        "trap '' INT HUP QUIT; exec {} worker {} {}",
        crate::support::HOLDALL,
        setup.server.url(),
        dir.display()
    );
    let worker = std::process::Command::new("sh").args(["-c", &command]).spawn().unwrap();
    setup.worker = Some(crate::support::WorkerProcess(worker));
    let (ending, _) = setup.run("int", task("kill -INT $$; echo survived"));
    assert_eq!(ending, Ending::Signalled { signal: 2 });
}

#[test]
fn a_stop_before_the_start_starts_nothing() {
    let mut setup = Setup::new();
    // The stop is there before the shim is, or soon after: the steps do not end by themselves.
    setup.server.order(|orders| {
        for n in 0..20 {
            orders.start.push(attempt(&format!("never-{n}"), task("exec sleep 600")));
        }
    });
    for n in 0..20 {
        setup.server.stop(&format!("never-{n}"));
    }
    for n in 0..20 {
        let (ending, _) = setup.server.finished(&format!("never-{n}"));
        assert!(matches!(ending, Ending::Stopped { .. }), "{ending:?}");
    }
    // And one that was stopped while no worker was there.
    setup.kill_worker();
    setup.server.give(attempt("later", task("echo ran")));
    setup.server.stop("later");
    setup.start_worker();
    let (ending, seen) = setup.server.finished("later");
    assert_eq!(ending, Ending::Stopped { killed: false });
    assert!(seen.text().is_empty() || seen.started == 1, "{seen:?}");
}

#[test]
fn a_killed_shim_is_reported_as_lost_once_its_processes_are_gone() {
    let setup = Setup::new();
    let mut given = attempt(
        "lost",
        task(
            "trap 'sleep 0.2; touch saved; exit' TERM; echo ready; exec >/dev/null 2>&1; while :; do sleep 0.01; done",
        ),
    );
    given.stop.grace_seconds = 20.0;
    setup.server.give(given);
    setup.server.printed("lost", "ready\n");
    let (child, shim) = setup.pids("lost");
    kill(shim, Signal::SIGKILL);
    let (ending, seen) = setup.server.finished("lost");
    let Ending::Lost { message } = ending else { panic!("{ending:?}") };
    assert!(message.contains("its processes were still there, got SIGTERM, and are gone now"), "{message}");
    assert!(!runs(child));
    assert!(setup.folder("lost").join("work/saved").exists(), "it had its grace");
    assert_eq!(seen.text(), "ready\n");
}

#[test]
fn a_shim_that_is_killed_together_with_its_processes_and_the_worker_is_lost_too() {
    let mut setup = Setup::new();
    setup.server.give(attempt("lost", task("echo ready; sleep 1000")));
    setup.server.printed("lost", "ready\n");
    let (child, shim) = setup.pids("lost");
    setup.kill_worker();
    kill(shim, Signal::SIGKILL);
    kill(-child, Signal::SIGKILL);
    eventually("the step is gone", || !runs(child) && !runs(shim));
    setup.start_worker();
    let (ending, seen) = setup.server.finished("lost");
    let Ending::Lost { message } = ending else { panic!("{ending:?}") };
    assert!(message.ends_with("none of its processes runs any more"), "{message}");
    assert_eq!(seen.text(), "ready\n");
}

#[test]
fn a_step_that_may_have_begun_before_a_power_cut_is_not_begun_again() {
    let mut setup = Setup::new();
    let ids = ["same", "other", "torn"];
    for id in ids {
        setup.server.give(attempt(id, task("if [ -e ../again ]; then exit; fi; sleep 1000")));
    }
    let pids = ids.map(|id| setup.pids(id));
    setup.kill_worker();
    for (id, (child, shim)) in ids.into_iter().zip(pids) {
        kill(shim, Signal::SIGKILL);
        kill(-child, Signal::SIGKILL);
        eventually("the step is gone", || !runs(child) && !runs(shim));
        // What was written last has not reached the disk.
        for file in ["began", "child.json"] {
            std::fs::remove_file(setup.folder(id).join(file)).unwrap();
        }
        std::fs::write(setup.folder(id).join("again"), "").unwrap();
    }
    std::fs::write(setup.folder("other").join("boot"), "another boot").unwrap();
    std::fs::write(setup.folder("torn").join("boot"), "").unwrap();
    setup.start_worker();
    for id in ["other", "torn"] {
        let (ending, _) = setup.server.finished(id);
        let Ending::Lost { message } = ending else { panic!("{ending:?}") };
        assert!(message.starts_with("the machine was started anew after this worker had taken the step"), "{message}");
        assert!(!setup.folder(id).join("began").exists(), "it did not begin");
    }
    assert_eq!(setup.server.finished("same").0, exited(0, &[]), "nothing says that it had begun");
}

#[test]
fn processes_that_a_killed_shim_had_not_noted_are_ended() {
    let mut setup = Setup::new();
    setup.server.give(attempt("lost", task("echo ready; sleep 1000")));
    setup.server.printed("lost", "ready\n");
    let (child, shim) = setup.pids("lost");
    setup.kill_worker();
    kill(shim, Signal::SIGKILL);
    // As if it had been killed right after it had started the step.
    std::fs::remove_file(setup.folder("lost").join("child.json")).unwrap();
    setup.start_worker();
    let (ending, _) = setup.server.finished("lost");
    let Ending::Lost { message } = ending else { panic!("{ending:?}") };
    assert!(message.contains("its processes were still there, got SIGTERM, and are gone now"), "{message}");
    assert!(!runs(child));
}

#[test]
fn processes_that_left_the_group_of_a_killed_shim_s_step_are_ended() {
    let setup = Setup::new();
    let script = "setsid sh -c 'echo $$ >other; mv other elsewhere; exec sleep 1000' & \
         while ! [ -e elsewhere ]; do sleep 0.01; done; echo ready; sleep 1000";
    setup.server.give(attempt("lost", task(script)));
    setup.server.printed("lost", "ready\n");
    let (child, shim) = setup.pids("lost");
    let other = std::fs::read_to_string(setup.folder("lost").join("work/elsewhere")).unwrap().trim().parse().unwrap();
    assert!(runs(other));
    kill(shim, Signal::SIGKILL);
    let (ending, _) = setup.server.finished("lost");
    assert!(matches!(ending, Ending::Lost { .. }), "{ending:?}");
    assert!(!runs(child) && !runs(other));
}
