//! What is said of inputs without a version: everything that stands in the way, and what is said to lift it does.

use std::collections::BTreeMap;
use std::process::Command;

use holdall_engine::ids::BuildId;
use holdall_engine::schedule::schedule;
use holdall_engine::status::BuildStatus;
use holdall_engine::version::Version;
use holdall_protocol::api::{Act, PinTarget, TickTarget};
use holdall_server::duty::schedule::look;
use holdall_store::versions::NewVersion;
use holdall_store::{Store, builds, checks, jobs, resources, versions};

use crate::tables::Tables;
use crate::world::{SYSTEM, World, environment};

mod both {
    holdall_store::on_both_databases!(
        what_has_no_version_is_checked,
        what_is_unticked_altogether_is_ticked,
        a_version_is_named_whole,
        a_pin_of_a_person_is_taken_away,
        a_pin_in_the_file_is_changed_there,
        a_pin_of_a_step_goes_before_that_of_its_resource,
        a_pin_that_no_build_before_has_is_named_once,
        each_of_several_ways_out_leads_out,
        an_unticked_version_of_a_build_before_is_ticked,
        what_other_builds_go_around_is_not_named,
        a_version_that_is_gone_is_looked_for,
        an_unticked_version_that_is_gone_is_looked_for_first,
        a_build_before_without_the_resource_is_made_again,
        a_job_before_that_never_succeeded_is_run,
        a_job_before_that_nobody_may_trigger_has_no_command,
        a_job_before_that_is_behind_is_run,
        a_job_before_that_went_past_is_not_run,
        a_rerun_of_the_build_used_last_does_not_count,
        of_many_obstacles_the_nearest_are_named,
        what_an_environment_waits_for_is_in_its_system_file,
    );
}

/// A pipeline with a worker that makes the checks that are wanted.
struct Explained {
    tables: Tables,
    /// What a check finds, by source; one that is not here cannot be checked.
    remote: BTreeMap<&'static str, Vec<String>>,
    /// The pipeline's file.
    file: String,
}

const RESOURCES: &str = "
resources:
- { name: app, type: mock, source: { of: app } }
- { name: lib, type: mock, source: { of: lib } }
jobs:
- { name: unit, plan: [{ get: app }, { get: lib }] }
- { name: lint, plan: [{ get: app }] }
";
const SHIP: &str =
    "- { name: ship, plan: [{ get: app, passed: [unit], trigger: true }, { get: lib, passed: [unit] }] }\n";
const SHIP_AFTER_BOTH: &str = "- { name: ship, plan: [{ get: app, passed: [unit, lint], trigger: true }] }\n";
const PLAIN: &str = "
resources: [{ name: app, type: mock, source: { of: app } }]
jobs: [{ name: ship, plan: [{ get: app, trigger: true }] }]
";

impl Explained {
    fn new(store: Store, text: &str) -> Explained {
        let remote = BTreeMap::from([("app", vec!["1".to_owned()]), ("lib", vec!["a".to_owned()])]);
        Explained { tables: Tables::new(store, text), remote, file: String::new() }
    }

    fn finds(&mut self, source: &'static str, versions: &[&str]) {
        self.remote.insert(source, versions.iter().map(|version| (*version).to_owned()).collect());
    }

    /// Makes the checks that are wanted, and lets the scheduler look.
    fn work(&mut self) {
        self.tables.schedule();
        self.tables.pass(1);
        let remote = self.remote.clone();
        self.tables.write(move |tx, now| {
            for check in checks::check_claim(tx, "w", 10, now)? {
                let source: BTreeMap<String, String> = serde_json::from_str(&check.source).expect("a source");
                let new = |version: &String| NewVersion { version: Version::of("version", version), metadata: vec![] };
                let found = remote.get(source["of"].as_str()).map(|versions| versions.iter().map(new).collect());
                checks::check_finish(tx, &check.id, found.ok_or_else(|| "it is away".to_owned()), now)?;
            }
            Ok(())
        });
        self.tables.schedule();
    }

    fn check(&mut self, resource: &str) {
        let (pipeline, resource) = (self.tables.pipeline, resource.to_owned());
        self.tables.write(move |tx, now| {
            let row = resources::resource_find(tx, pipeline, &resource)?.expect("a resource");
            checks::check_want(tx, row.scope.expect("a scope"), now)
        });
        self.work();
    }

