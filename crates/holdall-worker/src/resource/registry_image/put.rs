//! `out`: pushes an image file and gives it tags.

use std::fs;
use std::path::{Path, PathBuf};

use holdall_protocol::worker::ResourceResult;

use super::super::fields::Fields;
use super::super::glob::glob_matches;
use super::super::{Context, Request, ResourceError, Version, path_below, result};
use super::archive;
use super::name::is_tag;
use super::registry::Registry;
use super::semver::TagVersion;
use super::source::Source;

struct Params {
    image: PathBuf,
    /// All tags, the version's own first.
    tags: Vec<String>,
    /// The version whose shorter names move with it.
    bump: Option<TagVersion>,
}

impl Params {
    fn parse(
        params: serde_json::Map<String, serde_json::Value>,
        source: &Source,
        dir: &Path,
    ) -> Result<Params, ResourceError> {
        let mut fields = Fields::new("params", params);
        let image = fields.required_text("image");
        let version = fields.text("version").filter(|version| !version.is_empty());
        let bump = fields.flag("bump_aliases");
        let additional = fields.text("additional_tags").filter(|file| !file.is_empty());
        let parsed =
            version.as_deref().and_then(|version| TagVersion::of_tag(version, None, &source.pre_release_prefixes));
        if let Some(version) = version.as_deref().filter(|_| parsed.is_none()) {
            fields
                .problem(format!("`version` in params: `{version}` is not a version such as `1.2.3` or `1.2.3-rc.1`"));
        }
        if bump && version.is_none() {
            fields.problem("`bump_aliases` in params needs `version`");
        }
        fields.finish()?;

        let mut tags: Vec<String> = source.tag.iter().cloned().collect();
        tags.extend(version.map(|version| with_variant(&version, source)));
        if let Some(file) = additional {
            let path = path_below(dir, "additional_tags", &file)?;
            let text = fs::read_to_string(&path).map_err(ResourceError::file("read", &path))?;
            tags.extend(text.split_whitespace().map(str::to_owned));
        }
        if let Some(tag) = tags.iter().find(|tag| !is_tag(tag)) {
            return Err(ResourceError::Invalid(vec![format!("`{tag}` cannot be a tag")]));
        }
        if tags.is_empty() {
            return Err(ResourceError::Invalid(vec![
                "the image would have no tag: set `tag` in the source, or `version` or `additional_tags` in params"
                    .to_owned(),
            ]));
        }
        let bump = parsed.filter(|version| bump && !version.is_pre_release());
        Ok(Params { image: one_file(dir, &image)?, tags, bump })
    }
}

/// `1.2.3` as a tag of the source's variant.
fn with_variant(version: &str, source: &Source) -> String {
    match &source.variant {
        Some(variant) => format!("{version}-{variant}"),
        None => version.to_owned(),
    }
}

/// The file that a pattern with `*`, `?` and `[..]` in its parts stands for.
fn one_file(dir: &Path, pattern: &str) -> Result<PathBuf, ResourceError> {
    path_below(dir, "image", pattern)?;
    let mut found = vec![dir.to_owned()];
    for part in pattern.split('/').filter(|part| !matches!(*part, "" | ".")) {
        let mut next = Vec::new();
        for parent in &found {
            if !part.contains(['*', '?', '[', '\\']) {
                next.push(parent.join(part));
                continue;
            }
            let entries = fs::read_dir(parent).into_iter().flatten().flatten();
            let matching =
                entries.filter(|entry| entry.file_name().to_str().is_some_and(|name| glob_matches(part, name)));
            next.extend(matching.map(|entry| entry.path()));
        }
        found = next;
    }
    found.retain(|path| path.is_file());
    found.sort();
    match &found[..] {
        [file] => Ok(file.clone()),
        [] => {
            Err(ResourceError::failed(format!("there is no image `{pattern}`: `image` is the path of a tar archive")))
        }
        several => Err(ResourceError::failed(format!(
            "`image` is one file, and `{pattern}` stands for {}: {}",
            several.len(),
            several.iter().take(5).map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
        ))),
    }
}

/// Pushes blobs, then manifests, then the tags: a tag never points to something that is not all there.
pub(in super::super) fn put(request: &Request, dir: &Path, ctx: &Context) -> Result<ResourceResult, ResourceError> {
    let mut params = request.params.clone();
    let source = Source::parse(request, &mut params)?;
    let params = Params::parse(params, &source, dir)?;
    let image = archive::read(&params.image, ctx)?;
    let registry = Registry::for_push(&source, &ctx.log)?;
    for (digest, part) in &image.blobs {
        if registry.has_blob(digest)? {
            ctx.log.line(format_args!("{digest} is there already"));
        } else {
            ctx.log.line(format_args!("pushing {digest}"));
            registry.upload(digest, part.content())?;
        }
    }
    for manifest in &image.children {
        registry.put_manifest(&manifest.digest, manifest)?;
    }
    let mut tags = params.tags.clone();
    if let Some(version) = &params.bump {
        tags.extend(aliases(&registry, version, &source)?);
    }
    for (number, tag) in tags.iter().enumerate() {
        if tags[..number].contains(tag) {
            continue;
        }
        registry.put_manifest(tag, &image.top)?;
        ctx.log.line(format_args!("{}:{tag} is {}", source.written, image.top.digest));
    }
    let digest = image.top.digest.clone();
    let version = Version::from([("tag".to_owned(), tags[0].clone()), ("digest".to_owned(), digest.clone())]);
    tags.dedup();
    let metadata = vec![("repository", source.written.clone()), ("tags", tags.join(" ")), ("digest", digest)];
    Ok(result(version, metadata))
}

/// The shorter names that no newer version has: `1.2`, `1` and `latest`, or the variant itself.
fn aliases(registry: &Registry, version: &TagVersion, source: &Source) -> Result<Vec<String>, ResourceError> {
    let tags = registry.tags()?.unwrap_or_default();
    let variant = source.variant.as_deref();
    let others: Vec<TagVersion> = tags
        .iter()
        .filter_map(|tag| TagVersion::of_tag(tag, variant, &source.pre_release_prefixes))
        .filter(|other| !other.is_pre_release() && other.precision == 3)
        .collect();
    let is_newest = |length: usize| !others.iter().any(|other| other.shares(version, length) && other > version);
    let mut aliases = Vec::new();
    for length in (1..version.precision).rev().filter(|length| is_newest(*length)) {
        aliases.push(with_variant(&version.prefix(length), source));
    }
    if is_newest(0) {
        aliases.push(variant.unwrap_or("latest").to_owned());
    }
    Ok(aliases)
}
