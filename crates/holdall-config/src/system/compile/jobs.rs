//! The jobs of an environment's pipeline (release model, section 4).

use holdall_engine::pipeline::{GetStep, Hooks, Job, Object, PutStep, Step};
use serde_json::{Value, json};

use super::super::model::{Environment, Periodic, Plan, Promotion, Service, System};
use super::{BAGS, CURRENT, DEPLOYMENTS, FORCE_UNLOCK, LOCK, PACK_BAG, SIGNAL, START_DEPLOY, test_jobs, union};

/// Makes the jobs of one environment.
pub(super) struct Jobs<'a> {
    pub system: &'a System,
    pub environment: &'a Environment,
}

impl Jobs<'_> {
    /// All jobs, along the way of a bag.
    pub fn all(&self) -> Vec<Job> {
        let mut jobs = Vec::new();
        if self.environment.pack {
            jobs.push(self.pack_bag());
        }
        jobs.push(self.start_deploy());
        let mut before = START_DEPLOY.to_owned();
        for deploy in &self.environment.deploy {
            let job = self.deploy(deploy.job_name(), &deploy.plan, before);
            before = job.name.clone();
            jobs.push(job);
        }
        jobs.extend(test_jobs(self.environment).into_iter().map(|name| self.test(name, &before)));
        jobs.push(self.signal(&before));
        jobs.extend(self.environment.periodic.iter().map(|periodic| self.periodic(periodic)));
        jobs.push(self.job(FORCE_UNLOCK, vec![put(LOCK, "force_release")]));
        jobs
    }

    fn job(&self, name: impl Into<String>, plan: Vec<Step>) -> Job {
        Job { name: name.into(), plan, tags: self.environment.tags.clone(), ..Job::default() }
    }

    fn pack_bag(&self) -> Job {
        let get = |service: &Service| {
            let difference = self.environment.services.get(&service.name).and_then(|found| found.trigger);
            let trigger = difference.unwrap_or(service.trigger);
            Step::Get(GetStep { name: service.name.clone(), trigger, ..GetStep::default() })
        };
        let mut plan: Vec<Step> = self.system.services.iter().map(get).collect();
        plan.push(put(BAGS, "pack"));
        self.job(PACK_BAG, plan)
    }

    fn start_deploy(&self) -> Job {
        let on_start = self.environment.on_start.as_ref();
        let bags = GetStep {
            name: BAGS.to_owned(),
            trigger: self.environment.promotion == Promotion::Automatic,
            params: for_hook(on_start),
            ..GetStep::default()
        };
        let mut plan = vec![put(LOCK, "acquire"), Step::Get(bags), put(DEPLOYMENTS, "start")];
        plan.extend(on_start.map(hook));
        self.job(START_DEPLOY, plan)
    }

    fn deploy(&self, name: String, plan: &Plan, before: String) -> Job {
        let wanted = self.with_failed([plan]);
        let mut steps = vec![put(LOCK, "require"), deployment(vec![before], services(wanted))];
        steps.extend(self.limited(&plan.steps));
        Job { serial: true, hooks: self.failed(), ..self.job(name, steps) }
    }

    /// The job `test`, or the job of one suite.
    fn test(&self, name: String, deployed: &str) -> Job {
        let suites: Vec<_> = self.environment.suites.iter().filter(|suite| suite.job_name() == name).collect();
        let wanted = self.with_failed(suites.iter().map(|suite| &suite.plan));
        let mut plan = vec![put(LOCK, "require"), deployment(vec![deployed.to_owned()], services(wanted))];
        for suite in suites {
            let steps = Step::Do(suite.plan.steps.clone());
            plan.push(match &self.environment.timeout {
                Some(timeout) => Step::Timeout(Box::new(steps), timeout.clone()),
                None => steps,
            });
        }
        Job { hooks: self.failed(), ..self.job(name, plan) }
    }

    fn signal(&self, deployed: &str) -> Job {
        let mut passed = test_jobs(self.environment);
        if passed.is_empty() {
            passed.push(deployed.to_owned());
        }
        let on_passed = self.environment.on_passed.as_ref();
        let mut plan = vec![put(LOCK, "require"), deployment(passed, for_hook(on_passed)), put(BAGS, "tag")];
        plan.extend(on_passed.map(hook));
        plan.push(put(LOCK, "release"));
        self.job(SIGNAL, plan)
    }

    fn periodic(&self, periodic: &Periodic) -> Job {
        let clock = GetStep { name: periodic.name.clone(), trigger: true, ..GetStep::default() };
        let params = services(periodic.plan.services.clone());
        let current = GetStep { name: CURRENT.to_owned(), params, ..GetStep::default() };
        let mut plan = vec![Step::Get(clock), Step::Get(current)];
        plan.extend(periodic.plan.steps.iter().cloned());
        self.job(&periodic.name, plan)
    }

    /// The steps of a deploy job, within the environment's time.
    fn limited(&self, steps: &[Step]) -> Vec<Step> {
        match &self.environment.timeout {
            Some(timeout) => vec![Step::Timeout(Box::new(Step::Do(steps.to_vec())), timeout.clone())],
            None => steps.to_vec(),
        }
    }

    /// The services of plans and of `on_failed`, which runs beside them and sees at least what they see.
    fn with_failed<'p>(&self, plans: impl IntoIterator<Item = &'p Plan>) -> Option<Vec<String>> {
        let named = self.environment.on_failed.as_ref().and_then(|plan| plan.services.as_ref()).map(Some);
        union(plans.into_iter().map(|plan| plan.services.as_ref()).chain(named))
    }

    /// The hooks of a job that works on a deployment.
    fn failed(&self) -> Hooks {
        let hook = self.environment.on_failed.as_ref().map(|plan| Box::new(hook(plan)));
        Hooks { on_failure: hook.clone(), on_error: hook, ..Hooks::default() }
    }
}

/// A put on a release type that does one thing.
fn put(resource: &str, action: &str) -> Step {
    let params = Object::from_iter([(action.to_owned(), Value::Bool(true))]);
    Step::Put(PutStep { name: resource.to_owned(), params, no_get: true, ..PutStep::default() })
}

/// The get of the deployment that a job works for.
fn deployment(passed: Vec<String>, params: Object) -> Step {
    Step::Get(GetStep { name: DEPLOYMENTS.to_owned(), passed, trigger: true, params, ..GetStep::default() })
}

/// The params of a get of a bag. Without the key every service is fetched.
fn services(wanted: Option<Vec<String>>) -> Object {
    wanted.map(|names| ("services".to_owned(), json!(names))).into_iter().collect()
}

/// The params of a get of a bag for a hook in a job of its own: no service where there is no hook, and that one cannot be
/// fetched keeps nothing back, as the hook's own failure does not (release model, section 2).
fn for_hook(hook: Option<&Plan>) -> Object {
    let Some(hook) = hook else { return services(Some(Vec::new())) };
    let mut params = services(hook.services.clone());
    params.insert("optional".to_owned(), Value::Bool(true));
    params
}

/// A plan whose failure is shown and changes nothing.
fn hook(plan: &Plan) -> Step {
    Step::Try(Box::new(Step::Do(plan.steps.clone())))
}
