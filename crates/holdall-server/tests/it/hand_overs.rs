//! What goes before what when a person decides: hand-overs, force-unlocks and freezes (release model, sections 5 and 7).

use std::collections::BTreeMap;

use holdall_engine::version::Version;
use holdall_protocol::api::{Act, Suspects, Then};
use holdall_store::bags::{self, BagRow};
use holdall_store::versions::NewVersion;
use holdall_store::{Store, environments, jobs, locks, resources, systems, versions};

use crate::world::{Fate, SYSTEM, World, deploy, environment};

mod both {
    holdall_store::on_both_databases!(
        a_hand_over_goes_before_another_system_of_the_environment,
        a_force_unlock_holds_every_system_of_the_environment,
        a_lock_that_changes_hands_concerns_only_who_waits,
        a_hand_over_to_a_bag_that_a_waiting_file_bars_is_refused,
        a_freeze_deploys_only_what_may_start,
        a_freeze_at_the_bag_under_way_deploys_it_once,
        a_start_that_makes_no_deployment_leaves_the_environment_held,
        a_person_lets_a_queue_go_on_in_order,
        bags_that_never_come_here_are_no_limit,
        a_bag_is_found_behind_many_that_have_not_passed,
    );
}

/// A second system with the same production.
const BILLING: &str = "\
system: billing
services:
  bill: { type: mock, source: { initial_version: bill } }
environments:
  production:
    pack: true
    deploy: [{ task: apply, file: bill/apply.yml }]
";

fn set(text: String) -> Act {
    Act::SystemSet { text, vars: BTreeMap::new(), now: false }
}

fn push_bill(world: &mut World, version: &'static str) {
    world.pass(1);
    world.write(move |tx, now| {
        let system = systems::system_find(tx, "billing")?.expect("the system");
        let row = environments::environment_find(tx, system.id, "production")?.expect("the environment");
        let scope = resources::resource_find(tx, row.pipeline, "bill")?.and_then(|row| row.scope).expect("a scope");
        let new = NewVersion { version: Version::of("version", version), metadata: Vec::new() };
        versions::versions_save(tx, scope, &[new], now)?;
        Ok(())
    });
    world.run();
}

/// The bags that billing has deployed, or deploys.
fn billed(world: &World) -> Vec<i64> {
    world.write(|tx, _| {
        let system = systems::system_find(tx, "billing")?.expect("the system");
        let row = environments::environment_find(tx, system.id, "production")?.expect("the environment");
        Ok(environments::deployment_list(tx, row.id, 100)?.iter().rev().map(|row| row.bag).collect())
    })
}

fn holders(world: &World) -> Vec<String> {
    world.write(|tx, _| {
        let lock = locks::lock_find(tx, "production")?.expect("the lock");
        Ok(locks::holding_list(tx, lock)?.into_iter().map(|row| row.name).collect())
    })
}

/// Both systems have deployed their first bag to production.
fn two_systems(store: Store) -> World {
    let mut world = World::new(store);
    world.push_first();
    world.act(set(BILLING.to_owned()));
    push_bill(&mut world, "bill-1");
    assert_eq!((world.live(), billed(&world)), (vec![1, 1, 1], vec![1]));
    world
}

fn a_hand_over_goes_before_another_system_of_the_environment(store: Store) {
    let mut world = two_systems(store);
    world.rule("production/deploy", Fate::Exit(1));
    push_bill(&mut world, "bill-2");
    world.rule("production/deploy", Fate::Exit(0));
    world.push("api", "api-2");
    world.run();
    assert_eq!(world.build("production", "start-deploy").status.as_str(), "pending");
    world.act(Act::RollBack {
        system: "billing".to_owned(),
        environment: "production".to_owned(),
        to: None,
        suspects: Suspects::All,
        and_untick: false,
        here_only: false,
    });
    assert_eq!(holders(&world), ["start-deploy 3 of bag 1"]);
    assert_eq!(world.deployments("production"), ["1 passed"]);
    world.run();
    assert_eq!((world.live(), billed(&world)), (vec![2, 2, 2], vec![1, 2, 1]));
}

