//! The `source` of a git resource.

use regex::Regex;
use sha2::{Digest, Sha256};

use super::super::fields::Fields;
use super::super::glob::glob_matches;
use super::super::{Request, ResourceError};

/// Which commits a resource is about, and how to reach them.
#[derive(Debug, Clone, Default)]
pub(super) struct Source {
    /// Where the repository is; anything that git understands.
    pub(super) uri: String,
    /// The branch; absent: the one that the repository's `HEAD` names.
    pub(super) branch: Option<String>,
    /// Credentials for http and https.
    pub(super) login: Option<(String, String)>,
    /// A private key for ssh, and the user of the connection.
    pub(super) private_key: Option<String>,
    pub(super) private_key_user: Option<String>,
    /// Only commits that change one of these (globs).
    pub(super) paths: Vec<String>,
    /// Changes of only these (globs) are none.
    pub(super) ignore_paths: Vec<String>,
    /// Only tagged commits whose tag matches.
    pub(super) tags: Option<TagFilter>,
    /// `get` brings all tags, also those that are not on the branch.
    pub(super) fetch_tags: bool,
    /// Commits with `[ci skip]` or `[skip ci]` in their message count too.
    pub(super) disable_ci_skip: bool,
    /// A commit's message must contain one of `include` (all of them with `include_all`) and none of `exclude`.
    pub(super) include: Vec<String>,
    pub(super) include_all: bool,
    pub(super) exclude: Vec<String>,
    /// How many versions a first check gives.
    pub(super) version_depth: usize,
    /// For the private `.gitconfig`.
    pub(super) git_config: Vec<(String, String)>,
    /// Certificates are not looked at.
    pub(super) skip_ssl_verification: bool,
}

/// What tags must look like.
#[derive(Debug, Clone)]
pub(super) enum TagFilter {
    /// A glob.
    Glob(String),
    /// A regular expression that matches anywhere in the name.
    Regex(Regex),
}

impl TagFilter {
    /// Whether a tag (without `refs/tags/`) is meant.
    pub(super) fn matches(&self, tag: &str) -> bool {
        match self {
            TagFilter::Glob(pattern) => glob_matches(pattern, tag),
            TagFilter::Regex(regex) => regex.is_match(tag),
        }
    }
}

/// What to do instead of keys that the community's type knows.
const UNSUPPORTED: [(&[&str], &str); 4] = [
    (&["private_key_passphrase"], "give a key without a passphrase"),
    (&["forward_agent", "https_tunnel"], "use `git_config` for a proxy"),
    (&["commit_verification_keys", "commit_verification_key_ids", "gpg_keyserver"], "verify the commit in a task"),
    (&["git_crypt_key", "submodule_credentials", "tag_behaviour"], "leave it out"),
];

