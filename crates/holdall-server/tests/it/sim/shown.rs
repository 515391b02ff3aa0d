//! What a preview said against what happened. What happened is read from pictures of the database before and after, which
//! know nothing of previews, and is worked out by rules of their own.

use std::collections::{BTreeMap, BTreeSet};

use holdall_engine::version::Version;
use holdall_protocol::api::{Act, ActAnswer, ChangeDirection, HowDropped, Preview, Start};
use holdall_store::builds::BuildRow;
use holdall_store::{StoreError, Tx, environments, jobs, pipelines, resources, systems, versions};

use super::picture::{Environment, Picture, serial};
use super::rules::Broken;

/// How things stand at one moment.
#[derive(Debug, Clone)]
pub struct Stand {
    pub picture: Picture,
    /// What the next automatic pack takes, by environment; `None`: it cannot pack.
    packs: BTreeMap<String, Option<BTreeMap<String, Version>>>,
    /// The pipeline that each environment has, or will have when its deployment has ended.
    planned: BTreeMap<String, serde_json::Value>,
}

impl Stand {
    pub fn take(tx: &mut Tx<'_>, picture: &Picture) -> Result<Stand, StoreError> {
        let (mut packs, mut planned) = (BTreeMap::new(), BTreeMap::new());
        if let Some(system) = systems::system_find(tx, "notify")? {
            for row in environments::environment_list(tx, system.id)? {
                if picture.environment(&row.name).is_some_and(|environment| environment.spec.packs) {
                    packs.insert(row.name.clone(), next_pack(tx, &row)?);
                }
                let config = match &row.waiting {
                    Some(waiting) => {
                        let waiting: serde_json::Value = serde_json::from_str(waiting).expect("it was written as JSON");
                        waiting["config"].clone()
                    }
                    None => serde_json::to_value(pipelines::pipeline_config(tx, row.pipeline)?).expect("it is JSON"),
                };
                planned.insert(row.name, config);
            }
        }
        Ok(Stand { picture: picture.clone(), packs, planned })
    }
}

/// The newest version of each service that is ticked, or the one that is pinned.
fn next_pack(
    tx: &mut Tx<'_>,
    environment: &environments::EnvironmentRow,
) -> Result<Option<BTreeMap<String, Version>>, StoreError> {
    let Some(job) = jobs::job_find(tx, environment.pipeline, "pack-bag")? else { return Ok(None) };
    let mut pack = BTreeMap::new();
    for input in jobs::job_inputs(tx, job.id)? {
        let Some(row) = resources::resource_find(tx, environment.pipeline, &input.name)? else { return Ok(None) };
        let Some(scope) = row.scope else { return Ok(None) };
        let unticked: BTreeSet<_> = versions::disabled_list(tx, row.id)?.into_iter().map(|row| row.digest).collect();
        let mut known = versions::version_list(tx, scope, None, 10_000)?.into_iter().map(|row| row.version);
        let taken = match &row.pin {
            // A pin beats an untick.
            Some(pin) => known.find(|version| *version == pin.version),
            None => known.filter(|version| !unticked.contains(&version.digest())).max_by_key(serial),
        };
        let Some(taken) = taken else { return Ok(None) };
        pack.insert(input.name, taken);
    }
    Ok(Some(pack))
}

/// Whether everything that the preview said has happened, and nothing else of what it would have said.
pub fn compare(act: &Act, before: &Stand, after: &Stand, done: &ActAnswer) -> Result<(), Broken> {
    let shown = &done.preview;
    starts(before, after, shown)?;
    made(before, after, done)?;
    for sentence in &shown.sentences {
        if is_true(before, after, sentence) == Some(false) {
            return Err(format!("it is said that {sentence:?}, and it is not so"));
        }
    }
    if let Act::SystemSet { now, .. } = act {
        return system_set(*now, before, after, shown);
    }
    // The pipeline of an act that sets one is not an environment's.
    let shows = shown.diff.is_some() && !matches!(act, Act::PipelineSet { .. });
    if shows || before.planned.keys().ne(after.planned.keys()) {
        return Err(format!("an act that sets no system shows or changes pipelines: {:?}", shown.diff));
    }
    next_bag(before, after, shown)?;
    changes(before, after, shown)?;
    dropped(before, after, shown)?;
    held(before, after, shown)
}

