//! Documents and what is resolved from them, in full.

use super::super::Document;
use super::with;

/// Compares what the valid document, with other values for some keys, is resolved to: the lines without a break.
fn check(other: &[(&str, &str)], expected: &str) {
    let text = with(other);
    let document = Document::parse(text.as_bytes()).unwrap_or_else(|problems| panic!("{problems:?}: {text}"));
    let resolved = serde_json::to_string(&document.evaluate()).unwrap();
    let expected: String = expected.lines().map(str::trim).collect();
    assert_eq!(resolved, expected, "{text}");
}

#[test]
fn every_takes_the_next_version_and_says_that_another_follows() {
    check(
        &[
            ("inputs", r#"[{"name": "code", "resource": "repo", "version": "every", "trigger": true}]"#),
            (
                "versions",
                r#"[{"resource": "repo", "version": {"ref": "a1"}, "order": 1},
                    {"resource": "repo", "version": {"ref": "a2"}, "order": 2},
                    {"resource": "repo", "version": {"ref": "a3"}, "order": 3}]"#,
            ),
            (
                "builds",
                r#"[{"id": 1, "job": "ship", "status": "aborted", "inputs": [{"name": "old", "resource": "repo", "version": {"ref": "a1"}}]}]"#,
            ),
        ],
        r#"
            {"resolved":true,"has_next":true,"inputs":{
            "code":{"version":{"ref":"a2"},"passed_builds":[],"first_occurrence":true}
            }}"#,
    );
}

#[test]
fn every_goes_on_after_the_upstream_build_of_the_last_use() {
    check(
        &[
            ("inputs", r#"[{"name": "code", "resource": "repo", "passed": ["unit"], "version": "every"}]"#),
            (
                "versions",
                r#"[{"resource": "repo", "version": {"ref": "a1"}, "order": 1},
                    {"resource": "repo", "version": {"ref": "a2"}, "order": 2},
                    {"resource": "repo", "version": {"ref": "a3"}, "order": 3}]"#,
            ),
            (
                "builds",
                r#"[{"id": 1, "job": "unit", "status": "succeeded", "inputs": [{"name": "repo", "resource": "repo", "version": {"ref": "a1"}}]},
                    {"id": 2, "job": "ship", "status": "succeeded", "inputs": [{"name": "code", "resource": "repo", "version": {"ref": "a1"}}], "passed_builds": [1]},
                    {"id": 3, "job": "unit", "status": "succeeded", "inputs": [{"name": "repo", "resource": "repo", "version": {"ref": "a2"}}]},
                    {"id": 4, "job": "unit", "status": "succeeded", "inputs": [{"name": "repo", "resource": "repo", "version": {"ref": "a3"}}]}]"#,
            ),
        ],
        r#"
            {"resolved":true,"has_next":true,"inputs":{
            "code":{"version":{"ref":"a2"},"passed_builds":[3],"first_occurrence":true}
            }}"#,
    );
}

#[test]
fn every_of_a_resource_without_versions() {
    check(
        &[
            ("inputs", r#"[{"name": "code", "resource": "repo", "version": "every"}]"#),
            ("versions", "[]"),
            ("builds", "[]"),
        ],
        r#"
            {"resolved":false,"has_next":false,"inputs":{
            "code":{"error":"version of resource not found","why":[
            {"cause":"no-version","input":"code","sentence":"code: its resource has no version"}
            ]}
            }}"#,
    );
}

#[test]
fn a_pin_of_some_keys_is_the_newest_version_that_has_them_unticked_or_not() {
    check(
        &[
            (
                "inputs",
                r#"[{"name": "code", "resource": "repo", "version": {"branch": "main"}},
                    {"name": "any", "resource": "repo", "version": {}}]"#,
            ),
            (
                "versions",
                r#"[{"resource": "repo", "version": {"ref": "a1", "branch": "main"}, "order": 1},
                    {"resource": "repo", "version": {"ref": "a2", "branch": "main"}, "order": 3, "enabled": false},
                    {"resource": "repo", "version": {"ref": "a3", "branch": "dev"}, "order": 4}]"#,
            ),
            (
                "builds",
                r#"[{"id": 1, "job": "ship", "status": "failed", "inputs": [{"name": "code", "resource": "repo", "version": {"branch": "main", "ref": "a2"}}]}]"#,
            ),
        ],
        r#"
            {"resolved":true,"has_next":false,"inputs":{
            "code":{"version":{"branch":"main","ref":"a2"},"passed_builds":[],"first_occurrence":false},
            "any":{"version":{"branch":"dev","ref":"a3"},"passed_builds":[],"first_occurrence":true}
            }}"#,
    );
}

