//! Who may come in, from where, and how errors are answered.

use holdall_protocol::api::{Info, List, Token, TokenMade};
use holdall_store::{checks, resources};
use serde_json::json;

use crate::support::{Place, TestServer, on_both_databases};

on_both_databases!(tokens_are_made_listed_and_deleted);

const API: &str = "/api/holdall/v1";

fn worker_token(place: &Place) -> String {
    std::fs::read_to_string(place.dir().join("data/worker-token")).unwrap().trim().to_owned()
}

#[test]
fn each_request_is_let_in_or_not() {
    let place = Place::sqlite();
    let server = TestServer::start(&place);
    let admin = format!("Authorization: Bearer {}\r\n", server.token);
    let worker = format!("Authorization: Bearer {}\r\n", worker_token(&place));
    let cookie = format!("Cookie: other=1; holdall_token={}\r\n", server.token);
    let (admin, worker, cookie) = (admin.as_str(), worker.as_str(), cookie.as_str());
    let wrong = "Authorization: Bearer holdall_wrong\r\n";
    let origin = "Origin: http://localhost:4650\r\n";
    let foreign = "Origin: http://evil.example\r\n";
    let here = "localhost:4650";
    let (info, tokens, hello, events, backup) = (
        format!("{API}/info"),
        format!("{API}/tokens"),
        format!("{API}/worker/hello"),
        format!("{API}/builds/1/events"),
        format!("{API}/backup"),
    );
    for (method, path, host, head, status) in [
        // Anyone may ask who this is, and nothing else.
        ("GET", info.as_str(), here, vec![], 200),
        ("GET", &info, here, vec![wrong], 401),
        ("GET", &info, here, vec!["Authorization: Basic eDp5\r\n"], 401),
        ("GET", &tokens, here, vec![], 401),
        ("GET", &tokens, here, vec![wrong], 401),
        ("GET", &tokens, here, vec![admin], 200),
        ("GET", &tokens, here, vec![cookie], 200),
        ("GET", &events, here, vec![], 401),
        ("GET", &events, here, vec![admin], 404),
        ("GET", "/nothing", here, vec![], 401),
        ("GET", "/nothing", here, vec!["Accept: text/html\r\n"], 303),
        ("GET", "/nothing", here, vec![admin], 404),
        ("GET", "/login", here, vec![], 200),
        ("PUT", &tokens, here, vec![admin], 405),
        // The worker's token opens the worker's session.
        ("POST", &hello, here, vec![], 401),
        ("POST", &hello, here, vec![worker], 400),
        ("POST", &hello, here, vec![admin], 400),
        ("GET", &tokens, here, vec![worker], 403),
        ("POST", &tokens, here, vec![worker], 403),
        // A backup holds everything.
        ("POST", &backup, here, vec![], 401),
        ("POST", &backup, here, vec![worker], 403),
        ("POST", &backup, here, vec![admin, foreign], 403),
        ("GET", &backup, here, vec![admin], 405),
        ("POST", &backup, here, vec![admin], 200),
        ("GET", &info, here, vec![worker], 200),
        // Only under its own names.
        ("GET", &info, "evil.example", vec![], 403),
        ("GET", &tokens, "evil.example:4650", vec![admin], 403),
        ("GET", &tokens, "127.0.0.1:1", vec![admin], 200),
        ("GET", &tokens, "10.0.0.7", vec![admin], 403),
        // What changes something does not come from elsewhere.
        ("POST", &tokens, here, vec![admin], 400),
        ("POST", &tokens, here, vec![admin, origin], 400),
        ("POST", &tokens, here, vec![admin, foreign], 403),
        ("POST", &tokens, here, vec![admin, "Origin: null\r\n"], 403),
        ("POST", &tokens, here, vec![admin, "Sec-Fetch-Site: cross-site\r\n"], 403),
        ("POST", &tokens, here, vec![cookie, origin], 400),
        ("POST", &tokens, here, vec![cookie], 403),
        ("POST", &tokens, here, vec![cookie, foreign], 403),
        ("DELETE", "/api/holdall/v1/tokens/ann", here, vec![cookie, "Origin: http://localhost:3000\r\n"], 403),
    ] {
        let head = format!("Host: {host}\r\nContent-Type: application/json\r\n{}", head.concat());
        let answer = server.raw(method, path, &head, b"{}");
        assert_eq!(answer.status, status, "{method} {path} {head}: {answer:?}");
        assert!(answer.header("x-request-id").is_some_and(|id| !id.is_empty()), "{answer:?}");
        if status >= 400 {
            let body = answer.json();
            assert_eq!(body["request_id"].as_str(), answer.header("x-request-id"), "{answer:?}");
            assert!(body["message"].as_str().is_some_and(|message| !message.ends_with('.')), "{answer:?}");
        }
    }
    let no_host = server.raw("GET", &info, "", b"");
    assert!(matches!(no_host.status, 400 | 403), "{no_host:?}");
}

