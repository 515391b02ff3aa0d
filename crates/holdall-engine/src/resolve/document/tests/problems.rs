//! Documents that are not valid: every problem of each, with its position.

use super::super::read::MOST_PROBLEMS;
use super::{problems, with};

/// Other values of some keys of a valid document, a key a line, and all that is wrong with it then.
type Case = (&'static [(&'static str, &'static str)], &'static [&'static str]);

fn check(cases: &[Case]) {
    for (other, expected) in cases {
        let text = with(other);
        assert_eq!(problems(text.as_bytes()), *expected, "{text}");
    }
}

#[test]
fn of_the_keys() {
    check(&[
        (
            &[("job", r#""ship", "jops": [], "Job": 1"#)],
            &[
                r#"1:17: unknown key "jops", expected one of job, jobs, resources, inputs, versions, builds"#,
                r#"1:29: unknown key "Job", expected one of job, jobs, resources, inputs, versions, builds"#,
            ],
        ),
        (
            &[("resources", r#"[{"name": "repo", "type": "git"}]"#)],
            &[r#"3:32: resources[0]: unknown key "type", expected one of name, checked"#],
        ),
        (
            &[("inputs", r#"[{"name": "code", "resource": "repo", "version": {"ref": "a1"}, "each": true}]"#)],
            &[
                r#"4:75: inputs[0]: unknown key "each", expected one of name, resource, passed, version, every, trigger"#,
            ],
        ),
        (
            &[("versions", r#"[{"resource": "repo", "version": {}, "order": 1, "disabled": false}]"#)],
            &[r#"5:62: versions[0]: unknown key "disabled", expected one of resource, version, order, enabled"#],
        ),
        (
            &[(
                "builds",
                r#"[{"id": 1, "job": "unit", "status": "failed", "name": "1",
                    "inputs": [{"name": "code", "resource": "repo", "version": {}, "first": true}],
                    "outputs": [{"name": "repo", "resource": "repo", "version": {}}]}]"#,
            )],
            &[
                r#"6:57: builds[0]: unknown key "name", expected one of id, job, status, rerun_of, inputs, outputs, passed_builds"#,
                r#"7:84: builds[0].inputs[0]: unknown key "first", expected one of name, resource, version"#,
                r#"8:34: builds[0].outputs[0]: unknown key "name", expected one of resource, version"#,
            ],
        ),
        // Given twice, at every level.
        (&[("job", r#""ship", "job": "unit""#)], &["1:17: job: the key is given twice"]),
        (
            &[
                ("resources", r#"[{"name": "repo", "name": "repo"}]"#),
                (
                    "versions",
                    r#"[{"resource": "repo", "version": {"ref": "a1", "ref": "a1"}, "order": 1, "order": 2}]"#,
                ),
                ("builds", r#"[{"id": 1, "id": 2, "job": "unit", "status": "failed"}]"#),
            ],
            &[
                "3:32: resources[0].name: the key is given twice",
                r#"5:60: versions[0].version["ref"]: the key is given twice"#,
                "5:86: versions[0].order: the key is given twice",
                "6:22: builds[0].id: the key is given twice",
            ],
        ),
        // Missing, all of them at once.
        (
            &[
                ("job", ""),
                ("jobs", ""),
                ("resources", ""),
                ("inputs", ""),
                ("versions", ""),
                ("builds", r#"[{"id": 0}]"#),
            ],
            &[
                "1:1: jobs: expected a list of names of jobs, but the key is missing",
                "1:1: job: expected text, but the key is missing",
                "1:1: resources: expected a list of resources, but the key is missing",
                "1:1: inputs: expected a list of inputs of the job, but the key is missing",
                "1:1: versions: expected a list of versions of resources, but the key is missing",
                "1:13: builds[0].job: expected text, but the key is missing",
                r#"1:13: builds[0].status: expected one of "pending", "started", "succeeded", "failed", "errored", "aborted", but the key is missing"#,
                "1:20: builds[0].id: expected the id of a build, a whole number from 1 to 9223372036854775806, found the number 0",
            ],
        ),
        (
            &[("jobs", ""), ("inputs", "[{}]"), ("versions", "[{}]"), ("resources", r#"[{"checked": 1}]"#)],
            &[
                "1:1: jobs: expected a list of names of jobs, but the key is missing",
                "2:15: resources[0].name: expected text, but the key is missing",
                "2:27: resources[0].checked: expected true or false, found the number 1",
                "3:12: inputs[0].name: expected text, but the key is missing",
                "3:12: inputs[0].resource: expected text, but the key is missing",
                "4:14: versions[0].resource: expected text, but the key is missing",
                "4:14: versions[0].version: expected a version, an object of text values, but the key is missing",
                "4:14: versions[0].order: expected a whole number of at most 64 bits, but the key is missing",
            ],
        ),
        (
            &[("builds", r#"[{"inputs": [{}], "outputs": [{}]}]"#)],
            &[
                "6:12: builds[0].id: expected the id of a build, a whole number from 1 to 9223372036854775806, but the key is missing",
                "6:12: builds[0].job: expected text, but the key is missing",
                r#"6:12: builds[0].status: expected one of "pending", "started", "succeeded", "failed", "errored", "aborted", but the key is missing"#,
                "6:24: builds[0].inputs[0].name: expected text, but the key is missing",
                "6:24: builds[0].inputs[0].resource: expected text, but the key is missing",
                "6:24: builds[0].inputs[0].version: expected a version, an object of text values, but the key is missing",
                "6:41: builds[0].outputs[0].resource: expected text, but the key is missing",
                "6:41: builds[0].outputs[0].version: expected a version, an object of text values, but the key is missing",
            ],
        ),
    ]);
}

#[test]
fn of_the_types() {
    check(&[
        (
            &[
                ("job", "1"),
                ("jobs", "{}"),
                ("resources", "null"),
                ("inputs", "true"),
                ("versions", "\"\""),
                ("builds", "0.5"),
            ],
            &[
                "1:9: job: expected text, found the number 1",
                "2:9: jobs: expected a list of names of jobs, found an object",
                "3:14: resources: expected a list of resources, found null",
                "4:11: inputs: expected a list of inputs of the job, found true",
                r#"5:13: versions: expected a list of versions of resources, found the text """#,
                "6:11: builds: expected a list of builds, found the number 0.5",
            ],
        ),
        (
            &[("jobs", r#"["unit", 5, "ship"]"#), ("resources", r#"["repo", {"name": "repo", "checked": "no"}]"#)],
            &[
                "2:18: jobs[1]: expected text, found the number 5",
                r#"3:15: resources[0]: expected a resource, an object, found the text "repo""#,
                r#"3:51: resources[1].checked: expected true or false, found the text "no""#,
            ],
        ),
        (
            &[(
                "inputs",
                r#"[7, {"name": [], "resource": null, "passed": "unit", "version": "newest", "trigger": 1},
                    {"name": "a", "resource": "repo", "passed": [["unit"]], "version": {"ref": null}}]"#,
            )],
            &[
                "4:12: inputs[0]: expected an input of the job, an object, found the number 7",
                "4:24: inputs[1].name: expected text, found a list",
                "4:40: inputs[1].resource: expected text, found null",
                r#"4:56: inputs[1].passed: expected a list of names of jobs, found the text "unit""#,
                r#"4:75: inputs[1].version: expected "latest", "every" or the pinned version, an object of text values, found the text "newest""#,
                "4:96: inputs[1].trigger: expected true or false, found the number 1",
                "5:66: inputs[2].passed[0]: expected text, found a list",
                r#"5:96: inputs[2].version["ref"]: expected text, found null"#,
            ],
        ),
        (
            &[(
                "versions",
                r#"[[], {"resource": 1, "version": "a1", "order": "1", "enabled": null},
                    {"resource": "repo", "version": {"ref": 1, "n": [], "o": {}}, "order": 1.0}]"#,
            )],
            &[
                "5:14: versions[0]: expected a version of a resource, an object, found a list",
                "5:31: versions[1].resource: expected text, found the number 1",
                r#"5:45: versions[1].version: expected a version, an object of text values, found the text "a1""#,
                r#"5:60: versions[1].order: expected a whole number of at most 64 bits, found the text "1""#,
                "5:76: versions[1].enabled: expected true or false, found null",
                r#"6:61: versions[2].version["ref"]: expected text, found the number 1"#,
                r#"6:69: versions[2].version["n"]: expected text, found a list"#,
                r#"6:78: versions[2].version["o"]: expected text, found an object"#,
                "6:92: versions[2].order: expected a whole number of at most 64 bits, found the number 1.0",
            ],
        ),
        (
            &[(
                "builds",
                r#"[null, {"id": "1", "job": null, "status": 1, "rerun_of": "1", "inputs": {}, "outputs": 1, "passed_builds": 1},
                    {"id": 1, "job": "unit", "status": "failed", "inputs": [1], "outputs": [{"resource": 1, "version": 1}],
                     "passed_builds": [null]}]"#,
            )],
            &[
                "6:12: builds[0]: expected a build, an object, found null",
                r#"6:25: builds[1].id: expected the id of a build, a whole number from 1 to 9223372036854775806, found the text "1""#,
                "6:37: builds[1].job: expected text, found null",
                r#"6:53: builds[1].status: expected one of "pending", "started", "succeeded", "failed", "errored", "aborted", found the number 1"#,
                r#"6:68: builds[1].rerun_of: expected the id of a build, a whole number from 1 to 9223372036854775806, found the text "1""#,
                "6:83: builds[1].inputs: expected a list of inputs of the build, found an object",
                "6:98: builds[1].outputs: expected a list of outputs of the build, found the number 1",
                "6:118: builds[1].passed_builds: expected a list of ids of builds, found the number 1",
                "7:77: builds[2].inputs[0]: expected an input of a build, an object, found the number 1",
                "7:106: builds[2].outputs[0].resource: expected text, found the number 1",
                "7:120: builds[2].outputs[0].version: expected a version, an object of text values, found the number 1",
                "8:40: builds[2].passed_builds[0]: expected the id of a build, a whole number from 1 to 9223372036854775806, found null",
            ],
        ),
    ]);
}

#[test]
fn of_the_values() {
    check(&[
        // Order.
        (
            &[(
                "versions",
                r#"[{"resource": "repo", "version": {"ref": "1"}, "order": 9223372036854775807},
{"resource": "repo", "version": {"ref": "2"}, "order": 9223372036854775808},
{"resource": "repo", "version": {"ref": "3"}, "order": -9223372036854775808},
{"resource": "repo", "version": {"ref": "4"}, "order": 1e3},
{"resource": "repo", "version": {"ref": "5"}, "order": null},
{"resource": "repo", "version": {"ref": "6"}, "order": 1111111111222222222233333333334444444444555555555566666666667}]"#,
            )],
            &[
                "6:56: versions[1].order: expected a whole number of at most 64 bits, found the number 9223372036854775808",
                "8:56: versions[3].order: expected a whole number of at most 64 bits, found the number 1e3",
                r#"9:56: versions[4]: expected "enabled": false beside "order": null, which says of a version that it is gone"#,
                "10:56: versions[5].order: expected a whole number of at most 64 bits, found the number 111111111122222222223333333333444444444455555555556666666666...",
            ],
        ),
        // `every` beside a pin.
        (
            &[(
                "inputs",
                r#"[{"name": "a", "resource": "repo", "every": true},
{"name": "b", "resource": "repo", "version": "every", "every": true},
{"name": "c", "resource": "repo", "version": {}, "every": 1}]"#,
            )],
            &[
                r#"4:55: inputs[0].every: expected a pinned version where "every" stands beside "version""#,
                r#"5:64: inputs[1].every: expected a pinned version where "every" stands beside "version""#,
                "6:59: inputs[2].every: expected true or false, found the number 1",
            ],
        ),
        // Status.
        (
            &[(
                "builds",
                r#"[{"id": 1, "job": "unit", "status": "ok"}, {"id": 2, "job": "unit", "status": "Succeeded"}]"#,
            )],
            &[
                r#"6:47: builds[0].status: expected one of "pending", "started", "succeeded", "failed", "errored", "aborted", found the text "ok""#,
                r#"6:89: builds[1].status: expected one of "pending", "started", "succeeded", "failed", "errored", "aborted", found the text "Succeeded""#,
            ],
        ),
        // Ids.
        (
            &[(
                "builds",
                r#"[{"id": 0, "job": "unit", "status": "failed"},
{"id": -1, "job": "unit", "status": "failed"},
{"id": 9223372036854775807, "job": "unit", "status": "failed"},
{"id": 9223372036854775806, "job": "unit", "status": "failed"}]"#,
            )],
            &[
                "6:19: builds[0].id: expected the id of a build, a whole number from 1 to 9223372036854775806, found the number 0",
                "7:8: builds[1].id: expected the id of a build, a whole number from 1 to 9223372036854775806, found the number -1",
                "8:8: builds[2].id: expected the id of a build, a whole number from 1 to 9223372036854775806, found the number 9223372036854775807",
            ],
        ),
    ]);
}

#[test]
fn of_what_is_there_twice() {
    check(&[(
        &[
            ("jobs", r#"["unit", "ship", "unit"]"#),
            ("resources", r#"[{"name": "repo"}, {"name": "repo", "checked": false}]"#),
            ("inputs", r#"[{"name": "code", "resource": "repo"}, {"name": "code", "resource": "repo"}]"#),
            (
                "versions",
                r#"[{"resource": "repo", "version": {"a": "1", "b": "2"}, "order": 1},
{"resource": "repo", "version": {"b": "2", "a": "1"}, "order": 2}]"#,
            ),
            (
                "builds",
                r#"[{"id": 1, "job": "unit", "status": "failed"}, {"id": 1, "job": "ship", "status": "failed"}]"#,
            ),
        ],
        &[
            r#"2:26: jobs[2]: expected each name once, "unit" is in the list already"#,
            r#"3:42: resources[1].name: expected each name once, "repo" is in the list already"#,
            r#"4:59: inputs[1].name: expected each name once, "code" is in the list already"#,
            r#"5:27: versions[0].resource: expected a resource that was checked, "repo" has "checked": false"#,
            r#"6:1: versions[1]: expected each version once, this one of "repo" is in the list already"#,
            r#"6:14: versions[1].resource: expected a resource that was checked, "repo" has "checked": false"#,
            "7:65: builds[1].id: expected each id once, 1 is in the list already",
        ],
    )]);
}

#[test]
fn of_what_refers_to_something_else() {
    check(&[
        (&[("job", r#""deploy""#)], &[r#"1:9: job: expected a name from "jobs", "deploy" is not there"#]),
        (
            &[("inputs", r#"[{"name": "code", "resource": "image", "passed": ["unit", "lint", "style"]}]"#)],
            &[
                r#"4:41: inputs[0].resource: expected a name from "resources", "image" is not there"#,
                r#"4:69: inputs[0].passed[1]: expected a name from "jobs", "lint" is not there"#,
                r#"4:77: inputs[0].passed[2]: expected a name from "jobs", "style" is not there"#,
            ],
        ),
        (
            &[("versions", r#"[{"resource": "image", "version": {"ref": "a1"}, "order": 1}]"#)],
            &[r#"5:27: versions[0].resource: expected a name from "resources", "image" is not there"#],
        ),
        (
            &[("resources", r#"[{"name": "repo", "checked": false}]"#)],
            &[r#"5:27: versions[0].resource: expected a resource that was checked, "repo" has "checked": false"#],
        ),
        (
            &[(
                "builds",
                r#"[{"id": 2, "job": "unit", "status": "failed", "rerun_of": 1, "passed_builds": [2, 3, 4]}]"#,
            )],
            &[
                r#"6:69: builds[0].rerun_of: expected the id of a build in "builds", there is none with id 1"#,
                r#"6:93: builds[0].passed_builds[1]: expected the id of a build in "builds", there is none with id 3"#,
                r#"6:96: builds[0].passed_builds[2]: expected the id of a build in "builds", there is none with id 4"#,
            ],
        ),
        // Where the list itself is bad, nothing is said of what refers to it, but of everything else.
        (
            &[
                ("jobs", r#""unit""#),
                ("resources", "{}"),
                ("inputs", r#"[{"name": "code", "resource": "image", "passed": ["lint"], "trigger": "yes"}]"#),
                ("versions", r#"[{"resource": "image", "version": {"ref": "a1"}, "order": 1, "enabled": 0}]"#),
            ],
            &[
                r#"2:9: jobs: expected a list of names of jobs, found the text "unit""#,
                "3:14: resources: expected a list of resources, found an object",
                r#"4:81: inputs[0].trigger: expected true or false, found the text "yes""#,
                "5:85: versions[0].enabled: expected true or false, found the number 0",
            ],
        ),
    ]);
}

#[test]
fn builds_may_name_a_job_or_a_resource_that_is_gone() {
    let builds = r#"[{"id": 1, "job": "lint", "status": "succeeded",
        "inputs": [{"name": "code", "resource": "image", "version": {"ref": "b1"}}],
        "outputs": [{"resource": "image", "version": {"ref": "b1"}}]},
        {"id": 2, "job": "lint", "status": "failed", "rerun_of": 1, "passed_builds": [1, 3]},
        {"id": 3, "job": "unit", "status": "failed", "rerun_of": null}]"#;
    assert_eq!(problems(with(&[("builds", builds)]).as_bytes()), [""; 0]);
}

#[test]
fn of_text_that_is_no_json() {
    let valid = with(&[]);
    // Cut off anywhere, it is one problem at the end or where the last text began.
    for length in 0..valid.len() {
        let text = &valid.as_bytes()[..length];
        let found = problems(text);
        assert_eq!(found.len(), 1, "{length}: {found:?}");
        assert!(found[0].contains("the document ends") || found[0].contains("no closing quote"), "{length}: {found:?}");
    }
    let cases: [(&[u8], &str); 14] = [
        (b"", "1:1: not JSON: expected a value, the document ends"),
        (b" \n ", "2:2: not JSON: expected a value, the document ends"),
        (b"null", "1:1: expected a resolution history, an object, found null"),
        (b"[]", "1:1: expected a resolution history, an object, found a list"),
        (b"{}{}", "1:3: not JSON: expected the end of the document, found '{'"),
        (b"{\"job\": \"ship\"}\n\n  x", "3:3: not JSON: expected the end of the document, found 'x'"),
        (b"{\"job\": \"ship\",}", "1:16: not JSON: expected a key in double quotes, found '}'"),
        (b"{'job': 1}", "1:2: not JSON: expected a key in double quotes, found '\\''"),
        (
            b"{\"job\": \"a\nb\"}",
            "1:11: not JSON: expected text without line breaks and control characters, found '\\n'",
        ),
        (b"{\"job\": \"\\x\"}", "1:11: not JSON: expected an escape such as `\\n`, found 'x'"),
        (b"{\"job\": \"\\ud800\"}", "1:10: not JSON: half of a surrogate pair"),
        (b"{\"job\":\n \"caf\xc3\xa9 \xc3\"}", "2:8: the text is not UTF-8"),
        (b"\xef\xbb\xbf{}", "1:1: not JSON: expected a value, found '\\u{feff}'"),
        (b"\x1f\x8b\x08", "1:2: the text is not UTF-8"),
    ];
    for (text, expected) in cases {
        assert_eq!(problems(text), [expected], "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn deep_nesting_is_one_problem_where_it_gets_too_deep() {
    for (open, column) in [("[", 66), ("{\"a\":", 326)] {
        let text = format!("{{\"job\":\n{}", open.repeat(1_000_000));
        assert_eq!(problems(text.as_bytes()), [format!("2:{}: nested more than 64 deep", column - open.len())]);
    }
    let deep = format!("{}1{}", "[".repeat(63), "]".repeat(63));
    assert_eq!(problems(with(&[("job", &deep)]).as_bytes()), ["1:9: job: expected text, found a list"]);
}

#[test]
fn of_long_texts_a_message_repeats_only_the_beginning() {
    let long = "é".repeat(10_000_000);
    let cut = format!("\"{}\"...", "é".repeat(60));
    let digits = "1".repeat(10_000_000);
    let text = with(&[
        ("job", &format!("\"{long}\"")),
        ("resources", &format!("[{{\"name\": \"repo\", \"{long}\": 1}}]")),
        ("versions", &format!("[{{\"resource\": \"repo\", \"version\": {{\"{long}\": 1}}, \"order\": {digits}}}]")),
    ]);
    let first_digits = &digits[..60];
    assert_eq!(
        problems(text.as_bytes()),
        [
            format!("1:9: job: expected a name from \"jobs\", {cut} is not there"),
            format!("3:32: resources[0]: unknown key {cut}, expected one of name, checked"),
            format!("5:10000051: versions[0].version[{cut}]: expected text, found the number 1"),
            format!(
                "5:10000064: versions[0].order: expected a whole number of at most 64 bits, found the number {first_digits}..."
            ),
        ]
    );
}

/// The columns are those of characters, also behind a line of many.
#[test]
fn each_of_many_problems_has_its_position() {
    let count = 50_000;
    let jobs = format!("[\"é\", {}\n1]", "1,".repeat(count));
    let found = problems(with(&[("jobs", &jobs), ("job", "\"é\"")]).as_bytes());
    assert_eq!(found.len(), count + 2, "and the job of the input");
    assert_eq!(found[0], "2:15: jobs[1]: expected text, found the number 1");
    assert_eq!(
        found[count - 1],
        format!("2:{}: jobs[{count}]: expected text, found the number 1", 15 + 2 * (count - 1))
    );
    assert_eq!(found[count], format!("3:1: jobs[{}]: expected text, found the number 1", count + 1));
    assert_eq!(found[count + 1], "5:60: inputs[0].passed[0]: expected a name from \"jobs\", \"unit\" is not there");
}

#[test]
fn of_more_problems_than_are_kept_the_first_are_told_and_the_rest_is_counted() {
    let count = 2 * MOST_PROBLEMS + MOST_PROBLEMS / 2;
    // What stands first is read last.
    let text = with(&[("job", "1"), ("builds", &format!("[{}0]", "0,".repeat(count - 1)))]);
    let text = text.replace("{\"job\"", "{\"jop\": 1, \"job\"");
    let found = problems(text.as_bytes());
    assert_eq!(found.len(), MOST_PROBLEMS);
    assert_eq!(found[0], "1:2: unknown key \"jop\", expected one of job, jobs, resources, inputs, versions, builds");
    assert_eq!(found[1], "1:19: job: expected text, found the number 1");
    let last = MOST_PROBLEMS - 3;
    assert_eq!(
        found[MOST_PROBLEMS - 1],
        format!(
            "6:{}: builds[{last}]: expected a build, an object, found the number 0 (and {} more problems after it, \
             which are not listed)",
            12 + 2 * last,
            count + 2 - MOST_PROBLEMS
        )
    );
}
