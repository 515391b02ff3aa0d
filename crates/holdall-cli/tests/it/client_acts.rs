//! Acts: what is sent, what is asked for first, what is printed.

use serde_json::{Value, json};

use crate::fake::{Answer, Fake, environment, error, unexpected};

fn preview() -> Value {
    json!({
        "token": "p-1", "sentences": ["Bag 42 starts in staging."], "next_bag": null, "starts": [], "dropped": [],
        "changes": [], "held": [],
    })
}

/// A server that does every act.
fn obedient() -> Fake {
    Fake::with_system(|seen| match seen.line().as_str() {
        "POST acts" => {
            let done = seen.body["dry_run"] != true;
            let made = if done { json!({"deployment": 57}) } else { json!({}) };
            Some(Answer::Json(200, json!({"preview": preview(), "done": done, "made": made})))
        }
        "GET systems/notify/bags/41" => {
            let service = json!({
                "type": "git", "version": {"ref": "abc", "x": "1"}, "bits": "abc", "exact": true, "repository": null,
                "metadata": [],
            });
            Some(Answer::Json(
                200,
                json!({
                    "bag": 41, "system": "notify", "packed_at": "2026-11-24T10:15:02Z", "packed_in": "preview",
                    "passed": {}, "environments": {}, "packed_by": null, "contents_digest": "", "services": {"api": service},
                    "previous": null, "same_contents_as": null, "pins": [], "disabled": [], "digest": "", "tags": [],
                    "holds": {},
                }),
            ))
        }
        "GET systems/notify/environments/staging" => {
            let mut detail = environment("staging", &["preview"]);
            detail.as_object_mut().unwrap().extend(
                json!({
                    "team": "staging", "pipeline": "deploy-notify", "packs": false, "superseding": "latest",
                    "promotion": "automatic", "previous": 40, "deployment": null, "freeze": null, "suspects": [],
                    "deployments": [], "jobs": [], "holds": [],
                    "lock_detail": {
                        "environment": "staging", "systems": ["notify"], "holders": [], "queue": [],
                        "held_after_unlock": null,
                    },
                })
                .as_object()
                .unwrap()
                .clone(),
            );
            Some(Answer::Json(200, detail))
        }
        _ => None,
    })
}

/// The act that a command line sends.
fn sent(args: &[&str]) -> Value {
    let fake = obedient();
    let ran = fake.run(args);
    assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
    let acts = fake.seen_at("POST acts");
    assert_eq!(acts.len(), 1, "{args:?}");
    acts[0].body.clone()
}

