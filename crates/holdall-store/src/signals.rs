//! Wake-ups: what a committed transaction tells the rest of the process. A signal carries no input: whoever is
//! woken looks at the database.

use holdall_engine::ids::BuildId;
use tokio::sync::{broadcast, watch};

/// What a transaction wakes when it commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// A job is marked: the scheduler.
    Schedule,
    /// An attempt was made or is to be stopped: workers that wait for orders.
    Workers,
    /// A check is due or wanted: the checker.
    Checks,
    /// A timer was set: the timekeeper.
    Timers,
    /// A build has a new event: those who watch it.
    Build(BuildId),
    /// Something that the pages show has changed.
    Board,
}

/// Where signals arrive. Subscribe before looking at the database, then nothing is missed.
#[derive(Debug)]
pub struct Signals {
    schedule: watch::Sender<u64>,
    workers: watch::Sender<u64>,
    checks: watch::Sender<u64>,
    timers: watch::Sender<u64>,
    changes: broadcast::Sender<Signal>,
}

impl Signals {
    pub(crate) fn new() -> Signals {
        Signals {
            schedule: watch::Sender::new(0),
            workers: watch::Sender::new(0),
            checks: watch::Sender::new(0),
            timers: watch::Sender::new(0),
            changes: broadcast::Sender::new(4096),
        }
    }

    /// Wakes whom the signal concerns.
    pub fn send(&self, signal: Signal) {
        let bump = |sender: &watch::Sender<u64>| sender.send_modify(|count| *count += 1);
        match signal {
            Signal::Schedule => bump(&self.schedule),
            Signal::Workers => bump(&self.workers),
            Signal::Checks => bump(&self.checks),
            Signal::Timers => bump(&self.timers),
            Signal::Build(_) | Signal::Board => {
                // Nobody listening is fine.
                let _ = self.changes.send(signal);
            }
        }
    }

    /// Wake-ups of the scheduler.
    pub fn schedule(&self) -> watch::Receiver<u64> {
        self.schedule.subscribe()
    }

    /// Wake-ups of workers that wait for orders.
    pub fn workers(&self) -> watch::Receiver<u64> {
        self.workers.subscribe()
    }

    /// Wake-ups of the checker.
    pub fn checks(&self) -> watch::Receiver<u64> {
        self.checks.subscribe()
    }

    /// Wake-ups of the timekeeper.
    pub fn timers(&self) -> watch::Receiver<u64> {
        self.timers.subscribe()
    }

    /// [`Signal::Build`] and [`Signal::Board`], for those who show things. A receiver that lags looks again.
    pub fn changes(&self) -> broadcast::Receiver<Signal> {
        self.changes.subscribe()
    }
}
