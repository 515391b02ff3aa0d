//! The demo's flow with the real binary: a bag reaches production by itself, and so does the next after a `git push`;
//! one that breaks production is rolled back and stays out. What runs is told by the demo's own state server and
//! services, which are outside Holdall.

use serde_json::{Value, json};

use crate::demo_world::{answers, git, push, request};
use crate::fake::Ran;
use crate::real::{Place, Process, assert_keys, assert_time, until};

/// The demo's folder in a place.
const DEMO: &str = "demo";

/// The way of a bag.
const CHAIN: [&str; 3] = ["preview", "staging", "production"];

#[test]
fn a_system_is_released_and_rolled_back_on_sqlite() {
    flow(Place::sqlite());
}

#[test]
fn a_system_is_released_and_rolled_back_on_postgresql() {
    if let Some(place) = Place::postgres() {
        flow(place);
    }
}

fn flow(place: Place) {
    let demo = Demo { place };
    first_bag(&demo);

    let running = demo.start();
    until("it says that it goes on", || {
        let said = demo.log();
        said.contains("It goes on where it was: bag 1 reached production before.").then_some(()).ok_or(said)
    });
    demo.push("api", "message=Hello");
    demo.until_passed(2, "production");
    demo.assert_lists();
    assert!(running.stop().success());

    // What is pushed while nothing runs is found by the next start.
    let said = demo.push("admin", "broken_in=production");
    assert!(said.contains("it finds this push when it starts"), "{said}");
    let running = demo.start();
    breaks_production(&demo);
    assert!(running.stop().success());
    let running = demo.start();
    assert_eq!(demo.env("production")["state"], "failed", "a restart changes nothing");
    rolls_back(&demo);
    assert!(running.stop().success());
    let running = demo.start();
    stays_out(&demo);
    assert_deployments(&demo);
    assert!(running.stop().success());
    assert!(!answers(&demo.world()), "the demo's world outlived it");
}

/// `demo --exit` takes the first bag to production and leaves nothing running.
fn first_bag(demo: &Demo) {
    let status = demo.start_with(&["--exit"]).wait();
    let said = demo.log();
    assert!(status.success(), "{status}\n{said}");
    assert!(said.contains("Bag 1 has reached production"), "{said}");
    assert!(!answers(&demo.world()) && !answers(&demo.place.url()), "it left something running");
}

/// Bag 3 passes preview and staging and fails production's tests.
fn breaks_production(demo: &Demo) {
    let failed = until("production's tests fail", || {
        let production = demo.try_env("production")?;
        (production["state"] == "failed").then_some(production.clone()).ok_or(production.to_string())
    });
    assert_eq!(failed["current"], 3, "its deploy succeeded");
    let holders = failed["lock"]["holders"].as_array().unwrap();
    assert_eq!(holders.len(), 1, "{failed}");
    assert_keys(&holders[0], &["kind", "name", "reason", "since"]);
    assert_eq!(holders[0]["kind"], "deployment");
    assert_eq!(holders[0]["name"], "3", "{failed}");
    assert_time(&holders[0]["since"]);
    assert_eq!(failed["lock"]["queue"], json!([]));
    assert_eq!(demo.bag(3)["environments"]["production"], "failed");
    assert_eq!(demo.service("production", "admin"), demo.head("admin"));

    let why = demo.why(&["production"]);
    let hold = why.iter().find(|hold| hold["code"] == "test-failed");
    let hold = hold.unwrap_or_else(|| panic!("the failed test is not among {why:?}"));
    let sentence = hold["sentence"].as_str().unwrap();
    for way_out in ["retry it", "holdall deploy production --bag N --take-over --reason", "holdall rollback production"]
    {
        assert!(sentence.contains(way_out), "{sentence}");
    }
    assert!(hold["command"].as_str().unwrap().starts_with("holdall build rerun "), "{hold}");
    assert_time(&hold["since"]);
}

/// A roll back takes the lock over from the failed deployment and brings bag 2 back.
fn rolls_back(demo: &Demo) {
    let reason = "admin answers 500";
    let args = ["rollback", "production", "--suspect", "admin", "--reason", reason, "-o", "json"];
    let ran = demo.run(&args);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.json()["done"], true);
    until("production is back at bag 2", || {
        let production = demo.try_env("production")?;
        let is_back = production["state"] == "idle" && production["current"] == 2 && production["lock"] == Value::Null;
        is_back.then_some(()).ok_or(production.to_string())
    });
    assert_eq!(demo.service("production", "admin"), demo.first_commit("admin"));
    assert_eq!(demo.service("staging", "admin"), demo.head("admin"), "the environments before it go on");
    assert_eq!(demo.bag(3)["environments"]["production"], "disabled", "it is unticked");
    assert_is_held(demo, 3);
}