    /// The newest build of a job.
    fn newest(&self, job: &'static str) -> Option<builds::BuildRow> {
        let job = self.tables.job(job);
        self.tables.write(move |tx, _| Ok(builds::build_list_of_job(tx, job, None, 1)?.into_iter().next()))
    }

    /// A person triggers a job, and its build ends.
    fn run(&mut self, job: &'static str, status: BuildStatus) -> BuildId {
        let build = self.tables.trigger(job);
        self.work();
        assert_eq!(self.tables.build(build).status, BuildStatus::Started, "{job} starts");
        self.tables.end(build, status);
        self.tables.schedule();
        build
    }

    fn succeed(&mut self, job: &'static str) {
        self.run(job, BuildStatus::Succeeded);
    }

    /// How many builds of `ship` have started.
    fn shipped(&self) -> usize {
        let job = self.tables.job("ship");
        let all = self.tables.write(move |tx, _| builds::build_list_of_job(tx, job, None, 100));
        all.iter().filter(|build| build.status == BuildStatus::Started).count()
    }

    fn pin(&mut self, resource: &str, version: &str) {
        let target =
            PinTarget::Resource { team: "main".to_owned(), pipeline: "p".to_owned(), resource: resource.to_owned() };
        self.tables.act(Act::Pin { target, version: format!("version:{version}"), until: None });
    }

    fn disable(&mut self, resource: &str, version: &str) {
        let target = tick(resource, &format!("version:{version}"));
        self.tables.act(Act::Disable { target, and_bags: false, until: None });
    }

    /// Compares what holds `ship` back with sentences and commands.
    #[track_caller]
    fn says(&self, expected: &[(&str, &str)]) {
        let report = self.tables.report("ship");
        let report: Vec<(&str, &str)> =
            report.iter().map(|hold| (hold.sentence.as_str(), hold.command.as_deref().unwrap_or_default())).collect();
        assert_eq!(report, expected);
    }

    /// Does what a command says: `FILE` is the pipeline's file, and a build that it starts succeeds.
    fn obey(&mut self, command: &str) {
        // As a shell takes it.
        let words = format!("for word in {command}; do printf '%s\\n' \"$word\"; done");
        let words = Command::new("sh").args(["-c", &words]).output().expect("a shell").stdout;
        let words = String::from_utf8(words).expect("text");
        let words: Vec<&str> = words.lines().collect();
        let of = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
        let (team, pipeline) = ("main".to_owned(), "p".to_owned());
        match words.as_slice() {
            ["holdall", "resource", "check", resource] => self.check(&of(resource)),
            ["holdall", "enable", resource, version] => {
                self.tables.act(Act::Enable { target: tick(&of(resource), version) });
            }
            ["holdall", "unpin", resource] => {
                self.tables.act(unpin(&of(resource)));
            }
            ["holdall", "pipeline", "set", "main/p", "FILE"] => {
                let text = self.file.clone();
                self.tables.act(Act::PipelineSet { team, pipeline, text, vars: BTreeMap::new() });
            }
            ["holdall", "job", "trigger", job] => {
                let name = ["unit", "lint"].into_iter().find(|name| *name == of(job)).expect("a job before");
                self.tables.act(Act::JobTrigger { team, pipeline, job: name.to_owned() });
                self.work();
                let build = self.newest(name).expect("a build").id;
                self.tables.end(build, BuildStatus::Succeeded);
                self.tables.schedule();
            }
            other => panic!("a command that these tests do not know: {other:?}"),
        }
    }

    /// Does what a command says, after which nothing holds `ship` back and another build of it has started.
    #[track_caller]
    fn lifts(&mut self, command: &str) {
        let before = self.shipped();
        self.obey(command);
        self.says(&[]);
        assert_eq!(self.shipped(), before + 1, "{command}");
    }
}

fn unpin(resource: &str) -> Act {
    let (team, pipeline) = ("main".to_owned(), "p".to_owned());
    Act::Unpin { target: PinTarget::Resource { team, pipeline, resource: resource.to_owned() } }
}

