//! A pipeline as it was written, after parsing and validation: what `holdall-config` gives and everything else
//! reads. Field by field it follows Concourse's schema (reference, part 1).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::time::Span;
use crate::version::Version;

/// A JSON object, as `source` and `params` are.
pub type Object = serde_json::Map<String, Value>;

/// A whole pipeline.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Pipeline {
    /// Tabs of the page; empty, or every job is in one.
    pub groups: Vec<Group>,
    /// Credential managers of the pipeline, as written.
    pub var_sources: Vec<VarSource>,
    /// What is checked, got and put.
    pub resources: Vec<Resource>,
    /// Types of resources that the pipeline brings.
    pub resource_types: Vec<ResourceType>,
    /// Prototypes, stored and otherwise unused.
    pub prototypes: Vec<ResourceType>,
    /// The jobs, at least one.
    pub jobs: Vec<Job>,
    /// How the page shows the pipeline, as written.
    pub display: Option<Object>,
    /// Arbitrary data that is stored with the pipeline.
    pub user_data: Option<Value>,
}

impl Pipeline {
    /// The job of that name.
    pub fn job(&self, name: &str) -> Option<&Job> {
        self.jobs.iter().find(|job| job.name == name)
    }

    /// The resource of that name.
    pub fn resource(&self, name: &str) -> Option<&Resource> {
        self.resources.iter().find(|resource| resource.name == name)
    }
}

/// A tab: jobs by glob, resources by name.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Group {
    /// Unique in the pipeline.
    pub name: String,
    /// Job names or globs.
    pub jobs: Vec<String>,
    /// Resource names; display only.
    pub resources: Vec<String>,
}

/// A credential manager that the pipeline brings.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct VarSource {
    /// What stands before the colon in `((name:path))`.
    pub name: String,
    /// `vault`, `dummy`, `ssm`, `secretsmanager` or `idtoken`.
    pub kind: String,
    /// As the type wants it.
    pub config: Option<Value>,
}

/// A resource (reference, section 1.5).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Resource {
    /// Unique in the pipeline.
    pub name: String,
    /// The name it had: its history is kept.
    pub old_name: Option<String>,
    /// A built-in type, or one of the pipeline's `resource_types`.
    pub kind: String,
    /// What the type wants to know; may hold `((vars))`.
    pub source: Object,
    /// Whether metadata is shown to strangers.
    pub public: bool,
    /// The secret of its webhook; may be a var.
    pub webhook_token: Option<String>,
    /// How often it is checked without being asked.
    pub check_every: Option<CheckEvery>,
    /// How long a check may take.
    pub check_timeout: Option<Duration>,
    /// Tags of the workers that may check it.
    pub tags: Vec<String>,
    /// A version pinned in the configuration.
    pub version: Option<Version>,
    /// A picture for the page.
    pub icon: Option<String>,
    /// Whether puts see who triggered the build.
    pub expose_build_created_by: bool,
}

/// A type of resources that a pipeline brings (reference, section 1.6).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ResourceType {
    /// What resources write in `type`.
    pub name: String,
    /// The type its image is fetched with.
    pub kind: String,
    /// Where the image is.
    pub source: Object,
    /// Params of the image's get.
    pub params: Object,
    /// Merged under the `source` of each resource of the type.
    pub defaults: Object,
    /// Whether its containers are privileged.
    pub privileged: bool,
    /// How often its image is checked.
    pub check_every: Option<CheckEvery>,
    /// Tags of the workers that fetch it.
    pub tags: Vec<String>,
}

/// `check_every`: an interval, or `never`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum CheckEvery {
    /// Checked only when asked.
    Never,
    /// Checked that often.
    Every(Duration),
}

/// A duration with the text it was written in (Go's syntax: `1h30m`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Duration {
    /// As written.
    pub text: String,
    /// Its length.
    pub span: Span,
}

