//! A tiny notation for plans.
//!
//! | text | node |
//! |---|---|
//! | `a` | a task |
//! | `get:g`, `lock:l`, `files:f` | the other kinds of steps |
//! | `put:p` | a put `p`, and the get `p'` of what it gave |
//! | `do(a b)`, `try(a)`, `retry(a b)` | as they are called; the attempts of a `retry` are written out |
//! | `par(a b)`, `par2(a b)`, `par!(a b)`, `par2!(a b)` | `in_parallel`: plain, with limit, with `fail_fast`, with both |
//! | `timeout5(a)` | within 5 |
//! | `success(a h)`, `failure(a h)`, `error(a h)`, `abort(a h)`, `ensure(a h)` | a step and its hook |
//!
//! Names are unique in a plan, and timeouts are called `T1`, `T2`... in the order of the text.

use std::collections::BTreeMap;
use std::fmt;

use crate::pipeline::{Object, PutInputs, TaskStep};
use crate::plan::{
    FilesPlan, GetPlan, LockAction, Plan, PlanId, PlanKind, PutPlan, ReleaseAction, ReleaseStep, TaskPlan,
    VersionSource,
};
use crate::run::tree::Hook;
use crate::time::Span;
use crate::version::Version;

#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    Step(String),
    /// Another kind of step.
    Other(&'static str, String),
    Put(String),
    Do(Vec<Shape>),
    Par {
        limit: u32,
        fail_fast: bool,
        steps: Vec<Shape>,
    },
    Try(Box<Shape>),
    Retry(Vec<Shape>),
    Timeout(i64, Box<Shape>),
    Hook(Hook, Box<Shape>, Box<Shape>),
}

pub const HOOKS: [(&str, Hook); 5] = [
    ("success", Hook::Success),
    ("failure", Hook::Failure),
    ("error", Hook::Error),
    ("abort", Hook::Abort),
    ("ensure", Hook::Ensure),
];

impl Hook {
    pub fn word(self) -> &'static str {
        HOOKS.into_iter().find(|(_, hook)| *hook == self).expect("all are listed").0
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, steps: &[Shape]| {
            let steps: Vec<String> = steps.iter().map(Shape::to_string).collect();
            write!(f, "({})", steps.join(" "))
        };
        match self {
            Shape::Step(name) => f.write_str(name),
            Shape::Other(kind, name) => write!(f, "{kind}:{name}"),
            Shape::Put(name) => write!(f, "put:{name}"),
            Shape::Do(steps) => f.write_str("do").and_then(|()| list(f, steps)),
            Shape::Par { limit, fail_fast, steps } => {
                f.write_str("par")?;
                if *limit > 0 {
                    write!(f, "{limit}")?;
                }
                f.write_str(if *fail_fast { "!" } else { "" })?;
                list(f, steps)
            }
            Shape::Try(step) => write!(f, "try({step})"),
            Shape::Retry(steps) => f.write_str("retry").and_then(|()| list(f, steps)),
            Shape::Timeout(span, step) => write!(f, "timeout{span}({step})"),
            Shape::Hook(hook, step, after) => write!(f, "{}({step} {after})", hook.word()),
        }
    }
}

impl Shape {
    /// Reads the notation; panics where it is wrong.
    pub fn parse(text: &str) -> Shape {
        let (shape, rest) = parse(text.trim());
        assert_eq!(rest.trim(), "", "after {shape}");
        shape
    }

    /// The plan, and its names: of steps, and of timers.
    pub fn plan(&self) -> (Plan, Names) {
        let mut names = Names::default();
        (self.build(PlanId::root(), &mut names), names)
    }

    fn build(&self, id: PlanId, names: &mut Names) -> Plan {
        let all = |steps: &[Shape], names: &mut Names| -> Vec<Plan> {
            steps.iter().enumerate().map(|(nth, step)| step.build(id.child(nth + 1), names)).collect()
        };
        let kind = match self {
            Shape::Step(name) => {
                names.add(name.clone(), id.clone());
                PlanKind::Task(TaskPlan { step: Box::new(TaskStep { name: name.clone(), ..TaskStep::default() }) })
            }
            Shape::Other(kind, name) => {
                names.add(name.clone(), id.clone());
                other(kind, name)
            }
            Shape::Put(name) => {
                let (step, hook) = put(name, &id);
                names.add(name.clone(), step.id.clone());
                names.add(format!("{name}'"), hook.id.clone());
                PlanKind::OnSuccess { step: Box::new(step), hook: Box::new(hook) }
            }
            Shape::Do(steps) => PlanKind::Do(all(steps, names)),
            Shape::Par { limit, fail_fast, steps } => {
                PlanKind::InParallel { steps: all(steps, names), limit: *limit, fail_fast: *fail_fast }
            }
            Shape::Try(step) => PlanKind::Try(Box::new(step.build(id.child(1), names))),
            Shape::Retry(steps) => PlanKind::Retry(all(steps, names)),
            Shape::Timeout(span, step) => {
                names.timers += 1;
                names.add(format!("T{}", names.timers), id.clone());
                PlanKind::Timeout { step: Box::new(step.build(id.child(1), names)), span: Span(*span) }
            }
            Shape::Hook(hook, step, after) => {
                let step = Box::new(step.build(id.child(1), names));
                let after = Box::new(after.build(id.child(2), names));
                match hook {
                    Hook::Success => PlanKind::OnSuccess { step, hook: after },
                    Hook::Failure => PlanKind::OnFailure { step, hook: after },
                    Hook::Error => PlanKind::OnError { step, hook: after },
                    Hook::Abort => PlanKind::OnAbort { step, hook: after },
                    Hook::Ensure => PlanKind::Ensure { step, hook: after },
                }
            }
        };
        Plan { id, kind }
    }
}

