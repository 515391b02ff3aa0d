//! `POST backup`: everything that the server keeps, from one moment, while it goes on.

use std::io::{self, BufWriter, Write};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use holdall_store::audit::{AuditRow, audit_add};
use holdall_store::backup;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::error::ApiResult;
use super::{App, now};
use crate::auth::User;

/// How much of a backup is handed over at once; four of these at most wait for the client.
const PIECE: usize = 256 * 1024;

/// The routes.
pub fn routes() -> Router<App> {
    Router::new().route("/backup", post(back_up))
}

async fn back_up(State(app): State<App>, user: User) -> ApiResult<Response> {
    let row = AuditRow {
        id: 0,
        at: now(),
        who: user.name,
        origin: user.origin.to_owned(),
        act: "backup".to_owned(),
        target: "server".to_owned(),
        reason: None,
        before: None,
        after: None,
    };
    app.store.write(move |tx| audit_add(tx, &row)).await?;
    let (sender, receiver) = mpsc::channel::<io::Result<Vec<u8>>>(4);
    let database = app.store.database().clone();
    let stopping = app.lifecycle.stopping().clone();
    app.lifecycle.spawn("backup", async move {
        let work = tokio::task::spawn_blocking(move || {
            let pieces = Pieces { sender: sender.clone(), stopping };
            let mut out = BufWriter::with_capacity(PIECE, pieces);
            if let Err(error) = backup::write(&database, now(), &mut out) {
                tracing::warn!("a backup was not finished: {error}");
                // One that is cut must not look as if it were whole; a client that has gone does not hear it.
                let _ = sender.blocking_send(Err(io::Error::other("the backup was not finished")));
            }
        });
        if let Err(error) = work.await {
            tracing::error!("a backup failed: {error}");
        }
    });
    let headers = [(header::CONTENT_TYPE, "application/jsonl"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(ReceiverStream::new(receiver))).into_response())
}

/// Hands what is written over to the answer; it waits while the client does not read.
struct Pieces {
    sender: mpsc::Sender<io::Result<Vec<u8>>>,
    stopping: CancellationToken,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stopping.is_cancelled() {
            return Err(io::Error::other("the server is stopping"));
        }
        self.sender.blocking_send(Ok(bytes.to_vec())).map_err(|_| io::Error::other("the client has gone"))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
