//! Input resolution: which version each input of a job gets, or why it gets none (reference, part 3).
//!
//! [`resolve_inputs`] is the whole interface. It is pure but for the questions that it asks a [`History`]:
//!
//! - [`history`]: those questions; [`memory`] answers them from memory, the store from its tables.
//! - `plain`: inputs without `passed`; `group`: inputs with it, tied together by the jobs that they share.
//! - [`why`]: what ruled an input out; `ticked`: a past in which one version is not.
//! - [`document`]: the history of a job as a JSON file, and its evaluation away from the server.
//!
//! The scheduler decides what follows from a resolution.

pub mod document;
mod group;
pub mod history;
mod json;
pub mod memory;
mod plain;
mod ticked;
pub mod why;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::ids::{BuildId, JobId, ResourceId};
use crate::pipeline::VersionChoice;
use crate::version::{Version, VersionDigest};
pub use history::{
    BuildOrder, BuildPage, Direction, History, KnownVersion, Output, SucceededBuild, Used, VersionState,
    successful_outputs,
};
pub use memory::{MemoryHistory, PastBuild, PastInput, PastVersion};
pub use ticked::Ticked;
pub use why::{Cause, Found, Why};

/// An input of a job: a `get` step anywhere in its plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// The input's name, unique in the job.
    pub name: String,
    /// The resource that it gets.
    pub resource: ResourceId,
    /// The jobs that must have passed its version; a set: neither order nor repetition matters.
    pub passed: Vec<JobId>,
    /// Which version is wanted.
    pub wanted: Wanted,
    /// Whether a new version starts a build. Resolution only hands it on.
    pub trigger: bool,
}

/// Which version an input wants. `version: every` and a pin of the resource may come together; the pin then
/// chooses the version, and `every` the order in which upstream builds are tried.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Each version in turn, rather than the newest.
    pub every: bool,
    /// Only the version that has these keys.
    pub pin: Option<Version>,
}

impl Wanted {
    /// What a step's `version:` and its resource's pin come to: the step's own version goes before the pin
    /// (reference, section 3.1).
    pub fn new(step: &VersionChoice, resource_pin: Option<&Version>) -> Wanted {
        match step {
            VersionChoice::Pinned(version) => Wanted { every: false, pin: Some(version.clone()) },
            VersionChoice::Latest => Wanted { every: false, pin: resource_pin.cloned() },
            VersionChoice::Every => Wanted { every: true, pin: resource_pin.cloned() },
        }
    }
}

/// What [`resolve_inputs`] gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolution {
    /// Whether every input got a version; a job without inputs is resolved.
    pub resolved: bool,
    /// Whether another round may find a next version for an input with `version: every`. Over-approximates
    /// (reference, section 3.4): another round may find nothing new.
    pub has_next: bool,
    /// An entry for each input, in the order given.
    pub inputs: Vec<InputResult>,
}

impl Resolution {
    /// Whether a build is due: every input is resolved, and one that triggers has a version that this job never
    /// had under this name (reference, section 3.5).
    pub fn triggers(&self) -> bool {
        self.resolved
            && self.inputs.iter().any(|input| input.trigger && input.result.as_ref().is_ok_and(|r| r.first_occurrence))
    }
}

/// What became of one input.
#[derive(Debug, Clone, PartialEq)]
pub struct InputResult {
    /// The input's name.
    pub name: String,
    /// The resource that it gets.
    pub resource: ResourceId,
    /// As the input has it.
    pub trigger: bool,
    /// Its version, or why there is none.
    pub result: Result<Resolved, Unresolved>,
}

/// The version of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// What identifies the version.
    pub digest: VersionDigest,
    /// The version.
    pub version: Version,
    /// The upstream builds that vouched for it, one for each job of `passed`, in the order in which they did.
    pub passed_builds: Vec<BuildId>,
    /// Whether no build of the job, whatever its status, had this version under this input's name.
    pub first_occurrence: bool,
}

/// An input that gets no version.
#[derive(Debug, Clone, PartialEq)]
pub struct Unresolved {
    /// The reference's sentence for it.
    pub failure: Failure,
    /// Everything that was tried and what ruled it out, in the order in which it was tried, each once: a choice that
    /// comes to what led nowhere before is named as that. Inputs that are tied together share one list.
    pub why: Arc<[Why]>,
}

