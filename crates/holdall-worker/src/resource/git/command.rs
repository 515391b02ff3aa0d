//! Running git: an environment of its own, bounded output, and errors that say what to do.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::super::{Context, Log, ResourceError};
use super::source::Source;

/// The oldest git that has everything that is used here.
const OLDEST_GIT: (u32, u32) = (2, 30);
/// What a command may print for us to read: the refs of a very large repository are a tenth of it.
const MAX_STDOUT_BYTES: u64 = 64 << 20;
/// How much of the end of its messages is kept for the error.
const MAX_STDERR_BYTES: usize = 32 << 10;

/// Git as one resource uses it.
#[derive(Debug)]
pub(super) struct Git {
    program: PathBuf,
    env: Vec<(OsString, OsString)>,
    uri: String,
    log: Log,
    /// The private home with the configuration and the secrets; goes with this value.
    home: TempDir,
}

/// How a command failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// Its exit status; `None`: a signal.
    pub(super) status: Option<i32>,
    /// What it printed.
    pub(super) stdout: String,
    /// The end of its messages.
    pub(super) stderr: String,
}

impl Git {
    /// Finds git and writes the private home.
    ///
    /// # Errors
    /// When there is no git on the `PATH`.
    pub(super) fn new(source: &Source, ctx: &Context) -> Result<Git, ResourceError> {
        let path = ctx.var("PATH").unwrap_or("/usr/local/bin:/usr/bin:/bin");
        let program = std::env::split_paths(path)
            .map(|dir| dir.join("git"))
            .find(|file| fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0))
            .ok_or_else(|| {
                ResourceError::failed(format!(
                    "git is not installed on this worker: there is no `git` on its PATH ({path})"
                ))
            })?;
        let home = ctx.temp_dir()?;
        let mut env: Vec<(OsString, OsString)> = Vec::new();
        let mut set = |name: &str, value: &OsStr| env.push((name.into(), value.to_owned()));
        for (name, value) in &ctx.env {
            let lower = name.to_ascii_lowercase();
            if lower.ends_with("_proxy")
                || matches!(name.as_str(), "PATH" | "TMPDIR" | "SSL_CERT_FILE" | "SSL_CERT_DIR")
            {
                set(name, OsStr::new(value));
            }
        }
        set("HOME", home.path().as_os_str());
        set("XDG_CONFIG_HOME", home.path().join("config").as_os_str());
        set("GIT_CONFIG_NOSYSTEM", OsStr::new("1"));
        set("GIT_TERMINAL_PROMPT", OsStr::new("0"));
        set("LC_ALL", OsStr::new("C"));
        set("GIT_SSH_COMMAND", OsStr::new(&ssh_command(source, home.path())?));
        write_config(source, home.path())?;
        Ok(Git { program, env, uri: source.uri.clone(), log: ctx.log.clone(), home })
    }

    /// Also sets a variable for every command.
    pub(super) fn with_env(mut self, name: &str, value: impl AsRef<OsStr>) -> Git {
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// Messages for people.
    pub(super) fn log(&self) -> &Log {
        &self.log
    }

    /// A directory that is private to this operation.
    pub(super) fn private_dir(&self) -> &Path {
        self.home.path()
    }

    fn command<A: AsRef<OsStr>>(&self, dir: &Path, args: &[A]) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().envs(self.env.iter().map(|(name, value)| (name, value)));
        command.current_dir(dir).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn spawn<A: AsRef<OsStr>>(&self, dir: &Path, args: &[A]) -> Result<Child, ResourceError> {
        let failed = |error| ResourceError::failed(format!("cannot run {}: {error}", self.program.display()));
        self.command(dir, args).spawn().map_err(failed)
    }

    /// Runs a command in `dir` and gives what it printed, or how it failed. `live`: its messages go to the log as
    /// they come.
    fn attempt<A: AsRef<OsStr>>(
        &self,
        dir: &Path,
        args: &[A],
        live: bool,
    ) -> Result<Result<String, Failure>, ResourceError> {
        let mut child = self.spawn(dir, args)?;
        let messages = self.collect_messages(&mut child, live);
        let mut stdout = Vec::new();
        let mut pipe = child.stdout.take().expect("standard output is piped");
        let read = (&mut pipe).take(MAX_STDOUT_BYTES + 1).read_to_end(&mut stdout);
        let too_much = stdout.len() as u64 > MAX_STDOUT_BYTES;
        if too_much || read.is_err() {
            let _ = child.kill();
        }
        drop(pipe);
        let status = child.wait().map_err(|error| ResourceError::failed(format!("lost track of git: {error}")))?;
        let stderr = messages.join().unwrap_or_default();
        if too_much {
            return Err(ResourceError::failed(format!("git printed more than {MAX_STDOUT_BYTES} bytes")));
        }
        let stdout = String::from_utf8_lossy(&stdout).into_owned();
        if status.success() {
            return Ok(Ok(stdout));
        }
        Ok(Err(Failure { status: status.code(), stdout, stderr }))
    }

    fn collect_messages(&self, child: &mut Child, live: bool) -> std::thread::JoinHandle<String> {
        let pipe = child.stderr.take().expect("standard error is piped");
        let log = self.log.clone();
        std::thread::spawn(move || {
            let mut tail = Vec::new();
            let mut reader = BufReader::new(pipe);
            loop {
                let chunk = match reader.fill_buf() {
                    Ok([]) | Err(_) => break,
                    Ok(chunk) => chunk,
                };
                if live {
                    log.bytes(chunk);
                }
                tail.extend_from_slice(chunk);
                let length = chunk.len();
                reader.consume(length);
                let surplus = tail.len().saturating_sub(MAX_STDERR_BYTES);
                tail.drain(..surplus);
            }
            String::from_utf8_lossy(&tail).into_owned()
        })
    }

    /// Runs a command in `dir` and gives what it printed; its messages are only in the error.
    pub(super) fn read<A: AsRef<OsStr>>(&self, dir: &Path, args: &[A]) -> Result<String, ResourceError> {
        self.attempt(dir, args, false)?.map_err(|failure| self.explain(args, &failure))
    }

    /// Runs a command in `dir` and gives whether it succeeded: for questions whose "no" is a failure.
    pub(super) fn holds<A: AsRef<OsStr>>(&self, dir: &Path, args: &[A]) -> Result<bool, ResourceError> {
        Ok(self.attempt(dir, args, false)?.is_ok())
    }

    /// Runs a command that takes long or changes something: its messages go to the log.
    pub(super) fn run<A: AsRef<OsStr>>(&self, dir: &Path, args: &[A]) -> Result<(), ResourceError> {
        self.try_run(dir, args)?.map(drop).map_err(|failure| self.explain(args, &failure))
    }

    /// As [`Git::run`], where the failure is looked at by the caller.
    pub(super) fn try_run<A: AsRef<OsStr>>(
        &self,
        dir: &Path,
        args: &[A],
    ) -> Result<Result<String, Failure>, ResourceError> {
        self.attempt(dir, args, true)
    }

    /// Runs a command that prints records ending in NUL and gives them to `each` until that has enough.
    pub(super) fn records<A: AsRef<OsStr>>(
        &self,
        dir: &Path,
        args: &[A],
        mut each: impl FnMut(&str) -> Enough,
    ) -> Result<(), ResourceError> {
        let mut child = self.spawn(dir, args)?;
        let messages = self.collect_messages(&mut child, false);
        let mut reader = BufReader::new(child.stdout.take().expect("standard output is piped"));
        let mut record = Vec::new();
        let mut stopped = false;
        loop {
            record.clear();
            let read = (&mut reader).take(MAX_STDOUT_BYTES).read_until(0, &mut record);
            if matches!(read, Ok(0) | Err(_)) {
                break;
            }
            let text = String::from_utf8_lossy(record.strip_suffix(&[0]).unwrap_or(&record));
            if matches!(each(&text), Enough::Yes) {
                stopped = true;
                let _ = child.kill();
                break;
            }
        }
        drop(reader);
        let status = child.wait().map_err(|error| ResourceError::failed(format!("lost track of git: {error}")))?;
        let stderr = messages.join().unwrap_or_default();
        if stopped || status.success() {
            return Ok(());
        }
        Err(self.explain(args, &Failure { status: status.code(), stdout: String::new(), stderr }))
    }

    /// A sentence about a failure: what it means where that is known, else what git said.
    pub(super) fn explain<A: AsRef<OsStr>>(&self, args: &[A], failure: &Failure) -> ResourceError {
        let uri = &self.uri;
        let verb = args
            .iter()
            .filter_map(|arg| arg.as_ref().to_str())
            .find(|arg| arg.starts_with(|c: char| c.is_ascii_lowercase()) && !arg.contains(['.', '/']))
            .unwrap_or("?");
        if failure.status == Some(129)
            && let Err(old) = self.require_version()
        {
            return old;
        }
        let said = |phrases: &[&str]| phrases.iter().any(|phrase| failure.stderr.contains(phrase));
        let detail = last_lines(&failure.stderr);
        let message = if said(&[
            "Authentication failed",
            "could not read Username",
            "could not read Password",
            "Permission denied (",
            "error: 401",
            "error: 403",
            "Invalid username or password",
        ]) {
            format!("{uri} did not accept the credentials of the resource: {detail}")
        } else if said(&[
            "Could not resolve host",
            "Could not resolve hostname",
            "Failed to connect",
            "Connection refused",
            "Connection reset",
            "Connection timed out",
            "Operation timed out",
            "Operation too slow",
            "Network is unreachable",
            "No route to host",
            "Couldn't connect to server",
        ]) {
            format!("{uri} cannot be reached: {detail}")
        } else if said(&["does not appear to be a git repository", "not found", "does not exist", "error: 404"])
            && verb != "checkout"
        {
            format!("there is no repository at {uri}, or the credentials of the resource may not see it: {detail}")
        } else {
            let status = failure.status.map_or("ended by a signal".to_owned(), |code| format!("exit status {code}"));
            format!("git {verb} of {uri} failed ({status}): {detail}")
        };
        ResourceError::Failed(message)
    }

    /// Fails for a git that is older than what is needed.
    pub(super) fn require_version(&self) -> Result<(), ResourceError> {
        let text = self.attempt(self.home.path(), &["--version"], false)?.unwrap_or_default();
        let version = text.trim().strip_prefix("git version ").unwrap_or_default();
        let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if found >= OLDEST_GIT {
            return Ok(());
        }
        let (major, minor) = OLDEST_GIT;
        Err(ResourceError::failed(format!(
            "{} is too old: it is version `{version}`, and {major}.{minor} or newer is needed",
            self.program.display()
        )))
    }
}

