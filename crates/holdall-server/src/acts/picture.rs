//! A picture of a system before and after an act: what is different is what the act changes.

use std::collections::BTreeMap;

use holdall_engine::ids::BuildId;
use holdall_engine::release::Role;
use holdall_engine::release::bags::held_back;
use holdall_engine::report::{Code, Hold};
use holdall_engine::schedule::Action;
use holdall_engine::version::hex;
use holdall_protocol::api::{
    Dropped, EnvironmentChange, Hold as WireHold, HowDropped, NextBag, Preview, Start, Time, Version,
};
use holdall_store::environments::EnvironmentRow;
use holdall_store::{StoreError, Tx, bags, builds, environments, jobs, systems};
use sha2::{Digest, Sha256};

use crate::changes::service_changes;
use crate::duty::schedule::{Done, look};
use crate::error::json_text;
use crate::release::bags::{Judge, bag_number, bag_of};
use crate::release::environments_of;

/// How a system stands.
pub(super) struct Picture {
    system: Option<String>,
    environments: Vec<Seen>,
}

/// How an environment stands.
struct Seen {
    row: EnvironmentRow,
    current: Option<i64>,
    /// The bag that starts by itself next.
    next: Option<i64>,
    /// Every bag that may still come here, with what holds it back.
    candidates: BTreeMap<i64, Vec<Hold>>,
    /// What the next automatic pack would take, where bags are packed.
    pack: Option<BTreeMap<String, Version>>,
}

impl Picture {
    /// Looks at a system; with none, at nothing.
    pub(super) fn take(tx: &mut Tx<'_>, system: Option<&str>) -> Result<Picture, StoreError> {
        let mut picture = Picture { system: system.map(str::to_owned), environments: Vec::new() };
        let Some(row) = system.map(|name| systems::system_find(tx, name)).transpose()?.flatten() else {
            return Ok(picture);
        };
        for (environment, spec) in environments_of(tx, row.id)? {
            let judge = Judge::read(tx, environment.clone())?;
            let candidates = judge.candidates(tx)?;
            let pack = if spec.packs { next_pack(tx, &environment)? } else { None };
            picture.environments.push(Seen {
                current: environments::deployment_current(tx, environment.id)?.map(|deployment| deployment.bag),
                next: judge.next(tx)?,
                candidates: candidates.iter().map(|(row, view)| (row.number, held_back(&judge.view, view))).collect(),
                pack,
                row: environment,
            });
        }
        Ok(picture)
    }

    /// What is different in `after`, with what the scheduler did in between.
    pub(super) fn compare(&self, tx: &mut Tx<'_>, after: &Picture, done: &[Done]) -> Result<Preview, StoreError> {
        let mut preview = Preview { starts: starts(tx, done)?, ..Preview::default() };
        for seen in &after.environments {
            let before = self.environments.iter().find(|before| before.row.id == seen.row.id);
            self.dropped(before, seen, &preview.starts.clone(), &mut preview);
            if let (Some(pack), Some(before)) = (&seen.pack, before)
                && before.pack.as_ref() != Some(pack)
            {
                preview.next_bag = Some(NextBag {
                    system: after.system.clone().unwrap_or_default(),
                    environment: seen.row.name.clone(),
                    bag: systems::system_next_bag(tx, seen.row.system)?,
                    services: pack.clone(),
                });
            }
        }
        self.gains(tx, after, &mut preview)?;
        for start in &preview.starts {
            preview.sentences.push(match (&start.environment, start.bag) {
                (Some(environment), Some(bag)) => format!("bag {bag} starts in {environment}"),
                (Some(environment), None) => format!("{} of {environment} starts", start.job),
                (None, _) => format!("{}/{}/{} starts", start.team, start.pipeline, start.job),
            });
        }
        for dropped in &preview.dropped {
            preview.sentences.push(match dropped.by {
                Some(by) => {
                    format!("bag {} does not go to {}: {} by bag {by}", dropped.bag, dropped.environment, dropped.how)
                }
                None => format!("bag {} does not go to {}: {}", dropped.bag, dropped.environment, dropped.how),
            });
        }
        Ok(preview)
    }

    /// Bags that could have started here before, by themselves or where a person lets the environment go on, and cannot
    /// now.
    fn dropped(&self, before: Option<&Seen>, after: &Seen, starts: &[Start], preview: &mut Preview) {
        let Some(before) = before else { return };
        let environment = after.row.name.clone();
        let started = starts
            .iter()
            .filter(|start| start.environment.as_ref() == Some(&environment))
            .filter_map(|start| start.bag)
            .max();
        for (number, holds) in &before.candidates {
            if !holds.iter().all(waits_for_a_person) || Some(*number) == started {
                continue;
            }
            let now = after.candidates.get(number);
            let how = match (now, started) {
                (None, Some(by)) if by > *number => Some((HowDropped::Superseded, Some(by))),
                (Some(now), _) if now.iter().any(|hold| holds.is_empty() || !waits_for_a_person(hold)) => {
                    Some((how(now), None))
                }
                _ => None,
            };
            if let Some((how, by)) = how {
                preview.dropped.push(Dropped { environment: environment.clone(), bag: *number, how, by });
            }
        }
        for holds in after.candidates.values() {
            for hold in holds {
                let known = before.candidates.values().any(|holds| holds.contains(hold));
                let wire = wire_hold(hold);
                if !known && !preview.held.contains(&wire) {
                    preview.held.push(wire);
                }
            }
        }
    }

