//! Reading a document strictly: every problem with its position, its key, and what is expected, in one run.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Document, DocumentBuild, DocumentBuildInput, DocumentBuildOutput, DocumentInput, DocumentResource, DocumentVersion,
    DocumentWanted, Problem,
};
use crate::ids::BuildId;
use crate::resolve::Wanted;
use crate::resolve::json::{self, Node, Value, excerpt};
use crate::status::BuildStatus;
use crate::version::Version;

/// How many problems are told; of more than that, how many there are. A bound for memory alone.
pub(super) const MOST_PROBLEMS: usize = 100_000;

pub(super) fn read(text: &[u8]) -> Result<Document, Vec<Problem>> {
    let root = json::parse(text).map_err(|problem| vec![problem])?;
    let mut reader = Reader { path: String::new(), problems: Vec::new(), dropped: 0 };
    match reader.document(Place::of(&root)) {
        Some(document) if reader.problems.is_empty() => Ok(document),
        _ => Err(reader.in_order(text)),
    }
}

/// Where a value stands, or should stand.
#[derive(Clone, Copy)]
struct Place<'n, 't> {
    offset: usize,
    /// `None`: its key is missing from the object at the offset.
    value: Option<&'n Value<'t>>,
}

impl<'n, 't> Place<'n, 't> {
    fn of(node: &'n Node<'t>) -> Place<'n, 't> {
        Place { offset: node.offset, value: Some(&node.value) }
    }
}

/// The fields of an object, taken and read one by one; what is left over is unknown.
struct Fields<'n, 't> {
    offset: usize,
    fields: Vec<(usize, &'n str, &'n Node<'t>)>,
    known: Vec<&'static str>,
}

impl<'n, 't> Fields<'n, 't> {
    fn take(&mut self, key: &'static str) -> Option<Place<'n, 't>> {
        self.known.push(key);
        let index = self.fields.iter().position(|(_, name, _)| *name == key)?;
        Some(Place::of(self.fields.remove(index).2))
    }

    /// Reads the value of a key that must be there.
    fn required<T>(
        &mut self,
        key: &'static str,
        reader: &mut Reader,
        read: impl FnOnce(&mut Reader, Place<'n, 't>) -> Option<T>,
    ) -> Option<T> {
        let place = self.take(key).unwrap_or(Place { offset: self.offset, value: None });
        reader.at_key(key, |reader| read(reader, place))
    }

    /// Reads the value of a key that has a default.
    fn optional<T>(
        &mut self,
        key: &'static str,
        reader: &mut Reader,
        default: T,
        read: impl FnOnce(&mut Reader, Place<'n, 't>) -> Option<T>,
    ) -> Option<T> {
        match self.take(key) {
            None => Some(default),
            Some(place) => reader.at_key(key, |reader| read(reader, place)),
        }
    }

    fn end(self, reader: &mut Reader) {
        for (offset, key, _) in self.fields {
            if self.known.contains(&key) {
                reader.at_key(key, |reader| reader.problem(offset, "the key is given twice".to_owned()));
            } else {
                let known = self.known.join(", ");
                reader.problem(offset, format!("unknown key {}, expected one of {known}", excerpt(key)));
            }
        }
    }
}

/// Names that others refer to; `None`: the list cannot be read, so that nothing can be said of a name.
type Names<'n> = Option<BTreeSet<&'n str>>;

/// What the list of resources says.
struct Resources<'n> {
    names: Names<'n>,
    never_checked: BTreeSet<&'n str>,
}

struct Reader {
    /// The keys and places on the way to what is read, as in `builds[3].inputs[0].version`.
    path: String,
    /// The byte and what is wrong there.
    problems: Vec<(usize, String)>,
    /// How many problems were found that are not in `problems`, all of them behind those.
    dropped: usize,
}

impl Reader {
    fn problem(&mut self, offset: usize, message: String) {
        let message = if self.path.is_empty() { message } else { format!("{}: {message}", self.path) };
        self.problems.push((offset, message));
        if self.problems.len() == 2 * MOST_PROBLEMS {
            self.keep_first();
        }
    }

    fn keep_first(&mut self) {
        self.problems.sort_by_key(|(offset, _)| *offset);
        self.dropped += self.problems.len().saturating_sub(MOST_PROBLEMS);
        self.problems.truncate(MOST_PROBLEMS);
    }

    fn in_order(mut self, text: &[u8]) -> Vec<Problem> {
        self.keep_first();
        if let Some((_, message)) = self.problems.last_mut().filter(|_| self.dropped > 0) {
            message.push_str(&format!(" (and {} more problems after it, which are not listed)", self.dropped));
        }
        Problem::all(text, self.problems)
    }

