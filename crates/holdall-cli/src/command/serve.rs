//! `holdall serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use holdall_server::serve::{self, Running, ServeConfig, ServeError, WorkerChoice};
use holdall_worker::{Worker, WorkerConfig};

use crate::client::discover::write_client_file;
use crate::error::CliError;
use crate::names::database_url;
use crate::output::note;

/// Runs a server, with a worker inside it
///
/// The first token is in the file `token` of the data folder, which only its owner can read. Commands that are run in
/// the data folder, or below it, find the server by themselves.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Where it keeps its data; made where there is none
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Where it listens
    #[arg(long, value_name = "IP:PORT", default_value_t = serve::DEFAULT_LISTEN, value_parser = parse_listen)]
    listen: SocketAddr,
    /// A PostgreSQL database instead of SQLite in the data folder
    #[arg(long, value_name = "postgres://...", env = "HOLDALL_DATABASE", hide_env_values = true)]
    database: Option<String>,
    /// Without the worker inside: workers are processes of their own
    #[arg(long)]
    no_worker: bool,
    /// Whoever can reach the address may look at the pages without a token
    #[arg(long)]
    open_pages: bool,
    /// Another name by which it is addressed; may be given several times
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
}

/// A name may have several addresses, and others tomorrow: where a server listens is one of them.
fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("not IP:PORT, like {} or [::1]:4650", serve::DEFAULT_LISTEN))
}

/// The worker inside a server; stopping it leaves its steps running.
pub struct InsideWorker(Arc<Worker>);

impl InsideWorker {
    /// Starts the worker that a server wants inside its process.
    pub fn start(running: &Running) -> Result<Option<InsideWorker>, CliError> {
        let Some(access) = &running.worker else { return Ok(None) };
        let mut config = WorkerConfig::new(&access.server, &access.token, &access.name, &access.work_dir);
        config.executable.clone_from(&access.executable);
        let worker = Worker::start(config)
            .map_err(|error| CliError::failed(format!("the worker inside the server does not start: {error}")))?;
        let worker = Arc::new(worker);
        let waited = Arc::clone(&worker);
        let name = access.name.clone();
        // Nothing else would say it: the server goes on, and steps wait for a worker.
        std::thread::spawn(move || {
            if let Err(error) = waited.wait() {
                let error = super::worker::error(error);
                tracing::error!(worker = name, "the worker inside the server has ended: {error}; restart the server");
            }
        });
        Ok(Some(InsideWorker(worker)))
    }
}

impl Drop for InsideWorker {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl From<ServeError> for CliError {
    fn from(error: ServeError) -> CliError {
        CliError::failed(error.to_string())
    }
}

/// Serves until a signal.
pub fn run(args: ServeArgs) -> Result<(), CliError> {
    init_log();
    args.database.as_deref().map(database_url).transpose()?;
    let mut config = ServeConfig::new(&args.data_dir, WorkerConfig::OWN_EXECUTABLE);
    config.listen = args.listen;
    config.database = args.database;
    config.open_pages = args.open_pages;
    config.hosts = args.hosts;
    config.worker = if args.no_worker { WorkerChoice::None } else { WorkerChoice::Inside };
    serve::serve_blocking(config, |running| {
        write_client_file(&args.data_dir, &running.url(), &running.token_file)?;
        note(&format!("Holdall listens on {}; the token is in {}.", running.url(), running.token_file.display()));
        InsideWorker::start(running)
    })
}

/// The log of a server goes to standard error; `HOLDALL_LOG` says how much of it.
pub fn init_log() {
    use std::io::IsTerminal;
    let filter = tracing_subscriber::EnvFilter::try_from_env("HOLDALL_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // A second log in one process would be a bug of tests only; the first one counts.
    let _ =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).try_init();
}
