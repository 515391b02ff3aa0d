//! Reading a document strictly: every problem with its position, in one run.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Document, DocumentBuild, DocumentBuildInput, DocumentBuildOutput, DocumentInput, DocumentResource, DocumentVersion,
    DocumentWanted, Problem,
};
use crate::ids::BuildId;
use crate::resolve::Wanted;
use crate::resolve::json::{self, Node, Value};
use crate::status::BuildStatus;
use crate::version::Version;

/// More problems than this are not told: who sees so many has the wrong file.
const MOST_PROBLEMS: usize = 100;

pub(super) fn read(text: &[u8]) -> Result<Document, Vec<Problem>> {
    let root = json::parse(text).map_err(|problem| vec![problem])?;
    let mut reader = Reader { problems: Vec::new() };
    let document = reader.document(&root);
    match document {
        Some(document) if reader.problems.is_empty() => Ok(document),
        _ => Err(reader.in_order(text)),
    }
}

struct Reader {
    /// The byte and what is wrong there.
    problems: Vec<(usize, String)>,
}

/// The fields of an object, taken one by one; what is left over is unknown.
struct Fields<'n, 't> {
    offset: usize,
    what: &'static str,
    fields: Vec<(usize, &'n str, &'n Node<'t>)>,
    known: Vec<&'static str>,
}

impl<'n, 't> Fields<'n, 't> {
    fn optional(&mut self, key: &'static str) -> Option<&'n Node<'t>> {
        self.known.push(key);
        let index = self.fields.iter().position(|(_, name, _)| *name == key)?;
        Some(self.fields.remove(index).2)
    }

    fn required(&mut self, key: &'static str, reader: &mut Reader) -> Option<&'n Node<'t>> {
        let node = self.optional(key);
        if node.is_none() {
            reader.problem(self.offset, format!("{} needs the key \"{key}\"", self.what));
        }
        node
    }

    fn end(self, reader: &mut Reader) {
        for (offset, key, _) in self.fields {
            let message = if self.known.contains(&key) {
                format!("the key \"{key}\" is given twice")
            } else {
                format!("unknown key {key:?}: {} has {}", self.what, self.known.join(", "))
            };
            reader.problem(offset, message);
        }
    }
}

impl Reader {
    fn problem(&mut self, offset: usize, message: String) {
        self.problems.push((offset, message));
    }

    fn in_order(mut self, text: &[u8]) -> Vec<Problem> {
        self.problems.sort();
        let more = self.problems.len().saturating_sub(MOST_PROBLEMS);
        self.problems.truncate(MOST_PROBLEMS);
        let mut problems: Vec<Problem> =
            self.problems.into_iter().map(|(offset, message)| Problem::at(text, offset, message)).collect();
        if let Some(last) = problems.last_mut().filter(|_| more > 0) {
            last.message.push_str(&format!(" (and {more} more problems)"));
        }
        problems
    }

    fn expected(&mut self, node: &Node<'_>, wanted: &str) {
        self.problem(node.offset, format!("expected {wanted}, found {}", node.value.kind()));
    }

    fn fields<'n, 't>(&mut self, node: &'n Node<'t>, what: &'static str) -> Option<Fields<'n, 't>> {
        let Value::Object(fields) = &node.value else {
            self.expected(node, &format!("an object: {what}"));
            return None;
        };
        let fields = fields.iter().map(|(offset, key, node)| (*offset, key.as_ref(), node)).collect();
        Some(Fields { offset: node.offset, what, fields, known: Vec::new() })
    }

    fn list<'n, 't>(&mut self, node: &'n Node<'t>) -> &'n [Node<'t>] {
        match &node.value {
            Value::Array(items) => items,
            _ => {
                self.expected(node, "a list");
                &[]
            }
        }
    }

    fn text<'n>(&mut self, node: &'n Node<'_>) -> Option<&'n str> {
        match &node.value {
            Value::Text(text) => Some(text),
            _ => {
                self.expected(node, "text");
                None
            }
        }
    }

