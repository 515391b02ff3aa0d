//! What the demo's folder is filled with: the repositories of the system "notify", working copies to change them in,
//! the system file, and the programs that its scripts call.
//!
//! Every part is made only where it is missing and appears whole or not at all, so a creation that was interrupted
//! is finished by the next start, and what a person has changed stays.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::folder::{Folder, OwnFolder, write_whole};
use super::git::{GitError, run_git};

/// The services of the system, each a repository.
pub const SERVICES: [&str; 6] =
    ["api", "admin", "document-download", "template-preview", "antivirus", "infrastructure"];

/// The branch that is released.
const BRANCH: &str = "main";

/// What can go wrong while the folder is filled.
#[derive(Debug, thiserror::Error)]
pub enum SystemError {
    /// Git says no.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The system says no.
    #[error("cannot write {path}")]
    Write {
        /// What was to be written.
        path: PathBuf,
        /// Why it was not.
        #[source]
        source: io::Error,
    },
}

fn cannot_write(path: &Path) -> impl FnOnce(io::Error) -> SystemError + use<> {
    let path = path.to_owned();
    move |source| SystemError::Write { path, source }
}

/// One file of a new repository.
struct Template {
    path: &'static str,
    text: &'static str,
}

/// A template from the folder `files`.
macro_rules! template {
    ($path:literal, $file:literal) => {
        Template { path: $path, text: include_str!(concat!("files/", $file)) }
    };
}

const INFRASTRUCTURE: &[Template] = &[
    template!("README.md", "infrastructure/README.md"),
    template!("ci/terraform-apply.yml", "infrastructure/ci/terraform-apply.yml"),
    template!("ci/terraform-apply.sh", "infrastructure/ci/terraform-apply.sh"),
    template!("ci/db-setup.yml", "infrastructure/ci/db-setup.yml"),
    template!("ci/db-setup.sh", "infrastructure/ci/db-setup.sh"),
    template!("ci/suite.yml", "infrastructure/ci/suite.yml"),
    template!("terraform/main.tf", "infrastructure/terraform/main.tf"),
    template!("terraform/settings.auto.tfvars.json", "infrastructure/terraform/settings.auto.tfvars.json"),
    template!("tests/functional.sh", "infrastructure/tests/functional.sh"),
    template!("tests/smoke.sh", "infrastructure/tests/smoke.sh"),
    template!("tests/api-clients.sh", "infrastructure/tests/api-clients.sh"),
    template!("tests/providers.sh", "infrastructure/tests/providers.sh"),
];

const API: &[Template] = &[
    template!("migrations/001_notifications.sql", "api/migrations/001_notifications.sql"),
    template!("migrations/002_state.sql", "api/migrations/002_state.sql"),
];

const TEMPLATE_PREVIEW: &[Template] = &[
    template!("templates/welcome.txt", "template-preview/templates/welcome.txt"),
    template!("templates/reminder.txt", "template-preview/templates/reminder.txt"),
];

const DOCUMENT_DOWNLOAD: &[Template] = &[template!("documents/terms.txt", "document-download/documents/terms.txt")];

const EVERY_SERVICE: &[Template] = &[template!("README.md", "service.md"), template!("service.conf", "service.conf")];

/// The files of a service's first commit: path, text, whether it can be run.
fn first_files(service: &str) -> Vec<(&'static str, String, bool)> {
    let (own, common): (&[Template], &[Template]) = match service {
        "infrastructure" => (INFRASTRUCTURE, &[]),
        "api" => (API, EVERY_SERVICE),
        "template-preview" => (TEMPLATE_PREVIEW, EVERY_SERVICE),
        "document-download" => (DOCUMENT_DOWNLOAD, EVERY_SERVICE),
        _ => (&[], EVERY_SERVICE),
    };
    let platform = if cfg!(target_os = "macos") { "darwin" } else { "linux" };
    let fill = |template: &Template| {
        let text = template
            .text
            .replace("@NAME@", service)
            .replace("@MESSAGE@", &format!("This is {service}."))
            .replace("@PLATFORM@", platform);
        (template.path, text, template.path.ends_with(".sh"))
    };
    own.iter().chain(common).map(fill).collect()
}

