//! What every source file looks like.

/// A file of more lines than this is looked at for its second subject.
const MAX_LINES: usize = 900;

/// Files that are longer, and how long they are. The list may only shrink: a file that has become shorter gets its new
/// length, and leaves when it is short enough.
const LARGE: &[(&str, usize)] = &[];

/// What has no place in a crate that decides without looking at the world.
const IMPURE: &[&str] =
    &["std::fs", "std::net", "std::env", "std::process", "std::thread", "SystemTime", "Instant::now", "println!"];
/// What has an order that changes from run to run, in a crate whose decisions must not.
const UNORDERED: &[&str] = &["HashMap", "HashSet"];
/// The crate that starts no processes: the worker does (ARCHITECTURE.md, invariants).
const WITHOUT_PROCESSES: &str = "crates/holdall-server/src/";
/// The crates that do not look at the world (ARCHITECTURE.md, invariants).
const PURE: &[&str] = &["crates/holdall-engine/src/", "crates/holdall-config/src/"];

/// Reports what is wrong with one file; `path` is relative to the root.
pub fn check(path: &str, text: &str, findings: &mut Vec<String>) {
    let mut find = |line: usize, message: &str| findings.push(format!("{path}:{line}: {message}"));
    let name = path.rsplit('/').next().unwrap_or(path);
    for (number, line) in text.lines().enumerate() {
        // Split, so that this file has none itself.
        for word in [concat!("TO", "DO"), concat!("FIX", "ME")] {
            let rest = line.split_once(word).map(|(_, rest)| rest);
            let numbered =
                |rest: &str| rest.strip_prefix("(#").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
            if rest.is_some_and(|rest| !numbered(rest)) {
                find(number + 1, &format!("{word} without an issue: write `{word}(#7)`"));
            }
        }
    }
    if !name.ends_with(".rs") {
        return;
    }
    if name == "mod.rs" {
        find(1, "a module is `foo.rs` with its children in `foo/`");
    }
    if !text.starts_with("//!") {
        find(1, "a file starts with `//!`, which says what it is for");
    }
    let lines = text.lines().count();
    match LARGE.iter().find(|(large, _)| *large == path) {
        None if lines > MAX_LINES => {
            find(lines, &format!("{lines} lines are more than {MAX_LINES}: split it by subject"))
        }
        Some((_, known)) if lines > *known => {
            find(lines, &format!("it has grown from {known} lines: split it by subject"))
        }
        Some(_) if lines <= MAX_LINES => find(lines, "it is short enough: take it off the list of large files"),
        Some((_, known)) if lines < *known => {
            find(lines, &format!("it is shorter: put {lines} into the list of large files"))
        }
        _ => {}
    }
    check_processes(path, text, findings);
    let mut find = |line: usize, message: &str| findings.push(format!("{path}:{line}: {message}"));
    let is_test = name == "tests.rs" || path.contains("/tests/");
    if PURE.iter().any(|start| path.starts_with(start)) && !is_test {
        let code = text.lines().enumerate().take_while(|(_, line)| line.trim() != "#[cfg(test)]");
        for (number, line) in code.filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                find(
                    number + 1,
                    &format!("`{word}` has no place in a crate without input and output, clocks and chance"),
                );
            }
            for word in UNORDERED.iter().filter(|word| path.starts_with(PURE[0]) && line.contains(**word)) {
                find(number + 1, &format!("`{word}` has another order each time: use the B-tree"));
            }
        }
    }
}

/// Reports the beginning of a process where there are to be none.
fn check_processes(path: &str, text: &str, findings: &mut Vec<String>) {
    if !path.starts_with(WITHOUT_PROCESSES) {
        return;
    }
    for (number, _) in text.lines().enumerate().filter(|(_, line)| line.contains("process::Command")) {
        findings.push(format!("{path}:{}: the server starts no processes: let a worker do it", number + 1));
    }
}

/// Reports files of the list that are gone.
pub fn check_list(exists: impl Fn(&str) -> bool, findings: &mut Vec<String>) {
    for (path, _) in LARGE.iter().filter(|(path, _)| !exists(path)) {
        findings.push(format!("{path}: it is gone: take it off the list of large files"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        check(path, text, &mut findings);
        findings
    }

    #[test]
    fn a_tidy_file_has_no_findings() {
        assert_eq!(findings("crates/a/src/b.rs", "//! What it is for.\n"), [""; 0]);
        assert_eq!(findings("README.md", "# Holdall\n"), [""; 0]);
        let todo = concat!("//! X.\n// TO", "DO(#7): later\n");
        assert_eq!(findings("crates/a/src/b.rs", todo), [""; 0]);
        let test = "//! X.\nfn a() {}\n#[cfg(test)]\nmod tests { use std::fs; }\n";
        assert_eq!(findings("crates/holdall-engine/src/b.rs", test), [""; 0]);
    }

    #[test]
    fn what_is_not_tidy_is_found_with_its_line() {
        for (path, text, expected) in [
            ("a/mod.rs", "//! X.\n".to_owned(), "a/mod.rs:1: a module is"),
            ("a.rs", "fn a() {}\n".to_owned(), "a.rs:1: a file starts with"),
            ("a.rs", format!("//! X.\n{}", "\n".repeat(900)), "a.rs:901: 901 lines are more than 900"),
            ("a.sh", concat!("# x\n# TO", "DO: later\n").to_owned(), "a.sh:2:"),
            (
                "crates/holdall-server/src/a.rs",
                "//! X.\nuse std::process::Command;\n".to_owned(),
                "a.rs:2: the server starts no processes",
            ),
            ("crates/holdall-engine/src/a.rs", "//! X.\nuse std::fs;\n".to_owned(), "a.rs:2: `std::fs` has no place"),
        ] {
            let found = findings(path, &text);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains(expected), "{found:?}");
        }
    }
}
