//! The grammar, both modes, and where values come from.

use serde_json::json;

use super::*;
use crate::yaml;

fn vars() -> Vars {
    let mut vars = Vars::new();
    vars.set_text("name=api").unwrap();
    vars.set_yaml("count=3").unwrap();
    vars.set_yaml("list=[a, {b: 1}]").unwrap();
    vars.set_yaml("ratio=1.5").unwrap();
    vars.set_text("db.user=u").unwrap();
    vars.set_text("db.\"a.b\"=quoted").unwrap();
    vars.add_file("name: file\nregion: eu\n").unwrap();
    vars.add_file("region: us\n").unwrap();
    vars
}

fn apply(text: &str, mode: Mode) -> Parsed<Node> {
    let vars = vars();
    interpolate(&yaml::parse(text).value.unwrap(), &mut |reference| vars.get(reference), mode)
}

#[test]
fn values_keep_their_type_and_go_into_text() {
    let text = "a: ((name))-((count))\nb: ((list))\nc: ((db.user)) ((db.\"a.b\"))\n((name)): ((region))\n";
    let found = apply(text, Mode::Strict);
    assert_eq!(
        found.value.unwrap().to_json(),
        json!({"a": "api-3", "b": ["a", {"b": 1}], "c": "u quoted", "api": "us"})
    );
}

#[test]
fn every_problem_is_reported_where_it_stands() {
    let text = "a: ((x))\nb:\n- ((db.nope))\n- v-((ratio))\n- ((name.first))\n- ((src:y))\n((list)): 1\n";
    let found = apply(text, Mode::Strict);
    let said: Vec<_> = found.diagnostics.iter().map(|d| (d.span.unwrap().line, d.path.as_str(), d.code)).collect();
    assert_eq!(
        said,
        [
            (1, "a", "undefined-var"),
            (3, "b[0]", "missing-field"),
            (4, "b[1]", "var-type"),
            (5, "b[2]", "var-type"),
            (6, "b[3]", "undefined-var"),
            (7, "((list))", "var-type"),
        ]
    );
}

#[test]
fn lenient_leaves_what_it_does_not_know() {
    let found = apply("a: ((x)) ((name)) ((.:local)) ((src:p/q.f))\n", Mode::Lenient);
    assert_eq!(found.value.unwrap().to_json(), json!({"a": "((x)) api ((.:local)) ((src:p/q.f))"}));
    assert!(apply("a: ((db.nope))\n", Mode::Lenient).value.is_none());
}

#[test]
fn near_misses_are_text_and_broken_ones_are_errors() {
    let all = |text: &str| references(text).map(|(_, found)| found.map(|r| r.to_string())).collect::<Vec<_>>();
    for text in ["(( x ))", "((x y))", "((a|b))", "((:x))", "((x)", "()", "((", "(((", "(( grab x ))"] {
        assert!(all(text).is_empty(), "{text}");
    }
    for text in ["((a..b))", "((x.))", "((x:))", "((.x))", "((..))", "((\"\"))", "((\"a))"] {
        assert!(all(text)[0].is_err(), "{text}");
    }
    assert_eq!(all("(((x)))((é.b))"), [Ok("x".to_owned()), Ok("é.b".to_owned())]);
    assert_eq!(all("((src:a/b.\"c.d:e\"))"), [Ok("src:a/b.\"c.d:e\"".to_owned())]);
    let found = check(&yaml::parse("x-ignored: {\"((a..b))\": 1}\n").value.unwrap());
    assert_eq!(found[0].message, "invalid var 'a..b': empty field");
}

#[test]
fn json_is_interpolated_without_positions() {
    let vars = vars();
    let mut lookup = |reference: &Reference| vars.get(reference);
    let value = json!({"uri": "https://((name))/", "keys": ["((list))"]});
    let found = interpolate_json(&value, &mut lookup, Mode::Strict).unwrap();
    assert_eq!(found, json!({"uri": "https://api/", "keys": [["a", {"b": 1}]]}));
    let errors = interpolate_json(&json!({"a": ["((x))"]}), &mut lookup, Mode::Strict).unwrap_err();
    assert_eq!((errors[0].path.as_str(), errors[0].message.as_str()), ("a[0]", "undefined var: x"));
}

#[test]
fn values_are_not_looked_at_again_and_bad_pairs_are_refused() {
    let mut vars = Vars::new();
    vars.set_text("a=((b))").unwrap();
    let node = yaml::parse("((a))").value.unwrap();
    let found = interpolate(&node, &mut |reference| vars.get(reference), Mode::Strict);
    assert_eq!(found.value.unwrap().to_json(), "((b))");
    for pair in ["nothing", "=x", "a..b=x", "src:a=x"] {
        assert!(vars.set_text(pair).is_err(), "{pair}");
    }
    assert!(vars.set_yaml("a=[").is_err());
    assert!(vars.add_file("- a\n").is_err());
}

#[test]
fn long_texts_take_no_long_time() {
    let node = yaml::parse(&format!("a: {}\nb: {}\n", "(".repeat(1_000_000), "((a".repeat(300_000))).value.unwrap();
    assert!(check(&node).is_empty());
}
