//! The system that a history is about, in the shapes that its file takes.

use super::op::{Change, Qa};

/// What the file says at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    web: bool,
    qa: Qa,
    queue: bool,
    manual: bool,
    own_job: bool,
    production: bool,
}

impl Shape {
    /// Two services and three environments.
    pub fn first() -> Shape {
        Shape { web: false, qa: Qa::Nowhere, queue: false, manual: false, own_job: false, production: true }
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
        let deploy = "    deploy: [{ task: apply, file: api/apply.yml }]\n";
        let suite = |name: &str| format!("{{ task: {name}, file: api/{name}.yml }}");
        let preview = format!("{deploy}    tests: {{ functional: [{}] }}\n", suite("functional"));
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
             providers: {own} }}\n",
            suite("smoke")
        );
        if self.production {
            let after = if self.qa == Qa::Beside { "[staging, qa]" } else { "staging" };
            let promotion = if self.manual { "manual" } else { "automatic" };
            text += &format!(
                "  production:\n    after: {after}\n    promotion: {promotion}\n    deploy:\n      migrate: [{}]\n      \
                 apply: [{}]\n    tests: {{ smoke: [{}] }}\n",
                suite("migrate"),
                suite("apply"),
                suite("smoke")
            );
        }
        text
    }
}