#[test]
fn a_server_that_shows_itself_to_everyone_lets_nobody_act() {
    let place = Place::sqlite();
    let mut config = place.config();
    config.open_pages = true;
    config.hosts = vec!["ci.example".to_owned()];
    let server = TestServer::start_with(config).unwrap();
    let head = "Host: ci.example\r\nContent-Type: application/json\r\n";
    for (method, path, status) in [
        ("GET", "/builds/1/log", 404),
        ("GET", "/tokens", 401),
        ("POST", "/tokens", 401),
        ("DELETE", "/tokens/admin", 401),
        ("POST", "/worker/poll", 401),
    ] {
        let answer = server.raw(method, &format!("{API}{path}"), head, b"{}");
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
    }
}

#[test]
fn a_browser_logs_in_with_a_token() {
    let place = Place::sqlite();
    let server = TestServer::start(&place);
    let host = "Host: localhost\r\n";
    let wrong = server.raw("GET", "/login?token=%3Cscript%3E", host, b"");
    assert_eq!(wrong.status, 401);
    assert!(wrong.header("set-cookie").is_none());
    assert!(!String::from_utf8_lossy(&wrong.body).contains("<script>"));
    let right = server.raw("GET", &format!("/login?token={}", server.token), host, b"");
    assert_eq!((right.status, right.header("location")), (303, Some("/")));
    let cookie = right.header("set-cookie").unwrap();
    assert!(cookie.contains("; HttpOnly; SameSite=Strict"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    let info = server.raw("GET", &format!("{API}/info"), &format!("{host}Cookie: {cookie}\r\n"), b"");
    let info: Info = serde_json::from_slice(&info.body).unwrap();
    assert_eq!(info.user.as_deref(), Some("admin"));
}

fn tokens_are_made_listed_and_deleted(place: &Place) {
    let server = TestServer::start(place);
    let made: TokenMade = server.ask("POST", "/tokens", &json!({"name": "ann"}));
    let head = format!("Host: localhost\r\nAuthorization: Bearer {}\r\n", made.token);
    let info: Info = serde_json::from_slice(&server.raw("GET", &format!("{API}/info"), &head, b"").body).unwrap();
    assert_eq!(info.user.as_deref(), Some("ann"));
    let listed: List<Token> = server.ask("GET", "/tokens", &());
    let names: Vec<&str> = listed.items.iter().map(|token| token.name.as_str()).collect();
    assert_eq!(names, ["admin", "worker", "ann"]);
    assert_eq!(listed.items[2].created_by.as_deref(), Some("admin"));
    assert!(listed.items[2].used_at.is_some());
    for (name, part) in [("ann", "there is a token named ann"), ("", "1 to 100"), ("a\nb", "control")] {
        let refused = server.send("POST", "/tokens", &json!({"name": name}));
        assert_eq!(refused.status, 422, "{refused:?}");
        assert!(refused.json()["message"].as_str().unwrap().contains(part), "{refused:?}");
    }
    assert_eq!(server.send("DELETE", "/tokens/ann", &()).status, 200);
    assert_eq!(server.raw("GET", &format!("{API}/info"), &head, b"").status, 401, "it is over at once");
    assert_eq!(server.send("DELETE", "/tokens/ann", &()).status, 404);
    // Only hashes are kept.
    let kept = server.store().read_blocking(|tx| holdall_store::access::token_find(tx, &server.token)).unwrap();
    assert_eq!(kept, None);
}

#[test]
fn bodies_that_cannot_be_read_are_answered_in_the_apis_words() {
    let place = Place::sqlite();
    let server = TestServer::start(&place);
    let head = format!("Host: localhost\r\nAuthorization: Bearer {}\r\n", server.token);
    let json = format!("{head}Content-Type: application/json\r\n");
    let deep = "[".repeat(100_000);
    for (head, body, status, code) in [
        (&head, "{}", 400, "bad_request"),
        (&json, "", 400, "bad_request"),
        (&json, "{\"name\": 7}", 400, "bad_request"),
        (&json, &deep, 400, "bad_request"),
    ] {
        let answer = server.raw("POST", &format!("{API}/tokens"), head, body.as_bytes());
        assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(code)), "{answer:?}");
    }
    let large = vec![b' '; 9 * 1024 * 1024];
    let answer = server.raw("POST", &format!("{API}/tokens"), &json, &large);
    assert_eq!((answer.status, answer.json()["code"].as_str()), (413, Some("too_large")), "{answer:?}");
}

