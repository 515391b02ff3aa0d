//! The release model, end to end over the real scheduler and tracker (release model, sections 3 to 7).

use std::collections::BTreeMap;

use holdall_engine::ids::BuildId;
use holdall_protocol::api::{Act, PinTarget, Suspects, Then, TickTarget};
use holdall_store::{Store, builds};

use crate::world::{Fate, SYSTEM, World, deploy};

mod both {
    holdall_store::on_both_databases!(
        a_push_reaches_production_by_itself,
        a_failed_test_is_retried_alone,
        a_bag_that_passes_late_never_goes_backwards,
        a_roll_back_upstream_withdraws_what_waits_downstream,
        a_bag_that_is_live_is_unticked_and_stays,
        a_service_is_added_and_removed_under_way,
        a_bag_that_cannot_be_planned_fails_once,
        a_broken_deploy_keeps_the_lock_until_a_person_decides,
        a_hand_over_fixes_forward,
        a_hand_over_goes_before_a_bag_that_waits,
        a_roll_back_ends_a_deployment_that_waits,
        a_roll_back_stays,
        by_hand_it_does_what_it_says_and_no_more,
        the_newest_of_many_bags_starts_when_the_lock_comes_free,
        in_a_queue_every_bag_goes_in_order,
        a_freeze_holds_and_lets_go,
        a_freeze_at_a_bag_that_has_not_passed_does_not_deploy_it,
        pins_and_ticks_of_services_concern_packing_only,
        the_same_bag_runs_every_job_again,
        an_unticked_bag_does_not_start,
        previews_say_what_then_happens,
        a_guarded_build_is_not_aborted_by_accident,
        a_lost_deploy_step_is_in_doubt,
        a_lost_deploy_step_is_not_tried_again_by_itself,
        a_later_roll_back_leaves_withdrawn_what_was,
        a_hook_whose_files_cannot_be_fetched_keeps_nothing_back,
        a_system_changes_under_way,
        a_dead_worker_whose_lock_is_taken_holds_nothing_for_ever,
        a_hook_of_a_dead_worker_that_no_worker_takes_is_given_up,
        a_dead_worker_whose_build_is_aborted_holds_nothing_for_ever,
        force_unlock_stops_what_runs_first,
        force_unlock_stops_a_start_first,
        nothing_runs_beside_what_ends_a_deployment,
        a_start_that_fails_is_not_tried_over_and_over,
        what_was_thrown_out_upstream_comes_back_downstream,
        setting_the_same_file_twice_changes_nothing,
    );
}

fn a_push_reaches_production_by_itself(store: Store) {
    let mut world = World::new(store);
    world.push("api", "api-1");
    world.run();
    assert_eq!(world.bags(), Vec::<i64>::new(), "a bag needs every service");
    world.push("admin", "admin-1");
    world.run();
    assert_eq!(world.live(), [1, 1, 1]);
    assert_eq!(world.deployments("production"), ["1 passed"]);
    assert_eq!(
        world.ran,
        [
            "preview/deploy/apply bag 1",
            "preview/test/functional bag 1",
            "staging/deploy/apply bag 1",
            "staging/test/smoke bag 1",
            "production/deploy/apply bag 1",
            "production/test/smoke bag 1",
        ]
    );
    world.push("api", "api-2");
    world.run();
    assert_eq!(world.live(), [2, 2, 2]);
}

fn a_failed_test_is_retried_alone(store: Store) {
    let mut world = World::new(store);
    world.rule("staging/test", Fate::Exit(1));
    world.push_first();
    assert_eq!(world.live(), [1, 1, 0]);
    assert_eq!(world.deployments("staging"), ["1 open"]);
    world.push("api", "api-2");
    world.run();
    let holds = world.holds("staging");
    assert!(holds.contains(&"lock-held".to_owned()) && holds.contains(&"test-failed".to_owned()), "{holds:?}");
    world.rule("staging/test", Fate::Exit(0));
    let build = world.build("staging", "test");
    world.act(Act::BuildRerun { build: build.id.0 });
    world.run();
    assert_eq!(world.build("staging", "test").name, "2", "the next bag followed");
    assert_eq!(world.live(), [2, 2, 2]);
    assert_eq!(world.deployments("staging"), ["1 passed", "2 passed"]);
    assert_eq!(world.ran.iter().filter(|ran| *ran == "staging/deploy/apply bag 1").count(), 1);
}

