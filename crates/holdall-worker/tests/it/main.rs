//! The worker against a server that only these tests have, with real processes.

mod server;
mod session;
mod shim;
mod support;
