//! A pipeline and its past, as plain data: what fixtures describe, enumerations count through and the oracle reads.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;

use holdall_engine::ids::{BuildId, JobId, ResourceId};
use holdall_engine::resolve::document::{
    Document, DocumentBuild, DocumentBuildInput, DocumentBuildOutput, DocumentInput, DocumentResource, DocumentVersion,
    DocumentWanted,
};
use holdall_engine::resolve::{
    History, Input as EngineInput, MemoryHistory, PastBuild, PastInput, PastVersion, Resolution, Wanted, resolve_inputs,
};
use holdall_engine::status::BuildStatus;
use holdall_engine::version::{Version, VersionDigest};

/// Jobs, resources and builds are named by their place; ids are the place plus one.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    pub jobs: Vec<String>,
    pub resources: Vec<Resource>,
    /// The job whose inputs are resolved.
    pub job: usize,
    pub inputs: Vec<Input>,
    pub builds: Vec<Build>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    pub name: String,
    pub checked: bool,
    /// Their names; a version is its name split at dots, one key a part.
    pub versions: Vec<ResourceVersion>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ResourceVersion {
    pub name: String,
    /// `None`: its row is gone.
    pub order: Option<i64>,
    pub enabled: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    pub name: String,
    pub resource: usize,
    pub passed: Vec<usize>,
    pub every: bool,
    /// The first parts of a version's name.
    pub pin: Option<String>,
    pub trigger: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Build {
    pub job: usize,
    pub status: BuildStatus,
    /// The place of the original.
    pub rerun_of: Option<usize>,
    /// Input name, resource, version name.
    pub got: Vec<(String, usize, String)>,
    /// Resource, version name.
    pub put: Vec<(usize, String)>,
    /// Places of upstream builds.
    pub from: Vec<usize>,
}

/// What became of an input, said as the oracle says it.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    /// A version, the places of the builds that vouched for it, and whether it is new to the job.
    Version { name: String, builds: Vec<usize>, first: bool },
    /// The sentence of the reference.
    Error(String),
}

/// What became of all inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub fates: Vec<Fate>,
    pub has_next: bool,
}

/// A version of that name.
pub fn version(name: &str) -> Version {
    Version(name.split('.').enumerate().map(|(place, part)| (format!("k{place}"), part.to_owned())).collect())
}

/// The digest of a version of that name. Worlds have few names, and ask for their digests over and over.
pub fn digest(name: &str) -> VersionDigest {
    thread_local! {
        static KNOWN: RefCell<BTreeMap<String, VersionDigest>> = const { RefCell::new(BTreeMap::new()) };
    }
    KNOWN.with_borrow_mut(|known| match known.get(name) {
        Some(digest) => digest.clone(),
        None => known.entry(name.to_owned()).or_insert_with(|| version(name).digest()).clone(),
    })
}

/// The name of a version.
pub fn version_name(version: &Version) -> String {
    version.0.values().cloned().collect::<Vec<_>>().join(".")
}

impl World {
    pub fn document(&self) -> Document {
        let resource = |place: usize| self.resources[place].name.clone();
        let id = |place: usize| BuildId(place as i64 + 1);
        Document {
            job: self.jobs[self.job].clone(),
            jobs: self.jobs.clone(),
            resources: self
                .resources
                .iter()
                .map(|resource| DocumentResource { name: resource.name.clone(), checked: resource.checked })
                .collect(),
            inputs: self
                .inputs
                .iter()
                .map(|input| DocumentInput {
                    name: input.name.clone(),
                    resource: resource(input.resource),
                    passed: input.passed.iter().map(|job| self.jobs[*job].clone()).collect(),
                    wanted: DocumentWanted(Wanted { every: input.every, pin: input.pin.as_deref().map(version) }),
                    trigger: input.trigger,
                })
                .collect(),
            versions: self
                .resources
                .iter()
                .filter(|resource| resource.checked)
                .flat_map(|resource| resource.versions.iter().map(move |version| (resource, version)))
                .filter(|(_, version)| version.order.is_some() || !version.enabled)
                .map(|(resource, known)| DocumentVersion {
                    resource: resource.name.clone(),
                    version: version(&known.name),
                    order: known.order,
                    enabled: known.enabled,
                })
                .collect(),
            builds: self
                .builds
                .iter()
                .enumerate()
                .map(|(place, build)| DocumentBuild {
                    id: id(place),
                    job: self.jobs[build.job].clone(),
                    status: build.status,
                    rerun_of: build.rerun_of.map(id),
                    inputs: build
                        .got
                        .iter()
                        .map(|(name, of, got)| DocumentBuildInput {
                            name: name.clone(),
                            resource: resource(*of),
                            version: version(got),
                        })
                        .collect(),
                    outputs: build
                        .put
                        .iter()
                        .map(|(of, put)| DocumentBuildOutput { resource: resource(*of), version: version(put) })
                        .collect(),
                    passed_builds: build.from.iter().copied().map(id).collect(),
                })
                .collect(),
        }
    }

