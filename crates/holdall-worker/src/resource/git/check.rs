//! `check`: which commits or tags there are since the given version.
//!
//! The remote is asked with one `git ls-remote`. When its answer is what it was the last time (or the branch's head is
//! the given version), that is all. Only otherwise the cache fetches, and git is asked which commits count.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::super::fields::did_you_mean;
use super::super::{Context, Request, ResourceError, Version};
use super::cache::{self, Cache};
use super::command::{Enough, Git};
use super::log::Commit;
use super::source::{Source, is_commit};

/// Versions since the given one, oldest first, with it; the newest ones (`version_depth`, usually one) on a first
/// check and when the given version is no longer there. An empty repository has none.
pub(in super::super) fn check(request: &Request, ctx: &Context) -> Result<Vec<Version>, ResourceError> {
    let source = Source::parse(request)?;
    let from = request.version.as_ref().filter(|version| !version.is_empty());
    let git = Git::new(&source, ctx)?;
    let remote = Remote::ask(&source, &git)?;
    if source.tags.is_none() {
        let Some((_, head)) = &remote.head else { return missing_branch(&source, &git) };
        if let Some(from) = from.filter(|from| from.get("ref") == Some(head)) {
            return Ok(vec![from.clone()]);
        }
    } else if remote.tags.is_empty() {
        return Ok(Vec::new());
    }

    let memory = Memory::open(request, ctx);
    let state = remote.digest();
    if let Some(versions) = memory.as_ref().and_then(|memory| memory.recall(&state, from)) {
        return Ok(versions);
    }
    let cache = Cache::open(&source, &git, ctx)?;
    let (versions, fetched_state) = match &remote.head {
        Some((branch, head)) if source.tags.is_none() => {
            let fetched = fetch_branch(&cache, &source, &git, branch, head)?;
            (commits(&cache, &source, &git, &fetched, from)?, *head == fetched)
        }
        _ => (tags(&cache, &source, &git, &remote, from)?, true),
    };
    // A remote that changed between the two questions is not worth remembering.
    if let Some(memory) = memory.filter(|_| fetched_state) {
        memory.remember(&state, from, &versions);
    }
    Ok(versions)
}

/// At most so many versions of one check are described: a change list shows no more.
const MOST_DESCRIBED: usize = 100;

/// What is known about the versions that a check found, in their order: the commits' authors, dates and messages. The
/// version that the check was given is known already and gets nothing. Nothing is an error here: a version that
/// cannot be described is one all the same.
pub(in super::super) fn describe(
    request: &Request,
    ctx: &Context,
    versions: &[Version],
) -> Vec<Vec<(&'static str, String)>> {
    let is_new = |version: &&Version| request.version.as_ref() != Some(*version);
    if !versions.iter().any(|version| is_new(&version)) {
        return Vec::new();
    }
    let opened = Source::parse(request).and_then(|source| {
        let git = Git::new(&source, ctx)?;
        let cache = Cache::open(&source, &git, ctx)?;
        Ok((source, git, cache))
    });
    let Ok((source, git, cache)) = opened else { return Vec::new() };
    let undescribed = versions.len().saturating_sub(MOST_DESCRIBED);
    versions
        .iter()
        .enumerate()
        .map(|(index, version)| {
            let commit = version.get("commit").or_else(|| version.get("ref"));
            match commit.filter(|commit| index >= undescribed && is_new(&version) && is_commit(commit)) {
                Some(commit) => Commit::read(&git, cache.repository(), commit)
                    .map(|commit| commit.metadata(&source.uri, source.branch.as_deref()))
                    .unwrap_or_default(),
                None => Vec::new(),
            }
        })
        .collect()
}

/// What `ls-remote` said, as far as it matters.
struct Remote {
    /// The branch that is looked at and its head.
    head: Option<(String, String)>,
    /// Names of matching tags, and what they point to (the last entry of a name is the commit of an annotated tag).
    tags: BTreeMap<String, String>,
}

