//! Decoding steps: the core step, and its modifiers around it (reference, sections 1.1 and 1.8).

use std::collections::BTreeMap;

use holdall_engine::pipeline::{
    AcrossStep, AcrossVar, Duration, GetStep, InParallelStep, LoadVarStep, Object, PutInputs, PutStep, SetPipelineStep,
    Step, TaskStep, VersionChoice,
};
use holdall_engine::version::Version;
use serde_json::Value;

use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::duration::{endless, parse_duration};
use crate::task::{self, Numbers, container_limits, refuse, tags, text_map, texts};
use crate::yaml::{Fields, Node, Reader, Yaml};

/// How deep steps may nest, modifiers counted. With it, what is made of a pipeline can be walked recursively and
/// kept as JSON, whose readers stop at 128 levels.
pub const MAX_STEP_DEPTH: usize = 24;

/// The keys of a step that decide what it is; the first that is there wins.
const CORES: [&str; 9] = ["run", "task", "put", "get", "set_pipeline", "load_var", "try", "do", "in_parallel"];

/// The keys that wrap a step in another.
const MODIFIERS: [&str; 8] =
    ["ensure", "on_error", "on_abort", "on_failure", "on_success", "across", "attempts", "timeout"];

/// What a step becomes that could not be read; the mistake is reported.
pub(super) fn placeholder() -> Step {
    Step::Do(Vec::new())
}

/// A wrapper that is put around the step that it modifies.
type Wrapper = Box<dyn FnOnce(Box<Step>) -> Step>;

/// Reads a step. `depth` is how deep it stands already.
pub(super) fn step(reader: &mut Reader, node: &Node, path: &str, depth: usize) -> Step {
    if depth > MAX_STEP_DEPTH {
        too_deep(reader, node, path);
        return placeholder();
    }
    if node.is_null() {
        reader.error("no-step", node.span, path, "no step configured");
        return placeholder();
    }
    let Some(fields) = reader.fields(node, path) else { return placeholder() };
    let modifiers = MODIFIERS.iter().filter(|key| fields.has(key)).count();
    if depth + modifiers > MAX_STEP_DEPTH {
        too_deep(reader, node, path);
        return placeholder();
    }
    StepReader { reader, fields, depth }.read()
}

fn too_deep(reader: &mut Reader, node: &Node, path: &str) {
    let message = format!("steps are nested deeper than {MAX_STEP_DEPTH} levels, modifiers counted");
    reader.error("too-deep", node.span, path, message);
}

/// Reads a list of steps; null is an empty one.
pub(crate) fn steps(reader: &mut Reader, node: &Node, path: &str, depth: usize) -> Option<Vec<Step>> {
    reader.list(node, path, |reader, node, path| Some(step(reader, node, path, depth)))
}

struct StepReader<'r, 'n> {
    reader: &'r mut Reader,
    fields: Fields<'n>,
    depth: usize,
}

