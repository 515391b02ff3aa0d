//! Who has a lock, for how long, and who waits for it (release model, section 5).

use std::collections::BTreeMap;

use holdall_engine::status::BuildStatus;
use holdall_protocol::api::Act;
use holdall_server::acts::Acquired;
use holdall_server::duty::{timekeeper, watcher};
use holdall_store::Store;
use holdall_store::locks;

use crate::world::{Fate, SYSTEM, World};

mod both {
    holdall_store::on_both_databases!(
        a_pipeline_holds_a_lock_while_its_job_runs_where_that_is_allowed,
        what_waits_of_a_job_that_is_gone_leaves_the_queue,
        a_lock_that_came_through_the_queue_stays,
        a_place_in_the_queue_outlives_a_silence,
        a_lock_that_a_person_holds_is_said_though_no_bag_waits,
    );
}

/// A pipeline of one's own that holds staging's lock with others while it runs.
pub const LOAD_TEST: &str = "\
resources:
- { name: staging-lock, type: lock, source: { environment: staging } }
jobs:
- name: load
  plan:
  - { put: staging-lock, params: { during: true, mode: shared } }
  - task: load
    config: { platform: linux, run: { path: sh, args: [-c, load] } }
";

fn a_pipeline_holds_a_lock_while_its_job_runs_where_that_is_allowed(store: Store) {
    let mut world = World::new(store);
    world.push_first();
    let set = |text: &str| Act::PipelineSet {
        team: "main".to_owned(),
        pipeline: "tests".to_owned(),
        text: text.to_owned(),
        vars: BTreeMap::new(),
    };
    assert_eq!(world.refused(set(LOAD_TEST), None), "refused", "staging does not name it");
    let system = |text: String| Act::SystemSet { text, vars: BTreeMap::new(), now: false };
    let allow = "    after: preview\n    lock: { allow: [main/tests] }\n";
    world.act(system(SYSTEM.replace("    after: preview\n", allow)));
    for theft in ["acquire", "release", "force_release"] {
        assert_eq!(world.refused(set(&LOAD_TEST.replace("during", theft)), None), "invalid", "{theft}");
    }
    let put = "- { put: staging-lock, params: { during: true, mode: shared } }";
    assert_eq!(world.refused(set(&LOAD_TEST.replace(put, "- { get: staging-lock }")), None), "invalid");
    let other = LOAD_TEST.replace("type: lock", "type: current-bag");
    assert_eq!(world.refused(set(&other), None), "invalid", "the other release types are not for it");

    world.act(set(LOAD_TEST));
    world.act(Act::PipelineUnpause { team: "main".to_owned(), pipeline: "tests".to_owned() });
    world.rule("main/load", Fate::Runs);
    let trigger = Act::JobTrigger { team: "main".to_owned(), pipeline: "tests".to_owned(), job: "load".to_owned() };
    world.act(trigger.clone());
    world.run();
    world.push("api", "api-2");
    world.run();
    assert_eq!(world.live(), [2, 1, 1], "the deployment waits for the load test");
    let holds = world.why("staging", None);
    assert_eq!((holds[0].code.as_str(), holds.len()), ("lock-held", 1), "{holds:?}");
    assert!(holds[0].sentence.contains("main/tests/load 1"), "{holds:?}");
    world.end_running(0);
    assert_eq!(world.live(), [2, 2, 2]);

    // A rerun has its inputs, and yet no right to the lock any more.
    let ran = world.pipeline_builds("main", "tests")[0].id;
    world.act(system(SYSTEM.to_owned()));
    world.act(Act::BuildRerun { build: ran.0 });
    world.act(trigger);
    world.run();
    assert_eq!(world.ran.iter().filter(|ran| ran.starts_with("main/load")).count(), 1, "not allowed any more");
}

/// A pipeline of one's own with two jobs that each hold staging's lock alone.
const TWO: &str = "\
resources:
- { name: staging-lock, type: lock, source: { environment: staging } }
jobs:
- name: load
  plan:
  - { put: staging-lock, params: { during: true } }
  - { task: load, config: { platform: linux, run: { path: load } } }
- name: drill
  plan:
  - { put: staging-lock, params: { during: true } }
  - { task: drill, config: { platform: linux, run: { path: drill } } }
";

