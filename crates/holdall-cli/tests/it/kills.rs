//! A flow during which server, worker, shims and PostgreSQL, processes of their own, are killed many times, one of them
//! or all: it ends in production, no step runs twice, and nothing of a log is missing or there twice.
//!
//! What is counted, steps count themselves, in files that Holdall does not know. Where the shim of a step was killed, a
//! [`person`] goes on. What is looked at when all is over is in [`proof`]. Which process is killed and when comes from a
//! seed, which a failure shows and `HOLDALL_SEED` gives; `HOLDALL_KILLS` says how many.

mod person;
mod proof;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use scratch_postgres::{Death, Postgres};
use serde_json::Value;

use crate::demo_world::git;
use crate::real::{Place, Process, Steps, until};
use person::Person;

/// How often something is killed where `HOLDALL_KILLS` does not say it.
const KILLS: u32 = 200;

/// The longest time that a process has after its start before it is killed.
const LIVES_MS: u64 = 400;

/// The way of a bag.
const CHAIN: [&str; 3] = ["preview", "staging", "production"];

/// The worker is a process of its own, to be killed alone.
const NO_WORKER: [&str; 1] = ["--no-worker"];

/// How many lines a step prints.
const LINES: usize = 2000;

#[test]
fn nothing_is_lost_or_done_twice_on_sqlite() {
    flow(Place::sqlite(), None);
}

#[test]
fn nothing_is_lost_or_done_twice_on_postgresql() {
    if let Some((place, postgres)) = Place::own_postgres() {
        flow(place, Some(postgres));
    }
}

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Server,
    Worker,
    Both,
    Shim,
    /// PostgreSQL's first process.
    Database,
    /// Server, worker, all shims, and every process of PostgreSQL.
    All,
}

fn flow(place: Place, mut postgres: Option<Postgres>) {
    let kills = std::env::var("HOLDALL_KILLS").map_or(KILLS, |kills| kills.parse().expect("HOLDALL_KILLS is a number"));
    let begun = Instant::now();
    let mut chance = Chance::new();
    let steps = Steps(place.path("work"));
    let run = Run { place };
    run.make_repository();
    let server = run.place.start_server_that_answers(&NO_WORKER);
    run.set_system();
    let worker = run.place.start_worker();
    let mut scene = Scene { run: &run, steps, server: Some(server), worker: Some(worker), killed: BTreeSet::new() };
    let mut counts = std::collections::BTreeMap::new();
    let person = Person::new();
    std::thread::scope(|scope| {
        let _over = person.over_when_dropped();
        let own_chance = Chance(chance.0 ^ 1);
        scope.spawn(|| person.go_on(&run, own_chance));
        let mut seen = 0;
        for kill in 0..kills {
            // Every second one waits until the flow has gone on, so that not only starts are hit; something to do there
            // is always, since every second one pushes.
            if kill % 2 == 0 {
                run.push(&format!("during {kill}"));
            } else {
                until("a step begins or ends", || {
                    scene.assert_runs();
                    (run.steps_log().len() > seen).then_some(()).ok_or_else(|| person.said())
                });
            }
            // The moment is what is tested: somewhere in the start of a process, or in what it then does.
            std::thread::sleep(Duration::from_millis(chance.below(LIVES_MS)));
            seen = run.steps_log().len();
            let victim = match chance.below(if postgres.is_some() { 7 } else { 6 }) {
                0 => Victim::Server,
                1 => Victim::Worker,
                2 => Victim::Both,
                3 | 4 => Victim::Shim,
                5 => Victim::All,
                _ => Victim::Database,
            };
            *counts.entry(victim).or_insert(0) += 1;
            scene.kill(victim, postgres.as_mut(), &mut chance);
        }
        println!(
            "{kills} kills, {counts:?}, {} shims, in {:?}; {} lines of steps; the person's acts: {}",
            scene.killed.len(),
            begun.elapsed(),
            run.steps_log().lines().count(),
            person.acts(),
        );
        let last = run.push("afterwards");
        until("the last push is live in production, and nothing goes on", || {
            scene.assert_runs();
            run.is_live_and_at_rest(&last).map_err(|seen| format!("{seen}; {}", person.said()))
        });
    });
    println!("all over after {:?}", begun.elapsed());
    assert!(scene.worker.take().unwrap().stop().success());
    assert!(scene.server.take().unwrap().stop().success());
    assert_eq!(scene.steps.groups(), [], "a step was left behind");
    assert_eq!(scene.steps.shims(), [], "a shim was left behind");
    run.assert_whole(&scene.killed);
}