#[test]
fn a_pin_that_no_version_has() {
    check(
        &[(
            "inputs",
            r#"[{"name": "code", "resource": "repo", "version": {"ref": "a9", "branch": "main"}},
                    {"name": "passed", "resource": "repo", "passed": ["unit"], "version": {"ref": "a8"}}]"#,
        )],
        r#"
            {"resolved":false,"has_next":false,"inputs":{
            "code":{"error":"pinned version branch:main ref:a9 not found","why":[
            {"cause":"pin-not-found","input":"code","pin":{"branch":"main","ref":"a9"},"sentence":"code: its resource has no version branch:main ref:a9, to which it is pinned"}
            ]},
            "passed":{"error":"pinned version ref:a8 not found","why":[
            {"cause":"pin-not-found","input":"passed","pin":{"ref":"a8"},"sentence":"passed: its resource has no version ref:a8, to which it is pinned"}
            ]}
            }}"#,
    );
}

#[test]
fn what_is_unticked_is_passed_over() {
    check(
        &[
            (
                "inputs",
                r#"[{"name": "newest", "resource": "repo"},
                    {"name": "passed", "resource": "repo", "passed": ["unit"]}]"#,
            ),
            (
                "versions",
                r#"[{"resource": "repo", "version": {"ref": "a1"}, "order": 1},
                    {"resource": "repo", "version": {"ref": "a2"}, "order": 2, "enabled": false}]"#,
            ),
            (
                "builds",
                r#"[{"id": 1, "job": "unit", "status": "succeeded", "outputs": [{"resource": "repo", "version": {"ref": "a1"}}]},
                    {"id": 2, "job": "unit", "status": "succeeded", "outputs": [{"resource": "repo", "version": {"ref": "a2"}}]}]"#,
            ),
        ],
        r#"
            {"resolved":true,"has_next":false,"inputs":{
            "newest":{"version":{"ref":"a1"},"passed_builds":[],"first_occurrence":true},
            "passed":{"version":{"ref":"a1"},"passed_builds":[1],"first_occurrence":true}
            }}"#,
    );
}

#[test]
fn everything_is_unticked() {
    check(
        &[
            (
                "inputs",
                r#"[{"name": "newest", "resource": "repo"},
                    {"name": "each", "resource": "repo", "version": "every"},
                    {"name": "passed", "resource": "repo", "passed": ["unit"]}]"#,
            ),
            ("versions", r#"[{"resource": "repo", "version": {"ref": "a1"}, "order": 1, "enabled": false}]"#),
        ],
        r#"
            {"resolved":false,"has_next":false,"inputs":{
            "newest":{"error":"latest version of resource not found","why":[
            {"cause":"all-disabled","input":"newest","version":{"ref":"a1"},"sentence":"newest: every version of its resource is disabled, the newest is ref:a1"}
            ]},
            "each":{"error":"version of resource not found","why":[
            {"cause":"all-disabled","input":"each","version":{"ref":"a1"},"sentence":"each: every version of its resource is disabled, the newest is ref:a1"}
            ]},
            "passed":{"error":"no satisfiable builds from passed jobs found for set of inputs","why":[
            {"cause":"version-disabled","input":"passed","job":"unit","build":1,"version":{"ref":"a1"},"sentence":"passed: build 1 of unit has ref:a1, which is disabled"},
            {"cause":"no-more-builds","input":"passed","job":"unit","tried":1,"sentence":"passed: the only succeeded build of unit was ruled out"}
            ]}
            }}"#,
    );
}