fn has_started(build: &BuildRow) -> bool {
    build.started_at.is_some()
}

/// The builds that have started between the two, with the bag that each brings somewhere.
fn started<'a>(before: &'a Stand, after: &'a Stand) -> impl Iterator<Item = (&'a BuildRow, Option<i64>)> {
    let fresh =
        |build: &&BuildRow| has_started(build) && !before.picture.builds.get(&build.id).is_some_and(has_started);
    after.picture.builds.values().filter(fresh).map(|build| {
        let takes = after.picture.taken.get(&build.id).copied();
        (build, takes.filter(|_| !super::system::PERIODIC.contains(&build.job_name.as_str())))
    })
}

fn starts(before: &Stand, after: &Stand, shown: &Preview) -> Result<(), Broken> {
    let of_start = |start: &Start| {
        (start.team.clone(), start.pipeline.clone(), start.job.clone(), start.environment.clone(), start.bag)
    };
    let said: BTreeSet<_> = shown.starts.iter().map(of_start).collect();
    let happened: BTreeSet<_> = started(before, after)
        .map(|(build, bag)| {
            let environment = after.picture.environments.values().find(|one| one.row.pipeline == build.pipeline);
            let environment = environment.map(|environment| environment.row.name.clone());
            (build.team.clone(), build.pipeline_name.clone(), build.job_name.clone(), environment, bag)
        })
        .collect();
    if said == happened { Ok(()) } else { Err(format!("the preview said that {said:?} start; {happened:?} did")) }
}

/// What the answer names is there, and was not there before.
fn made(before: &Stand, after: &Stand, done: &ActAnswer) -> Result<(), Broken> {
    if let Some(bag) = done.made.bag
        && (before.picture.bags.contains_key(&bag) || !after.picture.bags.contains_key(&bag))
    {
        return Err(format!("bag {bag} was made, it is said"));
    }
    let of_build = |build: &holdall_protocol::api::BuildRef| holdall_engine::ids::BuildId(build.id);
    // It may have been there: one that is aborted, or that waits already where one is triggered.
    if let Some(build) = &done.made.build
        && after.picture.builds.get(&of_build(build)).is_none_or(|row| row.name != build.name)
    {
        return Err(format!("there is no build {build:?}, which is named"));
    }
    let deployment = done.made.build.as_ref().and_then(|build| after.picture.builds.get(&of_build(build))?.deployment);
    // Those of environments that are gone are not in the picture.
    let number = deployment.and_then(|id| Some(after.picture.deployment(id)?.number));
    if done.made.deployment != number && (deployment.is_none() || number.is_some()) {
        return Err(format!("deployment {:?} was made, it is said, and {number:?} was", done.made.deployment));
    }
    Ok(())
}

