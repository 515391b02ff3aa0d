//! `in`: the files of exactly one commit, in a repository that tasks can use.

use std::fs;
use std::path::Path;
use std::str::FromStr;

use holdall_protocol::worker::ResourceResult;
use serde_json::Value;

use super::super::fields::Fields;
use super::super::{Context, Request, ResourceError, Version, result};
use super::cache::Cache;
use super::check::branch_refs;
use super::command::Git;
use super::log::Commit;
use super::source::{Source, is_commit, is_ref_name};

/// What `params` may say.
struct Params {
    depth: Option<u32>,
    submodules: Submodules,
    submodule_recursive: bool,
    submodule_remote: bool,
    disable_git_lfs: bool,
    clean_tags: bool,
    fetch_tags: bool,
    /// More branches.
    fetch: Vec<String>,
    short_ref_format: String,
    timestamp_format: String,
    describe_ref_options: Vec<String>,
}

enum Submodules {
    All,
    None,
    These(Vec<String>),
}

impl FromStr for Submodules {
    type Err = String;

    fn from_str(text: &str) -> Result<Submodules, String> {
        match text {
            "all" => Ok(Submodules::All),
            "none" => Ok(Submodules::None),
            _ => Err("write `all`, `none` or a list of paths".to_owned()),
        }
    }
}

impl Params {
    fn parse(request: &Request) -> Result<Params, ResourceError> {
        let mut params = request.params.clone();
        let list_of_submodules = params.get("submodules").is_some_and(Value::is_array);
        let mut fields = Fields::new("params", std::mem::take(&mut params));
        fields.unsupported(&["sparse_paths"], "get the whole repository");
        let submodules = if list_of_submodules {
            Submodules::These(fields.texts("submodules"))
        } else {
            fields.parsed("submodules").unwrap_or(Submodules::All)
        };
        let params = Params {
            depth: fields.count("depth").filter(|depth| *depth > 0),
            submodules,
            submodule_recursive: fields.optional_flag("submodule_recursive").unwrap_or(true),
            submodule_remote: fields.flag("submodule_remote"),
            disable_git_lfs: fields.flag("disable_git_lfs"),
            clean_tags: fields.flag("clean_tags"),
            fetch_tags: fields.flag("fetch_tags"),
            fetch: fields.texts("fetch"),
            short_ref_format: fields.text("short_ref_format").unwrap_or_else(|| "%s".to_owned()),
            timestamp_format: fields.text("timestamp_format").unwrap_or_else(|| "iso8601".to_owned()),
            describe_ref_options: fields
                .text("describe_ref_options")
                .unwrap_or_else(|| "--always --dirty --broken".to_owned())
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
        };
        for branch in params.fetch.iter().filter(|branch| !is_ref_name(branch)) {
            fields.problem(format!("`fetch` in params: `{branch}` cannot be the name of a branch"));
        }
        fields.finish()?;
        Ok(params)
    }
}

/// Makes `dir` a repository with the version's commit checked out, and writes `.git/ref` and the other files.
pub(in super::super) fn get(request: &Request, dir: &Path, ctx: &Context) -> Result<ResourceResult, ResourceError> {
    let source = Source::parse(request)?;
    let params = Params::parse(request)?;
    let version = request.required_version()?;
    let wanted = Wanted::of(version)?;
    let mut git = Git::new(&source, ctx)?;
    if params.disable_git_lfs {
        git = git.with_env("GIT_LFS_SKIP_SMUDGE", "1");
    }
    git.run(dir, &["init", "--quiet", "."])?;
    git.run(dir, &["config", "remote.origin.url", &source.uri])?;
    git.run(dir, &["config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"])?;

    let commit = match shallow(&source, &params, &wanted, &git, dir)? {
        Some(commit) => commit,
        None => through_cache(&source, &params, &wanted, &git, dir, ctx)?,
    };
    git.run(dir, &["checkout", "--quiet", "--force", "--detach", &commit])?;
    for branch in &params.fetch {
        let refspec = format!("+refs/heads/{branch}:refs/remotes/origin/{branch}");
        git.run(dir, &["fetch", "--quiet", "--", &source.uri, &refspec])?;
    }
    if params.clean_tags {
        remove_tags(&git, dir)?;
    }
    update_submodules(&params, &git, dir)?;

    let commit = Commit::read(&git, dir, "HEAD")?;
    let metadata = commit.metadata(&source.uri, source.branch.as_deref());
    git.log().line(format_args!("{} {}", &commit.id, commit.message.lines().next().unwrap_or_default()));
    write_files(&source, &params, version, &commit, &git, dir)?;
    let result = result(version.clone(), metadata);
    let text = serde_json::to_string(&result.metadata).expect("metadata is always JSON");
    write(&dir.join(".git/metadata.json"), &text)?;
    Ok(result)
}

