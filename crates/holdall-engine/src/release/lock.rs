//! Who gets a lock (release model, section 5).

use crate::ids::{BuildId, DeploymentId};
use crate::plan::LockMode;
use crate::report::{Code, Hold};
use crate::time::Timestamp;

/// A lock as the decision sees it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LockView {
    /// Its name: the environment's.
    pub name: String,
    /// Who holds it, oldest first.
    pub holders: Vec<Holder>,
    /// Who waits for it, in the order in which they came.
    pub queue: Vec<Waiter>,
}

/// One who holds a lock.
#[derive(Debug, Clone, PartialEq)]
pub struct Holder {
    /// `deployment`, `person` or `pipeline`.
    pub kind: String,
    /// For people: `deployment 57 of bag 42`, `ann`.
    pub name: String,
    /// Whether others may hold it too.
    pub shared: bool,
    /// Why.
    pub reason: Option<String>,
    /// Since when.
    pub since: Timestamp,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
    /// The build that took it.
    pub build: Option<BuildId>,
    /// The deployment that has it.
    pub deployment: Option<DeploymentId>,
    /// What went wrong with that deployment, if something did: then nothing happens by itself any more.
    pub trouble: Option<Trouble>,
}

/// What went wrong with the deployment that holds a lock.
#[derive(Debug, Clone, PartialEq)]
pub struct Trouble {
    /// `deploy-failed`, `test-failed`, `in-doubt` or `worker-lost`.
    pub code: Code,
    /// The job and build that show it: `deploy 12`.
    pub place: String,
    /// The id of that build.
    pub build: BuildId,
    /// Since when.
    pub since: Option<Timestamp>,
}

/// One who waits for a lock.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiter {
    /// The queue's row.
    pub id: i64,
    /// `deployment`, `person` or `pipeline`.
    pub kind: String,
    /// For people.
    pub name: String,
    /// Whether it would share.
    pub shared: bool,
    /// Since when.
    pub since: Timestamp,
    /// The build that waits.
    pub build: Option<BuildId>,
}

/// Who asks for a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// A build that waits, or comes new.
    Build(BuildId),
    /// A place in the queue.
    Place(i64),
    /// A person who comes new.
    New,
}

/// What stands between the asker and the lock: nothing, or the holders and those who wait before it.
///
/// `shared` askers get along with shared holders, but not past an exclusive waiter who came first (rule 10).
/// `first_in_line`: a hand-over, which no waiter comes before.
pub fn obstacles(lock: &LockView, asker: Asker, shared: bool, first_in_line: bool) -> Vec<Hold> {
    let mut holds = Vec::new();
    for holder in &lock.holders {
        if shared && holder.shared {
            continue;
        }
        holds.push(held_by(&lock.name, holder));
        if let Some(trouble) = &holder.trouble {
            holds.push(trouble_hold(&lock.name, holder, trouble));
        }
    }
    if first_in_line {
        return holds;
    }
    for waiter in &lock.queue {
        let mine = match asker {
            Asker::Build(build) => waiter.build == Some(build),
            Asker::Place(id) => waiter.id == id,
            Asker::New => false,
        };
        if mine {
            break;
        }
        if shared && waiter.shared {
            continue;
        }
        holds.push(
            Hold::new(Code::LockQueue, format!("{} waits for the lock of {} before it", waiter.name, lock.name))
                .since(waiter.since)
                .by(waiter.name.clone()),
        );
    }
    holds
}

/// A job with `require` runs only while its own deployment holds the lock (rules 3 to 5).
pub fn required(lock: &LockView, deployment: Option<DeploymentId>) -> Vec<Hold> {
    let holds_it = deployment.is_some() && lock.holders.iter().any(|holder| holder.deployment == deployment);
    if holds_it {
        return Vec::new();
    }
    match lock.holders.first() {
        Some(holder) => vec![held_by(&lock.name, holder)],
        None => vec![
            Hold::new(Code::LockHeld, format!("no deployment holds the lock of {} now", lock.name))
                .command(format!("holdall deploy {} --bag N", lock.name)),
        ],
    }
}

