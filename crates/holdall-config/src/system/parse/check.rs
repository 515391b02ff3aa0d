//! How the elements of a system go together.

use std::collections::{BTreeMap, BTreeSet};

use holdall_engine::pipeline::Step;

use super::super::compile::compile;
use super::super::model::{Environment, Plan, System};
use crate::diagnostic::{Diagnostic, Span, did_you_mean};
use crate::pipeline;
use crate::yaml::{self, Node, Reader};

/// Names that the compiled pipelines use for themselves.
const RESERVED: [&str; 5] = ["bag", "environment-lock", "deployment-bag", "deployment", "current-bag"];

/// Jobs of every environment's pipeline.
const JOBS: [&str; 6] =
    ["pack-bag", "start-deploy", "deploy", "test", "signal-deploy-completion", "force-unlock-pipeline"];

/// The most environments that a system may have.
const MOST_ENVIRONMENTS: usize = 100;

pub(super) fn check(reader: &mut Reader, system: &System, root: &Node) {
    let check = Check { system, root };
    check.services(reader);
    check.chain(reader);
    for environment in &system.environments {
        check.environment(reader, environment);
    }
}

/// Checks the pipelines that a system without other mistakes compiles to, as anyone's are checked.
pub(super) fn compiled(reader: &mut Reader, system: &System, root: &Node) {
    let check = Check { system, root };
    for compiled in compile(system) {
        let json = pipeline::to_json(&compiled.config);
        let parsed = pipeline::parse_node(&yaml::from_json(&json).value.unwrap_or_else(|| Node::null(root.span)));
        // The services of an environment that packs no bags come with the bag; no get names them.
        let mut found: Vec<Diagnostic> = parsed
            .diagnostics
            .into_iter()
            .filter(|diagnostic| diagnostic.is_error() && diagnostic.code != "unused")
            .collect();
        found.extend(pipeline::unsupported(&compiled.config));
        let path = format!("environments.{}", compiled.environment);
        let mut said = BTreeSet::new();
        for diagnostic in found {
            if said.insert(diagnostic.message.clone()) {
                let mut placed = Diagnostic::error(diagnostic.code, diagnostic.message)
                    .at(check.span(&path))
                    .under(format!("{path}: {}", diagnostic.path));
                placed.help = diagnostic.help;
                reader.push(placed);
            }
        }
    }
}

struct Check<'s> {
    system: &'s System,
    root: &'s Node,
}

