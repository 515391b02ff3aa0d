//! Files with pieces changed, cut out, put in and copied: nothing panics, and what is accepted can be written and read.

use holdall_config::pipeline;

use crate::corpus::{cases, folder};

/// What is put in: the characters that mean something to YAML.
const MARKS: &[u8] = b"[]{}:-&*!|>'\"%@` \n\t#,?<~()";

/// How many broken versions of each file are tried.
const ROUNDS: usize = 4;

/// Numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    /// A number below `bound`; 0 where there is none.
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound.max(1)
    }
}

/// Changes a text in one place.
fn break_once(bytes: &mut Vec<u8>, numbers: &mut Numbers) {
    if bytes.is_empty() {
        return;
    }
    let at = numbers.below(bytes.len());
    let mark = MARKS[numbers.below(MARKS.len())];
    match numbers.below(5) {
        0 => bytes[at] = mark,
        1 => bytes.insert(at, mark),
        2 => bytes.truncate(at),
        3 => {
            bytes.remove(at);
        }
        _ => {
            let end = (at + numbers.below(40)).min(bytes.len());
            let piece = bytes[at..end].to_vec();
            let to = numbers.below(bytes.len());
            bytes.splice(to..to, piece);
        }
    }
}

#[test]
fn broken_files_get_an_answer() {
    let Some(folder) = folder() else { return };
    let mut numbers = Numbers(1);
    for mut case in cases(&folder).into_iter().filter(|case| case.bytes.len() < 20_000) {
        let original = case.bytes.clone();
        for _ in 0..ROUNDS {
            case.bytes.clone_from(&original);
            for _ in 0..=numbers.below(4) {
                break_once(&mut case.bytes, &mut numbers);
            }
            let found = case.parse();
            let text = String::from_utf8_lossy(&case.bytes);
            assert!(found.diagnostics.is_empty() || !found.render(&case.file, &text).is_empty());
            assert_eq!(found.value.is_none(), found.errors().next().is_some(), "{text}");
            if !case.is_task()
                && let Some(read) = pipeline::parse(&text).value
            {
                let again = pipeline::parse(&pipeline::to_json(&read).to_string());
                assert_eq!(again.value, Some(read), "{text}");
            }
        }
    }
}
