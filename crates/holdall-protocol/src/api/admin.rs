//! The server itself: who it is, how it is, who did what, who may come in.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Time;

/// That something without an answer of its own was done.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Done {}

/// What a server says of itself to everyone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Info {
    /// The server's version of `holdall`.
    pub version: String,
    /// What its clock says.
    pub server_time: Time,
    /// Since when it runs.
    pub started_at: Time,
    /// `sqlite` or `postgresql`.
    pub database: String,
    /// The name of the token that came with the request.
    pub user: Option<String>,
}

/// How a server is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Doctor {
    /// What its clock says.
    pub server_time: Time,
    /// What was looked at.
    pub checks: Vec<DoctorCheck>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DoctorCheck {
    /// What: `database`, `disk`, `workers`, `checks`, ...
    pub name: String,
    /// How it is.
    pub state: CheckState,
    /// The same for people.
    pub sentence: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// How a thing that was looked at is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckState {
    /// Good.
    Ok,
    /// It works, but somebody should look.
    Warning,
    /// It does not work.
    Failed,
}

super::wire_names!(CheckState { Ok = "ok", Warning = "warning", Failed = "failed" });

/// A worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// Its name.
    pub name: String,
    /// `linux`.
    pub platform: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// The only team that it works for.
    pub team: Option<String>,
    /// How many steps it takes at once.
    pub slots: u32,
    /// How many it runs.
    pub running: u32,
    /// Its version of `holdall`.
    pub version: String,
    /// When it was last heard of.
    pub seen_at: Time,
    /// Whether it is thought to be there.
    pub alive: bool,
}

/// One act, as it is remembered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Grows.
    pub id: i64,
    /// When.
    pub at: Time,
    /// Who.
    pub who: String,
    /// From where: `holdall`, `web`, `fly`, with the address.
    pub via: String,
    /// The act's name, as [`Act::name`](super::Act::name) gives it, or what the server did by itself.
    pub act: String,
    /// What it was done to, for people.
    pub what: String,
    /// The system.
    pub system: Option<String>,
    /// The environment.
    pub environment: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// A ticket elsewhere.
    pub ticket: Option<String>,
    /// What was before.
    pub before: Value,
    /// What is after.
    pub after: Value,
}

/// Makes a token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenRequest {
    /// Who it is for: the name that the audit log shows.
    pub name: String,
}

/// A token that was made. It is shown this once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenMade {
    /// Who it is for.
    pub name: String,
    /// The secret.
    pub token: String,
}

/// A token in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Token {
    /// Who it is for.
    pub name: String,
    /// When it was made.
    pub created_at: Time,
    /// By whom.
    pub created_by: Option<String>,
    /// When it was last used.
    pub used_at: Option<Time>,
}

/// That something changed that pages show: they look again. As a server-sent event its `data` is this, JSON. A client
/// that was away looks at everything again: changes are not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What kind of thing changed.
    pub kind: ChangeKind,
}

/// What kind of thing a [`Change`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It is not said.
    Everything,
}

super::wire_names!(ChangeKind { Everything = "everything" });
