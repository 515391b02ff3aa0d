//! Explanations are true, and complete: what they name stands in the way.

use std::collections::BTreeSet;
use std::sync::Arc;

use holdall_engine::ids::{BuildId, ResourceId};
use holdall_engine::resolve::{Cause, Found, InputResult, MemoryHistory, Resolution, Ticked, Why};
use holdall_engine::status::BuildStatus;

use crate::alone;
use crate::oracle::foretell;
use crate::random;
use crate::world::{Build, Fate, Outcome, Resource, ResourceVersion, World, digest, outcome, version, version_name};

/// What is wrong with the explanations of a resolution of a world, whose past is given.
pub fn problem(world: &World, resolution: &Resolution, history: &mut MemoryHistory) -> Option<String> {
    for (place, input) in resolution.inputs.iter().enumerate() {
        let Err(unresolved) = &input.result else { continue };
        if unresolved.why.is_empty() {
            return Some(format!("nothing explains {}", input.name));
        }
        // Inputs that are tied together share their explanations.
        let shares =
            |other: &InputResult| other.result.as_ref().is_err_and(|other| Arc::ptr_eq(&other.why, &unresolved.why));
        let sharing: Vec<usize> = (0..resolution.inputs.len()).filter(|at| shares(&resolution.inputs[*at])).collect();
        if sharing[0] < place {
            continue;
        }
        let mut seen = Vec::new();
        for why in unresolved.why.iter() {
            if seen.contains(&(&why.input, &why.cause)) {
                return Some(format!("twice: {why}"));
            }
            seen.push((&why.input, &why.cause));
            if !is_true(world, why) {
                return Some(format!("not true: {why}"));
            }
            let changed = undone(world, why);
            let after =
                if changed.resources == world.resources { changed.resolve_in(history) } else { changed.resolve() };
            if let Some(wrong) = wrongly_ticked(world, why, &after, history) {
                return Some(format!("{wrong} without {why}"));
            }
            if sharing.iter().any(|place| still_says(&after, *place, why)) {
                return Some(format!("undoing it changes nothing: {why}"));
            }
            if let Some(problem) = alone::problem(world, why) {
                return Some(problem);
            }
        }
        if !suffices(world, place) {
            return Some(format!("undoing everything named does not resolve {}", input.name));
        }
    }
    incompleteness(world, resolution)
}

