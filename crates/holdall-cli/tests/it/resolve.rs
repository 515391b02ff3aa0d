//! `holdall resolve`: the real binary over files, standard input and every way to end.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::fake::{Ran, holdall, run_in};

/// A history of one line whose input `code` gets `a1`.
const RESOLVED: &str = r#"{"job": "ship", "jobs": ["unit", "ship"], "resources": [{"name": "repo"}], "inputs": [{"name": "code", "resource": "repo", "passed": ["unit"]}], "versions": [{"resource": "repo", "version": {"ref": "a1"}, "order": 1}], "builds": [{"id": 1, "job": "unit", "status": "succeeded", "outputs": [{"resource": "repo", "version": {"ref": "a1"}}]}]}"#;

/// How long a file of tens of megabytes may take, on a machine that has other things to do.
const LIMIT: Duration = Duration::from_secs(120);

/// The history when the build failed: nothing vouches for a version.
fn unresolved() -> String {
    RESOLVED.replace("succeeded", "failed")
}

/// The history with a status that there is not, and what is said of it.
fn invalid() -> (String, &'static str) {
    (
        RESOLVED.replace("succeeded", "fine"),
        "builds[0].status: expected one of \"pending\", \"started\", \"succeeded\", \"failed\", \"errored\", \"aborted\", \
         found the text \"fine\"",
    )
}

fn result() -> Value {
    json!({
        "resolved": true, "has_next": false,
        "inputs": {"code": {"version": {"ref": "a1"}, "passed_builds": [1], "first_occurrence": true}},
    })
}

fn unresolved_result() -> Value {
    json!({
        "resolved": false, "has_next": false,
        "inputs": {"code": {
            "error": "no satisfiable builds from passed jobs found for set of inputs",
            "why": [{
                "cause": "no-more-builds", "input": "code", "job": "unit", "tried": 0,
                "sentence": "code: unit has no succeeded build",
            }],
        }},
    })
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file, and resolves it.
    fn resolve(&self, name: &str, text: impl AsRef<[u8]>, options: &[&str]) -> Ran {
        fs::write(self.path().join(name), text).unwrap();
        run_in(self.path(), &[&["resolve", name], options].concat())
    }
}

/// Resolves what comes on standard input.
fn resolve_input(text: &[u8], options: &[&str]) -> Ran {
    let mut command = holdall(&[&["resolve", "-"], options].concat());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let text = text.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&text));
    let ran = Ran::from(child.wait_with_output().unwrap());
    writer.join().unwrap().unwrap();
    ran
}

/// Each line of standard output as JSON.
fn lines(ran: &Ran) -> Vec<Value> {
    ran.out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn each_end_has_its_exit_code_and_its_output() {
    let folder = Folder::new();
    let ran = folder.resolve("h.json", RESOLVED, &[]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_eq!(ran.json(), result());
    assert!(ran.out.starts_with("{\n  \"resolved\": true,\n  \"has_next\": false,\n") && ran.out.ends_with("}\n"));

    let ran = folder.resolve("h.json", unresolved(), &[]);
    assert_eq!((ran.code, ran.err.as_str()), (3, ""));
    assert_eq!(ran.json(), unresolved_result());

    // Every problem, each where it stands.
    let (text, problem) = invalid();
    let text = text.replace(", \"versions\"", ",\n\"version\"");
    let ran = folder.resolve("h.json", &text, &[]);
    let column = text.lines().nth(1).unwrap().find("\"fine\"").unwrap() + 1;
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
    assert_eq!(
        ran.err,
        format!(
            "h.json:1:1: versions: expected a list of versions of resources, but the key is missing\n\
             h.json:2:1: unknown key \"version\", expected one of job, jobs, resources, inputs, versions, builds\n\
             h.json:2:{column}: {problem}\n"
        )
    );
}

#[test]
fn what_cannot_be_read_is_told_and_ends_with_2() {
    let folder = Folder::new();
    let ran = run_in(folder.path(), &["resolve", "none.json"]);
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
    assert_eq!(ran.err, "holdall: cannot read none.json: No such file or directory (os error 2)\n");
    let ran = run_in(folder.path(), &["resolve", "."]);
    assert_eq!((ran.code, ran.err.as_str()), (2, "holdall: cannot read .: Is a directory (os error 21)\n"));
    for wrong in [&["resolve"][..], &["resolve", "a", "b"], &["resolve", "a", "--output", "yaml"]] {
        assert_eq!(run_in(folder.path(), wrong).code, 2, "{wrong:?}");
    }

    for empty in ["", "\n \n"] {
        let ran = folder.resolve("empty.json", empty, &[]);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""));
        assert!(ran.err.ends_with("not JSON: expected a value, the document ends\n"), "{}", ran.err);
        // Without a line there is no document, and nothing that is not resolved.
        let ran = folder.resolve("empty.json", empty, &["--lines"]);
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "", ""));
    }
    let ran = folder.resolve("latin.json", b"{\n\"job\": \"caf\xe9\"}", &[]);
    assert_eq!((ran.code, ran.err.as_str()), (2, "latin.json:2:12: the text is not UTF-8\n"));
}