/// Whether a sentence says what is so; `None`: it says why, or what else could be done.
fn is_true(before: &Stand, after: &Stand, sentence: &str) -> Option<bool> {
    let words: Vec<&str> = sentence.split_whitespace().collect();
    let then = |name: &str| before.picture.environment(name);
    let now = |name: &str| after.picture.environment(name);
    let bag = |word: &str| word.parse::<i64>().ok();
    let holds = |stand: &Stand, lock: &str, who: Option<&str>| {
        let mut locks = stand.picture.locks.values().filter(|one| one.name == lock).flat_map(|one| &one.holdings);
        locks.any(|holding| who.is_none_or(|who| holding.name == who))
    };
    Some(match words[..] {
        ["bag", number, "starts", "in", name] => started(before, after).any(|(build, taken)| {
            taken == bag(number) && now(name).is_some_and(|one| one.row.pipeline == build.pipeline)
        }),
        ["bag", number, "is", "unticked", "in", name, ..] | ["bag", number, "in", name, "is", "unticked", ..] => {
            now(name)?.unticked.contains_key(&bag(number)?)
        }
        ["bag", number, "in", name, "is", "ticked", "again"] => {
            then(name)?.unticked.contains_key(&bag(number)?) && !now(name)?.unticked.contains_key(&bag(number)?)
        }
        ["bag", number, "in", name, "was", "not", "unticked"] => !then(name)?.unticked.contains_key(&bag(number)?),
        ["bag", number, "is", "not", "live", "in", name, ..] => now(&name[..name.len() - 1])?.current() != bag(number),
        ["bag", number, "is", "deployed", "to", name] => after.picture.builds.values().any(|build| {
            let is_new = !before.picture.builds.contains_key(&build.id);
            is_new && build.team == name && build.job_name == "start-deploy" && build.fixed_bag == bag(number)
        }),
        [name, "is", "frozen", "at", "bag", number] => now(name)?.frozen == bag(number),
        [name, "is", "not", "frozen", "at", "bag", number, "any", "more"] => {
            then(name)?.frozen == bag(number) && now(name)?.frozen.is_none()
        }
        [name, "is", "not", "frozen"] => then(name)?.frozen.is_none() && now(name)?.frozen.is_none(),
        ["the", "freeze", "of", name, "moves", "to", "bag", number] => now(name)?.frozen == bag(number),
        [service, "is", "not", "suspect", "in", name, "any", "more"] => {
            let suspect = |one: &Environment| one.suspects.iter().any(|suspect| suspect.service == service);
            suspect(then(name)?) && !suspect(now(name)?)
        }
        [name, "waits", "for", "a", "person:", ..] => now(name)?.row.held.is_some(),
        [name, "goes", "on", "by", "itself"] => now(name)?.row.held.is_none(),
        ["nobody", "holds", "the", "lock", "of", name] => !holds(before, name, None),
        [who, "gives", "the", "lock", "of", name, "back"] => {
            holds(before, name, Some(who)) && !holds(after, name, Some(who))
        }
        ["the", "lock", "of", name, "goes", "from", "deployment", number, ..] => {
            let ended = |one: &Environment| {
                let mut rows = one.deployments.iter();
                rows.any(|row| Some(row.number) == bag(number) && row.ended_how.as_deref() == Some("handed-over"))
            };
            ended(now(name)?) && !ended(then(name)?)
        }
        _ => return None,
    })
}

/// A diff is shown where a pipeline changes, now or later, and nothing waits where all was to change at once.
fn system_set(at_once: bool, before: &Stand, after: &Stand, shown: &Preview) -> Result<(), Broken> {
    let changes = |name: &&String| before.planned.get(*name) != after.planned.get(*name);
    let changed: BTreeSet<&str> = after.planned.keys().filter(changes).map(String::as_str).collect();
    let lines = shown.diff.iter().flat_map(|text| text.lines());
    let said: BTreeSet<&str> = lines.filter_map(|line| line.strip_prefix("# ")).collect();
    if changed != said {
        return Err(format!("the pipelines of {changed:?} change; it is said that those of {said:?} do"));
    }
    let removed = |name: &&String| !after.planned.contains_key(*name);
    for name in before.planned.keys().filter(removed) {
        if !shown.sentences.contains(&format!("environment {name} is removed")) {
            return Err(format!("{name} is gone; it is said: {:?}", shown.sentences));
        }
    }
    let nothing = shown.sentences.iter().any(|sentence| sentence == "nothing changes");
    for environment in after.picture.environments.values() {
        let name = &environment.row.name;
        let waits = environment.row.waiting.is_some();
        if waits && at_once {
            return Err(format!("the new pipeline of {name} was to be there at once, and waits"));
        }
        let said = format!("{name} takes its new pipeline when deployment");
        let is_said = shown.sentences.iter().any(|sentence| sentence.starts_with(&said));
        if is_said != waits && !nothing {
            return Err(format!("the new pipeline of {name} waits: {waits}; that is said: {is_said}"));
        }
    }
    Ok(())
}