impl Remote {
    fn ask(source: &Source, git: &Git) -> Result<Remote, ResourceError> {
        let branch_ref = source.branch.as_ref().map(|branch| format!("refs/heads/{branch}"));
        let mut args = vec!["ls-remote", "--symref", "--", &source.uri];
        args.push(branch_ref.as_deref().unwrap_or("HEAD"));
        if source.tags.is_some() {
            args.push("refs/tags/*");
        }
        let text = git.read(git.private_dir(), &args)?;
        let mut head_branch = source.branch.clone();
        let mut remote = Remote { head: None, tags: BTreeMap::new() };
        for (value, name) in text.lines().filter_map(|line| line.split_once('\t')) {
            if let Some(target) = value.strip_prefix("ref: ") {
                if name == "HEAD" && source.branch.is_none() {
                    head_branch = target.strip_prefix("refs/heads/").map(str::to_owned);
                }
            } else if name == branch_ref.as_deref().unwrap_or("HEAD") {
                // A server that does not say which branch HEAD is gives the commit all the same.
                remote.head = Some((head_branch.clone().unwrap_or_else(|| "HEAD".to_owned()), value.to_owned()));
            } else if let Some(tag) = name.strip_prefix("refs/tags/") {
                let tag = tag.strip_suffix("^{}").unwrap_or(tag);
                if source.tags.as_ref().is_some_and(|filter| filter.matches(tag)) {
                    remote.tags.insert(tag.to_owned(), value.to_owned());
                }
            }
        }
        Ok(remote)
    }