#[test]
fn each_command_sends_its_act() {
    let why = ["--reason", "because"];
    for (args, act) in [
        (
            &["deploy", "staging", "--bag", "42", "--take-over", "--clear-suspects", "api,admin"][..],
            json!({
                "act": "deploy", "system": "notify", "environment": "staging", "bag": 42, "take_over": true,
                "clear_suspects": ["api", "admin"],
            }),
        ),
        (
            &["rollback", "staging", "--to", "41", "--suspect", "all", "--and-untick", "--here-only"],
            json!({
                "act": "roll_back", "system": "notify", "environment": "staging", "to": 41, "suspects": "all",
                "and_untick": true, "here_only": true,
            }),
        ),
        (
            &["suspect", "clear", "staging", "api"],
            json!({"act": "clear_suspect", "system": "notify", "environment": "staging", "services": ["api"]}),
        ),
        (
            &["freeze", "staging", "--at", "41", "--until", "2026-11-24T10:15:02Z", "--deploy"],
            json!({
                "act": "freeze", "system": "notify", "environment": "staging", "at": 41,
                "until": "2026-11-24T10:15:02Z", "deploy": true,
            }),
        ),
        (&["unfreeze", "staging"], json!({"act": "unfreeze", "system": "notify", "environment": "staging"})),
        (
            &["pin", "api", "a1b2"],
            json!({
                "act": "pin", "version": "a1b2", "until": null,
                "target": {"kind": "service", "system": "notify", "service": "api", "environment": null},
            }),
        ),
        (
            &["pin", "api", "--as-in", "41", "--environment", "preview"],
            json!({
                "act": "pin", "version": "ref:abc,x:1", "until": null,
                "target": {"kind": "service", "system": "notify", "service": "api", "environment": "preview"},
            }),
        ),
        (
            &["unpin", "main/web/repo"],
            json!({
                "act": "unpin",
                "target": {"kind": "resource", "team": "main", "pipeline": "web", "resource": "repo"},
            }),
        ),
        (
            &["disable", "api", "a1b2", "--and-bags"],
            json!({
                "act": "disable", "and_bags": true, "until": null,
                "target": {
                    "kind": "service", "system": "notify", "service": "api", "environment": null, "version": "a1b2",
                },
            }),
        ),
        (
            &["disable", "--bag", "42", "--environment", "staging"],
            json!({
                "act": "disable", "and_bags": false, "until": null,
                "target": {"kind": "bag", "system": "notify", "bag": 42, "environment": "staging"},
            }),
        ),
        (
            &["enable", "--bag", "42"],
            json!({
                "act": "enable", "target": {"kind": "bag", "system": "notify", "bag": 42, "environment": null},
            }),
        ),
        (
            &["bag", "assemble", "--like", "staging", "--with", "api=ref:abc"],
            json!({
                "act": "assemble", "system": "notify", "environment": null, "like": 41, "with": {"api": "ref:abc"},
            }),
        ),
        (
            &["lock", "force-unlock", "staging", "--abort-running", "--then", "start"],
            json!({
                "act": "force_unlock", "environment": "staging", "abort_running": true, "worker_is_dead": false,
                "then": "start",
            }),
        ),
        (&["lock", "release", "staging"], json!({"act": "lock_release", "environment": "staging"})),
        (
            &["job", "trigger", "staging/start-deploy"],
            json!({"act": "job_trigger", "team": "staging", "pipeline": "deploy-notify", "job": "start-deploy"}),
        ),
        (
            &["job", "pause", "main/web/unit"],
            json!({"act": "job_pause", "team": "main", "pipeline": "web", "job": "unit"}),
        ),
        (
            &["build", "abort", "7", "--force"],
            json!({"act": "build_abort", "build": 7, "force": true, "worker_is_dead": false}),
        ),
        (&["build", "rerun", "7"], json!({"act": "build_rerun", "build": 7})),
        (&["pipeline", "destroy", "main/web"], json!({"act": "pipeline_destroy", "team": "main", "pipeline": "web"})),
        (&["system", "destroy", "notify"], json!({"act": "system_destroy", "system": "notify"})),
    ] {
        let body = sent(&[args, &why].concat());
        assert_eq!(body["act"], act, "{args:?}");
        assert_eq!((&body["reason"], &body["dry_run"]), (&json!("because"), &json!(false)), "{args:?}");
    }
}

