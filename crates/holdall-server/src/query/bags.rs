//! Bags as they are shown: where they are, what they hold, and what changed.

use std::collections::BTreeMap;

use holdall_engine::bag::Bits;
use holdall_engine::release::bags::held_back;
use holdall_engine::release::state::{BagFacts, bag_state};
use holdall_protocol::api::{BagDetail, BagDiff, BagService, BagState, BagSummary, MetadataField, PassedTag};
use holdall_store::bags::{self, BagRow, TagRow};
use holdall_store::environments;
use holdall_store::{StoreError, Tx};

use super::environments::{Standing, standing};
use super::{time, why};
use crate::changes::service_changes;
use crate::error::Error;
use crate::release::bags::{Judge, bag_of};
use crate::release::environments_of;

/// Bags of a system, newest first, with numbers below `below`.
pub fn list(tx: &mut Tx<'_>, system_name: &str, below: Option<i64>, limit: i64) -> Result<Vec<BagSummary>, Error> {
    let system = super::system(tx, system_name)?;
    let rows = bags::bag_list(tx, system.id, below, limit)?;
    let (Some(newest), Some(oldest)) = (rows.first(), rows.last()) else { return Ok(Vec::new()) };
    let tags = bags::tag_list_of_bags(tx, system.id, oldest.number, newest.number)?;
    let stands = stands(tx, system.id)?;
    rows.iter().map(|row| summary(tx, row, system_name, &tags, &stands)).collect()
}

/// Every environment of a system, ready to judge bags.
struct Stands {
    environments: Vec<(Judge, Standing)>,
    names: BTreeMap<holdall_engine::ids::EnvironmentId, String>,
}

fn stands(tx: &mut Tx<'_>, system: holdall_engine::ids::SystemId) -> Result<Stands, Error> {
    let mut found = Vec::new();
    for (row, _) in environments_of(tx, system)? {
        let judge = Judge::read(tx, row)?;
        let standing = standing(tx, &judge)?;
        found.push((judge, standing));
    }
    let names = environments::environment_list_all(tx, system)?.into_iter().map(|row| (row.id, row.name)).collect();
    Ok(Stands { environments: found, names })
}

fn summary(tx: &mut Tx<'_>, row: &BagRow, system: &str, tags: &[TagRow], stands: &Stands) -> Result<BagSummary, Error> {
    let mut passed = BTreeMap::new();
    for tag in tags.iter().filter(|tag| tag.bag == row.number) {
        if let Some(name) = stands.names.get(&tag.environment) {
            // The newest comes first.
            passed.entry(name.clone()).or_insert_with(|| tag.name.clone());
        }
    }
    let mut states = BTreeMap::new();
    for (judge, standing) in &stands.environments {
        if let Some(state) = state_in(tx, judge, standing, row)? {
            states.insert(judge.environment.name.clone(), state);
        }
    }
    Ok(BagSummary {
        bag: row.number,
        system: system.to_owned(),
        packed_at: time(row.packed_at),
        packed_in: stands.names.get(&row.environment).cloned().unwrap_or_default(),
        passed,
        environments: states,
        packed_by: Some(row.packed_by.clone()),
        contents_digest: row.contents_digest.clone(),
    })
}

/// The state of a bag in an environment; `None`: it cannot go there.
fn state_in(tx: &mut Tx<'_>, judge: &Judge, standing: &Standing, row: &BagRow) -> Result<Option<BagState>, StoreError> {
    let view = judge.bag(tx, row)?;
    if !view.belongs {
        return Ok(None);
    }
    let open = standing.open.as_ref().filter(|open| open.bag == row.number);
    let facts = BagFacts {
        open: open.is_some(),
        deployed: open.is_some_and(|open| open.deployed_at.is_some()),
        failed: standing.facts.in_doubt || (standing.facts.failed && !standing.facts.working),
        current: standing.current.as_ref().is_some_and(|current| current.bag == row.number),
        disabled: view.disabled.is_some(),
        was_live: environments::deployment_list_of_bag(tx, judge.environment.id, row.number)?
            .iter()
            .any(|deployment| deployment.deployed_at.is_some()),
        not_eligible: !view.not_passed.is_empty(),
        superseded: row.number < judge.view.highest_started,
        held: !held_back(&judge.view, &view).is_empty(),
    };
    Ok(BagState::from_name(bag_state(facts).as_str()))
}