fn a_bag_that_passes_late_never_goes_backwards(store: Store) {
    let mut world = World::new(store);
    world.push_first();
    world.rule("staging/test", Fate::Exit(1));
    world.push("api", "api-2");
    world.run();
    world.push("api", "api-3");
    world.run();
    world.rule("staging/test", Fate::Exit(0));
    world.act(deploy("staging", 3, true));
    world.run();
    assert_eq!(world.live(), [3, 3, 3]);
    world.act(deploy("staging", 2, false));
    world.run();
    assert_eq!(world.deployments("staging"), ["1 passed", "2 handed-over", "3 passed", "2 passed"]);
    assert_eq!(world.live(), [3, 2, 3], "bag 2 passed staging after bag 3 had gone on");
    assert_eq!(world.why("production", Some(2))[0].sentence, "bag 2 is superseded in production by bag 3");
}

fn a_roll_back_upstream_withdraws_what_waits_downstream(store: Store) {
    let mut world = World::new(store);
    world.push_first();
    let token = world.take_lock("production");
    world.push("api", "api-2");
    world.run();
    assert_eq!(world.live(), [2, 2, 1]);
    world.act(Act::RollBack {
        system: "notify".to_owned(),
        environment: "staging".to_owned(),
        to: None,
        suspects: Suspects::Services(vec!["api".to_owned()]),
        and_untick: false,
        here_only: false,
    });
    world.run();
    world.give_back("production", token);
    assert_eq!(world.live(), [2, 1, 1], "bag 2 has passed staging and was thrown out of it");
    let codes: Vec<_> = world.why("production", Some(2)).into_iter().map(|hold| hold.code).collect();
    assert_eq!(codes, ["withdrawn-upstream", "rolled-back-content"]);
    world.push("api", "api-3");
    world.run();
    assert_eq!(world.live(), [3, 3, 3]);
}

fn a_bag_that_is_live_is_unticked_and_stays(store: Store) {
    let mut world = World::new(store);
    world.push_first();
    world.push("api", "api-2");
    world.run();
    let target = TickTarget::Bag { system: "notify".into(), bag: 2, environment: None };
    world.act(Act::Disable { target, and_bags: false, until: None });
    world.run();
    assert_eq!(world.live(), [2, 2, 2], "it says what may start, not what is live");
    assert_eq!(world.refused(deploy("staging", 2, false), Some("again")), "refused");
    world.push("api", "api-3");
    world.run();
    assert_eq!(world.live(), [3, 3, 3]);
}

fn a_service_is_added_and_removed_under_way(store: Store) {
    let mut world = World::new(store);
    world.push_first();
    world.rule("staging/deploy", Fate::Runs);
    world.push("api", "api-2");
    world.run();
    let web = "  web: { type: mock, source: { initial_version: web } }\nenvironments:";
    let set = |text: String| Act::SystemSet { text, vars: BTreeMap::new(), now: false };
    world.act(set(SYSTEM.replace("environments:", web)));
    world.run();
    assert_eq!(world.bags(), [1, 2], "a bag needs every service");
    world.push("web", "web-1");
    world.run();
    assert_eq!(world.live(), [3, 1, 1]);
    world.rule("staging/deploy", Fate::Exit(0));
    world.end_running(0);
    assert_eq!(world.deployments("staging"), ["1 passed", "2 passed", "3 passed"]);
    assert_eq!(world.live(), [3, 3, 3]);
    assert_eq!(world.changes("production", 3), ["web none -> web-1"]);
    world.rule("staging/deploy", Fate::Runs);
    world.push("api", "api-3");
    world.run();
    let admin = "  admin: { type: mock, source: { initial_version: admin } }\n";
    world.act(set(SYSTEM.replace(admin, "")));
    world.push("api", "api-4");
    world.run();
    assert_eq!(world.live(), [5, 3, 3]);
    world.rule("staging/deploy", Fate::Exit(0));
    world.end_running(0);
    assert_eq!(world.live(), [5, 5, 5]);
    let gone = ["admin admin-1 -> none", "api api-3 -> api-4", "web web-1 -> none"];
    let mut changes = world.changes("production", 5);
    changes.sort();
    assert_eq!(changes, gone, "against bag 4, which production had before");
}

fn a_bag_that_cannot_be_planned_fails_once(store: Store) {
    let mut world = World::new(store);
    world.push_first();
    world.rule("staging/test/smoke", Fate::Runs);
    world.push("api", "api-2");
    world.run();
    let was = "admin: { type: mock, source: { initial_version: admin } }";
    let is = "admin: { type: git, source: { uri: file:///nowhere } }";
    world.act(Act::SystemSet { text: SYSTEM.replace(was, is), vars: BTreeMap::new(), now: false });
    world.end_running(0);
    let build = world.build("production", "deploy");
    assert_eq!((build.name.as_str(), build.status.as_str()), ("2", "errored"));
    assert_eq!(build.end_reason.as_deref(), Some("service `admin` is of type `git` now, and of type `mock` in bag 2"));
    assert_eq!(world.deployments("production"), ["1 passed", "2 open"]);
    let codes: Vec<_> = world.why("production", None).into_iter().map(|hold| hold.code).collect();
    assert_eq!(codes, ["deploy-failed"]);
}

