use super::*;
use crate::pipeline::{Job, Pipeline};

#[test]
fn an_empty_job_is_an_empty_do() {
    let plan = build_plan(&Job::default(), &Pipeline::default(), &PlanInputs::default());
    assert_eq!(plan, Ok(Plan { id: PlanId::root(), kind: PlanKind::Do(Vec::new()) }));
}
