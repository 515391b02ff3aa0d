//! Steps on the release types: what the server does itself, inside the transaction in which they come up.

use std::collections::BTreeMap;

use holdall_engine::bag::{BAG_SCHEMA_VERSION, Bag, BagService};
use holdall_engine::plan::{LockAction, ReleaseAction, ReleaseStep};
use holdall_engine::status::Outcome;
use holdall_engine::time::Timestamp;
use holdall_engine::version::Version;
use holdall_store::bags::{self, BagRow};
use holdall_store::builds::{self, BuildRow};
use holdall_store::environments::{self, EnvironmentRow, NewDeployment};
use holdall_store::{StoreError, Tx, jobs, locks, pipelines, resources, versions};

use super::EnvironmentSpec;
use super::bags::{bag_arrive, bag_number, bag_version};
use super::deployments::{deployment_version, holder_name};
use super::locks::{note, running_holders};
use crate::error::json_text;

/// What a step on a release type gave.
#[derive(Debug, Clone)]
pub struct Performed {
    /// How it ended.
    pub outcome: Outcome,
    /// What it put.
    pub version: Option<Version>,
    /// What its log says.
    pub message: String,
}

impl Performed {
    fn done(message: impl Into<String>) -> Performed {
        Performed { outcome: Outcome::Succeeded, version: None, message: message.into() }
    }

    fn refused(message: impl Into<String>) -> Performed {
        Performed { outcome: Outcome::Failed, version: None, message: message.into() }
    }
}

/// Does what a step on a release type says.
pub fn perform(tx: &mut Tx<'_>, build: &BuildRow, step: &ReleaseStep, now: Timestamp) -> Result<Performed, StoreError> {
    if let ReleaseAction::Resolve { version, .. } = &step.action {
        return Ok(Performed::done(format!("chosen: {version}")));
    }
    if let ReleaseAction::Lock { environment, action } = &step.action {
        return perform_lock(tx, build, environment, *action);
    }
    let Some(environment) = environments::environment_of_pipeline(tx, build.pipeline)? else {
        return Ok(Performed::refused(
            "this pipeline belongs to no environment of a system: only the pipelines that a system file compiles to \
             pack, start and tag",
        ));
    };
    match &step.action {
        ReleaseAction::Pack { .. } => pack(tx, build, &environment, &step.name, &step.resource, now),
        ReleaseAction::StartDeployment { .. } => {
            start_deployment(tx, build, &environment, &step.name, &step.resource, now)
        }
        ReleaseAction::Tag { .. } => match build.deployment {
            // The tag itself is written when the build has succeeded (release model, section 5, rule 6).
            Some(_) => Ok(Performed::done("the bag is tagged as passed when this job has succeeded")),
            None => Ok(Performed::refused("this build works for no deployment, so there is no bag to tag")),
        },
        ReleaseAction::Lock { .. } | ReleaseAction::Resolve { .. } => Ok(Performed::done("")),
    }
}

fn perform_lock(
    tx: &mut Tx<'_>,
    build: &BuildRow,
    environment: &str,
    action: LockAction,
) -> Result<Performed, StoreError> {
    let lock = locks::lock_find(tx, environment)?;
    let running = match lock {
        Some(lock) => running_holders(tx, lock)?.into_iter().next(),
        None => None,
    };
    let held = match lock {
        Some(lock) => locks::holding_list(tx, lock)?.into_iter().find(|holding| {
            holding.build == Some(build.id) || (holding.deployment.is_some() && holding.deployment == build.deployment)
        }),
        None => None,
    };
    Ok(match (action, held) {
        (LockAction::Acquire | LockAction::Require | LockAction::During { .. }, Some(holding)) => {
            Performed::done(format!("{} holds the lock of {environment}, fence {}", holding.name, holding.fence))
        }
        (LockAction::Acquire | LockAction::Require | LockAction::During { .. }, None) => Performed::refused(format!(
            "the lock of {environment} is not held by this build or its deployment any more"
        )),
        (LockAction::Release, Some(_)) => {
            Performed::done(format!("the lock of {environment} is given back when this job has succeeded"))
        }
        (LockAction::Release, None) => {
            Performed::refused(format!("the lock of {environment} is not held by this build's deployment"))
        }
        (LockAction::ForceRelease, _) => match running {
            Some(running) => Performed::refused(format!(
                "{} {} runs under the lock of {environment}: abort it first",
                running.job_name, running.name
            )),
            None => Performed::done(format!("the lock of {environment} is given back when this job has succeeded")),
        },
    })
}

