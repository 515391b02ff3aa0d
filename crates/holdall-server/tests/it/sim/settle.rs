//! What must come of a history in the end, when everything that held something back is taken away and everything
//! succeeds.

use std::collections::BTreeSet;

use holdall_engine::status::BuildStatus;
use holdall_protocol::api::{Act, Then, TickTarget};

use super::op::{Change, Op};
use super::picture::Environment;
use super::play::Sim;
use super::rules::{Broken, name_of, newest_builds};

/// How often what has failed is tried again.
const MOST_TRIES: usize = 12;

/// Takes away what holds things back, lets everything end well, and looks at what has become of it.
pub fn settle(sim: &mut Sim) -> Result<(), Broken> {
    sim.log.push("settle".to_owned());
    sim.mend();
    // Whatever was asked for by a clock that was set back is over.
    sim.pass(2 * 3600);
    sim.work(None)?;
    lift(sim)?;
    // A build that a person wants waits for the first version of a service for as long as there is none.
    for service in services(sim) {
        if sim.newest(service) == 0 {
            sim.push(service, false)?;
        }
    }
    for _ in 0..MOST_TRIES {
        sim.work(None)?;
        sim.forgot_nothing()?;
        if !go_on_with_failures(sim)? {
            break;
        }
    }
    // Once more where a deployment held the lock.
    sim.play(&Op::Set { change: Change::Manual(false), now: false })?;
    sim.work(None)?;
    at_rest(sim)?;
    everything_eligible_has_started(sim)?;
    a_push_goes_everywhere(sim)?;
    sim.read(|tx| sim.rules.builds.journals_of_ended(tx))?
}

fn services(sim: &Sim) -> Vec<&'static str> {
    sim.shape.services()
}

fn environments(sim: &Sim) -> Vec<Environment> {
    let mut list: Vec<Environment> = sim.rules.seen.environments.values().cloned().collect();
    list.sort_by_key(|environment| environment.row.position);
    list
}

/// Takes away everything by which people hold something back.
fn lift(sim: &mut Sim) -> Result<(), Broken> {
    let system = || "notify".to_owned();
    let (pins, unticks) = sim.choices()?;
    for service in pins {
        sim.play(&Op::Unpin { service })?;
    }
    for (service, version) in unticks {
        let target = TickTarget::Service { system: system(), service, environment: None, version };
        sim.act("ann", Act::Enable { target })?;
    }
    // Also those of environments that are gone.
    for lock in sim.rules.seen.locks.clone().into_values() {
        let names = lock.holdings.iter().map(|one| &one.name).chain(lock.queue.iter().map(|one| &one.name));
        let people: BTreeSet<&String> = names.filter(|name| ["ann", "bob"].contains(&name.as_str())).collect();
        for person in people {
            sim.play(&Op::Release { person: person.clone(), environment: lock.name.clone() })?;
        }
    }
    // An environment whose lock is held is not removed.
    sim.play(&Op::Set { change: Change::Manual(false), now: false })?;
    sim.play(&Op::Set { change: Change::Allow(true), now: false })?;
    for environment in environments(sim) {
        let name = &environment.row.name;
        if environment.frozen.is_some() {
            sim.play(&Op::Unfreeze { environment: name.clone() })?;
        }
        let suspects: BTreeSet<&String> = environment.suspects.iter().map(|suspect| &suspect.service).collect();
        for service in suspects {
            sim.play(&Op::ClearSuspect { environment: name.clone(), service: service.clone() })?;
        }
        for bag in environment.unticked.keys() {
            let target = TickTarget::Bag { system: system(), bag: *bag, environment: Some(name.clone()) };
            sim.act("ann", Act::Enable { target })?;
        }
        for job in sim.paused(environment.row.pipeline)? {
            sim.play(&Op::Pause { environment: name.clone(), job, paused: false })?;
        }
        if environment.row.held.is_some() {
            sim.play(&Op::Trigger { environment: name.clone(), job: "start-deploy".to_owned() })?;
        }
    }
    sim.go_on()?;
    sim.look()?;
    sim.forgot_nothing()
}

