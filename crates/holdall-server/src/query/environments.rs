//! Environments as they are shown.

use holdall_engine::release::state::{EnvironmentFacts, environment_state};
use holdall_protocol::api::{
    Deployment, DeploymentState, Direction, EnvironmentDetail, EnvironmentState, EnvironmentSummary, Freeze, Suspect,
};
use holdall_store::environments::{self, DeploymentRow, EnvironmentRow};
use holdall_store::{Tx, bags, builds, pipelines};

use super::{jobs, locks, time, why};
use crate::acts::build_ref;
use crate::error::Error;
use crate::release::bags::Judge;
use crate::release::deployments::deployment_open;
use crate::release::locks::progress;
use crate::release::{EnvironmentSpec, ancestors, environments_of};

/// How many of its deployments an environment shows.
const SHOWN_DEPLOYMENTS: i64 = 20;

/// The environments of a system, in the order of its file.
pub fn list(tx: &mut Tx<'_>, system_name: &str) -> Result<Vec<EnvironmentSummary>, Error> {
    let system = super::system(tx, system_name)?;
    environments::environment_list(tx, system.id)?.into_iter().map(|row| summary(tx, &row)).collect()
}

/// How an environment stands, with what it was derived from.
pub(super) struct Standing {
    pub(super) facts: EnvironmentFacts,
    pub(super) current: Option<DeploymentRow>,
    pub(super) open: Option<DeploymentRow>,
    pub(super) mixed_with: Option<i64>,
}

pub(super) fn standing(tx: &mut Tx<'_>, judge: &Judge) -> Result<Standing, Error> {
    let row = &judge.environment;
    let current = environments::deployment_current(tx, row.id)?;
    let open = deployment_open(tx, row)?;
    let begun = environments::deployment_last_begun(tx, row.id)?;
    let after_current = |begun: &DeploymentRow| match &current {
        Some(current) => begun.number > current.number,
        None => true,
    };
    let unfinished = begun.filter(|begun| begun.deployed_at.is_none() && after_current(begun));
    let mut facts = EnvironmentFacts { frozen: judge.view.pin.is_some(), ..EnvironmentFacts::default() };
    if let Some(open) = &open {
        let progress = progress(tx, open)?;
        facts.open = true;
        facts.in_doubt = open.in_doubt;
        facts.deployed = open.deployed_at.is_some();
        facts.failed = progress.failed.is_some();
        facts.working = progress.working;
    }
    facts.mixed = unfinished.is_some();
    facts.waiting = judge.view.held.is_some()
        || match judge.view.manual_promotion {
            true => judge.next_for_person(tx)?.is_some(),
            false => judge.next(tx)?.is_some(),
        };
    let mixed_with = unfinished.map(|begun| begun.bag);
    Ok(Standing { facts, current, open, mixed_with })
}

/// An environment in a list.
pub fn summary(tx: &mut Tx<'_>, row: &EnvironmentRow) -> Result<EnvironmentSummary, Error> {
    let judge = Judge::read(tx, row.clone())?;
    let standing = standing(tx, &judge)?;
    let state = environment_state(standing.facts);
    let lock = locks::detail(tx, row.lock, &row.name)?;
    let since = match (&standing.open, &standing.current) {
        (Some(open), _) => open.deployed_at.or(open.deploy_began_at).or(Some(open.started_at)),
        (None, Some(current)) => current.ended_at.or(current.deployed_at),
        (None, None) => None,
    };
    Ok(EnvironmentSummary {
        environment: row.name.clone(),
        system: row.system_name.clone(),
        current: standing.current.map(|current| current.bag),
        mixed_with: standing.mixed_with,
        state: EnvironmentState::from_name(state.as_str()).unwrap_or(EnvironmentState::Idle),
        frozen_at: judge.view.pin.as_ref().map(|(bag, _)| *bag),
        lock: lock.summary(),
        under_way: standing.open.map(|open| open.bag),
        since: since.map(time),
        after: judge.spec.after,
    })
}

