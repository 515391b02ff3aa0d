//! What runs in the background, and how all of it ends: softly, then after a limit by being dropped.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use holdall_engine::time::Timestamp;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long requests that are under way may take when the server stops.
pub const DRAIN: Duration = Duration::from_secs(5);

/// The background tasks of one server. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Lifecycle {
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl Lifecycle {
    /// Runs a task in the background. It must end soon after [`Lifecycle::stopping`]; one that panics is logged by
    /// its name, and the rest goes on.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let task = self.tasks.spawn(task);
        self.tasks.spawn(async move {
            if let Err(error) = task.await
                && error.is_panic()
            {
                tracing::error!(task = name, "a background task panicked; restart the server");
            }
        });
    }

    /// Is cancelled when the server stops: whatever waits for something waits for this, too.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Tells everything to end and waits for it, at most for `limit`; gives whether all of it has ended.
    pub async fn stop(&self, limit: Duration) -> bool {
        self.stopping.cancel();
        self.tasks.close();
        tokio::time::timeout(limit, self.tasks.wait()).await.is_ok()
    }
}

/// What the clock says; but where the clock was set back, time goes on at half its speed until the clock has caught up,
/// so that what comes later is never earlier, and what is due in a minute is not due in an hour.
pub fn now() -> Timestamp {
    static STEADY: Mutex<Option<Steady>> = Mutex::new(None);
    // A clock before 1970 is wrong in any case.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let clock = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
    let at = Instant::now();
    let mut steady = STEADY.lock().unwrap_or_else(PoisonError::into_inner);
    let next = Steady::after(steady.as_ref(), clock, at);
    let told = next.told;
    *steady = Some(next);
    Timestamp(told)
}

/// What was told last, and when that was by a clock that nobody sets.
#[derive(Debug)]
struct Steady {
    told: i64,
    at: Instant,
}

impl Steady {
    fn after(last: Option<&Steady>, clock: i64, at: Instant) -> Steady {
        let Some(last) = last.filter(|last| clock < last.told) else { return Steady { told: clock, at } };
        let passed = at.saturating_duration_since(last.at).as_micros() / 2;
        if passed == 0 {
            // Small steps add up only when they are not forgotten.
            return Steady { told: last.told, at: last.at };
        }
        Steady { told: last.told.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX)), at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_goes_back_and_catches_up() {
        let hour = 3_600_000_000;
        let begin = Instant::now();
        let at = |micros: i64| begin + Duration::from_micros(micros.unsigned_abs());
        let first = Steady::after(None, 10 * hour, begin);
        assert_eq!(first.told, 10 * hour);
        let ahead = Steady::after(Some(&first), 11 * hour, at(5));
        assert_eq!(ahead.told, 11 * hour, "a clock that jumps ahead is believed: the machine may have slept");
        let mut steady = ahead;
        // It is set back by an hour, and then goes on as it should: asked every second.
        let second = 1_000_000;
        for passed in (1..=7198).map(|n| n * second) {
            steady = Steady::after(Some(&steady), 10 * hour + 5 + passed, at(5 + passed));
            assert_eq!(steady.told, 11 * hour + passed / 2, "after {passed}");
        }
        let caught_up = 10 * hour + 5 + 7201 * second;
        assert_eq!(Steady::after(Some(&steady), caught_up, at(5 + 7201 * second)).told, caught_up);
        // Asked so often that no time passes in between.
        let mut often = Steady { told: hour, at: begin };
        for passed in 1..=1000 {
            often = Steady::after(Some(&often), 0, at(passed));
        }
        assert_eq!(often.told, hour + 500);
    }
}
