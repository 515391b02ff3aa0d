//! Reading a task's configuration (reference, section 1.10).

use holdall_config::diagnostic::Diagnostic;
use holdall_config::vars::{Mode, Vars, interpolate};
use holdall_config::yaml::{self, DuplicateKeys};
use holdall_engine::pipeline::TaskConfig;
use serde_json::Value;

/// Reads the configuration of a step, in which the server has put the vars. The error does not show the text: there
/// may be secrets in it.
pub fn parse(text: &str) -> Result<TaskConfig, String> {
    holdall_config::task::parse(text).into_result().map_err(|found| invalid(&found, |problem| problem.message.clone()))
}

/// Reads a file of an artifact, called `file` in messages, with the step's `vars` (an object) in place. Every var
/// has to have a value. The error shows the lines of the file that are wrong.
pub fn parse_file(text: &str, file: &str, vars: &Value) -> Result<TaskConfig, String> {
    let shown = |found: Vec<Diagnostic>| invalid(&found, |problem| problem.render(file, text).trim_end().to_owned());
    let mut values = Vars::new();
    for (name, value) in vars.as_object().into_iter().flatten() {
        values.set(name, value.clone()).map_err(|message| format!("invalid task configuration:\n{message}"))?;
    }
    let node = yaml::parse_with(text, DuplicateKeys::LastWins).into_result().map_err(shown)?;
    let node = interpolate(&node, &mut |reference| values.get(reference), Mode::Strict).into_result().map_err(shown)?;
    holdall_config::task::parse_node(&node).into_result().map_err(shown)
}

fn invalid(found: &[Diagnostic], say: impl Fn(&Diagnostic) -> String) -> String {
    let said: Vec<String> = found.iter().filter(|problem| problem.is_error()).map(say).collect();
    format!("invalid task configuration:\n{}", said.join("\n"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_file_gets_its_vars_and_every_mistake_is_shown_in_its_line() {
        let text = "platform: linux\nparams: {COUNT: ((n)), WHO: \"((who.name))\"}\nrun: {path: make}\n";
        let config = parse_file(text, "code/task.yml", &json!({"n": 3, "who": {"name": "ann"}})).unwrap();
        assert_eq!((config.params["COUNT"].as_str(), config.params["WHO"].as_str()), ("3", "ann"));

        let error = parse_file(text, "code/task.yml", &json!({"n": 3})).unwrap_err();
        assert!(error.starts_with("invalid task configuration:\ncode/task.yml:2:"), "{error}");
        assert!(error.contains("who"), "{error}");
        let error = parse_file("run: [", "code/task.yml", &json!({})).unwrap_err();
        assert!(error.contains("code/task.yml:1:"), "{error}");
    }

    #[test]
    fn mistakes_in_a_config_with_vars_in_it_do_not_show_it() {
        let error = parse(r#"{"params": {"TOKEN": "s3cret"}, "run": {"path": "x"}, "inputs": [{}]}"#).unwrap_err();
        assert!(error.contains("missing 'platform'"), "{error}");
        assert!(error.contains("input in position 0 is missing a name"), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}
