//! What keeps inputs of a job from having versions, as the report says it: each obstacle once, with what lifts it. Which
//! obstacles there are, the engine says (`resolve::why`); what was looked at besides, `look.rs` has.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use holdall_engine::ids::{BuildId, JobId, ResourceId};
use holdall_engine::report::{Code, Hold};
use holdall_engine::resolve::{
    BuildPage, Cause, Direction, Found, History, Input, Ticked, Unresolved, Why, resolve_inputs,
};
use holdall_engine::schedule::JobSpec;
use holdall_engine::version::{Version, VersionDigest};
use holdall_store::history::TxHistory;
use holdall_store::jobs::InputRow;
use holdall_store::pipelines::is_release_type;
use holdall_store::{StoreError, Tx, builds, environments, jobs, resources, versions};

use super::look::{Look, check_failing};
use crate::acts::version_argument;
use crate::error::from_json;

/// How many obstacles of inputs that are tied together are named: those that are nearest to a build.
const NAMED: usize = 10;

/// How many versions one sentence names.
const NAMED_VERSIONS: usize = 5;

/// What keeps an input, and those that are tied together with it, from having versions; never nothing. `rows`: the
/// inputs of the job.
pub(super) fn unresolved_holds(
    tx: &mut Tx<'_>,
    looked: &Look,
    rows: &[InputRow],
    unresolved: &Unresolved,
) -> Result<Vec<Hold>, StoreError> {
    let mut all = obstacles(rows, &unresolved.why);
    let is_in_the_way = Lifting { looked, rows, other_ways: BTreeMap::new(), left: NAMED }.are_in_the_way(tx, &all)?;
    if is_in_the_way.contains(&true) {
        let mut is_in_the_way = is_in_the_way.into_iter();
        all.retain(|_| is_in_the_way.next().unwrap_or(true));
    }
    let report = Report { looked, rows };
    let mut holds: Vec<Hold> = Vec::new();
    for obstacle in all.iter().take(NAMED) {
        for hold in report.holds(tx, obstacle)? {
            if !holds.contains(&hold) {
                holds.push(hold);
            }
        }
    }
    let job = &looked.job.name;
    match all.len().saturating_sub(NAMED) {
        // A build without inputs would start.
        0 if holds.is_empty() => {
            holds.push(Hold::new(Code::PassedUnsatisfied, format!("{job}: {}", unresolved.failure)));
        }
        0 => {}
        left => {
            let things = if left == 1 { "1 more thing" } else { &format!("{left} more things") };
            let sentence = format!(
                "{job}: {things} may stand in the way of its inputs, none of them nearer to a build than these; `holdall resolve` \
                 says all"
            );
            let command = format!("holdall admin export-history {}", looked.view.name);
            holds.push(Hold::new(Code::PassedUnsatisfied, sentence).command(command));
        }
    }
    Ok(holds)
}

/// What can be lifted at once, and so is said once.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Kind<'a> {
    /// A resource has no version that is ticked.
    Resource(ResourceId),
    /// The pin of a resource.
    Pin(ResourceId),
    /// The pin of the step that gets an input.
    StepPin(&'a str),
    /// A version that is unticked, or gone.
    Version(ResourceId, &'a VersionDigest),
    /// Builds of a job have no version of a resource.
    NotInBuild(ResourceId, JobId),
    /// Builds of a job have another version of a resource than what is chosen.
    Mismatch(ResourceId, JobId),
    /// No build of a job has what is chosen.
    NoBuild(JobId),
}

/// Something that stands in the way of an input.
struct Obstacle<'a> {
    /// The nearest explanation that names it.
    why: &'a Why,
    /// The input that it concerns.
    row: &'a InputRow,
    /// The builds that all explanations name that name it.
    builds: BTreeSet<BuildId>,
    /// The versions that they want of a build.
    choices: BTreeSet<&'a [(String, Found)]>,
    /// Whose builds were ruled out by it.
    jobs: BTreeSet<JobId>,
}

