//! Pipelines that nobody would write in good faith.

use super::*;

/// The codes of the errors.
fn codes(text: &str) -> Vec<&'static str> {
    let found = parse(text);
    assert!(found.value.is_none());
    found.errors().map(|error| error.code).collect()
}

#[test]
fn steps_may_nest_only_so_deep() {
    let nested = |depth: usize| {
        let (open, close) = ("{try: ".repeat(depth), "}".repeat(depth));
        format!("jobs: [{{name: j, plan: [{open}{{task: t, file: a/b}}{close}]}}]\n")
    };
    let deepest = accepted(&nested(MAX_STEP_DEPTH));
    let stored = serde_json::to_string(&deepest).unwrap();
    assert_eq!(serde_json::from_str::<Pipeline>(&stored).unwrap(), deepest);
    assert_eq!(codes(&nested(MAX_STEP_DEPTH + 1)), ["too-deep"]);
    assert_eq!(codes(&nested(100_000)), ["too-deep"]);
}

#[test]
fn the_deepest_pipeline_can_be_stored_and_read() {
    // Every level has the modifiers that cost most, and a value as deep as can be stands at the bottom.
    let mut text = String::from("{task: t, file: a/b, vars: {v: VALUE}}");
    for level in 0..MAX_STEP_DEPTH / 3 {
        text = format!("{{in_parallel: {{steps: [{text}]}}, attempts: 2, ensure: {{task: e{level}, file: a/b}}}}");
    }
    let text = format!("jobs: [{{name: j, plan: [{text}]}}]\n");
    let mut stored = 0;
    for depth in 1..crate::yaml::MAX_DEPTH {
        let value = "[".repeat(depth) + &"]".repeat(depth);
        let Some(pipeline) = parse(&text.replace("VALUE", &value)).value else { break };
        let json = serde_json::to_string(&pipeline).unwrap();
        assert_eq!(serde_json::from_str::<Pipeline>(&json).unwrap(), pipeline, "{depth}");
        assert_eq!(parse(&to_json(&pipeline).to_string()).value.unwrap(), pipeline, "{depth}");
        stored = depth;
    }
    assert!(stored > 20, "{stored}");
}

#[test]
fn wide_pipelines_are_checked_in_good_time() {
    let mut text =
        String::from("resources: [{name: r, type: git, source: {}}]\njobs:\n- {name: j0, plan: [{get: r}]}\n");
    for i in 1..3_000 {
        text += &format!("- {{name: j{i}, plan: [{{get: r, passed: [j{}]}}]}}\n", i - 1);
    }
    assert_eq!(accepted(&text).jobs.len(), 3_000);
    let unknown = text.replace("get: r,", "get: qqqqqqqq,");
    assert_eq!(codes(&unknown).len(), 500);
    let globs = text.replace("passed: [j", "passed: [x*");
    assert!(parse(&globs).value.is_none());
}

#[test]
fn too_many_globs_are_refused_by_name() {
    let jobs: String = (0..2000).map(|i| format!("- {{name: j{i}, plan: []}}\n")).collect();
    let globs = "'j*', ".repeat(2000);
    assert_eq!(codes(&format!("jobs:\n{jobs}groups:\n- {{name: g, jobs: [{globs}]}}\n")).pop(), Some("too-many-globs"));
}

#[test]
fn huge_texts_and_odd_characters_are_just_values() {
    let long = "x".repeat(5_000_000);
    let text =
        format!("jobs: [{{name: j, plan: [{{task: t, file: a/b, params: {{P: {long}, Q: \"\\0\\u202e\"}}}}]}}]\n");
    let pipeline = accepted(&text);
    let again = crate::yaml::from_json(&to_json(&pipeline)).value.unwrap();
    assert_eq!(parse_node(&again).value, Some(pipeline));
    assert_eq!(codes("jobs: \u{0}\n"), ["control-character"]);
}

#[test]
fn things_of_the_wrong_kind_are_refused_wherever_they_stand() {
    for wrong in ["1", "x", "[[]]", "{a: {}}", "true", "[1]", "1.5"] {
        for text in [
            wrong.to_owned(),
            format!("jobs: {wrong}"),
            format!("jobs: [{wrong}]"),
            format!("jobs: [{{name: j, plan: {wrong}}}]"),
            format!("jobs: [{{name: j, plan: [{wrong}]}}]"),
            format!("jobs: [{{name: j, plan: [{{do: {wrong}}}]}}]"),
            format!("jobs: [{{name: j, plan: [{{try: {wrong}}}]}}]"),
            format!("jobs: [{{name: j, plan: [{{task: t, config: {wrong}}}]}}]"),
            format!("jobs: [{{name: j, plan: [{{task: t, config: {{platform: l, inputs: {wrong}}}}}]}}]"),
            format!("resources: {wrong}\njobs: [{{name: j}}]"),
            format!("var_sources: {wrong}\njobs: [{{name: j}}]"),
        ] {
            // None of these may be accepted, and none may panic.
            let found = parse(&text);
            assert!(found.errors().count() > 0, "{text}");
            let _ = found.render("f", &text);
        }
    }
}
