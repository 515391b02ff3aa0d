//! What this release reads and checks but does not run yet: `holdall pipeline set` refuses it by name.

use holdall_engine::pipeline::{Job, Pipeline, Step};

use crate::diagnostic::Diagnostic;

use super::emit::{hooks, job_hooks};

/// Everything in a pipeline that a later release brings, each with its path. Empty: the pipeline can be set.
pub fn unsupported(pipeline: &Pipeline) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut refuse = |path: String, what: &str, help: &str| {
        let message = format!("{what} cannot be used yet: a later release brings it");
        found.push(Diagnostic::error("unsupported", message).under(path).help(help));
    };
    for source in &pipeline.var_sources {
        refuse(
            format!("var_sources.{}", source.name),
            "`var_sources`",
            "give the values with --var or --load-vars-from",
        );
    }
    for kind in &pipeline.resource_types {
        refuse(
            format!("resource_types.{}", kind.name),
            "a resource type of the pipeline's own (`resource_types`)",
            "use a built-in type: git, registry-image, time, mock, deployment-bag, deployment, current-bag or lock",
        );
    }
    for kind in &pipeline.prototypes {
        refuse(format!("prototypes.{}", kind.name), "`prototypes`", "use a task");
    }
    for job in &pipeline.jobs {
        job_steps(job, &mut |step, path| match step {
            Step::Across(_) => refuse(path, "`across`", "write the step once for each value"),
            Step::SetPipeline(set) if !set.instance_vars.is_empty() => {
                refuse(path, "`set_pipeline` with `instance_vars`", "run `holdall pipeline set`");
            }
            Step::SetPipeline(_) => refuse(path, "`set_pipeline`", "run `holdall pipeline set`"),
            Step::LoadVar(_) => refuse(path, "`load_var`", "read the file in the task that needs it"),
            Step::Run(_) => refuse(path, "`run`", "use a task"),
            Step::Task(task) if task.hermetic => refuse(path, "`hermetic: true`", "leave it out"),
            _ => {}
        });
    }
    found
}

/// Calls `visit` for each step of a job with its path, hooks included.
fn job_steps(job: &Job, visit: &mut impl FnMut(&Step, String)) {
    for (i, step) in job.plan.iter().enumerate() {
        walk(step, format!("jobs.{}.plan[{i}]", job.name), visit);
    }
    for (name, hook) in job_hooks(&job.hooks) {
        walk(hook, format!("jobs.{}.{name}", job.name), visit);
    }
}

fn walk(step: &Step, path: String, visit: &mut impl FnMut(&Step, String)) {
    let named = |what: &str| format!("{path}.{what}");
    match step {
        Step::Get(_) => visit(step, named("get")),
        Step::Put(_) => visit(step, named("put")),
        Step::Task(_) => visit(step, named("task")),
        Step::Run(_) => visit(step, named("run")),
        Step::SetPipeline(_) => visit(step, named("set_pipeline")),
        Step::LoadVar(_) => visit(step, named("load_var")),
        Step::Across(across) => {
            visit(step, named("across"));
            walk(&across.step, path, visit);
        }
        Step::Try(inner) => walk(inner, named("try"), visit),
        Step::Do(steps) => each(steps, &named("do"), visit),
        Step::InParallel(parallel) => each(&parallel.steps, &named("in_parallel.steps"), visit),
        Step::Attempts(inner, _) | Step::Timeout(inner, _) => walk(inner, path, visit),
        Step::OnSuccess(..) | Step::OnFailure(..) | Step::OnError(..) | Step::OnAbort(..) | Step::Ensure(..) => {
            if let Some((name, inner, hook)) = hooks(step) {
                walk(hook, named(name), visit);
                walk(inner, path, visit);
            }
        }
    }
}

fn each(steps: &[Step], path: &str, visit: &mut impl FnMut(&Step, String)) {
    for (i, step) in steps.iter().enumerate() {
        walk(step, format!("{path}[{i}]"), visit);
    }
}
