//! What input resolution asks about the past: one method a question, each answerable by one indexed query.
//!
//! Implemented in memory for offline use, and by the store over its tables. Nothing here decides.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::ids::{BuildId, JobId, ResourceId};
use crate::version::{Version, VersionDigest};

/// A version of a resource as the history knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownVersion {
    /// What identifies it.
    pub digest: VersionDigest,
    /// The version itself.
    pub version: Version,
    /// The check order: greater is newer; 0 was never seen by a check (reference, section 2.2).
    pub order: i64,
}

/// Where a build stands among the builds of its job: a rerun directly after its original and before the next
/// original (reference, section 3.4, "cursor order"). The derived order is that order, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BuildOrder {
    /// `COALESCE(rerun_of, id)`.
    pub original: BuildId,
    /// The build.
    pub build: BuildId,
}

impl BuildOrder {
    /// The place of a build that is a rerun of `rerun_of`, or of none.
    pub fn new(build: BuildId, rerun_of: Option<BuildId>) -> BuildOrder {
        BuildOrder { original: rerun_of.unwrap_or(build), build }
    }

    /// What every build that is newer than this one comes after: for an original, its own reruns are not newer.
    pub(super) fn newer_bound(self) -> BuildOrder {
        if self.original == self.build {
            BuildOrder { original: self.original, build: BuildId(i64::MAX) }
        } else {
            self
        }
    }

    /// What this build and every older one come before.
    pub(super) fn older_bound(self) -> BuildOrder {
        BuildOrder { original: self.original, build: BuildId(self.build.0.saturating_add(1)) }
    }
}

/// The build of a job that used the version of a resource with the greatest check order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// The build; the one with the greatest id where several used that version.
    pub build: BuildId,
    /// The check order of the version.
    pub order: i64,
}

/// Which end of a job's succeeded builds a page starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Newest first, those strictly before the bound (all, without one).
    Descending(Option<BuildOrder>),
    /// Oldest first, those strictly after the bound.
    Ascending(BuildOrder),
}

/// A page of succeeded builds to fetch.
#[derive(Debug, Clone, Copy)]
pub struct BuildPage<'a> {
    /// The job whose builds.
    pub job: JobId,
    /// From where, and which way.
    pub direction: Direction,
    /// Only builds whose outputs hold each of these (reference, section 3.4, "constraints").
    pub having: &'a [(ResourceId, &'a VersionDigest)],
    /// The resources whose outputs are wanted; those of others may be left out.
    pub resources: &'a [ResourceId],
    /// How many builds at most.
    pub limit: usize,
}

/// A succeeded build with what it vouches for.
#[derive(Debug, Clone)]
pub struct SucceededBuild {
    /// Which build.
    pub order: BuildOrder,
    /// Its successful outputs in stored order, see [`successful_outputs`].
    pub outputs: Arc<[Output]>,
}

/// One version that a succeeded build vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The resource.
    pub resource: ResourceId,
    /// The version; shared, because the same few are met over and over.
    pub digest: Arc<VersionDigest>,
    /// Whether it may be chosen today.
    pub state: VersionState,
}

/// Whether a version of a resource may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionState {
    /// Known and enabled.
    Enabled,
    /// Unticked; known or not.
    Disabled,
    /// Enabled, but the version's row is gone.
    Gone,
}

/// The past of a pipeline as input resolution sees it.
///
/// Methods take `&mut self` so that an implementation may cache; the answers of one resolution must come from
/// one snapshot.
pub trait History {
    /// Why a question could not be answered.
    type Error;

    /// The enabled version with the greatest check order that is at most `up_to`. `None` as well for a resource
    /// that was never checked. Equal orders: the smallest digest.
    fn newest_enabled(&mut self, resource: ResourceId, up_to: i64) -> Result<Option<KnownVersion>, Self::Error>;

    /// The enabled versions with a check order greater than `after`, oldest first, at most `limit`. Equal orders: the
    /// smallest digest counts as newer.
    fn enabled_after(
        &mut self,
        resource: ResourceId,
        after: i64,
        limit: usize,
    ) -> Result<Vec<KnownVersion>, Self::Error>;

    /// The version with the greatest check order, enabled or not, that has every key of `pin` with the same
    /// value. Equal orders: the smallest digest.
    fn newest_matching(&mut self, resource: ResourceId, pin: &Version) -> Result<Option<KnownVersion>, Self::Error>;

