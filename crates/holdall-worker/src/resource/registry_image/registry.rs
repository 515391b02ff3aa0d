//! The distribution API of one repository. What has a digest is verified before it is used.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::rc::Rc;

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use ureq::Body;
use ureq::http::{Method, Response, StatusCode, Uri};

use super::super::{Log, ResourceError};
use super::http::{Call, Content, Failure, Http, read};
use super::name::{Repository, digest_of, digest_text, is_digest, is_tag};
use super::source::{Access, Source};

/// The kinds of manifest that are understood, as media types.
pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(super) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// The specification's own limit.
pub(super) const MAX_MANIFEST: u64 = 4 << 20;
pub(super) const MAX_CONFIG: u64 = 8 << 20;
const MAX_TAGS_PAGE: u64 = 16 << 20;
const MAX_TAGS: usize = 500_000;
const TAGS_PER_PAGE: usize = 1000;

/// One repository of one registry.
pub(super) struct Registry {
    repository: Repository,
    access: Access,
    log: Log,
    http: RefCell<Rc<Http>>,
    /// `pull`, or `pull,push`.
    actions: &'static str,
}

/// A manifest or an index, as the registry has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Manifest {
    pub(super) media_type: String,
    pub(super) bytes: Vec<u8>,
    pub(super) digest: String,
}

/// What points to a blob or a manifest.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
    pub(super) platform: Option<Platform>,
}

/// What an image of an index runs on.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Platform {
    pub(super) os: String,
    pub(super) architecture: String,
}

/// What is in a manifest.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Document {
    /// One image.
    Image { config: Descriptor, layers: Vec<Descriptor> },
    /// Images for several platforms.
    Index(Vec<Descriptor>),
}

impl Document {
    /// Reads a manifest.
    ///
    /// # Errors
    /// A sentence: it is not JSON, of an old format, or points to something that is not a digest.
    pub(super) fn parse(media_type: &str, bytes: &[u8]) -> Result<Document, String> {
        #[derive(Deserialize, Default)]
        #[serde(rename_all = "camelCase", default)]
        struct Raw {
            schema_version: u64,
            config: Option<Descriptor>,
            layers: Vec<Descriptor>,
            manifests: Option<Vec<Descriptor>>,
        }
        let raw: Raw =
            serde_json::from_slice(bytes).map_err(|error| format!("the manifest cannot be read: {error}"))?;
        if raw.schema_version != 2 {
            return Err(format!(
                "the manifest has the old format {} ({media_type}): push the image again",
                raw.schema_version
            ));
        }
        let document = match (raw.manifests, raw.config) {
            (Some(manifests), None) => Document::Index(manifests),
            (None, Some(config)) => Document::Image { config, layers: raw.layers },
            _ => return Err("the manifest is neither of an image nor of an index".to_owned()),
        };
        let descriptors: Vec<&Descriptor> = match &document {
            Document::Index(manifests) => manifests.iter().collect(),
            Document::Image { config, layers } => layers.iter().chain([config]).collect(),
        };
        match descriptors.into_iter().find(|descriptor| !is_digest(&descriptor.digest)) {
            Some(wrong) => Err(format!("the manifest points to `{}`, which is not a digest", cut(&wrong.digest))),
            None => Ok(document),
        }
    }
}

/// The beginning of a text that somebody else made up.
fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

impl Registry {
    /// The source's repository for reading, with its mirror first if it has one.
    pub(super) fn candidates(source: &Source, log: &Log) -> Result<Vec<Registry>, ResourceError> {
        let mirror = source.mirror.iter().map(|(repository, access)| (repository, access));
        let all = mirror.chain([(&source.repository, &source.access)]);
        all.map(|(repository, access)| Registry::open(repository, access, "pull", log)).collect()
    }

    /// The source's repository for writing.
    pub(super) fn for_push(source: &Source, log: &Log) -> Result<Registry, ResourceError> {
        Registry::open(&source.repository, &source.access, "pull,push", log)
    }

    fn open(
        repository: &Repository,
        access: &Access,
        actions: &'static str,
        log: &Log,
    ) -> Result<Registry, ResourceError> {
        // Who names an authority wants to be sure also on this machine.
        let plain = repository.is_loopback() && access.ca_certs.is_empty();
        let scheme = if plain { "http" } else { "https" };
        let registry = Registry {
            repository: repository.clone(),
            access: access.clone(),
            log: log.clone(),
            http: RefCell::new(Rc::new(connect(repository, access, scheme, log)?)),
            actions,
        };
        Ok(registry)
    }

