//! Databases of every schema version there was, with rows in every table, are brought up to date.

use super::*;
use crate::testing::Scratch;
use crate::{Database, Store, params};

/// Rows for the tables that a migration makes, by the migration's number from 1.
const SAMPLES: &[&str] = &[
    include_str!("samples/0001.sql"),
    include_str!("samples/0002.sql"),
    include_str!("samples/0003.sql"),
    include_str!("samples/0004.sql"),
    include_str!("samples/0005.sql"),
    include_str!("samples/0006.sql"),
];

/// A database at a schema version, with rows in each of its tables.
pub(crate) fn sample(database: &Database, version: usize) {
    let mut connection = database.connect(false).expect("a connection");
    for number in 1..=version {
        migrate_to(&mut connection, number).expect("a migration");
        connection.batch("BEGIN").expect("a transaction");
        connection.batch(SAMPLES[number - 1]).expect("the sample fits");
        if number == 1 {
            let bytes: Vec<u8> = (0..=255).collect();
            Tx::new(&mut connection)
                .execute("UPDATE build_event SET bytes = ?1 WHERE kind = 'output'", params![bytes])
                .expect("bytes");
        }
        let mut tx = Tx::new(&mut connection);
        for table in tables(number).into_iter().filter(|table| table.gives_ids) {
            let next = tx.query_one(&format!("SELECT COALESCE(MAX(id), 0) + 1 FROM {}", table.name), &[]);
            let next: i64 = next.expect("a query").expect("a row").get(0).expect("a number");
            tx.set_next_id(table.name, next).expect("the next id");
        }
        connection.batch("COMMIT").expect("a commit");
    }
}

/// How many rows each table has.
fn counts(tx: &mut Tx<'_>) -> Vec<(String, i64)> {
    let mut found = Vec::new();
    for table in tx.tables().expect("tables") {
        let row = tx.query_one(&format!("SELECT COUNT(*) FROM {table}"), &[]).expect("a query").expect("a row");
        found.push((table, row.get(0).expect("a number")));
    }
    found
}

/// The tables with their columns.
fn shape(tx: &mut Tx<'_>) -> Vec<(String, Vec<String>)> {
    let tables = tx.tables().expect("tables");
    let mut found = Vec::new();
    for table in tables {
        let mut columns = tx.columns(&table).expect("columns");
        columns.sort();
        found.push((table, columns));
    }
    found
}

fn read<T>(database: &Database, work: impl FnOnce(&mut Tx<'_>) -> T) -> T {
    let mut connection = database.connect(true).expect("a connection");
    connection.begin_read().expect("a transaction");
    let result = work(&mut Tx::new(&mut connection));
    connection.batch("ROLLBACK").expect("its end");
    result
}

#[test]
fn every_migration_has_a_sample_with_rows_in_every_table() {
    assert_eq!(SAMPLES.len(), NEWEST, "a migration needs samples/NNNN.sql, with rows for what it makes");
    for scratch in Scratch::each() {
        sample(&scratch.database, NEWEST);
        let counted = read(&scratch.database, counts);
        let empty: Vec<&String> = counted.iter().filter(|(_, rows)| *rows == 0).map(|(table, _)| table).collect();
        assert!(empty.is_empty(), "no rows in {empty:?}");
        let mut named: Vec<&str> = tables(NEWEST).iter().map(|table| table.name).collect();
        named.push("schema_version");
        named.sort_unstable();
        let there: Vec<&str> = counted.iter().map(|(table, _)| table.as_str()).collect();
        assert_eq!(there, named, "`tables` names every table");
    }
}

#[test]
fn a_database_of_every_version_is_brought_up_to_date_with_what_it_holds() {
    for version in 0..=NEWEST {
        for scratch in Scratch::each() {
            sample(&scratch.database, version);
            let before = if version == 0 { Vec::new() } else { read(&scratch.database, counts) };
            let store = Store::open(scratch.database.clone()).expect("it is brought up to date");
            let (found, after, shape_after) = store
                .read_blocking(|tx| Ok::<_, StoreError>((super::version(tx)?, counts(tx), shape(tx))))
                .expect("a read");
            assert_eq!(found, NEWEST as i64);
            for (table, rows) in before {
                // Which program brought it up to date is written down there.
                let signed = i64::from(table == "meta" && version < NEWEST);
                let rows = rows + signed;
                assert!(
                    after.contains(&(table.clone(), rows)),
                    "version {version}: {table} should have {rows} rows: {after:?}"
                );
            }
            let fresh = Scratch::like(&scratch);
            Store::open(fresh.database.clone()).expect("a new one");
            assert_eq!(shape_after, read(&fresh.database, shape), "version {version}: it is as a new one");
        }
    }
}

#[test]
fn a_database_of_a_newer_version_is_refused_by_name_with_the_remedy_and_left_alone() {
    for scratch in Scratch::each() {
        let store = Store::open(scratch.database.clone()).expect("a store");
        store
            .write_blocking(|tx| {
                tx.execute("UPDATE schema_version SET version = 1000", &[])?;
                tx.execute("UPDATE meta SET value = '7.1.0' WHERE key = 'program'", &[])
            })
            .expect("a write");
        drop(store);
        let Err(refused) = Store::open(scratch.database.clone()) else { panic!("it was opened") };
        let (own, known) = (env!("CARGO_PKG_VERSION"), NEWEST);
        assert_eq!(
            refused.to_string(),
            format!(
                "the database has schema version 1000, which holdall 7.1.0 gave it, and this holdall {own} knows \
                 {known} at most; use holdall 7.1.0 or newer"
            )
        );
        assert_eq!(read(&scratch.database, |tx| super::version(tx).expect("a version")), 1000);
    }
}
