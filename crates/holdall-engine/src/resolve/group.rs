//! Inputs with `passed`, tied together by the jobs that they share: a depth-first search through upstream builds
//! (reference, section 3.4).
//!
//! A *requirement* is an input with one job of its `passed`. A frame of the search stands for one requirement and
//! offers the succeeded builds of its job; a build vouches for every input of the group that has the job in its
//! `passed`, at once. The next frame is opened for the first requirement that no build vouched for yet. A frame
//! that runs out of builds fails the build that its parent tried. The reference states this as a recursion; here
//! the stack is a vector, because its depth is up to whoever wrote the pipeline.
//!
//! The reference walks what led nowhere again and again, once for every way to get there, which takes exponentially
//! long in the number of inputs. Here `failed` remembers it; the result is the same.

mod failed;
mod offered;
mod rejection;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::failed::Failed;
use self::offered::{Having, Offered};
use self::rejection::{Reason, Rejections};
use super::history::{BuildOrder, History, KnownVersion, Output, SucceededBuild, VersionState};
use super::{Candidate, Failure, Input, Unresolved, plain};
use crate::ids::{BuildId, JobId, ResourceId};
use crate::version::VersionDigest;

/// Resolves the inputs of one group: a version for each, or one failure for all.
pub(super) fn resolve<H: History>(
    inputs: &[&Input],
    job: JobId,
    history: &mut H,
) -> Result<Result<Vec<Candidate>, Unresolved>, H::Error> {
    let mut members = Vec::with_capacity(inputs.len());
    let mut not_found = Vec::new();
    for &input in inputs {
        let pin = match &input.wanted.pin {
            None => None,
            Some(pin) => match history.newest_matching(input.resource, pin)? {
                None => {
                    not_found.push((input, pin));
                    None
                }
                found => found,
            },
        };
        members.push(Member::new(input, pin));
    }
    if !not_found.is_empty() {
        return Ok(Err(plain::pin_not_found(not_found)));
    }
    let mut search = Search::new(members, job, history);
    if search.run()? { Ok(Ok(search.candidates()?)) } else { Ok(Err(search.unresolved()?)) }
}

/// An input of the group and what is chosen for it so far.
struct Member<'a> {
    input: &'a Input,
    /// The jobs of `passed`, ascending, each once.
    passed: Vec<JobId>,
    pin: Option<KnownVersion>,
    chosen: Option<Chosen>,
    /// How often a build of each of `passed` has vouched; zero: that requirement is open.
    vouches: Vec<usize>,
}

/// A version under consideration, with the builds that vouched for it: at least one.
struct Chosen {
    seen: Seen,
    vouched: Vec<Vouched>,
}

/// A build that vouched for a candidate.
struct Vouched {
    /// The job's place in the member's `passed`.
    place: usize,
    build: BuildId,
    has_next: bool,
}

/// A version as it stood among the outputs of a build: cheap to copy, unlike a digest.
#[derive(Clone)]
struct Seen {
    outputs: Arc<[Output]>,
    at: usize,
}

/// One requirement under trial.
struct Frame {
    input: usize,
    job: JobId,
    builds: Offered,
    /// The inputs for which the build under trial vouched.
    touched: Vec<usize>,
    /// When it was opened, on the clock of [`Search::now`].
    opened: usize,
    /// Whether what happens in it is the same wherever the search comes from.
    is_independent: bool,
}

struct Search<'a, H: History> {
    members: Vec<Member<'a>>,
    /// The job whose inputs these are.
    job: JobId,
    history: &'a mut H,
    /// Which members a version of a resource from a build of a job concerns, ascending.
    concerned: BTreeMap<(JobId, ResourceId), Vec<usize>>,
    /// The resources of the group, ascending, each once.
    resources: Vec<ResourceId>,
    /// The versions of the last set that led nowhere, by member.
    doomed: Vec<Option<Seen>>,
    /// When that was.
    doomed_at: usize,
    /// Grows with every frame that is opened or fails.
    now: usize,
    /// Everything else that led nowhere.
    failed: Failed,
    /// For `version: every`: the upstream builds that the last use came from, once one is found.
    last_used: Option<BTreeMap<JobId, BuildOrder>>,
    /// Resources of which the job never used a version.
    never_used: BTreeSet<ResourceId>,
    /// Builds that were fetched in advance for requirements to come.
    ahead: Vec<Offered>,
    /// Versions of which it is known that no succeeded build of a job has them.
    absent: BTreeSet<(JobId, ResourceId, Arc<VersionDigest>)>,
    rejections: Rejections,
}

