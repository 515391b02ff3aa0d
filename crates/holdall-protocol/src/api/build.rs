//! Builds: their state, their plan, and what happens in them.

use serde::{Deserialize, Serialize};

use super::{Hold, MetadataField, Time, Version};

/// Names a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildRef {
    /// Its id, unique over the whole server.
    pub id: i64,
    /// Its number in its job, `7`, or `7.2` for a rerun.
    pub name: String,
    /// Its team.
    pub team: String,
    /// Its pipeline.
    pub pipeline: String,
    /// Its job.
    pub job: String,
    /// How it stands.
    pub status: BuildStatus,
}

/// The status of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BuildStatus {
    /// It waits.
    Pending,
    /// It runs.
    Started,
    /// Every step succeeded.
    Succeeded,
    /// A step said no.
    Failed,
    /// A step could not be carried out.
    Errored,
    /// It was stopped.
    Aborted,
}

super::wire_names!(BuildStatus {
    Pending = "pending",
    Started = "started",
    Succeeded = "succeeded",
    Failed = "failed",
    Errored = "errored",
    Aborted = "aborted",
});

impl BuildStatus {
    /// Whether it has ended.
    pub fn is_terminal(self) -> bool {
        !matches!(self, BuildStatus::Pending | BuildStatus::Started)
    }
}

/// A build in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuildSummary {
    /// Which.
    #[serde(flatten)]
    pub build: BuildRef,
    /// When it was made.
    pub created_at: Time,
    /// When its first step started.
    pub started_at: Option<Time>,
    /// When it ended.
    pub ended_at: Option<Time>,
    /// Who made it; `None`: it was made by a new version.
    pub created_by: Option<String>,
    /// The build that it is a rerun of.
    pub rerun_of: Option<i64>,
    /// The system, for a job of the release model.
    pub system: Option<String>,
    /// The environment, for a job of the release model.
    pub environment: Option<String>,
    /// The deployment that it belongs to.
    pub deployment: Option<i64>,
    /// The bag that it is about.
    pub bag: Option<i64>,
    /// A sentence where the status needs one: why it was aborted.
    pub note: Option<String>,
}

/// A build, whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuildDetail {
    /// As in a list.
    #[serde(flatten)]
    pub summary: BuildSummary,
    /// Whether aborting it has to be confirmed.
    pub guarded: bool,
    /// Whether somebody has asked for it to be aborted.
    pub aborting: bool,
    /// What it got.
    pub inputs: Vec<BuildInput>,
    /// What it made.
    pub outputs: Vec<BuildInput>,
    /// What it waits for, when it is pending; what holds it up, when it runs: that its worker is lost, say.
    pub report: Vec<Hold>,
}

/// A version that went into a build or came out of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuildInput {
    /// The step's name.
    pub name: String,
    /// The resource.
    pub resource: String,
    /// The version.
    pub version: Version,
    /// Whether no build of the job had it before.
    pub first_occurrence: bool,
}

/// A node of a build's plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanStep {
    /// Names it in the build's events.
    pub id: String,
    /// `get`, `put`, `task`, `do`, `in_parallel`, `try`, `attempts`, `timeout`, `hooks`, ...
    pub kind: String,
    /// What it is called, for those that have a name.
    pub name: Option<String>,
    /// What it is to the step around it.
    pub role: PlanRole,
    /// The steps in it.
    pub steps: Vec<PlanStep>,
}

/// What a step of a plan is to the step around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PlanRole {
    /// One of its steps.
    Step,
    /// Another try of the same step.
    Attempt,
    /// Its hook `on_success`.
    OnSuccess,
    /// Its hook `on_failure`.
    OnFailure,
    /// Its hook `on_error`.
    OnError,
    /// Its hook `on_abort`.
    OnAbort,
    /// Its hook `ensure`.
    Ensure,
}

super::wire_names!(PlanRole {
    Step = "step",
    Attempt = "attempt",
    OnSuccess = "on_success",
    OnFailure = "on_failure",
    OnError = "on_error",
    OnAbort = "on_abort",
    Ensure = "ensure",
});

/// Something that happened in a build. As a server-sent event its `id` is `seq` and its `data` is this, JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuildEvent {
    /// Grows with each event of the build; `Last-Event-ID` goes on after it.
    pub seq: i64,
    /// When.
    pub at: Time,
    /// The step that it is about; `None`: the build.
    pub step: Option<String>,
    /// What.
    #[serde(flatten)]
    pub kind: BuildEventKind,
}

/// What a [`BuildEvent`] says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum BuildEventKind {
    /// The build's status changed.
    Status {
        /// To this.
        status: BuildStatus,
    },
    /// What holds the build back, whenever that changes; empty: nothing does any more. It is no part of the journal: it
    /// has no id of its own, and a reader that comes later is told what holds then.
    Waiting {
        /// All of it.
        holds: Vec<Hold>,
    },
    /// The step's process runs.
    Started {
        /// The worker that runs it; `None`: the server itself.
        worker: Option<String>,
    },
    /// The step wrote something.
    Output {
        /// Where to.
        stream: OutputStream,
        /// What, as text: bytes that are not UTF-8 are replaced. `builds/ID/log` has the bytes.
        text: String,
    },
    /// The step has a version.
    Version {
        /// The version.
        version: Version,
        /// For people.
        metadata: Vec<MetadataField>,
    },
    /// Something that Holdall has to say about the step or the build.
    Message {
        /// A sentence.
        message: String,
    },
    /// The step ended.
    Finished {
        /// How.
        outcome: StepOutcome,
        /// Its process's exit status.
        exit_status: Option<i32>,
    },
    /// The build has ended and everything has been said: nothing follows.
    End,
}

/// Which stream a step wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

super::wire_names!(OutputStream { Stdout = "stdout", Stderr = "stderr" });

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepOutcome {
    /// It did what it was for.
    Succeeded,
    /// It said no.
    Failed,
    /// It could not be carried out.
    Errored,
    /// It was stopped.
    Aborted,
    /// It did not run: it was not needed, or the build ended before.
    Skipped,
}

super::wire_names!(StepOutcome {
    Succeeded = "succeeded",
    Failed = "failed",
    Errored = "errored",
    Aborted = "aborted",
    Skipped = "skipped",
});