    /// What each environment gains or loses by what starts, or by what would start next in place of something else.
    fn gains(&self, tx: &mut Tx<'_>, after: &Picture, preview: &mut Preview) -> Result<(), StoreError> {
        for seen in &after.environments {
            let started = preview
                .starts
                .iter()
                .filter(|start| start.environment.as_ref() == Some(&seen.row.name))
                .filter_map(|start| start.bag)
                .next_back();
            let before = self.environments.iter().find(|before| before.row.id == seen.row.id);
            let next_changed = before.is_some_and(|before| before.next != seen.next);
            let Some(to) = started.or(seen.next.filter(|_| next_changed)) else { continue };
            let Some(row) = bags::bag_find(tx, seen.row.system, to)? else { continue };
            let packing = environments::environment_get(tx, row.environment)?;
            let from = match seen.current {
                Some(number) => bags::bag_find(tx, seen.row.system, number)?.map(|row| bag_of(&row)).transpose()?,
                None => None,
            };
            let services = service_changes(tx, &packing, from.as_ref(), &bag_of(&row)?)?;
            preview.changes.push(EnvironmentChange {
                system: seen.row.system_name.clone(),
                environment: seen.row.name.clone(),
                from: seen.current,
                to: Some(to),
                services,
            });
        }
        Ok(())
    }
}

/// What the next automatic pack of an environment would take; `None` where it cannot pack.
fn next_pack(tx: &mut Tx<'_>, environment: &EnvironmentRow) -> Result<Option<BTreeMap<String, Version>>, StoreError> {
    let Some(job) = jobs::job_find(tx, environment.pipeline, "pack-bag")? else { return Ok(None) };
    let Some(look) = look(tx, job.id)? else { return Ok(None) };
    if !look.view.inputs.holds.is_empty() {
        return Ok(None);
    }
    Ok(Some(look.inputs.into_iter().map(|input| (input.name, input.version.0)).collect()))
}

/// What started, each once.
fn starts(tx: &mut Tx<'_>, done: &[Done]) -> Result<Vec<Start>, StoreError> {
    let mut starts: Vec<Start> = Vec::new();
    for one in done {
        let Action::Start(build) = &one.action else { continue };
        let Some(row) = builds::build_get(tx, *build)? else { continue };
        let environment = environments::environment_of_pipeline(tx, row.pipeline)?;
        let role = match jobs::job_get(tx, one.job)? {
            Some(job) => crate::error::from_json::<holdall_engine::schedule::JobSpec>(&job.spec)?.role,
            None => None,
        };
        let bag = match role {
            Some(Role::Pack) => {
                builds::build_outputs(tx, row.id)?.into_iter().find_map(|(_, version)| bag_number(&version))
            }
            // It works with the bag that is live and brings none.
            Some(Role::Periodic) | None => None,
            Some(_) => builds::build_inputs(tx, row.id)?.into_iter().find_map(|input| bag_number(&input.version)),
        };
        let start = Start {
            system: environment.as_ref().map(|environment| environment.system_name.clone()),
            environment: environment.map(|environment| environment.name),
            bag: bag.filter(|_| role != Some(Role::Pack)),
            team: row.team,
            pipeline: row.pipeline_name,
            job: row.job_name,
        };
        if !starts.contains(&start) {
            starts.push(start);
        }
    }
    Ok(starts)
}

/// Whether a hold is of the whole environment, and ends when a person starts something there.
fn waits_for_a_person(hold: &Hold) -> bool {
    matches!(hold.code, Code::HeldAfterUnlock | Code::Restored | Code::PromotionManual)
}

fn how(holds: &[Hold]) -> HowDropped {
    for hold in holds {
        match hold.code {
            Code::BagDisabled => return HowDropped::Disabled,
            Code::RolledBackContent => return HowDropped::Suspect,
            Code::WithdrawnUpstream => return HowDropped::Withdrawn,
            Code::Frozen | Code::BagPinnedElsewhere => return HowDropped::Frozen,
            Code::HeldAfterUnlock | Code::Restored | Code::PromotionManual => return HowDropped::Held,
            Code::BagIncomplete => return HowDropped::Incomplete,
            Code::NotPassedUpstream => return HowDropped::NotPassed,
            _ => {}
        }
    }
    HowDropped::Superseded
}

/// A hold as the API gives it.
pub fn wire_hold(hold: &Hold) -> WireHold {
    WireHold {
        code: hold.code.as_str().to_owned(),
        sentence: hold.sentence.clone(),
        since: hold.since.map(|at| Time(at.0)),
        by: hold.by.clone(),
        until: hold.until.map(|at| Time(at.0)),
        command: hold.command.clone(),
    }
}

/// What stands for a preview: equal for equal contents.
pub(super) fn token(preview: &Preview) -> Result<String, StoreError> {
    let mut bare = preview.clone();
    bare.token = String::new();
    // Times move with the clock and are not what the preview is about.
    for hold in &mut bare.held {
        hold.since = None;
        hold.until = None;
    }
    Ok(hex(&Sha256::digest(json_text(&bare)?))[..24].to_owned())
}

/// The number of the deployment that a build made.
pub(super) fn deployment_of_build(tx: &mut Tx<'_>, build: i64) -> Result<Option<i64>, StoreError> {
    match builds::build_get(tx, BuildId(build))?.and_then(|row| row.deployment) {
        Some(id) => Ok(Some(environments::deployment_get(tx, id)?.number)),
        None => Ok(None),
    }
}
