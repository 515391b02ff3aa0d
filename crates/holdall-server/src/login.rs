//! The one page that asks for a token, for browsers.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use serde::Deserialize;

use crate::api::App;
use crate::api::error::{ApiError, ApiResult};
use crate::api::request::Query;
use crate::auth::COOKIE;

/// `GET /login`, and `GET /login?token=TOKEN`.
pub fn routes() -> Router<App> {
    Router::new().route("/login", get(login))
}

#[derive(Deserialize)]
struct Login {
    token: Option<String>,
}

/// Asks for a token; given one, keeps it in a cookie that scripts cannot read and other places cannot send, and shows
/// the first page.
async fn login(State(app): State<App>, Query(login): Query<Login>) -> ApiResult<Response> {
    let Some(token) = login.token.as_deref().map(str::trim).filter(|token| !token.is_empty()) else {
        return Ok(page(StatusCode::OK, None));
    };
    if app.tokens.name_of(&app.store, token).await?.is_none() {
        return Ok(page(StatusCode::UNAUTHORIZED, Some("This server does not know that token.")));
    }
    let cookie = format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age=2592000");
    let mut headers = HeaderMap::new();
    let cookie = HeaderValue::from_str(&cookie).map_err(|error| ApiError::internal(&error))?;
    headers.insert(header::SET_COOKIE, cookie);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok((headers, Redirect::to("/")).into_response())
}

fn page(status: StatusCode, mistake: Option<&str>) -> Response {
    let page = maud::html! {
        (maud::DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Log in - Holdall" }
            }
            body style="font-family: sans-serif; max-width: 32rem; margin: 3rem auto; padding: 0 1rem" {
                h1 { "Holdall" }
                @if let Some(mistake) = mistake { p role="alert" { strong { (mistake) } } }
                form action="/login" method="get" {
                    p { label for="token" { "Token" } }
                    p { input id="token" name="token" type="password" autocomplete="current-password" required autofocus; }
                    p { button { "Log in" } }
                }
                p { "The first token is in the file " code { "token" } " of the server's data folder; "
                    code { "holdall token create NAME" } " makes more." }
            }
        }
    };
    (status, [(header::CACHE_CONTROL, "no-store")], Html(page.into_string())).into_response()
}
