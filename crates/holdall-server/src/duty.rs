//! Duties: passes that read state, decide, and apply what was decided. A duty is woken by a signal that carries no
//! input, and by its own clock as a fallback.

mod checker;
mod pace;
pub mod schedule;
mod scheduler;
pub mod timekeeper;
pub mod track;
pub mod watcher;
pub mod workers;

use crate::api::App;

/// Runs all duties of a server in the background until it stops.
pub fn start(app: &App) {
    let lifecycle = &app.lifecycle;
    lifecycle.spawn("scheduler", scheduler::run(app.clone()));
    lifecycle.spawn("checker", checker::run(app.clone()));
    lifecycle.spawn("timekeeper", timekeeper::run(app.clone()));
    lifecycle.spawn("watcher", watcher::run(app.clone()));
}
