//! The queue before the writer: it has an end, and forgets what nobody waits for any more.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::connection::Tx;
use crate::error::StoreError;

/// How many pieces of work wait at most. A database that does not answer must not fill the memory: a worker's report is a
/// megabyte and more, and comes again every half minute.
const MOST: usize = 1024;

/// How long the queue may be before it is looked for work that nobody waits for any more.
const LOOKED_THROUGH: usize = 64;

/// A piece of work for the writer.
pub(crate) trait Work: Send {
    /// Whether somebody still waits for it.
    fn is_wanted(&self) -> bool;

    /// Runs it; gives whether to keep what it wrote, and the answer, which is given after the commit.
    fn run(self: Box<Self>, tx: &mut Tx<'_>) -> (bool, Answer);
}

/// Tells the asker what has become of the commit.
pub(crate) type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// A closure, and who waits for what it gives.
pub(crate) struct Asked<T, E, F> {
    work: F,
    asker: oneshot::Sender<Result<T, E>>,
}

impl<T, E, F> Asked<T, E, F> {
    /// The work, and where its answer comes.
    pub(crate) fn new(work: F) -> (Asked<T, E, F>, oneshot::Receiver<Result<T, E>>) {
        let (asker, answer) = oneshot::channel();
        (Asked { work, asker }, answer)
    }
}

impl<T, E, F> Work for Asked<T, E, F>
where
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
    F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
{
    fn is_wanted(&self) -> bool {
        !self.asker.is_closed()
    }

    fn run(self: Box<Self>, tx: &mut Tx<'_>) -> (bool, Answer) {
        let Asked { work, asker } = *self;
        // A panic is a bug in this piece of work: it costs only its own answer, and trying again does not help.
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| work(tx))).unwrap_or_else(|_| {
            tracing::error!("a piece of work panicked; what it wrote was undone");
            Err(E::from(StoreError::Statement("the work panicked".to_owned())))
        });
        let keep = result.is_ok();
        let answer: Answer = Box::new(move |committed| {
            // The asker may have gone away meanwhile; what was begun is done all the same.
            let _ = asker.send(match committed {
                Err(error) if keep => Err(E::from(error)),
                _ => result,
            });
        });
        (keep, answer)
    }
}

/// The queue. Work that nobody waits for any more is not handed out: who gave up has been told, or believes, that it was
/// not done.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Box<dyn Work>>,
    is_closed: bool,
    /// Whether it was said that it is full, since it was last empty.
    is_said: bool,
}

impl Queue {
    /// Adds a piece of work at the end.
    ///
    /// # Errors
    /// It is full, or closed. The work is dropped.
    pub(crate) fn push(&self, work: Box<dyn Work>) -> Result<(), StoreError> {
        // Dropped after the lock: what the work has with it may be a handle on the store.
        let mut unwanted = VecDeque::new();
        let mut state = self.state();
        if state.is_closed {
            return Err(StoreError::Unavailable("the store is closed".to_owned()));
        }
        if state.waiting.len() >= LOOKED_THROUGH {
            (state.waiting, unwanted) =
                std::mem::take(&mut state.waiting).into_iter().partition(|work| work.is_wanted());
        }
        if state.waiting.len() < MOST {
            state.waiting.push_back(work);
            drop(state);
            self.more.notify_one();
            drop(unwanted);
            return Ok(());
        }
        let is_said = std::mem::replace(&mut state.is_said, true);
        drop(state);
        if !is_said {
            tracing::error!("{MOST} writes wait for the database, and more are refused");
        }
        Err(StoreError::Unavailable(format!("{MOST} writes wait for it already")))
    }

    /// Waits for work, and takes at most so many pieces that somebody waits for; `None` when it is closed and empty.
    pub(crate) fn take(&self, most: usize) -> Option<Vec<Box<dyn Work>>> {
        let mut state = self.state();
        loop {
            if !state.waiting.is_empty() {
                let end = most.min(state.waiting.len());
                let (wanted, unwanted): (Vec<_>, Vec<_>) =
                    state.waiting.drain(..end).partition(|work| work.is_wanted());
                if state.waiting.is_empty() {
                    state.is_said = false;
                }
                drop(state);
                drop(unwanted);
                if !wanted.is_empty() {
                    return Some(wanted);
                }
                state = self.state();
            } else if state.is_closed {
                return None;
            } else {
                state = self.more.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Takes nothing any more; what waits is still handed out.
    pub(crate) fn close(&self) {
        self.state().is_closed = true;
        self.more.notify_all();
    }

    /// Takes nothing any more, and drops what waits: there is no writer.
    pub(crate) fn abandon(&self) {
        self.close();
        let left = std::mem::take(&mut self.state().waiting);
        drop(left);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Receiver = oneshot::Receiver<Result<usize, StoreError>>;

    fn push(queue: &Queue, number: usize) -> Result<Receiver, StoreError> {
        let (work, answer) = Asked::new(move |_: &mut Tx<'_>| Ok(number));
        queue.push(Box::new(work)).map(|()| answer)
    }

    fn filled(queue: &Queue) -> Vec<Receiver> {
        (0..MOST).map(|number| push(queue, number).expect("there is room")).collect()
    }

    #[test]
    fn what_finds_no_room_is_refused_at_once() {
        let queue = Queue::default();
        let waiting = filled(&queue);
        let refused = push(&queue, MOST).expect_err("it is full");
        assert!(matches!(refused, StoreError::Unavailable(_)), "{refused}");
        assert_eq!(queue.take(10).expect("work").len(), 10);
        let _more: Vec<Receiver> = (0..10).map(|number| push(&queue, number).expect("there is room")).collect();
        push(&queue, MOST).expect_err("it is full again");
        drop(waiting);
    }

    #[test]
    fn what_nobody_waits_for_makes_room_and_is_not_handed_out() {
        let queue = Queue::default();
        let mut waiting = filled(&queue);
        waiting.truncate(2);
        let late = push(&queue, MOST).expect("there is room");
        assert_eq!(queue.state().waiting.len(), 3);
        drop(waiting.pop());
        queue.close();
        assert_eq!(queue.take(10).expect("work").len(), 2);
        assert!(queue.take(10).is_none());
        drop((waiting, late));
    }

    #[test]
    fn without_a_writer_nobody_waits() {
        let queue = Queue::default();
        let mut waits = push(&queue, 1).expect("there is room");
        queue.abandon();
        assert_eq!(waits.try_recv().err(), Some(oneshot::error::TryRecvError::Closed));
        push(&queue, 2).expect_err("it is closed");
    }
}