    fn digest(&self) -> String {
        let text = serde_json::to_vec(&(&self.head, &self.tags)).expect("strings are always JSON");
        Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Tells a repository without any commit, which has no versions, from one without this branch.
fn missing_branch(source: &Source, git: &Git) -> Result<Vec<Version>, ResourceError> {
    let text = git.read(git.private_dir(), &["ls-remote", "--heads", "--", &source.uri])?;
    let branches: Vec<&str> =
        text.lines().filter_map(|line| line.split_once("\trefs/heads/")).map(|(_, name)| name).collect();
    if branches.is_empty() {
        return Ok(Vec::new());
    }
    let branch = source.branch.as_deref().unwrap_or("HEAD");
    Err(ResourceError::failed(format!(
        "there is no branch `{branch}` in {}{}",
        source.uri,
        did_you_mean(branch, branches.iter().copied())
    )))
}

/// Brings the branch into the cache, unless it has it already, and gives the head that it has then.
fn fetch_branch(cache: &Cache, source: &Source, git: &Git, branch: &str, head: &str) -> Result<String, ResourceError> {
    let (remote_ref, local_ref) = branch_refs(branch);
    if cache.commit(git, &local_ref)?.as_deref() != Some(head) {
        cache.fetch(source, git, &[format!("+{remote_ref}:{local_ref}")])?;
    }
    cache
        .commit(git, &local_ref)?
        .ok_or_else(|| ResourceError::failed(format!("the branch `{branch}` of {} went away", source.uri)))
}

/// A branch on the remote, and where the cache keeps it.
pub(super) fn branch_refs(branch: &str) -> (String, String) {
    match branch {
        "HEAD" => ("HEAD".to_owned(), "refs/heads/HEAD".to_owned()),
        branch => (format!("refs/heads/{branch}"), format!("refs/heads/{branch}")),
    }
}

/// The commits of the branch that count, after `from` if it is still on it.
fn commits(
    cache: &Cache,
    source: &Source,
    git: &Git,
    head: &str,
    from: Option<&Version>,
) -> Result<Vec<Version>, ResourceError> {
    let repository = cache.repository();
    let start = match from.and_then(|from| from.get("ref")) {
        Some(name) if !name.starts_with('-') => cache.commit(git, name)?,
        _ => None,
    };
    let start = match start {
        Some(start) if git.holds(repository, &["merge-base", "--is-ancestor", &start, head])? => Some(start),
        _ => None,
    };
    let range = start.as_ref().map_or_else(|| head.to_owned(), |start| format!("{start}..{head}"));
    let mut args =
        ["log", "-z", "--first-parent", "--no-show-signature", "--format=%H%n%B", &range].map(str::to_owned).to_vec();
    args.extend(source.pathspecs());
    let limit = if start.is_some() { usize::MAX } else { source.version_depth };
    let mut versions = Vec::new();
    git.records(repository, &args, |record| {
        let (id, message) = record.split_once('\n').unwrap_or((record, ""));
        if is_commit(id) && source.message_counts(message) {
            versions.push(Version::from([("ref".to_owned(), id.to_owned())]));
        }
        if versions.len() >= limit { Enough::Yes } else { Enough::No }
    })?;
    if let (Some(start), Some(from)) = (start, from) {
        // A version that was given by a short name or a branch is given back by its own.
        let same = from.get("ref") == Some(&start);
        versions.push(if same { from.clone() } else { Version::from([("ref".to_owned(), start)]) });
    }
    versions.reverse();
    Ok(versions)
}

/// The matching tags in the order in which they were made, from the given one on.
fn tags(
    cache: &Cache,
    source: &Source,
    git: &Git,
    remote: &Remote,
    from: Option<&Version>,
) -> Result<Vec<Version>, ResourceError> {
    if !source.paths.is_empty() || !source.ignore_paths.is_empty() {
        git.log().line("paths and ignore_paths are not looked at where there is a filter for tags");
    }
    let mut refspecs = vec!["+refs/tags/*:refs/tags/*".to_owned()];
    let mut args = ["for-each-ref", "--sort=version:refname", "--sort=creatordate"].map(str::to_owned).to_vec();
    args.push(
        "--format=%(refname:strip=2)%00%(objecttype)%00%(objectname)%00%(*objecttype)%00%(*objectname)".to_owned(),
    );
    if source.branch.is_some() {
        let Some((branch, _)) = &remote.head else { return missing_branch(source, git) };
        let (remote_ref, local_ref) = branch_refs(branch);
        refspecs.push(format!("+{remote_ref}:{local_ref}"));
        args.push(format!("--merged={local_ref}"));
    }
    args.push("refs/tags".to_owned());
    cache.fetch(source, git, &refspecs)?;
    let text = git.read(cache.repository(), &args)?;
    let mut versions = Vec::new();
    for line in text.lines() {
        let parts: Vec<&str> = line.split('\0').collect();
        let [name, kind, object, tagged_kind, tagged] = parts[..] else { continue };
        let commit = match (kind, tagged_kind) {
            ("commit", _) => object,
            (_, "commit") => tagged,
            _ => continue,
        };
        if source.tags.as_ref().is_some_and(|filter| filter.matches(name)) {
            versions
                .push(Version::from([("ref".to_owned(), name.to_owned()), ("commit".to_owned(), commit.to_owned())]));
        }
    }
    let since = from.and_then(|from| from.get("ref")).and_then(|name| {
        versions.iter().position(|version| [version.get("ref"), version.get("commit")].contains(&Some(name)))
    });
    let newest = versions.len().saturating_sub(source.version_depth);
    Ok(versions.split_off(since.unwrap_or(newest)))
}

/// What earlier checks of the same source found, as long as the remote stays what it was then.
struct Memory {
    file: PathBuf,
}

#[derive(Serialize, Deserialize, Default)]
struct Remembered {
    /// Digest of what the remote said.
    state: String,
    /// The given version (JSON), and what a check from it found.
    answers: BTreeMap<String, Vec<Version>>,
}

/// As many answers are kept: one for each version that checks start from, which is usually one.
const MAX_ANSWERS: usize = 16;

impl Memory {
    fn open(request: &Request, ctx: &Context) -> Option<Memory> {
        let dir = cache::directory(ctx)?;
        let source = serde_json::to_vec(&request.source).expect("an object is always JSON");
        let name: String = Sha256::digest(source).iter().map(|byte| format!("{byte:02x}")).collect();
        Some(Memory { file: dir.join(format!("{name}.check")) })
    }

    fn read(&self) -> Remembered {
        let read = fs::read(&self.file).ok();
        read.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    fn recall(&self, state: &str, from: Option<&Version>) -> Option<Vec<Version>> {
        let mut remembered = self.read();
        if remembered.state == state { remembered.answers.remove(&answer_key(from)) } else { None }
    }

    /// Keeps what was found, and that from the newest version on there is nothing new. Failing to is no failure of
    /// the check: the next one looks again.
    fn remember(&self, state: &str, from: Option<&Version>, versions: &[Version]) {
        let mut remembered = self.read();
        if remembered.state != state || remembered.answers.len() >= MAX_ANSWERS {
            remembered = Remembered { state: state.to_owned(), answers: BTreeMap::new() };
        }
        remembered.answers.insert(answer_key(from), versions.to_vec());
        if let Some(newest) = versions.last() {
            remembered.answers.insert(answer_key(Some(newest)), vec![newest.clone()]);
        }
        let _ = write_atomically(&self.file, &remembered);
    }
}

fn answer_key(from: Option<&Version>) -> String {
    serde_json::to_string(&from).expect("a map of strings is always JSON")
}

fn write_atomically(file: &Path, content: &Remembered) -> std::io::Result<()> {
    let dir = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let mut temporary = tempfile::NamedTempFile::new_in(dir)?;
    serde_json::to_writer(&mut temporary, content)?;
    temporary.persist(file)?;
    Ok(())
}
