//! Steps on the release types (`deployment-bag`, `deployment`, `current-bag`, `lock`), which the server answers,
//! and how the bits of a bag come into a build (release model, sections 4 and 5).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bag::{Bag, BagService};
use crate::pipeline::{GetStep, Object, Pipeline, PutStep, Resource};
use crate::plan::build::{Builder, PlanError};
use crate::plan::{GetPlan, Plan, PlanId, PlanKind, VersionSource};
use crate::version::Version;

/// The resource types that the server itself answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReleaseType {
    /// The bags that may start in an environment.
    DeploymentBag,
    /// The attempts to put a bag into an environment.
    Deployment,
    /// What is live in an environment.
    CurrentBag,
    /// An environment's lock.
    Lock,
}

impl ReleaseType {
    /// All of them.
    pub const ALL: [ReleaseType; 4] =
        [ReleaseType::DeploymentBag, ReleaseType::Deployment, ReleaseType::CurrentBag, ReleaseType::Lock];

    /// The name that resources write in `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            ReleaseType::DeploymentBag => "deployment-bag",
            ReleaseType::Deployment => "deployment",
            ReleaseType::CurrentBag => "current-bag",
            ReleaseType::Lock => "lock",
        }
    }

    /// The type of that name.
    pub fn from_name(name: &str) -> Option<ReleaseType> {
        ReleaseType::ALL.into_iter().find(|known| known.as_str() == name)
    }

    /// The release type of a pipeline's resource; `None` where it is of another type, or where the pipeline brings a
    /// type of its own by that name.
    pub fn of(pipeline: &Pipeline, resource: &Resource) -> Option<ReleaseType> {
        if pipeline.resource_types.iter().any(|own| own.name == resource.kind) {
            return None;
        }
        ReleaseType::from_name(&resource.kind)
    }
}

/// A step that the server answers inside the transaction in which it comes up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleaseStep {
    /// The step's name.
    pub name: String,
    /// The pipeline's resource.
    pub resource: String,
    /// What is done.
    pub action: ReleaseAction,
    /// The step's params as written.
    pub params: Object,
}

/// What a [`ReleaseStep`] does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseAction {
    /// Something with an environment's lock.
    Lock {
        /// Whose lock.
        environment: String,
        /// What.
        action: LockAction,
    },
    /// Packs a bag of the build's inputs.
    Pack {
        /// The system.
        system: String,
        /// Where it is packed.
        environment: String,
    },
    /// Tags the build's bag as passed.
    Tag {
        /// The system.
        system: String,
        /// Where it passed.
        environment: String,
    },
    /// Starts a deployment of the build's bag.
    StartDeployment {
        /// The system.
        system: String,
        /// Where to.
        environment: String,
    },
    /// A get that chooses a version and fetches nothing.
    Resolve {
        /// The resource's type.
        resource_type: String,
        /// What was chosen.
        version: Version,
    },
}

/// What a put on a `lock` resource does (release model, section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockAction {
    /// Records that the build's deployment took the lock when the build started.
    Acquire,
    /// Records that the build's deployment held the lock when the build started.
    Require,
    /// Records that the build holds the lock while it runs.
    During {
        /// Together with other shared holders.
        shared: bool,
    },
    /// Gives the lock back.
    Release,
    /// Gives the lock back whoever holds it.
    ForceRelease,
}

/// Artifacts that are made of text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FilesPlan {
    /// The name of the step that it is for.
    pub name: String,
    /// The artifacts, all with the same files: `bag`, and the get's own name where that is another.
    pub artifacts: Vec<String>,
    /// Path to contents.
    pub files: BTreeMap<String, String>,
}

/// What a put on a release type means.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum PutAction {
    Lock { environment: String, action: LockAction },
    Pack,
    Tag,
    Start,
}

/// The release type of the pipeline's resource of that name.
pub(super) fn release_type(pipeline: &Pipeline, resource: &str) -> Option<ReleaseType> {
    ReleaseType::of(pipeline, pipeline.resource(resource)?)
}

