//! `holdall demo-db`: applies numbered migrations to the SQLite file of an environment.
//!
//! Migrations only go forward. When an older bag comes back (`HOLDALL_DIRECTION=rollback`), those that it does not
//! know stay applied: each only adds what older code does not mind (expand), and what is not used any more is removed
//! by a later one (contract).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use rusqlite::Connection;

use super::folder::Folder;

/// Arguments of `demo-db`.
#[derive(Debug, clap::Args)]
pub struct DatabaseArgs {
    /// The demo's folder.
    #[arg(long, env = "DEMO")]
    dir: PathBuf,
    /// Whose database.
    #[arg(long, env = "HOLDALL_ENVIRONMENT")]
    environment: String,
    /// Whether the bag is newer than what is there: `forward`, `same` or `rollback`.
    #[arg(long, env = "HOLDALL_DIRECTION", default_value = "forward")]
    direction: String,
    /// The folder with files `NUMBER_NAME.sql`.
    #[arg(long)]
    migrations: PathBuf,
}

/// What is wrong with the migrations.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// They cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// What.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file without a number.
    #[error("{0:?} is not NUMBER_NAME.sql")]
    Name(String),
    /// Two with one number.
    #[error("{first} and {second} have the same number")]
    Number {
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// Another text than the one that was applied.
    #[error("{0} was changed after it had been applied; write a new migration instead")]
    Changed(String),
    /// SQLite says no.
    #[error("{name} does not apply; nothing of it was kept")]
    Apply {
        /// The migration.
        name: String,
        /// Why not.
        #[source]
        source: rusqlite::Error,
    },
    /// SQLite says no to something else.
    #[error("the database cannot be used")]
    Database(#[from] rusqlite::Error),
}

/// What [`migrate`] did: file names, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Migrated {
    /// Applied now.
    pub applied: Vec<String>,
    /// Applied earlier, and known to this code.
    pub kept: Vec<String>,
    /// Applied earlier by newer code, and unknown to this one.
    pub unknown: Vec<String>,
}

/// Runs `demo-db`.
pub fn run(args: &DatabaseArgs) -> anyhow::Result<()> {
    anyhow::ensure!(super::state::is_name(&args.environment), "{:?} is no environment", args.environment);
    let path = Folder::at(&args.dir).database(&args.environment);
    let mut database = Connection::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
    let migrated = migrate(&mut database, &args.migrations)?;
    for name in &migrated.applied {
        println!("applied  {name}");
    }
    println!("{} applied now, {} before", migrated.applied.len(), migrated.kept.len());
    if !migrated.unknown.is_empty() {
        let names = migrated.unknown.join(", ");
        if args.direction == "rollback" {
            println!("roll back: {names} stay applied, nothing is taken back; this code works without knowing them");
        } else {
            println!("{names} were applied by a newer bag and stay; this code works without knowing them");
        }
    }
    Ok(())
}

/// Applies what the database has not seen, each in a transaction of its own.
pub fn migrate(database: &mut Connection, folder: &Path) -> Result<Migrated, MigrationError> {
    let files = read_migrations(folder)?;
    database.busy_timeout(Duration::from_secs(10))?;
    database.execute_batch(
        "CREATE TABLE IF NOT EXISTS applied_migration (
             number INTEGER PRIMARY KEY,
             name TEXT NOT NULL,
             text TEXT NOT NULL,
             applied_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
         ) STRICT",
    )?;
    let before: BTreeMap<u32, (String, String)> = {
        let mut statement = database.prepare("SELECT number, name, text FROM applied_migration")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?;
        rows.collect::<rusqlite::Result<_>>()?
    };
    let mut migrated = Migrated::default();
    for (number, (name, _)) in &before {
        match files.get(number) {
            Some((_, text)) if *text == before[number].1 => migrated.kept.push(name.clone()),
            Some((name, _)) => return Err(MigrationError::Changed(name.clone())),
            None => migrated.unknown.push(name.clone()),
        }
    }
    for (number, (name, text)) in files.iter().filter(|(number, _)| !before.contains_key(number)) {
        let applied = (|| {
            let tx = database.transaction()?;
            tx.execute_batch(text)?;
            tx.execute("INSERT INTO applied_migration (number, name, text) VALUES (?1, ?2, ?3)", (number, name, text))?;
            tx.commit()
        })();
        applied.map_err(|source| MigrationError::Apply { name: name.clone(), source })?;
        migrated.applied.push(name.clone());
    }
    Ok(migrated)
}

