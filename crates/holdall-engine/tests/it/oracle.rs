//! What the rules of the reference (part 3) mean, written down as naively as possible and without a look at the
//! engine: worlds are copied, lists are searched from end to end, and a group of inputs tries every combination of
//! upstream builds in order of preference.

use std::collections::BTreeSet;

use holdall_engine::status::BuildStatus;

use crate::world::{Fate, Input, Outcome, World};

/// The fate of every input.
pub fn foretell(world: &World) -> Outcome {
    let mut fates: Vec<Option<Fate>> = vec![None; world.inputs.len()];
    let mut has_next = false;
    for (place, input) in world.inputs.iter().enumerate() {
        if input.passed.is_empty() {
            fates[place] = Some(match plain(world, input) {
                Ok((name, more)) => {
                    has_next |= more;
                    let first = is_first(world, input, &name);
                    Fate::Version { name, builds: Vec::new(), first }
                }
                Err(error) => Fate::Error(error),
            });
        }
    }
    for group in groups(world) {
        match grouped(world, &group) {
            Ok(chosen) => {
                for (place, choice) in group.iter().zip(chosen) {
                    has_next |= choice.has_next;
                    let first = is_first(world, &world.inputs[*place], &choice.version);
                    let builds = choice.vouched.iter().map(|(_, build)| *build).collect();
                    fates[*place] = Some(Fate::Version { name: choice.version, builds, first });
                }
            }
            Err(error) => {
                for place in group {
                    fates[place] = Some(Fate::Error(error.clone()));
                }
            }
        }
    }
    Outcome { fates: fates.into_iter().map(|fate| fate.expect("every input has a fate")).collect(), has_next }
}

/// Known versions, the newest first: name and order.
fn known(world: &World, resource: usize) -> Vec<(String, i64)> {
    let resource = &world.resources[resource];
    let mut known: Vec<(String, i64)> = resource
        .versions
        .iter()
        .filter_map(|version| Some((version.name.clone(), version.order.filter(|_| resource.checked)?)))
        .collect();
    known.sort_by_key(|(_, order)| -order);
    known
}

fn is_known(world: &World, resource: usize, name: &str) -> bool {
    known(world, resource).iter().any(|(other, _)| other == name)
}

fn is_disabled(world: &World, resource: usize, name: &str) -> bool {
    let resource = &world.resources[resource];
    resource.checked && resource.versions.iter().any(|version| version.name == name && !version.enabled)
}

/// The newest known version whose name begins with the parts of the pin.
fn pinned(world: &World, resource: usize, pin: &str) -> Result<String, String> {
    let wanted: Vec<&str> = pin.split('.').collect();
    let found = known(world, resource).into_iter().find(|(name, _)| {
        let parts: Vec<&str> = name.split('.').collect();
        parts.len() >= wanted.len() && parts[..wanted.len()] == wanted
    });
    let keys: Vec<String> = wanted.iter().enumerate().map(|(place, part)| format!("k{place}:{part}")).collect();
    found.map(|(name, _)| name).ok_or_else(|| format!("pinned version {} not found", keys.join(" ")))
}

/// An input without `passed`: its version, and whether there is another one after it.
fn plain(world: &World, input: &Input) -> Result<(String, bool), String> {
    if let Some(pin) = &input.pin {
        return pinned(world, input.resource, pin).map(|name| (name, false));
    }
    let enabled: Vec<(String, i64)> = known(world, input.resource)
        .into_iter()
        .filter(|(name, _)| !is_disabled(world, input.resource, name))
        .collect();
    let sentence = if input.every { "version of resource not found" } else { "latest version of resource not found" };
    let newest = enabled.first().map(|(name, _)| (name.clone(), false)).ok_or_else(|| sentence.to_owned());
    if !input.every {
        return newest;
    }
    let Some((_, used)) = newest_use(world, input.resource) else { return newest };
    let newer: Vec<&(String, i64)> = enabled.iter().filter(|(_, order)| *order > used).collect();
    match newer.last() {
        Some((name, _)) => Ok((name.clone(), newer.len() > 1)),
        None => newest,
    }
}

/// The build of the job that used the newest known version of a resource, and the order of that version. Of several
/// builds, the last.
fn newest_use(world: &World, resource: usize) -> Option<(usize, i64)> {
    for (name, order) in known(world, resource) {
        let used_it = |place: &usize| {
            let build = &world.builds[*place];
            build.job == world.job && build.got.iter().any(|(_, of, got)| *of == resource && *got == name)
        };
        if let Some(place) = (0..world.builds.len()).rev().find(used_it) {
            return Some((place, order));
        }
    }
    None
}

