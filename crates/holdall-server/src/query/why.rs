//! The report: everything that holds an environment, a bag in it, or a job back (release model, section 8).

use holdall_engine::ids::{BuildId, JobId, PipelineId};
use holdall_engine::release::Role;
use holdall_engine::release::bags::{BagView, Superseding, frozen, held, held_back};
use holdall_engine::release::lock::{Asker, obstacles};
use holdall_engine::report::{Code, Hold};
use holdall_engine::schedule::{JobSpec, pauses, schedule};
use holdall_engine::status::BuildStatus;
use holdall_protocol::api::Hold as WireHold;
use holdall_store::builds::BuildRow;
use holdall_store::environments::{self, DeploymentRow, EnvironmentRow};
use holdall_store::{Tx, attempts, bags, builds, jobs, workers};

use crate::acts::wire_hold;
use crate::duty::schedule::{in_doubt, look};
use crate::duty::watcher;
use crate::error::{Error, from_json};
use crate::release::bags::Judge;
use crate::release::deployments::deployment_open;
use crate::release::locks::{lock_view, trouble};

/// What holds an environment back, or one bag in it.
pub fn why(tx: &mut Tx<'_>, system: &str, name: &str, bag: Option<i64>) -> Result<Vec<WireHold>, Error> {
    let row = super::environment(tx, system, name)?;
    match bag {
        Some(number) => bag_in(tx, &row, number),
        None => environment(tx, &row),
    }
}

fn wire(holds: Vec<Hold>) -> Vec<WireHold> {
    let mut seen: Vec<Hold> = Vec::new();
    for hold in holds {
        if !seen.iter().any(|known| known.code == hold.code && known.sentence == hold.sentence) {
            seen.push(hold);
        }
    }
    seen.iter().map(wire_hold).collect()
}

/// What holds a job back: the scheduler's own report.
pub fn job(tx: &mut Tx<'_>, id: JobId) -> Result<Vec<WireHold>, Error> {
    Ok(wire(job_holds(tx, id)?))
}

/// What holds a build back that has not ended: while it waits, the scheduler's report on its job; while it runs, steps
/// that no worker can take, and steps on workers that are lost.
pub fn build(tx: &mut Tx<'_>, row: &BuildRow) -> Result<Vec<WireHold>, Error> {
    if row.status == BuildStatus::Pending {
        return job(tx, row.job);
    }
    Ok(wire(worker_holds(tx, row.pipeline, Some(row.id))?))
}

fn job_holds(tx: &mut Tx<'_>, id: JobId) -> Result<Vec<Hold>, Error> {
    let Some(look) = look(tx, id)? else { return Ok(Vec::new()) };
    let mut holds = schedule(&look.view).holds;
    // Any worker makes checks.
    if holds.iter().any(|hold| hold.code == Code::CheckPending) && workers::worker_quietest(tx)?.is_none() {
        let place = format!("no worker is there that could check what {} gets", look.view.name);
        holds.push(Hold::new(Code::NoWorker, place).command(START_WORKER));
    }
    Ok(holds)
}

/// What starts another worker.
const START_WORKER: &str = "holdall worker --server ADDRESS --token-file FILE --work-dir DIR";

/// What holds an environment back; empty where nothing does, also when everything is deployed.
pub fn environment(tx: &mut Tx<'_>, row: &EnvironmentRow) -> Result<Vec<WireHold>, Error> {
    let judge = Judge::read(tx, row.clone())?;
    let mut holds = Vec::new();
    if let Some((pin, mark)) = &judge.view.pin {
        holds.push(frozen(&judge.view, *pin, mark));
    }
    let newest = judge.newest(tx)?;
    if let Some((code, mark)) = &judge.view.held {
        let mut hold = held(&judge.view, *code, mark);
        if newest.is_none() && *code == Code::HeldAfterUnlock && judge.view.highest_started > 0 {
            // No bag is left that would start: the one whose deployment was ended has to be named.
            hold = hold
                .command(format!("holdall deploy {} --bag {} --reason \"...\"", row.name, judge.view.highest_started));
        }
        holds.push(hold);
    }
    let open = deployment_open(tx, row)?;
    if let Some(open) = &open {
        holds.extend(deployment_holds(tx, row, open)?);
    }
    holds.extend(mixed(tx, row)?);
    if let Some(waiting) = &row.waiting
        && !waiting.is_empty()
    {
        holds.push(
            Hold::new(
                Code::SystemChanged,
                format!("{}'s new pipeline waits for the deployment under way to end", row.name),
            )
            .command("holdall system set FILE --now"),
        );
    }
    match judge.next(tx)? {
        Some(_) => holds.extend(start_holds(tx, row)?),
        None => {
            if let Some(waits) = waiting(tx, &judge)?.or(newest) {
                holds.extend(held_back(&judge.view, &waits));
            }
            if open.is_none() {
                holds.extend(next_holds(tx, row)?);
            }
        }
    }
    if judge.spec.packs {
        holds.extend(pack_holds(tx, row)?);
    }
    Ok(wire(holds))
}