    /// `registry.example/team/api`.
    pub(super) fn shown(&self) -> String {
        shown(&self.repository)
    }

    fn error(&self, message: impl std::fmt::Display) -> ResourceError {
        ResourceError::failed(format!("{}: {message}", self.shown()))
    }

    /// Asks `path` below the repository, or an address that the registry gave.
    fn send(
        &self,
        method: Method,
        path: &str,
        accept: Option<&str>,
        body: Content,
    ) -> Result<Response<Body>, ResourceError> {
        let http = self.http.borrow().clone();
        let absolute = path.starts_with("http:") || path.starts_with("https:");
        let url = |origin: &str| if absolute { path.to_owned() } else { format!("{origin}{path}") };
        let mut call = Call {
            method,
            url: url(http.origin()),
            accept: accept.map(str::to_owned),
            body,
            scope: format!("repository:{}:{}", self.repository.path, self.actions),
        };
        match http.send(&call) {
            Ok(response) => Ok(response),
            Err(Failure::Other(error)) => Err(error),
            Err(Failure::Unreachable(_))
                if self.access.insecure && http.origin().starts_with("https:") && !absolute =>
            {
                let plain = Rc::new(connect(&self.repository, &self.access, "http", &self.log)?);
                call.url = url(plain.origin());
                match plain.send(&call) {
                    Ok(response) => {
                        self.http.replace(plain);
                        Ok(response)
                    }
                    Err(Failure::Other(error)) => Err(error),
                    Err(Failure::Unreachable(why)) => Err(self.unreachable(&why)),
                }
            }
            Err(Failure::Unreachable(why)) => Err(self.unreachable(&why)),
        }
    }

    fn unreachable(&self, why: &str) -> ResourceError {
        self.error(format_args!("the registry {} cannot be reached: {why}", self.repository.host))
    }

    fn refused(&self, mut response: Response<Body>) -> ResourceError {
        let http = self.http.borrow().clone();
        ResourceError::Failed(http.explain(&mut response))
    }

    fn path(&self, rest: &str) -> String {
        format!("/v2/{}/{rest}", self.repository.path)
    }

    fn manifest_types() -> String {
        [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST].join(", ")
    }

    /// The digest of a tag, or of a digest that is there. `None`: it is not.
    pub(super) fn digest(&self, reference: &str) -> Result<Option<String>, ResourceError> {
        let path = self.path(&format!("manifests/{reference}"));
        let response = self.send(Method::HEAD, &path, Some(&Self::manifest_types()), Content::Nothing)?;
        match response.status() {
            StatusCode::OK => match header_text(&response, "docker-content-digest") {
                Some(digest) if is_digest(&digest) => Ok(Some(digest)),
                Some(other) => Err(self.error(format_args!("the registry calls `{}` a digest", cut(&other)))),
                None => Ok(self.manifest(reference)?.map(|manifest| manifest.digest)),
            },
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::METHOD_NOT_ALLOWED => Ok(self.manifest(reference)?.map(|manifest| manifest.digest)),
            _ => Err(self.refused(response)),
        }
    }

