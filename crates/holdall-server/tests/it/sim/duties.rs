//! The duties, as the server runs them: woken by signals, by what falls due, and now and then in any case.

use holdall_engine::time::Timestamp;
use holdall_server::duty::{schedule, timekeeper, watcher};
use holdall_store::{Store, checks};
use tokio::sync::watch;

use super::play::{Failure, Sim};
use super::rules::Broken;

/// How often a duty looks that nothing wakes, in seconds.
const FALLBACK: i64 = 30;

/// How often a duty tries again in a row.
const MOST_TRIES: u32 = 100;

pub struct Duties {
    schedule: watch::Receiver<u64>,
    timers: watch::Receiver<u64>,
    checks: watch::Receiver<u64>,
    next_timer: Option<Timestamp>,
    /// When it was to be looked who is lost, where something kept everybody from it.
    overdue: Option<Timestamp>,
    next_check: Option<Timestamp>,
    /// When they look in any case, in seconds that have passed.
    in_any_case: i64,
    /// Whether something was written of which nobody was told.
    missed: bool,
}

impl Duties {
    pub fn new(store: &Store) -> Duties {
        let woken = |mut signal: watch::Receiver<u64>| {
            signal.mark_changed();
            signal
        };
        Duties {
            schedule: woken(store.signals().schedule()),
            timers: woken(store.signals().timers()),
            checks: woken(store.signals().checks()),
            next_timer: None,
            overdue: None,
            next_check: None,
            in_any_case: 0,
            missed: false,
        }
    }

    /// Something was written of which nobody was told.
    pub fn nobody_was_woken(&mut self) {
        self.missed = true;
    }

    /// It was to be looked at `due` who is lost, and for a while nobody could be heard.
    pub fn nobody_looked(&mut self, due: Timestamp) {
        self.overdue = self.overdue.or(Some(due));
    }

    pub fn may_have_missed_something(&self) -> bool {
        self.missed
    }

    /// Does what there is to do until nothing is left.
    pub fn go_on(sim: &mut Sim) -> Result<(), Broken> {
        for _ in 0..MOST_TRIES {
            let in_any_case = sim.passed >= sim.duties.in_any_case;
            if in_any_case {
                sim.duties.in_any_case = sim.passed + FALLBACK;
                sim.duties.missed = false;
            }
            let now = sim.now;
            let due = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
            let mut looked = false;
            if in_any_case || sim.duties.schedule.has_changed().unwrap_or(true) {
                looked = true;
                scheduler(sim)?;
            }
            if in_any_case || due(sim.duties.next_timer) || sim.duties.timers.has_changed().unwrap_or(true) {
                looked = true;
                timekeeper(sim)?;
            }
            if in_any_case || due(sim.duties.next_check) || sim.duties.checks.has_changed().unwrap_or(true) {
                looked = true;
                checker(sim)?;
            }
            looked |= watcher(sim)?;
            if !looked {
                return Ok(());
            }
        }
        Err("the duties never come to rest".to_owned())
    }
}

fn scheduler(sim: &mut Sim) -> Result<(), Broken> {
    sim.duties.schedule.borrow_and_update();
    loop {
        match sim.write(|tx, now| Ok(schedule::schedule_some(tx, now)?.1)) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(failure) => {
                sim.duties.schedule.mark_changed();
                return again(failure);
            }
        }
    }
}

fn timekeeper(sim: &mut Sim) -> Result<(), Broken> {
    sim.duties.timers.borrow_and_update();
    let now = sim.now;
    let due = match sim.look_at(|tx| timekeeper::due(tx, now)) {
        Ok(due) => due,
        Err(failure) => {
            sim.duties.timers.mark_changed();
            return again(failure);
        }
    };
    for due in due {
        let happened = sim.write(move |tx, now| Ok(timekeeper::happen(tx, &due, now)?));
        if let Err(failure) = happened {
            sim.duties.timers.mark_changed();
            again(failure)?;
        }
    }
    match sim.look_at(timekeeper::next) {
        Ok(next) => {
            sim.duties.next_timer = next;
            Ok(())
        }
        Err(failure) => {
            sim.duties.timers.mark_changed();
            again(failure)
        }
    }
}

fn checker(sim: &mut Sim) -> Result<(), Broken> {
    sim.duties.checks.borrow_and_update();
    match sim.write(|tx, now| Ok(checks::check_due(tx, now)?)) {
        Ok(next) => {
            sim.duties.next_check = next;
            Ok(())
        }
        Err(failure) => {
            sim.duties.checks.mark_changed();
            again(failure)
        }
    }
}

fn watcher(sim: &mut Sim) -> Result<bool, Broken> {
    let now = sim.now;
    let overdue = sim.duties.overdue;
    match sim.look_at(watcher::next) {
        Ok(next) if overdue.is_none() && next.is_none_or(|next| next >= now) => return Ok(false),
        Ok(_) => {}
        Err(failure) => return again(failure).map(|()| true),
    }
    match sim.write(move |tx, now| Ok(watcher::look(tx, overdue.unwrap_or(now), now)?)) {
        Ok(_) => {
            sim.duties.overdue = None;
            Ok(true)
        }
        Err(failure) => again(failure).map(|()| true),
    }
}

/// A duty that failed on purpose tries again.
fn again(failure: Failure) -> Result<(), Broken> {
    match failure {
        Failure::Fault => Ok(()),
        Failure::Refused(code, message) => Err(format!("a duty was refused: {code}: {message}")),
        Failure::Broken(broken) => Err(broken),
    }
}
