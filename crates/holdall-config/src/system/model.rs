//! A system file as typed values: what `parse` gives, what is stored, compared and compiled.

use std::collections::BTreeMap;

use holdall_engine::pipeline::{CheckEvery, Duration, Object, Step};
use serde::{Deserialize, Serialize};

/// Everything that is released together: one system file (release model, section 2).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct System {
    /// Its name.
    pub name: String,
    /// Its parts, as written.
    pub services: Vec<Service>,
    /// Where bags are deployed to, as written.
    pub environments: Vec<Environment>,
}

/// One part of a system.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Service {
    /// Its name, unique in the system; the artifact's and the resource's as well.
    pub name: String,
    /// The name it had: its history is kept.
    pub old_name: Option<String>,
    /// The resource type that its versions come from.
    pub kind: String,
    /// The resource's source. Vars that only environments give a value to are still in it.
    pub source: Object,
    /// Where its code is, for change lists.
    pub repository: Option<String>,
    /// Whether a new version packs a bag.
    pub trigger: bool,
    /// How often it is looked at for new versions, where that is not the server's default.
    pub check_every: Option<CheckEvery>,
    /// The secret of its webhook.
    pub webhook_token: Option<String>,
}

/// A place that bags are deployed to.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Environment {
    /// Its name, unique in the system; the lock's as well.
    pub name: String,
    /// The name it had: its history is kept.
    pub old_name: Option<String>,
    /// The team that owns its pipeline and workers.
    pub team: String,
    /// Whether bags are packed here. Exactly one of this and `after`.
    pub pack: bool,
    /// The environments that must have passed a bag before it comes here.
    pub after: Vec<String>,
    /// What is different about services here; only where bags are packed.
    pub services: BTreeMap<String, Override>,
    /// The deploy jobs, in order; a single one has no name.
    pub deploy: Vec<DeployJob>,
    /// The suites, in order.
    pub suites: Vec<Suite>,
    /// What runs on a clock, in order.
    pub periodic: Vec<Periodic>,
    /// What else happens when a deployment starts.
    pub on_start: Option<Plan>,
    /// What else happens when a bag has passed.
    pub on_passed: Option<Plan>,
    /// What else happens when a deploy or a test did not succeed.
    pub on_failed: Option<Plan>,
    /// How steps of the deploy jobs are stopped, where that is not the server's default.
    pub stop: Option<Stop>,
    /// Tags of the workers that run its jobs.
    pub tags: Vec<String>,
    /// How long each deploy job's plan and each suite may take.
    pub timeout: Option<Duration>,
    /// Values of vars, for this environment.
    pub vars: Object,
    /// What becomes of bags that wait while another is deployed.
    pub superseding: Superseding,
    /// Whether bags start by themselves.
    pub promotion: Promotion,
    /// Other pipelines that may take the lock: `team/pipeline`.
    pub allow: Vec<String>,
}

/// What is different about a service where bags are packed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Override {
    /// Keys of the source that have another value.
    pub source: Object,
    /// Whether a new version packs a bag.
    pub trigger: Option<bool>,
    /// How often it is looked at for new versions.
    pub check_every: Option<CheckEvery>,
}

/// Steps, and which services of the bag they see.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Plan {
    /// The services that are fetched; `None`: all.
    pub services: Option<Vec<String>>,
    /// The steps.
    pub steps: Vec<Step>,
}

/// A deploy job.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct DeployJob {
    /// What stands behind `deploy-` in the job's name; `None`: it is called `deploy`.
    pub name: Option<String>,
    /// What it runs.
    pub plan: Plan,
}

impl DeployJob {
    /// The job's name.
    pub fn job_name(&self) -> String {
        self.name.as_ref().map_or_else(|| "deploy".to_owned(), |name| format!("deploy-{name}"))
    }
}

/// A named set of tests that verifies a deployment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Suite {
    /// Its name.
    pub name: String,
    /// Whether it runs in a job of its own, beside `test`.
    pub own_job: bool,
    /// What it runs.
    pub plan: Plan,
}

impl Suite {
    /// The name of the job that it runs in.
    pub fn job_name(&self) -> String {
        if self.own_job { format!("test-{}", self.name) } else { "test".to_owned() }
    }
}

/// Something that runs on a clock against what is live.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Periodic {
    /// Its name: the job's, the tab's and the clock's.
    pub name: String,
    /// How often.
    pub every: Duration,
    /// What it runs.
    pub plan: Plan,
}

/// How a step's processes are stopped (release model, section 4).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stop {
    /// The signal without `SIG`, sent once.
    pub signal: String,
    /// How long it may take after that, before it is killed.
    pub grace: Duration,
}

/// What becomes of bags that wait while another is deployed (release model, section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Superseding {
    /// The newest starts; the others are superseded.
    #[default]
    Latest,
    /// Each starts in its turn.
    Queue,
}

/// Whether bags start by themselves (release model, section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Promotion {
    /// They do.
    #[default]
    Automatic,
    /// A person starts each.
    Manual,
}

impl System {
    /// The service of that name.
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name == name)
    }

    /// The environment of that name.
    pub fn environment(&self, name: &str) -> Option<&Environment> {
        self.environments.iter().find(|environment| environment.name == name)
    }

    /// The environment that packs the bags of that one: itself, or the one that it goes back to.
    pub fn packed_in(&self, name: &str) -> Option<&Environment> {
        let mut environment = self.environment(name)?;
        // In a system that was accepted, every way back ends at the same packing environment.
        for _ in 0..self.environments.len() {
            if environment.pack {
                return Some(environment);
            }
            environment = self.environment(environment.after.first()?)?;
        }
        None
    }

    /// The name of the pipeline that each environment has.
    pub fn pipeline_name(&self) -> String {
        format!("deploy-{}", self.name)
    }
}
