//! Scripts: a plan, and line by line what happens and what is to be done then, both written by hand.
//!
//! `a ok`, `a fail`, `a error`, `a stopped`: a step's end; `p ok v1`: a put that gave a version; `a runs`; `T1`: a
//! timer; `start`; `abort`. After `->`: `+a` start, `+p'@v1` with a version, `+h[failed]` with that `BUILD_STATUS`,
//! `-a[abort]` cancel, `T1=15` set, `T1=off` clear, `=failed` finish. The time is the number of the line, from 0.

use super::shape::{Names, Shape};
use crate::plan::PlanId;
use crate::run::{CancelReason, Effect, Run, RunEvent, StepState};
use crate::status::Outcome;
use crate::time::Timestamp;
use crate::version::Version;

/// An event from its text.
pub fn event(text: &str, names: &Names) -> RunEvent {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words[..] {
        ["start"] => RunEvent::Start,
        ["abort"] => RunEvent::Abort,
        [step, "runs"] => RunEvent::StepStarted { step: names.id(step) },
        [timer] => RunEvent::TimerFired { timer: names.id(timer) },
        [step, outcome, ref version @ ..] => {
            let outcome = match outcome {
                "ok" => Outcome::Succeeded,
                "fail" => Outcome::Failed,
                "error" => Outcome::Errored,
                "stopped" => Outcome::Aborted,
                _ => panic!("no outcome is written `{outcome}`"),
            };
            let version = version.first().map(|version| Version::of("v", version));
            RunEvent::StepFinished { step: names.id(step), outcome, version }
        }
        [] => panic!("an event is missing"),
    }
}

/// Effects as text.
pub fn effects(effects: &[Effect], names: &Names) -> String {
    let texts: Vec<String> = effects
        .iter()
        .map(|effect| match effect {
            Effect::StartStep { step, version, in_hook } => {
                let version = version.as_ref().map_or(String::new(), |version| format!("@{}", version.0["v"]));
                let status = in_hook.map_or(String::new(), |outcome| format!("[{}]", word(outcome)));
                format!("+{}{version}{status}", names.name(step))
            }
            Effect::CancelStep { step, reason } => {
                let reason = match reason {
                    CancelReason::Abort => "abort",
                    CancelReason::Timeout => "timeout",
                    CancelReason::FailFast => "fail_fast",
                };
                format!("-{}[{reason}]", names.name(step))
            }
            Effect::SetTimer { timer, at } => format!("{}={}", names.name(timer), at.0),
            Effect::ClearTimer { timer } => format!("{}=off", names.name(timer)),
            Effect::Finish { status } => format!("={}", status.as_str()),
        })
        .collect();
    texts.join(" ")
}

pub fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::Failed => "failed",
        Outcome::Errored => "errored",
        Outcome::Aborted => "aborted",
    }
}

/// Walks a plan through a script and compares what is to be done; gives the run for more questions.
fn walk(plan: &str, script: &str) -> (Run, Names) {
    let (plan, names) = Shape::parse(plan).plan();
    let mut run = Run::new(&plan);
    let (mut expected, mut got) = (Vec::new(), Vec::new());
    for line in script.trim().lines() {
        let (event_text, wanted) = line.trim().split_once("->").expect("`event -> effects`");
        let (event_text, wanted) = (event_text.trim(), wanted.trim());
        let now = Timestamp(i64::try_from(got.len()).unwrap());
        let done = run.on(event(event_text, &names), now);
        expected.push(format!("{event_text} -> {wanted}"));
        got.push(format!("{event_text} -> {}", effects(&done, &names)));
    }
    assert_eq!(got.join("\n"), expected.join("\n"));
    (run, names)
}

fn outstanding(run: &Run, names: &Names) -> String {
    effects(&run.outstanding(), names)
}

