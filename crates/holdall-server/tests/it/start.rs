//! Starting: what is made, and how each thing that keeps a server from starting is said.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use crate::support::{Place, TestServer};

fn refusal(config: holdall_server::serve::ServeConfig) -> String {
    match TestServer::start_with(config) {
        Ok(_) => panic!("it started"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_a_server_makes_is_its_owners_alone() {
    let place = Place::sqlite();
    let server = TestServer::start(&place);
    let mode = |name: &str| fs::metadata(place.dir().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("data"), mode("data/token"), mode("data/worker-token")), (0o700, 0o600, 0o600));
    let refused = refusal(place.config());
    assert!(refused.contains("is in use by another server (process "), "{refused}");
    server.stop();
    let token = fs::read_to_string(place.dir().join("data/token")).unwrap();
    let again = TestServer::start(&place);
    assert_eq!(token.trim(), again.token);
}

#[test]
fn a_port_that_is_taken_is_said_so() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = Place::sqlite().config();
    config.listen = taken.local_addr().unwrap();
    let refused = refusal(config);
    assert!(refused.contains("another program has that port"), "{refused}");
}

#[test]
fn a_database_that_cannot_be_used_is_said_so() {
    let corrupt = Place::sqlite();
    fs::create_dir(corrupt.dir().join("data")).unwrap();
    fs::write(corrupt.dir().join("data/holdall.sqlite"), "This is no database. ".repeat(100)).unwrap();
    let refused = refusal(corrupt.config());
    assert!(refused.contains("holdall.sqlite") && refused.contains("restore it from a backup"), "{refused}");

    let newer = Place::sqlite();
    let server = TestServer::start(&newer);
    server
        .store()
        .write_blocking(|tx| {
            tx.execute("UPDATE schema_version SET version = 1000", &[])?;
            Ok::<_, holdall_store::StoreError>(())
        })
        .unwrap();
    server.stop();
    let refused = refusal(newer.config());
    assert!(refused.contains("schema version 1000") && refused.contains("use holdall "), "{refused}");

    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut config = Place::sqlite().config();
    config.database = Some(format!("postgres://ann:s3cret@{nobody}/holdall"));
    let refused = refusal(config);
    let shown = format!("cannot use the database postgres://ann@{nobody}/holdall: the database is not available");
    assert!(refused.starts_with(&shown) && !refused.contains("s3cret"), "{refused}");
}

#[test]
fn a_folder_that_cannot_be_written_is_said_so() {
    // A folder below a file cannot be made, whoever asks, root included.
    let place = Place::sqlite();
    fs::write(place.dir().join("data"), "").unwrap();
    let refused = refusal(place.config());
    assert!(refused.contains("data folder") && refused.contains("check its owner and mode"), "{refused}");
}
