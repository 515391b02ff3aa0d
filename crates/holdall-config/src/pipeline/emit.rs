//! Back to JSON in Concourse's shape: what a server returns for a pipeline's configuration.

use holdall_engine::pipeline::{
    AcrossVar, CheckEvery, Group, Hooks, Job, Object, Pipeline, PutInputs, Resource, ResourceType, Step, TaskConfig,
    TaskStep, VarSource, VersionChoice,
};
use serde_json::{Value, json};

/// A pipeline as Concourse's API returns it; reading it again gives the same pipeline.
pub fn to_json(pipeline: &Pipeline) -> Value {
    let mut out = Object::new();
    list(&mut out, "groups", &pipeline.groups, group);
    list(&mut out, "var_sources", &pipeline.var_sources, var_source);
    list(&mut out, "resources", &pipeline.resources, resource);
    list(&mut out, "resource_types", &pipeline.resource_types, resource_type);
    list(&mut out, "prototypes", &pipeline.prototypes, resource_type);
    list(&mut out, "jobs", &pipeline.jobs, job);
    if let Some(display) = &pipeline.display {
        out.insert("display".into(), display.clone().into());
    }
    if let Some(data) = &pipeline.user_data {
        out.insert("user_data".into(), data.clone());
    }
    out.into()
}

fn list<T>(out: &mut Object, key: &str, items: &[T], item: impl Fn(&T) -> Value) {
    if !items.is_empty() {
        out.insert(key.into(), items.iter().map(item).collect());
    }
}

/// Adds a value unless it says nothing: null, false, 0, and what is empty.
fn put(out: &mut Object, key: &str, value: impl Into<Value>) {
    let value = value.into();
    let empty = match &value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    };
    if !empty {
        out.insert(key.into(), value);
    }
}

fn group(group: &Group) -> Value {
    let mut out = Object::new();
    out.insert("name".into(), group.name.as_str().into());
    put(&mut out, "jobs", group.jobs.clone());
    put(&mut out, "resources", group.resources.clone());
    out.into()
}

fn var_source(source: &VarSource) -> Value {
    json!({"name": source.name, "type": source.kind, "config": source.config})
}

fn resource(resource: &Resource) -> Value {
    let mut out = Object::new();
    out.insert("name".into(), resource.name.as_str().into());
    put(&mut out, "old_name", resource.old_name.clone());
    put(&mut out, "public", resource.public);
    put(&mut out, "webhook_token", resource.webhook_token.clone());
    out.insert("type".into(), resource.kind.as_str().into());
    out.insert("source".into(), resource.source.clone().into());
    put(&mut out, "check_every", resource.check_every.as_ref().map(check_every));
    put(&mut out, "check_timeout", resource.check_timeout.as_ref().map(|timeout| timeout.text.clone()));
    put(&mut out, "tags", resource.tags.clone());
    put(&mut out, "version", resource.version.as_ref().map(|version| json!(version)));
    put(&mut out, "icon", resource.icon.clone());
    put(&mut out, "expose_build_created_by", resource.expose_build_created_by);
    out.into()
}

fn check_every(every: &CheckEvery) -> String {
    match every {
        CheckEvery::Never => "never".into(),
        CheckEvery::Every(duration) => duration.text.clone(),
    }
}

fn resource_type(kind: &ResourceType) -> Value {
    let mut out = Object::new();
    out.insert("name".into(), kind.name.as_str().into());
    out.insert("type".into(), kind.kind.as_str().into());
    out.insert("source".into(), kind.source.clone().into());
    put(&mut out, "defaults", kind.defaults.clone());
    put(&mut out, "privileged", kind.privileged);
    put(&mut out, "check_every", kind.check_every.as_ref().map(check_every));
    put(&mut out, "tags", kind.tags.clone());
    put(&mut out, "params", kind.params.clone());
    out.into()
}

