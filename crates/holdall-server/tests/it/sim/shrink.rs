//! From a history that broke a rule to the shortest one that does: takes out what is not needed.

use super::op::{Op, write_plan};
use super::place::Place;
use super::{Failed, generate, play};

/// How many histories are played to shrink one.
const MOST_TRIES: usize = 400;

/// What is said of a failure: its seed, the shortest plan found, and how to play it again.
pub fn tell(database: &str, seed: u64, failed: &Failed, make: &dyn Fn() -> Place) -> String {
    let (ops, broken, log) = shrink(generate::history(seed), failed, make);
    let path = std::env::temp_dir().join(format!("holdall-sim-{seed}.plan"));
    let written = match std::fs::write(&path, write_plan(&ops)) {
        Ok(()) => format!("cargo xtask sim --database {database} --plan {}", path.display()),
        Err(error) => format!("(the plan cannot be written to {}: {error})", path.display()),
    };
    format!(
        "seed {seed}: {}\n\nThe shortest plan found ({} of its operations), which ends in: {broken}\n\n{}\nWhat \
         happened in it:\n\n{}\n\nTo play it again:\n\n  {written}\n  cargo xtask sim --database {database} --seed \
         {seed} --histories 1",
        failed.broken,
        ops.len(),
        write_plan(&ops),
        log.join("\n"),
    )
}

/// Takes out ever smaller pieces as long as a rule is broken without them.
fn shrink(mut ops: Vec<Op>, failed: &Failed, make: &dyn Fn() -> Place) -> (Vec<Op>, String, Vec<String>) {
    let (mut broken, mut log) = (failed.broken.clone(), failed.log.clone());
    // What comes after the failure did not happen.
    ops.truncate(failed.played);
    let mut tries = 0;
    let mut size = ops.len().div_ceil(2);
    while tries < MOST_TRIES {
        let mut at = 0;
        let mut smaller = false;
        while at < ops.len() && tries < MOST_TRIES {
            let mut without = ops.clone();
            without.drain(at..(at + size).min(ops.len()));
            tries += 1;
            match play(make(), &without) {
                Err(failed) if kind(&failed.broken) == kind(&broken) => {
                    (ops, broken, log) = (without, failed.broken, failed.log);
                    smaller = true;
                }
                _ => at += size,
            }
        }
        if size == 1 && !smaller {
            break;
        }
        size = (size / 2).max(1);
    }
    (ops, broken, log)
}

/// What kind of failure it is: its words without names and numbers.
fn kind(broken: &str) -> String {
    let words = broken.split_whitespace().filter(|word| word.chars().all(|c| c.is_ascii_lowercase()));
    words.filter(|word| !["staging", "production", "preview", "qa"].contains(word)).take(5).collect()
}