fn states(run: &Run, names: &Names, of: &str) -> String {
    let states = run.step_states();
    let text = |name: &str| format!("{name}:{:?}", states[&names.id(name)]).to_lowercase();
    of.split_whitespace().map(text).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_plan_without_steps_succeeds() {
    walk("do()", "start -> =succeeded");
    walk("par()", "start -> =succeeded");
    walk("do(do() par!(do()) try(do()))", "start -> =succeeded");
}

#[test]
fn do_stops_at_the_first_step_that_does_not_succeed() {
    walk("do(a b)", "start -> +a\n a ok -> +b\n b ok -> =succeeded");
    walk("do(a b)", "start -> +a\n a fail -> =failed");
    walk("do(a b)", "start -> +a\n a error -> =errored");
}

#[test]
fn a_put_is_followed_by_a_get_of_what_it_gave() {
    walk("put:p", "start -> +p\n p ok v1 -> +p'@v1[succeeded]\n p' ok -> =succeeded");
    walk("put:p", "start -> +p\n p fail -> =failed");
}

#[test]
fn a_get_after_a_put_that_gave_nothing_errs() {
    let (run, names) = walk("do(put:p a)", "start -> +p\n p ok -> =errored");
    assert_eq!(states(&run, &names, "p p' a"), "p:succeeded p':errored a:skipped");
}

#[test]
fn in_parallel_starts_all_and_waits_for_all() {
    walk("par(a b)", "start -> +a +b\n b fail -> \n a ok -> =failed");
    walk("par(a b c)", "start -> +a +b +c\n b fail -> \n c error -> \n a ok -> =errored");
}

#[test]
fn in_parallel_keeps_to_its_limit_and_its_order() {
    let script = "start -> +a +b\n b ok -> +c\n c fail -> +d\n a ok -> \n d ok -> =failed";
    walk("par2(a b c d)", script);
    walk("par1(a b)", "start -> +a\n a ok -> +b\n b ok -> =succeeded");
    walk("par2(do() a do() b c)", "start -> +a +b\n a ok -> +c\n b ok -> \n c ok -> =succeeded");
}

#[test]
fn fail_fast_stops_the_others_and_starts_no_more() {
    let script = "start -> +a +b\n b fail -> -a[fail_fast]\n a stopped -> =failed";
    let (run, names) = walk("par2!(a b c)", script);
    assert_eq!(states(&run, &names, "a b c"), "a:aborted b:failed c:skipped");
}

#[test]
fn what_a_step_does_while_fail_fast_stops_it_counts() {
    walk("par!(a b)", "start -> +a +b\n b fail -> -a[fail_fast]\n a error -> =errored");
    walk("par!(a b)", "start -> +a +b\n b fail -> -a[fail_fast]\n a ok -> =failed");
}

#[test]
fn hooks_of_a_step_that_fail_fast_stops_see_an_abort() {
    let script = "start -> +a +b\n b fail -> -a[fail_fast]\n a stopped -> +h[aborted]\n h ok -> +e\n e ok -> =failed";
    walk("par!(ensure(abort(failure(a f) h) e) b)", script);
}

#[test]
fn try_swallows_failure_and_error_but_no_abort() {
    walk("do(try(a) b)", "start -> +a\n a fail -> +b\n b ok -> =succeeded");
    walk("do(try(a) b)", "start -> +a\n a error -> +b\n b ok -> =succeeded");
    walk("do(try(a) b)", "start -> +a\n abort -> -a[abort]\n a stopped -> =aborted");
}

#[test]
fn retry_goes_on_until_an_attempt_succeeds() {
    let script = "start -> +a\n a fail -> +b\n b error -> +c\n c ok -> +x\n x ok -> =succeeded";
    let (run, names) = walk("do(retry(a b c d) x)", script);
    assert_eq!(states(&run, &names, "c d"), "c:succeeded d:skipped");
    walk("retry(a b)", "start -> +a\n a error -> +b\n b fail -> =failed");
    walk("retry(a b)", "start -> +a\n a fail -> +b\n b error -> =errored");
    walk("retry(a b)", "start -> +a\n abort -> -a[abort]\n a stopped -> =aborted");
    // A process may fail in the very moment: there is no other attempt after an abort.
    walk("retry(a b)", "start -> +a\n abort -> -a[abort]\n a fail -> =aborted");
}

#[test]
fn a_timeout_that_is_not_needed_is_cleared() {
    let script = "start -> T1=10 +a\n a ok -> T1=off +b\n b ok -> =succeeded";
    walk("do(timeout10(a) b)", script);
}

#[test]
fn a_timeout_stops_its_step_and_fails() {
    let script = "start -> T1=3 +a\n a runs -> \n T1 -> -a[timeout]\n a stopped -> =failed";
    walk("do(timeout3(do(a b)) c)", script);
    // What ends by itself in the very moment is believed.
    walk("timeout3(a)", "start -> T1=3 +a\n T1 -> -a[timeout]\n a ok -> =succeeded");
    walk("timeout3(a)", "start -> T1=3 +a\n T1 -> -a[timeout]\n a error -> =errored");
    walk("timeout3(do(a b))", "start -> T1=3 +a\n T1 -> -a[timeout]\n a ok -> =failed");
}

#[test]
fn a_timeout_is_over_for_everything_inside_but_what_must_run() {
    // No more attempts, no hook for the failure; ensure runs, and nothing stops it.
    let script = "start -> T1=3 +a\n T1 -> -a[timeout]\n a stopped -> +e\n e ok -> =failed";
    walk("timeout3(ensure(failure(retry(a b) f) e))", script);
    // Outside of it, it is a failure like any other.
    let script = "start -> T1=3 +a\n T1 -> -a[timeout]\n a stopped -> +f[failed]\n f ok -> =failed";
    walk("failure(timeout3(a) f)", script);
    walk("try(timeout3(a))", "start -> T1=3 +a\n T1 -> -a[timeout]\n a stopped -> =succeeded");
    let script = "start -> T1=3 +a\n T1 -> -a[timeout]\n a stopped -> T2=5 +b\n b ok -> T2=off =succeeded";
    walk("retry(timeout3(a) timeout3(b))", script);
}

#[test]
fn the_first_reason_to_stop_a_step_stays() {
    let script = "start -> T1=3 +a\n T1 -> -a[timeout]\n abort -> \n a stopped -> =failed";
    walk("timeout3(a)", script);
    let script = "start -> T1=3 +a\n abort -> T1=off -a[abort]\n T1 -> \n a stopped -> =aborted";
    walk("timeout3(a)", script);
    // What would come after it is stopped by the abort.
    let script = "start -> T1=3 +a\n T1 -> -a[timeout]\n abort -> \n a stopped -> =aborted";
    walk("failure(timeout3(a) f)", script);
}

#[test]
fn on_success_counts_step_and_hook() {
    walk("success(a h)", "start -> +a\n a ok -> +h[succeeded]\n h fail -> =failed");
    walk("success(a h)", "start -> +a\n a ok -> +h[succeeded]\n h error -> =errored");
    walk("success(a h)", "start -> +a\n a fail -> =failed");
}

#[test]
fn a_hook_cannot_rescue_its_step() {
    walk("failure(a h)", "start -> +a\n a fail -> +h[failed]\n h ok -> =failed");
    walk("failure(a h)", "start -> +a\n a fail -> +h[failed]\n h error -> =errored");
    walk("error(a h)", "start -> +a\n a error -> +h[errored]\n h ok -> =errored");
    walk("error(a h)", "start -> +a\n a error -> +h[errored]\n h fail -> =errored");
    walk("abort(a h)", "start -> +a\n abort -> -a[abort]\n a stopped -> +h[aborted]\n h error -> =aborted");
}

#[test]
fn ensure_runs_whatever_happened() {
    walk("ensure(a e)", "start -> +a\n a ok -> +e\n e ok -> =succeeded");
    walk("ensure(a e)", "start -> +a\n a ok -> +e\n e fail -> =failed");
    walk("ensure(a e)", "start -> +a\n a fail -> +e\n e ok -> =failed");
    walk("ensure(a e)", "start -> +a\n a fail -> +e\n e error -> =errored");
    walk("ensure(a e)", "start -> +a\n a error -> +e\n e fail -> =errored");
    walk("ensure(a e)", "start -> +a\n abort -> -a[abort]\n a stopped -> +e\n e error -> =aborted");
    // The abort came too late for the step, and still it is one.
    walk("ensure(a e)", "start -> +a\n abort -> -a[abort]\n a ok -> +e\n e ok -> =aborted");
}

#[test]
fn a_second_abort_does_not_stop_the_hooks_of_the_first() {
    let script = "start -> +a
        abort -> -a[abort]
        abort ->
        a stopped -> +h[aborted]
        abort ->
        h fail -> +e
        abort ->
        e ok -> =aborted";
    walk("ensure(abort(a h) e)", script);
}

#[test]
fn an_abort_stops_a_hook_that_shares_the_context_of_its_step() {
    walk("ensure(a e)", "start -> +a\n a ok -> +e\n abort -> -e[abort]\n e stopped -> =aborted");
    walk("failure(a h)", "start -> +a\n a fail -> +h[failed]\n abort -> -h[abort]\n h stopped -> =aborted");
    walk("success(a h)", "start -> +a\n a ok -> +h[succeeded]\n abort -> -h[abort]\n h stopped -> =aborted");
    // But not this one; and it errored before it was aborted.
    walk("error(a h)", "start -> +a\n a error -> +h[errored]\n abort -> \n h ok -> =errored");
}

#[test]
fn all_hooks_of_a_step_at_once() {
    let plan = "ensure(error(abort(failure(success(a s) f) b) r) e)";
    let after = |line: &str| format!("start -> +a\n {line}");
    walk(plan, &after("a ok -> +s[succeeded]\n s ok -> +e\n e ok -> =succeeded"));
    // A hook that fails is a failure of what it belongs to, for the hooks around.
    walk(
        plan,
        &after("a ok -> +s[succeeded]\n s fail -> +f[failed]\n f error -> +r[errored]\n r ok -> +e\n e ok -> =errored"),
    );
    walk(plan, &after("a fail -> +f[failed]\n f ok -> +e\n e ok -> =failed"));
    walk(plan, &after("a error -> +r[errored]\n r ok -> +e\n e ok -> =errored"));
    walk(plan, &after("abort -> -a[abort]\n a stopped -> +b[aborted]\n b ok -> +e\n e ok -> =aborted"));
}

#[test]
fn the_nearest_hook_gives_the_status() {
    let script = "start -> +a\n a fail -> +p[failed]\n p ok v1 -> +p'@v1[succeeded]\n p' ok -> +e\n e ok -> =failed";
    walk("failure(a do(put:p ensure(do() e)))", script);
}

#[test]
fn an_abort_before_the_start_ends_the_build() {
    let (run, names) = walk("do(a ensure(b e))", "abort -> =aborted\n start -> \n abort ->");
    assert_eq!(states(&run, &names, "a b e"), "a:skipped b:skipped e:skipped");
}

#[test]
fn an_abort_ends_no_build_before_its_processes() {
    let script = "start -> +a +b\n a runs -> \n abort -> -a[abort] -b[abort]\n b stopped -> \n a stopped -> =aborted";
    walk("do(par(a b) c)", script);
    // Its last step succeeded all the same: what was done was done.
    walk("do(a)", "start -> +a\n abort -> -a[abort]\n a ok -> =succeeded");
    walk("do(a b)", "start -> +a\n abort -> -a[abort]\n a ok -> =aborted");
    walk("do(a b)", "start -> +a\n abort -> -a[abort]\n a fail -> =failed");
}

#[test]
fn a_step_that_was_stopped_and_nobody_wanted_it_errs() {
    walk("do(a b)", "start -> +a\n a stopped -> =errored");
}

#[test]
fn what_comes_twice_or_too_late_changes_nothing() {
    let script = "a ok ->
        T1 ->
        start -> T1=13 +a
        start ->
        b ok ->
        a runs ->
        a runs ->
        a ok -> T1=off +b
        a ok ->
        a fail ->
        a runs ->
        T1 ->
        b fail -> =failed
        b ok ->
        T1 ->
        abort ->
        start ->";
    let (run, names) = walk("do(timeout11(a) b)", script);
    assert_eq!(states(&run, &names, "a b"), "a:succeeded b:failed");
}

#[test]
fn events_about_nothing_change_nothing() {
    let (plan, names) = Shape::parse("do(timeout5(a))").plan();
    let mut run = Run::new(&plan);
    run.on(RunEvent::Start, Timestamp(0));
    let before = run.clone();
    let nothing = PlanId("7.7".to_owned());
    for event in [
        RunEvent::StepStarted { step: nothing.clone() },
        RunEvent::StepFinished { step: nothing.clone(), outcome: Outcome::Failed, version: None },
        RunEvent::TimerFired { timer: nothing },
        // These are there, and of another kind.
        RunEvent::StepFinished { step: PlanId::root(), outcome: Outcome::Failed, version: None },
        RunEvent::StepFinished { step: names.id("T1"), outcome: Outcome::Failed, version: None },
        RunEvent::TimerFired { timer: names.id("a") },
        RunEvent::StepStarted { step: names.id("T1") },
    ] {
        assert_eq!(run.on(event, Timestamp(1)), []);
        assert_eq!(run, before);
    }
}

#[test]
fn outstanding_is_what_should_be_going_on() {
    let (run, names) = walk("do(a)", "abort -> =aborted");
    assert_eq!(outstanding(&run, &names), "");
    let plan = "par(timeout9(a) put:p timeout8(b))";
    let (run, names) = walk(plan, "start -> T1=9 +a +p T2=8 +b\n p ok v1 -> +p'@v1[succeeded]\n b ok -> T2=off");
    assert_eq!(outstanding(&run, &names), "T1=9 +a +p'@v1[succeeded]");
    let script = "start -> T1=9 +a +p T2=8 +b\n T1 -> -a[timeout]\n abort -> -p[abort] T2=off -b[abort]";
    let (run, names) = walk(plan, script);
    assert_eq!(outstanding(&run, &names), "-a[timeout] -p[abort] -b[abort]");
}

#[test]
fn states_say_how_far_each_step_is() {
    let plan = "do(a try(b) failure(c f) par1(d e))";
    let (run, names) = walk(plan, "start -> +a");
    assert_eq!(states(&run, &names, "a b"), "a:pending b:pending");
    let (run, names) = walk(plan, "start -> +a\n a runs -> \n a ok -> +b\n b runs ->");
    assert_eq!(states(&run, &names, "a b c f d"), "a:succeeded b:running c:pending f:pending d:pending");
    let (run, names) = walk(plan, "start -> +a\n a ok -> +b\n b fail -> +c\n c ok -> +d");
    assert_eq!(states(&run, &names, "b c f d e"), "b:failed c:succeeded f:skipped d:pending e:pending");
    assert_eq!(run.step_states()[&PlanId::root()], StepState::Running);
    let (run, names) = walk(plan, "start -> +a\n a error -> =errored");
    assert_eq!(states(&run, &names, "a b c f e"), "a:errored b:skipped c:skipped f:skipped e:skipped");
    assert_eq!(run.step_states()[&PlanId::root()], StepState::Errored);
}

#[test]
fn events_are_lines_of_a_journal() {
    let (_, names) = Shape::parse("do(timeout5(a) put:p)").plan();
    for (text, json) in [
        ("start", r#"{"event":"start"}"#),
        ("a runs", r#"{"event":"step_started","step":"1.1"}"#),
        ("a fail", r#"{"event":"step_finished","step":"1.1","outcome":"failed"}"#),
        ("p ok x", r#"{"event":"step_finished","step":"2.1","outcome":"succeeded","version":{"v":"x"}}"#),
        ("T1", r#"{"event":"timer_fired","timer":"1"}"#),
        ("abort", r#"{"event":"abort"}"#),
    ] {
        let event = event(text, &names);
        assert_eq!(serde_json::to_string(&event).unwrap(), json);
        assert_eq!(serde_json::from_str::<RunEvent>(json).unwrap(), event);
    }
}
