//! Errors as the API answers them: `{code, message, details, request_id}`, and never internal text.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use holdall_protocol::api::{ErrorBody, ErrorDetails, code};
use holdall_store::StoreError;

use super::request::request_id;
use crate::acts::wire_hold;
use crate::error::{Error, Refusal};

/// An answer with a status from 400 on.
#[derive(Debug, Clone)]
pub struct ApiError {
    status: StatusCode,
    body: Box<ErrorBody>,
}

/// What handlers give.
pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    /// An error of a status and code of the protocol, with a fragment for people.
    pub fn new(status: StatusCode, code: &str, message: impl Into<String>) -> ApiError {
        let body = ErrorBody {
            code: code.to_owned(),
            message: message.into(),
            details: ErrorDetails::default(),
            request_id: request_id(),
        };
        ApiError { status, body: Box::new(body) }
    }

    /// 400: the request cannot be read.
    pub fn bad_request(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, code::BAD_REQUEST, message)
    }

    /// 401: no token, or a wrong one.
    pub fn unauthenticated(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::UNAUTHORIZED, code::UNAUTHENTICATED, message)
    }

    /// 403: not from there, or not with this token.
    pub fn forbidden(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, code::FORBIDDEN, message)
    }

    /// 404: there is no such thing.
    pub fn not_found(what: impl std::fmt::Display) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, code::NOT_FOUND, format!("there is no {what}"))
    }

    /// 503: the server stops, or its database does not answer.
    pub fn unavailable(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code::UNAVAILABLE, message)
    }

    /// 500, for an error that only the log has.
    pub fn internal(error: &dyn std::fmt::Display) -> ApiError {
        let answer = ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            code::INTERNAL,
            "the server made a mistake; its log has more under the request's id",
        );
        tracing::error!(request.id = %answer.body.request_id, "a request failed: {error}");
        answer
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What is answered.
    pub fn body(&self) -> &ErrorBody {
        &self.body
    }

    /// Adds to the details.
    pub fn with_details(mut self, change: impl FnOnce(&mut ErrorDetails)) -> ApiError {
        change(&mut self.body.details);
        self
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> ApiError {
        match error {
            Error::Store(error) => error.into(),
            Error::Refused(refusal) => refused(*refusal),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        if error.is_transient() {
            tracing::warn!("a request could not be carried out: {error}");
            let message = match error {
                StoreError::Unknown(_) => {
                    "the server's database went away while it kept this; look whether it was done before you try again"
                }
                StoreError::DiskFull(_) => "the disk of the server's database is full; nothing was changed",
                _ => "the server's database does not answer; nothing was changed, try again",
            };
            return ApiError::unavailable(message);
        }
        let message = match error {
            StoreError::ReadOnly(_) => {
                "the server's database cannot be written; nothing was changed, look at the disk of its data folder"
            }
            StoreError::Corrupt(_) => "the server's database is damaged; stop the server and restore a backup",
            _ => return ApiError::internal(&error),
        };
        tracing::error!("a request could not be carried out: {error}");
        ApiError::unavailable(message)
    }
}

fn refused(refusal: Refusal) -> ApiError {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::CONFLICT);
    ApiError::new(status, refusal.code, refusal.message).with_details(|details| {
        details.command = refusal.command;
        details.held = refusal.holds.iter().map(wire_hold).collect();
        details.diagnostics = refusal.diagnostics;
        details.preview = refusal.preview;
        details.did_you_mean = refusal.did_you_mean;
    })
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(&*self.body)).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ails_the_database_is_said_without_internals() {
        for (error, status, says) in [
            (StoreError::DiskFull("x".into()), 503, "is full; nothing was changed"),
            (StoreError::Unavailable("x".into()), 503, "does not answer; nothing was changed, try again"),
            (StoreError::ReadOnly("x".into()), 503, "cannot be written; nothing was changed, look at the disk"),
            (StoreError::Corrupt("x".into()), 503, "is damaged; stop the server and restore a backup"),
            (StoreError::Inconsistent("x".into()), 500, "its log has more"),
        ] {
            let answer = ApiError::from(error);
            assert_eq!(answer.status().as_u16(), status);
            assert!(answer.body().message.contains(says), "{}", answer.body().message);
        }
    }
}