#[test]
fn standard_input_is_read_as_a_file_is() {
    let ran = resolve_input(RESOLVED.as_bytes(), &[]);
    assert_eq!((ran.code, ran.err.as_str(), ran.json()), (0, "", result()));
    let ran = resolve_input(&gzip(unresolved().as_bytes()), &[]);
    assert_eq!((ran.code, ran.err.as_str(), ran.json()), (3, "", unresolved_result()));
    let ran = resolve_input(b"{", &[]);
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
    assert_eq!(ran.err, "standard input:1:2: not JSON: expected a key in double quotes, the document ends\n");
    let ran = resolve_input(format!("{RESOLVED}\n{RESOLVED}").as_bytes(), &["--lines"]);
    assert_eq!((ran.code, ran.err.as_str(), lines(&ran)), (0, "", vec![result(), result()]));
    let ran = resolve_input(b"", &["--lines"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "", ""));
}

#[test]
fn each_line_has_its_result_whatever_becomes_of_the_others() {
    let folder = Folder::new();
    let (invalid, problem) = invalid();
    let column = invalid.find("\"fine\"").unwrap() + 1;
    let unresolved = unresolved();
    let cut = &RESOLVED[..7];
    // Line 2 is empty, line 5 ends as on Windows, the last has no end.
    let text = format!("{unresolved}\n\n{invalid}\n{cut}\n{RESOLVED}\r\n[]\n{RESOLVED}");
    let ran = folder.resolve("h.jsonl", &text, &["--lines"]);
    let said = [
        format!("3:{column}: {problem}"),
        "4:8: not JSON: expected a value, the document ends".to_owned(),
        "6:1: expected a resolution history, an object, found a list".to_owned(),
    ];
    assert_eq!(
        lines(&ran),
        [
            unresolved_result(),
            json!({"problems": [said[0]]}),
            json!({"problems": [said[1]]}),
            result(),
            json!({"problems": [said[2]]}),
            result(),
        ]
    );
    assert_eq!(ran.err, said.map(|problem| format!("h.jsonl:{problem}\n")).concat());
    assert_eq!(ran.code, 2, "one that is not valid matters more than one that is not resolved");

    for (text, code) in [
        (format!("{RESOLVED}\n{RESOLVED}\n"), 0),
        (format!("{RESOLVED}\n{unresolved}\n{RESOLVED}\n"), 3),
        (format!("{unresolved}\n{invalid}\n"), 2),
        (format!("{invalid}\n{unresolved}\n"), 2),
        (format!("{invalid}\n{RESOLVED}\n"), 2),
    ] {
        let ran = folder.resolve("h.jsonl", &text, &["--lines"]);
        assert_eq!((ran.code, lines(&ran).len()), (code, text.lines().count()), "{ran:?}");
    }
}

