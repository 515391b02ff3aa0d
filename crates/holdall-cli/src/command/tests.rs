//! Every command that Holdall tells people to type is one that it understands: in messages, reports and documents.

use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser};

use super::Cli;

/// What stands for `{…}` in messages: a number, or the name of something, whichever the command wants there.
const SAMPLES: [&str; 3] = ["7", "team/pipeline", "team/pipeline/job"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn files(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the project") {
        let path = entry.expect("its entry").path();
        if path.is_dir() {
            files(&path, ending, found);
        } else if path.extension().is_some_and(|extension| extension == ending) {
            found.push(path);
        }
    }
}

/// The text literals of a Rust file, without its comments, with what is escaped in them.
fn literals(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let code: String =
        source.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect();
    let mut rest = code.chars().peekable();
    while let Some(letter) = rest.next() {
        match letter {
            // A character: `'"'` would begin a text otherwise.
            '\'' if rest.peek() == Some(&'"') => {
                rest.next();
            }
            '"' => {
                let mut text = String::new();
                while let Some(letter) = rest.next() {
                    match letter {
                        '"' => break,
                        '\\' => match rest.next() {
                            Some('\n') => {
                                while rest.peek().is_some_and(|next| next.is_whitespace()) {
                                    rest.next();
                                }
                            }
                            Some('n') => text.push('\n'),
                            Some(other) => text.push(other),
                            None => {}
                        },
                        other => text.push(other),
                    }
                }
                found.push(text);
            }
            _ => {}
        }
    }
    found
}

/// The commands in a text: from `holdall` at its beginning, after a back-tick or a bracket, to the same on the other
/// side.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("holdall ") {
        let before = text[..at].chars().next_back();
        let until: &[char] = match before {
            None | Some('\n') => &['\n'],
            Some('`') => &['`'],
            Some('(') => &[')'],
            _ => continue,
        };
        let command = text[at..].split(until).next().unwrap_or_default().trim_end();
        let second = command.split(' ').nth(1).unwrap_or_default();
        let is_command = second.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-');
        if is_command && !second.is_empty() && !command.contains(" (") {
            found.push(command.to_owned());
        }
    }
    found
}

/// The words of a command with samples for its placeholders, as a shell would give them.
fn words(command: &str, sample: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    let mut letters = command.chars().peekable();
    while let Some(letter) = letters.next() {
        let word = words.last_mut().expect("a word");
        match letter {
            '{' => {
                letters.by_ref().find(|letter| *letter == '}');
                word.push_str(sample);
            }
            '$' if letters.peek() == Some(&'(') => {
                letters.by_ref().find(|letter| *letter == ')');
                word.push_str(sample);
            }
            '"' | '\'' if quote.is_none() => quote = Some(letter),
            _ if quote == Some(letter) => quote = None,
            ' ' if quote.is_none() => words.push(String::new()),
            _ => word.push(letter),
        }
    }
    if !command.ends_with('"') && words.last().is_some_and(|word| word == "...") {
        words.pop();
    }
    words
        .into_iter()
        .filter(|word| !word.contains(['[', ']']))
        .map(|word| match word.as_str() {
            "N" | "PORT" | "BUILD" => "7".to_owned(),
            "ADDRESS" => "http://127.0.0.1:1".to_owned(),
            _ => word,
        })
        .collect()
}

/// Whether it only names a command, as prose does: `holdall lock run`.
fn is_a_name(command: &str) -> bool {
    let mut place = Cli::command();
    for word in command.split(' ').skip(1) {
        match place.find_subcommand(word) {
            Some(found) => place = found.clone(),
            None => return false,
        }
    }
    true
}

fn is_understood(command: &str) -> Result<(), String> {
    if is_a_name(command) {
        return Ok(());
    }
    let mut said = String::new();
    for sample in SAMPLES {
        match Cli::try_parse_from(words(command, sample)) {
            Ok(_) => return Ok(()),
            Err(error) if !error.use_stderr() => return Ok(()),
            Err(error) => said = error.to_string(),
        }
    }
    Err(format!("{command}\n  {}", said.lines().take(2).collect::<Vec<_>>().join(" ")))
}

#[test]
fn every_command_in_a_message_is_understood() {
    let mut sources = Vec::new();
    for member in ["config", "engine", "server", "store", "worker", "cli"] {
        files(&root().join(format!("crates/holdall-{member}/src")), "rs", &mut sources);
    }
    let mut count = 0;
    let mut wrong = Vec::new();
    for path in sources.iter().filter(|path| !path.ends_with("tests.rs")) {
        let source = std::fs::read_to_string(path).expect("a source file");
        for text in literals(source.split("#[cfg(test)]").next().unwrap_or_default()) {
            for command in commands(&text) {
                count += 1;
                if let Err(why) = is_understood(&command) {
                    wrong.push(format!("{}: {why}", path.display()));
                }
            }
        }
    }
    assert!(count > 60, "only {count} commands were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_command_in_a_document_is_understood() {
    let mut documents = vec![root().join("README.md"), root().join("CHANGELOG.md")];
    files(&root().join("docs"), "md", &mut documents);
    let mut count = 0;
    let mut wrong = Vec::new();
    for path in documents {
        let text = std::fs::read_to_string(&path).expect("a document");
        let plain: String = text.lines().map(|line| format!("{}\n", line.strip_prefix("$ ").unwrap_or(line))).collect();
        for command in commands(&plain) {
            let bare = command.split(" #").next().unwrap_or_default().split(" | ").next().unwrap_or_default().trim();
            count += 1;
            if let Err(why) = is_understood(bare) {
                wrong.push(format!("{}: {why}", path.display()));
            }
        }
    }
    assert!(count > 20, "only {count} commands were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
