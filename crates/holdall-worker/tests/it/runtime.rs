//! What goes into a step's directory, and what comes out of it.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use holdall_protocol::worker::{Ending, MetadataField, PutArtifacts, StepSpec};
use serde_json::json;

use crate::support::{Setup, attempt, eventually, exited, files, get, task, task_with};

fn put(script: &str, inputs: PutArtifacts) -> StepSpec {
    StepSpec::Put {
        resource_type: "scripted".into(),
        source: json!({"out": script}),
        params: json!({}),
        inputs,
        env: BTreeMap::from([("BUILD_NAME".into(), "7".into())]),
    }
}

fn could_not_run(ending: Ending) -> String {
    match ending {
        Ending::CouldNotRun { message } => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_get_a_task_and_a_put_pass_artifacts_on() {
    let setup = Setup::new();
    let script =
        r#"echo fetching >&2; echo one > file; echo '{"version":{"n":"1"},"metadata":[{"name":"by","value":"ann"}]}'"#;
    let (ending, seen) = setup.run("get", get(script, "code"));
    let Ending::Exited { status: 0, result: Some(result), artifacts } = ending else {
        panic!("{ending:?}, {}", seen.text())
    };
    assert_eq!(result.version["n"], "1");
    assert_eq!(result.metadata, [MetadataField { name: "by".into(), value: "ann".into() }]);
    assert_eq!(artifacts, ["code"]);
    assert_eq!((seen.text().as_str(), seen.started), ("fetching\n", 1));

    let config = json!({"inputs": [{"name": "code"}], "outputs": [{"name": "built", "path": "out"}]});
    let (ending, seen) = setup.run("task", task_with("cat code/file; echo two > out/file; exit 3", config));
    // Whatever the exit status: hooks use what is there.
    assert_eq!(ending, exited(3, &["built"]));
    assert_eq!(seen.text(), "one\n");

    let script = r#"ls >&2; cat built/file >&2; echo $BUILD_NAME >&2; echo '{"version":{"n":"2"}}'"#;
    for (n, (inputs, listed)) in [
        (PutArtifacts::All, "built\ncode\n"),
        (PutArtifacts::Detected(vec!["built".into(), "nothing".into(), "../x".into()]), "built\n"),
        (PutArtifacts::Named(vec!["built".into()]), "built\n"),
    ]
    .into_iter()
    .enumerate()
    {
        let (ending, seen) = setup.run(&format!("put-{n}"), put(script, inputs));
        let Ending::Exited { status: 0, result: Some(result), .. } = ending else { panic!("{ending:?}") };
        assert_eq!(result.version["n"], "2");
        assert_eq!(seen.text(), format!("{listed}two\n7\n"));
    }
    let missing = PutArtifacts::Named(vec!["built".into(), "gone".into()]);
    assert_eq!(could_not_run(setup.run("put-gone", put(script, missing)).0), "input not found: gone");
}

#[test]
fn a_resource_that_fails_or_talks_nonsense_is_told_apart() {
    let setup = Setup::new();
    let (ending, seen) = setup.run("fails", get("echo no such thing >&2; echo '{}'; exit 5", "code"));
    assert_eq!((ending, seen.text().as_str()), (exited(5, &[]), "no such thing\n"));
    let message = could_not_run(setup.run("nonsense", get("echo fine", "code")).0);
    assert!(message.starts_with("scripted in printed something else than a version and metadata"), "{message}");
    let message = could_not_run(setup.run("silent", get("true", "code")).0);
    assert_eq!(message, "resource script (scripted in) output a null version");
    let message = could_not_run(setup.run("endless", put("head -c 5000000 /dev/zero", PutArtifacts::All)).0);
    assert!(message.contains("printed more than 4194304 bytes"), "{message}");
    // None of them made an artifact.
    let config = json!({"inputs": [{"name": "code"}]});
    assert_eq!(could_not_run(setup.run("task", task_with("true", config)).0), "missing inputs: code");
}

#[test]
fn the_same_get_is_made_once() {
    let setup = Setup::new();
    let count = setup.dir.path().join("count");
    let script = format!(r#"echo x >> {}; echo fetched > file; echo '{{"version":{{"n":"1"}}}}'"#, count.display());
    let (first, _) = setup.run("first", get(&script, "code"));
    setup.server.order(|orders| orders.forget_builds.push(1));
    eventually("the build is forgotten", || !setup.dir.path().join("builds/1").exists());
    let mut given = attempt("second", get(&script, "again"));
    given.build = 2;
    setup.server.give(given);
    let (second, seen) = setup.server.finished("second");
    let (Ending::Exited { result: one, .. }, Ending::Exited { result: two, artifacts, .. }) = (first, second) else {
        panic!()
    };
    assert_eq!((one, artifacts), (two, vec!["again".to_owned()]));
    assert_eq!(seen.text(), "INFO: found existing resource cache\n");
    assert_eq!(std::fs::read_to_string(count).unwrap(), "x\n");
    // A step that changes its copy does not change the next one's.
    for id in ["change", "look"] {
        let mut given =
            attempt(id, task_with("cat again/file; echo changed > again/file", json!({"inputs": [{"name": "again"}]})));
        given.build = 2;
        setup.server.give(given);
        assert_eq!(setup.server.finished(id).1.text(), "fetched\n");
    }
}

/// A get of two files that counts in a file how often it is made.
fn counted_get(count: &Path) -> StepSpec {
    let script =
        format!(r#"echo x >> {}; echo one > one; echo two > two; echo '{{"version":{{"n":"1"}}}}'"#, count.display());
    get(&script, "code")
}

#[test]
fn half_of_a_get_that_was_kept_is_none() {
    let mut setup = Setup::new();
    let count = setup.dir.path().join("count");
    let fetch = |setup: &Setup, build: i64| {
        for (id, spec) in [
            ("get", counted_get(&count)),
            ("look", task_with("cat code/one code/two", json!({"inputs": [{"name": "code"}]}))),
        ] {
            let mut given = attempt(&format!("{id}-{build}"), spec);
            given.build = build;
            setup.server.give(given);
            let (ending, _) = setup.server.finished(&format!("{id}-{build}"));
            assert!(matches!(ending, Ending::Exited { status: 0, .. }), "{ending:?}");
        }
        assert_eq!(setup.server.state().seen[&format!("look-{build}")].text(), "one\ntwo\n");
        std::fs::read_to_string(&count).unwrap().lines().count()
    };
    assert_eq!(fetch(&setup, 1), 1);
    let gets = setup.dir.path().join("gets");
    let kept = std::fs::read_dir(&gets).unwrap().next().unwrap().unwrap().path();
    for (build, result) in [(2, None), (3, Some("")), (4, Some("{\"version\""))] {
        std::fs::remove_file(kept.join("files/two")).unwrap();
        match result {
            None => std::fs::remove_file(kept.join("result.json")).unwrap(),
            Some(text) => std::fs::write(kept.join("result.json"), text).unwrap(),
        }
        assert_eq!(fetch(&setup, build), build as usize, "it is fetched anew");
    }
    std::fs::remove_dir_all(kept.join("files")).unwrap();
    assert_eq!(fetch(&setup, 5), 5);
    assert_eq!(fetch(&setup, 6), 5, "and kept");
    let trash = setup.dir.path().join("trash");
    assert_eq!(std::fs::read_dir(&trash).unwrap().count(), 4);
    setup.restart_worker();
    eventually("what was thrown away is removed", || std::fs::read_dir(&trash).unwrap().count() == 0);
    assert_eq!(fetch(&setup, 7), 5);
}

#[test]
fn what_was_made_before_the_machine_was_started_anew_is_not_used() {
    let mut setup = Setup::new();
    let count = setup.dir.path().join("count");
    setup.run("get", counted_get(&count));
    setup.run("make", task_with("echo made > out/file", json!({"outputs": [{"name": "out"}]})));
    setup.run("files", files("files", &[("file", "text")]));
    // One has ended, and what it made was not taken out of its folder before the power cut.
    let kept = |setup: &Setup| {
        let links = setup.dir.path().join("builds/1/artifacts");
        ["code", "out", "files"].map(|name| links.join(name).exists())
    };
    assert_eq!(kept(&setup), [true; 3]);
    setup.kill_worker();
    std::fs::write(setup.dir.path().join("welcomed"), "another boot").unwrap();
    for id in ["get", "make"] {
        // The folder as it was when the step had ended; the server did not hear of it.
        std::fs::write(setup.folder(id).join("boot"), "another boot").unwrap();
        std::fs::remove_file(setup.folder(id).join("ending.json")).unwrap();
        setup.server.state().seen.remove(id);
    }
    std::fs::create_dir_all(setup.folder("get").join("work/resource")).unwrap();
    std::fs::create_dir_all(setup.folder("make").join("work/out")).unwrap();
    setup.start_worker();

    // How they ended is known all the same.
    let (ending, _) = setup.server.finished("get");
    assert!(matches!(&ending, Ending::Exited { status: 0, result: Some(_), .. }), "{ending:?}");
    assert_eq!(setup.server.finished("make").0, exited(0, &["out"]));
    assert_eq!(kept(&setup), [false; 3]);
    let inputs = |name: &str, optional| json!({"inputs": [{"name": name, "optional": optional}]});
    let mut from_file = task("");
    let StepSpec::Task { config, file, .. } = &mut from_file else { unreachable!() };
    (*config, *file) = (None, Some("files/file".to_owned()));
    let print = "echo '{\"version\":{\"n\":\"2\"}}'";
    for (n, (name, spec)) in [
        ("code", task_with("true", inputs("code", false))),
        // A step that could do without it is not to run as if it had never been.
        ("out", task_with("true", inputs("out", true))),
        ("files", from_file),
        ("code", put(print, PutArtifacts::All)),
        ("out", put(print, PutArtifacts::Detected(vec!["out".into()]))),
        ("files", put(print, PutArtifacts::Named(vec!["files".into()]))),
    ]
    .into_iter()
    .enumerate()
    {
        let message = could_not_run(setup.run(&format!("uses-{n}"), spec).0);
        let expected = format!("the artifact `{name}` was made before the worker's machine was started anew, and");
        assert!(message.starts_with(&expected), "{message}");
    }

    // What is made since is used, also by a worker that is restarted.
    setup.run("get-again", counted_get(&count));
    assert_eq!(std::fs::read_to_string(&count).unwrap(), "x\nx\n", "it is fetched anew");
    setup.run("make-again", task_with("echo anew > out/file", json!({"outputs": [{"name": "out"}]})));
    setup.restart_worker();
    let config = json!({"inputs": [{"name": "code"}, {"name": "out"}]});
    assert_eq!(setup.run("look", task_with("cat code/one out/file", config)).1.text(), "one\nanew\n");
}

#[test]
fn inputs_and_outputs_are_mapped_nested_and_replaced() {
    let setup = Setup::new();
    setup.run("a", files("outer", &[("file", "outer"), ("in/file", "covered")]));
    setup.run("b", files("inner", &[("file", "inner"), ("deep/er/file", "deep")]));
    let mut spec = task_with(
        "cat src/file src/in/file src/in/deep/er/file; ls opt 2>/dev/null; echo new > src/file; echo nested > src/in/made",
        json!({
            "inputs": [{"name": "i", "path": "src/in"}, {"name": "outer", "path": "./src"}, {"name": "opt", "optional": true}],
            "outputs": [{"name": "whole", "path": "src"}, {"name": "nested", "path": "src/in"}, {"name": "empty"}],
        }),
    );
    let StepSpec::Task { input_mapping, output_mapping, .. } = &mut spec else { unreachable!() };
    *input_mapping = BTreeMap::from([("i".into(), "inner".into())]);
    *output_mapping = BTreeMap::from([("whole".into(), "outer".into())]);
    let (ending, seen) = setup.run("task", spec);
    assert_eq!((ending, seen.text().as_str()), (exited(0, &["nested", "outer", "empty"]), "outerinnerdeep"));
    let inputs = json!({"inputs": [{"name": "outer"}, {"name": "nested"}, {"name": "empty"}, {"name": "inner"}]});
    let (_, seen) = setup.run(
        "look",
        task_with("cat outer/file nested/made inner/file; find outer nested empty -type f | sort", inputs),
    );
    assert_eq!(seen.text(), "new\nnested\ninnernested/deep/er/file\nnested/file\nnested/made\nouter/file\n");
}

#[test]
fn missing_inputs_are_named_together() {
    let setup = Setup::new();
    let spec = task_with("true", json!({"inputs": [{"name": "a"}, {"name": "b", "optional": true}, {"name": "c"}]}));
    assert_eq!(could_not_run(setup.run("task", spec).0), "missing inputs: a, c");
}

#[test]
fn copies_keep_modes_times_and_links() {
    let setup = Setup::new();
    let make = "cd out; echo x > plain; chmod 640 plain; echo y > run; chmod 755 run; echo z > locked; chmod 400 locked; \
                ln -s plain link; ln -s /etc/passwd outside; ln -s nowhere broken; mkdir -p shut/in; touch -d @1000000000 plain shut; \
                mkfifo pipe; chmod 555 shut";
    setup.run("make", task_with(make, json!({"outputs": [{"name": "out"}]})));
    let (ending, seen) = setup.run("look", task_with(
        "cd out; stat -c '%n %f' plain run locked; stat -c '%n %Y' plain shut; readlink link outside broken; ls | wc -l; ls shut",
        json!({"inputs": [{"name": "out"}]}),
    ));
    assert_eq!(ending, exited(0, &[]));
    assert_eq!(
        seen.text(),
        "plain 81a0\nrun 81ed\nlocked 8100\nplain 1000000000\nshut 1000000000\nplain\n/etc/passwd\nnowhere\n7\nin\n"
    );
    // Folders that may not be written go when the build goes.
    setup.server.order(|orders| {
        orders.forget_builds.push(1);
        orders.forget = vec!["make".into(), "look".into()];
    });
    eventually("everything is gone", || {
        !setup.dir.path().join("builds/1").exists() && !setup.folder("make").exists() && !setup.folder("look").exists()
    });
}

#[test]
fn a_config_file_comes_from_an_artifact_and_from_nowhere_else() {
    let setup = Setup::new();
    let text = "platform: linux\nparams: {WHO: ((who))}\nrun: {path: sh, args: [-c, 'echo $WHO']}\n";
    setup.run("files", files("code", &[("ci/task.yml", text), ("ci/bad.yml", "platform: linux\nruns: {path: x}\n")]));
    setup.run("links", task_with(
        "cd code; ln -s /etc/passwd passwd; ln -s ci/task.yml good.yml; ln -s .. up; mkdir dir; head -c 2000000 /dev/zero > huge",
        json!({"inputs": [{"name": "code"}], "outputs": [{"name": "code"}]}),
    ));
    let file = |id: &str, file: &str| {
        let mut spec = task("");
        let StepSpec::Task { config, file: place, vars, .. } = &mut spec else { unreachable!() };
        (*config, *place, *vars) = (None, Some(file.to_owned()), json!({"who": "ann"}));
        setup.run(id, spec)
    };
    for (n, name) in ["code/ci/task.yml", "code/good.yml", "code/./ci/task.yml"].into_iter().enumerate() {
        let (ending, seen) = file(&format!("good-{n}"), name);
        assert_eq!((ending, seen.text().as_str()), (exited(0, &[]), "ann\n"));
    }
    for (n, (name, message)) in [
        ("code", "config path 'code' does not specify where the file lives; write ARTIFACT/PATH"),
        (
            "nothing/task.yml",
            "unknown artifact source: 'nothing' in file path 'nothing/task.yml'; no step before this one made it",
        ),
        ("code/nothing.yml", "task config 'code/nothing.yml' not found"),
        ("code/../../x", "path \"../../x\" contains `..`; write it relative to the step's directory, without"),
        ("code//etc/passwd", "path \"/etc/passwd\" is absolute; write it relative to the step's directory"),
        ("code/passwd", "task config 'code/passwd' is a link that leads out of the artifact 'code'"),
        ("code/up/lock", "task config 'code/up/lock' is a link that leads out of the artifact 'code'"),
        ("code/dir", "task config 'code/dir' cannot be read: it is not a file"),
        ("code/huge", "task config 'code/huge' is larger than 1 MiB"),
        ("../x/y", "unknown artifact source: '..' in file path '../x/y'; no step before this one made it"),
    ]
    .into_iter()
    .enumerate()
    {
        let found = could_not_run(file(&format!("bad-{n}"), name).0);
        if name == "code/up/lock" {
            assert!(found.contains("leads out") || found.contains("not found"), "{found}");
        } else {
            assert_eq!(found, message);
        }
    }
    let message = could_not_run(file("wrong", "code/ci/bad.yml").0);
    assert!(message.starts_with("invalid task configuration:\n"), "{message}");
}

#[test]
fn hostile_names_and_paths_are_refused() {
    let setup = Setup::new();
    let refused = |id: &str, spec: StepSpec| {
        let message = could_not_run(setup.run(id, spec).0);
        assert!(!message.is_empty());
        message
    };
    for (n, name) in ["..", ".", "", "a/b", "/etc", "nul\0", &"x".repeat(300)].into_iter().enumerate() {
        let message = refused(&format!("files-{n}"), files(name, &[("x", "")]));
        assert!(message.contains("cannot be the name of a folder"), "{message}");
        refused(&format!("get-{n}"), get("touch marker; echo '{\"version\":{\"n\":\"1\"}}'", name));
        if !name.is_empty() {
            refused(&format!("output-{n}"), task_with("true", json!({"outputs": [{"name": name, "path": "x"}]})));
        }
    }
    for (n, path) in ["../evil", "/tmp/evil", "a/../../evil", "nul\0"].into_iter().enumerate() {
        setup.run(&format!("code-{n}"), files("code", &[("file", "")]));
        refused(&format!("in-{n}"), task_with("true", json!({"inputs": [{"name": "code", "path": path}]})));
        refused(&format!("out-{n}"), task_with("true", json!({"outputs": [{"name": "code", "path": path}]})));
        refused(&format!("cache-{n}"), task_with("true", json!({"caches": [{"path": path}]})));
        refused(&format!("dir-{n}"), task_with("", json!({"run": {"path": "true", "dir": path}})));
        refused(&format!("file-{n}"), files("code", &[(path, "")]));
    }
    for (n, (name, value)) in [("A=B", "x"), ("", "x"), ("A\0", "x"), ("A", "x\0")].into_iter().enumerate() {
        let mut spec = task("true");
        let StepSpec::Task { env, .. } = &mut spec else { unreachable!() };
        env.insert(name.to_owned(), value.to_owned());
        refused(&format!("env-{n}"), spec);
    }
    assert!(!setup.dir.path().join("evil").exists());
}

#[test]
fn a_link_in_an_input_is_not_written_through() {
    let setup = Setup::new();
    let outside = tempfile::tempdir().unwrap();
    let make = format!("ln -s {} out/link; echo x > out/plain", outside.path().display());
    setup.run("make", task_with(&make, json!({"outputs": [{"name": "out"}]})));
    setup.run("files", files("code", &[("file", "evil")]));
    let config = json!({"inputs": [{"name": "out"}, {"name": "code", "path": "out/link/sub"}]});
    let message = could_not_run(setup.run("through", task_with("true", config)).0);
    assert!(message.contains("is in the way: it is not a directory"), "{message}");
    // A step that puts a link where its output should be gives an empty artifact, not what the link shows.
    let make = format!("rmdir out; ln -s {} out", outside.path().display());
    std::fs::write(outside.path().join("secret"), "").unwrap();
    let (ending, _) = setup.run("swap", task_with(&make, json!({"outputs": [{"name": "out"}]})));
    assert_eq!(ending, exited(0, &["out"]));
    let (_, seen) = setup.run("look", task_with("ls -A out", json!({"inputs": [{"name": "out"}]})));
    assert_eq!(seen.text(), "");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
}

fn cached(script: &str, key: &str) -> StepSpec {
    let mut spec = task_with(script, json!({"caches": [{"path": "cache"}, {"path": "cache/inner"}]}));
    let StepSpec::Task { cache_key, .. } = &mut spec else { unreachable!() };
    *cache_key = (!key.is_empty()).then(|| key.to_owned());
    spec
}

#[test]
fn caches_come_back_whatever_the_end() {
    let mut setup = Setup::new();
    let look = "cat cache/* cache/inner/* 2>/dev/null; ";
    setup.run("first", cached(&format!("{look} echo one > cache/a; echo two > cache/inner/b; exit 1"), "job/step"));
    assert_eq!(setup.run("second", cached(&format!("{look} kill -9 $$"), "job/step")).1.text(), "one\ntwo\n");
    assert_eq!(setup.run("other", cached(look, "job/other")).1.text(), "");
    assert_eq!(setup.run("none", cached(look, "")).1.text(), "");

    // In use when the worker dies, and when the shim does.
    setup.server.give(attempt(
        "worker",
        cached(&format!("{look} while ! [ -e go ]; do sleep 0.01; done; echo three > cache/c"), "job/step"),
    ));
    setup.server.printed("worker", "two\n");
    setup.kill_worker();
    std::fs::write(setup.folder("worker").join("work/go"), "").unwrap();
    eventually("the step ends", || setup.folder("worker").join("exit.json").exists());
    setup.start_worker();
    setup.server.finished("worker");
    setup.server.give(attempt("shim", cached(&format!("{look} sleep 1000"), "job/step")));
    setup.server.printed("shim", "three\n");
    crate::support::kill(setup.pids("shim").1, nix::sys::signal::Signal::SIGKILL);
    setup.server.finished("shim");
    assert_eq!(setup.run("last", cached(look, "job/step")).1.text(), "one\nthree\ntwo\n");

    // The worker died when it had brought the cache and not yet started the step.
    setup.kill_worker();
    let folder = setup.folder("broken-off");
    let given = attempt("broken-off", cached(look, "job/step"));
    let last = setup.folder("last");
    std::fs::create_dir_all(folder.join("work")).unwrap();
    for file in ["collect.json", "boot"] {
        std::fs::copy(last.join(file), folder.join(file)).unwrap();
    }
    let collect: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("collect.json")).unwrap()).unwrap();
    let kept = setup.dir.path().join("caches");
    std::fs::rename(kept.join(collect["caches"][0][1].as_str().unwrap()), folder.join("work/cache")).unwrap();
    std::fs::write(folder.join("assignment.json"), serde_json::to_vec(&given).unwrap()).unwrap();
    setup.start_worker();
    assert_eq!(setup.server.finished("broken-off").1.text(), "one\nthree\ntwo\n");
}

#[test]
fn images_are_mentioned_once_a_build() {
    let setup = Setup::new();
    let image = json!({"image_resource": {"type": "registry-image", "source": {"repository": "x"}}});
    let says = |id: &str, build| {
        let mut given = attempt(id, task_with("true", image.clone()));
        given.build = build;
        setup.server.give(given);
        let (ending, seen) = setup.server.finished(id);
        assert_eq!(ending, exited(0, &[]));
        seen.text().contains("images are not used by the process runtime")
    };
    assert_eq!([says("a", 1), says("b", 1), says("c", 2)], [true, false, true]);
}

#[test]
fn the_folder_is_only_for_its_owner() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("work");
    let server = crate::server::Server::start();
    let worker = crate::support::WorkerProcess::start(&server.url(), &dir);
    server.wait("it says hello", |state| (!state.hellos.is_empty()).then_some(()));
    assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(std::fs::metadata(&dir).unwrap().uid(), nix::unistd::getuid().as_raw());
    worker.kill();
}
