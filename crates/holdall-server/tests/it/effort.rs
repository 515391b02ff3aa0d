//! What is read and done costs as much after a long past as after a short one: counted in the steps that SQLite takes,
//! which are the same on every machine.

use std::collections::BTreeMap;

use holdall_engine::ids::JobId;
use holdall_engine::status::BuildStatus;
use holdall_protocol::api::{Act, TickTarget};
use holdall_server::error::Error;
use holdall_server::query;
use holdall_store::builds::{BuildFilter, Within};
use holdall_store::testing::{self, load};
use holdall_store::{Tx, environments, jobs, pipelines};

use crate::world::{World, deploy, environment};

/// How many rows the longest list shows that is read here, which is how much of a past there is at least.
const SHOWN: i64 = 20;

/// What is read, by name. Where a version is, is not here: it is looked for in the newest 1,000 bags.
type Reading = (&'static str, fn(&mut Tx<'_>) -> Result<(), Error>);

const READINGS: &[Reading] = &[
    ("environments", |tx| query::environments::list(tx, "notify").map(drop)),
    ("an environment", |tx| query::environments::detail(tx, "notify", "staging").map(drop)),
    ("why in an environment", |tx| query::why::why(tx, "notify", "staging", None).map(drop)),
    ("why of a bag", |tx| query::why::why(tx, "notify", "production", Some(1)).map(drop)),
    ("bags", |tx| query::bags::list(tx, "notify", None, SHOWN).map(drop)),
    ("a bag", |tx| query::bags::detail(tx, "notify", 1).map(drop)),
    ("a pipeline", |tx| query::jobs::pipeline(tx, "staging", "deploy-notify").map(drop)),
    ("jobs", |tx| query::jobs::list(tx, "staging", "deploy-notify").map(drop)),
    ("a job", |tx| query::jobs::detail(tx, "staging", "deploy-notify", "start-deploy").map(drop)),
    ("the audit log", |tx| query::audit::list(tx, Some("notify"), None, None, SHOWN).map(drop)),
    ("builds", |tx| query::builds::list(tx, &BuildFilter::default(), None, SHOWN).map(drop)),
    ("builds of a deployment", |tx| {
        let environment = environment(tx, "staging")?;
        let found = environments::deployment_find(tx, environment.id, 1)?.expect("a deployment");
        let within = Some(Within::Pipelines(vec![environment.pipeline]));
        let filter = BuildFilter { within, deployment: Some(found.id), ..BuildFilter::default() };
        query::builds::list(tx, &filter, None, SHOWN).map(drop)
    }),
    ("builds that failed", |tx| {
        let within = Some(Within::Pipelines(vec![environment(tx, "staging")?.pipeline]));
        let filter = BuildFilter { within, status: Some(BuildStatus::Failed), ..BuildFilter::default() };
        query::builds::list(tx, &filter, None, SHOWN).map(drop)
    }),
    ("builds of a job that failed", |tx| {
        let pipeline = environment(tx, "staging")?.pipeline;
        let within = Some(Within::Jobs(vec![jobs::job_list(tx, pipeline)?[0].id]));
        let filter = BuildFilter { within, status: Some(BuildStatus::Failed), ..BuildFilter::default() };
        query::builds::list(tx, &filter, None, SHOWN).map(drop)
    }),
    ("builds that wait", |tx| {
        let within = Some(Within::Pipelines(vec![environment(tx, "staging")?.pipeline]));
        let filter = BuildFilter { within, status: Some(BuildStatus::Pending), ..BuildFilter::default() };
        query::builds::list(tx, &filter, None, SHOWN).map(drop)
    }),
    ("builds of a system", |tx| {
        let all = pipelines::pipeline_list(tx)?.into_iter().map(|row| row.id).collect();
        let filter = BuildFilter { within: Some(Within::Pipelines(all)), ..BuildFilter::default() };
        query::builds::list(tx, &filter, None, SHOWN).map(drop)
    }),
    ("builds of some jobs", |tx| {
        let pipeline = environment(tx, "staging")?.pipeline;
        let all = jobs::job_list(tx, pipeline)?.into_iter().map(|row| row.id).collect();
        let filter = BuildFilter { within: Some(Within::Jobs(all)), ..BuildFilter::default() };
        query::builds::list(tx, &filter, None, SHOWN).map(drop)
    }),
];

/// What everything costs after that past.
fn costs(past: impl FnOnce(&mut World)) -> BTreeMap<&'static str, u64> {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = World::new(testing::sqlite(dir.path()).expect("a database"));
    past(&mut world);
    let mut costs = BTreeMap::new();
    let store = world.store.clone();
    let mut since = testing::steps(&store);
    let mut took = |what: &'static str| {
        let now = testing::steps(&store);
        costs.insert(what, now - since);
        since = now;
    };
    for (what, read) in READINGS {
        world.store.read_blocking(read).expect(what);
        took(what);
    }
    world.preview(deploy("staging", 1, true));
    took("a preview of a deployment");
    let target = TickTarget::Bag { system: "notify".to_owned(), environment: None, bag: 1 };
    world.preview(Act::Disable { target, and_bags: false, until: None });
    took("a preview of unticking a bag");
    world.push("api", "another");
    world.run();
    took("a push through three environments");
    let newest = world.bags().into_iter().max().expect("a bag");
    assert_eq!(world.live(), [newest; 3]);
    costs
}

#[track_caller]
fn are_the_same(short: &BTreeMap<&'static str, u64>, long: &BTreeMap<&'static str, u64>) {
    let grown = short.iter().filter(|(what, before)| long[*what] > *before * 5 / 4 + 500);
    let grown: Vec<String> = grown.map(|(what, before)| format!("{what}: {before} -> {}", long[what])).collect();
    assert!(grown.is_empty(), "{grown:#?}");
}

#[test]
fn what_is_read_and_done_costs_the_same_after_many_builds() {
    let after = |each: i64| {
        costs(|world| {
            world.write(move |tx, _| load::builds(tx, JobId(1), JobId(i64::MAX), each));
            world.push_first();
        })
    };
    are_the_same(&after(SHOWN), &after(20 * SHOWN));
}

#[test]
fn what_is_read_and_done_costs_the_same_after_many_bags() {
    let after = |bags: i64| {
        costs(|world| {
            world.push_first();
            for bag in 2..=bags {
                world.push("api", &format!("api-{bag}"));
                world.run();
            }
            assert_eq!(world.live(), [bags; 3]);
        })
    };
    are_the_same(&after(SHOWN + 1), &after(4 * SHOWN));
}
