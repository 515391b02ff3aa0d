//! `holdall worker`.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use clap::Args;
use holdall_worker::session::Error;
use holdall_worker::{Worker, WorkerConfig};

use crate::context::Context;
use crate::error::{CliError, Kind};

/// Runs a worker: takes steps from a server and runs them as processes of this machine
///
/// It connects to the server (`--server`), which needs no way back to it. Stopping or upgrading it does not interrupt
/// the steps: the next `holdall worker` with the same folder goes on with them.
#[derive(Debug, Args)]
pub struct WorkerArgs {
    /// A file that holds the token to connect with
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    /// Where steps run and what they leave is kept; one worker a folder
    #[arg(long, value_name = "DIR")]
    work_dir: PathBuf,
    /// The worker's name, its own for good [default: the machine's]
    #[arg(long)]
    name: Option<String>,
    /// How many steps run at once
    #[arg(long, value_name = "N", default_value_t = WorkerConfig::SLOTS, value_parser = clap::value_parser!(u32).range(1..))]
    slots: u32,
    /// Takes only steps with this tag; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Takes only steps of this team
    #[arg(long)]
    team: Option<String>,
    /// PATH of the steps; nothing of the worker's own environment reaches them
    #[arg(long, default_value = holdall_worker::runtime::DEFAULT_PATH)]
    path: String,
}

/// Runs until a signal, or until the server does not want this worker.
pub fn run(ctx: &Context, args: WorkerArgs) -> Result<(), CliError> {
    let server = ctx.global.server.clone().ok_or_else(|| {
        CliError::invalid("which server is the worker to connect to").hint("Add `--server http://HOST:PORT`.")
    })?;
    let token = std::fs::read_to_string(&args.token_file)
        .map_err(|e| CliError::invalid(format!("cannot read the token in {}: {e}", args.token_file.display())))?;
    let name = match args.name {
        Some(name) => name,
        None => hostname().ok_or_else(|| CliError::invalid("this machine has no name").hint("Add `--name NAME`."))?,
    };
    let mut config = WorkerConfig::new(&server, token.trim(), &name, &args.work_dir);
    config.slots = args.slots;
    config.tags = args.tags;
    config.team = args.team;
    config.path = args.path;

    let (mut signalled, signals) = UnixStream::pair()?;
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::low_level::pipe::register(signal, signals.try_clone()?)?;
    }
    let worker = std::sync::Arc::new(Worker::start(config).map_err(error)?);
    let stopper = std::sync::Arc::clone(&worker);
    std::thread::spawn(move || {
        if signalled.read_exact(&mut [0]).is_ok() {
            stopper.stop();
        }
    });
    worker.wait().map_err(error)
}

fn hostname() -> Option<String> {
    let name = nix::unistd::gethostname().ok()?.into_string().ok()?;
    (!name.is_empty()).then_some(name)
}

/// A worker's end, with all of its causes.
pub(super) fn error(error: Error) -> CliError {
    let kind = match &error {
        Error::Refused { .. } => Kind::Denied,
        Error::WorkDir(_) => Kind::Invalid,
        Error::Replaced(_) | Error::Io(_) => Kind::Failed,
    };
    let mut message = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    CliError::new(kind, message)
}
