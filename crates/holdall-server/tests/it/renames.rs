//! Jobs and resources that are renamed keep their history (reference, section 1.13.4), whoever had the name before; and
//! environments that are renamed, or go to another team, keep all that they have (release model, section 2).

use std::collections::BTreeMap;

use holdall_engine::ids::{JobId, PipelineId, ResourceId};
use holdall_engine::status::BuildStatus;
use holdall_engine::version::Version;
use holdall_protocol::api::{Act, ActAnswer, Suspects, TickTarget};
use holdall_protocol::worker::Ending;
use holdall_server::duty::track;
use holdall_server::query;
use holdall_store::{Store, attempts, builds, jobs, locks, pipelines, resources, versions, workers};

use crate::tables::Tables;
use crate::world::{Fate, SYSTEM, World, environment};

mod both {
    holdall_store::on_both_databases!(
        a_name_that_was_removed_is_free,
        a_chain_of_renames_keeps_every_history,
        a_resource_makes_room_and_a_job_does_not,
        a_freeze_moves_with_an_environment,
        what_was_unticked_stays_unticked_and_paused_jobs_stay_paused,
        what_was_withdrawn_stays_withdrawn_and_suspects_stay,
        an_environment_that_packs_goes_on_under_another_name,
        what_comes_after_waits_with_its_own_change,
        a_team_alone_takes_effect,
        a_team_waits_for_the_deployment_under_way,
        a_deployment_under_way_goes_along_at_once,
        a_build_that_runs_stays_with_its_worker,
        what_names_the_old_team_outside_is_said,
        teams_change_places,
        a_place_that_is_taken_is_refused,
        a_name_that_was_removed_makes_room,
        an_old_name_of_one_that_is_there_takes_nothing_along,
        a_lock_goes_along_and_its_fences_go_on,
        the_audit_log_knows_what_it_was_called,
    );
}

/// A pipeline of jobs and of resources of these names, each with the one it had before.
fn pipeline(jobs: &[(&str, &str)], resources: &[(&str, &str)]) -> String {
    let row = |(name, old): &(&str, &str)| match *old {
        "" => format!("name: {name}"),
        old => format!("name: {name}, old_name: {old}"),
    };
    let puts: Vec<String> = resources.iter().map(|(name, _)| format!("{{put: {name}}}")).collect();
    let step = format!("plan: [{}]", puts.join(", "));
    let resources: Vec<String> =
        resources.iter().map(|names| format!("{{{}, type: mock, source: {{}}}}", row(names))).collect();
    let jobs: Vec<String> = jobs.iter().map(|names| format!("{{{}, {step}}}", row(names))).collect();
    format!("resources: [{}]\njobs: [{}]\n", resources.join(", "), jobs.join(", "))
}

fn resource(tables: &Tables, name: &'static str) -> Option<ResourceId> {
    let pipeline = tables.pipeline;
    tables.write(move |tx, _| resources::resource_find(tx, pipeline, name)).map(|row| row.id)
}

fn job(tables: &Tables, name: &'static str) -> Option<JobId> {
    let pipeline = tables.pipeline;
    tables.write(move |tx, _| jobs::job_find(tx, pipeline, name)).map(|row| row.id)
}

fn a_name_that_was_removed_is_free(store: Store) {
    let mut tables = Tables::new(store, &pipeline(&[("a", ""), ("b", "")], &[("first", ""), ("second", "")]));
    let old = tables.trigger("b");
    tables.end(old, BuildStatus::Succeeded);
    let kept = tables.trigger("a");
    tables.end(kept, BuildStatus::Succeeded);
    let (a, x) = (job(&tables, "a"), resource(&tables, "first"));
    tables.set(&pipeline(&[("a", "")], &[("first", "")]));
    for _ in 0..2 {
        // Whoever sets the same file again changes nothing.
        tables.set(&pipeline(&[("b", "a")], &[("second", "first")]));
        assert_eq!((job(&tables, "b"), resource(&tables, "second")), (a, x));
        let newest = tables.write(move |tx, _| builds::build_list_of_job(tx, a.expect("a job"), None, 10));
        assert_eq!(newest.iter().map(|build| build.id).collect::<Vec<_>>(), [kept]);
    }
    assert_eq!(tables.build(old).status, BuildStatus::Succeeded, "what the other had is kept");
}

