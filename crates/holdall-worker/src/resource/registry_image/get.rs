//! `in`: what is known about exactly one image, and with `format: oci` the image itself as a file.

use std::fs;
use std::path::Path;
use std::str::FromStr;

use holdall_protocol::worker::ResourceResult;
use serde_json::{Map, Value, json};

use super::super::fields::Fields;
use super::super::{Context, Request, ResourceError, result};
use super::archive;
use super::name::is_digest;
use super::registry::{Descriptor, Document, MAX_CONFIG, Manifest, Registry, is_image_config, labels};
use super::source::Source;

/// What of an image is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// Its metadata.
    Metadata,
    /// Also `image.tar`, an OCI layout.
    Oci,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Format, String> {
        match text {
            "oci" => Ok(Format::Oci),
            "rootfs" => Err("a root file system is of use only to containers, which this worker does not have yet: \
                             leave `format` out to get the digest and metadata, or write `oci` for a file"
                .to_owned()),
            other => {
                Err(format!("`{other}` is not a format: write `oci`, or leave it out to get the digest and metadata"))
            }
        }
    }
}

/// Writes `repository`, `tag`, `digest`, `manifest.json` (what the digest is of), `config.json`, `labels.json` and
/// `metadata.json` (environment, user and command of the image).
pub(in super::super) fn get(request: &Request, dir: &Path, ctx: &Context) -> Result<ResourceResult, ResourceError> {
    let mut params = request.params.clone();
    let source = Source::parse(request, &mut params)?;
    let mut fields = Fields::new("params", params);
    let mut format = fields.parsed::<Format>("format").unwrap_or(Format::Metadata);
    if fields.flag("skip_download") {
        format = Format::Metadata;
    }
    fields.finish()?;
    let version = request.required_version()?;
    let digest = version.get("digest").filter(|digest| is_digest(digest)).ok_or_else(|| {
        ResourceError::Invalid(vec!["the version to fetch needs `digest`, which is `sha256:` and 64 digits".to_owned()])
    })?;

    let (registry, manifest) = find(&source, digest, ctx)?;
    let image = Image::read(&registry, &source, manifest)?;
    let tag = version.get("tag").cloned().unwrap_or_default();
    let labels = image.config.as_ref().map(labels).unwrap_or_default();
    let config = image.config.clone().unwrap_or_else(|| json!({}));
    for (name, content) in [
        ("repository", source.written.clone().into_bytes()),
        ("tag", tag.clone().into_bytes()),
        ("digest", digest.clone().into_bytes()),
        ("manifest.json", image.top.bytes.clone()),
        ("config.json", config.to_string().into_bytes()),
        ("labels.json", Value::Object(labels.clone()).to_string().into_bytes()),
        ("metadata.json", runtime_metadata(&config).to_string().into_bytes()),
    ] {
        let path = dir.join(name);
        fs::write(&path, content).map_err(ResourceError::file("write", &path))?;
    }
    match format {
        Format::Metadata => {
            ctx.log.line(format_args!("{}@{digest}: digest and metadata, not the layers", source.written))
        }
        Format::Oci => {
            let (manifest, document) = image.of_platform.as_ref().ok_or_else(|| no_platform(&source))?;
            archive::write(&registry, manifest, document, &tag, &dir.join("image.tar"), ctx)?;
        }
    }
    let mut metadata = vec![("repository", source.written.clone()), ("tag", tag), ("digest", digest.clone())];
    metadata.extend(known_labels(&labels));
    metadata.extend(config["created"].as_str().map(|created| ("created", created.to_owned())));
    Ok(result(version.clone(), metadata))
}

