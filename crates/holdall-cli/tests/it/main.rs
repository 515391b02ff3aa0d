//! Tests of the binary `holdall`: each runs the real one, in a folder of its own.

mod demo_apply;
mod demo_services;
mod demo_world;
