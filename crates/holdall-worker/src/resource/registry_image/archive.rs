//! Images as files: OCI layouts in a tar archive, read and written, and what `docker save` writes, read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::super::{Context, ResourceError};
use super::http::Content;
use super::name::{digest_of, digest_text};
use super::registry::{
    DOCKER_MANIFEST, Descriptor, Document, MAX_CONFIG, MAX_MANIFEST, Manifest, OCI_INDEX, OCI_MANIFEST, Registry,
};

/// More files than this are not an image.
const MAX_ENTRIES: usize = 100_000;
/// How deep an index may hold indexes.
const MAX_DEPTH: usize = 4;

/// What is to be pushed.
#[derive(Debug)]
pub(super) struct Image {
    /// Configurations and layers, each once.
    pub(super) blobs: BTreeMap<String, Part>,
    /// Manifests that others point to, before those.
    pub(super) children: Vec<Manifest>,
    /// What gets the tags.
    pub(super) top: Manifest,
    /// Keeps layers that had to be compressed.
    _temporary: Option<TempDir>,
}

/// Some bytes of a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    path: PathBuf,
    offset: u64,
    size: u64,
}

impl Part {
    /// To send.
    pub(super) fn content(&self) -> Content<'static> {
        Content::Part { path: self.path.clone(), offset: self.offset, size: self.size }
    }

    fn open(&self) -> Result<impl Read, ResourceError> {
        let mut file = File::open(&self.path).map_err(ResourceError::file("read", &self.path))?;
        file.seek(SeekFrom::Start(self.offset)).map_err(ResourceError::file("read", &self.path))?;
        Ok(BufReader::new(file.take(self.size)))
    }
}

/// The files of a tar archive, by name.
struct Archive {
    path: PathBuf,
    files: BTreeMap<String, Part>,
}

impl Archive {
    fn open(path: &Path) -> Result<Archive, ResourceError> {
        let invalid =
            |why: std::io::Error| ResourceError::failed(format!("{} is not a tar archive: {why}", path.display()));
        let file = File::open(path).map_err(ResourceError::file("read", path))?;
        let length = file.metadata().map_err(ResourceError::file("read", path))?.len();
        let mut archive = tar::Archive::new(file);
        let mut files = BTreeMap::new();
        let mut links = Vec::new();
        for (number, entry) in archive.entries_with_seek().map_err(invalid)?.enumerate() {
            let entry = entry.map_err(invalid)?;
            let name = normal(&entry.path().map_err(invalid)?.to_string_lossy());
            let kind = entry.header().entry_type();
            if kind.is_file() {
                let part = Part { path: path.to_owned(), offset: entry.raw_file_position(), size: entry.size() };
                if part.offset.saturating_add(part.size) > length {
                    return Err(ResourceError::failed(format!("{} breaks off in {name}", path.display())));
                }
                files.insert(name, part);
            } else if (kind.is_symlink() || kind.is_hard_link())
                && let Ok(Some(target)) = entry.link_name()
            {
                // `docker save` writes a layer that it has already as a link to it.
                let target = target.to_string_lossy();
                let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
                let from = if kind.is_symlink() { format!("{parent}/{target}") } else { target.into_owned() };
                links.push((name, normal(&from)));
            }
            if number > MAX_ENTRIES {
                return Err(ResourceError::failed(format!("{} has more than {MAX_ENTRIES} files", path.display())));
            }
        }
        for (name, target) in links {
            if let Some(part) = files.get(&target).cloned() {
                files.insert(name, part);
            }
        }
        Ok(Archive { path: path.to_owned(), files })
    }

    fn error(&self, message: impl std::fmt::Display) -> ResourceError {
        ResourceError::failed(format!("{}: {message}", self.path.display()))
    }

    fn part(&self, name: &str) -> Result<&Part, ResourceError> {
        self.files.get(&normal(name)).ok_or_else(|| self.error(format_args!("the image has no file {name}")))
    }

    fn read(&self, name: &str, most: u64) -> Result<Vec<u8>, ResourceError> {
        let part = self.part(name)?;
        if part.size > most {
            return Err(self.error(format_args!("{name} is longer than {most} bytes")));
        }
        let mut bytes = Vec::new();
        part.open()?.read_to_end(&mut bytes).map_err(ResourceError::file("read", &self.path))?;
        Ok(bytes)
    }

