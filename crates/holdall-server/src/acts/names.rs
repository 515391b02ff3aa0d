//! From names in a request to rows, with a clear refusal where there is no such thing.

use holdall_engine::version::Version;
use holdall_protocol::api::{Act, BuildRef, BuildStatus, PinTarget, TickTarget};
use holdall_store::builds::BuildRow;
use holdall_store::environments::{self, EnvironmentRow};
use holdall_store::pipelines;
use holdall_store::resources::{self, ResourceRow};
use holdall_store::systems;
use holdall_store::versions::{self, VersionRow};
use holdall_store::{StoreError, Tx};

use crate::error::Error;
pub(super) use crate::query::{environment, job, pipeline, system};
use crate::release::{EnvironmentSpec, environments_of};

pub(super) fn resource(tx: &mut Tx<'_>, team: &str, pipeline_name: &str, name: &str) -> Result<ResourceRow, Error> {
    let row = pipeline(tx, team, pipeline_name)?;
    resources::resource_find(tx, row.id, name)?
        .ok_or_else(|| Error::not_found(format!("resource {team}/{pipeline_name}/{name}")))
}

/// The resources of a service where bags are packed: of one packing environment, or of all of them.
pub(super) fn service(
    tx: &mut Tx<'_>,
    system_name: &str,
    name: &str,
    environment_name: Option<&str>,
) -> Result<Vec<(EnvironmentRow, ResourceRow)>, Error> {
    let row = system(tx, system_name)?;
    let (mut found, mut known) = (Vec::new(), Vec::new());
    for environment in environments::environment_list(tx, row.id)? {
        let spec = EnvironmentSpec::of(&environment)?;
        if environment_name.is_some_and(|wanted| wanted != environment.name) {
            continue;
        }
        if !spec.packs {
            if environment_name.is_some() {
                return Err(Error::invalid(format!(
                    "{} packs no bags: pins and ticks of services are where bags are packed",
                    environment.name
                )));
            }
            continue;
        }
        match resources::resource_find(tx, environment.pipeline, name)? {
            Some(resource) => found.push((environment, resource)),
            None => known.extend(services(tx, &environment)?),
        }
    }
    if found.is_empty() {
        return Err(Error::unknown(format!("service {name} in system {system_name}"), name, &known));
    }
    Ok(found)
}

/// The names of the services that an environment packs.
fn services(tx: &mut Tx<'_>, packing: &EnvironmentRow) -> Result<Vec<String>, StoreError> {
    let all = resources::resource_list(tx, packing.pipeline)?;
    Ok(all.into_iter().filter(|row| !pipelines::is_release_type(&row.kind)).map(|row| row.name).collect())
}

/// The one version of a resource that a text means: `KEY:VALUE`, several of them separated by commas, or the
/// beginning (4 characters or more) of a value.
pub fn version_by_text(tx: &mut Tx<'_>, resource: &ResourceRow, text: &str) -> Result<VersionRow, Error> {
    let name = &resource.name;
    let scope = resource.scope.ok_or_else(|| Error::not_found(format!("version of {name}")))?;
    let pairs: Option<Vec<(&str, &str)>> = text.split(',').map(|part| part.trim().split_once(':')).collect();
    // Named whole, it is meant, however many others begin as it does.
    if let Some(pairs) = &pairs {
        let whole = Version(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect());
        if let Some(row) = versions::version_get(tx, scope, &whole.digest())? {
            return Ok(row);
        }
    }
    let values: Vec<&str> = match &pairs {
        Some(pairs) => pairs.iter().map(|(_, value)| *value).collect(),
        None => vec![text],
    };
    if text.len() < 4 && pairs.is_none() {
        return Err(Error::invalid(format!("{text:?} is too short: 4 characters of a version, or KEY:VALUE")));
    }
    let mut found: Vec<VersionRow> = versions::version_search(tx, scope, &values, 50)?
        .into_iter()
        .filter(|row| match &pairs {
            Some(pairs) => {
                pairs.iter().all(|(key, value)| row.version.0.get(*key).is_some_and(|known| known.starts_with(value)))
            }
            None => row.version.0.values().any(|value| value.starts_with(text)),
        })
        .collect();
    if let Some(pairs) = &pairs {
        let exact: Vec<VersionRow> = found
            .iter()
            .filter(|row| pairs.iter().all(|(key, value)| row.version.0.get(*key).is_some_and(|known| known == value)))
            .cloned()
            .collect();
        if !exact.is_empty() {
            found = exact;
        }
    }
    match found.len() {
        0 => Err(Error::not_found(format!("version {text} of {name} (see `holdall resource versions`)"))),
        1 => Ok(found.remove(0)),
        _ => {
            let shown: Vec<String> = found.iter().take(5).map(|row| row.version.to_string()).collect();
            Err(Error::invalid(format!("{text} fits several versions of {name}: {}", shown.join("; "))))
        }
    }
}

