//! Small worlds, numbered: each number is one world, so that all of them can be walked, or every n-th.
//!
//! Numbers of worlds that no input can tell from another one stand for none: a rerun of nothing is an original, and of
//! a build whose job is in no `passed`, neither its version nor what it repeats matters.

use holdall_engine::status::BuildStatus;

use crate::world::{Build, Input, Resource, ResourceVersion, World};

/// A way to number worlds.
pub struct Family {
    pub name: &'static str,
    /// How many numbers there are.
    pub size: u64,
    /// How many numbers make a sample of some thousand worlds.
    pub sample: u64,
    /// The world of a number below the size; `None`: it is the same as another number's.
    pub world: fn(u64) -> Option<World>,
}

pub const FAMILIES: [Family; 2] = [
    Family {
        name: "4 jobs, 1 resource, 3 versions, 4 builds",
        size: one_resource_size(),
        sample: 40_000,
        world: one_resource,
    },
    Family {
        name: "3 jobs, 2 resources, 2 versions, 3 builds",
        size: two_resources_size(),
        sample: 4_000,
        world: two_resources,
    },
];

/// The places of a number in mixed radix, the last one first.
struct Digits(u64);

impl Digits {
    fn next(&mut self, radix: u64) -> usize {
        let digit = self.0 % radix;
        self.0 /= radix;
        digit as usize
    }
}

/// What is written of an input: resource, `passed`, and `latest`, `every` or a pin.
type InputShape = (usize, &'static [usize], &'static str);

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

/// Inputs over one resource; the upstream jobs are 0, 1 and 2.
const ONE: [&[InputShape]; 18] = [
    &[(0, &[], "latest")],
    &[(0, &[], "every")],
    &[(0, &[], "v1")],
    &[(0, &[A], "latest")],
    &[(0, &[A], "every")],
    &[(0, &[A], "v1")],
    &[(0, &[A, B], "latest")],
    &[(0, &[A, B], "every")],
    &[(0, &[A, B], "v1")],
    &[(0, &[A, B], "every v1")],
    &[(0, &[A, B, C], "latest")],
    &[(0, &[A, B, C], "every")],
    &[(0, &[A], "latest"), (0, &[A, B], "latest")],
    &[(0, &[A, B], "latest"), (0, &[B, C], "latest")],
    &[(0, &[A], "every"), (0, &[A, B], "latest")],
    &[(0, &[A], "v1"), (0, &[A, B], "latest")],
    &[(0, &[A], "latest"), (0, &[B], "every")],
    &[(0, &[A], "latest"), (0, &[B], "latest"), (0, &[A, B], "latest")],
];

/// Inputs over two resources; the upstream jobs are 0 and 1.
const TWO: [&[InputShape]; 12] = [
    &[(0, &[A], "latest"), (1, &[A], "latest")],
    &[(0, &[A, B], "latest"), (1, &[A], "latest")],
    &[(0, &[A, B], "latest"), (1, &[A, B], "latest")],
    &[(0, &[A], "latest"), (1, &[B], "latest")],
    &[(0, &[A], "latest"), (1, &[A, B], "latest"), (0, &[B], "latest")],
    &[(0, &[A, B], "every"), (1, &[A, B], "latest")],
    &[(0, &[A, B], "every"), (1, &[A, B], "every")],
    &[(1, &[B], "every"), (0, &[A, B], "every")],
    &[(0, &[A, B], "v0"), (1, &[A, B], "latest")],
    &[(0, &[A, B], "latest"), (1, &[B], "v0")],
    &[(0, &[], "latest"), (1, &[A, B], "latest")],
    &[(0, &[A], "latest"), (1, &[A], "every"), (0, &[A, B], "v1")],
];

/// Job: one of three, the resolved one, or the first one failing; version; whether it is a rerun.
const ONE_BUILD: u64 = 5 * 3 * 2;

const fn one_resource_size() -> u64 {
    ONE.len() as u64 * 2 * 2 * 2 * ONE_BUILD.pow(4)
}

