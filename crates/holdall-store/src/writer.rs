//! The writer: the one thread that writes. It commits work in groups, counts the commits, and finds out when a database
//! has fewer of them than it has seen.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::watch;

use crate::Database;
use crate::connection::{Connection, Tx};
use crate::epoch::{self, Compared, Loss, Progress};
use crate::error::StoreError;
use crate::queue::{Answer, Queue, Work};
use crate::signals::{Signal, Signals};
use crate::testing::{Fault, Faults};

/// How many pieces of work one commit takes at most: a commit is one wait for the disk, shared by all of them.
const GROUP: usize = 64;

/// What is done about a loss of history, in a transaction of its own.
pub(crate) type OnLoss = Box<dyn Fn(&mut Tx<'_>, Loss) -> Result<(), StoreError> + Send + Sync>;

/// What the writer shares with those who ask it.
pub(crate) struct Shared {
    pub(crate) queue: Queue,
    pub(crate) signals: Signals,
    pub(crate) faults: Faults,
    /// How many steps SQLite has taken in all transactions.
    pub(crate) steps: AtomicU64,
    pub(crate) refusal: Refusal,
    pub(crate) on_loss: OnceLock<OnLoss>,
    /// How many commits the database has, as far as is known.
    pub(crate) commits: watch::Sender<i64>,
}

/// Why the last work was refused that was not answered.
#[derive(Default)]
pub(crate) struct Refusal(Mutex<Option<StoreError>>);

impl Refusal {
    fn set(&self, error: StoreError) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    pub(crate) fn get(&self) -> StoreError {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        known.unwrap_or_else(|| StoreError::Unavailable("the store is closed".to_owned()))
    }
}

/// The writer.
pub(crate) struct Writer {
    place: Database,
    shared: Arc<Shared>,
    connection: Option<Connection>,
    /// What the database has kept for sure. Less is a loss.
    known: Progress,
    /// How many writes were refused since the database was last there.
    refused: usize,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.queue.abandon();
    }
}

impl Writer {
    /// A writer that goes on after `known`.
    pub(crate) fn new(place: Database, shared: Arc<Shared>, connection: Connection, known: Progress) -> Writer {
        Writer { place, shared, connection: Some(connection), known, refused: 0 }
    }

    /// Takes work until the store is dropped.
    pub(crate) fn run(mut self) {
        while let Some(group) = self.shared.queue.take(GROUP) {
            match self.begin() {
                Ok(open) => {
                    if self.refused > 0 {
                        tracing::warn!("the database answers again; {} writes were refused meanwhile", self.refused);
                        self.refused = 0;
                    }
                    self.connection = self.write_group(open, group);
                }
                // The work is dropped unanswered; its askers find why.
                Err(error) => {
                    if self.refused == 0 {
                        tracing::error!("writes are refused until the database can be reached: {error}");
                    }
                    self.refused += group.len();
                    self.shared.refusal.set(error);
                }
            }
        }
    }

    /// Begins a transaction that writes, on another connection where this one is broken.
    fn begin(&mut self) -> Result<Connection, StoreError> {
        if let Some(mut open) = self.connection.take().filter(Connection::is_open)
            && open.begin_write().is_ok()
        {
            return Ok(open);
        }
        let mut open = self.place.connect(false)?;
        open.begin_write()?;
        // It may lead to another database by now: a replica has taken over, or somebody has put back an older state.
        let found = epoch::progress(&mut Tx::new(&mut open))?;
        match self.known.compare(&found) {
            Compared::Whole => self.knows(found),
            Compared::Lost(loss) => {
                self.begin_after(&mut open, loss)?;
                open.begin_write()?;
                let found = epoch::progress(&mut Tx::new(&mut open))?;
                self.knows(found);
            }
            Compared::Another => {
                let why = "the one that is there is another installation's; restart the server if that is meant";
                return Err(StoreError::Unavailable(why.to_owned()));
            }
        }
        Ok(open)
    }

