//! Wants the checks that fall due; workers take them from there.

use holdall_store::checks;

use super::pace::Pace;
use crate::api::App;
use crate::lifecycle::now;

/// Runs until the server stops.
pub(super) async fn run(app: App) {
    let mut pace = Pace::new("checker", app.store.signals().checks(), app.lifecycle.stopping().clone());
    loop {
        pace.looks();
        let goes_on = match app.store.write(|tx| checks::check_due(tx, now())).await {
            Ok(next) => pace.wait(next).await,
            Err(error) => pace.failed(&error).await,
        };
        if !goes_on {
            return;
        }
    }
}
