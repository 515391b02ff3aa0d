//! Random plans in random worlds: the walk and the oracle agree, and the world's own checks hold.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use super::oracle::foretell;
use super::shape::Shape;
use super::world::{Behaviour, World};
use crate::plan::Plan;
use crate::run::tree::Hook;
use crate::status::Outcome;

/// How many plans are tried; `HOLDALL_PLANS` says otherwise.
const PLANS: u32 = 3000;

/// A plan whose names and time limits are not yet its own.
fn shapes() -> impl Strategy<Value = Shape> {
    let step = prop_oneof![
        4 => Just(Shape::Step(String::new())),
        1 => Just(Shape::Put(String::new())),
    ];
    step.prop_recursive(6, 40, 4, |inner| {
        let steps = prop::collection::vec(inner.clone(), 0..4);
        let boxed = inner.clone().prop_map(Box::new);
        let hook = prop::sample::select(vec![Hook::Success, Hook::Failure, Hook::Error, Hook::Abort, Hook::Ensure]);
        prop_oneof![
            2 => steps.clone().prop_map(Shape::Do),
            3 => (0..3_u32, any::<bool>(), steps)
                .prop_map(|(limit, fail_fast, steps)| Shape::Par { limit, fail_fast, steps }),
            1 => boxed.clone().prop_map(Shape::Try),
            2 => prop::collection::vec(inner, 1..4).prop_map(Shape::Retry),
            2 => (1..60_i64, boxed.clone()).prop_map(|(span, step)| Shape::Timeout(span, step)),
            6 => (hook, boxed.clone(), boxed).prop_map(|(hook, step, after)| Shape::Hook(hook, step, after)),
        ]
    })
}

/// Gives every step a name and every time limit a length of its own.
pub fn tell_apart(shape: &mut Shape, nth: &mut i64) {
    *nth += 1;
    match shape {
        Shape::Step(name) | Shape::Other(_, name) | Shape::Put(name) => *name = format!("s{nth}"),
        Shape::Do(steps) | Shape::Retry(steps) | Shape::Par { steps, .. } => {
            steps.iter_mut().for_each(|step| tell_apart(step, nth));
        }
        Shape::Try(step) => tell_apart(step, nth),
        Shape::Timeout(span, step) => {
            *span = odd(*span, *nth);
            tell_apart(step, nth);
        }
        Shape::Hook(_, step, after) => {
            tell_apart(step, nth);
            tell_apart(after, nth);
        }
    }
}

/// A length of about `coarse`, with a fraction that depends on `salt`: no two sums of such lengths are equal, so that
/// nothing happens at the same time as something else but because of it.
pub fn odd(coarse: i64, salt: i64) -> i64 {
    let mut bits = salt.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits ^= bits >> 29;
    bits = bits.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (coarse << 32) + (bits >> 32).cast_signed()
}

/// What a step would do, with coarse times.
fn behaviours() -> impl Strategy<Value = Behaviour> {
    let outcome = prop_oneof![
        4 => Just(Outcome::Succeeded),
        2 => Just(Outcome::Failed),
        1 => Just(Outcome::Errored),
    ];
    (0..20_i64, outcome, 0..20_i64, prop::bool::weighted(0.8), prop::bool::weighted(0.1)).prop_map(
        |(takes, outcome, stop_takes, gives_version, lost)| {
            let gives_version = gives_version && !lost;
            Behaviour { takes, outcome, lost, stop_takes, gives_version }
        },
    )
}

fn world(plan: &Plan, behaviours: &[Behaviour], abort_at: Option<i64>) -> World {
    let behaviour = |(nth, node): (usize, &Plan)| {
        let salt = 1_000 + 2 * i64::try_from(nth).unwrap();
        let coarse = behaviours[nth % behaviours.len()];
        let takes = odd(coarse.takes, salt);
        let stop_takes = odd(coarse.stop_takes, salt + 1);
        (node.id.clone(), Behaviour { takes, stop_takes, ..coarse })
    };
    World {
        behaviours: plan.nodes().into_iter().enumerate().map(behaviour).collect::<BTreeMap<_, _>>(),
        abort_at: abort_at.map(|at| odd(at, 500)),
        late_timers: false,
        noisy: false,
        crash_every: None,
    }
}

/// A plan and what it meets.
struct Case {
    shape: Shape,
    behaviours: Vec<Behaviour>,
    abort_at: Option<i64>,
    crash_every: usize,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}\nabort at {:?}, crash every {}", self.shape, self.abort_at, self.crash_every)?;
        for (nth, node) in self.shape.plan().0.nodes().into_iter().enumerate() {
            if let Some(name) = node.name() {
                writeln!(f, "{} ({name}): {:?}", node.id, self.behaviours[nth % self.behaviours.len()])?;
            }
        }
        Ok(())
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let abort_at = prop::option::of(0..80_i64);
    (shapes(), prop::collection::vec(behaviours(), 40), abort_at, 1..8_usize).prop_map(
        |(mut shape, behaviours, abort_at, crash_every)| {
            tell_apart(&mut shape, &mut 0);
            Case { shape, behaviours, abort_at, crash_every }
        },
    )
}

#[test]
fn random_plans_go_as_foretold() {
    let plans = std::env::var("HOLDALL_PLANS").ok().map_or(PLANS, |plans| plans.parse().expect("a number"));
    let config = Config {
        cases: plans,
        rng_seed: RngSeed::Fixed(20_261_124),
        failure_persistence: None,
        max_shrink_iters: 5000,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&cases(), |case| {
        let (plan, _) = case.shape.plan();
        prop_assert_eq!(&Shape::parse(&case.shape.to_string()), &case.shape);
        let quiet = world(&plan, &case.behaviours, case.abort_at);
        let history = quiet.carry_out(&plan);
        prop_assert_eq!(&history, &foretell(&plan, &quiet));
        let hard = World { late_timers: true, noisy: true, crash_every: Some(case.crash_every), ..quiet };
        prop_assert_eq!(&hard.carry_out(&plan), &history);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
