//! A worker that keeps to the protocol and starts no processes: it has a disk, it loses answers, it reports late and
//! twice.

use std::collections::BTreeMap;

use holdall_engine::time::{Span, Timestamp};
use holdall_engine::version::Version;
use holdall_protocol::worker::{
    Assignment, CheckOrder, Ending, Fact, Forgot, HeldAttempt, Hello, History, Orders, Poll, Report, ReportAnswer,
    ResourceResult, StepSpec, Stream, Welcome,
};

use super::op::How;

/// What every step prints.
const OUTPUT: &[u8] = b"one line\n";

pub struct Worker {
    pub name: String,
    /// How much its clock is ahead of the server's.
    skew: Span,
    session: u32,
    /// Seconds that have passed, whatever any clock says.
    pub passed: i64,
    /// Whether it has to say hello before it polls.
    pub greets: bool,
    /// What is on its disk, by attempt.
    disk: BTreeMap<String, Held>,
    /// Checks that were made, as they are reported.
    checked: Vec<Fact>,
    /// In which order attempts came.
    came: u64,
    /// How far the server's history went when it last said so.
    history: Option<History>,
    /// Why it may have had more than is on its disk.
    forgot: Option<Forgot>,
}

struct Held {
    assignment: Assignment,
    came: u64,
    /// When it must have ended, in seconds that have passed.
    until: Option<i64>,
    ending: Option<Ending>,
    told_start: bool,
    told_bytes: u64,
    told_end: bool,
}

impl Worker {
    pub fn new(name: &str, skew: Span) -> Worker {
        Worker {
            name: name.to_owned(),
            skew,
            session: 1,
            passed: 0,
            greets: true,
            disk: BTreeMap::new(),
            checked: Vec::new(),
            came: 0,
            history: None,
            forgot: Some(Forgot::NewFolder),
        }
    }

    /// The process starts anew, with or without what was on its disk.
    pub fn restart(&mut self, empty: bool) {
        self.session += 1;
        self.greets = true;
        self.checked.clear();
        if empty {
            self.history = None;
            self.forgot = Some(Forgot::NewFolder);
            self.disk.clear();
        }
        for held in self.disk.values_mut() {
            held.told_start = false;
            held.told_end = false;
        }
    }

    pub fn hello(&self) -> Hello {
        let held =
            |(attempt, held): (&String, &Held)| HeldAttempt { attempt: attempt.clone(), fence: held.assignment.fence };
        Hello {
            name: self.name.clone(),
            session: self.session.to_string(),
            platform: "linux".to_owned(),
            tags: Vec::new(),
            team: None,
            slots: 4,
            version: "0".to_owned(),
            attempts: self.disk.iter().map(held).collect(),
            history: self.history.clone(),
            builds: Vec::new(),
            forgot: self.forgot,
        }
    }

    pub fn welcomed(&mut self, welcome: &Welcome) {
        self.greets = false;
        self.forgot = None;
        self.history = welcome.history.clone().or(self.history.take());
        // What is not wanted any more is stopped and removed.
        self.disk.retain(|attempt, _| welcome.resume.contains_key(attempt));
        for (attempt, held) in &mut self.disk {
            held.told_bytes = welcome.resume[attempt];
        }
    }

    pub fn poll(&self) -> Poll {
        let busy = self.disk.values().filter(|held| held.ending.is_none()).count();
        Poll {
            name: self.name.clone(),
            session: self.session.to_string(),
            free_slots: 4_u32.saturating_sub(u32::try_from(busy).expect("it is small")),
            running: self.disk.keys().cloned().collect(),
        }
    }

    /// Does what it is told; gives the attempts that start.
    pub fn follow(
        &mut self,
        orders: Orders,
        versions: &dyn Fn(&CheckOrder) -> Result<Vec<Version>, String>,
        now: Timestamp,
    ) -> Vec<Assignment> {
        self.history = orders.history.or(self.history.take());
        let mut started = Vec::new();
        for assignment in orders.start {
            if self.disk.contains_key(&assignment.attempt) {
                continue;
            }
            self.came += 1;
            let held = Held {
                assignment: assignment.clone(),
                came: self.came,
                until: assignment.timeout_seconds.map(|limit| self.passed + limit.ceil() as i64),
                ending: None,
                told_start: false,
                told_bytes: 0,
                told_end: false,
            };
            self.disk.insert(assignment.attempt.clone(), held);
            started.push(assignment);
        }
        for stop in orders.stop {
            if let Some(held) = self.disk.get_mut(&stop.attempt) {
                held.ending.get_or_insert(Ending::Stopped { killed: false });
            }
        }
        for attempt in orders.forget {
            self.disk.remove(&attempt);
        }
        for order in orders.checks {
            let result = versions(&order).map(|found| found.into_iter().map(|version| version.0).collect());
            let at = (now + self.skew).0;
            self.checked.push(Fact::Checked { check: order.check, at, result, metadata: Vec::new() });
        }
        started
    }

