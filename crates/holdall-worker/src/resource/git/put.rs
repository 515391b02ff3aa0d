//! `out`: pushes the commits and tags of an artifact.
//!
//! All changes (tags, rebasing, merging, notes) are made in a private clone: the artifact stays as the task left it.

use std::fs;
use std::path::{Path, PathBuf};

use holdall_protocol::worker::ResourceResult;

use super::super::fields::Fields;
use super::super::{Context, Request, ResourceError, Version, path_below, result};
use super::command::{Failure, Git};
use super::log::Commit;
use super::source::{Source, is_ref_name};

/// How often a push is tried again because somebody else was faster. Each time git fetches first, so nobody gets
/// here without that many pushes by others.
const MAX_ATTEMPTS: usize = 50;

/// How the artifact's commits get onto a branch that has others meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Catching {
    /// Not at all: the push is refused.
    No,
    /// Put on top of them.
    Rebase,
    /// Merged with them; the version is the merge, or the commit before it.
    Merge { returning_merged: bool },
}

struct Params {
    repository: PathBuf,
    branch: Option<String>,
    catching: Catching,
    force: bool,
    only_tag: bool,
    tag: Option<String>,
    /// The message of an annotated tag.
    annotation: Option<String>,
    notes: Option<String>,
}

impl Params {
    fn parse(request: &Request, source: &Source, dir: &Path) -> Result<Params, ResourceError> {
        let mut fields = Fields::new("params", request.params.clone());
        fields.unsupported(&["refspec", "push_options"], "push in a task");
        let repository = fields.required_text("repository");
        let branch = fields.text("branch").filter(|branch| !branch.is_empty()).or_else(|| source.branch.clone());
        let (rebase, merge) = (fields.flag("rebase"), fields.flag("merge"));
        let returning = fields.text("returning");
        let tag_file = fields.text("tag").filter(|file| !file.is_empty());
        let tag_prefix = fields.text("tag_prefix").unwrap_or_default();
        let annotate_file = fields.text("annotate").filter(|file| !file.is_empty());
        let notes_file = fields.text("notes").filter(|file| !file.is_empty());
        let (force, only_tag) = (fields.flag("force"), fields.flag("only_tag"));
        if rebase && merge {
            fields.problem("`rebase` and `merge` in params exclude each other");
        }
        if !matches!(returning.as_deref(), None | Some("merged" | "unmerged")) {
            fields.problem("`returning` in params must be `merged` or `unmerged`");
        }
        match branch.as_deref() {
            Some(branch) if !is_ref_name(branch) => {
                fields.problem(format!("`branch` in params: `{branch}` cannot be the name of a branch"));
            }
            None if !only_tag => fields.problem("a put needs `branch`, in the source or in params"),
            _ => {}
        }
        if annotate_file.is_some() && tag_file.is_none() {
            fields.problem("`annotate` in params needs `tag`");
        }
        fields.finish()?;

        let read = |key: &str, file: &Option<String>| -> Result<Option<String>, ResourceError> {
            let Some(file) = file else { return Ok(None) };
            let path = path_below(dir, key, file)?;
            fs::read_to_string(&path).map(Some).map_err(ResourceError::file("read", &path))
        };
        let tag = read("tag", &tag_file)?.map(|name| format!("{tag_prefix}{}", name.trim()));
        if let Some(tag) = tag.as_deref().filter(|tag| !is_ref_name(tag)) {
            return Err(ResourceError::Invalid(vec![format!("`{tag}` cannot be the name of a tag")]));
        }
        let catching = match (rebase, merge) {
            (true, _) => Catching::Rebase,
            (_, true) => Catching::Merge { returning_merged: returning.as_deref() != Some("unmerged") },
            _ => Catching::No,
        };
        Ok(Params {
            repository: path_below(dir, "repository", &repository)?,
            branch,
            catching,
            force,
            only_tag,
            tag,
            annotation: read("annotate", &annotate_file)?,
            notes: read("notes", &notes_file)?,
        })
    }
}

/// Pushes the `HEAD` of `params.repository`, a repository below `dir`, and gives what it has become as version.
pub(in super::super) fn put(request: &Request, dir: &Path, ctx: &Context) -> Result<ResourceResult, ResourceError> {
    let source = Source::parse(request)?;
    let params = Params::parse(request, &source, dir)?;
    let git = Git::new(&source, ctx)?.with_env("GIT_CEILING_DIRECTORIES", dir);
    git.require_version()?;
    if !params.repository.is_dir() {
        return Err(ResourceError::failed(format!(
            "there is no artifact {}: `repository` is the name of a get or of an output",
            params.repository.display()
        )));
    }
    if !git.holds(&params.repository, &["rev-parse", "--verify", "--quiet", "HEAD^{commit}"])? {
        return Err(ResourceError::failed(format!(
            "{} is not a git repository with a commit",
            params.repository.display()
        )));
    }
    let clone = git.private_dir().join("clone");
    let (from, to) = (params.repository.to_string_lossy().into_owned(), clone.to_string_lossy().into_owned());
    git.run(git.private_dir(), &["clone", "--quiet", "--shared", "--no-checkout", "--", &from, &to])?;
    git.run(&clone, &["config", "remote.origin.url", &source.uri])?;

    let head = git.read(&clone, &["rev-parse", "--verify", "HEAD^{commit}"])?.trim().to_owned();
    git.run(&clone, &["checkout", "--quiet", "--force", "--detach", &head])?;
    let pushed = push(&source, &params, &git, &clone, &head)?;
    let commit = Commit::read(&git, &clone, &pushed)?;
    git.log().line(format_args!("{} {}", &commit.id, commit.message.lines().next().unwrap_or_default()));
    let metadata = commit.metadata(&source.uri, params.branch.as_deref());
    Ok(result(Version::from([("ref".to_owned(), pushed)]), metadata))
}

