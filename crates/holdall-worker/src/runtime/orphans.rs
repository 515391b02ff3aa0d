//! What a shim that was killed leaves behind: processes of a step that nobody watches. They are ended as a stop would
//! end them, so that whoever decides how to go on knows that nothing of the step runs any more.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use holdall_protocol::worker::StopPolicy;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpgid};

use super::prepare::OWN_FOLDERS;
use crate::process::{self, Stat};
use crate::shim::{ChildRecord, read_json, seconds, stop_signal};

/// How often it is looked whether they are gone: they are not this process's children, so nothing says so.
const LOOK: Duration = Duration::from_millis(20);

/// The arguments of a shim before its folder, as `/proc` has them.
const SHIM: &[u8] = b"holdall\0shim\0";

/// Ends what is left of the step in `folder`, whose shim is gone; blocks for as long as the grace. Gives a sentence
/// about what is known.
pub(super) fn end(folder: &Path, stop: &StopPolicy) -> String {
    let unknown = "the step's shim was killed and left no record of how the step ended";
    let child = read_json::<ChildRecord>(&folder.join("child.json")).ok().flatten();
    if child.as_ref().is_some_and(|child| child.boot != process::boot()) {
        return "the machine was restarted while the step ran, so nobody knows how far it came".to_owned();
    }
    let orphans = Orphans { folder, child: child.as_ref() };
    let mut left = orphans.left();
    if left.is_empty() {
        return match child {
            Some(_) => format!("{unknown}; none of its processes runs any more"),
            None => format!("{unknown}, nor of whether it was started; none of its processes runs"),
        };
    }
    let signal = stop_signal(stop);
    orphans.send(&left, signal);
    let kill_at = Instant::now() + seconds(stop.grace_seconds);
    let mut killed = false;
    while !left.is_empty() {
        thread::sleep(LOOK);
        left = orphans.left();
        if Instant::now() >= kill_at && !left.is_empty() {
            killed = true;
            orphans.send(&left, Signal::SIGKILL);
        }
    }
    let how = if killed { format!("{signal}, and after the grace KILL") } else { signal.to_string() };
    format!("{unknown}; its processes were still there, got {how}, and are gone now")
}

/// What was started for a step and may still be there.
struct Orphans<'a> {
    folder: &'a Path,
    /// The step's process; `None` where the shim was killed before it could note it.
    child: Option<&'a ChildRecord>,
}

impl Orphans<'_> {
    /// The processes that have not ended: those of the step's group, and those that have its environment.
    fn left(&self) -> Vec<Pid> {
        let all = process::all().unwrap_or_default().into_iter().filter(|(_, stat)| !stat.is_zombie());
        let group = self.group();
        let is_left = |(pid, stat): &(Pid, Stat)| {
            group.is_some_and(|group| stat.group() == Some(group.as_raw())) || self.is_marked(*pid)
        };
        all.filter(is_left).map(|(pid, _)| pid).collect()
    }

    /// The step's group, unless its id went to another one in the meantime: a group lives as long as its members, and
    /// a later leader was started at another time.
    fn group(&self) -> Option<Pid> {
        let child = self.child?;
        let leader = Stat::of(Pid::from_raw(child.pid));
        let is_other = leader.is_some_and(|stat| stat.start_ticks() != Some(child.start_ticks));
        (!is_other).then(|| Pid::from_raw(child.pid))
    }

    /// Whether a process is the copy that the shim made of itself to become the step's, or has a folder of this step
    /// in its environment, which is handed on to whatever a step starts.
    fn is_marked(&self, pid: Pid) -> bool {
        let read = |what: &str| std::fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
        let folder = self.folder.as_os_str().as_bytes();
        // First: the copy becomes the step's in between, at the worst.
        if read("cmdline").strip_suffix(b"\0") == Some(&[SHIM, folder].concat()) {
            return true;
        }
        let own = OWN_FOLDERS.map(|(name, inner)| [name.as_bytes(), b"=", folder, b"/", inner.as_bytes()].concat());
        read("environ").split(|byte| *byte == 0).any(|variable| own.iter().any(|own| own == variable))
    }

    /// Signals the step's group as one, and one by one what is not in it.
    fn send(&self, left: &[Pid], signal: Signal) {
        let group = self.group();
        // An error says that it has just ended.
        if let Some(group) = group {
            let _ = killpg(group, signal);
        }
        for pid in left {
            if group.is_none() || getpgid(Some(*pid)).ok() != group {
                let _ = kill(*pid, signal);
            }
        }
    }
}
