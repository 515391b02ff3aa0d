//! What comes back from a backup, and what is refused.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::epoch;
use crate::schema::tests::sample;
use crate::testing::Scratch;
use crate::{Store, builds, locks};

const NOW: Timestamp = Timestamp(1_764_000_000_000_000);

fn taken(database: &Database) -> Vec<u8> {
    let mut out = Vec::new();
    write(database, NOW, &mut out).expect("a backup");
    out
}

/// The lines but the first and the last; their order within a table says nothing.
fn lines(backup: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(backup).expect("text");
    let all: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for line in &all[1..all.len() - 1] {
        match line.starts_with('{') {
            true => found.push(vec![(*line).to_owned()]),
            false => found.last_mut().expect("a table").push((*line).to_owned()),
        }
    }
    found.iter_mut().for_each(|table| table[1..].sort());
    found.concat()
}

fn put_back(database: &Database, backup: &[u8]) -> Result<Restored<()>, BackupError> {
    restore(database, &mut &*backup, true, |_, _| Ok(()))
}

fn refusal(database: &Database, backup: &[u8]) -> String {
    put_back(database, backup).expect_err("it is refused").to_string()
}

#[test]
fn everything_comes_back_on_either_database() {
    for from in Scratch::each() {
        sample(&from.database, schema::NEWEST);
        let backup = taken(&from.database);
        assert_eq!(verify(&mut &*backup).expect("it is whole").header.taken_at, NOW.0);
        for to in Scratch::each() {
            let restored = put_back(&to.database, &backup).expect("it is restored");
            assert_eq!(restored.backup.rows as usize, lines(&backup).iter().filter(|l| l.starts_with('[')).count());
            assert_eq!(lines(&taken(&to.database)), lines(&backup));
            let store = Store::open(to.database.clone()).expect("a server can use it");
            let journal =
                store.read_blocking(|tx| crate::events::event_list(tx, holdall_engine::ids::BuildId(1), 0, 9));
            assert_eq!(journal.expect("a journal")[1].bytes, Some((0..=255).collect()));
            assert!(refusal(&to.database, &backup).contains("is not empty"));
        }
    }
}

#[test]
fn a_backup_of_every_earlier_version_is_restored_and_brought_up_to_date() {
    for version in 1..=schema::NEWEST {
        for from in Scratch::each() {
            sample(&from.database, version);
            let backup = taken(&from.database);
            let to = Scratch::like(&from);
            put_back(&to.database, &backup).expect("it is restored");
            let header = verify(&mut &*taken(&to.database)).expect("a backup").header;
            assert_eq!(header.schema, schema::NEWEST as i64);
        }
    }
}

#[test]
fn what_is_cut_short_changed_or_newer_is_refused_and_nothing_is_left() {
    let from = Scratch::sqlite();
    sample(&from.database, schema::NEWEST);
    let backup = taken(&from.database);
    let text = String::from_utf8(backup.clone()).unwrap();
    for to in Scratch::each() {
        let last = text.trim_end().rfind('\n').unwrap();
        for end in [last + 1, last, backup.len() - 1, backup.len() / 2] {
            let refused = refusal(&to.database, &backup[..end]);
            assert!(refused.contains("cut short"), "{refused}");
            assert!(verify(&mut &backup[..end]).is_err());
        }
        for (changed, why) in [
            (text.replace("\"ann\"", "\"bob\""), "the SHA-256 of what comes before it"),
            (text.replace("\"team\"", "\"crew\""), "line 4 is not of a backup of holdall: there is no table `crew`"),
            (text.replace("[1,\"preview\"]", "[1]"), "a row has 1 values for 2 columns"),
            (text.replace("[1,\"preview\"]", "[1,2.5]"), "did not match"),
            (text.replace("[2,\"t\",1764000090000000]\n", ""), "rows, and there are"),
            (format!("{text}[1]\n"), "it comes after the end"),
            ("system: notify\n".to_owned(), "line 1 is not of a backup of holdall"),
            ("{}\n".to_owned(), "it does not begin with `holdall_backup`"),
            (String::new(), "line 1 is not of a backup of holdall: there is no whole line"),
            (text.replacen("\"holdall_backup\":1", "\"holdall_backup\":2", 1), "its format is 2, this holdall knows 1"),
            (
                text.replacen(&format!("\"schema\":{}", schema::NEWEST), "\"schema\":1000", 1),
                "the backup has schema version 1000",
            ),
        ] {
            let refused = refusal(&to.database, changed.as_bytes());
            assert!(refused.contains(why), "{why}: {refused}");
        }
        if let Database::Sqlite(path) = &to.database {
            let left: Vec<PathBuf> =
                fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path()).collect();
            assert_eq!(left, Vec::<PathBuf>::new());
        }
        put_back(&to.database, &backup).expect("the place is as empty as it was");
    }
}

