//! `check`: the digest of a tag, or the tags that are versions.

use super::super::{Context, Request, ResourceError, Version};
use super::registry::Registry;
use super::semver::TagVersion;
use super::source::Source;

/// With `tag`: the given version if it is still there, and the tag's digest if it is another one. Nothing new costs one
/// `HEAD`. Without: tags that are versions, from the given one on (all of them on a first check), in their order.
pub(in super::super) fn check(request: &Request, ctx: &Context) -> Result<Vec<Version>, ResourceError> {
    let source = Source::parse(request, &mut Default::default())?;
    let from = request.version.as_ref().filter(|version| !version.is_empty());
    let mut candidates = Registry::candidates(&source, &ctx.log)?;
    let origin = candidates.pop().expect("the repository's own registry is one");
    for mirror in candidates {
        match check_at(&mirror, &source, from, ctx) {
            Ok(versions) if !versions.is_empty() => return Ok(versions),
            Ok(_) => ctx.log.line(format_args!("{}: nothing there; asking {}", mirror.shown(), origin.shown())),
            Err(error) => ctx.log.line(format_args!("{error}; asking {}", origin.shown())),
        }
    }
    check_at(&origin, &source, from, ctx)
}

fn check_at(
    registry: &Registry,
    source: &Source,
    from: Option<&Version>,
    ctx: &Context,
) -> Result<Vec<Version>, ResourceError> {
    match &source.tag {
        Some(tag) => check_tag(registry, tag, from, ctx),
        None => check_versions(registry, source, from, ctx),
    }
}

fn check_tag(
    registry: &Registry,
    tag: &str,
    from: Option<&Version>,
    ctx: &Context,
) -> Result<Vec<Version>, ResourceError> {
    let Some(digest) = registry.digest(tag)? else {
        ctx.log.line(format_args!("{} has no tag `{tag}`", registry.shown()));
        return Ok(Vec::new());
    };
    let newest = version(tag, &digest);
    let Some(from) = from else { return Ok(vec![newest]) };
    if *from == newest {
        return Ok(vec![newest]);
    }
    let known = from.get("digest").filter(|digest| super::name::is_digest(digest));
    let is_there = match known {
        Some(known) if *known == digest => true,
        Some(known) => registry.digest(known)?.is_some(),
        None => false,
    };
    Ok(if is_there { vec![from.clone(), newest] } else { vec![newest] })
}

fn version(tag: &str, digest: &str) -> Version {
    Version::from([("tag".to_owned(), tag.to_owned()), ("digest".to_owned(), digest.to_owned())])
}

fn check_versions(
    registry: &Registry,
    source: &Source,
    from: Option<&Version>,
    ctx: &Context,
) -> Result<Vec<Version>, ResourceError> {
    let Some(tags) = registry.tags()? else {
        ctx.log.line(format_args!("there is no repository {}", registry.shown()));
        return Ok(Vec::new());
    };
    let read = |tag: &str| TagVersion::of_tag(tag, source.variant.as_deref(), &source.pre_release_prefixes);
    let mut candidates: Vec<(TagVersion, String)> = tags
        .iter()
        .filter_map(|tag| Some((read(tag)?, tag.clone())))
        .filter(|(version, _)| match &source.constraint {
            // A constraint that names a pre-release asks for them.
            Some(constraint) => constraint.allows(version),
            None => true,
        })
        .filter(|(version, _)| source.pre_releases || source.constraint.is_some() || !version.is_pre_release())
        .collect();
    candidates.sort();
    // Only what is not before the given version is looked at: that one itself is, because its tag may have moved.
    if let Some(given) = from.and_then(|from| from.get("tag")).and_then(|tag| read(tag)) {
        candidates.retain(|(version, _)| *version >= given);
    }
    if candidates.is_empty() && source.constraint.is_none() {
        let bare = source.variant.as_deref().unwrap_or("latest");
        if tags.iter().any(|tag| tag == bare) {
            return check_tag(registry, bare, from, ctx);
        }
    }
    // From the last: of several tags with one digest, the most precise is the version.
    let mut versions: Vec<Version> = Vec::new();
    for (_, tag) in candidates.iter().rev() {
        let Some(digest) = registry.digest(tag)? else { continue };
        if versions.iter().all(|known| known.get("digest") != Some(&digest)) {
            versions.push(version(tag, &digest));
        }
    }
    versions.reverse();
    Ok(versions)
}
