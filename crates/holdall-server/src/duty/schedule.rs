//! The scheduler: looks at marked jobs, asks the engine, and writes what it says, all in one transaction.

mod apply;
mod look;
mod unresolved;

use holdall_engine::ids::JobId;
use holdall_engine::schedule::{Action, schedule};
use holdall_engine::time::Timestamp;
use holdall_store::{StoreError, Tx, jobs};

use look::look_to_decide;

pub use look::{Look, in_doubt, look};

/// How many marked jobs one transaction takes.
const BATCH: i64 = 50;

/// How often one job is looked at in a row: each look applies at least one action, and a job has a bounded number of
/// builds that can start at once. More than this is a bug, which must not stop everything else.
const MOST_LOOKS: usize = 1000;

/// Something that the scheduler did, for previews.
#[derive(Debug, Clone)]
pub struct Done {
    /// The job.
    pub job: JobId,
    /// What was done.
    pub action: Action,
}

/// Looks at one job until nothing is left to do for it now.
pub fn schedule_job(tx: &mut Tx<'_>, job: JobId, now: Timestamp) -> Result<Vec<Done>, StoreError> {
    let mut done = Vec::new();
    for _ in 0..MOST_LOOKS {
        let Some(look) = look_to_decide(tx, job)? else { return Ok(done) };
        let determined = look.view.inputs.holds.is_empty();
        if look.job.max_in_flight > 0 && look.job.inputs_determined != determined {
            jobs::inputs_determine(tx, job, determined)?;
        }
        let decision = schedule(&look.view);
        if decision.actions.is_empty() {
            return Ok(done);
        }
        for action in decision.actions {
            apply::apply(tx, &look, &action, now)?;
            done.push(Done { job, action });
        }
    }
    tracing::error!(job.id = job.0, "the scheduler found no end for a job");
    Ok(done)
}

/// Looks at some of the marked jobs; gives what was done, and whether marked jobs may be left.
pub fn schedule_some(tx: &mut Tx<'_>, now: Timestamp) -> Result<(Vec<Done>, bool), StoreError> {
    let marked = jobs::dirty(tx, BATCH)?;
    let more = marked.len() as i64 == BATCH;
    let mut done = Vec::new();
    for job in marked {
        jobs::unmark(tx, job)?;
        done.extend(schedule_job(tx, job, now)?);
    }
    Ok((done, more || !jobs::dirty(tx, 1)?.is_empty()))
}

/// Looks at marked jobs until none is left: an act sees all its consequences in its own transaction.
pub fn schedule_all(tx: &mut Tx<'_>, now: Timestamp) -> Result<Vec<Done>, StoreError> {
    let mut done = Vec::new();
    for _ in 0..MOST_LOOKS {
        let (some, more) = schedule_some(tx, now)?;
        done.extend(some);
        if !more {
            break;
        }
    }
    Ok(done)
}
