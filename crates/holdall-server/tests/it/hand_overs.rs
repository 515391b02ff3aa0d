//! What goes before what when a person decides: hand-overs, force-unlocks and freezes (release model, sections 5 and 7).

use std::collections::BTreeMap;

use holdall_engine::version::Version;
use holdall_protocol::api::{Act, Suspects, Then};
use holdall_store::versions::NewVersion;
use holdall_store::{Store, environments, locks, resources, systems, versions};

use crate::world::{Fate, SYSTEM, World};

mod both {
    holdall_store::on_both_databases!(
        a_hand_over_goes_before_another_system_of_the_environment,
        a_force_unlock_holds_every_system_of_the_environment,
        a_hand_over_to_a_bag_that_a_waiting_file_bars_is_refused,
        a_freeze_deploys_only_what_may_start,
        a_freeze_at_the_bag_under_way_deploys_it_once,
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
