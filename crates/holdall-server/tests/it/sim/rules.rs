//! What must hold whatever happens. The rules know nothing of the engine: they compare what is in the database with
//! what was there before.

use std::collections::{BTreeMap, BTreeSet};

use holdall_engine::ids::{EnvironmentId, LockId};
use holdall_engine::status::BuildStatus;
use holdall_engine::time::Timestamp;
use holdall_store::audit::AuditRow;
use holdall_store::builds::BuildRow;
use holdall_store::environments::DeploymentRow;
use holdall_store::locks::HoldingRow;
use holdall_store::{StoreError, Tx};

use super::builds::Builds;
use super::picture::{Environment, Lock, Picture};
use super::system::{PERIODIC, TOOLS};

/// What was broken, in one sentence.
pub type Broken = String;

/// What is remembered from look to look.
#[derive(Default)]
pub struct Rules {
    pub seen: Picture,
    /// The tokens of the holdings whose holders know that they hold.
    pub told: BTreeSet<String>,
    /// The highest fence of each lock.
    fences: BTreeMap<LockId, i64>,
    pub builds: Builds,
}

impl Rules {
    /// Looks at everything that has changed. `at`: what the server's clock says.
    pub fn look(&mut self, tx: &mut Tx<'_>, at: Timestamp) -> Result<Result<(), Broken>, StoreError> {
        let now = Picture::take(tx, &self.seen)?;
        if let Err(broken) = self.builds.look(tx, &self.seen, &now)? {
            return Ok(Err(broken));
        }
        for build in now.builds.values().filter(|build| build.job_name == "start-deploy") {
            let before = self.seen.builds.get(&build.id);
            if build.started_at.is_none() || before.is_some_and(|before| before.started_at.is_some()) {
                continue;
            }
            let bag = now.taken.get(&build.id).copied();
            let environment = now.environments.values().find(|one| one.row.pipeline == build.pipeline);
            if let (Some(bag), Some(environment)) = (bag, environment)
                && let Err(broken) = self.may_begin(&now, environment, bag, build)
            {
                return Ok(Err(broken));
            }
        }
        let kept = self
            .history(&now)
            .and_then(|()| self.locks(&now))
            .and_then(|()| self.people(&now, at))
            .and_then(|()| self.deployments(&now))
            .and_then(|()| self.tags(&now))
            .and_then(|()| builds_hold_the_lock(&now))
            .and_then(|()| self.periodic(&now));
        self.seen = now;
        Ok(kept)
    }

    /// What has ended, or cannot change, does not change.
    fn history(&self, now: &Picture) -> Result<(), Broken> {
        for (id, before) in self.seen.builds.iter().filter(|(_, build)| build.status.is_terminal()) {
            let Some(after) = now.builds.get(id) else { return Err(format!("{} is gone", name_of(before))) };
            if frozen(before) != frozen(after) {
                return Err(format!("{} changed after its end: {before:?} became {after:?}", name_of(before)));
            }
        }
        for (number, before) in &self.seen.bags {
            if now.bags.get(number) != Some(before) {
                return Err(format!("bag {number} changed"));
            }
        }
        let known: BTreeSet<_> = now.tags.iter().map(|tag| (tag.bag, tag.environment, tag.deployment)).collect();
        if let Some(tag) =
            self.seen.tags.iter().find(|tag| !known.contains(&(tag.bag, tag.environment, tag.deployment)))
        {
            return Err(format!("the tag {} of bag {} is gone", tag.name, tag.bag));
        }
        for before in self.seen.environments.values().flat_map(|environment| &environment.deployments) {
            let Some(after) = now.deployment(before.id) else { continue };
            let facts = |row: &DeploymentRow| (row.ended_at, row.ended_how.clone(), row.deployed_at, row.bag);
            if before.ended_at.is_some() && facts(before) != facts(after) {
                return Err(format!("deployment {} changed after its end: {before:?}, {after:?}", before.number));
            }
        }
        Ok(())
    }

    /// One exclusive holder or some that share, and fences that only grow.
    fn locks(&mut self, now: &Picture) -> Result<(), Broken> {
        for (id, lock) in &now.locks {
            let exclusive = lock.holdings.iter().filter(|holding| holding.mode != "shared").count();
            if exclusive > 1 || (exclusive == 1 && lock.holdings.len() > 1) {
                return Err(format!("the lock of {} has several holders: {:?}", lock.name, lock.holdings));
            }
            let before = self.seen.locks.get(id);
            for holding in &lock.holdings {
                let known = before.and_then(|before| before.holdings.iter().find(|other| other.id == holding.id));
                match known {
                    Some(known) if known.fence != holding.fence => {
                        return Err(format!("the fence of {} changed from {}", holding.name, known.fence));
                    }
                    Some(_) => {}
                    None => {
                        let highest = self.fences.entry(*id).or_insert(0);
                        if holding.fence <= *highest {
                            return Err(format!(
                                "{} got fence {} of {} after fence {highest} was given",
                                holding.name, holding.fence, lock.name
                            ));
                        }
                        *highest = holding.fence;
                    }
                }
            }
        }
        Ok(())
    }

