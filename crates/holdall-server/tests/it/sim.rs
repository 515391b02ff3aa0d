//! Simulation: histories by chance over the real store, acts and duties, with simulated workers, clock, network and
//! database. After everything that happens the rules are looked at, and in the end what has become of it all.
//!
//! `cargo xtask sim` runs more of them, one seed, or a plan from a file; a failure prints its seed, the shortest plan that
//! was found, and the command that plays it again.

mod builds;
mod duties;
mod generate;
mod op;
mod picture;
mod place;
mod play;
mod rules;
mod settle;
mod shown;
mod shrink;
mod system;
mod worker;

use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use op::Op;
use place::Place;
use play::{Sim, Tally};

/// How many histories an ordinary test run plays.
const HISTORIES: u64 = 140;
const HISTORIES_ON_POSTGRES: u64 = 18;

/// After how many histories it is said how far a run has come.
const SAY_EVERY: u64 = 500;

/// A history that broke a rule.
struct Failed {
    broken: String,
    /// How many operations were played, the last of them perhaps not to its end.
    played: usize,
    log: Vec<String>,
}

/// Plays a history to its end.
fn play(place: Place, ops: &[Op]) -> Result<Tally, Failed> {
    let mut sim = Sim::new(place).map_err(|broken| Failed { broken, played: 0, log: Vec::new() })?;
    let mut played = 0;
    let ended = std::panic::catch_unwind(AssertUnwindSafe(|| {
        for op in ops {
            played += 1;
            sim.play(op)?;
        }
        settle::settle(&mut sim)
    }));
    let ended = ended.unwrap_or_else(|_| Err("it panicked".to_owned()));
    sim.tally.deployments = sim.rules.seen.environments.values().map(|one| one.deployments.len()).sum();
    match ended {
        Ok(()) => Ok(sim.tally),
        Err(broken) => Err(Failed { broken, played, log: std::mem::take(&mut sim.log) }),
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// Plays what the environment says, or so many histories.
fn run(database: &str, make: impl Fn() -> Place + Sync, histories: u64) {
    if std::env::var("HOLDALL_SIM_DATABASE").is_ok_and(|wanted| wanted != database) {
        return;
    }
    if let Ok(path) = std::env::var("HOLDALL_SIM_PLAN") {
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let ops = op::read_plan(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
        if let Err(failed) = play(make(), &ops) {
            panic!("{}\n\n{}", failed.log.join("\n"), failed.broken);
        }
        return;
    }
    let first = number("HOLDALL_SIM_SEED").unwrap_or(1);
    let histories = number("HOLDALL_SIM_HISTORIES").unwrap_or(histories);
    let threads = number("HOLDALL_SIM_THREADS").unwrap_or(2);
    let most = number("HOLDALL_SIM_FAILURES").map_or(1, |most| usize::try_from(most).expect("it is small"));
    let (next, sum, failed) = (AtomicU64::new(first), Mutex::new(Tally::default()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + histories || failed.lock().expect("a lock").len() >= most {
                        return;
                    }
                    if seed > first && (seed - first).is_multiple_of(SAY_EVERY) {
                        eprintln!("{} of {histories} histories have begun", seed - first);
                    }
                    match play(make(), &generate::history(seed)) {
                        Ok(tally) => sum.lock().expect("a lock").add(tally),
                        Err(one) => {
                            eprintln!("seed {seed}: {}", one.broken);
                            failed.lock().expect("a lock").push((seed, one));
                        }
                    }
                }
            });
        }
    });
    println!("{histories} histories from seed {first} on {database}: {:?}", sum.into_inner().expect("a lock"));
    if number("HOLDALL_SIM_SHRINK") == Some(0) {
        let failed = failed.into_inner().expect("a lock");
        let told: Vec<String> =
            failed.iter().map(|(seed, one)| format!("seed {seed}\n{}\n{}", one.log.join("\n"), one.broken)).collect();
        assert!(told.is_empty(), "{}", told.join("\n\n"));
        return;
    }
    let failed = failed.into_inner().expect("a lock");
    if failed.is_empty() {
        return;
    }
    let told: Vec<String> = failed.iter().map(|(seed, failed)| shrink::tell(database, *seed, failed, &make)).collect();
    panic!("{}", told.join("\n\n"));
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.acts += other.acts;
        self.refused += other.refused;
        self.faults += other.faults;
        self.deployments += other.deployments;
    }
}