/// What a put means, or `None` for one on an ordinary resource (or on one that does not exist).
pub(super) fn put_action(put: &PutStep, pipeline: &Pipeline) -> Result<Option<PutAction>, PlanError> {
    let Some(resource) = pipeline.resource(put.resource_name()) else { return Ok(None) };
    let Some(kind) = ReleaseType::of(pipeline, resource) else { return Ok(None) };
    match kind {
        ReleaseType::Lock => {
            let action = match chosen(put, &["acquire", "require", "during", "release", "force_release"])? {
                "acquire" => LockAction::Acquire,
                "require" => LockAction::Require,
                "during" => LockAction::During { shared: is_shared(put)? },
                "release" => LockAction::Release,
                _ => LockAction::ForceRelease,
            };
            Ok(Some(PutAction::Lock { environment: source_text(resource, "environment")?, action }))
        }
        ReleaseType::DeploymentBag => match chosen(put, &["pack", "tag"])? {
            "pack" => Ok(Some(PutAction::Pack)),
            _ => Ok(Some(PutAction::Tag)),
        },
        ReleaseType::Deployment => Ok(Some(PutAction::Start)),
        ReleaseType::CurrentBag => {
            Err(bad_params(&put.name, "a `current-bag` cannot be put: it follows from deployments"))
        }
    }
}

/// The one of `choices` that the put's params set to `true`.
fn chosen<'a>(put: &PutStep, choices: &[&'a str]) -> Result<&'a str, PlanError> {
    let mut found = None;
    for choice in choices {
        match put.params.get(*choice) {
            None | Some(Value::Null | Value::Bool(false)) => {}
            Some(Value::Bool(true)) if found.is_none() => found = Some(*choice),
            Some(Value::Bool(true)) => return Err(bad_params(&put.name, format!("only one of {}", listed(choices)))),
            Some(_) => return Err(bad_params(&put.name, format!("`{choice}` is true or false"))),
        }
    }
    found.ok_or_else(|| bad_params(&put.name, format!("one of {} must be true", listed(choices))))
}

fn is_shared(put: &PutStep) -> Result<bool, PlanError> {
    match put.params.get("mode") {
        None | Some(Value::Null) => Ok(false),
        Some(Value::String(mode)) if mode == "shared" => Ok(true),
        Some(Value::String(mode)) if mode == "exclusive" => Ok(false),
        Some(_) => Err(bad_params(&put.name, "`mode` is `shared` or `exclusive`")),
    }
}

fn listed(choices: &[&str]) -> String {
    choices.iter().map(|choice| format!("`{choice}`")).collect::<Vec<_>>().join(", ")
}

fn bad_params(step: &str, problem: impl Into<String>) -> PlanError {
    PlanError::BadParams { step: step.to_owned(), problem: problem.into() }
}

fn source_text(resource: &Resource, field: &'static str) -> Result<String, PlanError> {
    match resource.source.get(field) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        _ => Err(PlanError::BadSource { resource: resource.name.clone(), field }),
    }
}

/// The plan of a put on a release type. It has no implicit get: what the server answers leaves nothing to fetch.
pub(super) fn plan_put(put: &PutStep, action: PutAction, resource: &Resource) -> Result<PlanKind, PlanError> {
    let place = || Ok((source_text(resource, "system")?, source_text(resource, "environment")?));
    let action = match action {
        PutAction::Lock { environment, action } => ReleaseAction::Lock { environment, action },
        PutAction::Pack => place().map(|(system, environment)| ReleaseAction::Pack { system, environment })?,
        PutAction::Tag => place().map(|(system, environment)| ReleaseAction::Tag { system, environment })?,
        PutAction::Start => {
            place().map(|(system, environment)| ReleaseAction::StartDeployment { system, environment })?
        }
    };
    Ok(PlanKind::Release(ReleaseStep {
        name: put.name.clone(),
        resource: resource.name.clone(),
        action,
        params: put.params.clone(),
    }))
}

/// A get that fetches nothing.
pub(super) fn plan_resolve(get: &GetStep, resource: &Resource, version: Version) -> PlanKind {
    PlanKind::Release(ReleaseStep {
        name: get.name.clone(),
        resource: resource.name.clone(),
        action: ReleaseAction::Resolve { resource_type: resource.kind.clone(), version },
        params: get.params.clone(),
    })
}

