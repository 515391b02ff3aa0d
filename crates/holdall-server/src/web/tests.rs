//! Every page with hostile names: nothing that anyone wrote becomes markup.

use std::collections::BTreeMap;

use holdall_engine::run::StepState;
use holdall_protocol::api::{
    BagDetail, BagService, BagState, BagSummary, BuildDetail, BuildInput, BuildRef, BuildStatus, BuildSummary,
    ChangeDirection, Commit, EnvironmentDetail, EnvironmentState, EnvironmentSummary, Hold, HolderKind, LockDetail,
    LockSummary, ServiceChange, SummaryHolder, Time,
};

use super::bag::BagPage;
use super::board::{Board, EnvironmentShown, SystemShown};
use super::build::BuildPage;
use super::environment::EnvironmentPage;
use crate::query::builds::StepShown;

const EVIL: &str = "<script>alert('x')</script>\"&";

fn hold() -> Hold {
    Hold {
        code: "lock-held".into(),
        sentence: EVIL.into(),
        since: Some(Time(0)),
        by: Some(EVIL.into()),
        until: None,
        command: Some(EVIL.into()),
    }
}

fn environment() -> EnvironmentSummary {
    EnvironmentSummary {
        environment: EVIL.into(),
        system: EVIL.into(),
        current: Some(1),
        mixed_with: Some(2),
        state: EnvironmentState::Mixed,
        frozen_at: Some(1),
        lock: Some(LockSummary {
            holders: vec![SummaryHolder {
                kind: HolderKind::Person,
                name: EVIL.into(),
                reason: Some(EVIL.into()),
                since: Time(0),
            }],
            queue: Vec::new(),
        }),
        under_way: Some(2),
        since: Some(Time(0)),
        after: vec![EVIL.into()],
    }
}

fn bag() -> BagSummary {
    BagSummary {
        bag: 1,
        system: EVIL.into(),
        packed_at: Time(0),
        packed_in: EVIL.into(),
        passed: BTreeMap::from([(EVIL.to_owned(), EVIL.to_owned())]),
        environments: BTreeMap::from([(EVIL.to_owned(), BagState::Held)]),
        packed_by: Some(EVIL.into()),
        contents_digest: EVIL.into(),
    }
}

fn change() -> ServiceChange {
    ServiceChange {
        service: EVIL.into(),
        direction: ChangeDirection::Gains,
        from: Some(BTreeMap::from([(EVIL.to_owned(), EVIL.to_owned())])),
        to: None,
        commits: vec![Commit {
            id: EVIL.into(),
            author: Some(EVIL.into()),
            at: Some(Time(0)),
            message: Some(EVIL.into()),
            url: Some("javascript:alert(1)".into()),
        }],
        complete: false,
    }
}

/// Checks that a page is closed where it is opened, and that no hostile text is markup in it.
fn check(page: &str) {
    assert!(!page.contains("<script>alert"), "{page}");
    assert!(!page.contains("javascript:"), "{page}");
    assert!(page.contains("&lt;script&gt;alert"), "{page}");
    let mut open: Vec<&str> = Vec::new();
    for part in page.split('<').skip(1) {
        let tag = part.split(['>', ' ']).next().unwrap_or_default();
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "in {page}"),
            None if matches!(tag, "!DOCTYPE" | "meta" | "link" | "input" | "br") => {}
            None => open.push(tag),
        }
    }
    assert_eq!(open, Vec::<&str>::new());
}

#[test]
fn the_board_escapes_everything() {
    let system = SystemShown {
        name: EVIL.into(),
        environments: vec![EnvironmentShown { summary: environment(), holds: vec![hold()] }],
        bags: vec![bag()],
        why: BTreeMap::from([((1, EVIL.to_owned()), vec![hold()])]),
    };
    check(&Board { systems: vec![system] }.render().into_string());
    assert!(Board::default().render().into_string().contains("holdall system set"));
}

#[test]
fn a_bags_page_escapes_everything() {
    let service = BagService {
        kind: EVIL.into(),
        version: BTreeMap::from([("ref".to_owned(), EVIL.to_owned())]),
        bits: EVIL.into(),
        exact: false,
        repository: Some(EVIL.into()),
        metadata: Vec::new(),
    };
    let bag = BagDetail {
        summary: bag(),
        services: BTreeMap::from([(EVIL.to_owned(), service)]),
        previous: None,
        same_contents_as: Some(1),
        pins: vec![EVIL.into()],
        disabled: vec![EVIL.into()],
        digest: EVIL.into(),
        tags: Vec::new(),
        holds: BTreeMap::from([(EVIL.to_owned(), vec![hold()])]),
    };
    check(
        &BagPage { bag, chain: vec![EVIL.into()], changes: vec![(EVIL.into(), vec![change()])] }.render().into_string(),
    );
}

#[test]
fn an_environments_page_escapes_everything() {
    let environment = EnvironmentDetail {
        summary: environment(),
        team: EVIL.into(),
        pipeline: EVIL.into(),
        packs: false,
        superseding: "latest".into(),
        promotion: "automatic".into(),
        previous: Some(1),
        deployment: None,
        lock_detail: LockDetail {
            environment: EVIL.into(),
            systems: Vec::new(),
            holders: Vec::new(),
            queue: Vec::new(),
            held_after_unlock: None,
        },
        freeze: None,
        suspects: Vec::new(),
        deployments: Vec::new(),
        jobs: Vec::new(),
        holds: vec![hold()],
    };
    check(&EnvironmentPage { environment }.render().into_string());
}

#[test]
fn a_builds_page_escapes_everything() {
    let summary = BuildSummary {
        build: BuildRef {
            id: 1,
            name: "1".into(),
            team: EVIL.into(),
            pipeline: EVIL.into(),
            job: EVIL.into(),
            status: BuildStatus::Started,
        },
        created_at: Time(0),
        started_at: Some(Time(0)),
        ended_at: None,
        created_by: None,
        rerun_of: None,
        system: Some(EVIL.into()),
        environment: Some(EVIL.into()),
        deployment: None,
        bag: Some(1),
        note: Some(EVIL.into()),
    };
    let input = BuildInput {
        name: EVIL.into(),
        resource: EVIL.into(),
        version: BTreeMap::from([("ref".to_owned(), EVIL.to_owned())]),
        first_occurrence: true,
    };
    let build = BuildDetail {
        summary,
        guarded: true,
        aborting: true,
        inputs: vec![input],
        outputs: Vec::new(),
        report: vec![hold()],
    };
    let steps = vec![StepShown { id: EVIL.into(), kind: "task", name: EVIL.into(), state: StepState::Running }];
    check(&BuildPage { build, steps, log: vec![(EVIL.into(), EVIL.into())], seen: 3 }.render().into_string());
}