/// Whether [`Git::records`] goes on.
pub(super) enum Enough {
    /// Stop.
    Yes,
    /// Go on.
    No,
}

/// The lines of an error that say something.
fn last_lines(stderr: &str) -> String {
    let noise = ["hint:", "warning: Permanently added"];
    let useful = |line: &&str| !line.trim().is_empty() && !noise.iter().any(|start| line.starts_with(start));
    let lines: Vec<&str> = stderr.lines().filter(useful).collect();
    if lines.is_empty() { "git said nothing".to_owned() } else { lines[lines.len().saturating_sub(4)..].join("; ") }
}

/// The command that git uses for ssh: no configuration, no questions, only the given key.
fn ssh_command(source: &Source, home: &Path) -> Result<String, ResourceError> {
    let mut command = "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
                       -o LogLevel=ERROR -o ConnectTimeout=30 -o ServerAliveInterval=15 -o ServerAliveCountMax=4"
        .to_owned();
    if let Some(user) = &source.private_key_user {
        command.push_str(&format!(" -l {}", quoted(user)));
    }
    if let Some(key) = &source.private_key {
        let file = home.join("private_key");
        write_secret(&file, &format!("{}\n", key.trim_end()))?;
        command.push_str(&format!(" -o IdentitiesOnly=yes -i {}", quoted(&file.to_string_lossy())));
    }
    Ok(command)
}