impl<'n> StepReader<'_, 'n> {
    fn read(mut self) -> Step {
        let mut wrappers: Vec<Wrapper> = Vec::new();
        for (key, wrap) in [
            ("ensure", Step::Ensure as fn(Box<Step>, Box<Step>) -> Step),
            ("on_error", Step::OnError),
            ("on_abort", Step::OnAbort),
            ("on_failure", Step::OnFailure),
            ("on_success", Step::OnSuccess),
        ] {
            if let Some(entry) = self.fields.entry(key) {
                self.depth += 1;
                let hook = Box::new(step(self.reader, &entry.value, &self.fields.path_of(key), self.depth));
                wrappers.push(Box::new(move |inner| wrap(inner, hook)));
            }
        }
        if let Some(entry) = self.fields.entry("across") {
            self.depth += 1;
            let vars = self.across(&entry.value);
            let fail_fast = self.bool("fail_fast");
            wrappers.push(Box::new(move |step| Step::Across(AcrossStep { step, vars, fail_fast })));
        }
        if let Some(entry) = self.fields.entry("attempts") {
            self.depth += 1;
            let attempts = self.attempts(&entry.value);
            wrappers.push(Box::new(move |step| Step::Attempts(step, attempts)));
        }
        let core = CORES.iter().copied().find(|key| self.fields.has(key));
        let bounded_itself = matches!(core, Some("run" | "task" | "put" | "get"));
        if !bounded_itself && let Some(entry) = self.fields.entry("timeout") {
            self.depth += 1;
            let limit = self.bound(&entry.value);
            wrappers.push(Box::new(move |step| Step::Timeout(step, limit)));
        }
        let Some(core) = core else {
            self.no_core(!wrappers.is_empty());
            return placeholder();
        };
        self.fields.entry(core);
        let step = match core {
            "get" => self.get(),
            "put" => self.put(),
            "task" => self.task(),
            "run" => self.run(),
            "set_pipeline" => self.set_pipeline(),
            "load_var" => self.load_var(),
            "try" => self.try_step(),
            "do" => self.do_step(),
            _ => self.in_parallel(),
        };
        self.fields.finish(self.reader);
        wrappers.into_iter().rev().fold(step, |step, wrap| wrap(Box::new(step)))
    }

    /// Reports a step that is none.
    fn no_core(self, modified: bool) {
        let message = match modified {
            true => "no core step type declared (e.g. get, put, task, etc.)",
            false => "no step configured",
        };
        let found = Diagnostic::error("no-step", message).at(self.fields.span).under(self.fields.path.clone());
        let near = self.fields.unread().find_map(|entry| match entry.key.as_str() {
            "aggregate" => Some("'aggregate' was removed from Concourse: use 'in_parallel'".to_owned()),
            key => did_you_mean(key, CORES).map(|meant| format!("did you mean '{meant}' instead of '{key}'?")),
        });
        self.reader.push(Diagnostic { help: near, ..found });
    }

    fn text(&mut self, key: &'static str) -> Option<String> {
        self.fields.optional(self.reader, key, Reader::string).filter(|text| !text.is_empty())
    }

    fn name(&mut self, key: &'static str) -> String {
        self.text(key).unwrap_or_default()
    }

    fn bool(&mut self, key: &'static str) -> bool {
        self.fields.optional(self.reader, key, Reader::bool).unwrap_or(false)
    }

    fn object(&mut self, key: &'static str) -> Object {
        self.fields.optional(self.reader, key, Reader::object).unwrap_or_default()
    }

    fn tags(&mut self) -> Vec<String> {
        self.fields.optional(self.reader, "tags", tags).unwrap_or_default()
    }

    fn mapping(&mut self, key: &'static str) -> BTreeMap<String, String> {
        self.fields.optional(self.reader, key, text_map).unwrap_or_default().into_iter().collect()
    }

    /// `timeout` of a get, put or task. Concourse looks at it when the step runs; here a wrong one is a warning.
    fn limit(&mut self) -> Option<Duration> {
        self.fields.optional(self.reader, "timeout", |reader, node, path| {
            let text = reader.string(node, path).filter(|text| !text.is_empty())?;
            Some(parse_duration(&text).unwrap_or_else(|message| {
                reader.warning("duration", node.span, path, format!("{message}: the step runs without a limit"));
                endless(&text)
            }))
        })
    }

    /// `timeout` of any other step.
    fn bound(&mut self, node: &Node) -> Duration {
        let path = self.fields.path_of("timeout");
        let text = match &node.value {
            Yaml::Null => String::new(),
            Yaml::String(text) => text.clone(),
            _ => {
                self.reader.mismatch(node, &path, "a string");
                return endless("");
            }
        };
        parse_duration(&text).unwrap_or_else(|_| {
            refuse(self.reader, "duration", node, &path, format!("invalid duration '{text}'"));
            endless(&text)
        })
    }

    fn attempts(&mut self, node: &Node) -> u32 {
        let path = self.fields.path_of("attempts");
        let attempts = if node.is_null() { Some(0) } else { self.reader.int(node, &path) };
        if attempts.is_some_and(|attempts| attempts <= 0) {
            refuse(self.reader, "attempts", node, &path, "must be greater than 0".into());
        }
        attempts.map_or(1, |attempts| u32::try_from(attempts).unwrap_or(u32::MAX))
    }

    fn across(&mut self, node: &Node) -> Vec<AcrossVar> {
        let path = self.fields.path_of("across");
        let vars = match node.is_null() {
            true => Some(Vec::new()),
            false => self.reader.list(node, &path, across_var),
        };
        if node.is_null() || node.as_list().is_some_and(<[Node]>::is_empty) {
            refuse(self.reader, "across", node, &path, "no vars specified".into());
        }
        vars.unwrap_or_default()
    }

    fn get(&mut self) -> Step {
        Step::Get(GetStep {
            name: self.name("get"),
            resource: self.text("resource"),
            version: self.fields.optional(self.reader, "version", version).unwrap_or_default(),
            passed: self.fields.optional(self.reader, "passed", texts).unwrap_or_default(),
            trigger: self.bool("trigger"),
            params: self.object("params"),
            tags: self.tags(),
            timeout: self.limit(),
        })
    }

    fn put(&mut self) -> Step {
        Step::Put(PutStep {
            name: self.name("put"),
            resource: self.text("resource"),
            params: self.object("params"),
            inputs: self.fields.optional(self.reader, "inputs", inputs).unwrap_or_default(),
            get_params: self.object("get_params"),
            no_get: self.bool("no_get"),
            tags: self.tags(),
            timeout: self.limit(),
        })
    }

    fn task(&mut self) -> Step {
        let config = self.fields.get("config");
        let file = self.fields.get("file");
        let given = file.is_some_and(|node| node.as_str() != Some(""));
        let (span, path) = (self.fields.span, self.fields.path.clone());
        match (config.is_some(), given) {
            (false, false) => {
                self.reader.error("task", span, &path, "must specify either `file:` or `config:`");
            }
            (true, true) => {
                self.reader.error("task", span, &path, "must specify one of `file:` or `config:`, not both");
            }
            _ => {}
        }
        let read = |reader: &mut Reader, node: &Node, path: &str| task::decode(reader, node, path, Numbers::AsFloats);
        let as_floats = |r: &mut Reader, n: &Node, p: &str| task::params(r, n, p, Numbers::AsFloats);
        let task = TaskStep {
            name: self.name("task"),
            config: self.fields.optional(self.reader, "config", read),
            file: self.text("file"),
            image: self.text("image"),
            privileged: self.bool("privileged"),
            hermetic: self.bool("hermetic"),
            params: self
                .fields
                .optional(self.reader, "params", as_floats)
                .unwrap_or_default()
                .into_iter()
                .map(|(key, text)| (key, Value::String(text)))
                .collect(),
            vars: self.object("vars"),
            container_limits: self.fields.optional(self.reader, "container_limits", container_limits),
            input_mapping: self.mapping("input_mapping"),
            output_mapping: self.mapping("output_mapping"),
            tags: self.tags(),
            timeout: self.limit(),
        };
        if task.image.is_some()
            && task.config.as_ref().is_some_and(|c| c.image_resource.is_some() || c.rootfs_uri.is_some())
        {
            self.reader.warning(
                "task-image",
                span,
                &path,
                "specifies image: on the step but also specifies an image under config: - the image: on the step \
                 takes precedence",
            );
        }
        if task.hermetic {
            let message = "specifies `hermetic:` only works against worker containerd runtime";
            self.reader.warning("hermetic", span, &path, message);
        }
        Step::Task(Box::new(task))
    }

    fn run(&mut self) -> Step {
        let mut run = Object::new();
        for key in ["run", "type", "timeout"] {
            run.extend(self.text(key).map(|text| (key.to_owned(), text.into())));
        }
        let params = self.object("params");
        if !params.is_empty() {
            run.insert("params".into(), params.into());
        }
        if self.bool("privileged") {
            run.insert("privileged".into(), true.into());
        }
        let tags = self.tags();
        if !tags.is_empty() {
            run.insert("tags".into(), tags.into());
        }
        let limits = self.fields.optional(self.reader, "container_limits", container_limits);
        run.extend(limits.map(|limits| ("container_limits".to_owned(), limits.into())));
        Step::Run(run)
    }

    fn set_pipeline(&mut self) -> Step {
        let step = SetPipelineStep {
            name: self.name("set_pipeline"),
            file: self.file(),
            team: self.text("team"),
            vars: self.object("vars"),
            var_files: self.fields.optional(self.reader, "var_files", texts).unwrap_or_default(),
            instance_vars: self.object("instance_vars"),
        };
        Step::SetPipeline(step)
    }

    fn load_var(&mut self) -> Step {
        let step = LoadVarStep {
            name: self.name("load_var"),
            file: self.file(),
            format: self.text("format"),
            reveal: self.bool("reveal"),
        };
        Step::LoadVar(step)
    }

    /// `file` of a step that needs one.
    fn file(&mut self) -> String {
        let file = self.text("file");
        if self.fields.get("file").is_none_or(|node| node.as_str() == Some("")) {
            let (span, path) = (self.fields.span, self.fields.path.clone());
            self.reader.error("missing-key", span, &path, "no file specified");
        }
        file.unwrap_or_default()
    }

    fn try_step(&mut self) -> Step {
        let path = self.fields.path_of("try");
        let inner = match self.fields.entry("try") {
            Some(entry) => step(self.reader, &entry.value, &path, self.depth + 1),
            None => placeholder(),
        };
        Step::Try(Box::new(inner))
    }

    fn do_step(&mut self) -> Step {
        let depth = self.depth + 1;
        let mut inner =
            self.fields.optional(self.reader, "do", |r, node, path| steps(r, node, path, depth)).unwrap_or_default();
        push_down(&mut inner, &self.tags());
        Step::Do(inner)
    }

    fn in_parallel(&mut self) -> Step {
        let path = self.fields.path_of("in_parallel");
        let depth = self.depth + 1;
        let mut step = InParallelStep::default();
        let node = self.fields.entry("in_parallel").map(|entry| &entry.value);
        match node.map(|node| (node, &node.value)) {
            Some((node, Yaml::List(_))) => step.steps = steps(self.reader, node, &path, depth).unwrap_or_default(),
            Some((node, Yaml::Map(map))) => {
                let mut fields = Fields::folding(map, node.span, &path);
                step.steps = fields
                    .optional(self.reader, "steps", |r, node, path| steps(r, node, path, depth))
                    .unwrap_or_default();
                let limit = fields.optional(self.reader, "limit", Reader::int).unwrap_or(0);
                step.limit = u32::try_from(limit.max(0)).unwrap_or(u32::MAX);
                step.fail_fast = fields.optional(self.reader, "fail_fast", Reader::bool).unwrap_or(false);
                fields.finish_ignoring(self.reader);
            }
            Some((node, _)) => self.reader.mismatch(node, &path, "a list of steps, or a map with `steps`"),
            None => {}
        }
        push_down(&mut step.steps, &self.tags());
        Step::InParallel(step)
    }
}

