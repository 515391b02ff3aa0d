//! The report: what holds a job or a bag back, completely (release model, section 8).
//!
//! A [`Hold`] is made where the decision is made, by the same function, so the report cannot disagree with what
//! the scheduler does.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// One thing that holds something back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// What it is, stable over releases.
    pub code: Code,
    /// What it is, in a sentence.
    pub sentence: String,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Who did it, or who can lift it.
    pub by: Option<String>,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
    /// The command that lifts it.
    pub command: Option<String>,
}

impl Hold {
    /// A hold that only says what it is.
    pub fn new(code: Code, sentence: impl Into<String>) -> Hold {
        Hold { code, sentence: sentence.into(), since: None, by: None, until: None, command: None }
    }

    /// Since when.
    pub fn since(mut self, since: impl Into<Option<Timestamp>>) -> Hold {
        self.since = since.into();
        self
    }

    /// Who.
    pub fn by(mut self, by: impl Into<Option<String>>) -> Hold {
        self.by = by.into();
        self
    }

    /// Until when.
    pub fn until(mut self, until: impl Into<Option<Timestamp>>) -> Hold {
        self.until = until.into();
        self
    }

    /// What lifts it.
    pub fn command(mut self, command: impl Into<String>) -> Hold {
        self.command = Some(command.into());
        self
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What holds something back; scripts rely on the names.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Code {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
        }

        impl Code {
            /// The name as the API has it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Code::$name => $text,)*
                }
            }

            /// All codes.
            pub const ALL: &[Code] = &[$(Code::$name,)*];
        }
    };
}

codes! {
    /// The change is in no bag yet.
    NotPacked = "not-packed",
    /// The bag has not passed an environment before this one.
    NotPassedUpstream = "not-passed-upstream",
    /// A roll back in an environment before this one threw the bag out.
    WithdrawnUpstream = "withdrawn-upstream",
    /// A newer bag started first.
    Superseded = "superseded",
    /// The version is unticked.
    VersionDisabled = "version-disabled",
    /// Another version is pinned, or one that is not known.
    VersionPinned = "version-pinned",
    /// The bag is unticked here.
    BagDisabled = "bag-disabled",
    /// Another bag is pinned here.
    BagPinnedElsewhere = "bag-pinned-elsewhere",
    /// The bag lacks a service that the plan needs.
    BagIncomplete = "bag-incomplete",
    /// The resource has no version, or not the wanted one any more.
    NoVersion = "no-version",
    /// A job before has no successful build with the versions that fit together.
    PassedUnsatisfied = "passed-unsatisfied",
    /// Somebody holds the lock.
    LockHeld = "lock-held",
    /// Others wait for the lock before it.
    LockQueue = "lock-queue",
    /// After a force-unlock, a person must start the next deployment.
    HeldAfterUnlock = "held-after-unlock",
    /// People must approve.
    GateApproval = "gate-approval",
    /// The tag is too young.
    GateSoak = "gate-soak",
    /// Not at this time.
    GateWindow = "gate-window",
    /// The environment is frozen.
    Frozen = "frozen",
    /// The whole system is held.
    LineStopped = "line-stopped",
    /// The job is paused.
    JobPaused = "job-paused",
    /// The pipeline is paused.
    PipelinePaused = "pipeline-paused",
    /// As many builds of the job run as may.
    MaxInFlight = "max-in-flight",
    /// A job of the same serial group runs, or goes first.
    SerialGroup = "serial-group",
    /// No worker can take the step.
    NoWorker = "no-worker",
    /// The worker that has the step does not answer.
    WorkerLost = "worker-lost",
    /// Nobody knows how a deploy step ended.
    InDoubt = "in-doubt",
    /// The resource cannot be checked.
    CheckFailing = "check-failing",
    /// The resource is being checked.
    CheckPending = "check-pending",
    /// The deploy plan failed.
    DeployFailed = "deploy-failed",
    /// A suite failed.
    TestFailed = "test-failed",
    /// The bag holds a version that a roll back threw out.
    RolledBackContent = "rolled-back-content",
    /// The code does not work with the environment's schema.
    SchemaDowngrade = "schema-downgrade",
    /// The environment is between two bags.
    EnvironmentMixed = "environment-mixed",
    /// The system file changed.
    SystemChanged = "system-changed",
    /// The history was restored and a person must confirm.
    Restored = "restored",
    /// The environment starts only what a person starts (`promotion: manual`).
    PromotionManual = "promotion-manual",
}