fn a_chain_of_renames_keeps_every_history(store: Store) {
    let mut tables = Tables::new(store, &pipeline(&[("a", ""), ("b", "")], &[("first", ""), ("second", "")]));
    let before = (job(&tables, "a"), job(&tables, "b"), resource(&tables, "first"), resource(&tables, "second"));
    tables.set(&pipeline(&[("b", "a"), ("c", "b")], &[("second", "first"), ("third", "second")]));
    assert_eq!((job(&tables, "b"), job(&tables, "c"), resource(&tables, "second"), resource(&tables, "third")), before);
}

fn a_resource_makes_room_and_a_job_does_not(store: Store) {
    let mut tables = Tables::new(store, &pipeline(&[("a", ""), ("b", "")], &[("first", ""), ("second", "")]));
    let (b, x) = (job(&tables, "b"), resource(&tables, "first"));
    tables.set(&pipeline(&[("b", "a")], &[("second", "first")]));
    assert_eq!((job(&tables, "b"), resource(&tables, "second")), (b, x));
    tables.set(&pipeline(&[("a", ""), ("b", "")], &[("first", ""), ("second", "")]));
    assert_eq!((job(&tables, "b"), resource(&tables, "second")), (b, x));
}

fn set(text: &str) -> Act {
    Act::SystemSet { text: text.to_owned(), vars: BTreeMap::new(), now: false }
}

/// The system with environments of other names.
fn renamed(names: &[(&str, &str)]) -> String {
    let mut text = SYSTEM.to_owned();
    for (old, new) in names {
        text = text
            .replace(&format!("  {old}:\n"), &format!("  {new}:\n    old_name: {old}\n"))
            .replace(&format!("after: {old}\n"), &format!("after: {new}\n"));
    }
    text
}

/// The system with an environment that has another team.
fn of_team(text: &str, environment: &str, team: &str) -> String {
    text.replace(&format!("  {environment}:\n"), &format!("  {environment}:\n    team: {team}\n"))
}

/// The pipeline of the system in a team.
fn pipeline_in(world: &World, team: &str) -> Option<PipelineId> {
    let team = team.to_owned();
    world.write(move |tx, _| Ok(pipelines::pipeline_find(tx, &team, "deploy-notify")?.map(|row| row.id)))
}

fn codes(world: &World, environment: &str, bag: i64) -> Vec<String> {
    world.why(environment, Some(bag)).into_iter().map(|hold| hold.code).collect()
}

fn says(answer: &ActAnswer, sentence: &str) {
    let sentences = &answer.preview.sentences;
    assert!(sentences.iter().any(|said| said == sentence), "{sentences:?}");
}

/// What holds a bag back in an environment that is frozen at another.
const HELD: [&str; 2] = ["frozen", "bag-pinned-elsewhere"];

/// Bag 1 is live everywhere, and production is frozen at it; bag 2 has passed staging.
fn frozen(store: Store) -> World {
    let mut world = World::new(store);
    world.push_first();
    world.act(Act::Freeze {
        system: "notify".to_owned(),
        environment: "production".to_owned(),
        at: None,
        until: None,
        deploy: false,
    });
    world.push("api", "api-2");
    world.run();
    assert_eq!(world.live(), [2, 2, 1]);
    world
}

fn unfreeze(world: &mut World, environment: &str) {
    world.act(Act::Unfreeze { system: "notify".to_owned(), environment: environment.to_owned() });
    world.run();
}