    fn expected(&mut self, place: Place<'_, '_>, wanted: &str) {
        let found = match place.value {
            None => "but the key is missing".to_owned(),
            Some(value) => format!("found {}", value.shown()),
        };
        self.problem(place.offset, format!("expected {wanted}, {found}"));
    }

    fn at_key<T>(&mut self, key: &str, read: impl FnOnce(&mut Reader) -> T) -> T {
        let dot = if self.path.is_empty() { "" } else { "." };
        self.within(&format!("{dot}{key}"), read)
    }

    fn within<T>(&mut self, part: &str, read: impl FnOnce(&mut Reader) -> T) -> T {
        let length = self.path.len();
        self.path.push_str(part);
        let result = read(self);
        self.path.truncate(length);
        result
    }

    fn fields<'n, 't>(&mut self, place: Place<'n, 't>, what: &str) -> Option<Fields<'n, 't>> {
        let Some(Value::Object(fields)) = place.value else {
            self.expected(place, what);
            return None;
        };
        let fields = fields.iter().map(|(offset, key, node)| (*offset, key.as_ref(), node)).collect();
        Some(Fields { offset: place.offset, fields, known: Vec::new() })
    }

    /// The items of a list that can be read; `None` where it is no list.
    fn list<'n, 't, T>(
        &mut self,
        place: Place<'n, 't>,
        what: &str,
        mut read: impl FnMut(&mut Reader, Place<'n, 't>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Some(Value::Array(items)) = place.value else {
            self.expected(place, what);
            return None;
        };
        let items = items.iter().enumerate();
        let items = items
            .filter_map(|(index, node)| self.within(&format!("[{index}]"), |reader| read(reader, Place::of(node))));
        Some(items.collect())
    }

    fn text<'n>(&mut self, place: Place<'n, '_>) -> Option<&'n str> {
        match place.value {
            Some(Value::Text(text)) => Some(text),
            _ => {
                self.expected(place, "text");
                None
            }
        }
    }

    fn flag(&mut self, place: Place<'_, '_>) -> Option<bool> {
        match place.value {
            Some(Value::Bool(value)) => Some(*value),
            _ => {
                self.expected(place, "true or false");
                None
            }
        }
    }

    fn order(&mut self, place: Place<'_, '_>) -> Option<i64> {
        let order = integer(place.value);
        if order.is_none() {
            self.expected(place, "a whole number of at most 64 bits");
        }
        order
    }

    fn build_id(&mut self, place: Place<'_, '_>) -> Option<BuildId> {
        // The greatest number is used as a bound that no build reaches.
        let id = integer(place.value).filter(|id| (1..i64::MAX).contains(id));
        if id.is_none() {
            self.expected(place, "the id of a build, a whole number from 1 to 9223372036854775806");
        }
        id.map(BuildId)
    }

    /// The id of a build of this document.
    fn listed_build(&mut self, place: Place<'_, '_>, listed: &BTreeSet<i64>) -> Option<BuildId> {
        let id = self.build_id(place)?;
        if !listed.contains(&id.0) {
            self.problem(place.offset, format!("expected the id of a build in \"builds\", there is none with id {id}"));
        }
        Some(id)
    }

    fn version(&mut self, place: Place<'_, '_>) -> Option<Version> {
        self.version_or(place, "a version, an object of text values")
    }

    fn version_or(&mut self, place: Place<'_, '_>, what: &str) -> Option<Version> {
        let Some(Value::Object(fields)) = place.value else {
            self.expected(place, what);
            return None;
        };
        let mut version = BTreeMap::new();
        let mut is_complete = true;
        for (offset, key, node) in fields {
            self.within(&format!("[{}]", excerpt(key)), |reader| match reader.text(Place::of(node)) {
                None => is_complete = false,
                Some(text) => {
                    if version.insert(key.to_string(), text.to_owned()).is_some() {
                        reader.problem(*offset, "the key is given twice".to_owned());
                    }
                }
            });
        }
        is_complete.then_some(Version(version))
    }

    /// A name that must be new in its list.
    fn new_name<'n>(&mut self, place: Place<'n, '_>, seen: &mut BTreeSet<&'n str>) -> Option<&'n str> {
        let name = self.text(place)?;
        if !seen.insert(name) {
            self.problem(place.offset, format!("expected each name once, {} is in the list already", excerpt(name)));
        }
        Some(name)
    }

    /// A name that must be in a list.
    fn known_name<'n>(&mut self, place: Place<'n, '_>, listed: &Names<'_>, list: &str) -> Option<&'n str> {
        let name = self.text(place)?;
        if listed.as_ref().is_some_and(|listed| !listed.contains(name)) {
            self.problem(place.offset, format!("expected a name from \"{list}\", {} is not there", excerpt(name)));
        }
        Some(name)
    }

    fn document(&mut self, place: Place<'_, '_>) -> Option<Document> {
        let mut fields = self.fields(place, "a resolution history, an object")?;
        let job = fields.required("job", self, |_, place| Some(place));
        let mut job_names = BTreeSet::new();
        let jobs = fields.required("jobs", self, |reader, place| {
            reader.list(place, "a list of names of jobs", |reader, place| reader.new_name(place, &mut job_names))
        });
        let job_names = jobs.is_some().then_some(job_names);
        let job = job.and_then(|place| self.at_key("job", |reader| reader.known_name(place, &job_names, "jobs")));
        let (mut names, mut never_checked) = (BTreeSet::new(), BTreeSet::new());
        let resources = fields.required("resources", self, |reader, place| {
            reader.list(place, "a list of resources", |reader, place| {
                reader.resource(place, &mut names, &mut never_checked)
            })
        });
        let known = Resources { names: resources.is_some().then_some(names), never_checked };
        let mut input_names = BTreeSet::new();
        let inputs = fields.required("inputs", self, |reader, place| {
            reader.list(place, "a list of inputs of the job", |reader, place| {
                reader.input(place, &mut input_names, &job_names, &known.names)
            })
        });
        let mut seen = BTreeSet::new();
        let versions = fields.required("versions", self, |reader, place| {
            reader.list(place, "a list of versions of resources", |reader, place| {
                reader.resource_version(place, &known, &mut seen)
            })
        });
        let builds = fields.required("builds", self, |reader, place| {
            let (listed, mut seen) = (build_ids(place), BTreeSet::new());
            reader.list(place, "a list of builds", |reader, place| reader.build(place, &listed, &mut seen))
        });
        fields.end(self);
        Some(Document {
            job: job?.to_owned(),
            jobs: jobs?.into_iter().map(str::to_owned).collect(),
            resources: resources?,
            inputs: inputs?,
            versions: versions?,
            builds: builds?,
        })
    }

    fn resource<'n>(
        &mut self,
        place: Place<'n, '_>,
        names: &mut BTreeSet<&'n str>,
        never_checked: &mut BTreeSet<&'n str>,
    ) -> Option<DocumentResource> {
        let mut fields = self.fields(place, "a resource, an object")?;
        let name = fields.required("name", self, |reader, place| reader.new_name(place, names));
        let checked = fields.optional("checked", self, true, Reader::flag);
        fields.end(self);
        if checked == Some(false) {
            never_checked.extend(name);
        }
        Some(DocumentResource { name: name?.to_owned(), checked: checked? })
    }

    fn input<'n>(
        &mut self,
        place: Place<'n, '_>,
        names: &mut BTreeSet<&'n str>,
        jobs: &Names<'_>,
        resources: &Names<'_>,
    ) -> Option<DocumentInput> {
        let mut fields = self.fields(place, "an input of the job, an object")?;
        let name = fields.required("name", self, |reader, place| reader.new_name(place, names));
        let resource =
            fields.required("resource", self, |reader, place| reader.known_name(place, resources, "resources"));
        let passed = fields.optional("passed", self, Vec::new(), |reader, place| {
            reader.list(place, "a list of names of jobs", |reader, place| reader.known_name(place, jobs, "jobs"))
        });
        let wanted = fields.optional("version", self, Wanted::default(), Reader::wanted);
        let every = fields.optional("every", self, false, |reader, place| {
            if wanted.as_ref().is_some_and(|wanted| wanted.pin.is_none()) {
                let message = "expected a pinned version where \"every\" stands beside \"version\"";
                reader.problem(place.offset, message.to_owned());
            }
            reader.flag(place)
        });
        let trigger = fields.optional("trigger", self, false, Reader::flag);
        fields.end(self);
        Some(DocumentInput {
            name: name?.to_owned(),
            resource: resource?.to_owned(),
            passed: passed?.into_iter().map(str::to_owned).collect(),
            wanted: DocumentWanted(
                wanted.zip(every).map(|(wanted, every)| Wanted { every: wanted.every || every, ..wanted })?,
            ),
            trigger: trigger?,
        })
    }

    fn wanted(&mut self, place: Place<'_, '_>) -> Option<Wanted> {
        match place.value {
            Some(Value::Text(text)) if text == "latest" => Some(Wanted::default()),
            Some(Value::Text(text)) if text == "every" => Some(Wanted { every: true, pin: None }),
            _ => self
                .version_or(place, "\"latest\", \"every\" or the pinned version, an object of text values")
                .map(|pin| Wanted { every: false, pin: Some(pin) }),
        }
    }

    fn resource_version<'n>(
        &mut self,
        place: Place<'n, '_>,
        resources: &Resources<'_>,
        seen: &mut BTreeSet<(&'n str, Version)>,
    ) -> Option<DocumentVersion> {
        let mut fields = self.fields(place, "a version of a resource, an object")?;
        let resource = fields.required("resource", self, |reader, place| {
            let name = reader.known_name(place, &resources.names, "resources")?;
            if resources.never_checked.contains(name) {
                let name = excerpt(name);
                let message = format!("expected a resource that was checked, {name} has \"checked\": false");
                reader.problem(place.offset, message);
            }
            Some(name)
        });
        let version = fields.required("version", self, Reader::version);
        let order = fields.required("order", self, |reader, place| match place.value {
            Some(Value::Null) => Some((place.offset, None)),
            _ => Some((place.offset, Some(reader.order(place)?))),
        });
        let enabled = fields.optional("enabled", self, true, Reader::flag);
        fields.end(self);
        if let (Some((offset, None)), Some(true)) = (order, enabled) {
            let message = "expected \"enabled\": false beside \"order\": null, which says of a version that it is gone";
            self.problem(offset, message.to_owned());
        }
        let (resource, version) = (resource?, version?);
        if !seen.insert((resource, version.clone())) {
            let message =
                format!("expected each version once, this one of {} is in the list already", excerpt(resource));
            self.problem(place.offset, message);
        }
        Some(DocumentVersion { resource: resource.to_owned(), version, order: order?.1, enabled: enabled? })
    }

    fn build(
        &mut self,
        place: Place<'_, '_>,
        listed: &BTreeSet<i64>,
        seen: &mut BTreeSet<BuildId>,
    ) -> Option<DocumentBuild> {
        let mut fields = self.fields(place, "a build, an object")?;
        let id = fields.required("id", self, |reader, place| {
            let id = reader.build_id(place)?;
            if !seen.insert(id) {
                reader.problem(place.offset, format!("expected each id once, {id} is in the list already"));
            }
            Some(id)
        });
        let job = fields.required("job", self, Reader::text);
        let status = fields.required("status", self, Reader::status);
        let rerun_of = fields.optional("rerun_of", self, None, |reader, place| match place.value {
            Some(Value::Null) => Some(None),
            _ => reader.listed_build(place, listed).map(Some),
        });
        let inputs = fields.optional("inputs", self, Vec::new(), |reader, place| {
            reader.list(place, "a list of inputs of the build", Reader::build_input)
        });
        let outputs = fields.optional("outputs", self, Vec::new(), |reader, place| {
            reader.list(place, "a list of outputs of the build", Reader::build_output)
        });
        let passed_builds = fields.optional("passed_builds", self, Vec::new(), |reader, place| {
            reader.list(place, "a list of ids of builds", |reader, place| reader.listed_build(place, listed))
        });
        fields.end(self);
        Some(DocumentBuild {
            id: id?,
            job: job?.to_owned(),
            status: status?,
            rerun_of: rerun_of?,
            inputs: inputs?,
            outputs: outputs?,
            passed_builds: passed_builds?,
        })
    }

    fn status(&mut self, place: Place<'_, '_>) -> Option<BuildStatus> {
        let status = match place.value {
            Some(Value::Text(name)) => BuildStatus::from_name(name),
            _ => None,
        };
        if status.is_none() {
            self.expected(
                place,
                "one of \"pending\", \"started\", \"succeeded\", \"failed\", \"errored\", \"aborted\"",
            );
        }
        status
    }

    fn build_input(&mut self, place: Place<'_, '_>) -> Option<DocumentBuildInput> {
        let mut fields = self.fields(place, "an input of a build, an object")?;
        let name = fields.required("name", self, Reader::text);
        let resource = fields.required("resource", self, Reader::text);
        let version = fields.required("version", self, Reader::version);
        fields.end(self);
        Some(DocumentBuildInput { name: name?.to_owned(), resource: resource?.to_owned(), version: version? })
    }

    fn build_output(&mut self, place: Place<'_, '_>) -> Option<DocumentBuildOutput> {
        let mut fields = self.fields(place, "an output of a build, an object")?;
        let resource = fields.required("resource", self, Reader::text);
        let version = fields.required("version", self, Reader::version);
        fields.end(self);
        Some(DocumentBuildOutput { resource: resource?.to_owned(), version: version? })
    }
}

fn integer(value: Option<&Value<'_>>) -> Option<i64> {
    match value {
        Some(Value::Number(text)) => text.parse().ok(),
        _ => None,
    }
}

/// The ids of the builds of a list, as far as they can be read.
fn build_ids(place: Place<'_, '_>) -> BTreeSet<i64> {
    let Some(Value::Array(builds)) = place.value else { return BTreeSet::new() };
    let id = |build: &Node<'_>| match &build.value {
        Value::Object(fields) => {
            let (_, _, id) = fields.iter().find(|(_, key, _)| key == "id")?;
            integer(Some(&id.value))
        }
        _ => None,
    };
    builds.iter().filter_map(id).collect()
}