/// Whether the world is as the explanation says.
fn is_true(world: &World, why: &Why) -> bool {
    let input = |name: &str| world.inputs.iter().find(|input| input.name == name).expect("a known input");
    let resource = |name: &str| &world.resources[input(name).resource];
    let stored = |of: &str, found: &Found| {
        resource(of).versions.iter().find(|known| resource(of).checked && digest(&known.name) == found.digest)
    };
    // Whether a build has a version for an input.
    let has = |build: &Build, name: &str, found: &Found| {
        let got = build.got.iter().map(|(_, of, version)| (of, version));
        let mut all = got.chain(build.put.iter().map(|(of, version)| (of, version)));
        all.any(|(of, version)| *of == input(name).resource && digest(version) == found.digest)
    };
    let build_of = |id: BuildId| &world.builds[id.0 as usize - 1];
    // Where an explanation stands in a build: the job is one of the input's, and its own.
    if let Some(job) = why.cause.job() {
        let job = job.0 as usize - 1;
        if !input(&why.input).passed.contains(&job) {
            return false;
        }
        if let Some(build) = why.cause.build() {
            let of = why.other().unwrap_or(&why.input);
            let build = build_of(build);
            if build.job != job || why.cause.found().is_some_and(|found| !has(build, of, found)) {
                return false;
            }
        }
    }
    match &why.cause {
        Cause::NoVersion => {
            !resource(&why.input).checked || resource(&why.input).versions.iter().all(|v| v.order.is_none())
        }
        Cause::AllDisabled { newest } => stored(&why.input, newest).is_some_and(|v| !v.enabled),
        Cause::PinNotFound { pin } => input(&why.input).pin.as_deref().map(version).as_ref() == Some(pin),
        Cause::Mismatch { of, found, chosen, chosen_from, .. } => {
            found.digest != chosen.digest && has(build_of(*chosen_from), of, chosen)
        }
        Cause::Disabled { found, of, .. } => stored(of, found).is_some_and(|v| !v.enabled),
        Cause::PinMismatch { found, of, pinned, .. } => input(of).pin.is_some() && found.digest != pinned.digest,
        Cause::Gone { found, of, .. } => stored(of, found).is_none_or(|v| v.order.is_none() && v.enabled),
        Cause::NotInBuild { build, .. } => {
            let build = build_of(*build);
            let of = input(&why.input).resource;
            build.got.iter().all(|(_, other, _)| *other != of) && build.put.iter().all(|(other, _)| *other != of)
        }
        Cause::Doomed { build, set, .. } => {
            let is_here = |(name, found): &(String, Found)| *name != why.input || has(build_of(*build), name, found);
            !set.is_empty() && set.iter().all(is_here)
        }
        Cause::NoMoreBuilds { job, tried, having, last_used } => {
            let order = |build: BuildId| (build_of(build).rerun_of.map_or(build.0, |of| of as i64 + 1), build.0);
            let succeeded = |id: &BuildId| {
                let build = build_of(*id);
                build.job == job.0 as usize - 1 && build.status == BuildStatus::Succeeded
            };
            let counts = |id: &BuildId| {
                let has_all = having.iter().all(|(name, found)| has(build_of(*id), name, found));
                let Some(last) = last_used else { return has_all };
                let (this, last_of, last) = (order(*id), build_of(*last).rerun_of, order(*last));
                let is_newer = if last_of.is_some() { this > last } else { this.0 > last.0 };
                is_newer || this <= last && has_all
            };
            let all = (1..=world.builds.len() as i64).map(BuildId);
            *tried == all.filter(succeeded).filter(counts).count()
        }
    }
}

/// The world with what the explanation names undone.
fn undone(world: &World, why: &Why) -> World {
    let mut changed = world.clone();
    let input = |name: &str| world.inputs.iter().position(|input| input.name == name).expect("a known input");
    let resource_of = |name: &str| world.inputs[input(name)].resource;
    let without_job = |changed: &mut World, name: &str| {
        let job = why.cause.job().map_or(0, |job| job.0 as usize - 1);
        changed.inputs[input(name)].passed.retain(|passed| *passed != job);
    };
    match &why.cause {
        Cause::Mismatch { of, .. } => without_job(&mut changed, of),
        Cause::NotInBuild { .. } | Cause::NoMoreBuilds { .. } => without_job(&mut changed, &why.input),
        Cause::PinNotFound { .. } => changed.inputs[input(&why.input)].pin = None,
        Cause::PinMismatch { of, .. } => changed.inputs[input(of)].pin = None,
        Cause::Disabled { of, found, .. } | Cause::Gone { of, found, .. } => {
            restore(&mut changed.resources[resource_of(of)], found)
        }
        Cause::AllDisabled { newest } => restore(&mut changed.resources[resource_of(&why.input)], newest),
        Cause::NoVersion => {
            let resource = &mut changed.resources[resource_of(&why.input)];
            resource.checked = true;
            for (place, version) in resource.versions.iter_mut().enumerate() {
                *version = ResourceVersion { name: version.name.clone(), order: Some(place as i64 + 1), enabled: true };
            }
        }
        // What led nowhere is enough where nothing but this job is to have passed.
        Cause::Doomed { job, set, .. } => {
            let job = job.0 as usize - 1;
            for input in &mut changed.inputs {
                let counts = input.name == why.input || set.iter().any(|(name, _)| *name == input.name);
                input.passed.retain(|passed| counts && *passed == job);
            }
        }
    }
    changed
}

