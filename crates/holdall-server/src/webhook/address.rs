//! When two addresses are of the same repository.
//!
//! Webhooks name a repository by addresses of their choice, resources by another one. What differs without meaning another
//! repository is left out: the way there (https, ssh, git), user and password, `.git`, the case of names.

/// Whether two addresses of git repositories are of the same one: `https://host/a/b.git`, `git@host:a/b`,
/// `ssh://git@host:2222/a/b`. Ports are left out, since https and ssh have different ones on the same host; the case of
/// paths too, since the hosts that send webhooks make no difference.
pub fn same_git(one: &str, other: &str) -> bool {
    matches!((git_identity(one), git_identity(other)), (Some(one), Some(other)) if one == other)
}

/// `host/path`, or `file:/path` on this machine, where a hook of the repository itself may be the sender.
fn git_identity(address: &str) -> Option<String> {
    let address = address.trim();
    if let Some(path) = address.strip_prefix("file://").or(Some(address)).filter(|path| path.starts_with('/')) {
        let path = path.trim_end_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path).trim_end_matches('/');
        return (!path.is_empty()).then(|| format!("file:{path}"));
    }
    let (host, path) = match address.split_once("://") {
        Some((scheme, rest)) => {
            let known = ["http", "https", "ssh", "git", "git+ssh", "git+https", "git+http"];
            known.iter().find(|known| scheme.eq_ignore_ascii_case(known))?;
            rest.split_once('/')?
        }
        // The form of scp: a colon before the first slash.
        None => address.split_once(':').filter(|(host, _)| !host.contains('/'))?,
    };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let host = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or_default(),
    };
    let path = decoded(path).to_lowercase();
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path).trim_end_matches('/');
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    (!host.is_empty() && !path.is_empty()).then(|| format!("{host}/{path}"))
}

/// Undoes percent-encoding; what is not an escape stays.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escape = match (first, tail) {
            (b'%', [high, low, ..]) => (*high as char).to_digit(16).zip((*low as char).to_digit(16)),
            _ => None,
        };
        match escape {
            Some((high, low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether two names of image repositories are of the same one: `api` is `docker.io/library/api`, and the usual port of a
/// registry is none.
pub fn same_image(one: &str, other: &str) -> bool {
    matches!((image_identity(one), image_identity(other)), (Some(one), Some(other)) if one == other)
}

fn image_identity(name: &str) -> Option<String> {
    const DOCKER_HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];
    let (host, path) = match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first.eq_ignore_ascii_case("localhost") => (first, rest),
        _ => (DOCKER_HUB[0], name),
    };
    let host = host.to_ascii_lowercase();
    let host = host.strip_suffix(":443").or(host.strip_suffix(":80")).unwrap_or(&host);
    if path.is_empty() {
        return None;
    }
    Some(match DOCKER_HUB.contains(&host) {
        true if path.contains('/') => format!("{}/{path}", DOCKER_HUB[0]),
        true => format!("{}/library/{path}", DOCKER_HUB[0]),
        false => format!("{host}/{path}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_to_one_git_repository() {
        let ways = [
            "https://git.example/Team/api.git",
            "https://git.example/team/api",
            "https://GIT.example/team/api/",
            "https://me:secret@git.example:8443/team/api.git",
            "http://git.example/team/api.git/",
            "git@git.example:team/api.git",
            "git.example:/team/api",
            "ssh://git@git.example:2222/team/api.git",
            "git+ssh://git@git.example/team/api",
            "git://git.example/team/api.git",
            "https://git.example./team/%61pi.git?x#y",
        ];
        for way in ways {
            assert!(same_git(ways[0], way), "{way}");
        }
        for other in [
            "https://git.example/team/api2.git",
            "https://git.example/team",
            "https://other.example/team/api.git",
            "https://git.example.evil/team/api.git",
            "/srv/git/team/api.git",
            "file:///team/api.git",
            "https://git.example/",
            "https://git.example",
            "",
            ":",
            "https:///team/api",
        ] {
            assert!(!same_git(ways[0], other), "{other}");
            assert!(!same_git(other, ""), "{other}");
        }
        assert!(same_git("/srv/git/a.git", "file:///srv/git/a"));
        assert!(!same_git("/srv/git/a", "/srv/git/b"));
        // What is not an address is not even the same as itself.
        assert!(!same_git("a", "a"));
        assert!(!same_git("/", "/"));
    }

    #[test]
    fn names_of_one_image_repository() {
        for (one, other) in [
            ("api", "docker.io/library/api"),
            ("team/api", "index.docker.io/team/api"),
            ("Registry.example/team/api", "registry.example:443/team/api"),
            ("localhost/api", "LOCALHOST:80/api"),
        ] {
            assert!(same_image(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("api", "team/api"),
            ("registry.example:5000/api", "registry.example/api"),
            ("registry.example/Api", "registry.example/api"),
            ("registry.example/", "registry.example/"),
            ("", ""),
        ] {
            assert!(!same_image(one, other), "{one} {other}");
        }
    }
}
