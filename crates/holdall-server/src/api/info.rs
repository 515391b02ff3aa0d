//! `GET info`: what a server says of itself to everyone.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use holdall_protocol::api::{Info, Time};

use super::request::Json;
use super::{App, now};
use crate::auth::User;

/// The routes.
pub fn routes() -> Router<App> {
    Router::new().route("/info", get(info))
}

async fn info(State(app): State<App>, user: Option<User>) -> Json<Info> {
    Json(Info {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        server_time: Time(now().0),
        started_at: Time(app.settings.started_at.0),
        database: app.store.backend().to_owned(),
        user: user.map(|user| user.name),
    })
}
