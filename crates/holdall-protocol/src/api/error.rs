//! What the server answers when it does not do what was asked.

use serde::{Deserialize, Serialize};

use super::{Hold, LockDetail, Preview};

/// The stable values of [`ErrorBody::code`], with the HTTP status that goes with each.
pub mod code {
    /// 400: the request cannot be read.
    pub const BAD_REQUEST: &str = "bad_request";
    /// 401: no token, or one that the server does not know.
    pub const UNAUTHENTICATED: &str = "unauthenticated";
    /// 403: the Host or Origin is not this server's, or the token may not do this.
    pub const FORBIDDEN: &str = "forbidden";
    /// 404: nothing of that name.
    pub const NOT_FOUND: &str = "not_found";
    /// 405: not this method.
    pub const METHOD_NOT_ALLOWED: &str = "method_not_allowed";
    /// 409: the state does not allow it; `details.held` or `details.command` say what would.
    pub const REFUSED: &str = "refused";
    /// 409: what the preview showed has changed; `details.preview` is the new one.
    pub const PREVIEW_CHANGED: &str = "preview_changed";
    /// 409: aborting a guarded build has to be confirmed (release model, section 4).
    pub const GUARDED: &str = "guarded";
    /// 409: the holding that a token stands for has ended.
    pub const LOCK_LOST: &str = "lock_lost";
    /// 413: the body is too large.
    pub const TOO_LARGE: &str = "too_large";
    /// 422: a name, a version, or a file in the request is wrong; `details.diagnostics` say where.
    pub const INVALID: &str = "invalid";
    /// 422: this act needs a reason.
    pub const REASON_REQUIRED: &str = "reason_required";
    /// 423: someone else holds the lock; `details.lock` says who.
    pub const LOCKED: &str = "locked";
    /// 500: an error of the server; its log has more under the request's id.
    pub const INTERNAL: &str = "internal";
    /// 503: the server is starting or stopping, or its database does not answer.
    pub const UNAVAILABLE: &str = "unavailable";
}

/// The body of every answer with a status from 400 on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// One of [`code`].
    pub code: String,
    /// A fragment for people, without a full stop.
    pub message: String,
    /// What goes with the code.
    #[serde(default)]
    pub details: ErrorDetails,
    /// Finds the request in the server's log.
    #[serde(default)]
    pub request_id: String,
}

/// What goes with an error's code; absent where it does not apply.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ErrorDetails {
    /// The command that does what was wanted, or lifts what is in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// What the act would do now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<Box<Preview>>,
    /// What is in the way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<Hold>,
    /// Who has the lock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<Box<LockDetail>>,
    /// What is wrong with a file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<Diagnostic>,
    /// Names that were close to one that does not exist.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub did_you_mean: Vec<String>,
}

/// One thing to say about a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// Whether it keeps the file from being used.
    pub severity: Severity,
    /// Stable name of the mistake.
    pub code: String,
    /// From 1; `None` for the file as a whole.
    pub line: Option<u32>,
    /// From 1, in characters.
    pub column: Option<u32>,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
}

/// How bad a [`Diagnostic`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// It can.
    Warning,
}

super::wire_names!(Severity { Error = "error", Warning = "warning" });