/// The bag that waits for nothing but a person.
fn waiting(tx: &mut Tx<'_>, judge: &Judge) -> Result<Option<BagView>, Error> {
    let Some(number) = judge.next_for_person(tx)? else { return Ok(None) };
    let Some(row) = bags::bag_find(tx, judge.environment.system, number)? else { return Ok(None) };
    Ok(Some(judge.bag(tx, &row)?))
}

/// What holds the next start of a bag that may start: the lock, a pause, the order of things.
fn start_holds(tx: &mut Tx<'_>, row: &EnvironmentRow) -> Result<Vec<Hold>, Error> {
    match jobs::job_find(tx, row.pipeline, "start-deploy")? {
        Some(job) => job_holds(tx, job.id),
        None => Ok(Vec::new()),
    }
}

/// What would hold any bag that comes next: who has the lock or waits for it, and pauses.
fn next_holds(tx: &mut Tx<'_>, row: &EnvironmentRow) -> Result<Vec<Hold>, Error> {
    let mut holds = match jobs::job_find(tx, row.pipeline, "start-deploy")? {
        Some(job) => look(tx, job.id)?.map(|look| pauses(&look.view)).unwrap_or_default(),
        None => Vec::new(),
    };
    holds.extend(obstacles(&lock_view(tx, row.lock, &row.name)?, Asker::New, false, false));
    Ok(holds)
}

/// What holds the packing of new bags: pauses and services that cannot be checked. That nothing new was pushed is not
/// among it.
fn pack_holds(tx: &mut Tx<'_>, row: &EnvironmentRow) -> Result<Vec<Hold>, Error> {
    match jobs::job_find(tx, row.pipeline, "pack-bag")? {
        Some(job) => job_holds(tx, job.id),
        None => Ok(Vec::new()),
    }
}

/// A deploy that began and did not succeed leaves the environment between two bags.
fn mixed(tx: &mut Tx<'_>, row: &EnvironmentRow) -> Result<Option<Hold>, Error> {
    let current = environments::deployment_current(tx, row.id)?;
    let Some(begun) = environments::deployment_last_begun(tx, row.id)? else { return Ok(None) };
    let newer = current.as_ref().is_none_or(|current| begun.number > current.number);
    let running = builds::build_list_of_deployment(tx, begun.id)?
        .iter()
        .any(|build| matches!(build.status, BuildStatus::Started | BuildStatus::Pending));
    if begun.deployed_at.is_some() || !newer || running {
        return Ok(None);
    }
    let with = current.map_or("nothing".to_owned(), |current| format!("bag {}", current.bag));
    Ok(Some(
        Hold::new(
            Code::EnvironmentMixed,
            format!("{} is between {with} and bag {}: its deploy began and did not succeed", row.name, begun.bag),
        )
        .since(begun.deploy_began_at)
        .command(format!("holdall rollback {} --suspect all --reason \"...\"", row.name)),
    ))
}

/// What keeps the deployment under way from going on.
fn deployment_holds(tx: &mut Tx<'_>, row: &EnvironmentRow, open: &DeploymentRow) -> Result<Vec<Hold>, Error> {
    let mut holds = Vec::new();
    if let Some(trouble) = trouble(tx, open)? {
        let view = lock_view(tx, row.lock, &row.name)?;
        holds.extend(obstacles(&view, Asker::New, false, true).into_iter().filter(|hold| hold.code == trouble.code));
    }
    let mut doubted = open.in_doubt;
    for job in jobs::job_list(tx, row.pipeline)? {
        let spec: JobSpec = from_json(&job.spec)?;
        if !matches!(spec.role, Some(Role::Deploy { .. } | Role::Test | Role::Signal)) {
            continue;
        }
        let done = builds::build_list_of_job(tx, job.id, None, 1)?
            .first()
            .is_some_and(|build| build.deployment == Some(open.id) && build.status == BuildStatus::Succeeded);
        let pauses = job.paused.is_some() || job.pipeline_paused.is_some();
        let pending = !builds::build_list_pending(tx, job.id)?.is_empty();
        if !done && (pauses || pending) {
            holds.extend(job_holds(tx, job.id)?);
        }
        // The first part of the deploy that has not succeeded is where a person lets it go on.
        if matches!(spec.role, Some(Role::Deploy { .. })) && !done && doubted {
            doubted = false;
            holds.push(in_doubt(&format!("{}/{}/{}", job.team, job.pipeline_name, job.name), open));
        }
    }
    holds.extend(worker_holds(tx, row.pipeline, None)?);
    Ok(holds)
}

