//! A history held in memory: what a document describes, and what tests make up.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::ops::Bound;
use std::sync::Arc;

use super::history::{
    BuildOrder, BuildPage, Direction, History, KnownVersion, Output, SucceededBuild, Used, VersionState,
    successful_outputs,
};
use crate::ids::{BuildId, JobId, ResourceId};
use crate::status::BuildStatus;
use crate::version::{Version, VersionDigest};

/// A version of a resource to put into a [`MemoryHistory`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastVersion {
    /// The resource.
    pub resource: ResourceId,
    /// The version.
    pub version: Version,
    /// Its check order; `None`: the version is gone, only that it was disabled is still known.
    pub order: Option<i64>,
    /// Whether it may be chosen.
    pub enabled: bool,
}

/// A build to put into a [`MemoryHistory`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastBuild {
    /// Its id.
    pub id: BuildId,
    /// Its job.
    pub job: JobId,
    /// Its status; only succeeded builds vouch.
    pub status: BuildStatus,
    /// The original, if it is a rerun.
    pub rerun_of: Option<BuildId>,
    /// What it got, in the order in which that was recorded.
    pub inputs: Vec<PastInput>,
    /// What it put, in the order in which that was recorded.
    pub outputs: Vec<(ResourceId, VersionDigest)>,
    /// The upstream builds that vouched for its inputs.
    pub passed_builds: Vec<BuildId>,
}

/// An input that a build had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastInput {
    /// The input's name.
    pub name: String,
    /// The resource.
    pub resource: ResourceId,
    /// The version.
    pub digest: VersionDigest,
}

/// A history in memory, indexed for every question at once when it is made.
#[derive(Debug, Default)]
pub struct MemoryHistory {
    resources: BTreeMap<ResourceId, Versions>,
    jobs: BTreeMap<JobId, Builds>,
    orders: BTreeMap<BuildId, (JobId, BuildOrder)>,
    pipes: BTreeMap<BuildId, BTreeSet<BuildId>>,
}

/// The versions of one resource.
#[derive(Debug, Default)]
struct Versions {
    /// The newest first; of equal orders the smallest digest first.
    newest_first: Vec<KnownVersion>,
    /// Places in `newest_first`.
    enabled: Vec<usize>,
    /// Places in `newest_first`.
    by_digest: BTreeMap<VersionDigest, usize>,
    disabled: BTreeSet<VersionDigest>,
}

/// The builds of one job.
#[derive(Debug, Default)]
struct Builds {
    succeeded: BTreeMap<BuildOrder, Arc<[Output]>>,
    /// The succeeded builds that have a version among their outputs, ascending.
    having: BTreeMap<ResourceId, BTreeMap<Arc<VersionDigest>, Vec<SucceededBuild>>>,
    /// The inputs of all builds, by the names that they had.
    used: BTreeMap<ResourceId, BTreeMap<VersionDigest, Names>>,
    highest_used: BTreeMap<ResourceId, Used>,
}

#[derive(Debug)]
struct Names {
    names: BTreeSet<String>,
    /// The greatest id of a build that used the version.
    build: BuildId,
}

impl MemoryHistory {
    /// Indexes a history. Of versions and builds that are given twice, the last counts.
    pub fn new(
        versions: impl IntoIterator<Item = PastVersion>,
        builds: impl IntoIterator<Item = PastBuild>,
    ) -> MemoryHistory {
        let mut history = MemoryHistory::default();
        for version in versions {
            history.resources.entry(version.resource).or_default().add(version);
        }
        history.resources.values_mut().for_each(Versions::index);
        let mut digests = BTreeSet::new();
        for build in builds {
            history.add(build, &mut digests);
        }
        for job in history.jobs.values_mut() {
            job.index(&history.resources);
        }
        history
    }

