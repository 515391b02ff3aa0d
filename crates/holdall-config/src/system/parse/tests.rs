//! Mistakes in system files: each at its place, with what would be right, and all of a file at once.

use super::*;

const GOOD: &str = "\
system: notify
services:
  api: { type: git, source: { uri: u }, repository: https://git.example/api }
  infra: { type: git, source: { uri: u, branch: main } }
environments:
  preview:
    pack: true
    stop: { signal: INT, grace: 10m }
    deploy:
    - task: apply
      file: infra/ci/apply.yml
    tests:
      smoke: [{ task: smoke, file: api/smoke.yml }]
  staging:
    after: preview
    deploy: { plan: [{ task: apply, file: infra/ci/apply.yml }], services: [infra] }
    periodic:
      clock: { every: 10m, plan: [{ task: smoke, file: api/smoke.yml }] }
";

fn mistakes(text: &str) -> Vec<String> {
    parse(text, &BTreeMap::new())
        .diagnostics
        .iter()
        .map(|found| {
            let (line, column) = found.span.map_or((0, 0), |span| (span.line, span.column));
            format!("{line}:{column} {}", found.code)
        })
        .collect()
}

#[test]
fn a_good_file_has_no_mistakes() {
    assert_eq!(mistakes(GOOD), Vec::<String>::new());
    let system = parse(GOOD, &BTreeMap::new()).value.expect("a system");
    assert_eq!(system.environments[1].team, "staging");
    assert_eq!(system.environments[1].deploy[0].plan.services.as_deref(), Some(&["infra".to_owned()][..]));
}

/// Replaces one piece of the good file by another and gives what is wrong then.
fn with(from: &str, to: &str) -> Vec<String> {
    assert!(GOOD.contains(from), "{from:?} is not in the file");
    mistakes(&GOOD.replacen(from, to, 1))
}

#[test]
fn every_mistake_is_found_at_its_place() {
    let api = "api: { type: git, source: { uri: u }, repository: https://git.example/api }";
    let smoke = "smoke: [{ task: smoke, file: api/smoke.yml }]";
    let clock = "clock: { every: 10m, plan: [{ task: smoke, file: api/smoke.yml }] }";
    let staging = "deploy: { plan: [{ task: apply, file: infra/ci/apply.yml }], services: [infra] }";
    let table: &[(&str, &str, &[&str])] = &[
        ("system: notify\n", "", &["1:1 missing-key"]),
        ("system: notify", "system:", &["1:1 missing-key"]),
        ("system: notify", "system: 12", &["1:9 wrong-type"]),
        ("system: notify", "system: ''", &["1:9 empty"]),
        ("system: notify", "system: Notify", &["1:9 bad-name"]),
        ("system: notify", "system: no tify", &["1:9 bad-name"]),
        ("system: notify", "system: nötify", &["1:9 bad-name"]),
        ("system: notify", "sistem: notify", &["1:1 missing-key", "1:1 unknown-key"]),
        ("system: notify", "system: notify\nfoo: 1", &["2:1 unknown-key"]),
        ("system: notify", "system: notify\nrequire_reasons: true", &["2:18 later-release"]),
        (api, "Api: { type: git, source: { uri: u } }", &["3:3 bad-name"]),
        (api, "api: 3", &["3:8 wrong-type"]),
        (api, "api: { source: { uri: u } }", &["3:8 missing-key"]),
        (api, "api: { type: git }", &["3:8 incomplete-source"]),
        (api, "api: { type: git, source: [] }", &["3:29 wrong-type", "3:8 incomplete-source"]),
        (api, "api: { type: registry-image, source: { tag: main } }", &["3:8 incomplete-source"]),
        (api, "api: { type: lock, source: {} }", &["3:8 bad-type"]),
        (api, "api: { type: git, source: { uri: u }, trigger: 'no' }", &["3:50 wrong-type"]),
        (api, "api: { type: git, source: { uri: u }, check_every: often }", &["3:54 bad-duration"]),
        (api, "api: { type: git, source: { uri: u }, schema: { file: f } }", &["3:49 later-release"]),
        (api, "api: { type: git, source: { uri: u }, old_name: api }", &["3:8 bad-old-name"]),
        (api, "api: { type: git, source: { uri: u }, old_name: infra }", &["3:8 bad-old-name"]),
        (api, "api: { type: git, source: { uri: u }, tyep: x }", &["3:41 unknown-key"]),
        (
            "infra: {",
            "in-fra: { old_name: bag, type: git, source: { uri: u } }\n  in_fra: {",
            &["5:11 same-variable", "17:77 unknown-service"],
        ),
        ("  infra: {", "  bag: {", &["4:8 reserved-name", "16:77 unknown-service"]),
        ("pack: true\n", "pack: 1\n", &["7:11 wrong-type", "7:5 no-pack-no-after", "6:3 nothing-packs"]),
        ("pack: true\n", "pack: true\n    after: staging\n", &["7:5 pack-and-after", "16:12 circle"]),
        ("    pack: true\n", "", &["6:3 nothing-packs", "7:5 no-pack-no-after"]),
        ("after: preview", "after: []", &["15:5 empty-after"]),
        ("after: preview", "after: previw", &["15:12 unknown-environment"]),
        ("after: preview", "after: staging", &["15:12 after-itself"]),
        ("after: preview", "after: [preview, preview]", &["15:12 named-twice"]),
        ("after: preview", "after: 7", &["15:12 wrong-type", "15:5 empty-after"]),
        ("signal: INT", "signal: KILL", &["8:21 bad-word"]),
        ("signal: INT", "signal: int", &["8:21 bad-word"]),
        ("grace: 10m", "grace: ten", &["8:33 bad-duration"]),
        ("grace: 10m", "grace: 0s", &["8:33 bad-duration"]),
        (", grace: 10m", "", &["8:11 missing-key"]),
        ("stop: {", "stop: { kill: true,", &["8:13 unknown-key"]),
        ("stop: { signal: INT, grace: 10m }", "stop: INT", &["8:11 wrong-type"]),
        ("    deploy:\n    - task: apply\n      file: infra/ci/apply.yml\n", "", &["7:5 missing-key"]),
        (staging, "deploy: []", &["16:13 empty-plan"]),
        (staging, "deploy: {}", &["16:13 empty-plan"]),
        (staging, "deploy: apply", &["16:13 wrong-type"]),
        (staging, "deploy: { A: [{ task: t, file: infra/t.yml }] }", &["16:15 bad-name"]),
        ("services: [infra]", "services: [infar]", &["16:77 unknown-service", "16:13 service-left-out"]),
        ("services: [infra]", "services: [infra, infra]", &["16:84 named-twice"]),
        ("services: [infra]", "services: [api]", &["16:13 service-left-out"]),
        ("services: [infra]", "services: infra", &["16:76 wrong-type"]),
        ("- task: apply\n", "- tsk: apply\n", &["10:7 no-step"]),
        ("- task: apply\n", "- task: apply\n      timeuot: 1h\n", &["11:7 unknown-key"]),
        ("- task: apply\n", "- get: nothing\n    - task: apply\n", &["10:7 unknown-resource"]),
        ("- task: apply\n", "- put: deployment-bag\n    - task: apply\n", &["10:7 reserved-name"]),
        (smoke, "smoke: []", &["13:14 empty-plan"]),
        (smoke, "smoke: { plan: [{ task: t, file: api/t.yml }], own_job: 'x' }", &["13:63 wrong-type"]),
        (smoke, "smoke: { own_job: true }", &["13:14 missing-key"]),
        (smoke, "smoke: { plan: [{ task: t, file: api/t.yml }], own: true }", &["13:54 unknown-key"]),
        (smoke, "SMOKE: [{ task: smoke, file: api/smoke.yml }]", &["13:7 bad-name"]),
        (clock, "clock: { every: 1s, plan: [{ task: s, file: api/s.yml }] }", &["18:23 too-often"]),
        (clock, "clock: { every: soon, plan: [{ task: s, file: api/s.yml }] }", &["18:23 bad-duration"]),
        (clock, "clock: { plan: [{ task: s, file: api/s.yml }] }", &["18:14 missing-key"]),
        (clock, "clock: { every: 10m }", &["18:14 missing-key"]),
        (clock, "deploy: { every: 10m, plan: [{ task: s, file: api/s.yml }] }", &["18:15 same-job"]),
        (clock, "api: { every: 10m, plan: [{ task: s, file: api/s.yml }] }", &["18:12 same-job"]),
        ("    after: preview\n", "    after: preview\n    gates: { soak: 30m }\n", &["16:12 later-release"]),
        ("    after: preview\n", "    after: preview\n    superseding: newest\n", &["16:18 bad-word"]),
        ("    after: preview\n", "    after: preview\n    promotion: auto\n", &["16:16 bad-word"]),
        ("    after: preview\n", "    after: preview\n    lock: { allow: [x] }\n", &["16:21 bad-pipeline-name"]),
        ("    after: preview\n", "    after: preview\n    lock: [a/b]\n", &["16:11 wrong-type"]),
        ("    after: preview\n", "    after: preview\n    services: { api: {} }\n", &["16:15 override-without-pack"]),
        ("    pack: true\n", "    pack: true\n    services: { apu: {} }\n", &["8:22 unknown-service"]),
        ("    after: preview\n", "    after: preview\n    old_name: staging\n", &["15:5 bad-old-name"]),
        ("    after: preview\n", "    after: preview\n    old_name: preview\n", &["15:5 bad-old-name"]),
        ("    after: preview\n", "    after: preview\n    team: preview\n", &["15:5 same-team"]),
        ("    after: preview\n", "    after: preview\n    tags: big\n", &["16:11 wrong-type"]),
        ("    after: preview\n", "    after: preview\n    timeout: -1h\n", &["16:14 bad-duration"]),
        ("    after: preview\n", "    after: preview\n    afetr: preview\n", &["16:5 unknown-key"]),
        ("    after: preview\n", "    after: preview\n    resource_types: []\n", &["16:21 later-release"]),
        ("uri: u }, rep", "uri: ((nothing)) }, rep", &["3:36 undefined-var"]),
    ];
    let mut wrong = Vec::new();
    for (from, to, expected) in table {
        let found = with(from, to);
        let mut expected: Vec<String> = expected.iter().map(|&text| text.to_owned()).collect();
        let mut sorted = found.clone();
        sorted.sort();
        expected.sort();
        if sorted != expected {
            wrong.push(format!("{to:?}\n   found {found:?}\nexpected {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), table.len(), wrong.join("\n"));
    assert!(table.len() >= 60);
}

#[test]
fn all_mistakes_of_a_file_are_reported_in_one_run() {
    let text = GOOD
        .replace("system: notify", "system: Notify")
        .replace("signal: INT", "signal: KILL")
        .replace("after: preview", "after: previw")
        .replace("every: 10m", "every: 1s");
    assert_eq!(mistakes(&text), ["1:9 bad-name", "8:21 bad-word", "15:12 unknown-environment", "18:23 too-often"]);
}

#[test]
fn circles_and_several_roots_are_refused() {
    let circle = "system: s\nservices: { a: { type: mock } }\nenvironments:\n  p: { pack: true, deploy: [{ task: t, file: a/t }] }\n  x: { after: z, deploy: [{ task: t, file: a/t }] }\n  z: { after: x, deploy: [{ task: t, file: a/t }] }\n";
    assert_eq!(mistakes(circle), ["5:15 circle", "6:15 circle"]);
    let roots = "system: s\nservices: { a: { type: mock } }\nenvironments:\n  p: { pack: true, deploy: [{ task: t, file: a/t }] }\n  q: { pack: true, deploy: [{ task: t, file: a/t }] }\n  x: { after: [p, q], deploy: [{ task: t, file: a/t }] }\n";
    assert_eq!(mistakes(roots), ["6:15 several-roots"]);
}

#[test]
fn the_vars_of_an_environment_go_before_those_of_the_file() {
    let text = GOOD
        .replace(
            "file: infra/ci/apply.yml\n    tests",
            "file: infra/((where)).yml\n    vars: { where: own }\n    tests",
        )
        .replace("file: infra/ci/apply.yml }]", "file: infra/((where)).yml }]");
    let values = BTreeMap::from([("where".to_owned(), Value::from("given"))]);
    let system = parse(&text, &values).value.expect("a system");
    let file = |index: usize| match &system.environments[index].deploy[0].plan.steps[0] {
        holdall_engine::pipeline::Step::Task(task) => task.file.clone(),
        _ => None,
    };
    assert_eq!(file(0).as_deref(), Some("infra/own.yml"));
    assert_eq!(file(1).as_deref(), Some("infra/given.yml"));
}

#[test]
fn nothing_panics_at_any_nesting_or_size() {
    let deep = format!("system: {}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_steps = format!(
        "system: s\nservices: {{ a: {{ type: mock }} }}\nenvironments:\n  p: {{ pack: true, deploy: [{}{}] }}\n",
        "{ do: [".repeat(500),
        "] }".repeat(500)
    );
    let huge = format!("system: {}\n", "x".repeat(5_000_000));
    for text in [deep.as_str(), &deep_steps, &huge, "", "\u{0}", "- a", "null", "system: &a [*a]", "{{x}}: 1"] {
        let parsed = parse(text, &BTreeMap::new());
        assert!(parsed.value.is_none());
        assert!(!parsed.diagnostics.is_empty());
    }
    let mut cut = GOOD.to_owned();
    while cut.pop().is_some() {
        parse(&cut, &BTreeMap::new());
    }
}

#[test]
fn what_is_accepted_compiles_to_pipelines_that_are_accepted() {
    let system = parse(GOOD, &BTreeMap::new()).value.expect("a system");
    for compiled in crate::system::compile(&system) {
        let text = crate::pipeline::to_json(&compiled.config).to_string();
        let parsed = crate::pipeline::parse(&text);
        // The services of an environment that packs no bags come with the bag; no get names them.
        let wrong: Vec<&str> =
            parsed.errors().filter(|found| found.code != "unused").map(|found| found.message.as_str()).collect();
        assert_eq!(wrong, Vec::<&str>::new());
    }
}
