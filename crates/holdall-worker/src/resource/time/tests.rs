//! When a version is due, and what sources may say.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::super::Log;
use super::*;

fn request(source: Value, previous: &str) -> Request {
    let version = (!previous.is_empty()).then(|| Version::from([("time".to_owned(), previous.to_owned())]));
    Request { source: source.as_object().expect("an object").clone(), version, ..Request::default() }
}

fn mistakes(source: Value) -> String {
    Source::parse(&request(source, "")).expect_err("a mistake").to_string()
}

#[test]
fn due_table() {
    let night = json!({"start": "11 PM", "stop": "1 AM", "location": "Europe/Berlin"});
    let noon = json!({"start": "12:00", "stop": "13:00"});
    // 24 November 2026 is a Tuesday.
    for (source, previous, now, due) in [
        (json!({"interval": "10m"}), "", "2026-11-24T10:00:00Z", true),
        (json!({"interval": "10m"}), "2026-11-24T09:50:00Z", "2026-11-24T10:00:00Z", true),
        (json!({"interval": "10m"}), "2026-11-24T09:50:01Z", "2026-11-24T10:00:00Z", false),
        (json!({"interval": "10m"}), "2026-11-24T11:00:00Z", "2026-11-24T10:00:00Z", false),
        // Once between start and stop.
        (noon.clone(), "", "2026-11-24T11:59:59Z", false),
        (noon.clone(), "", "2026-11-24T12:00:00Z", true),
        (noon.clone(), "2026-11-24T12:00:00Z", "2026-11-24T12:59:59Z", false),
        (noon.clone(), "2026-11-23T12:30:00Z", "2026-11-24T12:59:59Z", true),
        (noon.clone(), "2026-11-23T12:30:00Z", "2026-11-24T13:00:00Z", false),
        // Over midnight, an hour east of UTC.
        (night.clone(), "", "2026-11-24T21:59:59Z", false),
        (night.clone(), "2026-11-23T22:10:00Z", "2026-11-24T22:00:00Z", true),
        (night.clone(), "2026-11-24T22:00:00Z", "2026-11-24T23:59:59Z", false),
        (night.clone(), "2026-11-23T22:10:00Z", "2026-11-24T23:59:59Z", true),
        (night.clone(), "2026-11-23T22:10:00Z", "2026-11-25T00:00:00Z", false),
        // Summer and winter time.
        (json!({"start": "2:00", "stop": "3:00", "location": "Europe/Berlin"}), "", "2026-07-01T00:30:00Z", true),
        (json!({"start": "2:00", "stop": "3:00", "location": "Europe/Berlin"}), "", "2026-12-01T00:30:00Z", false),
        // An interval within a stretch.
        (
            json!({"interval": "10m", "start": "12PM", "stop": "1PM"}),
            "2026-11-24T12:10:00Z",
            "2026-11-24T12:20:00Z",
            true,
        ),
        (
            json!({"interval": "10m", "start": "12PM", "stop": "1PM"}),
            "2026-11-24T12:55:00Z",
            "2026-11-24T13:05:00Z",
            false,
        ),
        // Days, in the location's own calendar.
        (json!({"interval": "1m", "days": ["Tuesday", "sunday"]}), "", "2026-11-24T10:00:00Z", true),
        (json!({"interval": "1m", "days": ["Wednesday"]}), "", "2026-11-24T10:00:00Z", false),
        (json!({"interval": "1m", "days": ["Wednesday"], "location": "Asia/Tokyo"}), "", "2026-11-24T16:00:00Z", true),
        // The whole day.
        (json!({"start": "0:00", "stop": "0:00"}), "2026-11-23T10:00:00Z", "2026-11-24T00:00:00Z", true),
        // An offset of its own.
        (json!({"start": "8PM -0800", "stop": "9PM -0800"}), "", "2026-11-25T04:30:00Z", true),
        (json!({"start": "8PM -0800", "stop": "9PM -0800"}), "", "2026-11-24T20:30:00Z", false),
    ] {
        let now: Timestamp = now.parse().expect("a time");
        let versions = check_at(&request(source.clone(), previous), now).expect("a check");
        let mut expected: Vec<String> = Vec::new();
        expected.extend((!previous.is_empty()).then(|| previous.to_owned()));
        expected.extend(due.then(|| now.to_string()));
        let times: Vec<String> = versions.iter().map(|version| version["time"].clone()).collect();
        assert_eq!(times, expected, "{source} {previous} {now}");
    }
}

