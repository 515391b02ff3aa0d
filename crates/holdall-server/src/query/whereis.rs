//! Where a commit is: which bags hold it, where it is live, and what it waits for.

use std::cmp::Reverse;

use holdall_engine::bag::Bag;
use holdall_engine::version::Version;
use holdall_protocol::api::{Hold, Where, WhereEnvironment, WhereMatch};
use holdall_store::bags;
use holdall_store::environments::{self, EnvironmentRow};
use holdall_store::resources::{self, ResourceRow};
use holdall_store::versions::{self, VersionRow};
use holdall_store::{Tx, jobs};

use super::{time, why};
use crate::acts::version_argument;
use crate::changes::commit_of;
use crate::error::Error;
use crate::release::bags::bag_of;
use crate::release::{EnvironmentSpec, environments_of, packed_in};

/// How many versions a text may fit before it is too short.
const MOST_MATCHES: i64 = 20;

/// How many bags are listed.
const SHOWN_BAGS: usize = 50;

/// How many bags are looked through.
const SEARCHED_BAGS: i64 = 1000;

/// Finds a commit, or the beginning of one, among the versions of a system's services.
pub fn find(tx: &mut Tx<'_>, system_name: &str, text: &str) -> Result<Where, Error> {
    if text.len() < 4 {
        return Err(Error::invalid(format!("{text:?} is too short: give 4 characters of the commit or more")));
    }
    let system = super::system(tx, system_name)?;
    let chain = environments_of(tx, system.id)?;
    let mut matches = Vec::new();
    for (packing, spec) in chain.iter().filter(|(_, spec)| spec.packs) {
        let mut bags: Option<Vec<(i64, Bag)>> = None;
        for service in &spec.services {
            let Some(resource) = resources::resource_find(tx, packing.pipeline, service)? else { continue };
            let Some(scope) = resource.scope else { continue };
            for version in versions::version_search_commit(tx, scope, text, MOST_MATCHES)? {
                if bags.is_none() {
                    bags = Some(searched(tx, &chain, packing)?);
                }
                let found = bags.as_deref().unwrap_or_default();
                matches.push(one(tx, &chain, packing, service, &resource, &version, found)?);
            }
        }
    }
    // Environments that pack from the same source would say everything twice.
    let mut unique: Vec<WhereMatch> = Vec::new();
    for found in matches {
        match unique.iter_mut().find(|known| known.service == found.service && known.version == found.version) {
            Some(known) => {
                known.environments.extend(found.environments);
                known.bags.extend(found.bags);
                known.first_bag = [known.first_bag, found.first_bag].into_iter().flatten().min();
            }
            None => unique.push(found),
        }
    }
    Ok(Where { system: system_name.to_owned(), commit: text.to_owned(), matches: unique })
}

/// The bags that are looked through, newest first: the newest of an environment, and those that are live behind it.
fn searched(
    tx: &mut Tx<'_>,
    chain: &[(EnvironmentRow, EnvironmentSpec)],
    packing: &EnvironmentRow,
) -> Result<Vec<(i64, Bag)>, Error> {
    let mut rows = bags::bag_list_between(tx, packing.id, &[], 0, None, SEARCHED_BAGS)?;
    for (row, _) in chain {
        let Some(current) = environments::deployment_current(tx, row.id)? else { continue };
        if rows.iter().all(|known| known.number != current.bag) {
            rows.extend(bags::bag_find(tx, row.system, current.bag)?.filter(|bag| bag.environment == packing.id));
        }
    }
    rows.sort_by_key(|row| Reverse(row.number));
    rows.iter().map(|row| Ok((row.number, bag_of(row)?))).collect()
}

fn one(
    tx: &mut Tx<'_>,
    chain: &[(EnvironmentRow, EnvironmentSpec)],
    packing: &EnvironmentRow,
    service: &str,
    resource: &ResourceRow,
    version: &VersionRow,
    bags: &[(i64, Bag)],
) -> Result<WhereMatch, Error> {
    let mut holding = Vec::new();
    for (number, bag) in bags {
        let Some(held) = bag.services.get(service) else { continue };
        if holds(tx, resource, &held.version, version)? {
            holding.push(*number);
        }
    }
    let first = holding.last().copied();
    let mut environments_shown = Vec::new();
    for (row, _) in chain {
        if packed_in(chain, &row.name).as_ref() != Some(&packing.name) {
            continue;
        }
        let current = environments::deployment_current(tx, row.id)?;
        let live = current.as_ref().is_some_and(|current| holding.contains(&current.bag));
        let bag = if live { current.as_ref().map(|current| current.bag) } else { holding.first().copied() };
        let since = match (live, first) {
            (true, Some(_)) => environments::deployment_list_deployed(tx, row.id, 1000)?
                .into_iter()
                .take_while(|deployment| holding.contains(&deployment.bag))
                .last()
                .and_then(|deployment| deployment.deployed_at)
                .map(time),
            _ => None,
        };
        environments_shown.push(WhereEnvironment {
            environment: row.name.clone(),
            live,
            bag,
            since,
            holds: match bag.filter(|_| !live) {
                Some(bag) => why::bag_in(tx, row, bag)?,
                None => Vec::new(),
            },
        });
    }
    Ok(WhereMatch {
        service: service.to_owned(),
        version: version.version.0.clone(),
        commit: commit_of(version),
        not_packed: if holding.is_empty() { not_packed(tx, packing, resource, version)? } else { Vec::new() },
        bags: holding.into_iter().take(SHOWN_BAGS).collect(),
        first_bag: first,
        environments: environments_shown,
    })
}

/// Whether a bag's version of a service is the wanted one or a newer one.
fn holds(tx: &mut Tx<'_>, resource: &ResourceRow, held: &Version, wanted: &VersionRow) -> Result<bool, Error> {
    if *held == wanted.version {
        return Ok(true);
    }
    let Some(scope) = resource.scope else { return Ok(false) };
    Ok(versions::version_get(tx, scope, &held.digest())?.is_some_and(|held| held.order > wanted.order))
}

/// Why no bag holds a version.
fn not_packed(
    tx: &mut Tx<'_>,
    packing: &EnvironmentRow,
    resource: &ResourceRow,
    version: &VersionRow,
) -> Result<Vec<Hold>, Error> {
    let mut found = vec![Hold {
        code: "not-packed".to_owned(),
        sentence: format!("no bag of {} holds it yet", packing.name),
        since: Some(time(version.created_at)),
        by: None,
        until: None,
        command: Some(format!("holdall job trigger {}/deploy-{}/pack-bag", packing.name, packing.system_name)),
    }];
    if let Some(pin) = &resource.pin
        && !version.version.matches(&pin.version)
    {
        found.push(Hold {
            code: "version-pinned".to_owned(),
            sentence: format!("{} is pinned at {} in {}", resource.name, pin.version, packing.name),
            since: pin.at.map(time),
            by: pin.by.clone(),
            until: pin.until.map(time),
            command: Some(format!("holdall unpin {}", resource.name)),
        });
    }
    for row in versions::disabled_list(tx, resource.id)? {
        if row.digest == version.digest {
            found.push(Hold {
                code: "version-disabled".to_owned(),
                sentence: format!("{} at {} is unticked in {}", resource.name, version.version, packing.name),
                since: Some(time(row.at)),
                by: Some(row.by),
                until: row.until.map(time),
                command: Some(format!("holdall enable {} {}", resource.name, version_argument(&version.version))),
            });
        }
    }
    if let Some(job) = jobs::job_find(tx, packing.pipeline, "pack-bag")? {
        found.extend(why::job(tx, job.id)?);
    }
    Ok(found)
}