#[test]
fn a_version_that_is_not_listed_is_gone_and_is_named_by_the_build_that_has_it() {
    check(
        &[("versions", r#"[{"resource": "repo", "version": {"ref": "a2"}, "order": 2}]"#)],
        r#"
            {"resolved":false,"has_next":false,"inputs":{
            "code":{"error":"no satisfiable builds from passed jobs found for set of inputs","why":[
            {"cause":"version-gone","input":"code","job":"unit","build":1,"version":{"ref":"a1"},"sentence":"code: build 1 of unit has ref:a1, which is not known any more"},
            {"cause":"no-more-builds","input":"code","job":"unit","tried":1,"sentence":"code: the only succeeded build of unit was ruled out"}
            ]}
            }}"#,
    );
}

#[test]
fn after_a_version_that_is_gone_an_older_build_is_taken() {
    check(
        &[(
            "builds",
            r#"[{"id": 1, "job": "unit", "status": "succeeded", "outputs": [{"resource": "repo", "version": {"ref": "a1"}}]},
                    {"id": 2, "job": "unit", "status": "succeeded", "outputs": [{"resource": "repo", "version": {"ref": "a0"}}]}]"#,
        )],
        r#"
            {"resolved":true,"has_next":false,"inputs":{
            "code":{"version":{"ref":"a1"},"passed_builds":[1],"first_occurrence":true}
            }}"#,
    );
}

#[test]
fn jobs_and_resources_that_only_builds_name_are_gone_and_decide_nothing() {
    check(
        &[(
            "builds",
            r#"[{"id": 1, "job": "unit", "status": "succeeded", "inputs": [{"name": "repo", "resource": "repo", "version": {"ref": "a1"}}], "outputs": [{"resource": "image", "version": {"ref": "a1"}}]},
                    {"id": 2, "job": "lint", "status": "succeeded", "inputs": [{"name": "repo", "resource": "repo", "version": {"ref": "a1"}}]},
                    {"id": 3, "job": "unit", "status": "succeeded", "outputs": [{"resource": "image", "version": {"ref": "a1"}}]},
                    {"id": 4, "job": "lint", "status": "succeeded", "inputs": [{"name": "code", "resource": "repo", "version": {"ref": "a1"}}], "passed_builds": [1]}]"#,
        )],
        r#"
            {"resolved":true,"has_next":false,"inputs":{
            "code":{"version":{"ref":"a1"},"passed_builds":[1],"first_occurrence":true}
            }}"#,
    );
}

#[test]
fn a_resource_that_was_never_checked() {
    check(
        &[
            ("resources", r#"[{"name": "repo", "checked": false}]"#),
            ("versions", "[]"),
            (
                "inputs",
                r#"[{"name": "newest", "resource": "repo"},
                    {"name": "each", "resource": "repo", "version": "every"},
                    {"name": "pinned", "resource": "repo", "version": {"ref": "a1"}},
                    {"name": "passed", "resource": "repo", "passed": ["unit"]}]"#,
            ),
        ],
        r#"
            {"resolved":false,"has_next":false,"inputs":{
            "newest":{"error":"latest version of resource not found","why":[
            {"cause":"no-version","input":"newest","sentence":"newest: its resource has no version"}
            ]},
            "each":{"error":"version of resource not found","why":[
            {"cause":"no-version","input":"each","sentence":"each: its resource has no version"}
            ]},
            "pinned":{"error":"pinned version ref:a1 not found","why":[
            {"cause":"pin-not-found","input":"pinned","pin":{"ref":"a1"},"sentence":"pinned: its resource has no version ref:a1, to which it is pinned"}
            ]},
            "passed":{"error":"no satisfiable builds from passed jobs found for set of inputs","why":[
            {"cause":"version-gone","input":"passed","job":"unit","build":1,"version":{"ref":"a1"},"sentence":"passed: build 1 of unit has ref:a1, which is not known any more"},
            {"cause":"no-more-builds","input":"passed","job":"unit","tried":1,"sentence":"passed: the only succeeded build of unit was ruled out"}
            ]}
            }}"#,
    );
}

#[test]
fn a_rerun_stands_after_its_original_and_counts_as_a_use() {
    check(
        &[
            (
                "versions",
                r#"[{"resource": "repo", "version": {"ref": "a1"}, "order": 1},
                    {"resource": "repo", "version": {"ref": "a2"}, "order": 2}]"#,
            ),
            (
                "builds",
                r#"[{"id": 1, "job": "unit", "status": "failed", "inputs": [{"name": "repo", "resource": "repo", "version": {"ref": "a1"}}]},
                    {"id": 2, "job": "unit", "status": "succeeded", "inputs": [{"name": "repo", "resource": "repo", "version": {"ref": "a2"}}]},
                    {"id": 3, "job": "unit", "status": "succeeded", "rerun_of": 1, "inputs": [{"name": "repo", "resource": "repo", "version": {"ref": "a1"}}]},
                    {"id": 4, "job": "unit", "status": "succeeded", "rerun_of": 2, "inputs": [{"name": "repo", "resource": "repo", "version": {"ref": "a2"}}]},
                    {"id": 5, "job": "ship", "status": "aborted", "inputs": []},
                    {"id": 6, "job": "ship", "status": "errored", "rerun_of": 5, "inputs": [{"name": "code", "resource": "repo", "version": {"ref": "a2"}}]}]"#,
            ),
        ],
        r#"
            {"resolved":true,"has_next":false,"inputs":{
            "code":{"version":{"ref":"a2"},"passed_builds":[4],"first_occurrence":false}
            }}"#,
    );
}

