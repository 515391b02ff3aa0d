//! `cargo xtask sim`: histories by chance over the whole server (`crates/holdall-server/tests/it/sim.rs`).

use anyhow::{Context, Result, bail};
use scratch_postgres::Postgres;

use crate::command::{self, cargo};
use crate::tools;

/// What can be said, and the variable that the simulation reads it from.
const OPTIONS: &[(&str, &str)] = &[
    ("--histories", "HOLDALL_SIM_HISTORIES"),
    ("--seed", "HOLDALL_SIM_SEED"),
    ("--plan", "HOLDALL_SIM_PLAN"),
    ("--threads", "HOLDALL_SIM_THREADS"),
    ("--database", DATABASE),
];

const DATABASE: &str = "HOLDALL_SIM_DATABASE";

/// Plays histories: on SQLite, or on a PostgreSQL of their own with `--database postgresql`; optimised with `--release`.
///
/// # Errors
/// When a rule was broken, or an argument is not known.
pub fn run(args: &[&str]) -> Result<()> {
    command::pass_signals_on()?;
    let mut variables = vec![(DATABASE, "sqlite")];
    let mut test = cargo(&["test", "--locked", "-p", "holdall-server", "--test", "it"]);
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if *arg == "--release" {
            test.arg("--release");
            continue;
        }
        let Some((_, variable)) = OPTIONS.iter().find(|(name, _)| name == arg) else {
            bail!("sim does not know {arg}; it knows --release, {}", known());
        };
        let value = rest.next().with_context(|| format!("{arg} needs a value"))?;
        variables.push((variable, value));
    }
    let database = variables.iter().rev().find(|(name, _)| *name == DATABASE).map_or("sqlite", |(_, value)| value);
    let (filter, postgres) = match database {
        "sqlite" => ("sim::sqlite", None),
        "postgresql" => {
            let bin = tools::postgres_bin().context("there is no PostgreSQL server to start: install one")?;
            ("sim::postgres", Some(Postgres::start(&bin, command::check_stopped)?))
        }
        other => bail!("--database is sqlite or postgresql, not {other}"),
    };
    test.args(["--", "--exact", filter, "--nocapture"]).envs(variables.iter().copied());
    if let Some(postgres) = &postgres {
        test.env("HOLDALL_TEST_POSTGRES", postgres.url());
    }
    command::run(&mut test)
}

fn known() -> String {
    OPTIONS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}