/// What the explanations name, each thing once and the nearest first. What only sums up others is none.
fn obstacles<'a>(rows: &'a [InputRow], why: &'a [Why]) -> Vec<Obstacle<'a>> {
    let mut found: Vec<Obstacle<'a>> = Vec::new();
    let mut places = BTreeMap::new();
    for why in why {
        let concerned = why.other().unwrap_or(&why.input);
        let Some(row) = rows.iter().find(|row| row.name == concerned) else { continue };
        let kind = match &why.cause {
            Cause::NoVersion | Cause::AllDisabled { .. } => Kind::Resource(row.resource),
            Cause::PinNotFound { .. } | Cause::PinMismatch { .. } if row.step_pin.is_some() => Kind::StepPin(&row.name),
            Cause::PinNotFound { .. } | Cause::PinMismatch { .. } => Kind::Pin(row.resource),
            Cause::Disabled { found, .. } | Cause::Gone { found, .. } => Kind::Version(row.resource, &found.digest),
            Cause::NotInBuild { job, .. } => Kind::NotInBuild(row.resource, *job),
            Cause::Mismatch { job, .. } => Kind::Mismatch(row.resource, *job),
            Cause::NoMoreBuilds { job, tried: 0, .. } => Kind::NoBuild(*job),
            Cause::NoMoreBuilds { .. } | Cause::Doomed { .. } => continue,
        };
        let place = *places.entry(kind).or_insert(found.len());
        if place == found.len() {
            found.push(Obstacle { why, row, builds: BTreeSet::new(), choices: BTreeSet::new(), jobs: BTreeSet::new() });
        }
        let obstacle = &mut found[place];
        obstacle.builds.extend(why.cause.build());
        obstacle.jobs.extend(why.cause.job());
        if let Cause::NoMoreBuilds { having, .. } = &why.cause {
            obstacle.choices.insert(having);
        }
        if why.depth > obstacle.why.depth {
            (obstacle.why, obstacle.row) = (why, row);
        }
    }
    found.sort_by_key(|obstacle| Reverse(obstacle.why.depth));
    found
}

/// Finds out what would be if an obstacle were lifted: a version that is unticked is in nobody's way as long as others
/// are there.
struct Lifting<'a> {
    looked: &'a Look,
    rows: &'a [InputRow],
    /// Whether a job has a build with a version for an input, looked up once.
    other_ways: BTreeMap<(&'a str, JobId), bool>,
    /// How many more may be lifted to see what would be: each is a resolution of its own.
    left: usize,
}

