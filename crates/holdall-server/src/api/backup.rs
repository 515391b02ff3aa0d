//! `POST backup`: everything that the server keeps, from one moment, while it goes on.

use std::io::{self, BufWriter, Write};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use holdall_store::audit::{AuditRow, audit_add};
use holdall_store::{Database, backup};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::error::ApiResult;
use super::{App, now};
use crate::auth::User;
use crate::lifecycle::{DRAIN, Lifecycle};

/// How much of a backup is handed over at once; four of these at most wait for the client.
const PIECE: usize = 256 * 1024;

/// How long a client may read nothing before its backup is given up: it holds a snapshot of the database, beside which
/// SQLite's journal only grows.
const PATIENCE: Duration = Duration::from_secs(180);

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
    let receiver = written(app.store.database().clone(), &app.lifecycle, PATIENCE);
    let headers = [(header::CONTENT_TYPE, "application/jsonl"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(ReceiverStream::new(receiver))).into_response())
}

/// Writes a backup in the background; gives its pieces, of which the last is an error where it was not finished: then
/// also when none of them was taken for so long as `patience`.
fn written(database: Database, lifecycle: &Lifecycle, patience: Duration) -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(4);
    let stopping = lifecycle.stopping().clone();
    lifecycle.spawn("backup", async move {
        let runtime = Handle::current();
        let pieces = Pieces { sender: sender.clone(), stopping: stopping.clone(), patience, runtime };
        let work = tokio::task::spawn_blocking(move || {
            let mut out = BufWriter::with_capacity(PIECE, pieces);
            let written = backup::write(&database, now(), &mut out);
            // What was not handed over is not tried once more.
            drop(out.into_parts());
            written
        });
        match work.await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => tracing::warn!("a backup was not finished: {error}"),
            Err(error) => tracing::error!("a backup failed: {error}"),
        }
        // One that is cut must not look as if it were whole; a client that has gone does not hear it.
        // Nothing of the database is held while this waits.
        tokio::select! {
            _ = sender.send(Err(io::Error::other("the backup was not finished"))) => {}
            () = async { stopping.cancelled().await; tokio::time::sleep(DRAIN).await } => {}
        }
    });
    receiver
}

/// Hands what is written over to the answer; it waits while the client does not read, but not for ever.
struct Pieces {
    sender: mpsc::Sender<io::Result<Vec<u8>>>,
    stopping: CancellationToken,
    patience: Duration,
    runtime: Handle,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (patience, stopping) = (self.patience, &self.stopping);
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = stopping.cancelled() => Err(io::Error::other("the server is stopping")),
                sent = self.sender.send_timeout(Ok(bytes.to_vec()), patience) => match sent {
                    Ok(()) => Ok(bytes.len()),
                    Err(SendTimeoutError::Closed(_)) => Err(io::Error::other("the client has gone")),
                    Err(SendTimeoutError::Timeout(_)) => {
                        Err(io::Error::other(format!("the client read nothing for {} seconds", patience.as_secs())))
                    }
                },
            }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use holdall_engine::time::Timestamp;
    use holdall_store::testing;

    use super::*;

    #[tokio::test]
    async fn a_client_that_reads_nothing_holds_no_snapshot() {
        let dir = tempfile::tempdir().unwrap();
        let store = testing::sqlite(dir.path()).unwrap();
        let filled = store.write(|tx| {
            (0..32).try_for_each(|_| {
                let row = AuditRow {
                    id: 0,
                    at: Timestamp(5),
                    who: "ann".to_owned(),
                    origin: "cli".to_owned(),
                    act: "freeze".to_owned(),
                    target: "server".to_owned(),
                    reason: Some("x".repeat(PIECE / 4)),
                    before: None,
                    after: None,
                };
                audit_add(tx, &row)
            })
        });
        filled.await.unwrap();
        let lifecycle = Lifecycle::default();
        let mut pieces = written(store.database().clone(), &lifecycle, Duration::from_millis(50));
        let since = Instant::now();
        // The writer has one sender, and whoever tells the client has another.
        while pieces.len() < 4 || pieces.sender_strong_count() > 1 {
            assert!(since.elapsed() < Duration::from_secs(60), "it waits for ever");
            tokio::task::yield_now().await;
        }
        let mut read = Vec::new();
        while let Some(piece) = pieces.recv().await {
            read.push(piece.is_ok());
        }
        assert_eq!(read, [true, true, true, true, false], "it is cut short, and says so");
        assert!(lifecycle.stop(DRAIN).await);
    }
}