    /// What the engine makes of it.
    pub fn resolve(&self) -> Resolution {
        self.resolve_in(&mut self.history())
    }

    /// What the engine makes of its inputs in a history, which may be that of a world with other inputs.
    pub fn resolve_in<H: History<Error = Infallible>>(&self, history: &mut H) -> Resolution {
        let id = |place: usize| place as i64 + 1;
        let inputs: Vec<EngineInput> = self
            .inputs
            .iter()
            .map(|input| EngineInput {
                name: input.name.clone(),
                resource: ResourceId(id(input.resource)),
                passed: input.passed.iter().map(|job| JobId(id(*job))).collect(),
                wanted: Wanted { every: input.every, pin: input.pin.as_deref().map(version) },
                trigger: input.trigger,
            })
            .collect();
        let Ok(resolution) = resolve_inputs(&inputs, JobId(id(self.job)), history);
        resolution
    }

    /// Its past.
    pub fn history(&self) -> MemoryHistory {
        let id = |place: usize| place as i64 + 1;
        let known = self.resources.iter().enumerate().filter(|(_, resource)| resource.checked);
        let versions = known.flat_map(|(place, resource)| {
            let told = resource.versions.iter().filter(|known| known.order.is_some() || !known.enabled);
            told.map(move |known| PastVersion {
                resource: ResourceId(id(place)),
                version: version(&known.name),
                order: known.order,
                enabled: known.enabled,
            })
        });
        let builds = self.builds.iter().enumerate().map(|(place, build)| PastBuild {
            id: BuildId(id(place)),
            job: JobId(id(build.job)),
            status: build.status,
            rerun_of: build.rerun_of.map(|original| BuildId(id(original))),
            inputs: build
                .got
                .iter()
                .map(|(name, resource, got)| PastInput {
                    name: name.clone(),
                    resource: ResourceId(id(*resource)),
                    digest: digest(got),
                })
                .collect(),
            outputs: build.put.iter().map(|(resource, put)| (ResourceId(id(*resource)), digest(put))).collect(),
            passed_builds: build.from.iter().map(|from| BuildId(id(*from))).collect(),
        });
        MemoryHistory::new(versions, builds)
    }

    /// What the engine makes of it as a document.
    pub fn resolve_document(&self) -> Resolution {
        let mut prepared = self.document().prepare();
        let Ok(resolution) = resolve_inputs(&prepared.inputs, prepared.job, &mut prepared.history);
        resolution
    }
}

/// The names of builds as fixtures have them: `JOB#N`, and `JOB#N.K` for a rerun.
pub fn build_names(world: &World) -> Vec<String> {
    let mut originals: BTreeMap<usize, usize> = BTreeMap::new();
    let mut reruns: BTreeMap<usize, usize> = BTreeMap::new();
    let mut names: Vec<String> = Vec::new();
    for build in &world.builds {
        let name = match build.rerun_of {
            Some(original) => {
                let number = reruns.entry(original).or_default();
                *number += 1;
                format!("{}.{number}", names[original])
            }
            None => {
                let number = originals.entry(build.job).or_default();
                *number += 1;
                format!("{}#{number}", world.jobs[build.job])
            }
        };
        names.push(name);
    }
    names
}

/// A resolution as the oracle would say it.
pub fn outcome(resolution: &Resolution) -> Outcome {
    let fates: Vec<Fate> = resolution
        .inputs
        .iter()
        .map(|input| match &input.result {
            Ok(resolved) => {
                let name = version_name(&resolved.version);
                assert_eq!(digest(&name), resolved.digest);
                Fate::Version {
                    name,
                    builds: resolved.passed_builds.iter().map(|build| build.0 as usize - 1).collect(),
                    first: resolved.first_occurrence,
                }
            }
            Err(unresolved) => Fate::Error(unresolved.failure.to_string()),
        })
        .collect();
    let resolved = fates.iter().all(|fate| matches!(fate, Fate::Version { .. }));
    assert_eq!(resolution.resolved, resolved, "`resolved` says whether every input is");
    Outcome { fates, has_next: resolution.has_next }
}
