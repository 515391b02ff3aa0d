//! What the help says, whole, in one snapshot.

use std::process::Stdio;

use crate::fake::{Ran, holdall};

fn run(args: &[&str]) -> Ran {
    Ran::from(holdall(args).stdin(Stdio::null()).output().unwrap())
}

/// The commands that a help text lists, in order.
fn commands_in(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    lines
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
        .collect()
}

/// The help of a command and of those below it.
fn tree(path: &[&str], out: &mut String) {
    let ran = run(&[path, &["--help"]].concat());
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{path:?}");
    let first = ran.out.lines().next().unwrap_or_default();
    assert!(!first.is_empty() && !first.starts_with("Usage:"), "{path:?} does not say what it does: {}", ran.out);
    // Said once, of all of them.
    let shown = if path.is_empty() { &*ran.out } else { ran.out.split("\nGlobal options:").next().unwrap_or_default() };
    out.push_str(&format!("==== holdall {}\n\n", path.join(" ")));
    shown.trim_end().lines().for_each(|line| out.push_str(&format!("{}\n", line.trim_end())));
    out.push('\n');
    for name in commands_in(&ran.out) {
        tree(&[path, &[&*name]].concat(), out);
    }
}

#[test]
fn the_help_of_every_command_is_as_it_was() {
    let mut out = String::new();
    tree(&[], &mut out);
    insta::assert_snapshot!("help", out);
}

/// A command and those below it, as the page of the commands has them.
fn section(path: &[&str], out: &mut String) {
    let ran = run(&[path, &["-h"]].concat());
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{path:?}");
    let below: Vec<String> = commands_in(&ran.out).into_iter().filter(|name| name != "help").collect();
    let shown = ran.out.split("\nGlobal options:").next().unwrap_or_default().trim_end();
    if !path.is_empty() {
        let (level, about) = ("#".repeat(path.len() + 1), shown.lines().next().unwrap_or_default());
        let text = if below.is_empty() { format!("```text\n{shown}\n```") } else { about.to_owned() };
        out.push_str(&format!("\n{level} `holdall {}`\n\n{text}\n", path.join(" ")));
    }
    for name in &below {
        section(&[path, &[name.as_str()]].concat(), out);
    }
}

#[test]
fn the_page_of_the_commands_is_what_they_print() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/commands.md");
    let page = std::fs::read_to_string(file).unwrap();
    let (head, _) = page.split_once("\n## `holdall ").expect("the commands");
    let mut whole = head.to_owned();
    section(&[], &mut whole);
    let codes = run(&["help", "exit-codes"]).out;
    whole.push_str(&format!("\n## Exit codes\n\n```text\n{}\n```\n", codes.trim_end()));
    let whole: String = whole.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    if std::env::var("INSTA_UPDATE").is_ok_and(|how| how == "always") {
        std::fs::write(file, &whole).unwrap();
    } else {
        let differs = page.lines().zip(whole.lines()).find(|(is, right)| is != right);
        assert!(
            page == whole,
            "docs/commands.md is not what the commands print: {differs:?}; INSTA_UPDATE=always writes it"
        );
    }
}

#[test]
fn help_and_dash_dash_help_are_the_same() {
    for path in [vec![], vec!["deploy"], vec!["lock", "run"]] {
        let (one, other) = (run(&[&["help"], &path[..]].concat()), run(&[&path[..], &["--help"]].concat()));
        assert_eq!(one.code, 0, "{one:?}");
        assert_eq!(one.out.trim_end(), other.out.trim_end());
    }
    let ran = run(&["help", "deploi"]);
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
    assert!(ran.err.contains("deploi"), "{}", ran.err);
}

#[test]
fn exit_codes_are_listed() {
    let ran = run(&["help", "exit-codes"]);
    assert_eq!(ran.code, 0);
    for code in ["  0  ", "  1  ", "  2  ", "  3  ", "  4  ", "  5  ", "  6  ", "130  "] {
        assert!(ran.out.contains(code), "{code} is missing in {}", ran.out);
    }
}

#[test]
fn a_wrong_command_line_is_told_on_standard_error_with_2() {
    for args in [
        &["no-such-command"][..],
        &["deploy", "staging"],
        &["deploy", "staging", "--bag", "x"],
        &["disable"],
        &["disable", "api", "--bag", "1"],
        &["pin", "api"],
        &["pin", "a/b", "x"],
        &["freeze", "staging", "--for", "soon"],
        &["freeze", "staging", "--for", "1h", "--until", "2026-11-24T10:15:02Z"],
        &["lock", "run", "staging"],
        &["lock", "run", "staging", "--lease", "2h", "--", "true"],
        &["build", "watch", "x"],
        &["pipeline", "get", "a"],
        &["bag", "list", "-o", "xml"],
        &["bag", "list", "-n", "0"],
    ] {
        let ran = run(args);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{args:?}: {}", ran.err);
        assert!(!ran.err.is_empty(), "{args:?}");
    }
}

#[test]
fn version_and_completion_are_data() {
    let ran = run(&["--version"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(ran.out.starts_with("holdall "), "{}", ran.out);
    for shell in ["bash", "zsh", "fish"] {
        let ran = run(&["completion", shell]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert!(ran.out.contains("rollback"), "{shell}");
    }
}
