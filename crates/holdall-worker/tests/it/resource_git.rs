//! `git` on real repositories.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::resource_http::{FakeServer, answer};
use crate::resource_world::{World, git, reference};

fn with(source: &Value, more: Value) -> Value {
    let mut source = source.clone();
    for (key, value) in more.as_object().expect("an object") {
        source[key] = value.clone();
    }
    source
}

fn metadata<'a>(result: &'a Value, name: &str) -> &'a str {
    let fields = result["metadata"].as_array().expect("a list");
    let field = fields.iter().find(|field| field["name"] == name);
    field.and_then(|field| field["value"].as_str()).unwrap_or_else(|| panic!("no {name} in {result}"))
}

#[test]
fn check_gives_the_newest_then_what_is_newer() {
    let world = World::new();
    let source = world.bare("repo");
    assert_eq!(world.check("git", &source, Value::Null), Ok(vec![]), "an empty repository has no versions");
    let one = world.commit("repo", "a", "one");
    assert_eq!(world.check("git", &source, Value::Null), Ok(vec![reference(&one)]));
    let two = world.commit("repo", "a", "two");
    let three = world.commit("repo", "a", "three");
    assert_eq!(world.check("git", &source, Value::Null), Ok(vec![reference(&three)]));
    let all = [&one, &two, &three].map(|commit| reference(commit)).to_vec();
    assert_eq!(world.check("git", &source, reference(&one)), Ok(all.clone()));
    assert_eq!(world.check("git", &source, reference(&one[..8])), Ok(all.clone()), "a short name is understood");
    assert_eq!(world.check("git", &with(&source, json!({"version_depth": 9})), Value::Null), Ok(all.clone()));
    let mut head = source.clone();
    head.as_object_mut().expect("an object").remove("branch");
    assert_eq!(world.check("git", &head, reference(&one)), Ok(all), "no branch is the repository's own");
}

#[test]
fn nothing_new_costs_one_ls_remote() {
    let mut world = World::new();
    let source = world.bare("repo");
    world.commit("repo", "docs/a", "one");
    let two = world.commit("repo", "src/a", "two");
    let paths = with(&source, json!({"paths": ["docs"]}));
    let tagged = with(&source, json!({"tag_filter": "v*"}));
    git(&world.path("repo"), &["tag", "v1", &two]);
    let first_paths = world.check("git", &paths, Value::Null).expect("a check");
    let first_tags = world.check("git", &tagged, Value::Null).expect("a check");

    let counter = world.count_git();
    for (source, version) in
        [(&source, reference(&two)), (&paths, first_paths[0].clone()), (&tagged, first_tags[0].clone())]
    {
        for _ in 0..3 {
            assert_eq!(world.check("git", source, version.clone()), Ok(vec![version.clone()]));
            let calls = counter.calls();
            assert_eq!(calls.len(), 1, "{calls:?}");
            assert!(calls[0].starts_with("ls-remote "), "{calls:?}");
        }
    }

    // A commit that does not count: found out once, then one `ls-remote` again.
    world.commit("repo", "src/a", "three");
    for expected in [false, true, true] {
        assert_eq!(world.check("git", &paths, first_paths[0].clone()), Ok(vec![first_paths[0].clone()]));
        assert_eq!(counter.calls().len() == 1, expected);
    }
}

#[test]
fn a_rewritten_branch_gives_its_newest() {
    let world = World::new();
    let source = world.bare("repo");
    let one = world.commit("repo", "a", "one");
    let gone = world.commit("repo", "a", "two");
    assert_eq!(world.check("git", &source, reference(&one)).expect("a check").len(), 2);
    let work = world.path("repo-work");
    git(&work, &["reset", "--quiet", "--hard", &one]);
    git(&work, &["commit", "--quiet", "--allow-empty", "--message", "another two"]);
    git(&work, &["push", "--quiet", "--force", "origin", "HEAD:main"]);
    let new = git(&work, &["rev-parse", "HEAD"]);
    assert_eq!(world.check("git", &source, reference(&gone)), Ok(vec![reference(&new)]));
    assert_eq!(world.check("git", &source, reference(&one)), Ok(vec![reference(&one), reference(&new)]));
    assert_eq!(world.check("git", &source, reference(&"0".repeat(40))), Ok(vec![reference(&new)]));

    // What is in the cache can be fetched although the branch has it no more; what nobody has cannot.
    world.get("git", &source, &reference(&gone), json!({}), "got").expect("a get");
    let error = world.get("git", &source, &reference(&"1".repeat(40)), json!({}), "none").expect_err("nobody has it");
    assert!(error.contains("is not in") && error.contains("force push"), "{error}");
}

