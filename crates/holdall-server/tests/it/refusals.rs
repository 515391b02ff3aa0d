//! What is refused of acts and queries that make no sense, and what the refusal says.

use holdall_engine::time::{Span, Timestamp};
use holdall_protocol::api::{Act, PinTarget, TickTarget, Time};
use holdall_server::error::{Error, Refusal};
use holdall_server::query;

use crate::support::{Place, TestServer};
use crate::world::{SYSTEM, World};

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

#[test]
fn a_list_of_what_there_is_not_is_no_empty_list() {
    let place = Place::sqlite();
    let server = TestServer::start(&place);
    let act = serde_json::json!({"act": {"act": "system_set", "text": SYSTEM}});
    let _: serde_json::Value = server.ask("POST", "/acts", &act);
    for (path, says) in [
        ("/builds?team=nope&pipeline=a", "pipeline nope/a"),
        ("/builds?team=preview&pipeline=deploy-notify&job=nope", "job preview/deploy-notify/nope"),
        ("/builds?environment=nope", "environment nope"),
        ("/builds?system=notify&environment=nope", "environment nope in system notify"),
        ("/builds?system=nope", "system nope"),
        ("/resources?team=a&pipeline=nope", "pipeline a/nope"),
        ("/pipelines/a/nope/jobs", "pipeline a/nope"),
        ("/audit?environment=nope", "environment nope"),
    ] {
        let answer = server.send("GET", path, &());
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
        assert_eq!(answer.json()["message"], format!("there is no {says}"), "{path}");
    }
    for path in [
        "/builds?team=preview&pipeline=deploy-notify&job=start-deploy",
        "/builds?environment=production",
        "/builds?system=notify",
        "/resources?team=preview&pipeline=deploy-notify",
    ] {
        let answer = server.send("GET", path, &());
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
    }
}

#[test]
fn a_name_that_is_nearly_that_of_something_is_told_with_it() {
    let place = Place::sqlite();
    let server = TestServer::start(&place);
    let act = serde_json::json!({"act": {"act": "system_set", "text": SYSTEM}});
    let _: serde_json::Value = server.ask("POST", "/acts", &act);
    for (path, meant) in [
        ("/systems/notfy", Some("notify")),
        ("/systems/notify/environments/stagign", Some("staging")),
        ("/systems/notify/environments/elsewhere", None),
        ("/audit?environment=productoin", Some("production")),
        ("/jobs/staging/deploy-notify/start-deplyo", Some("start-deploy")),
        ("/pipelines/stagin/deploy-notify/jobs", Some("staging/deploy-notify")),
        ("/locks/stagin", Some("staging")),
    ] {
        let answer = server.send("GET", path, &());
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
        let told = answer.json()["details"]["did_you_mean"][0].as_str().map(str::to_owned);
        assert_eq!(told.as_deref(), meant, "{path}");
    }
    let target = PinTarget::Service { system: "notify".to_owned(), service: "apii".to_owned(), environment: None };
    let answer = server.send("POST", "/acts", &serde_json::json!({"act": Act::Unpin { target }}));
    assert_eq!(answer.json()["details"]["did_you_mean"], serde_json::json!(["api"]), "{answer:?}");
}

#[test]
fn a_lock_that_nobody_holds_is_not_to_be_taken_away() {
    let (mut world, _dir) = world();
    let refused = refusal(world.request(Act::LockRelease { environment: "preview".to_owned() }, None, false));
    assert_eq!(refused.command.as_deref(), Some("holdall lock show preview"), "{}", refused.message);
}
