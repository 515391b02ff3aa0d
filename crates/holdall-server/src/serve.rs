//! Starting a server, and stopping it: data folder, database, duties, HTTP.
//!
//! Stopping takes away nothing that runs on workers: steps go on under their shims, and what they report is taken up
//! by the next server on the same data.

mod folder;
mod memory;
pub mod restore;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use axum::serve::ListenerExt;
use holdall_engine::time::Timestamp;
use holdall_store::epoch::{Progress, installation_name};
use holdall_store::{Store, StoreError, Tx, builds, checks, jobs};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::api::{self, App, Settings};
use crate::auth::{Hosts, WORKER, secret_hash};
use crate::duty::{self, watcher};
use crate::epoch;
use crate::lifecycle::{DRAIN, Lifecycle, now};

use folder::Folder;
use memory::Memory;

/// Where a server listens that is told nothing else.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 4650);

/// How long a server waits for its database when it starts: a database that is started at the same time, or recovers from
/// a crash, is there by then.
const DATABASE_WAIT: Duration = Duration::from_secs(60);

/// How often it looks for it meanwhile.
const DATABASE_RETRY: Duration = Duration::from_millis(200);

/// The name of the first token.
const ADMIN: &str = "admin";

/// What a server is started with.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// Where it keeps its data; made where there is none.
    pub data_dir: PathBuf,
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// `postgres://...`; `None`: SQLite in the data folder.
    pub database: Option<String>,
    /// Whether a worker runs inside the same process.
    pub worker: WorkerChoice,
    /// Whether everyone who can reach it may look, without a token.
    pub open_pages: bool,
    /// More names by which it may be addressed, besides `localhost` and its address.
    pub hosts: Vec<String>,
    /// The program that the worker inside starts steps with: `holdall`.
    pub executable: PathBuf,
}

impl ServeConfig {
    /// A server on this machine only, on SQLite, with a worker inside.
    pub fn new(data_dir: impl Into<PathBuf>, executable: impl Into<PathBuf>) -> ServeConfig {
        ServeConfig {
            data_dir: data_dir.into(),
            listen: DEFAULT_LISTEN,
            database: None,
            worker: WorkerChoice::Inside,
            open_pages: false,
            hosts: Vec::new(),
            executable: executable.into(),
        }
    }
}

/// Whether a server has a worker of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerChoice {
    /// In the same process: whoever starts the server starts it with [`Running::worker`].
    Inside,
    /// None: workers are processes of their own.
    None,
}

/// Why a server does not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data folder cannot be used.
    #[error("the data folder {} cannot be used: {source}; check its owner and mode, and that there is room", path.display())]
    DataDir {
        /// The folder, or what in it.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// Another server has the data folder.
    #[error("the data folder {} is in use by another server{}; stop that one first, or take another folder", path.display(), process(pid))]
    InUse {
        /// The folder.
        path: PathBuf,
        /// Its process, as far as it can be read.
        pid: Option<String>,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {}", listen_cause(source))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The database cannot be used.
    #[error("cannot use the database {database}: {source}")]
    Database {
        /// Which, without a password.
        database: String,
        /// Why.
        source: StoreError,
    },
    /// The operating system does not give what is needed.
    #[error("cannot start the server: {0}")]
    System(#[from] std::io::Error),
}

fn process(pid: &Option<String>) -> String {
    pid.as_ref().map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

fn listen_cause(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "another program has that port; stop it, or choose another one with `--listen IP:PORT`".to_owned()
        }
        std::io::ErrorKind::PermissionDenied => {
            "that port needs a right that this user does not have; choose one above 1023".to_owned()
        }
        std::io::ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
        _ => error.to_string(),
    }
}

/// How a worker inside the process is to be started.
#[derive(Debug, Clone)]
pub struct WorkerAccess {
    /// The server's address for it.
    pub server: String,
    /// Its token.
    pub token: String,
    /// Its name.
    pub name: String,
    /// Where it keeps its work.
    pub work_dir: PathBuf,
    /// The program that it starts steps with.
    pub executable: PathBuf,
}

/// A server that runs.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// The file with the first token.
    pub token_file: PathBuf,
    /// Its data.
    pub store: Store,
    /// How the worker inside is to be started, where there is to be one.
    pub worker: Option<WorkerAccess>,
    lifecycle: Lifecycle,
    ended: watch::Receiver<bool>,
    memory: Memory,
    /// Held until the server has stopped.
    _folder: Folder,
}

