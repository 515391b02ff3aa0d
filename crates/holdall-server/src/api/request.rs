//! What every request has: an id that finds it in the log, and bodies and parameters whose mistakes are answered in
//! the API's own words.

use std::future::Future;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use holdall_protocol::api::{DEFAULT_LIMIT, List, MAX_LIMIT, code};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::ApiError;

tokio::task_local! {
    static REQUEST_ID: String;
}

/// The id of the request that is being answered; empty outside of one.
pub fn request_id() -> String {
    REQUEST_ID.try_with(Clone::clone).unwrap_or_default()
}

/// A new request's id: unlike that of any other process, and in order within this one.
pub(crate) fn new_request_id() -> String {
    static PROCESS: OnceLock<u32> = OnceLock::new();
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let process = PROCESS.get_or_init(|| {
        let mut bytes = [0; 4];
        // Without randomness ids are still unique in this process.
        let _ = getrandom::fill(&mut bytes);
        u32::from_le_bytes(bytes)
    });
    format!("{process:08x}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Runs what answers a request under its id.
pub(crate) async fn with_request_id<T>(id: String, work: impl Future<Output = T>) -> T {
    REQUEST_ID.scope(id, work).await
}

/// A JSON body, of a request or of an answer.
#[derive(Debug, Clone)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Json<T>, ApiError> {
        match axum::Json::<T>::from_request(request, state).await {
            Ok(axum::Json(body)) => Ok(Json(body)),
            Err(rejection) => Err(bad_body(&rejection)),
        }
    }
}

fn bad_body(rejection: &JsonRejection) -> ApiError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            code::TOO_LARGE,
            "the body is larger than the server takes",
        );
    }
    let message = match rejection {
        JsonRejection::MissingJsonContentType(_) => "the body has to come as `Content-Type: application/json`".into(),
        other => format!("the body cannot be read: {}", innermost(other)),
    };
    ApiError::bad_request(message)
}

/// The cause of an error, which says where in the JSON it is.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// Parameters after the `?`.
#[derive(Debug, Clone)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Query<T>, ApiError> {
        match axum::extract::Query::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(query)) => Ok(Query(query)),
            Err(QueryRejection::FailedToDeserializeQueryString(error)) => {
                Err(ApiError::bad_request(format!("the parameters cannot be read: {}", innermost(&error))))
            }
            Err(other) => Err(ApiError::bad_request(other.body_text())),
        }
    }
}

/// Names in the path. A name that does not fit is of something that there is not.
#[derive(Debug, Clone)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Path<T>, ApiError> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(path)) => Ok(Path(path)),
            Err(_) => Err(ApiError::not_found(format_args!("{}", parts.uri.path()))),
        }
    }
}

/// The part of a list that is asked for: `?limit=N&after=CURSOR`.
#[derive(Debug, Clone, Default, serde::Deserialize)]
pub struct Page {
    /// How many items.
    pub limit: Option<u32>,
    /// What an earlier answer gave as `next`.
    pub after: Option<String>,
}

impl Page {
    /// How many items are given.
    ///
    /// # Errors
    ///
    /// A limit of nothing, or beyond the most.
    pub fn limit(&self) -> Result<i64, ApiError> {
        match self.limit {
            None => Ok(i64::from(DEFAULT_LIMIT)),
            Some(limit @ 1..=MAX_LIMIT) => Ok(i64::from(limit)),
            Some(limit) => Err(ApiError::bad_request(format!("limit {limit} is not from 1 to {MAX_LIMIT}"))),
        }
    }

    /// The number that the list goes on below.
    ///
    /// # Errors
    ///
    /// A cursor that no answer gave.
    pub fn below(&self) -> Result<Option<i64>, ApiError> {
        match &self.after {
            None => Ok(None),
            Some(text) => match text.parse() {
                Ok(below) => Ok(Some(below)),
                Err(_) => Err(ApiError::bad_request(format!("after={text} is not what an earlier answer gave"))),
            },
        }
    }
}

/// A page of a list, with the cursor for the next where there may be one.
pub fn page_of<T>(items: Vec<T>, limit: i64, cursor: impl Fn(&T) -> i64) -> List<T> {
    let full = i64::try_from(items.len()).unwrap_or(i64::MAX) >= limit;
    let next = items.last().filter(|_| full).map(|last| cursor(last).to_string());
    List { items, next }
}
