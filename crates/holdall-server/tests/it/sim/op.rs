//! What happens in a history: one operation a line, as `rollback production suspect=all here-only`. Bags and versions are
//! named from the newest backwards (`~0`), builds by environment and job (the newest), so that a line means something
//! whatever was taken out before it.

use std::fmt;
use std::str::FromStr;

use holdall_store::testing::Fault;

/// From how many seconds on the clock is set ahead, rather than that time passes.
pub const SET_AHEAD: i64 = 3600;

/// How a step ends.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Ok,
    Fail,
    Error,
    Signal,
    TimeOut,
    /// Nobody knows.
    Lost,
    /// It does not.
    Runs,
}

/// How a report goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Once,
    /// The same report arrives a second time.
    Twice,
    /// The server has it and its answer is lost.
    Unanswered,
}

/// A change of the system file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A third service, or none.
    Web(bool),
    /// No environment `qa`, one between preview and staging, or one beside staging.
    Qa(Qa),
    /// Staging takes every bag in order, or the newest.
    Queue(bool),
    /// Only a person starts bags in production.
    Manual(bool),
    /// A suite of staging has a job of its own.
    OwnJob(bool),
    /// Production is there.
    Production(bool),
    /// Plans have hooks.
    Hooks(bool),
    /// Deploys, tests and single steps have a time by which they must have ended.
    Limits(bool),
    /// A step that deploys is tried twice.
    Attempts(bool),
    /// A job of staging runs on a clock.
    Clock(bool),
    /// Another pipeline may take locks.
    Allow(bool),
}

/// Where the environment `qa` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qa {
    Nowhere,
    Between,
    Beside,
}

/// One thing that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// A new version of a service; `quiet`: no webhook tells of it.
    Push {
        service: String,
        quiet: bool,
    },
    /// A service's source cannot be checked any more, or can again.
    Source {
        service: String,
        broken: bool,
    },
    /// The duties and all workers go on: so many rounds, or until nothing moves.
    Work {
        rounds: Option<u32>,
    },
    /// From now on [`Op::Work`] lets steps in `environment/job` end like that.
    Fate {
        place: String,
        how: How,
    },
    /// A worker asks for orders; `lost`: the answer does not arrive.
    Poll {
        worker: String,
        lost: bool,
    },
    /// The oldest step that runs on a worker ends.
    End {
        worker: String,
        how: How,
    },
    Report {
        worker: String,
        way: Way,
    },
    /// A worker starts anew; `empty`: without what was on its disk.
    Restart {
        worker: String,
        empty: bool,
    },
    Pin {
        service: String,
        back: usize,
        seconds: Option<i64>,
    },
    Unpin {
        service: String,
    },
    Untick {
        service: String,
        back: usize,
        and_bags: bool,
    },
    Tick {
        service: String,
        back: usize,
    },
    UntickBag {
        back: usize,
        environment: Option<String>,
        seconds: Option<i64>,
    },
    TickBag {
        back: usize,
        environment: Option<String>,
    },
    Assemble {
        back: usize,
        service: String,
        version: usize,
    },
    Freeze {
        environment: String,
        back: Option<usize>,
        deploy: bool,
        seconds: Option<i64>,
    },
    Unfreeze {
        environment: String,
    },
    Deploy {
        environment: String,
        back: usize,
        take_over: bool,
    },
    RollBack {
        environment: String,
        back: Option<usize>,
        suspects: String,
        and_untick: bool,
        here_only: bool,
    },
    ClearSuspect {
        environment: String,
        service: String,
    },
    Trigger {
        environment: String,
        job: String,
    },
    /// `job` `*`: the whole pipeline.
    Pause {
        environment: String,
        job: String,
        paused: bool,
    },
    Abort {
        environment: String,
        job: String,
        force: bool,
        /// Whether the worker is said to be dead.
        dead: bool,
    },
    Rerun {
        environment: String,
        job: String,
    },
    Unlock {
        environment: String,
        abort_running: bool,
        dead: bool,
        start: bool,
    },
    Acquire {
        person: String,
        environment: String,
        wait: bool,
        shared: bool,
        seconds: Option<i64>,
    },
    /// A person who waits asks again, one who holds asks for more time.
    Renew {
        person: String,
        environment: String,
    },
    Release {
        person: String,
        environment: String,
    },
    Set {
        change: Change,
        now: bool,
    },
    /// Time passes, or the clock is set back; or it is set ahead, by an hour or more.
    Clock {
        seconds: i64,
    },
    /// The duties do nothing until [`Op::Go`], or until the server starts anew.
    Stall,
    Go,
    /// The server dies and another one starts.
    Crash,
    /// One of the next transactions goes wrong.
    Fault {
        after: usize,
        fault: Fault,
    },
}

