//! Tests of the binary `holdall`: each runs the real one, in a folder of its own.

mod backup;
mod client;
mod client_acts;
mod client_admin;
mod client_builds;
mod client_locks;
mod client_terminal;
mod database_away;
mod demo_apply;
mod demo_services;
mod demo_world;
mod fake;
mod flow;
mod help;
mod inside_worker;
mod kills;
mod limits;
mod real;
mod resolve;
mod terraform_abort;
