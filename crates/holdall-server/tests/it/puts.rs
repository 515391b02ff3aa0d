//! What a build puts more than once, under one name (reference, section 3.1).

use holdall_engine::status::BuildStatus;
use holdall_engine::version::Version;
use holdall_store::{Store, builds, resources};

use crate::tables::Tables;

mod both {
    holdall_store::on_both_databases!(a_build_vouches_for_everything_that_it_has_put);
}

fn a_build_vouches_for_everything_that_it_has_put(store: Store) {
    let text = "resources: [{name: image, type: mock, source: {}}]\n\
                jobs: [{name: build, plan: [{put: image}, {put: image}]}]\n";
    let mut tables = Tables::new(store, text);
    let build = tables.trigger("build");
    let pipeline = tables.pipeline;
    let image = tables.write(move |tx, _| resources::resource_find(tx, pipeline, "image")).expect("it is there").id;
    let version = |name: &str| Version::of("version", name);
    for name in ["1", "2", "1"] {
        tables.write(move |tx, _| builds::build_output_add(tx, build, "image", image, &version(name)));
    }
    let put = tables.write(move |tx, _| builds::build_outputs(tx, build));
    assert_eq!(put, [("image".to_owned(), version("1")), ("image".to_owned(), version("2"))]);
    tables.schedule();
    tables.end(build, BuildStatus::Succeeded);
    let vouched = tables.write(move |tx, _| {
        tx.query("SELECT digest FROM vouched WHERE build_id = ?1 ORDER BY position", &[build.0.into()])?
            .iter()
            .map(|row| row.get::<String>(0))
            .collect::<Result<Vec<_>, _>>()
    });
    let digests = ["1", "2"].map(|name| version(name).digest().0.clone());
    assert_eq!(vouched, digests);
}