    /// A person has a lock until the time that was said, or until somebody gives it back or takes it away. One who knows
    /// of it has it however long nothing is heard of the client.
    fn people(&self, now: &Picture, at: Timestamp) -> Result<(), Broken> {
        for (id, lock) in &self.seen.locks {
            let after = now.locks.get(id).map_or(&[][..], |lock| &lock.holdings);
            for holding in lock.holdings.iter().filter(|holding| holding.kind == "person") {
                let over = |end: Option<Timestamp>| end.is_some_and(|end| end <= at);
                let ended = |row: &AuditRow| {
                    ["lock_released", "force_unlock"].contains(&row.act.as_str())
                        && row.target == format!("lock/{}", lock.name)
                        && row.before.as_deref() == Some(&holding.name)
                };
                let gone = !after.iter().any(|other| other.id == holding.id);
                if gone && !over(holding.until) && !over(holding.alive_until) && !now.acts.iter().any(ended) {
                    return Err(format!("{} lost the lock of {}, and nothing says why", holding.name, lock.name));
                }
            }
        }
        let told = |holding: &HoldingRow| holding.token.as_ref().is_some_and(|token| self.told.contains(token));
        for holding in now.locks.values().flat_map(|lock| &lock.holdings) {
            if told(holding) && holding.alive_until.is_some() {
                return Err(format!("{} knows of the lock and loses it by saying nothing", holding.name));
            }
        }
        Ok(())
    }

    /// What has not ended holds the lock, and what has begun was allowed to.
    fn deployments(&self, now: &Picture) -> Result<(), Broken> {
        for environment in now.environments.values() {
            let name = &environment.row.name;
            let lock = now.locks.get(&environment.row.lock);
            let open: Vec<_> = environment.deployments.iter().filter(|row| row.ended_at.is_none()).collect();
            if open.len() > 1 {
                return Err(format!("{name} has several deployments under way: {open:?}"));
            }
            for deployment in open {
                if !holds(lock, deployment) {
                    return Err(format!(
                        "deployment {} of bag {} is under way in {name} and does not hold its lock",
                        deployment.number, deployment.bag
                    ));
                }
            }
            for holding in lock.iter().flat_map(|lock| &lock.holdings) {
                if let Some(id) = holding.deployment
                    && now.deployment(id).is_some_and(|row| row.ended_at.is_some())
                {
                    return Err(format!("{} has ended and holds the lock of {name}", holding.name));
                }
            }
            let numbers: Vec<i64> = environment.deployments.iter().map(|row| row.number).collect();
            let expected: Vec<i64> = (1..).take(numbers.len()).collect();
            if numbers != expected {
                return Err(format!("the deployments of {name} are numbered {numbers:?}"));
            }
        }
        Ok(())
    }

    /// A build of `start-deploy` takes a bag that may start, and by itself the one whose turn it is.
    fn may_begin(&self, now: &Picture, environment: &Environment, bag: i64, build: &BuildRow) -> Result<(), Broken> {
        let name = &environment.row.name;
        let automatic = !build.manual;
        let who = if automatic { "by itself" } else { "for a person" };
        let begins = |why: String| Err(format!("bag {bag} started in {name} {who}: {why}"));
        let why_not = |picture: &Picture, bag: i64| match picture.environments.get(&environment.row.id) {
            Some(then) if automatic => picture.is_held(then, bag),
            Some(then) => picture.is_barred(then, bag),
            None => Some("the environment was not there".to_owned()),
        };
        // It was allowed before or after what happened: which came first cannot be seen here.
        if let (Some(_), Some(why)) = (why_not(&self.seen, bag), why_not(now, bag)) {
            return begins(why);
        }
        if !now.belongs(environment, bag) && !now.was_live(environment, bag) {
            return begins("it was packed for another line".to_owned());
        }
        if !automatic {
            return Ok(());
        }
        let earlier = environment.deployments.iter().filter(|row| row.build != build.id);
        let highest = earlier.map(|row| row.bag).max().unwrap_or(0);
        if bag <= highest {
            return begins(format!("bag {highest} has started before"));
        }
        let is_free = |other: &i64| why_not(&self.seen, *other).is_none() && why_not(now, *other).is_none();
        let belongs = |other: &i64| now.belongs(environment, *other) && self.seen.belongs(environment, *other);
        let better = match environment.spec.queue {
            true => now.bags.range(highest + 1..bag).map(|(number, _)| *number).find(|n| belongs(n) && is_free(n)),
            false => now.bags.range(bag + 1..).map(|(number, _)| *number).find(|n| belongs(n) && is_free(n)),
        };
        let changed =
            self.seen.environments.get(&environment.row.id).is_none_or(|then| then.row.spec != environment.row.spec);
        match better.filter(|_| !changed) {
            Some(better) => begins(format!("it was the turn of bag {better}")),
            None => Ok(()),
        }
    }

