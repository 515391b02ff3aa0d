//! Every small plan, with every way its steps can end, aborted at every moment: the walk and the oracle agree.

use super::oracle::foretell;
use super::random::odd;
use super::shape::{HOOKS, Shape};
use super::world::{Behaviour, World};
use crate::plan::Plan;
use crate::status::Outcome;

/// How many nodes the plans have at most; `HOLDALL_NODES` says otherwise (5 takes a minute).
const NODES: usize = 4;

/// How a step ends, and whether somebody knows.
const OUTCOMES: [(Outcome, bool); 4] =
    [(Outcome::Succeeded, false), (Outcome::Failed, false), (Outcome::Errored, false), (Outcome::Errored, true)];

/// Time limits: one that no step keeps, and one that every plan does.
const LIMITS: [i64; 2] = [1, 1000];

/// Every shape of so many nodes. Names are left out.
fn shapes(nodes: usize) -> Vec<Shape> {
    if nodes == 1 {
        return vec![Shape::Step(String::new()), Shape::Do(Vec::new())];
    }
    let mut found = Vec::new();
    for step in shapes(nodes - 1) {
        found.push(Shape::Try(Box::new(step.clone())));
        found.extend(LIMITS.map(|limit| Shape::Timeout(limit, Box::new(step.clone()))));
    }
    for steps in lists(nodes - 1) {
        found.push(Shape::Do(steps.clone()));
        found.push(Shape::Retry(steps.clone()));
        for (limit, fail_fast) in [(0, false), (1, false), (0, true), (1, true), (2, true)] {
            found.push(Shape::Par { limit, fail_fast, steps: steps.clone() });
        }
        if let [step, after] = &steps[..] {
            let hook = |(_, hook)| Shape::Hook(hook, Box::new(step.clone()), Box::new(after.clone()));
            found.extend(HOOKS.map(hook));
        }
    }
    found
}

/// Every list of shapes that have so many nodes together.
fn lists(nodes: usize) -> Vec<Vec<Shape>> {
    if nodes == 0 {
        return vec![Vec::new()];
    }
    let mut found = Vec::new();
    for first in 1..=nodes {
        for shape in shapes(first) {
            for mut rest in lists(nodes - first) {
                rest.insert(0, shape.clone());
                found.push(rest);
            }
        }
    }
    found
}

/// The `nth` of the worlds that a plan can meet: how its steps end, and which of them are the quicker ones.
fn world(plan: &Plan, mut nth: usize) -> World {
    let steps: Vec<&Plan> = plan.nodes().into_iter().filter(|node| node.is_step()).collect();
    let backwards = nth % 2 == 1;
    nth /= 2;
    let mut behaviours = std::collections::BTreeMap::new();
    for (place, step) in steps.iter().enumerate() {
        let salt = i64::try_from(place).unwrap();
        let slow = if backwards { 8 - salt } else { 2 + salt };
        let (outcome, lost) = OUTCOMES[nth % OUTCOMES.len()];
        let behaviour = Behaviour {
            takes: odd(slow, 2 * salt),
            outcome,
            lost,
            // The first ignores that it is told to stop.
            stop_takes: if place == 0 { odd(100, 2 * salt + 1) } else { odd(0, 2 * salt + 1) },
            gives_version: true,
        };
        nth /= OUTCOMES.len();
        behaviours.insert(step.id.clone(), behaviour);
    }
    World { behaviours, abort_at: None, late_timers: false, noisy: false, crash_every: None }
}

#[test]
fn every_small_plan_goes_as_foretold_and_so_it_does_when_it_is_aborted() {
    let nodes = std::env::var("HOLDALL_NODES").ok().map_or(NODES, |nodes| nodes.parse().expect("a number"));
    let mut walks = 0;
    for shape in (1..=nodes).flat_map(shapes) {
        let mut shape = shape;
        super::random::tell_apart(&mut shape, &mut 0);
        let (plan, _) = shape.plan();
        let steps = plan.nodes().into_iter().filter(|node| node.is_step()).count();
        for nth in 0..2 * OUTCOMES.len().pow(u32::try_from(steps).unwrap()) {
            let mut world = world(&plan, nth);
            let undisturbed = world.carry_out(&plan);
            assert_eq!(undisturbed, foretell(&plan, &world), "{shape} in world {nth}");
            let mut moments: Vec<i64> =
                undisturbed.steps.values().flat_map(|step| [step.started, step.ended]).collect();
            moments.extend(undisturbed.steps.values().filter_map(|step| step.cancelled.map(|(at, _)| at)));
            moments.sort_unstable();
            moments.dedup();
            for moment in moments {
                world.abort_at = Some(moment + 1);
                assert_eq!(world.carry_out(&plan), foretell(&plan, &world), "{shape} in world {nth}, aborted");
                walks += 1;
            }
        }
    }
    assert!(walks > 10_000 || nodes < NODES, "only {walks} walks");
}