/// A later bag with the suspect does not start in production, and one without it does.
fn stays_out(demo: &Demo) {
    demo.push("api", "message=Hello again");
    demo.until_passed(4, "staging");
    assert_eq!(demo.bag(4)["environments"]["production"], "held");
    assert_is_held(demo, 4);
    demo.push("admin", "broken_in=");
    demo.until_passed(5, "production");
    assert_eq!(demo.service("production", "admin"), demo.head("admin"));
    assert_eq!(demo.service("production", "api"), demo.head("api"));
}

fn assert_is_held(demo: &Demo, bag: i64) {
    let why = demo.why(&["production", "--bag", &bag.to_string()]);
    let hold = why.iter().find(|hold| hold["code"] == "rolled-back-content");
    let hold = hold.unwrap_or_else(|| panic!("bag {bag} is not held: {why:?}"));
    assert!(hold["sentence"].as_str().unwrap().contains("admin"), "{hold}");
    assert!(hold["command"].as_str().unwrap().contains("holdall suspect clear production admin"), "{hold}");
}

/// Each environment saw just the deployments that there were to be, and Terraform's state server just as many applies,
/// one after the other.
fn assert_deployments(demo: &Demo) {
    let counters = request("GET", &format!("{}/counters", demo.world()), "").1;
    let counters: Value = serde_json::from_str(&counters).unwrap();
    for (environment, bags) in
        [("preview", &[1, 2, 3, 4, 5][..]), ("staging", &[1, 2, 3, 4, 5]), ("production", &[1, 2, 3, 2, 5])]
    {
        let shown = demo.run(&["env", "show", environment, "-o", "json"]).json();
        let mut seen: Vec<_> = shown["deployments"].as_array().unwrap().iter().map(|one| &one["bag"]).collect();
        seen.reverse();
        assert_eq!(json!(seen), json!(bags), "{environment}");
        let applies = &counters["environments"][environment];
        let wanted = json!({
            "applies_begun": bags.len(), "applies_ended": bags.len(), "locks_forced": 0, "locks_refused": 0,
            "max_concurrent": 1, "lock": null,
        });
        assert_eq!(applies, &wanted, "{environment}");
    }
    assert_eq!(counters["environments"]["dev"], Value::Null, "nothing was asked of dev");
}

struct Demo {
    place: Place,
}

impl Demo {
    /// Starts the demo and waits until it serves.
    fn start(&self) -> Process {
        let mut running = self.start_with(&[]);
        until("the demo serves", || {
            running.assert_runs();
            let ran = self.run(&["env", "list", "-o", "json"]);
            (ran.code == 0).then_some(()).ok_or(ran.err)
        });
        running
    }