/// Words with their names, both ways.
macro_rules! words {
    ($type:ty { $($value:pat = $word:literal),* $(,)? } $($make:expr),* $(,)?) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($value => $word),* })
            }
        }

        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                [$($make),*].into_iter().find(|made| made.to_string() == text).ok_or_else(|| format!("what is {text:?}?"))
            }
        }
    };
}

words!(How {
    How::Ok = "ok",
    How::Fail = "fail",
    How::Error = "error",
    How::Signal = "signal",
    How::TimeOut = "time-out",
    How::Lost = "lost",
    How::Runs = "runs",
} How::Ok, How::Fail, How::Error, How::Signal, How::TimeOut, How::Lost, How::Runs);

words!(Way {
    Way::Once = "once",
    Way::Twice = "twice",
    Way::Unanswered = "unanswered",
} Way::Once, Way::Twice, Way::Unanswered);

words!(Change {
    Change::Web(true) = "web",
    Change::Web(false) = "no-web",
    Change::Qa(Qa::Nowhere) = "no-qa",
    Change::Qa(Qa::Between) = "qa-between",
    Change::Qa(Qa::Beside) = "qa-beside",
    Change::Queue(true) = "queue",
    Change::Queue(false) = "latest",
    Change::Manual(true) = "manual",
    Change::Manual(false) = "automatic",
    Change::OwnJob(true) = "own-job",
    Change::OwnJob(false) = "no-own-job",
    Change::Production(true) = "production",
    Change::Production(false) = "no-production",
    Change::Hooks(true) = "hooks",
    Change::Hooks(false) = "no-hooks",
    Change::Limits(true) = "limits",
    Change::Limits(false) = "no-limits",
    Change::Attempts(true) = "attempts",
    Change::Attempts(false) = "no-attempts",
    Change::Clock(true) = "clock",
    Change::Clock(false) = "no-clock",
    Change::Allow(true) = "allow",
    Change::Allow(false) = "no-allow",
} Change::Web(true), Change::Web(false), Change::Qa(Qa::Nowhere), Change::Qa(Qa::Between), Change::Qa(Qa::Beside),
    Change::Queue(true), Change::Queue(false), Change::Manual(true), Change::Manual(false), Change::OwnJob(true),
    Change::OwnJob(false), Change::Production(true), Change::Production(false), Change::Hooks(true), Change::Hooks(false),
    Change::Limits(true), Change::Limits(false), Change::Attempts(true), Change::Attempts(false), Change::Clock(true),
    Change::Clock(false), Change::Allow(true), Change::Allow(false));

/// A line as it is built up.
struct Line(String);

impl Line {
    fn word(mut self, word: impl fmt::Display) -> Line {
        self.0.push(' ');
        self.0.push_str(&word.to_string());
        self
    }

    fn back(self, back: usize) -> Line {
        self.word(format_args!("~{back}"))
    }

    fn flag(self, name: &str, set: bool) -> Line {
        if set { self.word(name) } else { self }
    }