    /// What runs on a clock works with what is live, and what is no part of an environment only under the lock that it
    /// asks for.
    fn periodic(&self, now: &Picture) -> Result<(), Broken> {
        for build in now.builds.values().filter(|build| build.status == BuildStatus::Started) {
            if self.seen.builds.get(&build.id).is_some_and(|before| before.started_at.is_some()) {
                continue;
            }
            if PERIODIC.contains(&build.job_name.as_str()) && build.rerun_of.is_none() {
                let live = |picture: &Picture| picture.environment(&build.team).and_then(Environment::current);
                let bag = now.taken.get(&build.id).copied();
                if bag.is_none() || (bag != live(now) && bag != live(&self.seen)) {
                    return Err(format!("{} looks at {bag:?}, and {:?} is live", name_of(build), live(now)));
                }
            }
        }
        for build in now.builds.values().filter(|build| build.status == BuildStatus::Started && build.team == TOOLS) {
            let mut holdings = now.locks.values().flat_map(|lock| &lock.holdings);
            if !holdings.any(|holding| holding.build == Some(build.id)) {
                return Err(format!("{} runs without the lock that it asks for", name_of(build)));
            }
        }
        Ok(())
    }

    /// A bag is tagged where every job of its deployment has succeeded that the environment still has.
    fn tags(&self, now: &Picture) -> Result<(), Broken> {
        for tag in now.tags.iter().take(now.tags.len() - self.seen.tags.len().min(now.tags.len())) {
            let Some(deployment) = now.deployment(tag.deployment) else { continue };
            if deployment.ended_how.as_deref() != Some("passed") || deployment.bag != tag.bag {
                return Err(format!("{} is of a deployment that has not passed: {deployment:?}", tag.name));
            }
            let Some(environment) = now.environments.get(&tag.environment) else { continue };
            let newest = newest_builds(now, deployment);
            let mut of_today = newest.values().filter(|build| environment.jobs.contains(&build.job_name));
            let bad = of_today.find(|build| build.status != BuildStatus::Succeeded);
            if let Some(bad) = bad {
                return Err(format!("{} although {} {}", tag.name, name_of(bad), bad.status.as_str()));
            }
            let changed = self
                .seen
                .environments
                .get(&tag.environment)
                .is_none_or(|then| then.row.spec != environment.row.spec || then.row.waiting.is_some());
            if let Some(job) =
                environment.spec.deploy_jobs.iter().find(|job| !newest.contains_key(job.as_str())).filter(|_| !changed)
            {
                return Err(format!("{} although {job} did not run", tag.name));
            }
        }
        Ok(())
    }
}

/// What of an ended build never changes.
fn frozen(build: &BuildRow) -> impl PartialEq + use<> {
    (
        build.status,
        build.started_at,
        build.ended_at,
        build.end_reason.clone(),
        build.manual,
        build.deployment,
        build.abort_at,
        build.name.clone(),
    )
}

fn holds(lock: Option<&Lock>, deployment: &DeploymentRow) -> bool {
    lock.is_some_and(|lock| lock.holdings.iter().any(|holding| holding.deployment == Some(deployment.id)))
}

/// The newest build of each job that worked for a deployment, by the job's name.
pub fn newest_builds<'a>(picture: &'a Picture, deployment: &DeploymentRow) -> BTreeMap<&'a str, &'a BuildRow> {
    let of_it = picture.builds.values().filter(|build| build.deployment == Some(deployment.id));
    of_it.map(|build| (build.job_name.as_str(), build)).collect()
}

/// What works for a deployment runs only under its lock, unless it is being stopped.
fn builds_hold_the_lock(now: &Picture) -> Result<(), Broken> {
    let locks: BTreeMap<EnvironmentId, _> =
        now.environments.values().map(|environment| (environment.row.id, environment.row.lock)).collect();
    for build in now.builds.values().filter(|build| build.status == BuildStatus::Started && build.abort_at.is_none()) {
        let Some(deployment) = build.deployment.and_then(|id| now.deployment(id)) else { continue };
        let lock = locks.get(&deployment.environment).and_then(|lock| now.locks.get(lock));
        if !holds(lock, deployment) {
            return Err(format!(
                "{} runs and its deployment {} does not hold the lock",
                name_of(build),
                deployment.number
            ));
        }
    }
    Ok(())
}

pub fn name_of(build: &BuildRow) -> String {
    format!("{}/{} {}", build.team, build.job_name, build.name)
}
