//! The history in the tables answers as the one in memory does: on random worlds both lead to the same resolution
//! with the same explanations, and so does what is exported.

use holdall_engine::ids::{BuildId, JobId};
use holdall_engine::resolve::document::Document;
use holdall_engine::resolve::{Resolution, Why, resolve_inputs};
use holdall_engine::status::BuildStatus;
use holdall_engine::time::Timestamp;
use holdall_store::history::{TxHistory, export};
use holdall_store::{Store, StoreError, Tx, Value, builds, jobs, params};

use crate::random;
use crate::world::{Build, Input, ResourceVersion, World, version};

/// How many worlds; each is written, resolved and undone again. `HOLDALL_WORLDS=full` looks at more.
const WORLDS: u64 = 400;
const WORLDS_FULL: u64 = 10_000;

mod both {
    holdall_store::on_both_databases!(random_worlds_are_resolved_as_in_memory, pages_follow_one_another);
}

fn random_worlds_are_resolved_as_in_memory(store: Store) {
    let is_full = std::env::var("HOLDALL_WORLDS").is_ok_and(|value| value == "full");
    for seed in 0..if is_full { WORLDS_FULL } else { WORLDS } {
        let mut world = random::world(seed);
        if seed % 3 == 0 {
            without_orders(&mut world);
        }
        check(&store, world, &format!("seed {seed}"));
    }
}

/// Lets the oldest versions have no place yet: all of them stand at 0.
fn without_orders(world: &mut World) {
    let versions = world.resources.iter_mut().flat_map(|resource| &mut resource.versions);
    versions.for_each(|version| version.order = version.order.map(|order| (order - 2).max(0)));
}

/// Resolves a world from the tables, and from what is exported from them, and compares.
fn check(store: &Store, world: World, which: &str) {
    let world = pinned_by_resource(world);
    let copy = world.clone();
    let decided = store.write_blocking(move |tx| tx.undone(|tx| decide(tx, &copy)));
    let (stored, document) = decided.unwrap_or_else(|error| panic!("{which}: {error}"));
    assert_eq!(stored, world.resolve(), "{which}: {}", serde_json::to_string(&world.document()).expect("JSON"));

    let document = document.expect("the job");
    let text = serde_json::to_vec(&document).expect("JSON");
    let read = Document::parse(&text).unwrap_or_else(|problems| panic!("{which}: {problems:?}"));
    assert_eq!(read, document, "{which}: what is exported is a valid document");
    assert_keys(&text);
    // Explanations name jobs by id, which is the position in the document.
    let evaluation = read.evaluate();
    let in_document = |job: JobId| evaluation.job_name(job);
    let in_world = |job: JobId| world.jobs[job.0 as usize - 1].clone();
    let exported = &evaluation.resolution;
    assert_eq!(exported.has_next, stored.has_next, "{which}");
    for (exported, stored) in exported.inputs.iter().zip(&stored.inputs) {
        match (&exported.result, &stored.result) {
            (Err(exported), Err(stored)) => {
                assert_eq!(exported.failure, stored.failure, "{which}");
                assert_eq!(told(&exported.why, &in_document), told(&stored.why, &in_world), "{which}");
            }
            (exported, stored) => assert_eq!(exported, stored, "{which}"),
        }
    }
}

/// What explanations say, jobs by name: input, other input, cause, job, build, digest.
fn told(why: &[Why], name: &dyn Fn(JobId) -> String) -> Vec<impl PartialEq + std::fmt::Debug> {
    let one = |why: &Why| {
        let place = (why.cause.job().map(name), why.cause.build());
        let other = why.other().map(str::to_owned);
        (why.input.clone(), other, why.cause.as_str(), place, why.cause.found().map(|found| found.digest.clone()))
    };
    why.iter().map(one).collect()
}