fn one_resource(number: u64) -> Option<World> {
    let mut digits = Digits(number);
    let shapes = ONE[digits.next(ONE.len() as u64)];
    let states = [digits.next(2), digits.next(2), digits.next(2)];
    let mut builds = Vec::with_capacity(4);
    for _ in 0..4 {
        let (job, status) = match digits.next(5) {
            4 => (A, BuildStatus::Failed),
            job => (job, BuildStatus::Succeeded),
        };
        let (version, is_rerun) = (digits.next(3), digits.next(2) == 1);
        let has_original = builds.iter().any(|(other, _, _, is_rerun)| *other == job && !is_rerun);
        if is_rerun && !has_original || !matters(shapes, job, 3) && (version > 0 || is_rerun) {
            return None;
        }
        builds.push((job, status, version, is_rerun));
    }
    let versions = states.into_iter().enumerate().map(|(place, state)| version(place, state)).collect();
    let resources = vec![Resource { name: "r0".to_owned(), checked: true, versions }];
    let mut world = World { jobs: jobs(4), resources, job: 3, inputs: inputs(shapes), builds: Vec::new() };
    for (job, status, version, is_rerun) in builds {
        add_build(&mut world, job, status, vec![(0, format!("v{version}"))], is_rerun);
    }
    Some(world)
}

/// Whether an input can see the builds of a job.
fn matters(shapes: &[InputShape], job: usize, resolved: usize) -> bool {
    job == resolved || shapes.iter().any(|(_, passed, _)| passed.contains(&job))
}

/// Job: one of two, or the resolved one; a version of each resource, or none.
const TWO_BUILD: u64 = 3 * 3 * 3;

const fn two_resources_size() -> u64 {
    TWO.len() as u64 * 3 * 3 * 3 * 3 * TWO_BUILD.pow(3)
}

fn two_resources(number: u64) -> Option<World> {
    let mut digits = Digits(number);
    let shapes = TWO[digits.next(TWO.len() as u64)];
    let resources = (0..2)
        .map(|place| Resource {
            name: format!("r{place}"),
            checked: true,
            versions: (0..2).map(|place| version(place, digits.next(3))).collect(),
        })
        .collect();
    let mut world = World { jobs: jobs(3), resources, job: 2, inputs: inputs(shapes), builds: Vec::new() };
    for _ in 0..3 {
        let job = digits.next(3);
        let has = (0..2).filter_map(|resource| match digits.next(3) {
            2 => None,
            version => Some((resource, format!("v{version}"))),
        });
        let has: Vec<(usize, String)> = has.collect();
        if !matters(shapes, job, 2) && !has.is_empty() {
            return None;
        }
        add_build(&mut world, job, BuildStatus::Succeeded, has, false);
    }
    Some(world)
}

fn jobs(count: usize) -> Vec<String> {
    (0..count).map(|place| format!("j{place}")).collect()
}

fn version(place: usize, state: usize) -> ResourceVersion {
    let order = (state != 2).then_some(place as i64 + 1);
    ResourceVersion { name: format!("v{place}"), order, enabled: state != 1 }
}

fn inputs(shapes: &[InputShape]) -> Vec<Input> {
    let input = |(place, (resource, passed, wanted)): (usize, &InputShape)| Input {
        name: format!("i{place}"),
        resource: *resource,
        passed: passed.to_vec(),
        every: wanted.starts_with("every"),
        pin: wanted.split(' ').find(|word| word.starts_with('v')).map(str::to_owned),
        trigger: true,
    };
    shapes.iter().enumerate().map(input).collect()
}

/// Upstream builds put what they have; a build of the resolved job gets it, under the names of its inputs, from the
/// newest upstream builds that have it. A rerun is one of the newest original of its job, where there is one.
fn add_build(world: &mut World, job: usize, status: BuildStatus, has: Vec<(usize, String)>, is_rerun: bool) {
    let original = world.builds.iter().rposition(|build| build.job == job && build.rerun_of.is_none());
    let rerun_of = original.filter(|_| is_rerun);
    let mut build = Build { job, status, rerun_of, got: Vec::new(), put: Vec::new(), from: Vec::new() };
    if job == world.job {
        for input in &world.inputs {
            let Some((resource, version)) = has.iter().find(|(resource, _)| *resource == input.resource) else {
                continue;
            };
            build.got.push((input.name.clone(), *resource, version.clone()));
            for passed in &input.passed {
                let vouches =
                    |upstream: &Build| upstream.job == *passed && upstream.put.contains(&(*resource, version.clone()));
                build.from.extend(world.builds.iter().rposition(vouches));
            }
        }
    } else {
        build.put = has;
    }
    world.builds.push(build);
}
