//! The server over HTTP, on both databases, with a worker that the tests speak for.

mod access;
mod clocks;
mod durable;
mod flow;
mod history;
mod hostile;
mod release;
mod sim;
mod start;
mod streams;
mod support;
mod worker;
mod world;