impl Source {
    /// Reads a request's source.
    ///
    /// # Errors
    /// Every mistake at once, as [`ResourceError::Invalid`].
    pub(super) fn parse(request: &Request) -> Result<Source, ResourceError> {
        let mut fields = Fields::new("source", request.source.clone());
        for (keys, remedy) in UNSUPPORTED {
            fields.unsupported(keys, remedy);
        }
        let uri = fields.required_text("uri");
        let branch = fields.text("branch").filter(|branch| !branch.is_empty());
        let username = fields.text("username").filter(|name| !name.is_empty());
        let password = fields.text("password");
        let private_key = fields.text("private_key").filter(|key| !key.trim().is_empty());
        let private_key_user = fields.text("private_key_user").filter(|user| !user.is_empty());
        let paths = fields.texts("paths");
        let ignore_paths = fields.texts("ignore_paths");
        let glob = fields.text("tag_filter").filter(|pattern| !pattern.is_empty());
        let regex = fields.text("tag_regex").filter(|pattern| !pattern.is_empty());
        let fetch_tags = fields.flag("fetch_tags");
        let disable_ci_skip = fields.flag("disable_ci_skip");
        let version_depth = fields.count("version_depth").unwrap_or(1).max(1) as usize;
        let git_config = fields.pairs("git_config");
        let skip_ssl_verification = fields.flag("skip_ssl_verification");
        // An exact commit is always found, on whichever ref it is.
        fields.flag("search_remote_refs");
        let mut filter = Fields::new("commit_filter", fields.object("commit_filter").unwrap_or_default());
        let (include, exclude) = (filter.texts("include"), filter.texts("exclude"));
        let include_all = filter.flag("include_all_match");
        if let Err(error) = filter.finish() {
            fields.problem(error.to_string());
        }

        if uri.starts_with('-') || uri.contains(['\0', '\n']) {
            fields.problem("`uri` in source cannot be the address of a repository");
        }
        if let Some(branch) = branch.as_deref().filter(|branch| !is_ref_name(branch)) {
            fields.problem(format!("`branch` in source: `{branch}` cannot be the name of a branch"));
        }
        if private_key_user.as_deref().is_some_and(|user| user.starts_with('-') || user.contains(char::is_whitespace)) {
            fields.problem("`private_key_user` in source cannot be the name of a user");
        }
        for (name, _) in &git_config {
            if !is_config_name(name) {
                fields.problem(format!("`git_config` in source: `{name}` is not SECTION.KEY"));
            }
        }
        let tags = match (glob, regex) {
            (Some(_), Some(_)) => {
                fields.problem("`tag_filter` and `tag_regex` in source exclude each other");
                None
            }
            (Some(glob), None) => Some(TagFilter::Glob(glob)),
            (None, Some(text)) => match Regex::new(&text) {
                Ok(regex) => Some(TagFilter::Regex(regex)),
                Err(error) => {
                    fields.problem(format!("`tag_regex` in source: {error}"));
                    None
                }
            },
            (None, None) => None,
        };
        fields.finish()?;
        let (uri, login_in_uri) = split_login(&uri);
        let login = match (username, password) {
            (None, None) => login_in_uri,
            (username, password) => Some((username.unwrap_or_default(), password.unwrap_or_default())),
        };
        Ok(Source {
            uri,
            branch,
            login,
            private_key,
            private_key_user,
            paths,
            ignore_paths,
            tags,
            fetch_tags,
            disable_ci_skip,
            include,
            include_all,
            exclude,
            version_depth,
            git_config,
            skip_ssl_verification,
        })
    }

