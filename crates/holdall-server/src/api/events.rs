//! What happens, as server-sent events: in one build (`GET builds/ID/events`), and anywhere (`GET events`).
//!
//! A stream looks at the database and sends what it finds; a signal only wakes it, and it subscribes before it looks.
//! It ends with the server: a stream that did not would keep it from stopping.

mod journal;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive, KeepAliveStream};
use axum::routing::get;
use holdall_engine::ids::BuildId;
use holdall_protocol::api::{BuildEvent, BuildEventKind, Change, ChangeKind, Time};
use holdall_store::events::event_list_within;
use holdall_store::{Signal, Tx, builds};
use serde::Serialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::App;
use super::error::{ApiError, ApiResult};
use super::request::Path;
use crate::error::Error;
use crate::lifecycle::now;
use crate::query::why;
use journal::{Journal, Lines};

/// How many rows of a journal are read at once.
const ROWS: i64 = 64;

/// How much output is read at once, in bytes; one row more than that has at most about a megabyte.
const BYTES: i64 = 1 << 20;

/// How many events wait for a slow reader before nothing more is read for it.
const WAITING: usize = 64;

/// How large they are together at the most, in bytes. A larger one waits alone: escaped as JSON, a megabyte of output may
/// be six.
const WAITING_BYTES: u32 = 1 << 20;

/// How often a stream looks that nothing wakes: another server on the same database may have written.
const FALLBACK: Duration = Duration::from_secs(5);

/// How long changes are gathered before pages are told of them: they look again at most ten times a second.
const GATHER: Duration = Duration::from_millis(100);

/// After what silence a comment keeps the connection open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

type Events = Pin<Box<dyn tokio_stream::Stream<Item = Result<Event, Infallible>> + Send>>;
type Stream = Sse<KeepAliveStream<Events>>;

/// Where events go to a reader.
struct Sender {
    queue: mpsc::Sender<(Event, OwnedSemaphorePermit)>,
    /// The bytes that there is room for.
    room: Arc<Semaphore>,
}

/// The routes.
pub fn routes() -> Router<App> {
    Router::new().route("/builds/{id}/events", get(build_events)).route("/events", get(changes))
}

