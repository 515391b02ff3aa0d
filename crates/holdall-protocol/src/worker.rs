//! The session between a worker and a server. The worker dials out over HTTP; every message may be sent twice.
//!
//! | request | meaning |
//! |---|---|
//! | `POST /api/holdall/v1/worker/hello` [`Hello`] -> [`Welcome`] | (re)starts the session, says what is still held |
//! | `POST /api/holdall/v1/worker/poll` [`Poll`] -> [`Orders`] | waits (at most [`POLL_SECONDS`]) for something to do |
//! | `POST /api/holdall/v1/worker/report` [`Report`] -> [`ReportAnswer`] | what happened to attempts, in order |
//!
//! An **attempt** is one try to run one step once. Its fence only grows per step; a report with a fence that is
//! not the current one is refused, so that a worker that was believed lost cannot write over what came after.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How long a poll may wait for orders.
pub const POLL_SECONDS: u64 = 30;

/// The first message of a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The worker's name, stable over restarts.
    pub name: String,
    /// Changes with each start of the process: an older session of the same name is ended.
    pub session: String,
    /// `linux`.
    pub platform: String,
    /// Only steps with one of these tags; empty: steps without tags.
    pub tags: Vec<String>,
    /// Only this team's steps; `None`: everyone's.
    pub team: Option<String>,
    /// How many steps at once.
    pub slots: u32,
    /// Version of `holdall`.
    pub version: String,
    /// Attempts that the worker still has on its disk, with how far their output was reported.
    pub attempts: Vec<HeldAttempt>,
    /// Builds of which it has artifacts; there may be more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub builds: Vec<i64>,
    /// The farthest history that it was told of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
    /// Why it may have begun attempts that it does not name, where it may. It says so until it has had a [`Welcome`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgot: Option<Forgot>,
}

/// Why a worker does not know of every attempt that it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forgot {
    /// Its work folder is new. One of the same name may have had another.
    NewFolder,
    /// Its machine was started anew: what it wrote last may never have reached the disk.
    Restart,
}

/// How far the history of a server goes, as its workers remember it: a database that ends before is not what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Tells the server's installation from others; it survives a restore.
    pub installation: String,
    /// The newest build's id.
    pub builds: i64,
    /// The newest act's place in the audit log.
    pub acts: i64,
}

/// An attempt that a restarted worker found on its disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldAttempt {
    /// Its id.
    pub attempt: String,
    /// Its fence.
    pub fence: i64,
}

/// The answer to [`Hello`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Welcome {
    /// For each held attempt that is still wanted, how many bytes of its output the server has: reporting goes on
    /// from there. Attempts that are not named are to be stopped and removed.
    pub resume: BTreeMap<String, u64>,
    /// Those of the named builds that have ended: their artifacts can go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forget_builds: Vec<i64>,
    /// How far the history goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
}

/// Asks for something to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Poll {
    /// The worker.
    pub name: String,
    /// Its session.
    pub session: String,
    /// Steps it can take now.
    pub free_slots: u32,
    /// Attempts it has: orders about others are not for it.
    pub running: Vec<String>,
}

/// What a worker is to do.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Orders {
    /// Attempts to start. Starting one twice is the same as once.
    pub start: Vec<Assignment>,
    /// Attempts to stop.
    pub stop: Vec<StopOrder>,
    /// Attempts that have been reported as finished and whose folders can go.
    pub forget: Vec<String>,
    /// Builds that have ended: their artifacts can go.
    pub forget_builds: Vec<i64>,
    /// Checks to make; at most once each, their result is reported.
    pub checks: Vec<CheckOrder>,
    /// How far the history goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
}

/// One attempt of one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// Unique for ever.
    pub attempt: String,
    /// Fencing token.
    pub fence: i64,
    /// The build.
    pub build: i64,
    /// The step's id in the build's plan.
    pub step: String,
    /// The step's name, for messages.
    pub name: String,
    /// What to do.
    pub spec: StepSpec,
    /// How it is stopped.
    pub stop: StopPolicy,
    /// Its process may take this long.
    pub timeout_seconds: Option<f64>,
}

/// How a step's process group is stopped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StopPolicy {
    /// `TERM`, `INT`, `HUP`, `QUIT`, `USR1` or `USR2`; sent once.
    pub signal: String,
    /// How long it has before KILL.
    pub grace_seconds: f64,
}

impl Default for StopPolicy {
    /// The reference's: TERM, then 10 seconds (section 4.5).
    fn default() -> StopPolicy {
        StopPolicy { signal: "TERM".to_owned(), grace_seconds: 10.0 }
    }
}

/// What a step does on a worker. Artifacts are named within the build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StepSpec {
    /// Fetches a version into an artifact.
    Get {
        /// A built-in type.
        resource_type: String,
        /// Its source, vars resolved.
        source: Value,
        /// For `in`.
        params: Value,
        /// What to fetch.
        version: BTreeMap<String, String>,
        /// The artifact that it becomes.
        artifact: String,
        /// Environment of the resource (reference, section 2.3).
        env: BTreeMap<String, String>,
    },
    /// Pushes a version.
    Put {
        /// A built-in type.
        resource_type: String,
        /// Its source, vars resolved.
        source: Value,
        /// For `out`.
        params: Value,
        /// Artifacts that it sees, by name. An artifact that is not there is an error only with `inputs_required`.
        inputs: PutArtifacts,
        /// Environment of the resource (reference, section 2.3).
        env: BTreeMap<String, String>,
    },
    /// Runs a process.
    Task {
        /// The task's configuration as text (JSON is YAML), or `None` where `file` says where it is.
        config: Option<String>,
        /// `artifact/path.yml`.
        file: Option<String>,
        /// Vars for the file (reference, section 1.8).
        vars: Value,
        /// Over the configuration's params; values as written.
        params: Value,
        /// Given to the process besides the params, `HOLDALL_*` among them.
        env: BTreeMap<String, String>,
        /// Task input to artifact.
        input_mapping: BTreeMap<String, String>,
        /// Task output to artifact.
        output_mapping: BTreeMap<String, String>,
        /// What the step's caches are kept under: the job and the step's name. `None`: no caches.
        cache_key: Option<String>,
        /// The artifact that was named as image, if any; not used by the process runtime.
        image: Option<String>,
    },
    /// Makes artifacts of files that the server has.
    Files {
        /// The artifacts, all with the same files.
        artifacts: Vec<String>,
        /// Path to contents.
        files: BTreeMap<String, String>,
    },
}