    fn blob_name(digest: &str) -> String {
        format!("blobs/{}", digest.replacen(':', "/", 1))
    }
}

/// A name without `.` and `..`.
fn normal(name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Reads the image in a tar archive.
///
/// # Errors
/// When there is not exactly one, or something of it is missing.
pub(super) fn read(path: &Path, ctx: &Context) -> Result<Image, ResourceError> {
    let archive = Archive::open(path)?;
    if archive.files.contains_key("index.json") {
        return read_layout(&archive);
    }
    if archive.files.contains_key("manifest.json") {
        return read_saved(&archive, ctx);
    }
    Err(archive.error("there is neither `index.json` (an OCI layout) nor `manifest.json` (`docker save`) in it"))
}

#[derive(Deserialize)]
struct LayoutIndex {
    manifests: Vec<Descriptor>,
}

fn read_layout(archive: &Archive) -> Result<Image, ResourceError> {
    let index: LayoutIndex = serde_json::from_slice(&archive.read("index.json", MAX_MANIFEST)?)
        .map_err(|error| archive.error(format_args!("index.json cannot be read: {error}")))?;
    let [top] = &index.manifests[..] else {
        return Err(
            archive.error(format_args!("index.json has {} images, and one can be pushed", index.manifests.len()))
        );
    };
    let mut blobs = BTreeMap::new();
    let mut manifests = Vec::new();
    collect(archive, top, 0, &mut blobs, &mut manifests)?;
    let top = manifests.pop().ok_or_else(|| archive.error("there is no image"))?;
    Ok(Image { blobs, children: manifests, top, _temporary: None })
}

/// Puts a manifest behind everything that it points to.
fn collect(
    archive: &Archive,
    descriptor: &Descriptor,
    depth: usize,
    blobs: &mut BTreeMap<String, Part>,
    manifests: &mut Vec<Manifest>,
) -> Result<(), ResourceError> {
    if depth > MAX_DEPTH {
        return Err(archive.error("indexes in indexes in indexes"));
    }
    let bytes = archive.read(&Archive::blob_name(&descriptor.digest), MAX_MANIFEST)?;
    let digest = digest_of(&bytes);
    if digest != descriptor.digest {
        return Err(archive.error(format_args!("the manifest {} is something else: {digest}", descriptor.digest)));
    }
    if manifests.iter().any(|known| known.digest == digest) {
        return Ok(());
    }
    let document = Document::parse(&descriptor.media_type, &bytes).map_err(|message| archive.error(message))?;
    let fallback = match &document {
        Document::Index(children) => {
            for child in children {
                collect(archive, child, depth + 1, blobs, manifests)?;
            }
            OCI_INDEX
        }
        Document::Image { config, layers } => {
            for blob in layers.iter().chain([config]) {
                blobs.insert(blob.digest.clone(), archive.part(&Archive::blob_name(&blob.digest))?.clone());
            }
            OCI_MANIFEST
        }
    };
    let media_type = if descriptor.media_type.is_empty() { fallback } else { &descriptor.media_type };
    manifests.push(Manifest { media_type: media_type.to_owned(), bytes, digest });
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    layers: Vec<String>,
}

/// Reads what `docker save` writes: layers are not compressed there, and in a registry they are.
fn read_saved(archive: &Archive, ctx: &Context) -> Result<Image, ResourceError> {
    #[derive(Deserialize)]
    struct Config {
        rootfs: RootFs,
    }
    #[derive(Deserialize)]
    struct RootFs {
        diff_ids: Vec<String>,
    }
    let saved: Vec<Saved> = serde_json::from_slice(&archive.read("manifest.json", MAX_MANIFEST)?)
        .map_err(|error| archive.error(format_args!("manifest.json cannot be read: {error}")))?;
    let [saved] = &saved[..] else {
        return Err(archive.error(format_args!("manifest.json has {} images, and one can be pushed", saved.len())));
    };
    let config_bytes = archive.read(&saved.config, MAX_CONFIG)?;
    let config: Config = serde_json::from_slice(&config_bytes)
        .map_err(|error| archive.error(format_args!("{} cannot be read: {error}", saved.config)))?;
    if config.rootfs.diff_ids.len() != saved.layers.len() {
        return Err(archive.error("the configuration has another number of layers than manifest.json"));
    }
    let temporary = ctx.temp_dir()?;
    let mut blobs = BTreeMap::new();
    let mut layers = Vec::new();
    for (number, (layer, diff_id)) in saved.layers.iter().zip(&config.rootfs.diff_ids).enumerate() {
        let target = temporary.path().join(format!("layer-{number}"));
        let (part, digest, found) = compress(archive.part(layer)?, &target)?;
        if found != *diff_id {
            return Err(archive.error(format_args!("{layer} is not what the configuration says: it is {found}")));
        }
        layers.push(json!({
            "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": part.size, "digest": digest,
        }));
        blobs.insert(digest, part);
    }
    let config_digest = digest_of(&config_bytes);
    let bytes = json!({
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "size": config_bytes.len(),
            "digest": config_digest,
        },
        "layers": layers,
    });
    blobs.insert(config_digest, archive.part(&saved.config)?.clone());
    let bytes = bytes.to_string().into_bytes();
    let top = Manifest { media_type: DOCKER_MANIFEST.to_owned(), digest: digest_of(&bytes), bytes };
    Ok(Image { blobs, children: Vec::new(), top, _temporary: Some(temporary) })
}

