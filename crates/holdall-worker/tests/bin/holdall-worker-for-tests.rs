//! Stands in for `holdall` in this crate's tests, with the same arguments: `shim DIR`, `worker SERVER WORKDIR` and
//! `resource TYPE OPERATION [DIR]`. Its resource type runs the shell script that the source has under the name of
//! the operation, with the request in `REQUEST`. A number of seconds in the file `slept` of a step's folder makes its shim
//! believe that the machine has slept for so long.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use holdall_worker::shim::Settings;
use holdall_worker::{Worker, WorkerConfig, shim_main_with};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["shim", dir] => shim(Path::new(dir)),
        ["worker", server, dir] => worker(server, dir),
        ["resource", _, operation] => resource(operation, "."),
        ["resource", _, operation, dir] => resource(operation, dir),
        _ => {
            eprintln!("unknown arguments: {arguments:?}");
            ExitCode::from(64)
        }
    }
}

fn shim(dir: &Path) -> ExitCode {
    let settings = Settings::default();
    let (slept, clock) = (dir.join("slept"), settings.clock.clone());
    std::thread::spawn(move || {
        loop {
            // Nothing says that a file has come.
            std::thread::sleep(Duration::from_millis(10));
            let seconds = std::fs::read_to_string(&slept).ok().and_then(|text| text.parse().ok());
            if let Some(seconds) = seconds
                && std::fs::remove_file(&slept).is_ok()
            {
                clock.advance(Duration::from_secs(seconds));
            }
        }
    });
    shim_main_with(dir, settings)
}

fn worker(server: &str, dir: &str) -> ExitCode {
    let config = WorkerConfig::new(server, "test-token", "test-worker", Path::new(dir));
    match Worker::start(config).and_then(|worker| worker.wait()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn resource(operation: &str, dir: &str) -> ExitCode {
    let mut request = String::new();
    if let Err(error) = std::io::stdin().read_to_string(&mut request) {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    let value: serde_json::Value = serde_json::from_str(&request).unwrap_or_default();
    let script = value["source"][operation].as_str().unwrap_or("exit 99");
    let error = Command::new("sh").args(["-c", script]).current_dir(dir).env("REQUEST", &request).exec();
    eprintln!("{error}");
    ExitCode::FAILURE
}