/// An environment, whole.
pub fn detail(tx: &mut Tx<'_>, system_name: &str, name: &str) -> Result<EnvironmentDetail, Error> {
    let row = super::environment(tx, system_name, name)?;
    let summary = summary(tx, &row)?;
    let spec = EnvironmentSpec::of(&row)?;
    let judge = Judge::read(tx, row.clone())?;
    let pipeline = pipelines::pipeline_get(tx, row.pipeline)?;
    let previous = match summary.current {
        Some(current) => environments::deployment_live_beside(tx, row.id, current)?.map(|deployment| deployment.bag),
        None => None,
    };
    let mut deployments = Vec::new();
    for deployment in environments::deployment_list(tx, row.id, SHOWN_DEPLOYMENTS)? {
        deployments.push(deployment_of(tx, &row, &deployment)?);
    }
    let open = match deployment_open(tx, &row)? {
        Some(open) => Some(deployment_of(tx, &row, &open)?),
        None => None,
    };
    let chain = environments_of(tx, row.system)?;
    let mut suspects = suspects_of(tx, &row, None)?;
    for above in ancestors(&chain, &row.name) {
        if let Some((above, _)) = chain.iter().find(|(row, _)| row.name == above) {
            suspects.extend(suspects_of(tx, above, Some(&above.name))?);
        }
    }
    Ok(EnvironmentDetail {
        team: pipeline.team,
        pipeline: pipeline.name,
        packs: spec.packs,
        superseding: if spec.queue { "queue" } else { "latest" }.to_owned(),
        promotion: if spec.manual_promotion { "manual" } else { "automatic" }.to_owned(),
        previous,
        deployment: open,
        lock_detail: locks::detail(tx, row.lock, &row.name)?,
        freeze: judge.view.pin.map(|(bag, mark)| Freeze {
            bag,
            by: mark.by.unwrap_or_default(),
            reason: mark.reason,
            ticket: None,
            since: time(mark.at.unwrap_or_default()),
            until: mark.until.map(time),
        }),
        suspects,
        deployments,
        jobs: jobs::list_of(tx, row.pipeline)?,
        holds: why::environment(tx, &row)?,
        summary,
    })
}

fn suspects_of(tx: &mut Tx<'_>, row: &EnvironmentRow, inherited: Option<&str>) -> Result<Vec<Suspect>, Error> {
    Ok(bags::suspect_list(tx, row.id)?
        .into_iter()
        .filter(|suspect| inherited.is_none() || !suspect.here_only)
        .map(|suspect| Suspect {
            service: suspect.service,
            version: suspect.version.0,
            bag: suspect.bag,
            by: suspect.by,
            reason: suspect.reason,
            since: time(suspect.at),
            inherited_from: inherited.map(str::to_owned),
        })
        .collect())
}

/// A deployment as it is shown.
pub(super) fn deployment_of(
    tx: &mut Tx<'_>,
    environment: &EnvironmentRow,
    row: &DeploymentRow,
) -> Result<Deployment, Error> {
    let progress = progress(tx, row)?;
    let state = match (row.ended_how.as_deref(), row.in_doubt) {
        (Some("passed"), _) => DeploymentState::Passed,
        (Some(_), _) => DeploymentState::Ended,
        (None, true) => DeploymentState::InDoubt,
        (None, false) if progress.failed.is_some() && !progress.working => DeploymentState::Failed,
        (None, false) if row.deployed_at.is_some() => DeploymentState::Testing,
        (None, false) if row.deploy_began_at.is_some() => DeploymentState::Deploying,
        (None, false) => DeploymentState::Starting,
    };
    let tag = match bags::bag_find(tx, environment.system, row.bag)? {
        Some(bag) => bags::tag_list(tx, bag.id)?.into_iter().find(|tag| tag.deployment == row.id).map(|tag| tag.name),
        None => None,
    };
    let before = match environments::highest_started(tx, environment.id, Some(row.number))? {
        0 => row.bag,
        before => before,
    };
    let mut superseded = Vec::new();
    if row.direction == "forward" && before + 1 < row.bag {
        let between = match bags::bag_find(tx, environment.system, row.bag)? {
            Some(bag) => bags::bag_list_between(tx, bag.environment, &[], before, Some(row.bag), i64::MAX)?,
            None => Vec::new(),
        };
        superseded = between.into_iter().rev().map(|bag| bag.number).collect();
    }
    Ok(Deployment {
        deployment: row.number,
        environment: environment.name.clone(),
        bag: row.bag,
        previous_bag: row.previous_bag,
        direction: Direction::from_name(&row.direction).unwrap_or(Direction::Forward),
        state,
        note: row.ended_how.as_ref().map(|how| match &row.ended_by {
            Some(by) => format!("{how} by {by}"),
            None => how.clone(),
        }),
        started_by: if row.started_by == "holdall" { "automatic".to_owned() } else { row.started_by.clone() },
        reason: row.reason.clone(),
        started_at: time(row.started_at),
        ended_at: row.ended_at.map(time),
        tag,
        builds: builds::build_list_of_deployment(tx, row.id)?.iter().map(build_ref).collect(),
        superseded,
    })
}