/// The system file for a demo in that folder, whose webhooks have that secret.
fn system_text(folder: &Folder, webhook_token: &str) -> String {
    let text = include_str!("files/system.yml").replace("@TOKEN@", webhook_token);
    text.replace("@ROOT@", &folder.root().to_string_lossy())
}

/// Fills the folder with what is missing in it, and makes what is there say where the folder is now.
pub fn fill(own: &mut OwnFolder) -> Result<(), SystemError> {
    let folder = own.folder.clone();
    for part in ["repositories", "services", "world/databases", "world/logs", "world/terraform"] {
        let path = folder.root().join(part);
        fs::create_dir_all(&path).map_err(cannot_write(&path))?;
    }
    write_programs(&folder)?;
    for service in SERVICES {
        make_repository(&folder, service)?;
        make_working_copy(&folder, service)?;
    }
    let path = folder.system_file();
    if !path.exists() {
        write_whole(&path, system_text(&folder, &own.marker.webhook_token).as_bytes()).map_err(cannot_write(&path))?;
    }
    let path = folder.root().join("README.md");
    if !path.exists() {
        write_whole(&path, include_bytes!("files/README.md")).map_err(cannot_write(&path))?;
    }
    if let Some(before) = own.moved_from.clone() {
        follow_move(&folder, &before)?;
        own.settle().map_err(|error| SystemError::Write { path: folder.marker(), source: io::Error::other(error) })?;
    }
    Ok(())
}

/// Writes `bin`: this program, and Terraform or OpenTofu where one is on the PATH and runs. They are small scripts,
/// since a step's PATH is its own and version managers want to be called by their own name.
fn write_programs(folder: &Folder) -> Result<(), SystemError> {
    let bin = folder.bin();
    fs::create_dir_all(&bin).map_err(cannot_write(&bin))?;
    let this = std::env::current_exe().map_err(cannot_write(&bin))?;
    write_program(&bin.join("holdall"), &this)?;
    let mut found = false;
    for name in ["terraform", "tofu"] {
        let path = bin.join(name);
        match find_program(name).filter(|program| !found && runs(program)) {
            Some(program) => {
                write_program(&path, &program)?;
                found = true;
            }
            None if path.exists() => fs::remove_file(&path).map_err(cannot_write(&path))?,
            None => {}
        }
    }
    Ok(())
}

fn write_program(path: &Path, program: &Path) -> Result<(), SystemError> {
    let text = format!("#!/bin/sh\nexec {} \"$@\"\n", quoted(&program.to_string_lossy()));
    if fs::read_to_string(path).is_ok_and(|found| found == text) {
        return Ok(());
    }
    let new = path.with_extension("new");
    fs::write(&new, text).map_err(cannot_write(&new))?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).map_err(cannot_write(&new))?;
    fs::rename(&new, path).map_err(cannot_write(path))
}

/// A word as `/bin/sh` reads it back.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// The first program of that name on the PATH.
fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).filter(|dir| dir.is_absolute()).map(|dir| dir.join(name)).find(|program| {
        fs::metadata(program).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    })
}