/// The text by which [`version_by_text`] finds a version, as an argument of a command.
pub fn version_argument(version: &Version) -> String {
    let pairs: Vec<String> = version.0.iter().map(|(key, value)| format!("{key}:{value}")).collect();
    let text = pairs.join(",");
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_-./:,@+=%".contains(letter);
    match text.chars().all(is_plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// How the API names a build.
pub(crate) fn build_ref(row: &BuildRow) -> BuildRef {
    BuildRef {
        id: row.id.0,
        name: row.name.clone(),
        team: row.team.clone(),
        pipeline: row.pipeline_name.clone(),
        job: row.job_name.clone(),
        status: BuildStatus::from_name(row.status.as_str()).unwrap_or(BuildStatus::Pending),
    }
}

/// A system that lets a pipeline which is none of its own take a lock: what is done there moves the system too.
fn system_that_lets(tx: &mut Tx<'_>, pipeline: &str) -> Result<Option<String>, StoreError> {
    for system in systems::system_list(tx)? {
        let lets = environments_of(tx, system.id)?.iter().any(|(_, spec)| spec.allow.iter().any(|one| one == pipeline));
        if lets {
            return Ok(Some(system.name));
        }
    }
    Ok(None)
}

/// The system that an act is about, if it is about one.
pub(super) fn system_of(tx: &mut Tx<'_>, act: &Act) -> Result<Option<String>, StoreError> {
    let of_pipeline = |tx: &mut Tx<'_>, team: &str, name: &str| -> Result<Option<String>, StoreError> {
        match pipelines::pipeline_find(tx, team, name)? {
            Some(row) => match environments::environment_of_pipeline(tx, row.id)? {
                Some(environment) => Ok(Some(environment.system_name)),
                None => system_that_lets(tx, &format!("{team}/{name}")),
            },
            None => Ok(None),
        }
    };
    match act {
        Act::Pin { target, .. } | Act::Unpin { target } => match target {
            PinTarget::Service { system, .. } => Ok(Some(system.clone())),
            PinTarget::Resource { team, pipeline, .. } => of_pipeline(tx, team, pipeline),
        },
        Act::Disable { target, .. } | Act::Enable { target } => match target {
            TickTarget::Service { system, .. } | TickTarget::Bag { system, .. } => Ok(Some(system.clone())),
            TickTarget::Resource { team, pipeline, .. } => of_pipeline(tx, team, pipeline),
        },
        Act::Assemble { system, .. }
        | Act::Deploy { system, .. }
        | Act::RollBack { system, .. }
        | Act::ClearSuspect { system, .. }
        | Act::EnvironmentConfirm { system, .. }
        | Act::Freeze { system, .. }
        | Act::Unfreeze { system, .. } => Ok(Some(system.clone())),
        Act::LockRelease { environment } | Act::ForceUnlock { environment, .. } => {
            for row in systems::system_list(tx)? {
                if environments::environment_find(tx, row.id, environment)?.is_some() {
                    return Ok(Some(row.name));
                }
            }
            Ok(None)
        }
        Act::JobTrigger { team, pipeline, .. }
        | Act::JobPause { team, pipeline, .. }
        | Act::JobUnpause { team, pipeline, .. }
        | Act::PipelinePause { team, pipeline }
        | Act::PipelineUnpause { team, pipeline }
        | Act::PipelineDestroy { team, pipeline }
        | Act::PipelineSet { team, pipeline, .. } => of_pipeline(tx, team, pipeline),
        Act::BuildAbort { build, .. } | Act::BuildRerun { build } => {
            match holdall_store::builds::build_get(tx, holdall_engine::ids::BuildId(*build))? {
                Some(row) => of_pipeline(tx, &row.team, &row.pipeline_name),
                None => Ok(None),
            }
        }
        // Its name is in the file; what it changes is said by its own sentences and differences.
        Act::SystemSet { .. } | Act::SystemDestroy { .. } => Ok(None),
    }
}
