//! Locks as they are shown.

use holdall_engine::ids::LockId;
use holdall_engine::release::Role;
use holdall_protocol::api::{HolderKind, LockDetail, LockHolder, LockMode, LockWaiter};
use holdall_store::locks::{self, WaitRow};
use holdall_store::{Tx, builds, environments};

use super::time;
use crate::duty::schedule::look;
use crate::error::Error;
use crate::release::EnvironmentSpec;
use crate::release::bags::{Judge, bag_number};

/// A lock by its environment's name.
pub fn lock(tx: &mut Tx<'_>, name: &str) -> Result<LockDetail, Error> {
    let Some(id) = locks::lock_find(tx, name)? else {
        let known: Vec<String> = locks::lock_list(tx)?.into_iter().map(|(_, name)| name).collect();
        return Err(Error::unknown(format!("lock or environment {name}"), name, &known));
    };
    detail(tx, id, name)
}

/// All locks, by name.
pub fn list(tx: &mut Tx<'_>) -> Result<Vec<LockDetail>, Error> {
    locks::lock_list(tx)?.into_iter().map(|(id, name)| detail(tx, id, &name)).collect()
}

fn kind(text: &str) -> HolderKind {
    HolderKind::from_name(text).unwrap_or(HolderKind::Pipeline)
}

fn mode(text: &str) -> LockMode {
    LockMode::from_name(text).unwrap_or(LockMode::Exclusive)
}

pub(super) fn detail(tx: &mut Tx<'_>, id: LockId, name: &str) -> Result<LockDetail, Error> {
    let sharing = environments::environment_list_of_lock(tx, id)?;
    let mut holders = Vec::new();
    for row in locks::holding_list(tx, id)? {
        let deployment = row.deployment.map(|id| environments::deployment_get(tx, id)).transpose()?;
        let mut system = None;
        let mut expected_end = None;
        if let Some(deployment) = &deployment
            && let Some(environment) = sharing.iter().find(|row| row.id == deployment.environment)
        {
            system = Some(environment.system_name.clone());
            let mut past = environments::deployment_durations(tx, environment.id, 21)?;
            past.sort();
            expected_end = past.get(past.len() / 2).map(|median| time(row.since + *median));
        }
        let by_number = deployment.as_ref().map(|deployment| deployment.number.to_string());
        holders.push(LockHolder {
            kind: kind(&row.kind),
            name: by_number.unwrap_or(row.name),
            mode: mode(&row.mode),
            reason: row.reason,
            since: time(row.since),
            until: row.until.map(time),
            expected_end,
            ticket: None,
            fence: row.fence,
            system,
            bag: deployment.map(|deployment| deployment.bag),
        });
    }
    let mut queue = Vec::new();
    for wait in locks::wait_list(tx, id)? {
        for name in waiting_names(tx, &wait)? {
            queue.push(LockWaiter {
                kind: kind(&wait.kind),
                name,
                mode: mode(&wait.mode),
                reason: wait.reason.clone(),
                since: time(wait.since),
                position: u32::try_from(queue.len() + 1).unwrap_or(u32::MAX),
            });
        }
    }
    Ok(LockDetail {
        environment: name.to_owned(),
        systems: sharing.iter().map(|row| row.system_name.clone()).collect(),
        holders,
        queue,
        held_after_unlock: sharing
            .iter()
            .filter_map(|row| row.held.as_ref())
            .find(|held| held.code == "held-after-unlock")
            .map(|held| time(held.at)),
    })
}

/// What waits in one place of the queue: a person, a job, or bags. One build of `start-deploy` stands for the bag that
/// it would start, and where bags go in order for all that wait (release model, section 5, rule 11).
fn waiting_names(tx: &mut Tx<'_>, wait: &WaitRow) -> Result<Vec<String>, Error> {
    let Some(build) = wait.build.map(|id| builds::build_get(tx, id)).transpose()?.flatten() else {
        return Ok(vec![wait.name.clone()]);
    };
    if let Some(bag) = build.fixed_bag {
        return Ok(vec![format!("bag {bag}")]);
    }
    let Some(look) = look(tx, build.job)? else { return Ok(vec![wait.name.clone()]) };
    let Some(environment) = look.environment.clone().filter(|_| look.spec.role == Some(Role::StartDeploy)) else {
        return Ok(vec![look.view.name.clone()]);
    };
    if EnvironmentSpec::of(&environment)?.queue {
        let judge = Judge::read(tx, environment)?;
        let names: Vec<String> = judge
            .candidates(tx)?
            .iter()
            .filter(|(_, bag)| holdall_engine::release::bags::held_back(&judge.view, bag).is_empty())
            .map(|(row, _)| format!("bag {}", row.number))
            .collect();
        if !names.is_empty() {
            return Ok(names);
        }
    }
    let bag = look.inputs.iter().find_map(|input| bag_number(&input.version));
    Ok(vec![bag.map_or(wait.name.clone(), |bag| format!("bag {bag}"))])
}
