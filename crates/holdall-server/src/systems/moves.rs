//! Environments that get another name or another team: everything that they have moves with them, above all what holds
//! bags back (release model, section 2). Nothing is made anew here, so nothing that was held before starts.

use holdall_config::system::CompiledEnvironment;
use holdall_engine::ids::{PipelineId, SystemId};
use holdall_engine::plan::ReleaseType;
use holdall_engine::time::Timestamp;
use holdall_store::audit::{AuditRow, audit_add};
use holdall_store::environments::{self, EnvironmentRow};
use holdall_store::pipelines::{self as pipeline_rows, PipelineMove, PipelineRow};
use holdall_store::{StoreError, Tx, access, builds, locks, resources, workers};

use super::{SystemChange, must_be_free};
use crate::error::{Error, json_text};
use crate::release::EnvironmentSpec;
use crate::release::deployments::deployment_open;

/// How the audit log calls it that an environment has another name: `SYSTEM/OLD` is before, `SYSTEM/NEW` the target.
pub(crate) const RENAMED: &str = "environment_renamed";
/// How the audit log calls it that a pipeline is elsewhere: `TEAM/PIPELINE` is before, and the target.
pub(crate) const MOVED: &str = "pipeline_moved";

/// Gives the environments with an `old_name` their new names.
pub(super) fn rename(
    tx: &mut Tx<'_>,
    system: SystemId,
    compiled: &[CompiledEnvironment],
    now: Timestamp,
) -> Result<(), Error> {
    for environment in compiled {
        let name = &environment.environment;
        let Some(old) = environment.old_name.as_ref().filter(|old| *old != name) else { continue };
        if let Some(row) = environments::environment_find(tx, system, old)?
            && environments::environment_find(tx, system, name)?.is_none()
        {
            must_be_free(tx, &row, "renamed")?;
            rename_lock(tx, &row, name)?;
            rename_scopes(tx, &row, environment)?;
            environments::environment_rename(tx, row.id, name)?;
            rename_after(tx, system, old, name)?;
            let target = format!("{}/{name}", row.system_name);
            note(tx, RENAMED, &target, &format!("{}/{old}", row.system_name), now)?;
        }
    }
    Ok(())
}

/// The lock is called as the environment is. It stays where another system has an environment of the old name, and is
/// shared where one has an environment of the new one.
fn rename_lock(tx: &mut Tx<'_>, row: &EnvironmentRow, name: &str) -> Result<(), StoreError> {
    let is_shared = environments::environment_list_of_lock(tx, row.lock)?.iter().any(|other| other.id != row.id);
    // Builds ask again, under the name that the new pipeline says; a place that nobody asks for any more would be in
    // the way for ever.
    for build in locks::wait_list(tx, row.lock)?.into_iter().filter_map(|wait| wait.build) {
        let is_own = builds::build_get(tx, build)?.is_some_and(|build| build.pipeline == row.pipeline);
        if is_own || !is_shared {
            locks::wait_remove_build(tx, build)?;
        }
    }
    if is_shared || locks::lock_find(tx, name)?.is_some() {
        let lock = locks::lock_ensure(tx, name)?;
        return locks::lock_follow(tx, lock, row.lock);
    }
    locks::lock_rename(tx, row.lock, name)
}

/// The bags that may start, the deployments and what is live are versions of the same resources under the new name.
fn rename_scopes(tx: &mut Tx<'_>, row: &EnvironmentRow, compiled: &CompiledEnvironment) -> Result<(), StoreError> {
    for kind in ReleaseType::ALL.into_iter().filter(|kind| *kind != ReleaseType::Lock) {
        let scope = resources::resource_of_type(tx, row.pipeline, kind.as_str())?.and_then(|resource| resource.scope);
        let resource = compiled.config.resources.iter().find(|resource| resource.kind == kind.as_str());
        if let (Some(scope), Some(resource)) = (scope, resource) {
            pipeline_rows::scope_move(tx, scope, &resource.source)?;
        }
    }
    Ok(())
}

/// The others come after it under its new name, also those whose own change waits.
fn rename_after(tx: &mut Tx<'_>, system: SystemId, old: &str, new: &str) -> Result<(), StoreError> {
    for row in environments::environment_list(tx, system)? {
        let mut spec = EnvironmentSpec::of(&row)?;
        let mut is_named = false;
        for name in spec.after.iter_mut().filter(|name| *name == old) {
            new.clone_into(name);
            is_named = true;
        }
        if is_named {
            environments::environment_set_spec(tx, row.id, &json_text(&spec)?)?;
        }
    }
    Ok(())
}

/// Whether a pipeline is where the system file says.
pub(super) fn is_there(tx: &mut Tx<'_>, id: PipelineId, compiled: &CompiledEnvironment) -> Result<bool, StoreError> {
    let row = pipeline_rows::pipeline_get(tx, id)?;
    Ok(row.team == compiled.team && row.name == compiled.pipeline)
}

