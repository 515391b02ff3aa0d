//! How fresh the versions are that a build takes of resources that start none (reference, sections 3.6 and 4.2).

use holdall_engine::time::Timestamp;
use holdall_engine::version::Version;
use holdall_store::checks::DEFAULT_INTERVAL;
use holdall_store::versions::NewVersion;
use holdall_store::{Store, builds, checks, jobs, resources, versions};

use crate::tables::Tables;

mod both {
    holdall_store::on_both_databases!(
        a_build_takes_no_version_of_yesterday,
        what_is_never_checked_by_itself_is_checked_for_a_build,
        what_has_no_version_is_checked_again_and_again,
        a_check_that_finds_nothing_new_has_no_job_looked_at,
        what_is_pinned_to_a_version_that_is_not_known_is_checked_again_and_again,
        a_pin_of_a_job_that_is_gone_needs_no_check,
        what_is_only_put_is_checked_once,
    );
}

fn pipeline(image: &str) -> String {
    format!(
        "resources:\n- {{name: app, type: mock, source: {{of: app}}}}\n\
         - {{name: image, type: mock, source: {{of: image}}{image}}}\n\
         jobs: [{{name: build, plan: [{{get: app, trigger: true}}, {{get: image}}]}}]\n"
    )
}

/// A worker makes the checks that are wanted, and finds these versions: of `app` and of `image`. Gives what it checked.
fn check(tables: &mut Tables, app: &[&str], image: &[&str]) -> Vec<&'static str> {
    tables.pass(1);
    let found = [("app", app), ("image", image)]
        .map(|(name, versions)| (name, versions.iter().map(|version| (*version).to_owned()).collect::<Vec<_>>()));
    let checked = tables.write(move |tx, now| {
        let mut checked = Vec::new();
        for check in checks::check_claim(tx, "w", 10, now)? {
            let (name, versions) =
                found.iter().find(|(name, _)| check.source.contains(&format!(":\"{name}\""))).expect("one of them");
            let new = |version: &String| NewVersion { version: Version::of("version", version), metadata: Vec::new() };
            checks::check_finish(tx, &check.id, Ok(versions.iter().map(new).collect()), now)?;
            checked.push(*name);
        }
        Ok(checked)
    });
    tables.schedule();
    checked
}

/// A new version of `app` is found.
fn push(tables: &mut Tables, versions: &[&str]) {
    let pipeline = tables.pipeline;
    tables.write(move |tx, now| {
        let app = resources::resource_find(tx, pipeline, "app")?.expect("it is there");
        checks::check_want(tx, app.scope.expect("a scope"), now)
    });
    assert_eq!(check(tables, versions, &[]), ["app"]);
}

/// What the newest build got of `image`; `None`: it waits.
fn got(tables: &Tables) -> Option<Version> {
    let job = tables.job("build");
    tables.write(move |tx, _| {
        let newest = builds::build_list_of_job(tx, job, None, 1)?.remove(0);
        let inputs = builds::build_inputs(tx, newest.id)?;
        assert_eq!(jobs::job_get(tx, job)?.map(|job| job.active), Some(true));
        Ok(inputs.into_iter().find(|input| input.name == "image").map(|input| input.version))
    })
}

fn due(tables: &Tables) -> Option<Timestamp> {
    tables.write(|tx, now| {
        checks::check_due(tx, now)?;
        checks::check_due(tx, now)
    })
}

