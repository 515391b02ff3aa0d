//! `registry-image`: the images of a repository, by the digest of a tag or by tags that are versions.
//!
//! Versions are `{"tag": TAG, "digest": "sha256:.."}`, as the community's type of that name gives them. The layers of
//! an image are only fetched with `format: oci`: what deploys an image needs its digest, and the process runtime runs
//! nothing in an image.
//!
//! - [`source`]: which repository and which tags; [`name`]: how repositories are named; [`semver`]: tags that are versions
//! - [`http`]: requests with what registries want of a client: tokens, patience, bounds
//! - [`registry`]: the distribution API on top of it; everything that has a digest is verified
//! - [`archive`]: images as files, read and written
//! - [`check`](mod@check), [`get`](mod@get), [`put`](mod@put): the operations

mod archive;
mod check;
mod get;
mod http;
mod name;
mod put;
mod registry;
mod semver;
mod source;

pub(super) use check::check;
pub(super) use get::get;
pub(super) use put::put;
