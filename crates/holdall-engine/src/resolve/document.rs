//! The history of one job as a JSON document, so that a decision can be looked at, and repeated, away from the
//! server: what `holdall resolve` reads and `holdall admin export-history` writes.
//!
//! [`Document::parse`] is strict and reports every problem; [`Document::evaluate`] resolves; an [`Evaluation`]
//! serializes to the result document.
//!
//! Two keys go beyond the exchanged format, and are written only where a history cannot be told without them:
//! `"every": true` beside a pinned version (`version: every` on a pinned resource), and `"order": null` for a
//! version that is gone but still known to be disabled.

mod read;
mod result;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Serialize, Serializer};

use super::{Input, MemoryHistory, PastBuild, PastInput, PastVersion, Wanted, resolve_inputs};
use crate::ids::{BuildId, JobId, ResourceId};
use crate::status::BuildStatus;
use crate::version::{Version, VersionDigest};

pub use super::json::Problem;
pub use result::Evaluation;

/// Everything that input resolution of one job depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Document {
    /// The job whose inputs are resolved.
    pub job: String,
    /// The jobs, in the order of their ids.
    pub jobs: Vec<String>,
    /// The resources, in the order of their ids.
    pub resources: Vec<DocumentResource>,
    /// The inputs of the job, in the order of its configuration.
    pub inputs: Vec<DocumentInput>,
    /// The versions of the resources.
    pub versions: Vec<DocumentVersion>,
    /// The builds of the job, and of the jobs in `passed` of its inputs; others do no harm. A job or a resource that
    /// only builds name is one that is gone.
    pub builds: Vec<DocumentBuild>,
}

/// A resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DocumentResource {
    /// Its name.
    pub name: String,
    /// Whether it was ever checked; one that was not has no versions.
    pub checked: bool,
}

/// An input of the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DocumentInput {
    /// Its name.
    pub name: String,
    /// The name of its resource.
    pub resource: String,
    /// The names of the jobs that must have passed its version.
    pub passed: Vec<String>,
    /// Which version is wanted.
    #[serde(flatten)]
    pub wanted: DocumentWanted,
    /// Whether a new version starts a build.
    pub trigger: bool,
}

/// `version` of an input, and `every` beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentWanted(pub Wanted);

impl Serialize for DocumentWanted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Keys<'a, V: Serialize> {
            version: V,
            #[serde(skip_serializing_if = "Option::is_none")]
            every: Option<&'a bool>,
        }
        match &self.0 {
            Wanted { every: false, pin: None } => Keys { version: "latest", every: None }.serialize(serializer),
            Wanted { every: true, pin: None } => Keys { version: "every", every: None }.serialize(serializer),
            Wanted { every, pin: Some(pin) } => {
                Keys { version: pin, every: Some(every).filter(|every| **every) }.serialize(serializer)
            }
        }
    }
}

/// A version of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DocumentVersion {
    /// The name of the resource.
    pub resource: String,
    /// The version.
    pub version: Version,
    /// The check order: higher is newer. `None`: gone, and `enabled` is false.
    pub order: Option<i64>,
    /// Whether it may be chosen.
    pub enabled: bool,
}

/// A build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DocumentBuild {
    /// Its id.
    pub id: BuildId,
    /// The name of its job.
    pub job: String,
    /// Its status.
    pub status: BuildStatus,
    /// The id of the original, if it is a rerun.
    pub rerun_of: Option<BuildId>,
    /// What it got.
    pub inputs: Vec<DocumentBuildInput>,
    /// What it put.
    pub outputs: Vec<DocumentBuildOutput>,
    /// The upstream builds that vouched for its inputs.
    pub passed_builds: Vec<BuildId>,
}

/// What a build got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DocumentBuildInput {
    /// The input's name.
    pub name: String,
    /// The name of the resource.
    pub resource: String,
    /// The version.
    pub version: Version,
}

/// What a build put.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DocumentBuildOutput {
    /// The name of the resource.
    pub resource: String,
    /// The version.
    pub version: Version,
}

/// A document made ready for [`resolve_inputs`]: names as ids, by their position.
pub struct Prepared {
    /// The job.
    pub job: JobId,
    /// Its inputs.
    pub inputs: Vec<Input>,
    /// The history.
    pub history: MemoryHistory,
}

impl Document {
    /// Reads a document, or gives every problem of it, in the order in which they stand.
    pub fn parse(text: &[u8]) -> Result<Document, Vec<Problem>> {
        read::read(text)
    }

    /// Resolves the inputs of the job.
    pub fn evaluate(&self) -> Evaluation {
        let Prepared { job, inputs, mut history } = self.prepare();
        let Ok(resolution) = resolve_inputs(&inputs, job, &mut history);
        Evaluation::new(self, resolution)
    }

    /// Turns names into ids and indexes the history. Names are looked up in `jobs` and `resources`; inputs and
    /// builds that name others, as only a document that was not parsed can, are treated as gone.
    pub fn prepare(&self) -> Prepared {
        let names = Names::new(self);
        let inputs = self.inputs.iter().map(|input| Input {
            name: input.name.clone(),
            resource: names.resource(&input.resource),
            passed: input.passed.iter().map(|job| names.job(job)).collect(),
            wanted: input.wanted.0.clone(),
            trigger: input.trigger,
        });
        let checked: BTreeSet<&str> =
            self.resources.iter().filter(|resource| resource.checked).map(|resource| resource.name.as_str()).collect();
        let versions = self.versions.iter().filter(|version| checked.contains(version.resource.as_str()));
        let versions = versions.map(|version| PastVersion {
            resource: names.resource(&version.resource),
            version: version.version.clone(),
            order: version.order,
            enabled: version.enabled,
        });
        // The same versions occur in build after build.
        let mut digests: BTreeMap<&Version, VersionDigest> = BTreeMap::new();
        let mut builds = Vec::with_capacity(self.builds.len());
        for build in &self.builds {
            let mut digest = |version| digests.entry(version).or_insert_with(|| version.digest()).clone();
            builds.push(PastBuild {
                id: build.id,
                job: names.job(&build.job),
                status: build.status,
                rerun_of: build.rerun_of,
                inputs: build
                    .inputs
                    .iter()
                    .map(|input| PastInput {
                        name: input.name.clone(),
                        resource: names.resource(&input.resource),
                        digest: digest(&input.version),
                    })
                    .collect(),
                outputs: build
                    .outputs
                    .iter()
                    .map(|output| (names.resource(&output.resource), digest(&output.version)))
                    .collect(),
                passed_builds: build.passed_builds.clone(),
            });
        }
        Prepared { job: names.job(&self.job), inputs: inputs.collect(), history: MemoryHistory::new(versions, builds) }
    }
}

/// Ids for names: the position, from 1. What is gone gets 0: no input asks for it.
struct Names<'a> {
    jobs: BTreeMap<&'a str, i64>,
    resources: BTreeMap<&'a str, i64>,
}

impl<'a> Names<'a> {
    fn new(document: &'a Document) -> Names<'a> {
        Names {
            jobs: document.jobs.iter().map(String::as_str).zip(1..).collect(),
            resources: document.resources.iter().map(|resource| resource.name.as_str()).zip(1..).collect(),
        }
    }

    fn job(&self, name: &str) -> JobId {
        JobId(self.jobs.get(name).copied().unwrap_or(0))
    }

    fn resource(&self, name: &str) -> ResourceId {
        ResourceId(self.resources.get(name).copied().unwrap_or(0))
    }
}
