//! What `/proc` says of processes.

use nix::unistd::Pid;

/// `/proc/PID/stat`, from its third field on.
#[derive(Debug, Clone)]
pub struct Stat(String);

impl Stat {
    /// That of a process; `None` when it is gone.
    pub fn of(pid: Pid) -> Option<Stat> {
        let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        let text = String::from_utf8_lossy(&text);
        // The second field is the command's name in brackets, which may hold anything.
        Some(Stat(text.rsplit_once(')')?.1.to_owned()))
    }

    /// A field by its number in proc(5).
    fn field(&self, number: usize) -> Option<&str> {
        self.0.split_ascii_whitespace().nth(number - 3)
    }

    /// Whether it has ended and only waits to be reaped.
    pub fn is_zombie(&self) -> bool {
        self.field(3) == Some("Z")
    }

    /// The process id of its parent.
    pub fn parent(&self) -> Option<i32> {
        self.field(4)?.parse().ok()
    }

    /// Its process group.
    pub fn group(&self) -> Option<i32> {
        self.field(5)?.parse().ok()
    }

    /// When it was started, in ticks since the machine was: no two processes have both this and the id in common.
    pub fn start_ticks(&self) -> Option<u64> {
        self.field(22)?.parse().ok()
    }
}

/// All processes that are there now.
pub fn all() -> std::io::Result<Vec<(Pid, Stat)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()).map(Pid::from_raw) else { continue };
        if let Some(stat) = Stat::of(pid) {
            found.push((pid, stat));
        }
    }
    Ok(found)
}

/// Which boot of the machine this is. Where the kernel does not say, all are one.
pub fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