/// A get of a bag: the artifact `bag`, then one get for each service that is wanted. `params.optional`: what cannot be
/// fetched is shown, and the plan goes on.
pub(super) fn plan_bag(
    builder: &mut Builder<'_>,
    id: &PlanId,
    get: &GetStep,
    bag: &Bag,
) -> Result<PlanKind, PlanError> {
    let wanted = wanted_services(builder.pipeline, get, bag)?;
    let mut artifacts = vec!["bag".to_owned()];
    if get.name != "bag" {
        artifacts.push(get.name.clone());
    }
    let files = PlanKind::Files(FilesPlan { name: get.name.clone(), artifacts, files: bag.files() });
    let mut steps = vec![builder.node(id.child(1), files)?];
    if !wanted.is_empty() {
        let optional = get.params.get("optional") == Some(&Value::Bool(true));
        let parallel = if optional { id.child(2).child(1) } else { id.child(2) };
        let mut gets = Vec::new();
        for (nth, (name, service)) in wanted.into_iter().enumerate() {
            let kind = service_get(builder, get, bag, name, service)?;
            gets.push(builder.node(parallel.child(nth + 1), kind)?);
        }
        let gets = builder.node(parallel, PlanKind::InParallel { steps: gets, limit: 0, fail_fast: false })?;
        steps.push(if optional { builder.node(id.child(2), PlanKind::Try(Box::new(gets)))? } else { gets });
    }
    Ok(PlanKind::Do(steps))
}

/// The services that `params.services` names. Where it is not given, all that the system still has: those that were
/// removed from it since the bag was packed are in `bag.json`, and no step asks for them.
fn wanted_services<'b>(
    pipeline: &Pipeline,
    get: &GetStep,
    bag: &'b Bag,
) -> Result<Vec<(&'b str, &'b BagService)>, PlanError> {
    let names = match get.params.get("services") {
        None | Some(Value::Null) => {
            let all = bag.services.iter().map(|(name, service)| (name.as_str(), service));
            return Ok(all.filter(|(name, _)| pipeline.resource(name).is_some()).collect());
        }
        Some(Value::Array(names)) => names,
        Some(_) => return Err(bad_params(&get.name, "`services` is a list of names of services")),
    };
    let mut wanted: BTreeMap<&str, &BagService> = BTreeMap::new();
    for name in names {
        let Value::String(name) = name else {
            return Err(bad_params(&get.name, "`services` is a list of names of services"));
        };
        let Some((name, service)) = bag.services.get_key_value(name) else {
            return Err(PlanError::BagIncomplete { bag: bag.number, service: name.clone() });
        };
        wanted.insert(name, service);
    }
    Ok(wanted.into_iter().collect())
}

/// The get of one service at the bag's version, with the source that the pipeline's own resource has.
fn service_get(
    builder: &Builder<'_>,
    get: &GetStep,
    bag: &Bag,
    name: &str,
    service: &BagService,
) -> Result<PlanKind, PlanError> {
    let Some(resource) = builder.pipeline.resource(name) else {
        return Err(PlanError::NoServiceResource { service: name.to_owned() });
    };
    if resource.kind != service.resource_type {
        return Err(PlanError::ServiceTypeChanged {
            bag: bag.number,
            service: name.to_owned(),
            was: service.resource_type.clone(),
            is: resource.kind.clone(),
        });
    }
    let mut params = Object::new();
    if resource.kind == "registry-image" {
        params.insert("skip_download".to_owned(), Value::Bool(true));
    }
    Ok(PlanKind::Get(GetPlan {
        name: name.to_owned(),
        resource: name.to_owned(),
        resource_type: resource.kind.clone(),
        source: resource.source.clone(),
        params,
        version: VersionSource::Fixed(service.version.clone()),
        artifact: name.to_owned(),
        tags: builder.tags(&get.tags),
        timeout: get.timeout.as_ref().map(|timeout| timeout.span),
    }))
}

impl Builder<'_> {
    /// Counts and makes a node.
    pub(super) fn node(&mut self, id: PlanId, kind: PlanKind) -> Result<Plan, PlanError> {
        self.count(1)?;
        Ok(Plan { id, kind })
    }
}