impl Unresolved {
    /// The obstacle that was met with the most requirements already satisfied: what is closest to working. The
    /// first of equals.
    pub fn nearest(&self) -> Option<&Why> {
        self.why.iter().reduce(|best, why| if why.depth > best.depth { why } else { best })
    }
}

/// Why an input is unresolved, in the reference's words (reference, section 3.7): what `Display` gives is compared
/// by scripts and must not change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The newest version is wanted and there is none.
    #[error("latest version of resource not found")]
    NoLatestVersion,
    /// Every version is wanted and there is none.
    #[error("version of resource not found")]
    NoVersion,
    /// No known version has the keys of the pin.
    #[error("pinned version {0} not found")]
    PinNotFound(Version),
    /// The upstream builds hold no set of versions that satisfies every `passed` of the inputs tied together.
    #[error("no satisfiable builds from passed jobs found for set of inputs")]
    NoSatisfiableBuilds,
}

/// What a resolver makes of one input before first occurrences are looked up.
struct Candidate {
    digest: VersionDigest,
    version: Version,
    passed_builds: Vec<BuildId>,
    has_next: bool,
}

/// Chooses a version for each of `inputs`, the inputs of `job`, from `history`. Fails only where the history does.
///
/// Inputs without `passed` are resolved one by one, the others in groups that share upstream jobs; groups are
/// independent of each other (reference, section 3.2).
pub fn resolve_inputs<H: History>(inputs: &[Input], job: JobId, history: &mut H) -> Result<Resolution, H::Error> {
    let mut results: Vec<Option<Result<Candidate, Unresolved>>> = inputs.iter().map(|_| None).collect();
    for (index, input) in inputs.iter().enumerate().filter(|(_, input)| input.passed.is_empty()) {
        results[index] = Some(plain::resolve(input, job, history)?);
    }
    for members in groups(inputs) {
        let grouped: Vec<&Input> = members.iter().map(|&index| &inputs[index]).collect();
        match group::resolve(&grouped, job, history)? {
            Ok(candidates) => {
                for (index, candidate) in members.into_iter().zip(candidates) {
                    results[index] = Some(Ok(candidate));
                }
            }
            Err(unresolved) => {
                for index in members {
                    results[index] = Some(Err(unresolved.clone()));
                }
            }
        }
    }

    let results = results.into_iter().map(|result| result.expect("every input is plain or in exactly one group"));
    let results: Vec<(&Input, Result<Candidate, Unresolved>)> = inputs.iter().zip(results).collect();
    let found = results.iter().filter_map(|(input, result)| {
        let candidate = result.as_ref().ok()?;
        Some((input.name.as_str(), input.resource, &candidate.digest))
    });
    let found: Vec<_> = found.collect();
    let mut were_used = history.were_used(job, &found)?.into_iter();
    let mut resolution = Resolution { resolved: true, has_next: false, inputs: Vec::with_capacity(inputs.len()) };
    for (input, result) in results {
        let result = match result {
            Ok(candidate) => {
                resolution.has_next |= candidate.has_next;
                let was_used = were_used.next().expect("there is an answer for each that was found");
                Ok(Resolved {
                    digest: candidate.digest,
                    version: candidate.version,
                    passed_builds: candidate.passed_builds,
                    first_occurrence: !was_used,
                })
            }
            Err(unresolved) => {
                resolution.resolved = false;
                Err(unresolved)
            }
        };
        resolution.inputs.push(InputResult {
            name: input.name.clone(),
            resource: input.resource,
            trigger: input.trigger,
            result,
        });
    }
    Ok(resolution)
}

/// The inputs with `passed`, by index, tied together greedily: each joins the *last* group that has one of its
/// jobs. Groups that a later input bridges stay apart (reference, section 3.2).
fn groups(inputs: &[Input]) -> Vec<Vec<usize>> {
    let mut groups: Vec<(Vec<usize>, BTreeSet<JobId>)> = Vec::new();
    for (index, input) in inputs.iter().enumerate().filter(|(_, input)| !input.passed.is_empty()) {
        match groups.iter_mut().rev().find(|(_, jobs)| input.passed.iter().any(|job| jobs.contains(job))) {
            Some((members, jobs)) => {
                members.push(index);
                jobs.extend(&input.passed);
            }
            None => groups.push((vec![index], input.passed.iter().copied().collect())),
        }
    }
    groups.into_iter().map(|(members, _)| members).collect()
}