#[test]
fn a_document_of_several_lines_is_not_one_for_lines_nor_the_other_way_round() {
    let folder = Folder::new();
    let pretty = RESOLVED.replace(", \"jobs\"", ",\n\"jobs\"");
    let ran = folder.resolve("h.json", &pretty, &["--lines"]);
    assert_eq!((ran.code, lines(&ran).len()), (2, 2));
    let ran = folder.resolve("h.json", format!("{RESOLVED}\n{RESOLVED}\n"), &[]);
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
    assert_eq!(ran.err, "h.json:2:1: not JSON: expected the end of the document, found '{'\n");
}

#[test]
fn what_is_compressed_is_read_whatever_its_name() {
    let folder = Folder::new();
    for name in ["h.json.gz", "h.json"] {
        let ran = folder.resolve(name, gzip(RESOLVED.as_bytes()), &[]);
        assert_eq!((ran.code, ran.err.as_str(), ran.json()), (0, "", result()));
    }
    let ran = folder.resolve("plain.gz", RESOLVED, &[]);
    assert_eq!((ran.code, ran.json()), (0, result()));
    // Files put one after the other are one.
    let both = [gzip(format!("{RESOLVED}\n").as_bytes()), gzip(unresolved().as_bytes())].concat();
    let ran = folder.resolve("both.gz", both, &["--lines"]);
    assert_eq!((ran.code, lines(&ran)), (3, vec![result(), unresolved_result()]));
    let ran = folder.resolve("bad.gz", gzip(b"{\n x}"), &[]);
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
    assert_eq!(ran.err, "bad.gz:2:2: not JSON: expected a key in double quotes, found 'x'\n");
}

#[test]
fn what_is_compressed_and_damaged_is_told_and_what_came_before_is_not_lost() {
    let folder = Folder::new();
    let whole = gzip(RESOLVED.as_bytes());
    let mut damaged = whole.clone();
    let checksum = damaged.len() - 6;
    damaged[checksum] ^= 1;
    for (name, bytes) in [
        ("cut.gz", &whole[..whole.len() / 2]),
        ("head.gz", &whole[..5]),
        ("damaged.gz", &damaged[..]),
        ("more.gz", &[&whole[..], b"more"].concat()[..]),
    ] {
        let ran = folder.resolve(name, bytes, &[]);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{name}");
        assert!(ran.err.starts_with(&format!("holdall: cannot read {name}: ")), "{}", ran.err);
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    }

    // The lines before the damage are resolved.
    let before = gzip(format!("{RESOLVED}\n{}\n", unresolved()).as_bytes());
    let ran = folder.resolve("lines.gz", [&before[..], &whole[..whole.len() / 2]].concat(), &["--lines"]);
    assert_eq!((ran.code, lines(&ran)), (2, vec![result(), unresolved_result()]));
    assert!(ran.err.starts_with("holdall: cannot read lines.gz: "), "{}", ran.err);
}

#[test]
fn a_huge_line_takes_its_time_and_no_more() {
    let folder = Folder::new();
    let begun = Instant::now();
    // A version of 30 MB of text, and 200,000 builds.
    let huge = RESOLVED.replace("\"ref\": \"a1\"", &format!("\"ref\": \"{}\"", "é".repeat(15_000_000)));
    let build =
        r#"{"id": 1, "job": "unit", "status": "failed", "outputs": [{"resource": "repo", "version": {"ref": "a1"}}]}"#;
    let builds = (2..200_000).map(|id| format!(", {}", build.replace("\"id\": 1", &format!("\"id\": {id}"))));
    let many = RESOLVED.replace("}]}]}", &format!("}}]}}{}]}}", builds.collect::<String>()));
    assert!(huge.len() > 60_000_000 && many.len() > 20_000_000);
    let ran = folder.resolve("h.jsonl", format!("{huge}\n{many}\n{{\n"), &["--lines"]);
    let results = lines(&ran);
    assert_eq!((ran.code, results.len()), (2, 3), "{}", ran.err);
    assert_eq!(results[0]["inputs"]["code"]["version"]["ref"].as_str().unwrap().chars().count(), 15_000_000);
    assert_eq!(results[1], result());
    assert_eq!(ran.err, "h.jsonl:3:2: not JSON: expected a key in double quotes, the document ends\n");

    // Millions of mistakes: the first of them are told, and how many there are.
    let wrong = RESOLVED.replace("\"unit\", \"ship\"]", &format!("{}\"ship\"]", "1,".repeat(2_000_000)));
    let ran = folder.resolve("wrong.json", wrong, &[]);
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
    assert!(ran.err.starts_with("wrong.json:1:26: jobs[0]: expected text, found the number 1\n"));
    assert!(ran.err.trim_end().ends_with(" (and 1900001 more problems after it, which are not listed)"));
    assert_eq!(ran.err.lines().count(), 100_000);
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
}

