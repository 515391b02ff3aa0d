//! The server over HTTP, on both databases, with a worker that the tests speak for.

mod access;
mod clocks;
mod durable;
mod effort;
mod flow;
mod freshness;
mod groups;
mod hand_overs;
mod history;
mod hostile;
mod locks;
mod loss;
mod names;
mod puts;
mod refusals;
mod release;
mod renames;
mod sim;
#[path = "../../../holdall-worker/tests/it/small_disk.rs"]
mod small_disk;
mod start;
mod streams;
mod support;
mod tables;
mod unresolved;
mod why;
mod worker;
mod world;