fn broken(store: Store) -> World {
    let mut world = World::new(store);
    world.push_first();
    world.rule("production/deploy", Fate::Exit(1));
    world.push("api", "api-2");
    world.run();
    assert_eq!(world.live(), [2, 2, 1]);
    world
}

fn a_broken_deploy_keeps_the_lock_until_a_person_decides(store: Store) {
    let mut world = broken(store);
    world.push("api", "api-3");
    world.run();
    assert_eq!(world.deployments("production"), ["1 passed", "2 open"]);
    let holds = world.holds("production");
    assert!(holds.contains(&"deploy-failed".to_owned()), "{holds:?}");
    let unlock = |then| Act::ForceUnlock {
        environment: "production".to_owned(),
        abort_running: false,
        worker_is_dead: false,
        then,
    };
    let why = format!("{:?}", world.why("production", None));
    for way_out in ["build rerun", "deploy production --bag N --take-over", "rollback production", "lock force-unlock"]
    {
        assert!(why.contains(&format!("holdall {way_out}")), "{way_out}: {why}");
    }
    assert_eq!(world.refused(unlock(Then::Hold), None), "reason_required");
    world.rule("production/deploy", Fate::Exit(0));
    world.act(unlock(Then::Hold));
    let audit = world.audit();
    let entry = audit.iter().find(|entry| entry.act == "force_unlock").expect("it is audited");
    assert_eq!((entry.who.as_str(), entry.reason.as_deref()), ("ann", Some("because")));
    world.run();
    assert_eq!(world.deployments("production"), ["1 passed", "2 unlocked"]);
    assert_eq!(world.holds("production"), ["held-after-unlock"]);
    let deploy = world.build("production", "deploy");
    assert_eq!(world.refused(Act::BuildRerun { build: deploy.id.0 }, None), "refused");
    world.act(Act::JobTrigger {
        team: "production".to_owned(),
        pipeline: "deploy-notify".to_owned(),
        job: "start-deploy".to_owned(),
    });
    world.run();
    assert_eq!(world.live(), [3, 3, 3]);
}

fn a_hand_over_fixes_forward(store: Store) {
    let mut world = broken(store);
    world.push("api", "api-3");
    world.run();
    world.rule("production/deploy", Fate::Exit(0));
    world.act(deploy("production", 3, true));
    world.run();
    assert_eq!(world.deployments("production"), ["1 passed", "2 handed-over", "3 passed"]);
    assert_eq!(world.live(), [3, 3, 3]);
}

fn a_hand_over_goes_before_a_bag_that_waits(store: Store) {
    let mut world = broken(store);
    world.push("api", "api-3");
    world.run();
    let waiting = world.build("production", "start-deploy");
    assert_eq!(waiting.status.as_str(), "pending");
    world.rule("production/deploy", Fate::Exit(0));
    let order = deploy("production", 2, true);
    let preview = world.preview(order.clone());
    let done = world.act(order);
    assert_eq!(done.preview.token, preview.token);
    world.run();
    assert_eq!(world.deployments("production"), ["1 passed", "2 handed-over", "2 passed", "3 passed"]);
    assert_eq!(world.live(), [3, 3, 3]);
}

fn a_roll_back_ends_a_deployment_that_waits(store: Store) {
    let mut world = broken(store);
    world.act(deploy("production", 2, false));
    world.run();
    let waiting = world.build("production", "start-deploy");
    assert_eq!(waiting.status.as_str(), "pending");
    world.rule("production/deploy", Fate::Exit(0));
    let sentences = world.act(roll_back(Suspects::All)).preview.sentences;
    let named = format!("start-deploy {}, which waits with bag 2, is aborted", waiting.name);
    assert!(sentences.contains(&named), "{sentences:?}");
    world.run();
    assert_eq!(world.deployments("production"), ["1 passed", "2 handed-over", "1 passed"]);
    assert_eq!(world.live(), [2, 2, 1]);
    assert_eq!(world.holds("production"), ["no-version"], "nothing waits, and nobody holds the lock");
    world.push("api", "api-3");
    world.run();
    assert_eq!(world.live(), [3, 3, 3]);
}

fn roll_back(suspects: Suspects) -> Act {
    Act::RollBack {
        system: "notify".to_owned(),
        environment: "production".to_owned(),
        to: None,
        suspects,
        and_untick: false,
        here_only: false,
    }
}

