//! Reads everything that the engine wants to know about one job.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdall_engine::ids::{BuildId, JobId};
use holdall_engine::plan::LockMode;
use holdall_engine::release::Role;
use holdall_engine::release::bags::{BagsView, Mark, barred, held, held_back};
use holdall_engine::release::lock::LockView;
use holdall_engine::report::{Code, Hold};
use holdall_engine::resolve::{History, Unresolved, Why, resolve_inputs};
use holdall_engine::schedule::{
    CheckView, DeploymentView, FixedView, InputsView, JobSpec, JobView, LimitView, Pause, PendingView,
};
use holdall_engine::status::BuildStatus;
use holdall_engine::version::Version;
use holdall_store::builds::{self, BuildInput, BuildRow};
use holdall_store::environments::{self, DeploymentRow, EnvironmentRow};
use holdall_store::history::TxHistory;
use holdall_store::jobs::{self, InputRow, JobRow};
use holdall_store::{StoreError, Tx, bags, checks, locks, versions};

use super::unresolved::unresolved_holds;
use crate::epoch::RESTORED;
use crate::error::from_json;
use crate::release::bags::{Judge, bag_number, bag_version};
use crate::release::deployments::{deployment_of_version, deployment_view};
use crate::release::locks::{allows, lock_view};

/// A job as it was looked at: what the engine decides on, and what its actions need.
pub struct Look {
    /// What the engine decides on.
    pub view: JobView,
    /// The job.
    pub job: JobRow,
    /// What is kept of its configuration.
    pub spec: JobSpec,
    /// Its environment, where it has one.
    pub environment: Option<EnvironmentRow>,
    /// The inputs that a build without inputs of its own starts with.
    pub inputs: Vec<BuildInput>,
    /// The builds that vouched for them.
    pub pipes: Vec<BuildId>,
    /// The inputs of builds that have their own.
    pub fixed: BTreeMap<BuildId, (Vec<BuildInput>, Vec<BuildId>)>,
}

/// Looks at a job; `None`: it is not configured any more.
pub fn look(tx: &mut Tx<'_>, id: JobId) -> Result<Option<Look>, StoreError> {
    look_at(tx, id, unresolved_holds)
}

/// The same for a decision, which asks whether inputs have versions and not why they have none: finding that out may take
/// many times as long.
pub(super) fn look_to_decide(tx: &mut Tx<'_>, id: JobId) -> Result<Option<Look>, StoreError> {
    look_at(tx, id, |_, looked, _, unresolved| {
        let sentence = format!("{}: {}", looked.job.name, unresolved.failure);
        Ok(vec![Hold::new(Code::PassedUnsatisfied, sentence)])
    })
}

