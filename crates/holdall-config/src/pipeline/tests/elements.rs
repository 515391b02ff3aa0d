//! Elements of ordinary pipelines: what they become, what is wrong with them, how they are written back.

use holdall_engine::pipeline::{CheckEvery, PutInputs, Step, VersionChoice};
use serde_json::json;

use super::*;

/// A pipeline of one job with this plan, with the resource `repo`.
fn plan(steps: &str) -> String {
    let steps = steps.replace('\n', "\n  ");
    format!(
        "resources:\n- {{name: repo, type: git, source: {{}}}}\njobs:\n- name: j\n  plan:\n  - get: repo\n  {steps}\n"
    )
}

/// The last step of the job.
fn last(text: &str) -> Step {
    accepted(text).jobs.remove(0).plan.pop().unwrap()
}

#[test]
fn modifiers_wrap_in_the_order_of_the_reference() {
    let step = last(&plan(
        "- task: t\n  file: repo/t.yml\n  timeout: 1h\n  attempts: 2\n  across: [{var: x, values: [1]}]\n  \
         on_success: {task: a, file: f/a}\n  on_failure: {task: b, file: f/b}\n  on_abort: {task: c, file: f/c}\n  \
         on_error: {task: d, file: f/d}\n  ensure: {task: e, file: f/e}",
    ));
    let mut order = Vec::new();
    let mut step = &step;
    loop {
        step = match step {
            Step::Ensure(inner, _) => {
                order.push("ensure");
                inner
            }
            Step::OnError(inner, _) => {
                order.push("on_error");
                inner
            }
            Step::OnAbort(inner, _) => {
                order.push("on_abort");
                inner
            }
            Step::OnFailure(inner, _) => {
                order.push("on_failure");
                inner
            }
            Step::OnSuccess(inner, _) => {
                order.push("on_success");
                inner
            }
            Step::Across(across) => {
                order.push("across");
                &across.step
            }
            Step::Attempts(inner, 2) => {
                order.push("attempts");
                inner
            }
            Step::Task(task) => {
                assert_eq!(task.timeout.as_ref().unwrap().span, holdall_engine::time::Span::seconds(3600));
                break;
            }
            other => panic!("{other:?}"),
        };
    }
    assert_eq!(order, ["ensure", "on_error", "on_abort", "on_failure", "on_success", "across", "attempts"]);
}

#[test]
fn gets_and_puts_have_their_choices() {
    let text = "
resources:
- {name: r, type: git, source: {}, check_every: 90s, version: {ref: 1}}
jobs:
- name: a
  plan:
  - {get: r, version: every}
  - {get: s, resource: r, version: {ref: abc}}
  - {get: t, resource: r, version: latest, passed: []}
  - {put: r, inputs: all}
  - {put: r, inputs: [' x ']}
  - {put: r, inputs: none, no_get: true, get_params: {depth: 1}}
";
    let pipeline = accepted(text);
    assert!(matches!(&pipeline.resources[0].check_every, Some(CheckEvery::Every(every)) if every.text == "1m30s"));
    assert_eq!(pipeline.resources[0].version.as_ref().unwrap().0["ref"], "1");
    let plan = &pipeline.jobs[0].plan;
    assert!(matches!(&plan[0], Step::Get(get) if get.version == VersionChoice::Every));
    assert!(
        matches!(&plan[1], Step::Get(get) if matches!(&get.version, VersionChoice::Pinned(v) if v.0["ref"] == "abc"))
    );
    assert!(matches!(&plan[3], Step::Put(put) if put.inputs == PutInputs::All));
    assert!(matches!(&plan[4], Step::Put(put) if put.inputs == PutInputs::Named(vec!["x".into()])));
    assert!(matches!(&plan[5], Step::Put(put) if put.no_get && put.inputs == PutInputs::None("none".into())));
}

#[test]
fn every_mistake_comes_at_once_in_the_order_of_the_file() {
    let text = "
groups:
- {name: g, jobs: [nope]}
resources:
- {name: r, type: git, source: {}, check_every: 1d}
- {name: r, type: git}
jobs:
- name: ship
  serial: \"yes\"
  plan:
  - get: rr
    triger: true
  - task: t
  - put: r
    timeout: soon
  - aggregate: []
";
    assert_eq!(
        errors(text),
        [
            "3 groups.g.jobs[0]: no jobs match 'nope' for group 'g'",
            "5 resources.r.check_every: unknown unit \"d\" in duration \"1d\"",
            "6 resources.r: resources[0] and resources[1] have the same name ('r')",
            "8 jobs.ship: job 'ship' belongs to no group",
            "9 jobs.ship.serial: serial must be a boolean, not a string",
            "11 jobs.ship.plan[0].get: unknown resource 'rr'",
            "12 jobs.ship.plan[0].triger: unknown key 'triger'",
            "13 jobs.ship.plan[1]: must specify either `file:` or `config:`",
            "16 jobs.ship.plan[3]: no step configured",
        ]
    );
    let rendered = parse(text).render("ci.yml", text);
    assert!(rendered.contains("help: did you mean 'trigger'?"), "{rendered}");
    assert!(rendered.contains("help: did you mean 'r'?"), "{rendered}");
    assert!(rendered.contains("'aggregate' was removed"), "{rendered}");
}

