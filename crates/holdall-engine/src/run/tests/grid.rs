//! The whole grid: what is run × how it goes × which hook it has × how that goes, as one snapshot.

use std::fmt::Write;

use super::script::{event, word};
use super::shape::{Names, Shape};
use crate::run::{Effect, Run, RunEvent};
use crate::status::{BuildStatus, Outcome};
use crate::time::Timestamp;

/// What has the hook. Its steps are called `a`, `b`... (`p` the put).
const NODES: [(&str, &str); 16] = [
    ("step", "a"),
    ("put", "put:p"),
    ("do", "do(a b)"),
    ("in_parallel", "par(a b)"),
    ("in_parallel, limit", "par1(a b)"),
    ("in_parallel, fail_fast", "par!(a b)"),
    ("try", "try(a)"),
    ("retry", "retry(a b)"),
    ("timeout", "timeout99(a)"),
    ("ensure", "ensure(a b)"),
    ("on_success", "success(a b)"),
    ("on_failure", "failure(a b)"),
    ("on_error", "error(a b)"),
    ("on_abort", "abort(a b)"),
    ("retry, each attempt with hooks", "retry(ensure(failure(a f) c) ensure(failure(b g) d))"),
    ("in_parallel, limit, fail_fast", "par1!(ensure(a b) c)"),
];

/// How it goes: what stops it from outside, if anything, and how each of its steps ends.
const COURSES: [(&str, Option<&str>, &str); 9] = [
    ("succeeded", None, "ok"),
    ("failed", None, "fail"),
    ("errored", None, "error"),
    ("aborted", Some("abort"), "stopped"),
    ("aborted, succeeded", Some("abort"), "ok"),
    ("aborted, failed", Some("abort"), "fail"),
    ("timeout around", Some("T"), "stopped"),
    ("timeout around, succeeded", Some("T"), "ok"),
    ("fail_fast around", Some("x fail"), "stopped"),
];

/// The courses of a node that has a time limit of its own: it is over.
const TIMED_OUT: [(&str, Option<&str>, &str); 3] = [
    ("timed out", Some("its own T"), "stopped"),
    ("timed out, succeeded", Some("its own T"), "ok"),
    ("timed out, failed", Some("its own T"), "fail"),
];

const HOOKS: [&str; 5] = ["success", "failure", "error", "abort", "ensure"];

/// How one cell goes: whether the hook runs and with which `BUILD_STATUS`, and how the build ends.
struct Cell {
    hook: Option<Option<Outcome>>,
    end: BuildStatus,
}

/// Walks one cell. Everything that is started at the beginning ends as `course` says, then everything that comes up
/// after it, and the hook `h` as `hook_ends`, or as an abort stops it where it can.
fn cell(node: &str, outside: Option<&str>, ends: &str, hook: &str, hook_ends: &str) -> Cell {
    let inner = format!("{hook}({node} h)");
    let text = match outside {
        Some("T") => format!("timeout50({inner})"),
        Some("x fail") => format!("par!({inner} x)"),
        Some(_) | None => inner,
    };
    let (plan, names) = Shape::parse(&text).plan();
    let mut walk = Walk { run: Run::new(&plan), names, started: Vec::new(), hook: None, end: None };
    walk.on(RunEvent::Start);
    match outside {
        Some("T" | "its own T") => walk.text("T1"),
        Some(outside) => walk.text(outside),
        None => {}
    }
    walk.started.retain(|step| step != "x" || outside != Some("x fail"));
    while let Some(step) = walk.started.pop() {
        match (step.as_str(), hook_ends) {
            ("h", "aborted") => {
                walk.text("abort");
                let cancelled = matches!(walk.run.outstanding()[..], [Effect::CancelStep { .. }]);
                walk.text(if cancelled { "h stopped" } else { "h ok" });
            }
            ("h", _) => walk.text(&format!("h {hook_ends}")),
            ("p", _) => walk.text(&format!("p {ends} v1")),
            (step, _) => walk.text(&format!("{step} {ends}")),
        }
    }
    Cell { hook: walk.hook, end: walk.end.unwrap_or_else(|| panic!("{text} does not end")) }
}

struct Walk {
    run: Run,
    names: Names,
    /// Steps that run.
    started: Vec<String>,
    hook: Option<Option<Outcome>>,
    end: Option<BuildStatus>,
}

impl Walk {
    fn text(&mut self, text: &str) {
        self.on(event(text, &self.names));
    }

    fn on(&mut self, event: RunEvent) {
        for effect in self.run.on(event, Timestamp(0)) {
            match effect {
                Effect::StartStep { step, in_hook, .. } => {
                    let name = self.names.name(&step).to_owned();
                    if name == "h" {
                        self.hook = Some(in_hook);
                    }
                    self.started.push(name);
                }
                Effect::Finish { status } => self.end = Some(status),
                Effect::CancelStep { .. } | Effect::SetTimer { .. } | Effect::ClearTimer { .. } => {}
            }
        }
    }
}

#[test]
fn grid() {
    let mut table = String::new();
    for (kind, node) in NODES {
        writeln!(table, "# {kind}: {node}").unwrap();
        table.push_str(&rows(node));
    }
    insta::assert_snapshot!(table);
}

#[test]
fn the_walk_knows_no_kinds_of_steps() {
    for node in ["get:a", "lock:a", "files:a"] {
        assert_eq!(rows(node), rows("a"), "{node}");
    }
}

/// The part of the grid that is about one node.
fn rows(node: &str) -> String {
    let mut table = String::new();
    let timed_out = TIMED_OUT.iter().filter(|_| node.starts_with("timeout"));
    for (course, outside, ends) in COURSES.iter().chain(timed_out).copied() {
        for hook in HOOKS {
            let cells = ["ok", "fail", "error", "aborted"].map(|end| cell(node, outside, ends, hook, end));
            let runs = match cells[0].hook {
                None => "-",
                Some(None) => "runs",
                Some(Some(outcome)) => word(outcome),
            };
            assert!(cells.iter().all(|cell| cell.hook == cells[0].hook), "its end does not decide whether a hook runs");
            let ends: Vec<&str> = cells.iter().map(|cell| cell.end.as_str()).collect();
            let ends = if cells[0].hook.is_none() {
                assert!(ends.iter().all(|end| *end == ends[0]));
                ends[0].to_owned()
            } else {
                format!("ok: {:<9}  failed: {:<9}  errored: {:<9}  aborted: {}", ends[0], ends[1], ends[2], ends[3])
            };
            writeln!(table, "{course:<25} {hook:<8} {runs:<10} {ends}").unwrap();
        }
    }
    table
}