/// What runs.
struct Scene<'a> {
    run: &'a Run,
    steps: Steps,
    server: Option<Process>,
    worker: Option<Process>,
    /// The attempts whose shims were killed.
    killed: BTreeSet<String>,
}

impl Scene<'_> {
    /// Fails the test where something has ended by itself.
    fn assert_runs(&mut self) {
        for process in [&mut self.server, &mut self.worker].into_iter().flatten() {
            process.assert_runs();
        }
    }

    /// Kills it and starts it again.
    fn kill(&mut self, victim: Victim, postgres: Option<&mut Postgres>, chance: &mut Chance) {
        if victim == Victim::Shim {
            // Those that run now, or that will soon.
            let shims = until("a shim runs", || {
                self.assert_runs();
                let shims = self.steps.shims();
                if shims.is_empty() { Err(self.run.steps_log()) } else { Ok(shims) }
            });
            let one = &shims[chance.below(shims.len() as u64) as usize];
            self.kill_shims(std::slice::from_ref(one));
            return;
        }
        let (server, worker, all) = match victim {
            Victim::Server => (true, false, false),
            Victim::Worker => (false, true, false),
            Victim::Both => (true, true, false),
            Victim::All => (true, true, true),
            Victim::Shim | Victim::Database => (false, false, false),
        };
        for process in [(server, &mut self.server), (worker, &mut self.worker)] {
            if let (true, killed) = process {
                killed.take().unwrap().kill();
            }
        }
        if all {
            self.kill_shims(&self.steps.shims());
        }
        if let Some(postgres) = postgres.filter(|_| all || victim == Victim::Database) {
            postgres.kill(if all { Death::OfAll } else { Death::OfFirst }).unwrap();
            postgres.launch().unwrap();
        }
        if server {
            self.server = Some(self.run.place.start_server(&NO_WORKER));
        }
        if worker {
            self.worker = Some(self.run.place.start_worker());
        }
    }

    fn kill_shims(&mut self, shims: &[(nix::unistd::Pid, String)]) {
        for (pid, attempt) in shims {
            self.killed.insert(attempt.clone());
            // An error says that it has just ended.
            let _ = kill(*pid, Signal::SIGKILL);
        }
    }
}

struct Run {
    place: Place,
}

impl Run {
    fn repository(&self) -> PathBuf {
        self.place.path("app")
    }

    /// A repository whose steps count themselves and number their lines.
    fn make_repository(&self) {
        let repository = self.repository();
        fs::create_dir(&repository).unwrap();
        fs::create_dir(self.place.path("applies")).unwrap();
        git(&repository, &["init", "--quiet", "--initial-branch", "main"]);
        git(&repository, &["config", "user.name", "Test"]);
        git(&repository, &["config", "user.email", "test@notify.example"]);
        fs::write(repository.join("step.sh"), STEP).unwrap();
        let task =
            "platform: linux\ninputs: [{name: app}]\nparams: {STEP: , WORLD: }\nrun: {path: sh, args: [app/step.sh]}\n";
        fs::write(repository.join("step.yml"), task).unwrap();
        self.push("before");
    }

