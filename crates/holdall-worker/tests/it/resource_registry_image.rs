//! `registry-image` against Debian's `docker-registry`.

use std::fs;

use serde_json::{Value, json};

use crate::resource_images::{RealRegistry, oci_image, oci_index, saved_image, tar_of};
use crate::resource_world::World;

fn version(tag: &str, digest: &str) -> Value {
    json!({"tag": tag, "digest": digest})
}

fn metadata(result: &Value, name: &str) -> Option<String> {
    let fields = result["metadata"].as_array().expect("a list");
    let field = fields.iter().find(|field| field["name"] == name)?;
    field["value"].as_str().map(str::to_owned)
}

#[test]
fn a_tag_is_followed_by_its_digest() {
    let world = World::new();
    let Some(registry) = RealRegistry::start(&world, false) else { return };
    let source = registry.source("team/api", json!({"tag": "main"}));
    assert_eq!(world.check("registry-image", &source, Value::Null), Ok(vec![]), "nothing there yet");

    let labels = json!({"org.opencontainers.image.revision": "c0ffee", "schema": "42"});
    let one = oci_image(&world.path("one.tar"), "one", labels.clone());
    let result = world.put("registry-image", &source, json!({"image": "one.tar"})).expect("a put");
    assert_eq!(result["version"], version("main", &one));
    assert_eq!(world.check("registry-image", &source, Value::Null), Ok(vec![version("main", &one)]));
    assert_eq!(world.check("registry-image", &source, version("main", &one)), Ok(vec![version("main", &one)]));

    let two = oci_image(&world.path("two.tar"), "two", json!({}));
    world.put("registry-image", &source, json!({"image": "t*.tar"})).expect("a put");
    let both = vec![version("main", &one), version("main", &two)];
    assert_eq!(world.check("registry-image", &source, version("main", &one)), Ok(both));

    // The image that the tag had before is still there by its digest.
    let result = world.get("registry-image", &source, &version("main", &one), json!({}), "got").expect("a get");
    assert_eq!(result["version"], version("main", &one));
    assert_eq!(metadata(&result, "revision").as_deref(), Some("c0ffee"));
    assert_eq!(metadata(&result, "created").as_deref(), Some("2026-11-24T10:00:00Z"));
    assert_eq!(world.read("got/repository"), source["repository"].as_str().expect("text"));
    assert_eq!((world.read("got/tag"), world.read("got/digest")), ("main".to_owned(), one.clone()));
    assert_eq!(crate::resource_images::digest(world.read("got/manifest.json").as_bytes()), one);
    let read = |name: &str| serde_json::from_str::<Value>(&world.read(name)).expect("JSON");
    assert_eq!(read("got/labels.json"), labels);
    assert_eq!(read("got/metadata.json"), json!({"env": ["A=b"], "user": "app", "cmd": ["serve"]}));
    assert!(!world.path("got/rootfs").exists() && !world.path("got/image.tar").exists());

    registry.delete("team/api", &one);
    assert_eq!(world.check("registry-image", &source, version("main", &one)), Ok(vec![version("main", &two)]));
    let error = world.get("registry-image", &source, &version("main", &one), json!({}), "gone").expect_err("removed");
    assert!(error.contains("is not in the registry any more"), "{error}");
}

