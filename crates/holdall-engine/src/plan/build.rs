//! Builds the plan of a job (reference, sections 1.1, 1.8 and 4.13).

use std::collections::BTreeMap;

use thiserror::Error;

use crate::bag::Bag;
use crate::pipeline::{GetStep, Job, Pipeline, PutStep, Resource, Step};
use crate::plan::release::{ReleaseType, plan_bag, plan_put, plan_resolve, put_action};
use crate::plan::{GetPlan, Plan, PlanId, PlanKind, PutPlan, TaskPlan, VersionSource, job_packs, lock_demand};
use crate::version::Version;

/// How many nodes a plan may have: `attempts` inside `attempts` multiply.
pub const MAX_PLAN_NODES: usize = 10_000;

/// How deep a plan may be.
pub const MAX_PLAN_DEPTH: usize = 64;

/// How deep the JSON of a plan may be: readers stop at 128, and the plan may be stored inside something else.
pub const MAX_JSON_DEPTH: usize = 120;

/// What the scheduler chose for the build.
#[derive(Debug, Clone, Default)]
pub struct PlanInputs<'a> {
    /// The version of each input, by the name of its get.
    pub versions: BTreeMap<String, Version>,
    /// The bag that each input of type `deployment-bag`, `deployment` or `current-bag` stands for, by the name of its
    /// get.
    pub bags: BTreeMap<String, &'a Bag>,
}

/// Why a plan cannot be built. The build ends as errored with this as its message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    /// A get has no version: for example, it was added after the build that is run again.
    #[error("input `{input}` has no version")]
    MissingInput {
        /// The get's name.
        input: String,
    },
    /// A step names a resource that the pipeline does not have.
    #[error("step `{step}` uses resource `{resource}`, which the pipeline does not have")]
    UnknownResource {
        /// The step's name.
        step: String,
        /// The resource's.
        resource: String,
    },
    /// An input of a release type has a version, and there is no such bag.
    #[error("input `{input}` stands for a bag that does not exist")]
    NoBag {
        /// The get's name.
        input: String,
    },
    /// The plan wants a service that the bag does not hold (`bag-incomplete`).
    #[error("bag-incomplete: bag {bag} holds no service `{service}`")]
    BagIncomplete {
        /// The bag's number.
        bag: i64,
        /// The service.
        service: String,
    },
    /// The pipeline has no resource for a service of the bag.
    #[error("the pipeline has no resource for service `{service}`")]
    NoServiceResource {
        /// The service.
        service: String,
    },
    /// The service's type is not the one that it was packed with.
    #[error("service `{service}` is of type `{is}` now, and of type `{was}` in bag {bag}")]
    ServiceTypeChanged {
        /// The bag's number.
        bag: i64,
        /// The service.
        service: String,
        /// The type in the bag.
        was: String,
        /// The type in the pipeline.
        is: String,
    },
    /// The params of a step on a release type are wrong.
    #[error("params of step `{step}`: {problem}")]
    BadParams {
        /// The step's name.
        step: String,
        /// What is wrong.
        problem: String,
    },
    /// The source of a resource of a release type is wrong.
    #[error("source of resource `{resource}`: `{field}` is missing or not a name")]
    BadSource {
        /// The resource.
        resource: String,
        /// The field.
        field: &'static str,
    },
    /// A lock is asked for in the middle of a plan.
    #[error("step `{step}` asks for a lock, which only the first step of a job can")]
    LockNotAtTop {
        /// The step's name.
        step: String,
    },
    /// A kind of step that is not run yet.
    #[error("`{kind}` steps are not run yet")]
    Unsupported {
        /// The key that the step is written with.
        kind: &'static str,
    },
    /// There are too many steps.
    #[error("the plan has more than {MAX_PLAN_NODES} steps: fewer `attempts`, or a job less")]
    TooLarge,
    /// The steps are nested too deeply.
    #[error("the plan is nested too deeply")]
    TooDeep,
}

