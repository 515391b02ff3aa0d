//! What is said of builds that wait for workers.

use holdall_protocol::worker::Hello;
use holdall_server::duty::workers;
use holdall_server::query;
use holdall_store::Store;

use crate::tables::Tables;

mod both {
    holdall_store::on_both_databases!(a_check_that_no_worker_can_make_is_said_so);
}

fn a_check_that_no_worker_can_make_is_said_so(store: Store) {
    let text = "resources: [{name: app, type: mock, source: {}}]\njobs: [{name: unit, plan: [{get: app}]}]\n";
    let mut tables = Tables::new(store, text);
    let build = tables.trigger("unit");
    tables.schedule();
    let holds = |tables: &Tables| {
        let row = tables.build(build);
        let held = tables.store.read_blocking(|tx| query::why::build(tx, &row)).expect("the store works");
        held.into_iter().map(|hold| hold.code).filter(|code| code != "no-version").collect::<Vec<_>>()
    };
    assert_eq!(holds(&tables), ["check-pending", "no-worker"]);
    let hello = Hello {
        name: "w".to_owned(),
        session: "1".to_owned(),
        platform: "linux".to_owned(),
        tags: Vec::new(),
        team: None,
        slots: 1,
        version: "0".to_owned(),
        attempts: Vec::new(),
        history: None,
        builds: Vec::new(),
        forgot: None,
    };
    let now = tables.now;
    tables.store.write_blocking(move |tx| workers::hello(tx, &hello, now)).expect("it is welcome");
    assert_eq!(holds(&tables), ["check-pending"]);
}
