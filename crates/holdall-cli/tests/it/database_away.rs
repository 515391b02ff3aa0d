//! PostgreSQL is away for a while: people are told so, what runs goes on, and nothing of it is lost.

use std::fs;

use scratch_postgres::Death;

use crate::real::{Place, until};

/// How many lines the step prints while its server cannot keep them.
const LINES: usize = 20_000;

#[test]
fn what_cannot_be_done_is_refused_and_what_runs_goes_on() {
    let Some((place, mut postgres)) = Place::own_postgres() else { return };
    let mut server = place.start_server_that_answers(&["--no-worker"]);
    let mut worker = place.start_worker();
    let [go, printed, end] = ["go", "printed", "end"].map(|name| place.path(name));
    let wait = |file: &std::path::Path| format!("while ! [ -e {} ]; do sleep 0.02; done", file.display());
    let script =
        format!("echo begins; {}; seq 1 {LINES}; touch {}; {}; echo ends", wait(&go), printed.display(), wait(&end));
    place.trigger_script("main/steady", &script);
    until("the step begins", || {
        let log = place.run("data", &["build", "logs", "main/steady/job/1"]);
        log.out.contains("begins").then_some(()).ok_or(log.out)
    });

    postgres.kill(Death::OfAll).unwrap();
    fs::write(&go, "").unwrap();
    until("the step prints", || printed.exists().then_some(()).ok_or(worker.said()));
    for act in [
        &["build", "list"][..],
        &["job", "trigger", "main/steady/job", "--yes", "--reason", "a test"],
        &["why", "main/steady/job"],
        &["doctor"],
    ] {
        let refused = place.run("data", act);
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.err.contains("the server's database does not answer"), "{refused:?}");
        assert!(refused.err.contains("try again"), "{refused:?}");
    }
    fs::write(&end, "").unwrap();
    server.assert_runs();
    worker.assert_runs();

    postgres.launch().unwrap();
    until("the build ends", || {
        let ran = place.run("data", &["build", "list", "-o", "json"]);
        (ran.code == 0 && ran.json()[0]["status"] == "succeeded").then_some(()).ok_or(format!("{ran:?}"))
    });
    let log = place.run("data", &["build", "logs", "main/steady/job/1"]);
    let numbers: Vec<usize> = log.out.lines().filter_map(|line| line.trim().parse().ok()).collect();
    assert_eq!(numbers, (1..=LINES).collect::<Vec<_>>());
    assert_eq!(log.out.matches("ends").count(), 1, "{}", log.out);
    let builds = place.run("data", &["build", "list", "-o", "json"]).json();
    assert_eq!(builds.as_array().unwrap().len(), 1, "what was refused did not happen: {builds}");
    assert!(worker.stop().success());
    assert!(server.stop().success());
}
