//! The fixture language: a pipeline, its past, and what is to come of it, a line each.
//!
//! ```text
//! resource repo: v1 v2 -v3 ~v4       versions, oldest first; `-` is disabled, `~` is gone, `-~` both
//! unchecked tools                    a resource that was never checked
//! job unit: get repo trigger         ids in the order of the lines
//! job ship: get repo passed=[unit] every, get code from repo pin=v1
//! build unit#1 repo=v1 succeeded     got under the names of the job's inputs; ids in the order of the lines
//! build unit#1.1 repo=v1 succeeded   a rerun
//! build ship#1 repo=v1 put other=w1 failed via unit#1, unit#2
//! expect ship <- repo=v1 by unit#1 first, code=v1 | ship <- repo: SENTENCE
//! why ship                           what follows is every explanation of its inputs, a line each
//!   repo: build 1 of unit has v3, which is disabled
//! ```
//!
//! `first` is a first occurrence, `next` after the inputs means that another round may find a next version. A
//! version named `1.2` has two keys, and the pin `1` is a subset of them.

use holdall_engine::status::BuildStatus;

use crate::oracle::foretell;
use crate::world::{Build, Fate, Input, Outcome, Resource, ResourceVersion, World, build_names, outcome};

/// Resolves what the fixture expects with the engine and the oracle, and compares.
pub fn check(fixture: &str) {
    let mut fixture = Fixture::parse(fixture);
    assert!(!fixture.expectations.is_empty(), "nothing is expected");
    for expectation in std::mem::take(&mut fixture.expectations) {
        match expectation {
            Expectation::Outcome { job, text } => {
                let world = fixture.world(&job);
                let resolution = world.resolve();
                assert_eq!(render(&world, &outcome(&resolution)), text, "what the engine makes of {job}");
                assert_eq!(render(&world, &foretell(&world)), text, "what the oracle makes of {job}");
            }
            Expectation::Why { job, sentences } => {
                let world = fixture.world(&job);
                let mut said: Vec<String> = Vec::new();
                for input in &world.resolve().inputs {
                    for why in input.result.as_ref().err().iter().flat_map(|unresolved| unresolved.why.iter()) {
                        let sentence = why.sentence(&|job| world.jobs[job.0 as usize - 1].clone());
                        if !said.contains(&sentence) {
                            said.push(sentence);
                        }
                    }
                }
                // Versions are said as `key:value`; the fixture names them by the value alone.
                let said: Vec<String> = said.iter().map(|sentence| sentence.replace("k0:", "")).collect();
                assert_eq!(said, sentences, "why {job}");
            }
        }
    }
}

enum Expectation {
    Outcome { job: String, text: String },
    Why { job: String, sentences: Vec<String> },
}

#[derive(Default)]
struct Fixture {
    resources: Vec<Resource>,
    jobs: Vec<(String, Vec<Input>)>,
    builds: Vec<Build>,
    build_names: Vec<String>,
    expectations: Vec<Expectation>,
}