fn held_by(lock: &str, holder: &Holder) -> Hold {
    let why = holder.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let hold = Hold::new(Code::LockHeld, format!("{} holds the lock of {lock}{why}", holder.name))
        .since(holder.since)
        .by(holder.name.clone())
        .until(holder.until);
    match (holder.kind.as_str(), &holder.trouble) {
        ("person", _) => hold.command(format!("holdall lock release {lock}")),
        (_, Some(_)) => hold.command(format!("holdall lock force-unlock {lock} --reason \"...\"")),
        _ => hold,
    }
}

fn trouble_hold(lock: &str, holder: &Holder, trouble: &Trouble) -> Hold {
    let (what, command) = match trouble.code {
        Code::InDoubt => (
            format!("nobody knows how {} ended: look at the environment, then say what is true", trouble.place),
            format!("holdall lock force-unlock {lock} --worker-is-dead --reason \"...\""),
        ),
        Code::TestFailed => (
            format!(
                "{} failed: retry it alone, fix forward (holdall deploy {lock} --bag N --take-over --reason \"...\"), or \
                 roll back (holdall rollback {lock} --reason \"...\")",
                trouble.place
            ),
            format!("holdall build rerun {}", trouble.build),
        ),
        _ => (
            format!(
                "{} failed: retry it (holdall build rerun {}), fix forward (holdall deploy {lock} --bag N \
                 --take-over --reason \"...\"), or roll back",
                trouble.place, trouble.build
            ),
            format!("holdall rollback {lock} --suspect all --reason \"...\""),
        ),
    };
    Hold::new(trouble.code, what).since(trouble.since).by(holder.name.clone()).command(command)
}

/// Whether a mode shares.
pub fn is_shared(mode: LockMode) -> bool {
    matches!(mode, LockMode::During { shared: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(shared: bool) -> Holder {
        Holder {
            kind: "person".into(),
            name: "ann".into(),
            shared,
            reason: Some("load test".into()),
            since: Timestamp(1),
            until: None,
            build: None,
            deployment: None,
            trouble: None,
        }
    }

    fn waiter(id: i64, build: Option<i64>, shared: bool) -> Waiter {
        Waiter {
            id,
            kind: "deployment".into(),
            name: format!("waiter {id}"),
            shared,
            since: Timestamp(id),
            build: build.map(BuildId),
        }
    }

    fn codes(holds: &[Hold]) -> Vec<&'static str> {
        holds.iter().map(|hold| hold.code.as_str()).collect()
    }

    #[test]
    fn a_free_lock_without_a_queue_is_anyones() {
        let lock = LockView { name: "staging".into(), ..LockView::default() };
        assert!(obstacles(&lock, Asker::New, false, false).is_empty());
    }

    #[test]
    fn holders_and_earlier_waiters_stand_before_a_build_and_later_ones_do_not() {
        let lock = LockView {
            name: "staging".into(),
            holders: vec![holder(false)],
            queue: vec![waiter(1, None, false), waiter(2, Some(7), false), waiter(3, Some(8), false)],
        };
        assert_eq!(codes(&obstacles(&lock, Asker::Build(BuildId(7)), false, false)), ["lock-held", "lock-queue"]);
        assert_eq!(codes(&obstacles(&lock, Asker::Place(1), false, false)), ["lock-held"]);
        assert_eq!(codes(&obstacles(&lock, Asker::Build(BuildId(9)), false, true)), ["lock-held"]);
    }

    #[test]
    fn shared_holders_get_along_but_do_not_pass_an_exclusive_waiter() {
        let mut lock = LockView { name: "staging".into(), holders: vec![holder(true)], queue: vec![] };
        assert!(obstacles(&lock, Asker::New, true, false).is_empty());
        assert_eq!(codes(&obstacles(&lock, Asker::New, false, false)), ["lock-held"]);
        lock.queue.push(waiter(1, None, false));
        assert_eq!(codes(&obstacles(&lock, Asker::New, true, false)), ["lock-queue"]);
    }

    #[test]
    fn a_job_runs_only_while_its_own_deployment_holds_the_lock() {
        let mut mine = holder(false);
        mine.deployment = Some(DeploymentId(3));
        let lock = LockView { name: "staging".into(), holders: vec![mine], queue: vec![] };
        assert!(required(&lock, Some(DeploymentId(3))).is_empty());
        assert_eq!(codes(&required(&lock, Some(DeploymentId(2)))), ["lock-held"]);
        assert_eq!(codes(&required(&lock, None)), ["lock-held"]);
    }
}