    fn seconds(self, seconds: Option<i64>) -> Line {
        match seconds {
            Some(seconds) => self.word(format_args!("for={seconds}")),
            None => self,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |verb: &str| Line(verb.to_owned());
        let line = match self {
            Op::Push { service, quiet } => line("push").word(service).flag("quiet", *quiet),
            Op::Source { service, broken } => line("source").word(service).word(if *broken { "broken" } else { "ok" }),
            Op::Work { rounds: None } => line("work"),
            Op::Work { rounds: Some(rounds) } => line("work").word(rounds),
            Op::Fate { place, how } => line("fate").word(place).word(how),
            Op::Poll { worker, lost } => line("poll").word(worker).flag("lost", *lost),
            Op::End { worker, how } => line("end").word(worker).word(how),
            Op::Report { worker, way } => line("report").word(worker).word(way),
            Op::Restart { worker, empty } => line("restart").word(worker).flag("empty", *empty),
            Op::Pin { service, back, seconds } => line("pin").word(service).back(*back).seconds(*seconds),
            Op::Unpin { service } => line("unpin").word(service),
            Op::Untick { service, back, and_bags } => {
                line("untick").word(service).back(*back).flag("and-bags", *and_bags)
            }
            Op::Tick { service, back } => line("tick").word(service).back(*back),
            Op::UntickBag { back, environment, seconds } => {
                line("untick-bag").back(*back).word(environment.as_deref().unwrap_or("*")).seconds(*seconds)
            }
            Op::TickBag { back, environment } => {
                line("tick-bag").back(*back).word(environment.as_deref().unwrap_or("*"))
            }
            Op::Assemble { back, service, version } => line("assemble").back(*back).word(service).back(*version),
            Op::Freeze { environment, back, deploy, seconds } => {
                let line = line("freeze").word(environment);
                match back {
                    Some(back) => line.back(*back),
                    None => line.word("here"),
                }
                .flag("deploy", *deploy)
                .seconds(*seconds)
            }
            Op::Unfreeze { environment } => line("unfreeze").word(environment),
            Op::Deploy { environment, back, take_over } => {
                line("deploy").word(environment).back(*back).flag("take-over", *take_over)
            }
            Op::RollBack { environment, back, suspects, and_untick, here_only } => {
                let line = line("rollback").word(environment);
                match back {
                    Some(back) => line.back(*back),
                    None => line.word("before"),
                }
                .word(suspects)
                .flag("and-untick", *and_untick)
                .flag("here-only", *here_only)
            }
            Op::ClearSuspect { environment, service } => line("clear").word(environment).word(service),
            Op::Trigger { environment, job } => line("trigger").word(environment).word(job),
            Op::Pause { environment, job, paused } => {
                line(if *paused { "pause" } else { "unpause" }).word(environment).word(job)
            }
            Op::Abort { environment, job, force, dead } => {
                line("abort").word(environment).word(job).flag("force", *force).flag("dead", *dead)
            }
            Op::Rerun { environment, job } => line("rerun").word(environment).word(job),
            Op::Unlock { environment, abort_running, dead, start } => line("unlock")
                .word(environment)
                .flag("abort-running", *abort_running)
                .flag("dead", *dead)
                .flag("start", *start),
            Op::Acquire { person, environment, wait, shared, seconds } => line("acquire")
                .word(person)
                .word(environment)
                .flag("wait", *wait)
                .flag("shared", *shared)
                .seconds(*seconds),
            Op::Renew { person, environment } => line("renew").word(person).word(environment),
            Op::Release { person, environment } => line("release").word(person).word(environment),
            Op::Set { change, now } => line("set").word(change).flag("now", *now),
            Op::Clock { seconds } => line("clock").word(format_args!("{seconds:+}")),
            Op::Stall => line("stall"),
            Op::Go => line("go"),
            Op::Crash => line("crash"),
            Op::Fault { after, fault } => match fault {
                Fault::Statement(n) => line("fault").word(after).word("statement").word(n),
                Fault::Commit => line("fault").word(after).word("commit"),
                Fault::Answer => line("fault").word(after).word("answer"),
                Fault::Read(n) => line("fault").word(after).word("read").word(n),
            },
        };
        f.write_str(&line.0)
    }
}

fn back(word: &str) -> Result<usize, String> {
    let number = word.strip_prefix('~').and_then(|number| number.parse().ok());
    number.ok_or_else(|| format!("{word:?} is not like ~0"))
}

fn number<T: FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("{word:?} is no number"))
}

impl FromStr for Op {
    type Err = String;

