//! Trees, positions and hostile texts.

use serde_json::json;

use super::*;

/// The text as JSON; panics with the diagnostics where it is refused.
fn read(text: &str) -> serde_json::Value {
    let parsed = parse(text);
    match parsed.value {
        Some(node) => node.to_json(),
        None => panic!("{}", parse(text).render("test.yml", text)),
    }
}

/// The codes of the errors of a text, with their lines.
fn refused(text: &str) -> Vec<(&'static str, usize)> {
    let parsed = parse(text);
    assert!(parsed.value.is_none(), "accepted: {text}");
    parsed.errors().map(|error| (error.code, error.span.map_or(0, |span| span.line))).collect()
}

#[test]
fn values_and_positions() {
    let node = parse("a: 1\nb:\n- x\n- {c: yes, 'd': \"no\"}\n").value.unwrap();
    assert_eq!(node.to_json(), json!({"a": 1, "b": ["x", {"c": true, "d": "no"}]}));
    let inner = &node.get("b").unwrap().as_list().unwrap()[1];
    assert_eq!((inner.span.line, inner.span.column), (4, 3));
    let entry = inner.as_map().unwrap().entry("d").unwrap();
    assert_eq!((entry.key_span.column, entry.value.span.column), (12, 17));
    assert_eq!(entry.value.span.end_column, 21);
}

#[test]
fn merges_apply_where_they_stand() {
    assert_eq!(read("x: &x {a: 1, b: 1}\nm: {a: 2, <<: *x, b: 2}\n")["m"], json!({"a": 1, "b": 2}));
    assert_eq!(read("x: &x {a: 1}\nw: &w {a: 2, b: 2}\nz: {<<: [*x, *w]}\n")["z"], json!({"a": 1, "b": 2}));
    assert_eq!(refused("m:\n  <<: 3\n"), [("merge", 2)]);
    assert_eq!(refused("x: &x {a: 1}\nm:\n  <<: *x\n  <<: *x\n"), [("duplicate-key", 4)]);
    let twice = parse_with("m:\n  <<: {a: 1}\n  <<: {b: 2}\n", DuplicateKeys::LastWins).value.unwrap();
    assert_eq!(twice.to_json()["m"], json!({"a": 1, "b": 2}));
}

#[test]
fn duplicate_keys_are_all_reported_and_compared_as_written() {
    assert_eq!(refused("a: 1\na: 2\nb:\n  c: 1\n  c: 2\n"), [("duplicate-key", 2), ("duplicate-key", 5)]);
    assert_eq!(refused("1: a\n\"1\": b\n"), [("duplicate-key", 2)]);
    assert_eq!(read("yes: a\ntrue: b\n"), json!({"true": "b"}));
}

#[test]
fn what_json_cannot_hold_is_refused() {
    assert_eq!(refused("x: .inf\n"), [("scalar", 1)]);
    assert_eq!(refused("x: {~: 1}\n"), [("bad-key", 1)]);
    assert_eq!(refused("x: {[a]: 1}\n"), [("bad-key", 1)]);
    let mustache = parse("file: {{x}}\n");
    assert!(mustache.diagnostics[0].help.as_ref().unwrap().contains("quoted"));
}

#[test]
fn anchors_may_be_redefined_and_only_the_first_document_counts() {
    assert_eq!(read("a: &x 1\nb: &x 2\nc: *x\n")["c"], 2);
    assert_eq!(read("a: 1\n---\n}broken: [\n"), json!({"a": 1}));
    assert_eq!(read(""), json!(null));
    assert_eq!(refused("a: &x\n  b: *x\n"), [("anchor", 2)]);
    assert_eq!(refused("a: *x\n"), [("yaml", 1)]);
}

