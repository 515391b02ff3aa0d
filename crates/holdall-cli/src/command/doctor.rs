//! `holdall doctor`.

use std::time::Instant;

use clap::Args;
use holdall_protocol::api::{CheckState, Doctor, DoctorCheck, Info};

use crate::context::Context;
use crate::error::{CliError, Kind};
use crate::output::{self, OutputArgs, Style, plain, span_words};

/// How far the clocks may be apart before somebody should look, in microseconds.
const SKEW_LIMIT: i64 = 5_000_000;

/// Looks whether everything is well: server, database, clocks, workers, disk
///
/// Exit code 1 when something does not work.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    output: OutputArgs,
}

/// Prints what it finds.
pub fn run(ctx: &Context, args: DoctorArgs) -> Result<(), CliError> {
    let client = ctx.client()?;
    let begun = Instant::now();
    let asked_at = output::now();
    let info: Info = client.get("info")?;
    let mut checks = vec![
        DoctorCheck {
            name: "server".to_owned(),
            state: CheckState::Ok,
            sentence: format!("{} answers, version {}, {}", client.server(), info.version, info.database),
            remedy: None,
        },
        versions(&info.version),
        clocks(asked_at.0 + begun.elapsed().as_micros() as i64 / 2, info.server_time.0),
    ];
    let doctor: Doctor = client.get("doctor")?;
    checks.extend(doctor.checks);
    args.output.print(&checks, |style| checks.iter().map(|check| check_line(check, style)).collect())?;
    match checks.iter().any(|check| check.state == CheckState::Failed) {
        true => Err(CliError::silent(Kind::Failed)),
        false => Ok(()),
    }
}

fn check_line(check: &DoctorCheck, style: &Style) -> String {
    let remedy = check.remedy.as_ref().map(|remedy| format!("           {}\n", plain(remedy))).unwrap_or_default();
    let state = style.state(check.state.as_str());
    let gap = " ".repeat(9_usize.saturating_sub(check.state.as_str().len()));
    format!("{state}{gap}{}: {}\n{remedy}", plain(&check.name), plain(&check.sentence))
}

fn versions(server: &str) -> DoctorCheck {
    let mine = env!("CARGO_PKG_VERSION");
    let same = server == mine;
    DoctorCheck {
        name: "version".to_owned(),
        state: if same { CheckState::Ok } else { CheckState::Warning },
        sentence: format!("this command is {mine}, the server is {server}"),
        remedy: (!same).then(|| "use the same version on both sides".to_owned()),
    }
}

fn clocks(mine: i64, server: i64) -> DoctorCheck {
    let apart = mine.saturating_sub(server).saturating_abs();
    let fine = apart <= SKEW_LIMIT;
    DoctorCheck {
        name: "clocks".to_owned(),
        state: if fine { CheckState::Ok } else { CheckState::Warning },
        sentence: match fine {
            true => "this machine and the server agree on the time".to_owned(),
            false => format!("this machine and the server are {} apart", span_words(apart)),
        },
        remedy: (!fine).then(|| "set the clocks, for example with NTP".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_differ_are_told() {
        assert_eq!(clocks(0, SKEW_LIMIT).state, CheckState::Ok);
        assert_eq!(clocks(120_000_000, 0).sentence, "this machine and the server are 2m apart");
        assert_eq!(clocks(i64::MIN, i64::MAX).state, CheckState::Warning);
        assert_eq!(versions("0.0.0-other").state, CheckState::Warning);
    }
}
