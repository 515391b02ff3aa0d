//! What one explanation names, in a world where nothing else stands in the way: it alone leaves the input without a
//! version, and once it is undone the input has one.
//!
//! In the world that it was found in, other things may stand in the way as well, so that undoing one changes only what
//! is said. Here the oracle is asked, which knows nothing of explanations.

use std::collections::BTreeMap;

use holdall_engine::ids::BuildId;
use holdall_engine::resolve::{Cause, Found, Why};
use holdall_engine::status::BuildStatus;

use crate::explanations::restore;
use crate::oracle::foretell;
use crate::world::{Build, Fate, Input, Resource, ResourceVersion, World, digest};

/// The job that versions come from which are chosen already.
const BEFORE: usize = 0;
/// The job whose build was tried.
const UPSTREAM: usize = 1;
/// The job whose inputs are resolved.
const THIS: usize = 2;

/// What is wrong with an explanation when it is looked at alone. Nothing is said of those that sum others up.
pub fn problem(world: &World, why: &Why) -> Option<String> {
    let (held, lifted) = worlds(world, why)?;
    let fate = |of: &World| {
        let place = of.inputs.iter().position(|input| input.name == why.input).expect("the input is there");
        foretell(of).fates.swap_remove(place)
    };
    if let Fate::Version { name, .. } = fate(&held) {
        return Some(format!("it alone does not stand in the way of {name}: {why}"));
    }
    // Only with `every` are builds met that have another version than the one chosen for the input itself.
    let is_own_mismatch = matches!(&why.cause, Cause::Mismatch { of, .. } if *of == why.input);
    let said = if is_own_mismatch { "no-more-builds" } else { why.cause.as_str() };
    let resolution = held.resolve();
    let mut all = resolution.inputs.iter().filter_map(|input| input.result.as_ref().err());
    let is_why = |other: &Why| other.input == why.input && other.cause.as_str() == said;
    if !all.any(|unresolved| unresolved.why.iter().any(is_why)) {
        return Some(format!("alone, it is not said: {why}"));
    }
    match fate(&lifted) {
        Fate::Version { .. } => None,
        Fate::Error(error) => Some(format!("undoing it leaves {error}: {why}")),
    }
}

/// The least world that has what is named, and the same with it undone.
fn worlds(world: &World, why: &Why) -> Option<(World, World)> {
    let input = |name: &str| world.inputs.iter().find(|input| input.name == name).expect("a known input");
    let resource = |name: &str| &world.resources[input(name).resource];
    let mut held = World {
        jobs: ["before", "upstream", "this"].map(str::to_owned).to_vec(),
        resources: Vec::new(),
        job: THIS,
        inputs: Vec::new(),
        builds: Vec::new(),
    };
    match &why.cause {
        Cause::NoVersion => {
            add(&mut held, &why.input, resource(&why.input).clone(), &[]);
            let mut lifted = held.clone();
            lifted.resources[0] = having(&["some"]);
            Some((held, lifted))
        }
        Cause::AllDisabled { newest } => {
            add(&mut held, &why.input, resource(&why.input).clone(), &[]);
            let lifted = with(&held, |lifted| restore(&mut lifted.resources[0], newest));
            Some((held, lifted))
        }
        Cause::PinNotFound { .. } => {
            add(&mut held, &why.input, resource(&why.input).clone(), &[]);
            let pin = input(&why.input).pin.clone();
            held.inputs[0].pin.clone_from(&pin);
            let lifted = with(&held, |lifted| lifted.resources[0] = having(&[&pin.expect("it is pinned")]));
            Some((held, lifted))
        }
        Cause::Disabled { found, of, .. } | Cause::Gone { found, of, .. } => {
            let mut has = add_tried(&mut held, of, &why.input);
            let place = add(&mut held, of, resource(of).clone(), &[UPSTREAM]);
            has.push(name(world, of, found));
            put(&mut held, UPSTREAM, has);
            let lifted = with(&held, |lifted| restore(&mut lifted.resources[place], found));
            Some((held, lifted))
        }
        Cause::PinMismatch { found, of, .. } => {
            let mut has = add_tried(&mut held, of, &why.input);
            let place = add(&mut held, of, resource(of).clone(), &[UPSTREAM]);
            // It may be gone as well: that is said once nothing is pinned.
            restore(&mut held.resources[place], found);
            held.inputs[place].pin.clone_from(&input(of).pin);
            has.push(name(world, of, found));
            put(&mut held, UPSTREAM, has);
            let lifted = with(&held, |lifted| lifted.inputs[place].pin = None);
            Some((held, lifted))
        }
        Cause::Mismatch { found, of, chosen, .. } => {
            let (found, chosen) = (name(world, of, found), name(world, of, chosen));
            let mut has = vec![found];
            if *of == why.input {
                add(&mut held, of, having(&[&has[0], &chosen]), &[BEFORE, UPSTREAM]);
                put(&mut held, BEFORE, vec![chosen.clone()]);
            } else {
                // The other one has a version of another build; something keeps it from that of this build.
                add(&mut held, of, having(&[&has[0], &chosen]), &[UPSTREAM]);
                held.inputs[0].pin = Some(chosen.clone());
                put(&mut held, UPSTREAM, vec![chosen.clone()]);
                has.extend(add_tried(&mut held, of, &why.input));
            }
            put(&mut held, UPSTREAM, has);
            let lifted = with(&held, |lifted| lifted.builds[1].put[0].1 = chosen);
            Some((held, lifted))
        }
        Cause::NotInBuild { .. } => {
            add(&mut held, &why.input, having(&["some"]), &[UPSTREAM]);
            put(&mut held, UPSTREAM, Vec::new());
            let lifted = with(&held, |lifted| lifted.builds[0].put.push((0, "some".to_owned())));
            Some((held, lifted))
        }
        Cause::NoMoreBuilds { job, tried: 0, having: chosen, last_used } => {
            // With `every`, a job that used nothing last chooses nothing: another input's does.
            if last_used.is_some() {
                add(&mut held, "chooser", having(&["some"]), &[BEFORE]);
            }
            let first = held.inputs.len();
            // Its own requirement is the first that is open.
            let mut chosen = chosen.clone();
            chosen.sort_by_key(|(of, _)| *of != why.input);
            let names: Vec<String> = chosen.iter().map(|(of, found)| name(world, of, found)).collect();
            for ((of, _), name) in chosen.iter().zip(&names) {
                add(&mut held, of, having(&[name, "used"]), &[BEFORE, UPSTREAM]);
            }
            if chosen.is_empty() {
                add(&mut held, &why.input, having(&["some", "used"]), &[UPSTREAM]);
            }
            let mut all = vec!["some".to_owned(); first];
            all.extend(names.iter().cloned());
            put(&mut held, BEFORE, all.clone());
            // The builds that there are, with what they have of it.
            let mut places = BTreeMap::new();
            for (at, build) in world.builds.iter().enumerate() {
                let is_last_used = *last_used == Some(BuildId(at as i64 + 1));
                let is_offered = build.job == job.0 as usize - 1 && build.status == BuildStatus::Succeeded;
                if is_offered || is_last_used {
                    let has = chosen.iter().zip(&names).zip(first..);
                    let has = has.filter(|(((of, _), name), _)| has_version(build, input(of).resource, name));
                    let has = has.map(|((_, name), place)| (place, name.clone())).collect();
                    let rerun_of = build.rerun_of.and_then(|original| places.get(&original)).copied();
                    places.insert(at, held.builds.len());
                    held.builds.push(Build { put: has, rerun_of, status: build.status, ..empty(UPSTREAM) });
                }
            }
            if let Some(last_used) = last_used {
                held.inputs[first].every = true;
                let got = vec![(why.input.clone(), first, "used".to_owned())];
                let from = vec![places[&(last_used.0 as usize - 1)]];
                held.builds.push(Build { got, from, ..empty(THIS) });
            }
            if chosen.is_empty() {
                all.push("some".to_owned());
            }
            let lifted = with(&held, |lifted| put(lifted, UPSTREAM, all));
            Some((held, lifted))
        }
        Cause::NoMoreBuilds { .. } | Cause::Doomed { .. } => None,
    }
}