#[test]
fn tags_that_are_versions() {
    let world = World::new();
    let Some(registry) = RealRegistry::start(&world, false) else { return };
    let source = registry.source("api", json!({}));
    let push = |source: &Value, version: &str, params: Value| {
        let digest = oci_image(&world.path("image.tar"), version, json!({}));
        let mut request = json!({"image": "image.tar", "version": version});
        request.as_object_mut().expect("an object").extend(params.as_object().expect("an object").clone());
        world.put("registry-image", source, request).expect("a put");
        digest
    };
    let v1 = push(&source, "1.0.0", json!({"bump_aliases": true}));
    let v10 = push(&source, "1.10.0", json!({"bump_aliases": true}));
    let v2 = push(&source, "1.2.0", json!({"bump_aliases": true}));
    let rc = push(&source, "2.0.0-rc.1", json!({"bump_aliases": true}));
    let alpine = push(&registry.source("api", json!({"variant": "alpine"})), "1.2.0", json!({"bump_aliases": true}));
    let tags = |more: Value, from: Value| {
        let mut source = source.clone();
        source.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        world.check("registry-image", &source, from).expect("a check")
    };
    let (one, two, ten) = (version("1.0.0", &v1), version("1.2.0", &v2), version("1.10.0", &v10));
    assert_eq!(tags(json!({}), Value::Null), [one.clone(), two.clone(), ten.clone()]);
    assert_eq!(tags(json!({}), two.clone()), [two.clone(), ten.clone()]);
    assert_eq!(tags(json!({}), ten.clone()), std::slice::from_ref(&ten));
    assert_eq!(tags(json!({"semver_constraint": "~1.2"}), Value::Null), std::slice::from_ref(&two));
    assert_eq!(tags(json!({"semver_constraint": "< 1.2 || >= 1.10"}), Value::Null), [one, ten.clone()]);
    assert_eq!(tags(json!({"semver_constraint": "^3"}), Value::Null), [Value::Null; 0]);
    assert_eq!(tags(json!({"pre_releases": true}), ten.clone()), [ten, version("2.0.0-rc.1", &rc)]);
    assert_eq!(tags(json!({"variant": "alpine"}), Value::Null), [version("1.2.0-alpine", &alpine)]);
    // 1.2.0 came after 1.10.0: it moved the name 1.2, and neither 1 nor latest. A pre-release moves nothing.
    for (tag, digest) in
        [("1", &v10), ("1.2", &v2), ("1.10", &v10), ("latest", &v10), ("1-alpine", &alpine), ("alpine", &alpine)]
    {
        assert_eq!(tags(json!({"tag": tag}), Value::Null), [version(tag, digest)]);
    }
}

#[test]
fn latest_where_no_tag_is_a_version() {
    let world = World::new();
    let Some(registry) = RealRegistry::start(&world, false) else { return };
    let digest = oci_image(&world.path("image.tar"), "x", json!({}));
    fs::write(world.path("tags"), "latest main\n").expect("written");
    let source = registry.source("api", json!({}));
    let params = json!({"image": "image.tar", "additional_tags": "tags"});
    let result = world.put("registry-image", &source, params).expect("a put");
    assert_eq!(metadata(&result, "tags").as_deref(), Some("latest main"));
    assert_eq!(world.check("registry-image", &source, Value::Null), Ok(vec![version("latest", &digest)]));
}

#[test]
fn an_image_goes_from_one_repository_to_another() {
    let world = World::new();
    let Some(registry) = RealRegistry::start(&world, false) else { return };
    let from = registry.source("from", json!({"tag": "t"}));
    let to = registry.source("to", json!({"tag": "t"}));
    saved_image(&world.path("saved.tar"), "a layer");
    let pushed = world.put("registry-image", &from, json!({"image": "saved.tar"})).expect("a put");
    let again = world.put("registry-image", &from, json!({"image": "saved.tar"})).expect("a put");
    assert_eq!(pushed["version"], again["version"], "the same file has the same digest");
    assert!(world.logged().contains("is there already"));
    world.get("registry-image", &from, &pushed["version"], json!({"format": "oci"}), "got").expect("a get");
    let copied = world.put("registry-image", &to, json!({"image": "got/image.tar"})).expect("a put");
    assert_eq!(copied["version"], pushed["version"]);
    assert_eq!(world.check("registry-image", &to, Value::Null), Ok(vec![pushed["version"].clone()]));
}

