//! Jobs, builds and pipelines.

use std::collections::BTreeMap;

use holdall_engine::ids::BuildId;
use holdall_engine::release::Role;
use holdall_engine::schedule::JobSpec;
use holdall_engine::status::BuildStatus;
use holdall_engine::time::Timestamp;
use holdall_protocol::api::code;
use holdall_protocol::worker::Ending;
use holdall_store::builds::{self, BuildRow, NewBuild};
use holdall_store::environments;
use holdall_store::jobs::JobRow;
use holdall_store::{Tx, attempts, jobs, pipelines as rows, workers};
use serde_json::Value;

use super::Outcome;
use super::names;
use crate::duty::track;
use crate::duty::workers::LOST_AFTER;
use crate::error::{Error, Refusal, from_json};
use crate::pipelines;
use crate::release::deployments::{deployment_of_version, deployment_open, deployment_view};
use crate::release::locks::running_holders;

/// A build of a job of a deployment that has ended is refused, with the command to use instead (release model,
/// section 5, rule 5).
fn must_not_have_ended(tx: &mut Tx<'_>, build: &BuildRow) -> Result<(), Error> {
    let Some(environment) = environments::environment_of_pipeline(tx, build.pipeline)? else { return Ok(()) };
    for input in builds::build_inputs(tx, build.rerun_of.unwrap_or(build.id))? {
        let Some(deployment) = deployment_of_version(tx, &environment, &input.version)? else { continue };
        let view = deployment_view(&deployment, &environment.name);
        if let Some(ended) = view.ended {
            return Err(Error::refused(
                format!("deployment {} of bag {} has ended: {ended}", deployment.number, deployment.bag),
                format!("holdall deploy {} --bag {} --reason \"...\"", environment.name, deployment.bag),
            ));
        }
    }
    Ok(())
}