#[test]
fn encodings_and_line_ends() {
    let wanted = json!({"a": ["x", "é"]});
    assert_eq!(read("\u{feff}a:\r\n- x\r\n- é\r\n"), wanted);
    assert_eq!(read("a:\r- x\r- é\r"), wanted);
    let utf16: Vec<u8> = "\u{feff}a: [x, é]\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(from_bytes(&utf16).value.unwrap().to_json(), wanted);
    let broken = from_bytes(b"a: 1\nb: caf\xe9\n").diagnostics.remove(0);
    assert_eq!((broken.code, broken.span), ("encoding", Some(crate::diagnostic::Span::point(2, 7))));
    assert!(from_bytes(b"\xff\xfea").value.is_none());
    assert_eq!(refused("a: \u{0}\n"), [("control-character", 1)]);
    assert_eq!(refused("%YAML 1.2\n---\na: 1\n"), [("directive", 1)]);
}

#[test]
fn nesting_is_bounded_without_using_the_stack() {
    for text in [
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        (0..2000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect(),
        "[".repeat(100_000) + &"]".repeat(100_000),
    ] {
        assert!(refused(&text).iter().any(|(code, _)| *code == "too-deep"), "{}", &text[..20]);
    }
    let deepest = "[".repeat(MAX_DEPTH) + &"]".repeat(MAX_DEPTH);
    assert!(parse(&deepest).value.is_some());
    assert_eq!(refused(&format!("[{deepest}]")), [("too-deep", 1)]);
    // Aliases must not get around it.
    let mut text = String::from("a0: &a0 [x]\n");
    for level in 1..=MAX_DEPTH {
        text += &format!("a{level}: &a{level} [*a{}]\n", level - 1);
    }
    assert_eq!(refused(&text)[0].0, "too-deep");
}

#[test]
fn alias_bombs_and_huge_texts_are_refused_by_name() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..=20 {
        let before = format!("*a{}, ", level - 1).repeat(10);
        bomb += &format!("a{level}: &a{level} [{before}]\n");
    }
    assert_eq!(refused(&bomb)[0].0, "too-many-values");
    let wide = format!("a: &a {}\nb: [{}]\n", "x".repeat(1_000_000), "*a, ".repeat(1000));
    assert_eq!(refused(&wide)[0].0, "too-large");
    assert_eq!(refused(&"a".repeat(MAX_BYTES + 1))[0].0, "too-large");
}

#[test]
fn a_scalar_of_five_megabytes_is_just_long() {
    let long = "x".repeat(5_000_000);
    assert_eq!(read(&format!("a: {long}\n"))["a"], long.as_str());
    assert_eq!(read(&format!("a: \"{long}\"\n"))["a"], long.as_str());
    assert_eq!(read(&format!("a: |\n  {long}\n"))["a"], format!("{long}\n"));
}

#[test]
fn the_number_of_diagnostics_is_bounded() {
    let text: String = (0..5000).map(|_| "a: 1\n").collect();
    assert_eq!(refused(&text).len(), 200);
}

#[test]
fn json_comes_back_as_it_was() {
    let value = json!({"a": [1, 1.5, null, true, "x"], "b": {"c": u64::MAX}});
    let again = from_json(&value).value.unwrap().to_json();
    assert_eq!(again["a"], value["a"]);
    let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
    assert_eq!(from_json(&deep).diagnostics[0].code, "too-deep");
}

#[test]
fn a_reader_finds_every_mistake() {
    let node = parse("nme: api\ntags: [a, 1]\nserial: \"true\"\n").value.unwrap();
    let mut reader = Reader::new();
    let mut fields = reader.fields(&node, "jobs.ship").unwrap();
    assert_eq!(fields.required(&mut reader, "name", Reader::string), None);
    assert_eq!(fields.optional(&mut reader, "tags", Reader::strings), Some(vec!["a".to_owned()]));
    assert_eq!(fields.optional(&mut reader, "serial", Reader::bool), None);
    fields.finish(&mut reader);
    let found: Vec<String> = reader.into_diagnostics().iter().map(|d| format!("{}: {}", d.path, d.message)).collect();
    assert_eq!(
        found,
        [
            "jobs.ship: key 'name' is missing",
            "jobs.ship.tags[1]: tags[1] must be a string, not a number",
            "jobs.ship.serial: serial must be a boolean, not a string",
            "jobs.ship.nme: unknown key 'nme'",
        ]
    );
}
