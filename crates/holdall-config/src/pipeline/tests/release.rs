//! The built-in release types and the rules of locks.

use super::*;

/// A pipeline with the lock `env-lock` and the resource `repo`, and this as the job's plan.
fn plan(steps: &str) -> String {
    format!(
        "resources:\n- {{name: env-lock, type: lock, source: {{environment: preview}}}}\n- {{name: repo, type: git, source: {{}}}}\n\
         jobs:\n- name: j\n  plan:\n{steps}\n  - {{put: env-lock, params: {{release: true}}}}\n  - {{get: repo}}\n"
    )
}

#[test]
fn conditions_stand_at_the_top_of_a_plan() {
    for right in [
        "  - {put: env-lock, params: {acquire: true}}",
        "  - {put: env-lock, params: {require: true}}",
        "  - {put: env-lock, params: {during: true, mode: shared}}",
        "  - {put: env-lock, params: {require: true, acquire: false}, timeout: 1m}",
        "  - {put: env-lock, params: {force_release: true}}",
    ] {
        accepted(&plan(right));
    }
    for wrong in [
        "  - {get: x, resource: repo}\n  - {put: env-lock, params: {acquire: true}}",
        "  - {put: env-lock, params: {acquire: true}, attempts: 2}",
        "  - {put: env-lock, params: {release: true}}\n  - {put: x, resource: env-lock, params: {require: true}}",
        "  - do: [{put: env-lock, params: {require: true}}]",
        "  - in_parallel: [{put: env-lock, params: {require: true}}]",
        "  - try: {put: env-lock, params: {during: true}}",
        "  - {task: t, file: a/b, ensure: {put: env-lock, params: {require: true}}}",
    ] {
        let found = errors(&plan(wrong));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("can only stand at the top of a plan"), "{found:?}");
    }
}

#[test]
fn a_put_of_a_lock_does_one_known_thing() {
    for (params, message) in [
        ("{}", "a put of a lock must say what to do"),
        ("{acquire: true, release: true}", "a put of a lock does one thing, not acquire and release"),
        ("{acquire: false}", "a put of a lock must say what to do"),
        ("{acquire: x}", "'acquire' is true or false"),
        ("{acquire: true, mode: shared}", "'mode' goes with 'during' only"),
        ("{during: true, mode: mine}", "unknown mode \"mine\""),
        ("{aquire: true}", "a lock does not know 'aquire'"),
    ] {
        let found = errors(&plan(&format!("  - {{put: env-lock, params: {params}}}")));
        assert!(found[0].ends_with(message), "{params}: {found:?}");
    }
    let found = errors(&plan("  - {get: env-lock}"));
    assert!(found[0].ends_with("'env-lock' is a lock, and a lock cannot be got"), "{found:?}");
}

#[test]
fn sources_of_release_types_are_checked() {
    let text = "
resources:
- {name: a, type: deployment-bag, source: {system: notify}}
- {name: b, type: current-bag, source: {system: notify, enviroment: x}}
- {name: c, type: lock}
- {name: d, type: deployment, source: {system: notify, environment: preview}}
jobs:
- {name: j, plan: [{get: a}, {get: b}, {put: c, params: {release: true}}, {get: d}]}
";
    assert_eq!(
        errors(text),
        [
            "3 resources.a.source: key 'environment' is missing",
            "4 resources.b.source: key 'environment' is missing",
            "4 resources.b.source.enviroment: unknown key 'enviroment'",
            "5 resources.c.source: key 'environment' is missing",
        ]
    );
}

#[test]
fn a_pipelines_own_type_of_that_name_is_its_own() {
    let text = "
resource_types: [{name: lock, type: registry-image, source: {}}]
resources: [{name: l, type: lock, source: {uri: x}}]
jobs: [{name: j, plan: [{get: l}, {put: l, params: {acquire: true}}]}]
";
    accepted(text);
}

#[test]
fn bags_are_packed_or_tagged_and_what_is_live_cannot_be_put() {
    let text = "
resources:
- {name: bag, type: deployment-bag, source: {system: s, environment: e}}
- {name: live, type: current-bag, source: {system: s, environment: e}}
- {name: deployment, type: deployment, source: {system: s, environment: e}}
jobs:
- name: j
  plan:
  - {get: bag, params: {services: api}}
  - {get: live, params: {services: [api]}}
  - {put: deployment}
  - {put: bag, params: {tag: true}}
  - {put: bag}
  - {put: live}
";
    assert_eq!(
        errors(text),
        [
            "9 jobs.j.plan[0].get.params.services: services must be a list, not a string",
            "13 jobs.j.plan[4].put.params: a put of a bag must say what to do",
            "14 jobs.j.plan[5].put: a current-bag cannot be put: it follows from deployments",
        ]
    );
}