#[test]
fn what_concourse_ignores_is_a_warning() {
    let text = "
x-anchors: {a: 1}
resorces: []
jobs:
- name: J
  steps: []
  plan:
  - {task: t, file: a/b, timeout: soon}
  - in_parallel: {foo: 1, steps: []}
";
    assert_eq!(
        warnings(text),
        [
            "3 resorces: top-level key 'resorces' is ignored: did you mean 'resources'?",
            "5 jobs.J: 'J' is not a valid identifier: must start with a lowercase letter or a number",
            "6 jobs.J.steps: key 'steps' is not known here and ignored",
            "8 jobs.J.plan[0].timeout: invalid duration \"soon\": the step runs without a limit",
            "9 jobs.J.plan[1].in_parallel.foo: key 'foo' is not known here and ignored",
        ]
    );
}

#[test]
fn passed_is_checked_against_the_other_jobs() {
    let text = "
resources:
- {name: r, type: git, source: {}}
- {name: s, type: git, source: {}}
jobs:
- {name: a, plan: [{get: r}]}
- {name: b, plan: [{get: r, passed: [a, c]}, {get: s, passed: [a]}]}
- {name: d, plan: [{get: r, passed: [e]}]}
- {name: e, plan: [{get: r, passed: [d]}]}
";
    assert_eq!(
        errors(text),
        [
            "7 jobs.b.plan[0].passed[1]: no matching job(s) for 'c'",
            "7 jobs.b.plan[1].passed[0]: job 'a' does not interact with resource 's'",
            "8 jobs.d: pipeline contains a cycle that starts at Job 'd'",
        ]
    );
    let help = parse(text).diagnostics.pop().unwrap().help.unwrap();
    assert!(help.ends_with("d -> e -> d"), "{help}");
}

#[test]
fn a_variable_where_text_cannot_stand_says_so() {
    let found = parse(&plan("- {get: x, resource: repo, trigger: ((t))}"));
    let help = found.diagnostics[0].help.as_deref().unwrap();
    assert!(help.contains("a variable can only stand where text is wanted"), "{help}");
}

#[test]
fn tags_of_a_do_go_to_its_steps() {
    let text = plan("- do:\n  - {task: a, file: x/y}\n  - {task: b, file: x/y, tags: [own]}\n  tags: [far]");
    let Step::Do(steps) = last(&text) else { panic!() };
    let tags: Vec<_> =
        steps.iter().map(|step| if let Step::Task(task) = step { &task.tags[..] } else { &[] }).collect();
    assert_eq!(tags, [&["far".to_owned()][..], &["own".to_owned()]]);
}

#[test]
fn a_pipeline_is_written_in_the_shape_of_concourse() {
    let text =
        plan("- in_parallel:\n  - task: t\n    file: a/b\n    attempts: 3\n    ensure: {put: repo}\n  timeout: 1h");
    let written = to_json(&accepted(&text));
    assert_eq!(
        written,
        json!({
            "resources": [{"name": "repo", "type": "git", "source": {}}],
            "jobs": [{"name": "j", "plan": [
                {"get": "repo"},
                {"in_parallel": {"steps": [{"task": "t", "file": "a/b", "attempts": 3, "ensure": {"put": "repo"}}]},
                 "timeout": "1h"},
            ]}],
        })
    );
    assert_eq!(parse(&written.to_string()).value, Some(accepted(&text)));
}

#[test]
fn what_a_later_release_brings_is_refused_by_name_and_place() {
    let text = "
resource_types:
- {name: t, type: registry-image, source: {}}
var_sources:
- {name: v, type: dummy, config: {vars: {}}}
jobs:
- name: j
  plan:
  - {task: fine, file: a/b, image: x, privileged: true, config: ~}
  - {load_var: v, file: a/b}
  - try:
      do:
      - across: [{var: x, values: [1]}]
        task: t
        file: a/b
        hermetic: true
  ensure: {set_pipeline: p, file: a/b, instance_vars: {a: 1}}
";
    let mut found = unsupported(&accepted(text));
    locate(&mut found, &crate::yaml::parse(text).value.unwrap());
    assert_eq!(
        shown(found.iter()),
        [
            "5 var_sources.v: `var_sources` cannot be used yet: a later release brings it",
            "3 resource_types.t: a resource type of the pipeline's own (`resource_types`) cannot be used yet: a later \
             release brings it",
            "10 jobs.j.plan[1].load_var: `load_var` cannot be used yet: a later release brings it",
            "13 jobs.j.plan[2].try.do[0].across: `across` cannot be used yet: a later release brings it",
            "14 jobs.j.plan[2].try.do[0].task: `hermetic: true` cannot be used yet: a later release brings it",
            "17 jobs.j.ensure.set_pipeline: `set_pipeline` with `instance_vars` cannot be used yet: a later release \
             brings it",
        ]
    );
    let simple = plan("- {task: t, config: {platform: linux, run: {path: x}, image_resource: {type: registry-image}}}");
    assert!(unsupported(&accepted(&simple)).is_empty());
}

#[test]
fn broken_vars_are_refused_everywhere() {
    let text = format!("x: ((a..b))\n{}", plan("- {task: ((ok)), file: ((x.y))/((z))}"));
    assert_eq!(errors(&text), ["1 x: invalid var 'a..b': empty field"]);
}