/// What keeps inputs that are tied together from having versions, never nothing: a build without inputs would start.
type Explain = fn(&mut Tx<'_>, &Look, &[InputRow], &Unresolved) -> Result<Vec<Hold>, StoreError>;

fn look_at(tx: &mut Tx<'_>, id: JobId, explain: Explain) -> Result<Option<Look>, StoreError> {
    let Some(job) = jobs::job_get(tx, id)?.filter(|job| job.active) else { return Ok(None) };
    let spec: JobSpec = from_json(&job.spec)?;
    let environment = match spec.role {
        Some(_) => environments::environment_of_pipeline(tx, job.pipeline)?,
        None => None,
    };
    let rows = jobs::job_inputs(tx, id)?;
    let pending = builds::build_list_pending(tx, id)?;
    let judge = match (&environment, spec.role) {
        (Some(environment), Some(Role::StartDeploy)) => Some(Judge::read(tx, environment.clone())?),
        _ => None,
    };
    let mut looked = Look {
        view: JobView {
            name: format!("{}/{}/{}", job.team, job.pipeline_name, job.name),
            pipeline: format!("{}/{}", job.team, job.pipeline_name),
            paused: job.paused.as_ref().map(pause),
            pipeline_paused: job.pipeline_paused.as_ref().map(pause),
            ..JobView::default()
        },
        spec,
        environment,
        inputs: Vec::new(),
        pipes: Vec::new(),
        fixed: BTreeMap::new(),
        job,
    };
    look_at_inputs(tx, &mut looked, &rows, judge.as_ref(), &pending, explain)?;
    if judge.is_none() {
        looked.view.automatic_holds.extend(looked.environment.as_ref().and_then(restored));
    }
    let mut refused = None;
    if let Some(demand) = &looked.spec.demand {
        if looked.spec.role.is_none() && allows(tx, &demand.environment, &looked.view.pipeline)? != Some(true) {
            refused = Some(not_allowed(&demand.environment, &looked.view.pipeline));
            looked.view.inputs.holds.extend(refused.clone());
        }
        // A lock that nobody has asked for yet has no row.
        let view = match locks::lock_find(tx, &demand.environment)? {
            Some(lock) => lock_view(tx, lock, &demand.environment)?,
            None => LockView { name: demand.environment.clone(), ..LockView::default() },
        };
        looked.view.lock = Some((demand.mode, view));
    }
    if looked.job.max_in_flight > 0 {
        let in_flight = jobs::in_flight(tx, id)?;
        looked.view.limit = Some(LimitView {
            max: usize::try_from(looked.job.max_in_flight).unwrap_or(usize::MAX),
            shared: jobs::shares_group(tx, id)?,
            running: in_flight.running,
            before: in_flight
                .before
                .filter(|before| pending.first().is_some_and(|first| before.order < order_of(first)))
                .map(|before| (before.order.1, before.job)),
        });
    }
    looked.view.checks = rows
        .iter()
        .filter(|row| is_checked(row))
        .map(|row| {
            let scope = row.scope.ok_or_else(|| StoreError::Inconsistent("a resource has no scope".to_owned()))?;
            let state = checks::check_state(tx, scope)?;
            Ok(CheckView {
                input: row.name.clone(),
                resource: format!("{}/{}", looked.view.pipeline, row.resource_name),
                scope,
                trigger: row.trigger,
                checked_at: row.checked_at,
                overdue: row.checked_at.is_none(),
                every: row.check_every,
                wanted: state.wanted || state.running,
            })
        })
        .collect::<Result<_, StoreError>>()?;
    let queued = match &looked.spec.demand {
        Some(demand) if !pending.is_empty() => match locks::lock_find(tx, &demand.environment)? {
            Some(lock) => locks::wait_list(tx, lock)?.into_iter().filter_map(|wait| wait.build).collect(),
            None => Vec::new(),
        },
        Some(_) | None => Vec::new(),
    };
    for build in &pending {
        let mut fixed = fix(tx, &mut looked, build, judge.as_ref())?;
        if let Some(fixed) = &mut fixed {
            // That it has its inputs from the start does not let it have the lock.
            fixed.holds.extend(refused.clone());
        }
        looked.view.pending.push(PendingView {
            id: build.id,
            name: build.name.clone(),
            manual: build.manual,
            rerun: build.rerun_of.is_some(),
            created_at: build.created_at,
            abort: build.abort_at.map(|_| abort_sentence(build)),
            first_in_line: build.first_in_line,
            queued: queued.contains(&build.id),
            fixed,
        });
    }
    Ok(Some(looked))
}

/// Where a build stands among those that wait: a rerun where its original was.
fn order_of(build: &BuildRow) -> (BuildId, BuildId) {
    (build.rerun_of.unwrap_or(build.id), build.id)
}

/// Nobody knows what a deployment has done: it is never deployed again by itself. `job`: the deploy job by which it goes
/// on, `team/pipeline/job`.
pub fn in_doubt(job: &str, deployment: &DeploymentRow) -> Hold {
    let (number, bag) = (deployment.number, deployment.bag);
    Hold::new(
        Code::InDoubt,
        format!("nobody knows how far deployment {number} of bag {bag} has come: look at the environment first"),
    )
    .since(Some(deployment.started_at))
    .command(format!("holdall job trigger {job}"))
}

/// Until a person has confirmed what is live after a loss of history, no job of the environment starts by itself.
fn restored(environment: &EnvironmentRow) -> Option<Hold> {
    let hold = environment.held.as_ref().filter(|hold| hold.code == RESTORED)?;
    let view = BagsView {
        system: environment.system_name.clone(),
        environment: environment.name.clone(),
        ..BagsView::default()
    };
    let mark = Mark { by: Some(hold.by.clone()), at: Some(hold.at), until: None, reason: hold.reason.clone() };
    Some(held(&view, Code::Restored, &mark))
}

fn pause(pause: &jobs::Pause) -> Pause {
    Pause { by: pause.by.clone(), at: pause.at, reason: pause.reason.clone() }
}

fn abort_sentence(build: &BuildRow) -> String {
    let by = build.abort_by.as_deref().unwrap_or("somebody");
    match &build.abort_reason {
        Some(reason) => format!("{by} aborted it: {reason}"),
        None => format!("{by} aborted it"),
    }
}

/// The system file that let a pipeline hold the lock does not do so any more.
fn not_allowed(environment: &str, pipeline: &str) -> Hold {
    Hold::new(
        Code::SystemChanged,
        format!(
            "{environment} does not let {pipeline} hold its lock any more: `lock: {{allow: [{pipeline}]}}` in its \
             system file does"
        ),
    )
    .command("holdall system set FILE")
}

/// Whether versions of an input are found by checks, rather than by other jobs or by the server itself.
fn is_checked(row: &InputRow) -> bool {
    !row.has_passed
        && row.step_pin.is_none()
        && row.resource_pin.is_none()
        && row.scope.is_some()
        && !holdall_store::pipelines::is_release_type(&row.resource_type)
}

fn look_at_inputs(
    tx: &mut Tx<'_>,
    looked: &mut Look,
    rows: &[InputRow],
    judge: Option<&Judge>,
    pending: &[BuildRow],
    explain: Explain,
) -> Result<(), StoreError> {
    let mut view = InputsView::default();
    let mut inputs = Vec::new();
    for row in rows {
        if judge.is_some() && row.resource_type == "deployment-bag" {
            continue;
        }
        inputs.push(row.to_resolve());
    }
    let resolution = resolve_inputs(&inputs, looked.job.id, &mut TxHistory::new(tx))?;
    view.triggers = resolution.triggers();
    let mut explained: Vec<Arc<[Why]>> = Vec::new();
    for input in resolution.inputs {
        let Some(row) = rows.iter().find(|row| row.name == input.name) else { continue };
        match input.result {
            Ok(resolved) => {
                if row.resource_type == "deployment"
                    && let Some(environment) = &looked.environment
                    && let Some(deployment) = deployment_of_version(tx, environment, &resolved.version)?
                {
                    view.deployment = Some(deployment_view(&deployment, &environment.name));
                    if deployment.in_doubt && matches!(looked.spec.role, Some(Role::Deploy { .. })) {
                        let hold = in_doubt(&looked.view.name, &deployment);
                        looked.view.automatic_holds.push(hold);
                    }
                }
                looked.pipes.extend(resolved.passed_builds);
                looked.inputs.push(BuildInput {
                    name: input.name,
                    resource: input.resource,
                    version: resolved.version,
                    first_occurrence: resolved.first_occurrence,
                });
            }
            // Inputs that are tied together share their explanation.
            Err(unresolved) => {
                if !explained.iter().any(|known| Arc::ptr_eq(known, &unresolved.why)) {
                    let holds = explain(tx, looked, rows, &unresolved)?;
                    view.holds.extend(holds);
                    explained.push(unresolved.why);
                }
            }
        }
    }
    if let Some(deployment) = &view.deployment {
        view.holds.extend(beside(tx, looked, deployment)?);
    }
    for row in rows.iter().filter(|row| is_checked(row)) {
        if let (Some(error), true) = (&row.check_error, view.holds.is_empty()) {
            // Not a reason to wait: the versions that are known will do. It is said, so that nobody waits in vain.
            looked.view.notes.push(check_failing(looked, row, error));
        }
    }
    if let Some(judge) = judge {
        choose_bag(tx, looked, rows, judge, pending, &mut view)?;
    }
    looked.pipes.sort();
    looked.pipes.dedup();
    looked.view.inputs = view;
    Ok(())
}

/// What was started for a deployment and keeps a build of this job from starting. What ends the deployment gives the lock
/// back, under which the others work, and says that all of them have succeeded: it runs alone and once, and not where
/// the last word of a deploy or of a test is that it has not.
fn beside(tx: &mut Tx<'_>, looked: &Look, deployment: &DeploymentView) -> Result<Vec<Hold>, StoreError> {
    let mut holds = Vec::new();
    if !matches!(looked.spec.role, Some(Role::Deploy { .. } | Role::Test | Role::Signal)) {
        return Ok(holds);
    }
    let ends = looked.spec.role == Some(Role::Signal);
    let mut newest: BTreeMap<JobId, BuildRow> = BTreeMap::new();
    for build in builds::build_list_of_deployment(tx, deployment.id)? {
        if build.status == BuildStatus::Started && (ends || role_of(tx, &build)? == Some(Role::Signal)) {
            let (job, name) = (&build.job_name, &build.name);
            holds.push(
                Hold::new(Code::SerialGroup, format!("{job} {name} of deployment {} runs", deployment.number))
                    .since(build.started_at)
                    .by(format!("the end of {job} {name}")),
            );
        }
        // The oldest comes first.
        newest.insert(build.job, build);
    }
    for build in newest.into_values().filter(|_| ends) {
        if !build.status.is_terminal() || build.status == BuildStatus::Succeeded {
            continue;
        }
        let code = match role_of(tx, &build)? {
            Some(Role::Deploy { .. }) => Code::DeployFailed,
            Some(Role::Test) => Code::TestFailed,
            _ => continue,
        };
        let (job, name, status) = (&build.job_name, &build.name, build.status.as_str());
        holds.push(
            Hold::new(code, format!("{job} {name} of deployment {} {status}", deployment.number))
                .since(build.ended_at)
                .command(format!("holdall build rerun {}", build.id)),
        );
    }
    Ok(holds)
}

/// What the job of a build is for, as it is configured now; `None` as well where it is not configured any more.
fn role_of(tx: &mut Tx<'_>, build: &BuildRow) -> Result<Option<Role>, StoreError> {
    let job = jobs::job_get(tx, build.job)?.filter(|job| job.active);
    let spec: Option<JobSpec> = job.map(|job| from_json(&job.spec)).transpose()?;
    Ok(spec.and_then(|spec| spec.role))
}

/// A resource that cannot be checked.
pub(super) fn check_failing(looked: &Look, row: &InputRow, error: &str) -> Hold {
    let resource = format!("{}/{}", looked.view.pipeline, row.resource_name);
    let first = error.lines().find(|line| !line.trim().is_empty()).unwrap_or("no message");
    Hold::new(Code::CheckFailing, format!("{resource} cannot be checked: {first}"))
        .since(row.failing_since)
        .command(format!("holdall resource check {resource}"))
}

/// The bag that a build of `start-deploy` takes: by itself the engine's choice among the bags above the highest that
/// has started; for a person's build the frozen bag, the one of these that is next, or the newest that nothing bars.
fn choose_bag(
    tx: &mut Tx<'_>,
    looked: &mut Look,
    rows: &[InputRow],
    judge: &Judge,
    pending: &[BuildRow],
    view: &mut InputsView,
) -> Result<(), StoreError> {
    let Some(row) = rows.iter().find(|row| row.resource_type == "deployment-bag") else { return Ok(()) };
    let automatic = judge.next(tx)?;
    let by_person = pending.iter().any(|build| build.manual && build.rerun_of.is_none() && build.fixed_bag.is_none());
    let chosen = match automatic {
        Some(number) => Ok(number),
        None if by_person => for_person(tx, judge)?,
        None => Err(Vec::new()),
    };
    view.triggers = automatic.is_some() && row.trigger;
    view.in_vain = chosen.is_err();
    match chosen {
        Ok(number) => looked.inputs.push(BuildInput {
            name: row.name.clone(),
            resource: row.resource,
            version: bag_version(number),
            first_occurrence: automatic.is_some(),
        }),
        Err(barred) if !barred.is_empty() => view.holds.extend(barred),
        Err(_) => match judge.newest(tx)? {
            Some(newest) => view.holds.extend(held_back(&judge.view, &newest)),
            None => view.holds.push(
                Hold::new(
                    Code::NoVersion,
                    format!("no bag waits for {}: everything that may come has come", judge.environment.name),
                )
                .command(format!("holdall why {}", judge.environment.name)),
            ),
        },
    }
    if let Some(number) = automatic
        && bag_was_tried(tx, looked.job.id, row, number)?
    {
        // Starting it over and over again would not make it better.
        looked.view.automatic_holds.push(
            Hold::new(
                Code::DeployFailed,
                format!("start-deploy of bag {number} ended before there was a deployment; a person starts it again"),
            )
            .command(format!("holdall job trigger {}", looked.view.name)),
        );
    }
    if let Some((code, mark)) = &judge.view.held {
        looked.view.automatic_holds.push(held(&judge.view, *code, mark));
    }
    Ok(())
}

/// Whether a build of the job had that bag.
fn bag_was_tried(tx: &mut Tx<'_>, job: JobId, row: &InputRow, number: i64) -> Result<bool, StoreError> {
    let digest = bag_version(number).digest();
    Ok(TxHistory::new(tx).were_used(job, &[(&row.name, row.resource, &digest)])?.contains(&true))
}

/// The bag of a person's build; or what bars the one at which the environment is frozen, where that is why there is none.
fn for_person(tx: &mut Tx<'_>, judge: &Judge) -> Result<Result<i64, Vec<Hold>>, StoreError> {
    if let Some((pin, _)) = &judge.view.pin {
        let Some(row) = bags::bag_find(tx, judge.environment.system, *pin)? else { return Ok(Err(Vec::new())) };
        let barred = barred(&judge.view, &judge.bag(tx, &row)?);
        return Ok(if barred.is_empty() { Ok(*pin) } else { Err(barred) });
    }
    if let Some(number) = judge.next_for_person(tx)? {
        return Ok(Ok(number));
    }
    let Some(scope) = judge.resource.scope else { return Ok(Err(Vec::new())) };
    let mut below = None;
    loop {
        let page = versions::version_list(tx, scope, below, 50)?;
        let Some(last) = page.last() else { return Ok(Err(Vec::new())) };
        below = Some(last.order);
        for version in &page {
            let Some(number) = bag_number(&version.version) else { continue };
            let Some(row) = bags::bag_find(tx, judge.environment.system, number)? else { continue };
            let bag = judge.bag(tx, &row)?;
            if barred(&judge.view, &bag).is_empty() {
                return Ok(Ok(number));
            }
        }
    }
}

/// The inputs that a build has from the start: a rerun's are its original's, a deployment of one bag has that bag.
fn fix(
    tx: &mut Tx<'_>,
    looked: &mut Look,
    build: &BuildRow,
    judge: Option<&Judge>,
) -> Result<Option<FixedView>, StoreError> {
    if let Some(original) = build.rerun_of {
        let mut inputs = builds::build_inputs(tx, original)?;
        let mut view = FixedView::default();
        for input in &mut inputs {
            input.first_occurrence = false;
            if !builds::version_is_known(tx, input.resource, &input.version)? {
                view.impossible = true;
                view.holds
                    .push(Hold::new(Code::NoVersion, format!("chosen version of input {} not available", input.name)));
            }
            view.deployment = match (&looked.environment, deployment_key(&input.version)) {
                (Some(environment), true) => deployment_of_version(tx, environment, &input.version)?
                    .map(|deployment| deployment_view(&deployment, &environment.name)),
                _ => view.deployment,
            };
        }
        if let Some(deployment) = &view.deployment {
            view.holds.extend(beside(tx, looked, deployment)?);
        }
        let pipes = builds::build_pipes(tx, original)?;
        looked.fixed.insert(build.id, (inputs, pipes));
        return Ok(Some(view));
    }
    let (Some(number), Some(judge)) = (build.fixed_bag, judge) else { return Ok(None) };
    let mut view = FixedView::default();
    match bags::bag_find(tx, judge.environment.system, number)? {
        Some(row) => {
            let bag = judge.bag(tx, &row)?;
            view.holds = barred(&judge.view, &bag);
        }
        None => {
            view.holds.push(Hold::new(Code::NotPacked, format!("there is no bag {number}")));
        }
    }
    // What would be refused if it were asked for now is not waited for either.
    view.impossible = !view.holds.is_empty();
    let rows = jobs::job_inputs(tx, looked.job.id)?;
    let mut inputs: Vec<BuildInput> =
        looked.inputs.iter().filter(|input| input.resource != judge.resource.id).cloned().collect();
    if let Some(row) = rows.iter().find(|row| row.resource == judge.resource.id) {
        inputs.push(BuildInput {
            name: row.name.clone(),
            resource: row.resource,
            version: bag_version(number),
            first_occurrence: false,
        });
    }
    looked.fixed.insert(build.id, (inputs, looked.pipes.clone()));
    Ok(Some(view))
}

fn deployment_key(version: &Version) -> bool {
    version.0.contains_key("deployment")
}

/// Whether a demand is one that is granted when a build starts.
pub(super) fn is_granted(mode: LockMode) -> bool {
    matches!(mode, LockMode::Acquire | LockMode::During { .. })
}