/// A job (reference, section 1.7).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Job {
    /// Unique in the pipeline.
    pub name: String,
    /// The name it had: its builds are kept.
    pub old_name: Option<String>,
    /// The steps, in order.
    pub plan: Vec<Step>,
    /// Whether strangers see its logs on a public pipeline.
    pub public: bool,
    /// One build at a time.
    pub serial: bool,
    /// Named mutexes of the pipeline: one build at a time over all jobs that share one.
    pub serial_groups: Vec<String>,
    /// How many builds at a time; 0: no limit.
    pub max_in_flight: u32,
    /// Does not hold up a worker that wants to leave.
    pub interruptible: bool,
    /// Triggering by hand is refused.
    pub disable_manual_trigger: bool,
    /// Rerunning is refused.
    pub disable_reruns: bool,
    /// Worker tags of every step without tags of its own.
    pub tags: Vec<String>,
    /// How long logs are kept, as written.
    pub build_log_retention: Option<Object>,
    /// The older way of writing it.
    pub build_logs_to_retain: Option<i64>,
    /// Hooks around the whole plan.
    pub hooks: Hooks,
}

/// The hooks of a job.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Hooks {
    /// After success.
    pub on_success: Option<Box<Step>>,
    /// After failure.
    pub on_failure: Option<Box<Step>>,
    /// After an error.
    pub on_error: Option<Box<Step>>,
    /// After an abort.
    pub on_abort: Option<Box<Step>>,
    /// After everything.
    pub ensure: Option<Box<Step>>,
}

/// A step with its modifiers as wrappers, outermost first (reference, section 1.1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Step {
    /// Fetches a version.
    Get(GetStep),
    /// Pushes a version.
    Put(PutStep),
    /// Runs a process.
    Task(Box<TaskStep>),
    /// Runs a prototype.
    Run(Object),
    /// Sets a pipeline.
    SetPipeline(SetPipelineStep),
    /// Loads a file into a local var.
    LoadVar(LoadVarStep),
    /// Swallows failure and error.
    Try(Box<Step>),
    /// One after the other.
    Do(Vec<Step>),
    /// Side by side.
    InParallel(InParallelStep),
    /// Over a matrix of values.
    Across(AcrossStep),
    /// Again until it succeeds.
    Attempts(Box<Step>, u32),
    /// Within a time, for steps that have no limit of their own.
    Timeout(Box<Step>, Duration),
    /// The step, then the hook if it succeeded.
    OnSuccess(Box<Step>, Box<Step>),
    /// The step, then the hook if it failed.
    OnFailure(Box<Step>, Box<Step>),
    /// The step, then the hook if it errored.
    OnError(Box<Step>, Box<Step>),
    /// The step, then the hook if it was aborted.
    OnAbort(Box<Step>, Box<Step>),
    /// The step, then the hook whatever happened.
    Ensure(Box<Step>, Box<Step>),
}

/// `get` (reference, section 1.8).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct GetStep {
    /// The input's name, and the artifact's.
    pub name: String,
    /// The resource, where it is not the name.
    pub resource: Option<String>,
    /// Which version.
    pub version: VersionChoice,
    /// Jobs, or globs of jobs, that must have passed it.
    pub passed: Vec<String>,
    /// Whether a new version starts a build.
    pub trigger: bool,
    /// For the type's `in`.
    pub params: Object,
    /// Worker tags.
    pub tags: Vec<String>,
    /// The limit of its process.
    pub timeout: Option<Duration>,
}

impl GetStep {
    /// The resource that is got.
    pub fn resource_name(&self) -> &str {
        self.resource.as_deref().unwrap_or(&self.name)
    }
}

/// `version:` of a get.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub enum VersionChoice {
    /// The newest.
    #[default]
    Latest,
    /// Each in turn.
    Every,
    /// Just this one; a subset of the keys will do.
    Pinned(Version),
}

/// `put` (reference, section 1.8).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PutStep {
    /// The name of what the implicit get fetches.
    pub name: String,
    /// The resource, where it is not the name.
    pub resource: Option<String>,
    /// For the type's `out`.
    pub params: Object,
    /// Which artifacts it sees.
    pub inputs: PutInputs,
    /// Params of the implicit get.
    pub get_params: Object,
    /// Leaves the implicit get out.
    pub no_get: bool,
    /// Worker tags.
    pub tags: Vec<String>,
    /// The limit of its process.
    pub timeout: Option<Duration>,
}

impl PutStep {
    /// The resource that is put.
    pub fn resource_name(&self) -> &str {
        self.resource.as_deref().unwrap_or(&self.name)
    }
}

