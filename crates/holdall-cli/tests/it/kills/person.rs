//! Who does what a person would: looks at environments where something went wrong, asks `holdall why`, and does one of
//! the things that it names, with the client. What `why` does not name this person does not know.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::{Chance, Run};

/// How long the person does something else before looking again.
const ELSEWHERE: Duration = Duration::from_millis(200);

/// How much of what the person did a failure shows.
const SHOWN: usize = 20;

/// A person who looks again and again.
pub struct Person {
    over: AtomicBool,
    did: Mutex<Vec<String>>,
}

/// Tells the person that it is over, also where the test fails.
pub struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Person {
    /// Somebody who has not looked yet.
    pub fn new() -> Person {
        Person { over: AtomicBool::new(false), did: Mutex::default() }
    }

    /// Lets the person go home when it is dropped.
    pub fn over_when_dropped(&self) -> Over<'_> {
        Over(&self.over)
    }

    /// How many things the person did.
    pub fn acts(&self) -> usize {
        self.did.lock().unwrap().len()
    }

    /// What the person did last.
    pub fn said(&self) -> String {
        let did = self.did.lock().unwrap();
        format!("the person: {:#?}", &did[did.len().saturating_sub(SHOWN)..])
    }

    /// Looks, and goes on where something waits for a person, until it is over.
    pub fn go_on(&self, run: &Run, mut chance: Chance) {
        while !self.over.load(Ordering::SeqCst) {
            // The server may be away just now.
            let listed = run.place.run("data", &["env", "list", "-o", "json"]);
            let environments = if listed.code == 0 { listed.json() } else { Value::Null };
            for environment in environments.as_array().into_iter().flatten() {
                let rests = environment["state"] == "idle" && environment["lock"] == Value::Null;
                let works = environment["state"] == "deploying" || environment["state"] == "testing";
                if !rests && !works {
                    self.look(run, &mut chance, environment["environment"].as_str().unwrap());
                }
            }
            std::thread::sleep(ELSEWHERE);
        }
    }

    fn look(&self, run: &Run, chance: &mut Chance, environment: &str) {
        let why = run.place.run("data", &["why", environment, "-o", "json"]);
        if why.code != 3 {
            return;
        }
        let holds = why.json();
        let ways: Vec<String> = holds.as_array().unwrap().iter().flat_map(ways_out).collect();
        if ways.is_empty() {
            return;
        }
        let way = &ways[chance.below(ways.len() as u64) as usize];
        // What is written between quotes is for the person to say.
        let words = way.split(' ').map(|word| if word == "\"...\"" { "looked" } else { word });
        let mut args: Vec<&str> = words.skip(1).collect();
        if !args.contains(&"--reason") {
            args.extend(["--reason", "looked"]);
        }
        args.push("--yes");
        let ran = run.place.run("data", &args);
        let what = format!("{environment}: {way}: exit code {}, {}{}", ran.code, ran.out.trim(), ran.err.trim());
        self.did.lock().unwrap().push(what);
    }
}

/// What a hold names that lets things go on, other than by going back.
fn ways_out(hold: &Value) -> Vec<String> {
    let goes_on: &[&str] = match hold["code"].as_str().unwrap() {
        "in-doubt" => &["holdall build rerun", "holdall job trigger", "holdall lock force-unlock"],
        "deploy-failed" | "test-failed" => &["holdall build rerun"],
        "held-after-unlock" => &["holdall job trigger", "holdall deploy"],
        _ => &[],
    };
    let in_brackets = hold["sentence"].as_str().unwrap().split('(').skip(1).filter_map(|rest| rest.split(')').next());
    let named = hold["command"].as_str().into_iter().chain(in_brackets);
    named.filter(|way| goes_on.iter().any(|begin| way.starts_with(begin))).map(str::to_owned).collect()
}