/// The keys of the format; the two that go beyond it only where a history cannot be told otherwise.
fn assert_keys(text: &[u8]) {
    let document: serde_json::Value = serde_json::from_slice(text).expect("JSON");
    let keys = |value: &serde_json::Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&document), ["builds", "inputs", "job", "jobs", "resources", "versions"]);
    let all = |list: &str, expected: &[&str]| {
        for item in document[list].as_array().expect("a list") {
            assert_eq!(keys(item), expected, "{item}");
        }
    };
    all("resources", &["checked", "name"]);
    for input in document["inputs"].as_array().expect("a list") {
        let is_pinned = input["version"].is_object();
        let expected: &[&str] = match is_pinned && input["every"] == true {
            true => &["every", "name", "passed", "resource", "trigger", "version"],
            false => &["name", "passed", "resource", "trigger", "version"],
        };
        assert_eq!(keys(input), expected, "{input}");
    }
    all("versions", &["enabled", "order", "resource", "version"]);
    all("builds", &["id", "inputs", "job", "outputs", "passed_builds", "rerun_of", "status"]);
    for version in document["versions"].as_array().expect("a list") {
        assert!(version["order"].is_i64() || version["order"].is_null() && version["enabled"] == false, "{version}");
    }
}

/// Writes a world, and gives what the tables say of it.
fn decide(tx: &mut Tx<'_>, world: &World) -> Result<(Resolution, Option<Document>), StoreError> {
    write(tx, world)?;
    let job = JobId(world.job as i64 + 1);
    let inputs: Vec<_> = jobs::job_inputs(tx, job)?.iter().map(jobs::InputRow::to_resolve).collect();
    Ok((resolve_inputs(&inputs, job, &mut TxHistory::new(tx))?, export(tx, job)?))
}

/// With `version: every` only the resource can be pinned, and that is for all of its inputs.
fn pinned_by_resource(mut world: World) -> World {
    for resource in 0..world.resources.len() {
        let Some(pin) = resource_pin(&world, resource) else { continue };
        for input in world.inputs.iter_mut().filter(|input| input.resource == resource) {
            if input.every || input.pin.is_none() {
                input.pin = Some(pin.clone());
            }
        }
    }
    world
}

fn resource_pin(world: &World, resource: usize) -> Option<String> {
    world.inputs.iter().filter(|input| input.resource == resource && input.every).find_map(|input| input.pin.clone())
}

/// A job with more builds than any page has, none of which may be taken but the oldest.
fn pages_follow_one_another(store: Store) {
    let mut world = random::world(0);
    world.jobs = vec!["unit".to_owned(), "ship".to_owned()];
    world.job = 1;
    world.resources.truncate(1);
    let resource = &mut world.resources[0];
    resource.checked = true;
    resource.versions = (0..2)
        .map(|place| ResourceVersion { name: format!("v{place}"), order: Some(place + 1), enabled: place == 0 })
        .collect();
    let input = Input { name: "repo".to_owned(), resource: 0, passed: vec![0], every: false, pin: None, trigger: true };
    world.inputs = vec![input];
    world.builds = (0..700)
        .map(|place| Build {
            job: 0,
            status: BuildStatus::Succeeded,
            rerun_of: None,
            got: Vec::new(),
            put: vec![(0, format!("v{}", usize::from(place > 0)))],
            from: Vec::new(),
        })
        .collect();
    check(&store, world, "700 builds");
}

