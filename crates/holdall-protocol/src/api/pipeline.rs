//! Pipelines and jobs.

use serde::{Deserialize, Serialize};

use super::{BuildRef, BuildSummary, Hold, Time, Version};

/// A pipeline in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PipelineSummary {
    /// Its team.
    pub team: String,
    /// Its name.
    pub pipeline: String,
    /// Whether it starts no builds.
    pub paused: bool,
    /// The system that it was compiled from.
    pub system: Option<String>,
    /// When it was last set.
    pub set_at: Time,
    /// How often it was set.
    pub config_version: i64,
}

/// A pipeline, whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PipelineDetail {
    /// As in a list.
    #[serde(flatten)]
    pub summary: PipelineSummary,
    /// Its text as it was set, or as it was compiled.
    pub text: String,
    /// Its tabs.
    pub groups: Vec<Group>,
}

/// A tab of a pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its jobs.
    pub jobs: Vec<String>,
}

/// A job in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSummary {
    /// Its team.
    pub team: String,
    /// Its pipeline.
    pub pipeline: String,
    /// Its name.
    pub job: String,
    /// Tabs that it is in.
    pub groups: Vec<String>,
    /// Whether it is paused itself.
    pub paused: bool,
    /// The newest build that ended.
    pub finished: Option<BuildRef>,
    /// The build that is pending or runs; the oldest of several.
    pub next: Option<BuildRef>,
}

/// A job, whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobDetail {
    /// As in a list.
    #[serde(flatten)]
    pub summary: JobSummary,
    /// Its inputs.
    pub inputs: Vec<JobInput>,
    /// What holds its next build back.
    pub report: Vec<Hold>,
    /// Its newest builds, newest first.
    pub builds: Vec<BuildSummary>,
    /// Whether a person may not trigger it.
    pub disable_manual_trigger: bool,
    /// Whether aborting its builds has to be confirmed.
    pub guarded: bool,
}

/// An input of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobInput {
    /// Its name.
    pub name: String,
    /// The resource.
    pub resource: String,
    /// Jobs that a version must have passed.
    pub passed: Vec<String>,
    /// Whether a new version starts a build.
    pub trigger: bool,
    /// The version that the next build would get.
    pub version: Option<Version>,
}