/// What `match` of the reference says of an output and a member.
enum Match {
    Unrelated(Reason),
    Mismatch,
    Related,
}

impl<'a> Member<'a> {
    fn new(input: &'a Input, pin: Option<KnownVersion>) -> Member<'a> {
        let passed: BTreeSet<JobId> = input.passed.iter().copied().collect();
        Member { input, vouches: vec![0; passed.len()], passed: passed.into_iter().collect(), pin, chosen: None }
    }

    /// The job's place in `passed`.
    fn place(&self, job: JobId) -> Option<usize> {
        self.passed.binary_search(&job).ok()
    }

    fn vouched_by(&self, job: JobId) -> bool {
        self.place(job).is_some_and(|place| self.vouches[place] > 0)
    }

    fn matches(&self, output: &Output) -> Match {
        if self.chosen.as_ref().is_some_and(|chosen| *chosen.seen.digest() != *output.digest) {
            Match::Mismatch
        } else if output.state == VersionState::Disabled {
            Match::Unrelated(Reason::Disabled)
        } else if self.pin.as_ref().is_some_and(|pin| pin.digest != *output.digest) {
            Match::Unrelated(Reason::PinMismatch)
        } else {
            Match::Related
        }
    }
}

impl Seen {
    fn resource(&self) -> ResourceId {
        self.outputs[self.at].resource
    }

    fn digest(&self) -> &VersionDigest {
        self.shared_digest()
    }

    fn shared_digest(&self) -> &Arc<VersionDigest> {
        &self.outputs[self.at].digest
    }
}

impl<'a, H: History> Search<'a, H> {
    fn new(members: Vec<Member<'a>>, job: JobId, history: &'a mut H) -> Search<'a, H> {
        let mut concerned: BTreeMap<(JobId, ResourceId), Vec<usize>> = BTreeMap::new();
        for (index, member) in members.iter().enumerate() {
            for &passed in &member.passed {
                concerned.entry((passed, member.input.resource)).or_default().push(index);
            }
        }
        let resources: BTreeSet<ResourceId> = members.iter().map(|member| member.input.resource).collect();
        Search {
            doomed: members.iter().map(|_| None).collect(),
            doomed_at: 0,
            now: 0,
            failed: Failed::default(),
            members,
            job,
            history,
            concerned,
            resources: resources.into_iter().collect(),
            last_used: None,
            never_used: BTreeSet::new(),
            ahead: Vec::new(),
            absent: BTreeSet::new(),
            rejections: Rejections::default(),
        }
    }

    /// Searches; afterwards every member has a version, or the search has failed.
    fn run(&mut self) -> Result<bool, H::Error> {
        let mut stack: Vec<Frame> = Vec::new();
        match self.open(0)? {
            None => return Ok(true),
            Some(frame) => stack.push(frame),
        }
        while let Some(frame) = stack.last_mut() {
            let is_fetched = frame.builds.is_at_end_of_page();
            let Some((build, has_next)) = frame.builds.next(self.history, &self.resources)? else {
                let depth = stack.len() - 1;
                if let Some(frame) = stack.pop() {
                    if frame.is_independent {
                        self.failed.insert(&self.members);
                    }
                    self.rejections.no_more_builds(frame.input, frame.job, frame.builds.into_exhausted(), depth);
                }
                // The set with which this frame was opened led nowhere.
                if let Some(parent) = stack.last_mut() {
                    self.doom();
                    self.restore(&mut parent.touched);
                }
                continue;
            };
            let depth = stack.len() - 1;
            let frame = stack.last_mut().expect("the loop's condition");
            let input = frame.input;
            if is_fetched {
                self.look_ahead(frame)?;
            }
            if self.vouch(frame, &build, has_next, depth) && !self.leads_nowhere(&mut stack, build.order.build) {
                let had_last_used = self.last_used.is_some();
                match self.open(input)? {
                    None => return Ok(true),
                    Some(next) => stack.push(next),
                }
                if had_last_used != self.last_used.is_some() {
                    // What `version: every` prefers was settled only now: what came before might go another way.
                    self.failed = Failed::default();
                    stack.iter_mut().for_each(|frame| frame.is_independent = false);
                }
            } else if let Some(frame) = stack.last_mut() {
                self.restore(&mut frame.touched);
            }
        }
        Ok(false)
    }