/// Whether the program tells its version in an environment as bare as a step's.
fn runs(program: &Path) -> bool {
    Command::new(program)
        .arg("version")
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", "/")
        .env("CHECKPOINT_DISABLE", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Makes the bare repository of a service with its first commit in it.
fn make_repository(folder: &Folder, service: &str) -> Result<(), SystemError> {
    let path = folder.repository(service);
    if !path.exists() {
        // Built beside, then renamed: a repository is there with its first commit or not at all.
        let new = path.with_extension("new");
        let seed = path.with_extension("seed");
        for left in [&new, &seed] {
            if left.exists() {
                fs::remove_dir_all(left).map_err(cannot_write(left))?;
            }
            fs::create_dir_all(left).map_err(cannot_write(left))?;
        }
        for (name, text, can_run) in first_files(service) {
            let file = seed.join(name);
            if let Some(parent) = file.parent() {
                fs::create_dir_all(parent).map_err(cannot_write(parent))?;
            }
            fs::write(&file, text).map_err(cannot_write(&file))?;
            let mode = if can_run { 0o755 } else { 0o644 };
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).map_err(cannot_write(&file))?;
        }
        let head = format!("refs/heads/{BRANCH}");
        run_git(&new, &["init", "--quiet", "--bare"])?;
        run_git(&new, &["symbolic-ref", "HEAD", &head])?;
        // Against a `core.hooksPath` of the user, which would hide the hook below.
        run_git(&new, &["config", "core.hooksPath", "hooks"])?;
        run_git(&seed, &["init", "--quiet"])?;
        run_git(&seed, &["symbolic-ref", "HEAD", &head])?;
        set_committer(&seed)?;
        run_git(&seed, &["add", "--all", "--force"])?;
        run_git(&seed, &["commit", "--quiet", "--message", &format!("Start {service}")])?;
        run_git(&seed, &["push", "--quiet", &new.to_string_lossy(), &format!("HEAD:{head}")])?;
        fs::remove_dir_all(&seed).map_err(cannot_write(&seed))?;
        fs::rename(&new, &path).map_err(cannot_write(&path))?;
    }
    write_hook(folder, service)
}

/// Writes the hook that makes a push known at once. It is written anew at each start, since it names the folder.
fn write_hook(folder: &Folder, service: &str) -> Result<(), SystemError> {
    let hooks = folder.repository(service).join("hooks");
    fs::create_dir_all(&hooks).map_err(cannot_write(&hooks))?;
    let hook = hooks.join("post-receive");
    let text = format!(
        "#!/bin/sh\n# Tells Holdall that there is something new, so that it need not wait for its next look.\n\
         # A demo that does not run finds it by itself when it starts.\n\
         exec {} demo-notify --dir {} {service} </dev/null\n",
        quoted(&folder.bin().join("holdall").to_string_lossy()),
        quoted(&folder.root().to_string_lossy()),
    );
    fs::write(&hook, text).map_err(cannot_write(&hook))?;
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).map_err(cannot_write(&hook))
}

/// Makes the working copy of a service, in which a plain `git push` is a push.
fn make_working_copy(folder: &Folder, service: &str) -> Result<(), SystemError> {
    let path = folder.working_copy(service);
    if path.exists() {
        return Ok(());
    }
    let new = folder.root().join("services").join(format!(".{service}.new"));
    if new.exists() {
        fs::remove_dir_all(&new).map_err(cannot_write(&new))?;
    }
    let repository = folder.repository(service);
    run_git(
        folder.root(),
        &["clone", "--quiet", "--branch", BRANCH, &repository.to_string_lossy(), &new.to_string_lossy()],
    )?;
    set_committer(&new)?;
    run_git(&new, &["config", "push.default", "simple"])?;
    run_git(&new, &["config", "pull.rebase", "true"])?;
    fs::rename(&new, &path).map_err(cannot_write(&path))
}

fn set_committer(repository: &Path) -> Result<(), SystemError> {
    run_git(repository, &["config", "user.name", "Demo"])?;
    run_git(repository, &["config", "user.email", "demo@notify.example"])?;
    run_git(repository, &["config", "commit.gpgSign", "false"])?;
    Ok(())
}