    fn add(&mut self, build: PastBuild, digests: &mut BTreeSet<Arc<VersionDigest>>) {
        let order = BuildOrder::new(build.id, build.rerun_of);
        self.orders.insert(build.id, (build.job, order));
        self.pipes.entry(build.id).or_default().extend(&build.passed_builds);
        let builds = self.jobs.entry(build.job).or_default();
        for input in &build.inputs {
            let used = builds.used.entry(input.resource).or_default().entry(input.digest.clone());
            let used = used.or_insert_with(|| Names { names: BTreeSet::new(), build: build.id });
            used.names.insert(input.name.clone());
            used.build = used.build.max(build.id);
        }
        if build.status == BuildStatus::Succeeded {
            let inputs = build.inputs.into_iter().map(|input| (input.resource, input.digest));
            let outputs = successful_outputs(build.outputs, inputs).into_iter().map(|(resource, digest)| {
                let state = match self.resources.get(&resource) {
                    Some(versions) => versions.state(&digest),
                    None => VersionState::Gone,
                };
                let shared = digests.get(&digest).cloned().unwrap_or_else(|| {
                    let digest = Arc::new(digest);
                    digests.insert(digest.clone());
                    digest
                });
                Output { resource, digest: shared, state }
            });
            builds.succeeded.insert(order, outputs.collect());
        }
    }

    fn known(&self, resource: ResourceId) -> &[KnownVersion] {
        self.resources.get(&resource).map_or(&[], |versions| &versions.newest_first)
    }
}

impl Versions {
    fn add(&mut self, version: PastVersion) {
        let digest = version.version.digest();
        if version.enabled {
            self.disabled.remove(&digest);
        } else {
            self.disabled.insert(digest.clone());
        }
        if let Some(order) = version.order {
            self.newest_first.push(KnownVersion { digest, version: version.version, order });
        }
    }

    fn index(&mut self) {
        let by_digest: BTreeMap<VersionDigest, KnownVersion> =
            self.newest_first.drain(..).map(|known| (known.digest.clone(), known)).collect();
        self.newest_first = by_digest.into_values().collect();
        self.newest_first.sort_by_key(|known| std::cmp::Reverse(known.order));
        self.by_digest =
            self.newest_first.iter().enumerate().map(|(place, known)| (known.digest.clone(), place)).collect();
        self.enabled = (0..self.newest_first.len())
            .filter(|&place| !self.disabled.contains(&self.newest_first[place].digest))
            .collect();
    }

    fn state(&self, digest: &VersionDigest) -> VersionState {
        if self.disabled.contains(digest) {
            VersionState::Disabled
        } else if self.by_digest.contains_key(digest) {
            VersionState::Enabled
        } else {
            VersionState::Gone
        }
    }

    /// How many of `enabled` are newer than `order`.
    fn enabled_newer(&self, order: i64) -> usize {
        self.enabled.partition_point(|&place| self.newest_first[place].order > order)
    }
}

impl Builds {
    fn index(&mut self, resources: &BTreeMap<ResourceId, Versions>) {
        for (&order, outputs) in &self.succeeded {
            for output in outputs.iter() {
                let having = self.having.entry(output.resource).or_default();
                let build = SucceededBuild { order, outputs: outputs.clone() };
                having.entry(output.digest.clone()).or_default().push(build);
            }
        }
        for (resource, used) in &self.used {
            let Some(versions) = resources.get(resource) else { continue };
            let known = used.iter().filter_map(|(digest, names)| {
                let place = *versions.by_digest.get(digest)?;
                Some(Used { build: names.build, order: versions.newest_first[place].order })
            });
            if let Some(highest) = known.max_by_key(|used| (used.order, used.build)) {
                self.highest_used.insert(*resource, highest);
            }
        }
    }

    fn page(&self, page: &BuildPage<'_>) -> Vec<SucceededBuild> {
        let build = |(order, outputs): (&BuildOrder, &Arc<[Output]>)| SucceededBuild {
            order: *order,
            outputs: outputs.clone(),
        };
        let limit = page.limit;
        match (page.having, page.direction) {
            ([], Direction::Descending(None)) => self.succeeded.iter().rev().map(build).take(limit).collect(),
            ([], Direction::Descending(Some(before))) => {
                self.succeeded.range(..before).rev().map(build).take(limit).collect()
            }
            ([], Direction::Ascending(after)) => {
                let newer = self.succeeded.range((Bound::Excluded(after), Bound::Unbounded));
                newer.map(build).take(limit).collect()
            }
            (having, direction) => self.page_having(having, direction, limit).unwrap_or_default(),
        }
    }

