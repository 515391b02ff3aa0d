//! Systems as they are shown.

use std::collections::BTreeMap;

use holdall_config::system::System;
use holdall_protocol::api::{ServiceSummary, SystemDetail, SystemSummary};
use holdall_store::systems::{self, SystemRow};
use holdall_store::{Tx, audit, bags, environments, resources};

use super::{environments as environment_query, resources as resource_query, time};
use crate::error::{Error, from_json};
use crate::release::environments_of;

/// All systems, by name.
pub fn list(tx: &mut Tx<'_>) -> Result<Vec<SystemSummary>, Error> {
    let mut found = Vec::new();
    for row in systems::system_list(tx)? {
        let model: System = from_json(&row.model)?;
        found.push(SystemSummary {
            services: model.services.into_iter().map(|service| service.name).collect(),
            environments: environments::environment_list(tx, row.id)?.into_iter().map(|row| row.name).collect(),
            newest_bag: bags::bag_list(tx, row.id, None, 1)?.first().map(|bag| bag.number),
            set_at: time(row.updated_at),
            set_by: set_by(tx, &row)?,
            system: row.name,
        });
    }
    Ok(found)
}

fn set_by(tx: &mut Tx<'_>, row: &SystemRow) -> Result<String, Error> {
    Ok(audit::audit_newest(tx, "system_set", &row.name)?.map(|entry| entry.who).unwrap_or_default())
}

/// A system, whole.
pub fn detail(tx: &mut Tx<'_>, name: &str) -> Result<SystemDetail, Error> {
    let row = super::system(tx, name)?;
    let model: System = from_json(&row.model)?;
    let chain = environments_of(tx, row.id)?;
    let mut services = Vec::new();
    for service in model.services {
        let mut pins = BTreeMap::new();
        for (environment, _) in chain.iter().filter(|(_, spec)| spec.packs) {
            let resource = resources::resource_find(tx, environment.pipeline, &service.name)?;
            if let Some(pin) = resource.and_then(|resource| resource.pin) {
                pins.insert(environment.name.clone(), resource_query::pin_state(&pin));
            }
        }
        services.push(ServiceSummary {
            service: service.name,
            kind: service.kind,
            repository: service.repository,
            trigger: service.trigger,
            pins,
        });
    }
    Ok(SystemDetail {
        system: row.name.clone(),
        vars: from_json(&row.vars)?,
        set_at: time(row.updated_at),
        set_by: set_by(tx, &row)?,
        services,
        environments: environment_query::list(tx, name)?,
        pending: chain
            .into_iter()
            .filter(|(environment, _)| environment.waiting.is_some())
            .map(|(environment, _)| environment.name)
            .collect(),
        text: row.text,
    })
}