/// Starts a server. When this returns it answers, and its duties run.
///
/// # Errors
///
/// [`ServeError`]: one sentence with the cause and the remedy. Nothing is left running.
pub async fn start(config: ServeConfig) -> Result<Running, ServeError> {
    let folder = Folder::open(&config.data_dir)?;
    let token_file = folder.path("token");
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|source| ServeError::Listen { address: config.listen, source })?;
    let address = listener.local_addr()?;
    // A database that was there before comes back, most likely; one that never was is a mistake in its address.
    let patience = if token_file.exists() { DATABASE_WAIT } else { Duration::ZERO };
    let open = async || open_and_prepare(&config, &folder).await;
    let Opened { store, installation, worker_token } = patiently(patience, DATABASE_RETRY, open).await?;
    let lifecycle = Lifecycle::default();
    let memory = Memory::new(folder.path(memory::FILE), installation, store.commits());
    lifecycle.spawn("memory", memory.clone().keep(lifecycle.stopping().clone()));
    let settings = Settings {
        started_at: now(),
        address,
        hosts: Hosts::new(address, &config.hosts),
        open_pages: config.open_pages,
        data_dir: config.data_dir.clone(),
        webhook_secret: folder.secret("webhook-secret")?,
    };
    let app = App::new(store.clone(), settings, lifecycle.clone());
    duty::start(&app);
    let ended = serve_http(listener, app, &lifecycle);
    let worker = (config.worker == WorkerChoice::Inside).then(|| WorkerAccess {
        server: format!("http://{}", reachable(address)),
        token: worker_token,
        name: "local".to_owned(),
        work_dir: folder.path("worker"),
        executable: config.executable.clone(),
    });
    tracing::info!(%address, database = store.backend(), "the server is ready");
    Ok(Running { address, token_file, store, worker, lifecycle, ended, memory, _folder: folder })
}

/// A database that can be used.
struct Opened {
    store: Store,
    /// The name by which its history is told from that of others.
    installation: String,
    worker_token: String,
}

/// Opens the database.
async fn open_and_prepare(config: &ServeConfig, folder: &Folder) -> Result<Opened, ServeError> {
    let store = open_store(config).await?;
    let installation = prepare(config, &store, memory::remembered(&folder.path(memory::FILE))).await?;
    folder.token(&store, "token", ADMIN).await?;
    let worker_token = folder.token(&store, "worker-token", WORKER).await?;
    Ok(Opened { store, installation, worker_token })
}

/// Does something again, after a pause, for as long as the database does not answer, at most for `limit`; says so.
async fn patiently<T>(
    limit: Duration,
    pause: Duration,
    work: impl AsyncFn() -> Result<T, ServeError>,
) -> Result<T, ServeError> {
    let begun = Instant::now();
    let mut said = false;
    loop {
        match work().await {
            Err(ServeError::Database { database, source }) if source.is_transient() && begun.elapsed() < limit => {
                if !said {
                    said = true;
                    tracing::warn!("the database {database} does not answer; waiting for it: {source}");
                }
                tokio::time::sleep(pause).await;
            }
            result => return result,
        }
    }
}