    fn start_with(&self, more: &[&str]) -> Process {
        let port = self.place.port.to_string();
        let mut args = vec!["demo", "--dir", DEMO, "--port", &port];
        let database = self.place.database_args();
        args.extend(database.iter().map(String::as_str));
        args.extend(more);
        self.place.start(DEMO, &args)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.place.path("demo.log")).unwrap()
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.place.run(DEMO, args)
    }

    /// Where the demo's world answers.
    fn world(&self) -> String {
        std::fs::read_to_string(self.place.path(DEMO).join("world/address")).unwrap().trim().to_owned()
    }

    /// Adds a line to a service's settings and pushes; gives what git said.
    fn push(&self, service: &str, line: &str) -> String {
        push(&self.place.path(DEMO), service, "service.conf", |text| format!("{text}{line}\n"))
    }

    fn repository(&self, service: &str) -> std::path::PathBuf {
        self.place.path(DEMO).join("repositories").join(format!("{service}.git"))
    }

    /// The newest commit of a service.
    fn head(&self, service: &str) -> String {
        git(&self.repository(service), &["rev-parse", "main"])
    }

    fn first_commit(&self, service: &str) -> String {
        git(&self.repository(service), &["rev-list", "--max-parents=0", "main"])
    }

    /// The commit that the running service itself says it is.
    fn service(&self, environment: &str, service: &str) -> String {
        let world = request("GET", &format!("{}/environments", self.world()), "").1;
        let world: Value = serde_json::from_str(&world).unwrap();
        let address = world[environment]["services"][service]["address"].as_str().unwrap_or_default().to_owned();
        let version = request("GET", &format!("{address}/version"), "").1;
        serde_json::from_str::<Value>(&version).unwrap()["commit"].as_str().unwrap().to_owned()
    }

    fn list(&self, what: &str) -> Result<Vec<Value>, String> {
        let ran = self.run(&[what, "list", "-o", "json"]);
        if ran.code != 0 {
            return Err(ran.err);
        }
        Ok(ran.json().as_array().unwrap_or_else(|| panic!("{ran:?} is no array")).clone())
    }

    fn bag(&self, number: i64) -> Value {
        let bags = self.list("bag").unwrap();
        bags.iter().find(|bag| bag["bag"] == number).unwrap_or_else(|| panic!("no bag {number}: {bags:?}")).clone()
    }

    fn try_env(&self, name: &str) -> Result<Value, String> {
        let found = self.list("env")?;
        found.into_iter().find(|env| env["environment"] == name).ok_or_else(|| format!("no {name}"))
    }

    fn env(&self, name: &str) -> Value {
        self.try_env(name).unwrap()
    }

    /// Waits until a bag has passed an environment.
    fn until_passed(&self, bag: i64, environment: &str) {
        until(&format!("bag {bag} passes {environment}"), || {
            let bags = self.list("bag")?;
            let passed = bags.iter().any(|one| one["bag"] == bag && one["passed"][environment].is_string());
            passed.then_some(()).ok_or_else(|| json!({ "bags": bags, "environments": self.list("env") }).to_string())
        });
    }

    /// The report where something holds back.
    fn why(&self, args: &[&str]) -> Vec<Value> {
        let ran = self.run(&[&["why"], args, &["-o", "json"]].concat());
        assert_eq!(ran.code, 3, "{ran:?}");
        let holds = ran.json().as_array().unwrap().clone();
        assert!(!holds.is_empty());
        for hold in &holds {
            assert_keys(hold, &["code", "sentence", "since", "by", "until", "command"]);
            assert!(!hold["sentence"].as_str().unwrap().is_empty(), "{hold}");
        }
        holds
    }

    /// The shapes of `bag list` and `env list` when bag 2 is everywhere and nothing goes on, and that `why` is empty.
    fn assert_lists(&self) {
        let bags = until("everything is at rest", || {
            let environments = self.list("env")?;
            let is_idle = environments.iter().all(|env| env["state"] == "idle" && env["lock"] == Value::Null);
            if is_idle { self.list("bag") } else { Err(json!(environments).to_string()) }
        });
        let numbers: Vec<_> = bags.iter().map(|bag| &bag["bag"]).collect();
        assert_eq!(json!(numbers), json!([2, 1]), "newest first");
        for bag in &bags {
            assert_keys(bag, &["bag", "system", "packed_at", "packed_in", "passed", "environments"]);
            assert_eq!((&bag["system"], &bag["packed_in"]), (&json!("notify"), &json!("preview")));
            assert_time(&bag["packed_at"]);
            assert_eq!(bag["passed"].as_object().unwrap().len(), CHAIN.len());
            for environment in CHAIN {
                let tag = bag["passed"][environment].as_str().unwrap();
                let time = tag.strip_prefix(&format!("passed-{environment}-")).unwrap_or_else(|| panic!("{tag}"));
                let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
                assert_eq!(shape, "99999999T999999Z", "{tag}");
            }
        }
        let states = |state: &str| json!({ "preview": state, "staging": state, "production": state });
        assert_eq!(bags[0]["environments"], states("current"));
        assert_eq!(bags[1]["environments"], states("previous"));

        let environments = self.list("env").unwrap();
        let names: Vec<_> = environments.iter().map(|env| env["environment"].as_str().unwrap()).collect();
        assert_eq!(names, ["preview", "staging", "production", "dev"]);
        for env in &environments {
            let keys = ["environment", "system", "current", "mixed_with", "state", "frozen_at", "lock"];
            assert_keys(env, &keys);
            let current = if env["environment"] == "dev" { Value::Null } else { json!(2) };
            assert_eq!(
                (&env["current"], &env["mixed_with"], &env["frozen_at"]),
                (&current, &Value::Null, &Value::Null)
            );
        }
        let ran = self.run(&["why", "production", "-o", "json"]);
        assert_eq!((ran.code, ran.json()), (0, json!([])));
    }
}