fn job(job: &Job) -> Value {
    let mut out = Object::new();
    out.insert("name".into(), job.name.as_str().into());
    put(&mut out, "old_name", job.old_name.clone());
    put(&mut out, "public", job.public);
    put(&mut out, "disable_manual_trigger", job.disable_manual_trigger);
    put(&mut out, "disable_reruns", job.disable_reruns);
    put(&mut out, "serial", job.serial);
    put(&mut out, "interruptible", job.interruptible);
    put(&mut out, "serial_groups", job.serial_groups.clone());
    put(&mut out, "max_in_flight", job.max_in_flight);
    put(&mut out, "build_logs_to_retain", job.build_logs_to_retain);
    put(&mut out, "tags", job.tags.clone());
    if let Some(retention) = &job.build_log_retention {
        out.insert("build_log_retention".into(), retention.clone().into());
    }
    for (name, hook) in job_hooks(&job.hooks) {
        out.insert(name.into(), step(hook).into());
    }
    out.insert("plan".into(), steps(&job.plan));
    out.into()
}

/// The hooks of a job that are there, with their names.
pub(super) fn job_hooks(hooks: &Hooks) -> impl Iterator<Item = (&'static str, &Step)> {
    let all = [
        ("on_success", &hooks.on_success),
        ("on_failure", &hooks.on_failure),
        ("on_abort", &hooks.on_abort),
        ("on_error", &hooks.on_error),
        ("ensure", &hooks.ensure),
    ];
    all.into_iter().filter_map(|(name, hook)| Some((name, hook.as_deref()?)))
}

/// The name, the step and the hook of a step with a hook.
pub(super) fn hooks(step: &Step) -> Option<(&'static str, &Step, &Step)> {
    match step {
        Step::OnSuccess(step, hook) => Some(("on_success", step, hook)),
        Step::OnFailure(step, hook) => Some(("on_failure", step, hook)),
        Step::OnError(step, hook) => Some(("on_error", step, hook)),
        Step::OnAbort(step, hook) => Some(("on_abort", step, hook)),
        Step::Ensure(step, hook) => Some(("ensure", step, hook)),
        _ => None,
    }
}

fn steps(steps: &[Step]) -> Value {
    steps.iter().map(|inner| Value::Object(step(inner))).collect()
}

/// A step as one object: modifiers beside the core step.
fn step(of: &Step) -> Object {
    if let Some((name, inner, hook)) = hooks(of) {
        let mut out = step(inner);
        out.insert(name.into(), step(hook).into());
        return out;
    }
    let mut out = Object::new();
    match of {
        Step::Get(get) => {
            out.insert("get".into(), get.name.as_str().into());
            put(&mut out, "resource", get.resource.clone());
            match &get.version {
                VersionChoice::Latest => {}
                VersionChoice::Every => put(&mut out, "version", "every"),
                VersionChoice::Pinned(version) => {
                    out.insert("version".into(), json!(version));
                }
            }
            put(&mut out, "params", get.params.clone());
            put(&mut out, "passed", get.passed.clone());
            put(&mut out, "trigger", get.trigger);
            put(&mut out, "tags", get.tags.clone());
            put(&mut out, "timeout", get.timeout.as_ref().map(|timeout| timeout.text.clone()));
        }
        Step::Put(step) => {
            out.insert("put".into(), step.name.as_str().into());
            put(&mut out, "resource", step.resource.clone());
            put(&mut out, "params", step.params.clone());
            match &step.inputs {
                PutInputs::Detect => {}
                PutInputs::All => put(&mut out, "inputs", "all"),
                PutInputs::None(word) => {
                    out.insert("inputs".into(), word.as_str().into());
                }
                PutInputs::Named(names) => {
                    out.insert("inputs".into(), names.clone().into());
                }
            }
            put(&mut out, "tags", step.tags.clone());
            put(&mut out, "get_params", step.get_params.clone());
            put(&mut out, "timeout", step.timeout.as_ref().map(|timeout| timeout.text.clone()));
            put(&mut out, "no_get", step.no_get);
        }
        Step::Task(step) => task(&mut out, step),
        Step::Run(run) => {
            out = run.clone();
            out.entry("run").or_insert_with(|| "".into());
        }
        Step::SetPipeline(set) => {
            out.insert("set_pipeline".into(), set.name.as_str().into());
            put(&mut out, "file", set.file.as_str());
            put(&mut out, "team", set.team.clone());
            put(&mut out, "vars", set.vars.clone());
            put(&mut out, "var_files", set.var_files.clone());
            put(&mut out, "instance_vars", set.instance_vars.clone());
        }
        Step::LoadVar(load) => {
            out.insert("load_var".into(), load.name.as_str().into());
            put(&mut out, "file", load.file.as_str());
            put(&mut out, "format", load.format.clone());
            put(&mut out, "reveal", load.reveal);
        }
        Step::Try(inner) => {
            out.insert("try".into(), step(inner).into());
        }
        Step::Do(inner) => {
            out.insert("do".into(), steps(inner));
        }
        Step::InParallel(parallel) => {
            let mut inner = Object::new();
            put(&mut inner, "steps", steps(&parallel.steps));
            put(&mut inner, "limit", parallel.limit);
            put(&mut inner, "fail_fast", parallel.fail_fast);
            out.insert("in_parallel".into(), inner.into());
        }
        Step::Across(across) => {
            out = step(&across.step);
            out.insert("across".into(), across.vars.iter().map(across_var).collect());
            put(&mut out, "fail_fast", across.fail_fast);
        }
        Step::Attempts(inner, attempts) => {
            out = step(inner);
            out.insert("attempts".into(), (*attempts).into());
        }
        Step::Timeout(inner, timeout) => {
            out = step(inner);
            out.insert("timeout".into(), timeout.text.as_str().into());
        }
        Step::OnSuccess(..) | Step::OnFailure(..) | Step::OnError(..) | Step::OnAbort(..) | Step::Ensure(..) => {}
    }
    out
}