/// Steps that no worker can take, and steps on workers that are lost, in the builds of a pipeline or in one of them.
fn worker_holds(tx: &mut Tx<'_>, pipeline: PipelineId, build: Option<BuildId>) -> Result<Vec<Hold>, Error> {
    let mut holds = Vec::new();
    let open = attempts::attempt_list_open_of_pipeline(tx, pipeline)?;
    if open.is_empty() {
        return Ok(holds);
    }
    let known = workers::worker_list(tx)?;
    for open in open.into_iter().filter(|open| build.is_none_or(|build| open.attempt.build == build)) {
        let place = format!("{} {}", open.job_name, open.build_name);
        match &open.attempt.worker {
            Some(worker) => {
                if let Some(lost) = known.iter().find(|row| row.name == *worker && row.state == "lost") {
                    let build = open.attempt.build;
                    let sentence = format!(
                        "worker {worker}, which has {place}, does not answer: start it again, or, if its machine is gone \
                         for good, `holdall build abort {build} --worker-is-dead`"
                    );
                    holds.push(
                        Hold::new(Code::WorkerLost, sentence)
                            .by(worker.clone())
                            .since(lost.seen_at)
                            .until(watcher::decided_at(&open.attempt, lost.seen_at))
                            .command(format!(
                                "holdall worker --server ADDRESS --token-file FILE --work-dir DIR --name {worker}"
                            )),
                    );
                }
            }
            None => {
                let tags: Vec<String> = from_json(&open.tags)?;
                let fits = known.iter().any(|worker| {
                    let has: Vec<String> = serde_json::from_str(&worker.tags).unwrap_or_default();
                    let has_build = open.build_worker.as_ref() == Some(&worker.name);
                    let team = has_build || worker.team.as_ref().is_none_or(|team| *team == open.team);
                    let tagged =
                        if tags.is_empty() { has.is_empty() } else { tags.iter().all(|tag| has.contains(tag)) };
                    worker.state == "running"
                        && team
                        && tagged
                        && open.build_worker.as_ref().is_none_or(|name| *name == worker.name)
                });
                if !fits {
                    let wanted =
                        if tags.is_empty() { String::new() } else { format!(" with tags {}", tags.join(", ")) };
                    holds.push(
                        Hold::new(Code::NoWorker, format!("no worker of team {}{wanted} can take {place}", open.team))
                            .since(open.attempt.created_at)
                            .command(START_WORKER),
                    );
                }
            }
        }
    }
    Ok(holds)
}

/// What holds one bag back in an environment; empty where it is live or was, or is under way without trouble.
pub fn bag_in(tx: &mut Tx<'_>, row: &EnvironmentRow, number: i64) -> Result<Vec<WireHold>, Error> {
    let Some(bag) = bags::bag_find(tx, row.system, number)? else {
        return Ok(wire(vec![
            Hold::new(Code::NotPacked, format!("there is no bag {number} of {} yet", row.system_name))
                .command(format!("holdall bag list --system {}", row.system_name)),
        ]));
    };
    if let Some(open) = deployment_open(tx, row)?
        && open.bag == number
    {
        let mut holds = deployment_holds(tx, row, &open)?;
        holds.extend(mixed(tx, row)?);
        return Ok(wire(holds));
    }
    if environments::deployment_current(tx, row.id)?.is_some_and(|current| current.bag == number) {
        return Ok(Vec::new());
    }
    let judge = Judge::read(tx, row.clone())?;
    let view = judge.bag(tx, &bag)?;
    let mut holds = held_back(&judge.view, &view);
    if holds.is_empty() {
        if let Some(chosen) = judge.next(tx)?.filter(|chosen| *chosen != number) {
            let place = &row.name;
            holds.push(match judge.view.superseding {
                // It comes after it: nobody has to do anything.
                Superseding::Queue => Hold::new(Code::LockQueue, format!("bag {chosen} goes first in {place}")),
                Superseding::Latest => {
                    Hold::new(Code::Superseded, format!("bag {chosen} is newer and goes in its place in {place}"))
                        .command(format!("holdall deploy {place} --bag {number} --reason \"...\""))
                }
            });
        }
        holds.extend(start_holds(tx, row)?);
    }
    Ok(wire(holds))
}
