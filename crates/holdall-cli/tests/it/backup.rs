//! `holdall backup`, `holdall restore` and `holdall env confirm`, with a real server.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Stdio};

use serde_json::{Value, json};

use crate::fake::{Fake, Ran, eventually, holdall, run_in};

const SYSTEM: &str = "\
system: notify
services:
  api: { type: mock, source: { initial_version: '1' } }
environments:
  preview:
    pack: true
    deploy: [{ task: apply, config: { platform: linux, run: { path: 'true' } } }]
";

/// A server in a folder of its own; commands that run in the folder find it.
struct Server {
    child: Child,
    /// Not closed while it runs: its log goes there.
    _log: BufReader<ChildStderr>,
    data: PathBuf,
}

impl Server {
    fn start(data: &Path) -> Server {
        let mut command = holdall(&["serve", "--listen", "127.0.0.1:0", "--data-dir"]);
        let mut child = command.arg(data).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("Holdall listens on ") {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "the server did not start");
        }
        Server { child, _log: log, data: data.to_owned() }
    }

    fn run(&self, args: &[&str]) -> Ran {
        run_in(&self.data, args)
    }

    /// The same, and it must be good.
    fn json(&self, args: &[&str]) -> Value {
        let ran = self.run(&[args, &["-o", "json"]].concat());
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
        ran.json()
    }

    fn stop(mut self) {
        let id = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone after `stop`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_server_comes_back_from_its_backup_and_waits_for_a_person() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file, next) = (dir.path().join("data"), dir.path().join("b.jsonl"), dir.path().join("next"));
    let system = dir.path().join("system.yml");
    fs::write(&system, SYSTEM).unwrap();
    let server = Server::start(&data);
    server.json(&["system", "set", path(&system)]);
    let is_live = |server: &Server, bag: i64| {
        let environment = &server.json(&["env", "list"])[0];
        environment["current"] == json!(bag) && environment["state"] == json!("idle")
    };
    eventually("bag 1 is live", || is_live(&server, 1));

    let made = server.json(&["backup", path(&file)]);
    assert_eq!((&made["epoch"], &made["file"]), (&json!(1), &json!(path(&file))));
    assert_eq!(made["bytes"].as_u64(), Some(fs::metadata(&file).unwrap().len()));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let ran = server.run(&["backup", path(&file)]);
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert!(ran.err.contains("is there already") && ran.err.contains("--force"), "{}", ran.err);
    let ran = server.run(&["backup", path(&file), "--force", "--data-dir", path(&data)]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let acts = server.json(&["audit"]);
    let made: Vec<&Value> = acts.as_array().unwrap().iter().filter(|entry| entry["act"] == json!("backup")).collect();
    assert_eq!((made.len(), &made[0]["who"], &made[0]["via"]), (1, &json!("admin"), &json!("cli")));
    let ran = server.run(&["restore", path(&file), "--data-dir", path(&data)]);
    assert_eq!(ran.code, 3);
    assert!(ran.err.contains("in use by another server"), "{}", ran.err);
    server.stop();
    let ran = run_in(dir.path(), &["restore", path(&file), "--data-dir", path(&data)]);
    assert_eq!(ran.code, 3);
    assert!(ran.err.contains("holdall.sqlite is not empty; restore into a new place"), "{}", ran.err);

    let ran = run_in(dir.path(), &["restore", path(&file), "--data-dir", path(&next), "--dry-run"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("Nothing was changed: this was a dry run.") && !next.exists(), "{}", ran.out);
    let ran = run_in(dir.path(), &["restore", path(&file), "--data-dir", path(&next)]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("Epoch 2 begins"), "{}", ran.out);
    assert!(ran.out.contains("\n  holdall env confirm preview --system notify --reason \"...\"\n"), "{}", ran.out);

    let server = Server::start(&next);
    let ran = server.run(&["why", "preview"]);
    assert_eq!(ran.code, 3);
    assert!(ran.out.starts_with("restored "), "{}", ran.out);
    assert!(
        ran.out.contains("b.jsonl, a backup of 20") && ran.out.contains("holdall env confirm preview"),
        "{}",
        ran.out
    );
    let ran = server.run(&["env", "confirm", "preview"]);
    assert_eq!((ran.code, ran.err.contains("needs a reason")), (2, true), "{}", ran.err);
    let ran = server.run(&["env", "confirm", "preview", "--reason", "looked", "--dry-run"]);
    assert!(ran.out.contains("bag 1 counts as live in preview"), "{}", ran.out);
    assert_eq!(server.run(&["why", "preview"]).code, 3);
    server.json(&["env", "confirm", "preview", "--reason", "looked"]);
    assert_eq!(server.run(&["why", "preview"]).code, 0);
    let again = server.run(&["env", "confirm", "preview", "--reason", "looked"]);
    assert_eq!(again.code, 3, "{}", again.err);
    server.json(&["job", "trigger", "preview/deploy-notify/pack-bag"]);
    eventually("the next bag is live", || {
        let environment = &server.json(&["env", "list"])[0];
        environment["current"].as_i64() > Some(100_000) && environment["state"] == json!("idle")
    });
    server.stop();
}

#[test]
fn a_backup_that_is_cut_short_is_no_backup() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("b.jsonl");
    let fake = Fake::with_system(|seen| {
        let header = json!({"holdall_backup": 1, "schema": 1, "program": "0.1.0", "taken_at": 0, "epoch": 1});
        (seen.line() == "POST backup").then_some(crate::fake::Answer::Json(200, header))
    });
    let ran = fake.run(&["backup", path(&file)]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("cut short") || ran.err.contains("no whole line"), "{}", ran.err);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left that looks like one");
    fs::write(&file, "no backup\n").unwrap();
    let ran = run_in(dir.path(), &["restore", path(&file), "--data-dir", "data"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    let said = format!("holdall: {}: line 1 is not of a backup of holdall", path(&file));
    assert!(ran.err.starts_with(&said) && ran.err.ends_with("  use another backup\n"), "{}", ran.err);
    let ran = run_in(dir.path(), &["restore", "nothing", "--data-dir", "data"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    let ran = run_in(dir.path(), &["restore", path(&file)]);
    assert!(ran.code == 2 && ran.err.contains("--data-dir DIR, or --database postgres://"), "{}", ran.err);
    let ran = run_in(dir.path(), &["backup", "x", "--data-dir", "data"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("there is no database in the data folder data"), "{}", ran.err);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn what_is_no_address_of_a_database_is_told_and_not_repeated() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("b.jsonl"), "").unwrap();
    for url in ["sqlite:foo", "mysql://me:hush@db/x", "hush"] {
        for command in [&["serve", "--data-dir", "data"][..], &["demo"], &["backup", "x"], &["restore", "b.jsonl"]] {
            let ran = run_in(dir.path(), &[command, &["--database", url]].concat());
            assert_eq!(ran.code, 2, "{command:?}: {}", ran.err);
            assert!(ran.err.contains("postgres://USER@HOST/NAME") && !ran.err.contains("hush"), "{}", ran.err);
        }
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was made");
}

#[test]
fn a_server_that_is_to_listen_on_a_name_says_what_it_takes() {
    let ran = run_in(Path::new("/"), &["serve", "--data-dir", "/nonexistent/x", "--listen", "localhost:4650"]);
    assert!(ran.code == 2 && ran.err.contains("not IP:PORT, like 127.0.0.1:4650"), "{}", ran.err);
}

/// A whole backup of a server where nothing was done yet.
fn whole_backup() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let store = holdall_store::testing::sqlite(dir.path()).unwrap();
    let mut whole = Vec::new();
    holdall_store::backup::write(store.database(), holdall_engine::time::Timestamp(5), &mut whole).unwrap();
    whole
}

#[test]
fn a_disk_that_is_full_is_not_the_servers_fault() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::with_system(|seen| {
        (seen.line() == "POST backup")
            .then(|| crate::fake::Answer::Raw(200, "application/jsonl", b"[1,2,3]\n".repeat(1 << 18)))
    });
    // A limit of the process does what a disk without room does, and needs no such disk.
    let command = fake.command(&["backup", "b.jsonl"]);
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$@\"", "sh"]).arg(command.get_program());
    limited.args(command.get_args()).env_clear().current_dir(dir.path());
    limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ran = Ran::from(limited.stdin(Stdio::null()).output().unwrap());
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("b.jsonl.part-") && ran.err.contains("cannot be written: File too large"), "{}", ran.err);
    assert!(ran.err.contains("free some space") && !ran.err.contains("try it again"), "{}", ran.err);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
}

#[test]
fn a_file_that_is_made_meanwhile_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("b.jsonl");
    let meanwhile = file.clone();
    let whole = whole_backup();
    let fake = Fake::with_system(move |seen| {
        (seen.line() == "POST backup").then(|| {
            fs::write(&meanwhile, "another's").unwrap();
            crate::fake::Answer::Raw(200, "application/jsonl", whole.clone())
        })
    });
    let ran = fake.run(&["backup", path(&file)]);
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert!(ran.err.contains("is there already") && ran.err.contains("--force"), "{}", ran.err);
    assert_eq!(fs::read_to_string(&file).unwrap(), "another's");
    let ran = fake.run(&["backup", path(&file), "--force"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(fs::read(&file).unwrap(), whole_backup());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left");
}
