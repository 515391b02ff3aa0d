//! What was ruled out in the course of a search, recorded so that a search that succeeds pays next to nothing, and
//! turned into [`Why`]s when it fails.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::offered::{Exhausted, Having};
use super::{Member, Seen};
use crate::ids::{BuildId, JobId, ResourceId};
use crate::resolve::history::History;
use crate::resolve::why::{Cause, Found, Why};
use crate::version::{Version, VersionDigest};

/// From this many on, repetitions are removed: a search may meet the same obstacle over and over.
const DEDUPLICATE_FROM: usize = 1 << 16;

/// What was ruled out so far, in the order of the search.
pub(super) struct Rejections {
    all: Vec<Rejection>,
    deduplicate_at: usize,
}

struct Rejection {
    depth: usize,
    what: What,
}

/// A rejection but for the depth, which does not tell two apart.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct What {
    input: usize,
    job: JobId,
    why: Obstacle,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Obstacle {
    Output { build: BuildId, of: usize, found: Seen, reason: Reason },
    NotInBuild { build: BuildId },
    Doomed { build: BuildId, set: Vec<(usize, Seen)> },
    NoMoreBuilds(Exhausted),
}

/// Why an output of a build was not taken.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    Mismatch { chosen: Seen, chosen_from: BuildId },
    Disabled,
    PinMismatch,
    Gone,
}

impl Default for Rejections {
    fn default() -> Rejections {
        Rejections { all: Vec::new(), deduplicate_at: DEDUPLICATE_FROM }
    }
}

impl Rejections {
    /// An output of a build that `input` tried was not taken for `of`.
    #[expect(clippy::too_many_arguments, reason = "each is one column of the record")]
    pub(super) fn in_build(
        &mut self,
        input: usize,
        job: JobId,
        build: BuildId,
        of: usize,
        reason: Reason,
        found: Seen,
        depth: usize,
    ) {
        self.push(input, job, Obstacle::Output { build, of, found, reason }, depth);
    }

    /// A build had nothing for `input`.
    pub(super) fn not_in_build(&mut self, input: usize, job: JobId, build: BuildId, depth: usize) {
        self.push(input, job, Obstacle::NotInBuild { build }, depth);
    }

    /// With a build the versions were those that had led nowhere before.
    pub(super) fn doomed(
        &mut self,
        input: usize,
        job: JobId,
        build: BuildId,
        versions: Vec<Option<Seen>>,
        depth: usize,
    ) {
        let set = versions.into_iter().enumerate().filter_map(|(index, seen)| Some((index, seen?))).collect();
        self.push(input, job, Obstacle::Doomed { build, set }, depth);
    }

    /// A requirement ran out of builds.
    pub(super) fn no_more_builds(&mut self, input: usize, job: JobId, exhausted: Exhausted, depth: usize) {
        self.push(input, job, Obstacle::NoMoreBuilds(exhausted), depth);
    }

    fn push(&mut self, input: usize, job: JobId, why: Obstacle, depth: usize) {
        if self.all.len() >= self.deduplicate_at {
            self.deduplicate();
            self.deduplicate_at = DEDUPLICATE_FROM.max(self.all.len() * 2);
        }
        self.all.push(Rejection { depth, what: What { input, job, why } });
    }

    /// Keeps the first of each kind in place, with the greatest depth of them.
    fn deduplicate(&mut self) {
        let mut first: BTreeMap<&What, (usize, usize)> = BTreeMap::new();
        for (index, rejection) in self.all.iter().enumerate() {
            let entry = first.entry(&rejection.what).or_insert((index, rejection.depth));
            entry.1 = entry.1.max(rejection.depth);
        }
        let depths: BTreeMap<usize, usize> = first.into_values().collect();
        let mut index = 0;
        self.all.retain_mut(|rejection| {
            let depth = depths.get(&index);
            index += 1;
            depth.is_some_and(|depth| {
                rejection.depth = *depth;
                true
            })
        });
    }

