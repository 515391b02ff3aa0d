//! Tests of building plans: jobs in, outlines out.

mod read;

use serde_json::{Value, json};

use super::*;
use crate::bag::{BAG_SCHEMA_VERSION, Bag, BagService};
use crate::pipeline::{
    AcrossStep, Duration, GetStep, Hooks, InParallelStep, Job, LoadVarStep, Pipeline, PutStep, Resource, ResourceType,
    SetPipelineStep, Step, TaskStep,
};
use crate::time::Timestamp;

fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        other => panic!("{other} is not an object"),
    }
}

fn resource(name: &str, kind: &str, source: Value) -> Resource {
    Resource { name: name.to_owned(), kind: kind.to_owned(), source: object(source), ..Resource::default() }
}

/// A pipeline as an environment has one, with some resources more.
fn pipeline() -> Pipeline {
    let place = json!({"system": "notify", "environment": "staging"});
    Pipeline {
        resources: vec![
            resource("src", "git", json!({"uri": "https://git.example/src.git"})),
            resource("status", "mock", json!({})),
            resource("api", "registry-image", json!({"repository": "registry.example/api", "tag": "main"})),
            resource("infrastructure", "git", json!({"uri": "https://git.example/infrastructure.git"})),
            resource("deployment-bag", "deployment-bag", place.clone()),
            resource("deployment", "deployment", place.clone()),
            resource("live", "current-bag", place),
            resource("environment-lock", "lock", json!({"environment": "staging"})),
        ],
        ..Pipeline::default()
    }
}

fn get(name: &str, params: Value) -> Step {
    Step::Get(GetStep { name: name.to_owned(), params: object(params), ..GetStep::default() })
}

fn put(name: &str, params: Value) -> Step {
    Step::Put(PutStep { name: name.to_owned(), params: object(params), ..PutStep::default() })
}

fn task(name: &str) -> Step {
    Step::Task(Box::new(TaskStep { name: name.to_owned(), ..TaskStep::default() }))
}

fn job(plan: Vec<Step>) -> Job {
    Job { name: "job".to_owned(), plan, ..Job::default() }
}

fn boxed(step: Step) -> Box<Step> {
    Box::new(step)
}

fn minutes(minutes: i64) -> Duration {
    Duration { text: format!("{minutes}m"), span: Span::seconds(60 * minutes) }
}

fn bag() -> Bag {
    let api = object(json!({"repository": "registry.example/api"}));
    let version = Version::of("digest", "sha256:aa");
    let api = BagService::new("registry-image", &api, version, None, Vec::new());
    let infrastructure = BagService::new("git", &Object::new(), Version::of("ref", "c0ffee"), None, Vec::new());
    Bag {
        schema_version: BAG_SCHEMA_VERSION,
        system: "notify".to_owned(),
        number: 42,
        packed_at: Timestamp(0),
        packed_by: "ann".to_owned(),
        packed_in: "preview".to_owned(),
        services: [("api".to_owned(), api), ("infrastructure".to_owned(), infrastructure)].into(),
        pins: Default::default(),
        unticks: Default::default(),
        previous: None,
        contents_digest: String::new(),
        digest: String::new(),
    }
    .seal()
}

/// Builds the plan of a job; every get has a version, and every get of a bag has [`bag`].
fn build(job: &Job, pipeline: &Pipeline) -> Result<Plan, PlanError> {
    let bag = bag();
    let names: Vec<String> = job_inputs(job).into_iter().map(|get| get.name.clone()).collect();
    let inputs = PlanInputs {
        versions: names.iter().map(|name| (name.clone(), Version::of("v", name))).collect(),
        bags: names.into_iter().map(|name| (name, &bag)).collect(),
    };
    build_plan(job, pipeline, &inputs)
}

/// A plan as text: a line for each node.
fn outline(plan: &Plan) -> String {
    plan.nodes().into_iter().map(|node| format!("{} {}\n", node.id, line(node))).collect()
}

