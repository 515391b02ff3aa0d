//! Builds as they are shown.

use holdall_engine::ids::BuildId;
use holdall_engine::plan::{Plan, PlanKind, ReleaseAction, ReleaseStep};
use holdall_engine::release::Role;
use holdall_engine::run::{Run, StepState};
use holdall_engine::schedule::JobSpec;
use holdall_protocol::api::{BuildDetail, BuildInput, BuildSummary, PlanRole, PlanStep};
use holdall_store::builds::{self, BuildFilter, BuildRow, NamedVersion};
use holdall_store::{StoreError, Tx, environments, events, jobs};

use super::{time, why};
use crate::acts::build_ref;
use crate::error::{Error, from_json};
use crate::release::bags::bag_number;

/// Builds that fit a filter, newest first, with ids below `below`.
pub fn list(
    tx: &mut Tx<'_>,
    filter: &BuildFilter,
    below: Option<BuildId>,
    limit: i64,
) -> Result<Vec<BuildSummary>, Error> {
    let rows = builds::build_search(tx, filter, below, limit)?;
    summaries(tx, &rows)
}

/// Builds as lists show them.
pub(super) fn summaries(tx: &mut Tx<'_>, rows: &[BuildRow]) -> Result<Vec<BuildSummary>, Error> {
    let ids: Vec<BuildId> = rows.iter().map(|row| row.id).collect();
    let bags = builds::build_bags(tx, &ids)?;
    let owners = environments::pipeline_owners(tx)?;
    let mut found = Vec::new();
    for row in rows {
        let owner = owners.iter().find(|owner| owner.pipeline == row.pipeline);
        let deployment = row.deployment.map(|id| environments::deployment_get(tx, id)).transpose()?;
        found.push(BuildSummary {
            build: build_ref(row),
            created_at: time(row.created_at),
            started_at: row.started_at.map(time),
            ended_at: row.ended_at.map(time),
            created_by: row.created_by.clone(),
            rerun_of: row.rerun_of.map(|id| id.0),
            system: owner.map(|owner| owner.system.clone()),
            environment: owner.map(|owner| owner.name.clone()),
            deployment: deployment.as_ref().map(|deployment| deployment.number),
            bag: deployment.map(|deployment| deployment.bag).or_else(|| bags.get(&row.id).and_then(bag_number)),
            note: row.end_reason.clone(),
        });
    }
    Ok(found)
}

pub(super) fn find(tx: &mut Tx<'_>, id: i64) -> Result<BuildRow, Error> {
    builds::build_get(tx, BuildId(id))?.ok_or_else(|| Error::not_found(format!("build {id}")))
}

fn named(versions: Vec<NamedVersion>) -> Vec<BuildInput> {
    versions
        .into_iter()
        .map(|row| BuildInput {
            name: row.name,
            resource: row.resource,
            version: row.version.0,
            first_occurrence: row.first_occurrence,
        })
        .collect()
}

/// Whether aborting the builds of a job has to be confirmed.
pub(super) fn is_guarded(spec: &JobSpec) -> bool {
    matches!(spec.role, Some(Role::Deploy { .. }))
}

/// A build, whole.
pub fn detail(tx: &mut Tx<'_>, id: i64) -> Result<BuildDetail, Error> {
    let row = find(tx, id)?;
    let spec: JobSpec = match jobs::job_get(tx, row.job)? {
        Some(job) => from_json(&job.spec)?,
        None => JobSpec::default(),
    };
    let holds = if row.status.is_terminal() { Vec::new() } else { why::build(tx, &row)? };
    Ok(BuildDetail {
        guarded: is_guarded(&spec),
        aborting: row.abort_at.is_some() && !row.status.is_terminal(),
        inputs: named(builds::build_gets(tx, row.id)?),
        outputs: named(builds::build_puts(tx, row.id)?),
        report: holds,
        summary: summaries(tx, std::slice::from_ref(&row))?.remove(0),
    })
}