fn a_force_unlock_holds_every_system_of_the_environment(store: Store) {
    let mut world = two_systems(store);
    world.take_lock("production");
    push_bill(&mut world, "bill-2");
    world.push("api", "api-2");
    world.run();
    world.act(Act::ForceUnlock {
        environment: "production".to_owned(),
        abort_running: false,
        worker_is_dead: false,
        then: Then::Hold,
    });
    world.run();
    assert_eq!((world.live(), billed(&world)), (vec![2, 2, 1], vec![1]));
    assert_eq!(world.holds("production"), ["held-after-unlock"]);
}

fn a_lock_that_changes_hands_concerns_only_who_waits(store: Store) {
    let mut world = two_systems(store);
    let token = world.take_lock("production");
    push_bill(&mut world, "bill-2");
    let looked_at = world.write(|tx, _| {
        let lock = locks::lock_find(tx, "production")?.expect("the lock");
        assert_eq!(jobs::dirty(tx, 100)?, []);
        locks::mark_waiters(tx, lock)?;
        let mut names = Vec::new();
        for job in jobs::dirty(tx, 100)? {
            let job = jobs::job_get(tx, job)?.expect("a job");
            names.push(format!("{}/{}/{}", job.team, job.pipeline_name, job.name));
        }
        Ok(names)
    });
    assert_eq!(looked_at, ["production/deploy-billing/start-deploy"], "nothing waits in the other system");
    world.give_back("production", token);
    world.run();
    assert_eq!((world.deployments("production"), billed(&world)), (vec!["1 passed".to_owned()], vec![1, 2]));
}

fn a_hand_over_to_a_bag_that_a_waiting_file_bars_is_refused(store: Store) {
    let mut world = World::new(store);
    world.push_first();
    world.rule("production/deploy", Fate::Exit(1));
    world.push("api", "api-2");
    world.run();
    let web = "  web: { type: mock, source: { initial_version: web } }\nenvironments:";
    let was = "    after: staging\n    deploy: [{ task: apply, file: api/apply.yml }]\n";
    let is = "    after: staging\n    deploy: [{ task: apply, file: web/apply.yml }]\n";
    assert!(SYSTEM.contains(was));
    world.act(set(SYSTEM.replace("environments:", web).replace(was, is)));
    let back = Act::RollBack {
        system: "notify".to_owned(),
        environment: "production".to_owned(),
        to: Some(1),
        suspects: Suspects::None,
        and_untick: false,
        here_only: false,
    };
    assert_eq!(world.refused(back, Some("it is broken")), "refused");
    world.run();
    assert_eq!(world.deployments("production"), ["1 passed", "2 open"], "the lock is where it was");
}

fn freeze(at: Option<i64>) -> Act {
    Act::Freeze { system: "notify".to_owned(), environment: "staging".to_owned(), at, until: None, deploy: true }
}

fn a_freeze_deploys_only_what_may_start(store: Store) {
    let mut world = World::new(store);
    world.push_first();
    world.rule("preview/test", Fate::Exit(1));
    world.push("api", "api-2");
    world.run();
    assert_eq!(world.refused(freeze(Some(2)), Some("it is to stay")), "refused");
    assert_eq!(world.holds("staging"), ["not-passed-upstream"], "it is not frozen either");
}

fn a_freeze_at_the_bag_under_way_deploys_it_once(store: Store) {
    let mut world = World::new(store);
    world.push_first();
    world.rule("staging/deploy", Fate::Runs);
    world.push("api", "api-2");
    world.run();
    let said = world.act(freeze(None)).preview.sentences;
    assert!(said.contains(&"deployment 2 of bag 2 has the lock of staging already".to_owned()), "{said:?}");
    world.rule("staging/deploy", Fate::Exit(0));
    world.end_running(0);
    assert_eq!(world.deployments("staging"), ["1 passed", "2 passed"]);
}

fn trigger(environment: &str, job: &str) -> Act {
    Act::JobTrigger { team: environment.to_owned(), pipeline: "deploy-notify".to_owned(), job: job.to_owned() }
}

fn unlock(environment: &str) -> Act {
    Act::ForceUnlock {
        environment: environment.to_owned(),
        abort_running: false,
        worker_is_dead: false,
        then: Then::Hold,
    }
}

