//! How the server is.

use std::path::Path;

use holdall_engine::time::{Span, Timestamp};
use holdall_protocol::api::{CheckState, Doctor, DoctorCheck, Worker};
use holdall_store::{Tx, attempts, checks, schema, workers};

use super::time;
use crate::error::{Error, from_json};

/// How far the clocks of server and database may be apart.
const SKEW: Span = Span::seconds(5);

/// Looks at the database, the clocks, the workers and the checks. `disk`: the data folder, for the room on its disk.
pub fn look(tx: &mut Tx<'_>, backend: &str, disk: Option<&Path>, now: Timestamp) -> Result<Doctor, Error> {
    let mut found = vec![ok("database", format!("{backend}, schema version {}", schema::version(tx)?))];
    let apart = (tx.clock()? - now).0.abs();
    found.push(if apart <= SKEW.0 {
        ok("clock", "the clocks of the server and its database agree".to_owned())
    } else {
        DoctorCheck {
            name: "clock".to_owned(),
            state: CheckState::Warning,
            sentence: format!("the clocks of the server and its database are {} s apart", apart / 1_000_000),
            remedy: Some("let both machines keep time with the same servers".to_owned()),
        }
    });
    if let Some(dir) = disk {
        found.push(room(dir));
    }
    let known = worker_list(tx)?;
    let alive = known.iter().filter(|worker| worker.alive).count();
    found.push(if alive > 0 {
        ok("workers", format!("{alive} of {} workers answer", known.len()))
    } else {
        DoctorCheck {
            name: "workers".to_owned(),
            state: CheckState::Failed,
            sentence: "no worker answers: no step can run".to_owned(),
            remedy: Some("start one with `holdall worker`".to_owned()),
        }
    });
    let failing = checks::check_list_failing(tx, 20)?;
    if failing.is_empty() {
        found.push(ok("checks", "every resource can be checked".to_owned()));
    }
    for row in failing {
        let first = row.error.lines().next().unwrap_or_default();
        found.push(DoctorCheck {
            name: "checks".to_owned(),
            state: CheckState::Warning,
            sentence: format!("{} cannot be checked: {first}", row.name),
            remedy: Some(format!("holdall resource check {}", row.name)),
        });
    }
    Ok(Doctor { server_time: time(now), checks: found })
}

fn ok(name: &str, sentence: String) -> DoctorCheck {
    DoctorCheck { name: name.to_owned(), state: CheckState::Ok, sentence, remedy: None }
}

fn room(dir: &Path) -> DoctorCheck {
    match nix::sys::statvfs::statvfs(dir) {
        Ok(stat) => {
            let free = stat.blocks_available() * stat.fragment_size() / (1024 * 1024);
            let sentence = format!("{free} MiB are free where {} is", dir.display());
            if free >= 512 {
                ok("disk", sentence)
            } else {
                DoctorCheck {
                    name: "disk".to_owned(),
                    state: CheckState::Warning,
                    sentence,
                    remedy: Some("free some space".to_owned()),
                }
            }
        }
        Err(error) => DoctorCheck {
            name: "disk".to_owned(),
            state: CheckState::Warning,
            sentence: format!("the disk of {} cannot be looked at: {error}", dir.display()),
            remedy: None,
        },
    }
}

/// The workers, by name.
pub fn worker_list(tx: &mut Tx<'_>) -> Result<Vec<Worker>, Error> {
    let mut found = Vec::new();
    for row in workers::worker_list(tx)? {
        let running = attempts::attempt_list_of_worker(tx, &row.name)?.len();
        found.push(Worker {
            tags: from_json(&row.tags)?,
            running: u32::try_from(running).unwrap_or(u32::MAX),
            slots: u32::try_from(row.slots).unwrap_or(0),
            alive: row.state == "running",
            name: row.name,
            platform: row.platform,
            team: row.team,
            version: row.version,
            seen_at: time(row.seen_at),
        });
    }
    Ok(found)
}
