//! How the bags of an environment stand, as the engine's choice sees them.

use std::collections::BTreeMap;

use holdall_engine::bag::Bag;
use holdall_engine::ids::EnvironmentId;
use holdall_engine::release::bags::{
    BagView, BagsView, Mark, Superseding, SuspectHit, choose, choose_for_person, starts_by_itself,
};
use holdall_engine::report::Code;
use holdall_engine::version::{Version, VersionDigest};
use holdall_store::bags::{self, BagRow, SuspectRow};
use holdall_store::environments::{self, EnvironmentRow};
use holdall_store::resources::{self, ResourceRow};
use holdall_store::versions::{self, DisabledRow};
use holdall_store::{StoreError, Tx, builds, jobs};

use super::{EnvironmentSpec, ancestors, environments_of, packed_in};
use crate::error::from_json;

/// Everything that is needed to judge bags in one environment; read once, then asked for any number of bags.
pub struct Judge {
    /// The environment.
    pub environment: EnvironmentRow,
    /// What its system file says.
    pub spec: EnvironmentSpec,
    /// What the choice looks at.
    pub view: BagsView,
    /// Its resource of type `deployment-bag`.
    pub resource: ResourceRow,
    chain: Vec<(EnvironmentRow, EnvironmentSpec)>,
    packing: Option<EnvironmentId>,
    disabled: BTreeMap<VersionDigest, DisabledRow>,
    withdrawn: Vec<(String, VersionDigest, DisabledRow)>,
    suspects: Vec<(String, SuspectRow)>,
    after: Vec<(String, EnvironmentId)>,
}

/// How many bags are looked at together.
const PAGE: i64 = 50;

/// A bag as a version of `deployment-bag`.
pub fn bag_version(number: i64) -> Version {
    Version::of("bag", &number.to_string())
}

/// The number of a bag in a version of any release type.
pub fn bag_number(version: &Version) -> Option<i64> {
    version.0.get("bag")?.parse().ok()
}

/// The bag itself.
pub fn bag_of(row: &BagRow) -> Result<Bag, StoreError> {
    from_json(&row.body)
}

impl Judge {
    /// Reads how an environment stands.
    pub fn read(tx: &mut Tx<'_>, environment: EnvironmentRow) -> Result<Judge, StoreError> {
        let spec = EnvironmentSpec::of(&environment)?;
        let chain = environments_of(tx, environment.system)?;
        let resource = resources::resource_of_type(tx, environment.pipeline, "deployment-bag")?
            .ok_or_else(|| StoreError::Inconsistent(format!("{} has no deployment-bag", environment.name)))?;
        let mut disabled = BTreeMap::new();
        for row in versions::disabled_list(tx, resource.id)? {
            disabled.insert(row.digest.clone(), row);
        }
        let mut suspects = Vec::new();
        for row in bags::suspect_list(tx, environment.id)? {
            suspects.push((environment.name.clone(), row));
        }
        let mut withdrawn = Vec::new();
        for name in ancestors(&chain, &environment.name) {
            let Some((above, _)) = chain.iter().find(|(row, _)| row.name == name) else { continue };
            for row in bags::suspect_list(tx, above.id)? {
                if !row.here_only {
                    suspects.push((name.clone(), row));
                }
            }
            if let Some(bags_above) = resources::resource_of_type(tx, above.pipeline, "deployment-bag")? {
                for row in versions::disabled_list(tx, bags_above.id)? {
                    if row.withdraws {
                        withdrawn.push((name.clone(), row.digest.clone(), row));
                    }
                }
            }
        }
        let after = chain
            .iter()
            .filter(|(row, _)| spec.after.contains(&row.name))
            .map(|(row, _)| (row.name.clone(), row.id))
            .collect();
        let packing = packed_in(&chain, &environment.name)
            .and_then(|name| chain.iter().find(|(row, _)| row.name == name).map(|(row, _)| row.id));
        let view = BagsView {
            system: environment.system_name.clone(),
            environment: environment.name.clone(),
            highest_started: environments::highest_started(tx, environment.id, None)?.max(starting(tx, &resource)?),
            pin: resource.pin.as_ref().and_then(|pin| {
                let mark = Mark { by: pin.by.clone(), at: pin.at, until: pin.until, reason: pin.reason.clone() };
                bag_number(&pin.version).map(|number| (number, mark))
            }),
            superseding: spec.superseding(),
            manual_promotion: spec.manual_promotion,
            held: environment.held.as_ref().map(|held| {
                let code = if held.code == crate::epoch::RESTORED { Code::Restored } else { Code::HeldAfterUnlock };
                let mark =
                    Mark { by: Some(held.by.clone()), at: Some(held.at), until: None, reason: held.reason.clone() };
                (code, mark)
            }),
        };
        Ok(Judge { environment, spec, view, resource, chain, packing, disabled, withdrawn, suspects, after })
    }

    /// The environments of the system, in the order of the file.
    pub fn chain(&self) -> &[(EnvironmentRow, EnvironmentSpec)] {
        &self.chain
    }