impl Fixture {
    fn parse(text: &str) -> Fixture {
        let mut fixture = Fixture::default();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        // Inputs may name jobs of later lines.
        for line in &lines {
            if let Some(rest) = line.trim().strip_prefix("job ") {
                let name = rest.split(':').next().unwrap_or_default();
                fixture.jobs.push((name.to_owned(), Vec::new()));
            }
        }
        for line in lines {
            let line = line.trim();
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "resource" => fixture.resource(rest),
                "unchecked" => {
                    fixture.resources.push(Resource { name: rest.to_owned(), checked: false, versions: Vec::new() });
                }
                "job" => fixture.job(rest),
                "build" => fixture.build(rest),
                "expect" => {
                    for part in rest.split(" | ") {
                        let (job, text) = part.split_once(" <- ").expect("JOB <- INPUTS");
                        let (job, text) = (job.to_owned(), text.to_owned());
                        fixture.expectations.push(Expectation::Outcome { job, text });
                    }
                }
                "why" => {
                    fixture.expectations.push(Expectation::Why { job: rest.to_owned(), sentences: Vec::new() });
                }
                _ => match fixture.expectations.last_mut() {
                    Some(Expectation::Why { sentences, .. }) => sentences.push(line.to_owned()),
                    _ => panic!("not a line of a fixture: {line}"),
                },
            }
        }
        fixture
    }

    fn resource(&mut self, rest: &str) {
        let (name, versions) = rest.split_once(':').expect("NAME: VERSIONS");
        let versions = versions.split_whitespace().enumerate().map(|(place, word)| {
            let name = word.trim_start_matches(['-', '~']);
            let marks = &word[..word.len() - name.len()];
            let order = if marks.contains('~') { None } else { Some(place as i64 + 1) };
            ResourceVersion { name: name.to_owned(), order, enabled: !marks.contains('-') }
        });
        self.resources.push(Resource { name: name.to_owned(), checked: true, versions: versions.collect() });
    }

    fn resource_place(&self, name: &str) -> usize {
        let place = self.resources.iter().position(|resource| resource.name == name);
        place.unwrap_or_else(|| panic!("no resource {name}"))
    }

    fn job_place(&self, name: &str) -> usize {
        self.jobs.iter().position(|(job, _)| job == name).unwrap_or_else(|| panic!("no job {name}"))
    }

    fn build_place(&self, name: &str) -> usize {
        self.build_names.iter().position(|build| build == name).unwrap_or_else(|| panic!("no build {name}"))
    }

    fn job(&mut self, rest: &str) {
        let (name, steps) = rest.split_once(':').expect("NAME: STEPS");
        let mut inputs = Vec::new();
        for step in steps.split(", ").map(str::trim).filter(|step| !step.is_empty()) {
            let mut words = step.split_whitespace();
            assert_eq!(words.next(), Some("get"), "{step}");
            let name = words.next().expect("an input's name");
            let mut input = Input {
                name: name.to_owned(),
                resource: 0,
                passed: Vec::new(),
                every: false,
                pin: None,
                trigger: false,
            };
            let mut resource = name;
            while let Some(word) = words.next() {
                match word.split_once('=') {
                    Some(("passed", list)) => {
                        let list = list.trim_start_matches('[').trim_end_matches(']');
                        input.passed = list.split(',').map(|job| self.job_place(job)).collect();
                    }
                    Some(("pin", pin)) => input.pin = Some(pin.to_owned()),
                    None if word == "every" => input.every = true,
                    None if word == "trigger" => input.trigger = true,
                    None if word == "from" => resource = words.next().expect("a resource"),
                    _ => panic!("not a word of a step: {word}"),
                }
            }
            input.resource = self.resource_place(resource);
            inputs.push(input);
        }
        let place = self.job_place(name);
        self.jobs[place].1 = inputs;
    }

    fn build(&mut self, rest: &str) {
        let (what, from) = rest.split_once(" via ").unwrap_or((rest, ""));
        let words: Vec<&str> = what.split_whitespace().collect();
        let name = words[0];
        let (job, number) = name.split_once('#').expect("JOB#NUMBER");
        let job = self.job_place(job);
        let rerun_of = number.split_once('.').map(|(original, _)| {
            let original = format!("{}#{original}", self.jobs[job].0);
            self.build_place(&original)
        });
        let status = BuildStatus::from_name(words[words.len() - 1]).expect("a build's status");
        let mut build = Build { job, status, rerun_of, got: Vec::new(), put: Vec::new(), from: Vec::new() };
        let mut is_put = false;
        for word in &words[1..words.len() - 1] {
            match word.split_once('=') {
                None => is_put = *word == "put",
                Some((name, version)) if is_put => build.put.push((self.resource_place(name), version.to_owned())),
                Some((name, version)) => {
                    let input = self.jobs[job].1.iter().find(|input| input.name == name);
                    let resource = input.map_or_else(|| self.resource_place(name), |input| input.resource);
                    build.got.push((name.to_owned(), resource, version.to_owned()));
                }
            }
        }
        build.from = from.split(", ").filter(|name| !name.is_empty()).map(|name| self.build_place(name)).collect();
        self.builds.push(build);
        self.build_names.push(name.to_owned());
    }

    fn world(&self, job: &str) -> World {
        let job = self.job_place(job);
        World {
            jobs: self.jobs.iter().map(|(name, _)| name.clone()).collect(),
            resources: self.resources.clone(),
            job,
            inputs: self.jobs[job].1.clone(),
            builds: self.builds.clone(),
        }
    }
}

fn render(world: &World, outcome: &Outcome) -> String {
    let names = build_names(world);
    let inputs: Vec<String> = world
        .inputs
        .iter()
        .zip(&outcome.fates)
        .map(|(input, fate)| match fate {
            Fate::Error(sentence) => format!("{}: {}", input.name, sentence.replace("k0:", "")),
            Fate::Version { name, builds, first } => {
                let builds: Vec<&str> = builds.iter().map(|build| names[*build].as_str()).collect();
                let by = if builds.is_empty() { String::new() } else { format!(" by {}", builds.join("+")) };
                format!("{}={name}{by}{}", input.name, if *first { " first" } else { "" })
            }
        })
        .collect();
    format!("{}{}", inputs.join(", "), if outcome.has_next { " next" } else { "" })
}
