//! `holdall lock acquire`, and taking a lock for `lock run`.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use clap::Args;
use holdall_protocol::api::{AcquireAnswer, AcquireRequest, Done, Granted, LockMode, Preview, ReleaseRequest, code};
use nix::sys::signal::Signal;

use crate::act::parse_duration;
use crate::client::{Client, ClientError, escape};
use crate::context::Context;
use crate::error::{CliError, Kind};
use crate::output::{self, OutputArgs, lock_lines};
use crate::signals;

/// The shortest time between two requests for a place in a queue.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Takes a lock for yourself; give it back with `holdall lock release`
///
/// When somebody else has it, it fails at once, saying who (exit code 3); with `--wait` it queues, for as long as this
/// command runs.
#[derive(Debug, Args)]
pub struct AcquireArgs {
    /// The environment
    environment: String,
    #[command(flatten)]
    wish: WishArgs,
    /// For how long at most: 30m, 2h, 3d [default: until it is released]
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    duration: Option<i64>,
    /// Only say what it would do
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// How a lock is wanted.
#[derive(Debug, Clone, Args)]
pub struct WishArgs {
    /// Why; everybody sees it
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// A ticket that has the whole story
    #[arg(long, value_name = "TEXT")]
    pub ticket: Option<String>,
    /// Queue for it
    #[arg(long)]
    pub wait: bool,
    /// Beside others that share it, never beside a deployment
    #[arg(long)]
    pub shared: bool,
}

impl WishArgs {
    /// The request, with the reason or an error when there is none.
    pub fn request(&self, fallback: Option<String>) -> Result<AcquireRequest, CliError> {
        let reason = self.reason.clone().filter(|reason| !reason.trim().is_empty()).or(fallback);
        let reason = match reason {
            Some(reason) => reason,
            None if output::is_interactive() => crate::act::ask_line("Reason: ")?,
            None => String::new(),
        };
        if reason.is_empty() {
            return Err(CliError::invalid("this needs a reason").hint("say why: --reason \"...\""));
        }
        Ok(AcquireRequest {
            reason,
            ticket: self.ticket.clone(),
            for_seconds: None,
            mode: if self.shared { LockMode::Shared } else { LockMode::Exclusive },
            wait: self.wait,
            place: None,
            dry_run: false,
        })
    }
}

/// Takes the lock.
pub fn run(ctx: &Context, args: AcquireArgs) -> Result<(), CliError> {
    let mut request = args.wish.request(None)?;
    request.for_seconds = args.duration.map(|micros| (micros / 1_000_000).max(1) as u64);
    request.dry_run = args.dry_run;
    let client = ctx.client()?;
    let (sender, signals) = channel();
    if args.wish.wait && !args.dry_run {
        signals::watch(sender, |signal| signal)?;
    }
    match take(client, &args.environment, request, &signals)? {
        Taken::Granted(granted) => args.output.print(&granted, |style| {
            let until =
                granted.until.map(|until| format!(" It ends by itself {}.", style.ago(until))).unwrap_or_default();
            format!("You have the lock of {}.{until}\n", output::plain(&args.environment))
        }),
        Taken::Preview(preview) => args.output.print(&preview, |style| crate::act::preview_text(&preview, style)),
    }
}

/// What came of wanting a lock.
pub enum Taken {
    /// It is had.
    Granted(Granted),
    /// It was only asked what would happen.
    Preview(Box<Preview>),
}

/// Takes a lock, queueing if the request says so; a signal leaves the queue.
pub fn take(
    client: &Client,
    environment: &str,
    mut request: AcquireRequest,
    signals: &Receiver<Signal>,
) -> Result<Taken, CliError> {
    let path = format!("locks/{}/acquire", escape(environment));
    let mut told = String::new();
    let mut unreachable: Option<std::time::Instant> = None;
    loop {
        match client.post(&path, &request) {
            Ok(AcquireAnswer::Granted(granted)) => return Ok(Taken::Granted(granted)),
            Ok(AcquireAnswer::Preview { preview }) => return Ok(Taken::Preview(preview)),
            Ok(AcquireAnswer::Queued { place, position, lock, .. }) => {
                unreachable = None;
                let news = format!("waiting for the lock of {environment}, position {position}");
                if told != news {
                    output::note(&output::plain(&news));
                    lock_lines(&lock).iter().for_each(|line| output::note(&format!("  {line}")));
                    told = news;
                }
                request.place = Some(place);
            }
            // The place is kept for a while: the server may be back in time.
            Err(ClientError::Transport(why)) if request.place.is_some() => {
                if unreachable.is_none() {
                    output::note(&format!("{why}; asking again"));
                }
                if unreachable.get_or_insert_with(std::time::Instant::now).elapsed() > Duration::from_secs(120) {
                    return Err(ClientError::Transport(why).into());
                }
            }
            Err(ClientError::Refused { body, .. }) if request.place.is_some() && body.code == code::LOCK_LOST => {
                output::note(&format!("the place in the queue of {environment} has lapsed; queueing again"));
                request.place = None;
            }
            Err(error) => return Err(taken_by_other(error, environment)),
        }
        match signals.recv_timeout(ASK_AGAIN) {
            Ok(_) => {
                if let Some(place) = request.place {
                    leave(client, environment, place);
                }
                return Err(CliError::new(Kind::Interrupted, format!("left the queue of {environment}")));
            }
            Err(RecvTimeoutError::Timeout) => {}
            // Nobody watches for signals: they have their own action.
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(ASK_AGAIN),
        }
    }
}

fn taken_by_other(error: ClientError, environment: &str) -> CliError {
    let is_locked = matches!(&error, ClientError::Refused { status: 423, body } if body.details.command.is_none());
    let error = CliError::from(error);
    match is_locked {
        true => error.more_hint(&format!("queue for it: holdall lock acquire {environment} --wait")),
        false => error,
    }
}

/// Gives a place or a holding back. The server forgets it by itself when it cannot be told.
pub fn leave(client: &Client, environment: &str, token: String) {
    let path = format!("locks/{}/release", escape(environment));
    if let Err(error) = client.post::<Done>(&path, &ReleaseRequest { token, reason: None }) {
        let error = CliError::from(error);
        output::note(&format!("holdall: the lock of {environment} was not given back: {error}; it ends by itself"));
    }
}