/// The migrations of a folder by number: name and text.
fn read_migrations(folder: &Path) -> Result<BTreeMap<u32, (String, String)>, MigrationError> {
    let cannot_read = |path: &Path| {
        let path = path.to_owned();
        move |source| MigrationError::Read { path, source }
    };
    let mut found: BTreeMap<u32, (String, String)> = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(cannot_read(folder))? {
        let path = entry.map_err(cannot_read(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.ends_with(".sql") {
            continue;
        }
        let number = name.split_once('_').and_then(|(number, _)| number.parse::<u32>().ok());
        let Some(number) = number else { return Err(MigrationError::Name(name)) };
        let text = fs::read_to_string(&path).map_err(cannot_read(&path))?;
        if let Some((first, _)) = found.insert(number, (name.clone(), text)) {
            let (first, second) = if first < name { (first, name) } else { (name, first) };
            return Err(MigrationError::Number { first, second });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    const ONE: (&str, &str) = ("001_one.sql", "CREATE TABLE one (x INTEGER);");
    const TWO: (&str, &str) = ("002_two.sql", "ALTER TABLE one ADD COLUMN y INTEGER;");

    #[test]
    fn goes_forward_and_stays_when_older_code_comes_back() {
        let mut database = Connection::open_in_memory().unwrap();
        let older = folder(&[ONE, ("README.md", "no migration")]);
        let newer = folder(&[ONE, TWO]);
        assert_eq!(migrate(&mut database, older.path()).unwrap().applied, ["001_one.sql"]);
        let forward = migrate(&mut database, newer.path()).unwrap();
        assert_eq!((forward.applied, forward.kept), (vec!["002_two.sql".to_owned()], vec!["001_one.sql".to_owned()]));
        let back = migrate(&mut database, older.path()).unwrap();
        assert_eq!((back.applied.len(), back.unknown), (0, vec!["002_two.sql".to_owned()]));
        database.execute("INSERT INTO one (x, y) VALUES (1, 2)", []).unwrap();
        assert_eq!(migrate(&mut database, newer.path()).unwrap().applied.len(), 0);
    }

    #[test]
    fn a_migration_applies_whole_or_not_at_all() {
        let mut database = Connection::open_in_memory().unwrap();
        let broken = folder(&[ONE, ("002_two.sql", "CREATE TABLE two (x INTEGER); INSERT INTO nowhere VALUES (1);")]);
        assert!(matches!(migrate(&mut database, broken.path()), Err(MigrationError::Apply { .. })));
        let fixed = folder(&[ONE, ("002_two.sql", "CREATE TABLE two (x INTEGER);")]);
        assert_eq!(migrate(&mut database, fixed.path()).unwrap().applied, ["002_two.sql"]);
    }

    #[test]
    fn mistakes_are_named() {
        let mut database = Connection::open_in_memory().unwrap();
        let error = |database: &mut Connection, files: &[(&str, &str)]| {
            migrate(database, folder(files).path()).unwrap_err().to_string()
        };
        assert_eq!(error(&mut database, &[("x_y.sql", "")]), "\"x_y.sql\" is not NUMBER_NAME.sql");
        assert_eq!(error(&mut database, &[("001.sql", "")]), "\"001.sql\" is not NUMBER_NAME.sql");
        let twice = error(&mut database, &[ONE, ("1_again.sql", "")]);
        assert_eq!(twice, "001_one.sql and 1_again.sql have the same number");
        migrate(&mut database, folder(&[ONE]).path()).unwrap();
        let changed = error(&mut database, &[("001_one.sql", "CREATE TABLE one (z TEXT);")]);
        assert!(changed.starts_with("001_one.sql was changed"), "{changed}");
        let missing = migrate(&mut database, Path::new("/nowhere")).unwrap_err();
        assert!(matches!(missing, MigrationError::Read { .. }));
    }
}