/// Makes the system file and the working copies point to where the folder is now.
fn follow_move(folder: &Folder, before: &str) -> Result<(), SystemError> {
    let path = folder.system_file();
    let text = fs::read_to_string(&path).map_err(cannot_write(&path))?;
    // The path ends where a quote or a folder below it begins: "/a/demo" is not the beginning of "/a/demo-2".
    let now = folder.root().to_string_lossy();
    let text =
        ["/", "\"", "'"].iter().fold(text, |text, end| text.replace(&format!("{before}{end}"), &format!("{now}{end}")));
    write_whole(&path, text.as_bytes()).map_err(cannot_write(&path))?;
    for service in SERVICES {
        let url = folder.repository(service).to_string_lossy().into_owned();
        run_git(&folder.working_copy(service), &["remote", "set-url", "origin", &url])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(path: &Path) -> OwnFolder {
        let mut own = OwnFolder::open(path).unwrap();
        fill(&mut own).unwrap();
        own
    }

    #[test]
    fn fills_once_and_keeps_what_people_changed() {
        let dir = tempfile::tempdir().unwrap();
        let own = filled(&dir.path().join("demo"));
        let folder = own.folder.clone();
        for service in SERVICES {
            let copy = folder.working_copy(service);
            assert_eq!(run_git(&copy, &["rev-parse", "HEAD", "@{upstream}"]).unwrap().lines().count(), 2, "{service}");
            assert_eq!(run_git(&copy, &["status", "--porcelain"]).unwrap(), "", "{service}");
            assert_eq!(run_git(&copy, &["config", "--local", "user.name"]).unwrap(), "Demo");
        }
        let script = folder.working_copy("infrastructure").join("ci/terraform-apply.sh");
        assert_eq!(fs::metadata(script).unwrap().permissions().mode() & 0o111, 0o111);
        let head = run_git(&folder.repository("api"), &["rev-parse", "main"]).unwrap();
        fs::write(folder.system_file(), "system: mine\n").unwrap();
        fs::write(folder.working_copy("api").join("service.conf"), "role=api\n").unwrap();
        drop(own);

        let again = filled(&dir.path().join("demo"));
        assert_eq!(run_git(&folder.repository("api"), &["rev-parse", "main"]).unwrap(), head);
        assert_eq!(fs::read_to_string(folder.system_file()).unwrap(), "system: mine\n");
        assert_eq!(fs::read_to_string(folder.working_copy("api").join("service.conf")).unwrap(), "role=api\n");
        assert_eq!(again.moved_from, None);
    }

    #[test]
    fn finishes_a_creation_that_was_interrupted() {
        let dir = tempfile::tempdir().unwrap();
        let own = filled(&dir.path().join("demo"));
        let folder = own.folder.clone();
        drop(own);
        fs::remove_dir_all(folder.repository("admin")).unwrap();
        fs::remove_dir_all(folder.working_copy("admin")).unwrap();
        fs::create_dir_all(folder.repository("admin").with_extension("new")).unwrap();
        fs::create_dir_all(folder.repository("admin").with_extension("seed").join("half")).unwrap();
        fs::create_dir_all(folder.root().join("services/.admin.new")).unwrap();
        fs::remove_file(folder.system_file()).unwrap();
        drop(filled(folder.root()));
        assert!(folder.working_copy("admin").join("service.conf").is_file());
        assert!(folder.system_file().is_file());
    }

    #[test]
    fn follows_when_it_is_moved() {
        let dir = tempfile::tempdir().unwrap();
        drop(filled(&dir.path().join("one")));
        fs::rename(dir.path().join("one"), dir.path().join("two")).unwrap();
        let own = filled(&dir.path().join("two"));
        let folder = own.folder.clone();
        let text = fs::read_to_string(folder.system_file()).unwrap();
        assert_eq!(text, system_text(&folder, &own.marker.webhook_token));
        assert_eq!(own.moved_from, None);
        let copy = folder.working_copy("api");
        run_git(&copy, &["commit", "--quiet", "--allow-empty", "-m", "After the move"]).unwrap();
        // Not through `run_git`'s own look at hooks: the hook is the repository's, and finds no demo running.
        run_git(&copy, &["push", "--quiet", "--no-verify"]).unwrap();
        let pushed = run_git(&folder.repository("api"), &["log", "-1", "--format=%s", "main"]).unwrap();
        assert_eq!(pushed, "After the move");
        assert!(fs::read_to_string(folder.repository("api").join("hooks/post-receive")).unwrap().contains("two"));
    }

    #[test]
    fn the_system_file_and_its_tasks_have_no_mistake() {
        let folder = Folder::at("/tmp/a demo");
        let parsed = holdall_config::system::parse(&system_text(&folder, "secret"), &std::collections::BTreeMap::new());
        assert_eq!(parsed.diagnostics, []);
        let system = parsed.value.unwrap();
        assert_eq!(system.services.iter().map(|service| service.name.as_str()).collect::<Vec<_>>(), SERVICES);
        let names: Vec<&str> = system.environments.iter().map(|environment| environment.name.as_str()).collect();
        assert_eq!(names, ["preview", "staging", "production", "dev"]);
        for (name, text, _) in first_files("infrastructure") {
            if name.ends_with(".yml") {
                assert_eq!(holdall_config::task::parse(&text).diagnostics, [], "{name}");
            }
        }
    }

    #[test]
    fn words_survive_the_shell() {
        for word in ["plain", "two words", "it's", "$HOME `id` \"x\" \\"] {
            let output = Command::new("/bin/sh").args(["-c", &format!("printf %s {}", quoted(word))]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), word);
        }
    }
}
