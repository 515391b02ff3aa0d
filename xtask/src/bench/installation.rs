//! A Holdall of one's own: `holdall serve` and `holdall worker` as processes, on data that goes away with it.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Bench;
use super::api::{Api, PATIENCE};
use crate::command;

/// Where the steps run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steps {
    /// In the worker inside the server, as with a plain `holdall serve`.
    Inside,
    /// In a worker of its own with that many slots.
    Apart(u32),
}

/// A server with its worker. Dropping it stops both and removes what they had.
#[derive(Debug)]
pub struct Installation {
    binary: PathBuf,
    dir: PathBuf,
    database: Option<String>,
    steps: Steps,
    port: u16,
    server: Option<Child>,
    worker: Option<Child>,
    /// `PATH` of the steps of a worker apart, where it is not the default.
    pub path: Option<String>,
    /// Speaks to the server.
    pub api: Api,
}

impl Installation {
    /// Starts a server with its worker, on an empty database.
    pub fn start(bench: &Bench, steps: Steps) -> Result<Installation> {
        let mut made = Installation::prepare(bench, steps)?;
        made.start_server()?;
        if let Steps::Apart(_) = steps {
            made.start_worker()?;
        }
        Ok(made)
    }

    /// Makes the place for a server, and starts nothing.
    pub fn prepare(bench: &Bench, steps: Steps) -> Result<Installation> {
        let name = bench.unique("place");
        let dir = bench.dir.join(&name);
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let database = bench.postgres.as_ref().map(|postgres| postgres.borrow().database(&name)).transpose()?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let api = Api::new(format!("http://127.0.0.1:{port}"), String::new());
        let binary = bench.binary.clone();
        Ok(Installation { binary, dir, database, steps, port, server: None, worker: None, path: None, api })
    }

    /// A folder beside the server's data.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The address of the database: `postgres://...`, or a SQLite file.
    pub fn database(&self) -> String {
        self.database.clone().unwrap_or_else(|| self.dir.join("data/holdall.sqlite").display().to_string())
    }

    /// Starts the server; gives how long it took until it answered a request.
    pub fn start_server(&mut self) -> Result<Duration> {
        let mut serve = self.command("serve", "serve.log")?;
        serve.arg("--data-dir").arg(self.dir.join("data")).arg(format!("--listen=127.0.0.1:{}", self.port));
        if let Some(url) = &self.database {
            serve.arg("--database").arg(url);
        }
        if let Steps::Apart(_) = self.steps {
            serve.arg("--no-worker");
        }
        let since = Instant::now();
        let server = self.server.insert(serve.spawn().context("cannot run holdall serve")?);
        while !answers(self.port) {
            command::check_stopped()?;
            if server.try_wait()?.is_some() || since.elapsed() > PATIENCE {
                bail!("the server does not start:\n{}", read(&self.dir.join("serve.log")));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let took = since.elapsed();
        let token = read(&self.dir.join("data/token")).trim().to_owned();
        self.api = Api::new(self.api.base.clone(), token);
        Ok(took)
    }

    /// Starts the worker, and waits until the server knows it.
    pub fn start_worker(&mut self) -> Result<()> {
        let Steps::Apart(slots) = self.steps else { bail!("the worker is inside the server") };
        let mut worker = self.command("worker", "worker.log")?;
        worker.arg("--server").arg(&self.api.base).args(["--name", "bench", "--slots", &slots.to_string()]);
        worker.arg("--token-file").arg(self.dir.join("data/worker-token")).arg("--work-dir").arg(self.dir.join("work"));
        worker.args(self.path.iter().flat_map(|path| ["--path", path]));
        self.worker = Some(worker.spawn().context("cannot run holdall worker")?);
        self.api.wait("the worker is connected", || {
            let workers = self.api.get("workers")?;
            let there = workers["items"].as_array().is_some_and(|items| items.iter().any(|w| w["alive"] == true));
            Ok(there.then_some(()))
        })
    }

    fn command(&self, role: &str, log: &str) -> Result<Command> {
        let log = File::options().create(true).append(true).open(self.dir.join(log))?;
        // It goes when this process does, however that ends; what its steps run ends by itself.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--"]).arg(&self.binary).arg(role);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).env_remove("HOLDALL_DATABASE");
        Ok(command)
    }

    /// The process of the server.
    pub fn server_pid(&self) -> u32 {
        self.server.as_ref().map_or(0, Child::id)
    }

    /// The process of the worker.
    pub fn worker_pid(&self) -> u32 {
        self.worker.as_ref().map_or(0, Child::id)
    }

    /// Stops the server with TERM.
    pub fn stop_server(&mut self) {
        end(&mut self.server, Signal::SIGTERM);
    }

    /// Ends the server as a crash does.
    pub fn kill_server(&mut self) {
        end(&mut self.server, Signal::SIGKILL);
    }

    /// Ends the worker as a crash does.
    pub fn kill_worker(&mut self) {
        end(&mut self.worker, Signal::SIGKILL);
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        end(&mut self.worker, Signal::SIGTERM);
        end(&mut self.server, Signal::SIGTERM);
        // Warnings, if there are any: they may say why something could not be measured.
        for log in ["serve.log", "worker.log"] {
            for line in read(&self.dir.join(log)).lines().filter(|line| line.contains("WARN") || line.contains("ERROR"))
            {
                eprintln!("xtask: {log}: {line}");
            }
        }
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("xtask: cannot remove {}: {error}", self.dir.display());
        }
    }
}

/// Sends a signal to a child and waits for its end; kills it when that takes too long.
fn end(child: &mut Option<Child>, signal: Signal) {
    let Some(mut child) = child.take() else { return };
    let _ = kill(Pid::from_raw(child.id() as i32), signal);
    let deadline = Instant::now() + Duration::from_secs(20);
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() > deadline {
            let _ = child.kill();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether a server answers a request there.
fn answers(port: u16) -> bool {
    use std::io::{Read, Write};
    let Ok(mut connection) = std::net::TcpStream::connect(("127.0.0.1", port)) else { return false };
    let request = format!("GET /api/holdall/v1/info HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    let mut answer = [0; 12];
    let asked = connection.set_read_timeout(Some(PATIENCE)).and_then(|()| connection.write_all(request.as_bytes()));
    asked.and_then(|()| connection.read_exact(&mut answer)).is_ok() && answer.starts_with(b"HTTP/1.1 ")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