/// Gives the installation a name, by which its history is told from that of others, and looks whether history was lost
/// or the clock set back while no server ran. `known`: what the data folder remembers. From here on the store finds by
/// itself that history was lost.
async fn prepare(config: &ServeConfig, store: &Store, known: Option<Progress>) -> Result<String, ServeError> {
    let fresh = crate::auth::new_secret()?;
    let fails = |source| ServeError::Database { database: shown(config), source };
    store.on_loss(|tx, loss| epoch::begin_after(tx, "the server", loss, now()));
    let prepared = store.write(move |tx| {
        let installation = installation_name(tx, &secret_hash(&fresh))?;
        if let Some(known) = known {
            epoch::compare_progress(tx, &known, now())?;
        }
        after_start(tx, now())?;
        Ok(installation)
    });
    prepared.await.map_err(fails)
}

/// Lets nothing wait for a time that comes once more, where the clock was set back while no server ran, and nobody be
/// lost who could say nothing.
///
/// # Errors
/// Those of the database.
pub fn after_start(tx: &mut Tx<'_>, now: Timestamp) -> Result<(), StoreError> {
    if checks::check_after_clock(tx, now)? + builds::build_after_clock(tx, now)? > 0 {
        jobs::mark_pending(tx)?;
    }
    watcher::after_silence(tx, now)
}

/// Answers requests until the server stops; those that are under way then may end.
fn serve_http(listener: TcpListener, app: App, lifecycle: &Lifecycle) -> watch::Receiver<bool> {
    let (send, ended) = watch::channel(false);
    let stopping = lifecycle.stopping().clone();
    lifecycle.spawn("http", async move {
        // Small answers are sent at once: a step waits for them.
        let listener = listener.tap_io(|connection| {
            if let Err(error) = connection.set_nodelay(true) {
                tracing::debug!("a connection keeps its delay: {error}");
            }
        });
        let served = axum::serve(listener, api::router(app)).with_graceful_shutdown(stopping.clone().cancelled_owned());
        let result = tokio::select! {
            result = async { served.await } => result,
            // Whoever does not end by itself is cut off.
            () = async { stopping.cancelled().await; tokio::time::sleep(DRAIN).await } => Ok(()),
        };
        if let Err(error) = result {
            tracing::error!("the server cannot listen any more: {error}");
        }
        let _ = send.send(true);
    });
    ended
}

/// Where a server that listens on all addresses can be reached from its own machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        std::net::IpAddr::V4(ip) if ip.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        std::net::IpAddr::V6(ip) if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

async fn open_store(config: &ServeConfig) -> Result<Store, ServeError> {
    let (url, path) = (config.database.clone(), database_file(&config.data_dir));
    let shown = shown(config);
    let opened = tokio::task::spawn_blocking(move || match url {
        Some(url) => Store::open_postgres(&url),
        None => Store::open_sqlite(&path),
    });
    match opened.await {
        Ok(Ok(store)) => Ok(store),
        Ok(Err(source)) => Err(ServeError::Database { database: shown, source }),
        Err(error) => Err(ServeError::System(std::io::Error::other(error))),
    }
}

/// The database as it may be shown.
fn shown(config: &ServeConfig) -> String {
    match &config.database {
        Some(url) => without_password(url),
        None => database_file(&config.data_dir).display().to_string(),
    }
}

/// The SQLite file of a data folder.
pub fn database_file(data_dir: &Path) -> PathBuf {
    data_dir.join("holdall.sqlite")
}

/// An URL as it may be shown.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "(not a postgres:// URL)".to_owned() };
    let rest = rest.split('?').next().unwrap_or_default();
    match rest.rsplit_once('@') {
        Some((login, place)) => {
            let user = login.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}@{place}")
        }
        None => format!("{scheme}://{rest}"),
    }
}

impl Running {
    /// The server's address for clients on this machine, as an URL.
    pub fn url(&self) -> String {
        format!("http://{}", reachable(self.address))
    }

