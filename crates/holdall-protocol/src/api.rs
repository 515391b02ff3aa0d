//! Bodies of the API under [`BASE`]: what the command line, the pages and everyone's scripts speak.
//!
//! Paths below are relative to [`BASE`]. Requests carry `Authorization: Bearer TOKEN`; who acts follows from the
//! token. Lists are [`List`], errors are [`ErrorBody`], times are [`Time`].
//!
//! | request | body -> answer |
//! |---|---|
//! | `GET info` (no token needed) | -> [`Info`] |
//! | `GET doctor` | -> [`Doctor`] |
//! | `GET workers` | -> `List<`[`Worker`]`>` |
//! | `GET tokens`, `POST tokens`, `DELETE tokens/NAME` | [`TokenRequest`] -> [`TokenMade`]; `List<`[`Token`]`>` |
//! | `POST backup` | -> a backup, as text (JSON, one value a line) |
//! | `POST acts` | [`ActRequest`] -> [`ActAnswer`] |
//! | `GET systems` | -> `List<`[`SystemSummary`]`>` |
//! | `GET systems/S` | -> [`SystemDetail`] |
//! | `GET systems/S/bags?limit&after` (newest first) | -> `List<`[`BagSummary`]`>` |
//! | `GET systems/S/bags/N` | -> [`BagDetail`] |
//! | `GET systems/S/bags/N/diff?with=M` (from M to N) | -> [`BagDiff`] |
//! | `GET systems/S/environments` (in chain order) | -> `List<`[`EnvironmentSummary`]`>` |
//! | `GET systems/S/environments/E` | -> [`EnvironmentDetail`] |
//! | `GET systems/S/environments/E/why?bag=N` | -> `List<`[`Hold`]`>` |
//! | `GET systems/S/where?commit=TEXT` | -> [`Where`] |
//! | `GET locks`, `GET locks/E` | -> `List<`[`LockDetail`]`>`; [`LockDetail`] |
//! | `POST locks/E/acquire` | [`AcquireRequest`] -> [`AcquireAnswer`] |
//! | `POST locks/E/renew` | [`RenewRequest`] -> [`Granted`] |
//! | `POST locks/E/release` | [`ReleaseRequest`] -> [`Done`] |
//! | `GET pipelines?team` | -> `List<`[`PipelineSummary`]`>` |
//! | `GET pipelines/T/P` | -> [`PipelineDetail`] |
//! | `GET pipelines/T/P/jobs` | -> `List<`[`JobSummary`]`>` |
//! | `GET jobs/T/P/J` | -> [`JobDetail`] |
//! | `GET builds?team&pipeline&job&system&environment&deployment&status&limit&after` (newest first) | -> `List<`[`BuildSummary`]`>` |
//! | `GET builds/ID` | -> [`BuildDetail`] |
//! | `GET builds/ID/plan` | -> [`PlanStep`] |
//! | `GET builds/ID/events` (server-sent events, `Last-Event-ID`) | -> [`BuildEvent`] each |
//! | `GET builds/ID/log` | -> the bytes of its output |
//! | `GET resources?team&pipeline&system` | -> `List<`[`ResourceSummary`]`>` |
//! | `GET resources/T/P/R/versions?limit&after` (newest first) | -> `List<`[`ResourceVersion`]`>` |
//! | `POST resources/T/P/R/check` | [`CheckRequest`] -> [`CheckAnswer`] |
//! | `GET audit?system&environment&limit&after` (newest first) | -> `List<`[`AuditEntry`]`>` |
//! | `GET events?system` (server-sent events) | -> [`Change`] each |
//!
//! T is a team, P a pipeline, J a job, R a resource, S a system, E an environment; names are percent-encoded. What
//! does not exist and what the token may not see are the same 404.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod act;
mod admin;
mod bag;
mod build;
mod environment;
mod error;
mod lock;
mod pipeline;
mod preview;
mod report;
mod resource;
mod system;
mod time;

pub use act::{Act, ActAnswer, ActRequest, Made, PinTarget, Suspects, Then, TickTarget};
pub use admin::{
    AuditEntry, Change, ChangeKind, CheckState, Doctor, DoctorCheck, Done, Info, Token, TokenMade, TokenRequest, Worker,
};
pub use bag::{
    BagDetail, BagDiff, BagService, BagState, BagSummary, ChangeDirection, Commit, PassedTag, ServiceChange, Where,
    WhereEnvironment, WhereMatch,
};
pub use build::{
    BuildDetail, BuildEvent, BuildEventKind, BuildInput, BuildRef, BuildStatus, BuildSummary, OutputStream, PlanRole,
    PlanStep, StepOutcome,
};
pub use environment::{
    Deployment, DeploymentState, Direction, EnvironmentDetail, EnvironmentState, EnvironmentSummary, Freeze, Suspect,
};
pub use error::{Diagnostic, ErrorBody, ErrorDetails, Severity, code};
pub use lock::{
    AcquireAnswer, AcquireRequest, Granted, HolderKind, LockDetail, LockHolder, LockMode, LockSummary, LockWaiter,
    ReleaseRequest, RenewRequest, SummaryHolder, SummaryWaiter,
};
pub use pipeline::{Group, JobDetail, JobInput, JobSummary, PipelineDetail, PipelineSummary};
pub use preview::{Dropped, EnvironmentChange, HowDropped, NextBag, Preview, Start};
pub use report::Hold;
pub use resource::{CheckAnswer, CheckRequest, MetadataField, PinState, ResourceSummary, ResourceVersion, TickState};
pub use system::{ServiceSummary, SystemDetail, SystemSummary};
pub use time::{BadTime, Time};

/// What all paths begin with.
pub const BASE: &str = "/api/holdall/v1";

/// How many items a list gives without `limit`.
pub const DEFAULT_LIMIT: u32 = 100;

/// The most that `limit` may ask for.
pub const MAX_LIMIT: u32 = 1000;

/// A version as its resource type gives it.
pub type Version = BTreeMap<String, String>;

/// Part of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct List<T> {
    /// The items, in the order that the request's documentation says.
    pub items: Vec<T>,
    /// Given back as `after`, it fetches the items that follow; `None`: there are no more.
    pub next: Option<String>,
}

impl<T> List<T> {
    /// A list that is complete.
    pub fn whole(items: Vec<T>) -> List<T> {
        List { items, next: None }
    }
}

/// Gives a fieldless enum the names that it has on the wire, for tables and query parameters.
macro_rules! wire_names {
    ($name:ident { $($variant:ident = $text:literal),* $(,)? }) => {
        impl $name {
            /// The name on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text),* }
            }

            /// Reads a name that [`Self::as_str`] gave.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some($name::$variant),)* _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                Self::from_name(&name)
                    .ok_or_else(|| serde::de::Error::unknown_variant(&name, &[$($text),*]))
            }
        }
    };
}
use wire_names;

#[cfg(test)]
mod tests;
