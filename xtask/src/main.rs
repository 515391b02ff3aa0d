//! What developers and CI run, as `cargo xtask COMMAND`.
//!
//! - [`test`](mod@test): all tests, with everything that they need: a PostgreSQL of their own, a registry, the built binary.
//! - [`sim`]: histories by chance over the whole server, more than the tests play.
//! - [`ci`]: everything that must hold before a change lands.
//! - [`bench`](mod@bench): how fast the product is.
//! - [`tidy`]: the rules of this code base that neither the compiler nor clippy knows.

mod bench;
mod ci;
mod command;
mod sim;
mod test;
mod tidy;
mod tools;

use std::process::ExitCode;

const USAGE: &str = "\
Usage: cargo xtask COMMAND

  test [-p CRATE]... [FILTER]... [-- ARGS]   run the tests whose names contain a FILTER, with all that they need
  sim [--histories N] [--seed S] [--plan FILE] [--database sqlite|postgresql] [--threads N] [--release]
                                             play histories by chance over the whole server, or one from a file
  ci                                         formatting, tidy, clippy, documentation, and all tests
  bench [NAME]... [--database sqlite|postgres|both] [--samples N] [--rounds N] [--binary FILE] [--list]
                                             measure what has a NAME in its name; one JSON line a figure
  tidy                                       the rules that neither the compiler nor clippy knows
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["test", ref rest @ ..] => test::run(rest),
        ["sim", ref rest @ ..] => sim::run(rest),
        ["ci"] => ci::run(),
        ["bench", ref rest @ ..] => bench::run(rest),
        ["tidy"] => tidy::run(),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
