//! Webhooks as they are sent, by those who know the secret and by those who do not.

use axum::http::{HeaderName, HeaderValue};
use hmac::{Hmac, KeyInit, Mac};
use proptest::prelude::*;
use serde_json::json;
use sha2::Sha256;

use super::*;

const SECRET: &str = "It's a Secret to Everybody";

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        (name, HeaderValue::from_str(value).expect("a value"))
    };
    pairs.iter().map(pair).collect()
}

fn sign(body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key");
    mac.update(body);
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

fn github(event: &str, body: &[u8]) -> Result<Vec<Touched>, WebhookError> {
    let headers = headers(&[("X-GitHub-Event", event), ("X-Hub-Signature-256", &sign(body))]);
    verify_and_parse(WebhookKind::GitHub, &headers, body, SECRET)
}

fn gitlab(body: &Value) -> Result<Vec<Touched>, WebhookError> {
    let headers = headers(&[("X-Gitlab-Token", SECRET)]);
    verify_and_parse(WebhookKind::GitLab, &headers, body.to_string().as_bytes(), SECRET)
}

fn authorized(kind: WebhookKind, body: &Value) -> Result<Vec<Touched>, WebhookError> {
    let headers = headers(&[("Authorization", SECRET)]);
    verify_and_parse(kind, &headers, body.to_string().as_bytes(), SECRET)
}

fn push(reference: &str) -> Value {
    json!({
        "ref": reference, "before": "1", "after": "2", "deleted": false,
        "repository": {
            "full_name": "team/api", "clone_url": "https://github.com/team/api.git",
            "ssh_url": "git@github.com:team/api.git", "git_url": "git://github.com/team/api.git",
            "html_url": "https://github.com/team/api",
        },
        "commits": [{"message": "x"}],
    })
}

fn branches<'a>(touched: &'a [Touched]) -> Vec<&'a GitRef> {
    let reference = |touched: &'a Touched| match touched {
        Touched::Git { reference, .. } => Some(reference),
        Touched::Image { .. } => None,
    };
    touched.iter().filter_map(reference).collect()
}

#[test]
fn the_signature_of_githubs_own_example() {
    // The example in GitHub's documentation of webhook signatures.
    let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let headers = headers(&[("X-Hub-Signature-256", signature)]);
    assert_eq!(verify_and_parse(WebhookKind::GitHub, &headers, b"Hello, World!", SECRET), Ok(vec![]));
}

#[test]
fn github_pushes() {
    let touched = github("push", push("refs/heads/main").to_string().as_bytes()).expect("a push");
    assert_eq!(branches(&touched), [&GitRef::Branch("main".to_owned())]);
    for uri in ["https://github.com/team/api", "git@github.com:Team/API.git"] {
        assert!(concerns(&touched[0], "git", &json!({"uri": uri, "branch": "main"})), "{uri}");
    }
    let touched = github("push", push("refs/tags/v1/2").to_string().as_bytes()).expect("a push");
    assert_eq!(branches(&touched), [&GitRef::Tag("v1/2".to_owned())]);
    for (event, body) in [
        ("ping", json!({"zen": "Design for failure."})),
        ("issues", push("refs/heads/main")),
        ("push", push("refs/notes/commits")),
    ] {
        assert_eq!(github(event, body.to_string().as_bytes()), Ok(vec![]), "{event}");
    }
    let mut gone = push("refs/heads/main");
    gone["deleted"] = json!(true);
    assert_eq!(github("push", gone.to_string().as_bytes()), Ok(vec![]));
}

