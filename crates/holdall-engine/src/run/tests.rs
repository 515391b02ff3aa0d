use super::*;
use crate::pipeline::TaskStep;
use crate::plan::{PlanKind, TaskPlan};

fn id(text: &str) -> PlanId {
    PlanId(text.to_owned())
}

fn task(at: &str) -> Plan {
    let step = TaskStep { name: format!("task-{at}"), ..TaskStep::default() };
    Plan { id: id(at), kind: PlanKind::Task(TaskPlan { step: Box::new(step) }) }
}

fn finished(step: &str, outcome: Outcome) -> RunEvent {
    RunEvent::StepFinished { step: id(step), outcome, version: None }
}

#[test]
fn a_do_runs_its_steps_one_after_the_other() {
    let plan = Plan { id: PlanId::root(), kind: PlanKind::Do(vec![task("1"), task("2")]) };
    let mut run = Run::new(&plan);
    let start = |step: &str| Effect::StartStep { step: id(step), version: None, in_hook: None };
    assert_eq!(run.on(RunEvent::Start, Timestamp(0)), [start("1")]);
    assert_eq!(run.on(finished("1", Outcome::Succeeded), Timestamp(1)), [start("2")]);
    assert_eq!(run.on(finished("2", Outcome::Failed), Timestamp(2)), [Effect::Finish { status: BuildStatus::Failed }]);
}