    /// Opens a frame for the first requirement, by input in order and then by job id, that no build vouched for. All
    /// those of the inputs before `from` are satisfied.
    fn open(&mut self, from: usize) -> Result<Option<Frame>, H::Error> {
        for input in from..self.members.len() {
            for place in 0..self.members[input].passed.len() {
                if self.members[input].vouches[place] > 0 {
                    continue;
                }
                let job = self.members[input].passed[place];
                if let Some(builds) = self.builds(input, job)? {
                    self.now += 1;
                    let (opened, touched) = (self.now, Vec::new());
                    return Ok(Some(Frame { input, job, builds, touched, opened, is_independent: true }));
                }
            }
        }
        Ok(None)
    }

    /// Notes that what is chosen led nowhere.
    fn doom(&mut self) {
        self.doomed = self.versions();
        self.now += 1;
        self.doomed_at = self.now;
    }

    /// Whether what is chosen, the last time by `build` for the topmost frame, is known to lead nowhere: because the
    /// same versions just did, which is the rule, or because the search was there before.
    fn leads_nowhere(&mut self, stack: &mut [Frame], build: BuildId) -> bool {
        let depth = stack.len() - 1;
        let (input, job) = (stack[depth].input, stack[depth].job);
        let is_doomed = self.members.iter().zip(&self.doomed).all(|(member, doomed)| {
            member.chosen.as_ref().map(|chosen| chosen.seen.digest()) == doomed.as_ref().map(Seen::digest)
        });
        let has_failed = self.failed.contains(&self.members);
        if is_doomed {
            self.rejections.doomed(input, job, build, self.versions(), depth);
            if !has_failed {
                // By another way the search might come here with another set doomed, and go on.
                let later = stack.iter_mut().rev().take_while(|frame| frame.opened > self.doomed_at);
                later.for_each(|frame| frame.is_independent = false);
            }
        } else if has_failed {
            self.rejections.doomed(input, job, build, failed::that_matter(&self.members), depth);
            self.doom();
        }
        is_doomed || has_failed
    }

    /// The builds that are offered for a requirement; `None`: it is deferred to the input's other jobs.
    fn builds(&mut self, input: usize, job: JobId) -> Result<Option<Offered>, H::Error> {
        let member = &self.members[input];
        let has_candidate = member.chosen.is_some();
        let having = if has_candidate { self.constraining(job) } else { Having::default() };
        if member.input.wanted.every {
            self.look_up_last_used(input)?;
            let passed = &self.members[input].passed;
            let last_used = self.last_used.iter().flatten().filter(|(job, _)| passed.binary_search(job).is_ok());
            let last_used: BTreeMap<JobId, BuildOrder> = last_used.map(|(job, cursor)| (*job, *cursor)).collect();
            if let Some(cursor) = last_used.get(&job) {
                return Ok(Some(Offered::from_last_used(job, *cursor, having)));
            }
            if !has_candidate && !last_used.is_empty() {
                return Ok(None);
            }
        }
        if has_candidate {
            self.having(input, job, having).map(Some)
        } else {
            Ok(Some(Offered::newest_first(job, having)))
        }
    }