/// Makes a version known and enabled.
pub fn restore(resource: &mut Resource, found: &Found) {
    resource.checked = true;
    for (place, known) in resource.versions.iter_mut().enumerate() {
        if digest(&known.name) == found.digest {
            make_known(known, place);
        }
    }
}

/// One that was gone is older than all others, in an order of its own.
fn make_known(version: &mut ResourceVersion, place: usize) {
    version.enabled = true;
    version.order = version.order.or(Some(-1 - place as i64));
}

/// Whether it is gone, and would count as used by the job if it were known. It then says where `every` starts, and that may
/// be at a build that does not even have it: what worlds say of the past need not be possible.
fn is_forgotten_use(world: &World, resource: usize, version: &ResourceVersion) -> bool {
    let is_use = |build: &Build| {
        build.job == world.job && build.got.iter().any(|(_, of, name)| *of == resource && *name == version.name)
    };
    version.order.is_none() && world.inputs.iter().any(|input| input.every) && world.builds.iter().any(is_use)
}

/// The first input that a history in which the version of an explanation is ticked resolves otherwise than `after`, the
/// world in which it is. It says nothing of inputs without `passed`, and nothing where an input, to which others may be tied,
/// wants that version by a pin, or where it is a forgotten use.
fn wrongly_ticked(world: &World, why: &Why, after: &Resolution, history: &mut MemoryHistory) -> Option<String> {
    let (Cause::Disabled { found, of, .. } | Cause::Gone { found, of, .. }) = &why.cause else { return None };
    let resource = world.inputs.iter().find(|input| input.name == *of)?.resource;
    let name = alone::name(world, of, found);
    let wants = |pin: &String| name.split('.').zip(pin.split('.')).all(|(part, wanted)| part == wanted);
    let is_wanted =
        world.inputs.iter().any(|input| input.resource == resource && input.pin.as_ref().is_some_and(wants));
    let is_it = |version: &&ResourceVersion| version.name == name;
    let known = world.resources[resource].versions.iter().find(is_it).expect("every version is listed, gone or not");
    if is_wanted || is_forgotten_use(world, resource, known) || !world.resources[resource].checked {
        return None;
    }
    let mut ticked = Ticked::new(history, ResourceId(resource as i64 + 1), &found.digest);
    let lifted = world.resolve_in(&mut ticked);
    let mut both = world.inputs.iter().zip(lifted.inputs.iter().zip(&after.inputs));
    let digest = |input: &InputResult| input.result.as_ref().ok().map(|resolved| resolved.digest.clone());
    let differs = both.find(|(input, (lifted, after))| !input.passed.is_empty() && digest(lifted) != digest(after));
    differs.map(|(input, _)| input.name.clone())
}

/// Whether an input is unresolved, for the same reason among others.
fn still_says(resolution: &Resolution, place: usize, why: &Why) -> bool {
    match &resolution.inputs[place].result {
        Ok(_) => false,
        Err(unresolved) => unresolved.why.iter().any(|other| other.input == why.input && other.cause == why.cause),
    }
}

/// Whether a cause only sums up what others say: that nothing is left where each build was ruled out, or that the same
/// set came up again. Undoing the others undoes it.
fn is_conclusion(cause: &Cause) -> bool {
    match cause {
        Cause::Doomed { .. } => true,
        Cause::NoMoreBuilds { tried, .. } => *tried > 0,
        Cause::NoVersion
        | Cause::AllDisabled { .. }
        | Cause::PinNotFound { .. }
        | Cause::Mismatch { .. }
        | Cause::Disabled { .. }
        | Cause::PinMismatch { .. }
        | Cause::Gone { .. }
        | Cause::NotInBuild { .. } => false,
    }
}

/// What is named of the input in a place, but for conclusions.
fn named(world: &World, place: usize) -> Vec<Why> {
    match &world.resolve().inputs[place].result {
        Ok(_) => Vec::new(),
        Err(unresolved) => unresolved.why.iter().filter(|why| !is_conclusion(&why.cause)).cloned().collect(),
    }
}

