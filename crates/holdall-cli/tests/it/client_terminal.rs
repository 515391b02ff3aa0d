//! On a terminal: colours, questions.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;

use nix::pty::openpty;
use serde_json::json;

use crate::demo_world::LIMIT;
use crate::fake::{Answer, Fake};

/// Runs a command on a terminal of its own, answering its questions; gives its exit code and all that it showed.
///
/// Each of `answers` is typed when the text before it has been shown.
fn on_terminal(mut command: Command, answers: &[(&str, &str)]) -> (i32, String) {
    let terminal = openpty(None, None).unwrap();
    let side = |fd: &OwnedFd| Stdio::from(fd.try_clone().unwrap());
    command.stdin(side(&terminal.slave)).stdout(side(&terminal.slave)).stderr(side(&terminal.slave));
    let mut child = command.spawn().unwrap();
    drop((command, terminal.slave));
    let mut keys = File::from(terminal.master.try_clone().unwrap());
    let mut screen = File::from(terminal.master);
    let (sender, shown) = channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        // Reading ends with an error when the last process has left the terminal.
        while let Ok(length @ 1..) = screen.read(&mut buffer) {
            if sender.send(buffer[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    let mut text = String::new();
    let mut answers = answers.iter();
    let mut next = answers.next();
    while let Ok(bytes) = shown.recv_timeout(LIMIT) {
        text.push_str(&String::from_utf8_lossy(&bytes));
        while let Some((question, answer)) = next
            && text.contains(question)
        {
            keys.write_all(format!("{answer}\n").as_bytes()).unwrap();
            next = answers.next();
        }
    }
    assert!(next.is_none(), "{next:?} was not asked: {text}");
    (child.wait().unwrap().code().unwrap(), text)
}

/// A server that does every act.
fn obedient() -> Fake {
    Fake::with_system(|seen| {
        (seen.line() == "POST acts").then(|| {
            let preview = json!({
                "token": "p-1", "sentences": ["Production goes back."], "next_bag": null, "starts": [], "dropped": [],
                "changes": [], "held": [],
            });
            Answer::Json(200, json!({"preview": preview, "done": seen.body["dry_run"] != true, "made": {}}))
        })
    })
}

#[test]
fn colours_are_for_terminals_and_for_those_who_want_them() {
    let fake = Fake::with_system(|_| None);
    let (code, text) = on_terminal(fake.command(&["env", "list"]), &[]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("\u{1b}[32midle\u{1b}[0m"), "{text:?}");
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let mut command = fake.command(&["env", "list"]);
        command.env(name, value);
        let (code, text) = on_terminal(command, &[]);
        assert_eq!(code, 0, "{text}");
        assert!(!text.contains('\u{1b}'), "{name}: {text:?}");
    }
}

#[test]
fn a_destructive_act_is_shown_and_asked_for() {
    let fake = obedient();
    let args = ["rollback", "staging", "--suspect", "none"];
    let (code, text) = on_terminal(fake.command(&args), &[("Do it? [y/N]", "n")]);
    assert_eq!(code, 130, "{text}");
    assert!(text.contains("Production goes back.") && text.contains("nothing was changed"), "{text}");
    assert!(fake.seen_at("POST acts").iter().all(|seen| seen.body["dry_run"] == true));

    let answers = [("Do it? [y/N]", "y"), ("Reason:", "it is broken")];
    let (code, text) = on_terminal(fake.command(&args), &answers);
    assert_eq!(code, 0, "{text}");
    let last = fake.seen_at("POST acts").pop().unwrap().body;
    assert_eq!(
        (&last["dry_run"], &last["preview_token"], &last["reason"]),
        (&json!(false), &json!("p-1"), &json!("it is broken"))
    );
}

#[test]
fn yes_asks_nothing() {
    let fake = obedient();
    let args = ["rollback", "staging", "--suspect", "none", "--reason", "x", "--yes"];
    let (code, text) = on_terminal(fake.command(&args), &[]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(fake.seen_at("POST acts").len(), 1);
}

#[test]
fn a_command_under_a_lock_has_the_terminal() {
    let fake = Fake::start(|seen| match seen.line().as_str() {
        "POST locks/staging/acquire" => {
            Answer::Json(200, json!({"answer": "granted", "token": "t", "fence": 1, "until": null}))
        }
        _ => Answer::Json(200, json!({})),
    });
    let script = "test -t 0 && printf 'name? ' && read name && echo \"hello $name\"";
    let args = ["lock", "run", "staging", "--reason", "x", "--", "sh", "-c", script];
    let (code, text) = on_terminal(fake.command(&args), &[("name? ", "ann")]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("hello ann"), "{text}");
}
