//! Reading commands: what is printed, what errors say, which exit code.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::fake::{Answer, Fake, environment, error, list, run_in, unexpected};

const HOLD: &str = r#"{
    "code": "lock-held", "sentence": "ann holds the lock of staging: load test", "since": "2026-11-24T10:15:02Z",
    "by": "ann", "until": null, "command": "holdall lock force-unlock staging --reason \"...\""
}"#;

fn hold() -> Value {
    serde_json::from_str(HOLD).unwrap()
}

fn bag(number: i64) -> Value {
    json!({
        "bag": number, "system": "notify", "packed_at": "2026-11-24T10:15:02Z", "packed_in": "preview",
        "passed": {"preview": "passed-preview-20261124T101502Z"},
        "environments": {"preview": "current", "staging": "held"}, "packed_by": null, "contents_digest": "ab",
    })
}

#[test]
fn bag_list_is_an_array_newest_first_page_by_page() {
    let fake = Fake::with_system(|seen| match (seen.line().as_str(), seen.path.contains("after=2")) {
        ("GET systems/notify/bags", false) => Some(Answer::Json(200, json!({"items": [bag(3), bag(2)], "next": "2"}))),
        ("GET systems/notify/bags", true) => Some(list(json!([bag(1)]))),
        _ => None,
    });
    let ran = fake.run(&["bag", "list", "-o", "json"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_eq!(ran.json(), json!([bag(3), bag(2), bag(1)]));
    assert_eq!(fake.run(&["bag", "list", "-o", "json", "-n", "2"]).json(), json!([bag(3), bag(2)]));
    assert_eq!(fake.seen()[0].header("authorization"), Some("Bearer secret"));

    let ran = fake.run(&["bag", "list"]);
    assert_eq!(ran.out.lines().count(), 4, "{}", ran.out);
    assert!(ran.out.starts_with("BAG  PACKED"), "{}", ran.out);
    assert!(ran.out.lines().next().unwrap().ends_with("preview  staging"), "{}", ran.out);
    assert!(!ran.out.contains('\u{1b}'), "colours without a terminal");
}

#[test]
fn env_list_is_an_array_in_chain_order() {
    let lock = json!({
        "holders": [{"kind": "person", "name": "ann", "reason": "load test", "since": "2026-11-24T10:15:02Z"}],
        "queue": [{"kind": "deployment", "name": "bag 42", "since": "2026-11-24T10:15:02Z", "position": 1}],
    });
    let mut held = environment("staging", &["preview"]);
    held["lock"] = lock;
    let all = json!([environment("preview", &[]), held]);
    let answer = all.clone();
    let fake =
        Fake::with_system(move |seen| (seen.line() == "GET systems/notify/environments").then(|| list(answer.clone())));
    let ran = fake.run(&["env", "list", "-o", "json"]);
    assert_eq!((ran.code, ran.json()), (0, all));
    let ran = fake.run(&["env", "list"]);
    assert!(ran.out.contains("person ann for ") && ran.out.contains("(load test), 1 waiting"), "{}", ran.out);
}

#[test]
fn why_ends_with_3_when_something_holds_it_back() {
    let fake = Fake::with_system(|seen| match (seen.line().as_str(), seen.path.contains("bag=7")) {
        ("GET systems/notify/environments/staging/why", true) => Some(list(json!([]))),
        ("GET systems/notify/environments/staging/why", false) => Some(list(json!([hold()]))),
        _ => None,
    });
    let ran = fake.run(&["why", "staging", "-o", "json"]);
    assert_eq!((ran.code, ran.err.as_str()), (3, ""));
    assert_eq!(ran.json(), json!([hold()]));
    let ran = fake.run(&["why", "staging"]);
    assert_eq!(ran.code, 3);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines[0], "lock-held  ann holds the lock of staging: load test");
    assert!(
        lines[1].starts_with("    for ") && lines[1].ends_with("(since 2026-11-24T10:15:02Z); by ann"),
        "{lines:?}"
    );
    assert_eq!(lines[2], "    holdall lock force-unlock staging --reason \"...\"");

    let ran = fake.run(&["why", "staging", "--bag", "7", "-o", "json"]);
    assert_eq!((ran.code, ran.json()), (0, json!([])));
    assert_eq!(fake.run(&["why", "staging", "--bag", "7"]).out, "Nothing holds it back.\n");
}

#[test]
fn why_of_a_job_is_its_report() {
    let detail = |report: Value| {
        let summary = json!({
            "team": "main", "pipeline": "p", "job": "ship", "groups": [], "paused": false, "finished": null, "next": null,
            "inputs": [], "builds": [], "disable_manual_trigger": false, "guarded": false,
        });
        let mut detail = summary.as_object().cloned().unwrap();
        detail.insert("report".to_owned(), report);
        Value::Object(detail)
    };
    let fake = Fake::with_system(move |seen| match seen.line().as_str() {
        "GET jobs/main/p/ship" => Some(Answer::Json(200, detail(json!([hold()])))),
        "GET jobs/main/p/unit" => Some(Answer::Json(200, detail(json!([])))),
        _ => None,
    });
    let ran = fake.run(&["why", "main/p/ship", "-o", "json"]);
    assert_eq!((ran.code, ran.json()), (3, json!([hold()])));
    let ran = fake.run(&["why", "main/p/unit"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "Nothing holds it back.\n"));
    let ran = fake.run(&["why", "main/p/unit", "--bag", "7"]);
    assert_eq!((ran.code, ran.err.as_str()), (2, "holdall: --bag goes with an environment, not with a job\n"));
    let ran = fake.run(&["why", "a/b/c/d"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("'a/b/c/d' is neither TEAM/PIPELINE/JOB nor ENVIRONMENT/JOB"), "{}", ran.err);
}

#[test]
fn the_audit_log_of_an_environment_is_that_of_its_system() {
    let fake = Fake::with_system(|seen| (seen.line() == "GET audit").then(|| list(json!([]))));
    for (args, path) in [
        (&["audit"][..], "audit"),
        (&["audit", "--environment", "staging"], "audit?system=notify&environment=staging"),
        (&["audit", "--environment", "staging", "--system", "other"], "audit?system=other&environment=staging"),
    ] {
        let ran = fake.run(args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
        let seen = fake.seen_at("GET audit").pop().unwrap().path;
        assert!(seen.starts_with(path), "{args:?}: {seen}");
    }
}

#[test]
fn the_status_of_an_answer_fixes_the_exit_code() {
    for (status, code) in
        [(400, 2), (401, 5), (403, 5), (404, 4), (409, 3), (413, 2), (422, 2), (423, 3), (429, 1), (500, 1), (503, 1)]
    {
        let fake = Fake::start(move |_| error(status, "some_code", "it is so", json!({})));
        let ran = fake.run(&["audit"]);
        assert_eq!((ran.code, ran.out.as_str()), (code, ""), "{status}: {}", ran.err);
        assert!(ran.err.starts_with("holdall: it is so\n"), "{status}: {}", ran.err);
    }
}

#[test]
fn what_is_no_holdall_server_is_told() {
    for (status, kind, body) in [
        (200, "text/html", &b"<html>hello</html>"[..]),
        (200, "application/json", b"{\"items\": 3}"),
        (200, "application/json", b""),
        (502, "text/html", b"bad gateway"),
        (404, "text/plain", b"404 page not found"),
        (301, "text/plain", b"moved"),
        (200, "application/json", b"\xff\xfe"),
    ] {
        let fake = Fake::start(move |_| Answer::Raw(status, kind, body.to_vec()));
        let ran = fake.run(&["audit"]);
        assert_eq!((ran.code, ran.out.as_str()), (6, ""), "{status} {body:?}: {}", ran.err);
        assert!(ran.err.contains(&fake.url), "{}", ran.err);
    }
}

#[test]
fn no_server_is_told_with_what_to_type() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let home = tempfile::tempdir().unwrap();
    let ran = run_in(home.path(), &["env", "list", "--server", &format!("http://{nobody}")]);
    assert_eq!((ran.code, ran.out.as_str()), (6, ""));
    assert_eq!(
        ran.err,
        format!(
            "holdall: no answer from http://{nobody}: nothing listens there\n  \
             if it is not running, start it: holdall serve --data-dir DIR (or holdall demo)\n  \
             if it runs elsewhere: --server URL, or HOLDALL_SERVER\n"
        )
    );
    let ran = run_in(home.path(), &["env", "list"]);
    assert_eq!(ran.code, 6);
    assert!(ran.err.starts_with("holdall: no server is known here\n"), "{}", ran.err);
    let ran = run_in(home.path(), &["env", "list", "--server", "localhost:8080"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("http://127.0.0.1:8080"), "{}", ran.err);
}

#[test]
fn an_error_names_what_is_in_the_way_and_what_to_do() {
    let fake = Fake::start(|_| {
        error(
            409,
            "refused",
            "deployment 57 has ended",
            json!({"held": [hold()], "command": "holdall deploy staging --bag 42"}),
        )
    });
    assert_eq!(
        fake.run(&["audit"]).err,
        "holdall: deployment 57 has ended\n  \
         lock-held: ann holds the lock of staging: load test\n    \
         lift it: holdall lock force-unlock staging --reason \"...\"\n  \
         try: holdall deploy staging --bag 42\n"
    );
    let fake = Fake::start(|_| error(500, "internal", "something went wrong", json!({})));
    assert!(fake.run(&["audit"]).err.contains("the server's log has more: request r-1"));
    let fake = Fake::start(|_| error(401, "unauthenticated", "no token", json!({})));
    assert!(fake.run(&["audit"]).err.contains("HOLDALL_TOKEN"));
    let fake = Fake::start(|_| error(404, "not_found", "no environment stagin", json!({"did_you_mean": ["staging"]})));
    assert!(fake.run(&["audit"]).err.contains("did you mean staging?"));
}

#[test]
fn texts_of_others_do_not_steer_the_terminal() {
    let evil = "\u{1b}]0;x\u{7}\u{202e}\r\nholdall: all is well";
    let fake = Fake::start(move |_| error(409, "refused", evil, json!({"command": evil, "did_you_mean": [evil]})));
    let ran = fake.run(&["audit"]);
    assert!(!ran.err.contains(['\u{1b}', '\u{7}', '\u{202e}', '\r']), "{:?}", ran.err);
    assert_eq!(ran.err.lines().filter(|line| line.starts_with("holdall: ")).count(), 1, "{:?}", ran.err);

    let fake = Fake::start(move |_| {
        list(json!([{
            "id": 1, "at": "2026-11-24T10:15:02Z", "who": evil, "via": "holdall", "act": "pin", "what": evil, "system": null,
            "environment": null, "reason": evil, "ticket": null, "before": null, "after": null,
        }]))
    });
    let ran = fake.run(&["audit"]);
    assert_eq!(ran.out.lines().count(), 2, "{:?}", ran.out);
    assert!(!ran.out.contains(['\u{1b}', '\u{7}', '\u{202e}', '\r']), "{:?}", ran.out);
}

#[test]
fn below_a_folder_that_knows_its_server_nothing_is_needed() {
    let fake = Fake::with_system(|_| None);
    let home = tempfile::tempdir().unwrap();
    let below = home.path().join("services/api");
    std::fs::create_dir_all(home.path().join(".holdall")).unwrap();
    std::fs::create_dir_all(&below).unwrap();
    let file = json!({"server": fake.url, "token_file": "../token"});
    std::fs::write(home.path().join(".holdall/client.json"), file.to_string()).unwrap();
    let token = home.path().join("token");
    std::fs::write(&token, "from-the-file\n").unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    let ran = run_in(&below, &["env", "list"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(fake.seen()[0].header("authorization"), Some("Bearer from-the-file"));

    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
    let before = fake.seen().len();
    let ran = run_in(&below, &["env", "list"]);
    assert_eq!(ran.code, 5);
    assert!(ran.err.contains("chmod 600"), "{}", ran.err);
    assert_eq!(fake.seen().len(), before, "a token that others can read was sent");
}

#[test]
fn a_system_is_named_only_where_there_are_several() {
    let system = |name: &str, environment: &str| {
        json!({
            "system": name, "services": [], "environments": [environment], "newest_bag": null,
            "set_at": "2026-11-24T10:15:02Z", "set_by": "ann",
        })
    };
    let both = json!([system("one", "preview"), system("two", "test")]);
    let fake = Fake::start(move |seen| match seen.line().as_str() {
        "GET systems" => list(both.clone()),
        "GET systems/two/environments/test/why" | "GET systems/o%2Fne/environments" => list(json!([])),
        _ => unexpected(seen),
    });
    let ran = fake.run(&["env", "list"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("--system NAME, one of one, two"), "{}", ran.err);
    assert_eq!(fake.run(&["why", "test"]).code, 0, "the environment says which");
    assert_eq!(fake.run(&["env", "list", "--system", "o/ne"]).code, 0, "names are one segment of a path");

    let fake = Fake::start(|_| list(json!([])));
    let ran = fake.run(&["env", "list"]);
    assert_eq!(ran.code, 4);
    assert!(ran.err.contains("holdall system set FILE"), "{}", ran.err);
}

#[test]
fn where_says_what_a_commit_waits_for() {
    let found = json!({
        "system": "notify", "commit": "a1b2",
        "matches": [{
            "service": "api", "version": {"ref": "a1b2c3"}, "bags": [43, 42], "first_bag": 42, "not_packed": [],
            "commit": {"id": "a1b2c3", "author": "ann", "at": null, "message": "Fix it", "url": null},
            "environments": [
                {"environment": "preview", "live": true, "bag": 43, "since": "2026-11-24T10:15:02Z", "holds": []},
                {"environment": "staging", "live": false, "bag": 43, "since": null, "holds": [hold()]},
            ],
        }],
    });
    let answer = found.clone();
    let fake = Fake::with_system(move |seen| match (seen.line().as_str(), seen.path.contains("commit=a1b2")) {
        ("GET systems/notify/where", true) => Some(Answer::Json(200, answer.clone())),
        ("GET systems/notify/where", false) => {
            Some(Answer::Json(200, json!({"system": "notify", "commit": "f", "matches": []})))
        }
        _ => None,
    });
    assert_eq!(fake.run(&["where", "a1b2", "-o", "json"]).json(), found);
    let ran = fake.run(&["where", "a1b2"]);
    assert!(
        ran.out.starts_with("api  a1b2c3  Fix it (ann)\n  in bag 42 and the bags after it, up to 43\n"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("staging: not live; comes with bag 43\n    lock-held"), "{}", ran.out);
    let ran = fake.run(&["where", "ffff"]);
    assert_eq!(ran.code, 4);
    assert!(ran.err.contains("knows no version ffff"), "{}", ran.err);
}

#[test]
fn doctor_ends_with_1_when_something_does_not_work() {
    let fake = Fake::start(|seen| match seen.line().as_str() {
        "GET info" => Answer::Json(
            200,
            json!({
                "version": env!("CARGO_PKG_VERSION"), "server_time": "2020-01-01T00:00:00Z",
                "started_at": "2020-01-01T00:00:00Z", "database": "sqlite", "user": "ann",
            }),
        ),
        "GET doctor" => Answer::Json(
            200,
            json!({"server_time": "2020-01-01T00:00:00Z", "checks": [
                {"name": "workers", "state": "failed", "sentence": "no worker", "remedy": "holdall worker ..."},
            ]}),
        ),
        _ => unexpected(seen),
    });
    let ran = fake.run(&["doctor"]);
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("failed   workers: no worker\n           holdall worker ..."), "{}", ran.out);
    assert!(ran.out.contains("warning  clocks: "), "{}", ran.out);
    assert!(ran.out.contains("ok       version: "), "{}", ran.out);
    assert_eq!(fake.run(&["doctor", "-o", "json"]).json()[3]["name"], "workers");
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let fake = Fake::with_system(|seen| {
        (seen.line() == "GET systems/notify/bags").then(|| list((0..20_000).map(bag).collect()))
    });
    let mut child = fake
        .command(&["bag", "list", "-o", "json", "-n", "20000"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ran = crate::fake::finish(child);
    assert_eq!((ran.code, ran.err.as_str()), (1, ""));
}