#[test]
fn github_as_a_form() {
    let text = push("refs/heads/a+b").to_string();
    let encoded: String = text
        .bytes()
        .map(|byte| match byte {
            b' ' => "+".to_owned(),
            b if b.is_ascii_alphanumeric() => (b as char).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect();
    let send = |body: &str| {
        let signature = sign(body.as_bytes());
        let headers = headers(&[
            ("X-GitHub-Event", "push"),
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("X-Hub-Signature-256", &signature),
        ]);
        verify_and_parse(WebhookKind::GitHub, &headers, body.as_bytes(), SECRET)
    };
    let touched = send(&format!("x=y&payload={encoded}")).expect("a push");
    assert_eq!(branches(&touched), [&GitRef::Branch("a+b".to_owned())]);
    for body in ["", "x=y", "payload=%zz", "payload=", "payload=%7"] {
        assert!(matches!(send(body), Err(WebhookError::Malformed { .. })), "{body}");
    }
}

#[test]
fn gitlab_pushes() {
    let event = |kind: &str, reference: &str, after: &str| {
        json!({
            "object_kind": kind, "ref": reference, "after": after,
            "project": {
                "git_http_url": "https://gitlab.example/g/s/api.git", "git_ssh_url": "ssh://git@gitlab.example:2222/g/s/api.git",
                "web_url": "https://gitlab.example/g/s/api",
            },
        })
    };
    let touched = gitlab(&event("push", "refs/heads/main", "abc")).expect("a push");
    assert_eq!(branches(&touched), [&GitRef::Branch("main".to_owned())]);
    assert!(concerns(&touched[0], "git", &json!({"uri": "git@gitlab.example:g/s/api.git"})));
    let touched = gitlab(&event("tag_push", "refs/tags/v1", "abc")).expect("a push");
    assert_eq!(branches(&touched), [&GitRef::Tag("v1".to_owned())]);
    assert_eq!(gitlab(&event("push", "refs/heads/main", &"0".repeat(40))), Ok(vec![]));
    assert_eq!(gitlab(&event("issue", "refs/heads/main", "abc")), Ok(vec![]));
    assert_eq!(gitlab(&json!({"event_name": "user_create"})), Ok(vec![]));
    for body in [
        json!({"object_kind": "push"}),
        json!({"object_kind": "push", "ref": "refs/heads/x", "project": {}}),
        json!([1]),
    ] {
        assert!(matches!(gitlab(&body), Err(WebhookError::Malformed { kind: "GitLab", .. })), "{body}");
    }
}

#[test]
fn registry_notifications() {
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let event = |action: &str, target: Value| json!({"action": action, "target": target, "request": {"host": "registry.example:5000"}});
    let body = json!({"events": [
        event("push", json!({
            "mediaType": manifest, "digest": "sha256:1", "repository": "team/api", "tag": "main",
            "url": "http://10.0.0.7:5000/v2/team/api/manifests/sha256:1",
        })),
        event("push", json!({"mediaType": "application/octet-stream", "repository": "team/api", "digest": "sha256:2"})),
        event("pull", json!({"mediaType": manifest, "repository": "team/api", "tag": "main"})),
        event("push", json!({"mediaType": manifest, "repository": "team/api", "digest": "sha256:3"})),
        event("push", json!({"tag": "x"})),
        {},
    ]});
    let touched = authorized(WebhookKind::Registry, &body).expect("a notification");
    let repositories = vec!["registry.example:5000/team/api".to_owned(), "10.0.0.7:5000/team/api".to_owned()];
    assert_eq!(
        touched[0],
        Touched::Image { repositories, tag: Some("main".to_owned()), digest: Some("sha256:1".to_owned()) }
    );
    assert_eq!(touched.len(), 2, "{touched:?}");
    let source = json!({"repository": "registry.example:5000/team/api", "tag": "main"});
    assert!(concerns(&touched[0], "registry-image", &source));
    assert!(!concerns(&touched[1], "registry-image", &source), "an image without a tag moves none");
    let many = json!({"events": vec![json!({}); 10_001]});
    for body in [many, json!({}), json!({"events": {}}), json!({"events": [1]}), json!({"events": [{"target": 1}]})] {
        let result = authorized(WebhookKind::Registry, &body);
        assert!(matches!(result, Err(WebhookError::Malformed { kind: "a registry", .. })));
    }
}

#[test]
fn ecr_events() {
    let event = json!({
        "version": "0", "source": "aws.ecr", "detail-type": "ECR Image Action", "account": "123456789012", "region": "eu-west-1",
        "detail": {
            "action-type": "PUSH", "result": "SUCCESS", "repository-name": "notify/api", "image-digest": "sha256:1", "image-tag": "main",
        },
    });
    let send = |path: &[&str], value: Value| {
        let mut event = event.clone();
        let mut place = &mut event;
        for key in path {
            place = &mut place[*key];
        }
        *place = value;
        authorized(WebhookKind::Ecr, &event)
    };
    let touched = send(&[], event.clone()).expect("an event");
    let source = json!({"repository": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/notify/api"});
    assert!(concerns(&touched[0], "registry-image", &source));
    let touched = send(&["region"], json!("cn-north-1")).expect("an event");
    let source = json!({"repository": "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn/notify/api", "tag": "main"});
    assert!(concerns(&touched[0], "registry-image", &source));
    for (path, value) in [
        (&["source"][..], json!("aws.s3")),
        (&["detail-type"], json!("ECR Image Scan")),
        (&["detail", "action-type"], json!("DELETE")),
        (&["detail", "result"], json!("FAILURE")),
    ] {
        assert_eq!(send(path, value), Ok(vec![]), "{path:?}");
    }
    for (path, value) in [
        (&["account"][..], json!("evil.example/1")),
        (&["region"], json!("evil.example/")),
        (&["region"], Value::Null),
        (&["detail"], Value::Null),
        (&["detail", "repository-name"], json!("")),
    ] {
        assert!(matches!(send(path, value), Err(WebhookError::Malformed { kind: "Amazon ECR", .. })), "{path:?}");
    }
}

#[test]
fn nobody_without_the_secret() {
    let body = push("refs/heads/main").to_string();
    let body = body.as_bytes();
    let send = |kind, pairs: &[(&str, &str)], secret| verify_and_parse(kind, &headers(pairs), body, secret);
    let signature = sign(body);
    let cut = &signature[..signature.len() - 1];
    let upper = signature.to_uppercase();
    for (kind, name, values) in [
        (WebhookKind::GitHub, "X-Hub-Signature-256", &["", "sha256=", cut, &upper, "sha1=00", &signature[7..]][..]),
        (WebhookKind::GitLab, "X-Gitlab-Token", &["", "It's a Secret", "It's a Secret to Everybody!"]),
        (
            WebhookKind::Registry,
            "Authorization",
            &["", "Bearer", "Bearer x", "Basic", "Basic !!", "Basic eDp5", "Token x"],
        ),
        (WebhookKind::Ecr, "Authorization", &["", "Bearer wrong"]),
    ] {
        assert_eq!(send(kind, &[], SECRET), Err(WebhookError::MissingProof(name)), "{kind:?}");
        assert_eq!(send(kind, &[(name, SECRET)], ""), Err(WebhookError::NoSecret), "{kind:?}");
        for value in values {
            assert_eq!(send(kind, &[(name, value)], SECRET), Err(WebhookError::WrongProof(name)), "{kind:?} {value}");
        }
    }
    // One bit of the body is another body.
    let mut other = body.to_vec();
    other[0] ^= 1;
    let pairs = headers(&[("X-Hub-Signature-256", &signature)]);
    let result = verify_and_parse(WebhookKind::GitHub, &pairs, &other, SECRET);
    assert_eq!(result, Err(WebhookError::WrongProof("X-Hub-Signature-256")));
}

#[test]
fn ways_to_send_the_secret_of_a_registry() {
    for value in [
        SECRET.to_owned(),
        format!("Bearer {SECRET}"),
        "Basic aG9sZGFsbDpJdCdzIGEgU2VjcmV0IHRvIEV2ZXJ5Ym9keQ==".to_owned(),
    ] {
        let headers = headers(&[("Authorization", &value)]);
        assert_eq!(
            verify_and_parse(WebhookKind::Registry, &headers, br#"{"events":[]}"#, SECRET),
            Ok(vec![]),
            "{value}"
        );
    }
}

#[test]
fn bodies_that_are_too_large_or_deep() {
    let body = vec![b'['; MAX_BODY_BYTES + 1];
    assert_eq!(github("push", &body), Err(WebhookError::TooLarge));
    assert!(matches!(github("push", &body[1..]), Err(WebhookError::Malformed { kind: "GitHub", .. })));
    let deep = format!(r#"{{"ref":"refs/heads/main","x":{}"#, "[".repeat(1 << 20));
    assert!(matches!(github("push", deep.as_bytes()), Err(WebhookError::Malformed { .. })));
    for body in [&b""[..], b"null", b"\xff", b"{}", br#"{"ref":1}"#, br#"{"ref":"refs/heads/x","repository":{}}"#] {
        assert!(matches!(github("push", body), Err(WebhookError::Malformed { .. })), "{body:?}");
    }
}

#[test]
fn what_concerns_a_resource() {
    let branch =
        Touched::Git { urls: vec!["https://h.example/a".to_owned()], reference: GitRef::Branch("main".to_owned()) };
    let tag = Touched::Git { urls: vec!["https://h.example/a".to_owned()], reference: GitRef::Tag("v1".to_owned()) };
    let image =
        Touched::Image { repositories: vec!["r.example/a".to_owned()], tag: Some("18".to_owned()), digest: None };
    for (touched, kind, source, expected) in [
        (&branch, "git", json!({"uri": "git@h.example:a", "branch": "main"}), true),
        (&branch, "git", json!({"uri": "git@h.example:a", "branch": "other"}), false),
        (&branch, "git", json!({"uri": "git@h.example:a"}), true),
        (&branch, "git", json!({"uri": "git@h.example:a", "branch": ""}), true),
        (&branch, "git", json!({"uri": "git@h.example:b"}), false),
        (&branch, "git", json!({"uri": 7}), false),
        (&branch, "git", json!(null), false),
        (&branch, "registry-image", json!({"uri": "git@h.example:a", "repository": "h.example/a"}), false),
        (&tag, "git", json!({"uri": "git@h.example:a", "branch": "main"}), false),
        (&tag, "git", json!({"uri": "git@h.example:a", "tag_filter": "v*"}), true),
        (&tag, "git", json!({"uri": "git@h.example:a", "branch": "main", "tag_regex": "^v"}), true),
        (&image, "registry-image", json!({"repository": "r.example/a", "tag": "18"}), true),
        (&image, "registry-image", json!({"repository": "r.example/a", "tag": 18}), true),
        (&image, "registry-image", json!({"repository": "r.example/a", "tag": "19"}), false),
        (&image, "registry-image", json!({"repository": "r.example/a", "semver_constraint": "^18"}), true),
        (&image, "registry-image", json!({"repository": "r.example/b"}), false),
        (&image, "git", json!({"uri": "https://r.example/a"}), false),
    ] {
        assert_eq!(concerns(touched, kind, &source), expected, "{touched:?} {kind} {source}");
    }
}

proptest! {
    #[test]
    fn no_body_and_no_header_panics(body in prop::collection::vec(any::<u8>(), 0..200), value in "[ -~]{0,80}", uri in ".{0,60}") {
        let proofs = ["X-Hub-Signature-256", "X-Gitlab-Token", "Authorization", "X-GitHub-Event"].map(|name| (name, value.as_str()));
        let signature = sign(&body);
        let signed = [("X-Hub-Signature-256", signature.as_str()), ("X-Gitlab-Token", SECRET), ("Authorization", SECRET), ("X-GitHub-Event", "push")];
        for kind in [WebhookKind::GitHub, WebhookKind::GitLab, WebhookKind::Registry, WebhookKind::Ecr] {
            prop_assert!(verify_and_parse(kind, &headers(&proofs), &body, SECRET).is_err());
            let _ = verify_and_parse(kind, &headers(&signed), &body, SECRET);
        }
        let touched = Touched::Git { urls: vec![uri.clone()], reference: GitRef::Branch("main".to_owned()) };
        concerns(&touched, "git", &json!({"uri": uri}));
        let touched = Touched::Image { repositories: vec![uri.clone()], tag: Some("t".to_owned()), digest: None };
        concerns(&touched, "registry-image", &json!({"repository": uri}));
    }
}