fn a_roll_back_stays(store: Store) {
    let mut world = broken(store);
    world.rule("production/deploy", Fate::Exit(0));
    world.act(roll_back(Suspects::Services(vec!["api".to_owned()])));
    world.run();
    assert_eq!(world.deployments("production"), ["1 passed", "2 handed-over", "1 passed"]);
    assert_eq!(world.ran.last().map(String::as_str), Some("production/test/smoke bag 1"), "through every job");
    assert_eq!(world.live(), [2, 2, 1]);
    // A newer bag with the suspect is held, however often it is packed again.
    world.push("admin", "admin-2");
    world.run();
    assert_eq!(world.live(), [3, 3, 1]);
    assert!(world.holds("production").contains(&"rolled-back-content".to_owned()));
    // The first bag without it deploys.
    world.push("api", "api-3");
    world.run();
    assert_eq!(world.live(), [4, 4, 4]);
}

fn by_hand_it_does_what_it_says_and_no_more(store: Store) {
    let mut world = broken(store);
    world.rule("production/deploy", Fate::Exit(0));
    world.act(Act::Disable {
        target: TickTarget::Bag { system: "notify".into(), bag: 2, environment: Some("production".into()) },
        and_bags: false,
        until: None,
    });
    let trigger = |job: &str| Act::JobTrigger {
        team: "production".to_owned(),
        pipeline: "deploy-notify".to_owned(),
        job: job.to_owned(),
    };
    world.act(trigger("force-unlock-pipeline"));
    world.run();
    assert_eq!(world.deployments("production"), ["1 passed", "2 unlocked"]);
    world.act(trigger("start-deploy"));
    world.run();
    assert_eq!(world.deployments("production"), ["1 passed", "2 unlocked", "1 passed"]);
    // No suspects: the same content comes back with the next bag.
    world.push("admin", "admin-2");
    world.run();
    assert_eq!(world.live(), [3, 3, 3]);
}

fn ten_bags(world: &mut World) {
    world.push_first();
    let token = world.take_lock("staging");
    for n in 2..=11 {
        world.push("api", &format!("api-{n}"));
        world.run();
    }
    assert_eq!(world.live(), [11, 1, 1]);
    assert_eq!(world.holds("staging"), ["lock-held"]);
    world.give_back("staging", token);
}

fn the_newest_of_many_bags_starts_when_the_lock_comes_free(store: Store) {
    let mut world = World::new(store);
    ten_bags(&mut world);
    assert_eq!(world.deployments("staging"), ["1 passed", "11 passed"]);
    assert_eq!(world.live(), [11, 11, 11]);
    for bag in 2..=10 {
        let said: Vec<_> = world.why("staging", Some(bag)).into_iter().map(|hold| hold.sentence).collect();
        assert_eq!(said, [format!("bag {bag} is superseded in staging by bag 11")]);
    }
    let gained = world.changes("staging", 11);
    assert_eq!(gained, ["api api-1 -> api-11"], "the changes of all that were passed over");
}

fn in_a_queue_every_bag_goes_in_order(store: Store) {
    let mut world = World::new(store);
    let queue = SYSTEM.replace("    after: preview\n", "    after: preview\n    superseding: queue\n");
    world.act(Act::SystemSet { text: queue, vars: BTreeMap::new(), now: false });
    ten_bags(&mut world);
    let expected: Vec<String> = (1..=11).map(|n| format!("{n} passed")).collect();
    assert_eq!(world.deployments("staging"), expected);
    assert_eq!(world.live(), [11, 11, 11]);
}

fn a_freeze_holds_and_lets_go(store: Store) {
    let mut world = World::new(store);
    world.push_first();
    let freeze = Act::Freeze {
        system: "notify".to_owned(),
        environment: "staging".to_owned(),
        at: None,
        until: None,
        deploy: false,
    };
    world.act(freeze);
    world.push("api", "api-2");
    world.run();
    assert_eq!(world.live(), [2, 1, 1]);
    assert!(world.holds("staging").contains(&"frozen".to_owned()));
    world.act(Act::Unfreeze { system: "notify".to_owned(), environment: "staging".to_owned() });
    world.run();
    assert_eq!(world.live(), [2, 2, 2]);
}

fn a_freeze_at_a_bag_that_has_not_passed_does_not_deploy_it(store: Store) {
    let mut world = World::new(store);
    world.push_first();
    world.rule("preview/test", Fate::Exit(1));
    world.push("api", "api-2");
    world.run();
    let token = world.take_lock("staging");
    let trigger = Act::JobTrigger {
        team: "staging".to_owned(),
        pipeline: "deploy-notify".to_owned(),
        job: "start-deploy".to_owned(),
    };
    world.act(trigger);
    let done = world.act(Act::Freeze {
        system: "notify".to_owned(),
        environment: "staging".to_owned(),
        at: Some(2),
        until: None,
        deploy: false,
    });
    let said = "bag 2 is not live in staging: it cannot be deployed yet, because bag 2 has not passed preview";
    assert!(done.preview.sentences.contains(&said.to_owned()), "{:?}", done.preview.sentences);
    world.give_back("staging", token);
    assert_eq!(world.deployments("staging"), ["1 passed"]);
    let triggered = world.build("staging", "start-deploy");
    assert_eq!(triggered.status.as_str(), "aborted");
    assert!(triggered.end_reason.is_some_and(|reason| reason.contains("bag 2 has not passed preview")));
}

