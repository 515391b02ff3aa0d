//! What the bodies hold, as far as it matters.

use axum::http::{HeaderMap, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{GitRef, Touched, WebhookError};

/// A registry that has more to tell sends more than one notification.
const MAX_EVENTS: usize = 10_000;

fn read<T: DeserializeOwned>(kind: &'static str, body: &[u8]) -> Result<T, WebhookError> {
    serde_json::from_slice(body).map_err(|error| WebhookError::Malformed { kind, why: error.to_string() })
}

/// GitHub's `push`. All other events (`ping` is the first that it sends) touch nothing.
pub(super) fn github(headers: &HeaderMap, body: &[u8]) -> Result<Vec<Touched>, WebhookError> {
    #[derive(Deserialize)]
    struct Push {
        #[serde(rename = "ref")]
        reference: String,
        #[serde(default)]
        deleted: bool,
        repository: Repository,
    }
    #[derive(Deserialize)]
    struct Repository {
        clone_url: Option<String>,
        ssh_url: Option<String>,
        git_url: Option<String>,
        html_url: Option<String>,
    }
    // Gitea and Forgejo send this header too.
    if headers.get("X-GitHub-Event").is_none_or(|event| event != "push") {
        return Ok(Vec::new());
    }
    let is_form = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.trim().to_ascii_lowercase().starts_with("application/x-www-form-urlencoded"));
    let push: Push = match is_form {
        true => read("GitHub", &form_payload(body).ok_or_else(no_payload)?)?,
        false => read("GitHub", body)?,
    };
    if push.deleted {
        return Ok(Vec::new());
    }
    let Repository { clone_url, ssh_url, git_url, html_url } = push.repository;
    git("GitHub", &push.reference, [clone_url, ssh_url, git_url, html_url])
}

fn no_payload() -> WebhookError {
    WebhookError::Malformed { kind: "GitHub", why: "the form has no field `payload`".to_owned() }
}

/// The field `payload` of a form.
fn form_payload(body: &[u8]) -> Option<Vec<u8>> {
    let field = body.split(|byte| *byte == b'&').find_map(|field| field.strip_prefix(b"payload="))?;
    let mut text = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let (byte, used) = match (first, tail) {
            (b'+', _) => (b' ', 1),
            (b'%', [high, low, ..]) => {
                let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
                (digit(*high)? * 16 + digit(*low)?, 3)
            }
            (byte, _) => (*byte, 1),
        };
        text.push(byte);
        rest = &rest[used..];
    }
    Some(text)
}

/// GitLab's push and tag events, from a project, a group or the whole instance.
pub(super) fn gitlab(body: &[u8]) -> Result<Vec<Touched>, WebhookError> {
    #[derive(Deserialize)]
    struct Event {
        object_kind: Option<String>,
        event_name: Option<String>,
        #[serde(rename = "ref")]
        reference: Option<String>,
        after: Option<String>,
        project: Option<Project>,
    }
    #[derive(Deserialize)]
    struct Project {
        git_http_url: Option<String>,
        git_ssh_url: Option<String>,
        web_url: Option<String>,
    }
    let event: Event = read("GitLab", body)?;
    let kind = event.object_kind.or(event.event_name);
    if !matches!(kind.as_deref(), Some("push" | "tag_push")) {
        return Ok(Vec::new());
    }
    // What was removed is at no commit any more.
    if event.after.is_some_and(|after| after.bytes().all(|byte| byte == b'0')) {
        return Ok(Vec::new());
    }
    let missing = |what: &str| WebhookError::Malformed { kind: "GitLab", why: format!("the event has no `{what}`") };
    let reference = event.reference.ok_or_else(|| missing("ref"))?;
    let project = event.project.ok_or_else(|| missing("project"))?;
    git("GitLab", &reference, [project.git_http_url, project.git_ssh_url, project.web_url])
}

/// References that are neither a branch nor a tag are none of ours.
fn git(
    kind: &'static str,
    reference: &str,
    urls: impl IntoIterator<Item = Option<String>>,
) -> Result<Vec<Touched>, WebhookError> {
    let reference = match (reference.strip_prefix("refs/heads/"), reference.strip_prefix("refs/tags/")) {
        (Some(branch), _) => GitRef::Branch(branch.to_owned()),
        (_, Some(tag)) => GitRef::Tag(tag.to_owned()),
        _ => return Ok(Vec::new()),
    };
    let urls: Vec<String> = urls.into_iter().flatten().filter(|url| !url.is_empty()).collect();
    if urls.is_empty() {
        return Err(WebhookError::Malformed { kind, why: "the repository has no address".to_owned() });
    }
    Ok(vec![Touched::Git { urls, reference }])
}