fn a_freeze_moves_with_an_environment(store: Store) {
    let mut world = frozen(store);
    let pipeline = pipeline_in(&world, "production");
    let answer = world.act(set(&renamed(&[("production", "prod")])));
    says(&answer, "environment production is called prod now");
    says(
        &answer,
        "pipeline production/deploy-notify is prod/deploy-notify now, with its builds and all that is pinned, unticked \
         or paused in it",
    );
    world.run();
    assert_eq!(world.deployments("prod"), ["1 passed"], "it is frozen");
    assert_eq!(world.holds("prod"), HELD);
    assert_eq!((pipeline_in(&world, "production"), pipeline_in(&world, "prod")), (None, pipeline));
    unfreeze(&mut world, "prod");
    assert_eq!(world.deployments("prod"), ["1 passed", "2 passed"]);
    let nothing = world.act(set(&renamed(&[("production", "prod")])));
    says(&nothing, "nothing changes");
}

fn what_was_unticked_stays_unticked_and_paused_jobs_stay_paused(store: Store) {
    let mut world = World::new(store);
    world.push_first();
    let token = world.take_lock("production");
    world.push("api", "api-2");
    world.run();
    let target = TickTarget::Bag { system: "notify".into(), bag: 2, environment: Some("production".into()) };
    world.act(Act::Disable { target, and_bags: false, until: None });
    world.give_back("production", token);
    let (team, pipeline) = ("production".to_owned(), "deploy-notify".to_owned());
    world.act(Act::PipelinePause { team, pipeline });
    world.act(set(&renamed(&[("production", "prod")])));
    world.run();
    assert_eq!(world.deployments("prod"), ["1 passed"]);
    assert_eq!(codes(&world, "prod", 2), ["bag-disabled"]);
    assert!(world.holds("prod").contains(&"pipeline-paused".to_owned()));
    world.act(Act::PipelineUnpause { team: "prod".to_owned(), pipeline: "deploy-notify".to_owned() });
    world.run();
    assert_eq!(world.deployments("prod"), ["1 passed"]);
}

fn what_was_withdrawn_stays_withdrawn_and_suspects_stay(store: Store) {
    let mut world = World::new(store);
    world.push_first();
    let token = world.take_lock("production");
    world.push("api", "api-2");
    world.run();
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
    assert_eq!(world.live(), [2, 1, 1]);
    let before = (codes(&world, "staging", 2), codes(&world, "production", 2));
    assert_eq!(before.1, ["withdrawn-upstream", "rolled-back-content"]);
    world.act(set(&renamed(&[("staging", "stage"), ("production", "prod")])));
    world.run();
    assert_eq!((codes(&world, "stage", 2), codes(&world, "prod", 2)), before);
    assert_eq!((world.current("stage"), world.current("prod")), (1, 1));
    world.push("api", "api-3");
    world.run();
    assert_eq!((world.current("stage"), world.current("prod")), (3, 3));
}

fn an_environment_that_packs_goes_on_under_another_name(store: Store) {
    let mut world = World::new(store);
    world.push_first();
    world.push("api", "api-2");
    world.run();
    world.act(set(&renamed(&[("preview", "pre")])));
    let scopes = |world: &World| {
        world.write(|tx, _| {
            let row = environment(tx, "pre")?;
            let mut counts = Vec::new();
            for kind in ["deployment-bag", "deployment", "current-bag"] {
                let scope = resources::resource_of_type(tx, row.pipeline, kind)?.and_then(|row| row.scope);
                counts.push(versions::version_list(tx, scope.expect("a scope"), None, 100)?.len());
            }
            Ok(counts)
        })
    };
    assert_eq!(scopes(&world), [2, 2, 2]);
    world.push("api", "api-3");
    world.run();
    assert_eq!(world.bags(), [1, 2, 3]);
    assert_eq!((world.current("pre"), world.current("staging"), world.current("production")), (3, 3, 3));
    world.act(Act::RollBack {
        system: "notify".to_owned(),
        environment: "pre".to_owned(),
        to: Some(1),
        suspects: Suspects::None,
        and_untick: false,
        here_only: true,
    });
    world.run();
    assert_eq!(world.deployments("pre"), ["1 passed", "2 passed", "3 passed", "1 passed"]);
    assert_eq!((&*codes(&world, "pre", 2)[0], &*codes(&world, "pre", 3)[0]), ("bag-disabled", "bag-disabled"));
}