fn service(name: &str) -> PinTarget {
    PinTarget::Service { system: "notify".to_owned(), service: name.to_owned(), environment: None }
}

fn pins_and_ticks_of_services_concern_packing_only(store: Store) {
    let mut world = World::new(store);
    world.push_first();
    world.push("api", "api-2");
    world.run();
    world.act(Act::Pin { target: service("api"), version: "version:api-1".to_owned(), until: None });
    world.run();
    assert_eq!(world.live(), [2, 2, 2], "a pin to a version that was had before packs nothing by itself");
    world.push("admin", "admin-2");
    world.run();
    assert_eq!(world.live(), [3, 3, 3]);
    world.act(Act::Unpin { target: service("api") });
    world.act(Act::Disable {
        target: TickTarget::Service {
            system: "notify".to_owned(),
            service: "api".to_owned(),
            environment: None,
            version: "version:api-2".to_owned(),
        },
        and_bags: false,
        until: None,
    });
    world.push("admin", "admin-3");
    world.run();
    assert_eq!(world.bags(), [1, 2, 3, 4]);
    assert_eq!(world.live(), [4, 4, 4]);
}

fn the_same_bag_runs_every_job_again(store: Store) {
    let mut world = World::new(store);
    world.push_first();
    let ran = world.ran.len();
    world.act(deploy("staging", 1, false));
    world.run();
    assert_eq!(world.deployments("staging"), ["1 passed", "1 passed"]);
    assert_eq!(world.ran[ran..], ["staging/deploy/apply bag 1", "staging/test/smoke bag 1"]);
    assert_eq!(world.deployments("production"), ["1 passed"], "nothing goes on that has been there");
}

fn an_unticked_bag_does_not_start(store: Store) {
    let mut world = World::new(store);
    world.push_first();
    let token = world.take_lock("staging");
    world.push("api", "api-2");
    world.run();
    world.act(Act::Disable {
        target: TickTarget::Bag { system: "notify".into(), bag: 2, environment: Some("staging".into()) },
        and_bags: false,
        until: None,
    });
    let waiting = world.build("staging", "start-deploy");
    assert_eq!(waiting.status.as_str(), "aborted", "no bag is left for it");
    assert!(waiting.end_reason.is_some_and(|reason| reason.contains("bag 2 is unticked in staging")));
    world.give_back("staging", token);
    assert_eq!(world.live(), [2, 1, 1]);
    let target = TickTarget::Bag { system: "notify".into(), bag: 2, environment: Some("staging".into()) };
    world.act(Act::Enable { target });
    world.run();
    assert_eq!(world.live(), [2, 2, 2]);
}

fn previews_say_what_then_happens(store: Store) {
    let mut world = World::new(store);
    world.push_first();
    world.act(Act::Freeze {
        system: "notify".to_owned(),
        environment: "staging".to_owned(),
        at: None,
        until: None,
        deploy: false,
    });
    world.push("api", "api-2");
    world.run();
    let unfreeze = Act::Unfreeze { system: "notify".to_owned(), environment: "staging".to_owned() };
    let preview = world.preview(unfreeze.clone());
    let starts: Vec<_> = preview.starts.iter().map(|start| (start.environment.clone(), start.bag)).collect();
    assert_eq!(starts, [(Some("staging".to_owned()), Some(2))]);
    let gained: Vec<_> = preview.changes[0].services.iter().map(|change| change.service.as_str()).collect();
    assert_eq!((preview.changes[0].from, preview.changes[0].to, gained), (Some(1), Some(2), vec!["api"]));
    assert_eq!(world.live(), [2, 1, 1], "a preview does nothing");
    let done = world.act(unfreeze);
    assert_eq!(done.preview.token, preview.token, "what was shown is what was done");
    world.run();
    assert_eq!(world.live(), [2, 2, 2]);
}

fn a_guarded_build_is_not_aborted_by_accident(store: Store) {
    let mut world = World::new(store);
    world.push_first();
    world.rule("staging/deploy", Fate::Runs);
    world.push("api", "api-2");
    world.run();
    let build = world.build("staging", "deploy");
    assert_eq!(
        world.refused(Act::BuildAbort { build: build.id.0, force: false, worker_is_dead: false }, None),
        "guarded"
    );
    world.act(Act::BuildAbort { build: build.id.0, force: true, worker_is_dead: false });
    assert_eq!(world.build("staging", "deploy").status.as_str(), "started", "not before its process has ended");
    world.end_running(0);
    assert_eq!(world.build("staging", "deploy").status.as_str(), "aborted");
    assert_eq!(world.deployments("staging"), ["1 passed", "2 open"], "it keeps the lock");
}