    /// Looks up at once which versions of many builds to come no build of the input's next job has: they lead nowhere,
    /// and one question for all of them is much less than one for each.
    fn look_ahead(&mut self, frame: &Frame) -> Result<(), H::Error> {
        let member = &self.members[frame.input];
        let (None, Some(builds)) = (&member.chosen, frame.builds.many_ahead()) else { return Ok(()) };
        let mut open = member.passed.iter().zip(&member.vouches).filter(|(_, vouches)| **vouches == 0);
        let Some((&next, _)) = open.find(|(job, _)| **job != frame.job) else { return Ok(()) };
        let resource = member.input.resource;
        let outputs = builds.iter().flat_map(|build| build.outputs.iter());
        let digests: BTreeSet<_> = outputs.filter(|o| o.resource == resource).map(|o| o.digest.clone()).collect();
        let digests: Vec<_> = digests.into_iter().collect();
        let found: BTreeSet<_> = self.history.vouched(next, resource, &digests)?.into_iter().collect();
        let absent = digests.into_iter().filter(|digest| !found.contains(&**digest));
        self.absent.extend(absent.map(|digest| (next, resource, digest)));
        Ok(())
    }

    /// The builds that have what is chosen so far. Fetches those of the input's next jobs along with them, as many
    /// as have vouched for its version already: the further a version came, the likelier it is to come further.
    fn having(&mut self, input: usize, job: JobId, having: Having) -> Result<Offered, H::Error> {
        if having.0.iter().any(|(_, seen)| self.absent.contains(&(job, seen.resource(), seen.shared_digest().clone())))
        {
            return Ok(Offered::none(job, having));
        }
        if let Some(at) = self.ahead.iter().position(|offered| offered.is_of(job, &having)) {
            return Ok(self.ahead.swap_remove(at));
        }
        let member = &self.members[input];
        let vouched = member.chosen.as_ref().map_or(0, |chosen| chosen.vouched.len());
        let after = member.passed.partition_point(|&next| next <= job);
        let next = (after..member.passed.len()).filter(|&place| member.vouches[place] == 0).take(vouched);
        let next = next.map(|place| member.passed[place]);
        let mut offers = vec![Offered::newest_first(job, having)];
        offers.extend(next.map(|next| Offered::newest_first(next, self.constraining(next))));
        Offered::fetch_first(&mut offers, self.history, &self.resources)?;
        let wanted = offers.swap_remove(0);
        self.ahead = offers;
        Ok(wanted)
    }

    /// Finds where the job's last use of the input's resource came from. Looked up once for the group, from the
    /// first input with `version: every` whose resource was ever used.
    fn look_up_last_used(&mut self, input: usize) -> Result<(), H::Error> {
        let resource = self.members[input].input.resource;
        if self.last_used.is_some() || self.never_used.contains(&resource) {
            return Ok(());
        }
        match self.history.highest_used(self.job, resource)? {
            // By ascending build id: where two builds of a job vouched, the later one counts.
            Some(used) => self.last_used = Some(self.history.pipes_into(used.build)?.into_iter().collect()),
            None => _ = self.never_used.insert(resource),
        }
        Ok(())
    }

    /// The versions chosen so far that builds of `job` must agree with.
    fn constraining(&self, job: JobId) -> Having {
        let versions = self.members.iter().enumerate().filter_map(|(index, member)| {
            let chosen = member.chosen.as_ref()?;
            member.passed.binary_search(&job).is_ok().then(|| (index, chosen.seen.clone()))
        });
        Having(versions.collect())
    }

