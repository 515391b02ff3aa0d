//! The session with workers over HTTP; what it means is in [`crate::duty::workers`].

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::post;
use holdall_protocol::worker::{Hello, Orders, POLL_SECONDS, Poll, Report, ReportAnswer, Welcome};
use tokio::time::Instant;

use super::error::{ApiError, ApiResult};
use super::request::Json;
use super::{App, now};
use crate::duty::workers::{self, SEEN_EVERY};

/// The largest report: a megabyte of output a time, in base64, with what is around it.
const MAX_REPORT: usize = 64 * 1024 * 1024;

/// The routes.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/worker/hello", post(hello))
        .route("/worker/poll", post(poll))
        .route("/worker/report", post(report))
        .layer(DefaultBodyLimit::max(MAX_REPORT))
}

async fn hello(State(app): State<App>, Json(hello): Json<Hello>) -> ApiResult<Json<Welcome>> {
    tracing::info!(worker = %hello.name, held = hello.attempts.len(), "a worker says hello");
    Ok(Json(workers::hello_each(&app.store, hello).await?))
}

/// Answers as soon as there is something to do, or when the time is over.
async fn poll(State(app): State<App>, Json(poll): Json<Poll>) -> ApiResult<Json<Orders>> {
    let deadline = Instant::now() + Duration::from_secs(POLL_SECONDS);
    let mut signal = app.store.signals().workers();
    app.told.heard(&app.store, &poll).await?;
    loop {
        // Before looking: what comes after it wakes.
        signal.borrow_and_update();
        let asked = poll.clone();
        let found = app.store.read(move |tx| workers::look(tx, &asked)).await?;
        let over = Instant::now() >= deadline;
        if found.has_orders || found.seen_at + SEEN_EVERY <= now() || over {
            let asked = poll.clone();
            let orders = app.store.write(move |tx| workers::orders(tx, &asked, now())).await?;
            if workers::is_urgent(&orders) || over {
                app.told.tell(&poll, &orders);
                return Ok(Json(orders));
            }
        }
        let next_look = deadline.min(Instant::now() + Duration::from_micros(SEEN_EVERY.0.unsigned_abs()));
        tokio::select! {
            _ = signal.changed() => {}
            () = tokio::time::sleep_until(next_look) => {}
            () = app.lifecycle.stopping().cancelled() => {
                return Err(ApiError::unavailable("the server is stopping"));
            }
        }
    }
}

async fn report(State(app): State<App>, Json(report): Json<Report>) -> ApiResult<Json<ReportAnswer>> {
    Ok(Json(workers::report_each(&app.store, report).await?))
}
