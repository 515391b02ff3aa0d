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
                let epoch = epoch::begin(tx, NOW)?;
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
                let made = locks::lock_ensure(tx, "new")?;
                let holding = locks::HoldingRow { lock: made, ..holding };
                assert_eq!(locks::holding_add(tx, &holding)?, 3 + epoch::IDS, "one of that name may have been lost");
                assert_eq!(epoch::begin(tx, NOW)?.number, 3);
                Ok::<_, StoreError>(())
            })
            .expect("a new epoch");
    }
}

/// What a database gives next: a bag, a build and its id, a rerun of an older build, a fence of a lock that was there and
/// of a new one, an attempt's fence, and an act.
fn given(database: &Database) -> Vec<i64> {
    let store = Store::open(database.clone()).expect("a store");
    let given = store.write_blocking(|tx| {
        let (job, old) = (holdall_engine::ids::JobId(1), holdall_engine::ids::BuildId(1));
        let bag = crate::bags::bag_next_number(tx, holdall_engine::ids::SystemId(1))?;
        let build = builds::build_create(tx, job, &builds::NewBuild::default(), NOW)?;
        let name = builds::build_get(tx, build)?.expect("it is there").name;
        let old = builds::build_get(tx, old)?.expect("it is there");
        let rerun = builds::build_rerun(tx, &old, "ann", None, NOW)?;
        let rerun = builds::build_get(tx, rerun)?.expect("it is there").name;
        let holding = locks::holding_list(tx, holdall_engine::ids::LockId(1))?.remove(0);
        let fence = locks::holding_add(tx, &holding)?;
        let new = locks::HoldingRow { lock: locks::lock_ensure(tx, "new")?, ..holding };
        let number = |text: &str| text.parse::<i64>().expect("a number");
        Ok::<_, StoreError>(vec![
            bag,
            number(&name),
            build.0,
            number(rerun.trim_start_matches("1.")),
            fence,
            locks::holding_add(tx, &new)?,
            crate::attempts::fence_next(tx, holdall_engine::ids::BuildId(2))?,
            epoch::extent(tx)?.acts,
            epoch::progress(tx)?.commits,
        ])
    });
    given.expect("all is given")
}

/// Restores at that moment, and gives what is given there then.
fn given_after(from: &Scratch, backup: &[u8], now: Timestamp) -> (Vec<i64>, Vec<u8>) {
    let to = Scratch::like(from);
    restore(&to.database, &mut &*backup, true, |tx, _| {
        epoch::begin(tx, now)?;
        let act = crate::audit::AuditRow {
            at: now,
            act: "new_epoch".to_owned(),
            ..crate::audit::audit_list(tx, None, None, 1)?.remove(0)
        };
        crate::audit::audit_add_after_loss(tx, &act)
    })
    .expect("it is restored");
    (given(&to.database), taken(&to.database))
}

#[test]
fn what_was_given_after_one_restore_is_not_given_after_another() {
    // 2026-11-26T10:00:00Z.
    const LOSS: i64 = 1_795_687_200_000_000;
    let after = |seconds: i64| Timestamp(LOSS + seconds * 1_000_000);
    for scratch in Scratch::each() {
        sample(&scratch.database, schema::NEWEST);
        let old = taken(&scratch.database);
        let (first, newer) = given_after(&scratch, &old, after(0));
        let (again, _) = given_after(&scratch, &old, after(30));
        let (third, _) = given_after(&scratch, &newer, after(60));
        let (older, _) = given_after(&scratch, &old, after(90));
        for (before, later) in [(&first, &again), (&again, &third), (&third, &older)] {
            assert!(before.iter().zip(later).all(|(one, next)| one + 1 < *next), "{before:?} {later:?}");
        }
        assert_eq!(first[0], 2_846_160, "bags can be said aloud");
        // A clock that was set back to before all of that.
        let (back, _) = given_after(&scratch, &newer, NOW);
        assert!(first.iter().zip(&back).all(|(one, next)| one + epoch::NUMBERS <= *next), "{first:?} {back:?}");
    }
}

#[test]
fn whether_a_commit_was_kept_whose_answer_was_lost_is_not_known() {
    let from = Scratch::sqlite();
    sample(&from.database, schema::NEWEST);
    let backup = taken(&from.database);
    for to in Scratch::each().into_iter().filter(|to| matches!(to.database, Database::Postgres(_))) {
        let cut = restore(&to.database, &mut &*backup, true, |tx, _| {
            // The connection breaks while PostgreSQL commits.
            for sql in [
                "CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS \
                 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60); RETURN NULL; END'",
                "CREATE CONSTRAINT TRIGGER cut AFTER UPDATE ON system DEFERRABLE INITIALLY DEFERRED \
                 FOR EACH ROW EXECUTE FUNCTION cut()",
                "UPDATE system SET revision = 7",
            ] {
                tx.execute(sql, &[])?;
            }
            Ok(())
        });
        let error = cut.expect_err("its answer was lost");
        assert!(matches!(error, BackupError::Unknown(_)), "{error}");
        assert!(error.to_string().contains("restore it once more"), "{error}");
        put_back(&to.database, &backup).expect("here nothing was kept");
        assert!(refusal(&to.database, &backup).contains("is not empty"), "and so one sees that all of it was");
    }
}