fn line(plan: &Plan) -> String {
    let tags = |tags: &[String]| if tags.is_empty() { String::new() } else { format!(" on {}", tags.join(",")) };
    match &plan.kind {
        PlanKind::Get(get) => {
            let version = match &get.version {
                VersionSource::Fixed(version) => version.to_string(),
                VersionSource::From(put) => format!("of {put}"),
            };
            let (params, tags) = (json!(get.params), tags(&get.tags));
            format!("get {} ({}) {version} -> {} {params}{tags}", get.name, get.resource_type, get.artifact)
        }
        PlanKind::Put(put) => {
            format!("put {} ({}) {}{}", put.name, put.resource_type, json!(put.params), tags(&put.tags))
        }
        PlanKind::Task(task) => format!("task {}{}", task.step.name, tags(&task.step.tags)),
        PlanKind::Release(step) => format!("{} {:?}", step.name, step.action),
        PlanKind::Files(files) => {
            let paths: Vec<&str> = files.files.keys().map(String::as_str).collect();
            format!("files {} -> {}", paths.join(" "), files.artifacts.join(" "))
        }
        PlanKind::Do(_) => "do".to_owned(),
        PlanKind::InParallel { limit, fail_fast, .. } => format!("in_parallel limit {limit} fail_fast {fail_fast}"),
        PlanKind::Try(_) => "try".to_owned(),
        PlanKind::Retry(_) => "retry".to_owned(),
        PlanKind::Timeout { span, .. } => format!("timeout {}", span.0),
        PlanKind::OnSuccess { .. } => "on_success".to_owned(),
        PlanKind::OnFailure { .. } => "on_failure".to_owned(),
        PlanKind::OnError { .. } => "on_error".to_owned(),
        PlanKind::OnAbort { .. } => "on_abort".to_owned(),
        PlanKind::Ensure { .. } => "ensure".to_owned(),
    }
}

/// Compares the outline of a job's plan; a leading and a final line break of `expected` do not count.
fn check(job: &Job, expected: &str) {
    let plan = build(job, &pipeline()).expect("a plan");
    let expected: String = expected.trim().lines().map(|line| format!("{}\n", line.trim())).collect();
    assert_eq!(outline(&plan), expected);
    // It is stored with the build.
    let stored = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&stored).unwrap(), plan);
    assert_eq!(build(job, &pipeline()), Ok(plan), "the same job gives the same plan");
}

fn error(job: &Job) -> String {
    build(job, &pipeline()).expect_err("no plan").to_string()
}

#[test]
fn an_empty_job_is_an_empty_do() {
    check(&job(Vec::new()), "0 do");
}

#[test]
fn steps_are_numbered_as_they_stand() {
    let parallel = InParallelStep { steps: vec![task("a"), task("b")], limit: 1, fail_fast: true };
    let plan = vec![
        get("src", json!({"depth": 1})),
        Step::InParallel(parallel),
        Step::Do(vec![task("c"), Step::Try(boxed(task("d")))]),
        Step::Timeout(boxed(Step::Do(vec![task("e")])), minutes(5)),
    ];
    check(
        &job(plan),
        r#"
        0 do
        1 get src (git) v:src -> src {"depth":1}
        2 in_parallel limit 1 fail_fast true
        2.1 task a
        2.2 task b
        3 do
        3.1 task c
        3.2 try
        3.2.1 task d
        4 timeout 300000000
        4.1 do
        4.1.1 task e
        "#,
    );
}

#[test]
fn a_put_gets_what_it_gave() {
    let step = PutStep {
        name: "mark".to_owned(),
        resource: Some("status".to_owned()),
        params: object(json!({"state": "ok"})),
        get_params: object(json!({"shallow": true})),
        tags: vec!["x".to_owned()],
        ..PutStep::default()
    };
    let quiet = PutStep { no_get: true, ..step.clone() };
    check(
        &job(vec![Step::Put(step), Step::Put(quiet)]),
        r#"
        0 do
        1 on_success
        1.1 put mark (mock) {"state":"ok"} on x
        1.2 get mark (mock) of 1.1 -> mark {"shallow":true} on x
        2 put mark (mock) {"state":"ok"} on x
        "#,
    );
}

#[test]
fn an_artifact_is_called_after_its_get() {
    let step = GetStep { name: "code".to_owned(), resource: Some("src".to_owned()), ..GetStep::default() };
    check(&job(vec![Step::Get(step)]), "0 do\n 1 get code (git) v:code -> code {}");
}

#[test]
fn each_attempt_has_ids_of_its_own() {
    check(
        &job(vec![Step::Attempts(boxed(Step::Attempts(boxed(put("status", json!({}))), 2)), 2)]),
        "
        0 do
        1 retry
        1.1 retry
        1.1.1 on_success
        1.1.1.1 put status (mock) {}
        1.1.1.2 get status (mock) of 1.1.1.1 -> status {}
        1.1.2 on_success
        1.1.2.1 put status (mock) {}
        1.1.2.2 get status (mock) of 1.1.2.1 -> status {}
        1.2 retry
        1.2.1 on_success
        1.2.1.1 put status (mock) {}
        1.2.1.2 get status (mock) of 1.2.1.1 -> status {}
        1.2.2 on_success
        1.2.2.1 put status (mock) {}
        1.2.2.2 get status (mock) of 1.2.2.1 -> status {}
        ",
    );
}