/// The envelope of a distribution registry: pushes of manifests touch, blobs and pulls do not.
pub(super) fn registry(body: &[u8]) -> Result<Vec<Touched>, WebhookError> {
    #[derive(Deserialize)]
    struct Envelope {
        events: Vec<Event>,
    }
    #[derive(Deserialize)]
    struct Event {
        #[serde(default)]
        action: String,
        #[serde(default)]
        target: Target,
        #[serde(default)]
        request: Request,
    }
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase")]
    struct Target {
        media_type: Option<String>,
        digest: Option<String>,
        repository: Option<String>,
        url: Option<String>,
        tag: Option<String>,
    }
    #[derive(Deserialize, Default)]
    struct Request {
        host: Option<String>,
    }
    let envelope: Envelope = read("a registry", body)?;
    if envelope.events.len() > MAX_EVENTS {
        return Err(WebhookError::Malformed { kind: "a registry", why: format!("more than {MAX_EVENTS} events") });
    }
    let mut touched = Vec::new();
    for Event { action, target, request } in envelope.events {
        let tag = target.tag.filter(|tag| !tag.is_empty());
        let is_manifest = tag.is_some() || target.media_type.is_some_and(|kind| is_manifest(&kind));
        let Some(repository) = target.repository.filter(|name| !name.is_empty()) else { continue };
        if action != "push" || !is_manifest {
            continue;
        }
        // The registry knows itself under the name in its addresses, its clients under the one that they asked for.
        let hosts = [request.host, target.url.as_deref().and_then(host_of)];
        let mut repositories: Vec<String> = hosts
            .into_iter()
            .flatten()
            .filter(|host| !host.is_empty())
            .map(|host| format!("{host}/{repository}"))
            .collect();
        repositories.dedup();
        touched.push(Touched::Image { repositories, tag, digest: target.digest });
    }
    Ok(touched)
}

fn is_manifest(media_type: &str) -> bool {
    media_type.contains("manifest") || media_type.contains("image.index")
}

fn host_of(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    rest.split('/').next().map(str::to_owned)
}

/// EventBridge's `ECR Image Action`. All other events touch nothing.
pub(super) fn ecr(body: &[u8]) -> Result<Vec<Touched>, WebhookError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Event {
        source: Option<String>,
        detail_type: Option<String>,
        account: Option<String>,
        region: Option<String>,
        detail: Option<Detail>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Detail {
        action_type: Option<String>,
        result: Option<String>,
        repository_name: Option<String>,
        image_digest: Option<String>,
        image_tag: Option<String>,
    }
    const KIND: &str = "Amazon ECR";
    let event: Event = read(KIND, body)?;
    if event.source.as_deref() != Some("aws.ecr") || event.detail_type.as_deref() != Some("ECR Image Action") {
        return Ok(Vec::new());
    }
    let missing = |what: &str| WebhookError::Malformed { kind: KIND, why: format!("the event has no usable `{what}`") };
    let detail = event.detail.ok_or_else(|| missing("detail"))?;
    if detail.action_type.as_deref() != Some("PUSH") || detail.result.as_deref() != Some("SUCCESS") {
        return Ok(Vec::new());
    }
    let repository = detail.repository_name.filter(|name| !name.is_empty());
    let repository = repository.ok_or_else(|| missing("detail.repository-name"))?;
    let is_account = |account: &String| account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    let account = event.account.filter(is_account).ok_or_else(|| missing("account"))?;
    let is_region = |region: &String| {
        !region.is_empty()
            && region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    let region = event.region.filter(is_region).ok_or_else(|| missing("region"))?;
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    Ok(vec![Touched::Image {
        repositories: vec![format!("{account}.dkr.ecr.{region}.{domain}/{repository}")],
        tag: detail.image_tag.filter(|tag| !tag.is_empty()),
        digest: detail.image_digest,
    }])
}