fn what_comes_after_waits_with_its_own_change(store: Store) {
    let mut world = World::new(store);
    world.push_first();
    world.rule("production/deploy/apply", Fate::Runs);
    world.push("api", "api-2");
    world.run();
    let text = renamed(&[("staging", "stage")]).replace("smoke: [{ task: smoke", "smoke: [{ task: smokes");
    world.act(set(&text));
    world.push("api", "api-3");
    world.run();
    assert_eq!(world.why("production", Some(3))[0].code, "lock-held", "it has passed what comes before");
    world.rule("production/deploy/apply", Fate::Exit(0));
    world.end_running(0);
    assert_eq!((world.current("stage"), world.current("production")), (3, 3));
}

fn a_team_alone_takes_effect(store: Store) {
    let mut world = frozen(store);
    let pipeline = pipeline_in(&world, "production");
    let answer = world.act(set(&of_team(SYSTEM, "production", "ops")));
    says(&answer, "environment production is changed");
    world.run();
    assert_eq!(world.holds("production"), HELD);
    assert_eq!((pipeline_in(&world, "production"), pipeline_in(&world, "ops")), (None, pipeline));
    unfreeze(&mut world, "production");
    assert_eq!(world.live(), [2, 2, 2]);
    assert_eq!(world.ran.last().map(String::as_str), Some("ops/test/smoke bag 2"));
}

fn a_team_waits_for_the_deployment_under_way(store: Store) {
    let mut world = World::new(store);
    world.rule("production/deploy/apply", Fate::Runs);
    world.push_first();
    let pipeline = pipeline_in(&world, "production");
    let answer = world.act(set(&of_team(SYSTEM, "production", "ops")));
    says(&answer, "production takes its new pipeline when deployment 1 of bag 1 has ended; --now applies it at once");
    assert_eq!((pipeline_in(&world, "production"), pipeline_in(&world, "ops")), (pipeline, None));
    // Somebody takes the place meanwhile: the environment keeps its pipeline, and asks again at the next end.
    let own = Act::PipelineSet {
        team: "ops".to_owned(),
        pipeline: "deploy-notify".to_owned(),
        text: "jobs: [{ name: own, plan: [{ in_parallel: [] }] }]".to_owned(),
        vars: BTreeMap::new(),
    };
    world.act(own);
    world.end_running(0);
    assert_eq!(pipeline_in(&world, "production"), pipeline);
    assert_eq!(world.refused(set(&of_team(SYSTEM, "production", "ops")), None), "refused");
    world.act(Act::PipelineDestroy { team: "ops".to_owned(), pipeline: "deploy-notify".to_owned() });
    world.push("api", "api-2");
    world.run();
    world.end_running(0);
    assert_eq!(world.live(), [2, 2, 2]);
    assert_eq!((pipeline_in(&world, "production"), pipeline_in(&world, "ops")), (None, pipeline));
}

fn a_deployment_under_way_goes_along_at_once(store: Store) {
    let mut world = World::new(store);
    world.rule("production/deploy/apply", Fate::Runs);
    world.push_first();
    let pipeline = pipeline_in(&world, "production");
    world.act(Act::SystemSet { text: of_team(SYSTEM, "production", "ops"), vars: BTreeMap::new(), now: true });
    assert_eq!((pipeline_in(&world, "production"), pipeline_in(&world, "ops")), (None, pipeline));
    world.end_running(0);
    assert_eq!(world.deployments("production"), ["1 passed"]);
    assert_eq!(world.ran.last().map(String::as_str), Some("ops/test/smoke bag 1"));
}