fn stream() -> (Sender, Stream) {
    let (queue, receive) = mpsc::channel(WAITING);
    let sender = Sender { queue, room: Arc::new(Semaphore::new(WAITING_BYTES as usize)) };
    // What is taken out of the queue makes room.
    let events: Events = Box::pin(ReceiverStream::new(receive).map(|(event, _)| Ok(event)));
    (sender, Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// Sends one event; gives `false` when the reader has gone away.
async fn send(sender: &Sender, id: Option<i64>, data: &impl Serialize) -> bool {
    let text = match serde_json::to_string(data) {
        Ok(text) => text,
        Err(error) => {
            tracing::error!("an event cannot be written: {error}");
            return false;
        }
    };
    let size = u32::try_from(text.len()).unwrap_or(u32::MAX).clamp(1, WAITING_BYTES);
    let Ok(room) = Arc::clone(&sender.room).acquire_many_owned(size).await else { return false };
    let event = Event::default().data(text);
    let event = match id {
        Some(id) => event.id(id.to_string()),
        None => event,
    };
    sender.queue.send((event, room)).await.is_ok()
}

/// The events of a build from its first, or from the one after `Last-Event-ID`, until it has ended and all was sent.
async fn build_events(State(app): State<App>, Path(id): Path<i64>, headers: HeaderMap) -> ApiResult<Stream> {
    let from = match headers.get("last-event-id").map(|last| last.to_str().map(str::parse::<i64>)) {
        None => 0,
        Some(Ok(Ok(last))) => last.saturating_add(1).max(0),
        Some(_) => return Err(ApiError::bad_request("Last-Event-ID is not the id of an event")),
    };
    let build = BuildId(id);
    let wake = app.store.signals().changes();
    if app.store.read(move |tx| builds::build_get(tx, build)).await?.is_none() {
        return Err(ApiError::not_found(format_args!("build {id}")));
    }
    let (sender, stream) = stream();
    app.lifecycle.clone().spawn("build events", async move {
        let stopping = app.lifecycle.stopping().clone();
        tokio::select! {
            () = follow_build(&app, build, from, wake, &sender) => {}
            () = sender.queue.closed() => {}
            () = stopping.cancelled() => {}
        }
    });
    Ok(stream)
}

async fn follow_build(app: &App, build: BuildId, from: i64, mut wake: Receiver<Signal>, sender: &Sender) {
    let mut lines = Lines::default();
    let mut next = from;
    // What comes directly before tells how a step's process ended; it was sent already.
    let mut skip_below = from;
    let mut look_from = (from - 1).max(0);
    let mut held = Vec::new();
    loop {
        let at = look_from;
        let read = app.store.read(move |tx| read_journal(tx, build, at)).await;
        let journal = match read {
            Ok(journal) => journal,
            Err(error) => {
                tracing::warn!(build.id = build.0, "a build's events cannot be read: {error}");
                return;
            }
        };
        for row in &journal.rows {
            next = next.max(row.seq + 1);
            if let Some(event) = lines.event(row, &journal)
                && row.seq >= skip_below
                && !send(sender, Some(event.seq), &event).await
            {
                return;
            }
        }
        skip_below = next;
        look_from = next;
        if !journal.is_whole {
            continue;
        }
        if let Some(ended_at) = journal.ended_at {
            send(sender, Some(next), &journal::end(next, ended_at)).await;
            return;
        }
        if journal.holds != held {
            held = journal.holds;
            let kind = BuildEventKind::Waiting { holds: held.clone() };
            let waiting = BuildEvent { seq: next, at: Time(now().0), step: None, kind };
            if !send(sender, None, &waiting).await {
                return;
            }
        }
        // What holds it back may change with anything.
        let waits = !held.is_empty() || !journal.started;
        wait_for(&mut wake, |signal| signal == Signal::Build(build) || (waits && signal == Signal::Board)).await;
    }
}

fn read_journal(tx: &mut Tx<'_>, build: BuildId, from: i64) -> Result<Journal, Error> {
    // The build first: when it has ended, nothing is added to its journal any more.
    let row = builds::build_get(tx, build)?;
    let (rows, is_whole) = event_list_within(tx, build, from, ROWS, BYTES)?;
    let begun = journal::begun(tx, build, &rows)?;
    let holds = match &row {
        Some(row) if row.ended_at.is_none() && is_whole => why::build(tx, row)?,
        _ => Vec::new(),
    };
    let started = row.as_ref().is_some_and(|row| row.started_at.is_some());
    Ok(Journal { rows, is_whole, begun, holds, started, ended_at: row.and_then(|row| row.ended_at) })
}

/// Waits for a signal that concerns somebody, or for as long as nothing is heard at all.
async fn wait_for(wake: &mut Receiver<Signal>, concerns: impl Fn(Signal) -> bool) {
    let heard = async {
        loop {
            match wake.recv().await {
                Ok(signal) if concerns(signal) => return,
                Ok(_) => {}
                // Something was missed: look. The fallback is the pace when the store is closed.
                Err(RecvError::Lagged(_)) => return,
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    };
    let _ = tokio::time::timeout(FALLBACK, heard).await;
}

/// That something has changed that pages show. They look again; changes are gathered, and not kept.
async fn changes(State(app): State<App>) -> Stream {
    let mut wake = app.store.signals().changes();
    let (sender, stream) = stream();
    app.lifecycle.clone().spawn("changes", async move {
        let stopping = app.lifecycle.stopping().clone();
        let everything = Change { kind: ChangeKind::Everything };
        let tell = async {
            while next_change(&mut wake).await && send(&sender, None, &everything).await {
                tokio::time::sleep(GATHER).await;
            }
        };
        tokio::select! {
            () = tell => {}
            () = sender.queue.closed() => {}
            () = stopping.cancelled() => {}
        }
    });
    stream
}

/// Waits until something that pages show has changed; `false`: nothing will any more.
async fn next_change(wake: &mut Receiver<Signal>) -> bool {
    loop {
        match wake.recv().await {
            Ok(Signal::Board) | Err(RecvError::Lagged(_)) => return true,
            // A build's status changes together with the board; its output is nothing to a board.
            Ok(_) => {}
            Err(RecvError::Closed) => return false,
        }
    }
}