    /// Those of these versions of resources that are known, in any order. Each is given once.
    fn versions(
        &mut self,
        wanted: &[(ResourceId, &VersionDigest)],
    ) -> Result<Vec<(ResourceId, KnownVersion)>, Self::Error>;

    /// Among the versions of the resource that are known today and that any build of `job`, whatever its status,
    /// had as an input of whatever name: the use of the one with the greatest check order.
    fn highest_used(&mut self, job: JobId, resource: ResourceId) -> Result<Option<Used>, Self::Error>;

    /// The upstream builds that vouched for the inputs of `build`, by ascending build id.
    fn pipes_into(&mut self, build: BuildId) -> Result<Vec<(JobId, BuildOrder)>, Self::Error>;

    /// Pages of the succeeded builds of jobs, in the order asked for and all for the same resources; the builds of
    /// each in the page's direction. Fewer than the limit: there are no more. Several pages are asked for at once
    /// where later ones will likely be wanted, so that they cost one query.
    fn succeeded_builds(&mut self, pages: &[BuildPage<'_>]) -> Result<Vec<Vec<SucceededBuild>>, Self::Error>;

    /// Those of the versions with these digests that a succeeded build of `job` has among its outputs, in any order.
    /// Every digest is given once.
    fn vouched(
        &mut self,
        job: JobId,
        resource: ResourceId,
        digests: &[Arc<VersionDigest>],
    ) -> Result<Vec<VersionDigest>, Self::Error>;

    /// Of each of these, in their order: whether any build of `job`, whatever its status, had an input of this name with
    /// this version.
    fn were_used(
        &mut self,
        job: JobId,
        inputs: &[(&str, ResourceId, &VersionDigest)],
    ) -> Result<Vec<bool>, Self::Error>;
}

/// The successful outputs of a build in their stored order: by resource id ascending, and of each resource the
/// outputs before the inputs, each version once (reference, sections 3.1 and 3.4). The iterators give resource
/// and version in the order in which the build recorded them.
pub fn successful_outputs(
    outputs: impl IntoIterator<Item = (ResourceId, VersionDigest)>,
    inputs: impl IntoIterator<Item = (ResourceId, VersionDigest)>,
) -> Vec<(ResourceId, VersionDigest)> {
    let mut seen = BTreeSet::new();
    let mut all: Vec<_> = outputs.into_iter().chain(inputs).filter(|pair| seen.insert(pair.clone())).collect();
    all.sort_by_key(|(resource, _)| *resource);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(build: i64, rerun_of: Option<i64>) -> BuildOrder {
        BuildOrder::new(BuildId(build), rerun_of.map(BuildId))
    }

    #[test]
    fn a_rerun_sorts_between_its_original_and_the_next_original() {
        let mut builds = [order(5, Some(1)), order(2, None), order(1, None), order(3, Some(1))];
        builds.sort();
        assert_eq!(builds, [order(1, None), order(3, Some(1)), order(5, Some(1)), order(2, None)]);
    }

    #[test]
    fn a_rerun_of_the_cursor_is_neither_newer_nor_older() {
        let cursor = order(1, None);
        let rerun = order(3, Some(1));
        assert!(rerun < cursor.newer_bound() && rerun > cursor.older_bound());
        assert!(order(2, None) > cursor.newer_bound());
        assert!(cursor < cursor.older_bound());
    }

    #[test]
    fn a_cursor_on_a_rerun_has_later_reruns_after_it_and_its_original_before_it() {
        let cursor = order(3, Some(1));
        assert!(order(5, Some(1)) > cursor.newer_bound() && order(2, None) > cursor.newer_bound());
        assert!(order(1, None) < cursor.older_bound() && cursor < cursor.older_bound());
        assert!(order(5, Some(1)) > cursor.older_bound());
    }

    #[test]
    fn outputs_come_before_inputs_of_the_same_resource_and_each_once() {
        let digest = |text: &str| VersionDigest(text.to_owned());
        let all = successful_outputs(
            [(ResourceId(2), digest("b")), (ResourceId(1), digest("x"))],
            [(ResourceId(2), digest("a")), (ResourceId(2), digest("b"))],
        );
        assert_eq!(all, [(ResourceId(1), digest("x")), (ResourceId(2), digest("b")), (ResourceId(2), digest("a"))]);
    }
}
