//! Deploying, rolling back, suspects, and freezing.

use std::collections::BTreeSet;

use holdall_engine::ids::BuildId;
use holdall_engine::release::bags::barred;
use holdall_engine::status::BuildStatus;
use holdall_engine::time::Timestamp;
use holdall_protocol::api::Suspects;
use holdall_store::Tx;
use holdall_store::bags::{self, BagRow, SuspectRow};
use holdall_store::builds::{self, NewBuild};
use holdall_store::environments::{self, DeploymentRow, EnvironmentRow};
use holdall_store::jobs::{self, JobRow};
use holdall_store::locks::{self, WaitRow};
use holdall_store::resources::{self, Pin};
use holdall_store::versions::{self, DisabledRow};

use super::Outcome;
use super::bags::frozen_at;
use super::names;
use crate::duty::track;
use crate::epoch::RESTORED;
use crate::error::{Error, Refusal};
use crate::release::bags::{Judge, bag_of, bag_version};
use crate::release::deployments::{deployment_end, deployment_open};
use crate::release::locks::{progress, running_holders};
use crate::release::{environments_of, packed_in};
use holdall_protocol::api::code;

/// A deployment of one named bag.
pub(super) struct Deploy<'a> {
    pub(super) system: &'a str,
    pub(super) environment: &'a str,
    pub(super) bag: i64,
    pub(super) take_over: bool,
    pub(super) clear_suspects: &'a [String],
}

fn target(environment: &EnvironmentRow) -> String {
    format!("{}/{}", environment.system_name, environment.name)
}

fn find_bag(tx: &mut Tx<'_>, environment: &EnvironmentRow, number: i64) -> Result<BagRow, Error> {
    bags::bag_find(tx, environment.system, number)?
        .ok_or_else(|| Error::not_found(format!("bag {number} of {}", environment.system_name)))
}

pub(super) fn deploy(
    tx: &mut Tx<'_>,
    who: &str,
    order: &Deploy<'_>,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<Outcome, Error> {
    let environment = names::environment(tx, order.system, order.environment)?;
    let row = find_bag(tx, &environment, order.bag)?;
    let mut outcome = Outcome { target: target(&environment), ..Outcome::default() };
    for service in order.clear_suspects {
        let cleared = bags::suspect_clear(tx, environment.id, Some(service), who, reason, now)?;
        if cleared == 0 {
            return Err(Error::not_found(format!("suspect of {service} in {}", environment.name)));
        }
        outcome.sentences.push(format!("{service} is not suspect in {} any more", environment.name));
    }
    may_start(tx, &environment, &row)?;
    start(tx, who, &environment, &row, order.take_over, reason, now, &mut outcome)?;
    Ok(outcome)
}

/// Refuses a bag that even a person cannot start there.
fn may_start(tx: &mut Tx<'_>, environment: &EnvironmentRow, bag: &BagRow) -> Result<(), Error> {
    let judge = Judge::read(tx, environment.clone())?;
    let holds = barred(&judge.view, &judge.bag(tx, bag)?);
    if holds.is_empty() {
        return Ok(());
    }
    let why: Vec<&str> = holds.iter().map(|hold| hold.sentence.as_str()).collect();
    let mut refusal = Refusal::new(
        409,
        code::REFUSED,
        format!("bag {} cannot be deployed to {}: {}", bag.number, environment.name, why.join("; ")),
    );
    refusal.command = holds.iter().find_map(|hold| hold.command.clone());
    Err(refusal.holds(holds).into())
}

