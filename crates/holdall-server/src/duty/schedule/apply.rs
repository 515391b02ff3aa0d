//! Writes what the engine decided about a job.

use std::collections::BTreeMap;

use holdall_engine::bag::Bag;
use holdall_engine::ids::BuildId;
use holdall_engine::plan::{LockMode, PlanInputs, build_plan};
use holdall_engine::release::Role;
use holdall_engine::schedule::Action;
use holdall_engine::status::BuildStatus;
use holdall_engine::time::Timestamp;
use holdall_store::builds::{self, BuildInput, NewBuild};
use holdall_store::locks::{self, HoldingRow, WaitRow};
use holdall_store::{StoreError, Tx, bags, checks, environments, pipelines};

use super::look::{Look, is_granted};
use crate::duty::track;
use crate::error::json_text;
use crate::release::bags::{bag_number, bag_of};
use crate::release::deployments::deployment_of_version;
use crate::release::locks::note;

/// Applies one action. Applied to a build that has gone on meanwhile, it changes nothing.
pub(super) fn apply(tx: &mut Tx<'_>, look: &Look, action: &Action, now: Timestamp) -> Result<(), StoreError> {
    match action {
        Action::CreatePending => {
            builds::build_create(tx, look.job.id, &NewBuild::default(), now)?;
            Ok(())
        }
        Action::Abort { build, reason } => track::end_pending(tx, *build, BuildStatus::Aborted, reason, now),
        Action::WantChecks(scopes) => {
            for scope in scopes {
                checks::check_want(tx, *scope, now)?;
            }
            Ok(())
        }
        Action::Queue(build) => queue(tx, look, *build, now),
        Action::Unqueue(build) => locks::wait_remove_build(tx, *build),
        Action::Start(build) => start(tx, look, *build, now),
    }
}

fn queue(tx: &mut Tx<'_>, look: &Look, build: BuildId, now: Timestamp) -> Result<(), StoreError> {
    let Some(demand) = &look.spec.demand else { return Ok(()) };
    let lock = locks::lock_ensure(tx, &demand.environment)?;
    let (kind, name) = holder(look, build, None);
    let mode = mode_name(demand.mode).to_owned();
    locks::wait_add(tx, &WaitRow { mode, ..WaitRow::of_build(lock, kind, name, build, now) })?;
    Ok(())
}

fn mode_name(mode: LockMode) -> &'static str {
    match mode {
        LockMode::During { shared: true } => "shared",
        LockMode::Acquire | LockMode::Require | LockMode::During { shared: false } => "exclusive",
    }
}

/// What a build is called as a holder of a lock or in its queue.
fn holder(look: &Look, build: BuildId, bag: Option<i64>) -> (&'static str, String) {
    let name = look
        .view
        .pending
        .iter()
        .find(|pending| pending.id == build)
        .map_or_else(|| build.to_string(), |pending| pending.name.clone());
    match (look.spec.role, bag) {
        (Some(Role::StartDeploy), Some(bag)) => ("deployment", format!("start-deploy {name} of bag {bag}")),
        (Some(Role::StartDeploy), None) => ("deployment", format!("start-deploy {name} of {}", look.job.pipeline_name)),
        _ => ("pipeline", format!("{} {name}", look.view.name)),
    }
}

fn start(tx: &mut Tx<'_>, look: &Look, build: BuildId, now: Timestamp) -> Result<(), StoreError> {
    let (inputs, pipes) = match look.fixed.get(&build) {
        Some(fixed) => fixed.clone(),
        None => (look.inputs.clone(), look.pipes.clone()),
    };
    let config = pipelines::pipeline_config(tx, look.job.pipeline)?;
    let Some(job) = config.job(&look.job.name) else {
        return track::end_pending(tx, build, BuildStatus::Errored, "the job is gone", now);
    };
    let owned = bags_of(tx, look, &inputs)?;
    let plan_inputs = PlanInputs {
        versions: inputs.iter().map(|input| (input.name.clone(), input.version.clone())).collect(),
        bags: owned.iter().map(|(name, bag)| (name.clone(), bag)).collect(),
    };
    let plan = build_plan(job, &config, &plan_inputs);
    let text = plan.as_ref().ok().map(json_text).transpose()?;
    if !builds::build_start(tx, build, &inputs, &pipes, text.as_deref(), now)? {
        return Ok(());
    }
    if let Some(environment) = &look.environment {
        for input in &inputs {
            // Only jobs that work for a deployment belong to it; a periodic job only looks at what is live.
            let works_for = matches!(look.spec.role, Some(Role::Deploy { .. } | Role::Test | Role::Signal));
            if let Some(deployment) = deployment_of_version(tx, environment, &input.version)?.filter(|_| works_for) {
                builds::build_set_deployment(tx, build, deployment.id)?;
                if deployment.in_doubt && matches!(look.spec.role, Some(Role::Deploy { .. })) {
                    // A person started it again: that is what a person says is to be done.
                    environments::deployment_mark(
                        tx,
                        deployment.id,
                        environments::DeploymentMark::InDoubt(false),
                        now,
                    )?;
                }
            }
        }
    }
    grant(tx, look, build, owned.values().next().map(|bag| bag.number), now)?;
    match plan {
        Ok(_) => track::begin(tx, build, now),
        Err(error) => track::begin_without_plan(tx, build, &error.to_string(), now),
    }
}

/// The bags that inputs of release types stand for, by input.
fn bags_of(tx: &mut Tx<'_>, look: &Look, inputs: &[BuildInput]) -> Result<BTreeMap<String, Bag>, StoreError> {
    let mut found = BTreeMap::new();
    let Some(environment) = &look.environment else { return Ok(found) };
    for input in inputs {
        let Some(number) = bag_number(&input.version) else { continue };
        if let Some(row) = bags::bag_find(tx, environment.system, number)? {
            found.insert(input.name.clone(), bag_of(&row)?);
        }
    }
    Ok(found)
}

/// Grants the lock in the same transaction in which the build starts (release model, section 5, rule 2).
fn grant(tx: &mut Tx<'_>, look: &Look, build: BuildId, bag: Option<i64>, now: Timestamp) -> Result<(), StoreError> {
    let Some(demand) = look.spec.demand.as_ref().filter(|demand| is_granted(demand.mode)) else { return Ok(()) };
    let lock = locks::lock_ensure(tx, &demand.environment)?;
    locks::wait_remove_build(tx, build)?;
    let (kind, name) = holder(look, build, bag);
    let row = builds::build_get(tx, build)?;
    let reason = row.as_ref().and_then(|row| row.reason.clone());
    let by = row.and_then(|row| row.created_by).unwrap_or_else(|| "holdall".to_owned());
    locks::holding_add(
        tx,
        &HoldingRow {
            id: 0,
            lock,
            kind: kind.to_owned(),
            name: name.clone(),
            mode: mode_name(demand.mode).to_owned(),
            build: Some(build),
            deployment: None,
            token: None,
            reason: reason.clone(),
            since: now,
            until: None,
            alive_until: None,
            fence: 0,
        },
    )?;
    note(tx, &by, "lock_granted", &demand.environment, reason.as_deref(), None, Some(&name), now)
}
