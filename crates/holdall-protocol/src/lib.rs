//! What leaves the process: the messages between server and worker, and the API's bodies.
//!
//! These types know nothing of the engine's; they are converted by hand where they meet, so that a change of a
//! domain type never changes what is on the wire by accident.

pub mod api;
pub mod worker;
