//! The engine and the oracle agree on every small world and on many random ones.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::explanations;
use crate::oracle::foretell;
use crate::random;
use crate::small::{FAMILIES, Family};
use crate::world::{World, outcome};

const RANDOM_SAMPLE: u64 = 2_000;
const RANDOM_FULL: u64 = 100_000;

/// Whether every world is wanted.
pub fn is_full() -> bool {
    std::env::var("HOLDALL_WORLDS").is_ok_and(|value| value == "full")
}

/// What is wrong with the engine's answer for a world.
fn disagreement(world: &World) -> Option<String> {
    let check = || {
        let mut history = world.history();
        let resolution = world.resolve_in(&mut history);
        let (engine, oracle) = (outcome(&resolution), foretell(world));
        if engine != oracle {
            return Some(format!("the engine says {engine:#?}, the oracle says {oracle:#?}"));
        }
        explanations::problem(world, &resolution, &mut history)
    };
    catch_unwind(AssertUnwindSafe(check)).unwrap_or_else(|_| Some("a panic".to_owned()))
}

/// Fails with the smallest part of the world that is still wrong.
fn check(world: World, which: &str) {
    if disagreement(&world).is_none() {
        return;
    }
    let smallest = shrink(world);
    let problem = disagreement(&smallest).unwrap_or_default();
    let document = serde_json::to_string(&smallest.document()).unwrap();
    panic!("{which}: {problem}\n{document}");
}

fn shrink(mut world: World) -> World {
    'again: loop {
        for smaller in smaller(&world) {
            if disagreement(&smaller).is_some() {
                world = smaller;
                continue 'again;
            }
        }
        return world;
    }
}

/// The world without one thing.
fn smaller(world: &World) -> Vec<World> {
    let mut all = Vec::new();
    let mut without = |change: &dyn Fn(&mut World)| {
        let mut smaller = world.clone();
        change(&mut smaller);
        all.push(smaller);
    };
    for place in 0..world.inputs.len() {
        if world.inputs.len() > 1 {
            without(&|world| _ = world.inputs.remove(place));
        }
        for at in 0..world.inputs[place].passed.len() {
            without(&|world| _ = world.inputs[place].passed.remove(at));
        }
    }
    if !world.builds.is_empty() {
        without(&|world| {
            world.builds.pop();
        });
    }
    for place in 0..world.builds.len() {
        for at in 0..world.builds[place].put.len() {
            without(&|world| _ = world.builds[place].put.remove(at));
        }
        for at in 0..world.builds[place].got.len() {
            without(&|world| _ = world.builds[place].got.remove(at));
        }
        for at in 0..world.builds[place].from.len() {
            without(&|world| _ = world.builds[place].from.remove(at));
        }
    }
    all
}

fn walk(family: &Family) {
    // A stride without common factors visits every digit in every combination with the others.
    let stride = if is_full() { 1 } else { (family.size / family.sample) | 1 };
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let walked = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let walked = &walked;
            scope.spawn(move || {
                let mut number = thread * stride;
                while number < family.size {
                    if let Some(world) = (family.world)(number) {
                        check(world, &format!("{}, number {number}", family.name));
                        walked.fetch_add(1, Ordering::Relaxed);
                    }
                    number += threads * stride;
                }
            });
        }
    });
    let walked = walked.into_inner();
    println!("{}: {walked} worlds", family.name);
    assert!(walked > 3_000, "only {walked} worlds of {}", family.name);
}

#[test]
fn every_small_world_of_one_resource() {
    walk(&FAMILIES[0]);
}

#[test]
fn every_small_world_of_two_resources() {
    walk(&FAMILIES[1]);
}

#[test]
fn random_worlds() {
    let count = if is_full() { RANDOM_FULL } else { RANDOM_SAMPLE };
    for seed in 0..count {
        let world = random::world(seed);
        assert_eq!(world.resolve_document(), world.resolve(), "seed {seed}, as a document");
        check(world, &format!("seed {seed}"));
    }
    println!("{count} random worlds");
}