#[test]
fn hooks_of_a_job_nest_as_those_of_a_step() {
    let hook = |name: &str| Some(boxed(task(name)));
    let hooks = Hooks {
        on_success: hook("s"),
        on_failure: hook("f"),
        on_error: hook("r"),
        on_abort: hook("b"),
        ensure: hook("e"),
    };
    check(
        &Job { hooks, ..job(vec![task("a")]) },
        "
        0 ensure
        1 on_error
        1.1 on_abort
        1.1.1 on_failure
        1.1.1.1 on_success
        1.1.1.1.1 do
        1.1.1.1.1.1 task a
        1.1.1.1.2 task s
        1.1.1.2 task f
        1.1.2 task b
        1.2 task r
        2 task e
        ",
    );
    let hooks = Hooks { on_failure: hook("f"), ..Hooks::default() };
    check(&Job { hooks, ..job(vec![task("a")]) }, "0 on_failure\n 1 do\n 1.1 task a\n 2 task f");
}

#[test]
fn hooks_of_steps_come_after_their_step() {
    let step = Step::OnAbort(boxed(Step::OnError(boxed(task("a")), boxed(task("r")))), boxed(task("b")));
    let step = Step::OnSuccess(boxed(Step::OnFailure(boxed(step), boxed(task("f")))), boxed(task("s")));
    check(
        &job(vec![Step::Ensure(boxed(step), boxed(task("e")))]),
        "
        0 do
        1 ensure
        1.1 on_success
        1.1.1 on_failure
        1.1.1.1 on_abort
        1.1.1.1.1 on_error
        1.1.1.1.1.1 task a
        1.1.1.1.1.2 task r
        1.1.1.1.2 task b
        1.1.1.2 task f
        1.1.2 task s
        1.2 task e
        ",
    );
}

#[test]
fn steps_without_tags_have_those_of_the_job() {
    let tagged = TaskStep { name: "b".to_owned(), tags: vec!["own".to_owned()], ..TaskStep::default() };
    let plan = vec![task("a"), Step::Task(Box::new(tagged)), get("src", json!({})), put("status", json!({}))];
    check(
        &Job { tags: vec!["linux".to_owned(), "big".to_owned()], ..job(plan) },
        "
        0 do
        1 task a on linux,big
        2 task b on own
        3 get src (git) v:src -> src {} on linux,big
        4 on_success
        4.1 put status (mock) {} on linux,big
        4.2 get status (mock) of 4.1 -> status {} on linux,big
        ",
    );
}

#[test]
fn a_get_of_a_bag_gets_its_services() {
    let step = GetStep {
        tags: vec!["vpn".to_owned()],
        timeout: Some(minutes(1)),
        name: "deployment".to_owned(),
        ..GetStep::default()
    };
    check(
        &job(vec![Step::Get(step), task("apply")]),
        r#"
        0 do
        1 do
        1.1 files bag.auto.tfvars.json bag.json digests.txt images.env -> bag deployment
        1.2 in_parallel limit 0 fail_fast false
        1.2.1 get api (registry-image) digest:sha256:aa -> api {"skip_download":true} on vpn
        1.2.2 get infrastructure (git) ref:c0ffee -> infrastructure {} on vpn
        2 task apply
        "#,
    );
}

#[test]
fn a_get_of_a_bag_gets_the_services_that_it_names() {
    let plan = vec![
        get("deployment-bag", json!({"services": ["infrastructure", "infrastructure"]})),
        get("live", json!({"services": []})),
    ];
    check(
        &job(plan),
        "
        0 do
        1 do
        1.1 files bag.auto.tfvars.json bag.json digests.txt images.env -> bag deployment-bag
        1.2 in_parallel limit 0 fail_fast false
        1.2.1 get infrastructure (git) ref:c0ffee -> infrastructure {}
        2 do
        2.1 files bag.auto.tfvars.json bag.json digests.txt images.env -> bag live
        ",
    );
}

#[test]
fn a_get_that_is_called_bag_is_the_bag() {
    let step = GetStep { name: "bag".to_owned(), resource: Some("deployment".to_owned()), ..GetStep::default() };
    let plan = build(&job(vec![Step::Get(step)]), &pipeline()).unwrap();
    let Some(PlanKind::Files(files)) = plan.find(&PlanId("1.1".to_owned())).map(|node| &node.kind) else {
        panic!("{}", outline(&plan));
    };
    assert_eq!(files.artifacts, ["bag"]);
    assert_eq!(files.files, bag().files());
}