    fn flag(&mut self, node: Option<&Node<'_>>, default: bool) -> bool {
        match node {
            None => default,
            Some(Node { value: Value::Bool(value), .. }) => *value,
            Some(node) => {
                self.expected(node, "true or false");
                default
            }
        }
    }

    fn integer(&mut self, node: &Node<'_>) -> Option<i64> {
        let Value::Number(text) = &node.value else {
            self.expected(node, "a whole number");
            return None;
        };
        let number = text.parse().ok();
        if number.is_none() {
            self.problem(node.offset, format!("{text} is not a whole number of at most 64 bits"));
        }
        number
    }

    fn build_id(&mut self, node: &Node<'_>) -> Option<BuildId> {
        let id = self.integer(node)?;
        // The greatest number is used as a bound that no build reaches.
        if !(1..i64::MAX).contains(&id) {
            self.problem(node.offset, format!("{id} cannot be the id of a build"));
            return None;
        }
        Some(BuildId(id))
    }

    fn build_ids(&mut self, node: Option<&Node<'_>>) -> Vec<BuildId> {
        let Some(node) = node else { return Vec::new() };
        self.list(node).iter().filter_map(|item| self.build_id(item)).collect()
    }

    fn version(&mut self, node: &Node<'_>) -> Option<Version> {
        let Value::Object(fields) = &node.value else {
            self.expected(node, "a version: an object of text values");
            return None;
        };
        let mut version = BTreeMap::new();
        let mut is_complete = true;
        for (offset, key, node) in fields {
            match self.text(node) {
                None => is_complete = false,
                Some(text) => {
                    if version.insert(key.to_string(), text.to_owned()).is_some() {
                        self.problem(*offset, format!("the key {key:?} is given twice"));
                    }
                }
            }
        }
        is_complete.then_some(Version(version))
    }

