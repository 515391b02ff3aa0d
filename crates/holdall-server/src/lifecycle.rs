//! What runs in the background, and how all of it ends: softly, then after a limit by being dropped.

use std::future::Future;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

/// What the clock says.
pub fn now() -> Timestamp {
    // A clock before 1970 is wrong in any case.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
