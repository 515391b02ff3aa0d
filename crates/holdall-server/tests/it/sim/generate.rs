//! Histories by chance: the same seed gives the same history.

use holdall_store::testing::Fault;

use super::op::{Change, How, Op, Qa, SET_AHEAD, Way};
use super::system::TOOLS;

/// A sequence of numbers that looks like chance (splitmix64).
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below another.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("it is below a usize")
    }

    /// Whether something happens that happens so many times in a hundred.
    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    /// Small numbers more often than large ones.
    fn back(&mut self) -> usize {
        let wide = self.below(4) + 1;
        self.below(wide)
    }

    fn maybe<T>(&mut self, percent: usize, make: impl FnOnce(&mut Chance) -> T) -> Option<T> {
        self.percent(percent).then(|| make(self))
    }
}

const ENVIRONMENTS: &[&str] = &["preview", "staging", "staging", "production", "production", "qa"];
const SERVICES: &[&str] = &["api", "api", "admin", "admin", "web"];
const JOBS: &[&str] = &[
    "pack-bag",
    "start-deploy",
    "start-deploy",
    "deploy",
    "deploy",
    "deploy-apply",
    "test",
    "test",
    "test-providers",
    "signal-deploy-completion",
    "watch",
    "force-unlock-pipeline",
];
const TOOL_JOBS: &[&str] = &["load", "drill"];
const WORKERS: &[&str] = &["w1", "w2"];
const PEOPLE: &[&str] = &["ann", "bob"];
const PLACES: &[&str] = &[
    "preview/deploy",
    "preview/test",
    "staging/deploy",
    "staging/test",
    "production/deploy",
    "production/test",
    "qa",
    "tools",
];

/// The history of a seed.
pub fn history(seed: u64) -> Vec<Op> {
    let mut chance = Chance::new(seed);
    let length = 40 + chance.below(70);
    // Some histories are about people, some about faults, most about both.
    let faults = [0, 1, 3, 8][chance.below(4)];
    let mut ops: Vec<Op> =
        ["api", "admin"].map(|service| Op::Push { service: service.to_owned(), quiet: false }).into();
    ops.push(Op::Work { rounds: None });
    let more =
        [Change::Hooks, Change::Limits, Change::Attempts, Change::Clock, Change::Allow].map(|change| change(true));
    for change in more {
        if chance.percent(50) {
            ops.push(Op::Set { change, now: chance.percent(50) });
        }
    }
    while ops.len() < length {
        let op = if chance.percent(faults) { fault(&mut chance) } else { op(&mut chance) };
        ops.push(op);
    }
    ops
}

fn fault(chance: &mut Chance) -> Op {
    match chance.below(5) {
        0 => Op::Crash,
        kind => Op::Fault {
            after: chance.back(),
            fault: match kind {
                1 => Fault::Statement(u32::try_from(chance.below(120)).expect("it is small")),
                2 => Fault::Commit,
                3 => Fault::Read(u32::try_from(chance.below(6)).expect("it is small")),
                _ => Fault::Answer,
            },
        },
    }
}

fn op(chance: &mut Chance) -> Op {
    match chance.below(100) {
        0..14 => Op::Push { service: chance.one(SERVICES).to_owned(), quiet: chance.percent(10) },
        14..28 => Op::Work { rounds: None },
        28..40 => Op::Work { rounds: Some(u32::try_from(chance.below(4) + 1).expect("it is small")) },
        40..46 => Op::Fate { place: chance.one(PLACES).to_owned(), how: fate(chance) },
        46..58 => of_workers(chance),
        58..74 => of_releases(chance),
        74..84 => of_choices(chance),
        84..91 => of_locks(chance),
        91..95 => of_time(chance),
        95..98 => Op::Set { change: change(chance), now: chance.percent(30) },
        _ => Op::Source { service: chance.one(SERVICES).to_owned(), broken: chance.percent(50) },
    }
}

fn fate(chance: &mut Chance) -> How {
    match chance.below(10) {
        0..4 => How::Ok,
        4..7 => How::Fail,
        7 => How::Lost,
        _ => How::Runs,
    }
}

fn of_workers(chance: &mut Chance) -> Op {
    let worker = chance.one(WORKERS).to_owned();
    match chance.below(10) {
        0..3 => Op::Poll { worker, lost: chance.percent(25) },
        3..6 => {
            let how = [How::Ok, How::Ok, How::Ok, How::Fail, How::Error, How::Signal, How::TimeOut, How::Lost];
            Op::End { worker, how: how[chance.below(how.len())] }
        }
        6..9 => Op::Report { worker, way: [Way::Once, Way::Once, Way::Twice, Way::Unanswered][chance.below(4)] },
        _ => Op::Restart { worker, empty: chance.percent(30) },
    }
}