fn a_lost_deploy_step_is_in_doubt(store: Store) {
    let mut world = World::new(store);
    world.rule("preview/deploy/apply", Fate::Lost);
    world.push_first();
    world.push("api", "api-2");
    world.run();
    assert!(world.holds("preview").contains(&"in-doubt".to_owned()), "{:?}", world.holds("preview"));
    let ways: Vec<_> = world.why("preview", None).into_iter().filter_map(|hold| hold.command).collect();
    for way in
        ["holdall job trigger preview/deploy-notify/deploy", "holdall lock force-unlock preview --worker-is-dead"]
    {
        assert!(ways.iter().any(|named| named.starts_with(way)), "{ways:?}");
    }
    world.rule("preview/deploy/apply", Fate::Exit(0));
    let build = world.build("preview", "deploy");
    world.act(Act::BuildRerun { build: build.id.0 });
    world.run();
    assert_eq!(world.live(), [2, 2, 2]);
}

fn a_lost_deploy_step_is_not_tried_again_by_itself(store: Store) {
    let mut world = World::new(store);
    world.push_first();
    let apply = "{ task: apply, file: api/apply.yml }";
    let again = "{ task: apply, file: api/apply.yml, attempts: 3 }";
    for (bag, plan) in [(2, format!("[{again}]")), (3, format!("[{{ try: {apply} }}, {again}]"))] {
        let text = SYSTEM.replacen(&format!("[{apply}]"), &plan, 1);
        world.act(Act::SystemSet { text, vars: BTreeMap::new(), now: false });
        world.rule("preview/deploy/apply", Fate::Lost);
        world.push("api", &format!("api-{bag}"));
        world.run();
        let ran = format!("preview/deploy/apply bag {bag}");
        assert_eq!(world.ran.iter().filter(|one| **one == ran).count(), 1, "{plan}");
        assert_eq!(world.build("preview", "deploy").status.as_str(), "errored");
        let why = world.why("preview", None);
        assert!(why.iter().any(|hold| hold.code == "in-doubt"), "{why:?}");
        // A person says that it is to be done again, and it is.
        world.rule("preview/deploy/apply", Fate::Exit(0));
        let build = world.build("preview", "deploy").id.0;
        world.act(Act::BuildRerun { build });
        world.run();
        assert_eq!(world.live(), [bag, bag, bag]);
    }
}

fn a_later_roll_back_leaves_withdrawn_what_was(store: Store) {
    let mut world = World::new(store);
    world.push_first();
    let token = world.take_lock("production");
    for version in ["api-2", "api-3"] {
        world.push("api", version);
        world.run();
    }
    for (to, here_only) in [(2, false), (1, true)] {
        world.act(Act::RollBack {
            system: "notify".to_owned(),
            environment: "staging".to_owned(),
            to: Some(to),
            suspects: Suspects::None,
            and_untick: false,
            here_only,
        });
        world.run();
    }
    world.give_back("production", token);
    assert_eq!(world.live(), [3, 1, 2], "bag 3 was withdrawn, bag 2 was thrown out of staging only");
}

fn a_hook_whose_files_cannot_be_fetched_keeps_nothing_back(store: Store) {
    let mut world = World::new(store);
    let hooks = "  staging:\n    on_start: [{ task: hello, file: admin/hello.yml }]\n    on_passed: [{ task: told, file: \
                 admin/told.yml }]\n";
    let text = SYSTEM.replace("  staging:\n", hooks);
    world.act(Act::SystemSet { text, vars: BTreeMap::new(), now: false });
    world.rule("staging/start-deploy/admin", Fate::Exit(1));
    world.rule("staging/signal-deploy-completion/admin", Fate::Exit(1));
    world.push_first();
    assert_eq!(world.live(), [1, 1, 1]);
    assert_eq!(world.deployments("staging"), ["1 passed"]);
}

fn a_system_changes_under_way(store: Store) {
    let mut world = World::new(store);
    world.push_first();
    world.rule("staging/deploy", Fate::Runs);
    world.push("api", "api-2");
    world.run();
    let changed = SYSTEM.replace("    after: preview\n", "    after: qa\n")
        + "  qa:\n    after: preview\n    deploy: [{ task: apply, file: api/apply.yml }]\n";
    let answer = world.act(Act::SystemSet { text: changed, vars: BTreeMap::new(), now: false });
    assert!(
        answer.preview.sentences.iter().any(|sentence| sentence.contains("takes its new pipeline when deployment 2")),
        "{:?}",
        answer.preview.sentences
    );
    world.run();
    assert_eq!(world.current("qa"), 2, "what passed preview goes to the new environment");
    world.rule("staging/deploy", Fate::Exit(0));
    world.end_running(0);
    assert_eq!(world.live(), [2, 2, 2]);
    world.push("api", "api-3");
    world.run();
    assert_eq!((world.live(), world.current("qa")), (vec![3, 3, 3], 3));
    // Removing an environment whose lock is held is refused.
    let token = world.take_lock("production");
    let removed = SYSTEM.split("  production:").next().expect("the rest").to_owned();
    let set = Act::SystemSet { text: removed, vars: BTreeMap::new(), now: false };
    assert_eq!(world.refused(set.clone(), None), "refused");
    world.give_back("production", token);
    world.act(set);
    world.push("api", "api-4");
    world.run();
    assert_eq!((world.current("preview"), world.current("staging")), (4, 4));
}