/// Gives the tags of a `do` or `in_parallel` to the steps inside it that have none of their own.
fn push_down(steps: &mut [Step], tags: &[String]) {
    if tags.is_empty() {
        return;
    }
    for step in steps {
        let own = match step {
            Step::Get(get) => &mut get.tags,
            Step::Put(put) => &mut put.tags,
            Step::Task(task) => &mut task.tags,
            Step::Do(inner) => {
                push_down(inner, tags);
                continue;
            }
            Step::InParallel(inner) => {
                push_down(&mut inner.steps, tags);
                continue;
            }
            Step::Across(across) => {
                push_down(std::slice::from_mut(&mut across.step), tags);
                continue;
            }
            Step::Try(inner) | Step::Attempts(inner, _) | Step::Timeout(inner, _) => {
                push_down(std::slice::from_mut(inner), tags);
                continue;
            }
            Step::OnSuccess(inner, hook)
            | Step::OnFailure(inner, hook)
            | Step::OnError(inner, hook)
            | Step::OnAbort(inner, hook)
            | Step::Ensure(inner, hook) => {
                push_down(std::slice::from_mut(inner), tags);
                push_down(std::slice::from_mut(hook), tags);
                continue;
            }
            Step::Run(_) | Step::SetPipeline(_) | Step::LoadVar(_) => continue,
        };
        if own.is_empty() {
            *own = tags.to_vec();
        }
    }
}