#[test]
fn what_a_bag_cannot_give_is_named() {
    let wanted = |services: Value| error(&job(vec![get("deployment", json!({"services": services}))]));
    assert_eq!(wanted(json!(["api", "antivirus"])), "bag-incomplete: bag 42 holds no service `antivirus`");
    assert_eq!(wanted(json!("api")), "params of step `deployment`: `services` is a list of names of services");
    assert_eq!(wanted(json!([1])), "params of step `deployment`: `services` is a list of names of services");

    let step = job(vec![get("deployment", json!({}))]);
    let mut gone = pipeline();
    gone.resources.retain(|resource| resource.name != "api");
    let named = job(vec![get("deployment", json!({"services": ["api"]}))]);
    assert_eq!(build(&named, &gone).unwrap_err().to_string(), "the pipeline has no resource for service `api`");
    let fetched = |pipeline: &Pipeline| {
        let plan = build(&step, pipeline).expect("a plan");
        plan.nodes().into_iter().filter(|node| matches!(node.kind, PlanKind::Get(_))).count()
    };
    assert_eq!(fetched(&gone) + 1, fetched(&pipeline()), "a service that was removed is left out where all are meant");
    let mut changed = pipeline();
    changed.resources[3].kind = "mock".to_owned();
    let problem = "service `infrastructure` is of type `mock` now, and of type `git` in bag 42";
    assert_eq!(build(&step, &changed).unwrap_err().to_string(), problem);

    let versions = [("deployment".to_owned(), Version::of("bag", "42"))].into();
    let inputs = PlanInputs { versions, ..PlanInputs::default() };
    let problem = build_plan(&step, &pipeline(), &inputs).unwrap_err().to_string();
    assert_eq!(problem, "input `deployment` stands for a bag that does not exist");
}

#[test]
fn packing_fetches_nothing() {
    let plan = vec![get("src", json!({})), get("live", json!({})), put("deployment-bag", json!({"pack": true}))];
    check(
        &job(plan),
        r#"
        0 do
        1 src Resolve { resource_type: "git", version: Version({"v": "src"}) }
        2 live Resolve { resource_type: "current-bag", version: Version({"v": "live"}) }
        3 deployment-bag Pack { system: "notify", environment: "staging" }
        "#,
    );
    assert!(job_packs(&job(vec![Step::Try(boxed(put("deployment-bag", json!({"pack": true}))))]), &pipeline()));
    assert!(!job_packs(&job(vec![put("deployment-bag", json!({"tag": true}))]), &pipeline()));
    assert!(!job_packs(&job(vec![put("status", json!({"pack": true}))]), &pipeline()));
}

#[test]
fn the_server_answers_steps_on_release_types() {
    let lock = |params: Value| put("environment-lock", params);
    let plan = vec![
        lock(json!({"acquire": true})),
        get("environment-lock", json!({})),
        put("deployment", json!({"start": true})),
        put("deployment-bag", json!({"tag": true, "pack": false})),
        lock(json!({"release": true})),
        lock(json!({"force_release": true, "release": null})),
    ];
    check(
        &job(plan),
        r#"
        0 do
        1 environment-lock Lock { environment: "staging", action: Acquire }
        2 environment-lock Resolve { resource_type: "lock", version: Version({"v": "environment-lock"}) }
        3 deployment StartDeployment { system: "notify", environment: "staging" }
        4 deployment-bag Tag { system: "notify", environment: "staging" }
        5 environment-lock Lock { environment: "staging", action: Release }
        6 environment-lock Lock { environment: "staging", action: ForceRelease }
        "#,
    );
}