#[test]
fn builds_that_did_not_succeed_vouch_for_nothing() {
    check(
        &[(
            "builds",
            r#"[{"id": 1, "job": "unit", "status": "pending", "outputs": [{"resource": "repo", "version": {"ref": "a1"}}]},
                    {"id": 2, "job": "unit", "status": "started", "outputs": [{"resource": "repo", "version": {"ref": "a1"}}]},
                    {"id": 3, "job": "unit", "status": "failed", "outputs": [{"resource": "repo", "version": {"ref": "a1"}}]},
                    {"id": 4, "job": "unit", "status": "errored", "outputs": [{"resource": "repo", "version": {"ref": "a1"}}]},
                    {"id": 5, "job": "unit", "status": "aborted", "outputs": [{"resource": "repo", "version": {"ref": "a1"}}]}]"#,
        )],
        r#"
            {"resolved":false,"has_next":false,"inputs":{
            "code":{"error":"no satisfiable builds from passed jobs found for set of inputs","why":[
            {"cause":"no-more-builds","input":"code","job":"unit","tried":0,"sentence":"code: unit has no succeeded build"}
            ]}
            }}"#,
    );
}

#[test]
fn inputs_that_are_tied_together_share_what_was_tried() {
    check(
        &[
            ("jobs", r#"["unit", "pack", "ship"]"#),
            (
                "resources",
                r#"[{"name": "repo"},
                    {"name": "image"}]"#,
            ),
            (
                "inputs",
                r#"[{"name": "code", "resource": "repo", "passed": ["unit", "pack"]},
                    {"name": "image", "resource": "image", "passed": ["pack"], "version": {"tag": "1"}}]"#,
            ),
            (
                "versions",
                r#"[{"resource": "repo", "version": {"ref": "a1"}, "order": 1},
                    {"resource": "repo", "version": {"ref": "a2"}, "order": 2},
                    {"resource": "image", "version": {"tag": "1"}, "order": 1},
                    {"resource": "image", "version": {"tag": "2"}, "order": 2}]"#,
            ),
            (
                "builds",
                r#"[{"id": 1, "job": "unit", "status": "succeeded", "inputs": [{"name": "repo", "resource": "repo", "version": {"ref": "a2"}}]},
                    {"id": 2, "job": "pack", "status": "succeeded", "inputs": [{"name": "repo", "resource": "repo", "version": {"ref": "a2"}}], "outputs": [{"resource": "image", "version": {"tag": "2"}}]},
                    {"id": 3, "job": "pack", "status": "succeeded", "inputs": [{"name": "repo", "resource": "repo", "version": {"ref": "a1"}}], "outputs": [{"resource": "image", "version": {"tag": "1"}}]},
                    {"id": 4, "job": "unit", "status": "succeeded"}]"#,
            ),
        ],
        r#"
            {"resolved":false,"has_next":false,"inputs":{
            "code":{"error":"no satisfiable builds from passed jobs found for set of inputs","why":[
            {"cause":"not-in-build","input":"code","job":"unit","build":4,"sentence":"code: build 4 of unit has no version for it"},
            {"cause":"pin-mismatch","input":"code","other":"image","job":"pack","build":2,"version":{"tag":"2"},"pinned":{"tag":"1"},"sentence":"code: build 2 of pack has tag:2 for image, but image is pinned to tag:1"},
            {"cause":"mismatch","input":"image","other":"code","job":"pack","build":3,"version":{"ref":"a1"},"chosen":{"ref":"a2"},"chosen_from":1,"sentence":"image: build 3 of pack has ref:a1 for code, but ref:a2 is already chosen, from build 1"},
            {"cause":"pin-mismatch","input":"image","job":"pack","build":2,"version":{"tag":"2"},"pinned":{"tag":"1"},"sentence":"image: build 2 of pack has tag:2, but it is pinned to tag:1"},
            {"cause":"no-more-builds","input":"image","job":"pack","tried":2,"sentence":"image: each of the 2 succeeded builds of pack was ruled out"},
            {"cause":"no-more-builds","input":"code","job":"pack","tried":1,"having":{"code":{"ref":"a2"}},"sentence":"code: the only succeeded build of pack with code at ref:a2 was ruled out"},
            {"cause":"no-more-builds","input":"code","job":"unit","tried":2,"sentence":"code: each of the 2 succeeded builds of unit was ruled out"}
            ]},
            "image":{"error":"no satisfiable builds from passed jobs found for set of inputs","why":[
            {"cause":"not-in-build","input":"code","job":"unit","build":4,"sentence":"code: build 4 of unit has no version for it"},
            {"cause":"pin-mismatch","input":"code","other":"image","job":"pack","build":2,"version":{"tag":"2"},"pinned":{"tag":"1"},"sentence":"code: build 2 of pack has tag:2 for image, but image is pinned to tag:1"},
            {"cause":"mismatch","input":"image","other":"code","job":"pack","build":3,"version":{"ref":"a1"},"chosen":{"ref":"a2"},"chosen_from":1,"sentence":"image: build 3 of pack has ref:a1 for code, but ref:a2 is already chosen, from build 1"},
            {"cause":"pin-mismatch","input":"image","job":"pack","build":2,"version":{"tag":"2"},"pinned":{"tag":"1"},"sentence":"image: build 2 of pack has tag:2, but it is pinned to tag:1"},
            {"cause":"no-more-builds","input":"image","job":"pack","tried":2,"sentence":"image: each of the 2 succeeded builds of pack was ruled out"},
            {"cause":"no-more-builds","input":"code","job":"pack","tried":1,"having":{"code":{"ref":"a2"}},"sentence":"code: the only succeeded build of pack with code at ref:a2 was ruled out"},
            {"cause":"no-more-builds","input":"code","job":"unit","tried":2,"sentence":"code: each of the 2 succeeded builds of unit was ruled out"}
            ]}
            }}"#,
    );
}

