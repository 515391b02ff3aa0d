//! A guarded deploy that runs Terraform below `sh` and `make`: aborting it gives Terraform one interrupt and the time to
//! unlock its state; the control shows that a deploy that is killed leaves the lock.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::{Signal, killpg};
use serde_json::Value;

use crate::demo_world::{World, git};
use crate::real::{Place, Steps, until};

#[test]
fn an_aborted_terraform_leaves_no_lock_and_a_killed_one_does_on_sqlite() {
    aborted_and_killed(Place::sqlite());
}

#[test]
fn an_aborted_terraform_leaves_no_lock_and_a_killed_one_does_on_postgresql() {
    if let Some(place) = Place::postgres() {
        aborted_and_killed(place);
    }
}

fn aborted_and_killed(place: Place) {
    let world = World::start(&place.path("world"));
    let programs = ["terraform", "tofu"].map(|name| world.dir.join("bin").join(name));
    let Some(terraform) = programs.into_iter().find(|program| program.exists()) else {
        eprintln!("NOT RUN: neither terraform nor tofu is on the PATH, so nobody aborted one");
        return;
    };
    let run = Run { place, world, terraform };
    let steps = Steps(run.place.path("data/worker"));
    let server = run.place.start_server_that_answers(&[]);
    run.set_system();

    run.until_applying();
    let refused = run.holdall(&["build", "abort", "preview/deploy/1", "--reason", "a test"]);
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.err.contains("--force"), "{refused:?}");
    let aborted = run.holdall(&["build", "abort", "preview/deploy/1", "--force", "--reason", "a test"]);
    assert_eq!(aborted.code, 0, "{aborted:?}");
    let ended = run.holdall(&["build", "watch", "preview/deploy/1"]);
    // The build ends when its processes have, so there is nothing to wait for.
    assert_eq!(ended.code, 3, "{ended:?}");
    let counters = run.world.counters("preview");
    assert_eq!(counters["lock"], Value::Null, "{counters}\n{}", ended.out);
    assert_eq!((&counters["applies_begun"], &counters["applies_ended"]), (&1.into(), &1.into()), "{counters}");
    assert_eq!(counters["locks_forced"], 0, "{counters}");
    let log = run.holdall(&["build", "logs", "preview/deploy/1"]).out;
    assert_eq!(log.matches("Interrupt received").count(), 1, "{log}");
    assert!(!log.contains("Two interrupts") && !log.contains("killed when its grace was over"), "{log}");
    let state = fs::read_to_string(run.world.dir.join("world/terraform/preview.tfstate")).unwrap();
    assert!(state.contains("made before the wait"), "what was made is not in the state: {state}");

    let holder = run.holdall(&["env", "list", "-o", "json"]).json();
    assert_eq!(holder[0]["lock"]["holders"][0]["kind"], "deployment", "the deployment keeps Holdall's lock: {holder}");
    let again = run.holdall(&["build", "rerun", "preview/deploy/1", "--reason", "a test", "-o", "json"]);
    assert_eq!(again.code, 0, "{again:?}");
    let build = again.json()["made"]["build"]["id"].to_string();
    run.until_applying();
    let groups = steps.groups();
    assert_eq!(groups.len(), 1);
    killpg(groups[0], Signal::SIGKILL).unwrap();
    assert_eq!(run.holdall(&["build", "watch", &build]).code, 1);
    let counters = run.world.counters("preview");
    assert!(!counters["lock"].is_null(), "the control: a killed apply leaves its lock: {counters}");
    assert!(server.stop().success());
    run.world.stop();
}

struct Run {
    place: Place,
    world: World,
    /// Terraform or OpenTofu.
    terraform: PathBuf,
}

impl Run {
    fn holdall(&self, args: &[&str]) -> crate::fake::Ran {
        self.place.run("data", args)
    }

    fn begun(&self) -> PathBuf {
        self.place.path("begun")
    }

    /// Waits until Terraform holds the state's lock and waits in the middle of its apply.
    fn until_applying(&self) {
        until("Terraform is in the middle of its apply", || {
            fs::remove_file(self.begun()).map_err(|_none| self.holdall(&["why", "preview"]).out)
        });
        assert!(!self.world.counters("preview")["lock"].is_null());
    }

    /// A system whose only deploy step is `make apply`.
    fn set_system(&self) {
        let repository = self.place.path("infra");
        fs::create_dir(&repository).unwrap();
        let wait = format!("touch '{}'; while :; do sleep 1; done", self.begun().display());
        fs::write(repository.join("main.tf"), CONFIGURATION.replace("@WAIT@", &wait)).unwrap();
        fs::write(repository.join("Makefile"), MAKEFILE).unwrap();
        git(&repository, &["init", "--quiet", "--initial-branch", "main"]);
        git(&repository, &["config", "user.name", "Test"]);
        git(&repository, &["config", "user.email", "test@notify.example"]);
        git(&repository, &["add", "--all"]);
        git(&repository, &["commit", "--quiet", "--message", "Begin"]);
        let text = SYSTEM
            .replace("@REPOSITORY@", &repository.display().to_string())
            .replace("@STATE@", &format!("{}/state/preview", self.world.address))
            .replace("@TERRAFORM@", &self.terraform.display().to_string())
            .replace("@MAKE@", &self.make());
        fs::write(self.place.path("system.yml"), text).unwrap();
        let ran = self.holdall(&["system", "set", "../system.yml", "--yes", "--reason", "a test"]);
        assert_eq!(ran.code, 0, "{ran:?}");
    }

    /// A `make` to run: the machine's, or a script that stands between in the same way.
    fn make(&self) -> String {
        let path = std::env::var_os("PATH").unwrap();
        let found = std::env::split_paths(&path).map(|dir| dir.join("make")).find(|make| make.is_file());
        let make = found.unwrap_or_else(|| {
            let script = self.place.path("make");
            fs::write(&script, STAND_IN).unwrap();
            fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            script
        });
        make.display().to_string()
    }
}

const SYSTEM: &str = r#"system: notify
services:
  infra:
    type: git
    source: { uri: "@REPOSITORY@", branch: main }
environments:
  preview:
    pack: true
    stop: { signal: INT, grace: 60s }
    deploy:
      - task: apply
        config:
          platform: linux
          inputs: [{ name: infra }]
          run: { path: sh, args: [-c, "\"$MAKE\" apply"], dir: infra }
        params:
          MAKE: "@MAKE@"
          TERRAFORM: "@TERRAFORM@"
          TF_HTTP_ADDRESS: "@STATE@"
          TF_HTTP_LOCK_ADDRESS: "@STATE@"
          TF_HTTP_UNLOCK_ADDRESS: "@STATE@"
          TF_IN_AUTOMATION: "1"
          CHECKPOINT_DISABLE: "1"
"#;

const CONFIGURATION: &str = r#"terraform {
  backend "http" {}
}

resource "terraform_data" "before" {
  input = "made before the wait"
}

resource "terraform_data" "wait" {
  depends_on = [terraform_data.before]
  provisioner "local-exec" {
    command = "@WAIT@"
  }
}
"#;

const MAKEFILE: &str = "apply:\n\t\"$$TERRAFORM\" init -input=false -no-color\n\t\"$$TERRAFORM\" apply -input=false \
    -no-color -auto-approve\n";

const STAND_IN: &str = "#!/bin/sh\nset -eu\n\"$TERRAFORM\" init -input=false -no-color\n\"$TERRAFORM\" apply \
    -input=false -no-color -auto-approve\necho done\n";
