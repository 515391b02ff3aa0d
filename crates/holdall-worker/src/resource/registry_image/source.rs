//! The `source` of a registry-image resource.

use serde_json::{Map, Value};

use super::super::fields::Fields;
use super::super::{Request, ResourceError};
use super::name::{Repository, is_host, is_tag};
use super::semver::Constraint;

/// Which repository, which of its tags, and how to get in.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// As it was written: what files and metadata show.
    pub(super) written: String,
    pub(super) repository: Repository,
    /// The tag whose digest is followed; absent: tags that are versions.
    pub(super) tag: Option<String>,
    pub(super) variant: Option<String>,
    pub(super) constraint: Option<Constraint>,
    pub(super) pre_releases: bool,
    pub(super) pre_release_prefixes: Vec<String>,
    pub(super) access: Access,
    /// Asked first, where the repository does not name a registry.
    pub(super) mirror: Option<(Repository, Access)>,
    /// The operating system and architecture that are picked of an image that has several.
    pub(super) platform: (String, String),
}

/// How to talk to a registry.
#[derive(Debug, Clone, Default)]
pub(super) struct Access {
    pub(super) login: Option<(String, String)>,
    /// Plain http, and certificates that nobody vouches for, are good enough.
    pub(super) insecure: bool,
    /// Authorities besides the system's, PEM.
    pub(super) ca_certs: Vec<String>,
}

/// What to do instead of keys that the community's type knows.
const UNSUPPORTED: [(&[&str], &str); 3] = [
    (
        &[
            "aws_region",
            "aws_access_key_id",
            "aws_secret_access_key",
            "aws_session_token",
            "aws_role_arn",
            "aws_role_arns",
        ],
        "write the registry into `repository`, and `username: AWS` with a `password` from `aws ecr get-login-password`",
    ),
    (&["content_trust"], "sign the image in a task"),
    (&["tag_regex", "created_at_sort"], "use `tag` or `semver_constraint`"),
];

impl Source {
    /// Reads a request's source; params may replace `username` and `password`, and are taken from `params` then.
    ///
    /// # Errors
    /// Every mistake at once, as [`ResourceError::Invalid`].
    pub(super) fn parse(request: &Request, params: &mut Map<String, Value>) -> Result<Source, ResourceError> {
        let mut source = request.source.clone();
        for key in ["username", "password"] {
            if let Some(value) = params.remove(key).filter(|value| !value.is_null()) {
                source.insert(key.to_owned(), value);
            }
        }
        // A tag that is a whole number loses nothing by not being in quotes.
        if let Some(number) = source.get("tag").and_then(Value::as_u64) {
            source.insert("tag".to_owned(), Value::String(number.to_string()));
        }
        let mut fields = Fields::new("source", source);
        for (keys, remedy) in UNSUPPORTED {
            fields.unsupported(keys, remedy);
        }
        let written = fields.required_text("repository");
        let repository = match Repository::parse(&written) {
            Ok(repository) => Some(repository),
            Err(message) => {
                if !written.is_empty() {
                    fields.problem(format!("`repository` in source: {message}"));
                }
                None
            }
        };
        let tag = fields.text("tag").filter(|tag| !tag.is_empty());
        let variant = fields.text("variant").filter(|variant| !variant.is_empty());
        for (key, value) in [("tag", &tag), ("variant", &variant)] {
            if let Some(value) = value.as_deref().filter(|value| !is_tag(value)) {
                fields.problem(format!("`{key}` in source: `{value}` cannot be a tag"));
            }
        }
        let constraint = fields.parsed::<Constraint>("semver_constraint");
        if tag.is_some() && constraint.is_some() {
            fields.problem("`tag` and `semver_constraint` in source exclude each other");
        }
        let pre_releases = fields.flag("pre_releases");
        let pre_release_prefixes = fields.texts("pre_release_prefixes");
        let login = login(&mut fields);
        let insecure = fields.flag("insecure");
        let ca_certs = fields.texts("ca_certs");
        fields.flag("debug");
        let access = Access { login, insecure, ca_certs };
        let mirror = fields.object("registry_mirror").and_then(|mirror| {
            let (host, login) = match read_mirror(mirror) {
                Ok(mirror) => mirror,
                Err(error) => {
                    fields.problem(error.to_string());
                    return None;
                }
            };
            let repository = repository.as_ref().filter(|repository| !repository.names_host)?;
            Some((Repository { host, ..repository.clone() }, Access { login, ..access.clone() }))
        });
        let platform = read_platform(&mut fields);
        fields.finish()?;
        let repository =
            repository.ok_or_else(|| ResourceError::Invalid(vec!["source needs `repository`".to_owned()]))?;
        Ok(Source {
            written,
            repository,
            tag,
            variant,
            constraint,
            pre_releases,
            pre_release_prefixes,
            access,
            mirror,
            platform,
        })
    }
}

fn login(fields: &mut Fields) -> Option<(String, String)> {
    let (username, password) = (fields.text("username"), fields.text("password"));
    let username = username.filter(|name| !name.is_empty())?;
    if username.contains(':') {
        fields.problem("`username` cannot hold a `:`");
    }
    Some((username, password.unwrap_or_default()))
}

fn read_mirror(mirror: Map<String, Value>) -> Result<(String, Option<(String, String)>), ResourceError> {
    let mut fields = Fields::new("registry_mirror", mirror);
    let host = fields.required_text("host");
    let login = login(&mut fields);
    if !host.is_empty() && !is_host(&host) {
        fields.problem(format!("`host` in registry_mirror: `{host}` is not the address of a registry"));
    }
    fields.finish()?;
    Ok((host, login))
}

fn read_platform(fields: &mut Fields) -> (String, String) {
    let mut platform = Fields::new("platform", fields.object("platform").unwrap_or_default());
    let os = platform.text("os").unwrap_or_else(|| "linux".to_owned());
    let architecture = platform.text("architecture").unwrap_or_else(|| {
        match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }
        .to_owned()
    });
    if let Err(error) = platform.finish() {
        fields.problem(error.to_string());
    }
    (os, architecture)
}
