//! `registry-image` against registries that ask for tokens, want patience, or lie.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::resource_http::{Asked, FakeServer, answer};
use crate::resource_images::digest;
use crate::resource_world::World;

fn source(server: &FakeServer, more: Value) -> Value {
    let mut source = json!({"repository": format!("127.0.0.1:{}/team/api", server.port)});
    source.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    source
}

fn check(server: &FakeServer, more: Value) -> Result<Vec<Value>, String> {
    World::new().check("registry-image", &source(server, more), Value::Null)
}

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn head(digest: &str) -> Vec<u8> {
    // An answer to HEAD has no body, whatever its length says.
    format!("HTTP/1.1 200 OK\r\nConnection: close\r\nDocker-Content-Digest: {digest}\r\nContent-Length: 7\r\n\r\n")
        .into_bytes()
}

#[test]
fn nothing_new_costs_one_request() {
    let server = FakeServer::start(|_| head(DIGEST));
    let world = World::new();
    let version = json!({"tag": "t", "digest": DIGEST});
    let versions = world.check("registry-image", &source(&server, json!({"tag": "t"})), version.clone());
    assert_eq!(versions, Ok(vec![version]));
    let asked = server.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!((asked[0].method.as_str(), asked[0].path.as_str()), ("HEAD", "/v2/team/api/manifests/t"));
}