fn next_bag(before: &Stand, after: &Stand, shown: &Preview) -> Result<(), Broken> {
    let number = after.picture.bags.keys().next_back().copied().unwrap_or(0) + 1;
    let expected = after.packs.iter().find_map(|(name, pack)| {
        let (pack, then) = (pack.as_ref()?, before.packs.get(name)?);
        (then.as_ref() != Some(pack)).then(|| {
            let services: BTreeMap<_, _> =
                pack.iter().map(|(service, version)| (service.clone(), version.0.clone())).collect();
            (name.clone(), number, services)
        })
    });
    let said = shown.next_bag.as_ref().map(|next| (next.environment.clone(), next.bag, next.services.clone()));
    if said == expected { Ok(()) } else { Err(format!("the next bag, it is said, is {said:?}; it is {expected:?}")) }
}

/// Each environment's bag of today and its next, and what differs between them.
fn changes(before: &Stand, after: &Stand, shown: &Preview) -> Result<(), Broken> {
    let mut expected = BTreeSet::new();
    for environment in after.picture.environments.values() {
        let name = &environment.row.name;
        let starts = shown.starts.iter().filter(|start| start.environment.as_ref() == Some(name));
        let started = starts.filter_map(|start| start.bag).next_back();
        let next = after.picture.next(environment);
        let then = before.picture.environment(name);
        let next_changed = then.is_some_and(|then| before.picture.next(then) != next);
        if let Some(to) = started.or(next.filter(|_| next_changed)) {
            expected.insert((name.clone(), environment.current(), Some(to)));
        }
    }
    let said: BTreeSet<_> =
        shown.changes.iter().map(|change| (change.environment.clone(), change.from, change.to)).collect();
    if said != expected {
        return Err(format!("environments change, it is said, as {said:?}; they do as {expected:?}"));
    }
    for change in &shown.changes {
        let versions = |bag: Option<i64>| -> BTreeMap<&str, &Version> {
            let body = bag.and_then(|bag| after.picture.bags.get(&bag)).map(|(_, body)| body);
            let services = body.into_iter().flat_map(|body| &body.services);
            services.map(|(name, service)| (name.as_str(), &service.version)).collect()
        };
        let (from, to) = (versions(change.from), versions(change.to));
        let names: BTreeSet<&str> =
            from.keys().chain(to.keys()).copied().filter(|name| from.get(name) != to.get(name)).collect();
        let said: BTreeSet<&str> = change.services.iter().map(|service| service.service.as_str()).collect();
        if said != names {
            return Err(format!("{} changes in {said:?}, it is said; it does in {names:?}", change.environment));
        }
        for service in &change.services {
            let (old, new) = (from.get(service.service.as_str()), to.get(service.service.as_str()));
            let same = |said: &Option<_>, is: Option<&&Version>| said.as_ref() == is.map(|version| &version.0);
            let serials = (old.and_then(|old| serial(old)), new.and_then(|new| serial(new)));
            let direction = match serials {
                (Some(old), Some(new)) if old > new => ChangeDirection::Loses,
                (Some(_), None) => ChangeDirection::Loses,
                _ => ChangeDirection::Gains,
            };
            // What a service that the file has no more has been is not known any more.
            let known = service.direction == direction || service.direction == ChangeDirection::Unknown;
            if !same(&service.from, old) || !same(&service.to, new) || !known {
                return Err(format!("{service:?} is said of {}; {old:?} becomes {new:?}", change.environment));
            }
        }
    }
    Ok(())
}

