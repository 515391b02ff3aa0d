//! Systems: from the system file to [`System`], and on to one ordinary pipeline for each environment (release model,
//! sections 2 to 5).
//!
//! [`parse()`] reports every mistake of a file at once; [`compile()`] cannot fail on what it accepted. [`diff()`] says what
//! one file changes about another.

mod compile;
mod diff;
mod model;
mod parse;
mod schema;

pub use compile::{CompiledEnvironment, compile};
pub use diff::{EnvironmentDiff, SystemDiff, diff, pipeline_diff};
pub use model::{
    DeployJob, Environment, Override, Periodic, Plan, Promotion, Service, Stop, Suite, Superseding, System,
};
pub use parse::parse;
pub use schema::schema;
