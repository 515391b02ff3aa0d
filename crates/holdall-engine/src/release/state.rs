//! The states of environments and bags, derived from what happened and never stored (release model, section 11).

use serde::{Deserialize, Serialize};

/// The state of an environment: the first that applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EnvironmentState {
    /// Nobody knows how a deploy step ended.
    InDoubt,
    /// A deploy plan runs, or is about to.
    Deploying,
    /// Suites run, or are about to.
    Testing,
    /// A deploy began and did not succeed: parts of two bags are live.
    Mixed,
    /// The deployment that holds the lock has failed.
    Failed,
    /// A bag waits, or the environment waits for a person.
    Waiting,
    /// Frozen.
    Frozen,
    /// Nothing to do.
    Idle,
}

/// What the state of an environment is derived from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EnvironmentFacts {
    /// The deployment that has not ended is in doubt.
    pub in_doubt: bool,
    /// There is a deployment that has not ended.
    pub open: bool,
    /// Its deploy plan has succeeded.
    pub deployed: bool,
    /// A job of it failed, was aborted or errored last.
    pub failed: bool,
    /// A job of it runs or is pending.
    pub working: bool,
    /// The last deploy that began did not succeed, and is not working.
    pub mixed: bool,
    /// A bag waits to start here, or a person has to let the next one start.
    pub waiting: bool,
    /// The bag is pinned.
    pub frozen: bool,
}

/// The state that follows from the facts.
pub fn environment_state(facts: EnvironmentFacts) -> EnvironmentState {
    let working = facts.open && (facts.working || !facts.failed);
    if facts.in_doubt {
        EnvironmentState::InDoubt
    } else if working && !facts.deployed {
        EnvironmentState::Deploying
    } else if working {
        EnvironmentState::Testing
    } else if facts.mixed {
        EnvironmentState::Mixed
    } else if facts.open {
        EnvironmentState::Failed
    } else if facts.waiting {
        EnvironmentState::Waiting
    } else if facts.frozen {
        EnvironmentState::Frozen
    } else {
        EnvironmentState::Idle
    }
}

impl EnvironmentState {
    /// The name as the API has it.
    pub fn as_str(self) -> &'static str {
        match self {
            EnvironmentState::InDoubt => "in-doubt",
            EnvironmentState::Deploying => "deploying",
            EnvironmentState::Testing => "testing",
            EnvironmentState::Mixed => "mixed",
            EnvironmentState::Failed => "failed",
            EnvironmentState::Waiting => "waiting",
            EnvironmentState::Frozen => "frozen",
            EnvironmentState::Idle => "idle",
        }
    }
}

/// The state of a bag in an environment: the first that applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BagState {
    /// Its deploy plan runs, or is about to.
    Deploying,
    /// Its suites run, or are about to.
    Testing,
    /// Its deployment holds the lock and has failed.
    Failed,
    /// It is live.
    Current,
    /// Unticked here.
    Disabled,
    /// It was live.
    Previous,
    /// Something holds it back that a person can lift.
    Held,
    /// It will start when the lock comes free.
    Waiting,
    /// A newer one started first.
    Superseded,
    /// It has not passed what comes before.
    NotEligible,
}

impl BagState {
    /// The name as the API has it.
    pub fn as_str(self) -> &'static str {
        match self {
            BagState::Deploying => "deploying",
            BagState::Testing => "testing",
            BagState::Failed => "failed",
            BagState::Current => "current",
            BagState::Disabled => "disabled",
            BagState::Previous => "previous",
            BagState::Held => "held",
            BagState::Waiting => "waiting",
            BagState::Superseded => "superseded",
            BagState::NotEligible => "not-eligible",
        }
    }
}

/// What the state of a bag in an environment is derived from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BagFacts {
    /// Its deployment has not ended.
    pub open: bool,
    /// That deployment's deploy plan has succeeded.
    pub deployed: bool,
    /// A job of that deployment failed last, and none works.
    pub failed: bool,
    /// It is current.
    pub current: bool,
    /// It is unticked.
    pub disabled: bool,
    /// Its deploy succeeded here before.
    pub was_live: bool,
    /// It has not passed what comes before, or does not belong here.
    pub not_eligible: bool,
    /// A newer one started first.
    pub superseded: bool,
    /// Something else keeps it from starting.
    pub held: bool,
}

/// The state that follows from the facts.
pub fn bag_state(facts: BagFacts) -> BagState {
    if facts.open && facts.failed {
        BagState::Failed
    } else if facts.open && !facts.deployed {
        BagState::Deploying
    } else if facts.open {
        BagState::Testing
    } else if facts.current {
        BagState::Current
    } else if facts.disabled {
        BagState::Disabled
    } else if facts.was_live {
        BagState::Previous
    } else if facts.not_eligible {
        BagState::NotEligible
    } else if facts.superseded {
        BagState::Superseded
    } else if facts.held {
        BagState::Held
    } else {
        BagState::Waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_state_that_applies_is_the_environments() {
        let open = EnvironmentFacts { open: true, ..EnvironmentFacts::default() };
        let cases = [
            (EnvironmentFacts::default(), "idle"),
            (EnvironmentFacts { frozen: true, ..EnvironmentFacts::default() }, "frozen"),
            (EnvironmentFacts { frozen: true, waiting: true, ..EnvironmentFacts::default() }, "waiting"),
            (open, "deploying"),
            (EnvironmentFacts { deployed: true, ..open }, "testing"),
            (EnvironmentFacts { failed: true, mixed: true, ..open }, "mixed"),
            (EnvironmentFacts { failed: true, deployed: true, ..open }, "failed"),
            (EnvironmentFacts { failed: true, deployed: true, working: true, ..open }, "testing"),
            (EnvironmentFacts { in_doubt: true, failed: true, mixed: true, ..open }, "in-doubt"),
        ];
        for (facts, expected) in cases {
            assert_eq!(environment_state(facts).as_str(), expected, "{facts:?}");
        }
    }

    #[test]
    fn the_first_state_that_applies_is_the_bags() {
        let cases = [
            (BagFacts::default(), "waiting"),
            (BagFacts { open: true, ..BagFacts::default() }, "deploying"),
            (BagFacts { open: true, deployed: true, current: true, ..BagFacts::default() }, "testing"),
            (BagFacts { open: true, failed: true, ..BagFacts::default() }, "failed"),
            (BagFacts { current: true, disabled: true, ..BagFacts::default() }, "current"),
            (BagFacts { was_live: true, disabled: true, ..BagFacts::default() }, "disabled"),
            (BagFacts { was_live: true, superseded: true, ..BagFacts::default() }, "previous"),
            (BagFacts { not_eligible: true, superseded: true, ..BagFacts::default() }, "not-eligible"),
            (BagFacts { superseded: true, held: true, ..BagFacts::default() }, "superseded"),
            (BagFacts { held: true, ..BagFacts::default() }, "held"),
        ];
        for (facts, expected) in cases {
            assert_eq!(bag_state(facts).as_str(), expected, "{facts:?}");
        }
    }
}
