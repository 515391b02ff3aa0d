//! The worker inside a server.

use crate::real::{Place, until};

#[test]
fn its_end_is_said_in_the_servers_log() {
    let place = Place::sqlite();
    let server = place.start_server_that_answers(&[]);
    // Another worker of its name ends it.
    let (url, token) = (place.url(), "data/worker-token");
    let args = ["worker", "--server", &url, "--token-file", token, "--work-dir", "work", "--name", "local"];
    let _other = place.start("other", &args);
    until("the server says that its worker has ended", || {
        let said = server.said();
        let is_said = said.contains("the worker inside the server has ended: the server says that this session");
        is_said.then_some(()).ok_or(said)
    });
}