/// Packs the build's inputs into a bag (release model, section 3).
fn pack(
    tx: &mut Tx<'_>,
    build: &BuildRow,
    environment: &EnvironmentRow,
    step: &str,
    resource: &str,
    now: Timestamp,
) -> Result<Performed, StoreError> {
    let mut chosen = BTreeMap::new();
    for input in builds::build_inputs(tx, build.id)? {
        chosen.insert(input.name, input.version);
    }
    let by = match (&build.created_by, build.manual) {
        (Some(name), true) => name.clone(),
        _ => format!("{}/{}/{} #{}", build.team, build.pipeline_name, build.job_name, build.name),
    };
    let packed = pack_bag(tx, environment, &chosen, &by, Some(build), build.manual, now)?;
    let Some(number) = packed.number else {
        return Ok(Performed::done(packed.message));
    };
    let version = bag_version(number);
    if let Some(put) = resources::resource_find(tx, build.pipeline, resource)? {
        builds::build_output_add(tx, build.id, step, put.id, &version)?;
    }
    Ok(Performed { outcome: Outcome::Succeeded, version: Some(version), message: packed.message })
}

/// What packing gave.
#[derive(Debug, Clone)]
pub struct Packed {
    /// The new bag's number; `None`: its contents would have been those of the newest.
    pub number: Option<i64>,
    /// A sentence.
    pub message: String,
}

/// Makes a bag of the chosen versions in a packing environment, and makes it eligible there. `always`: also where
/// its contents equal those of the newest bag packed there.
pub fn pack_bag(
    tx: &mut Tx<'_>,
    environment: &EnvironmentRow,
    chosen: &BTreeMap<String, Version>,
    by: &str,
    build: Option<&BuildRow>,
    always: bool,
    now: Timestamp,
) -> Result<Packed, StoreError> {
    let spec = EnvironmentSpec::of(environment)?;
    let config = pipelines::pipeline_config(tx, environment.pipeline)?;
    let mut services = BTreeMap::new();
    let mut pins = BTreeMap::new();
    let mut unticks: BTreeMap<String, Vec<Version>> = BTreeMap::new();
    for (name, version) in chosen {
        let Some(resource) = config.resource(name) else { continue };
        let mut metadata = Vec::new();
        if let Some(row) = resources::resource_find(tx, environment.pipeline, name)? {
            if let Some(scope) = row.scope {
                if let Some(known) = versions::version_get(tx, scope, &version.digest())? {
                    metadata = known.metadata;
                }
                let unticked: Vec<_> = versions::disabled_list(tx, row.id)?.into_iter().map(|row| row.digest).collect();
                let gone: Vec<Version> =
                    versions::version_get_many(tx, scope, &unticked)?.into_iter().map(|row| row.version).collect();
                if !gone.is_empty() {
                    unticks.insert(name.clone(), gone);
                }
            }
            if let Some(pin) = row.pin {
                pins.insert(name.clone(), pin.version);
            }
        }
        let repository = spec.repositories.get(name).cloned();
        services.insert(
            name.clone(),
            BagService::new(&resource.kind, &resource.source, version.clone(), repository, metadata),
        );
    }
    let previous = bags::bag_newest_in(tx, environment.id)?;
    let mut bag = Bag {
        schema_version: BAG_SCHEMA_VERSION,
        system: environment.system_name.clone(),
        number: 0,
        packed_at: now,
        packed_by: by.to_owned(),
        packed_in: environment.name.clone(),
        services,
        pins,
        unticks,
        previous: previous.as_ref().map(|row| row.number),
        contents_digest: String::new(),
        digest: String::new(),
    }
    .seal();
    let same = previous.as_ref().filter(|row| row.contents_digest == bag.contents_digest).map(|row| row.number);
    if let Some(number) = same.filter(|_| !always) {
        return Ok(Packed { number: None, message: format!("nothing to pack: same contents as bag {number}") });
    }
    bag.number = bags::bag_next_number(tx, environment.system)?;
    let bag = bag.seal();
    bags::bag_create(
        tx,
        &BagRow {
            id: 0,
            system: environment.system,
            number: bag.number,
            environment: environment.id,
            packed_at: now,
            packed_by: by.to_owned(),
            build: build.map(|build| build.id),
            contents_digest: bag.contents_digest.clone(),
            digest: bag.digest.clone(),
            body: json_text(&bag)?,
        },
    )?;
    bag_arrive(tx, environment, bag.number, now)?;
    let message = match same {
        Some(number) => format!("packed bag {}: same contents as bag {number}", bag.number),
        None => format!("packed bag {} of {} services", bag.number, bag.services.len()),
    };
    Ok(Packed { number: Some(bag.number), message })
}