/// A system whose bags 1 to 4 have passed preview, where bag 2 has failed in staging and its lock was taken away.
fn held_with_bags_waiting(store: Store, superseding: &str) -> World {
    let mut world = World::new(store);
    let staging = format!("    after: preview\n    superseding: {superseding}\n");
    world.act(set(SYSTEM.replace("    after: preview\n", &staging)));
    world.push_first();
    world.rule("staging/deploy", Fate::Exit(1));
    for version in ["api-2", "api-3", "api-4"] {
        world.push("api", version);
        world.run();
    }
    world.rule("staging/deploy", Fate::Exit(0));
    world.act(unlock("staging"));
    world.run();
    assert_eq!(
        (world.live(), world.deployments("staging")),
        (vec![4, 1, 1], vec!["1 passed".into(), "2 unlocked".into()])
    );
    world
}

fn a_start_that_makes_no_deployment_leaves_the_environment_held(store: Store) {
    let mut world = held_with_bags_waiting(store, "latest");
    world.rule("staging/start-deploy", Fate::Exit(1));
    world.act(deploy("staging", 1, false));
    world.run();
    assert_eq!(world.build("staging", "start-deploy").status.as_str(), "failed");
    assert_eq!(world.deployments("staging"), ["1 passed", "2 unlocked"], "nothing starts by itself");
    assert_eq!(world.holds("staging"), ["held-after-unlock"]);
    let why = world.why("staging", None);
    let held = why.iter().find(|hold| hold.code == "held-after-unlock").expect("it is held");
    assert_eq!(held.command.as_deref(), Some("holdall job trigger staging/start-deploy"));
    world.rule("staging/start-deploy", Fate::Exit(0));
    world.act(deploy("staging", 1, false));
    world.run();
    assert_eq!(world.deployments("staging")[2..], ["1 passed", "4 passed"], "a person has started it, so it goes on");
}

fn a_person_lets_a_queue_go_on_in_order(store: Store) {
    let mut world = held_with_bags_waiting(store, "queue");
    let preview = world.preview(trigger("staging", "start-deploy"));
    assert_eq!(preview.starts[0].bag, Some(3));
    assert!(preview.dropped.is_empty(), "{:?}", preview.dropped);
    world.act(trigger("staging", "start-deploy"));
    world.run();
    assert_eq!(world.deployments("staging"), ["1 passed", "2 unlocked", "3 passed", "4 passed"]);
}

/// Bags with the contents of bag 1, packed in an environment.
fn pack_many(world: &World, place: &'static str, count: usize) {
    world.write(move |tx, now| {
        let row = environment(tx, place)?;
        let first = bags::bag_find(tx, row.system, 1)?.expect("bag 1");
        for _ in 0..count {
            let number = bags::bag_next_number(tx, row.system)?;
            bags::bag_create(tx, &BagRow { number, environment: row.id, packed_at: now, ..first.clone() })?;
        }
        jobs::mark_pipeline(tx, row.pipeline)?;
        Ok(())
    });
}

fn bags_that_never_come_here_are_no_limit(store: Store) {
    let mut world = World::new(store);
    world.push_first();
    let dev = "  dev:\n    pack: true\n    deploy: [{ task: apply, file: api/apply.yml }]\n  staging:";
    world.act(set(SYSTEM.replace("  staging:", dev)));
    world.run();
    world.take_lock("dev");
    pack_many(&world, "dev", 1200);
    world.push("api", "api-2");
    world.run();
    let packed = world.current("preview");
    assert!(packed > 1200, "{:?}", world.live());
    assert_eq!(world.live(), [packed; 3], "it went through the chain");
}

fn a_bag_is_found_behind_many_that_have_not_passed(store: Store) {
    let mut world = World::new(store);
    let queue = SYSTEM.replace("    after: staging\n", "    after: staging\n    superseding: queue\n");
    world.act(set(queue));
    world.push_first();
    let staging = world.take_lock("staging");
    let production = world.take_lock("production");
    world.push("api", "api-2");
    world.run();
    world.take_lock("preview");
    pack_many(&world, "preview", 120);
    world.give_back("staging", staging);
    assert_eq!(world.live(), [2, 2, 1], "the newest that has passed, behind those that have not");
    world.give_back("production", production);
    assert_eq!(world.live(), [2, 2, 2]);
}
