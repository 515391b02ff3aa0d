//! The pure core of Holdall: domain types, input resolution, scheduling, plan walking and the release model.
//!
//! Nothing here does input or output, reads a clock, or draws a random number: every function takes what it
//! needs and gives a decision back as data. `holdall-server` turns decisions into writes.

pub mod bag;
pub mod ids;
pub mod pipeline;
pub mod plan;
pub mod release;
pub mod report;
pub mod resolve;
pub mod run;
pub mod schedule;
pub mod status;
pub mod time;
pub mod version;