/// A bag, whole.
pub fn detail(tx: &mut Tx<'_>, system_name: &str, number: i64) -> Result<BagDetail, Error> {
    let system = super::system(tx, system_name)?;
    let row = bags::bag_find(tx, system.id, number)?
        .ok_or_else(|| Error::not_found(format!("bag {number} of {system_name}")))?;
    let tags = bags::tag_list(tx, row.id)?;
    let stands = stands(tx, system.id)?;
    let summary = summary(tx, &row, system_name, &tags, &stands)?;
    let bag = bag_of(&row)?;
    let mut holds = BTreeMap::new();
    for (judge, _) in &stands.environments {
        if summary.environments.contains_key(&judge.environment.name) {
            let found = why::bag_in(tx, &judge.environment, number)?;
            if !found.is_empty() {
                holds.insert(judge.environment.name.clone(), found);
            }
        }
    }
    let mut passed = Vec::new();
    for tag in tags {
        passed.push(PassedTag {
            tag: tag.name,
            environment: stands.names.get(&tag.environment).cloned().unwrap_or_default(),
            at: time(tag.at),
            by: tag.by,
            deployment: environments::deployment_get(tx, tag.deployment)?.number,
        });
    }
    Ok(BagDetail {
        services: bag
            .services
            .iter()
            .map(|(name, service)| {
                let bits = match &service.bits {
                    Bits::Commit(commit) => commit.clone(),
                    Bits::Image { repository, digest, .. } => format!("{repository}@{digest}"),
                    Bits::Version => service.version.to_string(),
                };
                let shown = BagService {
                    kind: service.resource_type.clone(),
                    version: service.version.0.clone(),
                    bits,
                    exact: service.exact,
                    repository: service.repository.clone(),
                    metadata: service
                        .metadata
                        .iter()
                        .map(|(name, value)| MetadataField { name: name.clone(), value: value.clone() })
                        .collect(),
                };
                (name.clone(), shown)
            })
            .collect(),
        previous: bag.previous,
        same_contents_as: bags::bag_same_contents(tx, system.id, &row.contents_digest, number)?,
        pins: bag.pins.iter().map(|(name, version)| format!("{name} was pinned at {version}")).collect(),
        disabled: bag
            .unticks
            .iter()
            .flat_map(|(name, versions)| versions.iter().map(move |version| format!("{name} {version} was unticked")))
            .collect(),
        digest: row.digest.clone(),
        tags: passed,
        holds,
        summary,
    })
}

/// What changes from one bag to another; without one from the bag that was packed before it.
pub fn diff(tx: &mut Tx<'_>, system_name: &str, to: i64, from: Option<i64>) -> Result<BagDiff, Error> {
    let system = super::system(tx, system_name)?;
    let missing = |number: i64| Error::not_found(format!("bag {number} of {system_name}"));
    let to_row = bags::bag_find(tx, system.id, to)?.ok_or_else(|| missing(to))?;
    let to_bag = bag_of(&to_row)?;
    let from = from.or(to_bag.previous);
    let from_bag = match from {
        Some(number) => {
            let row = bags::bag_find(tx, system.id, number)?.ok_or_else(|| missing(number))?;
            Some(bag_of(&row)?)
        }
        None => None,
    };
    let packing = environments::environment_get(tx, to_row.environment)?;
    Ok(BagDiff {
        system: system_name.to_owned(),
        from,
        to,
        services: service_changes(tx, &packing, from_bag.as_ref(), &to_bag)?,
    })
}