    /// A name that must be new in its list.
    fn new_name<'n>(&mut self, node: &'n Node<'_>, what: &str, seen: &mut BTreeSet<&'n str>) -> Option<&'n str> {
        let name = self.text(node)?;
        if !seen.insert(name) {
            self.problem(node.offset, format!("the {what} {name:?} is given twice"));
        }
        Some(name)
    }

    /// A name that must be in `listed`.
    fn known_name<'n>(&mut self, node: &'n Node<'_>, listed: &BTreeSet<&str>, list: &str) -> Option<&'n str> {
        let name = self.text(node)?;
        if !listed.contains(name) {
            self.problem(node.offset, format!("{name:?} is not in \"{list}\""));
        }
        Some(name)
    }

    fn document(&mut self, node: &Node<'_>) -> Option<Document> {
        let mut fields = self.fields(node, "a resolution history")?;
        let job = fields.required("job", self);
        let jobs = fields.required("jobs", self);
        let resources = fields.required("resources", self);
        let inputs = fields.required("inputs", self);
        let versions = fields.required("versions", self);
        let builds = fields.required("builds", self);
        fields.end(self);

        let mut job_names = BTreeSet::new();
        let mut job_list = Vec::new();
        for item in jobs.map_or(&[][..], |node| self.list(node)) {
            job_list.extend(self.new_name(item, "job", &mut job_names).map(str::to_owned));
        }
        let mut resource_names = BTreeSet::new();
        let mut resource_list = Vec::new();
        for item in resources.map_or(&[][..], |node| self.list(node)) {
            resource_list.extend(self.resource(item, &mut resource_names));
        }
        // Without the lists, every name would be a problem of its own.
        let (no_jobs, no_resources) = (jobs.is_none(), resources.is_none());
        if no_jobs || no_resources {
            return None;
        }
        let job = job.and_then(|node| self.known_name(node, &job_names, "jobs"));
        let mut input_names = BTreeSet::new();
        let mut input_list = Vec::new();
        for item in inputs.map_or(&[][..], |node| self.list(node)) {
            input_list.extend(self.input(item, &mut input_names, &job_names, &resource_names));
        }
        let unchecked: BTreeSet<&str> = resource_list
            .iter()
            .filter(|resource: &&DocumentResource| !resource.checked)
            .map(|resource| resource.name.as_str())
            .collect();
        let mut seen = BTreeSet::new();
        let mut version_list = Vec::new();
        for item in versions.map_or(&[][..], |node| self.list(node)) {
            let Some(version) = self.resource_version(item, &resource_names, &unchecked) else { continue };
            if !seen.insert((version.resource.clone(), version.version.clone())) {
                self.problem(item.offset, format!("the version {} is given twice", version.version));
            }
            version_list.push(version);
        }
        let mut build_list = Vec::new();
        let mut ids = BTreeSet::new();
        for item in builds.map_or(&[][..], |node| self.list(node)) {
            let Some(build) = self.build(item) else { continue };
            if !ids.insert(build.id) {
                self.problem(item.offset, format!("the build {} is given twice", build.id));
            }
            build_list.push(build);
        }
        Some(Document {
            job: job?.to_owned(),
            jobs: job_list,
            resources: resource_list,
            inputs: input_list,
            versions: version_list,
            builds: build_list,
        })
    }

    fn resource<'n>(&mut self, node: &'n Node<'_>, names: &mut BTreeSet<&'n str>) -> Option<DocumentResource> {
        let mut fields = self.fields(node, "a resource")?;
        let name = fields.required("name", self);
        let checked = fields.optional("checked");
        fields.end(self);
        let name = self.new_name(name?, "resource", names);
        let checked = self.flag(checked, true);
        Some(DocumentResource { name: name?.to_owned(), checked })
    }

    fn input<'n>(
        &mut self,
        node: &'n Node<'_>,
        names: &mut BTreeSet<&'n str>,
        jobs: &BTreeSet<&str>,
        resources: &BTreeSet<&str>,
    ) -> Option<DocumentInput> {
        let mut fields = self.fields(node, "an input")?;
        let name = fields.required("name", self);
        let resource = fields.required("resource", self);
        let passed_jobs = fields.optional("passed");
        let version = fields.optional("version");
        let every = fields.optional("every");
        let trigger = fields.optional("trigger");
        fields.end(self);

        let name = name.and_then(|node| self.new_name(node, "input", names));
        let resource = resource.and_then(|node| self.known_name(node, resources, "resources"));
        let mut passed = Vec::new();
        for item in passed_jobs.map_or(&[][..], |node| self.list(node)) {
            passed.extend(self.known_name(item, jobs, "jobs").map(str::to_owned));
        }
        let wanted = match version {
            None => Some(Wanted::default()),
            Some(node) => self.wanted(node, every),
        };
        if let Some(every) = every.filter(|_| version.is_none_or(|node| !matches!(node.value, Value::Object(_)))) {
            self.problem(every.offset, "\"every\" stands beside a pinned version only".to_owned());
        }
        let trigger = self.flag(trigger, false);
        Some(DocumentInput {
            name: name?.to_owned(),
            resource: resource?.to_owned(),
            passed,
            wanted: DocumentWanted(wanted?),
            trigger,
        })
    }

    fn wanted(&mut self, node: &Node<'_>, every: Option<&Node<'_>>) -> Option<Wanted> {
        match &node.value {
            Value::Text(text) if text == "latest" => Some(Wanted { every: false, pin: None }),
            Value::Text(text) if text == "every" => Some(Wanted { every: true, pin: None }),
            Value::Object(_) => {
                let pin = self.version(node);
                Some(Wanted { every: self.flag(every, false), pin: Some(pin?) })
            }
            Value::Text(text) => {
                self.problem(
                    node.offset,
                    format!("expected \"latest\", \"every\" or the pinned version, found {text:?}"),
                );
                None
            }
            _ => {
                self.expected(node, "\"latest\", \"every\" or the pinned version");
                None
            }
        }
    }

    fn resource_version(
        &mut self,
        node: &Node<'_>,
        resources: &BTreeSet<&str>,
        unchecked: &BTreeSet<&str>,
    ) -> Option<DocumentVersion> {
        let mut fields = self.fields(node, "a version of a resource")?;
        let resource = fields.required("resource", self);
        let version = fields.required("version", self);
        let order = fields.required("order", self);
        let enabled = fields.optional("enabled");
        fields.end(self);

        let name = resource.and_then(|node| self.known_name(node, resources, "resources"));
        if let (Some(node), Some(name)) = (resource, name)
            && unchecked.contains(name)
        {
            self.problem(node.offset, format!("{name:?} was never checked, so it has no versions"));
        }
        let version = version.and_then(|node| self.version(node));
        let enabled = self.flag(enabled, true);
        let order = match order {
            Some(Node { value: Value::Null, offset }) => {
                if enabled {
                    self.problem(
                        *offset,
                        "a version without order is gone, and must have \"enabled\": false".to_owned(),
                    );
                }
                Some(None)
            }
            Some(node) => self.integer(node).map(Some),
            None => None,
        };
        Some(DocumentVersion { resource: name?.to_owned(), version: version?, order: order?, enabled })
    }

    fn build(&mut self, node: &Node<'_>) -> Option<DocumentBuild> {
        let mut fields = self.fields(node, "a build")?;
        let id = fields.required("id", self);
        let job = fields.required("job", self);
        let status = fields.required("status", self);
        let rerun_of = fields.optional("rerun_of");
        let inputs = fields.optional("inputs");
        let outputs = fields.optional("outputs");
        let passed_builds = fields.optional("passed_builds");
        fields.end(self);

        let id = id.and_then(|node| self.build_id(node));
        let job = job.and_then(|node| self.text(node));
        let status = status.and_then(|node| self.status(node));
        let rerun_of = match rerun_of {
            None | Some(Node { value: Value::Null, .. }) => Some(None),
            Some(node) => self.build_id(node).map(Some),
        };
        let inputs = inputs.map_or(&[][..], |node| self.list(node));
        let inputs: Vec<_> = inputs.iter().filter_map(|item| self.build_input(item)).collect();
        let outputs = outputs.map_or(&[][..], |node| self.list(node));
        let outputs: Vec<_> = outputs.iter().filter_map(|item| self.build_output(item)).collect();
        let passed_builds = self.build_ids(passed_builds);
        Some(DocumentBuild {
            id: id?,
            job: job?.to_owned(),
            status: status?,
            rerun_of: rerun_of?,
            inputs,
            outputs,
            passed_builds,
        })
    }

    fn status(&mut self, node: &Node<'_>) -> Option<BuildStatus> {
        let name = self.text(node)?;
        let status = BuildStatus::from_name(name);
        if status.is_none() {
            self.problem(
                node.offset,
                format!("{name:?} is not one of pending, started, succeeded, failed, errored, aborted"),
            );
        }
        status
    }

    fn build_input(&mut self, node: &Node<'_>) -> Option<DocumentBuildInput> {
        let mut fields = self.fields(node, "an input of a build")?;
        let name = fields.required("name", self);
        let resource = fields.required("resource", self);
        let version = fields.required("version", self);
        fields.end(self);
        let name = name.and_then(|node| self.text(node));
        let resource = resource.and_then(|node| self.text(node));
        let version = version.and_then(|node| self.version(node));
        Some(DocumentBuildInput { name: name?.to_owned(), resource: resource?.to_owned(), version: version? })
    }

    fn build_output(&mut self, node: &Node<'_>) -> Option<DocumentBuildOutput> {
        let mut fields = self.fields(node, "an output of a build")?;
        let resource = fields.required("resource", self);
        let version = fields.required("version", self);
        fields.end(self);
        let resource = resource.and_then(|node| self.text(node));
        let version = version.and_then(|node| self.version(node));
        Some(DocumentBuildOutput { resource: resource?.to_owned(), version: version? })
    }
}
