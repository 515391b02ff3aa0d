//! Server-sent events.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Instant;

use serde_json::Value;

use crate::flow::ONE_TASK;
use crate::support::{FakeWorker, PATIENCE, Place, TestServer, finished, on_both_databases, output, started, success};

on_both_databases!(a_stream_can_be_taken_up_at_every_event);

fn a_stream_can_be_taken_up_at_every_event(place: &Place) {
    let server = TestServer::start(place);
    let pipeline = server.pipeline("p", ONE_TASK);
    let build = server.trigger(server.job(pipeline, "build"));
    let path = format!("/builds/{build}/events");
    let mut worker = FakeWorker::new("w");
    worker.hello(&server);
    let whole = std::thread::scope(|scope| {
        let reader = scope.spawn(|| server.events(&path, None, |_| false));
        let task = worker.take(&server);
        worker.report(&server, vec![started(&task), output(&task, 0, "a€".as_bytes().split_at(2).0)]);
        worker.report(&server, vec![output(&task, 2, "a€b\n".as_bytes().split_at(2).1)]);
        worker.report(&server, vec![finished(&task, success(&task))]);
        reader.join().expect("a reader")
    });
    let ids: Vec<i64> = whole.iter().map(|(id, _)| *id).collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
    assert!(whole.iter().all(|(id, event)| event["seq"] == *id), "{whole:?}");
    let text: String = whole.iter().filter_map(|(_, event)| event["text"].as_str()).collect();
    assert_eq!(text, "a€b\n");
    assert_eq!(whole.last().unwrap().1["kind"], "end");
    let finished = whole.iter().find(|(_, event)| event["kind"] == "finished").unwrap();
    assert_eq!((&finished.1["outcome"], &finished.1["exit_status"]), (&Value::from("succeeded"), &Value::from(0)));

    for (at, (id, _)) in whole.iter().enumerate().take(whole.len() - 1) {
        let rest = server.events(&path, Some(*id), |_| false);
        assert_eq!(rest, whole[at + 1..], "after {id}");
    }
    assert_eq!(server.send("GET", "/builds/999/events", &()).status, 404);
    assert_eq!(server.send("GET", "/builds/x/events", &()).status, 404);
    let head = format!("Host: localhost\r\nAuthorization: Bearer {}\r\nLast-Event-ID: x\r\n", server.token);
    assert_eq!(server.raw("GET", &format!("/api/holdall/v1{path}"), &head, b"").status, 400);
}

#[test]
fn a_reader_is_told_what_holds_a_build_back() {
    let place = Place::sqlite();
    let server = TestServer::start(&place);
    let pipeline = server.pipeline("p", ONE_TASK);
    let build = server.trigger(server.job(pipeline, "build"));
    let mut events = open_stream(&server, &format!("/builds/{build}/events"));
    let mut next_holds = || loop {
        let event = next_data(&mut events);
        if event["kind"] == "waiting" {
            return event["holds"].clone();
        }
    };
    let mut holds = next_holds();
    // It waits to be scheduled first, which may hold nothing back or be over before anyone looks.
    while holds.get(0).is_none_or(|hold| hold["code"] != "no-worker") {
        holds = next_holds();
    }
    assert_eq!(holds[0]["command"], "holdall worker --server ADDRESS --token-file FILE --work-dir DIR");
    FakeWorker::new("w").hello(&server);
    assert_eq!(next_holds(), Value::from(Vec::<Value>::new()), "nothing holds it back any more");
}

#[test]
fn pages_hear_that_something_changed() {
    let place = Place::sqlite();
    let server = TestServer::start(&place);
    let mut changes = open_stream(&server, "/events");
    let pipeline = server.pipeline("p", ONE_TASK);
    let first = next_data(&mut changes);
    assert_eq!(first["kind"], "everything");
    server.trigger(server.job(pipeline, "build"));
    assert_eq!(next_data(&mut changes)["kind"], "everything");
}

#[test]
fn a_server_stops_although_streams_and_polls_are_open() {
    let place = Place::sqlite();
    let server = TestServer::start(&place);
    let pipeline = server.pipeline("p", ONE_TASK);
    let build = server.trigger(server.job(pipeline, "build"));
    let mut worker = FakeWorker::new("w");
    worker.hello(&server);
    worker.take(&server);
    let mut events = open_stream(&server, &format!("/builds/{build}/events"));
    assert_eq!(next_data(&mut events)["kind"], "status");
    let mut changes = open_stream(&server, "/events");
    let poll = serde_json::to_string(&worker.poll_message()).unwrap();
    let mut polling = request(&server, "POST", "/worker/poll", &poll);
    let since = Instant::now();
    server.stop();
    assert!(since.elapsed() < std::time::Duration::from_secs(4), "{:?}", since.elapsed());
    let mut answer = String::new();
    match polling.read_line(&mut answer) {
        Ok(_) => assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}"),
        // The server stopped before it had taken this connection; a worker asks again.
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
    answer.clear();
    for stream in [&mut events, &mut changes] {
        while stream.read_line(&mut answer).expect("the stream ends, and is not cut off") > 0 {}
    }
}

fn request(server: &TestServer, method: &str, path: &str, body: &str) -> BufReader<TcpStream> {
    let mut connection = TcpStream::connect(server.address).expect("a connection");
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let text = format!(
        "{method} /api/holdall/v1{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        server.token,
        body.len()
    );
    connection.write_all(text.as_bytes()).unwrap();
    BufReader::new(connection)
}

/// A stream, when its head has arrived.
fn open_stream(server: &TestServer, path: &str) -> BufReader<TcpStream> {
    let mut stream = request(server, "GET", path, "");
    let mut line = String::new();
    stream.read_line(&mut line).expect("a head");
    assert!(line.starts_with("HTTP/1.1 200 "), "{line}");
    while line.trim() != "" {
        line.clear();
        stream.read_line(&mut line).expect("a head");
    }
    stream
}

fn next_data(stream: &mut BufReader<TcpStream>) -> Value {
    loop {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).expect("a line") > 0, "the stream ended");
        if let Some(data) = line.strip_prefix("data: ") {
            return serde_json::from_str(data).expect("JSON");
        }
    }
}
