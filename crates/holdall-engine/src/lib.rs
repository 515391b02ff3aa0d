//! The pure core of Holdall: domain types, input resolution, scheduling, plan walking and the release model.
//!
//! Nothing here does input or output, reads a clock, or draws a random number: every function takes what it
//! needs and gives a decision back as data. `holdall-server` turns decisions into writes.

pub mod bag;
pub mod ids;
pub mod pipeline;
pub mod resolve;
pub mod plan;
pub mod run;
pub mod status;
pub mod time;
pub mod version;
