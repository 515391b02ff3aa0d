//! `cargo xtask bench`: how fast the product is, measured on the built binary over its API.
//!
//! Each case starts a `holdall serve` of its own on an empty database and drives it as a client does: real pipelines,
//! real processes. Times come from where they arise (the server's journal, the worker's records), so that watching
//! does not count. One JSON line a figure goes to standard output; what is said for people goes to standard error.
//!
//! - [`figure`]: samples, and what is printed of them; [`machine`]: CPU time and memory of processes
//! - [`installation`]: a server with its worker; [`api`]: what the cases ask of it
//! - [`triggers`], [`releases`], [`load`], [`logs`], [`restarts`], [`stored`], [`checks`]: the
//!   cases; [`registry`]: a registry for them

mod api;
mod checks;
mod figure;
mod installation;
mod load;
mod logs;
mod machine;
mod registry;
mod releases;
mod restarts;
mod stored;
mod triggers;

use std::cell::Cell;
use std::cell::RefCell;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::command::{self, cargo};
use crate::tools::{self, Missing};
use figure::Figure;
use scratch_postgres::Postgres;

/// One thing that is measured; it prints one figure or several.
struct Case {
    name: &'static str,
    about: &'static str,
    run: fn(&Bench) -> Result<()>,
}

const CASES: &[Case] = &[
    Case { name: "by-hand", about: "a trivial job triggered by hand, until it has finished", run: triggers::by_hand },
    Case {
        name: "hundred",
        about: "100 trivial jobs triggered at once, until all have finished",
        run: triggers::hundred,
    },
    Case {
        name: "chain",
        about: "version saved, or upstream build finished, to the next job's process",
        run: triggers::chain,
    },
    Case { name: "bag-mock", about: "webhook to packed bag, with mock", run: releases::bag_mock },
    Case {
        name: "bag-registry",
        about: "webhook to packed bag, with a registry on loopback",
        run: releases::bag_registry,
    },
    Case { name: "bag-git", about: "webhook to packed bag, with git, and git's own time", run: releases::bag_git },
    Case {
        name: "promotion",
        about: "passed tag to the next environment's start-deploy process",
        run: releases::promotion,
    },
    Case {
        name: "promotion-after",
        about: "the same where each job has had 10,000 builds before",
        run: releases::promotion_after,
    },
    Case { name: "many", about: "1,000 pipelines: CPU after setting them and idle, memory", run: load::many },
    Case { name: "lines", about: "log lines from a step to a reader", run: logs::lines },
    Case { name: "printing", about: "memory while 500 steps print", run: logs::printing },
    Case { name: "restart-server", about: "a server is killed and restarted under a step", run: restarts::server },
    Case { name: "restart-worker", about: "a worker is killed and restarted under a step", run: restarts::worker },
    Case { name: "lost-worker", about: "a worker is killed and not restarted", run: restarts::lost_worker },
    Case { name: "resolve", about: "inputs with long histories, warm and cold", run: stored::resolve },
    Case { name: "start", about: "a server starts on 10,000 pipelines and 1,000,000 builds", run: stored::start },
    Case { name: "git-round", about: "2,000 git resources with nothing new", run: checks::git },
    Case { name: "beside", about: "the latencies again with 10,000 pipelines beside them", run: load::beside },
];

/// What the cases share.
pub struct Bench {
    /// The built `holdall`.
    binary: PathBuf,
    /// The example of the store that fills databases.
    filler: PathBuf,
    /// Where they keep what they need.
    dir: PathBuf,
    /// Where the databases are; `None`: SQLite.
    postgres: Option<RefCell<Postgres>>,
    /// How many samples of something short.
    samples: usize,
    /// How many of something long.
    rounds: usize,
    made: Cell<u32>,
}

impl Bench {
    /// A name that no other place of this run has.
    fn unique(&self, what: &str) -> String {
        self.made.set(self.made.get() + 1);
        format!("{what}{}", self.made.get())
    }

    /// Prints a figure.
    fn print(&self, figure: &Figure) {
        figure.print(if self.postgres.is_some() { "postgresql" } else { "sqlite" });
    }
}

/// What the command line says.
#[derive(Debug, PartialEq)]
struct Asked {
    names: Vec<String>,
    sqlite: bool,
    postgres: bool,
    samples: usize,
    rounds: usize,
    binary: Option<PathBuf>,
    list: bool,
}