/// Builds the plan of a job with the versions that were chosen for it.
///
/// The root is a `do` of the job's plan, inside the job's hooks. A `put` becomes the put and then, unless `no_get`, a
/// get of the version it gave. Steps without tags get the job's. Gets of bags become gets of the services, and steps
/// on release types become steps that the server answers (release model, sections 4 and 5).
///
/// # Errors
///
/// Whatever [`PlanError`] names; the same for the same arguments.
pub fn build_plan(job: &Job, pipeline: &Pipeline, inputs: &PlanInputs<'_>) -> Result<Plan, PlanError> {
    lock_demand(job, pipeline)?;
    let mut builder = Builder { job, pipeline, inputs, resolve_only: job_packs(job, pipeline), nodes: 0, depth: 0 };
    let hooks = &job.hooks;
    // Innermost first.
    let hooks: [(Option<&Step>, Wrap); 5] = [
        (hooks.on_success.as_deref(), |step, hook| PlanKind::OnSuccess { step, hook }),
        (hooks.on_failure.as_deref(), |step, hook| PlanKind::OnFailure { step, hook }),
        (hooks.on_abort.as_deref(), |step, hook| PlanKind::OnAbort { step, hook }),
        (hooks.on_error.as_deref(), |step, hook| PlanKind::OnError { step, hook }),
        (hooks.ensure.as_deref(), |step, hook| PlanKind::Ensure { step, hook }),
    ];
    let hooks: Vec<(&Step, Wrap)> = hooks.into_iter().filter_map(|(hook, wrap)| Some((hook?, wrap))).collect();
    let plan = builder.job(PlanId::root(), &hooks)?;
    let text = serde_json::to_string(&plan).expect("a plan is always JSON");
    if json_depth(&text) > MAX_JSON_DEPTH {
        return Err(PlanError::TooDeep);
    }
    Ok(plan)
}

/// Makes a hook's node.
type Wrap = fn(Box<Plan>, Box<Plan>) -> PlanKind;

/// What is known while a plan is built.
pub(super) struct Builder<'a> {
    job: &'a Job,
    pub(super) pipeline: &'a Pipeline,
    inputs: &'a PlanInputs<'a>,
    /// Gets fetch nothing.
    resolve_only: bool,
    nodes: usize,
    depth: usize,
}

impl<'a> Builder<'a> {
    /// The job's plan inside its hooks, of which the last is the outermost.
    fn job(&mut self, id: PlanId, hooks: &[(&Step, Wrap)]) -> Result<Plan, PlanError> {
        self.count(1)?;
        let kind = match hooks.split_last() {
            None => PlanKind::Do(self.steps(&id, &self.job.plan)?),
            Some(((hook, wrap), inner)) => {
                let step = Box::new(self.job(id.child(1), inner)?);
                wrap(step, Box::new(self.step(id.child(2), hook)?))
            }
        };
        Ok(Plan { id, kind })
    }

    fn steps(&mut self, id: &PlanId, steps: &[Step]) -> Result<Vec<Plan>, PlanError> {
        steps.iter().enumerate().map(|(nth, step)| self.step(id.child(nth + 1), step)).collect()
    }

    fn step(&mut self, id: PlanId, step: &Step) -> Result<Plan, PlanError> {
        self.count(1)?;
        if self.depth == MAX_PLAN_DEPTH {
            return Err(PlanError::TooDeep);
        }
        self.depth += 1;
        let kind = self.kind(&id, step);
        self.depth -= 1;
        Ok(Plan { id, kind: kind? })
    }

    fn kind(&mut self, id: &PlanId, step: &Step) -> Result<PlanKind, PlanError> {
        Ok(match step {
            Step::Get(get) => self.get(id, get)?,
            Step::Put(put) => self.put(id, put)?,
            Step::Task(task) => {
                let mut step = task.clone();
                step.tags = self.tags(&task.tags);
                PlanKind::Task(TaskPlan { step })
            }
            Step::Run(_) => return Err(PlanError::Unsupported { kind: "run" }),
            Step::SetPipeline(_) => return Err(PlanError::Unsupported { kind: "set_pipeline" }),
            Step::LoadVar(_) => return Err(PlanError::Unsupported { kind: "load_var" }),
            Step::Across(_) => return Err(PlanError::Unsupported { kind: "across" }),
            Step::Try(step) => PlanKind::Try(self.boxed(id.child(1), step)?),
            Step::Do(steps) => PlanKind::Do(self.steps(id, steps)?),
            Step::InParallel(parallel) => PlanKind::InParallel {
                steps: self.steps(id, &parallel.steps)?,
                limit: parallel.limit,
                fail_fast: parallel.fail_fast,
            },
            Step::Attempts(step, attempts) => {
                let attempts = (*attempts).max(1);
                let tries: Result<Vec<Plan>, PlanError> =
                    (1..=attempts).map(|nth| self.step(id.child(nth as usize), step)).collect();
                PlanKind::Retry(tries?)
            }
            Step::Timeout(step, duration) => {
                PlanKind::Timeout { step: self.boxed(id.child(1), step)?, span: duration.span }
            }
            Step::OnSuccess(step, hook) => {
                self.hook(id, step, hook, |step, hook| PlanKind::OnSuccess { step, hook })?
            }
            Step::OnFailure(step, hook) => {
                self.hook(id, step, hook, |step, hook| PlanKind::OnFailure { step, hook })?
            }
            Step::OnError(step, hook) => self.hook(id, step, hook, |step, hook| PlanKind::OnError { step, hook })?,
            Step::OnAbort(step, hook) => self.hook(id, step, hook, |step, hook| PlanKind::OnAbort { step, hook })?,
            Step::Ensure(step, hook) => self.hook(id, step, hook, |step, hook| PlanKind::Ensure { step, hook })?,
        })
    }