fn what_waits_of_a_job_that_is_gone_leaves_the_queue(store: Store) {
    let mut world = World::new(store);
    world.push_first();
    let allow = "    after: preview\n    lock: { allow: [main/tests] }\n";
    let text = SYSTEM.replace("    after: preview\n", allow);
    world.act(Act::SystemSet { text, vars: BTreeMap::new(), now: false });
    let (team, pipeline) = ("main".to_owned(), "tests".to_owned());
    let set = |text: &str| Act::PipelineSet {
        team: "main".to_owned(),
        pipeline: "tests".to_owned(),
        text: text.to_owned(),
        vars: BTreeMap::new(),
    };
    let trigger =
        |job: &str| Act::JobTrigger { team: "main".to_owned(), pipeline: "tests".to_owned(), job: job.to_owned() };
    world.act(set(TWO));
    world.act(Act::PipelineUnpause { team: team.clone(), pipeline: pipeline.clone() });
    world.rule("main/load", Fate::Runs);
    for job in ["load", "drill"] {
        world.act(trigger(job));
        world.run();
    }
    let statuses = |world: &World| -> Vec<BuildStatus> {
        world.pipeline_builds("main", "tests").into_iter().map(|build| build.status).collect()
    };
    assert_eq!(statuses(&world), [BuildStatus::Started, BuildStatus::Pending]);
    let without_drill = TWO.split("- name: drill").next().expect("the rest");
    world.act(set(without_drill));
    assert_eq!(statuses(&world), [BuildStatus::Started, BuildStatus::Aborted]);
    world.push("api", "api-2");
    world.run();
    world.end_running(0);
    assert_eq!(world.live(), [2, 2, 2], "nobody stands before the deployment");
    // So does what waits of a pipeline that is destroyed.
    world.act(trigger("load"));
    world.run();
    world.act(trigger("load"));
    world.run();
    world.act(Act::PipelineDestroy { team, pipeline });
    assert_eq!(statuses(&world)[2..], [BuildStatus::Started, BuildStatus::Aborted]);
    world.end_running(0);
    world.push("api", "api-3");
    world.run();
    assert_eq!(world.live(), [3, 3, 3]);
}

/// Bob waits for staging's lock, which a deployment holds; gives his place.
fn bob_waits(world: &mut World) -> String {
    world.push_first();
    world.rule("staging/deploy", Fate::Runs);
    world.push("api", "api-2");
    world.run();
    match world.ask_for_lock("staging", None) {
        Ok(Acquired::Queued { place, .. }) => place,
        other => panic!("{other:?}"),
    }
}

fn holders(world: &World) -> Vec<String> {
    world.write(|tx, _| {
        let lock = locks::lock_find(tx, "staging")?.expect("the lock");
        Ok(locks::holding_list(tx, lock)?.into_iter().map(|holding| holding.name).collect())
    })
}

/// The timekeeper's look at what has ended.
fn look_at_time(world: &World) {
    world.write(|tx, now| timekeeper::due(tx, now)?.iter().try_for_each(|due| timekeeper::happen(tx, due, now)));
}

fn a_lock_that_came_through_the_queue_stays(store: Store) {
    let mut world = World::new(store);
    let place = bob_waits(&mut world);
    world.rule("staging/deploy", Fate::Exit(0));
    world.end_running(0);
    assert_eq!(holders(&world), ["bob"]);
    // The answer has come: he has it for good, though nothing is heard of him.
    assert!(matches!(world.ask_for_lock("staging", Some(place.clone())), Ok(Acquired::Granted(_))));
    world.pass(3600);
    look_at_time(&world);
    assert_eq!(holders(&world), ["bob"]);
    world.give_back("staging", place);

    // Who does not come for it does not have it.
    world.rule("staging/deploy", Fate::Runs);
    world.push("api", "api-3");
    world.run();
    assert!(matches!(world.ask_for_lock("staging", None), Ok(Acquired::Queued { .. })));
    world.rule("staging/deploy", Fate::Exit(0));
    world.end_running(0);
    assert_eq!(holders(&world), ["bob"]);
    world.pass(31);
    look_at_time(&world);
    assert_eq!(holders(&world), Vec::<String>::new());
}

fn a_place_in_the_queue_outlives_a_silence(store: Store) {
    let mut world = World::new(store);
    let place = bob_waits(&mut world);
    // Nobody has looked meanwhile: he asks before his place is seen to have lapsed.
    world.pass(3600);
    assert!(matches!(world.ask_for_lock("staging", Some(place.clone())), Ok(Acquired::Queued { .. })));
    // The clock is set ahead, and it is noticed before he asks.
    let planned = world.now;
    world.pass(3600);
    world.write(move |tx, now| watcher::look(tx, planned, now).map(|_| ()));
    look_at_time(&world);
    assert!(matches!(world.ask_for_lock("staging", Some(place.clone())), Ok(Acquired::Queued { .. })));
    // Where everything goes its way, he is gone when he does not ask.
    world.pass(31);
    look_at_time(&world);
    assert!(world.ask_for_lock("staging", Some(place)).is_err());
}

fn a_lock_that_a_person_holds_is_said_though_no_bag_waits(store: Store) {
    let mut world = World::new(store);
    world.push_first();
    assert!(world.why("production", None).is_empty());
    let token = world.take_lock("production");
    let why = world.why("production", None);
    assert_eq!(why.iter().map(|hold| hold.code.as_str()).collect::<Vec<_>>(), ["lock-held"], "{why:?}");
    world.give_back("production", token);
    let job = |paused: bool| {
        let (team, pipeline) = ("production".to_owned(), "deploy-notify".to_owned());
        match paused {
            true => Act::PipelinePause { team, pipeline },
            false => Act::PipelineUnpause { team, pipeline },
        }
    };
    world.act(job(true));
    let why = world.why("production", None);
    assert_eq!(why.iter().map(|hold| hold.code.as_str()).collect::<Vec<_>>(), ["pipeline-paused"], "{why:?}");
    world.act(job(false));
    assert!(world.why("production", None).is_empty());
}