/// Lets a deployment of one bag begin: at once, by hand-over, or when the lock comes free.
#[allow(clippy::too_many_arguments)]
fn start(
    tx: &mut Tx<'_>,
    who: &str,
    environment: &EnvironmentRow,
    row: &BagRow,
    take_over: bool,
    reason: Option<&str>,
    now: Timestamp,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    let bag = row.number;
    let job = jobs::job_find(tx, environment.pipeline, "start-deploy")?
        .ok_or_else(|| Error::not_found(format!("job start-deploy of {}", environment.name)))?;
    let open = deployment_open(tx, environment)?;
    let mut first_in_line = false;
    match open {
        Some(open) if take_over => {
            // Hooks of a deploy that is in doubt may still run.
            let runs = !running_holders(tx, environment.lock)?.is_empty();
            if runs || progress(tx, &open)?.working && !open.in_doubt {
                return Err(Error::refused(
                    format!(
                        "deployment {} of bag {} is under way in {}: abort its build first, a hand-over takes the \
                         lock from a deployment that has failed",
                        open.number, open.bag, environment.name
                    ),
                    format!("holdall why {}", environment.name),
                ));
            }
            deployment_end(tx, environment, &open, "handed-over", who, reason, now)?;
            // A changed file that waited for this end may ask for a service that the bag has not.
            let changed = environments::environment_get(tx, environment.id)?;
            may_start(tx, &changed, row)?;
            environments::deployment_mark(tx, open.id, environments::DeploymentMark::InDoubt(false), now)?;
            first_in_line = true;
            end_waiting(tx, who, environment, &job, bag, now, outcome)?;
            outcome.sentences.push(format!(
                "the lock of {} goes from deployment {} of bag {} to a deployment of bag {bag}",
                environment.name, open.number, open.bag
            ));
            outcome.before = Some(format!("deployment {} of bag {}", open.number, open.bag));
        }
        Some(open) => {
            let failed = progress(tx, &open)?;
            let more = if failed.working { "" } else { "; it has failed: --take-over takes the lock from it" };
            outcome.sentences.push(format!(
                "it waits for the lock of {}, which deployment {} of bag {} holds{more}",
                environment.name, open.number, open.bag
            ));
        }
        None if take_over => {
            // It makes a deployment in a moment, which this one would only wait for.
            if let Some(running) = running_holders(tx, environment.lock)?.first() {
                return Err(Error::refused(
                    format!("{} {} runs in {}: abort it first", running.job_name, running.name, environment.name),
                    format!("holdall why {}", environment.name),
                ));
            }
        }
        None => {}
    }
    let new = NewBuild {
        manual: true,
        created_by: Some(who.to_owned()),
        reason: reason.map(str::to_owned),
        fixed_bag: Some(bag),
        first_in_line,
    };
    let build = builds::build_create(tx, job.id, &new, now)?;
    if first_in_line {
        // Before all who wait, so that nothing slips between (release model, section 5, rule 8).
        ask_for_lock(tx, environment, build, bag, now)?;
    }
    outcome.made.build = builds::build_get(tx, build)?.as_ref().map(names::build_ref);
    outcome.sentences.push(format!("bag {bag} is deployed to {}", environment.name));
    outcome.after = Some(format!("bag {bag}"));
    Ok(())
}

/// Puts a build of `start-deploy` into the queue of the environment's lock.
fn ask_for_lock(
    tx: &mut Tx<'_>,
    environment: &EnvironmentRow,
    build: BuildId,
    bag: i64,
    now: Timestamp,
) -> Result<(), Error> {
    let name = format!("a deployment of bag {bag}");
    locks::wait_add(tx, &WaitRow::of_build(environment.lock, "deployment", name, build, now))?;
    Ok(())
}

/// Ends the builds of `start-deploy` that a hand-over goes before: the deployments of a job are made in the order of
/// its builds, as `deploy` takes that of the newest build. A bag that still may start gets a new build at once.
fn end_waiting(
    tx: &mut Tx<'_>,
    who: &str,
    environment: &EnvironmentRow,
    job: &JobRow,
    bag: i64,
    now: Timestamp,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    for build in builds::build_list_pending(tx, job.id)? {
        let reason = format!("{who} handed the lock of {} over to a deployment of bag {bag}", environment.name);
        track::end_pending(tx, build.id, BuildStatus::Aborted, &reason, now)?;
        if let Some(waited) = build.fixed_bag {
            outcome.sentences.push(format!("start-deploy {}, which waits with bag {waited}, is aborted", build.name));
        }
    }
    Ok(())
}

/// Says that what an environment shows is what is live there, after history was lost: it goes on by itself again.
pub(super) fn confirm(tx: &mut Tx<'_>, system: &str, name: &str) -> Result<Outcome, Error> {
    let environment = names::environment(tx, system, name)?;
    let Some(held) = environment.held.as_ref().filter(|held| held.code == RESTORED) else {
        return Err(Error::refused(
            format!("{name} does not wait for a confirmation: no history of it was lost since the last one"),
            format!("holdall why {name}"),
        ));
    };
    environments::environment_hold(tx, environment.id, None)?;
    jobs::mark_pipeline(tx, environment.pipeline)?;
    let current = environments::deployment_current(tx, environment.id)?;
    let live = current.map_or("no bag".to_owned(), |current| format!("bag {}", current.bag));
    let mut outcome = Outcome {
        target: target(&environment),
        before: held.reason.as_ref().map(|reason| format!("{RESTORED}: {reason}")),
        after: Some(format!("{live} is live")),
        sentences: vec![format!("{live} counts as live in {name}, which goes on by itself")],
        ..Outcome::default()
    };
    if let Some(open) = deployment_open(tx, &environment)?
        && open.in_doubt
    {
        outcome.sentences.push(format!(
            "deployment {} of bag {} stays in doubt and keeps the lock of {name} until a person says what is true",
            open.number, open.bag
        ));
    }
    Ok(outcome)
}