/// Pushes until nobody else was faster; gives the commit that is the version.
fn push(source: &Source, params: &Params, git: &Git, clone: &Path, head: &str) -> Result<String, ResourceError> {
    let mut args = vec!["push", "--porcelain", "--tags"];
    if params.force {
        args.push("--force");
    }
    args.extend(["--", &source.uri]);
    let target = params.branch.as_ref().map(|branch| format!("HEAD:refs/heads/{branch}"));
    if !params.only_tag {
        args.extend(target.as_deref());
    }
    if params.notes.is_some() {
        args.push("refs/notes/*:refs/notes/*");
    }
    for attempt in 1.. {
        if !params.only_tag
            && let Some(branch) = &params.branch
        {
            catch_up(source, params.catching, branch, git, clone, head)?;
        }
        let version = match params.catching {
            Catching::Merge { returning_merged: false } => head.to_owned(),
            _ => git.read(clone, &["rev-parse", "--verify", "HEAD^{commit}"])?.trim().to_owned(),
        };
        set_tag(params, git, clone)?;
        add_notes(source, params, git, clone)?;
        match git.try_run(clone, &args)? {
            Ok(_) => return Ok(version),
            Err(failure)
                if was_overtaken(&failure, params) && params.catching != Catching::No && attempt < MAX_ATTEMPTS =>
            {
                git.log().line("somebody else has pushed meanwhile: trying again");
            }
            Err(failure) => return Err(refused(source, params, git, &args, &failure)),
        }
    }
    unreachable!("the loop ends by returning")
}

/// Brings the branch's commits in, by rebasing on them or merging them.
fn catch_up(
    source: &Source,
    catching: Catching,
    branch: &str,
    git: &Git,
    clone: &Path,
    head: &str,
) -> Result<(), ResourceError> {
    if catching == Catching::No {
        return Ok(());
    }
    let remote_ref = format!("refs/heads/{branch}");
    if git.read(clone, &["ls-remote", "--", &source.uri, &remote_ref])?.trim().is_empty() {
        return Ok(());
    }
    let refspec = format!("+{remote_ref}:refs/holdall/upstream");
    let deepen: &[&str] = if clone.join(".git/shallow").is_file() { &["--unshallow"] } else { &[] };
    let args = [&["fetch", "--quiet", "--no-tags"], deepen, &["--", &source.uri, &refspec]].concat();
    git.run(clone, &args)?;
    git.run(clone, &["checkout", "--quiet", "--force", "--detach", head])?;
    let args: &[&str] = match catching {
        Catching::Rebase => &["rebase", "--quiet", "refs/holdall/upstream"],
        _ => &["merge", "--quiet", "--no-edit", "refs/holdall/upstream"],
    };
    if git.try_run(clone, args)?.is_ok() {
        return Ok(());
    }
    let files = git.read(clone, &["diff", "--name-only", "--diff-filter=U"])?;
    let files = files.lines().collect::<Vec<_>>().join(", ");
    let verb = args[0];
    Err(ResourceError::failed(if files.is_empty() {
        format!("git {verb} on the branch `{branch}` of {} failed; the log says why", source.uri)
    } else {
        format!(
            "git {verb} on the branch `{branch}` of {} has conflicts in {files}: solve them and push again",
            source.uri
        )
    }))
}

fn set_tag(params: &Params, git: &Git, clone: &Path) -> Result<(), ResourceError> {
    let Some(tag) = &params.tag else { return Ok(()) };
    match &params.annotation {
        Some(message) => git.run(clone, &["tag", "--force", "--annotate", "--message", message, "--", tag, "HEAD"]),
        None => git.run(clone, &["tag", "--force", "--", tag, "HEAD"]),
    }
}

fn add_notes(source: &Source, params: &Params, git: &Git, clone: &Path) -> Result<(), ResourceError> {
    let Some(notes) = &params.notes else { return Ok(()) };
    git.run(clone, &["fetch", "--quiet", "--no-tags", "--", &source.uri, "+refs/notes/*:refs/notes/*"])?;
    git.run(clone, &["notes", "add", "--force", "--message", notes, "HEAD"])
}

/// Whether the branch was refused because it has commits that ours does not. A tag that is refused is not that.
fn was_overtaken(failure: &Failure, params: &Params) -> bool {
    let Some(branch) = &params.branch else { return false };
    let target = format!(":refs/heads/{branch}\t");
    let refused = |line: &&str| line.starts_with('!') && line.contains(&target);
    let reasons = ["fetch first", "non-fast-forward", "cannot lock ref", "failed to update ref", "stale info"];
    failure.stdout.lines().find(refused).is_some_and(|line| reasons.iter().any(|reason| line.contains(reason)))
        && !failure.stdout.lines().any(|line| line.starts_with('!') && line.contains(":refs/tags/"))
}

/// The error of a push that is not tried again.
fn refused(source: &Source, params: &Params, git: &Git, args: &[&str], failure: &Failure) -> ResourceError {
    let branch = params.branch.as_deref().unwrap_or_default();
    if was_overtaken(failure, params) {
        let remedy = match params.catching {
            Catching::No => "get the newest version first, or set `rebase: true`",
            _ => "it moved again with every attempt",
        };
        return ResourceError::failed(format!(
            "the branch `{branch}` of {} has commits that {} has not: {remedy}",
            source.uri,
            params.repository.display()
        ));
    }
    let rejected: Vec<&str> = failure.stdout.lines().filter_map(|line| line.strip_prefix("!\t")).collect();
    if rejected.is_empty() {
        return git.explain(args, failure);
    }
    ResourceError::failed(format!("{} refused {}", source.uri, rejected.join("; ").replace('\t', " ")))
}
