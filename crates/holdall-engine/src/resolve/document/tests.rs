//! Documents, their mistakes, and their results.

mod problems;
mod results;

use super::Document;

/// A valid document, a key a line: that of `builds` is line 6.
const VALID: [(&str, &str); 6] = [
    ("job", r#""ship""#),
    ("jobs", r#"["unit", "ship"]"#),
    ("resources", r#"[{"name": "repo"}]"#),
    ("inputs", r#"[{"name": "code", "resource": "repo", "passed": ["unit"]}]"#),
    ("versions", r#"[{"resource": "repo", "version": {"ref": "a1"}, "order": 1}]"#),
    (
        "builds",
        r#"[{"id": 1, "job": "unit", "status": "succeeded", "outputs": [{"resource": "repo", "version": {"ref": "a1"}}]}]"#,
    ),
];

/// The valid document with other values for some keys; a key with an empty value is left out.
fn with(other: &[(&str, &str)]) -> String {
    for (key, _) in other {
        assert!(VALID.iter().any(|(known, _)| known == key), "{key}");
    }
    let lines = VALID.iter().map(|(key, value)| {
        let value = other.iter().find(|(other, _)| other == key).map_or(*value, |(_, value)| value);
        if value.is_empty() { String::new() } else { format!("\"{key}\": {value}") }
    });
    let lines: Vec<String> = lines.filter(|line| !line.is_empty()).collect();
    format!("{{{}}}", lines.join(",\n"))
}

fn problems(text: &[u8]) -> Vec<String> {
    Document::parse(text).err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_left_out_is_what_the_format_says() {
    let document = Document::parse(with(&[]).as_bytes()).unwrap();
    assert_eq!(
        serde_json::to_value(&document).unwrap(),
        serde_json::json!({
            "job": "ship",
            "jobs": ["unit", "ship"],
            "resources": [{"name": "repo", "checked": true}],
            "inputs": [{"name": "code", "resource": "repo", "passed": ["unit"], "version": "latest", "trigger": false}],
            "versions": [{"resource": "repo", "version": {"ref": "a1"}, "order": 1, "enabled": true}],
            "builds": [{
                "id": 1, "job": "unit", "status": "succeeded", "rerun_of": null,
                "inputs": [], "outputs": [{"resource": "repo", "version": {"ref": "a1"}}], "passed_builds": [],
            }],
        })
    );
    // What is written is read as the same.
    let text = serde_json::to_vec_pretty(&document).unwrap();
    assert_eq!(Document::parse(&text), Ok(document));
}

#[test]
fn each_way_to_want_a_version_is_written_as_it_is_read() {
    for version in [r#""latest""#, r#""every""#, r#"{"ref":"a1"}"#, "{}", r#"{"ref":"a1"},"every":true"#] {
        let input = format!(r#"{{"name":"code","resource":"repo","passed":[],"version":{version},"trigger":true}}"#);
        let document = Document::parse(with(&[("inputs", &format!("[{input}]"))]).as_bytes()).unwrap();
        assert_eq!(serde_json::to_string(&document.inputs[0]).unwrap(), input);
    }
}

#[test]
fn what_is_unticked_and_gone_is_written_as_it_is_read() {
    let version = r#"{"resource":"repo","version":{"ref":"a1"},"order":null,"enabled":false}"#;
    let document = Document::parse(with(&[("versions", &format!("[{version}]"))]).as_bytes()).unwrap();
    assert_eq!(serde_json::to_string(&document.versions[0]).unwrap(), version);
}

#[test]
fn the_document_of_the_format_is_resolved_as_the_format_says() {
    let text = br#"{
      "job": "ship",
      "jobs": ["unit", "ship"],
      "resources": [{"name": "repo", "checked": true}],
      "inputs": [{"name": "repo", "resource": "repo", "passed": ["unit"], "version": "latest", "trigger": true}],
      "versions": [{"resource": "repo", "version": {"ref": "a1"}, "order": 1, "enabled": true}],
      "builds": [{
        "id": 1, "job": "unit", "status": "succeeded", "rerun_of": null,
        "inputs": [{"name": "repo", "resource": "repo", "version": {"ref": "a1"}}],
        "outputs": [],
        "passed_builds": []
      }]
    }"#;
    let evaluation = Document::parse(text).unwrap().evaluate();
    assert_eq!(
        serde_json::to_string(&evaluation).unwrap(),
        r#"{"resolved":true,"has_next":false,"inputs":{"repo":{"version":{"ref":"a1"},"passed_builds":[1],"first_occurrence":true}}}"#
    );
}