fn across_var(var: &AcrossVar) -> Value {
    let mut out = Object::new();
    out.insert("var".into(), var.var.as_str().into());
    if !var.values.is_null() {
        out.insert("values".into(), var.values.clone());
    }
    match var.max_in_flight {
        None => put(&mut out, "max_in_flight", "all"),
        Some(1) => {}
        Some(limit) => put(&mut out, "max_in_flight", limit),
    }
    out.into()
}

fn task(out: &mut Object, task: &TaskStep) {
    out.insert("task".into(), task.name.as_str().into());
    put(out, "privileged", task.privileged);
    put(out, "hermetic", task.hermetic);
    if let Some(config) = &task.config {
        out.insert("config".into(), task_config(config));
    }
    put(out, "file", task.file.clone());
    put(out, "image", task.image.clone());
    put(out, "vars", task.vars.clone());
    put(out, "params", task.params.clone());
    if let Some(limits) = &task.container_limits {
        out.insert("container_limits".into(), limits.clone().into());
    }
    put(out, "input_mapping", json!(task.input_mapping));
    put(out, "output_mapping", json!(task.output_mapping));
    put(out, "tags", task.tags.clone());
    put(out, "timeout", task.timeout.as_ref().map(|timeout| timeout.text.clone()));
}

/// A task's configuration in Concourse's shape.
pub(crate) fn task_config(config: &TaskConfig) -> Value {
    let mut out = Object::new();
    out.insert("platform".into(), config.platform.as_str().into());
    put(&mut out, "rootfs_uri", config.rootfs_uri.clone());
    if let Some(Value::Object(image)) = &config.image_resource {
        let mut image = image.clone();
        image.entry("name").or_insert_with(|| "".into());
        out.insert("image_resource".into(), image.into());
    }
    if let Some(limits) = &config.container_limits {
        out.insert("container_limits".into(), limits.clone().into());
    }
    put(&mut out, "params", json!(config.params));
    let mut run = Object::new();
    put(&mut run, "path", config.run.path.as_str());
    put(&mut run, "args", config.run.args.clone());
    put(&mut run, "dir", config.run.dir.clone());
    put(&mut run, "user", config.run.user.clone());
    put(&mut out, "run", run);
    list(&mut out, "inputs", &config.inputs, |input| {
        let mut out = Object::new();
        out.insert("name".into(), input.name.as_str().into());
        put(&mut out, "path", input.path.clone());
        put(&mut out, "optional", input.optional);
        out.into()
    });
    list(&mut out, "outputs", &config.outputs, |output| {
        let mut out = Object::new();
        out.insert("name".into(), output.name.as_str().into());
        put(&mut out, "path", output.path.clone());
        out.into()
    });
    list(&mut out, "caches", &config.caches, |cache| {
        let mut out = Object::new();
        put(&mut out, "path", cache.path.as_str());
        put(&mut out, "ttl", cache.ttl.as_ref().map(|ttl| ttl.text.clone()));
        out.into()
    });
    out.into()
}