#[test]
fn what_another_database_left_is_not_taken_for_a_part_of_this_one() {
    let from = Scratch::sqlite();
    sample(&from.database, schema::NEWEST);
    let backup = taken(&from.database);
    let to = Scratch::sqlite();
    let Database::Sqlite(path) = &to.database else { panic!("it is SQLite's") };
    let left = path.with_extension("sqlite-wal");
    fs::write(&left, "old").unwrap();
    let refused = refusal(&to.database, &backup);
    assert!(refused.contains("-wal is not empty") && refused.contains("move what is there away"), "{refused}");
}

#[test]
fn a_dry_run_leaves_nothing() {
    for from in Scratch::each() {
        sample(&from.database, schema::NEWEST);
        let backup = taken(&from.database);
        let to = Scratch::like(&from);
        for _ in 0..2 {
            restore(&to.database, &mut &*backup, false, |_, header| Ok(header.schema)).expect("it would be restored");
        }
        put_back(&to.database, &backup).expect("the place is empty still");
    }
}

#[test]
fn there_is_no_backup_of_nothing() {
    for scratch in Scratch::each() {
        let refused = write(&scratch.database, NOW, &mut Vec::new()).expect_err("there is nothing").to_string();
        assert!(refused.contains("there is no database of holdall"), "{refused}");
    }
}

#[test]
fn after_a_loss_no_number_is_given_again() {
    for scratch in Scratch::each() {
        sample(&scratch.database, schema::NEWEST);
        let store = Store::open(scratch.database.clone()).expect("a store");
        store
            .write_blocking(|tx| {
                let (job, build) = (holdall_engine::ids::JobId(1), holdall_engine::ids::BuildId(1));
                let extent = epoch::extent(tx)?;
                assert_eq!((extent.builds, extent.acts), (2, 1));
                let epoch = epoch::begin(tx)?;
                assert_eq!((epoch.number, epoch.first_build), (2, 3 + epoch::IDS));
                assert_eq!(epoch::extent(tx)?.builds, 2 + epoch::IDS, "what was skipped may have been given");
                let made = builds::build_create(tx, job, &builds::NewBuild::default(), NOW)?;
                let made = builds::build_get(tx, made)?.expect("it is there");
                assert_eq!((made.id.0, made.name.as_str()), (3 + epoch::IDS, "100003"));
                let original = builds::build_get(tx, build)?.expect("it is there");
                let rerun = builds::build_rerun(tx, &original, "ann", None, NOW)?;
                assert_eq!(builds::build_get(tx, rerun)?.expect("it is there").name, "1.100001");
                let again = builds::build_rerun(tx, &made, "ann", None, NOW)?;
                assert_eq!(builds::build_get(tx, again)?.expect("it is there").name, "100003.1");
                assert_eq!(crate::attempts::fence_next(tx, holdall_engine::ids::BuildId(2))?, 2 + epoch::IDS);
                assert_eq!(crate::systems::system_next_bag(tx, holdall_engine::ids::SystemId(1))?, 2 + epoch::NUMBERS);
                let holding = locks::holding_list(tx, holdall_engine::ids::LockId(1))?.remove(0);
                assert_eq!(locks::holding_add(tx, &holding)?, 3 + epoch::IDS);
                assert_eq!(epoch::begin(tx)?.number, 3);
                Ok::<_, StoreError>(())
            })
            .expect("a new epoch");
    }
}