pub(super) fn trigger(
    tx: &mut Tx<'_>,
    who: &str,
    team: &str,
    pipeline: &str,
    name: &str,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<Outcome, Error> {
    let job = names::job(tx, team, pipeline, name)?;
    let spec: JobSpec = from_json(&job.spec)?;
    if spec.disable_manual_trigger {
        return Err(Error::refused(
            format!("{team}/{pipeline}/{name} says `disable_manual_trigger`"),
            format!("holdall job list {team}/{pipeline}"),
        ));
    }
    let mut outcome = Outcome { target: format!("{team}/{pipeline}/{name}"), ..Outcome::default() };
    let needs_open = matches!(spec.role, Some(Role::Deploy { .. } | Role::Test | Role::Signal));
    if needs_open {
        must_be_open(tx, &job)?;
    }
    if spec.role == Some(Role::ForceUnlock)
        && let Some(environment) = environments::environment_of_pipeline(tx, job.pipeline)?
        && let Some(running) = running_holders(tx, environment.lock)?.first()
    {
        return Err(Error::refused(
            format!("{} {} runs in {}: abort it first", running.job_name, running.name, environment.name),
            format!("holdall lock force-unlock {} --abort-running --reason \"...\"", environment.name),
        ));
    }
    // Triggers by hand of a waiting start-deploy fold into it (release model, section 5, rule 2).
    if spec.role == Some(Role::StartDeploy)
        && let Some(waiting) = builds::build_list_pending(tx, job.id)?
            .into_iter()
            .find(|build| build.rerun_of.is_none() && build.fixed_bag.is_none() && build.abort_at.is_none())
    {
        builds::build_make_manual(tx, waiting.id, who, reason)?;
        jobs::mark(tx, job.id)?;
        outcome.made.build = builds::build_get(tx, waiting.id)?.as_ref().map(names::build_ref);
        outcome.sentences.push(format!("{name} {} waits already; it counts as triggered by hand now", waiting.name));
        return Ok(outcome);
    }
    let new = NewBuild {
        manual: true,
        created_by: Some(who.to_owned()),
        reason: reason.map(str::to_owned),
        ..NewBuild::default()
    };
    let build = builds::build_create(tx, job.id, &new, now)?;
    let row = builds::build_get(tx, build)?;
    if let Some(row) = &row {
        outcome.sentences.push(format!("{team}/{pipeline}/{name} {} is made", row.name));
    }
    outcome.made.build = row.as_ref().map(names::build_ref);
    Ok(outcome)
}

/// A job that works for a deployment can only be triggered while there is one.
fn must_be_open(tx: &mut Tx<'_>, job: &JobRow) -> Result<(), Error> {
    if let Some(environment) = environments::environment_of_pipeline(tx, job.pipeline)?
        && deployment_open(tx, &environment)?.is_none()
    {
        return Err(Error::refused(
            format!("no deployment is under way in {}, so {} has nothing to work for", environment.name, job.name),
            format!("holdall deploy {} --bag N --reason \"...\"", environment.name),
        ));
    }
    Ok(())
}

pub(super) fn pause_job(
    tx: &mut Tx<'_>,
    who: &str,
    (team, pipeline, name): (&str, &str, &str),
    paused: bool,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<Outcome, Error> {
    let job = names::job(tx, team, pipeline, name)?;
    jobs::job_pause(tx, job.id, paused, who, reason, now)?;
    let word = if paused { "paused" } else { "not paused any more" };
    Ok(Outcome {
        target: format!("{team}/{pipeline}/{name}"),
        sentences: vec![format!("{team}/{pipeline}/{name} is {word}")],
        before: Some(if job.paused.is_some() { "paused" } else { "not paused" }.to_owned()),
        after: Some(word.to_owned()),
        ..Outcome::default()
    })
}

pub(super) fn pause_pipeline(
    tx: &mut Tx<'_>,
    who: &str,
    team: &str,
    name: &str,
    paused: bool,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<Outcome, Error> {
    let row = names::pipeline(tx, team, name)?;
    rows::pipeline_pause(tx, row.id, paused, who, reason, now)?;
    if !paused {
        holdall_store::checks::check_rearm(tx, row.id, now)?;
    }
    let word = if paused { "paused" } else { "not paused any more" };
    Ok(Outcome {
        target: format!("{team}/{name}"),
        sentences: vec![format!("{team}/{name} is {word}")],
        before: Some(if row.paused { "paused" } else { "not paused" }.to_owned()),
        after: Some(word.to_owned()),
        ..Outcome::default()
    })
}

fn must_be_own(tx: &mut Tx<'_>, team: &str, name: &str) -> Result<(), Error> {
    if let Some(row) = rows::pipeline_find(tx, team, name)?
        && let Some(environment) = environments::environment_of_pipeline(tx, row.id)?
    {
        return Err(Error::refused(
            format!(
                "{team}/{name} is the pipeline of environment {} of system {}: its system file says what it is",
                environment.name, environment.system_name
            ),
            "holdall system set FILE",
        ));
    }
    Ok(())
}

pub(super) fn destroy_pipeline(tx: &mut Tx<'_>, team: &str, name: &str, now: Timestamp) -> Result<Outcome, Error> {
    let row = names::pipeline(tx, team, name)?;
    must_be_own(tx, team, name)?;
    pipelines::destroy(tx, row.id, now)?;
    Ok(Outcome {
        target: format!("{team}/{name}"),
        sentences: vec![format!("{team}/{name} is gone; its builds and their logs are kept")],
        ..Outcome::default()
    })
}

pub(super) fn set_pipeline(
    tx: &mut Tx<'_>,
    team: &str,
    name: &str,
    text: &str,
    vars: &BTreeMap<String, Value>,
    now: Timestamp,
) -> Result<Outcome, Error> {
    must_be_own(tx, team, name)?;
    let (config, warnings) = pipelines::parse(text, vars)?;
    pipelines::check_release_types(tx, team, name, &config)?;
    let mut outcome = Outcome { target: format!("{team}/{name}"), ..Outcome::default() };
    let after = holdall_config::pipeline::to_json(&config);
    let old = rows::pipeline_find(tx, team, name)?;
    let before = match &old {
        Some(row) => holdall_config::pipeline::to_json(&rows::pipeline_config(tx, row.id)?),
        None => Value::Null,
    };
    if before == after {
        outcome.sentences.push("nothing changes".to_owned());
        return Ok(outcome);
    }
    outcome.diff = Some(holdall_config::system::pipeline_diff(&before, &after));
    pipelines::save(tx, team, name, &config, &BTreeMap::new(), true, now)?;
    outcome.sentences.push(match old {
        Some(_) => format!("{team}/{name} is changed"),
        None => format!("{team}/{name} is made, and paused: `holdall pipeline unpause {team}/{name}` lets it go"),
    });
    outcome.sentences.extend(warnings.into_iter().map(|warning| format!("warning: {warning}")));
    Ok(outcome)
}

/// Stops a build. `worker_is_dead`: a person says that what runs has no process any more, so that nobody waits for its
/// end.
pub(super) fn abort(
    tx: &mut Tx<'_>,
    who: &str,
    id: i64,
    force: bool,
    worker_is_dead: bool,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<Outcome, Error> {
    let build = builds::build_get(tx, BuildId(id))?.ok_or_else(|| Error::not_found(format!("build {id}")))?;
    let name = format!("{}/{}/{} {}", build.team, build.pipeline_name, build.job_name, build.name);
    let mut outcome = Outcome { target: name.clone(), ..Outcome::default() };
    outcome.made.build = Some(names::build_ref(&build));
    if build.status.is_terminal() {
        outcome.sentences.push(format!("{name} has ended: {}", build.status.as_str()));
        return Ok(outcome);
    }
    let spec: Option<JobSpec> = jobs::job_get(tx, build.job)?.map(|job| from_json(&job.spec)).transpose()?;
    let guarded = matches!(spec.and_then(|spec| spec.role), Some(Role::Deploy { .. }));
    if guarded && build.status == BuildStatus::Started && !force && !worker_is_dead {
        return Err(Refusal::new(
            409,
            code::GUARDED,
            format!(
                "{name} is a deploy under way: stopping it in the middle may leave the environment between two bags \
                 and Terraform's state locked; confirm it with --force"
            ),
        )
        .command(format!("holdall build abort {id} --force --reason \"...\""))
        .into());
    }
    if worker_is_dead {
        must_be_lost(tx, &build, &format!("holdall build abort {} --reason \"...\"", build.id), now)?;
    }
    match worker_is_dead {
        true => lose_build(tx, who, &build, reason, now)?,
        false => abort_build(tx, who, &build, reason, now)?,
    }
    let ended = builds::build_get(tx, build.id)?.is_none_or(|build| build.status.is_terminal());
    outcome.sentences.push(match build.status {
        BuildStatus::Started if ended => format!("{name} ends: nobody knows how far it has come"),
        BuildStatus::Started if worker_is_dead => {
            format!(
                "{name} ends when its hooks have run, which begin on another worker: the same command again gives up \
                 those that no worker has taken; nobody knows how far it has come"
            )
        }
        BuildStatus::Started => format!("{name} is stopped, and ends when its processes have ended"),
        _ => format!("{name} does not start"),
    });
    if build.status == BuildStatus::Pending && !build.manual && build.rerun_of.is_none() {
        let job = format!("{}/{}/{}", build.team, build.pipeline_name, build.job_name);
        outcome.sentences.push(format!(
            "what it waited with makes another build as long as it is new: `holdall job pause {job}` holds it back"
        ));
    }
    Ok(outcome)
}

/// Refuses to say of the worker of a build that it is gone as long as it answers; `instead` is the command that stops what
/// it runs.
pub(super) fn must_be_lost(tx: &mut Tx<'_>, build: &BuildRow, instead: &str, now: Timestamp) -> Result<(), Error> {
    for name in attempts::attempt_list_open(tx, build.id)?.into_iter().filter_map(|attempt| attempt.worker) {
        if let Some(worker) = workers::worker_find(tx, &name)?.filter(|worker| worker.state != "lost") {
            let build_name = format!("{}/{}/{} {}", build.team, build.pipeline_name, build.job_name, build.name);
            return Err(Error::refused(
                format!(
                    "worker {name}, which runs {build_name}, was heard of {} s ago: it counts as lost when it has said \
                     nothing for {} s",
                    (now.0 - worker.seen_at.0) / 1_000_000,
                    LOST_AFTER.0 / 1_000_000
                ),
                instead,
            ));
        }
    }
    Ok(())
}

/// Stops a build, of which a person says that its worker is gone and its processes with it. Hooks begin on another
/// worker; those of a build that was being stopped already, and that no worker has taken, are given up: where none ever
/// will, this is the way out.
pub(super) fn lose_build(
    tx: &mut Tx<'_>,
    who: &str,
    build: &BuildRow,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<(), Error> {
    abort_build(tx, who, build, reason, now)?;
    let given_up = build.abort_at.is_some();
    for attempt in attempts::attempt_list_open(tx, build.id)? {
        match &attempt.worker {
            Some(_) => track::attempt_lost(tx, &attempt, "a person said that its worker is dead", now)?,
            None if given_up => {
                let message = format!("no worker had taken this step when {who} gave it up");
                track::attempt_finished(tx, &attempt, &Ending::CouldNotRun { message }, now)?;
            }
            None => {}
        }
    }
    Ok(())
}

/// Stops a build: one that waits ends at once, one that runs when its processes have ended.
pub(super) fn abort_build(
    tx: &mut Tx<'_>,
    who: &str,
    build: &BuildRow,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<(), Error> {
    if builds::build_request_abort(tx, build.id, who, reason, now)? && build.status == BuildStatus::Started {
        let text = match reason {
            Some(reason) => format!("{who} aborts this build: {reason}"),
            None => format!("{who} aborts this build"),
        };
        track::note(tx, build.id, None, &text, now)?;
        track::abort(tx, build.id, now)?;
    }
    Ok(())
}

pub(super) fn rerun(
    tx: &mut Tx<'_>,
    who: &str,
    id: i64,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<Outcome, Error> {
    let build = builds::build_get(tx, BuildId(id))?.ok_or_else(|| Error::not_found(format!("build {id}")))?;
    let name = format!("{}/{}/{}", build.team, build.pipeline_name, build.job_name);
    let job = jobs::job_get(tx, build.job)?
        .filter(|job| job.active)
        .ok_or_else(|| Error::not_found(format!("job {name} any more")))?;
    let spec: JobSpec = from_json(&job.spec)?;
    if spec.disable_reruns {
        return Err(Error::refused(format!("{name} says `disable_reruns`"), format!("holdall job trigger {name}")));
    }
    let original = build.rerun_of.unwrap_or(build.id);
    let started = builds::build_get(tx, original)?.is_some_and(|row| row.started_at.is_some());
    if !started {
        return Err(Error::refused(
            format!("{name} {} never got its inputs, so there is nothing to run again", build.name),
            format!("holdall job trigger {name}"),
        ));
    }
    if spec.role == Some(Role::StartDeploy) {
        return Err(Error::refused(
            format!("{name} starts deployments: running it again would start another one of the same bag"),
            "holdall deploy ENVIRONMENT --bag N --reason \"...\"",
        ));
    }
    must_not_have_ended(tx, &build)?;
    let rerun = builds::build_rerun(tx, &build, who, reason, now)?;
    let mut outcome = Outcome { target: format!("{name} {}", build.name), ..Outcome::default() };
    let row = builds::build_get(tx, rerun)?;
    if let Some(row) = &row {
        outcome.sentences.push(format!("{name} {} runs {} again with the same inputs", row.name, build.name));
    }
    outcome.made.build = row.as_ref().map(names::build_ref);
    Ok(outcome)
}