/// Makes the deployment that the build was started for, and hands the lock over to it.
fn start_deployment(
    tx: &mut Tx<'_>,
    build: &BuildRow,
    environment: &EnvironmentRow,
    step: &str,
    resource: &str,
    now: Timestamp,
) -> Result<Performed, StoreError> {
    let bag_resource = resources::resource_of_type(tx, build.pipeline, "deployment-bag")?;
    let number = builds::build_inputs(tx, build.id)?
        .into_iter()
        .find(|input| bag_resource.as_ref().is_some_and(|resource| resource.id == input.resource))
        .and_then(|input| bag_number(&input.version));
    let Some(number) = number else {
        return Ok(Performed::refused("this build got no deployment-bag, so there is nothing to deploy"));
    };
    let Some(bag) = bags::bag_find(tx, environment.system, number)? else {
        return Ok(Performed::refused(format!("there is no bag {number}")));
    };
    let holds = locks::holding_list(tx, environment.lock)?.iter().any(|holding| holding.build == Some(build.id));
    if !holds {
        return Ok(Performed::refused(format!("the lock of {} was taken away from this build", environment.name)));
    }
    let current = environments::deployment_current(tx, environment.id)?.map(|deployment| deployment.bag);
    let direction = match current {
        Some(current) if current == number => "same",
        Some(current) if current > number => "rollback",
        _ => "forward",
    };
    let by = build.created_by.clone().filter(|_| build.manual).unwrap_or_else(|| "holdall".to_owned());
    let new = NewDeployment {
        environment: environment.id,
        bag_id: bag.id,
        build: build.id,
        direction,
        previous_bag: current,
        by: by.clone(),
        reason: build.reason.clone(),
    };
    let (id, deployment) = environments::deployment_create(tx, &new, now)?;
    builds::build_set_deployment(tx, build.id, id)?;
    let name = holder_name(deployment, number);
    locks::holding_set_deployment(tx, build.id, id, &name)?;
    if environment.held.is_some() {
        // A person has started the deployment that it waited for: until there is one, it waits.
        environments::environment_hold(tx, environment.id, None)?;
        jobs::mark_pipeline(tx, environment.pipeline)?;
    }
    note(tx, &by, "lock_handed_to_deployment", &environment.name, build.reason.as_deref(), None, Some(&name), now)?;
    let version = deployment_version(deployment, number);
    if let Some(put) = resources::resource_find(tx, build.pipeline, resource)? {
        if let Some(scope) = put.scope {
            versions::version_save_at(tx, scope, &version, deployment, now)?;
        }
        builds::build_output_add(tx, build.id, step, put.id, &version)?;
    }
    Ok(Performed {
        outcome: Outcome::Succeeded,
        version: Some(version),
        message: format!("deployment {deployment} of bag {number} to {} begins ({direction})", environment.name),
    })
}