    fn boxed(&mut self, id: PlanId, step: &Step) -> Result<Box<Plan>, PlanError> {
        self.step(id, step).map(Box::new)
    }

    fn hook(&mut self, id: &PlanId, step: &Step, hook: &Step, wrap: Wrap) -> Result<PlanKind, PlanError> {
        Ok(wrap(self.boxed(id.child(1), step)?, self.boxed(id.child(2), hook)?))
    }

    fn get(&mut self, id: &PlanId, get: &GetStep) -> Result<PlanKind, PlanError> {
        let resource = self.resource(&get.name, get.resource_name())?;
        let Some(version) = self.inputs.versions.get(&get.name) else {
            return Err(PlanError::MissingInput { input: get.name.clone() });
        };
        let release_type = ReleaseType::of(self.pipeline, resource);
        if self.resolve_only || release_type == Some(ReleaseType::Lock) {
            return Ok(plan_resolve(get, resource, version.clone()));
        }
        if release_type.is_some() {
            let Some(bag) = self.inputs.bags.get(&get.name) else {
                return Err(PlanError::NoBag { input: get.name.clone() });
            };
            return plan_bag(self, id, get, bag);
        }
        Ok(PlanKind::Get(GetPlan {
            name: get.name.clone(),
            resource: resource.name.clone(),
            resource_type: resource.kind.clone(),
            source: resource.source.clone(),
            params: get.params.clone(),
            version: VersionSource::Fixed(version.clone()),
            artifact: get.name.clone(),
            tags: self.tags(&get.tags),
            timeout: get.timeout.as_ref().map(|timeout| timeout.span),
        }))
    }

    fn put(&mut self, id: &PlanId, put: &PutStep) -> Result<PlanKind, PlanError> {
        let resource = self.resource(&put.name, put.resource_name())?;
        if let Some(action) = put_action(put, self.pipeline)? {
            return plan_put(put, action, resource);
        }
        let tags = self.tags(&put.tags);
        let timeout = put.timeout.as_ref().map(|timeout| timeout.span);
        let push = PlanKind::Put(PutPlan {
            name: put.name.clone(),
            resource: resource.name.clone(),
            resource_type: resource.kind.clone(),
            source: resource.source.clone(),
            params: put.params.clone(),
            inputs: put.inputs.clone(),
            tags: tags.clone(),
            timeout,
        });
        if put.no_get {
            return Ok(push);
        }
        let step = Box::new(self.node(id.child(1), push)?);
        let get = PlanKind::Get(GetPlan {
            name: put.name.clone(),
            resource: resource.name.clone(),
            resource_type: resource.kind.clone(),
            source: resource.source.clone(),
            params: put.get_params.clone(),
            version: VersionSource::From(step.id.clone()),
            artifact: put.name.clone(),
            tags,
            timeout,
        });
        Ok(PlanKind::OnSuccess { step, hook: Box::new(self.node(id.child(2), get)?) })
    }

    fn resource(&self, step: &str, name: &str) -> Result<&'a Resource, PlanError> {
        self.pipeline
            .resource(name)
            .ok_or_else(|| PlanError::UnknownResource { step: step.to_owned(), resource: name.to_owned() })
    }

    /// A step's tags, or the job's where it has none.
    pub(super) fn tags(&self, own: &[String]) -> Vec<String> {
        if own.is_empty() { self.job.tags.clone() } else { own.to_vec() }
    }

    /// Counts nodes.
    pub(super) fn count(&mut self, nodes: usize) -> Result<(), PlanError> {
        self.nodes += nodes;
        if self.nodes > MAX_PLAN_NODES { Err(PlanError::TooLarge) } else { Ok(()) }
    }
}

/// How many brackets are open at the same time in a JSON text.
fn json_depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}
