//! Input resolution: which version each input of a job gets, or why it gets none (reference, part 3).
//!
//! - [`history`]: the questions that are asked about the past.

pub mod history;

pub use history::{
    BuildOrder, BuildPage, Direction, History, KnownVersion, Output, SucceededBuild, Used, VersionState,
    successful_outputs,
};
