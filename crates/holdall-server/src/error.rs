//! What can go wrong when something is done to the server's state.

use holdall_engine::report::Hold;
use holdall_store::StoreError;

/// Why something was not done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is refused; nothing was changed.
    #[error("{0}")]
    Refused(Box<Refusal>),
}

/// A refusal, as the API gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// The status of HTTP.
    pub status: u16,
    /// What it is, stable over releases.
    pub code: &'static str,
    /// A sentence with the cause and the remedy.
    pub message: String,
    /// What holds it back, where that is why.
    pub holds: Vec<Hold>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error {
    /// A refusal of one sentence.
    pub fn refused(status: u16, code: &'static str, message: impl Into<String>) -> Error {
        Error::Refused(Box::new(Refusal { status, code, message: message.into(), holds: Vec::new() }))
    }

    /// There is no such thing (or it is not the asker's to see).
    pub fn not_found(what: impl std::fmt::Display) -> Error {
        Error::refused(404, "not_found", format!("there is no {what}"))
    }

    /// What was asked for makes no sense.
    pub fn invalid(message: impl Into<String>) -> Error {
        Error::refused(400, "invalid", message)
    }

    /// It does not go together with how things are.
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Error {
        Error::refused(409, code, message)
    }
}

/// JSON text of something that always has one.
pub(crate) fn json_text(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Inconsistent(error.to_string()))
}

/// A value from JSON text that this program wrote.
pub(crate) fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Inconsistent(error.to_string()))
}
