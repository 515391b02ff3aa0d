//! A flow during which server and worker, processes of their own, are killed thirty times: it ends in production, no
//! step runs twice, and nothing of a log is missing or there twice.
//!
//! What is counted, steps count themselves, in files that Holdall does not know. Which process is killed and when comes
//! from a seed, which a failure shows and `HOLDALL_SEED` gives.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use holdall_engine::status::BuildStatus;
use serde_json::Value;

use crate::demo_world::git;
use crate::real::{Place, Process, Steps, until};

/// How often a process is killed.
const KILLS: u32 = 30;

/// The longest time that a process has after its start before it is killed.
const LIVES_MS: u64 = 400;

/// The way of a bag.
const CHAIN: [&str; 3] = ["preview", "staging", "production"];

/// How many lines a step prints.
const LINES: usize = 2000;

#[test]
fn nothing_is_lost_or_done_twice_on_sqlite() {
    flow(Place::sqlite());
}

#[test]
fn nothing_is_lost_or_done_twice_on_postgresql() {
    if let Some(place) = Place::postgres() {
        flow(place);
    }
}

fn flow(place: Place) {
    let mut chance = Chance::new();
    let steps = Steps(place.path("work"));
    let run = Run { place };
    run.make_repository();
    let mut server = run.start_server();
    run.set_system();
    let mut worker = run.start_worker();
    let mut seen = 0;
    for kill in 0..KILLS {
        // Every second one waits until the flow has gone on, so that not only starts are hit; something to do there is
        // always, since every second one pushes.
        if kill % 2 == 0 {
            run.push(&format!("during {kill}"));
        } else {
            until("a step begins or ends", || (run.steps_log().len() > seen).then_some(()).ok_or(server.said()));
        }
        // The moment is what is tested: somewhere in the start of a process, or in what it then does.
        std::thread::sleep(Duration::from_millis(chance.below(LIVES_MS)));
        seen = run.steps_log().len();
        match chance.below(3) {
            0 => {
                server.kill();
                server = run.start_server_process();
            }
            1 => {
                worker.kill();
                worker = run.start_worker();
            }
            _ => {
                server.kill();
                worker.kill();
                server = run.start_server_process();
                worker = run.start_worker();
            }
        }
    }
    println!("{} lines of steps when the last process was killed", run.steps_log().lines().count());
    let last = run.push("afterwards");
    until("the last push is live in production, and nothing goes on", || {
        server.assert_runs();
        worker.assert_runs();
        run.is_live_and_at_rest(&last)
    });
    assert!(worker.stop().success());
    assert!(server.stop().success());
    assert_eq!(steps.groups(), [], "a step was left behind");
    run.assert_whole();
}

struct Run {
    place: Place,
}

impl Run {
    fn start_server_process(&self) -> Process {
        let listen = format!("127.0.0.1:{}", self.place.port);
        let mut args = vec!["serve", "--data-dir", "data", "--listen", &listen, "--no-worker"];
        let database = self.place.database_args();
        args.extend(database.iter().map(String::as_str));
        self.place.start("server", &args)
    }

    /// Starts the server and waits until it answers.
    fn start_server(&self) -> Process {
        let mut server = self.start_server_process();
        until("the server answers", || {
            server.assert_runs();
            let data = self.place.path("data");
            if !data.join(".holdall/client.json").exists() {
                return Err(server.said());
            }
            let ran = self.place.run("data", &["system", "list", "-o", "json"]);
            (ran.code == 0).then_some(()).ok_or(ran.err)
        });
        server
    }

    fn start_worker(&self) -> Process {
        let url = self.place.url();
        let token = "data/worker-token";
        let args = ["worker", "--server", &url, "--token-file", token, "--work-dir", "work", "--name", "one"];
        self.place.start("worker", &args)
    }

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

    /// Looks at everything that is left behind.
    fn assert_whole(&self) {
        let ran = self.ran_steps();
        let mut whole = BTreeSet::new();
        for (build, journal) in self.place.journals("data") {
            let place = format!("{}/{} {}", build.team, build.job_name, build.name);
            let seqs: Vec<i64> = journal.iter().map(|row| row.seq).collect();
            assert_eq!(seqs, (0..journal.len() as i64).collect::<Vec<_>>(), "the journal of {place} has gaps");
            assert_eq!(build.status, BuildStatus::Succeeded, "{place}: {journal:#?}");
            let mut outputs: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
            for row in journal.iter().filter(|row| row.kind == "output") {
                outputs.entry(row.step.as_deref().unwrap()).or_default().extend(row.bytes.as_deref().unwrap());
            }
            for (step, output) in outputs {
                let Some(name) = ran.get(&(build.id.0, step.to_owned())) else { continue };
                let text = String::from_utf8(output).unwrap();
                let lines: Vec<&str> = text.lines().collect();
                let expected: Vec<String> = (1..=LINES).map(|line| format!("{name} {line}")).collect();
                let first = lines.iter().zip(&expected).position(|(line, expected)| line != expected);
                assert!(lines == expected, "{place} {name}: {} lines, wrong from {first:?}", lines.len());
                whole.insert((build.id.0, step.to_owned()));
            }
        }
        assert_eq!(whole, ran.keys().cloned().collect(), "steps ran of which there is no output");
        // The last bag went the whole way.
        assert!(ran.len() >= CHAIN.len() * 4, "only {} steps ran", ran.len());
    }

    /// What the steps have written down so far.
    fn steps_log(&self) -> String {
        fs::read_to_string(self.place.path("steps")).unwrap_or_default()
    }

    /// The steps that ran, as they wrote it down themselves: build and step to its name. None ran twice, each came to
    /// its end, and applies did not overlap.
    fn ran_steps(&self) -> BTreeMap<(i64, String), String> {
        let (mut begun, mut ended) = (BTreeMap::new(), BTreeSet::new());
        for line in self.steps_log().lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [what, name, attempt] = words[..] else { panic!("{line:?} was not written by a step") };
            // BUILD-STEP-FENCE
            let (build_and_step, _fence) = attempt.rsplit_once('-').unwrap();
            let (build, step) = build_and_step.split_once('-').unwrap();
            let key = (build.parse::<i64>().unwrap(), step.to_owned());
            match what {
                "begin" => {
                    let before = begun.insert(key.clone(), name.to_owned());
                    assert_eq!(before, None, "step {step} of build {build} ran twice");
                }
                "end" => assert!(ended.insert(key), "step {step} of build {build} ended twice"),
                _ => panic!("{line}"),
            }
        }
        assert_eq!(ended, begun.keys().cloned().collect(), "steps did not come to their end");
        assert_eq!(fs::read_dir(self.place.path("applies")).unwrap().count(), 0);
        begun
    }
}

/// Writes down that it runs, holds what only one apply may hold, and prints numbered lines: some at once, some later, so
/// that a report of them begins and ends anywhere.
const STEP: &str = r#"set -eu
attempt=$(basename "$(dirname "$PWD")")
echo "begin $STEP $attempt" >>"$WORLD/steps"
if [ "$STEP" = apply ]; then mkdir "$WORLD/applies/$HOLDALL_ENVIRONMENT"; fi
for burst in 0 1 2 3 4 5 6 7; do
    seq -f "$STEP %g" $((burst * 250 + 1)) $((burst * 250 + 250))
    sleep 0.02
done
if [ "$STEP" = apply ]; then rmdir "$WORLD/applies/$HOLDALL_ENVIRONMENT"; fi
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
