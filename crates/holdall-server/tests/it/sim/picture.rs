//! What is in the database, as plain values: the rules look at pictures and at nothing else.

use std::collections::{BTreeMap, BTreeSet};

use holdall_engine::bag::Bag;
use holdall_engine::ids::{BuildId, DeploymentId, EnvironmentId, LockId};
use holdall_engine::status::BuildStatus;
use holdall_engine::version::Version;
use holdall_server::release::EnvironmentSpec;
use holdall_server::release::bags::{bag_number, bag_of, bag_version};
use holdall_store::audit::AuditRow;
use holdall_store::bags::{self, SuspectRow, TagRow};
use holdall_store::builds::{self, BuildRow};
use holdall_store::environments::{self, DeploymentRow, EnvironmentRow};
use holdall_store::locks::{self, HoldingRow, WaitRow};
use holdall_store::{StoreError, Tx, audit, jobs, resources, systems, versions};

/// An environment.
#[derive(Debug, Clone)]
pub struct Environment {
    pub row: EnvironmentRow,
    pub spec: EnvironmentSpec,
    /// The jobs of its pipeline.
    pub jobs: BTreeSet<String>,
    /// Newest last.
    pub deployments: Vec<DeploymentRow>,
    /// The bag that it is frozen at.
    pub frozen: Option<i64>,
    /// The bags that are unticked, and whether that withdraws them from the environments after this one.
    pub unticked: BTreeMap<i64, bool>,
    pub suspects: Vec<SuspectRow>,
}

/// A lock.
#[derive(Debug, Clone)]
pub struct Lock {
    pub name: String,
    pub holdings: Vec<HoldingRow>,
    pub queue: Vec<WaitRow>,
}

/// Everything that the rules look at.
#[derive(Debug, Clone, Default)]
pub struct Picture {
    /// Those that the file has.
    pub environments: BTreeMap<EnvironmentId, Environment>,
    pub bags: BTreeMap<i64, (EnvironmentId, Bag)>,
    /// Newest first.
    pub tags: Vec<TagRow>,
    pub locks: BTreeMap<LockId, Lock>,
    pub builds: BTreeMap<BuildId, BuildRow>,
    /// The bag that each build works with that has started.
    pub taken: BTreeMap<BuildId, i64>,
    /// The newest entry of the audit log.
    pub act: i64,
    /// What was written into it since the picture before.
    pub acts: Vec<AuditRow>,
}

impl Picture {
    /// Takes one after another.
    pub fn take(tx: &mut Tx<'_>, last: &Picture) -> Result<Picture, StoreError> {
        let mut picture = Picture::default();
        let Some(system) = systems::system_find(tx, "notify")? else { return Ok(picture) };
        for row in bags::bag_list(tx, system.id, None, 10_000)? {
            picture.bags.insert(row.number, (row.environment, bag_of(&row)?));
        }
        for row in environments::environment_list(tx, system.id)? {
            let mut deployments = environments::deployment_list(tx, row.id, 10_000)?;
            deployments.reverse();
            let mut environment = Environment {
                spec: EnvironmentSpec::of(&row)?,
                jobs: jobs::job_list(tx, row.pipeline)?.into_iter().map(|job| job.name).collect(),
                deployments,
                frozen: None,
                unticked: BTreeMap::new(),
                suspects: bags::suspect_list(tx, row.id)?,
                row,
            };
            if let Some(resource) = resources::resource_of_type(tx, environment.row.pipeline, "deployment-bag")? {
                environment.frozen = resource.pin.as_ref().and_then(|pin| bag_number(&pin.version));
                for row in versions::disabled_list(tx, resource.id)? {
                    let number = picture.bags.keys().find(|number| bag_version(**number).digest() == row.digest);
                    environment.unticked.insert(number.copied().unwrap_or(0), row.withdraws);
                }
            }
            picture.environments.insert(environment.row.id, environment);
        }
        picture.tags = bags::tag_list_of_bags(tx, system.id, 0, i64::MAX)?;
        for (id, name) in locks::lock_list(tx)? {
            let lock = Lock { name, holdings: locks::holding_list(tx, id)?, queue: locks::wait_list(tx, id)? };
            picture.locks.insert(id, lock);
        }
        picture.builds = builds::build_list(tx, None, 10_000)?.into_iter().map(|row| (row.id, row)).collect();
        for build in picture.builds.values().filter(|build| build.started_at.is_some()) {
            // What a build has started with does not change.
            let bag = match last.builds.get(&build.id).is_some_and(|then| then.started_at.is_some()) {
                true => last.taken.get(&build.id).copied(),
                false => builds::build_inputs(tx, build.id)?.iter().find_map(|input| bag_number(&input.version)),
            };
            picture.taken.extend(bag.map(|bag| (build.id, bag)));
        }
        picture.act = audit::audit_list(tx, None, None, 1)?.first().map_or(0, |row| row.id);
        if picture.act > last.act {
            picture.acts = audit::audit_list(tx, None, None, picture.act - last.act)?;
        }
        Ok(picture)
    }