    /// A manifest by tag or digest. `None`: it is not there.
    pub(super) fn manifest(&self, reference: &str) -> Result<Option<Manifest>, ResourceError> {
        let path = self.path(&format!("manifests/{reference}"));
        let mut response = self.send(Method::GET, &path, Some(&Self::manifest_types()), Content::Nothing)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(self.refused(response)),
        }
        let media_type = header_text(&response, "content-type").unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim().to_owned();
        let promised = header_text(&response, "docker-content-digest");
        let bytes = read(&mut response, MAX_MANIFEST)
            .map_err(|why| self.error(format_args!("the manifest of {reference}: {why}")))?;
        let digest = digest_of(&bytes);
        for claimed in promised.iter().map(String::as_str).chain(is_digest(reference).then_some(reference)) {
            if claimed != digest {
                return Err(self.error(format_args!(
                    "the manifest of {reference} does not have the digest {}: it is {digest}",
                    cut(claimed)
                )));
            }
        }
        Ok(Some(Manifest { media_type, bytes, digest }))
    }

    /// A small blob.
    pub(super) fn blob(&self, descriptor: &Descriptor, most: u64) -> Result<Vec<u8>, ResourceError> {
        let digest = &descriptor.digest;
        let mut response = self.open_blob(digest)?;
        let bytes = read(&mut response, most).map_err(|why| self.error(format_args!("the blob {digest}: {why}")))?;
        self.verify(digest, &digest_of(&bytes))?;
        Ok(bytes)
    }

    /// A large blob into a file, and no more of it than its descriptor says.
    pub(super) fn blob_to(&self, descriptor: &Descriptor, path: &Path) -> Result<(), ResourceError> {
        let digest = &descriptor.digest;
        let response = self.open_blob(digest)?;
        let reader = response.into_body().into_with_config().limit(u64::MAX).reader();
        let mut reader = reader.take(descriptor.size.saturating_add(1));
        let mut file = File::create(path).map_err(ResourceError::file("make", path))?;
        let mut hash = Sha256::new();
        let mut length = 0;
        let mut buffer = vec![0; 128 << 10];
        loop {
            let count = reader
                .read(&mut buffer)
                .map_err(|error| self.error(format_args!("the blob {digest} breaks off: {error}")))?;
            if count == 0 {
                break;
            }
            hash.update(&buffer[..count]);
            file.write_all(&buffer[..count]).map_err(ResourceError::file("write", path))?;
            length += count as u64;
        }
        if length != descriptor.size {
            return Err(self.error(format_args!(
                "the blob {digest} does not have the {} bytes that the manifest says",
                descriptor.size
            )));
        }
        self.verify(digest, &digest_text(hash.finalize().as_slice()))
    }

    fn open_blob(&self, digest: &str) -> Result<Response<Body>, ResourceError> {
        let response = self.send(Method::GET, &self.path(&format!("blobs/{digest}")), None, Content::Nothing)?;
        match response.status() {
            StatusCode::OK => Ok(response),
            StatusCode::NOT_FOUND => {
                Err(self.error(format_args!("the registry has the manifest, but not its blob {digest}")))
            }
            _ => Err(self.refused(response)),
        }
    }

    fn verify(&self, wanted: &str, found: &str) -> Result<(), ResourceError> {
        if wanted == found {
            Ok(())
        } else {
            Err(self.error(format_args!("the blob {wanted} is something else: {found}")))
        }
    }

    /// All tags, as the registry orders them. `None`: there is no such repository.
    pub(super) fn tags(&self) -> Result<Option<Vec<String>>, ResourceError> {
        #[derive(Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let mut tags = Vec::new();
        let mut path = self.path(&format!("tags/list?n={TAGS_PER_PAGE}"));
        // Also ends where a registry sends empty pages for ever.
        for _ in 0..MAX_TAGS / TAGS_PER_PAGE {
            let mut response = self.send(Method::GET, &path, None, Content::Nothing)?;
            match response.status() {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND => return Ok(None),
                _ => return Err(self.refused(response)),
            }
            let next = header_text(&response, "link").and_then(|link| next_page(&link));
            let body = read(&mut response, MAX_TAGS_PAGE)
                .map_err(|why| self.error(format_args!("the list of tags: {why}")))?;
            let page: Page = serde_json::from_slice(&body)
                .map_err(|error| self.error(format_args!("the list of tags cannot be read: {error}")))?;
            tags.extend(page.tags.unwrap_or_default().into_iter().filter(|tag| is_tag(tag)));
            if tags.len() > MAX_TAGS {
                break;
            }
            path = match next {
                None => return Ok(Some(tags)),
                Some(next) => self.own_path(&next)?,
            };
        }
        Err(self.error(format_args!("the list of tags does not end: more than {MAX_TAGS}")))
    }

    /// An address of the registry's own, relative or not, as the path of one: the token is not for others.
    fn own_path(&self, address: &str) -> Result<String, ResourceError> {
        if address.starts_with('/') && !address.starts_with("//") {
            return Ok(address.to_owned());
        }
        if address.starts_with('?') {
            return Ok(self.path(&format!("tags/list{address}")));
        }
        let uri = address.parse::<Uri>().ok();
        let own = uri
            .as_ref()
            .filter(|uri| uri.authority().is_some_and(|authority| *authority.as_str() == self.repository.host));
        match own.and_then(|uri| uri.path_and_query()) {
            Some(path) => Ok(path.as_str().to_owned()),
            None => {
                Err(self.error(format_args!("the registry wants the next page to be fetched from `{}`", cut(address))))
            }
        }
    }

    /// Whether the registry has a blob.
    pub(super) fn has_blob(&self, digest: &str) -> Result<bool, ResourceError> {
        let response = self.send(Method::HEAD, &self.path(&format!("blobs/{digest}")), None, Content::Nothing)?;
        match response.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.refused(response)),
        }
    }

    /// Uploads a blob in one piece.
    pub(super) fn upload(&self, digest: &str, content: Content) -> Result<(), ResourceError> {
        let response = self.send(Method::POST, &self.path("blobs/uploads/"), None, Content::Nothing)?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(self.refused(response));
        }
        let location = header_text(&response, "location").unwrap_or_default();
        let is_address =
            location.starts_with('/') || location.starts_with("http://") || location.starts_with("https://");
        if !is_address || location.starts_with("//") {
            return Err(self.error("the registry does not say where to upload to"));
        }
        let encrypted = self.http.borrow().origin().starts_with("https:");
        if encrypted && location.starts_with("http:") {
            return Err(self.error("the registry wants the image to be sent unencrypted"));
        }
        // Released before the connection is used again.
        drop(response);
        let separator = if location.contains('?') { '&' } else { '?' };
        let target = format!("{location}{separator}digest={digest}");
        let response = self.send(Method::PUT, &target, None, content)?;
        if response.status() == StatusCode::CREATED { Ok(()) } else { Err(self.refused(response)) }
    }

    /// Stores a manifest under a tag or its digest.
    pub(super) fn put_manifest(&self, reference: &str, manifest: &Manifest) -> Result<(), ResourceError> {
        let content = Content::Bytes { media_type: &manifest.media_type, bytes: &manifest.bytes };
        let response = self.send(Method::PUT, &self.path(&format!("manifests/{reference}")), None, content)?;
        if response.status() != StatusCode::CREATED {
            return Err(self.refused(response));
        }
        match header_text(&response, "docker-content-digest") {
            Some(digest) if digest != manifest.digest => {
                Err(self.error(format_args!("the registry has stored {} as {}", manifest.digest, cut(&digest))))
            }
            _ => Ok(()),
        }
    }
}

