//! The deployment bag: an immutable, numbered snapshot of one version of every service (release model, section 3).
//!
//! A bag is made by [`Bag::seal`], which computes its digests, and never changes after that. Everything that a
//! deploy reads is derived from it here: [`Bag::bag_json`] and its neighbours are the files of the artifact `bag`.

mod json;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::pipeline::Object;
use crate::time::Timestamp;
use crate::version::{Version, hex};

pub use json::canonical_json;

/// The version of the form of `bag.json` that is written now.
pub const BAG_SCHEMA_VERSION: u32 = 1;

/// A deployment bag. Its serde form is `bag.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bag {
    /// [`BAG_SCHEMA_VERSION`] when it was packed.
    pub schema_version: u32,
    /// The system.
    pub system: String,
    /// Its number, per system.
    pub number: i64,
    /// When it was packed.
    #[serde(with = "json::timestamp")]
    pub packed_at: Timestamp,
    /// The build or the person that packed it, in words: `preview/deploy-notify/pack-bag #12`, `ann`.
    pub packed_by: String,
    /// The environment that it was packed in.
    pub packed_in: String,
    /// The services by name.
    pub services: BTreeMap<String, BagService>,
    /// The services that were pinned when it was packed, and at what.
    pub pins: BTreeMap<String, Version>,
    /// The versions that were unticked when it was packed, per service.
    pub unticks: BTreeMap<String, Vec<Version>>,
    /// The bag before it, packed in the same environment.
    pub previous: Option<i64>,
    /// Equal for bags with the same contents; see [`Bag::seal`].
    pub contents_digest: String,
    /// What proofs are about; see [`Bag::seal`].
    pub digest: String,
}

/// One service of a bag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BagService {
    /// The resource type.
    pub resource_type: String,
    /// The version as the resource gave it.
    pub version: Version,
    /// What identifies the bits.
    pub bits: Bits,
    /// Whether `bits` says exactly which bits; `false`: only the resource knows what it gives for the version.
    pub exact: bool,
    /// Where the service's code is, for change lists.
    pub repository: Option<String>,
    /// What the resource says about the version, for people: name and value, in its order.
    #[serde(with = "json::metadata")]
    pub metadata: Vec<(String, String)>,
}

/// What identifies the bits of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bits {
    /// A git commit.
    Commit(String),
    /// An image.
    Image {
        /// Where it is: `registry.example/notify/api`.
        repository: String,
        /// What it is: `sha256:...`.
        digest: String,
        /// The tag that it was found by.
        tag: Option<String>,
    },
    /// The version itself: nothing better is known.
    Version,
}

/// Why a text is not a bag.
#[derive(Debug, Error)]
pub enum BagError {
    /// It is not JSON of the right form.
    #[error("not a bag.json: {0}")]
    Malformed(#[from] serde_json::Error),
    /// It was written by a newer Holdall.
    #[error("bag.json of schema version {0}, which this Holdall does not know")]
    UnknownSchema(u32),
    /// Its digests are not those of its contents.
    #[error("the digests of bag {0} are not those of its contents: it was changed")]
    Changed(i64),
}

impl Bits {
    /// What identifies the bits of a version, by the resource's type (release model, section 3): `git` has the commit
    /// in `commit`, or else in `ref`; `registry-image` has `digest`, and the source's `repository`. A version that
    /// has none, or one with spaces or control characters in it, is no better than any other type's.
    pub fn of(resource_type: &str, source: &Object, version: &Version) -> Bits {
        let field = |name: &str| version.0.get(name).filter(|value| is_word(value)).cloned();
        match resource_type {
            "git" => field("commit").or_else(|| field("ref")).map_or(Bits::Version, Bits::Commit),
            "registry-image" => {
                let repository = source.get("repository").and_then(Value::as_str).filter(|name| is_word(name));
                match (repository, field("digest")) {
                    (Some(repository), Some(digest)) => {
                        Bits::Image { repository: repository.to_owned(), digest, tag: field("tag") }
                    }
                    _ => Bits::Version,
                }
            }
            _ => Bits::Version,
        }
    }
}

/// Whether a text can stand in a line of a file: one word, printable.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

impl BagService {
    /// A service at a version; `source` is its resource's, with vars resolved.
    pub fn new(
        resource_type: &str,
        source: &Object,
        version: Version,
        repository: Option<String>,
        metadata: Vec<(String, String)>,
    ) -> BagService {
        let bits = Bits::of(resource_type, source, &version);
        let exact = bits != Bits::Version;
        BagService { resource_type: resource_type.to_owned(), version, bits, exact, repository, metadata }
    }
}

impl Bag {
    /// Computes both digests, and so finishes the bag.
    ///
    /// `contents_digest` is the SHA-256 of the canonical JSON (RFC 8785) of an object that has, for each service by
    /// name, `{"bits", "repository", "resource_type", "version"}` in the form that they have in `bag.json`. It does
    /// not depend on metadata, numbers or times: equal means "same contents". `digest` is the SHA-256 of the canonical
    /// JSON of the whole `bag.json` without `digest` itself. Both are written `sha256:` and hexadecimal digits.
    pub fn seal(mut self) -> Bag {
        self.contents_digest = self.computed_contents_digest();
        self.digest = self.computed_digest();
        self
    }

