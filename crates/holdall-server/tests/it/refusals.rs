//! What is refused of acts and queries that make no sense, and what the refusal says.

use holdall_engine::time::{Span, Timestamp};
use holdall_protocol::api::{Act, PinTarget, TickTarget, Time};
use holdall_server::error::{Error, Refusal};
use holdall_server::query;

use crate::world::World;

/// With a bag that is live everywhere, and the folder where it is.
fn world() -> (World, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(holdall_store::testing::sqlite(dir.path()).unwrap());
    world.push("api", "api-1");
    world.push("admin", "admin-1");
    world.run();
    assert_eq!(world.live(), [1, 1, 1]);
    (world, dir)
}

fn refusal<T>(result: Result<T, Error>) -> Refusal {
    match result {
        Err(Error::Refused(refusal)) => *refusal,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was accepted"),
    }
}

#[test]
fn nothing_is_held_until_a_time_that_is_past() {
    let (mut world, _dir) = world();
    let (system, environment) = ("notify".to_owned(), "staging".to_owned());
    let freeze = |until| Act::Freeze {
        system: system.clone(),
        environment: environment.clone(),
        at: None,
        until,
        deploy: false,
    };
    world.act(freeze(None));
    let service = || (system.clone(), "api".to_owned(), "version:api-1".to_owned());
    let acts: [&dyn Fn(Option<Time>) -> Act; 4] = [
        &freeze,
        &|until| {
            let (system, service, version) = service();
            Act::Pin { target: PinTarget::Service { system, service, environment: None }, version, until }
        },
        &|until| {
            let (system, service, version) = service();
            let target = TickTarget::Service { system, service, environment: None, version };
            Act::Disable { target, and_bags: false, until }
        },
        &|until| {
            let target = TickTarget::Bag { system: system.clone(), bag: 1, environment: Some(environment.clone()) };
            Act::Disable { target, and_bags: false, until }
        },
    ];
    for act in acts {
        for dry_run in [true, false] {
            // It is done a second later than this: at that moment is late too.
            let past = Time((world.now + Span::seconds(1)).0);
            let refused = refusal(world.request(act(Some(past)), Some("because"), dry_run));
            assert_eq!((refused.status, refused.code), (422, "invalid"));
            assert!(refused.message.contains(&format!("{past} is past")), "{}", refused.message);
        }
    }
    let unfreeze = Act::Unfreeze { system: system.clone(), environment: environment.clone() };
    let said = world.preview(unfreeze).sentences;
    assert_eq!(said, ["staging is not frozen at bag 1 any more"], "the freeze that was there is there");
    let later = Timestamp(world.now.0) + Span::seconds(3600);
    for act in acts {
        world.act(act(Some(Time(later.0))));
    }
}

#[test]
fn the_audit_log_of_an_environment_has_nothing_of_others() {
    let (mut world, _dir) = world();
    for environment in ["staging", "production"] {
        let (system, environment) = ("notify".to_owned(), environment.to_owned());
        world.act(Act::Freeze { system, environment, at: None, until: None, deploy: false });
    }
    let list = |system: Option<&'static str>, environment: Option<&'static str>| {
        let read = move |tx: &mut holdall_store::Tx<'_>| query::audit::list(tx, system, environment, None, 100);
        world.store.write_blocking(read)
    };
    let touched = |system, environment| {
        let entries = list(system, environment).unwrap();
        entries.into_iter().map(|entry| entry.what).collect::<Vec<String>>()
    };
    for system in [None, Some("notify")] {
        let staging = touched(system, Some("staging"));
        assert!(staging.contains(&"notify/staging".to_owned()), "{staging:?}");
        assert!(staging.iter().all(|what| what.contains("staging")), "{staging:?}");
    }
    assert_eq!(touched(None, None).len(), touched(Some("notify"), None).len());
    for (system, environment, says) in [
        (None, Some("nope"), "there is no environment nope"),
        (Some("notify"), Some("nope"), "there is no environment nope in system notify"),
        (Some("nope"), None, "there is no system nope"),
        (Some("nope"), Some("staging"), "there is no system nope"),
    ] {
        let refused = refusal(list(system, environment));
        assert_eq!((refused.status, &*refused.message), (404, says));
    }
}