    fn from_str(text: &str) -> Result<Op, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let flag = |name: &str| words.contains(&name);
        let seconds = || words.iter().find_map(|word| word.strip_prefix("for=")).map(number::<i64>).transpose();
        let some = |word: &str| (word != "*").then(|| word.to_owned());
        let own = |word: &str| word.to_owned();
        Ok(match words[..] {
            ["push", service, ..] => Op::Push { service: own(service), quiet: flag("quiet") },
            ["source", service, state] => Op::Source { service: own(service), broken: state == "broken" },
            ["work"] => Op::Work { rounds: None },
            ["work", rounds] => Op::Work { rounds: Some(number(rounds)?) },
            ["fate", place, how] => Op::Fate { place: own(place), how: how.parse()? },
            ["poll", worker, ..] => Op::Poll { worker: own(worker), lost: flag("lost") },
            ["end", worker, how] => Op::End { worker: own(worker), how: how.parse()? },
            ["report", worker, way] => Op::Report { worker: own(worker), way: way.parse()? },
            ["restart", worker, ..] => Op::Restart { worker: own(worker), empty: flag("empty") },
            ["pin", service, at, ..] => Op::Pin { service: own(service), back: back(at)?, seconds: seconds()? },
            ["unpin", service] => Op::Unpin { service: own(service) },
            ["untick", service, at, ..] => {
                Op::Untick { service: own(service), back: back(at)?, and_bags: flag("and-bags") }
            }
            ["tick", service, at] => Op::Tick { service: own(service), back: back(at)? },
            ["untick-bag", at, environment, ..] => {
                Op::UntickBag { back: back(at)?, environment: some(environment), seconds: seconds()? }
            }
            ["tick-bag", at, environment] => Op::TickBag { back: back(at)?, environment: some(environment) },
            ["assemble", at, service, version] => {
                Op::Assemble { back: back(at)?, service: own(service), version: back(version)? }
            }
            ["freeze", environment, at, ..] => Op::Freeze {
                environment: own(environment),
                back: if at == "here" { None } else { Some(back(at)?) },
                deploy: flag("deploy"),
                seconds: seconds()?,
            },
            ["unfreeze", environment] => Op::Unfreeze { environment: own(environment) },
            ["deploy", environment, at, ..] => {
                Op::Deploy { environment: own(environment), back: back(at)?, take_over: flag("take-over") }
            }
            ["rollback", environment, at, suspects, ..] => Op::RollBack {
                environment: own(environment),
                back: if at == "before" { None } else { Some(back(at)?) },
                suspects: own(suspects),
                and_untick: flag("and-untick"),
                here_only: flag("here-only"),
            },
            ["clear", environment, service] => {
                Op::ClearSuspect { environment: own(environment), service: own(service) }
            }
            ["trigger", environment, job] => Op::Trigger { environment: own(environment), job: own(job) },
            [verb @ ("pause" | "unpause"), environment, job] => {
                Op::Pause { environment: own(environment), job: own(job), paused: verb == "pause" }
            }
            ["abort", environment, job, ..] => {
                Op::Abort { environment: own(environment), job: own(job), force: flag("force"), dead: flag("dead") }
            }
            ["rerun", environment, job] => Op::Rerun { environment: own(environment), job: own(job) },
            ["unlock", environment, ..] => Op::Unlock {
                environment: own(environment),
                abort_running: flag("abort-running"),
                dead: flag("dead"),
                start: flag("start"),
            },
            ["acquire", person, environment, ..] => Op::Acquire {
                person: own(person),
                environment: own(environment),
                wait: flag("wait"),
                shared: flag("shared"),
                seconds: seconds()?,
            },
            ["renew", person, environment] => Op::Renew { person: own(person), environment: own(environment) },
            ["release", person, environment] => Op::Release { person: own(person), environment: own(environment) },
            ["set", change, ..] => Op::Set { change: change.parse()?, now: flag("now") },
            ["clock", seconds] => Op::Clock { seconds: number(seconds)? },
            ["stall"] => Op::Stall,
            ["go"] => Op::Go,
            ["crash"] => Op::Crash,
            ["fault", after, "statement", n] => {
                Op::Fault { after: number(after)?, fault: Fault::Statement(number(n)?) }
            }
            ["fault", after, "read", n] => Op::Fault { after: number(after)?, fault: Fault::Read(number(n)?) },
            ["fault", after, "commit"] => Op::Fault { after: number(after)?, fault: Fault::Commit },
            ["fault", after, "answer"] => Op::Fault { after: number(after)?, fault: Fault::Answer },
            _ => return Err(format!("what is {text:?}?")),
        })
    }
}

/// Reads a plan: one operation a line, `#` begins a comment.
pub fn read_plan(text: &str) -> Result<Vec<Op>, String> {
    text.lines()
        .map(|line| line.split('#').next().unwrap_or("").trim())
        .filter(|line| !line.is_empty())
        .map(str::parse)
        .collect()
}

/// The plan as [`read_plan`] reads it.
pub fn write_plan(ops: &[Op]) -> String {
    ops.iter().map(|op| format!("{op}\n")).collect()
}