fn is_first(world: &World, input: &Input, name: &str) -> bool {
    let same = |(as_input, resource, got): &(String, usize, String)| {
        *as_input == input.name && *resource == input.resource && got == name
    };
    !world.builds.iter().any(|build| build.job == world.job && build.got.iter().any(same))
}

/// Inputs with `passed`, tied together: each joins the last group with which it shares a job.
fn groups(world: &World) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for place in 0..world.inputs.len() {
        if world.inputs[place].passed.is_empty() {
            continue;
        }
        let shares = |group: &Vec<usize>| {
            group
                .iter()
                .any(|other| world.inputs[*other].passed.iter().any(|job| world.inputs[place].passed.contains(job)))
        };
        match (0..groups.len()).rev().find(|group| shares(&groups[*group])) {
            Some(group) => groups[group].push(place),
            None => groups.push(vec![place]),
        }
    }
    groups
}

#[derive(Clone, Default, PartialEq)]
struct Choice {
    /// Empty: none yet.
    version: String,
    /// Jobs and the builds with which they vouched.
    vouched: Vec<(usize, usize)>,
    has_next: bool,
}

struct Group<'a> {
    world: &'a World,
    inputs: Vec<&'a Input>,
    pins: Vec<Option<String>>,
    /// Where `every` goes on, settled by the first such input that is looked at and was ever used: upstream jobs
    /// and the builds that vouched for the job's last use.
    last_used: Option<Vec<(usize, usize)>>,
    /// The versions, by input, that led nowhere last. The reference does not try them again at once, although other
    /// builds might vouch for them better: rarely, that misses the only way.
    led_nowhere: Vec<String>,
}

fn grouped(world: &World, group: &[usize]) -> Result<Vec<Choice>, String> {
    let inputs: Vec<&Input> = group.iter().map(|place| &world.inputs[*place]).collect();
    let mut pins = Vec::new();
    for input in &inputs {
        pins.push(input.pin.as_ref().map(|pin| pinned(world, input.resource, pin)).transpose()?);
    }
    let nothing = vec![Choice::default(); inputs.len()];
    let mut group = Group { world, inputs, pins, last_used: None, led_nowhere: Vec::new() };
    group.complete(nothing).ok_or("no satisfiable builds from passed jobs found for set of inputs".to_owned())
}

/// How builds of a job are preferred: a rerun stands directly after its original.
fn rank(world: &World, build: usize) -> (usize, usize) {
    (world.builds[build].rerun_of.unwrap_or(build), build)
}

