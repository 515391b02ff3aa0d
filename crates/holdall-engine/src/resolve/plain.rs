//! Inputs without `passed`: the newest version, each in turn, or the pinned one (reference, section 3.3).

use super::history::{History, KnownVersion};
use super::why::{Cause, Found, Why};
use super::{Candidate, Failure, Input, Unresolved};
use crate::ids::JobId;
use crate::version::Version;

/// Resolves one input without `passed`.
pub(super) fn resolve<H: History>(
    input: &Input,
    job: JobId,
    history: &mut H,
) -> Result<Result<Candidate, Unresolved>, H::Error> {
    if let Some(pin) = &input.wanted.pin {
        return pinned(input, pin, history);
    }
    if input.wanted.every {
        return every(input, job, history);
    }
    match history.newest_enabled(input.resource, i64::MAX)? {
        Some(known) => Ok(Ok(candidate(known, false))),
        None => nothing_enabled(input, Failure::NoLatestVersion, history),
    }
}

/// The newest version that has the keys of the pin, whether it is enabled or not.
fn pinned<H: History>(
    input: &Input,
    pin: &Version,
    history: &mut H,
) -> Result<Result<Candidate, Unresolved>, H::Error> {
    Ok(match history.newest_matching(input.resource, pin)? {
        Some(known) => Ok(candidate(known, false)),
        None => Err(pin_not_found([(input, pin)])),
    })
}

/// The first enabled version after the newest one that the job ever used, or else the newest enabled one that is
/// not newer than that.
fn every<H: History>(input: &Input, job: JobId, history: &mut H) -> Result<Result<Candidate, Unresolved>, H::Error> {
    let Some(used) = history.highest_used(job, input.resource)? else {
        return match history.newest_enabled(input.resource, i64::MAX)? {
            Some(known) => Ok(Ok(candidate(known, false))),
            None => nothing_enabled(input, Failure::NoVersion, history),
        };
    };
    let mut next = history.enabled_after(input.resource, used.order, 2)?.into_iter();
    if let Some(known) = next.next() {
        return Ok(Ok(candidate(known, next.next().is_some())));
    }
    match history.newest_enabled(input.resource, used.order)? {
        Some(known) => Ok(Ok(candidate(known, false))),
        None => nothing_enabled(input, Failure::NoVersion, history),
    }
}

/// The failure of an input whose pin, or the pins of whose group, match no known version. The first one's sentence
/// stands for all.
pub(super) fn pin_not_found<'a>(pins: impl IntoIterator<Item = (&'a Input, &'a Version)>) -> Unresolved {
    let why: Vec<Why> = pins
        .into_iter()
        .map(|(input, pin)| Why { input: input.name.clone(), depth: 0, cause: Cause::PinNotFound { pin: pin.clone() } })
        .collect();
    let failure = match why.first() {
        Some(Why { cause: Cause::PinNotFound { pin }, .. }) => Failure::PinNotFound(pin.clone()),
        _ => unreachable!("called with at least one pin"),
    };
    Unresolved { failure, why: why.into() }
}

fn nothing_enabled<H: History>(
    input: &Input,
    failure: Failure,
    history: &mut H,
) -> Result<Result<Candidate, Unresolved>, H::Error> {
    // A pin without keys matches every version: is there one at all?
    let cause = match history.newest_matching(input.resource, &Version::default())? {
        Some(known) => Cause::AllDisabled { newest: Found::known(known) },
        None => Cause::NoVersion,
    };
    let why = Why { input: input.name.clone(), depth: 0, cause };
    Ok(Err(Unresolved { failure, why: [why].into() }))
}

fn candidate(known: KnownVersion, has_next: bool) -> Candidate {
    Candidate { digest: known.digest, version: known.version, passed_builds: Vec::new(), has_next }
}
