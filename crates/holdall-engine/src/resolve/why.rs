//! What ruled an input out: complete, structured, and as a sentence.

use std::fmt;

use super::history::KnownVersion;
use crate::ids::{BuildId, JobId};
use crate::version::{Version, VersionDigest};

/// One thing that was tried for an input, and what ruled it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// The input for which it was tried.
    pub input: String,
    /// How many `passed` requirements of the inputs tied together were satisfied when it was ruled out.
    pub depth: usize,
    /// What ruled it out.
    pub cause: Cause,
}

/// A version that was met.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// What identifies it.
    pub digest: VersionDigest,
    /// The version itself; `None` where its row is gone.
    pub version: Option<Version>,
}

/// What ruled something out. Causes that stand in a build name the job and the build; where the requirement is
/// another input's, `of` names that input, and otherwise the input itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The resource has no version: it was never checked, or a check found none.
    NoVersion,
    /// Every version of the resource is disabled.
    AllDisabled {
        /// The newest of them.
        newest: Found,
    },
    /// No known version of the resource has the keys of the pin.
    PinNotFound {
        /// The pin.
        pin: Version,
    },
    /// The build has another version than the one already chosen.
    Mismatch {
        /// The upstream job.
        job: JobId,
        /// Its build.
        build: BuildId,
        /// What the build has.
        found: Found,
        /// The input for which another version is chosen.
        of: String,
        /// That version.
        chosen: Found,
        /// The build from which it was chosen.
        chosen_from: BuildId,
    },
    /// The version that the build has is disabled.
    Disabled {
        /// The upstream job.
        job: JobId,
        /// Its build.
        build: BuildId,
        /// What the build has.
        found: Found,
        /// The input that it could have been for.
        of: String,
    },
    /// The version that the build has is not the pinned one.
    PinMismatch {
        /// The upstream job.
        job: JobId,
        /// Its build.
        build: BuildId,
        /// What the build has.
        found: Found,
        /// The input that is pinned.
        of: String,
        /// The version that it is pinned to.
        pinned: Found,
    },
    /// The version that the build has is not known any more.
    Gone {
        /// The upstream job.
        job: JobId,
        /// Its build.
        build: BuildId,
        /// What the build has.
        found: Found,
        /// The input that it could have been for.
        of: String,
    },
    /// The build has no version of the input's resource.
    NotInBuild {
        /// The upstream job.
        job: JobId,
        /// Its build.
        build: BuildId,
    },
    /// With this build the versions would be the same that were tried before, and led nowhere.
    Doomed {
        /// The upstream job.
        job: JobId,
        /// Its build.
        build: BuildId,
        /// The versions, by input; inputs without a version yet are left out.
        set: Vec<(String, Found)>,
    },
    /// The job has no further succeeded build.
    NoMoreBuilds {
        /// The upstream job.
        job: JobId,
        /// How many builds were tried before.
        tried: usize,
        /// The versions that the builds had to have, by input.
        having: Vec<(String, Found)>,
        /// With `version: every`, the build that the job used last (reference, section 3.4): newer ones are tried
        /// whatever they have, and reruns of it are not tried.
        last_used: Option<BuildId>,
    },
}

impl Cause {
    /// The name of the kind of cause, as results have it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Cause::NoVersion => "no-version",
            Cause::AllDisabled { .. } => "all-disabled",
            Cause::PinNotFound { .. } => "pin-not-found",
            Cause::Mismatch { .. } => "mismatch",
            Cause::Disabled { .. } => "version-disabled",
            Cause::PinMismatch { .. } => "pin-mismatch",
            Cause::Gone { .. } => "version-gone",
            Cause::NotInBuild { .. } => "not-in-build",
            Cause::Doomed { .. } => "doomed",
            Cause::NoMoreBuilds { .. } => "no-more-builds",
        }
    }

    /// The upstream job, where there is one.
    pub fn job(&self) -> Option<JobId> {
        match self {
            Cause::NoVersion | Cause::AllDisabled { .. } | Cause::PinNotFound { .. } => None,
            Cause::Mismatch { job, .. }
            | Cause::Disabled { job, .. }
            | Cause::PinMismatch { job, .. }
            | Cause::Gone { job, .. }
            | Cause::NotInBuild { job, .. }
            | Cause::Doomed { job, .. }
            | Cause::NoMoreBuilds { job, .. } => Some(*job),
        }
    }

    /// The upstream build, where there is one.
    pub fn build(&self) -> Option<BuildId> {
        match self {
            Cause::NoVersion | Cause::AllDisabled { .. } | Cause::PinNotFound { .. } | Cause::NoMoreBuilds { .. } => {
                None
            }
            Cause::Mismatch { build, .. }
            | Cause::Disabled { build, .. }
            | Cause::PinMismatch { build, .. }
            | Cause::Gone { build, .. }
            | Cause::NotInBuild { build, .. }
            | Cause::Doomed { build, .. } => Some(*build),
        }
    }

    pub(super) fn found_mut(&mut self) -> Option<&mut Found> {
        match self {
            Cause::AllDisabled { newest: found }
            | Cause::Mismatch { found, .. }
            | Cause::Disabled { found, .. }
            | Cause::PinMismatch { found, .. }
            | Cause::Gone { found, .. } => Some(found),
            Cause::NoVersion
            | Cause::PinNotFound { .. }
            | Cause::NotInBuild { .. }
            | Cause::Doomed { .. }
            | Cause::NoMoreBuilds { .. } => None,
        }
    }

    /// The version that was ruled out, where there is one.
    pub fn found(&self) -> Option<&Found> {
        match self {
            Cause::AllDisabled { newest } => Some(newest),
            Cause::Mismatch { found, .. }
            | Cause::Disabled { found, .. }
            | Cause::PinMismatch { found, .. }
            | Cause::Gone { found, .. } => Some(found),
            Cause::NoVersion
            | Cause::PinNotFound { .. }
            | Cause::NotInBuild { .. }
            | Cause::Doomed { .. }
            | Cause::NoMoreBuilds { .. } => None,
        }
    }
}