/// Runs what has failed again; gives whether there was anything.
fn go_on_with_failures(sim: &mut Sim) -> Result<bool, Broken> {
    let mut went_on = false;
    for environment in environments(sim) {
        let name = &environment.row.name;
        let picture = &sim.rules.seen;
        let Some(open) = environment.deployments.iter().find(|row| row.ended_at.is_none()).cloned() else {
            // A start-deploy that failed has made no deployment: a person starts it again.
            let newest = picture
                .builds
                .values()
                .rev()
                .find(|build| build.pipeline == environment.row.pipeline && build.job_name == "start-deploy");
            let failed = newest.is_some_and(|build| {
                build.started_at.is_some() && build.status.is_terminal() && build.deployment.is_none()
            });
            if failed || environment.row.held.is_some() || waits_for_a_person(sim, &environment)? {
                sim.play(&Op::Trigger { environment: name.clone(), job: "start-deploy".to_owned() })?;
                went_on = true;
            }
            continue;
        };
        let newest = newest_builds(picture, &open);
        let failed: Vec<i64> = newest
            .values()
            .filter(|build| build.status.is_terminal() && build.status != BuildStatus::Succeeded)
            .map(|build| build.id.0)
            .collect();
        if failed.is_empty() {
            let builds: Vec<String> =
                newest.values().map(|build| format!("{} {}", name_of(build), build.status.as_str())).collect();
            return Err(format!(
                "deployment {} of bag {} holds the lock of {name} for ever: {builds:?}",
                open.number, open.bag
            ));
        }
        // Not that of a job which is gone.
        let mut runs_again = false;
        for build in failed {
            runs_again |= sim.act("ann", Act::BuildRerun { build })?.is_some();
        }
        if !runs_again {
            let unlock = Act::ForceUnlock {
                environment: name.clone(),
                abort_running: false,
                worker_is_dead: false,
                then: Then::Start,
            };
            sim.act("ann", unlock)?.ok_or_else(|| format!("nothing helps deployment {} of {name}", open.number))?;
        }
        went_on = true;
    }
    Ok(went_on)
}

/// Whether a bag is to start that does not start by itself.
fn waits_for_a_person(sim: &Sim, environment: &Environment) -> Result<bool, Broken> {
    let pipeline = environment.row.pipeline;
    sim.read(|tx| {
        let Some(job) = holdall_store::jobs::job_find(tx, pipeline, "start-deploy")? else { return Ok(false) };
        let look = holdall_server::duty::schedule::look(tx, job.id)?;
        Ok(look.is_some_and(|look| look.view.inputs.triggers && !look.view.automatic_holds.is_empty()))
    })
}

/// Nothing waits and nothing holds a lock.
fn at_rest(sim: &mut Sim) -> Result<(), Broken> {
    let picture = &sim.rules.seen;
    if let Some(build) = picture.builds.values().find(|build| !build.status.is_terminal()) {
        let why = sim.read(|tx| {
            let look = holdall_server::duty::schedule::look(tx, build.job)?;
            Ok(look.map(|look| holdall_engine::schedule::schedule(&look.view).holds))
        })?;
        return Err(format!("{} is {} for ever: {why:?}", name_of(build), build.status.as_str()));
    }
    for lock in picture.locks.values() {
        if let Some(holding) = lock.holdings.first() {
            return Err(format!("{} holds the lock of {} for ever", holding.name, lock.name));
        }
        if let Some(wait) = lock.queue.first() {
            return Err(format!("{} waits for the lock of {} for ever", wait.name, lock.name));
        }
    }
    let waiting = picture.environments.values().find(|environment| environment.row.waiting.is_some());
    match waiting {
        Some(environment) => Err(format!("the new pipeline of {} waits for ever", environment.row.name)),
        None => Ok(()),
    }
}

/// No bag above the highest that has started waits where nothing holds it.
fn everything_eligible_has_started(sim: &mut Sim) -> Result<(), Broken> {
    let picture = &sim.rules.seen;
    for environment in picture.environments.values() {
        let highest = environment.deployments.iter().map(|row| row.bag).max().unwrap_or(0);
        for number in picture.bags.range(highest + 1..).map(|(number, _)| *number) {
            if picture.belongs(environment, number) && picture.is_held(environment, number).is_none() {
                return Err(format!("bag {number} never started in {}", environment.row.name));
            }
        }
    }
    Ok(())
}

/// A push of everything is packed into one bag in the end, and that is live everywhere.
fn a_push_goes_everywhere(sim: &mut Sim) -> Result<(), Broken> {
    sim.log.push("the last push".to_owned());
    for service in services(sim) {
        sim.push(service, false)?;
    }
    sim.work(None)?;
    let picture = &sim.rules.seen;
    let Some((number, (_, bag))) = picture.bags.last_key_value() else { return Err("there is no bag".to_owned()) };
    for service in services(sim) {
        let packed = bag.services.get(service).and_then(|packed| super::picture::serial(&packed.version));
        if packed != Some(sim.newest(service)) {
            return Err(format!("bag {number} has {service} {packed:?}, and {} was pushed", sim.newest(service)));
        }
    }
    for environment in picture.environments.values() {
        let newest = environment.deployments.last();
        if newest.is_none_or(|newest| newest.bag != *number || newest.ended_how.as_deref() != Some("passed")) {
            return Err(format!("bag {number} is not live in {}: {newest:?}", environment.row.name));
        }
        let current = sim.read(|tx| holdall_store::environments::deployment_current(tx, environment.row.id))?;
        if current.as_ref().map(|row| row.bag) != Some(*number) {
            return Err(format!("bag {number} passed {} and {current:?} is current", environment.row.name));
        }
    }
    at_rest(sim)
}
