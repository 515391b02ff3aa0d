//! Serial groups through the tables: which of the jobs that share one goes first (reference, section 4.3).

use holdall_engine::ids::BuildId;
use holdall_engine::status::BuildStatus;
use holdall_store::Store;

use crate::tables::Tables;

mod both {
    holdall_store::on_both_databases!(a_rerun_goes_where_its_original_was, who_has_no_inputs_holds_nobody_up,);
}

/// A rerun goes before what was made after its original, also in another job.
fn a_rerun_goes_where_its_original_was(store: Store) {
    let mut group = Tables::new(store, PIPELINE);
    let original = group.trigger("a");
    group.schedule();
    group.end(original, BuildStatus::Failed);
    let running = group.trigger("c");
    group.schedule();
    let waiting = group.trigger("b");
    let rerun = group.rerun(original);
    group.schedule();
    assert_eq!(statuses(&group, [running, waiting, rerun]), ["started", "pending", "pending"]);
    let held = "a build of a waits before it in the same serial group".to_owned();
    assert!(group.holds("b").contains(&held), "{:?}", group.holds("b"));
    group.end(running, BuildStatus::Succeeded);
    group.schedule();
    assert_eq!(statuses(&group, [running, waiting, rerun]), ["succeeded", "pending", "started"]);
    group.end(rerun, BuildStatus::Succeeded);
    group.schedule();
    assert_eq!(statuses(&group, [running, waiting, rerun]), ["succeeded", "started", "succeeded"]);
}

/// Whose inputs nothing resolves waits, and the others of its group do not.
fn who_has_no_inputs_holds_nobody_up(store: Store) {
    let never = PIPELINE.replace(
        "- name: a\n  serial_groups: [all]\n  plan: [",
        "- name: a\n  serial_groups: [all]\n  plan: [{ get: r, passed: [d] }, ",
    );
    let text =
        format!("resources: [{{ name: r, type: mock, source: {{}} }}]{never}- name: d\n  plan: [{{ get: r }}]\n");
    let mut group = Tables::new(store, &text);
    let first = group.trigger("a");
    group.schedule();
    let other = group.trigger("b");
    group.schedule();
    assert_eq!(statuses(&group, [first, other]), ["pending", "started"]);
    let third = group.trigger("c");
    group.schedule();
    group.end(other, BuildStatus::Succeeded);
    group.schedule();
    assert_eq!(statuses(&group, [first, third]), ["pending", "started"]);
}

/// Jobs that share one group; `b` is looked at before the others.
const PIPELINE: &str = "
jobs:
- name: b
  serial_groups: [all]
  plan: [{ task: t, config: { platform: linux, run: { path: 'true' } } }]
- name: a
  serial_groups: [all]
  plan: [{ task: t, config: { platform: linux, run: { path: 'true' } } }]
- name: c
  serial_groups: [all]
  plan: [{ task: t, config: { platform: linux, run: { path: 'true' } } }]
";

fn statuses<const N: usize>(group: &Tables, builds: [BuildId; N]) -> [&'static str; N] {
    builds.map(|build| group.build(build).status.as_str())
}