/// One entry of `across`.
fn across_var(reader: &mut Reader, node: &Node, path: &str) -> Option<AcrossVar> {
    let empty = crate::yaml::Map::default();
    let map = if node.is_null() { &empty } else { reader.map(node, path)? };
    let mut fields = Fields::folding(map, node.span, path);
    let var = AcrossVar {
        var: fields.optional(reader, "var", Reader::string).unwrap_or_default(),
        values: fields.optional(reader, "values", Reader::any).unwrap_or_default(),
        max_in_flight: fields.optional(reader, "max_in_flight", across_limit).unwrap_or(Some(1)),
    };
    fields.finish(reader);
    Some(var)
}

/// `max_in_flight` of an `across` var: a number above 0, or `all`, which is `Some(None)`.
fn across_limit(reader: &mut Reader, node: &Node, path: &str) -> Option<Option<u32>> {
    if let Yaml::String(text) = &node.value {
        if text != "all" {
            refuse(reader, "across", node, path, format!("invalid max_in_flight \"{text}\""));
        }
        return Some(None);
    }
    let limit = reader.int(node, path)?;
    if limit <= 0 {
        refuse(reader, "across", node, path, "must be greater than 0".into());
        return None;
    }
    Some(Some(u32::try_from(limit).unwrap_or(u32::MAX)))
}