fn with(world: &World, change: impl FnOnce(&mut World)) -> World {
    let mut changed = world.clone();
    change(&mut changed);
    changed
}

/// A resource that has versions, each known and enabled.
fn having(names: &[&str]) -> Resource {
    let mut versions: Vec<ResourceVersion> = Vec::new();
    for (place, name) in names.iter().enumerate() {
        versions.push(ResourceVersion { name: (*name).to_owned(), order: Some(place as i64 + 1), enabled: true });
    }
    Resource { name: "r".to_owned(), checked: true, versions }
}

/// Adds an input with a resource of its own; the places of both, which are the same.
fn add(held: &mut World, name: &str, resource: Resource, passed: &[usize]) -> usize {
    let place = held.resources.len();
    held.resources.push(Resource { name: format!("r{place}"), ..resource });
    held.inputs.push(Input {
        name: name.to_owned(),
        resource: place,
        passed: passed.to_vec(),
        every: false,
        pin: None,
        trigger: true,
    });
    place
}

/// Where the requirement is another input's, adds the input that a build was tried for; the version that the build has
/// for it.
fn add_tried(held: &mut World, of: &str, tried_for: &str) -> Vec<String> {
    if of == tried_for {
        return Vec::new();
    }
    add(held, tried_for, having(&["some"]), &[UPSTREAM]);
    vec!["some".to_owned()]
}

fn empty(job: usize) -> Build {
    let (got, put, from) = (Vec::new(), Vec::new(), Vec::new());
    Build { job, status: BuildStatus::Succeeded, rerun_of: None, got, put, from }
}

/// Adds a build with a version of each resource in turn.
fn put(held: &mut World, job: usize, names: Vec<String>) {
    held.builds.push(Build { put: names.into_iter().enumerate().collect(), ..empty(job) });
}

fn has_version(build: &Build, resource: usize, name: &str) -> bool {
    let got = build.got.iter().any(|(_, of, version)| *of == resource && version == name);
    got || build.put.iter().any(|(of, version)| *of == resource && version == name)
}

/// The name of a version that was found for an input.
pub fn name(world: &World, of: &str, found: &Found) -> String {
    let input = world.inputs.iter().find(|input| input.name == of).expect("a known input");
    let versions = world.resources[input.resource].versions.iter().map(|known| &known.name);
    let mut named = versions.filter(|name| digest(name) == found.digest);
    named.next().expect("every version is listed, gone or not").clone()
}
