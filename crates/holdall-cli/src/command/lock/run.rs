//! `holdall lock run`: holds a lock while a command runs, and stops the command when the lock is lost.
//!
//! The command has a process group of its own, so that it is stopped with everything that it started; on a terminal
//! that group is the foreground one, so that keys and Ctrl-C reach the command as if there was no `holdall` in between.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use clap::Args;
use holdall_protocol::api::{Granted, RenewRequest};
use nix::sys::signal::{SigSet, Signal, killpg, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};

use super::acquire::{Taken, WishArgs, leave, take};
use crate::act::parse_duration;
use crate::client::{Client, ClientError, escape};
use crate::context::Context;
use crate::error::{CliError, Kind};
use crate::output::{self, plain};
use crate::signals;

/// The longest lease: a client that died blocks an environment no longer (release model, section 5.9).
const LONGEST_LEASE: Duration = Duration::from_secs(3600);

/// How long to wait after a renewal that did not reach the server.
const RETRY: Duration = Duration::from_secs(2);

/// `EX_TEMPFAIL`: the lock was lost while the command ran.
const LOST: u8 = 75;

/// Holds a lock while a command runs
///
/// The lock is renewed for as long as the command runs, and given back when it ends. When the lock is lost, because
/// somebody forced it or the server was away for too long, the command is stopped: TERM, then KILL after `--grace`.
/// The exit code is the command's.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The environment
    environment: String,
    #[command(flatten)]
    wish: WishArgs,
    /// How long the lock stays when this command dies or loses the server; at most 1h
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = parse_lease)]
    lease: Duration,
    /// How long the command has to end after TERM when the lock is lost
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_grace)]
    grace: Duration,
    /// The command
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

fn parse_grace(text: &str) -> Result<Duration, String> {
    parse_duration(text).map(|micros| Duration::from_micros(micros.unsigned_abs()))
}

fn parse_lease(text: &str) -> Result<Duration, String> {
    match parse_grace(text)? {
        lease if lease < Duration::from_secs(1) => Err("a lease is at least 1s".to_owned()),
        lease if lease > LONGEST_LEASE => Err("a lease is at most 1h".to_owned()),
        lease => Ok(lease),
    }
}

/// What happens while the command runs.
enum Happened {
    /// The command changed its state.
    Child(WaitStatus),
    /// Somebody wants this process to stop.
    Signal(Signal),
    /// The lock is lost.
    Lost(String),
    /// The grace is over.
    GraceOver,
}

/// Takes the lock, runs the command, gives the lock back.
pub fn run(ctx: &Context, args: RunArgs) -> Result<(), CliError> {
    let words: Vec<String> = args.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let mut request = args.wish.request(Some(format!("runs {}", words.join(" "))))?;
    request.for_seconds = Some(args.lease.as_secs());
    let client = ctx.client()?;
    let (signal_sender, signals) = channel();
    signals::watch(signal_sender, |signal| signal)?;
    let asked = Instant::now();
    let granted = match take(client, &args.environment, request, &signals)? {
        Taken::Granted(granted) => granted,
        Taken::Preview(_) => return Err(CliError::failed("the server showed a preview that was not asked for")),
    };
    let token = granted.token.clone();
    let result = hold(client, &args, granted, asked, signals);
    leave(client, &args.environment, token);
    result
}

/// Runs the command while the lock is renewed.
fn hold(
    client: &Client,
    args: &RunArgs,
    granted: Granted,
    asked: Instant,
    signals: Receiver<Signal>,
) -> Result<(), CliError> {
    let (program, rest) = args.command.split_first().ok_or_else(|| CliError::invalid("which command?"))?;
    let mut command = Command::new(program);
    command.args(rest).process_group(0);
    command.env("HOLDALL_LOCK", &args.environment).env("HOLDALL_LOCK_FENCE", granted.fence.to_string());
    let child = command.spawn().map_err(|error| {
        let code = if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
        CliError::new(Kind::Exit(code), format!("{} could not be started: {error}", program.to_string_lossy()))
    })?;
    let group = Pid::from_raw(child.id() as i32);
    let mut terminal = Terminal::lend(group);

    let (sender, happened) = channel();
    wait_in_thread(group, sender.clone())?;
    renew_in_thread(client.clone(), args, granted.token, asked, sender.clone())?;
    let forward = sender.clone();
    std::thread::spawn(move || signals.into_iter().try_for_each(|signal| forward.send(Happened::Signal(signal))));

    let mut lost = false;
    loop {
        // The threads keep the channel open for as long as there is anything to wait for.
        let Ok(event) = happened.recv() else {
            return Err(CliError::failed("the command's end was missed"));
        };
        match event {
            Happened::Child(WaitStatus::Stopped(..)) => {
                terminal.take_back();
                // The shell that started this sees it stopped, as it would the command itself.
                let _ = raise(Signal::SIGSTOP);
                terminal = Terminal::lend(group);
                let _ = killpg(group, Signal::SIGCONT);
            }
            Happened::Child(status) => {
                terminal.take_back();
                return ending(status, lost);
            }
            Happened::Signal(signal) => {
                let _ = killpg(group, signal);
            }
            Happened::Lost(why) if !lost => {
                lost = true;
                output::note(&format!(
                    "holdall: the lock of {} is lost: {why}; stopping the command",
                    args.environment
                ));
                stop(group, Signal::SIGTERM);
                let (sender, grace) = (sender.clone(), args.grace);
                std::thread::spawn(move || {
                    std::thread::sleep(grace);
                    sender.send(Happened::GraceOver)
                });
            }
            Happened::Lost(_) => {}
            Happened::GraceOver => stop(group, Signal::SIGKILL),
        }
    }
}