impl<'a> Lifting<'a> {
    /// Of each obstacle, whether it is in the way: no build of a job goes around it, or lifting it is enough. What there
    /// was no time to try counts as if it were.
    fn are_in_the_way(&mut self, tx: &mut Tx<'_>, all: &[Obstacle<'a>]) -> Result<Vec<bool>, StoreError> {
        all.iter().map(|obstacle| self.is_in_the_way(tx, obstacle)).collect()
    }

    fn is_in_the_way(&mut self, tx: &mut Tx<'_>, obstacle: &Obstacle<'a>) -> Result<bool, StoreError> {
        let row = obstacle.row;
        let mut inputs: Vec<Input> =
            self.rows.iter().map(InputRow::to_resolve).filter(|input| !input.passed.is_empty()).collect();
        let ticked = match &obstacle.why.cause {
            Cause::PinMismatch { .. } => {
                let of_step = row.step_pin.is_some();
                for input in &mut inputs {
                    let Some(other) = self.rows.iter().find(|other| other.name == input.name) else { continue };
                    if of_step && other.name == row.name {
                        input.wanted.pin = row.resource_pin.clone();
                    } else if !of_step && other.resource == row.resource && other.step_pin.is_none() {
                        input.wanted.pin = None;
                    }
                }
                None
            }
            Cause::Disabled { found, .. } | Cause::Gone { found, .. } => Some(&found.digest),
            // A job that has another build with a version of it does not need one.
            Cause::NotInBuild { .. } => return Ok(!self.has_other_way(tx, obstacle)?),
            _ => return Ok(true),
        };
        if !self.has_other_way(tx, obstacle)? || self.left == 0 {
            return Ok(true);
        }
        self.left -= 1;
        let mut history = TxHistory::new(tx);
        let lifted = match ticked {
            Some(digest) => {
                resolve_inputs(&inputs, self.looked.job.id, &mut Ticked::new(&mut history, row.resource, digest))?
            }
            None => resolve_inputs(&inputs, self.looked.job.id, &mut history)?,
        };
        Ok(lifted.inputs.iter().any(|input| input.name == row.name && input.result.is_ok()))
    }

    /// Whether each job whose builds it rules out has one with a version for the input all the same.
    fn has_other_way(&mut self, tx: &mut Tx<'_>, obstacle: &Obstacle<'a>) -> Result<bool, StoreError> {
        let row = obstacle.row;
        for job in &obstacle.jobs {
            let place = (row.name.as_str(), *job);
            let has_one = match self.other_ways.get(&place) {
                Some(known) => *known,
                None => {
                    let mut input = row.to_resolve();
                    (input.passed, input.wanted.every) = (vec![*job], false);
                    let has_one = resolve_inputs(&[input], self.looked.job.id, &mut TxHistory::new(tx))?.resolved;
                    self.other_ways.insert(place, has_one);
                    has_one
                }
            };
            if !has_one {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The job that was looked at, with its inputs.
struct Report<'a> {
    looked: &'a Look,
    rows: &'a [InputRow],
}

impl Report<'_> {
    /// An obstacle as holds: one, and another where what would lift it fails.
    fn holds(&self, tx: &mut Tx<'_>, obstacle: &Obstacle<'_>) -> Result<Vec<Hold>, StoreError> {
        let row = obstacle.row;
        let cause = &obstacle.why.cause;
        let mut holds = Vec::new();
        let needs_check = match cause {
            Cause::NoVersion | Cause::AllDisabled { .. } | Cause::PinNotFound { .. } | Cause::Gone { .. } => true,
            Cause::Disabled { found, .. } => found.version.is_none(),
            _ => false,
        };
        if let Some(error) = row.check_error.as_ref().filter(|_| needs_check) {
            holds.push(check_failing(self.looked, row, error));
        }
        holds.push(match cause {
            Cause::NoVersion => self.no_version(row),
            Cause::PinNotFound { .. } if is_unchecked(row) => self.no_version(row),
            Cause::PinNotFound { pin } => {
                let hold = self.pinned(tx, row, pin, ", which is not known")?;
                match hold.by {
                    None => hold.by("a check that finds it".to_owned()),
                    Some(_) => hold,
                }
            }
            Cause::PinMismatch { job, build, found, pinned, .. } => {
                let build = self.build(tx, *build)?;
                let pin = pinned.version.clone().unwrap_or_default();
                let vouched = TxHistory::new(tx).vouched(*job, row.resource, &[Arc::new(pinned.digest.clone())])?;
                let rest = match vouched.is_empty() {
                    true => {
                        format!(", which no build of {} that succeeded has: {build} has {found}", self.job(tx, *job)?)
                    }
                    false => format!(", and {build} has {found}"),
                };
                self.pinned(tx, row, &pin, &rest)?
            }
            Cause::AllDisabled { newest } => {
                let resource = self.resource(row);
                let sentence = format!("every version of {resource} is unticked, the newest is {newest}");
                self.unticked(tx, row, newest, sentence)?
            }
            Cause::Disabled { build, found, .. } => {
                let (resource, has) = (self.resource(row), self.build(tx, *build)?);
                let known = self.found(tx, row, *build, found)?;
                self.unticked(tx, row, found, format!("{resource} at {known}, which {has} has, is unticked"))?
            }
            Cause::Gone { build, found, .. } => {
                let (resource, has) = (self.resource(row), self.build(tx, *build)?);
                let known = self.found(tx, row, *build, found)?;
                let hold =
                    Hold::new(Code::NoVersion, format!("{resource} does not have {known} any more, which {has} has"))
                        .by(format!(
                            "a check that finds it again, or a build of {} with another one",
                            self.job_of(tx, cause)?
                        ));
                self.checked(row, hold)
            }
            Cause::NotInBuild { .. } | Cause::Mismatch { .. } | Cause::NoMoreBuilds { .. } | Cause::Doomed { .. } => {
                self.history(tx, obstacle)?
            }
        });
        Ok(holds)
    }

    /// What the builds before do not have.
    fn history(&self, tx: &mut Tx<'_>, obstacle: &Obstacle<'_>) -> Result<Hold, StoreError> {
        let resource = self.resource(obstacle.row);
        let cause = &obstacle.why.cause;
        let upstream = self.job_of(tx, cause)?;
        let others = obstacle.builds.len().saturating_sub(1);
        let rest = match cause {
            Cause::NotInBuild { build, .. } => match (self.build(tx, *build)?, others) {
                (build, 0) => format!("{build} has no version of {resource}"),
                (build, 1) => format!("{build} and another build of {upstream} have no version of {resource}"),
                (build, n) => format!("{build} and {n} other builds of {upstream} have no version of {resource}"),
            },
            Cause::Mismatch { build, found, chosen, chosen_from, .. } => {
                let (build, from) = (self.build(tx, *build)?, self.build(tx, *chosen_from)?);
                let more = match others {
                    0 => String::new(),
                    1 => format!("; another build of {upstream} does not fit either"),
                    n => format!("; {n} other builds of {upstream} do not fit either"),
                };
                format!("{build} has {resource} at {found}, but {chosen} is chosen, from {from}{more}")
            }
            Cause::NoMoreBuilds { having, job, last_used, .. } => {
                match self.newest_having(tx, *job, obstacle.row, &[])? {
                    None => format!("no build of {upstream} has succeeded"),
                    Some(_) => {
                        let more = match obstacle.choices.len().saturating_sub(1) {
                            0 => String::new(),
                            1 => ", nor what another choice of versions needs".to_owned(),
                            n => format!(", nor what {n} other choices of versions need"),
                        };
                        // Any other build that has them would have been tried.
                        let rerun = match last_used {
                            Some(_) => self.newest_having(tx, *job, obstacle.row, having)?,
                            None => None,
                        };
                        let left_out = match (rerun, last_used) {
                            (Some(rerun), Some(last_used)) => format!(
                                " but {}: with `version: every`, reruns of {}, the one used last, do not count",
                                self.build(tx, rerun)?,
                                self.build(tx, *last_used)?
                            ),
                            _ => String::new(),
                        };
                        format!("no build of {upstream} that succeeded has {}{left_out}{more}", self.versions(having))
                    }
                }
            }
            _ => obstacle.why.sentence(&|_| upstream.clone()),
        };
        let wanted = match cause {
            Cause::Mismatch { job, chosen, .. } => Some(self.behind(tx, obstacle.row, *job, chosen)?),
            Cause::NoMoreBuilds { job, having, .. } => {
                match having.iter().find(|(input, _)| *input == obstacle.row.name) {
                    Some((_, chosen)) => Some(self.behind(tx, obstacle.row, *job, chosen)?),
                    None => Some(*job),
                }
            }
            _ => cause.job(),
        };
        let hold = Hold::new(Code::PassedUnsatisfied, format!("{}: {rest}", self.looked.job.name));
        self.run(tx, wanted, hold)
    }

    /// A resource without a version.
    fn no_version(&self, row: &InputRow) -> Hold {
        let resource = self.resource(row);
        let hold = match is_unchecked(row) {
            true => Hold::new(Code::CheckPending, format!("{resource} has not been checked yet")),
            false => Hold::new(Code::NoVersion, format!("{resource} has no version yet")),
        };
        match row.resource_type.as_str() {
            "current-bag" => hold.by("the first bag that becomes current".to_owned()),
            _ => self.checked(row, hold),
        }
    }

    /// A hold that the next check of a resource may lift; the server's own are never checked.
    fn checked(&self, row: &InputRow, hold: Hold) -> Hold {
        match is_release_type(&row.resource_type) {
            true => hold,
            false => hold.command(format!("holdall resource check {}", self.resource(row))),
        }
    }

    /// A pin, with what is wrong with it, and what changes it: that depends on where it is.
    fn pinned(&self, tx: &mut Tx<'_>, row: &InputRow, at: &Version, rest: &str) -> Result<Hold, StoreError> {
        let resource = self.resource(row);
        let hold = |sentence: String| Hold::new(Code::VersionPinned, sentence);
        if row.step_pin.is_some() {
            let step = format!("`get: {}` of {}", row.name, self.looked.view.name);
            let (file, command) = self.file(tx)?;
            let sentence = format!("{step} is pinned at {at}{rest}; its `version:` in the {file} says so");
            return Ok(hold(sentence).command(command));
        }
        match resources::resource_find(tx, self.looked.job.pipeline, &row.resource_name)?.and_then(|row| row.pin) {
            Some(pin) if !pin.in_config => {
                let because = because(pin.reason.as_deref());
                Ok(hold(format!("{resource} is pinned at {at}{because}{rest}"))
                    .since(pin.at)
                    .by(pin.by)
                    .until(pin.until)
                    .command(format!("holdall unpin {resource}")))
            }
            _ => {
                let (file, command) = self.file(tx)?;
                let sentence = format!("{resource} is pinned at {at}{rest}; its `version:` in the {file} says so");
                Ok(hold(sentence).command(command))
            }
        }
    }

    /// The file that says what the job's pipeline is, and what sets it when it was changed.
    fn file(&self, tx: &mut Tx<'_>) -> Result<(&'static str, String), StoreError> {
        Ok(match environments::environment_of_pipeline(tx, self.looked.job.pipeline)? {
            Some(_) => ("system's file", "holdall system set FILE".to_owned()),
            None => ("pipeline's file", format!("holdall pipeline set {} FILE", self.looked.view.pipeline)),
        })
    }

    /// A version that is unticked, or the newest of those that are.
    fn unticked(&self, tx: &mut Tx<'_>, row: &InputRow, found: &Found, sentence: String) -> Result<Hold, StoreError> {
        let tick = versions::disabled_list(tx, row.resource)?.into_iter().find(|tick| tick.digest == found.digest);
        let reason = tick.as_ref().and_then(|tick| tick.reason.as_deref());
        let hold = Hold::new(Code::VersionDisabled, format!("{sentence}{}", because(reason)));
        let Some(version) = &found.version else {
            // Nobody can tick what is not known.
            return Ok(self.checked(row, hold.by("a check that finds it again".to_owned())));
        };
        let hold = match tick {
            Some(tick) => hold.since(tick.at).by(tick.by).until(tick.until),
            None => hold,
        };
        Ok(hold.command(format!("holdall enable {} {}", self.resource(row), version_argument(version))))
    }

    /// What a build of a job before this one would lift: that build, if it is on its way, and else what starts one.
    fn run(&self, tx: &mut Tx<'_>, job: Option<JobId>, hold: Hold) -> Result<Hold, StoreError> {
        let Some(job) = job.map(|job| jobs::job_get(tx, job)).transpose()?.flatten() else { return Ok(hold) };
        let newest =
            builds::build_list_of_job(tx, job.id, None, 1)?.into_iter().find(|build| !build.status.is_terminal());
        if let Some(build) = newest {
            return Ok(hold.by(format!("the success of {} {}, which has not ended", job.name, build.name)));
        }
        let spec: JobSpec = from_json(&job.spec)?;
        let hold = hold.by(format!("a build of {} that succeeds", job.name));
        // What belongs to a deployment starts with it.
        Ok(match spec.role.is_none() && !spec.disable_manual_trigger {
            true => hold.command(format!("holdall job trigger {}/{}/{}", job.team, job.pipeline_name, job.name)),
            false => hold,
        })
    }

    /// Of the jobs that an input is to have passed, one of which a build would help, where `job` does not have what is
    /// chosen: that one, if it would get it now, and else one that is behind the newest version.
    fn behind(&self, tx: &mut Tx<'_>, row: &InputRow, job: JobId, chosen: &Found) -> Result<JobId, StoreError> {
        let mut history = TxHistory::new(tx);
        let next = match &row.resource_pin {
            Some(pin) => history.newest_matching(row.resource, pin)?,
            None => history.newest_enabled(row.resource, i64::MAX)?,
        };
        let Some(next) = next.filter(|next| next.digest != chosen.digest) else { return Ok(job) };
        let next = [Arc::new(next.digest)];
        for other in row.passed.iter().filter(|other| **other != job) {
            if history.vouched(*other, row.resource, &next)?.is_empty() {
                return Ok(*other);
            }
        }
        Ok(job)
    }

    fn resource(&self, row: &InputRow) -> String {
        format!("{}/{}", self.looked.view.pipeline, row.resource_name)
    }

    fn job(&self, tx: &mut Tx<'_>, id: JobId) -> Result<String, StoreError> {
        Ok(jobs::job_get(tx, id)?.map_or_else(|| format!("job {id}"), |job| job.name))
    }

    fn job_of(&self, tx: &mut Tx<'_>, cause: &Cause) -> Result<String, StoreError> {
        cause.job().map_or_else(|| Ok(String::new()), |id| self.job(tx, id))
    }

    /// `unit 7`.
    fn build(&self, tx: &mut Tx<'_>, id: BuildId) -> Result<String, StoreError> {
        Ok(builds::build_get(tx, id)?.map_or_else(|| format!("build {id}"), |b| format!("{} {}", b.job_name, b.name)))
    }

    /// A version that a build has, in words. The build knows it where its resource does not any more.
    fn found(&self, tx: &mut Tx<'_>, row: &InputRow, build: BuildId, found: &Found) -> Result<String, StoreError> {
        if found.version.is_some() {
            return Ok(found.to_string());
        }
        let mut had = builds::build_gets(tx, build)?;
        had.extend(builds::build_puts(tx, build)?);
        let had = had.into_iter().find(|had| had.resource == row.resource_name && had.version.digest() == found.digest);
        Ok(had.map_or_else(|| found.to_string(), |had| had.version.to_string()))
    }

    /// The versions that a build would have to have.
    fn versions(&self, having: &[(String, Found)]) -> String {
        let row = |input: &String| self.rows.iter().find(|row| row.name == *input);
        let named = having.iter().take(NAMED_VERSIONS).map(|(input, found)| {
            format!("{} at {found}", row(input).map_or_else(|| input.clone(), |row| self.resource(row)))
        });
        let mut named: Vec<String> = named.collect();
        match having.len().saturating_sub(NAMED_VERSIONS) {
            0 => {}
            left => named.push(format!("{left} more as they are chosen")),
        }
        named.join(" and ")
    }

    /// The newest build of a job that succeeded and has these versions; `of`: the input that it is looked at for.
    fn newest_having(
        &self,
        tx: &mut Tx<'_>,
        job: JobId,
        of: &InputRow,
        having: &[(String, Found)],
    ) -> Result<Option<BuildId>, StoreError> {
        let row = |input: &String| self.rows.iter().find(|row| row.name == *input);
        let having = having.iter().filter_map(|(input, found)| Some((row(input)?.resource, &found.digest)));
        let having: Vec<(ResourceId, &VersionDigest)> = having.collect();
        let resources = [of.resource];
        let page =
            BuildPage { job, direction: Direction::Descending(None), having: &having, resources: &resources, limit: 1 };
        let newest = TxHistory::new(tx).succeeded_builds(&[page])?;
        Ok(newest.iter().flatten().next().map(|build| build.order.build))
    }
}

/// Why somebody did it, for the end of a sentence.
fn because(reason: Option<&str>) -> String {
    reason.map(|reason| format!(" ({reason})")).unwrap_or_default()
}

/// Whether nobody has looked yet which versions a resource has.
fn is_unchecked(row: &InputRow) -> bool {
    row.checked_at.is_none() && !is_release_type(&row.resource_type)
}