    pub fn environment(&self, name: &str) -> Option<&Environment> {
        self.environments.values().find(|environment| environment.row.name == name)
    }

    pub fn deployment(&self, id: DeploymentId) -> Option<&DeploymentRow> {
        self.environments.values().flat_map(|environment| &environment.deployments).find(|row| row.id == id)
    }

    /// Whether a bag has the passed tag of an environment.
    pub fn has_passed(&self, bag: i64, environment: EnvironmentId) -> bool {
        self.tags.iter().any(|tag| tag.bag == bag && tag.environment == environment)
    }

    /// The names of the environments before one, however far.
    pub fn before(&self, name: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut open = vec![name.to_owned()];
        while let Some(name) = open.pop() {
            for before in self.environment(&name).map(|environment| environment.spec.after.clone()).unwrap_or_default()
            {
                if found.insert(before.clone()) {
                    open.push(before);
                }
            }
        }
        found
    }

    /// The names of the environments that a bag has to pass before it comes to one, that it has not passed.
    pub fn not_passed(&self, environment: &Environment, bag: i64) -> Vec<String> {
        let after = environment.spec.after.iter();
        after
            .filter(|name| self.environment(name).is_none_or(|before| !self.has_passed(bag, before.row.id)))
            .cloned()
            .collect()
    }

    /// Whether the bag was live in the environment at some time.
    pub fn was_live(&self, environment: &Environment, bag: i64) -> bool {
        environment.deployments.iter().any(|row| row.bag == bag && row.deployed_at.is_some())
    }

    /// Whether the bags of an environment are packed where this one was.
    pub fn belongs(&self, environment: &Environment, bag: i64) -> bool {
        let Some((packed, _)) = self.bags.get(&bag) else { return false };
        let mut line = self.before(&environment.row.name);
        line.insert(environment.row.name.clone());
        self.environments.get(packed).is_some_and(|packed| packed.spec.packs && line.contains(&packed.row.name))
    }

    /// Why a bag must not start in an environment by itself, whatever else is there; `None`: it may.
    pub fn is_held(&self, environment: &Environment, bag: i64) -> Option<String> {
        if let Some(frozen) = environment.frozen {
            return Some(format!("it is frozen at bag {frozen}"));
        }
        if environment.row.held.is_some() {
            return Some("it waits for a person after a force-unlock".to_owned());
        }
        if environment.spec.manual_promotion {
            return Some("only a person starts bags there".to_owned());
        }
        self.is_barred(environment, bag)
    }

    /// Why a bag must not start in an environment, also where a person starts it; `None`: it may.
    pub fn is_barred(&self, environment: &Environment, bag: i64) -> Option<String> {
        let Some((_, body)) = self.bags.get(&bag) else { return Some(format!("there is no bag {bag}")) };
        let not_passed = self.not_passed(environment, bag);
        if !not_passed.is_empty() && !self.was_live(environment, bag) {
            return Some(format!("the bag has not passed {not_passed:?}"));
        }
        match environment.frozen {
            Some(frozen) if frozen == bag => return None,
            Some(frozen) => return Some(format!("it is frozen at bag {frozen}")),
            None => {}
        }
        if environment.unticked.contains_key(&bag) {
            return Some("the bag is unticked there".to_owned());
        }
        if let Some(suspect) = environment.suspects.iter().find(|suspect| is_suspect(body, suspect)) {
            return Some(format!("{} at {} is suspect", suspect.service, suspect.version));
        }
        for name in self.before(&environment.row.name) {
            let Some(before) = self.environment(&name) else { continue };
            if before.unticked.get(&bag) == Some(&true) {
                return Some(format!("the bag was thrown out of {name}"));
            }
            if let Some(suspect) = before.suspects.iter().find(|one| !one.here_only && is_suspect(body, one)) {
                return Some(format!("{} at {} is suspect in {name}", suspect.service, suspect.version));
            }
        }
        None
    }