    /// Commits a change; gives the commit.
    fn push(&self, text: &str) -> String {
        let repository = self.repository();
        fs::write(repository.join("version"), text).unwrap();
        git(&repository, &["add", "--all"]);
        git(&repository, &["commit", "--quiet", "--message", text]);
        git(&repository, &["rev-parse", "HEAD"])
    }

    fn set_system(&self) {
        let step = |name: &str| {
            let world = self.place.path("").display().to_string();
            format!("{{task: {name}, file: app/step.yml, params: {{STEP: {name}, WORLD: \"{world}\"}}}}")
        };
        let mut text = format!(
            "system: notify\nservices:\n  app:\n    type: git\n    source: {{uri: \"{}\", branch: main}}\n    \
             check_every: 1s\nenvironments:\n",
            self.repository().display()
        );
        let mut before = "pack: true".to_owned();
        for environment in CHAIN {
            text.push_str(&format!(
                "  {environment}:\n    {before}\n    deploy: [{}, {}]\n    tests:\n      functional: [{}]\n      \
                 smoke: [{}]\n",
                step("apply"),
                step("migrate"),
                step("functional"),
                step("smoke"),
            ));
            before = format!("after: {environment}");
        }
        let file = self.place.path("system.yml");
        fs::write(&file, text).unwrap();
        let ran = self.place.run("data", &["system", "set", "../system.yml", "--yes", "--reason", "a test"]);
        assert_eq!(ran.code, 0, "{ran:?}");
    }

    /// Whether the newest bag holds the commit and has passed production, and nobody holds a lock.
    fn is_live_and_at_rest(&self, commit: &str) -> Result<(), String> {
        let list = |args: &[&str]| {
            let ran = self.place.run("data", &[args, &["-o", "json"]].concat());
            if ran.code == 0 { Ok(ran.json()) } else { Err(ran.err) }
        };
        let bags = list(&["bag", "list"])?;
        let found = list(&["where", commit])?;
        let bag = &found["matches"][0]["first_bag"];
        let environments = list(&["env", "list"])?;
        let at_rest = |env: &Value| env["current"] == *bag && env["state"] == "idle" && env["lock"] == Value::Null;
        let is_done = bag.is_i64()
            && bags[0]["bag"] == *bag
            && bags[0]["passed"]["production"].is_string()
            && environments.as_array().is_some_and(|all| all.iter().all(at_rest));
        is_done.then_some(()).ok_or_else(|| format!("{found} {environments}"))
    }

    /// What the steps have written down so far.
    fn steps_log(&self) -> String {
        fs::read_to_string(self.place.path("steps")).unwrap_or_default()
    }
}

/// Writes down that it runs, holds what only one apply may hold for as long as one of its processes runs, and prints
/// numbered lines: some at once, some later, so that a report of them begins and ends anywhere.
const STEP: &str = r#"set -eu
attempt=$(basename "$(dirname "$PWD")")
echo "begin $STEP $attempt" >>"$WORLD/steps"
if [ "$STEP" = apply ]; then
    exec 9>"$WORLD/applies/$HOLDALL_ENVIRONMENT"
    flock --nonblock 9 || echo "overlap $STEP $attempt" >>"$WORLD/steps"
fi
for burst in 0 1 2 3 4 5 6 7; do
    seq -f "$STEP %g" $((burst * 250 + 1)) $((burst * 250 + 250))
    sleep 0.02
done
exec 9>&-
echo "end $STEP $attempt" >>"$WORLD/steps"
"#;

/// Numbers from a seed (SplitMix64).
struct Chance(u64);

impl Chance {
    fn new() -> Chance {
        let seed = match std::env::var("HOLDALL_SEED") {
            Ok(seed) => seed.parse().expect("HOLDALL_SEED is a number"),
            Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64,
        };
        // Shown where the test fails.
        println!("HOLDALL_SEED={seed}");
        Chance(seed)
    }

    /// A number from 0 to below `limit`.
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}