impl Why {
    /// The other input whose requirement ruled it out, where there is one.
    pub fn other(&self) -> Option<&str> {
        match &self.cause {
            Cause::Mismatch { of, .. }
            | Cause::Disabled { of, .. }
            | Cause::PinMismatch { of, .. }
            | Cause::Gone { of, .. } => (*of != self.input).then_some(of),
            Cause::NoVersion
            | Cause::AllDisabled { .. }
            | Cause::PinNotFound { .. }
            | Cause::NotInBuild { .. }
            | Cause::Doomed { .. }
            | Cause::NoMoreBuilds { .. } => None,
        }
    }

    /// The whole as a sentence, with the names that `job_name` gives. Begins with the input's name.
    pub fn sentence(&self, job_name: &dyn Fn(JobId) -> String) -> String {
        let input = &self.input;
        let at = |job: &JobId, build: &BuildId| format!("build {build} of {}", job_name(*job));
        // What the build has is said of the input that it concerns.
        let of = |of: &String| if of == input { String::new() } else { format!(" for {of}") };
        match &self.cause {
            Cause::NoVersion => format!("{input}: its resource has no version"),
            Cause::AllDisabled { newest } => {
                format!("{input}: every version of its resource is disabled, the newest is {newest}")
            }
            Cause::PinNotFound { pin } => format!("{input}: its resource has no version {pin}, to which it is pinned"),
            Cause::Mismatch { job, build, found, of: other, chosen, chosen_from } => format!(
                "{input}: {} has {found}{}, but {chosen} is already chosen, from build {chosen_from}",
                at(job, build),
                of(other)
            ),
            Cause::Disabled { job, build, found, of: other } => {
                format!("{input}: {} has {found}{}, which is disabled", at(job, build), of(other))
            }
            Cause::PinMismatch { job, build, found, of: other, pinned } => format!(
                "{input}: {} has {found}{}, but {} is pinned to {pinned}",
                at(job, build),
                of(other),
                if other == input { "it" } else { other }
            ),
            Cause::Gone { job, build, found, of: other } => {
                format!("{input}: {} has {found}{}, which is not known any more", at(job, build), of(other))
            }
            Cause::NotInBuild { job, build } => format!("{input}: {} has no version for it", at(job, build)),
            Cause::Doomed { job, build, set } => format!(
                "{input}: with {} the versions would be {}, which was tried before and led nowhere",
                at(job, build),
                pairs(set)
            ),
            Cause::NoMoreBuilds { job, tried, having, last_used } => {
                let job = job_name(*job);
                let with = if having.is_empty() { String::new() } else { format!(" with {}", pairs(having)) };
                let left_out = match last_used {
                    None => String::new(),
                    Some(last) => format!("; reruns of build {last}, the one used last, do not count"),
                };
                // Some of those that `every` tries have other versions.
                let which = if last_used.is_some() { " that was tried" } else { &with };
                match tried {
                    0 => format!("{input}: {job} has no succeeded build{with}{left_out}"),
                    1 => format!("{input}: the only succeeded build of {job}{which} was ruled out{left_out}"),
                    n => format!("{input}: each of the {n} succeeded builds of {job}{which} was ruled out{left_out}"),
                }
            }
        }
    }
}

impl fmt::Display for Why {
    /// The sentence, with jobs by id.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence(&|job| format!("job {job}")))
    }
}

impl Found {
    /// A version that is known.
    pub(super) fn known(known: KnownVersion) -> Found {
        Found { digest: known.digest, version: Some(known.version) }
    }
}

impl fmt::Display for Found {
    /// The version as messages have it; of one that is gone, the beginning of its digest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => version.fmt(f),
            None => write!(f, "a version with digest {}", self.digest.0.chars().take(12).collect::<String>()),
        }
    }
}

fn pairs(set: &[(String, Found)]) -> String {
    let parts: Vec<String> = set.iter().map(|(input, found)| format!("{input} at {found}")).collect();
    parts.join(", ")
}