#[test]
fn an_initial_version_is_not_waited_for() {
    let source = json!({"start": "12:00", "stop": "13:00", "initial_version": true});
    let now: Timestamp = "2026-11-24T20:00:00Z".parse().expect("a time");
    assert_eq!(check_at(&request(source.clone(), ""), now).expect("a check"), [version_at(now)]);
    let later = check_at(&request(source, "2026-11-24T20:00:00Z"), now).expect("a check");
    assert_eq!(later, [version_at(now)], "only the given one");
}

#[test]
fn times_of_the_day() {
    for (text, hour, minute) in [
        ("3:04 PM", 15, 4),
        ("3:04PM", 15, 4),
        ("3PM", 15, 0),
        ("3 pm", 15, 0),
        ("12AM", 0, 0),
        ("12:30 PM", 12, 30),
        ("15:04", 15, 4),
        ("1504", 15, 4),
        ("7:05", 7, 5),
    ] {
        let expected = ClockTime { time: Time::constant(hour, minute, 0, 0), offset: None };
        assert_eq!(text.parse(), Ok(expected), "{text}");
    }
    for text in [
        "",
        "noon",
        "13PM",
        "0AM",
        "24:00",
        "12:60",
        "1",
        "150",
        "3:04:05",
        "+3:00",
        "-1PM",
        "8PM -08",
        "8PM -0860",
        "１２:00",
    ] {
        assert!(text.parse::<ClockTime>().is_err(), "{text}");
    }
}

#[test]
fn mistakes_say_what_would_be_right() {
    assert_eq!(mistakes(json!({})), "source needs `interval`, or `start` and `stop`");
    assert_eq!(mistakes(json!({"interval": "5m", "start": "8PM"})), "`start` and `stop` in source need each other");
    assert_eq!(mistakes(json!({"interval": "0s"})), "`interval` in source must be longer than nothing");
    let all = mistakes(json!({"interval": "5 minutes", "location": "Berlin", "days": ["Mondai"], "intervall": "5m"}));
    for part in [
        "`interval` in source: `5 minutes` is not a duration",
        "there is no time zone `Berlin`",
        "`Mondai` is not a day of the week: did you mean `Monday`?",
        "unknown key `intervall`: did you mean `interval`?",
    ] {
        assert!(all.contains(part), "{all}");
    }
    let error = check_at(&request(json!({"interval": "1m"}), "yesterday"), Timestamp::UNIX_EPOCH).expect_err("no time");
    assert_eq!(error.to_string(), "the version's `time` is not a time: `yesterday`");
}

#[test]
fn get_and_put() {
    let ctx = Context { env: BTreeMap::new(), log: Log::to(Arc::new(Mutex::new(Vec::new()))) };
    let dir = tempfile::TempDir::new().expect("a directory");
    let request = request(json!({"interval": "1m"}), "2026-11-24T10:00:00.5Z");
    let result = get(&request, dir.path(), &ctx).expect("a get");
    assert_eq!(Some(&result.version), request.version.as_ref());
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).expect("a file");
    assert_eq!(read("timestamp"), "2026-11-24 10:00:00.5 +0000 UTC");
    assert_eq!(read("epoch"), "1795514400");
    assert!(read("input").contains(r#""interval":"1m""#));
    let made = put(&request, dir.path(), &ctx).expect("a put");
    let age = Timestamp::now().duration_since(time_of(&made.version).expect("a time"));
    assert!(age.as_secs() < 60, "{age}");
}
