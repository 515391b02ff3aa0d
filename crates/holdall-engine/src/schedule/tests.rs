//! One job at a time, and what is decided about it.

mod random;

use super::*;
use crate::ids::DeploymentId;
use crate::release::lock::{Holder, Waiter};

fn job() -> JobView {
    JobView { name: "main/p/ship".into(), pipeline: "main/p".into(), ..JobView::default() }
}

fn build(id: i64) -> PendingView {
    PendingView {
        id: BuildId(id),
        name: id.to_string(),
        manual: false,
        rerun: false,
        created_at: Timestamp(100),
        abort: None,
        first_in_line: false,
        queued: false,
        fixed: None,
    }
}

fn fresh() -> InputsView {
    InputsView { triggers: true, ..InputsView::default() }
}

fn unresolved() -> InputsView {
    InputsView { holds: vec![Hold::new(Code::NoVersion, "no version")], ..InputsView::default() }
}

fn codes(decision: &Decision) -> Vec<&'static str> {
    decision.holds.iter().map(|hold| hold.code.as_str()).collect()
}

fn held_lock(deployment: Option<i64>) -> LockView {
    LockView {
        name: "staging".into(),
        holders: vec![Holder {
            kind: "deployment".into(),
            name: "deployment 1".into(),
            shared: false,
            reason: None,
            since: Timestamp(1),
            until: None,
            build: None,
            deployment: deployment.map(DeploymentId),
            trouble: None,
        }],
        queue: vec![],
    }
}

#[test]
fn new_inputs_make_one_pending_build_and_no_second() {
    let idle = JobView { inputs: fresh(), ..job() };
    assert_eq!(schedule(&idle).actions, [Action::CreatePending]);
    let waiting = JobView { pending: vec![build(1)], ..idle };
    assert_eq!(schedule(&waiting).actions, [Action::Start(BuildId(1))]);
}

#[test]
fn a_paused_job_still_ends_what_is_aborted() {
    let paused = JobView { paused: Some(Pause::default()), pending: vec![build(1)], inputs: fresh(), ..job() };
    let decision = schedule(&paused);
    assert!(decision.actions.is_empty());
    assert_eq!(codes(&decision), ["job-paused"]);
    let aborted = PendingView { abort: Some("ann aborted it".into()), ..build(1) };
    let decision = schedule(&JobView { pending: vec![aborted], ..paused });
    assert_eq!(decision.actions, [Action::Abort { build: BuildId(1), reason: "ann aborted it".into() }]);
}

#[test]
fn the_first_pending_build_holds_up_the_rest_but_a_rerun_without_inputs_does_not() {
    let blocked = JobView { inputs: unresolved(), pending: vec![build(1), build(2)], ..job() };
    assert_eq!(codes(&schedule(&blocked)), ["no-version"]);
    let gone = FixedView { holds: vec![Hold::new(Code::NoVersion, "gone")], ..FixedView::default() };
    let rerun = PendingView { rerun: true, fixed: Some(gone), ..build(1) };
    let decision = schedule(&JobView { inputs: fresh(), pending: vec![rerun, build(2)], ..job() });
    assert_eq!(decision.actions, [Action::Start(BuildId(2))]);
}

#[test]
fn a_build_that_waits_in_vain_ends_and_says_why() {
    let inputs = InputsView { in_vain: true, ..unresolved() };
    let decision = schedule(&JobView { inputs: inputs.clone(), pending: vec![build(1)], ..job() });
    assert_eq!(decision.actions, [Action::Abort { build: BuildId(1), reason: "no version".into() }]);
    let decision = schedule(&JobView { inputs, ..job() });
    assert!(decision.actions.is_empty(), "a job without a build only says what holds it back");
    assert_eq!(codes(&decision), ["no-version"]);
}

#[test]
fn a_full_job_waits_and_says_for_what() {
    let limit = LimitView { max: 1, shared: false, running: vec![("ship".into(), "7".into())], before: None };
    let full = JobView { limit: Some(limit), inputs: fresh(), pending: vec![build(1)], ..job() };
    let decision = schedule(&full);
    assert_eq!(codes(&decision), ["max-in-flight"]);
    assert!(decision.holds[0].sentence.contains("ship 7 runs"));
    let before = LimitView { max: 1, shared: true, running: vec![], before: Some((BuildId(9), "other".into())) };
    assert_eq!(codes(&schedule(&JobView { limit: Some(before), ..full })), ["serial-group"]);
}

