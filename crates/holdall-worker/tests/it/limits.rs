//! Too much of everything: output, memory, no disk.

use std::process::Command;

use holdall_protocol::worker::Ending;
use nix::sys::statvfs::statvfs;

use crate::small_disk::{SmallDisk, succeeds};
use crate::support::{Setup, attempt, eventually, exited, task};

/// The most memory that a process has had, in KiB.
fn peak_memory(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// How much memory a worker and a shim may have had, in KiB, however much a step prints.
const WORKER_KIB: u64 = 48 * 1024;
const SHIM_KIB: u64 = 16 * 1024;

/// Lets a step print so much, first while the server takes nothing.
fn prints_in_little_memory(script: &str, bytes: u64) {
    let mut setup = Setup::new();
    // The server is not there meanwhile: nothing may gather in memory.
    setup.server.state().report_status = Some(503);
    setup.server.give(attempt("loud", task(&format!("{script}; echo end; while ! [ -e go ]; do sleep 0.01; done"))));
    let (_, shim) = setup.pids("loud");
    let output = setup.folder("loud").join("output");
    // Each part has the patience of a whole test: how long a gigabyte takes is not what is tested.
    for part in 1..=10 {
        let length = part * bytes / 10;
        eventually("it prints more", || output.metadata().is_ok_and(|file| file.len() > length));
    }
    let worker = setup.worker.as_ref().unwrap().0.id() as i32;
    assert!(peak_memory(shim) < SHIM_KIB, "the shim had {} KiB", peak_memory(shim));
    assert!(peak_memory(worker) < WORKER_KIB, "the worker had {} KiB", peak_memory(worker));
    setup.server.state().report_status = None;
    setup.server.state().discard = true;
    std::fs::write(setup.folder("loud").join("work/go"), "").unwrap();
    for part in 1..=10 {
        let length = part * bytes / 10;
        eventually("it reports more", || {
            setup.server.state().seen.get("loud").is_some_and(|seen| seen.length > length)
        });
    }
    let (ending, seen) = setup.server.finished("loud");
    assert_eq!((ending, seen.length), (exited(0, &[]), bytes + 4));
    assert!(peak_memory(worker) < WORKER_KIB, "the worker had {} KiB", peak_memory(worker));
    setup.kill_worker();
}

#[test]
fn a_gigabyte_of_lines_needs_little_memory() {
    let line = "x".repeat(79);
    prints_in_little_memory(&format!("yes {line} | head -n 12500000"), 1_000_000_000);
}

#[test]
fn a_hundred_megabytes_without_a_newline_need_little_memory() {
    prints_in_little_memory("head -c 100000000 /dev/zero", 100_000_000);
}

#[test]
fn bytes_that_are_not_text_arrive_as_they_are() {
    let setup = Setup::new();
    let script =
        r"printf '\377\376\000\200'; i=0; while [ $i -lt 256 ]; do printf \\$(printf %03o $i); i=$((i+1)); done";
    let (_, seen) = setup.run("bytes", task(script));
    let expected: Vec<u8> = [255, 254, 0, 128].into_iter().chain(0..=255).collect();
    assert_eq!(seen.output, expected);
}

#[test]
fn many_steps_that_print_at_once_take_turns() {
    let setup = Setup::new();
    for n in 0..20 {
        setup.server.give(attempt(&format!("many-{n}"), task(&format!("yes {n} | head -c 400000"))));
    }
    for n in 0..20 {
        let (ending, seen) = setup.server.finished(&format!("many-{n}"));
        assert_eq!((ending, seen.output.len()), (exited(0, &[]), 400_000));
        assert!(seen.text().lines().all(|line| line.is_empty() || format!("{n}").starts_with(line)));
    }
}

#[test]
fn a_full_disk_is_said_and_survived() {
    let Some(disk) = SmallDisk::mount(8, "limits::a_full_disk_is_said_and_survived") else { return };
    let dir = tempfile::tempdir_in(disk.path()).unwrap();
    let setup = Setup::in_dir(dir);
    let ballast = disk.path().join("ballast");
    let fill = || std::fs::write(&ballast, vec![0; 64 << 20]).unwrap_err();

    // A step that fills the disk itself: its last words arrive.
    let (ending, seen) = setup.run("fills", task("cat /dev/zero > file || { echo cannot write >&2; exit 9; }"));
    assert_eq!(ending, exited(9, &[]));
    assert!(seen.text().ends_with("cannot write\n"), "{}", seen.text());
    setup.server.order(|orders| orders.forget.push("fills".into()));
    eventually("its folder is gone", || !setup.folder("fills").exists());

    // A step that prints while the disk is full waits until it is not.
    let script = "echo ready; while ! [ -e go ]; do sleep 0.01; done; yes | head -c 2000000; echo end";
    setup.server.give(attempt("waits", task(script)));
    setup.server.printed("waits", "ready\n");
    fill();
    // An empty file needs no space on this file system.
    std::fs::write(setup.folder("waits").join("work/go"), "").unwrap();
    eventually("it used what was set aside", || !setup.folder("waits").join("reserve").exists());
    eventually("it filled that too", || statvfs(disk.path()).unwrap().blocks_available() == 0);

    // Meanwhile nothing can be started; it says why, and what comes later works again.
    setup.server.give(attempt("refused", task("true")));
    let (ending, _) = setup.server.finished("refused");
    let Ending::CouldNotRun { message } = ending else { panic!("{ending:?}") };
    assert!(message.contains("No space left on device"), "{message}");
    std::fs::remove_file(&ballast).unwrap();
    let (ending, seen) = setup.server.finished("waits");
    assert_eq!((ending, seen.output.len()), (exited(0, &[]), 2_000_010));
    assert_eq!(setup.run("after", task("echo fine")).1.text(), "fine\n");
}

#[test]
fn a_folder_that_cannot_be_removed_keeps_no_worker_from_working() {
    let Some(disk) = SmallDisk::mount(1, "limits::a_folder_that_cannot_be_removed_keeps_no_worker_from_working") else {
        return;
    };
    let mut setup = Setup::new();
    setup.run("first", task("true"));
    let folder = setup.folder("first");
    let mount = folder.join("work/mount");
    std::fs::create_dir(&mount).unwrap();
    assert!(succeeds(Command::new("mount").arg("--bind").args([disk.path(), &mount])));
    setup.server.order(|orders| orders.forget.push("first".into()));
    setup.run("next", task("true"));
    assert!(mount.exists());
    setup.restart_worker();
    assert_eq!(setup.run("later", task("echo fine")).1.text(), "fine\n");
    assert!(succeeds(Command::new("umount").arg(&mount)));
    setup.restart_worker();
    eventually("it is removed at the next start", || !folder.exists());
}