/// A roll back.
pub(super) struct RollBack<'a> {
    pub(super) system: &'a str,
    pub(super) environment: &'a str,
    pub(super) to: Option<i64>,
    pub(super) suspects: &'a Suspects,
    pub(super) and_untick: bool,
    pub(super) here_only: bool,
}

/// The bag to go back to: the one that was current before. While a deployment is under way or has failed before its
/// plan had succeeded, that is the current one.
fn default_target(
    tx: &mut Tx<'_>,
    environment: &EnvironmentRow,
    open: Option<&DeploymentRow>,
) -> Result<Option<i64>, Error> {
    let current = environments::deployment_current(tx, environment.id)?;
    let away_from = match (open, &current) {
        (Some(open), _) => open.bag,
        (None, Some(current)) => current.bag,
        (None, None) => return Ok(None),
    };
    let back = environments::deployment_live_beside(tx, environment.id, away_from)?;
    Ok(back.map(|deployment| deployment.bag))
}

pub(super) fn roll_back(
    tx: &mut Tx<'_>,
    who: &str,
    order: &RollBack<'_>,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<Outcome, Error> {
    let environment = names::environment(tx, order.system, order.environment)?;
    let open = deployment_open(tx, &environment)?;
    let to = match order.to {
        Some(to) => to,
        None => default_target(tx, &environment, open.as_ref())?.ok_or_else(|| {
            Error::refused(
                format!("no other bag was ever live in {}, so there is nothing to go back to", environment.name),
                format!("holdall deploy {} --bag N --reason \"...\"", environment.name),
            )
        })?,
    };
    let target_row = find_bag(tx, &environment, to)?;
    let mut outcome = Outcome { target: target(&environment), ..Outcome::default() };

    let judge = Judge::read(tx, environment.clone())?;
    let thrown_out = throw_out(tx, who, &judge, to, order.here_only, reason, now, &mut outcome)?;
    add_suspects(tx, who, &environment, &target_row, &thrown_out, order, reason, now, &mut outcome)?;

    // The target may have been unticked by an earlier roll back, and a freeze moves to it (section 7).
    versions::enable(tx, judge.resource.id, &bag_version(to).digest())?;
    if frozen_at(&judge.resource).is_some() {
        let pin = Pin {
            version: bag_version(to),
            in_config: false,
            by: Some(who.to_owned()),
            at: Some(now),
            until: judge.resource.pin.as_ref().and_then(|pin| pin.until),
            reason: reason.map(str::to_owned),
        };
        resources::pin(tx, judge.resource.id, &pin)?;
        outcome.sentences.push(format!("the freeze of {} moves to bag {to}", environment.name));
    }

    let judge = Judge::read(tx, environment.clone())?;
    let view = judge.bag(tx, &target_row)?;
    let holds = barred(&judge.view, &view);
    if !holds.is_empty() {
        let why: Vec<&str> = holds.iter().map(|hold| hold.sentence.as_str()).collect();
        return Err(Refusal::new(
            409,
            code::REFUSED,
            format!("{} cannot go back to bag {to}: {}", environment.name, why.join("; ")),
        )
        .holds(holds)
        .into());
    }
    // What is thrown out here is held back in the environments after this one too.
    mark_chain(tx, &environment)?;
    start(tx, who, &environment, &target_row, true, reason, now, &mut outcome)?;
    Ok(outcome)
}