#[test]
fn where_more_run_than_may_it_is_said_how_many_must_end() {
    let by = |max, running: i32| {
        let running = (1..=running).map(|build| ("ship".into(), build.to_string())).collect();
        let limit = LimitView { max, shared: false, running, before: None };
        let full = JobView { limit: Some(limit), inputs: fresh(), pending: vec![build(9)], ..job() };
        schedule(&full).holds[0].by.clone().expect("what has to end")
    };
    assert_eq!(by(1, 1), "the end of ship 1");
    assert_eq!(by(2, 2), "the end of one of ship 1, ship 2");
    assert_eq!(by(2, 3), "the end of 2 of ship 1, ship 2, ship 3");
    assert_eq!(by(1, 3), "the end of all of ship 1, ship 2, ship 3");
}

#[test]
fn a_manual_build_has_its_inputs_checked_after_it_was_made_and_only_once() {
    let check = CheckView {
        input: "repo".into(),
        resource: "main/p/repo".into(),
        scope: ScopeId(3),
        trigger: true,
        checked_at: Some(Timestamp(99)),
        overdue: false,
        every: Some(Span(10)),
        wanted: false,
    };
    let manual = PendingView { manual: true, ..build(1) };
    let view = JobView { checks: vec![check.clone()], inputs: fresh(), pending: vec![manual.clone()], ..job() };
    let decision = schedule(&view);
    assert_eq!(decision.actions, [Action::WantChecks(vec![ScopeId(3)])]);
    assert_eq!(codes(&decision), ["check-pending"]);
    let wanted = CheckView { wanted: true, ..check.clone() };
    assert!(schedule(&JobView { checks: vec![wanted], ..view.clone() }).actions.is_empty());
    let done = CheckView { checked_at: Some(Timestamp(100)), ..check.clone() };
    assert_eq!(schedule(&JobView { checks: vec![done], ..view.clone() }).actions, [Action::Start(BuildId(1))]);
    let automatic = JobView { pending: vec![build(1)], ..view };
    assert_eq!(schedule(&automatic).actions, [Action::Start(BuildId(1))]);
    let of = |check: CheckView| schedule(&JobView { checks: vec![check], ..automatic.clone() }).actions;
    let want = [Action::WantChecks(vec![ScopeId(3)])];
    assert_eq!(of(CheckView { trigger: false, overdue: true, ..check.clone() }), want);
    // One that starts no build is checked again where the last time is too long ago.
    assert_eq!(of(CheckView { trigger: false, ..check.clone() }), [Action::Start(BuildId(1))]);
    let old = CheckView { trigger: false, checked_at: Some(Timestamp(89)), ..check };
    assert_eq!(of(old.clone()), want);
    // The clock checks it never: it is checked for each build that gets it.
    assert_eq!(of(CheckView { every: None, ..old.clone() }), want);
    let new = CheckView { checked_at: Some(Timestamp(100)), every: None, ..old };
    assert_eq!(of(new), [Action::Start(BuildId(1))]);
}

#[test]
fn a_build_that_takes_the_lock_queues_once_and_leaves_the_queue_when_its_inputs_go() {
    let view =
        JobView { lock: Some((LockMode::Acquire, held_lock(None))), inputs: fresh(), pending: vec![build(1)], ..job() };
    let decision = schedule(&view);
    assert_eq!(decision.actions, [Action::Queue(BuildId(1))]);
    assert_eq!(codes(&decision), ["lock-held"]);
    let queued = PendingView { queued: true, ..build(1) };
    let view = JobView { pending: vec![queued], ..view };
    assert!(schedule(&view).actions.is_empty());
    let decision = schedule(&JobView { inputs: unresolved(), ..view });
    assert_eq!(decision.actions, [Action::Unqueue(BuildId(1))]);
}