impl Group<'_> {
    /// The most preferred way to complete what is chosen so far.
    fn complete(&mut self, chosen: Vec<Choice>) -> Option<Vec<Choice>> {
        let Some((input, job)) = self.next_requirement(&chosen) else { return Some(chosen) };
        for (build, is_newer) in self.preferred(input, job, &chosen) {
            let Some(with_it) = self.with(&chosen, input, job, build, is_newer) else { continue };
            let versions: Vec<String> = with_it.iter().map(|choice| choice.version.clone()).collect();
            if versions == self.led_nowhere {
                continue;
            }
            if let Some(complete) = self.complete(with_it) {
                return Some(complete);
            }
            self.led_nowhere = versions;
        }
        None
    }

    /// The first input, and of its jobs the first, whose word is still missing and not put off.
    fn next_requirement(&mut self, chosen: &[Choice]) -> Option<(usize, usize)> {
        for input in 0..self.inputs.len() {
            let jobs: BTreeSet<usize> = self.inputs[input].passed.iter().copied().collect();
            for job in jobs {
                let is_missing = chosen[input].vouched.iter().all(|(vouched, _)| *vouched != job);
                if is_missing && !self.is_put_off(input, job, chosen) {
                    return Some((input, job));
                }
            }
        }
        None
    }

    /// With `every`, a job that the last use did not come through waits for those that it came through.
    fn is_put_off(&mut self, input: usize, job: usize, chosen: &[Choice]) -> bool {
        if !self.inputs[input].every {
            return false;
        }
        let through = self.came_through(input);
        chosen[input].version.is_empty() && !through.is_empty() && through.iter().all(|(other, _)| *other != job)
    }

    /// Of the input's jobs, those that the last use came through, with the builds.
    fn came_through(&mut self, input: usize) -> Vec<(usize, usize)> {
        if self.last_used.is_none() {
            self.last_used = newest_use(self.world, self.inputs[input].resource).map(|(place, _)| {
                let mut from = self.world.builds[place].from.clone();
                from.sort();
                from.into_iter().map(|build| (self.world.builds[build].job, build)).collect()
            });
        }
        let mut through: Vec<(usize, usize)> = Vec::new();
        for (job, build) in self.last_used.iter().flatten() {
            if self.inputs[input].passed.contains(job) {
                through.retain(|(other, _)| other != job);
                through.push((*job, *build));
            }
        }
        through
    }

    /// The builds that may give their word, in order of preference, and whether each is newer than the last used.
    fn preferred(&mut self, input: usize, job: usize, chosen: &[Choice]) -> Vec<(usize, bool)> {
        let through = if self.inputs[input].every { self.came_through(input) } else { Vec::new() };
        let last = through.into_iter().find_map(|(other, build)| (other == job).then_some(build));
        let world = self.world;
        let mut all: Vec<usize> = (0..world.builds.len())
            .filter(|build| world.builds[*build].job == job && world.builds[*build].status == BuildStatus::Succeeded)
            .collect();
        all.sort_by_key(|build| rank(world, *build));
        // Once the input has a version, only builds that have all that is chosen for the inputs sharing the job.
        let has_all = |build: &usize| {
            chosen[input].version.is_empty()
                || (0..self.inputs.len()).all(|other| {
                    chosen[other].version.is_empty()
                        || !self.inputs[other].passed.contains(&job)
                        || has(world, *build, self.inputs[other].resource).contains(&chosen[other].version)
                })
        };
        let Some(last) = last else {
            return all.into_iter().rev().filter(has_all).map(|build| (build, false)).collect();
        };
        let reruns_of_last =
            |build: usize| world.builds[last].rerun_of.is_none() && world.builds[build].rerun_of == Some(last);
        let newer = all.iter().filter(|build| rank(world, **build) > rank(world, last) && !reruns_of_last(**build));
        let older =
            all.iter().rev().filter(|build| rank(world, **build) <= rank(world, last)).filter(|build| has_all(build));
        newer.map(|build| (*build, true)).chain(older.map(|build| (*build, false))).collect()
    }

    /// What is chosen when a build gives its word for `input`, and for every other input that has its job; `None`
    /// when the build contradicts what is chosen or has nothing for `input`.
    fn with(&self, chosen: &[Choice], input: usize, job: usize, build: usize, is_newer: bool) -> Option<Vec<Choice>> {
        let mut after = chosen.to_vec();
        let concerned: Vec<usize> =
            (0..self.inputs.len()).filter(|other| self.inputs[*other].passed.contains(&job)).collect();
        let mut served = BTreeSet::new();
        let resources: BTreeSet<usize> = concerned.iter().map(|other| self.inputs[*other].resource).collect();
        'build: for resource in resources {
            for version in has(self.world, build, resource) {
                for &other in concerned.iter().filter(|other| self.inputs[**other].resource == resource) {
                    if served.contains(&other) {
                        continue;
                    }
                    let choice = &mut after[other];
                    if !choice.version.is_empty() && choice.version != version {
                        return None;
                    }
                    let is_pinned_elsewhere = self.pins[other].as_ref().is_some_and(|pin| *pin != version);
                    if is_disabled(self.world, resource, &version) || is_pinned_elsewhere {
                        continue;
                    }
                    if choice.version.is_empty() && !is_known(self.world, resource, &version) {
                        break 'build;
                    }
                    choice.version = version.clone();
                    choice.vouched.push((job, build));
                    choice.has_next |= is_newer;
                    served.insert(other);
                }
            }
        }
        served.contains(&input).then_some(after)
    }
}

/// The versions of a resource that a build has: what it put before what it got, each once.
fn has(world: &World, build: usize, resource: usize) -> Vec<String> {
    let build = &world.builds[build];
    let put = build.put.iter().filter(|(of, _)| *of == resource).map(|(_, version)| version);
    let got = build.got.iter().filter(|(_, of, _)| *of == resource).map(|(_, _, version)| version);
    let mut all: Vec<String> = Vec::new();
    for version in put.chain(got) {
        if !all.contains(version) {
            all.push(version.clone());
        }
    }
    all
}