    /// A bag as the choice sees it. A bag that was ever current here stays a target, also where an environment was
    /// inserted before this one since (release model, section 2).
    pub fn bag(&self, tx: &mut Tx<'_>, row: &BagRow) -> Result<BagView, StoreError> {
        let bag = bag_of(row)?;
        let digest = bag_version(row.number).digest();
        let was_here = row.number <= self.view.highest_started
            && environments::deployment_list_of_bag(tx, self.environment.id, row.number)?
                .iter()
                .any(|deployment| deployment.deployed_at.is_some());
        let mut not_passed = Vec::new();
        for (name, before) in self.after.iter().filter(|_| !was_here) {
            if bags::tag_newest(tx, row.id, *before)?.is_none() {
                not_passed.push(name.clone());
            }
        }
        let suspects = self
            .suspects
            .iter()
            .filter(|(_, suspect)| {
                bag.services.get(&suspect.service).is_some_and(|service| service.version == suspect.version)
            })
            .map(|(place, suspect)| SuspectHit {
                service: suspect.service.clone(),
                version: suspect.version.to_string(),
                brought_by: suspect.bag,
                environment: place.clone(),
                mark: Mark {
                    by: Some(suspect.by.clone()),
                    at: Some(suspect.at),
                    until: None,
                    reason: suspect.reason.clone(),
                },
            })
            .collect();
        Ok(BagView {
            number: row.number,
            not_passed,
            belongs: was_here || self.packing == Some(row.environment),
            disabled: self.disabled.get(&digest).map(mark),
            withdrawn: self
                .withdrawn
                .iter()
                .find(|(_, withdrawn, _)| *withdrawn == digest)
                .map(|(place, _, row)| (place.clone(), mark(row))),
            suspects,
            missing: self.spec.needs.iter().filter(|name| !bag.services.contains_key(*name)).cloned().collect(),
        })
    }

    /// The bags above the highest that has started here and that belong here, oldest first: all of them, however many
    /// there are. What asks for one bag asks for [`Judge::next`], [`Judge::next_for_person`] or [`Judge::newest`].
    pub fn candidates(&self, tx: &mut Tx<'_>) -> Result<Vec<(BagRow, BagView)>, StoreError> {
        let mut candidates = Vec::new();
        let Some(packing) = self.packing else { return Ok(candidates) };
        for row in bags::bag_list_above(tx, packing, &[], self.view.highest_started, i64::MAX)? {
            let view = self.bag(tx, &row)?;
            candidates.push((row, view));
        }
        Ok(candidates)
    }

    /// The candidate that starts by itself next.
    pub fn next(&self, tx: &mut Tx<'_>) -> Result<Option<i64>, StoreError> {
        if starts_by_itself(&self.view) { self.first(tx, choose) } else { Ok(None) }
    }

    /// The candidate that starts next where a person lets it.
    pub fn next_for_person(&self, tx: &mut Tx<'_>) -> Result<Option<i64>, StoreError> {
        self.first(tx, choose_for_person)
    }

    /// The newest candidate.
    pub fn newest(&self, tx: &mut Tx<'_>) -> Result<Option<BagView>, StoreError> {
        let Some(packing) = self.packing else { return Ok(None) };
        match bags::bag_list_between(tx, packing, &[], self.view.highest_started, None, 1)?.first() {
            Some(row) => self.bag(tx, row).map(Some),
            None => Ok(None),
        }
    }

    /// What is chosen among the candidates that have passed all that comes before, which are looked at in the order in
    /// which they start until there is one.
    fn first(
        &self,
        tx: &mut Tx<'_>,
        choose: fn(&BagsView, &[BagView]) -> Option<i64>,
    ) -> Result<Option<i64>, StoreError> {
        let Some(packing) = self.packing else { return Ok(None) };
        let passed: Vec<EnvironmentId> = self.after.iter().map(|(_, before)| *before).collect();
        let (mut above, mut below) = (self.view.highest_started, None);
        loop {
            let mut page = match self.view.superseding {
                Superseding::Latest => bags::bag_list_between(tx, packing, &passed, above, below, PAGE)?,
                Superseding::Queue => bags::bag_list_above(tx, packing, &passed, above, PAGE)?,
            };
            let Some(last) = page.last().map(|row| row.number) else { return Ok(None) };
            match self.view.superseding {
                Superseding::Latest => {
                    below = Some(last);
                    page.reverse();
                }
                Superseding::Queue => above = last,
            }
            let mut views = Vec::new();
            for row in &page {
                views.push(self.bag(tx, row)?);
            }
            if let Some(number) = choose(&self.view, &views) {
                return Ok(Some(number));
            }
        }
    }
}

/// The highest bag that a running build is about to start: its deployment is not made yet. 0: none.
fn starting(tx: &mut Tx<'_>, resource: &ResourceRow) -> Result<i64, StoreError> {
    let running = builds::running_input_versions(tx, resource.pipeline, resource.id)?;
    Ok(running.iter().filter_map(bag_number).max().unwrap_or(0))
}

fn mark(row: &DisabledRow) -> Mark {
    Mark { by: Some(row.by.clone()), at: Some(row.at), until: row.until, reason: row.reason.clone() }
}

/// Writes a bag as a version of `deployment-bag` in an environment, which makes it eligible there.
pub fn bag_arrive(
    tx: &mut Tx<'_>,
    environment: &EnvironmentRow,
    number: i64,
    now: holdall_engine::time::Timestamp,
) -> Result<(), StoreError> {
    if let Some(resource) = resources::resource_of_type(tx, environment.pipeline, "deployment-bag")?
        && let Some(scope) = resource.scope
    {
        versions::version_save_at(tx, scope, &bag_version(number), number, now)?;
        // It may have been a version here before, when the environment came after others.
        jobs::mark_resource(tx, resource.id)?;
    }
    Ok(())
}