/// Bags that could have started, by themselves or where a person lets the environment go on, have not, and cannot any
/// more; each with a reason that is true.
fn dropped(before: &Stand, after: &Stand, shown: &Preview) -> Result<(), Broken> {
    let mut expected = BTreeSet::new();
    for then in before.picture.environments.values() {
        let Some(environment) = after.picture.environments.get(&then.row.id) else { continue };
        let name = &environment.row.name;
        let started: Vec<i64> = started(before, after)
            .filter(|(build, _)| build.pipeline == environment.row.pipeline)
            .filter_map(|(_, bag)| bag)
            .collect();
        // Where nothing started by itself anyway, it counts what a person may start.
        let waited = then.row.held.is_some() || then.spec.manual_promotion;
        let is_free = |stand: &Stand, environment: &Environment, bag: i64| match waited {
            true => stand.picture.codes(environment, bag).iter().all(|code| WAITS_FOR_A_PERSON.contains(code)),
            false => stand.picture.is_held(environment, bag).is_none(),
        };
        let free = before.picture.candidates(then).into_iter().filter(|bag| is_free(before, then, *bag));
        let may_start: BTreeSet<i64> =
            after.picture.candidates(environment).into_iter().filter(|bag| is_free(after, environment, *bag)).collect();
        for bag in free.filter(|bag| started.iter().max() != Some(bag) && !may_start.contains(bag)) {
            expected.insert((name.clone(), bag));
        }
        for one in shown.dropped.iter().filter(|one| one.environment == *name) {
            let why = after.picture.why_held(environment, one.bag);
            let is_true = match (one.how, one.by) {
                (HowDropped::Superseded, Some(by)) => by > one.bag && started.contains(&by),
                (HowDropped::Superseded, None) => false,
                (how, _) => why.contains(how.as_str()),
            };
            if !is_true {
                return Err(format!(
                    "bag {} is dropped in {name}, it is said, because {}; {why:?} hold it",
                    one.bag, one.how
                ));
            }
        }
    }
    let said: BTreeSet<_> = shown.dropped.iter().map(|one| (one.environment.clone(), one.bag)).collect();
    if said == expected { Ok(()) } else { Err(format!("{said:?} are dropped, it is said; {expected:?} are")) }
}

/// What holds a bag back that did not before: it is said, and nothing is said that is not so.
fn held(before: &Stand, after: &Stand, shown: &Preview) -> Result<(), Broken> {
    let holds = |stand: &Stand, environment: &Environment| -> BTreeSet<(&'static str, i64)> {
        let candidates = stand.picture.candidates(environment);
        let of = |bag: i64| stand.picture.codes(environment, bag).into_iter().map(move |code| (code, bag));
        candidates.into_iter().flat_map(of).collect()
    };
    let said: BTreeSet<&str> = shown.held.iter().map(|hold| hold.code.as_str()).collect();
    let (mut new, mut all) = (BTreeSet::new(), BTreeSet::new());
    for environment in after.picture.environments.values() {
        let Some(then) = before.picture.environments.get(&environment.row.id) else { continue };
        let (old, now) = (holds(before, then), holds(after, environment));
        // What holds the whole environment back is one hold for all of its bags.
        let known: BTreeSet<&str> = old.iter().map(|(code, _)| *code).filter(|code| WHOLE.contains(code)).collect();
        new.extend(now.difference(&old).filter(|(code, _)| !known.contains(code)).map(|(code, _)| *code));
        all.extend(now.iter().map(|(code, _)| *code));
    }
    if !new.is_subset(&said) || !said.is_subset(&all) {
        return Err(format!("{said:?} hold bags back, it is said; {new:?} do and did not, of {all:?}"));
    }
    Ok(())
}

/// The codes of holds that end when a person starts something.
const WAITS_FOR_A_PERSON: &[&str] = &["held-after-unlock", "promotion-manual"];

/// The codes of holds that are about an environment rather than about one bag.
const WHOLE: &[&str] = &["frozen", "held-after-unlock", "restored", "promotion-manual"];

impl Environment {
    /// The bag that is live.
    pub fn current(&self) -> Option<i64> {
        let deployed = self.deployments.iter().filter(|row| row.deployed_at.is_some());
        deployed.max_by_key(|row| (row.deployed_at, row.number)).map(|row| row.bag)
    }
}