fn of_releases(chance: &mut Chance) -> Op {
    let environment = chance.one(ENVIRONMENTS).to_owned();
    match chance.below(16) {
        0..2 => Op::Deploy { environment, back: chance.back(), take_over: chance.percent(50) },
        2..4 => Op::RollBack {
            environment,
            back: chance.maybe(40, Chance::back),
            suspects: chance.one(&["suspect=all", "suspect=all", "suspect=none", "suspect=api"]).to_owned(),
            and_untick: chance.percent(20),
            here_only: chance.percent(20),
        },
        4 => Op::ClearSuspect { environment, service: chance.one(SERVICES).to_owned() },
        5 => Op::Freeze {
            environment,
            back: chance.maybe(30, Chance::back),
            deploy: chance.percent(20),
            seconds: chance.maybe(30, |_| 300),
        },
        6 => Op::Unfreeze { environment },
        7 => Op::Abort {
            environment,
            job: chance.one(JOBS).to_owned(),
            force: chance.percent(70),
            dead: chance.percent(30),
        },
        8..11 => Op::Rerun { environment, job: chance.one(JOBS).to_owned() },
        11..13 => Op::Trigger { environment, job: chance.one(JOBS).to_owned() },
        13 => {
            let job = if chance.percent(20) { "*" } else { chance.one(JOBS) };
            Op::Pause { environment, job: job.to_owned(), paused: chance.percent(50) }
        }
        _ => Op::Unlock {
            environment,
            abort_running: chance.percent(40),
            dead: chance.percent(20),
            start: chance.percent(40),
        },
    }
}

fn of_choices(chance: &mut Chance) -> Op {
    let service = chance.one(SERVICES).to_owned();
    match chance.below(10) {
        0 => Op::Pin { service, back: chance.back(), seconds: chance.maybe(30, |_| 200) },
        1..3 => Op::Unpin { service },
        3 => Op::Untick { service, back: chance.back(), and_bags: chance.percent(30) },
        4..6 => Op::Tick { service, back: chance.back() },
        6..8 => {
            let environment = chance.maybe(70, |chance| chance.one(ENVIRONMENTS).to_owned());
            Op::UntickBag { back: chance.back(), environment, seconds: chance.maybe(20, |_| 100) }
        }
        8 => {
            let environment = chance.maybe(70, |chance| chance.one(ENVIRONMENTS).to_owned());
            Op::TickBag { back: chance.back(), environment }
        }
        _ => Op::Assemble { back: chance.back(), service, version: chance.back() },
    }
}

fn of_locks(chance: &mut Chance) -> Op {
    let (person, environment) = (chance.one(PEOPLE).to_owned(), chance.one(ENVIRONMENTS).to_owned());
    match chance.below(8) {
        6 => Op::Trigger { environment: TOOLS.to_owned(), job: chance.one(TOOL_JOBS).to_owned() },
        7 => {
            Op::Abort { environment: TOOLS.to_owned(), job: chance.one(TOOL_JOBS).to_owned(), force: true, dead: false }
        }
        0..3 => Op::Acquire {
            person,
            environment,
            wait: chance.percent(60),
            shared: chance.percent(30),
            seconds: chance.maybe(60, |_| 120),
        },
        3 => Op::Renew { person, environment },
        _ => Op::Release { person, environment },
    }
}

fn of_time(chance: &mut Chance) -> Op {
    match chance.below(8) {
        0 => Op::Clock { seconds: -i64::try_from(chance.below(3600)).expect("it is small") },
        1 => Op::Stall,
        2 => Op::Go,
        3 => Op::Clock { seconds: 1 },
        _ => Op::Clock { seconds: [5, 20, 40, 90, 400, SET_AHEAD][chance.below(6)] },
    }
}

fn change(chance: &mut Chance) -> Change {
    match chance.below(13) {
        12 => Change::Attempts(chance.percent(60)),
        8 => Change::Hooks(chance.percent(60)),
        9 => Change::Limits(chance.percent(60)),
        10 => Change::Clock(chance.percent(60)),
        11 => Change::Allow(chance.percent(60)),
        0 => Change::Web(chance.percent(60)),
        1 => Change::Queue(chance.percent(50)),
        2 => Change::Manual(chance.percent(50)),
        3 => Change::OwnJob(chance.percent(50)),
        4 => Change::Production(chance.percent(70)),
        _ => Change::Qa([Qa::Nowhere, Qa::Between, Qa::Beside][chance.below(3)]),
    }
}
