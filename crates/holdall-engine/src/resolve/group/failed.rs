//! What led nowhere before, so that the search does not walk it again.
//!
//! What follows on a choice depends on the requirements that are still open, and on the versions of those inputs that
//! a build of an open requirement's job could contradict. Where both are as they were, what failed fails again, but
//! for one thing: the set that the reference calls doomed, which it passes over. That can only make less succeed, and
//! a walk in which it passed over nothing because of what was before is remembered; see `Frame::is_independent`.

use std::collections::{BTreeMap, BTreeSet};

use super::{Member, Seen};
use crate::ids::JobId;
use crate::version::VersionDigest;

/// Everything that led nowhere.
#[derive(Default)]
pub(super) struct Failed {
    known: BTreeSet<State>,
    /// Short for digests.
    numbers: BTreeMap<VersionDigest, usize>,
}

/// What matters of what is chosen.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct State {
    /// Member and place in its `passed`.
    open: Vec<(usize, usize)>,
    /// Member and number of the version.
    chosen: Vec<(usize, usize)>,
}

impl Failed {
    /// Remembers what is chosen now.
    pub fn insert(&mut self, members: &[Member<'_>]) {
        let mut chosen = Vec::new();
        for (index, seen) in matter(members) {
            let next = self.numbers.len();
            let number = match self.numbers.get(seen.digest()) {
                Some(number) => *number,
                None => *self.numbers.entry(seen.digest().clone()).or_insert(next),
            };
            chosen.push((index, number));
        }
        self.known.insert(State { open: open(members).collect(), chosen });
    }

    /// Whether what is chosen now led nowhere before.
    pub fn contains(&self, members: &[Member<'_>]) -> bool {
        if self.known.is_empty() {
            return false;
        }
        let numbers = matter(members).map(|(index, seen)| Some((index, *self.numbers.get(seen.digest())?)));
        let Some(chosen) = numbers.collect::<Option<Vec<_>>>() else { return false };
        self.known.contains(&State { open: open(members).collect(), chosen })
    }
}

/// The versions on which it depends what follows, by member.
pub(super) fn that_matter(members: &[Member<'_>]) -> Vec<Option<Seen>> {
    let mut versions: Vec<Option<Seen>> = members.iter().map(|_| None).collect();
    for (index, seen) in matter(members) {
        versions[index] = Some(seen.clone());
    }
    versions
}

/// The requirements that no build vouched for, in order.
fn open(members: &[Member<'_>]) -> impl Iterator<Item = (usize, usize)> {
    members.iter().enumerate().flat_map(|(index, member)| {
        let open = member.vouches.iter().enumerate().filter(|(_, vouches)| **vouches == 0);
        open.map(move |(place, _)| (index, place))
    })
}

/// The inputs with a version that a build of an open requirement's job could contradict.
fn matter<'m>(members: &'m [Member<'_>]) -> impl Iterator<Item = (usize, &'m Seen)> {
    let jobs: BTreeSet<JobId> = open(members).map(|(index, place)| members[index].passed[place]).collect();
    members.iter().enumerate().filter_map(move |(index, member)| {
        let chosen = member.chosen.as_ref()?;
        member.passed.iter().any(|job| jobs.contains(job)).then_some((index, &chosen.seen))
    })
}