#[test]
fn what_is_gone_and_what_was_never_checked() {
    let folder = Folder::new();
    // The upstream job is gone from `passed`, and only a build still names it.
    let gone = RESOLVED.replace("[\"unit\", \"ship\"]", "[\"ship\"]").replace(", \"passed\": [\"unit\"]", "");
    let ran = folder.resolve("job.json", &gone, &[]);
    assert_eq!((ran.code, ran.json()["inputs"]["code"]["passed_builds"].clone()), (0, json!([])));
    // An input may not ask for what is gone.
    let ran = folder.resolve("job.json", RESOLVED.replace("[\"unit\", \"ship\"]", "[\"ship\"]"), &[]);
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
    assert!(
        ran.err.ends_with(": inputs[0].passed[0]: expected a name from \"jobs\", \"unit\" is not there\n"),
        "{}",
        ran.err
    );

    // The build has a version of a resource that is gone.
    let ran = folder.resolve(
        "r.json",
        RESOLVED.replace("\"outputs\": [{\"resource\": \"repo\"", "\"outputs\": [{\"resource\": \"image\""),
        &[],
    );
    assert_eq!(ran.code, 3);
    assert_eq!(ran.json()["inputs"]["code"]["why"][0]["sentence"], "code: build 1 of unit has no version for it");

    // The version is gone, with the resource never checked or not.
    let checked = RESOLVED.replace(r#"[{"resource": "repo", "version": {"ref": "a1"}, "order": 1}]"#, "[]");
    let unchecked = checked.replace("{\"name\": \"repo\"}", "{\"name\": \"repo\", \"checked\": false}");
    assert!(checked != RESOLVED && unchecked != checked);
    for text in [&checked, &unchecked] {
        let ran = folder.resolve("v.json", text, &[]);
        assert_eq!(ran.code, 3);
        let why = &ran.json()["inputs"]["code"]["why"][0];
        assert_eq!((&why["cause"], &why["version"]), (&json!("version-gone"), &json!({"ref": "a1"})));
        let ran = folder.resolve("v.json", text.replace(", \"passed\": [\"unit\"]", ""), &[]);
        assert_eq!(
            (ran.code, &ran.json()["inputs"]["code"]["error"]),
            (3, &json!("latest version of resource not found"))
        );
    }
    // What was never checked has no versions.
    let text = RESOLVED.replace("{\"name\": \"repo\"}", "{\"name\": \"repo\", \"checked\": false}");
    let ran = folder.resolve("u.json", text, &[]);
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
    assert!(
        ran.err.contains("versions[0].resource: expected a resource that was checked, \"repo\" has \"checked\": false"),
        "{}",
        ran.err
    );
}

/// There is nothing in colour, whatever the environment says of it.
#[test]
fn nothing_is_coloured_and_no_server_is_asked() {
    let folder = Folder::new();
    fs::write(folder.path().join("h.json"), invalid().0).unwrap();
    let plain = run_in(folder.path(), &["resolve", "h.json"]);
    for (name, value) in [("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1"), ("HOLDALL_SERVER", "http://127.0.0.1:1")] {
        let mut command = holdall(&["resolve", "h.json"]);
        let ran = Ran::from(command.current_dir(folder.path()).env(name, value).output().unwrap());
        assert_eq!((ran.code, &ran.out, &ran.err), (2, &plain.out, &plain.err), "{name}");
        assert!(!ran.err.contains('\u{1b}'));
    }
}
