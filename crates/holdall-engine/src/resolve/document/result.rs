//! The result document.

use std::collections::BTreeMap;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::Document;
use crate::ids::JobId;
use crate::resolve::why::{Cause, Found, Why};
use crate::resolve::{InputResult, Resolution};
use crate::version::{Version, VersionDigest};

/// What a document evaluates to. Serializes to the result document.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// The resolution, jobs and resources by their position in the document, from 1.
    pub resolution: Resolution,
    jobs: Vec<String>,
}

impl Evaluation {
    pub(super) fn new(document: &Document, mut resolution: Resolution) -> Evaluation {
        name_versions_that_are_gone(document, &mut resolution);
        Evaluation { resolution, jobs: document.jobs.clone() }
    }

    /// The name of a job of the resolution.
    pub fn job_name(&self, job: JobId) -> String {
        let position = usize::try_from(job.0).ok().and_then(|id| id.checked_sub(1));
        position.and_then(|position| self.jobs.get(position)).cloned().unwrap_or_else(|| format!("job {job}"))
    }
}

/// The document still says what a version was whose row is gone.
fn name_versions_that_are_gone(document: &Document, resolution: &mut Resolution) {
    let is_gone = |why: &Why| why.cause.found().is_some_and(|found| found.version.is_none());
    let unresolved = resolution.inputs.iter().filter_map(|input| input.result.as_ref().err());
    if !unresolved.flat_map(|unresolved| unresolved.why.iter()).any(is_gone) {
        return;
    }
    let mut versions: BTreeMap<VersionDigest, &Version> = BTreeMap::new();
    for build in &document.builds {
        let inputs = build.inputs.iter().map(|input| &input.version);
        for version in inputs.chain(build.outputs.iter().map(|output| &output.version)) {
            versions.entry(version.digest()).or_insert(version);
        }
    }
    for input in &mut resolution.inputs {
        let Err(unresolved) = &mut input.result else { continue };
        let named = unresolved.why.iter().cloned().map(|mut why| {
            if let Some(found) = why.cause.found_mut().filter(|found| found.version.is_none()) {
                found.version = versions.get(&found.digest).copied().cloned();
            }
            why
        });
        unresolved.why = named.collect();
    }
}

impl Serialize for Evaluation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("resolved", &self.resolution.resolved)?;
        map.serialize_entry("has_next", &self.resolution.has_next)?;
        map.serialize_entry("inputs", &Inputs(self))?;
        map.end()
    }
}

/// The inputs as an object, in the order of the configuration.
struct Inputs<'a>(&'a Evaluation);

impl Serialize for Inputs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let inputs = &self.0.resolution.inputs;
        serializer.collect_map(inputs.iter().map(|input| (&input.name, OneInput(self.0, input))))
    }
}

struct OneInput<'a>(&'a Evaluation, &'a InputResult);

impl Serialize for OneInput<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.1.result {
            Ok(resolved) => {
                map.serialize_entry("version", &resolved.version)?;
                map.serialize_entry("passed_builds", &resolved.passed_builds)?;
                map.serialize_entry("first_occurrence", &resolved.first_occurrence)?;
            }
            Err(unresolved) => {
                map.serialize_entry("error", &unresolved.failure.to_string())?;
                let why: Vec<OneWhy<'_>> = unresolved.why.iter().map(|why| OneWhy(self.0, why)).collect();
                map.serialize_entry("why", &why)?;
            }
        }
        map.end()
    }
}

struct OneWhy<'a>(&'a Evaluation, &'a Why);

impl Serialize for OneWhy<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let OneWhy(evaluation, why) = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("cause", why.cause.as_str())?;
        map.serialize_entry("input", &why.input)?;
        if let Some(other) = why.other() {
            map.serialize_entry("other", other)?;
        }
        if let Some(job) = why.cause.job() {
            map.serialize_entry("job", &evaluation.job_name(job))?;
        }
        if let Some(build) = why.cause.build() {
            map.serialize_entry("build", &build)?;
        }
        if let Some(found) = why.cause.found() {
            map.serialize_entry("version", &OneFound(found))?;
        }
        match &why.cause {
            Cause::PinNotFound { pin } => map.serialize_entry("pin", pin)?,
            Cause::Mismatch { chosen, chosen_from, .. } => {
                map.serialize_entry("chosen", &OneFound(chosen))?;
                map.serialize_entry("chosen_from", chosen_from)?;
            }
            Cause::PinMismatch { pinned, .. } => map.serialize_entry("pinned", &OneFound(pinned))?,
            Cause::Doomed { set, .. } => map.serialize_entry("set", &Set(set))?,
            Cause::NoMoreBuilds { tried, having, last_used, .. } => {
                map.serialize_entry("tried", tried)?;
                if !having.is_empty() {
                    map.serialize_entry("having", &Set(having))?;
                }
                if let Some(last_used) = last_used {
                    map.serialize_entry("last_used", last_used)?;
                }
            }
            Cause::NoVersion
            | Cause::AllDisabled { .. }
            | Cause::Disabled { .. }
            | Cause::Gone { .. }
            | Cause::NotInBuild { .. } => {}
        }
        map.serialize_entry("sentence", &why.sentence(&|job| evaluation.job_name(job)))?;
        map.end()
    }
}

/// A version, or the digest of one that nothing says more about.
struct OneFound<'a>(&'a Found);

impl Serialize for OneFound<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0.version {
            Some(version) => version.serialize(serializer),
            None => self.0.digest.serialize(serializer),
        }
    }
}

struct Set<'a>(&'a [(String, Found)]);

impl Serialize for Set<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(input, found)| (input, OneFound(found))))
    }
}
