//! Tests of what is read from a job before there is a plan.

use super::*;

#[test]
fn inputs_and_outputs_are_found_everywhere() {
    let inner = |nth: &str| Step::Do(vec![get(&format!("g{nth}"), json!({})), put(&format!("p{nth}"), json!({}))]);
    let across = AcrossStep { step: boxed(inner("4")), vars: Vec::new(), fail_fast: false };
    let parallel = InParallelStep { steps: vec![inner("2"), inner("3")], ..InParallelStep::default() };
    let mut plan =
        vec![inner("1"), Step::InParallel(parallel), Step::Across(across), task("a"), Step::Try(boxed(inner("5")))];
    plan.push(Step::Timeout(boxed(Step::Attempts(boxed(inner("6")), 3)), minutes(1)));
    plan.push(Step::OnSuccess(boxed(inner("7")), boxed(inner("8"))));
    plan.push(Step::OnFailure(boxed(inner("9")), boxed(Step::OnError(boxed(inner("a")), boxed(inner("b"))))));
    plan.push(Step::Ensure(boxed(Step::OnAbort(boxed(inner("c")), boxed(inner("d")))), boxed(inner("e"))));
    let hook = |nth: &str| Some(boxed(inner(nth)));
    let hooks = Hooks {
        on_success: hook("f"),
        on_failure: hook("g"),
        on_abort: hook("h"),
        on_error: hook("i"),
        ensure: hook("j"),
    };
    let job = Job { hooks, ..job(plan) };
    let gets: String = job_inputs(&job).into_iter().map(|get| get.name[1..].to_owned()).collect();
    let puts: String = job_outputs(&job).into_iter().map(|put| put.name[1..].to_owned()).collect();
    assert_eq!((gets.as_str(), puts.as_str()), ("123456789abcdefghij", "123456789abcdefghij"));
}

#[test]
fn a_job_that_is_nested_without_end_is_read_without_a_stack() {
    let mut step = get("src", json!({}));
    for _ in 0..20_000 {
        step = Step::Do(vec![step]);
    }
    let mut job = job(vec![step]);
    assert_eq!(job_inputs(&job).len(), 1);
    assert_eq!(build(&job, &pipeline()), Err(PlanError::TooDeep));
    // Taken apart by hand: dropping it as it is would need the stack.
    let mut open = std::mem::take(&mut job.plan);
    while let Some(step) = open.pop() {
        if let Step::Do(steps) = step {
            open.extend(steps);
        }
    }
}

#[test]
fn the_lock_is_read_from_the_top_of_the_plan() {
    let demand = |params: Value| {
        let job = job(vec![put("environment-lock", params), task("a")]);
        lock_demand(&job, &pipeline()).map(|demand| demand.map(|demand| demand.mode))
    };
    assert_eq!(demand(json!({"acquire": true})), Ok(Some(LockMode::Acquire)));
    assert_eq!(demand(json!({"require": true})), Ok(Some(LockMode::Require)));
    assert_eq!(demand(json!({"during": true})), Ok(Some(LockMode::During { shared: false })));
    assert_eq!(demand(json!({"during": true, "mode": "exclusive"})), Ok(Some(LockMode::During { shared: false })));
    assert_eq!(demand(json!({"during": true, "mode": "shared"})), Ok(Some(LockMode::During { shared: true })));
    assert_eq!(demand(json!({"release": true})), Ok(None));
    assert_eq!(demand(json!({"force_release": true})), Ok(None));

    let renamed = PutStep {
        name: "take".to_owned(),
        resource: Some("environment-lock".to_owned()),
        params: object(json!({"acquire": true})),
        ..PutStep::default()
    };
    let found = lock_demand(&job(vec![Step::Put(renamed)]), &pipeline()).unwrap().unwrap();
    assert_eq!((found.resource.as_str(), found.environment.as_str()), ("environment-lock", "staging"));
    assert_eq!(lock_demand(&job(vec![task("a")]), &pipeline()), Ok(None));
}

#[test]
fn a_lock_anywhere_else_is_refused() {
    let lock = || put("environment-lock", json!({"require": true}));
    let hooks = Hooks { ensure: Some(boxed(lock())), ..Hooks::default() };
    for job in [
        job(vec![task("a"), lock()]),
        job(vec![lock(), lock()]),
        job(vec![Step::Try(boxed(lock()))]),
        job(vec![Step::Ensure(boxed(lock()), boxed(task("a")))]),
        Job { hooks, ..job(vec![task("a")]) },
    ] {
        assert_eq!(error(&job), "step `environment-lock` asks for a lock, which only the first step of a job can");
        assert!(lock_demand(&job, &pipeline()).is_err());
    }
}
