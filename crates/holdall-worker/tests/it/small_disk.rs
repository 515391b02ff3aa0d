//! A file system of its own, of a few megabytes, for tests of a disk that is full or read-only. The server's tests include
//! this file too.

use std::path::Path;
use std::process::Command;

/// Set in a process that has name spaces of its own.
const INSIDE: &str = "HOLDALL_TEST_MAY_MOUNT";

/// It is unmounted when it is dropped.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Mounts one for the test of that name. Where this user may not, the test is played in a process of its own that has
    /// a user and mounts of its own, and this gives `None` when it has passed there, or may not have such a process either,
    /// which it says.
    ///
    /// # Panics
    /// The test fails there; or it cannot be played at all, and `HOLDALL_REQUIRE_TOOLS` is set.
    pub fn mount(megabytes: u32, test: &str) -> Option<SmallDisk> {
        let dir = tempfile::tempdir().expect("a folder");
        let arguments = ["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "none"];
        if succeeds(Command::new("mount").args(arguments).arg(dir.path())) {
            return Some(SmallDisk(dir));
        }
        assert!(std::env::var_os(INSIDE).is_none(), "no disk can be mounted where that was possible a moment ago");
        if succeeds(inside("mount").args(arguments).arg(dir.path())) {
            let itself = std::env::current_exe().expect("this program");
            let mut again = inside(itself.to_str().expect("it is text"));
            assert!(succeeds(again.args([test, "--exact", "--nocapture"])), "{test} failed with mounts of its own");
            return None;
        }
        let why = "a full or read-only disk cannot be tried: this user may neither mount one nor have a user name space \
                   in which to (`unshare --user --map-root-user --mount mount -t tmpfs none DIR`)";
        assert!(std::env::var_os("HOLDALL_REQUIRE_TOOLS").is_none(), "{why}");
        eprintln!("NOT RUN: {why}");
        None
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        succeeds(Command::new("umount").arg("-l").arg(self.path()));
    }
}

/// A program that may mount, and whose mounts nobody else sees.
fn inside(program: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", program]).env(INSIDE, "1");
    command
}

/// Whether a command succeeds.
pub fn succeeds(command: &mut Command) -> bool {
    command.status().is_ok_and(|status| status.success())
}