#[test]
fn a_webhook_starts_a_check_with_its_own_secret() {
    let place = Place::sqlite();
    let server = TestServer::start(&place);
    let pipeline = server.pipeline(
        "p",
        "
resources:
- { name: hooked, type: mock, source: {}, webhook_token: s3cret, check_every: never }
- { name: plain, type: mock, source: { initial_version: x }, check_every: never }
jobs:
- { name: build, plan: [{ get: hooked, trigger: true }, { get: plain }] }
",
    );
    let hook = |resource: &str, query: &str| {
        let path = format!("/api/v1/teams/main/pipelines/p/resources/{resource}/check/webhook{query}");
        // It comes from elsewhere, under a name that only that place knows.
        server.raw("POST", &path, "Host: ci.example\r\n", b"anything")
    };
    assert_eq!(hook("hooked", "").status, 400);
    assert_eq!(hook("hooked", "?webhook_token=").status, 400);
    assert_eq!(hook("hooked", "?webhook_token=wrong").status, 401);
    assert_eq!(hook("plain", "?webhook_token=s3cret").status, 401);
    assert_eq!(hook("none", "?webhook_token=s3cret").status, 404);
    let wanted = |server: &TestServer| {
        server
            .store()
            .read_blocking(|tx| {
                let resource = resources::resource_find(tx, pipeline, "hooked")?.expect("a resource");
                checks::check_state(tx, resource.scope.expect("a scope")).map(|state| state.wanted)
            })
            .unwrap()
    };
    assert!(!wanted(&server));
    let answer = hook("hooked", "?webhook_token=s3cret");
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.json()["resource_name"], "hooked");
    assert!(wanted(&server));
}

#[test]
fn a_native_webhook_starts_checks_by_repository() {
    let place = Place::sqlite();
    let server = TestServer::start(&place);
    let pipeline = server.pipeline(
        "p",
        "
resources:
- { name: api, type: git, source: { uri: 'https://git.example/notify/api.git', branch: main }, check_every: never }
- { name: admin, type: git, source: { uri: 'https://git.example/notify/admin.git', branch: main }, check_every: never }
jobs:
- { name: build, plan: [{ get: api }, { get: admin }] }
",
    );
    let secret = std::fs::read_to_string(place.dir().join("data/webhook-secret")).unwrap().trim().to_owned();
    let push = |repository: &str| {
        json!({
            "object_kind": "push",
            "ref": "refs/heads/main",
            "project": {
                "git_http_url": format!("https://git.example/{repository}.git"),
                "git_ssh_url": format!("git@git.example:{repository}.git"),
                "web_url": format!("https://git.example/{repository}"),
            },
        })
        .to_string()
    };
    let send = |kind: &str, secret: &str, body: &str| {
        let head = format!("Host: ci.example\r\nContent-Type: application/json\r\nX-Gitlab-Token: {secret}\r\n");
        server.raw("POST", &format!("{API}/webhooks/{kind}"), &head, body.as_bytes())
    };
    let wanted = |name: &'static str| {
        server
            .store()
            .read_blocking(move |tx| {
                let resource = resources::resource_find(tx, pipeline, name)?.expect("a resource");
                checks::check_state(tx, resource.scope.expect("a scope")).map(|state| state.wanted)
            })
            .unwrap()
    };
    let api = push("notify/api");
    assert_eq!(send("gitlab", "wrong", &api).status, 401);
    assert_eq!(send("github", &secret, &api).status, 401, "each kind has its own proof");
    assert_eq!(send("nobody", &secret, &api).status, 404);
    assert_eq!(send("gitlab", &secret, "{").status, 400);
    let nothing = send("gitlab", &secret, &push("notify/other"));
    assert_eq!((nothing.status, nothing.json()["checked"].as_i64()), (202, Some(0)), "{nothing:?}");
    assert!(nothing.json()["message"].as_str().is_some_and(|message| message.contains("no resource")));
    assert_eq!((wanted("api"), wanted("admin")), (false, false));
    let one = send("gitlab", &secret, &api);
    assert_eq!((one.status, one.json()["checked"].as_i64()), (202, Some(1)), "{one:?}");
    assert_eq!((wanted("api"), wanted("admin")), (true, false));
}
