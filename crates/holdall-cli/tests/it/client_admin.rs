//! `holdall admin`.

use serde_json::{Value, json};

use crate::fake::{Answer, Fake, error, run_in, unexpected};

fn history() -> Value {
    json!({
        "job": "ship", "jobs": ["unit", "ship"], "resources": [{"name": "repo", "checked": true}],
        "inputs": [{"name": "repo", "resource": "repo", "passed": ["unit"], "version": "latest", "trigger": true}],
        "versions": [{"resource": "repo", "version": {"ref": "a1"}, "order": 1, "enabled": true}],
        "builds": [{
            "id": 1, "job": "unit", "status": "succeeded", "rerun_of": null,
            "inputs": [{"name": "repo", "resource": "repo", "version": {"ref": "a1"}}],
            "outputs": [], "passed_builds": [],
        }],
    })
}

fn fake() -> Fake {
    Fake::with_system(|seen| {
        Some(match seen.line().as_str() {
            "GET jobs/main/p/ship/history" => Answer::Json(200, history()),
            "GET jobs/main/p/cut/history" => {
                let text = history().to_string();
                Answer::Raw(200, "application/json", text.as_bytes()[..text.len() / 2].to_vec())
            }
            "GET jobs/main/p/nothing/history" => error(404, "not_found", "there is no job main/p/nothing", json!({})),
            "GET systems" | "GET systems/notify/environments" => return None,
            _ => unexpected(seen),
        })
    })
}

#[test]
fn a_history_that_is_exported_can_be_resolved() {
    let (fake, folder) = (fake(), tempfile::tempdir().unwrap());
    let ran = fake.run(&["admin", "export-history", "main/p/ship"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_eq!(ran.json(), history());
    assert_eq!(ran.out.lines().count(), 1, "one line, for --lines");
    assert_eq!(fake.seen()[0].header("authorization"), Some("Bearer secret"));

    let file = folder.path().join("ship.json");
    let ran = fake.run(&["admin", "export-history", "main/p/ship", "--out", file.to_str().unwrap()]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "", ""));
    let resolved = run_in(folder.path(), &["resolve", "ship.json"]);
    assert_eq!((resolved.code, resolved.err.as_str()), (0, ""));
    assert_eq!(
        resolved.json(),
        json!({
            "resolved": true, "has_next": false,
            "inputs": {"repo": {"version": {"ref": "a1"}, "passed_builds": [1], "first_occurrence": true}},
        })
    );
}

#[test]
fn a_history_that_cannot_be_had_is_told_and_writes_nothing() {
    let (fake, folder) = (fake(), tempfile::tempdir().unwrap());
    let file = folder.path().join("ship.json");
    let out = ["--out", file.to_str().unwrap()];
    let ran = fake.run(&[&["admin", "export-history", "main/p/nothing"][..], &out].concat());
    assert_eq!((ran.code, ran.out.as_str()), (4, ""));
    assert!(ran.err.contains("there is no job main/p/nothing"), "{}", ran.err);
    let ran = fake.run(&[&["admin", "export-history", "main/p/cut"][..], &out].concat());
    assert_eq!((ran.code, ran.out.as_str()), (6, ""));
    assert!(ran.err.contains("cannot be read") && ran.err.contains("try again"), "{}", ran.err);
    assert!(!file.exists());

    let nowhere = folder.path().join("no/such/folder");
    let ran = fake.run(&["admin", "export-history", "main/p/ship", "--out", nowhere.to_str().unwrap()]);
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(ran.err.contains("no/such/folder cannot be written"), "{}", ran.err);

    for wrong in [&["admin"][..], &["admin", "export-history"], &["admin", "export-history", "ship"]] {
        let ran = run_in(folder.path(), wrong);
        assert_eq!(ran.code, 2, "{wrong:?}: {ran:?}");
    }
}
