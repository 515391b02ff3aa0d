//! How the things that a person names are found.

use std::collections::BTreeMap;

use holdall_engine::version::Version;
use holdall_protocol::api::{Act, PinTarget};
use holdall_store::versions::{self, NewVersion};
use holdall_store::{Store, resources};

use crate::world::{World, environment};

mod both {
    holdall_store::on_both_databases!(a_version_is_found_by_all_that_is_said_of_it);
}

fn pin(version: &str) -> Act {
    let target = PinTarget::Service { system: "notify".to_owned(), service: "api".to_owned(), environment: None };
    Act::Pin { target, version: version.to_owned(), until: None }
}

/// More versions have one of its values than are looked at.
fn a_version_is_found_by_all_that_is_said_of_it(store: Store) {
    let mut world = World::new(store);
    let image = |n: usize| {
        let digest = format!("sha256:{n:03}cafe");
        Version(BTreeMap::from([("tag".to_owned(), "latest".to_owned()), ("digest".to_owned(), digest)]))
    };
    world.write(move |tx, now| {
        let row = environment(tx, "preview")?;
        let api = resources::resource_find(tx, row.pipeline, "api")?.expect("the service");
        let all: Vec<NewVersion> = (0..120).map(|n| NewVersion { version: image(n), metadata: Vec::new() }).collect();
        versions::versions_save(tx, api.scope.expect("a scope"), &all, now)?;
        Ok(())
    });
    world.act(pin("tag:latest,digest:sha256:007"));
    let pinned = world.write(|tx, _| {
        let row = environment(tx, "preview")?;
        Ok(resources::resource_find(tx, row.pipeline, "api")?.and_then(|api| api.pin).expect("a pin").version)
    });
    assert_eq!(pinned, image(7));
    let several = world.refusal(pin("tag:latest,digest:sha256:00"), Some("because"));
    assert!(several.message.contains("fits several versions of api"), "{}", several.message);
}