/// Measures. `args`: parts of names of cases; `--database sqlite|postgres|both`; `--samples N`; `--rounds N`; `--list`;
/// `--binary FILE`: another `holdall` than that of this tree, to compare.
///
/// # Errors
/// When a case cannot be measured. A figure that is missed is no error: it is printed.
pub fn run(args: &[&str]) -> Result<()> {
    let asked = parse(args)?;
    if asked.list {
        for case in CASES {
            println!("{:<16} {}", case.name, case.about);
        }
        return Ok(());
    }
    command::pass_signals_on()?;
    tools::ensure(Missing::IsSaid)?;
    let parts = ["-p", "holdall-cli", "-p", "holdall-store", "--bin", "holdall", "--example", "fill"];
    if asked.binary.is_none() {
        command::run(cargo(&["build", "--locked", "--release"]).args(parts))?;
    }
    let target = command::metadata()?["target_directory"].as_str().map(PathBuf::from);
    let target = target.context("cargo metadata names no target directory")?;
    let dir = target.join(format!("bench/{}", std::process::id()));
    eprintln!("xtask: {}; load average {}", machine::describe(), machine::load_average());
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let mut bench = Bench {
        binary: asked.binary.unwrap_or_else(|| target.join("release/holdall")),
        filler: target.join("release/examples/fill"),
        dir,
        postgres: None,
        samples: asked.samples,
        rounds: asked.rounds,
        made: Cell::new(0),
    };
    if asked.sqlite {
        run_cases(&bench, &asked.names)?;
    }
    if asked.postgres {
        let bin = tools::postgres_bin().context("PostgreSQL is missing: take --database sqlite, or install it")?;
        bench.postgres = Some(RefCell::new(Postgres::start(&bin, command::check_stopped)?));
        run_cases(&bench, &asked.names)?;
    }
    Ok(())
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            eprintln!("xtask: cannot remove {}: {error}", self.dir.display());
        }
    }
}

fn run_cases(bench: &Bench, names: &[String]) -> Result<()> {
    for case in CASES.iter().filter(|case| is_asked(case, names)) {
        command::check_stopped()?;
        eprintln!("== {}: {}", case.name, case.about);
        (case.run)(bench).with_context(|| format!("{} cannot be measured", case.name))?;
    }
    Ok(())
}

fn is_asked(case: &Case, names: &[String]) -> bool {
    names.is_empty() || names.iter().any(|name| case.name.contains(name.as_str()))
}

fn parse(args: &[&str]) -> Result<Asked> {
    let mut asked =
        Asked { names: Vec::new(), sqlite: true, postgres: false, samples: 200, rounds: 5, binary: None, list: false };
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match *arg {
            "--list" => asked.list = true,
            "--database" => {
                (asked.sqlite, asked.postgres) = match rest.next().copied() {
                    Some("sqlite") => (true, false),
                    Some("postgres") => (false, true),
                    Some("both") => (true, true),
                    _ => bail!("--database takes sqlite, postgres or both"),
                }
            }
            "--samples" => asked.samples = number(arg, rest.next())?,
            "--binary" => asked.binary = Some(rest.next().context("--binary takes a file")?.into()),
            "--rounds" => asked.rounds = number(arg, rest.next())?,
            option if option.starts_with('-') => {
                bail!("there is no option {option}; there are --database, --samples, --rounds, --binary and --list")
            }
            name => asked.names.push(name.to_owned()),
        }
    }
    for name in &asked.names {
        if !CASES.iter().any(|case| case.name.contains(name.as_str())) {
            let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
            bail!("nothing is named {name}; there are {}", names.join(", "));
        }
    }
    Ok(asked)
}

fn number(option: &str, value: Option<&&str>) -> Result<usize> {
    let number = value.and_then(|value| value.parse().ok()).filter(|number| *number > 0);
    number.with_context(|| format!("{option} takes a number, 1 or more"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_choose_cases_and_unknown_ones_are_refused() {
        let asked = parse(&["bag", "--database", "both", "--samples", "7"]).expect("it is right");
        assert_eq!((asked.sqlite, asked.postgres, asked.samples), (true, true, 7));
        let chosen: Vec<&str> =
            CASES.iter().filter(|case| is_asked(case, &asked.names)).map(|case| case.name).collect();
        assert_eq!(chosen, ["bag-mock", "bag-registry", "bag-git"]);
        for (args, message) in [
            (&["by-foot"][..], "nothing is named by-foot; there are by-hand, "),
            (&["--samples", "0"], "--samples takes a number, 1 or more"),
            (&["--database", "mysql"], "--database takes sqlite, postgres or both"),
            (&["--fast"], "there is no option --fast"),
        ] {
            let error = parse(args).expect_err("it is wrong").to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