/// Signals the command and everything that it started; one that is stopped has to go on to end.
fn stop(group: Pid, signal: Signal) {
    let _ = killpg(group, signal);
    let _ = killpg(group, Signal::SIGCONT);
}

fn ending(status: WaitStatus, lost: bool) -> Result<(), CliError> {
    match status {
        _ if lost => Err(CliError::silent(Kind::Exit(LOST))),
        WaitStatus::Exited(_, 0) => Ok(()),
        WaitStatus::Exited(_, code) => Err(CliError::silent(Kind::Exit(code as u8))),
        WaitStatus::Signaled(_, signal, _) => Err(CliError::silent(Kind::Exit(128 + signal as i32 as u8))),
        _ => Err(CliError::failed("the command's end was missed")),
    }
}

/// Says what the command does, until it has ended.
fn wait_in_thread(child: Pid, sender: Sender<Happened>) -> std::io::Result<()> {
    std::thread::Builder::new().name("wait".to_owned()).spawn(move || {
        loop {
            match waitpid(child, Some(WaitPidFlag::WUNTRACED)) {
                Ok(status) => {
                    let ended = !matches!(status, WaitStatus::Stopped(..));
                    if sender.send(Happened::Child(status)).is_err() || ended {
                        return;
                    }
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(_) => {
                    let _ = sender.send(Happened::Child(WaitStatus::StillAlive));
                    return;
                }
            }
        }
    })?;
    Ok(())
}

/// Renews the lock three times a lease, and says when it is lost.
fn renew_in_thread(
    client: Client,
    args: &RunArgs,
    token: String,
    asked: Instant,
    sender: Sender<Happened>,
) -> std::io::Result<()> {
    let path = format!("locks/{}/renew", escape(&args.environment));
    let lease = args.lease;
    let request = RenewRequest { token, for_seconds: lease.as_secs() };
    std::thread::Builder::new().name("renew".to_owned()).spawn(move || {
        // Counted from before the request was sent: the server's time of grace ends later than this, never earlier.
        let mut deadline = asked + lease;
        let mut pause = lease / 3;
        loop {
            std::thread::sleep(pause.min(deadline.saturating_duration_since(Instant::now())));
            let begun = Instant::now();
            match client.post::<Granted>(&path, &request) {
                Ok(_) => (deadline, pause) = (begun + lease, lease / 3),
                Err(error) => {
                    if is_final(&error) || Instant::now() >= deadline {
                        let _ = sender.send(Happened::Lost(plain(&CliError::from(error).to_string())));
                        return;
                    }
                    pause = RETRY.min(lease / 10);
                }
            }
        }
    })?;
    Ok(())
}

/// Whether the server has said that the lock is lost, as against not having said anything.
fn is_final(error: &ClientError) -> bool {
    match error {
        ClientError::Refused { status, .. } => *status < 500,
        ClientError::Transport(_) | ClientError::Strange(_) => false,
    }
}

/// The terminal, if there is one and it was this process's to lend.
struct Terminal {
    mine: Option<Pid>,
}

impl Terminal {
    /// Makes a group the terminal's foreground.
    fn lend(group: Pid) -> Terminal {
        let stdin = std::io::stdin();
        let me = getpgrp();
        if !stdin.is_terminal() || tcgetpgrp(&stdin) != Ok(me) {
            return Terminal { mine: None };
        }
        // Taking the terminal back happens from the background, which would stop this process.
        let mut background = SigSet::empty();
        background.add(Signal::SIGTTOU);
        if background.thread_block().is_err() || tcsetpgrp(&stdin, group).is_err() {
            return Terminal { mine: None };
        }
        // It may have wanted to read before the terminal was its own.
        let _ = killpg(group, Signal::SIGCONT);
        Terminal { mine: Some(me) }
    }

    /// Makes this process's group the foreground again.
    fn take_back(&mut self) {
        if let Some(me) = self.mine.take() {
            let _ = tcsetpgrp(std::io::stdin(), me);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_has_bounds() {
        assert_eq!(parse_lease("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(parse_lease("1h"), Ok(Duration::from_secs(3600)));
        for text in ["61m", "500ms", "0s", "never"] {
            assert!(parse_lease(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_exit_code_is_the_command_s() {
        let pid = Pid::from_raw(1);
        assert!(ending(WaitStatus::Exited(pid, 0), false).is_ok());
        assert_eq!(ending(WaitStatus::Exited(pid, 7), false).unwrap_err().exit_code(), 7);
        assert_eq!(ending(WaitStatus::Signaled(pid, Signal::SIGKILL, false), false).unwrap_err().exit_code(), 137);
        assert_eq!(ending(WaitStatus::Exited(pid, 0), true).unwrap_err().exit_code(), LOST);
    }
}
