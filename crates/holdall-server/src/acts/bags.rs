//! Pins and ticks of services, resources and bags, and bags made by hand.

use std::collections::BTreeMap;

use holdall_engine::time::Timestamp;
use holdall_engine::version::Version;
use holdall_protocol::api::{PinTarget, TickTarget};
use holdall_store::environments;
use holdall_store::resources::{self, Pin, ResourceRow};
use holdall_store::versions::{self, DisabledRow, VersionRow};
use holdall_store::{Tx, bags, pipelines};

use super::Outcome;
use super::deploy::mark_chain;
use super::names;
use crate::error::Error;
use crate::release::bags::{bag_number, bag_of, bag_version};
use crate::release::steps::pack_bag;
use crate::release::{EnvironmentSpec, environments_of, packed_in};

/// What a pin is on, found: the resources, with what the audit log calls them.
fn pinned(tx: &mut Tx<'_>, target: &PinTarget) -> Result<Vec<(String, ResourceRow)>, Error> {
    match target {
        PinTarget::Service { system, service, environment } => {
            Ok(names::service(tx, system, service, environment.as_deref())?
                .into_iter()
                .map(|(environment, row)| (format!("{system}/{}/{service}", environment.name), row))
                .collect())
        }
        PinTarget::Resource { team, pipeline, resource } => {
            let row = names::resource(tx, team, pipeline, resource)?;
            Ok(vec![(format!("{team}/{pipeline}/{resource}"), row)])
        }
    }
}

