//! What a step's process sees, and how it ends.

use holdall_protocol::worker::Ending;

use crate::server::Server;
use crate::support::{WorkerProcess, attempt, task};

#[test]
fn the_environment_is_exactly_what_was_given() {
    let server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let _worker = WorkerProcess::start(&server.url(), dir.path());
    server.give(attempt("env", task("env | grep -v -e ^PWD= -e ^SHLVL= -e ^_= -e ^OLDPWD= | cut -d= -f1 | sort")));
    let (ending, seen) = server.finished("env");
    assert_eq!(ending, Ending::Exited { status: 0, result: None, artifacts: vec![] });
    assert_eq!(seen.text(), "HOME\nPATH\nTMPDIR\n");
}
