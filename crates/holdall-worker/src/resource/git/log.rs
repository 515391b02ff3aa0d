//! What is said about a commit: the metadata of a version, which change lists are made of.

use std::path::Path;

use super::super::ResourceError;
use super::command::Git;

/// A message is cut here for the metadata; the file `.git/commit_message` has all of it.
const MAX_MESSAGE_BYTES: usize = 16 << 10;

/// One commit.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Commit {
    pub(super) id: String,
    pub(super) author: String,
    pub(super) author_email: String,
    pub(super) author_date: String,
    pub(super) committer: String,
    pub(super) committer_date: String,
    /// Names of the tags that point to it, in the order of their names.
    pub(super) tags: Vec<String>,
    pub(super) message: String,
}

impl Commit {
    /// Reads a commit of a repository.
    ///
    /// # Errors
    /// When there is no such commit there.
    pub(super) fn read(git: &Git, repository: &Path, name: &str) -> Result<Commit, ResourceError> {
        let format = "--format=%H%x00%an%x00%ae%x00%ai%x00%cn%x00%ci%x00%B";
        let text = git.read(repository, &["show", "--no-patch", "--no-show-signature", format, name])?;
        let tags = git.read(repository, &["tag", "--list", "--points-at", name])?;
        let mut parts = text.splitn(7, '\0').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Ok(Commit {
            id: next(),
            author: next(),
            author_email: next(),
            author_date: next(),
            committer: next(),
            committer_date: next(),
            message: next().trim_end().to_owned(),
            tags: tags.lines().map(str::to_owned).collect(),
        })
    }

    /// The metadata of the version.
    pub(super) fn metadata(&self, uri: &str, branch: Option<&str>) -> Vec<(&'static str, String)> {
        let mut metadata = vec![
            ("commit", self.id.clone()),
            ("author", self.author.clone()),
            ("author_date", self.author_date.clone()),
        ];
        if (&self.committer, &self.committer_date) != (&self.author, &self.author_date) {
            metadata.push(("committer", self.committer.clone()));
            metadata.push(("committer_date", self.committer_date.clone()));
        }
        if let Some(branch) = branch {
            metadata.push(("branch", branch.to_owned()));
        }
        if !self.tags.is_empty() {
            metadata.push(("tags", self.tags.join(",")));
        }
        let mut cut = self.message.len().min(MAX_MESSAGE_BYTES);
        while !self.message.is_char_boundary(cut) {
            cut -= 1;
        }
        metadata.push(("message", self.message[..cut].to_owned()));
        if let Some(url) = commit_url(uri, &self.id) {
            metadata.push(("url", url));
        }
        metadata
    }
}

/// The page of a commit, for the hosts whose pages are known by the name of the host.
pub(super) fn commit_url(uri: &str, commit: &str) -> Option<String> {
    let (host, path) = match uri.split_once("://") {
        Some(("http" | "https" | "ssh" | "git", rest)) => rest.split_once('/')?,
        Some(_) => return None,
        None => uri.split_once(':')?,
    };
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let host = host.split(':').next()?.to_ascii_lowercase();
    let path = path.trim_matches('/').trim_end_matches(".git");
    let page = match host.split('.').next()? {
        "github" => "commit",
        "gitlab" => "-/commit",
        "bitbucket" => "commits",
        _ => return None,
    };
    Some(format!("https://{host}/{path}/{page}/{commit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_commits() {
        for (uri, expected) in [
            ("https://github.com/a/b.git", Some("https://github.com/a/b/commit/c0")),
            ("git@GitHub.com:a/b.git", Some("https://github.com/a/b/commit/c0")),
            ("ssh://git@gitlab.example:2222/g/s/b", Some("https://gitlab.example/g/s/b/-/commit/c0")),
            ("https://bitbucket.org/a/b", Some("https://bitbucket.org/a/b/commits/c0")),
            ("https://git.example/a/b", None),
            ("/srv/git/b.git", None),
            ("file:///srv/git/b.git", None),
        ] {
            assert_eq!(commit_url(uri, "c0").as_deref(), expected, "{uri}");
        }
    }

    #[test]
    fn a_committer_is_named_only_where_it_is_someone_else() {
        let mut commit = Commit { author: "Ann".into(), committer: "Ann".into(), ..Commit::default() };
        let names = |commit: &Commit| commit.metadata("x", None).iter().map(|(name, _)| *name).collect::<Vec<_>>();
        assert_eq!(names(&commit), ["commit", "author", "author_date", "message"]);
        commit.committer = "Ben".into();
        commit.message = "é".repeat(MAX_MESSAGE_BYTES);
        let metadata = commit.metadata("x", Some("main"));
        assert_eq!(metadata[3], ("committer", "Ben".to_owned()));
        assert_eq!(metadata[5], ("branch", "main".to_owned()));
        assert_eq!(metadata[6].1.len(), MAX_MESSAGE_BYTES);
    }
}
