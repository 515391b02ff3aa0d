//! `mock`: versions and files that a test pipeline makes up. Behaves as the community's type of that name does.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use holdall_protocol::worker::{MetadataField, ResourceResult};
use serde_json::{Map, Value};

use super::duration::GoDuration;
use super::fields::Fields;
use super::{Context, Request, ResourceError, Version, path_below};

/// What a check finds when nothing else says so.
const DEFAULT_VERSION: &str = "mock";

#[derive(Default)]
struct Source {
    mirror_self: bool,
    initial_version: Option<String>,
    no_initial_version: bool,
    force_version: Option<String>,
    create_files: Map<String, Value>,
    check_delay: Option<String>,
    check_failure: Option<String>,
    metadata: Vec<(String, String)>,
    log: Option<String>,
}

impl Source {
    fn parse(request: &Request) -> Result<Source, ResourceError> {
        let mut fields = Fields::new("source", request.source.clone());
        let source = Source {
            mirror_self: fields.flag("mirror_self"),
            initial_version: fields.text("initial_version").filter(|text| !text.is_empty()),
            no_initial_version: fields.flag("no_initial_version"),
            force_version: fields.text("force_version").filter(|text| !text.is_empty()),
            create_files: fields.object("create_files").unwrap_or_default(),
            check_delay: fields.text("check_delay").filter(|text| !text.is_empty()),
            check_failure: fields.text("check_failure").filter(|text| !text.is_empty()),
            metadata: fields.pairs("metadata"),
            log: fields.text("log").filter(|text| !text.is_empty()),
        };
        fields.finish()?;
        Ok(source)
    }

    fn write_log(&self, ctx: &Context) {
        if let Some(text) = &self.log {
            ctx.log.line(text);
        }
    }

    fn result(&self, version: &str, ctx: &Context) -> ResourceResult {
        let metadata =
            self.metadata.iter().map(|(name, value)| MetadataField { name: name.clone(), value: value.clone() });
        ResourceResult { version: made(version, ctx), metadata: metadata.collect() }
    }
}

/// A version of this type: it says when the step runs privileged.
fn made(version: &str, ctx: &Context) -> Version {
    let mut map = Version::from([("version".to_owned(), version.to_owned())]);
    if ctx.is_privileged() {
        map.insert("privileged".to_owned(), "true".to_owned());
    }
    map
}

/// At most one version: the forced one, the given one, or the initial one.
pub(super) fn check(request: &Request, ctx: &Context) -> Result<Vec<Version>, ResourceError> {
    let source = Source::parse(request)?;
    source.write_log(ctx);
    if let Some(delay) = &source.check_delay {
        let delay: GoDuration =
            delay.parse().map_err(|message| ResourceError::failed(format!("check_delay: {message}")))?;
        std::thread::sleep(delay.0);
    }
    if let Some(text) = &source.check_failure {
        return Err(ResourceError::failed(format!("intentionally failing to check: {text}")));
    }
    if let Some(forced) = &source.force_version {
        return Ok(vec![made(forced, ctx)]);
    }
    if let Some(given) = request.version.as_ref().filter(|version| !version.is_empty()) {
        return Ok(vec![given.clone()]);
    }
    if source.no_initial_version {
        return Ok(Vec::new());
    }
    let initial = source.initial_version.as_deref().or(ctx.var("MIRRORED_VERSION")).unwrap_or(DEFAULT_VERSION);
    Ok(vec![made(initial, ctx)])
}

/// Writes the version and the files that were asked for.
pub(super) fn get(request: &Request, dir: &Path, ctx: &Context) -> Result<ResourceResult, ResourceError> {
    let source = Source::parse(request)?;
    let mut fields = Fields::new("params", request.params.clone());
    let mirror_via_params = fields.flag("mirror_self_via_params");
    let mut files = source.create_files.clone();
    files.extend(fields.object("create_files_via_params").unwrap_or_default());
    fields.finish()?;
    let version = request.required_version()?;
    let version = version
        .get("version")
        .ok_or_else(|| ResourceError::Invalid(vec!["the version to fetch has no key `version`".to_owned()]))?;

    source.write_log(ctx);
    let privileged = ctx.is_privileged();
    if privileged {
        ctx.log.line("fetching in a privileged container");
    }
    write(&dir.join("privileged"), &format!("{privileged}\n"))?;
    ctx.log.line(format_args!("fetching version: {version}"));
    write(&dir.join("version"), &format!("{version}\n"))?;
    if source.mirror_self || mirror_via_params {
        ctx.log.line("mirroring self image");
        mirror_self(dir, version)?;
    }
    for (path, content) in &files {
        let target = path_below(dir, "create_files", path)?;
        let content = match content {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        write(&target, &content.replace("START_VAR", "((").replace("END_VAR", "))"))?;
    }
    Ok(source.result(version, ctx))
}

/// Makes up the version that it was given.
pub(super) fn put(request: &Request, dir: &Path, ctx: &Context) -> Result<ResourceResult, ResourceError> {
    let source = Source::parse(request)?;
    let mut fields = Fields::new("params", request.params.clone());
    let version = fields.text("version").filter(|text| !text.is_empty());
    let file = fields.text("file").filter(|text| !text.is_empty());
    let print_env = fields.flag("print_env");
    fields.finish()?;

    source.write_log(ctx);
    if print_env {
        for (name, value) in &ctx.env {
            ctx.log.line(format_args!("env: {name}={value}"));
        }
    }
    let version = match (version, file) {
        (Some(version), _) => version,
        (None, Some(file)) => {
            let path = path_below(dir, "file", &file)?;
            fs::read_to_string(&path).map_err(ResourceError::file("read", &path))?
        }
        (None, None) => return Err(ResourceError::failed("no version specified")),
    };
    if ctx.is_privileged() {
        ctx.log.line("pushing in a privileged container");
    }
    ctx.log.line(format_args!("pushing version: {version}"));
    Ok(source.result(&version, ctx))
}

/// A root file system with a shell, where this machine has a busybox to put into it, and the image's metadata.
fn mirror_self(dir: &Path, version: &str) -> Result<(), ResourceError> {
    let rootfs = dir.join("rootfs");
    for folder in ["bin", "dev", "etc", "proc", "root", "sys", "tmp", "usr/bin"] {
        let path = rootfs.join(folder);
        fs::create_dir_all(&path).map_err(ResourceError::file("make", &path))?;
    }
    write(&rootfs.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from).into_iter().find(|path| path.is_file());
    if let Some(busybox) = busybox {
        let shell = rootfs.join("bin/sh");
        fs::copy(&busybox, &shell).map_err(ResourceError::file("copy busybox to", &shell))?;
        fs::set_permissions(&shell, fs::Permissions::from_mode(0o755))
            .map_err(ResourceError::file("make executable", &shell))?;
    }
    let metadata = serde_json::json!({"env": [format!("MIRRORED_VERSION={version}")], "user": "root"});
    write(&dir.join("metadata.json"), &metadata.to_string())
}

fn write(path: &Path, content: &str) -> Result<(), ResourceError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(ResourceError::file("make", parent))?;
    }
    fs::write(path, content).map_err(ResourceError::file("write", path))
}
