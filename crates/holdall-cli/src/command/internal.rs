//! What `holdall` starts of itself and people do not: `shim DIR` around each step, `resource TYPE check|in|out [DIR]`.
//! Recognised before the command line is parsed, since a step waits for it.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

/// Runs the internal command that the arguments name; `None` where they name none.
pub fn run(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let arguments: Vec<OsString> = std::iter::once(arguments.nth(1)?).chain(arguments).collect();
    if is_for_people(&arguments) {
        return None;
    }
    match &arguments[..] {
        [command, dir] if command == "shim" => Some(holdall_worker::shim_main(Path::new(dir))),
        [command, kind, operation] if command == "resource" => resource(kind, operation, None),
        [command, kind, operation, dir] if command == "resource" => resource(kind, operation, Some(Path::new(dir))),
        _ => None,
    }
}

/// Whether it is `resource list|versions|check`, which ask a server about a resource: no resource type has such a name.
fn is_for_people(arguments: &[OsString]) -> bool {
    match arguments {
        [command, kind, operation, ..] if command == "resource" => {
            ["list", "versions", "check"].iter().any(|name| kind == name)
                || !["check", "in", "out"].iter().any(|name| operation == name)
        }
        _ => false,
    }
}

/// Runs one operation of a resource type; names that are not text are unknown ones.
fn resource(kind: &OsStr, operation: &OsStr, dir: Option<&Path>) -> Option<ExitCode> {
    let (kind, operation) = (kind.to_string_lossy(), operation.to_string_lossy());
    Some(holdall_worker::resource_main(&kind, &operation, dir))
}