#[test]
fn sqlite() {
    run("sqlite", Place::sqlite, HISTORIES);
}

#[test]
fn postgres() {
    if Place::postgres().is_none() {
        assert!(
            std::env::var_os("HOLDALL_REQUIRE_TOOLS").is_none(),
            "no PostgreSQL server: HOLDALL_TEST_POSTGRES is not set"
        );
        eprintln!("NOT RUN on PostgreSQL: HOLDALL_TEST_POSTGRES is not set; use cargo xtask test");
        return;
    }
    run("postgresql", || Place::postgres().expect("a server"), HISTORIES_ON_POSTGRES);
}

/// Plans that ended in a broken rule once, as they were found.
#[test]
fn what_broke_a_rule_once_does_not_do_so_again() {
    for (name, text) in [
        ("check-that-runs", include_str!("sim/plans/check-that-runs.plan")),
        ("clock-set-back-after-a-check", include_str!("sim/plans/clock-set-back-after-a-check.plan")),
        ("clock-set-back-after-a-trigger", include_str!("sim/plans/clock-set-back-after-a-trigger.plan")),
        ("completion-triggered-beside-itself", include_str!("sim/plans/completion-triggered-beside-itself.plan")),
        (
            "deploy-fails-once-more-after-the-tests",
            include_str!("sim/plans/deploy-fails-once-more-after-the-tests.plan"),
        ),
        ("disk-lost-before-the-first-report", include_str!("sim/plans/disk-lost-before-the-first-report.plan")),
        ("environment-before-is-removed", include_str!("sim/plans/environment-before-is-removed.plan")),
        ("frozen-at-a-bag-that-has-not-passed", include_str!("sim/plans/frozen-at-a-bag-that-has-not-passed.plan")),
        ("lock-taken-while-a-pipeline-waits", include_str!("sim/plans/lock-taken-while-a-pipeline-waits.plan")),
        ("new-pipeline-at-once-after-waiting", include_str!("sim/plans/new-pipeline-at-once-after-waiting.plan")),
        ("unlocked-while-a-bag-waits", include_str!("sim/plans/unlocked-while-a-bag-waits.plan")),
        ("other-pipeline-gives-a-lock-back", include_str!("sim/plans/other-pipeline-gives-a-lock-back.plan")),
        (
            "started-again-where-the-one-before-is-gone",
            include_str!("sim/plans/started-again-where-the-one-before-is-gone.plan"),
        ),
        ("unlocked-to-go-on-and-held-before", include_str!("sim/plans/unlocked-to-go-on-and-held-before.plan")),
        ("allowed-while-a-build-waits", include_str!("sim/plans/allowed-while-a-build-waits.plan")),
        ("taken-over-while-a-hook-runs", include_str!("sim/plans/taken-over-while-a-hook-runs.plan")),
        ("unlocked-from-another-pipeline", include_str!("sim/plans/unlocked-from-another-pipeline.plan")),
        (
            "waits-for-a-lock-that-it-may-not-take-any-more",
            include_str!("sim/plans/waits-for-a-lock-that-it-may-not-take-any-more.plan"),
        ),
        ("unlocked-while-a-person-has-asked", include_str!("sim/plans/unlocked-while-a-person-has-asked.plan")),
        ("unqueued-before-another-pipeline", include_str!("sim/plans/unqueued-before-another-pipeline.plan")),
        (
            "unlocked-while-a-hook-of-a-lost-deploy-runs",
            include_str!("sim/plans/unlocked-while-a-hook-of-a-lost-deploy-runs.plan"),
        ),
    ] {
        let ops = op::read_plan(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        if let Err(failed) = play(Place::sqlite(), &ops) {
            panic!("{name}\n{}\n\n{}", failed.log.join("\n"), failed.broken);
        }
    }
}

#[test]
fn every_operation_is_read_as_it_was_written() {
    for seed in 0..300 {
        let ops = generate::history(seed);
        assert_eq!(op::read_plan(&op::write_plan(&ops)), Ok(ops));
    }
}
