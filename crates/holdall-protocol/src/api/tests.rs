//! What is on the wire, to the letter: scripts rely on it.

use serde_json::json;

use super::*;

#[test]
fn times_are_rfc_3339_in_utc_and_exact() {
    for (micros, text) in [
        (0, "1970-01-01T00:00:00Z"),
        (1_795_515_302_000_000, "2026-11-24T10:15:02Z"),
        (1_795_515_302_000_001, "2026-11-24T10:15:02.000001Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
    ] {
        assert_eq!(Time(micros).to_string(), text);
        assert_eq!(text.parse(), Ok(Time(micros)));
    }
    assert_eq!("2026-11-24T11:15:02+01:00".parse(), Ok(Time(1_795_515_302_000_000)));
    for text in ["", "yesterday", "2026-11-24", "2026-11-24T10:15:02", "99999999-01-01T00:00:00Z"] {
        assert_eq!(text.parse::<Time>(), Err(BadTime { text: text.to_owned() }));
    }
    for micros in [i64::MIN, i64::MAX] {
        assert!(Time(micros).to_string().parse::<Time>().is_ok());
    }
}

#[test]
fn bag_list_has_the_fields_that_scripts_rely_on() {
    let bag = BagSummary {
        bag: 42,
        system: "notify".into(),
        packed_at: Time(1_795_515_302_000_000),
        packed_in: "preview".into(),
        passed: BTreeMap::from([("preview".into(), "passed-preview-20261124T101502Z".into())]),
        environments: BTreeMap::from([("preview".into(), BagState::Current), ("prod".into(), BagState::NotEligible)]),
        packed_by: None,
        contents_digest: "ab".into(),
    };
    assert_eq!(
        serde_json::to_value(&bag).unwrap(),
        json!({
            "bag": 42,
            "system": "notify",
            "packed_at": "2026-11-24T10:15:02Z",
            "packed_in": "preview",
            "passed": {"preview": "passed-preview-20261124T101502Z"},
            "environments": {"preview": "current", "prod": "not-eligible"},
            "packed_by": null,
            "contents_digest": "ab",
        })
    );
}

#[test]
fn env_list_has_the_fields_that_scripts_rely_on() {
    let since = Time(0);
    let lock = LockDetail {
        environment: "staging".into(),
        systems: vec!["notify".into()],
        holders: vec![LockHolder {
            kind: HolderKind::Person,
            name: "ann".into(),
            mode: LockMode::Exclusive,
            reason: Some("load test".into()),
            ticket: None,
            since,
            until: None,
            expected_end: None,
            fence: 3,
            system: None,
            bag: None,
        }],
        queue: vec![LockWaiter {
            kind: HolderKind::Deployment,
            name: "bag 43".into(),
            mode: LockMode::Exclusive,
            reason: None,
            since,
            position: 1,
        }],
        held_after_unlock: None,
    };
    let environment = EnvironmentSummary {
        environment: "staging".into(),
        system: "notify".into(),
        current: Some(42),
        mixed_with: None,
        state: EnvironmentState::InDoubt,
        frozen_at: None,
        lock: lock.summary(),
        under_way: None,
        since: None,
        after: vec!["preview".into()],
    };
    assert_eq!(
        serde_json::to_value(&environment).unwrap(),
        json!({
            "environment": "staging",
            "system": "notify",
            "current": 42,
            "mixed_with": null,
            "state": "in-doubt",
            "frozen_at": null,
            "lock": {
                "holders": [{"kind": "person", "name": "ann", "reason": "load test", "since": "1970-01-01T00:00:00Z"}],
                "queue": [{"kind": "deployment", "name": "bag 43", "since": "1970-01-01T00:00:00Z", "position": 1}],
            },
            "under_way": null,
            "since": null,
            "after": ["preview"],
        })
    );
    let free = LockDetail { holders: Vec::new(), queue: Vec::new(), ..lock };
    assert_eq!(free.summary(), None);
}

#[test]
fn acts_are_tagged_by_name_and_what_is_optional_may_be_absent() {
    let request: ActRequest = serde_json::from_value(json!({
        "act": {"act": "roll_back", "system": "notify", "environment": "production", "suspects": {"services": ["api"]}},
    }))
    .unwrap();
    assert_eq!(
        request,
        ActRequest {
            act: Act::RollBack {
                system: "notify".into(),
                environment: "production".into(),
                to: None,
                suspects: Suspects::Services(vec!["api".into()]),
                and_untick: false,
                here_only: false,
            },
            reason: None,
            ticket: None,
            dry_run: false,
            preview_token: None,
        }
    );
    assert!(request.act.needs_reason());
    let tagged = serde_json::to_value(&request.act).unwrap();
    assert_eq!(tagged["act"], request.act.name());
    assert_eq!(serde_json::to_value(Suspects::All).unwrap(), json!("all"));
}

#[test]
fn a_build_event_is_one_flat_object() {
    let event = BuildEvent {
        seq: 7,
        at: Time(0),
        step: Some("3".into()),
        kind: BuildEventKind::Output { stream: OutputStream::Stderr, text: "hi\n".into() },
    };
    let value = serde_json::to_value(&event).unwrap();
    assert_eq!(
        value,
        json!({"seq": 7, "at": "1970-01-01T00:00:00Z", "step": "3", "kind": "output", "stream": "stderr", "text": "hi\n"})
    );
    assert_eq!(serde_json::from_value::<BuildEvent>(value).unwrap(), event);
    let end: BuildEvent =
        serde_json::from_value(json!({"seq": 8, "at": "1970-01-01T00:00:00Z", "step": null, "kind": "end"})).unwrap();
    assert_eq!(end.kind, BuildEventKind::End);
}

#[test]
fn names_on_the_wire_are_read_back_and_others_are_refused() {
    for state in [BagState::Current, BagState::NotEligible] {
        assert_eq!(BagState::from_name(state.as_str()), Some(state));
    }
    let error = serde_json::from_value::<EnvironmentState>(json!("sleeping")).unwrap_err().to_string();
    assert!(error.contains("sleeping") && error.contains("in-doubt"), "{error}");
}

#[test]
fn an_error_says_only_what_applies() {
    let body: ErrorBody = serde_json::from_value(json!({"code": code::NOT_FOUND, "message": "no system x"})).unwrap();
    assert_eq!(body.details, ErrorDetails::default());
    assert_eq!(
        serde_json::to_value(&body).unwrap(),
        json!({"code": "not_found", "message": "no system x", "details": {}, "request_id": ""})
    );
}
