//! `git`: the commits of a branch, or the tags of a repository, with the git command line underneath.
//!
//! Versions are `{"ref": COMMIT}`, and `{"ref": TAG, "commit": COMMIT}` with a tag filter, as the community's type of
//! that name gives them.
//!
//! - [`command`] runs git with an environment and a home directory of its own: no configuration of the machine or of
//!   the user that runs the worker has an influence, and nothing ever asks a question.
//! - [`cache`] keeps one bare clone per repository and credentials below `HOLDALL_CACHE_DIR`.
//! - [`check`](mod@check) asks the remote what it has with a single `git ls-remote`, and looks further only when the answer is
//!   not the one that it saw the last time.
//! - [`get`](mod@get) and [`put`](mod@put) are the steps.

mod cache;
mod check;
mod command;
mod get;
mod log;
mod put;
mod source;

pub(super) use check::{check, describe};
pub(super) use get::get;
pub(super) use put::put;
