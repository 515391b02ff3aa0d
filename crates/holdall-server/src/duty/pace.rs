//! When a duty looks again: at once when it is woken, when something falls due, and now and then in any case.

use std::time::Duration;

use holdall_engine::time::Timestamp;
use holdall_store::StoreError;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::lifecycle::now;

/// How often a duty looks that nothing wakes: a wake-up may come from another server on the same database.
const FALLBACK: Duration = Duration::from_secs(30);

/// The longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The pace of one duty.
pub(super) struct Pace {
    name: &'static str,
    signal: watch::Receiver<u64>,
    /// Keeps the signal of a duty that nothing wakes from counting as closed.
    _silent: Option<watch::Sender<u64>>,
    stopping: CancellationToken,
    failures: u32,
}

impl Pace {
    /// The pace of a duty that a signal wakes.
    pub(super) fn new(name: &'static str, mut signal: watch::Receiver<u64>, stopping: CancellationToken) -> Pace {
        // The first look is at once.
        signal.mark_changed();
        Pace { name, signal, _silent: None, stopping, failures: 0 }
    }

    /// The pace of a duty that only time wakes.
    pub(super) fn by_clock(name: &'static str, stopping: CancellationToken) -> Pace {
        let (silent, signal) = watch::channel(0);
        Pace { name, signal, _silent: Some(silent), stopping, failures: 0 }
    }

    /// Says that the duty looks now: what is signalled from here on wakes it again.
    pub(super) fn looks(&mut self) {
        self.signal.borrow_and_update();
    }

    /// Waits for a signal, for `due`, or for the fallback; gives `false` when the server stops.
    pub(super) async fn wait(&mut self, due: Option<Timestamp>) -> bool {
        self.failures = 0;
        let pause = match due {
            None => FALLBACK,
            Some(at) => {
                let micros = at.0.saturating_sub(now().0).max(0);
                // A millisecond later, so that it is due by then.
                FALLBACK.min(Duration::from_micros(micros.unsigned_abs()) + Duration::from_millis(1))
            }
        };
        tokio::select! {
            () = self.stopping.cancelled() => false,
            _ = self.signal.changed() => !self.stopping.is_cancelled(),
            () = tokio::time::sleep(pause) => true,
        }
    }

    /// A look failed: says so, and waits for longer each time; gives `false` when the server stops.
    pub(super) async fn failed(&mut self, error: &StoreError) -> bool {
        if self.failures == 0 {
            tracing::error!(duty = self.name, "a duty could not do its work and tries again: {error}");
        } else {
            tracing::debug!(duty = self.name, failures = self.failures, "a duty failed again: {error}");
        }
        let pause = LONGEST_PAUSE.min(Duration::from_millis(100) * (1 << self.failures.min(10)));
        self.failures = self.failures.saturating_add(1);
        tokio::select! {
            () = self.stopping.cancelled() => false,
            () = tokio::time::sleep(pause) => true,
        }
    }
}