fn a_build_that_runs_stays_with_its_worker(store: Store) {
    let mut world = World::new(store);
    let periodic = "    periodic: { look: { every: 1h, plan: [{ task: one, file: api/a.yml }, { task: two, file: api/a.yml }] } }\n";
    let text = format!("{SYSTEM}{periodic}");
    world.act(set(&text));
    world.push_first();
    world.rule("production/look/one", Fate::Runs);
    world.write(|tx, now| {
        let pipeline = environment(tx, "production")?.pipeline;
        let clock = resources::resource_find(tx, pipeline, "look")?.and_then(|row| row.scope).expect("a clock");
        let tick = versions::NewVersion { version: Version::of("time", "now"), metadata: Vec::new() };
        versions::versions_save(tx, clock, &[tick], now)
    });
    world.run();
    world.act(set(&of_team(&text, "production", "ops")));
    let (own, others) = world.write(|tx, now| {
        let running = attempts::attempt_list_of_worker(tx, "w")?.remove(0);
        let ending = Ending::Exited { status: 0, result: None, artifacts: vec![] };
        track::attempt_finished(tx, &running, &ending, now)?;
        let own = attempts::attempt_list_queued_for(tx, "w", Some("production"), 10, 0)?;
        Ok((own.len(), attempts::attempt_list_queued_for(tx, "another", Some("ops"), 10, 0)?.len()))
    });
    assert_eq!((own, others), (1, 0), "its files are there, whatever team it is of now");
    world.run();
    assert_eq!(world.build("production", "look").status, BuildStatus::Succeeded);
}

fn what_names_the_old_team_outside_is_said(store: Store) {
    let mut world = World::new(store);
    let text = SYSTEM.replace("source: { initial_version: api } }", "source: {}, webhook_token: s3cret }");
    world.act(set(&text));
    world.write(|tx, now| {
        let worker = workers::WorkerRow {
            name: "w1".to_owned(),
            session: "s".to_owned(),
            platform: "linux".to_owned(),
            tags: "[]".to_owned(),
            team: Some("preview".to_owned()),
            slots: 1,
            version: "1".to_owned(),
            started_at: now,
            seen_at: now,
            state: "running".to_owned(),
        };
        workers::worker_hello(tx, &worker)
    });
    let answer = world.act(set(&of_team(&text, "preview", "ops")));
    says(&answer, "workers of team preview take no new builds of preview: w1");
    says(
        &answer,
        "webhooks of preview are at /api/v1/teams/ops/pipelines/deploy-notify/ now: change those that name team preview",
    );
}

fn teams_change_places(store: Store) {
    let mut world = frozen(store);
    let (first, second) = (pipeline_in(&world, "staging"), pipeline_in(&world, "production"));
    world.act(set(&of_team(&of_team(SYSTEM, "production", "staging"), "staging", "production")));
    assert_eq!((pipeline_in(&world, "production"), pipeline_in(&world, "staging")), (first, second));
    world.run();
    assert_eq!(world.holds("production"), HELD);
    world.push("api", "api-3");
    world.run();
    assert_eq!(world.live(), [3, 3, 1]);
}

fn a_place_that_is_taken_is_refused(store: Store) {
    let mut world = frozen(store);
    let (team, pipeline) = ("prod".to_owned(), "deploy-notify".to_owned());
    let text = "jobs: [{ name: own, plan: [{ in_parallel: [] }] }]".to_owned();
    world.act(Act::PipelineSet { team: team.clone(), pipeline: pipeline.clone(), text, vars: BTreeMap::new() });
    let text = renamed(&[("production", "prod")]);
    let refusal = world.refusal(set(&text), None);
    assert_eq!(
        refusal.message,
        "the pipeline of prod cannot be prod/deploy-notify: there is one of that name already; destroy that one first, \
         or give the environment another `team`"
    );
    assert_eq!(refusal.command.as_deref(), Some("holdall pipeline destroy prod/deploy-notify"));
    assert_eq!(world.live(), [2, 2, 1], "nothing has happened");
    world.act(Act::PipelineDestroy { team, pipeline });
    world.act(set(&text));
    world.run();
    assert_eq!(world.holds("prod"), HELD);
    // The place of an environment whose own move waits is taken as well.
    world.rule("staging/deploy/apply", Fate::Runs);
    world.push("api", "api-3");
    world.run();
    let refusal = world.refusal(set(&of_team(&of_team(&text, "prod", "staging"), "staging", "ops")), None);
    assert_eq!(
        refusal.message,
        "the pipeline of prod cannot be staging/deploy-notify: there is one of that name already, that of environment \
         staging of system notify; give one of them another `team`"
    );
}

