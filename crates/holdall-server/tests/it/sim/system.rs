//! The system that a history is about, in the shapes that its file takes.

use super::op::{Change, Qa};

/// The jobs that run on a clock.
pub const PERIODIC: &[&str] = &["watch"];

/// How often those run, in seconds.
pub const EVERY: i64 = 600;

/// The team of a pipeline of people's own that takes locks of environments while its jobs run.
pub const TOOLS: &str = "tools";

/// That pipeline. It is called as those of the environments are, so that an operation on `tools` is about it.
pub const TOOLS_PIPELINE: &str = "\
resources:
- { name: staging-lock, type: lock, source: { environment: staging } }
- { name: preview-lock, type: lock, source: { environment: preview } }
jobs:
- name: load
  plan:
  - { put: staging-lock, params: { during: true, mode: shared } }
  - { task: load, config: { platform: linux, run: { path: load } } }
- name: drill
  plan:
  - { put: preview-lock, params: { during: true } }
  - { task: drill, config: { platform: linux, run: { path: drill } } }
";

/// What the file says at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    web: bool,
    qa: Qa,
    queue: bool,
    manual: bool,
    own_job: bool,
    production: bool,
    hooks: bool,
    limits: bool,
    attempts: bool,
    clock: bool,
    allow: bool,
}

impl Shape {
    /// Two services and three environments.
    pub fn first() -> Shape {
        Shape {
            web: false,
            qa: Qa::Nowhere,
            queue: false,
            manual: false,
            own_job: false,
            production: true,
            hooks: false,
            limits: false,
            attempts: false,
            clock: false,
            allow: false,
        }
    }

    /// With a change.
    pub fn with(mut self, change: Change) -> Shape {
        match change {
            Change::Web(web) => self.web = web,
            Change::Qa(qa) => self.qa = qa,
            Change::Queue(queue) => self.queue = queue,
            Change::Manual(manual) => self.manual = manual,
            Change::OwnJob(own_job) => self.own_job = own_job,
            Change::Production(production) => self.production = production,
            Change::Hooks(hooks) => self.hooks = hooks,
            Change::Limits(limits) => self.limits = limits,
            Change::Attempts(attempts) => self.attempts = attempts,
            Change::Clock(clock) => self.clock = clock,
            Change::Allow(allow) => self.allow = allow,
        }
        self
    }

    pub fn services(&self) -> Vec<&'static str> {
        if self.web { vec!["api", "admin", "web"] } else { vec!["api", "admin"] }
    }

    /// The system file.
    pub fn text(&self) -> String {
        let mut text = "system: notify\nservices:\n".to_owned();
        for service in self.services() {
            text += &format!("  {service}: {{ type: mock, source: {{ initial_version: {service} }} }}\n");
        }
        text += "environments:\n";
        let suite = |name: &str| format!("{{ task: {name}, file: api/{name}.yml }}");
        let apply = format!("{{ task: apply, file: api/apply.yml{}{} }}", self.limits_of_step(), self.hooks_of_step());
        let deploy = format!("    deploy: [{apply}]\n");
        let common = self.common();
        let preview = format!("{deploy}    tests: {{ functional: [{}] }}\n{common}", suite("functional"));
        text += &format!("  preview:\n    pack: true\n{preview}");
        if self.qa != Qa::Nowhere {
            text += &format!("  qa:\n    after: preview\n{deploy}");
        }
        let after = if self.qa == Qa::Between { "qa" } else { "preview" };
        let superseding = if self.queue { "queue" } else { "latest" };
        let providers = suite("providers");
        let own =
            if self.own_job { format!("{{ own_job: true, plan: [{providers}] }}") } else { format!("[{providers}]") };
        text += &format!(
            "  staging:\n    after: {after}\n    superseding: {superseding}\n{deploy}    tests: {{ smoke: [{}], \
             providers: {own} }}\n{common}",
            suite("smoke")
        );
        if self.clock {
            text += &format!("    periodic: {{ watch: {{ every: {EVERY}s, plan: [{}] }} }}\n", suite("watch"));
        }
        if self.production {
            let after = if self.qa == Qa::Beside { "[staging, qa]" } else { "staging" };
            let promotion = if self.manual { "manual" } else { "automatic" };
            text += &format!(
                "  production:\n    after: {after}\n    promotion: {promotion}\n    deploy:\n      migrate: [{}]\n      \
                 apply: [{apply}]\n    tests: {{ smoke: [{}] }}\n",
                suite("migrate"),
                suite("smoke")
            );
            if self.hooks {
                text += &format!("    on_failed: [{}]\n", suite("tell-failed"));
            }
        }
        text
    }

    /// How long one step may take, and how often it is tried.
    fn limits_of_step(&self) -> String {
        let limit = |there: bool, text: &'static str| if there { text } else { "" };
        [limit(self.limits, ", timeout: 5m"), limit(self.attempts, ", attempts: 2")].concat()
    }

    /// The hooks of one step.
    fn hooks_of_step(&self) -> String {
        let hook = |on: &str| format!(", {on}: {{ task: {on}, file: api/hook.yml }}");
        if self.hooks { ["ensure", "on_failure", "on_abort", "on_error"].map(hook).concat() } else { String::new() }
    }

    /// What preview and staging have alike.
    fn common(&self) -> String {
        let mut text = String::new();
        if self.hooks {
            for hook in ["start", "passed", "failed"] {
                text += &format!("    on_{hook}: [{{ task: tell-{hook}, file: api/tell.yml }}]\n");
            }
        }
        if self.limits {
            text += "    timeout: 90s\n";
        }
        if self.allow {
            text += &format!("    lock: {{ allow: [{TOOLS}/deploy-notify] }}\n");
        }
        text
    }
}