    /// Lets a build vouch for every input that it concerns. Whether the frame's requirement is satisfied by it.
    fn vouch(&mut self, frame: &mut Frame, build: &SucceededBuild, has_next: bool, depth: usize) -> bool {
        let reject = |rejections: &mut Rejections, of: usize, reason: Reason, at: usize| {
            let seen = Seen { outputs: build.outputs.clone(), at };
            rejections.in_build(frame.input, frame.job, build.order.build, of, reason, seen, depth);
        };
        let mut rejected = false;
        'outputs: for (at, output) in build.outputs.iter().enumerate() {
            let Some(concerned) = self.concerned.get(&(frame.job, output.resource)) else { continue };
            for &index in concerned {
                // The first output that a build has for an input is the one that counts.
                if frame.touched.contains(&index) {
                    continue;
                }
                let member = &mut self.members[index];
                match member.matches(output) {
                    Match::Unrelated(reason) => {
                        reject(&mut self.rejections, index, reason, at);
                        rejected |= index == frame.input;
                        continue;
                    }
                    Match::Mismatch => {
                        let chosen = member.chosen.as_ref().expect("only a candidate mismatches");
                        let chosen_from = chosen.vouched[0].build;
                        reject(
                            &mut self.rejections,
                            index,
                            Reason::Mismatch { chosen: chosen.seen.clone(), chosen_from },
                            at,
                        );
                        return false;
                    }
                    Match::Related => {}
                }
                let place = member.place(frame.job).expect("it is concerned");
                let vouched = Vouched { place, build: build.order.build, has_next };
                match &mut member.chosen {
                    Some(chosen) => chosen.vouched.push(vouched),
                    None if output.state == VersionState::Gone => {
                        reject(&mut self.rejections, index, Reason::Gone, at);
                        rejected = true;
                        break 'outputs;
                    }
                    None => {
                        let seen = Seen { outputs: build.outputs.clone(), at };
                        member.chosen = Some(Chosen { seen, vouched: vec![vouched] });
                    }
                }
                member.vouches[place] += 1;
                frame.touched.push(index);
            }
        }
        if !self.members[frame.input].vouched_by(frame.job) {
            if !rejected {
                self.rejections.not_in_build(frame.input, frame.job, build.order.build, depth);
            }
            return false;
        }
        true
    }

    /// Takes back what the last build vouched for.
    fn restore(&mut self, touched: &mut Vec<usize>) {
        for index in touched.drain(..) {
            let Member { chosen, vouches, .. } = &mut self.members[index];
            let Some(candidate) = chosen else { continue };
            if let Some(vouched) = candidate.vouched.pop() {
                vouches[vouched.place] -= 1;
            }
            if candidate.vouched.is_empty() {
                *chosen = None;
            }
        }
    }

    fn versions(&self) -> Vec<Option<Seen>> {
        self.members.iter().map(|member| member.chosen.as_ref().map(|chosen| chosen.seen.clone())).collect()
    }

    /// The result of a search that succeeded.
    fn candidates(self) -> Result<Vec<Candidate>, H::Error> {
        let wanted: BTreeSet<(ResourceId, &VersionDigest)> = self
            .members
            .iter()
            .map(|member| {
                let chosen = member.chosen.as_ref().expect("a search that succeeded has chosen for every input");
                (member.input.resource, chosen.seen.digest())
            })
            .collect();
        let wanted: Vec<_> = wanted.into_iter().collect();
        let versions = self.history.versions(&wanted)?.into_iter();
        let known: BTreeMap<_, _> =
            versions.map(|(resource, version)| ((resource, version.digest), version.version)).collect();
        let candidates = self.members.into_iter().map(|member| {
            let chosen = member.chosen.expect("a search that succeeded has chosen for every input");
            let digest = chosen.seen.digest().clone();
            let version = known.get(&(member.input.resource, digest.clone())).cloned();
            Candidate {
                digest,
                version: version.expect("a history knows the versions that it calls enabled"),
                passed_builds: chosen.vouched.iter().map(|vouched| vouched.build).collect(),
                has_next: chosen.vouched.iter().any(|vouched| vouched.has_next),
            }
        });
        Ok(candidates.collect())
    }

    /// The result of a search that failed.
    fn unresolved(self) -> Result<Unresolved, H::Error> {
        let why = self.rejections.explain(&self.members, self.history)?;
        Ok(Unresolved { failure: Failure::NoSatisfiableBuilds, why: why.into() })
    }
}