fn a_name_that_was_removed_makes_room(store: Store) {
    let mut world = World::new(store);
    let with = format!("{SYSTEM}  prod:\n    after: staging\n    deploy: [{{ task: apply, file: api/apply.yml }}]\n");
    world.act(set(&with));
    world.push_first();
    world.push("api", "api-2");
    world.run();
    assert_eq!(world.deployments("prod"), ["1 passed", "2 passed"]);
    world.act(set(SYSTEM));
    let pipeline = pipeline_in(&world, "production");
    world.push("api", "api-3");
    world.run();
    world.act(set(&renamed(&[("production", "prod")])));
    assert_eq!(pipeline_in(&world, "prod"), pipeline);
    assert_eq!(world.deployments("prod"), ["1 passed", "2 passed", "3 passed"]);
    world.push("api", "api-4");
    world.run();
    assert_eq!(world.current("prod"), 4);
    world.act(set(SYSTEM.replace("  production:\n", "  production:\n    old_name: prod\n").as_str()));
    world.push("api", "api-5");
    world.run();
    assert_eq!(world.live(), [5, 5, 5]);
}

fn an_old_name_of_one_that_is_there_takes_nothing_along(store: Store) {
    let mut world = frozen(store);
    let with = format!("{SYSTEM}  prod:\n    after: staging\n    deploy: [{{ task: apply, file: api/apply.yml }}]\n");
    world.act(set(&with));
    world.run();
    assert_eq!(world.deployments("prod"), ["2 passed"]);
    let answer = world.act(set(&renamed(&[("production", "prod")])));
    says(&answer, "environment production is removed");
    world.run();
    assert_eq!(world.deployments("prod"), ["2 passed"]);
}

fn a_lock_goes_along_and_its_fences_go_on(store: Store) {
    let mut world = World::new(store);
    world.push_first();
    let fence = |world: &mut World, name: &str| {
        let token = world.take_lock(name);
        let place = name.to_owned();
        let fence = world.write(move |tx, _| {
            let lock = locks::lock_find(tx, &place)?.expect("the lock");
            Ok(locks::holding_list(tx, lock)?[0].fence)
        });
        world.give_back(name, token);
        fence
    };
    let before = fence(&mut world, "production");
    world.act(set(&renamed(&[("production", "prod")])));
    assert_eq!(fence(&mut world, "prod"), before + 1);
    assert!(world.ask_for_lock("production", None).is_err(), "there is no such lock any more");
    world.act(set(&renamed(&[("production", "prod")]).replace("notify", "other")));
    // Another system has an environment of that name: each goes on with a lock, and no fence comes twice.
    world.act(set(SYSTEM.replace("  production:\n", "  production:\n    old_name: prod\n").as_str()));
    let (own, other) = (fence(&mut world, "production"), fence(&mut world, "prod"));
    assert!(own > before + 1 && other > before + 1, "{own} and {other} come after {before}");
    for _ in 0..3 {
        fence(&mut world, "production");
    }
    world.act(set(&renamed(&[("production", "prod")])));
    assert!(fence(&mut world, "prod") > own + 3, "it is shared again");
}

fn the_audit_log_knows_what_it_was_called(store: Store) {
    let mut world = frozen(store);
    world.act(set(&renamed(&[("production", "prod")])));
    let list = |world: &World, name: &'static str| {
        let listed =
            world.store.write_blocking(move |tx| query::audit::list(tx, Some("notify"), Some(name), None, 100));
        listed.map(|entries| entries.into_iter().map(|entry| entry.act).collect::<Vec<_>>())
    };
    let acts = list(&world, "prod").expect("the log");
    for act in ["freeze", "lock_granted", "environment_renamed", "pipeline_moved"] {
        assert!(acts.iter().any(|known| known == act), "{act} in {acts:?}");
    }
    assert!(list(&world, "production").is_err(), "there is no such environment any more");
}
