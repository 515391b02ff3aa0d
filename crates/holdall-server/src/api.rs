//! The HTTP API: routes put together, and what all of them have. One module a group of routes, each with a
//! `routes()`; handlers read the request, call the store and the decision, and convert. Who may come in is decided
//! before any of them, by the [guard](crate::auth::guard).

mod acts;
mod backup;
mod builds;
pub mod error;
mod events;
mod info;
mod locks;
mod log;
mod pipelines;
pub mod request;
mod systems;
mod tokens;
mod webhooks;
mod worker;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::StatusCode;
use holdall_engine::time::Timestamp;
use holdall_protocol::api::{BASE, code};
use holdall_store::Store;

use crate::auth::{self, Hosts, Tokens};
use crate::duty::workers::Told;
use crate::lifecycle::Lifecycle;

pub use crate::lifecycle::now;
use error::ApiError;

/// The largest body that is read: pipelines and system files are far smaller.
const MAX_BODY: usize = 8 * 1024 * 1024;

/// What all handlers and duties share. Cheap to clone.
#[derive(Clone)]
pub struct App {
    /// Everything that is kept.
    pub store: Store,
    /// What this server was started with.
    pub settings: Arc<Settings>,
    /// Whose tokens are whose.
    pub tokens: Arc<Tokens>,
    /// What runs in the background.
    pub lifecycle: Lifecycle,
    pub(crate) told: Arc<Told>,
}

/// What a server was started with.
pub struct Settings {
    /// Since when it runs.
    pub started_at: Timestamp,
    /// Where it listens.
    pub address: SocketAddr,
    /// The names by which it may be addressed.
    pub hosts: Hosts,
    /// Whether everyone may look, without a token.
    pub open_pages: bool,
    /// Where it keeps its data.
    pub data_dir: std::path::PathBuf,
    /// What the senders of native webhooks show that they know: the file `webhook-secret` of the data folder.
    pub webhook_secret: String,
}

impl App {
    /// What handlers and duties of a server share.
    pub fn new(store: Store, settings: Settings, lifecycle: Lifecycle) -> App {
        App {
            store,
            settings: Arc::new(settings),
            tokens: Arc::new(Tokens::default()),
            lifecycle,
            told: Arc::new(Told::default()),
        }
    }
}

/// Everything that a server answers.
pub fn router(app: App) -> Router {
    let native = Router::new()
        .merge(info::routes())
        .merge(acts::routes())
        .merge(backup::routes())
        .merge(builds::routes())
        .merge(locks::routes())
        .merge(pipelines::routes())
        .merge(systems::routes())
        .merge(tokens::routes())
        .merge(events::routes())
        .merge(log::routes())
        .merge(worker::routes())
        .merge(webhooks::native_routes());
    Router::new()
        .nest(BASE, native)
        .merge(webhooks::concourse_routes())
        .merge(crate::login::routes())
        .merge(crate::web::routes())
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(axum::middleware::from_fn_with_state(app.clone(), auth::guard))
        .with_state(app)
}

async fn not_found(request: Request) -> ApiError {
    ApiError::not_found(request.uri().path())
}

async fn not_allowed(request: Request) -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        code::METHOD_NOT_ALLOWED,
        format!("{} is not answered for {}", request.method(), request.uri().path()),
    )
}
