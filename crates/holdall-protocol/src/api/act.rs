//! Acts: everything that a person does to the server's state, with a preview, a reason, and an audit entry each
//! (release model, section 7).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{BuildRef, Preview, Time};

/// Asks for an act, or for its preview.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActRequest {
    /// What to do.
    pub act: Act,
    /// Why. Acts that hold back or override are refused without (`reason_required`).
    #[serde(default)]
    pub reason: Option<String>,
    /// The number or address of a ticket elsewhere that has the whole story.
    #[serde(default)]
    pub ticket: Option<String>,
    /// Only say what it would do.
    #[serde(default)]
    pub dry_run: bool,
    /// The token of a preview that was shown: when what it showed has changed, the act is refused with the new
    /// preview (`preview_changed`).
    #[serde(default)]
    pub preview_token: Option<String>,
}

/// What became of an [`ActRequest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActAnswer {
    /// What it changes: what it did, or with `dry_run` what it would do.
    pub preview: Preview,
    /// Whether it was done; false with `dry_run`.
    pub done: bool,
    /// What it made; empty with `dry_run`.
    #[serde(default)]
    pub made: Made,
}

/// What an act made.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Made {
    /// Its entry in the audit log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<i64>,
    /// A bag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bag: Option<i64>,
    /// A deployment, by its number in its environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<i64>,
    /// A build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<BuildRef>,
}