/// Unticks the bags above the target that are versions in the environment, and gives those that have started there.
#[allow(clippy::too_many_arguments)]
fn throw_out(
    tx: &mut Tx<'_>,
    who: &str,
    judge: &Judge,
    to: i64,
    here_only: bool,
    reason: Option<&str>,
    now: Timestamp,
    outcome: &mut Outcome,
) -> Result<Vec<BagRow>, Error> {
    let mut started = Vec::new();
    let Some(scope) = judge.resource.scope else { return Ok(started) };
    let mut unticked = Vec::new();
    let before = versions::disabled_list(tx, judge.resource.id)?;
    let withdrawn: BTreeSet<_> = before.into_iter().filter(|row| row.withdraws).map(|row| row.digest).collect();
    for version in versions::version_between(tx, scope, to, i64::MAX - 1, i64::MAX)? {
        let row = DisabledRow {
            digest: version.digest.clone(),
            by: who.to_owned(),
            at: now,
            until: None,
            reason: Some(format!("rolled back to bag {to}{}", because(reason))),
            // What an earlier act withdrew from the environments after this one stays withdrawn.
            withdraws: !here_only || withdrawn.contains(&version.digest),
        };
        versions::disable(tx, judge.resource.id, &row)?;
        let Some(number) = crate::release::bags::bag_number(&version.version) else { continue };
        unticked.push(number);
        if !environments::deployment_list_of_bag(tx, judge.environment.id, number)?.is_empty()
            && let Some(row) = bags::bag_find(tx, judge.environment.system, number)?
        {
            started.push(row);
        }
    }
    for number in unticked {
        outcome.sentences.push(format!("bag {number} is unticked in {}", judge.environment.name));
    }
    Ok(started)
}

fn because(reason: Option<&str>) -> String {
    reason.map(|reason| format!(": {reason}")).unwrap_or_default()
}

/// The versions that bags started here after the target have and the target has not, of the services that were named.
#[allow(clippy::too_many_arguments)]
fn add_suspects(
    tx: &mut Tx<'_>,
    who: &str,
    environment: &EnvironmentRow,
    target_row: &BagRow,
    thrown_out: &[BagRow],
    order: &RollBack<'_>,
    reason: Option<&str>,
    now: Timestamp,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    let target_bag = bag_of(target_row)?;
    let mut known = BTreeSet::new();
    for row in thrown_out {
        for (service, held) in bag_of(row)?.services {
            known.insert(service.clone());
            let named = match order.suspects {
                Suspects::All => true,
                Suspects::None => false,
                Suspects::Services(names) => names.contains(&service),
            };
            let differs = target_bag.services.get(&service).is_none_or(|before| before.version != held.version);
            if !named || !differs {
                continue;
            }
            bags::suspect_add(
                tx,
                &SuspectRow {
                    id: 0,
                    environment: environment.id,
                    service: service.clone(),
                    digest: held.version.digest(),
                    version: held.version.clone(),
                    bag: row.number,
                    at: now,
                    by: who.to_owned(),
                    reason: reason.map(str::to_owned),
                    here_only: order.here_only,
                },
            )?;
            let sentence = format!("{service} at {} is suspect in {}", held.version, environment.name);
            if !outcome.sentences.contains(&sentence) {
                outcome.sentences.push(sentence);
            }
            if order.and_untick {
                untick_where_packed(tx, who, environment, &service, &held.version, reason, now, outcome)?;
            }
        }
    }
    if let Suspects::Services(names) = order.suspects {
        for name in names {
            if !known.contains(name) && !target_bag.services.contains_key(name) {
                return Err(Error::not_found(format!("service {name} in what is rolled back")));
            }
        }
    }
    Ok(())
}

#[allow(clippy::too_many_arguments)]
fn untick_where_packed(
    tx: &mut Tx<'_>,
    who: &str,
    environment: &EnvironmentRow,
    service: &str,
    version: &holdall_engine::version::Version,
    reason: Option<&str>,
    now: Timestamp,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    let chain = environments_of(tx, environment.system)?;
    let Some(packing) = packed_in(&chain, &environment.name) else { return Ok(()) };
    let Some((row, _)) = chain.iter().find(|(row, _)| row.name == packing) else { return Ok(()) };
    let Some(resource) = resources::resource_find(tx, row.pipeline, service)? else { return Ok(()) };
    let row = DisabledRow {
        digest: version.digest(),
        by: who.to_owned(),
        at: now,
        until: None,
        reason: Some(format!("rolled back in {}{}", environment.name, because(reason))),
        withdraws: false,
    };
    versions::disable(tx, resource.id, &row)?;
    outcome.sentences.push(format!("{service} at {version} is unticked in {packing}, so that others can go on"));
    Ok(())
}

