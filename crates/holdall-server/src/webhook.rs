//! Native webhooks: what GitHub, GitLab, image registries and Amazon ECR send when something was pushed.
//!
//! Everything here is a function of the request: [`verify_and_parse`] says what was touched, [`concerns`] whether that is
//! what a resource looks at. Routes, the search for resources and the start of their checks are elsewhere. A webhook
//! never carries a version: it says that a check is worth making now, so a wrong "yes" costs a check, and a wrong "no"
//! costs the time until the next one.
//!
//! - `verify`: signatures and shared secrets, compared in constant time
//! - `payload`: what the four kinds of body hold
//! - `address`: when two addresses are of the same repository

mod address;
mod payload;
mod verify;

use std::str::FromStr;

use axum::http::HeaderMap;
use serde_json::Value;

pub use address::{same_git, same_image};

/// No body is longer: GitHub's own limit.
pub const MAX_BODY_BYTES: usize = 25 << 20;

/// Who sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookKind {
    /// GitHub, and what speaks its form (Gitea, Forgejo): `X-Hub-Signature-256`.
    GitHub,
    /// GitLab: `X-Gitlab-Token`.
    GitLab,
    /// The notifications of a distribution registry: `Authorization`.
    Registry,
    /// Amazon ECR through EventBridge's API destinations: `Authorization`.
    Ecr,
}

impl FromStr for WebhookKind {
    type Err = ();

    /// Reads the name as it stands in an address: `github`, `gitlab`, `registry`, `ecr`.
    fn from_str(text: &str) -> Result<WebhookKind, ()> {
        match text {
            "github" => Ok(WebhookKind::GitHub),
            "gitlab" => Ok(WebhookKind::GitLab),
            "registry" => Ok(WebhookKind::Registry),
            "ecr" => Ok(WebhookKind::Ecr),
            _ => Err(()),
        }
    }
}

/// Why a webhook is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// Without a secret anybody could send it: none is taken. 401.
    #[error("no secret is configured for this kind of webhook")]
    NoSecret,
    /// What proves that the sender knows the secret is not there. 401.
    #[error("the header {0} is missing")]
    MissingProof(&'static str),
    /// It is there, and wrong. 401.
    #[error("the header {0} does not fit the configured secret")]
    WrongProof(&'static str),
    /// 413.
    #[error("the body is longer than {MAX_BODY_BYTES} bytes")]
    TooLarge,
    /// The sender knows the secret and sends something else. 400.
    #[error("the body is not what {kind} sends: {why}")]
    Malformed {
        /// Who was to send it.
        kind: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// Something that was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched {
    /// A branch or a tag of a git repository.
    Git {
        /// The addresses that the sender knows of the repository.
        urls: Vec<String>,
        /// What moved.
        reference: GitRef,
    },
    /// An image.
    Image {
        /// The names of the repository, with the registry's host as far as the sender knows it.
        repositories: Vec<String>,
        /// The tag that it got; `None`: it has none.
        tag: Option<String>,
        /// Its digest.
        digest: Option<String>,
    },
}

/// A reference of a git repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GitRef {
    /// The name of a branch, without `refs/heads/`.
    Branch(String),
    /// The name of a tag, without `refs/tags/`.
    Tag(String),
}

/// Checks that a request comes from somebody who knows `secret`, and reads what it says was touched. Events that touch
/// nothing (a ping, a removed branch, a pulled image) give an empty list.
///
/// # Errors
/// Nothing of the body is looked at before its sender has proved to know the secret.
pub fn verify_and_parse(
    kind: WebhookKind,
    headers: &HeaderMap,
    body: &[u8],
    secret: &str,
) -> Result<Vec<Touched>, WebhookError> {
    if body.len() > MAX_BODY_BYTES {
        return Err(WebhookError::TooLarge);
    }
    if secret.is_empty() {
        return Err(WebhookError::NoSecret);
    }
    match kind {
        WebhookKind::GitHub => {
            verify::signature(headers, body, secret)?;
            payload::github(headers, body)
        }
        WebhookKind::GitLab => {
            verify::token(headers, secret)?;
            payload::gitlab(body)
        }
        WebhookKind::Registry => {
            verify::authorization(headers, secret)?;
            payload::registry(body)
        }
        WebhookKind::Ecr => {
            verify::authorization(headers, secret)?;
            payload::ecr(body)
        }
    }
}

/// Whether a resource of this type and source (vars resolved) may have a new version because of what was touched.
///
/// Branches and tags are compared only as far as the source names them: `paths` and the patterns for tags are the
/// check's business.
pub fn concerns(touched: &Touched, resource_type: &str, source: &Value) -> bool {
    // An empty text is the same as none, as the resource types have it.
    let text = |key: &str| source[key].as_str().filter(|text| !text.is_empty());
    match (touched, resource_type) {
        (Touched::Git { urls, reference }, "git") => {
            let Some(uri) = text("uri") else { return false };
            let filters_tags = text("tag_filter").or(text("tag_regex")).is_some();
            let fits = match reference {
                // A branch that moves also brings the tags on it.
                GitRef::Branch(name) => text("branch").is_none_or(|branch| branch == name),
                GitRef::Tag(_) => filters_tags,
            };
            fits && urls.iter().any(|url| same_git(url, uri))
        }
        (Touched::Image { repositories, tag, .. }, "registry-image") => {
            let Some(repository) = text("repository") else { return false };
            let number = source["tag"].as_u64().map(|tag| tag.to_string());
            let fits = match (text("tag").or(number.as_deref()), tag) {
                (_, None) => false,
                (Some(wanted), Some(tag)) => wanted == tag,
                (None, Some(_)) => true,
            };
            fits && repositories.iter().any(|name| same_image(name, repository))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