    /// Says what was ruled out, each once. Asks the history for the versions that were named.
    pub(super) fn explain<H: History>(mut self, members: &[Member<'_>], history: &mut H) -> Result<Vec<Why>, H::Error> {
        self.deduplicate();
        let known = Known::look_up(&self, members, history)?;
        let name = |index: usize| members[index].input.name.clone();
        let found = |index: usize, seen: &Seen| known.found(members[index].input.resource, seen.digest());
        let pairs =
            |set: &[(usize, Seen)]| set.iter().map(|(index, seen)| (name(*index), found(*index, seen))).collect();
        let why = self.all.iter().map(|Rejection { depth, what: What { input, job, why } }| {
            let job = *job;
            let cause = match why {
                Obstacle::Output { build, of, found: seen, reason } => {
                    let (build, found_there, name_of) = (*build, found(*of, seen), name(*of));
                    match reason {
                        Reason::Mismatch { chosen, chosen_from } => Cause::Mismatch {
                            job,
                            build,
                            found: found_there,
                            of: name_of,
                            chosen: found(*of, chosen),
                            chosen_from: *chosen_from,
                        },
                        Reason::Disabled => Cause::Disabled { job, build, found: found_there, of: name_of },
                        Reason::PinMismatch => Cause::PinMismatch {
                            job,
                            build,
                            found: found_there,
                            of: name_of,
                            pinned: Found::known(
                                members[*of].pin.clone().expect("only a pinned input has such a rejection"),
                            ),
                        },
                        Reason::Gone => Cause::Gone { job, build, found: found_there, of: name_of },
                    }
                }
                Obstacle::NotInBuild { build } => Cause::NotInBuild { job, build: *build },
                Obstacle::Doomed { build, set } => Cause::Doomed { job, build: *build, set: pairs(set) },
                Obstacle::NoMoreBuilds(Exhausted { tried, having, last_used }) => {
                    Cause::NoMoreBuilds { job, tried: *tried, having: pairs(&having.0), last_used: *last_used }
                }
            };
            Why { input: name(*input), depth: *depth, cause }
        });
        Ok(why.collect())
    }
}

/// The versions that rejections name, as far as they are known.
struct Known(BTreeMap<ResourceId, BTreeMap<VersionDigest, Version>>);

impl Known {
    fn look_up<H: History>(
        rejections: &Rejections,
        members: &[Member<'_>],
        history: &mut H,
    ) -> Result<Known, H::Error> {
        let mut named: BTreeSet<(ResourceId, &VersionDigest)> = BTreeSet::new();
        let mut add = |index: usize, seen| _ = named.insert((members[index].input.resource, seen));
        for rejection in &rejections.all {
            match &rejection.what.why {
                Obstacle::Output { of, found, reason, .. } => {
                    add(*of, found.digest());
                    if let Reason::Mismatch { chosen, .. } = reason {
                        add(*of, chosen.digest());
                    }
                }
                Obstacle::NotInBuild { .. } => {}
                Obstacle::Doomed { set, .. } | Obstacle::NoMoreBuilds(Exhausted { having: Having(set), .. }) => {
                    set.iter().for_each(|(index, seen)| add(*index, seen.digest()));
                }
            }
        }
        let named: Vec<(ResourceId, &VersionDigest)> = named.into_iter().collect();
        let mut known: BTreeMap<ResourceId, BTreeMap<VersionDigest, Version>> = BTreeMap::new();
        for (resource, version) in history.versions(&named)? {
            known.entry(resource).or_default().insert(version.digest, version.version);
        }
        Ok(Known(known))
    }

    fn found(&self, resource: ResourceId, digest: &VersionDigest) -> Found {
        let version = self.0.get(&resource).and_then(|versions| versions.get(digest));
        Found { digest: digest.clone(), version: version.cloned() }
    }
}

impl PartialEq for Seen {
    fn eq(&self, other: &Seen) -> bool {
        self.digest() == other.digest()
    }
}

impl Eq for Seen {}

impl PartialOrd for Seen {
    fn partial_cmp(&self, other: &Seen) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Seen {
    fn cmp(&self, other: &Seen) -> Ordering {
        self.digest().cmp(other.digest())
    }
}