    fn computed_contents_digest(&self) -> String {
        let services: Object = self
            .services
            .iter()
            .map(|(name, service)| {
                let facts = json!({
                    "bits": service.bits,
                    "repository": service.repository,
                    "resource_type": service.resource_type,
                    "version": service.version,
                });
                (name.clone(), facts)
            })
            .collect();
        sha256(&canonical_json(&Value::Object(services)))
    }

    fn computed_digest(&self) -> String {
        let mut value = self.value();
        if let Value::Object(fields) = &mut value {
            fields.remove("digest");
        }
        sha256(&canonical_json(&value))
    }

    fn value(&self) -> Value {
        serde_json::to_value(self).expect("a bag is always JSON")
    }

    /// `bag.json`: the canonical JSON (RFC 8785) of the bag.
    pub fn bag_json(&self) -> String {
        canonical_json(&self.value())
    }

    /// Reads a `bag.json`, whatever its order of keys and its spaces.
    ///
    /// # Errors
    ///
    /// [`BagError`], also when the digests are not those of what it holds.
    pub fn from_json(text: &str) -> Result<Bag, BagError> {
        #[derive(Deserialize)]
        struct Head {
            schema_version: u32,
        }
        let head: Head = serde_json::from_str(text)?;
        if head.schema_version != BAG_SCHEMA_VERSION {
            return Err(BagError::UnknownSchema(head.schema_version));
        }
        let bag: Bag = serde_json::from_str(text)?;
        if bag.contents_digest != bag.computed_contents_digest() || bag.digest != bag.computed_digest() {
            return Err(BagError::Changed(bag.number));
        }
        Ok(bag)
    }

    /// The files of the artifact `bag`, by path.
    pub fn files(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("bag.json".to_owned(), self.bag_json()),
            ("images.env".to_owned(), self.images_env()),
            ("bag.auto.tfvars.json".to_owned(), self.tfvars_json()),
            ("digests.txt".to_owned(), self.digests_txt()),
        ])
    }

    /// `images.env`: a line `NAME=repository@digest` for each image, in the order of the services' names. Where two
    /// services have one [`env_name`], the second overrides the first for a shell that reads the file.
    pub fn images_env(&self) -> String {
        let images = self.services.iter().filter_map(|(name, service)| Some((name, image(service)?)));
        images.map(|(name, image)| format!("{}={image}\n", env_name(name))).collect()
    }

    /// `bag.auto.tfvars.json`, which Terraform reads by itself: `bag` (its number), `bag_digest`, `images` and
    /// `commits` (service to `repository@digest` and to commit) and `versions` (service to the resource's version).
    pub fn tfvars_json(&self) -> String {
        let images: Object =
            self.services.iter().filter_map(|(name, service)| Some((name.clone(), image(service)?.into()))).collect();
        let commits: Object = self
            .services
            .iter()
            .filter_map(|(name, service)| match &service.bits {
                Bits::Commit(commit) => Some((name.clone(), commit.clone().into())),
                Bits::Image { .. } | Bits::Version => None,
            })
            .collect();
        let versions: BTreeMap<&String, &Version> =
            self.services.iter().map(|(name, service)| (name, &service.version)).collect();
        canonical_json(&json!({
            "bag": self.number,
            "bag_digest": self.digest,
            "images": images,
            "commits": commits,
            "versions": versions,
        }))
    }

    /// `digests.txt`: a line for each service, its name, a space, and what identifies its bits: `repository@digest`,
    /// the commit, or the version's canonical JSON.
    pub fn digests_txt(&self) -> String {
        self.services
            .iter()
            .map(|(name, service)| {
                let bits = match &service.bits {
                    Bits::Commit(commit) => commit.clone(),
                    Bits::Image { repository, digest, .. } => format!("{repository}@{digest}"),
                    Bits::Version => service.version.canonical(),
                };
                format!("{name} {bits}\n")
            })
            .collect()
    }
}

/// `repository@digest` of an image.
fn image(service: &BagService) -> Option<String> {
    match &service.bits {
        Bits::Image { repository, digest, .. } => Some(format!("{repository}@{digest}")),
        Bits::Commit(_) | Bits::Version => None,
    }
}

/// A service's name as the name of an environment variable: upper case, `_` for all but ASCII letters and digits, and
/// before a leading digit.
pub fn env_name(service: &str) -> String {
    let mut name: String =
        service.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}

fn sha256(text: &str) -> String {
    format!("sha256:{}", hex(&Sha256::digest(text)))
}

#[cfg(test)]
mod tests;
