//! Why something does not move.

use serde::{Deserialize, Serialize};

use super::Time;

/// One thing that holds a bag or a job back (release model, section 8).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    /// Stable name, one of the release model's: `lock-held`, `frozen`, ...
    pub code: String,
    /// What it is, for people.
    pub sentence: String,
    /// Since when it holds.
    pub since: Option<Time>,
    /// Who or what can lift it.
    pub by: Option<String>,
    /// When it ends by itself.
    pub until: Option<Time>,
    /// The command that lifts it.
    pub command: Option<String>,
}
