//! What a job asks for, read from its steps before there is a plan.

use serde::{Deserialize, Serialize};

use crate::pipeline::{GetStep, Job, Pipeline, PutStep, Step};
use crate::plan::build::PlanError;
use crate::plan::release::{LockAction, PutAction, ReleaseType, put_action, release_type};

/// Every `get` of a job, also those inside hooks, `try`, `attempts` and so on, in the order of the file; the job's
/// own hooks come last. They are the job's inputs (reference, section 1.7).
pub fn job_inputs(job: &Job) -> Vec<&GetStep> {
    let mut found = Vec::new();
    visit(job, &mut |step| {
        if let Step::Get(get) = step {
            found.push(get);
        }
    });
    found
}

/// Every `put` of a job, found like [`job_inputs`]. They are the job's outputs (reference, section 1.7).
pub fn job_outputs(job: &Job) -> Vec<&PutStep> {
    let mut found = Vec::new();
    visit(job, &mut |step| {
        if let Step::Put(put) = step {
            found.push(put);
        }
    });
    found
}

/// Whether the job packs a bag: its gets choose versions and fetch nothing (release model, section 3).
pub fn job_packs(job: &Job, pipeline: &Pipeline) -> bool {
    job_outputs(job).into_iter().any(|put| matches!(put_action(put, pipeline), Ok(Some(PutAction::Pack))))
}

/// What a job's lock step asks for (release model, section 5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockDemand {
    /// The pipeline's resource of type `lock`.
    pub resource: String,
    /// The environment whose lock it is.
    pub environment: String,
    /// How it is wanted.
    pub mode: LockMode,
}

/// How a lock is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockMode {
    /// Taken for the deployment that the build is to start.
    Acquire,
    /// Must be held by the deployment that the build belongs to.
    Require,
    /// Held while the build runs.
    During {
        /// Together with other shared holders.
        shared: bool,
    },
}

/// The lock that a job needs before it can start: its first step, if that is a `put` on a resource of type `lock`
/// with `acquire`, `require` or `during`.
///
/// # Errors
///
/// [`PlanError::LockNotAtTop`] for such a put anywhere else, and what is wrong with the params or the source of a
/// lock's put.
pub fn lock_demand(job: &Job, pipeline: &Pipeline) -> Result<Option<LockDemand>, PlanError> {
    let first = job.plan.first().and_then(|step| match step {
        Step::Put(put) => Some(put),
        _ => None,
    });
    let mut demand = None;
    for put in job_outputs(job) {
        if release_type(pipeline, put.resource_name()) != Some(ReleaseType::Lock) {
            continue;
        }
        let Some(PutAction::Lock { environment, action }) = put_action(put, pipeline)? else { continue };
        let mode = match action {
            LockAction::Acquire => LockMode::Acquire,
            LockAction::Require => LockMode::Require,
            LockAction::During { shared } => LockMode::During { shared },
            LockAction::Release | LockAction::ForceRelease => continue,
        };
        if !first.is_some_and(|first| std::ptr::eq(first, put)) {
            return Err(PlanError::LockNotAtTop { step: put.name.clone() });
        }
        demand = Some(LockDemand { resource: put.resource_name().to_owned(), environment, mode });
    }
    Ok(demand)
}

/// Calls `f` for every step of a job.
fn visit<'a>(job: &'a Job, f: &mut impl FnMut(&'a Step)) {
    let mut open: Vec<&Step> = Vec::new();
    let hooks = &job.hooks;
    for hook in [&hooks.ensure, &hooks.on_error, &hooks.on_abort, &hooks.on_failure, &hooks.on_success] {
        open.extend(hook.as_deref());
    }
    open.extend(job.plan.iter().rev());
    while let Some(step) = open.pop() {
        f(step);
        match step {
            Step::Get(_) | Step::Put(_) | Step::Task(_) | Step::Run(_) | Step::SetPipeline(_) | Step::LoadVar(_) => {}
            Step::Try(step) | Step::Attempts(step, _) | Step::Timeout(step, _) => open.push(step),
            Step::Across(across) => open.push(&across.step),
            Step::Do(steps) => open.extend(steps.iter().rev()),
            Step::InParallel(parallel) => open.extend(parallel.steps.iter().rev()),
            Step::OnSuccess(step, hook)
            | Step::OnFailure(step, hook)
            | Step::OnError(step, hook)
            | Step::OnAbort(step, hook)
            | Step::Ensure(step, hook) => {
                open.push(hook);
                open.push(step);
            }
        }
    }
}
