//! Random worlds that are larger than those that can be walked, each from one number.

use holdall_engine::status::BuildStatus;

use crate::world::{Build, Input, Resource, ResourceVersion, World};

/// SplitMix64.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below a bound.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// True once in that many times.
    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn subset(&mut self, of: usize) -> Vec<usize> {
        (0..of).filter(|_| self.once_in(2)).collect()
    }
}

/// The world of a seed: up to 5 upstream jobs, 3 resources, 4 versions of each, 12 builds and 4 inputs; with
/// failures, reruns, pins of a part or the whole of a version, disabled versions, versions that are gone, resources
/// that were never checked, and builds that have several versions of one resource.
pub fn world(seed: u64) -> World {
    let mut random = Random::new(seed);
    let upstream = 1 + random.below(5);
    let mut jobs: Vec<String> = (0..=upstream).map(|place| format!("j{place}")).collect();
    // The resolved job may have any id.
    let job = random.below(jobs.len());
    jobs[job] = "this".to_owned();
    let resources: Vec<Resource> = (0..1 + random.below(3)).map(|place| resource(&mut random, place)).collect();
    let inputs = (0..1 + random.below(4)).map(|place| input(&mut random, place, job, jobs.len(), &resources)).collect();
    let mut world = World { jobs, resources, job, inputs, builds: Vec::new() };
    for _ in 0..random.below(13) {
        let build = build(&mut random, &world);
        world.builds.push(build);
    }
    world
}

fn resource(random: &mut Random, place: usize) -> Resource {
    let versions = (0..1 + random.below(4)).map(|place| ResourceVersion {
        name: format!("{}.{place}", ["a", "b"][random.below(2)]),
        order: if random.once_in(10) { None } else { Some(place as i64 + 1) },
        enabled: !random.once_in(6),
    });
    Resource { name: format!("r{place}"), versions: versions.collect(), checked: !random.once_in(30) }
}

fn input(random: &mut Random, place: usize, job: usize, jobs: usize, resources: &[Resource]) -> Input {
    let resource = random.below(resources.len());
    let versions = &resources[resource].versions;
    let pin = match random.below(12) {
        0 => Some("a".to_owned()),
        1 => Some(versions[random.below(versions.len())].name.clone()),
        _ => None,
    };
    let passed = if random.once_in(6) {
        Vec::new()
    } else {
        random.subset(jobs).into_iter().filter(|other| *other != job).collect()
    };
    Input { name: format!("i{place}"), resource, passed, every: random.once_in(4), pin, trigger: random.once_in(2) }
}

fn build(random: &mut Random, world: &World) -> Build {
    let job = random.below(world.jobs.len());
    let status = match random.below(8) {
        0 => BuildStatus::Failed,
        1 => [BuildStatus::Pending, BuildStatus::Started, BuildStatus::Errored, BuildStatus::Aborted][random.below(4)],
        _ => BuildStatus::Succeeded,
    };
    let originals: Vec<usize> = (0..world.builds.len())
        .filter(|place| world.builds[*place].job == job && world.builds[*place].rerun_of.is_none())
        .collect();
    let rerun_of =
        if originals.is_empty() || !random.once_in(5) { None } else { Some(originals[random.below(originals.len())]) };
    let version = |random: &mut Random, resource: usize| {
        let versions = &world.resources[resource].versions;
        versions[random.below(versions.len())].name.clone()
    };
    let mut got = Vec::new();
    let mut put = Vec::new();
    if job == world.job {
        for input in &world.inputs {
            if !random.once_in(4) {
                got.push((input.name.clone(), input.resource, version(random, input.resource)));
            }
        }
    } else {
        for resource in 0..world.resources.len() {
            if !random.once_in(4) {
                let version = version(random, resource);
                match random.below(2) {
                    0 => put.push((resource, version)),
                    _ => got.push((format!("r{resource}"), resource, version)),
                }
            }
            if random.once_in(8) {
                put.push((resource, version(random, resource)));
            }
        }
    }
    let from = (0..world.builds.len()).filter(|_| random.once_in(3)).collect();
    Build { job, status, rerun_of, got, put, from }
}
