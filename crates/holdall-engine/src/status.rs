//! The statuses of builds and the outcomes of steps.

use serde::{Deserialize, Serialize};

/// The status of a build (reference, section 4.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuildStatus {
    /// Waits for its inputs, a slot, or a lock.
    Pending,
    /// Its plan is being walked.
    Started,
    /// Every step succeeded.
    Succeeded,
    /// A step said no.
    Failed,
    /// A step could not be carried out.
    Errored,
    /// A person, or the release model, stopped it.
    Aborted,
}

impl BuildStatus {
    /// Whether the build has ended; an ended build never changes again.
    pub fn is_terminal(self) -> bool {
        !matches!(self, BuildStatus::Pending | BuildStatus::Started)
    }

    /// The name as the API and the database have it.
    pub fn as_str(self) -> &'static str {
        match self {
            BuildStatus::Pending => "pending",
            BuildStatus::Started => "started",
            BuildStatus::Succeeded => "succeeded",
            BuildStatus::Failed => "failed",
            BuildStatus::Errored => "errored",
            BuildStatus::Aborted => "aborted",
        }
    }

    /// Reads a name that [`BuildStatus::as_str`] gave.
    pub fn from_name(name: &str) -> Option<BuildStatus> {
        [
            BuildStatus::Pending,
            BuildStatus::Started,
            BuildStatus::Succeeded,
            BuildStatus::Failed,
            BuildStatus::Errored,
            BuildStatus::Aborted,
        ]
        .into_iter()
        .find(|status| status.as_str() == name)
    }
}

/// How one step, or a whole plan, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It did what it was for.
    Succeeded,
    /// It ran and said no: a non-zero exit status, or its own time limit.
    Failed,
    /// It could not be carried out.
    Errored,
    /// It was stopped because the build was aborted.
    Aborted,
}