/// Which artifacts a put sees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PutArtifacts {
    /// All of the build's.
    All,
    /// Those of these names that there are.
    Detected(Vec<String>),
    /// Those of these names; a missing one is an error.
    Named(Vec<String>),
}

/// Stops an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StopOrder {
    /// Which.
    pub attempt: String,
    /// Its fence.
    pub fence: i64,
    /// Why; the process's end is reported as [`Ending::Stopped`] either way.
    pub reason: StopReason,
}

/// Why an attempt is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The build was aborted.
    Abort,
    /// A `timeout` around it, or a `fail_fast`, wants it ended.
    Cancel,
}

/// A check of one (type, source), for everyone who shares it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckOrder {
    /// Unique for ever.
    pub check: String,
    /// A built-in type.
    pub resource_type: String,
    /// Its source, vars resolved.
    pub source: Value,
    /// The newest known version.
    pub version: Option<BTreeMap<String, String>>,
    /// How long it may take.
    pub timeout_seconds: f64,
}

/// What happened, in the order in which it happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The worker.
    pub name: String,
    /// Its session.
    pub session: String,
    /// The facts.
    pub facts: Vec<Fact>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    /// The attempt's process runs.
    Started {
        /// Which attempt.
        attempt: String,
        /// Its fence.
        fence: i64,
        /// Microseconds since 1970.
        at: i64,
    },
    /// Output of an attempt.
    Output {
        /// Which attempt.
        attempt: String,
        /// Its fence.
        fence: i64,
        /// Where these bytes begin in the attempt's whole output (both streams together). Bytes that the server
        /// has already are ignored.
        offset: u64,
        /// When they were read, microseconds since 1970.
        at: i64,
        /// Which stream.
        stream: Stream,
        /// The bytes; base64 on the wire.
        #[serde(with = "base64_bytes")]
        bytes: Vec<u8>,
    },
    /// The attempt ended and all of its output was reported before this.
    Finished {
        /// Which attempt.
        attempt: String,
        /// Its fence.
        fence: i64,
        /// Microseconds since 1970.
        at: i64,
        /// How.
        ending: Ending,
    },
    /// A check ended.
    Checked {
        /// Which.
        check: String,
        /// Microseconds since 1970.
        at: i64,
        /// Versions, oldest first, or what went wrong.
        result: Result<Vec<BTreeMap<String, String>>, String>,
        /// What the type says of each version, in the same order; may be shorter.
        #[serde(default)]
        metadata: Vec<Vec<MetadataField>>,
    },
}

impl Fact {
    /// The attempt or the check that it is about.
    pub fn subject(&self) -> &str {
        match self {
            Fact::Started { attempt, .. } | Fact::Output { attempt, .. } | Fact::Finished { attempt, .. } => attempt,
            Fact::Checked { check, .. } => check,
        }
    }
}

/// Bytes in JSON.
mod base64_bytes {
    use std::fmt;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::de::{Deserializer, Error, Visitor};
    use serde::ser::Serializer;

    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        from.deserialize_str(Base64)
    }

    struct Base64;

    impl Visitor<'_> for Base64 {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes in base64")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Vec<u8>, E> {
            STANDARD.decode(text).map_err(|error| E::custom(format_args!("not base64: {error}")))
        }
    }
}

/// Which stream of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How an attempt ended: the whole space.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ending", rename_all = "snake_case")]
pub enum Ending {
    /// The process exited by itself.
    Exited {
        /// Its exit status.
        status: i32,
        /// What a get or a put gave on its standard output.
        result: Option<ResourceResult>,
        /// The artifacts that exist now because of it.
        artifacts: Vec<String>,
    },
    /// A signal that Holdall did not send ended it.
    Signalled {
        /// The signal's number.
        signal: i32,
    },
    /// Its own time limit ended it.
    TimedOut,
    /// It was stopped because the server said so.
    Stopped {
        /// Whether it had to be killed after the grace.
        killed: bool,
    },
    /// It never ran, or its result cannot be read.
    CouldNotRun {
        /// Why: a sentence with the remedy.
        message: String,
    },
    /// Its shim is gone and left no record of the end: nobody knows.
    Lost {
        /// What is known.
        message: String,
    },
}

/// What `in` and `out` print (reference, section 2.1).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ResourceResult {
    /// The version.
    pub version: BTreeMap<String, String>,
    /// For people.
    pub metadata: Vec<MetadataField>,
}

/// One line of metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataField {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// The answer to [`Report`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ReportAnswer {
    /// Attempts whose fence is old or that nobody wants any more: to be stopped and removed.
    pub refused: Vec<String>,
    /// Attempts and checks of which the server took nothing, because what it has of them is damaged. They go on as if
    /// nothing had been reported, and are reported again after a pause that grows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub later: Vec<String>,
}
