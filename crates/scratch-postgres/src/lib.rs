//! A scratch PostgreSQL server that lives as long as the tests: its own data, socket and port, and gone afterwards.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown, geteuid};

use crate::command;

/// How long the server may take to start, and to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Another program may take the free port before the server does.
const STARTS: usize = 3;

/// A running server. Dropping it stops it and removes everything that it had.
#[derive(Debug)]
pub struct Postgres {
    server: Option<Child>,
    bin: PathBuf,
    dir: PathBuf,
    port: u16,
}

impl Postgres {
    /// Makes a cluster and starts its server, as an unprivileged user where this runs as root: PostgreSQL refuses to
    /// run as root.
    ///
    /// # Errors
    /// With the end of the server's log.
    pub fn start(bin: &Path) -> Result<Postgres> {
        let user = match geteuid().is_root() {
            true => Some(unprivileged_user()?),
            false => None,
        };
        let dir = std::env::temp_dir().join(format!("holdall-postgres-{}", std::process::id()));
        fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let mut postgres = Postgres { server: None, bin: bin.to_owned(), dir, port: 0 };
        fs::set_permissions(&postgres.dir, fs::Permissions::from_mode(0o700))?;
        if let Some(user) = &user {
            chown(&postgres.dir, Some(user.uid), Some(user.gid))?;
        }
        let data = postgres.dir.join("data");
        let mut initdb = as_user(user.as_ref(), &bin.join("initdb"), &postgres.dir);
        initdb
            .args(["--auth=trust", "--username=holdall", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(&data);
        command::read(&mut initdb)?;
        for attempt in 1..=STARTS {
            match postgres.try_start(bin, user.as_ref(), &data) {
                Ok(()) => break,
                Err(error) if attempt == STARTS => return Err(error),
                Err(error) => eprintln!("xtask: {error:#}; trying another port"),
            }
        }
        eprintln!("xtask: PostgreSQL of {} on port {}, in {}", bin.display(), postgres.port, postgres.dir.display());
        Ok(postgres)
    }

    fn try_start(&mut self, bin: &Path, user: Option<&User>, data: &Path) -> Result<()> {
        self.stop();
        self.port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let log_path = self.dir.join("log");
        let log = File::create(&log_path)?;
        let mut server = as_user(user, &bin.join("postgres"), &self.dir);
        server.arg("-D").arg(data).arg("-k").arg(&self.dir);
        server.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-c", "max_connections=200"]);
        let server = server.stdout(log.try_clone()?).stderr(log).spawn().context("cannot run postgres")?;
        let server = self.server.insert(server);
        let deadline = Instant::now() + PATIENCE;
        let mut ready = Command::new(bin.join("pg_isready"));
        ready.args(["--quiet", "--host=127.0.0.1", &format!("--port={}", self.port)]);
        while !ready.status().context("cannot run pg_isready")?.success() {
            command::check_stopped()?;
            let ended = server.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(&log_path).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let end = lines[lines.len().saturating_sub(10)..].join("\n");
                bail!("PostgreSQL did not start:\n{end}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// What tests connect to.
    pub fn url(&self) -> String {
        format!("postgres://holdall@127.0.0.1:{}/postgres", self.port)
    }

    /// Makes a database of that name; gives what to connect to.
    ///
    /// # Errors
    /// There is one of that name.
    pub fn database(&self, name: &str) -> Result<String> {
        let mut create = Command::new(self.bin.join("createdb"));
        create.args(["--host=127.0.0.1", "--username=holdall", &format!("--port={}", self.port), name]);
        command::read(&mut create)?;
        Ok(format!("postgres://holdall@127.0.0.1:{}/{name}", self.port))
    }

    /// The server's process, above those of its connections.
    pub fn pid(&self) -> u32 {
        self.server.as_ref().map_or(0, Child::id)
    }

    fn stop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        // INT: end all sessions, write everything, exit.
        let pid = Pid::from_raw(server.id() as i32);
        let _ = kill(pid, Signal::SIGINT);
        let deadline = Instant::now() + PATIENCE;
        while matches!(server.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = server.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("xtask: cannot remove {}: {error}", self.dir.display());
        }
    }
}

/// Who runs the server instead of root.
fn unprivileged_user() -> Result<User> {
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(user);
        }
    }
    bail!("PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody`")
}

/// A program as that user, in `dir`, which gets an INT when this process is gone, however it went.
fn as_user(user: Option<&User>, program: &Path, dir: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "INT"]);
    if let Some(user) = user {
        command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid)).arg("--clear-groups");
    }
    command.arg("--").arg(program).current_dir(dir).stdin(Stdio::null());
    command
}
