//! What all resource types share: requests, paths, and names that are not known.

use super::*;

fn context() -> Context {
    Context { env: BTreeMap::new(), log: Log::to(Arc::new(Mutex::new(Vec::new()))) }
}

fn error(kind: &str, op: &str, request: &str) -> String {
    run(kind, op, None, request.as_bytes(), &context()).expect_err("a mistake").to_string()
}

#[test]
fn names_that_are_not_known() {
    assert_eq!(error("gti", "check", "{}"), "there is no built-in resource type `gti`: did you mean `git`?");
    assert_eq!(error("mock", "chekc", "{}"), "there is no operation `chekc`: it is `check`, `in` or `out`");
    assert_eq!(error("mock", "in", "{}"), "`in` needs a directory as its argument");
    assert_eq!(error("mock", "out", "{}"), "`out` needs a directory as its argument");
}

#[test]
fn requests_that_are_none() {
    assert!(error("mock", "check", "").starts_with("the request is not JSON: EOF"));
    assert!(error("mock", "check", "[1]").contains("not a JSON object"));
    let deep = format!("{{\"source\": {}", "[".repeat(100_000));
    assert!(error("mock", "check", &deep).contains("recursion limit exceeded"));
    let endless = std::io::repeat(b'x');
    let message = read_bounded(endless).expect_err("too large").to_string();
    assert_eq!(message, format!("the request is larger than {MAX_REQUEST_BYTES} bytes"));
}

#[test]
fn null_is_the_same_as_absent() {
    let request = Request::parse(br#"{"source": null, "params": null, "version": null}"#).expect("a request");
    assert_eq!(request, Request::default());
}

#[test]
fn paths_stay_below() {
    let dir = Path::new("/a");
    assert_eq!(path_below(dir, "file", "./b/c").expect("fine"), Path::new("/a/./b/c"));
    for path in ["", "/b", "../b", "b/../../c", "b\0c"] {
        let message = path_below(dir, "file", path).expect_err(path).to_string();
        assert!(message.starts_with("`file` must be a relative path"), "{message}");
    }
}
