//! How repositories, tags and digests are written.

use sha2::{Digest as _, Sha256};

/// The registry that a repository without one is in, and where it answers.
const DEFAULT_REGISTRY: &str = "registry-1.docker.io";

/// A repository: the registry's host with its port, and the path there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Repository {
    /// `registry.example:5000`.
    pub(super) host: String,
    /// `team/api`.
    pub(super) path: String,
    /// Whether the name itself says which registry it is in.
    pub(super) names_host: bool,
}

impl Repository {
    /// Reads `team/api`, `registry.example/team/api` or `api`. The error is a sentence.
    pub(super) fn parse(text: &str) -> Result<Repository, String> {
        if text.contains("://") {
            return Err(format!("`{text}` must be without `{}`", &text[..text.find("://").unwrap_or(0) + 3]));
        }
        let (host, path) = match text.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (Some(first), rest),
            _ => (None, text),
        };
        if path.contains('@') {
            return Err(format!("`{text}` must be without a digest: pin the version on the resource instead"));
        }
        if let Some((_, tag)) = path.rsplit_once(':') {
            return Err(format!("`{text}` must be without a tag: write `tag: {tag}` beside it"));
        }
        if let Some(host) = host.filter(|host| !is_host(host)) {
            return Err(format!("`{host}` in `{text}` is not the address of a registry"));
        }
        if !path.split('/').all(is_component) || path.len() > 255 {
            return Err(format!(
                "`{text}` is not the name of a repository: lower case letters, digits and `._-` between `/`"
            ));
        }
        let official = |host: &str| matches!(host, "docker.io" | "index.docker.io" | DEFAULT_REGISTRY);
        Ok(match host {
            Some(host) if !official(host) => {
                Repository { host: host.to_ascii_lowercase(), path: path.to_owned(), names_host: true }
            }
            named => {
                let path = if path.contains('/') { path.to_owned() } else { format!("library/{path}") };
                Repository { host: DEFAULT_REGISTRY.to_owned(), path, names_host: named.is_some() }
            }
        })
    }

    /// Whether the registry is on this machine.
    pub(super) fn is_loopback(&self) -> bool {
        let host = self.host.rsplit_once(':').map_or(self.host.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

/// Whether this is a host name or address, with or without a port: nothing that could end up elsewhere in an address.
pub(super) fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let named = host.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c)) && !host.starts_with(['.', '-']);
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let address = address.is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    !host.is_empty() && (named || address) && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn is_component(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.chars().all(|c| plain(c) || "._-".contains(c)) && text.starts_with(plain) && text.ends_with(plain)
}

/// Whether this can be a tag.
pub(super) fn is_tag(text: &str) -> bool {
    let first = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= 128 && text.starts_with(first) && text.chars().all(|c| first(c) || ".-".contains(c))
}

/// Whether this is a digest that can be verified here.
pub(super) fn is_digest(text: &str) -> bool {
    let hex = |hex: &str| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    text.strip_prefix("sha256:").is_some_and(hex)
}

/// The digest of bytes.
pub(super) fn digest_of(bytes: &[u8]) -> String {
    digest_text(Sha256::digest(bytes).as_slice())
}

/// A hash as digests are written.
pub(super) fn digest_text(hash: &[u8]) -> String {
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories() {
        for (text, host, path) in [
            ("api", "registry-1.docker.io", "library/api"),
            ("team/api", "registry-1.docker.io", "team/api"),
            ("docker.io/api", "registry-1.docker.io", "library/api"),
            ("Registry.example/team/api", "registry.example", "team/api"),
            ("registry.example:5000/a/b-c/d__e", "registry.example:5000", "a/b-c/d__e"),
            ("localhost/x", "localhost", "x"),
            ("[::1]:5000/x", "[::1]:5000", "x"),
        ] {
            let repository = Repository::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((repository.host.as_str(), repository.path.as_str()), (host, path), "{text}");
        }
        assert!(Repository::parse("[::1]:5000/x").is_ok_and(|repository| repository.is_loopback()));
        assert!(Repository::parse("127.0.0.1:5000/x").is_ok_and(|repository| repository.is_loopback()));
        assert!(!Repository::parse("registry.example/x").is_ok_and(|repository| repository.is_loopback()));
    }

    #[test]
    fn what_is_not_a_repository_says_what_would_be_right() {
        for (text, expected) in [
            ("https://registry.example/api", "must be without `https://`"),
            ("api:1.2", "write `tag: 1.2` beside it"),
            ("registry.example:5000/api:latest", "write `tag: latest` beside it"),
            ("api@sha256:00", "without a digest"),
            ("Api", "is not the name of a repository"),
            ("registry.example/", "is not the name of a repository"),
            ("registry.example/a/../b", "is not the name of a repository"),
            ("", "is not the name of a repository"),
            ("evil.example?x=/a", "is not the address of a registry"),
            ("me@evil.example/a", "is not the address of a registry"),
            ("registry.example:70000/a", "is not the address of a registry"),
        ] {
            let error = Repository::parse(text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn tags_and_digests() {
        assert!(
            is_tag("v1.2_3-x")
                && is_tag("_")
                && !is_tag("")
                && !is_tag("a/b")
                && !is_tag(".a")
                && !is_tag(&"a".repeat(129))
        );
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest_of(b""), empty);
        assert!(
            is_digest(empty)
                && !is_digest(&empty.to_uppercase())
                && !is_digest("sha256:../../x")
                && !is_digest("md5:00")
        );
    }
}