pub(super) fn pin(
    tx: &mut Tx<'_>,
    who: &str,
    target: &PinTarget,
    version: &str,
    until: Option<Timestamp>,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<Outcome, Error> {
    let mut outcome = Outcome::default();
    for (name, row) in pinned(tx, target)? {
        must_be_changeable(&name, &row)?;
        let known = names::version_by_text(tx, &row, version)?;
        let pin = Pin {
            version: known.version.clone(),
            in_config: false,
            by: Some(who.to_owned()),
            at: Some(now),
            until,
            reason: reason.map(str::to_owned),
        };
        resources::pin(tx, row.id, &pin)?;
        outcome.sentences.push(format!("{name} is pinned at {}", known.version));
        outcome.before = row.pin.map(|pin| pin.version.to_string());
        outcome.after = Some(known.version.to_string());
        outcome.target = name;
    }
    Ok(outcome)
}

fn must_be_changeable(name: &str, row: &ResourceRow) -> Result<(), Error> {
    if row.pin.as_ref().is_some_and(|pin| pin.in_config) {
        return Err(Error::refused(
            format!("{name} is pinned in its pipeline's configuration; only that can change it"),
            "holdall pipeline set",
        ));
    }
    Ok(())
}

pub(super) fn unpin(tx: &mut Tx<'_>, target: &PinTarget) -> Result<Outcome, Error> {
    let mut outcome = Outcome::default();
    for (name, row) in pinned(tx, target)? {
        must_be_changeable(&name, &row)?;
        match &row.pin {
            Some(pin) => {
                resources::unpin(tx, row.id)?;
                outcome.sentences.push(format!("{name} is not pinned at {} any more", pin.version));
                outcome.before = Some(pin.version.to_string());
            }
            None => outcome.sentences.push(format!("{name} is not pinned")),
        }
        outcome.target = name;
    }
    Ok(outcome)
}

/// What a tick is on, found: resource and version.
/// A version that a person ticks or unticks.
struct Ticked {
    /// What the audit log calls it.
    target: String,
    /// What sentences call it.
    words: String,
    resource: ResourceRow,
    version: Version,
}

fn ticked(tx: &mut Tx<'_>, target: &TickTarget) -> Result<Vec<Ticked>, Error> {
    let of_resource = |target: String, resource: ResourceRow, version: Version| {
        let words = format!("{version} of {target}");
        Ticked { target, words, resource, version }
    };
    match target {
        TickTarget::Service { system, service, environment, version } => {
            let mut found = Vec::new();
            for (environment, row) in names::service(tx, system, service, environment.as_deref())? {
                let known = names::version_by_text(tx, &row, version)?;
                found.push(of_resource(format!("{system}/{}/{service}", environment.name), row, known.version));
            }
            Ok(found)
        }
        TickTarget::Resource { team, pipeline, resource, version } => {
            let row = names::resource(tx, team, pipeline, resource)?;
            let known = names::version_by_text(tx, &row, version)?;
            Ok(vec![of_resource(format!("{team}/{pipeline}/{resource}"), row, known.version)])
        }
        TickTarget::Bag { system, bag, environment } => {
            let system_row = names::system(tx, system)?;
            let bag_row = bags::bag_find(tx, system_row.id, *bag)?
                .ok_or_else(|| Error::not_found(format!("bag {bag} of {system}")))?;
            let chain = environments_of(tx, system_row.id)?;
            let packing = environments::environment_get(tx, bag_row.environment)?.name;
            let mut found = Vec::new();
            for (row, _) in &chain {
                let wanted = match environment {
                    Some(name) => *name == row.name,
                    None => packed_in(&chain, &row.name).as_ref() == Some(&packing),
                };
                if !wanted {
                    continue;
                }
                if let Some(resource) = resources::resource_of_type(tx, row.pipeline, "deployment-bag")? {
                    found.push(Ticked {
                        target: format!("{system}/{}/bag {bag}", row.name),
                        words: format!("bag {bag} in {}", row.name),
                        resource,
                        version: bag_version(*bag),
                    });
                }
            }
            if found.is_empty() {
                let name = environment.as_deref().unwrap_or("any");
                return Err(Error::not_found(format!("environment {name} where bag {bag} of {system} could be")));
            }
            Ok(found)
        }
    }
}

pub(super) fn disable(
    tx: &mut Tx<'_>,
    who: &str,
    target: &TickTarget,
    and_bags: bool,
    until: Option<Timestamp>,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<Outcome, Error> {
    let mut outcome = Outcome::default();
    let row_of = |version: &Version| DisabledRow {
        digest: version.digest(),
        by: who.to_owned(),
        at: now,
        until,
        reason: reason.map(str::to_owned),
        withdraws: false,
    };
    for ticked in ticked(tx, target)? {
        let digest = ticked.version.digest();
        if versions::disabled_list(tx, ticked.resource.id)?.iter().any(|row| row.withdraws && row.digest == digest) {
            // That holds it back after this environment too, which an untick would not.
            outcome.sentences.push(format!("{} is unticked already: a roll back threw it out", ticked.words));
            outcome.target = ticked.target;
            continue;
        }
        versions::disable(tx, ticked.resource.id, &row_of(&ticked.version))?;
        outcome.sentences.push(format!("{} is unticked", ticked.words));
        outcome.after = Some(format!("unticked {}", ticked.version));
        outcome.target = ticked.target;
    }
    if let TickTarget::Service { system, service, environment, version } = target {
        for holding in bags_under_way(tx, system, service, environment.as_deref(), version)? {
            if and_bags {
                versions::disable(tx, holding.resource.id, &row_of(&bag_version(holding.bag)))?;
                outcome.sentences.push(format!("bag {} is unticked in {} too", holding.bag, holding.environment));
            } else {
                outcome.sentences.push(format!(
                    "bag {} is under way to {} and holds it; --and-bags unticks it too",
                    holding.bag, holding.environment
                ));
            }
        }
    }
    Ok(outcome)
}

/// A bag that may still start somewhere.
struct UnderWay {
    bag: i64,
    environment: String,
    resource: ResourceRow,
}

/// The bags that hold a service's version and may still start by themselves somewhere.
fn bags_under_way(
    tx: &mut Tx<'_>,
    system: &str,
    service: &str,
    environment: Option<&str>,
    version: &str,
) -> Result<Vec<UnderWay>, Error> {
    let system_row = names::system(tx, system)?;
    let mut wanted: Vec<VersionRow> = Vec::new();
    for (_, row) in names::service(tx, system, service, environment)? {
        wanted.push(names::version_by_text(tx, &row, version)?);
    }
    let mut found = Vec::new();
    for (row, _) in environments_of(tx, system_row.id)? {
        let judge = crate::release::bags::Judge::read(tx, row)?;
        for (bag, _) in judge.candidates(tx)? {
            let holds = bag_of(&bag)?
                .services
                .get(service)
                .is_some_and(|held| wanted.iter().any(|wanted| wanted.version == held.version));
            if holds {
                found.push(UnderWay {
                    bag: bag.number,
                    environment: judge.environment.name.clone(),
                    resource: judge.resource.clone(),
                });
            }
        }
    }
    Ok(found)
}

pub(super) fn enable(tx: &mut Tx<'_>, target: &TickTarget) -> Result<Outcome, Error> {
    let mut outcome = Outcome::default();
    for ticked in ticked(tx, target)? {
        let was = versions::enable(tx, ticked.resource.id, &ticked.version.digest())?;
        // A bag that a roll back threw out here was held back in the environments after this one too.
        if let (true, Some(environment)) = (was, environments::environment_of_pipeline(tx, ticked.resource.pipeline)?) {
            mark_chain(tx, &environment)?;
        }
        outcome.sentences.push(match was {
            true => format!("{} is ticked again", ticked.words),
            false => format!("{} was not unticked", ticked.words),
        });
        outcome.before = was.then(|| format!("unticked {}", ticked.version));
        outcome.target = ticked.target;
    }
    Ok(outcome)
}

/// Makes a bag by hand: like another one, but for the services that are named.
pub(super) fn assemble(
    tx: &mut Tx<'_>,
    who: &str,
    system: &str,
    environment: Option<&str>,
    like: i64,
    with: &BTreeMap<String, String>,
    now: Timestamp,
) -> Result<Outcome, Error> {
    let system_row = names::system(tx, system)?;
    let like_row =
        bags::bag_find(tx, system_row.id, like)?.ok_or_else(|| Error::not_found(format!("bag {like} of {system}")))?;
    let place = match environment {
        Some(name) => names::environment(tx, system, name)?,
        None => environments::environment_get(tx, like_row.environment)?,
    };
    if !EnvironmentSpec::of(&place)?.packs {
        return Err(Error::invalid(format!("{} packs no bags; name one that does", place.name)));
    }
    let config = pipelines::pipeline_config(tx, place.pipeline)?;
    let mut chosen: BTreeMap<String, Version> = BTreeMap::new();
    for (name, service) in bag_of(&like_row)?.services {
        if config.resource(&name).is_some() {
            chosen.insert(name, service.version);
        }
    }
    for (name, text) in with {
        let row = resources::resource_find(tx, place.pipeline, name)?
            .ok_or_else(|| Error::not_found(format!("service {name} in {}", place.name)))?;
        chosen.insert(name.clone(), names::version_by_text(tx, &row, text)?.version);
    }
    let packed = pack_bag(tx, &place, &chosen, who, None, true, now)?;
    let mut outcome = Outcome { target: format!("{system}/{}", place.name), ..Outcome::default() };
    outcome.made.bag = packed.number;
    outcome.sentences.push(packed.message);
    outcome.after = packed.number.map(|number| format!("bag {number} like bag {like}"));
    for (name, version) in &chosen {
        let Some(row) = resources::resource_find(tx, place.pipeline, name)? else { continue };
        let Some(scope) = row.scope else { continue };
        if let Some(newest) = versions::version_newest(tx, scope)?
            && newest.version != *version
            && row.pin.is_none()
        {
            outcome.sentences.push(format!(
                "the next automatic pack brings {name} back to {} unless it is pinned or unticked",
                newest.version
            ));
        }
    }
    Ok(outcome)
}

/// The number of the bag that an environment is frozen at.
pub(super) fn frozen_at(row: &ResourceRow) -> Option<i64> {
    row.pin.as_ref().and_then(|pin| bag_number(&pin.version))
}