#[test]
fn paths_and_messages_filter() {
    let world = World::new();
    let source = world.bare("repo");
    let one = world.commit("repo", "docs/a", "one");
    let two = world.commit("repo", "src/a.rs", "two");
    let skipped = world.commit("repo", "src/a.rs", "three [ci skip]");
    let four = world.commit("repo", "README", "four");
    let check = |more: Value| {
        let versions = world.check("git", &with(&source, more), reference(&one)).expect("a check");
        versions.into_iter().map(|version| version["ref"].as_str().expect("text").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(check(json!({})), [&*one, &two, &four]);
    assert_eq!(check(json!({"disable_ci_skip": true})), [&*one, &two, &skipped, &four]);
    assert_eq!(check(json!({"paths": ["src/*.rs"]})), [&*one, &two]);
    assert_eq!(check(json!({"ignore_paths": ["src"]})), [&*one, &four]);
    assert_eq!(check(json!({"paths": ["src", "README"], "ignore_paths": ["README"]})), [&*one, &two]);
    assert_eq!(check(json!({"commit_filter": {"exclude": ["two"]}})), [&*one, &four]);
    let source = with(&source, json!({"paths": ["src"]}));
    assert_eq!(world.check("git", &source, Value::Null), Ok(vec![reference(&two)]), "the newest that counts");
}

#[test]
fn tags_are_versions_in_the_order_they_were_made() {
    let world = World::new();
    let source = world.bare("repo");
    let one = world.commit("repo", "a", "one");
    let two = world.commit("repo", "a", "two");
    let work = world.path("repo-work");
    git(&work, &["tag", "v2.0", &one]);
    git(&work, &["tag", "--annotate", "--message", "released", "v10.0", &two]);
    git(&work, &["tag", "other", &two]);
    git(&work, &["push", "--quiet", "origin", "--tags"]);
    let (v2, v10) = (json!({"ref": "v2.0", "commit": one}), json!({"ref": "v10.0", "commit": two}));
    for filter in [json!({"tag_filter": "v*"}), json!({"tag_regex": "^v[0-9]+"})] {
        let source = with(&source, filter);
        assert_eq!(world.check("git", &source, Value::Null), Ok(vec![v10.clone()]));
        assert_eq!(world.check("git", &source, v2.clone()), Ok(vec![v2.clone(), v10.clone()]));
        assert_eq!(world.check("git", &source, json!({"ref": "v0"})), Ok(vec![v10.clone()]));
    }
    let none = with(&source, json!({"tag_filter": "w*"}));
    assert_eq!(world.check("git", &none, Value::Null), Ok(vec![]));
    let source = with(&source, json!({"tag_filter": "v*"}));
    let result = world.get("git", &source, &v2, json!({}), "got").expect("a get");
    assert_eq!(result["version"], v2);
    assert_eq!((world.read("got/.git/ref").trim(), world.read("got/a").trim()), ("v2.0", "one"));
    assert_eq!(metadata(&result, "tags"), "v2.0");
    let pinned = world.get("git", &source, &json!({"ref": "v10.0"}), json!({}), "pinned").expect("a pin by name");
    assert_eq!(metadata(&pinned, "commit"), two);
}

#[test]
fn get_is_exactly_the_commit() {
    let world = World::new();
    let source = world.bare("repo");
    let one = world.commit("repo", "a", "one\n\nwith a body");
    let two = world.commit("repo", "a", "two");
    git(&world.path("repo"), &["tag", "later", &two]);
    let result =
        world.get("git", &source, &reference(&one), json!({"short_ref_format": "v-%s"}), "got").expect("a get");
    assert_eq!(result["version"], reference(&one));
    assert_eq!(metadata(&result, "commit"), one);
    assert_eq!(metadata(&result, "author"), "Ann");
    assert_eq!(metadata(&result, "branch"), "main");
    assert_eq!(metadata(&result, "message"), "one\n\nwith a body");
    let got = world.path("got");
    assert_eq!(git(&got, &["rev-parse", "HEAD"]), one);
    assert_eq!(git(&got, &["status", "--porcelain"]), "");
    assert_eq!(git(&got, &["log", "--all", "--format=%H"]), one, "nothing newer comes along");
    assert_eq!(git(&got, &["tag"]), "");
    assert_eq!(git(&got, &["remote", "get-url", "origin"]), source["uri"]);
    for (file, content) in [
        ("ref", format!("{one}\n")),
        ("short_ref", format!("v-{}", &one[..7])),
        ("commit_message", "one\n\nwith a body\n".to_owned()),
        ("committer", "ann@example.org".to_owned()),
        ("branch", "main\n".to_owned()),
    ] {
        assert_eq!(world.read(&format!("got/.git/{file}")), content, "{file}");
    }
    world.get("git", &source, &reference(&one), json!({"fetch_tags": true}), "tags").expect("a get");
    assert_eq!(git(&world.path("tags"), &["tag"]), "later");
    world.get("git", &source, &reference(&two), json!({"clean_tags": true}), "clean").expect("a get");
    assert_eq!(git(&world.path("clean"), &["tag"]), "");
}

#[test]
fn get_of_a_depth() {
    let world = World::new();
    let mut source = world.bare("repo");
    source["uri"] = json!(format!("file://{}", world.path("repo").display()));
    world.commit("repo", "a", "one");
    let two = world.commit("repo", "a", "two");
    world.commit("repo", "a", "three");
    world.get("git", &source, &reference(&two), json!({"depth": 1}), "got").expect("a get");
    assert_eq!(git(&world.path("got"), &["log", "--format=%s"]), "two");
    assert!(!world.path("cache").exists(), "a shallow get needs no cache");
}

#[test]
fn submodules_come_along() {
    let world = World::new();
    let source = with(&world.bare("repo"), json!({"git_config": [{"name": "protocol.file.allow", "value": "always"}]}));
    world.bare("library");
    world.commit("library", "code", "library one");
    world.commit("repo", "a", "one");
    let work = world.path("repo-work");
    let add = ["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "../library", "lib"];
    git(&work, &add);
    let two = world.commit("repo", "a", "two");
    world.get("git", &source, &reference(&two), json!({}), "all").expect("a get");
    assert_eq!(world.read("all/lib/code"), "library one\n");
    world
        .get("git", &source, &reference(&two), json!({"submodules": ["lib"], "submodule_recursive": false}), "some")
        .expect("a get");
    assert_eq!(world.read("some/lib/code"), "library one\n");
    world.get("git", &source, &reference(&two), json!({"submodules": "none"}), "none").expect("a get");
    assert!(!world.path("none/lib/code").exists());
    let error = world.get("git", &source, &reference(&two), json!({"submodules": "some"}), "x").expect_err("a mistake");
    assert!(error.contains("write `all`, `none` or a list of paths"), "{error}");
}

/// A task's work: gets the newest commit into `name` and commits a file there.
fn change(world: &World, source: &Value, name: &str, file: &str) -> String {
    let newest = world.check("git", source, Value::Null).expect("a check");
    world.get("git", source, &newest[0], json!({}), name).expect("a get");
    let dir = world.path(name);
    fs::write(dir.join(file), format!("{name}\n")).expect("written");
    git(&dir, &["add", "--all"]);
    git(&dir, &["commit", "--quiet", "--message", &format!("change of {name}")]);
    git(&dir, &["rev-parse", "HEAD"])
}

#[test]
fn put_pushes_and_its_version_can_be_got() {
    let world = World::new();
    let source = world.bare("repo");
    world.commit("repo", "a", "one");
    let change = change(&world, &source, "mine", "b");
    let result = world.put("git", &source, json!({"repository": "mine"})).expect("a put");
    assert_eq!(result["version"], reference(&change));
    assert_eq!(metadata(&result, "message"), "change of mine");
    assert_eq!(git(&world.path("repo"), &["rev-parse", "main"]), change);
    world.get("git", &source, &result["version"], json!({}), "again").expect("the implicit get");
    assert_eq!(world.read("again/b"), "mine\n");
    let other = world.put("git", &source, json!({"repository": "mine", "branch": "other"})).expect("a put");
    assert_eq!(other["version"], reference(&change));
    assert_eq!(git(&world.path("repo"), &["rev-parse", "other"]), change);
}

#[test]
fn put_rebases_or_merges_or_says_what_to_do() {
    let world = World::new();
    let source = world.bare("repo");
    world.commit("repo", "a", "one");
    let [rebased, merged, unmerged, forced] = ["r", "m", "u", "f"].map(|name| change(&world, &source, name, name));
    let theirs = world.commit("repo", "theirs", "theirs");
    let repo = world.path("repo");

    let error = world.put("git", &source, json!({"repository": "r"})).expect_err("refused");
    assert!(error.contains("has commits that") && error.contains("set `rebase: true`"), "{error}");
    assert_eq!(git(&repo, &["rev-parse", "main"]), theirs);

    let result = world.put("git", &source, json!({"repository": "r", "rebase": true})).expect("a put");
    let head = git(&repo, &["rev-parse", "main"]);
    assert_eq!(result["version"], reference(&head));
    assert_eq!(git(&repo, &["log", "--format=%s", "-2", "main"]), "change of r\ntheirs");
    assert_eq!(git(&world.path("r"), &["rev-parse", "HEAD"]), rebased, "the artifact is left as it was");

    let result = world.put("git", &source, json!({"repository": "m", "merge": true})).expect("a put");
    assert_eq!(result["version"], reference(&git(&repo, &["rev-parse", "main"])));
    assert_eq!(git(&repo, &["rev-parse", "main^1"]), merged);
    let params = json!({"repository": "u", "merge": true, "returning": "unmerged"});
    assert_eq!(world.put("git", &source, params).expect("a put")["version"], reference(&unmerged));

    world.put("git", &source, json!({"repository": "f", "force": true})).expect("a put");
    assert_eq!(git(&repo, &["rev-parse", "main"]), forced);
}

#[test]
fn put_names_the_files_in_conflict() {
    let world = World::new();
    let source = world.bare("repo");
    world.commit("repo", "a", "one");
    change(&world, &source, "mine", "a");
    world.commit("repo", "a", "theirs");
    for how in ["rebase", "merge"] {
        let error = world.put("git", &source, json!({"repository": "mine", how: true})).expect_err("a conflict");
        assert!(error.contains("has conflicts in a: solve them"), "{error}");
    }
}

#[test]
fn concurrent_puts_all_arrive() {
    let world = World::new();
    let source = world.bare("repo");
    world.commit("repo", "a", "one");
    let names = ["p1", "p2", "p3", "p4"];
    for name in names {
        change(&world, &source, name, name);
    }
    std::thread::scope(|scope| {
        let puts = names.map(|name| {
            let request = json!({"source": source, "params": {"repository": name, "rebase": true}}).to_string();
            let (dir, ctx) = (world.root.path(), &world.ctx);
            scope.spawn(move || holdall_worker::resource::run("git", "out", Some(dir), request.as_bytes(), ctx))
        });
        for put in puts {
            put.join().expect("no panic").expect("a put");
        }
    });
    let mut subjects: Vec<String> =
        git(&world.path("repo"), &["log", "--format=%s", "main"]).lines().map(str::to_owned).collect();
    subjects.sort();
    assert_eq!(subjects, ["change of p1", "change of p2", "change of p3", "change of p4", "one"]);
}

#[test]
fn put_of_tags() {
    let world = World::new();
    let source = world.bare("repo");
    let one = world.commit("repo", "a", "one");
    let change = change(&world, &source, "mine", "b");
    fs::write(world.path("number"), "1.2\n").expect("written");
    fs::write(world.path("notes"), "tested by hand\n").expect("written");
    let repo = world.path("repo");
    let params = json!({"repository": "mine", "only_tag": true, "tag": "number", "tag_prefix": "v"});
    assert_eq!(world.put("git", &source, params).expect("a put")["version"], reference(&change));
    assert_eq!(git(&repo, &["rev-parse", "main"]), one);
    assert_eq!(git(&repo, &["rev-parse", "v1.2"]), change);
    // The commit is on no branch, and can be got all the same.
    world.get("git", &source, &reference(&change), json!({}), "tagged").expect("a get");

    let params = json!({"repository": "mine", "tag": "number", "annotate": "notes", "notes": "notes"});
    world.put("git", &source, params).expect("a put");
    assert_eq!(git(&repo, &["rev-parse", "main"]), change);
    assert_eq!(git(&repo, &["cat-file", "-t", "1.2"]), "tag");
    assert_eq!(git(&repo, &["notes", "show", "main"]), "tested by hand");

    // A tag that is somewhere else already is refused, also with rebase, and names itself.
    git(&repo, &["tag", "--force", "1.2", &one]);
    let params = json!({"repository": "mine", "tag": "number", "rebase": true});
    let error = world.put("git", &source, params).expect_err("refused");
    assert!(error.contains("refused") && error.contains("refs/tags/1.2"), "{error}");
}

#[test]
fn mistakes_of_a_put() {
    let world = World::new();
    let source = world.bare("repo");
    fs::create_dir(world.path("plain")).expect("made");
    let no_branch = json!({"uri": source["uri"]});
    for (source, params, expected) in [
        (&source, json!({}), "params needs `repository`"),
        (&source, json!({"repository": "../x"}), "must be a relative path without `..`"),
        (&source, json!({"repository": "nothing"}), "there is no artifact"),
        (&source, json!({"repository": "plain"}), "is not a git repository with a commit"),
        (&source, json!({"repository": "x", "rebase": true, "merge": true}), "exclude each other"),
        (&source, json!({"repository": "x", "rebas": true}), "did you mean `rebase`?"),
        (&no_branch, json!({"repository": "x"}), "a put needs `branch`"),
        (&source, json!({"repository": "x", "annotate": "y"}), "`annotate` in params needs `tag`"),
    ] {
        let error = world.put("git", source, params.clone()).expect_err("a mistake");
        assert!(error.contains(expected), "{params}: {error}");
    }
}

#[test]
fn errors_say_what_to_do() {
    let mut world = World::new();
    let source = world.bare("repo");
    world.commit("repo", "a", "one");
    let error = world.check("git", &with(&source, json!({"branch": "mian"})), Value::Null).expect_err("no branch");
    assert!(error.contains("there is no branch `mian`") && error.contains("did you mean `main`?"), "{error}");
    let nowhere = json!({"uri": world.path("nowhere").display().to_string()});
    let error = world.check("git", &nowhere, Value::Null).expect_err("no repository");
    assert!(error.contains("there is no repository at"), "{error}");
    // Port 1 of the loopback is closed.
    let error = world.check("git", &json!({"uri": "http://127.0.0.1:1/x"}), Value::Null).expect_err("unreachable");
    assert!(error.contains("http://127.0.0.1:1/x cannot be reached"), "{error}");
    let error = world.check("git", &json!({"uri": "ext::sh -c 'touch pwned'"}), Value::Null).expect_err("refused");
    assert!(error.contains("transport 'ext' not allowed"), "{error}");

    let fake = world.path("fake");
    fs::create_dir(&fake).expect("made");
    fs::write(fake.join("git"), "#!/bin/sh\necho git version 2.11.0\n").expect("written");
    fs::set_permissions(fake.join("git"), fs::Permissions::from_mode(0o755)).expect("executable");
    world.set_env("PATH", &fake.display().to_string());
    let error = world.put("git", &source, json!({"repository": "x"})).expect_err("too old");
    assert!(error.contains("is too old: it is version `2.11.0`"), "{error}");
    world.set_env("PATH", &world.path("tmp").display().to_string());
    let error = world.check("git", &source, Value::Null).expect_err("missing");
    assert!(error.contains("git is not installed on this worker"), "{error}");
}

#[test]
fn concurrent_checks_and_gets_share_one_cache() {
    let world = World::new();
    let source = world.bare("repo");
    let one = world.commit("repo", "a", "one");
    let two = world.commit("repo", "a", "two");
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for n in 0..4 {
            let (world, source, one, two) = (&world, &source, &one, &two);
            threads.push(scope.spawn(move || {
                let request = json!({"source": source, "version": reference(one)}).to_string();
                let dir = world.path(&format!("got{n}"));
                let run = |op, dir| holdall_worker::resource::run("git", op, dir, request.as_bytes(), &world.ctx);
                let versions = run("check", None).expect("a check");
                assert_eq!(versions, json!([reference(one), reference(two)]));
                run("in", Some(&dir)).expect("a get");
            }));
        }
        for thread in threads {
            thread.join().expect("no panic");
        }
    });
    let caches = fs::read_dir(world.path("cache/git")).expect("a cache").flatten();
    assert_eq!(caches.filter(|entry| entry.path().is_dir()).count(), 1);
}

#[test]
fn a_broken_cache_heals() {
    let world = World::new();
    let source = world.bare("repo");
    let one = world.commit("repo", "a", "one");
    world.check("git", &source, Value::Null).expect("a check");
    let cache = fs::read_dir(world.path("cache/git")).expect("a cache").flatten();
    let cache = cache.map(|entry| entry.path()).find(|path| path.is_dir()).expect("a clone");
    // As a git leaves it that was killed, and as a full disk leaves it.
    fs::write(cache.join("packed-refs.lock"), "").expect("written");
    fs::write(cache.join("refs/heads/main.lock"), "").expect("written");
    fs::remove_dir_all(cache.join("objects/pack")).expect("removed");
    let two = world.commit("repo", "a", "two");
    let versions = world.check("git", &source, reference(&one)).expect("a check");
    assert_eq!(versions, [reference(&one), reference(&two)]);
}

#[test]
fn secrets_stay_out_of_the_artifact_and_the_log() {
    let world = World::new();
    let source =
        with(&world.bare("repo"), json!({"username": "me", "password": "hunter2-pass", "private_key": "hunter2-key"}));
    let one = world.commit("repo", "a", "one");
    world.get("git", &source, &reference(&one), json!({}), "got").expect("a get");
    assert!(!world.logged().contains("hunter2"));
    let found =
        std::process::Command::new("grep").args(["-r", "hunter2"]).arg(world.root.path()).output().expect("grep");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

#[test]
fn credentials_for_http() {
    let world = World::new();
    world.bare("repo");
    let one = world.commit("repo", "a", "one");
    let advertised = std::process::Command::new("git")
        .args(["upload-pack", "--stateless-rpc", "--advertise-refs"])
        .arg(world.path("repo"))
        .output()
        .expect("git runs");
    let refs = [b"001e# service=git-upload-pack\n0000".to_vec(), advertised.stdout].concat();
    let server = FakeServer::start(move |asked| match asked.authorization.as_deref() {
        // `me:p@ss word`
        Some("Basic bWU6cEBzcyB3b3Jk") => {
            answer(200, &[("Content-Type", "application/x-git-upload-pack-advertisement")], &refs)
        }
        _ => answer(401, &[("WWW-Authenticate", "Basic realm=\"git\"")], b""),
    });
    let uri = format!("http://127.0.0.1:{}/repo.git", server.port);
    // The old protocol needs no second request.
    let git_config = json!([{"name": "protocol.version", "value": "0"}]);
    let source = json!({"uri": uri, "branch": "main", "git_config": git_config});
    for right in
        [json!({"username": "me", "password": "p@ss word"}), json!({"uri": uri.replace("//", "//me:p%40ss%20word@")})]
    {
        let versions = world.check("git", &with(&source, right), reference(&one));
        assert_eq!(versions, Ok(vec![reference(&one)]));
    }
    for wrong in [json!({}), json!({"username": "me", "password": "guess"})] {
        let error = world.check("git", &with(&source, wrong), Value::Null).expect_err("refused");
        assert!(error.starts_with(&format!("{uri} did not accept the credentials")), "{error}");
        assert!(!error.contains("guess"), "{error}");
    }
}

#[test]
fn a_private_key_for_ssh() {
    let mut world = World::new();
    world.bare("repo");
    let one = world.commit("repo", "a", "one");
    // Writes down how it was called, and does what the other side would do.
    let script = format!(
        "#!/bin/sh\necho \"$*\" >> '{log}'\nfor word; do case \"$before\" in -i) cat \"$word\" >> '{log}'; \
         stat -c %a \"$word\" >> '{log}';; esac; before=$word; done\nexec sh -c \"$before\"\n",
        log = world.path("ssh.log").display()
    );
    let bin = world.path("bin");
    fs::create_dir(&bin).expect("made");
    fs::write(bin.join("ssh"), script).expect("written");
    fs::set_permissions(bin.join("ssh"), fs::Permissions::from_mode(0o755)).expect("executable");
    let path = format!("{}:{}", bin.display(), world.ctx.env["PATH"]);
    world.set_env("PATH", &path);
    let source = json!({
        "uri": format!("ssh://git@git.example{}", world.path("repo").display()), "branch": "main",
        "private_key": "the key\n\n", "private_key_user": "robot",
    });
    assert_eq!(world.check("git", &source, Value::Null), Ok(vec![reference(&one)]));
    let log = world.read("ssh.log");
    assert!(log.contains("-F /dev/null -o BatchMode=yes") && log.contains("-l robot"), "{log}");
    assert!(log.contains("\nthe key\n600\n"), "{log}");
}