    /// A page of the succeeded builds that have each of the versions; `None`: there is none.
    fn page_having(
        &self,
        having: &[(ResourceId, &VersionDigest)],
        direction: Direction,
        limit: usize,
    ) -> Option<Vec<SucceededBuild>> {
        let list = |(resource, digest): &(ResourceId, &VersionDigest)| self.having.get(resource)?.get(*digest);
        let mut shortest = list(having.first()?)?;
        for pair in &having[1..] {
            shortest = [shortest, list(pair)?].into_iter().min_by_key(|list| list.len())?;
        }
        let has_all = |build: &&SucceededBuild| {
            having.len() == 1
                || having
                    .iter()
                    .filter_map(list)
                    .all(|list| list.binary_search_by_key(&build.order, |build| build.order).is_ok())
        };
        Some(match direction {
            Direction::Descending(before) => {
                let end = match before {
                    None => shortest.len(),
                    Some(before) => shortest.partition_point(|build| build.order < before),
                };
                shortest[..end].iter().rev().filter(has_all).take(limit).cloned().collect()
            }
            Direction::Ascending(after) => {
                let start = shortest.partition_point(|build| build.order <= after);
                shortest[start..].iter().filter(has_all).take(limit).cloned().collect()
            }
        })
    }
}

impl History for MemoryHistory {
    type Error = Infallible;

    fn newest_enabled(&mut self, resource: ResourceId, up_to: i64) -> Result<Option<KnownVersion>, Infallible> {
        Ok(self.resources.get(&resource).and_then(|versions| {
            let place = *versions.enabled.get(versions.enabled_newer(up_to))?;
            Some(versions.newest_first[place].clone())
        }))
    }

    fn enabled_after(
        &mut self,
        resource: ResourceId,
        after: i64,
        limit: usize,
    ) -> Result<Vec<KnownVersion>, Infallible> {
        Ok(self.resources.get(&resource).map_or_else(Vec::new, |versions| {
            let newer = &versions.enabled[..versions.enabled_newer(after)];
            newer.iter().rev().take(limit).map(|&place| versions.newest_first[place].clone()).collect()
        }))
    }

    fn newest_matching(&mut self, resource: ResourceId, pin: &Version) -> Result<Option<KnownVersion>, Infallible> {
        Ok(self.known(resource).iter().find(|known| known.version.matches(pin)).cloned())
    }

    fn versions(
        &mut self,
        wanted: &[(ResourceId, &VersionDigest)],
    ) -> Result<Vec<(ResourceId, KnownVersion)>, Infallible> {
        let known = wanted.iter().filter_map(|(resource, digest)| {
            let versions = self.resources.get(resource)?;
            let place = *versions.by_digest.get(*digest)?;
            Some((*resource, versions.newest_first[place].clone()))
        });
        Ok(known.collect())
    }

    fn highest_used(&mut self, job: JobId, resource: ResourceId) -> Result<Option<Used>, Infallible> {
        Ok(self.jobs.get(&job).and_then(|builds| builds.highest_used.get(&resource)).copied())
    }

    fn pipes_into(&mut self, build: BuildId) -> Result<Vec<(JobId, BuildOrder)>, Infallible> {
        let pipes = self.pipes.get(&build).into_iter().flatten();
        Ok(pipes.filter_map(|from| self.orders.get(from)).copied().collect())
    }

    fn succeeded_builds(&mut self, pages: &[BuildPage<'_>]) -> Result<Vec<Vec<SucceededBuild>>, Infallible> {
        let page = |page: &BuildPage<'_>| self.jobs.get(&page.job).map_or_else(Vec::new, |builds| builds.page(page));
        Ok(pages.iter().map(page).collect())
    }

    fn vouched(
        &mut self,
        job: JobId,
        resource: ResourceId,
        digests: &[Arc<VersionDigest>],
    ) -> Result<Vec<VersionDigest>, Infallible> {
        let having = self.jobs.get(&job).and_then(|builds| builds.having.get(&resource));
        let found = digests.iter().filter(|digest| having.is_some_and(|having| having.contains_key(*digest)));
        Ok(found.map(|digest| VersionDigest::clone(digest)).collect())
    }

    fn were_used(
        &mut self,
        job: JobId,
        inputs: &[(&str, ResourceId, &VersionDigest)],
    ) -> Result<Vec<bool>, Infallible> {
        let builds = self.jobs.get(&job);
        let was_used = |(input, resource, digest): &(&str, ResourceId, &VersionDigest)| {
            let used = builds.and_then(|builds| builds.used.get(resource)?.get(*digest));
            used.is_some_and(|used| used.names.contains(*input))
        };
        Ok(inputs.iter().map(was_used).collect())
    }
}