/// Everything that a person can do. Taking and renewing a lock is not here, because it may wait: see
/// [`AcquireRequest`](super::AcquireRequest).
///
/// A version is a text that the server looks up among the versions that there are: `KEY:VALUE`, several of them
/// separated by commas, or the beginning (4 characters or more) of a value. It has to fit exactly one version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case")]
pub enum Act {
    /// Chooses one version and no other.
    Pin {
        /// Of what.
        target: PinTarget,
        /// Which version.
        version: String,
        /// When the pin ends by itself.
        #[serde(default)]
        until: Option<Time>,
    },
    /// Takes a pin away.
    Unpin {
        /// Of what.
        target: PinTarget,
    },
    /// Unticks a version or a bag: it is not chosen any more.
    Disable {
        /// Which.
        target: TickTarget,
        /// Also the bags under way that hold the version; only for a service's version.
        #[serde(default)]
        and_bags: bool,
        /// When it is ticked again by itself.
        #[serde(default)]
        until: Option<Time>,
    },
    /// Ticks a version or a bag again.
    Enable {
        /// Which.
        target: TickTarget,
    },
    /// Makes a bag by hand: like another one, but for the services that are named.
    Assemble {
        /// The system.
        system: String,
        /// Where it is packed; `None`: where `like` was.
        #[serde(default)]
        environment: Option<String>,
        /// The bag that it is like.
        like: i64,
        /// Service to version.
        #[serde(default)]
        with: BTreeMap<String, String>,
    },
    /// Starts a deployment of a bag.
    Deploy {
        /// The system.
        system: String,
        /// Where to.
        environment: String,
        /// Which bag.
        bag: i64,
        /// Takes the lock from a deployment that failed.
        #[serde(default)]
        take_over: bool,
        /// Services whose suspects are cleared in the same act.
        #[serde(default)]
        clear_suspects: Vec<String>,
    },
    /// Goes back to an older bag, and stays there.
    RollBack {
        /// The system.
        system: String,
        /// Where.
        environment: String,
        /// The bag to go back to; `None`: the one that was current before.
        #[serde(default)]
        to: Option<i64>,
        /// Which services' versions are held back from now on.
        suspects: Suspects,
        /// Also unticks the suspects where bags are packed.
        #[serde(default)]
        and_untick: bool,
        /// Leaves the environments after this one alone.
        #[serde(default)]
        here_only: bool,
    },
    /// Lets versions that a roll back threw out start again.
    ClearSuspect {
        /// The system.
        system: String,
        /// Where.
        environment: String,
        /// Whose versions.
        services: Vec<String>,
    },
    /// Says that what an environment shows is what is live there, after its history was restored.
    EnvironmentConfirm {
        /// The system.
        system: String,
        /// Where.
        environment: String,
    },
    /// Holds an environment at a bag.
    Freeze {
        /// The system.
        system: String,
        /// Where.
        environment: String,
        /// The bag; `None`: the one under way, else the current one.
        #[serde(default)]
        at: Option<i64>,
        /// When it ends by itself.
        #[serde(default)]
        until: Option<Time>,
        /// Deploys the bag if it is not live.
        #[serde(default)]
        deploy: bool,
    },
    /// Lets an environment go on.
    Unfreeze {
        /// The system.
        system: String,
        /// Where.
        environment: String,
    },
    /// Gives back a lock that the same person took, or leaves its queue.
    LockRelease {
        /// The lock's environment.
        environment: String,
    },
    /// Takes an environment's lock away from whoever holds it (release model, section 5.7).
    ForceUnlock {
        /// The lock's environment.
        environment: String,
        /// First aborts what runs, and releases when its process has ended.
        #[serde(default)]
        abort_running: bool,
        /// The worker of what runs is gone and its process with it: a person says so.
        #[serde(default)]
        worker_is_dead: bool,
        /// What happens next.
        #[serde(default)]
        then: Then,
    },
    /// Makes a build of a job.
    JobTrigger {
        /// The team.
        team: String,
        /// The pipeline.
        pipeline: String,
        /// The job.
        job: String,
    },
    /// Keeps a job from starting builds.
    JobPause {
        /// The team.
        team: String,
        /// The pipeline.
        pipeline: String,
        /// The job.
        job: String,
    },
    /// Lets a job start builds again.
    JobUnpause {
        /// The team.
        team: String,
        /// The pipeline.
        pipeline: String,
        /// The job.
        job: String,
    },
    /// Stops a build.
    BuildAbort {
        /// Its id.
        build: i64,
        /// Also when it is guarded.
        #[serde(default)]
        force: bool,
        /// The worker of what runs is gone and its process with it: a person says so.
        #[serde(default)]
        worker_is_dead: bool,
    },
    /// Runs a build again with the same inputs.
    BuildRerun {
        /// Its id.
        build: i64,
    },
    /// Keeps a pipeline from starting builds.
    PipelinePause {
        /// The team.
        team: String,
        /// The pipeline.
        pipeline: String,
    },
    /// Lets a pipeline start builds again.
    PipelineUnpause {
        /// The team.
        team: String,
        /// The pipeline.
        pipeline: String,
    },
    /// Removes a pipeline with its history.
    PipelineDestroy {
        /// The team.
        team: String,
        /// The pipeline.
        pipeline: String,
    },
    /// Makes or changes a pipeline.
    PipelineSet {
        /// The team; made when it is new.
        team: String,
        /// The pipeline's name.
        pipeline: String,
        /// The pipeline, YAML.
        text: String,
        /// Values of `((vars))`.
        #[serde(default)]
        vars: BTreeMap<String, Value>,
    },
    /// Makes or changes a system and the pipelines that it compiles to.
    SystemSet {
        /// The system file, YAML.
        text: String,
        /// Values of `((vars))`.
        #[serde(default)]
        vars: BTreeMap<String, Value>,
        /// Changes environments with a deployment under way at once, not when it ends.
        #[serde(default)]
        now: bool,
    },
    /// Removes a system with its pipelines and history.
    SystemDestroy {
        /// The system.
        system: String,
    },
}

