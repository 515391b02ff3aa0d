//! `GET builds/ID/log`: what the steps of a build printed, byte for byte.

use std::io;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use holdall_engine::ids::BuildId;
use holdall_store::builds;
use holdall_store::events::event_list_within;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::App;
use super::error::{ApiError, ApiResult};
use super::request::Path;

/// How many rows of a journal are read at once.
const ROWS: i64 = 64;

/// How much output is read at once, in bytes; one row more than that has at most about a megabyte.
const BYTES: i64 = 1 << 20;

/// The routes.
pub fn routes() -> Router<App> {
    Router::new().route("/builds/{id}/log", get(log))
}

/// Everything that was printed so far, streamed: what has been printed does not have to fit into memory.
async fn log(State(app): State<App>, Path(id): Path<i64>) -> ApiResult<Response> {
    let build = BuildId(id);
    if app.store.read(move |tx| builds::build_get(tx, build)).await?.is_none() {
        return Err(ApiError::not_found(format_args!("build {id}")));
    }
    let (sender, receiver) = mpsc::channel::<Result<Vec<u8>, io::Error>>(1);
    app.lifecycle.clone().spawn("log", async move {
        let stopping = app.lifecycle.stopping().clone();
        tokio::select! {
            () = write_log(&app, build, &sender) => {}
            () = stopping.cancelled() => {
                // A log that is cut must not look as if it were whole.
                let _ = sender.try_send(Err(io::Error::other("the server is stopping")));
            }
        }
    });
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(ReceiverStream::new(receiver))).into_response())
}

async fn write_log(app: &App, build: BuildId, sender: &mpsc::Sender<Result<Vec<u8>, io::Error>>) {
    let mut next = 0;
    loop {
        let rows = match app.store.read(move |tx| event_list_within(tx, build, next, ROWS, BYTES)).await {
            Ok((rows, _)) => rows,
            Err(error) => {
                tracing::warn!(build.id = build.0, "a build's log cannot be read: {error}");
                let _ = sender.send(Err(io::Error::other("the log cannot be read"))).await;
                return;
            }
        };
        let Some(last) = rows.last() else { return };
        next = last.seq + 1;
        let mut bytes = Vec::new();
        for row in rows.into_iter().filter(|row| row.kind == "output") {
            bytes.append(&mut row.bytes.unwrap_or_default());
        }
        if !bytes.is_empty() && sender.send(Ok(bytes)).await.is_err() {
            return;
        }
    }
}