/// Text as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Writes a file that only its owner can read.
fn write_secret(path: &Path, content: &str) -> Result<(), ResourceError> {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(content.as_bytes())).map_err(ResourceError::file("write", path))
}

/// The private `.gitconfig`, with the credentials of the address's own host beside it.
fn write_config(source: &Source, home: &Path) -> Result<(), ResourceError> {
    let mut config: Vec<(String, String)> = [
        ("protocol.file.allow", "user"),
        ("init.defaultBranch", "main"),
        ("advice.detachedHead", "false"),
        // Collecting garbage ends before the lock of the cache does, and commits that bags may name are kept.
        ("gc.autoDetach", "false"),
        ("gc.pruneExpire", "never"),
        ("core.hooksPath", "/dev/null"),
        ("http.lowSpeedLimit", "1000"),
        ("http.lowSpeedTime", "60"),
        ("user.name", "Holdall"),
        ("user.email", "holdall@localhost"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    if source.skip_ssl_verification {
        config.push(("http.sslVerify".to_owned(), "false".to_owned()));
    }
    if let Some((scheme, rest)) = source.uri.split_once("://")
        && let Some((username, password)) = &source.login
        && matches!(scheme, "http" | "https")
    {
        let host = rest.split('/').next().unwrap_or(rest);
        let file = home.join("credentials");
        let username = if username.is_empty() { "git" } else { username };
        write_secret(&file, &format!("{scheme}://{}:{}@{host}\n", escaped(username), escaped(password)))?;
        config.push(("credential.helper".to_owned(), format!("store --file={}", quoted(&file.to_string_lossy()))));
    }
    config.extend(source.git_config.iter().cloned());
    let text: String = config.iter().map(|(name, value)| config_entry(name, value)).collect();
    write_secret(&home.join(".gitconfig"), &text)
}

/// One setting in the syntax of git's configuration files.
fn config_entry(name: &str, value: &str) -> String {
    let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let value = escape(value).replace('\n', "\\n").replace('\t', "\\t");
    let (section, key) = name.rsplit_once('.').unwrap_or((name, ""));
    let header = match section.split_once('.') {
        Some((section, subsection)) => format!("[{section} \"{}\"]", escape(subsection)),
        None => format!("[{section}]"),
    };
    format!("{header}\n\t{key} = \"{value}\"\n")
}

/// Percent-encodes everything that is not a letter, a digit or harmless.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => (byte as char).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_survives_every_character() {
        assert_eq!(config_entry("core.big", r#"a"b\c"#), "[core]\n\tbig = \"a\\\"b\\\\c\"\n");
        assert_eq!(
            config_entry("url.https://x.y/.insteadOf", "git:"),
            "[url \"https://x.y/\"]\n\tinsteadOf = \"git:\"\n"
        );
        assert_eq!(escaped("p@ss:w/rd é"), "p%40ss%3Aw%2Frd%20%C3%A9");
        assert_eq!(quoted("a'b"), r"'a'\''b'");
    }

    #[test]
    fn errors_show_what_git_said_last() {
        assert_eq!(last_lines("a\nb\nhint: c\n\nd\n"), "a; b; d");
        assert_eq!(last_lines(""), "git said nothing");
    }
}