impl Check<'_> {
    /// Where a path of the file is; the whole file, where there is no such place.
    fn span(&self, path: &str) -> Span {
        self.root.find(path).map_or(self.root.span, |node| node.span)
    }

    fn error(&self, reader: &mut Reader, code: &'static str, path: &str, message: String, help: Option<String>) {
        let found = Diagnostic::error(code, message).at(self.span(path)).under(path);
        reader.push(match help {
            Some(help) => found.help(help),
            None => found,
        });
    }

    fn meant(&self, name: &str) -> Option<String> {
        let known: Vec<&str> = self.system.environments.iter().map(|known| known.name.as_str()).collect();
        match did_you_mean(name, known.iter().copied()) {
            Some(meant) => Some(format!("did you mean '{meant}'?")),
            None => Some(format!("the environments are {}", known.join(", "))),
        }
    }

    fn meant_service(&self, name: &str) -> Option<String> {
        let known: Vec<&str> = self.system.services.iter().map(|known| known.name.as_str()).collect();
        match did_you_mean(name, known.iter().copied()) {
            Some(meant) => Some(format!("did you mean '{meant}'?")),
            None => Some(format!("the services are {}", known.join(", "))),
        }
    }

    fn has_service(&self, name: &str) -> bool {
        self.system.services.iter().any(|service| service.name == name)
    }

    fn services(&self, reader: &mut Reader) {
        let mut variables: BTreeMap<String, &str> = BTreeMap::new();
        for service in &self.system.services {
            let path = format!("services.{}", service.name);
            if RESERVED.contains(&service.name.as_str()) {
                let message = format!("'{}' is a name that every pipeline uses for itself", service.name);
                self.error(reader, "reserved-name", &path, message, Some("choose another name".into()));
            }
            let variable = holdall_engine::bag::env_name(&service.name);
            if let Some(other) = variables.insert(variable.clone(), &service.name) {
                let message = format!("'{}' and '{other}' are both called {variable} in images.env", service.name);
                self.error(reader, "same-variable", &path, message, Some("choose another name".into()));
            }
            if let Some(old) = &service.old_name {
                if *old == service.name {
                    let message = format!("'old_name' of {} is its name", service.name);
                    self.error(reader, "bad-old-name", &path, message, Some("leave it out".into()));
                } else if self.has_service(old) {
                    let message = format!("'old_name' of {} is the name of another service, {old}", service.name);
                    self.error(reader, "bad-old-name", &path, message, Some("names cannot be swapped".into()));
                }
            }
            let needed = match service.kind.as_str() {
                "git" => Some("uri"),
                "registry-image" => Some("repository"),
                _ => None,
            };
            if let Some(key) = needed.filter(|key| !service.source.contains_key(*key)) {
                let message = format!("the source of {} has no '{key}'", service.name);
                self.error(reader, "incomplete-source", &path, message, Some(format!("say source: {{ {key}: ... }}")));
            }
            if holdall_engine::plan::ReleaseType::from_name(&service.kind).is_some() {
                let message = format!("a service cannot be of type '{}'", service.kind);
                self.error(reader, "bad-type", &path, message, Some("the server itself answers for that type".into()));
            }
        }
    }

    /// `after`: known names, no circles, one packing environment at the root of each.
    fn chain(&self, reader: &mut Reader) {
        let environments = &self.system.environments;
        if environments.len() > MOST_ENVIRONMENTS {
            let message = format!("a system has at most {MOST_ENVIRONMENTS} environments");
            self.error(reader, "too-many-environments", "environments", message, None);
        }
        if !environments.is_empty() && !environments.iter().any(|environment| environment.pack) {
            let message = "no environment packs bags".to_owned();
            let help = Some("say 'pack: true' in the first one".to_owned());
            self.error(reader, "nothing-packs", "environments", message, help);
        }
        for environment in environments {
            let path = format!("environments.{}.after", environment.name);
            let mut seen = BTreeSet::new();
            for before in &environment.after {
                if *before == environment.name {
                    let message = format!("{before} cannot come after itself");
                    self.error(reader, "after-itself", &path, message, None);
                } else if !environments.iter().any(|known| known.name == *before) {
                    let message = format!("there is no environment '{before}'");
                    self.error(reader, "unknown-environment", &path, message, self.meant(before));
                }
                if !seen.insert(before) {
                    let message = format!("'{before}' is named twice");
                    self.error(reader, "named-twice", &path, message, None);
                }
            }
            if environment.pack {
                continue;
            }
            match self.roots(&environment.name) {
                None => {
                    let message = format!("{} comes after itself, by way of others", environment.name);
                    let help = Some("the environments must be a line or a tree, without circles".to_owned());
                    self.error(reader, "circle", &path, message, help);
                }
                Some(roots) if roots.len() > 1 => {
                    let names: Vec<&str> = roots.iter().map(String::as_str).collect();
                    let message = format!("{} goes back to several that pack: {}", environment.name, names.join(", "));
                    let help = Some("all that it comes after must go back to one packing environment".to_owned());
                    self.error(reader, "several-roots", &path, message, help);
                }
                Some(_) => {}
            }
        }
        for (index, environment) in environments.iter().enumerate() {
            let team = &environment.team;
            if let Some(other) = environments[..index].iter().find(|other| other.team == *team) {
                let message = format!("{} and {} are both of team {team}", other.name, environment.name);
                let help = Some("each has a pipeline of the same name, so each needs a team of its own".to_owned());
                self.error(reader, "same-team", &format!("environments.{}", environment.name), message, help);
            }
            let Some(old) = &environment.old_name else { continue };
            let path = format!("environments.{}", environment.name);
            if *old == environment.name {
                let message = format!("'old_name' of {} is its name", environment.name);
                self.error(reader, "bad-old-name", &path, message, Some("leave it out".into()));
            } else if environments.iter().any(|other| other.name == *old) {
                let message = format!("'old_name' of {} is another environment, {old}", environment.name);
                self.error(reader, "bad-old-name", &path, message, Some("names cannot be swapped".into()));
            }
        }
    }

    /// The packing environments that one goes back to; `None`: it goes around in a circle.
    fn roots(&self, name: &str) -> Option<BTreeSet<String>> {
        let mut roots = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut open = vec![name];
        let mut first = true;
        while let Some(next) = open.pop() {
            if !first && next == name {
                return None;
            }
            first = false;
            if !seen.insert(next) {
                continue;
            }
            let Some(environment) = self.system.environments.iter().find(|known| known.name == next) else { continue };
            if environment.pack {
                roots.insert(next.to_owned());
            }
            open.extend(environment.after.iter().map(String::as_str).filter(|before| *before != next));
        }
        Some(roots)
    }

    fn environment(&self, reader: &mut Reader, environment: &Environment) {
        let path = format!("environments.{}", environment.name);
        for name in environment.services.keys().filter(|name| !self.has_service(name)) {
            let message = format!("there is no service '{name}'");
            let place = format!("{path}.services.{name}");
            self.error(reader, "unknown-service", &place, message, self.meant_service(name));
        }
        let mut jobs: BTreeSet<String> = JOBS.iter().map(|&job| job.to_owned()).collect();
        let mut add = |name: String| jobs.insert(name);
        for deploy in &environment.deploy {
            let place = match &deploy.name {
                Some(name) => {
                    add(deploy.job_name());
                    format!("{path}.deploy.{name}")
                }
                None => format!("{path}.deploy"),
            };
            self.plan(reader, &deploy.plan, &place);
        }
        for suite in &environment.suites {
            let place = format!("{path}.tests.{}", suite.name);
            if suite.own_job && !add(format!("test-{}", suite.name)) {
                let message = format!("there is a job 'test-{}' already", suite.name);
                self.error(reader, "same-job", &place, message, Some("choose another name".into()));
            }
            self.plan(reader, &suite.plan, &place);
        }
        for periodic in &environment.periodic {
            let place = format!("{path}.periodic.{}", periodic.name);
            let taken = !add(periodic.name.clone())
                || RESERVED.contains(&periodic.name.as_str())
                || self.has_service(&periodic.name);
            if taken {
                let message = format!("'{}' is taken by a job or a resource of the pipeline", periodic.name);
                self.error(reader, "same-job", &place, message, Some("choose another name".into()));
            }
            self.plan(reader, &periodic.plan, &place);
        }
        for (key, plan) in [
            ("on_start", &environment.on_start),
            ("on_passed", &environment.on_passed),
            ("on_failed", &environment.on_failed),
        ] {
            if let Some(plan) = plan {
                self.plan(reader, plan, &format!("{path}.{key}"));
            }
        }
    }

    fn plan(&self, reader: &mut Reader, plan: &Plan, path: &str) {
        let mut seen = BTreeSet::new();
        for (index, name) in plan.services.iter().flatten().enumerate() {
            let place = format!("{path}.services[{index}]");
            if !self.has_service(name) {
                let message = format!("there is no service '{name}'");
                self.error(reader, "unknown-service", &place, message, self.meant_service(name));
            } else if !seen.insert(name) {
                self.error(reader, "named-twice", &place, format!("'{name}' is named twice"), None);
            }
        }
        for step in &plan.steps {
            self.step(reader, step, plan, path);
        }
    }

    fn step(&self, reader: &mut Reader, root: &Step, plan: &Plan, path: &str) {
        let mut open = vec![root];
        while let Some(step) = open.pop() {
            match step {
                Step::Get(get) => self.resource(reader, "get", get.resource_name(), path),
                Step::Put(put) => self.resource(reader, "put", put.resource_name(), path),
                Step::Task(task) => {
                    let artifact = task.file.as_ref().and_then(|file| file.split('/').next());
                    let left_out = plan.services.as_ref().zip(artifact).filter(|(services, artifact)| {
                        self.has_service(artifact) && !services.iter().any(|name| name == artifact)
                    });
                    if let Some((_, artifact)) = left_out {
                        let message = format!(
                            "task '{}' takes its file from {artifact}, which 'services' of this plan leaves out",
                            task.name
                        );
                        self.error(reader, "service-left-out", path, message, Some(format!("add {artifact} to it")));
                    }
                }
                Step::Run(_) | Step::SetPipeline(_) | Step::LoadVar(_) => {}
                Step::Try(step) | Step::Attempts(step, _) | Step::Timeout(step, _) => open.push(step),
                Step::Across(across) => open.push(&across.step),
                Step::Do(steps) => open.extend(steps),
                Step::InParallel(parallel) => open.extend(&parallel.steps),
                Step::OnSuccess(step, hook)
                | Step::OnFailure(step, hook)
                | Step::OnError(step, hook)
                | Step::OnAbort(step, hook)
                | Step::Ensure(step, hook) => open.extend([&**step, &**hook]),
            }
        }
    }

    fn resource(&self, reader: &mut Reader, verb: &str, name: &str, path: &str) {
        if RESERVED.contains(&name) {
            let message = format!("a plan cannot {verb} '{name}': the jobs around it do that");
            self.error(reader, "reserved-name", path, message, Some("leave the step out".into()));
        } else if !self.has_service(name) {
            let message = format!("there is no service '{name}' to {verb}");
            self.error(reader, "unknown-resource", path, message, self.meant_service(name));
        }
    }
}