const OTHERS: [&str; 3] = ["get", "lock", "files"];

fn other(kind: &str, name: &str) -> PlanKind {
    let name = name.to_owned();
    match kind {
        "get" => PlanKind::Get(get(&name, VersionSource::Fixed(Version::default()))),
        "lock" => {
            let action = ReleaseAction::Lock { environment: name.clone(), action: LockAction::Release };
            PlanKind::Release(ReleaseStep { resource: name.clone(), name, action, params: Object::new() })
        }
        _ => PlanKind::Files(FilesPlan { name, artifacts: Vec::new(), files: BTreeMap::new() }),
    }
}

fn get(name: &str, version: VersionSource) -> GetPlan {
    GetPlan {
        name: name.to_owned(),
        resource: name.to_owned(),
        resource_type: "mock".to_owned(),
        source: Object::new(),
        params: Object::new(),
        version,
        artifact: name.to_owned(),
        tags: Vec::new(),
        timeout: None,
    }
}

fn put(name: &str, id: &PlanId) -> (Plan, Plan) {
    let put = PutPlan {
        name: name.to_owned(),
        resource: name.to_owned(),
        resource_type: "mock".to_owned(),
        source: Object::new(),
        params: Object::new(),
        inputs: PutInputs::Detect,
        tags: Vec::new(),
        timeout: None,
    };
    let put = Plan { id: id.child(1), kind: PlanKind::Put(put) };
    let get = get(name, VersionSource::From(put.id.clone()));
    (put, Plan { id: id.child(2), kind: PlanKind::Get(get) })
}

/// The names of a plan's steps and timers.
#[derive(Debug, Default)]
pub struct Names {
    timers: usize,
    ids: BTreeMap<String, PlanId>,
    names: BTreeMap<PlanId, String>,
}

impl Names {
    fn add(&mut self, name: String, id: PlanId) {
        let before = self.ids.insert(name.clone(), id.clone());
        assert!(before.is_none(), "two nodes are called {name}");
        self.names.insert(id, name);
    }

    pub fn id(&self, name: &str) -> PlanId {
        self.ids.get(name).unwrap_or_else(|| panic!("no node is called {name}")).clone()
    }

    pub fn name(&self, id: &PlanId) -> &str {
        &self.names[id]
    }
}

/// One node from the front of a text, and what is left.
fn parse(text: &str) -> (Shape, &str) {
    let end = text.find(['(', ')', ' ']).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let Some(mut rest) = rest.strip_prefix('(') else {
        assert!(!word.is_empty(), "a node is missing before `{rest}`");
        let shape = match word.split_once(':') {
            Some(("put", name)) => Shape::Put(name.to_owned()),
            Some((kind, name)) => {
                let kind = OTHERS.into_iter().find(|other| *other == kind).expect("a kind of step");
                Shape::Other(kind, name.to_owned())
            }
            None => Shape::Step(word.to_owned()),
        };
        return (shape, rest);
    };
    let mut steps = Vec::new();
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix(')') {
            return (node(word, steps), after);
        }
        let (step, after) = parse(rest);
        steps.push(step);
        rest = after;
    }
}

fn node(word: &str, mut steps: Vec<Shape>) -> Shape {
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("`{text}` in `{word}` is no number"));
    if let Some((_, hook)) = HOOKS.into_iter().find(|(name, _)| *name == word) {
        let (after, step) = (steps.pop().expect("a hook"), steps.pop().expect("a step"));
        assert!(steps.is_empty(), "{word} has more than a step and a hook");
        return Shape::Hook(hook, Box::new(step), Box::new(after));
    }
    match word {
        "do" => Shape::Do(steps),
        "retry" => Shape::Retry(steps),
        "try" => Shape::Try(Box::new(steps.pop().expect("a step"))),
        _ => {
            if let Some(span) = word.strip_prefix("timeout") {
                return Shape::Timeout(number(span), Box::new(steps.pop().expect("a step")));
            }
            let limit = word.strip_prefix("par").unwrap_or_else(|| panic!("no node is written `{word}`"));
            let (limit, fail_fast) = limit.strip_suffix('!').map_or((limit, false), |limit| (limit, true));
            let limit = if limit.is_empty() { 0 } else { u32::try_from(number(limit)).expect("a limit") };
            Shape::Par { limit, fail_fast, steps }
        }
    }
}