    /// Lets be done what is to be done about a loss, and commits it.
    fn begin_after(&self, open: &mut Connection, loss: Loss) -> Result<(), StoreError> {
        let Some(on_loss) = self.shared.on_loss.get() else {
            return Err(StoreError::Inconsistent(format!("the store knows of {loss}")));
        };
        let mut tx = Tx::new(open);
        let done = std::panic::catch_unwind(AssertUnwindSafe(|| on_loss(&mut tx, loss)));
        done.unwrap_or_else(|_| Err(StoreError::Statement("what is done about a loss panicked".to_owned())))?;
        let signals = std::mem::take(&mut tx.signals);
        open.commit_counted()?;
        self.send(signals);
        Ok(())
    }

    fn knows(&mut self, progress: Progress) {
        self.shared.commits.send_replace(progress.commits);
        self.known = progress;
    }

    fn send(&self, signals: Vec<Signal>) {
        for signal in signals {
            self.shared.signals.send(signal);
        }
    }

    /// Runs a group of work in the transaction that has begun; gives the connection where it is still good.
    fn write_group(&mut self, mut open: Connection, group: Vec<Box<dyn Work>>) -> Option<Connection> {
        let fault = self.shared.faults.take();
        let mut answers: Vec<Answer> = Vec::with_capacity(group.len());
        let mut kept = Vec::new();
        let mut has_written = false;
        let mut broken = None;
        let fuse = match fault {
            Some(Fault::Statement(after)) => Some(after),
            Some(Fault::Commit | Fault::Answer | Fault::Read(_)) | None => None,
        };
        // Reaching the database may have taken so long that nobody waits any more.
        for work in group.into_iter().filter(|work| work.is_wanted()) {
            let mut tx = Tx::with_fuse(&mut open, fuse);
            match run_one(&mut tx, work, &self.shared.refusal) {
                Ok((keep, answer)) => {
                    if keep {
                        kept.append(&mut tx.signals);
                        has_written |= tx.has_written;
                    }
                    answers.push(answer);
                }
                Err(error) => {
                    broken = Some(error);
                    break;
                }
            }
            self.shared.steps.fetch_add(tx.steps, Ordering::Relaxed);
        }
        let committed = match broken {
            Some(error) => Err(error),
            None => commit(&mut open, has_written, fault),
        };
        if let Err(error) = &committed {
            tracing::error!(%error, "a transaction could not be committed");
            let _ = open.batch("ROLLBACK");
        }
        // Before the answers: whoever has one finds that everybody concerned is awake. Who is woken in vain has looked.
        if matches!(committed, Ok(_) | Err(StoreError::Unknown(_))) {
            self.send(kept);
        }
        let mut is_good = committed.is_ok();
        if let Ok(Some(commits)) = committed {
            match commits > self.known.commits {
                true => self.knows(Progress { commits, ..self.known.clone() }),
                // A pooler in between has led the connection to another database: the next one finds the loss.
                false => is_good = false,
            }
        }
        for answer in answers {
            answer(committed.clone().map(drop));
        }
        is_good.then_some(open)
    }
}

/// Commits, and gives how many commits that makes, where something was written.
fn commit(open: &mut Connection, has_written: bool, fault: Option<Fault>) -> Result<Option<i64>, StoreError> {
    let mut keep = || match has_written {
        true => open.commit_counted().map(Some),
        false => open.commit().map(|()| None),
    };
    match fault {
        Some(Fault::Commit) => Err(Fault::error()),
        Some(Fault::Answer) => keep().and(Err(Fault::error())),
        Some(Fault::Statement(_) | Fault::Read(_)) | None => keep(),
    }
}

/// Runs one piece of work in a savepoint, which is undone where the work says so. An error leaves it unanswered.
fn run_one(tx: &mut Tx<'_>, work: Box<dyn Work>, refusal: &Refusal) -> Result<(bool, Answer), StoreError> {
    // Said before the work, or its answer, is dropped.
    let said = |error: &StoreError| refusal.set(error.clone());
    let name = tx.savepoint().inspect_err(said)?;
    let (keep, answer) = work.run(tx);
    let ended = if keep { tx.release(&name) } else { tx.rollback_to(&name) };
    ended.inspect_err(said)?;
    Ok((keep, answer))
}