/// The manifest with this digest, from the mirror or the registry itself.
fn find(source: &Source, digest: &str, ctx: &Context) -> Result<(Registry, Manifest), ResourceError> {
    let mut missing = String::new();
    let mut candidates = Registry::candidates(source, &ctx.log)?.into_iter().peekable();
    while let Some(registry) = candidates.next() {
        match registry.manifest(digest) {
            Ok(Some(manifest)) => return Ok((registry, manifest)),
            Ok(None) => missing = registry.shown(),
            Err(error) if candidates.peek().is_some() => ctx.log.line(error),
            Err(error) => return Err(error),
        }
    }
    Err(ResourceError::failed(format!(
        "{missing}@{digest} is not in the registry any more: it was probably removed, by hand or by a policy"
    )))
}

/// One image with its configuration.
struct Image {
    /// What the version's digest is of.
    top: Manifest,
    /// The one for the platform, if there is one: `top` itself, or one of an index.
    of_platform: Option<(Manifest, Document)>,
    config: Option<Value>,
}

impl Image {
    fn read(registry: &Registry, source: &Source, top: Manifest) -> Result<Image, ResourceError> {
        let invalid = |message: String| ResourceError::failed(format!("{}: {message}", registry.shown()));
        let of_platform = match Document::parse(&top.media_type, &top.bytes).map_err(invalid)? {
            image @ Document::Image { .. } => Some((top.clone(), image)),
            Document::Index(manifests) => match pick(&manifests, &source.platform) {
                None => None,
                Some(descriptor) => {
                    let manifest = registry.manifest(&descriptor.digest)?.ok_or_else(|| {
                        invalid(format!("the registry has the index, but not its manifest {}", descriptor.digest))
                    })?;
                    match Document::parse(&manifest.media_type, &manifest.bytes).map_err(invalid)? {
                        image @ Document::Image { .. } => Some((manifest, image)),
                        Document::Index(_) => return Err(invalid("an index in an index".to_owned())),
                    }
                }
            },
        };
        let config = match &of_platform {
            Some((_, Document::Image { config, .. })) if is_image_config(&config.media_type) => {
                let bytes = registry.blob(config, MAX_CONFIG)?;
                let value: Value = serde_json::from_slice(&bytes)
                    .map_err(|error| invalid(format!("the configuration of the image cannot be read: {error}")))?;
                Some(value)
            }
            _ => None,
        };
        Ok(Image { top, of_platform, config })
    }
}

/// The one for the platform; an index of one image is that image.
fn pick<'a>(manifests: &'a [Descriptor], (os, architecture): &(String, String)) -> Option<&'a Descriptor> {
    let fits = |descriptor: &&Descriptor| {
        descriptor.platform.as_ref().is_some_and(|p| p.os == *os && p.architecture == *architecture)
    };
    let only = if let [only] = manifests { Some(only) } else { None };
    manifests.iter().find(fits).or(only)
}

fn no_platform(source: &Source) -> ResourceError {
    let (os, architecture) = &source.platform;
    ResourceError::failed(format!(
        "{} has no image for {os}/{architecture}: set `platform` in the source",
        source.written
    ))
}

/// What Concourse's runtime wants to know of an image.
fn runtime_metadata(config: &Value) -> Value {
    let config = &config["config"];
    let mut metadata = Map::from_iter([
        ("env".to_owned(), config["Env"].as_array().map_or(json!([]), |env| json!(env))),
        ("user".to_owned(), json!(config["User"].as_str().unwrap_or_default())),
    ]);
    for (name, key) in [("entrypoint", "Entrypoint"), ("cmd", "Cmd"), ("workdir", "WorkingDir")] {
        if !config[key].is_null() {
            metadata.insert(name.to_owned(), config[key].clone());
        }
    }
    Value::Object(metadata)
}

/// Where the image was built from, for change lists.
fn known_labels(labels: &Map<String, Value>) -> impl Iterator<Item = (&'static str, String)> {
    const KNOWN: [(&str, &str); 3] = [
        ("source", "org.opencontainers.image.source"),
        ("revision", "org.opencontainers.image.revision"),
        ("version", "org.opencontainers.image.version"),
    ];
    KNOWN.into_iter().filter_map(|(name, label)| Some((name, labels.get(label)?.as_str()?.to_owned())))
}
