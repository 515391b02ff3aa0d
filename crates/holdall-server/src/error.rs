//! What can go wrong when something is done to the server's state.

use holdall_config::diagnostic::did_you_mean;
use holdall_engine::report::Hold;
use holdall_protocol::api::{Diagnostic, Preview, code};
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
    /// One of the protocol's codes.
    pub code: &'static str,
    /// A sentence with the cause and the remedy.
    pub message: String,
    /// The command that does what was wanted, or lifts what is in the way.
    pub command: Option<String>,
    /// What holds it back, where that is why.
    pub holds: Vec<Hold>,
    /// What is wrong with a file.
    pub diagnostics: Vec<Diagnostic>,
    /// What the act would do now, where that has changed.
    pub preview: Option<Box<Preview>>,
    /// Names that are spelt like one that there is not.
    pub did_you_mean: Vec<String>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl Refusal {
    /// A refusal of one sentence.
    pub fn new(status: u16, code: &'static str, message: impl Into<String>) -> Refusal {
        Refusal {
            status,
            code,
            message: message.into(),
            command: None,
            holds: Vec::new(),
            diagnostics: Vec::new(),
            preview: None,
            did_you_mean: Vec::new(),
        }
    }

    /// With the command that does what was wanted.
    pub fn command(mut self, command: impl Into<String>) -> Refusal {
        self.command = Some(command.into());
        self
    }

    /// With what holds it back.
    pub fn holds(mut self, holds: Vec<Hold>) -> Refusal {
        self.holds = holds;
        self
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        Error::Refused(Box::new(refusal))
    }
}

impl Error {
    /// There is no such thing (or it is not the asker's to see).
    pub fn not_found(what: impl std::fmt::Display) -> Error {
        Refusal::new(404, code::NOT_FOUND, format!("there is no {what}")).into()
    }

    /// There is no such thing, and what there is of its kind: the name that is spelt like it is told.
    pub fn unknown<'a>(what: impl std::fmt::Display, name: &str, known: impl IntoIterator<Item = &'a String>) -> Error {
        let mut refusal = Refusal::new(404, code::NOT_FOUND, format!("there is no {what}"));
        refusal.did_you_mean.extend(did_you_mean(name, known.into_iter().map(String::as_str)).map(str::to_owned));
        refusal.into()
    }

    /// What was asked for makes no sense.
    pub fn invalid(message: impl Into<String>) -> Error {
        Refusal::new(422, code::INVALID, message).into()
    }

    /// It does not go together with how things are; `command` does what was wanted instead.
    pub fn refused(message: impl Into<String>, command: impl Into<String>) -> Error {
        Refusal::new(409, code::REFUSED, message).command(command).into()
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