/// Compresses a layer, the same way each time, and gives the digests of both forms.
fn compress(part: &Part, target: &Path) -> Result<(Part, String, String), ResourceError> {
    let write = || ResourceError::file("write", target);
    let file = File::create(target).map_err(write())?;
    let mut encoder = GzEncoder::new(Hashing { inner: file, hash: Sha256::new(), size: 0 }, Compression::default());
    let mut plain = Sha256::new();
    let mut reader = part.open()?;
    let mut buffer = vec![0; 128 << 10];
    loop {
        let count = reader.read(&mut buffer).map_err(ResourceError::file("read", &part.path))?;
        if count == 0 {
            break;
        }
        plain.update(&buffer[..count]);
        encoder.write_all(&buffer[..count]).map_err(write())?;
    }
    let written = encoder.finish().map_err(write())?;
    let compressed = Part { path: target.to_owned(), offset: 0, size: written.size };
    Ok((compressed, digest_text(written.hash.finalize().as_slice()), digest_text(plain.finalize().as_slice())))
}

/// Counts and hashes what goes through it.
struct Hashing {
    inner: File,
    hash: Sha256,
    size: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// Fetches an image and writes it as an OCI layout. Layers go through files one after the other: an image has no
/// largest size.
pub(super) fn write(
    registry: &Registry,
    manifest: &Manifest,
    document: &Document,
    tag: &str,
    target: &Path,
    ctx: &Context,
) -> Result<(), ResourceError> {
    let Document::Image { config, layers } = document else {
        return Err(ResourceError::failed("an index is not an image"));
    };
    let failed = || ResourceError::file("write", target);
    let mut builder = tar::Builder::new(File::create(target).map_err(failed())?);
    let mut add = |name: &str, size: u64, reader: &mut dyn Read| {
        let mut header = tar::Header::new_ustar();
        header.set_size(size);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, reader).map_err(failed())
    };
    add("oci-layout", 30, &mut &br#"{"imageLayoutVersion":"1.0.0"}"#[..])?;
    let media_type = if manifest.media_type.is_empty() { OCI_MANIFEST } else { &manifest.media_type };
    let mut descriptor = json!({"mediaType": media_type, "size": manifest.bytes.len(), "digest": manifest.digest});
    if !tag.is_empty() {
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
    }
    let index = json!({"schemaVersion": 2, "manifests": [descriptor]}).to_string();
    add("index.json", index.len() as u64, &mut index.as_bytes())?;
    add(&Archive::blob_name(&manifest.digest), manifest.bytes.len() as u64, &mut &manifest.bytes[..])?;
    let temporary = ctx.temp_dir()?;
    let mut done: Vec<&str> = Vec::new();
    for blob in layers.iter().chain([config]) {
        if done.contains(&blob.digest.as_str()) {
            continue;
        }
        done.push(&blob.digest);
        ctx.log.line(format_args!("fetching {} ({} bytes)", blob.digest, blob.size));
        let file = temporary.path().join("blob");
        registry.blob_to(blob, &file)?;
        let mut reader = File::open(&file).map_err(ResourceError::file("read", &file))?;
        add(&Archive::blob_name(&blob.digest), blob.size, &mut reader)?;
    }
    builder.finish().map_err(failed())
}