/// Whether undoing all that is named, and then what is named instead, in the end resolves the input: had something
/// gone unnamed, it would still be in the way when nothing is named any more.
fn suffices(world: &World, place: usize) -> bool {
    let mut step = world.clone();
    loop {
        let named = named(&step, place);
        if named.is_empty() {
            return matches!(foretell(&step).fates[place], Fate::Version { .. });
        }
        let before = step.clone();
        named.iter().for_each(|why| step = undone(&step, why));
        if step == before {
            return false;
        }
    }
}

/// After enabling, restoring and unpinning whatever is named, again and again until no such thing is named any more, doing
/// it with everything else resolves nothing more: then nothing that stood in the way went unnamed. What is still a
/// forgotten use stays one.
fn incompleteness(world: &World, resolution: &Resolution) -> Option<String> {
    let is_resolved = |outcome: &Outcome, place: usize| matches!(outcome.fates[place], Fate::Version { .. });
    let unresolved = |resolution: &Resolution| {
        let whys = resolution.inputs.iter().filter_map(|input| input.result.as_ref().err());
        whys.flat_map(|unresolved| unresolved.why.iter().cloned()).collect::<Vec<Why>>()
    };
    if resolution.resolved {
        return None;
    }
    let mut step = world.clone();
    let mut last = resolution.clone();
    let mut done = BTreeSet::new();
    loop {
        // Inputs that are tied together share their explanations.
        let mut named: Vec<Why> = Vec::new();
        for why in unresolved(&last) {
            if is_choice(&why.cause) && !named.contains(&why) {
                named.push(why);
            }
        }
        if named.is_empty() {
            break;
        }
        for why in &named {
            if !done.insert(format!("{why:?}")) {
                return Some(format!("named again after it was undone: {why}"));
            }
            step = undone(&step, why);
        }
        last = step.resolve();
    }
    let mut everything = step.clone();
    for place in (0..everything.inputs.len()).filter(|place| resolution.inputs[*place].result.is_err()) {
        let input = &mut everything.inputs[place];
        input.pin = None;
        let of = input.resource;
        let resource = &mut everything.resources[of];
        for (place, known) in resource.versions.iter_mut().enumerate().filter(|_| resource.checked) {
            if !is_forgotten_use(&step, of, known) {
                make_known(known, place);
            }
        }
    }
    if everything == step {
        return None;
    }
    let (before, after) = (outcome(&last), foretell(&everything));
    (0..world.inputs.len())
        .find(|place| is_resolved(&after, *place) && !is_resolved(&before, *place))
        .map(|place| format!("something that stands in the way of {} is not named", world.inputs[place].name))
}

/// Whether the cause is somebody's choice about versions, rather than what the past was.
fn is_choice(cause: &Cause) -> bool {
    match cause {
        Cause::NoVersion
        | Cause::AllDisabled { .. }
        | Cause::PinNotFound { .. }
        | Cause::Disabled { .. }
        | Cause::PinMismatch { .. }
        | Cause::Gone { .. } => true,
        Cause::Mismatch { .. } | Cause::NotInBuild { .. } | Cause::Doomed { .. } | Cause::NoMoreBuilds { .. } => false,
    }
}

#[test]
fn random_worlds_are_held_back_by_every_cause_there_is() {
    let mut met = BTreeSet::new();
    for seed in 0..2000 {
        let resolution = random::world(seed).resolve();
        let unresolved = resolution.inputs.iter().filter_map(|input| input.result.as_ref().err());
        met.extend(unresolved.flat_map(|unresolved| unresolved.why.iter()).map(|why| why.cause.as_str()));
    }
    let all = [
        "all-disabled",
        "doomed",
        "mismatch",
        "no-more-builds",
        "no-version",
        "not-in-build",
        "pin-mismatch",
        "pin-not-found",
        "version-disabled",
        "version-gone",
    ];
    assert_eq!(met.into_iter().collect::<Vec<_>>(), all);
}

#[test]
fn names_of_versions_survive() {
    assert_eq!(version_name(&version("a.1")), "a.1");
}
