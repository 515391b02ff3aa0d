//! The deploy script against the state server: with real Terraform where it is found, and with what stands in for it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::demo_world::{Step, World, eventually, finished};

const SCRIPT: &str = "infrastructure/ci/terraform-apply.sh";

/// The PATH of a machine without Terraform: only git and what it needs.
fn path_without_terraform(dir: &Path) -> String {
    let bin = dir.join("only-git");
    fs::create_dir_all(&bin).unwrap();
    let git = find("git").unwrap();
    std::os::unix::fs::symlink(git, bin.join("git")).unwrap();
    for tool in ["sh", "sed", "uname", "basename", "mkdir", "cat", "rm"] {
        if let Some(path) = find(tool) {
            std::os::unix::fs::symlink(path, bin.join(tool)).unwrap();
        }
    }
    bin.to_string_lossy().into_owned()
}

fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// Runs the test without Terraform, and with it where it is found; says loudly when it is not.
fn with_and_without_terraform(test: impl Fn(&World, bool)) {
    let dir = tempfile::tempdir().unwrap();
    let path = path_without_terraform(dir.path());
    test(&World::start_with_path(&dir.path().join("without"), &path), false);
    let world = World::start(&dir.path().join("with"));
    if world.dir.join("bin/terraform").exists() || world.dir.join("bin/tofu").exists() {
        test(&world, true);
    } else {
        eprintln!("WARNING: neither terraform nor tofu is on the PATH: tested only without");
    }
}

fn settle_for(world: &World, seconds: u32) {
    world.push("infrastructure", "terraform/settings.auto.tfvars.json", |_| {
        format!("{{ \"settle_seconds\": {seconds}, \"refuse_in\": \"\" }}")
    });
}

fn start(step: &Step, script: &str) -> Child {
    step.command("sh")
        .args(["-c", script])
        .process_group(0)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn group(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}

#[test]
fn applies_one_after_the_other_and_says_with_what() {
    with_and_without_terraform(|world, has_terraform| {
        for bag in [1, 2] {
            let (succeeded, said) = world.step(bag, "staging").run(SCRIPT);
            assert!(succeeded, "{said}");
            assert!(said.contains("Apply complete!"), "{said}");
            assert_eq!(said.contains("No terraform and no tofu"), !has_terraform, "{said}");
            assert!(!said.contains("Warning"), "{said}");
        }
        let counters = world.counters("staging");
        assert_eq!(counters["applies_begun"], 2);
        assert_eq!(counters["applies_ended"], 2);
        assert_eq!(counters["max_concurrent"], 1);
        assert_eq!(counters["lock"], serde_json::Value::Null);
        assert!(world.address_of("staging", "api").is_some());

        world.push("infrastructure", "terraform/settings.auto.tfvars.json", |_| {
            "{\"refuse_in\": \"staging\"}".to_owned()
        });
        let before = fs::read(world.dir.join("world/terraform/staging.tfstate")).unwrap();
        let (succeeded, said) = world.step(3, "staging").run(SCRIPT);
        assert!(!succeeded && said.contains("refuses this change"), "{said}");
        assert_eq!(world.counters("staging")["lock"], serde_json::Value::Null);
        assert_eq!(fs::read(world.dir.join("world/terraform/staging.tfstate")).unwrap(), before);
        assert!(world.step(3, "preview").run(SCRIPT).0);
    });
}

#[test]
fn an_interrupted_apply_gives_the_lock_back_and_a_killed_one_leaves_it() {
    with_and_without_terraform(|world, _| {
        settle_for(world, 600);
        let step = world.step(1, "staging");
        let is_locked = || !world.counters("staging")["lock"].is_null();
        let mut child = start(&step, &format!("sh -c {SCRIPT}"));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.starts_with("terraform_data.settled: ")), "it never settled");
        assert!(is_locked());
        killpg(group(&child), Signal::SIGINT).unwrap();
        assert!(!child.wait().unwrap().success());
        assert!(lines.all(|line| !line.contains("Apply complete!")));
        eventually("the lock is given back", || !is_locked());
        let counters = world.counters("staging");
        assert_eq!((&counters["applies_ended"], &counters["locks_forced"]), (&1.into(), &0.into()));

        let child = start(&step, SCRIPT);
        eventually("the apply runs again", || world.counters("staging")["applies_begun"] == 2);
        killpg(group(&child), Signal::SIGKILL).unwrap();
        assert!(!finished(child.wait_with_output().unwrap()).0);
        assert!(is_locked(), "the control: a killed apply leaves its lock");

        let (succeeded, said) = step.run(SCRIPT);
        assert!(!succeeded, "{said}");
        assert!(said.to_lowercase().contains("lock"), "{said}");
        assert_eq!(world.counters("staging")["max_concurrent"], 2);
        assert_eq!(crate::demo_world::request("UNLOCK", &format!("{}/state/staging", world.address), "").0, 200);
        assert!(!is_locked());
    });
}

#[test]
fn terraform_finds_nothing_to_change_in_the_state_of_its_stand_in() {
    let dir = tempfile::tempdir().unwrap();
    let path = path_without_terraform(dir.path());
    let world = World::start_with_path(&dir.path().join("demo"), &path);
    let step = world.step(1, "staging");
    assert!(step.run(SCRIPT).0);
    let Some(terraform) = find("terraform").or_else(|| find("tofu")) else {
        eprintln!("WARNING: neither terraform nor tofu is on the PATH: not tested");
        return;
    };
    let run = |args: &[&str]| {
        let mut command: Command = step.command(&terraform.to_string_lossy());
        command.current_dir(step.dir.path().join("infrastructure/terraform"));
        command.env("TF_HTTP_ADDRESS", format!("{}/state/staging", world.address));
        command.env("TF_VAR_environment", "staging").env("TF_VAR_deployment", "1").env("CHECKPOINT_DISABLE", "1");
        finished(command.args(args).output().unwrap())
    };
    let (succeeded, said) = run(&["init", "-input=false", "-no-color"]);
    assert!(succeeded, "{said}");
    let (succeeded, said) = run(&["plan", "-input=false", "-no-color", "-detailed-exitcode", "-lock=false"]);
    assert!(succeeded && said.contains("No changes"), "{said}");
}
