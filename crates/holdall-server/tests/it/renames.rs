//! Jobs and resources that are renamed keep their history (reference, section 1.13.4), whoever had the name before.

use holdall_engine::ids::{JobId, ResourceId};
use holdall_engine::status::BuildStatus;
use holdall_store::{Store, builds, jobs, resources};

use crate::tables::Tables;

mod both {
    holdall_store::on_both_databases!(
        a_name_that_was_removed_is_free,
        a_chain_of_renames_keeps_every_history,
        a_resource_makes_room_and_a_job_does_not,
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