fn shown(repository: &Repository) -> String {
    format!("{}/{}", repository.host, repository.path)
}

fn connect(repository: &Repository, access: &Access, scheme: &str, log: &Log) -> Result<Http, ResourceError> {
    Http::new(format!("{scheme}://{}", repository.host), shown(repository), access, log.clone())
}

fn header_text(response: &Response<Body>, name: &str) -> Option<String> {
    Some(response.headers().get(name)?.to_str().ok()?.to_owned())
}

/// The address in `</v2/x/tags/list?last=b&n=2>; rel="next"`.
fn next_page(link: &str) -> Option<String> {
    let (address, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let next = parameters.split(';').any(|part| matches!(part.trim(), "rel=next" | "rel=\"next\""));
    next.then(|| address.to_owned())
}

/// The labels of an image, given its configuration.
pub(super) fn labels(config: &Value) -> serde_json::Map<String, Value> {
    let labels = config["config"]["Labels"].as_object().cloned().unwrap_or_default();
    labels.into_iter().filter(|(_, value)| value.is_string()).collect()
}

/// Whether a blob with this media type is the configuration of a container image: artifacts have others.
pub(super) fn is_image_config(media_type: &str) -> bool {
    matches!(media_type, "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages() {
        assert_eq!(
            next_page(r#"</v2/x/tags/list?n=2&last=b>; rel="next""#).as_deref(),
            Some("/v2/x/tags/list?n=2&last=b")
        );
        assert_eq!(next_page("<https://r.example/x>;rel=next").as_deref(), Some("https://r.example/x"));
        for link in ["", "</x>", "</x>; rel=\"prev\"", "</x; rel=next", "x>; rel=next"] {
            assert_eq!(next_page(link), None, "{link}");
        }
    }

    #[test]
    fn documents() {
        let digest = digest_of(b"x");
        let image = format!(r#"{{"schemaVersion":2,"config":{{"digest":"{digest}","size":1}},"layers":[]}}"#);
        assert!(matches!(Document::parse("", image.as_bytes()), Ok(Document::Image { .. })));
        let index =
            format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{digest}","platform":{{"os":"linux"}}}}]}}"#);
        assert!(
            matches!(Document::parse("", index.as_bytes()), Ok(Document::Index(manifests)) if manifests.len() == 1)
        );
        for (text, expected) in [
            ("", "cannot be read"),
            ("[]", "old format 0"),
            (r#"{"schemaVersion":"2"}"#, "cannot be read"),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#, "old format 1"),
            (r#"{"schemaVersion":2}"#, "neither of an image nor of an index"),
            (r#"{"schemaVersion":2,"config":{"digest":"sha256:../../etc"}}"#, "which is not a digest"),
            (r#"{"schemaVersion":2,"manifests":[{}]}"#, "which is not a digest"),
        ] {
            let error = Document::parse("", text.as_bytes()).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