pub(super) fn clear_suspects(
    tx: &mut Tx<'_>,
    who: &str,
    system: &str,
    name: &str,
    services: &[String],
    reason: Option<&str>,
    now: Timestamp,
) -> Result<Outcome, Error> {
    let environment = names::environment(tx, system, name)?;
    let mut outcome = Outcome { target: target(&environment), ..Outcome::default() };
    for service in services {
        if bags::suspect_clear(tx, environment.id, Some(service), who, reason, now)? == 0 {
            return Err(Error::not_found(format!("suspect of {service} in {name}")));
        }
        outcome.sentences.push(format!("{service} is not suspect in {name} any more"));
    }
    mark_chain(tx, &environment)?;
    Ok(outcome)
}

/// Lets the scheduler look at all environments of a system: what holds bags back in one concerns those after it.
pub(super) fn mark_chain(tx: &mut Tx<'_>, environment: &EnvironmentRow) -> Result<(), Error> {
    for row in environments::environment_list(tx, environment.system)? {
        jobs::mark_pipeline(tx, row.pipeline)?;
    }
    Ok(())
}

#[allow(clippy::too_many_arguments)]
pub(super) fn freeze(
    tx: &mut Tx<'_>,
    who: &str,
    system: &str,
    name: &str,
    at: Option<i64>,
    until: Option<Timestamp>,
    deploy_it: bool,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<Outcome, Error> {
    let environment = names::environment(tx, system, name)?;
    let judge = Judge::read(tx, environment.clone())?;
    let current = environments::deployment_current(tx, environment.id)?.map(|deployment| deployment.bag);
    let bag = match (at, deployment_open(tx, &environment)?, current) {
        (Some(at), _, _) => at,
        (None, Some(open), _) => open.bag,
        (None, None, Some(current)) => current,
        (None, None, None) => {
            return Err(Error::refused(
                format!("nothing is live in {name}, so name the bag to freeze it at"),
                format!("holdall freeze {name} --at N --reason \"...\""),
            ));
        }
    };
    let row = find_bag(tx, &environment, bag)?;
    let mut outcome = Outcome { target: target(&environment), ..Outcome::default() };
    outcome.before = frozen_at(&judge.resource).map(|bag| format!("frozen at bag {bag}"));
    let pin = Pin {
        version: bag_version(bag),
        in_config: false,
        by: Some(who.to_owned()),
        at: Some(now),
        until,
        reason: reason.map(str::to_owned),
    };
    resources::pin(tx, judge.resource.id, &pin)?;
    outcome.sentences.push(format!("{name} is frozen at bag {bag}"));
    outcome.after = Some(format!("frozen at bag {bag}"));
    if current != Some(bag) {
        let open = deployment_open(tx, &environment)?.filter(|open| open.bag == bag);
        if let Some(open) = open {
            if deploy_it {
                let sentence = format!("deployment {} of bag {bag} has the lock of {name} already", open.number);
                outcome.sentences.push(sentence);
            }
        } else if deploy_it {
            may_start(tx, &environment, &row)?;
            start(tx, who, &environment, &row, false, reason, now, &mut outcome)?;
        } else {
            let judge = Judge::read(tx, environment.clone())?;
            let how = match barred(&judge.view, &judge.bag(tx, &row)?).first() {
                None => "--deploy, or triggering start-deploy, deploys it".to_owned(),
                Some(hold) => format!("it cannot be deployed yet, because {}", hold.sentence),
            };
            outcome.sentences.push(format!("bag {bag} is not live in {name}: {how}"));
        }
    }
    Ok(outcome)
}

pub(super) fn unfreeze(tx: &mut Tx<'_>, system: &str, name: &str) -> Result<Outcome, Error> {
    let environment = names::environment(tx, system, name)?;
    let mut outcome = Outcome { target: target(&environment), ..Outcome::default() };
    let resource = resources::resource_of_type(tx, environment.pipeline, "deployment-bag")?
        .ok_or_else(|| Error::not_found(format!("deployment-bag in {name}")))?;
    match frozen_at(&resource) {
        Some(bag) => {
            resources::unpin(tx, resource.id)?;
            outcome.sentences.push(format!("{name} is not frozen at bag {bag} any more"));
            outcome.before = Some(format!("frozen at bag {bag}"));
        }
        None => outcome.sentences.push(format!("{name} is not frozen")),
    }
    Ok(outcome)
}