    /// The bags that may still come to an environment: they belong there, and none that is as new has started.
    pub fn candidates(&self, environment: &Environment) -> Vec<i64> {
        let starting = self.builds.values().filter(|build| {
            build.pipeline == environment.row.pipeline
                && build.job_name == "start-deploy"
                && build.status == BuildStatus::Started
        });
        let starting = starting.filter_map(|build| self.taken.get(&build.id).copied());
        let highest = environment.deployments.iter().map(|row| row.bag).chain(starting).max().unwrap_or(0);
        let above = self.bags.range(highest + 1..).map(|(number, _)| *number);
        above.filter(|bag| self.belongs(environment, *bag)).collect()
    }

    /// The bag that starts by itself next in an environment, when its lock is free.
    pub fn next(&self, environment: &Environment) -> Option<i64> {
        let candidates = self.candidates(environment).into_iter();
        let mut free = candidates.filter(|bag| self.is_held(environment, *bag).is_none());
        if environment.spec.queue { free.next() } else { free.next_back() }
    }

    /// The codes of everything that keeps a candidate from starting by itself.
    pub fn codes(&self, environment: &Environment, bag: i64) -> BTreeSet<&'static str> {
        let mut codes = BTreeSet::new();
        let Some((_, body)) = self.bags.get(&bag) else { return codes };
        let mut add = |code, holds: bool| {
            if holds {
                codes.insert(code);
            }
        };
        let before: Vec<&Environment> =
            self.before(&environment.row.name).iter().filter_map(|name| self.environment(name)).collect();
        let upstream = before.iter().flat_map(|before| &before.suspects).filter(|suspect| !suspect.here_only);
        let has_suspect = environment.suspects.iter().chain(upstream).any(|suspect| is_suspect(body, suspect));
        // A pin beats what throws its bag out.
        let pinned = environment.frozen == Some(bag);
        add("frozen", environment.frozen.is_some());
        add("bag-pinned-elsewhere", environment.frozen.is_some() && !pinned);
        add("bag-disabled", environment.unticked.contains_key(&bag) && !pinned);
        add("withdrawn-upstream", before.iter().any(|one| one.unticked.get(&bag) == Some(&true)) && !pinned);
        add("rolled-back-content", has_suspect && !pinned);
        add("not-passed-upstream", !self.not_passed(environment, bag).is_empty());
        add("bag-incomplete", environment.spec.needs.iter().any(|name| !body.services.contains_key(name)));
        add("held-after-unlock", environment.row.held.is_some());
        add("promotion-manual", environment.spec.manual_promotion);
        codes
    }

    /// The same in the words in which a preview says why a bag does not go somewhere.
    pub fn why_held(&self, environment: &Environment, bag: i64) -> BTreeSet<&'static str> {
        let word = |code| match code {
            "bag-disabled" => "disabled",
            "withdrawn-upstream" => "withdrawn",
            "rolled-back-content" => "suspect",
            "not-passed-upstream" => "not-passed",
            "bag-incomplete" => "incomplete",
            "held-after-unlock" | "promotion-manual" => "held",
            _ => "frozen",
        };
        self.codes(environment, bag).into_iter().map(word).collect()
    }

    /// Everything that an act may have changed, to compare two pictures.
    pub fn fingerprint(&self) -> String {
        let environments: Vec<String> = self
            .environments
            .values()
            .map(|environment| {
                format!(
                    "{} {} {:?} {:?} {:?} {:?} {} {:?}",
                    environment.row.name,
                    environment.row.spec,
                    environment.row.held,
                    environment.row.waiting,
                    environment.frozen,
                    environment.unticked,
                    environment.suspects.len(),
                    environment.deployments.last()
                )
            })
            .collect();
        format!(
            "{environments:?} {:?} {} {:?} {:?} {}",
            self.bags.keys().last(),
            self.tags.len(),
            self.locks,
            self.builds.values().filter(|build| !build.status.is_terminal()).collect::<Vec<_>>(),
            self.act
        )
    }
}

fn is_suspect(bag: &Bag, suspect: &SuspectRow) -> bool {
    bag.services.get(&suspect.service).is_some_and(|service| service.version == suspect.version)
}

/// The number that a pushed version ends with: `api-7`.
pub fn serial(version: &Version) -> Option<usize> {
    version.0.get("version")?.rsplit('-').next()?.parse().ok()
}