impl Act {
    /// The act's name on the wire and in the audit log.
    pub fn name(&self) -> &'static str {
        match self {
            Act::Pin { .. } => "pin",
            Act::Unpin { .. } => "unpin",
            Act::Disable { .. } => "disable",
            Act::Enable { .. } => "enable",
            Act::Assemble { .. } => "assemble",
            Act::Deploy { .. } => "deploy",
            Act::RollBack { .. } => "roll_back",
            Act::ClearSuspect { .. } => "clear_suspect",
            Act::EnvironmentConfirm { .. } => "environment_confirm",
            Act::Freeze { .. } => "freeze",
            Act::Unfreeze { .. } => "unfreeze",
            Act::LockRelease { .. } => "lock_release",
            Act::ForceUnlock { .. } => "force_unlock",
            Act::JobTrigger { .. } => "job_trigger",
            Act::JobPause { .. } => "job_pause",
            Act::JobUnpause { .. } => "job_unpause",
            Act::BuildAbort { .. } => "build_abort",
            Act::BuildRerun { .. } => "build_rerun",
            Act::PipelinePause { .. } => "pipeline_pause",
            Act::PipelineUnpause { .. } => "pipeline_unpause",
            Act::PipelineDestroy { .. } => "pipeline_destroy",
            Act::PipelineSet { .. } => "pipeline_set",
            Act::SystemSet { .. } => "system_set",
            Act::SystemDestroy { .. } => "system_destroy",
        }
    }

    /// When what it does ends by itself, where that was said.
    pub fn until(&self) -> Option<Time> {
        match self {
            Act::Pin { until, .. } | Act::Disable { until, .. } | Act::Freeze { until, .. } => *until,
            Act::Unpin { .. }
            | Act::Enable { .. }
            | Act::Assemble { .. }
            | Act::Deploy { .. }
            | Act::RollBack { .. }
            | Act::ClearSuspect { .. }
            | Act::EnvironmentConfirm { .. }
            | Act::Unfreeze { .. }
            | Act::LockRelease { .. }
            | Act::ForceUnlock { .. }
            | Act::JobTrigger { .. }
            | Act::JobPause { .. }
            | Act::JobUnpause { .. }
            | Act::BuildAbort { .. }
            | Act::BuildRerun { .. }
            | Act::PipelinePause { .. }
            | Act::PipelineUnpause { .. }
            | Act::PipelineDestroy { .. }
            | Act::PipelineSet { .. }
            | Act::SystemSet { .. }
            | Act::SystemDestroy { .. } => None,
        }
    }

    /// Whether it holds something back or overrides something, and so needs a reason (release model, section 7).
    pub fn needs_reason(&self) -> bool {
        match self {
            Act::Pin { .. }
            | Act::Disable { .. }
            | Act::RollBack { .. }
            | Act::ClearSuspect { .. }
            | Act::EnvironmentConfirm { .. }
            | Act::Freeze { .. }
            | Act::ForceUnlock { .. } => true,
            Act::Deploy { take_over, clear_suspects, .. } => *take_over || !clear_suspects.is_empty(),
            Act::BuildAbort { force, worker_is_dead, .. } => *force || *worker_is_dead,
            Act::Unpin { .. }
            | Act::Enable { .. }
            | Act::Assemble { .. }
            | Act::Unfreeze { .. }
            | Act::LockRelease { .. }
            | Act::JobTrigger { .. }
            | Act::JobPause { .. }
            | Act::JobUnpause { .. }
            | Act::BuildRerun { .. }
            | Act::PipelinePause { .. }
            | Act::PipelineUnpause { .. }
            | Act::PipelineDestroy { .. }
            | Act::PipelineSet { .. }
            | Act::SystemSet { .. }
            | Act::SystemDestroy { .. } => false,
        }
    }
}

/// What a pin is on. A bag is pinned with [`Act::Freeze`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PinTarget {
    /// A service where bags are packed.
    Service {
        /// The system.
        system: String,
        /// The service.
        service: String,
        /// A packing environment; `None`: each of them that packs this service.
        #[serde(default)]
        environment: Option<String>,
    },
    /// A resource of any pipeline.
    Resource {
        /// The team.
        team: String,
        /// The pipeline.
        pipeline: String,
        /// The resource.
        resource: String,
    },
}

/// What a tick is on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TickTarget {
    /// A service's version, where bags are packed.
    Service {
        /// The system.
        system: String,
        /// The service.
        service: String,
        /// A packing environment; `None`: each of them that packs this service.
        #[serde(default)]
        environment: Option<String>,
        /// The version.
        version: String,
    },
    /// A bag.
    Bag {
        /// The system.
        system: String,
        /// The bag.
        bag: i64,
        /// Where; `None`: in every environment where it is, or may come to be.
        #[serde(default)]
        environment: Option<String>,
    },
    /// A version of a resource of any pipeline.
    Resource {
        /// The team.
        team: String,
        /// The pipeline.
        pipeline: String,
        /// The resource.
        resource: String,
        /// The version.
        version: String,
    },
}

/// Whose versions become suspects in a roll back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suspects {
    /// Every service that differs.
    All,
    /// None: the bags are unticked, their versions may come again.
    None,
    /// These services.
    Services(Vec<String>),
}

/// What happens after a force-unlock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Then {
    /// Nothing starts until a person starts it.
    #[default]
    Hold,
    /// The newest eligible bag starts.
    Start,
}

super::wire_names!(Then { Hold = "hold", Start = "start" });