/// `inputs:` of a put.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub enum PutInputs {
    /// Those that the params mention.
    #[default]
    Detect,
    /// All.
    All,
    /// None: any other word.
    None(String),
    /// These.
    Named(Vec<String>),
}

/// `task` (reference, section 1.8).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TaskStep {
    /// The step's name.
    pub name: String,
    /// The configuration in place; exactly one of this and `file`.
    pub config: Option<TaskConfig>,
    /// The configuration in an artifact: `artifact/path.yml`.
    pub file: Option<String>,
    /// The artifact whose root file system it runs in.
    pub image: Option<String>,
    /// With all of root's rights.
    pub privileged: bool,
    /// Without network.
    pub hermetic: bool,
    /// Environment variables, over the configuration's. Values as written.
    pub params: Object,
    /// Vars for `file`.
    pub vars: Object,
    /// Limits, over the configuration's, as written.
    pub container_limits: Option<Object>,
    /// Task input to artifact.
    pub input_mapping: BTreeMap<String, String>,
    /// Task output to artifact.
    pub output_mapping: BTreeMap<String, String>,
    /// Worker tags.
    pub tags: Vec<String>,
    /// The limit of its process.
    pub timeout: Option<Duration>,
}

/// A task's configuration (reference, section 1.10).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TaskConfig {
    /// `linux`, `darwin` or `windows`.
    pub platform: String,
    /// The image, as written.
    pub image_resource: Option<Value>,
    /// The image by address.
    pub rootfs_uri: Option<String>,
    /// Limits, as written.
    pub container_limits: Option<Object>,
    /// Environment variables with their values as text.
    pub params: BTreeMap<String, String>,
    /// What runs.
    pub run: TaskRun,
    /// What it reads.
    pub inputs: Vec<TaskInput>,
    /// What it gives.
    pub outputs: Vec<TaskOutput>,
    /// What it keeps from run to run.
    pub caches: Vec<TaskCache>,
}

/// `run:` of a task.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TaskRun {
    /// The executable.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its working folder, below the step's.
    pub dir: Option<String>,
    /// Its user.
    pub user: Option<String>,
}

/// An input of a task.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TaskInput {
    /// Its name; the artifact's, unless mapped.
    pub name: String,
    /// Where it is put, where that is not the name.
    pub path: Option<String>,
    /// May be missing.
    pub optional: bool,
}

/// An output of a task.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TaskOutput {
    /// Its name; the artifact's, unless mapped.
    pub name: String,
    /// Where it is, where that is not the name.
    pub path: Option<String>,
}

/// A folder that a task keeps from run to run on one worker.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TaskCache {
    /// Where it is.
    pub path: String,
    /// How long it is kept unused.
    pub ttl: Option<Duration>,
}

/// `set_pipeline` (reference, section 1.9).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SetPipelineStep {
    /// Its name, or `self`.
    pub name: String,
    /// `artifact/path`.
    pub file: String,
    /// Another team's.
    pub team: Option<String>,
    /// Vars.
    pub vars: Object,
    /// Files of vars.
    pub var_files: Vec<String>,
    /// Makes an instance.
    pub instance_vars: Object,
}

/// `load_var` (reference, section 1.9).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LoadVarStep {
    /// The var's name.
    pub name: String,
    /// `artifact/path`.
    pub file: String,
    /// `raw`, `trim`, `yml`, `yaml` or `json`.
    pub format: Option<String>,
    /// Whether the value may show in logs.
    pub reveal: bool,
}

/// `in_parallel`, in both forms.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct InParallelStep {
    /// The steps, started in order.
    pub steps: Vec<Step>,
    /// How many at a time; 0: all.
    pub limit: u32,
    /// The first that does not succeed stops the others.
    pub fail_fast: bool,
}

/// `across`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AcrossStep {
    /// What is repeated.
    pub step: Box<Step>,
    /// The vars, outermost first.
    pub vars: Vec<AcrossVar>,
    /// The first that does not succeed stops the others.
    pub fail_fast: bool,
}

/// One var of an `across`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AcrossVar {
    /// The var's name.
    pub var: String,
    /// A list, or a var that gives one.
    pub values: Value,
    /// How many at a time; `None`: all.
    pub max_in_flight: Option<u32>,
}