fn a_build_takes_no_version_of_yesterday(store: Store) {
    let mut tables = Tables::new(store, &pipeline(""));
    due(&tables);
    check(&mut tables, &["1"], &["old"]);
    assert_eq!(got(&tables), Some(Version::of("version", "old")));
    tables.pass(86_400);
    push(&mut tables, &["1", "2"]);
    assert_eq!(got(&tables), None, "it waits for a check");
    assert!(tables.holds("build").contains(&"main/p/image is checked for newer versions first".to_owned()));
    // Also while the check runs.
    let claimed = tables.write(|tx, now| checks::check_claim(tx, "w", 10, now)).remove(0);
    let job = tables.job("build");
    tables.write(move |tx, _| jobs::mark(tx, job));
    tables.schedule();
    assert_eq!(got(&tables), None, "it waits for the end of the check");
    tables.write(move |tx, now| {
        let new = |version: &&str| NewVersion { version: Version::of("version", version), metadata: Vec::new() };
        checks::check_finish(tx, &claimed.id, Ok(["old", "new"].iter().map(new).collect()), now)
    });
    tables.schedule();
    assert_eq!(got(&tables), Some(Version::of("version", "new")));
    // That is good enough for the next one.
    push(&mut tables, &["1", "2", "3"]);
    assert_eq!(got(&tables), Some(Version::of("version", "new")));
    // A check that fails has looked.
    tables.pass(86_400);
    push(&mut tables, &["1", "2", "3", "4"]);
    assert_eq!(got(&tables), None);
    tables.write(|tx, now| {
        let claimed = checks::check_claim(tx, "w", 10, now)?.remove(0);
        checks::check_finish(tx, &claimed.id, Err("it is away".to_owned()), now)
    });
    tables.schedule();
    assert_eq!(got(&tables), Some(Version::of("version", "new")));
}

fn what_is_never_checked_by_itself_is_checked_for_a_build(store: Store) {
    let mut tables = Tables::new(store, &pipeline(", check_every: never"));
    tables.write(|tx, now| {
        for scope in 1..=2 {
            checks::check_want(tx, holdall_engine::ids::ScopeId(scope), now)?;
        }
        Ok(())
    });
    check(&mut tables, &["1"], &["old"]);
    tables.pass(86_400);
    push(&mut tables, &["1", "2"]);
    assert_eq!(got(&tables), None, "it waits for a check");
    assert_eq!(check(&mut tables, &[], &["old", "new"]), ["image"]);
    assert_eq!(got(&tables), Some(Version::of("version", "new")));
}

fn what_has_no_version_is_checked_again_and_again(store: Store) {
    let mut tables = Tables::new(
        store,
        "resources: [{name: image, type: mock, source: {of: image}}]\n\
                                         jobs: [{name: build, plan: [{get: image}]}]\n",
    );
    for _ in 0..3 {
        due(&tables);
        assert_eq!(check(&mut tables, &[], &[]), ["image"]);
        tables.pass(70);
    }
    due(&tables);
    check(&mut tables, &[], &["1"]);
    tables.pass(70);
    assert_eq!(due(&tables), None, "its builds ask for a check where they need one");
}

fn a_check_that_finds_nothing_new_has_no_job_looked_at(store: Store) {
    let mut tables = Tables::new(store, &pipeline(""));
    due(&tables);
    check(&mut tables, &["1"], &["old"]);
    tables.pass(86_400);
    let pipeline = tables.pipeline;
    let end = |found: Result<Vec<NewVersion>, String>| {
        tables.write(move |tx, now| {
            let app = resources::resource_find(tx, pipeline, "app")?.expect("it is there");
            checks::check_want(tx, app.scope.expect("a scope"), now)?;
            let claimed = checks::check_claim(tx, "w", 1, now)?.remove(0);
            checks::check_finish(tx, &claimed.id, found, now)?;
            jobs::dirty(tx, 10)
        })
    };
    let new = |version: &str| NewVersion { version: Version::of("version", version), metadata: Vec::new() };
    assert_eq!(end(Ok(vec![new("1")])), []);
    assert_eq!(end(Err("it is away".to_owned())), []);
    assert_eq!(end(Ok(vec![new("1"), new("2")])), [tables.job("build")]);
}

/// A pipeline that gets `image` with a pin, which starts nothing: in the resource, or in the step.
fn pinned(resource: &str, step: &str) -> String {
    format!(
        "resources: [{{name: image, type: mock, source: {{of: image}}{resource}}}]\n\
         jobs: [{{name: build, plan: [{{get: image{step}}}]}}]\n"
    )
}

