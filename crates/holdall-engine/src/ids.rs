//! Identifiers: one type per thing that has one, so that a build's id cannot be passed for a job's.

use serde::{Deserialize, Serialize};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

ids! {
    /// A team: who owns pipelines and workers. An environment has one of its own.
    TeamId;
    /// A pipeline of a team.
    PipelineId;
    /// A job of a pipeline; survives renames, so that history keeps vouching.
    JobId;
    /// A resource of a pipeline.
    ResourceId;
    /// The shared list of versions of one (type, source), however many resources point at it.
    ScopeId;
    /// A build, unique over the whole installation.
    BuildId;
    /// A system: everything that is released together.
    SystemId;
    /// An environment of a system.
    EnvironmentId;
    /// A deployment: one attempt to put one bag into one environment.
    DeploymentId;
    /// A lock; one per environment name.
    LockId;
}