/// Asks for a token of the server itself, and takes only this one.
fn with_token(token: &'static str) -> impl Fn(&Asked) -> Vec<u8> + Send + 'static {
    let port = AtomicUsize::new(0);
    move |asked: &Asked| {
        if let Some(given) = asked.path.strip_prefix("/port/") {
            port.store(given.parse().expect("a port"), Ordering::SeqCst);
            return answer(200, &[], b"");
        }
        if asked.path.starts_with("/token?") {
            return answer(200, &[], json!({"token": token}).to_string().as_bytes());
        }
        if asked.authorization.as_deref() == Some("Bearer good") {
            return head(DIGEST);
        }
        let realm = format!("http://127.0.0.1:{}/token", port.load(Ordering::SeqCst));
        let challenge = format!(r#"Bearer realm="{realm}",service="the registry",scope="repository:team/api:pull""#);
        answer(401, &[("WWW-Authenticate", &challenge)], b"")
    }
}

fn start_with_token(token: &'static str) -> FakeServer {
    let server = FakeServer::start(with_token(token));
    let url = format!("http://127.0.0.1:{port}/port/{port}", port = server.port);
    ureq::get(&url).call().expect("an answer");
    server.asked();
    server
}

#[test]
fn tokens() {
    let server = start_with_token("good");
    let versions = check(&server, json!({"tag": "t", "username": "me", "password": "pass"})).expect("a check");
    assert_eq!(versions, [json!({"tag": "t", "digest": DIGEST})]);
    let asked = server.asked();
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert_eq!(asked[1].path, "/token?service=the%20registry&scope=repository%3Ateam%2Fapi%3Apull");
    assert_eq!(asked[1].authorization.as_deref(), Some("Basic bWU6cGFzcw=="));

    let server = start_with_token("bad");
    let error = check(&server, json!({"tag": "t"})).expect_err("the token is not good");
    assert!(error.contains("wants credentials"), "{error}");
    assert_eq!(server.asked().len(), 3, "a token that is refused is not asked for again");

    let server = start_with_token("good\r\nX-Evil: 1");
    let error = check(&server, json!({"tag": "t"})).expect_err("not a token");
    assert!(error.contains("no token from http://127.0.0.1"), "{error}");
}

#[test]
fn a_registry_that_cannot_be_reached_is_named_with_the_cause() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    for (host, cause) in [(nobody.to_string(), "refused"), ("registry.invalid".to_owned(), "")] {
        let source = json!({"repository": format!("{host}/team/api"), "tag": "t"});
        let error = World::new().check("registry-image", &source, Value::Null).expect_err("nobody is there");
        let said = format!("the registry {host} cannot be reached: ");
        assert!(error.contains(&said) && error.contains(cause), "{error}");
    }
}

#[test]
fn challenges_that_cannot_be_met() {
    for (challenge, expected) in [
        ("", "a kind of authentication that is not known here"),
        ("Negotiate", "a kind of authentication that is not known here"),
        ("Basic realm=\"x\"", "wants credentials"),
        ("Bearer", "does not say where to get a token"),
        ("Bearer realm=\"file:///etc/passwd\"", "does not say where to get a token"),
        ("Bearer realm=\"http://127.0.0.1:1/token\"", "no token from http://127.0.0.1:1/token"),
    ] {
        let server = FakeServer::start(move |_| answer(401, &[("WWW-Authenticate", challenge)], b""));
        let error = check(&server, json!({"tag": "t"})).expect_err("refused");
        assert!(error.contains(expected), "{challenge}: {error}");
    }
}

#[test]
fn patience() {
    let count = AtomicUsize::new(0);
    let server = FakeServer::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => answer(429, &[("Retry-After", "0")], b""),
        1 => answer(503, &[("Retry-After", "Tue, 24 Nov 2020 10:00:00 GMT")], b""),
        _ => head(DIGEST),
    });
    assert_eq!(check(&server, json!({"tag": "t"})).expect("a check").len(), 1);

    let server =
        FakeServer::start(|_| answer(429, &[("Retry-After", "86400")], br#"{"errors":[{"code":"TOOMANYREQUESTS"}]}"#));
    let error = check(&server, json!({"semver_constraint": "1"})).expect_err("tomorrow");
    assert!(
        error.contains("no more requests for now (status 429): TOOMANYREQUESTS; it wants to be asked again in 86400 s"),
        "{error}"
    );
    let server = FakeServer::start(|_| answer(429, &[("Retry-After", "0")], b""));
    check(&server, json!({"tag": "t"})).expect_err("never");
    assert_eq!(server.asked().len(), 4, "there is an end to it");
}

#[test]
fn lies_about_digests() {
    let manifest = br#"{"schemaVersion":2,"manifests":[]}"#;
    for (promised, expected) in
        [("sha256:../../../etc", "calls `sha256:../../../etc` a digest"), ("md5:00", "calls `md5:00` a digest")]
    {
        let server = FakeServer::start(move |_| head(promised));
        let error = check(&server, json!({"tag": "t"})).expect_err("a lie");
        assert!(error.contains(expected), "{error}");
    }
    // The digest of a tag that is not promised is the manifest's own.
    let server = FakeServer::start(move |asked| answer(200, &[], if asked.method == "HEAD" { b"" } else { manifest }));
    assert_eq!(check(&server, json!({"tag": "t"})).expect("a check")[0]["digest"], digest(manifest));
    let get = |server: &FakeServer, digest: &str| {
        let version = json!({"tag": "t", "digest": digest});
        World::new().get("registry-image", &source(server, json!({})), &version, json!({}), "got").expect_err("a lie")
    };
    let server = FakeServer::start(move |_| answer(200, &[], manifest));
    assert!(get(&server, DIGEST).contains("does not have the digest"));
    let config = br#"{"a":1}"#;
    let (right, wrong) = (digest(config), digest(b"other"));
    for (pointed, expected) in [(wrong, "is something else"), (right, "cannot be read")] {
        let manifest = json!({
            "schemaVersion": 2,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": pointed, "size": 7},
        })
        .to_string();
        let of_manifest = digest(manifest.as_bytes());
        // The second time the configuration has the right digest and is not JSON after all.
        let blob: &[u8] = if expected == "cannot be read" { b"{\"a\":1" } else { config };
        let blob = blob.to_vec();
        let manifest =
            if expected == "cannot be read" { manifest.replace(&digest(config), &digest(&blob)) } else { manifest };
        let of_manifest = if expected == "cannot be read" { digest(manifest.as_bytes()) } else { of_manifest };
        let server = FakeServer::start(move |asked| {
            answer(200, &[], if asked.path.contains("/blobs/") { &blob } else { manifest.as_bytes() })
        });
        let error = get(&server, &of_manifest);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn answers_without_end() {
    let endless = |_: &Asked| answer(200, &[], &vec![b' '; 17 << 20]);
    let server = FakeServer::start(endless);
    let error = check(&server, json!({"semver_constraint": "1"})).expect_err("too long");
    assert!(error.contains("the list of tags: the answer is longer than"), "{error}");
    let version = json!({"tag": "t", "digest": DIGEST});
    let error = World::new()
        .get("registry-image", &source(&server, json!({})), &version, json!({}), "got")
        .expect_err("too long");
    assert!(error.contains("the answer is longer than 4194304 bytes"), "{error}");

    let again = |asked: &Asked| answer(200, &[("Link", &format!("<{}>; rel=\"next\"", asked.path))], br#"{"tags":[]}"#);
    let server = FakeServer::start(again);
    let error = check(&server, json!({"semver_constraint": "1"})).expect_err("pages without end");
    assert!(error.contains("does not end"), "{error}");
}

#[test]
fn pages_of_tags() {
    let server = FakeServer::start(|asked| match asked.path.as_str() {
        "/v2/team/api/tags/list?n=1000" => answer(
            200,
            &[("Link", "</v2/team/api/tags/list?n=1000&last=b>; rel=\"next\"")],
            br#"{"tags":["1.0.0","../evil"]}"#,
        ),
        "/v2/team/api/tags/list?n=1000&last=b" => {
            answer(200, &[("Link", "<?last=c>; rel=\"next\"")], br#"{"tags":null}"#)
        }
        "/v2/team/api/tags/list?last=c" => answer(200, &[], br#"{"tags":["1.1.0"]}"#),
        path if path.ends_with("1.0.0") => head(DIGEST),
        _ => head(&digest(b"x")),
    });
    let versions = check(&server, json!({"semver_constraint": "1"})).expect("a check");
    let tags: Vec<&Value> = versions.iter().map(|version| &version["tag"]).collect();
    assert_eq!(tags, ["1.0.0", "1.1.0"]);
    let elsewhere = |_: &Asked| answer(200, &[("Link", "<http://evil.example/v2/x>; rel=\"next\"")], br#"{"tags":[]}"#);
    let error = check(&FakeServer::start(elsewhere), json!({"semver_constraint": "1"})).expect_err("refused");
    assert!(error.contains("wants the next page to be fetched from `http://evil.example/v2/x`"), "{error}");
}

#[test]
fn answers_that_are_none() {
    for bytes in
        [&b""[..], b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n{", b"\xff\xfe\x00"]
    {
        let bytes = bytes.to_vec();
        let server = FakeServer::start(move |_| bytes.clone());
        let error = check(&server, json!({"semver_constraint": "1"})).expect_err("no answer");
        assert!(error.contains("team/api"), "{error}");
    }
    for body in [&b"[]"[..], b"{\"tags\":{}}", b"{\"tags\":[1]}", b"<html>"] {
        let server = FakeServer::start(move |_| answer(200, &[], body));
        let error = check(&server, json!({"semver_constraint": "1"})).expect_err("no list");
        assert!(error.contains("the list of tags cannot be read"), "{error}");
    }
    let server = FakeServer::start(|_| {
        answer(500, &[], br#"{"errors":[{"code":"UNKNOWN","message":"out of\u001b[31m luck"}]}"#)
    });
    let error = check(&server, json!({"semver_constraint": "1"})).expect_err("no list");
    assert!(error.contains("refused (status 500): UNKNOWN out of[31m luck"), "{error}");
}

#[test]
fn credentials_stay_with_the_registry() {
    // Blobs are often elsewhere: they are fetched from there without the registry's credentials.
    let elsewhere = FakeServer::start(|_| answer(200, &[], br#"{"config":{"Labels":{"a":"b"}}}"#));
    let config = br#"{"config":{"Labels":{"a":"b"}}}"#;
    let manifest = json!({
        "schemaVersion": 2,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(config), "size": 31},
    })
    .to_string();
    let of_manifest = digest(manifest.as_bytes());
    let blob = format!("http://localhost:{}/blob", elsewhere.port);
    let server = FakeServer::start(move |asked| match asked.authorization {
        None => answer(401, &[("WWW-Authenticate", "Basic realm=\"x\"")], b""),
        Some(_) if asked.path.contains("/blobs/") => answer(307, &[("Location", &blob)], b""),
        Some(_) => answer(200, &[], manifest.as_bytes()),
    });
    let world = World::new();
    let source = source(&server, json!({"username": "me", "password": "pass"}));
    let version = json!({"tag": "t", "digest": of_manifest});
    world.get("registry-image", &source, &version, json!({}), "got").expect("a get");
    assert_eq!(world.read("got/labels.json"), r#"{"a":"b"}"#);
    let asked = elsewhere.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].authorization, None);
}

#[test]
fn a_mirror_is_asked_first() {
    let mirror = FakeServer::start(|_| head(DIGEST));
    let host = format!("127.0.0.1:{}", mirror.port);
    let source = json!({"repository": "api", "tag": "t", "registry_mirror": {"host": host}});
    let versions = World::new().check("registry-image", &source, Value::Null).expect("a check");
    assert_eq!(versions, [json!({"tag": "t", "digest": DIGEST})]);
    assert_eq!(mirror.asked()[0].path, "/v2/library/api/manifests/t");
}

#[test]
fn certificates() {
    let ca = include_str!("tls/ca.pem");
    let check = |server: &FakeServer, more: Value| {
        let mut source = json!({"repository": format!("localhost:{}/team/api", server.port), "tag": "t"});
        source.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        World::new().check("registry-image", &source, Value::Null)
    };
    let server = FakeServer::start_tls(|_| head(DIGEST));
    let expected = Ok(vec![json!({"tag": "t", "digest": DIGEST})]);
    assert_eq!(check(&server, json!({"ca_certs": [ca]})), expected);
    // Somebody else's authority does not vouch for it. Any certificate will do as that.
    let error = check(&server, json!({"ca_certs": [include_str!("tls/server.pem")]})).expect_err("not trusted");
    assert!(error.contains("cannot be reached") && error.contains("certificate"), "{error}");
    assert_eq!(check(&server, json!({"ca_certs": ["x"], "insecure": true})), expected, "nothing is looked at");
    let error = check(&server, json!({"ca_certs": ["not PEM"]})).expect_err("a mistake");
    assert!(error.contains("`ca_certs` in source: number 1 holds no certificate in PEM"), "{error}");
    // Not encrypted is good enough only where it says so.
    let server = FakeServer::start(|_| head(DIGEST));
    assert!(check(&server, json!({"ca_certs": [ca]})).is_err());
    assert_eq!(check(&server, json!({"ca_certs": [ca], "insecure": true})), expected);
}