#[test]
fn a_build_that_is_not_next_leaves_the_queue_so_that_none_waits_for_the_other() {
    // The rerun of an older build came after build 2 had queued, and goes before it.
    let rerun = PendingView { rerun: true, manual: true, fixed: Some(FixedView::default()), ..build(3) };
    let queued = PendingView { queued: true, ..build(2) };
    let waiter = Waiter {
        id: 1,
        kind: "pipeline".into(),
        name: "build 2".into(),
        shared: false,
        since: Timestamp(1),
        build: Some(BuildId(2)),
    };
    let lock = LockView { holders: vec![], queue: vec![waiter], ..held_lock(None) };
    let view = JobView {
        lock: Some((LockMode::Acquire, lock)),
        inputs: fresh(),
        pending: vec![rerun.clone(), queued.clone()],
        ..job()
    };
    let decision = schedule(&view);
    assert_eq!(decision.actions, [Action::Queue(BuildId(3)), Action::Unqueue(BuildId(2))]);
    let pending = vec![PendingView { queued: true, ..rerun }, PendingView { queued: false, ..queued }];
    let next = JobView { pending, lock: Some((LockMode::Acquire, LockView::default())), ..view };
    assert_eq!(schedule(&next).actions, [Action::Start(BuildId(3))]);
}

#[test]
fn the_report_is_whole_whatever_comes_first() {
    let limit = LimitView { max: 1, shared: false, running: vec![("ship".into(), "7".into())], before: None };
    let check = CheckView {
        input: "repo".into(),
        resource: "main/p/repo".into(),
        scope: ScopeId(3),
        trigger: false,
        checked_at: None,
        overdue: true,
        every: None,
        wanted: false,
    };
    let view = JobView {
        paused: Some(Pause::default()),
        limit: Some(limit),
        checks: vec![check],
        inputs: unresolved(),
        lock: Some((LockMode::Acquire, held_lock(None))),
        pending: vec![build(1)],
        ..job()
    };
    let decision = schedule(&view);
    assert_eq!(codes(&decision), ["job-paused", "max-in-flight", "check-pending", "no-version", "lock-held"]);
    assert_eq!(decision.actions, [], "nothing is checked and nothing queues for a build that may not start");
    assert_eq!(decision.holds[1].by.as_deref(), Some("the end of ship 7"));
}

#[test]
fn a_job_that_requires_the_lock_runs_under_its_own_deployment_only() {
    let deployment =
        |ended: Option<&str>| DeploymentView { id: DeploymentId(5), number: 2, ended: ended.map(str::to_owned) };
    let inputs = InputsView { deployment: Some(deployment(None)), ..fresh() };
    let mine = JobView {
        lock: Some((LockMode::Require, held_lock(Some(5)))),
        inputs: inputs.clone(),
        pending: vec![build(1)],
        ..job()
    };
    assert_eq!(schedule(&mine).actions, [Action::Start(BuildId(1))]);
    let other = JobView { lock: Some((LockMode::Require, held_lock(Some(6)))), ..mine.clone() };
    assert_eq!(codes(&schedule(&other)), ["lock-held"]);
    let over = InputsView { deployment: Some(deployment(Some("ann unlocked staging"))), ..fresh() };
    let decision = schedule(&JobView { inputs: over.clone(), ..mine.clone() });
    assert!(matches!(&decision.actions[..], [Action::Abort { .. }]));
    let idle = schedule(&JobView { inputs: over, pending: vec![], ..mine });
    assert!(idle.actions.is_empty(), "an ended deployment starts nothing");
}

#[test]
fn what_holds_an_environment_holds_automatic_builds_and_not_a_persons() {
    let holds = vec![Hold::new(Code::HeldAfterUnlock, "unlocked by force")];
    let view = JobView { automatic_holds: holds, inputs: fresh(), ..job() };
    assert_eq!(codes(&schedule(&view)), ["held-after-unlock"]);
    let waiting = JobView { pending: vec![build(1)], ..view.clone() };
    assert!(schedule(&waiting).actions.is_empty());
    let manual = PendingView { manual: true, ..build(1) };
    assert_eq!(schedule(&JobView { pending: vec![manual], ..view }).actions, [Action::Start(BuildId(1))]);
}