    /// Time has passed: the shims end what has run for too long.
    pub fn pass(&mut self, passed: i64) {
        self.passed = passed;
        for held in self.disk.values_mut().filter(|held| held.until.is_some_and(|until| until <= passed)) {
            held.ending.get_or_insert(Ending::TimedOut);
        }
    }

    /// The attempts that run, oldest first.
    pub fn running(&self) -> Vec<Assignment> {
        let mut running: Vec<&Held> = self.disk.values().filter(|held| held.ending.is_none()).collect();
        running.sort_by_key(|held| held.came);
        running.into_iter().map(|held| held.assignment.clone()).collect()
    }

    /// Lets an attempt end.
    pub fn end(&mut self, attempt: &str, how: How) {
        let Some(held) = self.disk.get_mut(attempt).filter(|held| held.ending.is_none()) else { return };
        let exited = |status, result| Ending::Exited { status, result, artifacts: Vec::new() };
        held.ending = match how {
            How::Ok => Some(exited(0, result(&held.assignment))),
            How::Fail => Some(exited(1, None)),
            How::Error => Some(Ending::CouldNotRun { message: "there is no such file".to_owned() }),
            How::Signal => Some(Ending::Signalled { signal: 9 }),
            How::TimeOut => Some(Ending::TimedOut),
            How::Lost => Some(Ending::Lost { message: "its shim is gone".to_owned() }),
            How::Runs => None,
        };
    }

    /// What the server has not confirmed; `None`: it has confirmed everything.
    pub fn report(&self, now: Timestamp) -> Option<Report> {
        let mut facts = self.checked.clone();
        let mut held: Vec<&Held> = self.disk.values().collect();
        held.sort_by_key(|held| held.came);
        for held in held {
            let (attempt, fence, at) = (held.assignment.attempt.clone(), held.assignment.fence, (now + self.skew).0);
            if !held.told_start {
                facts.push(Fact::Started { attempt: attempt.clone(), fence, at });
            }
            let told = usize::try_from(held.told_bytes).expect("it is small");
            if told < OUTPUT.len() {
                let bytes = OUTPUT[told..].to_vec();
                let offset = held.told_bytes;
                facts.push(Fact::Output { attempt: attempt.clone(), fence, offset, at, stream: Stream::Stdout, bytes });
            }
            if let (Some(ending), false) = (&held.ending, held.told_end) {
                facts.push(Fact::Finished { attempt, fence, at, ending: ending.clone() });
            }
        }
        let report = Report { name: self.name.clone(), session: self.session.to_string(), facts };
        (!report.facts.is_empty()).then_some(report)
    }

    /// The server has confirmed a report.
    pub fn confirmed(&mut self, report: &Report, answer: &ReportAnswer) {
        for fact in &report.facts {
            match fact {
                Fact::Checked { .. } => self.checked.retain(|other| other != fact),
                Fact::Started { attempt, .. } => self.with(attempt, |held| held.told_start = true),
                Fact::Output { attempt, .. } => self.with(attempt, |held| held.told_bytes = OUTPUT.len() as u64),
                Fact::Finished { attempt, .. } => self.with(attempt, |held| held.told_end = true),
            }
        }
        for attempt in &answer.refused {
            self.disk.remove(attempt);
        }
    }

    fn with(&mut self, attempt: &str, change: impl FnOnce(&mut Held)) {
        if let Some(held) = self.disk.get_mut(attempt) {
            change(held);
        }
    }
}

fn result(assignment: &Assignment) -> Option<ResourceResult> {
    match &assignment.spec {
        StepSpec::Get { version, .. } => Some(ResourceResult { version: version.clone(), metadata: Vec::new() }),
        StepSpec::Put { .. } => Some(ResourceResult { version: Version::of("version", "put").0, metadata: Vec::new() }),
        StepSpec::Task { .. } | StepSpec::Files { .. } => None,
    }
}
