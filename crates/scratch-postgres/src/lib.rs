//! A scratch PostgreSQL server that lives as long as what is tested or measured with it: its own data, socket and port,
//! and gone afterwards. It must not be used by the product.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown, geteuid};

/// How long the server may take to start, and to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Another program may take the free port before the server does.
const STARTS: usize = 3;

/// How many were made by this process: each has a folder of its own.
static MADE: AtomicU32 = AtomicU32::new(0);

/// Which processes of a server are killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// The first one only. Those of its connections go on for a moment, to the end of what they do.
    OfFirst,
    /// All at once.
    OfAll,
}

/// A running server. Dropping it stops it and removes everything that it had.
#[derive(Debug)]
pub struct Postgres {
    server: Option<Child>,
    bin: PathBuf,
    dir: PathBuf,
    user: Option<User>,
    port: u16,
    settings: Vec<&'static str>,
    go_on: fn() -> Result<()>,
}

impl Postgres {
    /// Makes a cluster and starts its server, as an unprivileged user where this runs as root: PostgreSQL refuses to
    /// run as root. `bin` is the folder of its programs; an error of `go_on` ends the wait for them. The server ends
    /// with the thread that has started it.
    ///
    /// # Errors
    /// With the end of the server's log.
    pub fn start(bin: &Path, go_on: fn() -> Result<()>) -> Result<Postgres> {
        Postgres::start_with(bin, &[], go_on)
    }

    /// [`Postgres::start`] for one that is killed again and again. It does not wait for the disk, which loses nothing as
    /// long as the machine runs, and makes it recover in a fraction of the time.
    ///
    /// # Errors
    /// Those of [`Postgres::start`].
    pub fn start_to_be_killed(bin: &Path, go_on: fn() -> Result<()>) -> Result<Postgres> {
        Postgres::start_with(bin, &["fsync=off"], go_on)
    }

    fn start_with(bin: &Path, settings: &[&'static str], go_on: fn() -> Result<()>) -> Result<Postgres> {
        let user = match geteuid().is_root() {
            true => Some(unprivileged_user()?),
            false => None,
        };
        let name = format!("holdall-postgres-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let mut postgres =
            Postgres { server: None, bin: bin.to_owned(), dir, user, port: 0, settings: settings.to_vec(), go_on };
        fs::set_permissions(&postgres.dir, fs::Permissions::from_mode(0o700))?;
        if let Some(user) = &postgres.user {
            chown(&postgres.dir, Some(user.uid), Some(user.gid))?;
        }
        let mut initdb = postgres.program("initdb");
        initdb
            .args(["--auth=trust", "--username=holdall", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(postgres.data());
        run(&mut initdb)?;
        for attempt in 1..=STARTS {
            postgres.port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
            match postgres.launch() {
                Ok(()) => break,
                Err(error) if attempt == STARTS => return Err(error),
                Err(error) => eprintln!("{error:#}; trying another port"),
            }
        }
        eprintln!("PostgreSQL of {} on port {}, in {}", bin.display(), postgres.port, postgres.dir.display());
        Ok(postgres)
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Starts the server on its port, also after it was killed, and waits until it answers: it has recovered then.
    ///
    /// # Errors
    /// With the end of the server's log.
    pub fn launch(&mut self) -> Result<()> {
        self.stop();
        let log_path = self.dir.join("log");
        let log = File::create(&log_path)?;
        let mut server = self.program("postgres");
        server.arg("-D").arg(self.data()).arg("-k").arg(&self.dir);
        server.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-c", "max_connections=200"]);
        server.args(self.settings.iter().flat_map(|setting| ["-c", setting]));
        let server = server.stdout(log.try_clone()?).stderr(log).spawn().context("cannot run postgres")?;
        let deadline = Instant::now() + PATIENCE;
        let mut ready = Command::new(self.bin.join("pg_isready"));
        ready.args(["--quiet", "--host=127.0.0.1", &format!("--port={}", self.port)]);
        let server = self.server.insert(server);
        while !ready.status().context("cannot run pg_isready")?.success() {
            (self.go_on)()?;
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

    /// Kills the server, and waits until nothing of it runs any more.
    ///
    /// # Errors
    /// It did not run, or a process of it does not end.
    pub fn kill(&mut self, death: Death) -> Result<()> {
        let Some(mut server) = self.server.take() else { bail!("PostgreSQL does not run") };
        // Stopped first, so that it starts no process that is not seen here.
        kill(pid_of(&server), Signal::SIGSTOP)?;
        let left = children(pid_of(&server))?;
        server.kill()?;
        server.wait()?;
        if death == Death::OfAll {
            for pid in &left {
                // An error says that it has just ended.
                let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
            }
        }
        let deadline = Instant::now() + PATIENCE;
        while left.iter().any(|pid| Path::new(&format!("/proc/{pid}")).exists()) {
            if Instant::now() > deadline {
                bail!("PostgreSQL's processes {left:?} do not end after their server");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// One of its programs as the user that it runs as, in its folder; it gets an INT when the thread that has started
    /// it is gone, however it went.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "INT"]);
        if let Some(user) = &self.user {
            command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid)).arg("--clear-groups");
        }
        command.arg("--").arg(self.bin.join(name)).current_dir(&self.dir).stdin(Stdio::null());
        command
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
        run(&mut create)?;
        Ok(format!("postgres://holdall@127.0.0.1:{}/{name}", self.port))
    }

    /// Does at once what it does by itself some minutes after much was written: clears up, takes statistics, and writes
    /// all to its files.
    ///
    /// # Errors
    /// What its programs say.
    pub fn settle(&self) -> Result<()> {
        let server = ["--host=127.0.0.1", "--username=holdall", &format!("--port={}", self.port)];
        run(Command::new(self.bin.join("vacuumdb")).args(server).args(["--all", "--analyze", "--quiet"]))?;
        run(Command::new(self.bin.join("psql")).args(server).args(["--quiet", "--command=CHECKPOINT", "postgres"]))
    }

    /// The server's process, above those of its connections.
    pub fn pid(&self) -> u32 {
        self.server.as_ref().map_or(0, Child::id)
    }

    fn stop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        // INT: end all sessions, write everything, exit.
        let _ = kill(pid_of(&server), Signal::SIGINT);
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
            eprintln!("cannot remove {}: {error}", self.dir.display());
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

fn pid_of(server: &Child) -> Pid {
    Pid::from_raw(server.id() as i32)
}

/// The processes that a process has started and that have not ended.
fn children(of: Pid) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // After the command's name in brackets: the state, and the parent.
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(1));
        if parent == Some(of.to_string().as_str()) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Runs a program to its end.
fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