#[test]
fn an_upstream_build_gives_all_that_it_has_together() {
    check(
        &[
            ("jobs", r#"["pack", "ship"]"#),
            (
                "resources",
                r#"[{"name": "repo"},
                    {"name": "image"}]"#,
            ),
            (
                "inputs",
                r#"[{"name": "code", "resource": "repo", "passed": ["pack"]},
                    {"name": "image", "resource": "image", "passed": ["pack"]},
                    {"name": "newest", "resource": "repo"}]"#,
            ),
            (
                "versions",
                r#"[{"resource": "repo", "version": {"ref": "a1"}, "order": 1},
                    {"resource": "repo", "version": {"ref": "a2"}, "order": 2},
                    {"resource": "image", "version": {"tag": "1"}, "order": 1}]"#,
            ),
            (
                "builds",
                r#"[{"id": 7, "job": "pack", "status": "succeeded", "inputs": [{"name": "repo", "resource": "repo", "version": {"ref": "a1"}}], "outputs": [{"resource": "image", "version": {"tag": "1"}}]}]"#,
            ),
        ],
        r#"
            {"resolved":true,"has_next":false,"inputs":{
            "code":{"version":{"ref":"a1"},"passed_builds":[7],"first_occurrence":true},
            "image":{"version":{"tag":"1"},"passed_builds":[7],"first_occurrence":true},
            "newest":{"version":{"ref":"a2"},"passed_builds":[],"first_occurrence":true}
            }}"#,
    );
}

#[test]
fn a_job_without_inputs_is_resolved() {
    check(
        &[("inputs", "[]"), ("builds", "[]")],
        r#"
            {"resolved":true,"has_next":false,"inputs":{
            }}"#,
    );
}

/// One that was saved and never ordered.
#[test]
fn a_version_with_order_0_is_a_version() {
    check(
        &[
            (
                "inputs",
                r#"[{"name": "newest", "resource": "repo"},
                    {"name": "pinned", "resource": "repo", "version": {"ref": "a1"}},
                    {"name": "passed", "resource": "repo", "passed": ["unit"]}]"#,
            ),
            ("versions", r#"[{"resource": "repo", "version": {"ref": "a1"}, "order": 0}]"#),
        ],
        r#"
            {"resolved":true,"has_next":false,"inputs":{
            "newest":{"version":{"ref":"a1"},"passed_builds":[],"first_occurrence":true},
            "pinned":{"version":{"ref":"a1"},"passed_builds":[],"first_occurrence":true},
            "passed":{"version":{"ref":"a1"},"passed_builds":[1],"first_occurrence":true}
            }}"#,
    );
}
