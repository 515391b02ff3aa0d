//! `mock`: every key of its source and params.

use std::fs;

use serde_json::{Value, json};

use crate::resource_world::World;

#[test]
fn check_table() {
    let given = json!({"version": "given"});
    for (source, version, expected) in [
        (json!({}), Value::Null, json!([{"version": "mock"}])),
        (json!({}), given.clone(), json!([{"version": "given"}])),
        (json!({"initial_version": "i"}), Value::Null, json!([{"version": "i"}])),
        (json!({"initial_version": "i"}), given.clone(), json!([{"version": "given"}])),
        (json!({"no_initial_version": true}), Value::Null, json!([])),
        (json!({"no_initial_version": true, "initial_version": "i"}), Value::Null, json!([])),
        (json!({"no_initial_version": true}), given.clone(), json!([{"version": "given"}])),
        (json!({"force_version": "f"}), Value::Null, json!([{"version": "f"}])),
        (json!({"force_version": "f", "no_initial_version": true}), given.clone(), json!([{"version": "f"}])),
        (json!({"check_delay": "1ms"}), given.clone(), json!([{"version": "given"}])),
        (json!({}), json!({"version": "x", "privileged": "true"}), json!([{"version": "x", "privileged": "true"}])),
    ] {
        let world = World::new();
        let versions = world.check("mock", &source, version.clone()).expect("a check");
        assert_eq!(Value::Array(versions), expected, "{source} {version}");
        assert_eq!(world.logged(), "", "{source}");
    }
}

#[test]
fn a_check_logs_then_fails() {
    let world = World::new();
    let source = json!({"log": "hello", "check_failure": "broken", "force_version": "x"});
    let error = world.check("mock", &source, Value::Null).expect_err("it fails");
    assert_eq!(error, "intentionally failing to check: broken");
    assert_eq!(world.logged(), "hello\n");
    let error = world.check("mock", &json!({"check_delay": "soon"}), Value::Null).expect_err("malformed");
    assert!(error.contains("`soon` is not a duration"), "{error}");
}

#[test]
fn unknown_keys_and_wrong_types_are_errors() {
    let world = World::new();
    for (request, expected) in [
        (json!({"source": {"forced_version": "x"}}), "unknown key `forced_version`: did you mean `force_version`?"),
        (json!({"source": {}, "soruce": {}}), "unknown key `soruce`: did you mean `source`?"),
        (json!({"source": {"log": 7}}), "`log` in source must be a string"),
        (json!({"source": {"metadata": [{"name": "x"}]}}), "`metadata` in source must be a list of"),
        (json!({"source": [], "version": {}}), "`source` in the request must be an object"),
        (json!({"source": {}, "version": {"version": 1}}), "`version.version` in the request must be a string"),
        (json!([]), "not a JSON object"),
    ] {
        let error = world.run("mock", "check", None, &request).expect_err("a mistake");
        assert!(error.contains(expected), "{request}: {error}");
    }
    let error = world.put("mock", &json!({}), json!({"verison": "x"})).expect_err("a mistake");
    assert!(error.contains("did you mean `version`?"), "{error}");
}

#[test]
fn get_writes_the_version_and_files() {
    let world = World::new();
    let source = json!({
        "log": "hello",
        "create_files": {"a.txt": "one", "deep/b.json": {"k": [1, "START_VARxEND_VAR"]}, "version": "replaced"},
        "metadata": [{"name": "m", "value": "v"}],
    });
    let params = json!({"create_files_via_params": {"a.txt": "START_VARtwoEND_VAR"}});
    let result = world.get("mock", &source, &json!({"version": "7"}), params, "got").expect("a get");
    assert_eq!(result, json!({"version": {"version": "7"}, "metadata": [{"name": "m", "value": "v"}]}));
    assert_eq!(world.read("got/privileged"), "false\n");
    assert_eq!(world.read("got/version"), "replaced");
    assert_eq!(world.read("got/a.txt"), "((two))");
    assert_eq!(world.read("got/deep/b.json"), r#"{"k":[1,"((x))"]}"#);
    assert_eq!(world.logged(), "hello\nfetching version: 7\n");
    assert!(!world.path("got/rootfs").exists());
}

#[test]
fn get_mirrors_itself() {
    for (source, params) in
        [(json!({"mirror_self": true}), json!({})), (json!({}), json!({"mirror_self_via_params": true}))]
    {
        let world = World::new();
        world.get("mock", &source, &json!({"version": "7"}), params, "got").expect("a get");
        assert_eq!(world.read("got/version"), "7\n");
        assert_eq!(world.read("got/metadata.json"), r#"{"env":["MIRRORED_VERSION=7"],"user":"root"}"#);
        assert!(world.path("got/rootfs/etc/passwd").is_file());
        assert_eq!(world.logged(), "fetching version: 7\nmirroring self image\n");
    }
}

#[test]
fn files_stay_in_the_artifact() {
    let world = World::new();
    for path in ["../evil", "/tmp/holdall-evil", "a/../../evil", ""] {
        let source = json!({"create_files": {path: "x"}});
        let error = world.get("mock", &source, &json!({"version": "7"}), json!({}), "got").expect_err("refused");
        assert!(error.contains("must be a relative path"), "{path}: {error}");
    }
    assert!(!world.path("evil").exists());
}

#[test]
fn put_makes_a_version() {
    let world = World::new();
    fs::create_dir(world.path("artifact")).expect("made");
    fs::write(world.path("artifact/number"), "12\n").expect("written");
    let source = json!({"log": "hello"});
    for (params, expected) in [
        (json!({"version": "3"}), "3"),
        (json!({"file": "artifact/number"}), "12\n"),
        (json!({"version": "3", "file": "artifact/none"}), "3"),
    ] {
        let result = world.put("mock", &source, params.clone()).expect("a put");
        assert_eq!(result["version"], json!({"version": expected}), "{params}");
        assert_eq!(world.logged(), format!("hello\npushing version: {expected}\n"));
    }
    assert_eq!(world.put("mock", &source, json!({})).expect_err("nothing to make"), "no version specified");
    let error = world.put("mock", &source, json!({"file": "artifact/none"})).expect_err("no file");
    assert!(error.starts_with("cannot read "), "{error}");
}

#[test]
fn put_prints_its_environment() {
    let mut world = World::new();
    world.set_env("BUILD_ID", "42");
    world.put("mock", &json!({}), json!({"version": "3", "print_env": true})).expect("a put");
    assert!(world.logged().lines().any(|line| line == "env: BUILD_ID=42"));
}

#[test]
fn privileged_and_mirrored() {
    let mut world = World::new();
    world.set_env("HOLDALL_PRIVILEGED", "true");
    world.set_env("MIRRORED_VERSION", "9");
    let versions = world.check("mock", &json!({}), Value::Null).expect("a check");
    assert_eq!(versions, [json!({"version": "9", "privileged": "true"})]);
    let result = world.get("mock", &json!({}), &versions[0], json!({}), "got").expect("a get");
    assert_eq!(result["version"], versions[0]);
    assert_eq!(world.read("got/privileged"), "true\n");
    world.put("mock", &json!({}), json!({"version": "3"})).expect("a put");
    let log = world.logged();
    assert!(log.contains("fetching in a privileged container\nfetching version: 9\n"), "{log}");
    assert!(log.contains("pushing in a privileged container\npushing version: 3\n"), "{log}");
}
