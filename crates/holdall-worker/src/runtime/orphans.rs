//! What a shim that was killed leaves behind: processes of a step that nobody watches. They are ended as a stop would
//! end them, so that whoever decides how to go on knows that nothing of the step runs any more.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use holdall_protocol::worker::StopPolicy;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::{self, Stat};
use crate::shim::{ChildRecord, read_json, seconds, stop_signal};

/// How often it is looked whether they are gone: they are not this process's children, so nothing says so.
const LOOK: Duration = Duration::from_millis(20);

/// Ends what is left of the step in `folder`, whose shim is gone; blocks for as long as the grace. Gives a sentence
/// about what is known.
pub(super) fn end(folder: &Path, stop: &StopPolicy) -> String {
    let unknown = "the step's shim was killed and left no record of how the step ended";
    let Ok(Some(child)) = read_json::<ChildRecord>(&folder.join("child.json")) else {
        return format!("{unknown}, nor of whether it was started");
    };
    if child.boot != process::boot() {
        return "the machine was restarted while the step ran, so nobody knows how far it came".to_owned();
    }
    let left = || !group_members(&child).is_empty();
    if !left() {
        return format!("{unknown}; none of its processes runs any more");
    }
    let group = Pid::from_raw(-child.pid);
    let signal = stop_signal(stop);
    let _ = kill(group, signal);
    let kill_at = Instant::now() + seconds(stop.grace_seconds);
    let mut killed = false;
    while left() {
        if !killed && Instant::now() >= kill_at {
            killed = true;
            let _ = kill(group, Signal::SIGKILL);
        }
        thread::sleep(LOOK);
    }
    let how = if killed { format!("{signal}, and after the grace KILL") } else { signal.to_string() };
    format!("{unknown}; its processes were still there, got {how}, and are gone now")
}

/// The processes of the step's group that have not ended. An id that went to another process in the meantime is not
/// taken for the step's: a group lives as long as its members, and a later leader was started at another time.
fn group_members(child: &ChildRecord) -> Vec<Pid> {
    let leader = Stat::of(Pid::from_raw(child.pid));
    if leader.is_some_and(|stat| stat.start_ticks() != Some(child.start_ticks)) {
        return Vec::new();
    }
    let all = process::all().unwrap_or_default();
    all.into_iter()
        .filter(|(_, stat)| stat.group() == Some(child.pid) && !stat.is_zombie())
        .map(|(pid, _)| pid)
        .collect()
}