/// From where the check that is wanted looks.
fn looks_from(tables: &Tables) -> Option<Version> {
    tables.write(|tx, now| {
        let claimed = checks::check_claim(tx, "w", 10, now)?.remove(0);
        checks::check_abandon(tx, "w", now)?;
        Ok(claimed.from)
    })
}

fn what_is_pinned_to_a_version_that_is_not_known_is_checked_again_and_again(store: Store) {
    let unpinned = pinned("", "");
    let mut tables = Tables::new(store, &unpinned);
    due(&tables);
    check(&mut tables, &[], &["5"]);
    let (in_resource, in_step) = (", version: {version: '1'}", ", version: {version: '2'}");
    // A step's pin goes before that of its resource, known or not.
    let pins = [
        (pinned(in_resource, ""), "1", vec!["1", "5"]),
        (pinned(", version: {version: '5'}", in_step), "2", vec!["2", "5"]),
    ];
    for (text, pin, found) in pins {
        tables.pass(70);
        tables.set(&text);
        for _ in 0..3 {
            due(&tables);
            assert_eq!(looks_from(&tables), Some(Version::of("version", pin)), "what is older is not found otherwise");
            assert_eq!(check(&mut tables, &[], &["5"]), ["image"]);
            tables.pass(70);
        }
        due(&tables);
        assert_eq!(check(&mut tables, &[], &found), ["image"]);
        assert_eq!(tables.holds("build"), [""; 0]);
        tables.pass(70);
        assert_eq!(due(&tables), None, "it is known now");
    }
    // Some of the keys of a version that is known will do.
    let pipeline = tables.pipeline;
    tables.write(move |tx, now| {
        let image = resources::resource_find(tx, pipeline, "image")?.expect("it is there");
        let version = Version([("a", "b"), ("version", "7")].map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        let new = NewVersion { version, metadata: Vec::new() };
        versions::versions_save(tx, image.scope.expect("a scope"), &[new], now)
    });
    tables.set(&pinned(", version: {a: b}", ""));
    assert_eq!(due(&tables), None);
    // A pipeline that is paused needs nothing.
    tables.set(&pinned(", version: {a: c}", ""));
    tables.write(move |tx, now| holdall_store::pipelines::pipeline_pause(tx, pipeline, true, "ann", None, now));
    assert_eq!(due(&tables), None);
    assert!(!tables.write(|tx, _| checks::check_is_any_wanted(tx)));
}

fn a_pin_of_a_job_that_is_gone_needs_no_check(store: Store) {
    let text = pinned("", ", version: {version: '1'}");
    let mut tables = Tables::new(store, &text);
    due(&tables);
    check(&mut tables, &[], &["5"]);
    tables.pass(70);
    tables.set(&pinned("", "").replace("name: build", "name: other"));
    assert_eq!(due(&tables), None);
    tables.set(&text);
    assert_eq!(due(&tables), Some(tables.now + DEFAULT_INTERVAL));
    assert_eq!(looks_from(&tables), Some(Version::of("version", "1")));
}

fn what_is_only_put_is_checked_once(store: Store) {
    let text = "resources: [{name: image, type: mock, source: {of: image}}]\n\
                jobs: [{name: build, plan: [{put: image}]}]\n";
    let mut tables = Tables::new(store, text);
    due(&tables);
    tables.pass(1);
    // Once more while it fails (reference, section 4.2).
    for _ in 0..2 {
        tables.write(|tx, now| {
            let claimed = checks::check_claim(tx, "w", 10, now)?.remove(0);
            checks::check_finish(tx, &claimed.id, Err("it is away".to_owned()), now)
        });
        tables.pass(700);
        due(&tables);
    }
    assert_eq!(check(&mut tables, &[], &[]), ["image"]);
    tables.pass(70);
    assert_eq!(due(&tables), None, "nothing takes its versions");
}