/// What a version names: a commit exactly, or a tag or branch that somebody wrote as a pin.
enum Wanted {
    Commit(String),
    Name(String),
}

impl Wanted {
    fn of(version: &Version) -> Result<Wanted, ResourceError> {
        let reference = version.get("ref").map(String::as_str).unwrap_or_default();
        match version.get("commit").filter(|commit| is_commit(commit)) {
            Some(commit) => Ok(Wanted::Commit(commit.clone())),
            None if is_commit(reference) => Ok(Wanted::Commit(reference.to_owned())),
            None if is_ref_name(reference) => Ok(Wanted::Name(reference.to_owned())),
            None => Err(ResourceError::Invalid(vec![format!(
                "the version to fetch needs `ref`, a commit or the name of a tag, not `{reference}`"
            )])),
        }
    }

    fn text(&self) -> &str {
        match self {
            Wanted::Commit(text) | Wanted::Name(text) => text,
        }
    }
}

/// With `depth`: asks the remote for just the commit. `None`: not asked for, or the remote gives only whole branches.
fn shallow(
    source: &Source,
    params: &Params,
    wanted: &Wanted,
    git: &Git,
    dir: &Path,
) -> Result<Option<String>, ResourceError> {
    let (Some(depth), Wanted::Commit(commit)) = (params.depth, wanted) else { return Ok(None) };
    if params.fetch_tags || source.fetch_tags {
        return Ok(None);
    }
    let depth = format!("--depth={depth}");
    let target = format!("+{commit}:{}", remote_ref(source));
    let args = ["fetch", "--quiet", &depth, "--", &source.uri, &target];
    match git.try_run(dir, &args)? {
        Ok(_) => Ok(Some(commit.clone())),
        Err(failure)
            if ["not our ref", "unadvertised object", "dumb http"].iter().any(|s| failure.stderr.contains(s)) =>
        {
            git.log().line("the remote does not give single commits: getting the whole branch");
            Ok(None)
        }
        Err(failure) => Err(git.explain(&args, &failure)),
    }
}

/// Brings the commit with its history into the cache, if it is not there, and from there into `dir`.
fn through_cache(
    source: &Source,
    params: &Params,
    wanted: &Wanted,
    git: &Git,
    dir: &Path,
    ctx: &Context,
) -> Result<String, ResourceError> {
    let cache = Cache::open(source, git, ctx)?;
    let all_tags = params.fetch_tags || source.fetch_tags;
    let commit = find_commit(&cache, source, wanted, all_tags, git)?;
    let cached = cache.repository().to_string_lossy().into_owned();
    let mut args = ["fetch", "--quiet", "--", &cached].map(str::to_owned).to_vec();
    args.push(format!("+{commit}:{}", remote_ref(source)));
    if all_tags {
        args.push("+refs/tags/*:refs/tags/*".to_owned());
    }
    git.run(dir, &args)?;
    Ok(commit)
}

