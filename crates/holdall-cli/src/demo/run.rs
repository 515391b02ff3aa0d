//! The demo itself: folder, world, server, system, and what it says meanwhile.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use holdall_protocol::api::{Act, ActAnswer, ActRequest, CheckAnswer, CheckRequest, ResourceSummary};
use holdall_server::serve::{Running, ServeConfig, Server};
use holdall_worker::WorkerConfig;

use super::folder::{Folder, OwnFolder, write_whole};
use super::follow::{Followed, arrived, follow};
use super::hints::hints;
use super::interrupt::Interrupt;
use super::notify::Whom;
use super::world::World;
use super::{FIRST, SYSTEM, git, system};
use crate::client::Client;
use crate::client::discover::write_client_file;
use crate::command::serve::{InsideWorker, init_log};
use crate::error::{CliError, Kind};
use crate::names::database_url;
use crate::output;

/// How long the first bag may take to production.
const LIMIT: Duration = Duration::from_secs(300);

/// Releases a small but real system on this machine
///
/// It makes six services in git repositories, an environment chain preview -> staging -> production, and a server with
/// a worker, and shows how the first bag reaches production by itself. Then it goes on serving, and says what to try.
/// A second `holdall demo` in the same folder goes on from there.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// The demo's folder; made where there is none
    #[arg(long, value_name = "DIR", default_value = "holdall-demo")]
    dir: PathBuf,
    /// The server's port; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 4650)]
    port: u16,
    /// A PostgreSQL database instead of SQLite in the folder
    #[arg(long, value_name = "postgres://...")]
    database: Option<String>,
    /// Leave when the first bag has reached production
    #[arg(long)]
    exit: bool,
    /// Throw the folder of an earlier demo away first
    #[arg(long)]
    reset: bool,
}

fn failed(error: impl std::fmt::Display) -> CliError {
    CliError::failed(error.to_string())
}

/// Runs the demo until a signal, or with `--exit` until the first bag has arrived.
pub fn run(args: DemoArgs) -> Result<(), CliError> {
    init_log();
    args.database.as_deref().map(database_url).transpose()?;
    git::check_git().map_err(failed)?;
    let open = if args.reset { OwnFolder::reset } else { OwnFolder::open };
    let mut own = open(&args.dir).map_err(failed)?;
    output::note(&format!("The demo is in {}.", own.folder.root().display()));
    system::fill(&mut own).map_err(|error| failed(format!("{:#}", anyhow::Error::from(error))))?;
    let interrupt = Interrupt::listen()?;
    let world_runtime = tokio::runtime::Runtime::new()?;
    let world = world_runtime
        .block_on(World::start(&own.folder))
        .map_err(|error| failed(format!("{:#}", anyhow::Error::from(error))))?;
    let served = with_server(&args, &own, &interrupt);
    output::note("Stopping what the demo started.");
    world_runtime.block_on(world.stop());
    served
}

fn with_server(args: &DemoArgs, own: &OwnFolder, interrupt: &Interrupt) -> Result<(), CliError> {
    let folder = &own.folder;
    let data = folder.root().join("data");
    let mut config = ServeConfig::new(&data, WorkerConfig::OWN_EXECUTABLE);
    config.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    config.database.clone_from(&args.database);
    // The demo's address is this machine's own, and what it shows is made up.
    config.open_pages = true;
    let mut server = Server::start(config).map_err(|error| {
        let failed = CliError::failed(error.to_string());
        if error.to_string().contains("cannot listen") {
            failed.hint("For the demo: `holdall demo --port PORT`; 0 takes a free one.")
        } else {
            failed
        }
    })?;
    let result = match server.running() {
        Some(running) => serve(args, own, running, interrupt),
        None => Ok(()),
    };
    let _ = std::fs::remove_file(folder.server_address());
    server.stop();
    result
}

fn serve(args: &DemoArgs, own: &OwnFolder, running: &Running, interrupt: &Interrupt) -> Result<(), CliError> {
    let folder = &own.folder;
    write_client_file(folder.root(), &running.url(), &running.token_file)?;
    let token = std::fs::read_to_string(&running.token_file)?;
    let client = Client::new(&running.url(), Some(token.trim().to_owned()))?;
    let _worker = InsideWorker::start(running)?;
    output::print(&format!("Holdall is at {}\n", running.url()))?;
    set_system(&client, folder)?;
    tell_hooks(own, &running.url())?;
    look_for_pushes(&client)?;
    match arrived(&client)? {
        Some(bag) => output::print(&format!("It goes on where it was: bag {bag} reached production before.\n"))?,
        None => {
            if !follow_first(args, &client, interrupt)? {
                return Ok(());
            }
        }
    }
    if args.exit {
        return Ok(());
    }
    output::print(&hints(folder, &running.url()))?;
    // An hour at a time: whoever waits is waited for.
    while !interrupt.came_within(Duration::from_secs(3600)) {}
    Ok(())
}

/// Shows how the first bag goes to production; gives whether the demo goes on. One that does not arrive is an error only
/// where nobody is there to look into it.
fn follow_first(args: &DemoArgs, client: &Client, interrupt: &Interrupt) -> Result<bool, CliError> {
    output::print("The first bag goes to production:\n")?;
    let begun = Instant::now();
    match follow(client, interrupt, LIMIT)? {
        Followed::Arrived { bag } => {
            let took = begun.elapsed().as_secs_f64();
            output::print(&format!("Bag {bag} has reached production, {took:.1} s after the start.\n"))?;
            Ok(true)
        }
        Followed::Interrupted => Ok(false),
        Followed::Stuck { reasons } => {
            let message = format!("the first bag did not reach production:\n  {}", reasons.join("\n  "));
            if args.exit {
                return Err(CliError::new(Kind::Failed, message));
            }
            output::note(&message);
            Ok(true)
        }
    }
}

/// Sets the system file; the same file again changes nothing.
fn set_system(client: &Client, folder: &Folder) -> Result<(), CliError> {
    let text = std::fs::read_to_string(folder.system_file())?;
    let request = ActRequest {
        act: Act::SystemSet { text, vars: std::collections::BTreeMap::new(), now: false },
        reason: Some("the demo begins".to_owned()),
        ticket: None,
        dry_run: false,
        preview_token: None,
    };
    let _: ActAnswer = client.post("acts", &request)?;
    Ok(())
}

/// Leaves word for the hooks of the repositories, so that a push is known at once.
fn tell_hooks(own: &OwnFolder, url: &str) -> Result<(), CliError> {
    let webhook = format!(
        "/api/v1/teams/{FIRST}/pipelines/deploy-{SYSTEM}/resources/{{service}}/check/webhook?webhook_token={}",
        own.marker.webhook_token
    );
    let whom = Whom { server: url.to_owned(), webhooks: vec![webhook] };
    let text = serde_json::to_string(&whom).map_err(failed)?;
    write_whole(&own.folder.server_address(), text.as_bytes())?;
    Ok(())
}

/// Finds at once what was pushed before the hooks could tell anyone.
fn look_for_pushes(client: &Client) -> Result<(), CliError> {
    let pipeline = format!("deploy-{SYSTEM}");
    let resources: Vec<ResourceSummary> = client.list(&format!("resources?team={FIRST}&pipeline={pipeline}"), None)?;
    for resource in resources.iter().filter(|resource| system::SERVICES.contains(&resource.resource.as_str())) {
        let path = format!("resources/{FIRST}/{pipeline}/{}/check", resource.resource);
        let _: CheckAnswer = client.post(&path, &CheckRequest::default())?;
    }
    Ok(())
}