/// A deploy of bag 2 runs in staging, which has a hook; gives the build.
fn a_deploy_with_a_hook_runs(store: Store) -> (World, BuildId) {
    let mut world = World::new(store);
    let with_hook = SYSTEM.replace(
        "  staging:\n    after: preview\n",
        "  staging:\n    after: preview\n    on_failed: { plan: [{ task: tell, file: api/tell.yml }] }\n",
    );
    assert_ne!(with_hook, SYSTEM);
    world.act(Act::SystemSet { text: with_hook, vars: BTreeMap::new(), now: false });
    world.push_first();
    world.rule("staging/deploy/apply", Fate::Runs);
    world.push("api", "api-2");
    world.run();
    let build = world.build("staging", "deploy").id;
    (world, build)
}

/// A deploy runs whose environment has a hook; its worker is said to be dead by `act`. The hook runs, and the next deploy.
fn a_worker_dies(store: Store, act: impl Fn(i64) -> Act) {
    let (mut world, build) = a_deploy_with_a_hook_runs(store);
    world.rule("staging/deploy/apply", Fate::Exit(0));
    world.act(act(build.0));
    world.run();
    let ended = world.store.read_blocking(move |tx| builds::build_get(tx, build)).unwrap().unwrap();
    assert!(ended.status.is_terminal(), "{ended:?}");
    assert!(world.ran.contains(&"staging/deploy/tell bag 2".to_owned()), "its hook runs: {:?}", world.ran);
    if world.why("staging", None).iter().any(|hold| hold.code == "in-doubt") {
        world.act(Act::BuildRerun { build: build.0 });
    } else {
        world.act(deploy("staging", 2, false));
    }
    world.run();
    assert_eq!(world.live(), [2, 2, 2], "the next deploy is not held up");
}

fn a_dead_worker_whose_lock_is_taken_holds_nothing_for_ever(store: Store) {
    a_worker_dies(store, |_| Act::ForceUnlock {
        environment: "staging".to_owned(),
        abort_running: false,
        worker_is_dead: true,
        then: Then::Hold,
    });
}

fn a_dead_worker_whose_build_is_aborted_holds_nothing_for_ever(store: Store) {
    a_worker_dies(store, |build| Act::BuildAbort { build, force: false, worker_is_dead: true });
}

/// The lock is given back when the hook of the lost deploy has run; the act again gives up one that no worker takes.
fn a_hook_of_a_dead_worker_that_no_worker_takes_is_given_up(store: Store) {
    let (mut world, build) = a_deploy_with_a_hook_runs(store);
    let unlock = Act::ForceUnlock {
        environment: "staging".to_owned(),
        abort_running: false,
        worker_is_dead: true,
        then: Then::Hold,
    };
    world.act(unlock.clone());
    assert_eq!(world.deployments("staging"), ["1 passed", "2 open"], "its hook is still to run");
    world.act(unlock);
    assert_eq!(world.deployments("staging"), ["1 passed", "2 unlocked"]);
    let ended = world.store.read_blocking(move |tx| builds::build_get(tx, build)).unwrap().unwrap();
    assert!(ended.status.is_terminal(), "{ended:?}");
    world.run();
    assert!(!world.ran.contains(&"staging/deploy/tell bag 2".to_owned()), "it was given up: {:?}", world.ran);
}

fn force_unlock_stops_what_runs_first(store: Store) {
    let mut world = World::new(store);
    world.push_first();
    world.rule("staging/deploy", Fate::Runs);
    world.push("api", "api-2");
    world.run();
    let unlock = |abort_running| Act::ForceUnlock {
        environment: "staging".to_owned(),
        abort_running,
        worker_is_dead: false,
        then: Then::Hold,
    };
    assert_eq!(world.refused(unlock(false), Some("stuck")), "refused");
    world.act(unlock(true));
    assert_eq!(world.deployments("staging"), ["1 passed", "2 open"]);
    world.end_running(0);
    assert_eq!(world.deployments("staging"), ["1 passed", "2 unlocked"]);
    // No newer bag is there that a start would take: why names the one that was taken away.
    let why = world.why("staging", None);
    let held = why.iter().find(|hold| hold.code == "held-after-unlock").expect("it is held");
    assert_eq!(held.command.as_deref(), Some("holdall deploy staging --bag 2 --reason \"...\""));
    world.rule("staging/deploy", Fate::Exit(0));
    world.act(deploy("staging", 2, false));
    world.run();
    assert_eq!(world.live(), [2, 2, 2]);
}