/// The commit in the cache, fetched by the branch, by all branches and tags, or by itself.
fn find_commit(
    cache: &Cache,
    source: &Source,
    wanted: &Wanted,
    all_tags: bool,
    git: &Git,
) -> Result<String, ResourceError> {
    const EVERYTHING: [&str; 2] = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
    if all_tags {
        cache.fetch(source, git, &[EVERYTHING[1].to_owned()])?;
    }
    if let Wanted::Commit(commit) = wanted {
        if let Some(found) = cache.commit(git, commit)? {
            return Ok(found);
        }
        if let Some(branch) = &source.branch {
            let (remote_ref, local_ref) = branch_refs(branch);
            let args = vec![format!("+{remote_ref}:{local_ref}")];
            // The branch may be gone while the commit is not.
            if let Err(ResourceError::Failed(message)) = cache.fetch(source, git, &args) {
                git.log().line(message);
            }
            if let Some(found) = cache.commit(git, commit)? {
                return Ok(found);
            }
        }
    }
    cache.fetch(source, git, &EVERYTHING.map(str::to_owned))?;
    let names = match wanted {
        Wanted::Commit(commit) => vec![commit.clone()],
        Wanted::Name(name) => vec![format!("refs/tags/{name}"), format!("refs/heads/{name}"), name.clone()],
    };
    for name in &names {
        if let Some(found) = cache.commit(git, name)? {
            return Ok(found);
        }
    }
    if let Wanted::Commit(commit) = wanted {
        let args = ["fetch", "--quiet", "--no-write-fetch-head", "--", &source.uri, commit.as_str()];
        if git.try_run(cache.repository(), &args)?.is_ok()
            && let Some(found) = cache.commit(git, commit)?
        {
            return Ok(found);
        }
    }
    Err(ResourceError::failed(format!(
        "{} is not in {} any more: the branch was probably rewritten (force push), or the tag removed",
        wanted.text(),
        source.uri
    )))
}

/// Where the commit stands in the artifact: as the remote's branch, as in a clone of that moment.
fn remote_ref(source: &Source) -> String {
    format!("refs/remotes/origin/{}", source.branch.as_deref().unwrap_or("HEAD"))
}

fn remove_tags(git: &Git, dir: &Path) -> Result<(), ResourceError> {
    let tags = git.read(dir, &["tag", "--list"])?;
    let tags: Vec<&str> = tags.lines().collect();
    for some in tags.chunks(500) {
        git.run(dir, &[&["tag", "--delete", "--"], some].concat())?;
    }
    Ok(())
}

fn update_submodules(params: &Params, git: &Git, dir: &Path) -> Result<(), ResourceError> {
    if matches!(params.submodules, Submodules::None) || !dir.join(".gitmodules").is_file() {
        return Ok(());
    }
    let mut args = ["submodule", "--quiet", "update", "--init"].map(str::to_owned).to_vec();
    if params.submodule_recursive {
        args.push("--recursive".to_owned());
    }
    if params.submodule_remote {
        args.push("--remote".to_owned());
    }
    if let Some(depth) = params.depth {
        args.push(format!("--depth={depth}"));
    }
    args.push("--".to_owned());
    if let Submodules::These(paths) = &params.submodules {
        args.extend_from_slice(paths);
    }
    git.run(dir, &args)
}

/// The files that tasks and other resource types read.
fn write_files(
    source: &Source,
    params: &Params,
    version: &Version,
    commit: &Commit,
    git: &Git,
    dir: &Path,
) -> Result<(), ResourceError> {
    let reference = version.get("ref").unwrap_or(&commit.id);
    let short = params.short_ref_format.replacen("%s", &commit.id[..commit.id.len().min(7)], 1);
    let date = format!("--date={}", params.timestamp_format);
    let timestamp = git.read(dir, &["show", "--no-patch", "--no-show-signature", "--format=%cd", &date, "HEAD"])?;
    let mut describe = vec!["describe"];
    describe.extend(params.describe_ref_options.iter().map(String::as_str));
    let url = super::log::commit_url(&source.uri, &commit.id).unwrap_or_default();
    for (name, content) in [
        ("ref", format!("{reference}\n")),
        ("short_ref", short),
        ("commit_message", format!("{}\n", commit.message)),
        ("commit_timestamp", timestamp),
        ("committer", commit.author_email.clone()),
        ("branch", source.branch.as_ref().map(|branch| format!("{branch}\n")).unwrap_or_default()),
        ("tags", commit.tags.iter().map(|tag| format!("{tag}\n")).collect()),
        ("describe_ref", git.read(dir, &describe)?),
        ("url", url),
    ] {
        write(&dir.join(".git").join(name), &content)?;
    }
    Ok(())
}

fn write(path: &Path, content: &str) -> Result<(), ResourceError> {
    fs::write(path, content).map_err(ResourceError::file("write", path))
}
