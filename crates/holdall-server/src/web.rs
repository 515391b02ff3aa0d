//! The pages: rendered on the server from what the queries give, live by a little JavaScript, and whole without it.
//!
//! A page is a struct that a query fills and `render` turns into HTML; it decides nothing. To keep a page live, the
//! script fetches the same page again when something changed, and takes its `main` over.

mod bag;
mod board;
mod build;
mod environment;
mod layout;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::api::App;

const STYLE: &str = include_str!("web/assets/style.css");
const SCRIPT: &str = include_str!("web/assets/live.js");

/// Only what this server itself gives may be shown and run.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The routes.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/", get(board::page))
        .route("/systems/{system}/bags/{bag}", get(bag::page))
        .route("/systems/{system}/environments/{environment}", get(environment::page))
        .route("/builds/{id}", get(build::page))
        .route("/assets/style.css", get(style))
        .route("/assets/live.js", get(script))
}

async fn style() -> impl IntoResponse {
    asset("text/css; charset=utf-8", STYLE)
}

async fn script() -> impl IntoResponse {
    asset("text/javascript; charset=utf-8", SCRIPT)
}

fn asset(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "public, max-age=300")], text)
}

/// An answer with a page in it.
fn answer(page: maud::Markup) -> impl IntoResponse {
    let policy = HeaderName::from_static("content-security-policy");
    ([(policy, HeaderValue::from_static(POLICY)), (header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))], page)
}

#[cfg(test)]
mod tests;