/// `version` of a get: a word, or a map of texts.
fn version(reader: &mut Reader, node: &Node, path: &str) -> Option<VersionChoice> {
    match &node.value {
        Yaml::String(text) if text == "every" => Some(VersionChoice::Every),
        Yaml::String(text) => {
            if text != "latest" && !text.is_empty() {
                let message =
                    format!("version '{text}' means nothing, the newest is taken: use latest, every or a map");
                reader.warning("ignored-value", node.span, path, message);
            }
            Some(VersionChoice::Latest)
        }
        Yaml::Map(map) => {
            let mut version = BTreeMap::new();
            for entry in &map.entries {
                let text = reader.string(&entry.value, &format!("{path}.{}", entry.key));
                version.extend(text.map(|text| (entry.key.clone(), text)));
            }
            Some(VersionChoice::Pinned(Version(version)))
        }
        _ => {
            reader.mismatch(node, path, "latest, every or a map");
            None
        }
    }
}

/// `inputs` of a put: a word, or a list of names.
fn inputs(reader: &mut Reader, node: &Node, path: &str) -> Option<PutInputs> {
    match &node.value {
        Yaml::String(text) => Some(match text.as_str() {
            "detect" => PutInputs::Detect,
            "all" => PutInputs::All,
            other => PutInputs::None(other.to_owned()),
        }),
        Yaml::List(_) => {
            let names = reader.strings(node, path)?;
            Some(PutInputs::Named(names.iter().map(|name| name.trim().to_owned()).collect()))
        }
        _ => {
            reader.mismatch(node, path, "all, detect or a list");
            None
        }
    }
}