/// A deployment that is about to be made works under the lock as one that has been made does.
fn force_unlock_stops_a_start_first(store: Store) {
    let mut world = World::new(store);
    world.rule("staging/start-deploy", Fate::Runs);
    world.push_first();
    let unlock = |abort_running| Act::ForceUnlock {
        environment: "staging".to_owned(),
        abort_running,
        worker_is_dead: false,
        then: Then::Hold,
    };
    assert_eq!(world.refused(unlock(false), Some("stuck")), "refused");
    let by_job = Act::JobTrigger {
        team: "staging".to_owned(),
        pipeline: "deploy-notify".to_owned(),
        job: "force-unlock-pipeline".to_owned(),
    };
    assert_eq!(world.refused(by_job, Some("stuck")), "refused");
    world.act(unlock(true));
    assert_eq!(world.build("staging", "start-deploy").status.as_str(), "started", "not before its process has ended");
    world.end_running(0);
    assert_eq!(world.build("staging", "start-deploy").status.as_str(), "aborted");
    assert_eq!(world.deployments("staging"), Vec::<String>::new());
    assert!(world.holds("staging").contains(&"held-after-unlock".to_owned()), "{:?}", world.holds("staging"));
}

/// What ends a deployment gives the lock back: a deploy or a test that is started once more waits for it, and does not
/// start at all where it has passed.
fn nothing_runs_beside_what_ends_a_deployment(store: Store) {
    let mut world = World::new(store);
    world.rule("staging/signal-deploy-completion", Fate::Runs);
    world.push_first();
    assert_eq!(world.build("staging", "signal-deploy-completion").status.as_str(), "started");
    for job in ["deploy", "test"] {
        let build = world.build("staging", job);
        world.act(Act::BuildRerun { build: build.id.0 });
        world.run();
        assert!(
            world.holds_of("staging", job).contains(&"serial-group".to_owned()),
            "{:?}",
            world.holds_of("staging", job)
        );
    }
    world.rule("staging/signal-deploy-completion", Fate::Exit(0));
    world.end_running(0);
    assert_eq!(world.deployments("staging"), ["1 passed"]);
    assert_eq!(world.ran.iter().filter(|ran| ran.starts_with("staging/deploy")).count(), 1);
}

/// A start-deploy whose worker fails makes no deployment; the same bag is not started again by itself, for ever.
fn a_start_that_fails_is_not_tried_over_and_over(store: Store) {
    let mut world = World::new(store);
    world.rule("staging/start-deploy", Fate::Exit(1));
    world.push_first();
    assert_eq!(world.build("staging", "start-deploy").name, "1");
    assert_eq!(world.holds("staging"), ["deploy-failed"]);
    world.rule("staging/start-deploy", Fate::Exit(0));
    world.act(Act::JobTrigger {
        team: "staging".to_owned(),
        pipeline: "deploy-notify".to_owned(),
        job: "start-deploy".to_owned(),
    });
    world.run();
    assert_eq!(world.live(), [1, 1, 1]);
}

/// A bag that a roll back threw out of one environment waits in those after it, until it is ticked again there.
fn what_was_thrown_out_upstream_comes_back_downstream(store: Store) {
    let mut world = World::new(store);
    world.push_first();
    let token = world.take_lock("production");
    world.push("api", "api-2");
    world.run();
    assert_eq!(world.live(), [2, 2, 1]);
    world.act(Act::RollBack {
        system: "notify".to_owned(),
        environment: "staging".to_owned(),
        to: None,
        suspects: Suspects::None,
        and_untick: false,
        here_only: false,
    });
    world.run();
    let target = TickTarget::Bag { system: "notify".into(), bag: 2, environment: Some("staging".into()) };
    // An untick by hand takes nothing of that back.
    world.act(Act::Disable { target: target.clone(), and_bags: false, until: None });
    world.give_back("production", token);
    assert_eq!(world.live(), [2, 1, 1]);
    world.act(Act::Enable { target });
    world.run();
    assert_eq!(world.current("production"), 2, "it has passed staging, and nothing holds it back any more");
}

fn setting_the_same_file_twice_changes_nothing(store: Store) {
    let mut world = World::new(store);
    let set = Act::SystemSet { text: SYSTEM.to_owned(), vars: BTreeMap::new(), now: false };
    assert_eq!(world.act(set).preview.sentences, ["nothing changes"]);
}