#[test]
fn an_index_keeps_its_digest_and_shows_one_platform() {
    let world = World::new();
    let Some(registry) = RealRegistry::start(&world, false) else { return };
    let digest = oci_index(&world.path("index.tar"));
    let source = |more: Value| registry.source("api", more);
    let plain = source(json!({"tag": "t"}));
    world.put("registry-image", &plain, json!({"image": "index.tar"})).expect("a put");
    assert_eq!(world.check("registry-image", &plain, Value::Null), Ok(vec![version("t", &digest)]));
    for architecture in ["amd64", "arm64"] {
        let source = source(json!({"tag": "t", "platform": {"architecture": architecture}}));
        world.get("registry-image", &source, &version("t", &digest), json!({}), architecture).expect("a get");
        assert_eq!(world.read(&format!("{architecture}/labels.json")), format!(r#"{{"for":"{architecture}"}}"#));
        assert_eq!(world.read(&format!("{architecture}/digest")), digest);
    }
    let source = source(json!({"tag": "t", "platform": {"architecture": "riscv64"}}));
    world.get("registry-image", &source, &version("t", &digest), json!({}), "none").expect("the digest is enough");
    assert_eq!(world.read("none/labels.json"), "{}");
    let error =
        world.get("registry-image", &source, &version("t", &digest), json!({"format": "oci"}), "oci").expect_err("");
    assert!(error.contains("has no image for linux/riscv64"), "{error}");
}

#[test]
fn a_registry_with_passwords() {
    let world = World::new();
    let Some(registry) = RealRegistry::start(&world, true) else { return };
    let digest = oci_image(&world.path("image.tar"), "x", json!({}));
    let none = registry.source("api", json!({"tag": "t"}));
    let wrong = registry.source("api", json!({"tag": "t", "username": "me", "password": "guess"}));
    let right = registry.source("api", json!({"tag": "t", "username": "me", "password": "hunter2"}));
    let error = world.check("registry-image", &none, Value::Null).expect_err("no credentials");
    assert!(error.contains("wants credentials: set `username` and `password`"), "{error}");
    let error = world.put("registry-image", &wrong, json!({"image": "image.tar"})).expect_err("wrong credentials");
    assert!(error.contains("did not accept the credentials of the resource"), "{error}");
    world.put("registry-image", &right, json!({"image": "image.tar"})).expect("a put");
    assert_eq!(world.check("registry-image", &right, Value::Null), Ok(vec![version("t", &digest)]));
    let params = json!({"username": "me", "password": "hunter2"});
    world.get("registry-image", &none, &version("t", &digest), params, "got").expect("credentials in params");
    assert!(!world.logged().contains("hunter2"));
}

#[test]
fn mistakes_say_what_would_be_right() {
    let world = World::new();
    tar_of(&world.path("empty.tar"), &[]);
    fs::write(world.path("text.tar"), "not an archive").expect("written");
    oci_image(&world.path("image.tar"), "x", json!({}));
    let whole = fs::read(world.path("image.tar")).expect("read");
    fs::write(world.path("cut.tar"), &whole[..whole.len() / 2]).expect("written");
    let nowhere = json!({"repository": "127.0.0.1:1/x", "tag": "t"});
    let untagged = json!({"repository": "127.0.0.1:1/x"});
    for (source, params, expected) in [
        (&nowhere, json!({}), "params needs `image`"),
        (&nowhere, json!({"image": "no.tar"}), "there is no image `no.tar`"),
        (&nowhere, json!({"image": "*.tar"}), "`image` is one file, and `*.tar` stands for 4"),
        (&nowhere, json!({"image": "../x"}), "must be a relative path without `..`"),
        (&nowhere, json!({"image": "empty.tar"}), "neither `index.json` (an OCI layout) nor `manifest.json`"),
        (&nowhere, json!({"image": "text.tar"}), "text.tar"),
        (&nowhere, json!({"image": "cut.tar"}), "cut.tar"),
        (&nowhere, json!({"image": "image.tar"}), "the registry 127.0.0.1:1 cannot be reached"),
        (&untagged, json!({"image": "image.tar"}), "the image would have no tag"),
        (&untagged, json!({"image": "image.tar", "version": "main"}), "`main` is not a version"),
        (&untagged, json!({"image": "image.tar", "bump_aliases": true}), "`bump_aliases` in params needs `version`"),
        (&untagged, json!({"image": "image.tar", "versoin": "1"}), "did you mean `version`?"),
        (&json!({"repository": "x", "aws_region": "eu"}), json!({}), "`aws_region` in source is not supported"),
        (&json!({"repository": "x:1"}), json!({}), "write `tag: 1` beside it"),
        (&json!({"repository": "x", "tag": "1", "semver_constraint": "1"}), json!({}), "exclude each other"),
        (&json!({"repository": "x", "semver_constraint": "newest"}), json!({}), "`newest` is not a constraint"),
        (&json!({"repository": "x", "registry_mirror": {"hots": "y"}}), json!({}), "did you mean `host`?"),
        (&json!({"repository": "x", "tag": 1.2}), json!({}), "write it in quotes"),
    ] {
        let error = world.put("registry-image", source, params.clone()).expect_err("a mistake");
        assert!(error.contains(expected), "{source} {params}: {error}");
    }
    let digest = format!("sha256:{}", "0".repeat(64));
    let get =
        |version: Value, params: Value| world.get("registry-image", &nowhere, &version, params, "got").expect_err("");
    assert!(get(json!({"tag": "t"}), json!({})).contains("needs `digest`"));
    assert!(get(json!({"digest": "sha256:../../x"}), json!({})).contains("needs `digest`"));
    let error = get(version("t", &digest), json!({"format": "rootfs"}));
    assert!(error.contains("of use only to containers, which this worker does not have yet"), "{error}");
}
