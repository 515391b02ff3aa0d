//! Text in, typed model and all diagnostics out, with positions: pipelines, tasks, systems, variables.
//!
//! Every parser here reports *all* mistakes of a file at once, each as a [`diagnostic::Diagnostic`] with line, column
//! and path, and gives a value only when there was none.

pub mod diagnostic;
pub mod duration;
pub mod glob;
pub mod pipeline;
pub mod system;
pub mod task;
pub mod vars;
pub mod yaml;
