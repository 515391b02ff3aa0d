//! Fills a database in bulk for `cargo xtask bench`: `fill DATABASE builds EACH`, `fill DATABASE history SHAPE`; and
//! `fill DATABASE resolve TIMES` resolves what the history is for, and prints how many microseconds each time took.
//! `DATABASE` is a SQLite file or `postgres://...`; no server may use it meanwhile.

use std::process::ExitCode;
use std::time::Instant;

use holdall_engine::ids::JobId;
use holdall_engine::resolve::resolve_inputs;
use holdall_store::history::TxHistory;
use holdall_store::testing::load::{self, Shape};
use holdall_store::{Store, StoreError, jobs};

/// How many jobs get their builds in one transaction.
const JOBS: i64 = 1_000;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words[..] {
        [database, what, which] => open(database).and_then(|store| run(&store, what, which)),
        _ => Err(StoreError::Inconsistent("fill DATABASE builds|history|resolve EACH|SHAPE|TIMES".to_owned())),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fill: {error}");
            ExitCode::FAILURE
        }
    }
}

fn open(database: &str) -> Result<Store, StoreError> {
    match database.starts_with("postgres://") {
        true => Store::open_postgres(database),
        false => Store::open_sqlite(database.as_ref()),
    }
}

fn run(store: &Store, what: &str, which: &str) -> Result<(), StoreError> {
    let wrong = || StoreError::Inconsistent(format!("{what} {which} is nothing that can be done"));
    match (what, which.parse::<i64>()) {
        ("builds", Ok(each)) => builds(store, each),
        ("resolve", Ok(times)) => resolve(store, times),
        ("history", Err(_)) => {
            let shape = match which {
                "ten-inputs" => Shape::TenInputs,
                "many-passed" => Shape::ManyPassed,
                _ => return Err(wrong()),
            };
            store.write_blocking(move |tx| load::history(tx, shape, 1).map(drop))?;
            load::settle(store)
        }
        _ => Err(wrong()),
    }
}

/// Gives every job builds.
fn builds(store: &Store, each: i64) -> Result<(), StoreError> {
    let all: i64 = store.read_blocking(|tx| match tx.query_one("SELECT COALESCE(MAX(id), 0) FROM job", &[])? {
        Some(row) => row.get(0),
        None => Ok(0),
    })?;
    for first in (1..=all).step_by(JOBS as usize) {
        store.write_blocking(move |tx| load::builds(tx, JobId(first), JobId(first + JOBS - 1), each))?;
    }
    load::settle(store)
}

/// Resolves the inputs of the first job, each time in a transaction of its own as the server does.
fn resolve(store: &Store, times: i64) -> Result<(), StoreError> {
    for _ in 0..times {
        let micros = store.read_blocking(|tx| {
            let since = Instant::now();
            let inputs: Vec<_> = jobs::job_inputs(tx, JobId(1))?.iter().map(jobs::InputRow::to_resolve).collect();
            let resolved = resolve_inputs(&inputs, JobId(1), &mut TxHistory::new(tx))?;
            let micros = since.elapsed().as_micros();
            match resolved.inputs.iter().all(|input| input.result.is_ok()) {
                true => Ok(micros),
                false => Err(StoreError::Inconsistent(format!("an input is not resolved: {resolved:?}"))),
            }
        })?;
        println!("{micros}");
    }
    Ok(())
}