    /// What the cache of this repository is kept under. Other credentials, another cache: who cannot read a
    /// repository does not get it from the cache of those who can.
    pub(super) fn cache_key(&self) -> String {
        let identity = (&self.uri, &self.login, &self.private_key, &self.private_key_user);
        let digest = Sha256::digest(serde_json::to_vec(&identity).expect("strings are always JSON"));
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether a commit with this message counts.
    pub(super) fn message_counts(&self, message: &str) -> bool {
        let skipped = message.contains("[ci skip]") || message.contains("[skip ci]");
        let mut included = self.include.iter().map(|text| message.contains(text.as_str()));
        let included = if self.include_all { included.all(|found| found) } else { included.any(|found| found) };
        (self.disable_ci_skip || !skipped)
            && (self.include.is_empty() || included)
            && !self.exclude.iter().any(|text| message.contains(text.as_str()))
    }

    /// Arguments that limit a log to commits that count by what they change; empty: all do.
    pub(super) fn pathspecs(&self) -> Vec<String> {
        if self.paths.is_empty() && self.ignore_paths.is_empty() {
            return Vec::new();
        }
        let mut specs = vec!["--".to_owned()];
        if self.paths.is_empty() {
            specs.push(":/".to_owned());
        }
        specs.extend(self.paths.iter().map(|path| format!(":(top){path}")));
        specs.extend(self.ignore_paths.iter().map(|path| format!(":(top,exclude){path}")));
        specs
    }
}

/// An http address without the user and password that it may hold, and these: they are kept out of command lines,
/// messages and the artifact's configuration.
fn split_login(uri: &str) -> (String, Option<(String, String)>) {
    let whole = || (uri.to_owned(), None);
    let Some((scheme @ ("http" | "https"), rest)) = uri.split_once("://") else { return whole() };
    let authority_end = rest.find('/').unwrap_or(rest.len());
    let Some((login, _)) = rest[..authority_end].rsplit_once('@') else { return whole() };
    let (username, password) = login.split_once(':').unwrap_or((login, ""));
    (format!("{scheme}://{}", &rest[login.len() + 1..]), Some((unescaped(username), unescaped(password))))
}

/// Undoes percent-encoding; what is not an escape stays as it is.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let byte = match (first, tail) {
            (b'%', [a, b, ..]) => std::str::from_utf8(&[*a, *b]).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok()),
            _ => None,
        };
        rest = if byte.is_some() { &tail[2..] } else { tail };
        bytes.push(byte.unwrap_or(*first));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether git takes this as the name of a branch or tag (the rules of `git check-ref-format`, as far as they keep
/// a name from being taken for something else).
pub(super) fn is_ref_name(name: &str) -> bool {
    let forbidden = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    !name.is_empty()
        && !name.starts_with(['-', '/', '.'])
        && !name.ends_with(['/', '.'])
        && !name.ends_with(".lock")
        && !name.contains(forbidden)
        && !["..", "//", "@{", "/."].iter().any(|part| name.contains(part))
        && name != "@"
}

/// Whether this is a commit's full name (SHA-1 or SHA-256).
pub(super) fn is_commit(name: &str) -> bool {
    matches!(name.len(), 40 | 64) && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn is_config_name(name: &str) -> bool {
    let parts = name.split_once('.').zip(name.rsplit_once('.'));
    parts.is_some_and(|((section, _), (_, key))| {
        !section.is_empty() && key.starts_with(|c: char| c.is_ascii_alphabetic()) && !name.contains(['\n', '\0'])
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(source: serde_json::Value) -> Result<Source, String> {
        let source = source.as_object().expect("an object").clone();
        Source::parse(&Request { source, ..Request::default() }).map_err(|error| error.to_string())
    }

    #[test]
    fn mistakes_are_reported_together() {
        let message = parse(json!({
            "uri": "--upload-pack=evil", "branch": "a..b", "tag_filter": "v*", "tag_regex": "v.*",
            "git_crypt_key": "k", "comit_filter": {}, "git_config": [{"name": "x", "value": "y"}],
            "commit_filter": {"exlude": ["x"]},
        }))
        .expect_err("there are mistakes");
        for part in [
            "`git_crypt_key` in source is not supported",
            "commit_filter has an unknown key `exlude`: did you mean `exclude`?",
            "`uri` in source cannot be the address of a repository",
            "`a..b` cannot be the name of a branch",
            "`x` is not SECTION.KEY",
            "exclude each other",
            "source has an unknown key `comit_filter`: did you mean `commit_filter`?",
        ] {
            assert!(message.contains(part), "{part}\n---\n{message}");
        }
        assert!(parse(json!({"uri": "x", "tag_regex": "("})).expect_err("broken").contains("unclosed group"));
    }

    #[test]
    fn messages_that_do_not_count() {
        let source = parse(json!({"uri": "x"})).expect("fine");
        assert!(source.message_counts("a change"));
        assert!(!source.message_counts("a change\n\n[ci skip]"));
        assert!(!source.message_counts("[skip ci] a change"));
        let source = parse(json!({"uri": "x", "disable_ci_skip": true})).expect("fine");
        assert!(source.message_counts("[skip ci] a change"));
        let filter = json!({"include": ["feat", "fix"], "exclude": ["wip"]});
        let source = parse(json!({"uri": "x", "commit_filter": filter})).expect("fine");
        assert!(source.message_counts("fix: this"));
        assert!(!source.message_counts("fix: this (wip)"));
        assert!(!source.message_counts("docs"));
    }

    #[test]
    fn credentials_are_taken_out_of_an_address() {
        let source = parse(json!({"uri": "https://me:p%40ss@git.example/a/b.git"})).expect("fine");
        assert_eq!(source.uri, "https://git.example/a/b.git");
        assert_eq!(source.login, Some(("me".to_owned(), "p@ss".to_owned())));
        for uri in ["ssh://git@git.example/a", "git@git.example:a/b", "https://git.example/a@b", "/srv/a@b"] {
            assert_eq!(split_login(uri), (uri.to_owned(), None));
        }
        assert_eq!(unescaped("100%"), "100%");
    }

    #[test]
    fn other_credentials_have_another_cache() {
        let open = parse(json!({"uri": "x"})).expect("fine").cache_key();
        let login = parse(json!({"uri": "x", "username": "u", "password": "p"})).expect("fine").cache_key();
        let filtered = parse(json!({"uri": "x", "paths": ["a"]})).expect("fine").cache_key();
        assert_ne!(open, login);
        assert_eq!(open, filtered);
    }
}
