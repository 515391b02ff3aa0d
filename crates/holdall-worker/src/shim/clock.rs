//! The clock by which limits and graces are over. A server that hears nothing of a worker takes a step for ended when its
//! limit is over by the server's own clock, so the time during which the machine sleeps has to count: `Instant` stands
//! still then. What a process needs to do its work (linger, say) is measured by `Instant`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::time::ClockId;

/// The time since the machine was started, while it slept too. Setting the machine's time changes nothing.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// Microseconds.
    ahead: Arc<AtomicU64>,
}

impl Clock {
    /// How long ago the machine was started.
    pub fn now(&self) -> Duration {
        // The second is for a kernel, or what stands in for one, that does not have the first.
        let now = ClockId::CLOCK_BOOTTIME.now().or_else(|_| ClockId::CLOCK_MONOTONIC.now());
        now.map_or(Duration::ZERO, Duration::from) + Duration::from_micros(self.ahead.load(Ordering::Relaxed))
    }

    /// Sets this clock and its clones ahead, as if the machine had slept. For tests.
    pub fn advance(&self, by: Duration) {
        self.ahead.fetch_add(by.as_micros() as u64, Ordering::Relaxed);
    }
}