#[test]
fn a_dry_run_says_so_and_needs_no_reason() {
    let fake = obedient();
    let ran = fake.run(&["rollback", "staging", "--suspect", "none", "--dry-run"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(ran.out, "Bag 42 starts in staging.\nNothing was changed: this was a dry run.\n");
    assert_eq!(fake.seen_at("POST acts")[0].body["dry_run"], true);
    let ran = fake.run(&["deploy", "staging", "--bag", "42"]);
    assert_eq!(ran.out, "Bag 42 starts in staging.\nDone: deployment 57.\n");
    let ran = fake.run(&["deploy", "staging", "--bag", "42", "-o", "json"]);
    assert_eq!(ran.json()["made"]["deployment"], 57);
}

#[test]
fn without_a_reason_nothing_is_sent() {
    let fake = obedient();
    for args in [
        &["pin", "api", "a1b2"][..],
        &["pin", "api", "a1b2", "--reason", " "],
        &["disable", "--bag", "42"],
        &["rollback", "staging", "--suspect", "all"],
        &["freeze", "staging"],
        &["lock", "force-unlock", "staging"],
        &["deploy", "staging", "--bag", "42", "--take-over"],
        &["build", "abort", "7", "--force"],
    ] {
        let ran = fake.run(args);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{args:?}");
        assert_eq!(ran.err, "holdall: this needs a reason\n  say why: --reason \"...\"\n", "{args:?}");
    }
    assert!(fake.seen_at("POST acts").is_empty());
}

#[test]
fn rollback_asks_who_is_to_blame_in_so_many_words() {
    let fake = obedient();
    let ran = fake.run(&["rollback", "staging", "--reason", "x"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("--suspect"), "{}", ran.err);
    assert!(fake.seen_at("POST acts").is_empty());
    let body = sent(&["rollback", "staging", "--suspect", "api,admin", "--reason", "x"]);
    assert_eq!(body["act"]["suspects"], json!({"services": ["admin", "api"]}));
}

#[test]
fn a_preview_that_has_changed_is_shown_again() {
    let fake = Fake::with_system(|seen| {
        (seen.line() == "POST acts").then(|| {
            error(409, "preview_changed", "what the preview showed has changed", json!({"preview": preview()}))
        })
    });
    let ran = fake.run(&["deploy", "staging", "--bag", "42"]);
    assert_eq!((ran.code, ran.out.as_str()), (3, ""));
    assert!(ran.err.contains("Bag 42 starts in staging."), "{}", ran.err);
    assert!(ran.err.contains("holdall: nothing was changed: what the preview showed has changed"), "{}", ran.err);
}

#[test]
fn files_are_sent_with_their_vars_and_their_mistakes_are_told() {
    let home = tempfile::tempdir().unwrap();
    let (file, vars) = (home.path().join("p.yml"), home.path().join("vars.yml"));
    std::fs::write(&file, "jobs: []\n").unwrap();
    std::fs::write(&vars, "a: 1\nb: two\n").unwrap();
    let (file, vars) = (file.to_str().unwrap(), vars.to_str().unwrap());
    let body = sent(&["pipeline", "set", "main/web", file, "-l", vars, "-v", "b=three", "--yaml-var", "c=[1]"]);
    assert_eq!(
        body["act"],
        json!({
            "act": "pipeline_set", "team": "main", "pipeline": "web", "text": "jobs: []\n",
            "vars": {"a": 1, "b": "three", "c": [1]},
        })
    );

    let fake = Fake::start(|seen| match seen.line().as_str() {
        "POST acts" => error(
            422,
            "invalid",
            "the pipeline has 1 mistake",
            json!({"diagnostics": [{
                "severity": "error", "code": "unknown-field", "line": 3, "column": 5, "message": "unknown field 'gett'",
                "help": "did you mean 'get'?",
            }]}),
        ),
        _ => unexpected(seen),
    });
    let ran = fake.run(&["pipeline", "set", "main/web", file]);
    assert_eq!(ran.code, 2);
    assert_eq!(
        ran.err,
        "holdall: the pipeline has 1 mistake\n  3:5: error: unknown field 'gett'; did you mean 'get'?\n"
    );
    let ran = fake.run(&["pipeline", "set", "main/web", "/no/such/file"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("/no/such/file cannot be read"), "{}", ran.err);
}

#[test]
fn a_system_file_s_mistakes_are_told_without_a_server() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("system.yml");
    std::fs::write(&file, "system: notify\nservices: {}\nenvironmens: {}\n").unwrap();
    let file = file.to_str().unwrap();
    let ran = crate::fake::run_in(home.path(), &["system", "validate", file]);
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
    assert!(ran.err.contains("system.yml:3:1: error"), "{}", ran.err);
    let last = ran.err.lines().last().unwrap();
    assert!(last.starts_with("holdall: ") && last.contains("mistake"), "{}", ran.err);
    let ran = crate::fake::run_in(home.path(), &["system", "validate", file, "-o", "json"]);
    assert_eq!((ran.code, ran.err.as_str()), (2, ""));
    assert!(!ran.json().as_array().unwrap().is_empty());
    let ran = crate::fake::run_in(home.path(), &["system", "schema"]);
    assert_eq!(ran.code, 0);
    assert!(ran.json().is_object());
}
