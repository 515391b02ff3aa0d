//! Who may come in: tokens, the cookie of the pages, and the guard in front of every route.
//!
//! The guard refuses by default: a route that nobody thought of needs a token. It also keeps web pages of others out:
//! a request must be addressed to this server by a name that only it has ([`Hosts`]), so that no name of an attacker
//! can be made to point here, and what changes something must come from one of its own pages or from no page at all.

mod hosts;
mod tokens;

use axum::extract::{FromRequestParts, OptionalFromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use holdall_protocol::api::BASE;

use crate::acts::Actor;
use crate::api::App;
use crate::api::error::{ApiError, ApiResult};
use crate::api::request::{new_request_id, with_request_id};

pub use hosts::Hosts;
pub use tokens::{Tokens, new_secret, same_secret, secret_hash};

/// The name of the token that the server makes for its own worker: it opens the worker's session and nothing else.
pub const WORKER: &str = "worker";

/// The cookie that the pages' requests carry.
pub const COOKIE: &str = "holdall_token";

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name of the token.
    pub name: String,
    /// From where: `cli`, `web` or `api`.
    pub origin: &'static str,
}

impl User {
    /// The same as one who acts.
    pub fn actor(&self) -> Actor {
        Actor { name: self.name.clone(), origin: self.origin }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for User {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<User, ApiError> {
        parts.extensions.get::<User>().cloned().ok_or_else(no_token)
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for User {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<User>, Self::Rejection> {
        Ok(parts.extensions.get::<User>().cloned())
    }
}

fn no_token() -> ApiError {
    ApiError::unauthenticated("this needs a token: send `Authorization: Bearer TOKEN`")
}

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing: it has a secret of its own, and comes from another machine under whatever name that knows.
    Webhook,
    /// Nothing but to be addressed to this server.
    Anyone,
    /// A token, any; the worker's own, too.
    Worker,
    /// A token of a person, or that the server shows itself to everyone.
    Read,
    /// A token of a person.
    Write,
}

impl Access {
    /// What a request needs, by its method and path.
    pub fn of(method: &Method, path: &str) -> Access {
        let rest = path.strip_prefix(BASE);
        if rest.is_some_and(|rest| rest.starts_with("/webhooks/"))
            || (path.starts_with("/api/v1/") && path.ends_with("/check/webhook"))
        {
            return Access::Webhook;
        }
        if rest.is_some_and(|rest| rest.starts_with("/worker/")) {
            return Access::Worker;
        }
        match (method.is_safe(), rest, path) {
            (true, Some("/info"), _) | (true, None, "/login") => Access::Anyone,
            (true, None, path) if path.starts_with("/assets/") => Access::Anyone,
            (true, Some("/tokens"), _) => Access::Write,
            (true, _, _) => Access::Read,
            (false, _, _) => Access::Write,
        }
    }
}

/// The guard in front of every route.
pub async fn guard(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let id = new_request_id();
    let mut response = with_request_id(id.clone(), async move {
        match admit(&app, &mut request).await {
            Ok(()) => next.run(request).await,
            Err(refused) => refuse(&request, refused),
        }
    })
    .await;
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert("x-request-id", id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    response
}

/// A browser that opens a page without a token is shown where to give one.
fn refuse(request: &Request, refused: ApiError) -> Response {
    let wants_page = request.headers().get(header::ACCEPT).is_some_and(|accept| contains(accept, "text/html"));
    if refused.status() == StatusCode::UNAUTHORIZED
        && wants_page
        && request.method().is_safe()
        && !request.uri().path().starts_with("/api/")
    {
        return Redirect::to("/login").into_response();
    }
    refused.into_response()
}

fn contains(value: &HeaderValue, text: &str) -> bool {
    value.to_str().is_ok_and(|value| value.contains(text))
}

async fn admit(app: &App, request: &mut Request) -> ApiResult<()> {
    let method = request.method().clone();
    let access = Access::of(&method, request.uri().path());
    if access == Access::Webhook {
        return Ok(());
    }
    let headers = request.headers();
    let host = text(headers, &header::HOST).unwrap_or_default();
    if !app.settings.hosts.accepts(host) {
        return Err(ApiError::forbidden(format!(
            "this server is not called '{host}'; use its address, or start it with `--host {}`",
            hosts::name_of(host)
        )));
    }
    if !method.is_safe() {
        check_origin(headers, host)?;
    }
    let user = who(app, headers, method.is_safe()).await?;
    let is_worker = user.as_ref().is_some_and(|user| user.name == WORKER);
    let allowed = match access {
        Access::Webhook | Access::Anyone => true,
        Access::Worker => user.is_some(),
        Access::Read => !is_worker && (user.is_some() || app.settings.open_pages),
        Access::Write => !is_worker && user.is_some(),
    };
    if !allowed {
        return Err(if is_worker {
            ApiError::forbidden("the worker's token opens the worker's session and nothing else")
        } else {
            no_token()
        });
    }
    if let Some(user) = user {
        request.extensions_mut().insert(user);
    }
    Ok(())
}

fn text<'h>(headers: &'h HeaderMap, name: &header::HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// What changes something must not come from a page of another place.
fn check_origin(headers: &HeaderMap, host: &str) -> ApiResult<()> {
    let foreign = match headers.get(header::ORIGIN) {
        Some(origin) => !origin.to_str().is_ok_and(|origin| hosts::is_same_origin(origin, host)),
        None => headers.get("sec-fetch-site").is_some_and(|site| !matches!(site.as_bytes(), b"same-origin" | b"none")),
    };
    if foreign {
        return Err(ApiError::forbidden("a page of another place may not change anything here"));
    }
    Ok(())
}

/// Who a request is from: a wrong token is an error, an old cookie is nobody.
async fn who(app: &App, headers: &HeaderMap, is_safe: bool) -> ApiResult<Option<User>> {
    if let Some(given) = headers.get(header::AUTHORIZATION) {
        let token = given.to_str().ok().and_then(|given| {
            let (scheme, token) = given.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        let Some(token) = token else {
            return Err(ApiError::unauthenticated("the Authorization header is not `Bearer TOKEN`"));
        };
        let origin = match text(headers, &header::USER_AGENT) {
            Some(agent) if agent.starts_with("holdall/") => "cli",
            _ => "api",
        };
        return match app.tokens.name_of(&app.store, token).await? {
            Some(name) => Ok(Some(User { name, origin })),
            None => Err(ApiError::unauthenticated("the server does not know this token")),
        };
    }
    let Some(token) = cookie(headers) else { return Ok(None) };
    if !is_safe && !headers.contains_key(header::ORIGIN) {
        // Browsers say where a request that changes something comes from.
        return Err(ApiError::forbidden("a request with the pages' cookie has to say its Origin"));
    }
    Ok(app.tokens.name_of(&app.store, token).await?.map(|name| User { name, origin: "web" }))
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    headers.get_all(header::COOKIE).iter().find_map(|value| {
        value.to_str().ok()?.split(';').find_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            (name == COOKIE).then_some(value)
        })
    })
}