    /// Waits until the server has ended: it was stopped, or cannot go on.
    pub async fn wait(&self) {
        // An error says that whoever sends is gone, and with it the server.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }

    /// Stops: takes nothing new, ends streams and duties, and waits for requests that are under way, for a few seconds
    /// at most. Steps on workers go on.
    pub async fn stop(self) {
        if !self.lifecycle.stop(DRAIN + Duration::from_secs(2)).await {
            tracing::warn!("not everything ended in time; nothing is lost by it");
        }
        if let Err(error) = self.memory.write().await {
            tracing::warn!("what the database has kept was not written down: {error}");
        }
    }
}

/// A server with its own threads, for programs that are not asynchronous.
pub struct Server {
    runtime: tokio::runtime::Runtime,
    running: Option<Running>,
}

impl Server {
    /// [`start`].
    ///
    /// # Errors
    ///
    /// Those of [`start`].
    pub fn start(config: ServeConfig) -> Result<Server, ServeError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("server").build()?;
        let running = runtime.block_on(start(config))?;
        Ok(Server { runtime, running: Some(running) })
    }

    /// The server; `None` when it was stopped.
    pub fn running(&self) -> Option<&Running> {
        self.running.as_ref()
    }

    /// [`Running::stop`]. Once is enough.
    pub fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            self.runtime.block_on(running.stop());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs a server until a signal (INT, TERM or HUP) arrives. `ready` is called when it answers; what it gives is dropped
/// before the server stops.
///
/// # Errors
///
/// Those of [`start`], and those of `ready`.
pub fn serve_blocking<T, E: From<ServeError>>(
    config: ServeConfig,
    ready: impl FnOnce(&Running) -> Result<T, E>,
) -> Result<(), E> {
    let mut server = Server::start(config)?;
    if let Some(running) = server.running() {
        // Signals that come from here on are waited for, and do not end the process by themselves.
        let signalled = server.runtime.block_on(async { signalled() }).map_err(ServeError::from)?;
        let kept = ready(running)?;
        server.runtime.block_on(async {
            tokio::select! {
                () = signalled => {}
                () = running.wait() => {}
            }
        });
        drop(kept);
    }
    server.stop();
    Ok(())
}

fn signalled() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_waits_for_a_database_that_comes_back() {
        let fails = |source| Err::<u32, _>(ServeError::Database { database: "db".to_owned(), source });
        let asked = std::sync::atomic::AtomicU32::new(0);
        let away = async || match asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            2 => Ok(7),
            0 => fails(StoreError::Unavailable("refused".to_owned())),
            _ => fails(StoreError::Unknown("gone".to_owned())),
        };
        let (long, short) = (Duration::from_secs(3600), Duration::from_millis(1));
        assert_eq!(patiently(long, short, away).await.unwrap(), 7);
        let never = async || fails(StoreError::Unavailable("refused".to_owned()));
        let error = patiently(Duration::from_millis(5), short, never).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot use the database db: the database is not available: refused");
        // Waiting does not make it better.
        let wrong = async || fails(StoreError::Corrupt("no".to_owned()));
        assert!(patiently(long, short, wrong).await.is_err());
    }

    #[test]
    fn passwords_are_not_shown() {
        for (url, shown) in [
            ("postgres://ann:s3cret@db/holdall?sslmode=off", "postgres://ann@db/holdall"),
            ("postgres://ann:p@ss@db/holdall", "postgres://ann@db/holdall"),
            ("postgres://db/holdall?password=s3cret", "postgres://db/holdall"),
            ("s3cret", "(not a postgres:// URL)"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }

    #[test]
    fn errors_say_what_to_do() {
        let in_use = ServeError::InUse { path: "/data".into(), pid: Some("7".to_owned()) };
        assert_eq!(
            in_use.to_string(),
            "the data folder /data is in use by another server (process 7); stop that one first, or take another folder"
        );
        let listen =
            ServeError::Listen { address: DEFAULT_LISTEN, source: std::io::Error::from(std::io::ErrorKind::AddrInUse) };
        assert_eq!(
            listen.to_string(),
            "cannot listen on 127.0.0.1:4650: another program has that port; stop it, or choose another one with `--listen IP:PORT`"
        );
    }
}