/// Writes a world with the ids that it has in memory: places, from 1.
pub fn write(tx: &mut Tx<'_>, world: &World) -> Result<(), StoreError> {
    let id = |place: usize| Value::Int(place as i64 + 1);
    tx.execute("INSERT INTO team (id, name) VALUES (1, 'main')", &[])?;
    tx.execute(
        "INSERT INTO pipeline (id, team_id, name, config, config_version, created_at, updated_at) \
         VALUES (1, 1, 'p', '{}', 1, 0, 0)",
        &[],
    )?;
    for (place, name) in world.jobs.iter().enumerate() {
        tx.execute(
            "INSERT INTO job (id, pipeline_id, name, position, spec) VALUES (?1, 1, ?2, ?1, '{}')",
            &[id(place), name.into()],
        )?;
    }
    for (place, resource) in world.resources.iter().enumerate() {
        tx.execute(
            "INSERT INTO scope (id, type, source_hash, source) VALUES (?1, 'mock', ?2, '{}')",
            &[id(place), resource.name.clone().into()],
        )?;
        let pin = resource_pin(world, place).map_or(Value::Null, |pin| (&version(&pin)).into());
        let scope = if resource.checked { id(place) } else { Value::Null };
        tx.execute(
            "INSERT INTO resource (id, pipeline_id, name, position, type, scope_id, pin) \
             VALUES (?1, 1, ?2, ?1, 'mock', ?3, ?4)",
            &[id(place), resource.name.clone().into(), scope, pin],
        )?;
        for known in resource.versions.iter().filter(|_| resource.checked) {
            let version = version(&known.name);
            if let Some(order) = known.order {
                tx.execute(
                    "INSERT INTO version (scope_id, digest, version, check_order, created_at) VALUES (?1, ?2, ?3, ?4, 0)",
                    &[id(place), (&version.digest()).into(), (&version).into(), order.into()],
                )?;
            }
            if !known.enabled {
                tx.execute(
                    "INSERT INTO disabled_version (resource_id, digest, by_name, at) VALUES (?1, ?2, 'ann', 0)",
                    &[id(place), (&version.digest()).into()],
                )?;
            }
        }
    }
    for (place, input) in world.inputs.iter().enumerate() {
        let choice = match (input.every, &input.pin) {
            (true, _) => "every",
            (false, Some(_)) => "pinned",
            (false, None) => "latest",
        };
        let pin = input.pin.as_deref().filter(|_| !input.every).map(version);
        let step_pin = pin.as_ref().map_or(Value::Null, Value::from);
        tx.execute(
            "INSERT INTO job_input (job_id, position, name, resource_id, choice, pin, is_trigger, has_passed) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            &[
                id(world.job),
                id(place),
                input.name.clone().into(),
                id(input.resource),
                choice.into(),
                step_pin,
                input.trigger.into(),
                (!input.passed.is_empty()).into(),
            ],
        )?;
        for passed in &input.passed {
            tx.execute(
                "INSERT INTO job_input_passed (job_id, input, passed_job_id) VALUES (?1, ?2, ?3)",
                &[id(world.job), input.name.clone().into(), id(*passed)],
            )?;
        }
    }
    for place in 0..world.builds.len() {
        write_build(tx, world, place)?;
    }
    Ok(())
}

/// Writes a build as it is while it runs, and lets the store end it.
fn write_build(tx: &mut Tx<'_>, world: &World, place: usize) -> Result<(), StoreError> {
    let build = &world.builds[place];
    let id = place as i64 + 1;
    let job = build.job as i64 + 1;
    let original = build.rerun_of.map(|original| original as i64 + 1);
    tx.execute(
        "INSERT INTO build (id, pipeline_id, job_id, number, name, rerun_of, ord, status, created_at) \
         VALUES (?1, 1, ?2, ?1, 'b', ?3, ?4, ?5, 0)",
        params![
            id,
            job,
            original,
            original.unwrap_or(id),
            if build.status.is_terminal() { "started" } else { build.status.as_str() }
        ],
    )?;
    for (name, resource, got) in &build.got {
        let version = version(got);
        tx.execute(
            "INSERT INTO build_input (build_id, job_id, name, resource_id, digest, version, first_occurrence) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0)",
            params![id, job, name, *resource as i64 + 1, &version.digest(), &version],
        )?;
    }
    for (position, (resource, put)) in build.put.iter().enumerate() {
        let version = version(put);
        tx.execute(
            "INSERT INTO build_output (build_id, name, resource_id, digest, version, position) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![id, "put", *resource as i64 + 1, &version.digest(), &version, position],
        )?;
    }
    for from in &build.from {
        tx.execute("INSERT INTO build_pipe (to_build, from_build) VALUES (?1, ?2)", params![id, *from as i64 + 1])?;
    }
    if build.status.is_terminal() {
        builds::build_finish(tx, BuildId(id), build.status, None, Timestamp(0))?;
    }
    Ok(())
}
