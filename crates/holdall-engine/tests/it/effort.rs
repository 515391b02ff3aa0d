//! How much a search asks of the history: it walks nothing again that led nowhere.

use std::convert::Infallible;
use std::sync::Arc;

use holdall_engine::ids::{BuildId, JobId, ResourceId};
use holdall_engine::resolve::{
    BuildOrder, BuildPage, History, Input, KnownVersion, MemoryHistory, PastBuild, PastVersion, SucceededBuild, Used,
    Wanted, resolve_inputs,
};
use holdall_engine::status::BuildStatus;
use holdall_engine::version::{Version, VersionDigest};

/// A history that counts the builds that it gives, and how often it is asked for builds.
struct Counting {
    history: MemoryHistory,
    builds: usize,
    questions: usize,
}

impl History for Counting {
    type Error = Infallible;

    fn newest_enabled(&mut self, resource: ResourceId, up_to: i64) -> Result<Option<KnownVersion>, Infallible> {
        self.history.newest_enabled(resource, up_to)
    }

    fn enabled_after(
        &mut self,
        resource: ResourceId,
        after: i64,
        limit: usize,
    ) -> Result<Vec<KnownVersion>, Infallible> {
        self.history.enabled_after(resource, after, limit)
    }

    fn newest_matching(&mut self, resource: ResourceId, pin: &Version) -> Result<Option<KnownVersion>, Infallible> {
        self.history.newest_matching(resource, pin)
    }

    fn versions(
        &mut self,
        wanted: &[(ResourceId, &VersionDigest)],
    ) -> Result<Vec<(ResourceId, KnownVersion)>, Infallible> {
        self.history.versions(wanted)
    }

    fn highest_used(&mut self, job: JobId, resource: ResourceId) -> Result<Option<Used>, Infallible> {
        self.history.highest_used(job, resource)
    }

    fn pipes_into(&mut self, build: BuildId) -> Result<Vec<(JobId, BuildOrder)>, Infallible> {
        self.history.pipes_into(build)
    }

    fn succeeded_builds(&mut self, pages: &[BuildPage<'_>]) -> Result<Vec<Vec<SucceededBuild>>, Infallible> {
        let found = self.history.succeeded_builds(pages)?;
        self.builds += found.iter().map(Vec::len).sum::<usize>();
        self.questions += 1;
        Ok(found)
    }

    fn vouched(
        &mut self,
        job: JobId,
        resource: ResourceId,
        digests: &[Arc<VersionDigest>],
    ) -> Result<Vec<VersionDigest>, Infallible> {
        self.questions += 1;
        self.history.vouched(job, resource, digests)
    }

    fn were_used(
        &mut self,
        job: JobId,
        inputs: &[(&str, ResourceId, &VersionDigest)],
    ) -> Result<Vec<bool>, Infallible> {
        self.history.were_used(job, inputs)
    }
}

fn version(place: i64) -> Version {
    Version::of("v", &place.to_string())
}

fn input(resource: i64, passed: Vec<JobId>) -> Input {
    let resource = ResourceId(resource);
    Input { name: format!("i{resource}"), resource, passed, wanted: Wanted::default(), trigger: true }
}

fn build(id: usize, job: i64, outputs: &[(i64, i64)]) -> PastBuild {
    PastBuild {
        id: BuildId(id as i64 + 1),
        job: JobId(job),
        status: BuildStatus::Succeeded,
        rerun_of: None,
        inputs: Vec::new(),
        outputs: outputs.iter().map(|(resource, place)| (ResourceId(*resource), version(*place).digest())).collect(),
        passed_builds: Vec::new(),
    }
}

fn known(resources: i64, versions: i64) -> Vec<PastVersion> {
    let all = (1..=resources).flat_map(|resource| (1..=versions).map(move |place| (resource, place)));
    let known = all.map(|(resource, place)| PastVersion {
        resource: ResourceId(resource),
        version: version(place),
        order: Some(place),
        enabled: true,
    });
    known.collect()
}

/// What a search took.
struct Effort {
    builds: usize,
    questions: usize,
    /// Whether it found a way.
    found: bool,
}

fn effort(inputs: &[Input], versions: Vec<PastVersion>, builds: Vec<PastBuild>) -> Effort {
    let mut history = Counting { history: MemoryHistory::new(versions, builds), builds: 0, questions: 0 };
    let Ok(resolution) = resolve_inputs(inputs, JobId(0), &mut history);
    Effort { builds: history.builds, questions: history.questions, found: resolution.resolved }
}

/// A ring: input `i` has passed the jobs `i` and `i + 1`, and the last one the first job again. Each job made every
/// combination of a version of its two inputs, but the first job's version of the last input is one that the last
/// job never had: whatever is chosen, the last choice fails. There are `versions` to the power of `inputs` choices.
fn ring(inputs: i64, versions: i64) -> Effort {
    let jobs = |place: i64| vec![JobId(place), JobId(place % inputs + 1)];
    let wanted: Vec<Input> = (1..=inputs).map(|place| input(place, jobs(place))).collect();
    let mut builds = Vec::new();
    for job in 1..=inputs {
        let before = if job == 1 { inputs } else { job - 1 };
        for one in 1..=versions {
            for other in 1..=versions {
                // The first job had the newest version of the last input and no other, the last job any but that.
                let one = if job == 1 { versions + 1 } else { one };
                builds.push(build(builds.len(), job, &[(before, one), (job, other)]));
            }
        }
    }
    effort(&wanted, known(inputs, versions + 1), builds)
}

#[test]
fn a_search_that_fails_late_does_not_walk_everything_again_for_every_choice_before() {
    for (inputs, versions) in [(4, 3), (8, 4), (20, 6)] {
        let Effort { builds, found, .. } = ring(inputs, versions);
        assert!(!found);
        // At each input, each version that it can have is followed once, to as many builds as the next has versions.
        let enough = usize::try_from((inputs + 1) * versions * versions).unwrap();
        assert!(builds <= enough, "{builds} builds for {inputs} inputs with {versions} versions, not {enough}");
    }
}

#[test]
fn a_thousand_upstream_jobs_are_asked_once_each() {
    let jobs: i64 = 1000;
    let passed: Vec<JobId> = (1..=jobs).map(JobId).collect();
    let builds: Vec<PastBuild> = (1..=jobs).map(|job| build(job as usize, job, &[(1, 1)])).collect();
    let effort = effort(&[input(1, passed)], known(1, 1), builds);
    assert!(effort.found);
    assert_eq!(effort.builds, 1000);
}

#[test]
fn versions_that_the_next_job_never_had_are_not_asked_for_one_by_one() {
    // The first job has had every version, the second only the oldest one.
    let versions = 2000;
    let first = (1..=versions).map(|place| build(place as usize, 1, &[(1, place)]));
    let builds: Vec<PastBuild> = [build(0, 2, &[(1, 1)])].into_iter().chain(first).collect();
    let effort = effort(&[input(1, vec![JobId(1), JobId(2)])], known(1, versions), builds);
    assert!(effort.found);
    assert!(effort.questions < 100, "{} questions", effort.questions);
}
