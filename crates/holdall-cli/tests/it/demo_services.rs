//! The supervisor with real services, `db-setup` and the suites, run as a step runs them.

use std::fs;

use serde_json::Value;

use crate::demo_world::{World, answers, eventually, request};

const SUITES: [&str; 4] = ["functional", "api-clients", "smoke", "providers"];

fn deploy(world: &World, bag: i64, environment: &str) -> (bool, String) {
    let step = world.step(bag, environment);
    let (succeeded, said) = step.run("\"$DEMO\"/bin/holdall demo-deploy --bag bag/bag.json");
    if !succeeded {
        return (false, said);
    }
    step.run("infrastructure/ci/db-setup.sh")
}

fn suite(world: &World, bag: i64, environment: &str, name: &str) -> (bool, String) {
    world.step(bag, environment).run(&format!("infrastructure/tests/{name}.sh"))
}

fn version(address: &str) -> Value {
    serde_json::from_str(&request("GET", &format!("{address}/version"), "").1).unwrap()
}

#[test]
fn a_bag_runs_passes_its_suites_and_comes_back_with_the_demo() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path());
    for environment in ["preview", "production"] {
        let (succeeded, said) = deploy(&world, 1, environment);
        assert!(succeeded, "{said}");
        assert!(said.contains("applied  002_state.sql"), "{said}");
        for name in SUITES {
            let (succeeded, said) = suite(&world, 1, environment, name);
            assert!(succeeded, "{name}: {said}");
        }
    }
    let heads = world.heads();
    let address = world.address_of("production", "api").unwrap();
    let before = version(&address);
    assert_eq!(before["commit"], heads["api"].as_str());
    assert_eq!(before["environment"], "production");
    assert_ne!(address, world.address_of("preview", "api").unwrap());
    world.stop();
    assert!(!answers(&address), "a service outlived the demo");

    let world = World::start(dir.path());
    eventually("the service is back", || world.address_of("production", "api").as_ref() == Some(&address));
    assert_eq!(version(&address), before);
    let (succeeded, said) = suite(&world, 1, "production", "smoke");
    assert!(succeeded, "{said}");
    // No word to anyone: the services notice, and the next demo finds its ports free.
    world.kill();
    eventually("the services of a killed demo end", || !answers(&address));
    let world = World::start(dir.path());
    eventually("the service is back again", || world.address_of("production", "api").as_ref() == Some(&address));
    world.stop();
}

#[test]
fn a_service_that_dies_is_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path());
    assert!(deploy(&world, 1, "preview").0);
    let address = world.address_of("preview", "admin").unwrap();
    let pid = format!("/proc/{}", process_listening_at(&address));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid[6..].parse().unwrap()), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    eventually("the process is gone", || !fs::exists(&pid).unwrap());
    eventually("another answers at the same address", || {
        world.address_of("preview", "admin").as_ref() == Some(&address) && answers(&address)
    });
    assert_eq!(version(&address)["service"], "admin");
    world.stop();
}

/// The `demo-service` of that address, by the port on its command line or in its log: Linux only, like `/proc`.
fn process_listening_at(address: &str) -> i32 {
    let port: u16 = address.rsplit(':').next().unwrap().parse().unwrap();
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let inode = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|parts| parts.get(1) == Some(&format!("0100007F:{port:04X}").as_str()) && parts[3] == "0A")
        .map(|parts| parts[9].to_owned())
        .unwrap();
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let mut files = fs::read_dir(entry.path().join("fd")).ok()?.flatten();
        files.any(|file| fs::read_link(file.path()).is_ok_and(|to| to.to_string_lossy() == wanted)).then_some(pid)
    });
    processes.last().unwrap()
}

#[test]
fn a_push_can_break_tests_once_or_for_good_and_a_deploy() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path());
    assert!(deploy(&world, 1, "production").0);

    let said = world.push("admin", "service.conf", |text| text.replace("broken_in=", "broken_in=production"));
    assert!(said.contains("The demo does not run"), "{said}");
    assert!(deploy(&world, 2, "staging").0);
    assert!(suite(&world, 2, "staging", "smoke").0);
    let (succeeded, said) = deploy(&world, 2, "production");
    assert!(succeeded, "the deploy itself is fine: {said}");
    let (succeeded, said) = suite(&world, 2, "production", "smoke");
    assert!(!succeeded && said.contains("admin GET /: status 500 instead of 200"), "{said}");

    world.push("admin", "service.conf", |text| {
        text.replace("broken_in=production", "broken_in=").replace("flaky_in=", "flaky_in=production")
    });
    assert!(deploy(&world, 3, "production").0);
    assert!(!suite(&world, 3, "production", "smoke").0, "the first time it fails");
    let (succeeded, said) = suite(&world, 3, "production", "smoke");
    assert!(succeeded, "the second time it does not: {said}");

    world.push("admin", "service.conf", |text| text.replace("crash_in=", "crash_in=production"));
    let (succeeded, said) = deploy(&world, 4, "production");
    assert!(!succeeded && said.contains("admin at") && said.contains("ended before it listened"), "{said}");
    assert!(world.address_of("production", "admin").is_none());
    assert!(world.address_of("production", "api").is_some());

    world.push("admin", "service.conf", |_| "role\n".to_owned());
    let (succeeded, said) = deploy(&world, 5, "production");
    assert!(!succeeded && said.contains("line 1: this is not key=value"), "{said}");
}

#[test]
fn a_deploy_goes_back_and_the_database_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path());
    let before = world.step(1, "staging");
    let deploy = "\"$DEMO\"/bin/holdall demo-deploy --bag bag/bag.json && infrastructure/ci/db-setup.sh";
    assert!(before.run(deploy).0);
    world.push("api", "migrations/003_channel.sql", |_| "ALTER TABLE notification ADD COLUMN channel TEXT;".to_owned());
    let after = world.step(2, "staging");
    let (succeeded, said) = after.run(deploy);
    assert!(
        succeeded && said.contains("applied  003_channel.sql") && said.contains("1 applied now, 2 before"),
        "{said}"
    );
    let (succeeded, said) = before.run(&format!("export HOLDALL_DIRECTION=rollback; {deploy}"));
    assert!(succeeded, "{said}");
    assert!(said.contains("roll back: 003_channel.sql stay applied"), "{said}");
    assert!(suite(&world, 1, "staging", "api-clients").0);
}

#[test]
fn a_bag_with_fewer_services_stops_the_others_and_nonsense_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path());
    assert!(deploy(&world, 1, "dev").0);
    let antivirus = world.address_of("dev", "antivirus").unwrap();
    let url = format!("{}/environments/dev", world.address);
    let commit = world.heads()["api"].clone();
    for (wanted, status) in [
        ("not json".to_owned(), 400),
        (format!("{{\"bag\":\"2\",\"services\":{{\"../api\":\"{commit}\"}}}}"), 400),
        ("{\"bag\":\"2\",\"services\":{\"api\":\"main\"}}".to_owned(), 400),
        (format!("{{\"bag\":\"2\",\"services\":{{\"api\":\"{}\"}}}}", "0".repeat(40)), 400),
    ] {
        assert_eq!(request("PUT", &url, &wanted).0, status, "{wanted}");
    }
    assert!(answers(&antivirus));
    let (status, said) = request("PUT", &url, &format!("{{\"bag\":\"2\",\"services\":{{\"api\":\"{commit}\"}}}}"));
    assert_eq!(status, 200, "{said}");
    assert!(said.contains("is not in the bag: stopped"), "{said}");
    assert!(!answers(&antivirus));
    assert!(world.address_of("dev", "api").is_some());
    world.stop();
}