/// The plan of a build.
pub fn plan(tx: &mut Tx<'_>, id: i64) -> Result<PlanStep, Error> {
    let row = find(tx, id)?;
    let plan =
        read_plan(tx, &row)?.ok_or_else(|| Error::not_found(format!("plan of build {id}: it has not started")))?;
    Ok(step(&plan, PlanRole::Step))
}

fn read_plan(tx: &mut Tx<'_>, row: &BuildRow) -> Result<Option<Plan>, StoreError> {
    match builds::build_plan(tx, row.id)? {
        Some(text) => from_json(&text).map(Some),
        None => Ok(None),
    }
}

/// A step of a build's plan with how it stands, for pages.
#[derive(Debug, Clone)]
pub struct StepShown {
    /// Its id in the plan.
    pub id: String,
    /// What it is: `get`, `task`, ...
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// How it stands.
    pub state: StepState,
}

/// The steps of a build that do something, in the order of the plan, with how they stand.
pub fn steps(tx: &mut Tx<'_>, id: i64) -> Result<Vec<StepShown>, Error> {
    let row = find(tx, id)?;
    let Some(plan) = read_plan(tx, &row)? else { return Ok(Vec::new()) };
    let mut journal = Vec::new();
    for (at, event) in events::event_list_run(tx, row.id)? {
        journal.push((from_json(&event)?, at));
    }
    let states = Run::replay(&plan, journal).step_states();
    Ok(plan
        .nodes()
        .into_iter()
        .filter(|node| node.is_step())
        .map(|node| StepShown {
            id: node.id.as_str().to_owned(),
            kind: kind(node),
            name: node.name().unwrap_or_default().to_owned(),
            state: states.get(&node.id).copied().unwrap_or(StepState::Pending),
        })
        .collect())
}

fn kind(plan: &Plan) -> &'static str {
    match &plan.kind {
        PlanKind::Get(_) | PlanKind::Files(_) => "get",
        PlanKind::Release(ReleaseStep { action: ReleaseAction::Resolve { .. }, .. }) => "get",
        PlanKind::Put(_) | PlanKind::Release(_) => "put",
        PlanKind::Task(_) => "task",
        PlanKind::Do(_) => "do",
        PlanKind::InParallel { .. } => "in_parallel",
        PlanKind::Try(_) => "try",
        PlanKind::Retry(_) => "attempts",
        PlanKind::Timeout { .. } => "timeout",
        PlanKind::OnSuccess { .. }
        | PlanKind::OnFailure { .. }
        | PlanKind::OnError { .. }
        | PlanKind::OnAbort { .. }
        | PlanKind::Ensure { .. } => "hooks",
    }
}

fn step(plan: &Plan, role: PlanRole) -> PlanStep {
    let steps = match &plan.kind {
        PlanKind::Retry(steps) => steps.iter().map(|inner| step(inner, PlanRole::Attempt)).collect(),
        PlanKind::OnSuccess { step: inner, hook } => hooked(inner, hook, PlanRole::OnSuccess),
        PlanKind::OnFailure { step: inner, hook } => hooked(inner, hook, PlanRole::OnFailure),
        PlanKind::OnError { step: inner, hook } => hooked(inner, hook, PlanRole::OnError),
        PlanKind::OnAbort { step: inner, hook } => hooked(inner, hook, PlanRole::OnAbort),
        PlanKind::Ensure { step: inner, hook } => hooked(inner, hook, PlanRole::Ensure),
        _ => plan.children().into_iter().map(|inner| step(inner, PlanRole::Step)).collect(),
    };
    PlanStep {
        id: plan.id.as_str().to_owned(),
        kind: kind(plan).to_owned(),
        name: plan.name().map(str::to_owned),
        role,
        steps,
    }
}

fn hooked(inner: &Plan, hook: &Plan, role: PlanRole) -> Vec<PlanStep> {
    vec![step(inner, PlanRole::Step), step(hook, role)]
}