#[test]
fn wrong_steps_on_release_types_are_named() {
    let problem = |name: &str, params: Value| error(&job(vec![put(name, params)]));
    for (name, params, expected) in [
        (
            "environment-lock",
            json!({}),
            "params of step `environment-lock`: one of `acquire`, `require`, `during`, `release`, `force_release` must \
             be true",
        ),
        (
            "environment-lock",
            json!({"acquire": true, "release": true}),
            "params of step `environment-lock`: only one of `acquire`, `require`, `during`, `release`, `force_release`",
        ),
        (
            "environment-lock",
            json!({"acquire": "yes"}),
            "params of step `environment-lock`: `acquire` is true or false",
        ),
        (
            "environment-lock",
            json!({"during": true, "mode": "both"}),
            "params of step `environment-lock`: `mode` is `shared` or `exclusive`",
        ),
        ("deployment-bag", json!({}), "params of step `deployment-bag`: one of `pack`, `tag` must be true"),
        ("live", json!({}), "params of step `live`: a `current-bag` cannot be put: it follows from deployments"),
    ] {
        assert_eq!(problem(name, params), expected);
    }
    for (name, field) in [("deployment", "system"), ("environment-lock", "environment")] {
        let mut wrong = pipeline();
        let at = wrong.resources.iter().position(|resource| resource.name == name).unwrap();
        wrong.resources[at].source.insert(field.to_owned(), json!(3));
        let step = job(vec![put(name, json!({"release": true}))]);
        let expected = format!("source of resource `{name}`: `{field}` is missing or not a name");
        assert_eq!(build(&step, &wrong).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_type_that_the_pipeline_brings_is_no_release_type() {
    let mut own = pipeline();
    own.resource_types.push(ResourceType { name: "lock".to_owned(), ..ResourceType::default() });
    let step = job(vec![task("a"), put("environment-lock", json!({"acquire": true}))]);
    let plan = build(&step, &own).unwrap();
    assert!(outline(&plan).contains(r#"put environment-lock (lock) {"acquire":true}"#), "{}", outline(&plan));
    assert_eq!(lock_demand(&step, &own), Ok(None));
}

#[test]
fn what_is_missing_is_named() {
    assert_eq!(
        error(&job(vec![get("nothing", json!({}))])),
        "step `nothing` uses resource `nothing`, which the pipeline does not have"
    );
    assert_eq!(
        error(&job(vec![put("nothing", json!({}))])),
        "step `nothing` uses resource `nothing`, which the pipeline does not have"
    );
    let step = job(vec![Step::OnFailure(boxed(task("a")), boxed(get("src", json!({}))))]);
    let problem = build_plan(&step, &pipeline(), &PlanInputs::default()).unwrap_err();
    assert_eq!(problem, PlanError::MissingInput { input: "src".to_owned() });
    assert_eq!(problem.to_string(), "input `src` has no version");
}

#[test]
fn steps_that_come_later_are_refused() {
    let across = AcrossStep { step: boxed(task("a")), vars: Vec::new(), fail_fast: false };
    for (step, kind) in [
        (Step::Run(Object::new()), "run"),
        (Step::SetPipeline(SetPipelineStep::default()), "set_pipeline"),
        (Step::LoadVar(LoadVarStep::default()), "load_var"),
        (Step::Across(across), "across"),
    ] {
        assert_eq!(error(&job(vec![Step::Try(boxed(step))])), format!("`{kind}` steps are not run yet"));
    }
}

#[test]
fn plans_have_a_size() {
    let mut step = task("a");
    for _ in 0..5 {
        step = Step::Attempts(boxed(step), 1000);
    }
    assert_eq!(build(&job(vec![step]), &pipeline()), Err(PlanError::TooLarge));
    assert_eq!(build(&job(vec![Step::Attempts(boxed(task("a")), u32::MAX)]), &pipeline()), Err(PlanError::TooLarge));
    let many = |steps: usize| job(vec![task("a"); steps]);
    assert!(build(&many(MAX_PLAN_NODES - 1), &pipeline()).is_ok());
    assert_eq!(build(&many(MAX_PLAN_NODES), &pipeline()), Err(PlanError::TooLarge));
}

#[test]
fn attempts_of_none_are_one() {
    check(&job(vec![Step::Attempts(boxed(task("a")), 0)]), "0 do\n 1 retry\n 1.1 task a");
}

#[test]
fn every_plan_that_is_built_can_be_read_back() {
    let nested = |depth: usize| (0..depth).fold(task("a"), |step, _| Step::Ensure(boxed(step), boxed(task("e"))));
    let mut deepest = 0;
    for depth in 0..100 {
        match build(&job(vec![nested(depth)]), &pipeline()) {
            Ok(plan) => {
                let stored = serde_json::to_string(&json!({"plan": plan})).unwrap();
                assert!(serde_json::from_str::<Value>(&stored).is_ok(), "at depth {depth}");
                assert_eq!(deepest, depth, "no deeper one was refused");
                deepest = depth + 1;
            }
            Err(error) => assert_eq!(error, PlanError::TooDeep),
        }
    }
    assert!(deepest > 30, "{deepest}");
    // The source counts as well.
    let deep = (0..115).fold(json!(1), |inner, _| json!([inner]));
    let mut pipeline = pipeline();
    pipeline.resources[0].source.insert("deep".to_owned(), deep);
    assert_eq!(build(&job(vec![get("src", json!({}))]), &pipeline), Err(PlanError::TooDeep));
    // Brackets in a string do not.
    pipeline.resources[0].source = object(json!({"uri": format!("\"\\{}", "[{".repeat(200))}));
    assert!(build(&job(vec![get("src", json!({}))]), &pipeline).is_ok());
}
