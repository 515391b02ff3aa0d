//! A past in which one version of a resource is known and enabled: what a resolution would be if it were.

use std::sync::Arc;

use super::history::{BuildOrder, BuildPage, History, KnownVersion, SucceededBuild, Used, VersionState};
use crate::ids::{BuildId, JobId, ResourceId};
use crate::version::{Version, VersionDigest};

/// A history in which builds that have the version may vouch for it. For inputs without `passed` it is as it was. Where
/// the version is not known, what is chosen has no keys, and no use of it counts for `version: every`.
#[derive(Debug)]
pub struct Ticked<'a, H> {
    history: &'a mut H,
    resource: ResourceId,
    digest: &'a VersionDigest,
}

impl<'a, H: History> Ticked<'a, H> {
    /// Ticks a version.
    pub fn new(history: &'a mut H, resource: ResourceId, digest: &'a VersionDigest) -> Ticked<'a, H> {
        Ticked { history, resource, digest }
    }
}

impl<H: History> History for Ticked<'_, H> {
    type Error = H::Error;

    fn newest_enabled(&mut self, resource: ResourceId, up_to: i64) -> Result<Option<KnownVersion>, H::Error> {
        self.history.newest_enabled(resource, up_to)
    }

    fn enabled_after(&mut self, resource: ResourceId, after: i64, limit: usize) -> Result<Vec<KnownVersion>, H::Error> {
        self.history.enabled_after(resource, after, limit)
    }

    fn newest_matching(&mut self, resource: ResourceId, pin: &Version) -> Result<Option<KnownVersion>, H::Error> {
        self.history.newest_matching(resource, pin)
    }

    fn versions(
        &mut self,
        wanted: &[(ResourceId, &VersionDigest)],
    ) -> Result<Vec<(ResourceId, KnownVersion)>, H::Error> {
        let mut found = self.history.versions(wanted)?;
        let is_ticked =
            |resource: ResourceId, digest: &VersionDigest| resource == self.resource && digest == self.digest;
        let is_known = found.iter().any(|(resource, known)| is_ticked(*resource, &known.digest));
        if !is_known && wanted.iter().any(|(resource, digest)| is_ticked(*resource, digest)) {
            let known = KnownVersion { digest: self.digest.clone(), version: Version::default(), order: 0 };
            found.push((self.resource, known));
        }
        Ok(found)
    }

    fn highest_used(&mut self, job: JobId, resource: ResourceId) -> Result<Option<Used>, H::Error> {
        self.history.highest_used(job, resource)
    }

    fn pipes_into(&mut self, build: BuildId) -> Result<Vec<(JobId, BuildOrder)>, H::Error> {
        self.history.pipes_into(build)
    }

    fn succeeded_builds(&mut self, pages: &[BuildPage<'_>]) -> Result<Vec<Vec<SucceededBuild>>, H::Error> {
        let mut all = self.history.succeeded_builds(pages)?;
        for build in all.iter_mut().flatten() {
            let is_ticked = |output: &super::Output| output.resource == self.resource && *output.digest == *self.digest;
            if build.outputs.iter().any(is_ticked) {
                let outputs = build.outputs.iter().cloned().map(|mut output| {
                    if is_ticked(&output) {
                        output.state = VersionState::Enabled;
                    }
                    output
                });
                build.outputs = outputs.collect();
            }
        }
        Ok(all)
    }

    fn vouched(
        &mut self,
        job: JobId,
        resource: ResourceId,
        digests: &[Arc<VersionDigest>],
    ) -> Result<Vec<VersionDigest>, H::Error> {
        self.history.vouched(job, resource, digests)
    }

    fn were_used(&mut self, job: JobId, inputs: &[(&str, ResourceId, &VersionDigest)]) -> Result<Vec<bool>, H::Error> {
        self.history.were_used(job, inputs)
    }
}