fn tick(resource: &str, version: &str) -> TickTarget {
    TickTarget::Resource {
        team: "main".to_owned(),
        pipeline: "p".to_owned(),
        resource: resource.to_owned(),
        version: version.to_owned(),
    }
}

const CHECK_APP: &str = "holdall resource check main/p/app";
const RUN_UNIT: &str = "holdall job trigger main/p/unit";
const SET: &str = "holdall pipeline set main/p FILE";

fn what_has_no_version_is_checked(store: Store) {
    let mut world = Explained::new(store, PLAIN);
    world.says(&[("main/p/app has not been checked yet", CHECK_APP)]);
    world.finds("app", &[]);
    world.obey(CHECK_APP);
    world.says(&[("main/p/app has no version yet", CHECK_APP)]);
    world.remote.clear();
    world.obey(CHECK_APP);
    world
        .says(&[("main/p/app cannot be checked: it is away", CHECK_APP), ("main/p/app has no version yet", CHECK_APP)]);
    world.finds("app", &["1"]);
    world.lifts(CHECK_APP);
}

fn what_is_unticked_altogether_is_ticked(store: Store) {
    let mut world = Explained::new(store, &PLAIN.replace("ship", "other"));
    world.finds("app", &["1", "it's 2"]);
    world.check("app");
    world.disable("app", "1");
    world.disable("app", "it's 2");
    world.tables.set(PLAIN);
    let enable = r"holdall enable main/p/app 'version:it'\''s 2'";
    world.says(&[("every version of main/p/app is unticked, the newest is version:it's 2 (because)", enable)]);
    assert_eq!(world.tables.report("ship")[0].by.as_deref(), Some("ann"));
    world.lifts(enable);
}