/// Moves the pipelines of environments whose team is another one now, unless they wait for a deployment to end. Two may
/// change places.
pub(super) fn relocate(
    tx: &mut Tx<'_>,
    system: SystemId,
    compiled: &[CompiledEnvironment],
    at_once: bool,
    now: Timestamp,
    change: &mut SystemChange,
) -> Result<(), Error> {
    let mut moves = Vec::new();
    let mut places = Vec::new();
    let mut sentences = Vec::new();
    for environment in compiled {
        let Some(row) = environments::environment_find(tx, system, &environment.environment)? else { continue };
        if is_there(tx, row.pipeline, environment)? || (!at_once && deployment_open(tx, &row)?.is_some()) {
            continue;
        }
        let old = pipeline_rows::pipeline_get(tx, row.pipeline)?;
        sentences.push(format!(
            "pipeline {}/{} is {}/{} now, with its builds and all that is pinned, unticked or paused in it",
            old.team, old.name, environment.team, environment.pipeline
        ));
        sentences.extend(outside(tx, &old, environment)?);
        places.push((format!("{}/{}", old.team, old.name), format!("{}/{}", environment.team, environment.pipeline)));
        let team = access::team_ensure(tx, &environment.team)?;
        moves.push(PipelineMove { id: row.pipeline, team, name: environment.pipeline.clone() });
    }
    for environment in compiled {
        let own = environments::environment_find(tx, system, &environment.environment)?.map(|row| row.pipeline);
        let place = (environment.team.as_str(), environment.pipeline.as_str());
        must_have_room(tx, &environment.environment, place, |id| {
            own == Some(id) || moves.iter().any(|leaves| leaves.id == id)
        })?;
    }
    pipeline_rows::pipeline_move(tx, &moves)?;
    for (old, new) in places {
        note(tx, MOVED, &new, &old, now)?;
    }
    change.sentences.append(&mut sentences);
    Ok(())
}

/// What names the old team outside, where the server cannot change it.
fn outside(tx: &mut Tx<'_>, old: &PipelineRow, new: &CompiledEnvironment) -> Result<Vec<String>, StoreError> {
    let mut sentences = Vec::new();
    let name = &new.environment;
    let own: Vec<String> = workers::worker_list(tx)?
        .into_iter()
        .filter(|worker| worker.team.as_ref() == Some(&old.team) && worker.state == "running")
        .map(|worker| worker.name)
        .collect();
    if !own.is_empty() {
        sentences.push(format!("workers of team {} take no new builds of {name}: {}", old.team, own.join(", ")));
    }
    if new.config.resources.iter().any(|resource| resource.webhook_token.is_some()) {
        sentences.push(format!(
            "webhooks of {name} are at /api/v1/teams/{}/pipelines/{}/ now: change those that name team {}",
            new.team, new.pipeline, old.team
        ));
    }
    Ok(sentences)
}

/// Moves the pipeline of one environment to a place, `(team, name)`, if it is not there.
pub(super) fn move_alone(
    tx: &mut Tx<'_>,
    row: &EnvironmentRow,
    place: (&str, &str),
    now: Timestamp,
) -> Result<(), Error> {
    let old = pipeline_rows::pipeline_get(tx, row.pipeline)?;
    if (old.team.as_str(), old.name.as_str()) == place {
        return Ok(());
    }
    must_have_room(tx, &row.name, place, |id| id == row.pipeline)?;
    let team = access::team_ensure(tx, place.0)?;
    pipeline_rows::pipeline_move(tx, &[PipelineMove { id: row.pipeline, team, name: place.1.to_owned() }])?;
    note(tx, MOVED, &format!("{}/{}", place.0, place.1), &format!("{}/{}", old.team, old.name), now)?;
    Ok(())
}

/// Refuses to take the place of another pipeline: its builds and pins would be this environment's. `may_be`: those that
/// are not in the way.
fn must_have_room(
    tx: &mut Tx<'_>,
    environment: &str,
    (team, name): (&str, &str),
    may_be: impl Fn(PipelineId) -> bool,
) -> Result<(), Error> {
    let Some(other) = pipeline_rows::pipeline_find(tx, team, name)?.filter(|other| !may_be(other.id)) else {
        return Ok(());
    };
    let (whose, remedy) = match environments::environment_of_pipeline(tx, other.id)? {
        Some(row) => (
            format!(", that of environment {} of system {}", row.name, row.system_name),
            "give one of them another `team`",
        ),
        None => (String::new(), "destroy that one first, or give the environment another `team`"),
    };
    Err(Error::refused(
        format!(
            "the pipeline of {environment} cannot be {team}/{name}: there is one of that name already{whose}; {remedy}"
        ),
        if whose.is_empty() {
            format!("holdall pipeline destroy {team}/{name}")
        } else {
            "holdall system set FILE".to_owned()
        },
    ))
}

/// Writes down what something was called: what was done to it then is found under that name.
fn note(tx: &mut Tx<'_>, act: &str, target: &str, before: &str, now: Timestamp) -> Result<(), StoreError> {
    audit_add(
        tx,
        &AuditRow {
            id: 0,
            at: now,
            who: "holdall".to_owned(),
            origin: "engine".to_owned(),
            act: act.to_owned(),
            target: target.to_owned(),
            reason: None,
            before: Some(before.to_owned()),
            after: Some(target.to_owned()),
        },
    )
}
