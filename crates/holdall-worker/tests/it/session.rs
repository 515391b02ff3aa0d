//! Orders in, facts out, whatever dies in between.

use std::collections::BTreeMap;

use holdall_protocol::worker::{CheckOrder, Ending, MetadataField, PutArtifacts, StepSpec};
use serde_json::json;

use crate::server::Server;
use crate::support::{WorkerProcess, attempt, task, task_with};

#[test]
fn a_get_a_task_and_a_put_pass_artifacts_on() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let _worker = WorkerProcess::start(&server.url(), dir.path());
    server.give(attempt(
        "get",
        StepSpec::Get {
            resource_type: "scripted".into(),
            source: json!({"in": r#"echo fetching >&2; echo one > file; echo '{"version":{"n":"1"},"metadata":[{"name":"by","value":"ann"}]}'"#}),
            params: json!({}),
            version: BTreeMap::from([("n".into(), "1".into())]),
            artifact: "code".into(),
            env: BTreeMap::new(),
        },
    ));
    let (ending, seen) = server.finished("get");
    let Ending::Exited { status: 0, result: Some(result), artifacts } = ending else {
        panic!("{ending:?}, {}", seen.text())
    };
    assert_eq!(result.version["n"], "1");
    assert_eq!(result.metadata, [MetadataField { name: "by".into(), value: "ann".into() }]);
    assert_eq!(artifacts, ["code"]);
    assert_eq!((seen.text().as_str(), seen.started), ("fetching\n", 1));

    let inputs = json!({"inputs": [{"name": "code"}], "outputs": [{"name": "built", "path": "out"}]});
    server.give(attempt("task", task_with("cat code/file; echo two > out/file; exit 3", inputs)));
    let (ending, seen) = server.finished("task");
    assert_eq!(ending, Ending::Exited { status: 3, result: None, artifacts: vec!["built".into()] });
    assert_eq!(seen.text(), "one\n");

    server.give(attempt(
        "put",
        StepSpec::Put {
            resource_type: "scripted".into(),
            source: json!({"out": r#"ls >&2; cat built/file >&2; echo '{"version":{"n":"2"}}'"#}),
            params: json!({}),
            inputs: PutArtifacts::All,
            env: BTreeMap::new(),
        },
    ));
    let (ending, seen) = server.finished("put");
    assert!(matches!(ending, Ending::Exited { status: 0, result: Some(_), .. }), "{ending:?}");
    assert_eq!(seen.text(), "built\ncode\ntwo\n");
}

#[test]
fn checks_give_versions_or_say_what_went_wrong() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let _worker = WorkerProcess::start(&server.url(), dir.path());
    let check = |id: &str, script: &str, timeout_seconds| CheckOrder {
        check: id.to_owned(),
        resource_type: "scripted".into(),
        source: json!({"check": script}),
        version: Some(BTreeMap::from([("n".into(), "1".into())])),
        timeout_seconds,
    };
    server.order(|orders| {
        orders.checks = vec![
            check("good", r#"echo '[{"n":"1"},{"n":"2"}]'"#, 30.0),
            check("empty", "true", 30.0),
            check("bad", "echo cannot reach it >&2; exit 1", 30.0),
            check("odd", "echo 17", 30.0),
            check("slow", "echo waiting >&2; sleep 1000", 0.3),
        ];
    });
    let checked = server.wait("all checks end", |state| (state.checked.len() == 5).then(|| state.checked.clone()));
    assert_eq!(checked["good"].as_ref().unwrap().len(), 2);
    assert_eq!(checked["empty"], Ok(vec![]));
    assert_eq!(checked["bad"], Err("the check failed (exit status: 1): cannot reach it".into()));
    assert!(checked["odd"].as_ref().unwrap_err().contains("something else than a list of versions"), "{checked:?}");
    assert_eq!(checked["slow"], Err("the check took longer than 0.3 seconds and was stopped: waiting".into()));
}

#[test]
fn a_killed_worker_takes_its_steps_up_again_and_nothing_is_missing_or_doubled() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let worker = WorkerProcess::start(&server.url(), dir.path());
    server.give(attempt("long", task("for i in $(seq 1 300); do echo line $i; sleep 0.005; done; echo done")));
    server.printed("long", "line 20\n");
    worker.kill();
    let worker = WorkerProcess::start(&server.url(), dir.path());
    server.printed("long", "line 100\n");
    worker.kill();
    let _worker = WorkerProcess::start(&server.url(), dir.path());
    let (ending, seen) = server.finished("long");
    assert_eq!(ending, Ending::Exited { status: 0, result: None, artifacts: vec![] });
    let expected: String = (1..=300).map(|i| format!("line {i}\n")).chain(["done\n".to_owned()]).collect();
    assert_eq!(seen.text(), expected);
}