fn a_version_is_named_whole(store: Store) {
    let mut world = Explained::new(store, &PLAIN.replace("ship", "other"));
    let versions: Vec<String> = std::iter::once(1).chain(100..160).map(|version: u32| version.to_string()).collect();
    world.remote.insert("app", versions.clone());
    world.check("app");
    let pipeline = world.tables.pipeline;
    world.tables.write(move |tx, now| {
        let app = resources::resource_find(tx, pipeline, "app")?.expect("a resource");
        let version = Version([("of", "x y"), ("version", "1")].map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        let new = NewVersion { version, metadata: Vec::new() };
        versions::versions_save(tx, app.scope.expect("a scope"), &[new], now)
    });
    for version in &versions {
        world.disable("app", version);
    }
    world.tables.act(Act::Disable { target: tick("app", "of:x y,version:1"), and_bags: false, until: None });
    world.tables.set(PLAIN);
    let enable = "holdall enable main/p/app 'of:x y,version:1'";
    world.says(&[("every version of main/p/app is unticked, the newest is of:x y version:1 (because)", enable)]);
    world.lifts(enable);
}

fn a_pin_of_a_person_is_taken_away(store: Store) {
    let mut world = Explained::new(store, PLAIN);
    world.check("app");
    world.pin("app", "1");
    world.tables.set(&PLAIN.replace("of: app", "of: moved"));
    world.says(&[("main/p/app has not been checked yet", CHECK_APP)]);
    world.finds("moved", &["2"]);
    world.obey(CHECK_APP);
    let unpin = "holdall unpin main/p/app";
    world.says(&[("main/p/app is pinned at version:1 (because), which is not known", unpin)]);
    assert_eq!(world.tables.report("ship")[0].by.as_deref(), Some("ann"));
    world.lifts(unpin);
}

fn a_pin_in_the_file_is_changed_there(store: Store) {
    let pinned = |at: &str| PLAIN.replace(" }]\njobs", &format!(", version: {{ version: \"{at}\" }} }}]\njobs"));
    let mut world = Explained::new(store, &pinned("9"));
    world.says(&[("main/p/app has not been checked yet", CHECK_APP)]);
    world.obey(CHECK_APP);
    let file = "its `version:` in the pipeline's file says so";
    world.says(&[(&format!("main/p/app is pinned at version:9, which is not known; {file}"), SET)]);
    assert_eq!(world.tables.report("ship")[0].by.as_deref(), Some("a check that finds it"));
    world.file = PLAIN.to_owned();
    world.lifts(SET);
    // What it is pinned to may be found as well.
    world.tables.set(&pinned("8"));
    world.says(&[(&format!("main/p/app is pinned at version:8, which is not known; {file}"), SET)]);
    world.finds("app", &["8", "1"]);
    world.lifts(CHECK_APP);
}

fn a_pin_of_a_step_goes_before_that_of_its_resource(store: Store) {
    let pinned = PLAIN.replace("get: app,", "get: app, version: { version: \"9\" },");
    let mut world = Explained::new(store, &PLAIN.replace("ship", "other"));
    world.finds("app", &["1", "2"]);
    world.check("app");
    world.pin("app", "1");
    world.tables.set(&pinned);
    let sentence = "`get: app` of main/p/ship is pinned at version:9, which is not known; its `version:` in the \
                    pipeline's file says so";
    world.says(&[(sentence, SET)]);
    world.file = PLAIN.to_owned();
    world.lifts(SET);
}

fn a_pin_that_no_build_before_has_is_named_once(store: Store) {
    let mut world = Explained::new(store, RESOURCES);
    world.succeed("unit");
    world.finds("app", &["1", "2"]);
    world.check("app");
    world.pin("app", "2");
    world.tables.set(&format!("{RESOURCES}{SHIP}"));
    let rest = "which no build of unit that succeeded has: unit 1 has version:1";
    let by_person = format!("main/p/app is pinned at version:2 (because), {rest}");
    let unpin = "holdall unpin main/p/app";
    world.says(&[(&by_person, unpin)]);
    world.lifts(unpin);
    // In the file of the pipeline, of the resource and of the step.
    let file = "its `version:` in the pipeline's file says so";
    let resource = RESOURCES.replace("of: app }", "of: app }, version: { version: \"2\" }");
    world.tables.set(&format!("{resource}{SHIP}"));
    world.says(&[(&format!("main/p/app is pinned at version:2, {rest}; {file}"), SET)]);
    world.file = format!("{RESOURCES}{SHIP}");
    world.obey(SET);
    world.says(&[]);
    let step = SHIP.replace("get: app,", "get: app, version: { version: \"2\" },");
    world.tables.set(&format!("{RESOURCES}{step}"));
    world.says(&[(&format!("`get: app` of main/p/ship is pinned at version:2, {rest}; {file}"), SET)]);
    world.obey(SET);
    world.says(&[]);
    // And a build that has it does as well.
    world.pin("app", "2");
    world.says(&[(&by_person, unpin)]);
    world.lifts(RUN_UNIT);
}

fn each_of_several_ways_out_leads_out(store: Store) {
    let mut world = Explained::new(store, RESOURCES);
    world.succeed("unit");
    world.finds("app", &["1", "2"]);
    world.finds("lib", &["a", "b"]);
    world.succeed("unit");
    world.pin("app", "1");
    world.disable("lib", "a");
    world.tables.set(&format!("{RESOURCES}{SHIP}"));
    let (unpin, enable) = ("holdall unpin main/p/app", "holdall enable main/p/lib version:a");
    let all = [
        ("main/p/lib at version:a, which unit 1 has, is unticked (because)", enable),
        ("ship: unit 2 has main/p/app at version:2, but version:1 is chosen, from unit 1", RUN_UNIT),
        ("main/p/app is pinned at version:1 (because), and unit 2 has version:2", unpin),
    ];
    world.says(&all);
    world.lifts(unpin);
    world.pin("app", "1");
    world.says(&all);
    world.lifts(enable);
    world.disable("lib", "a");
    world.says(&all);
    world.obey(RUN_UNIT);
    world.says(&[]);
}

fn an_unticked_version_of_a_build_before_is_ticked(store: Store) {
    let mut world = Explained::new(store, RESOURCES);
    world.succeed("unit");
    world.disable("lib", "a");
    world.tables.set(&format!("{RESOURCES}{SHIP}"));
    let enable = "holdall enable main/p/lib version:a";
    world.says(&[("main/p/lib at version:a, which unit 1 has, is unticked (because)", enable)]);
    world.lifts(enable);
}

/// What a person has chosen is not to blame for what has nothing to do with it.
fn what_other_builds_go_around_is_not_named(store: Store) {
    let mut world = Explained::new(store, RESOURCES);
    world.tables.set(&RESOURCES.replace("{ get: app }, { get: lib }", "{ get: lib }"));
    world.succeed("unit");
    world.tables.set(RESOURCES);
    for newest in 1..=4 {
        world.finds("app", &["1", "2", "3", "4"][..newest]);
        world.succeed("unit");
    }
    let text = format!("{RESOURCES}{SHIP_AFTER_BOTH}");
    world.tables.set(&text);
    let lint = ("ship: no build of lint has succeeded", "holdall job trigger main/p/lint");
    world.says(&[lint]);
    world.disable("app", "4");
    world.pin("app", "2");
    world.says(&[lint]);
    // With `lint` at the version that the pin wants not, it is.
    world.tables.act(unpin("app"));
    world.succeed("lint");
    assert_eq!(world.shipped(), 1, "`lint` has 3, which `unit` has");
    world.pin("app", "2");
    world.says(&[
        ("ship: no build of lint that succeeded has main/p/app at version:2", lint.1),
        ("main/p/app is pinned at version:2 (because), and unit 4 has version:3", "holdall unpin main/p/app"),
    ]);
    world.obey("holdall unpin main/p/app");
    world.says(&[]);
    world.pin("app", "2");
    world.lifts(lint.1);
}

fn a_version_that_is_gone_is_looked_for(store: Store) {
    let mut world = Explained::new(store, RESOURCES);
    world.succeed("unit");
    world.finds("moved", &["1"]);
    world.tables.set(&format!("{RESOURCES}{SHIP}").replace("of: app", "of: moved"));
    world.says(&[("main/p/app does not have version:1 any more, which unit 1 has", CHECK_APP)]);
    world.lifts(CHECK_APP);
    // Where it is nowhere, a build with another one does.
    world.finds("other", &["2"]);
    world.tables.set(&format!("{RESOURCES}{SHIP}").replace("of: app", "of: other"));
    world.obey(CHECK_APP);
    world.says(&[("main/p/app does not have version:1 any more, which unit 1 has", CHECK_APP)]);
    let by = world.tables.report("ship")[0].by.clone();
    assert_eq!(by.as_deref(), Some("a check that finds it again, or a build of unit with another one"));
    world.lifts(RUN_UNIT);
}

fn an_unticked_version_that_is_gone_is_looked_for_first(store: Store) {
    let mut world = Explained::new(store, RESOURCES);
    world.succeed("unit");
    world.disable("app", "1");
    world.finds("moved", &["1"]);
    world.tables.set(&format!("{RESOURCES}{SHIP}").replace("of: app", "of: moved"));
    let sentence = "main/p/app at version:1, which unit 1 has, is unticked (because)";
    world.says(&[(sentence, CHECK_APP)]);
    world.obey(CHECK_APP);
    let enable = "holdall enable main/p/app version:1";
    world.says(&[(sentence, enable)]);
    world.lifts(enable);
}

fn a_build_before_without_the_resource_is_made_again(store: Store) {
    let before = RESOURCES
        .replace("{ get: app }, { get: lib }", "{ get: app }")
        .replace("lint, plan: [", "lint, plan: [{ get: lib }, ");
    let after = format!("{RESOURCES}{SHIP}");
    let mut world = Explained::new(store, &before);
    world.succeed("unit");
    world.tables.set(&after);
    world.says(&[("ship: unit 1 has no version of main/p/lib", RUN_UNIT)]);
    world.tables.set(&before);
    world.succeed("unit");
    world.tables.set(&after);
    world.says(&[("ship: unit 2 and another build of unit have no version of main/p/lib", RUN_UNIT)]);
    world.tables.set(&before);
    world.succeed("unit");
    world.tables.set(&after);
    world.says(&[("ship: unit 3 and 2 other builds of unit have no version of main/p/lib", RUN_UNIT)]);
    world.lifts(RUN_UNIT);
}

fn a_job_before_that_never_succeeded_is_run(store: Store) {
    let mut world = Explained::new(store, &format!("{RESOURCES}{SHIP}"));
    let sentence = "ship: no build of unit has succeeded";
    world.says(&[(sentence, RUN_UNIT)]);
    world.run("unit", BuildStatus::Failed);
    world.says(&[(sentence, RUN_UNIT)]);
    // One that is on its way needs no other.
    let build = world.tables.trigger("unit");
    world.work();
    world.says(&[(sentence, "")]);
    assert_eq!(world.tables.report("ship")[0].by.as_deref(), Some("the success of unit 2, which has not ended"));
    world.tables.end(build, BuildStatus::Failed);
    world.lifts(RUN_UNIT);
}

fn a_job_before_that_nobody_may_trigger_has_no_command(store: Store) {
    let text = format!("{RESOURCES}{SHIP}").replace("name: unit,", "name: unit, disable_manual_trigger: true,");
    let mut world = Explained::new(store, &text);
    world.says(&[("ship: no build of unit has succeeded", "")]);
    assert_eq!(world.tables.report("ship")[0].by.as_deref(), Some("a build of unit that succeeds"));
    world.succeed("unit");
    world.says(&[]);
}

fn a_job_before_that_is_behind_is_run(store: Store) {
    let mut world = Explained::new(store, RESOURCES);
    world.succeed("lint");
    for newest in ["2", "3"] {
        world.finds("app", &["1", "2", "3"][..newest.parse().expect("a number")]);
        world.succeed("unit");
    }
    world.tables.set(&format!("{RESOURCES}{SHIP_AFTER_BOTH}"));
    let run = "holdall job trigger main/p/lint";
    let sentence =
        "ship: no build of lint that succeeded has main/p/app at version:3, nor what another choice of versions needs";
    world.says(&[(sentence, run)]);
    world.lifts(run);
}

fn a_job_before_that_went_past_is_not_run(store: Store) {
    let mut world = Explained::new(store, RESOURCES);
    world.finds("app", &["1"]);
    world.succeed("unit");
    world.succeed("lint");
    let every = SHIP_AFTER_BOTH.replace("get: app,", "get: app, version: every,");
    world.tables.set(&format!("{RESOURCES}{every}"));
    world.work();
    assert_eq!(world.shipped(), 1);
    world.finds("app", &["1", "2"]);
    world.succeed("unit");
    world.finds("app", &["1", "2", "3"]);
    world.succeed("lint");
    world.disable("app", "1");
    let enable = "holdall enable main/p/app version:1";
    world.says(&[
        ("ship: lint 2 has main/p/app at version:3, but version:2 is chosen, from unit 2", RUN_UNIT),
        ("main/p/app at version:1, which unit 1 has, is unticked (because)", enable),
    ]);
    // Another build of `lint` would have the same as the last: `unit` is behind.
    world.lifts(RUN_UNIT);
}

fn a_rerun_of_the_build_used_last_does_not_count(store: Store) {
    let mut world = Explained::new(store, RESOURCES);
    world.finds("app", &["1"]);
    world.succeed("unit");
    let lint = world.run("lint", BuildStatus::Succeeded);
    let ship = "- { name: ship, plan: [{ get: tested, resource: app, passed: [unit] }, \
                { get: app, passed: [unit, lint], version: every, trigger: true }] }\n";
    world.tables.set(&format!("{RESOURCES}{ship}"));
    world.work();
    assert_eq!(world.shipped(), 1);
    world.finds("app", &["1", "2"]);
    world.succeed("unit");
    world.says(&[]);
    // What a task makes and a `put` stores may be another version each time.
    let rerun = world.tables.rerun(lint);
    world.work();
    let pipeline = world.tables.pipeline;
    world.tables.write(move |tx, _| {
        let app = resources::resource_find(tx, pipeline, "app")?.expect("a resource");
        builds::build_output_add(tx, rerun, "app", app.id, &Version::of("version", "2"))
    });
    world.tables.end(rerun, BuildStatus::Succeeded);
    world.pin("app", "2");
    let run = "holdall job trigger main/p/lint";
    let sentence = "ship: no build of lint that succeeded has main/p/app at version:2 but lint 1.1: with `version: every`, \
                    reruns of lint 1, the one used last, do not count";
    let unpin = "holdall unpin main/p/app";
    let pinned = ("main/p/app is pinned at version:2 (because), and unit 1 has version:1", unpin);
    world.says(&[(sentence, run), pinned]);
    world.obey(unpin);
    world.says(&[]);
    world.pin("app", "2");
    world.lifts(run);
}

fn of_many_obstacles_the_nearest_are_named(store: Store) {
    let mut world = Explained::new(store, RESOURCES);
    let versions: Vec<String> = (1..=12).map(|version| version.to_string()).collect();
    for newest in 1..=12 {
        world.remote.insert("app", versions[..newest].to_vec());
        world.succeed("unit");
    }
    for version in &versions {
        world.disable("app", version);
    }
    world.tables.set(&format!("{RESOURCES}{SHIP}"));
    let named = (3..=12).rev().map(|version| {
        (
            format!("main/p/app at version:{version}, which unit {version} has, is unticked (because)"),
            format!("holdall enable main/p/app version:{version}"),
        )
    });
    let mut all: Vec<(String, String)> = named.collect();
    let rest = "ship: 2 more things may stand in the way of its inputs, none of them nearer to a build than these; \
                `holdall resolve` says all";
    all.push((rest.to_owned(), "holdall admin export-history main/p/ship".to_owned()));
    let all: Vec<(&str, &str)> = all.iter().map(|(sentence, command)| (sentence.as_str(), command.as_str())).collect();
    world.says(&all);
    world.lifts("holdall enable main/p/app version:12");
    world.disable("app", "12");
    // Also one that begins as others do.
    world.says(&all);
    world.obey("holdall enable main/p/app version:1");
    world.says(&[]);
}

fn what_an_environment_waits_for_is_in_its_system_file(store: Store) {
    let mut world = World::new(store);
    let periodic =
        "    periodic: { probe: { every: 10m, plan: [{ task: probe, file: api/probe.yml }] } }\n    tests: {";
    let unpinned = SYSTEM.replacen("    tests: {", periodic, 1);
    let get = "deploy: [{ get: mine, resource: api, version: { version: '9' } }, ";
    let set = |text: String| Act::SystemSet { text, vars: BTreeMap::new(), now: false };
    world.act(set(unpinned.replacen("deploy: [", get, 1)));
    let says = |world: &World, name: &'static str| {
        world.write(move |tx, _| {
            let environment = environment(tx, "preview")?;
            let job = jobs::job_find(tx, environment.pipeline, name)?.expect("a job");
            let holds = schedule(&look(tx, job.id)?.expect("it is there").view).holds;
            Ok(holds.into_iter().map(|hold| (hold.sentence, hold.command, hold.by)).collect::<Vec<_>>())
        })
    };
    let said = |sentence: &str, command: Option<&str>, by: Option<&str>| {
        (sentence.to_owned(), command.map(str::to_owned), by.map(str::to_owned))
    };
    let (clock, api) = ("preview/deploy-notify/probe", "preview/deploy-notify/api");
    let check = |name: &str| format!("holdall resource check {name}");
    let unchecked = |name: &str| said(&format!("{name} has not been checked yet"), Some(&check(name)), None);
    let current =
        said("preview/deploy-notify/current-bag has no version yet", None, Some("the first bag that becomes current"));
    assert_eq!(says(&world, "probe"), [unchecked(clock), current.clone()]);
    let deployment =
        said("deploy: no build of start-deploy has succeeded", None, Some("a build of start-deploy that succeeds"));
    assert_eq!(says(&world, "deploy"), [deployment.clone(), unchecked(api)]);
    world.write(|tx, now| {
        checks::check_due(tx, now)?;
        for check in checks::check_claim(tx, "w", 10, now)? {
            checks::check_finish(tx, &check.id, Ok(Vec::new()), now)?;
        }
        Ok(())
    });
    let pinned = "`get: mine` of preview/deploy-notify/deploy is pinned at version:9, which is not known; its `version:` \
                  in the system's file says so";
    let pinned = said(pinned, Some("holdall system set FILE"), Some("a check that finds it"));
    assert_eq!(says(&world, "deploy"), [deployment.clone(), pinned]);
    // What the commands and the sentences say.
    world.act(set(unpinned));
    world.push("api", "1");
    assert_eq!(says(&world, "deploy"), [deployment]);
    world.push("admin", "1");
    world.run();
    assert_eq!(says(&world, "deploy"), []);
    assert!(!says(&world, "probe").contains(&current));
}
