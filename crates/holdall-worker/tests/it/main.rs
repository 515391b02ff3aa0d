//! The worker against a server that only these tests have, with real processes; the resource types on real repositories.

mod limits;
mod resource_git;
mod resource_http;
mod resource_images;
mod resource_mock;
mod resource_registry_hostile;
mod resource_registry_image;
mod resource_world;
mod runtime;
mod server;
mod session;
mod shim;
mod small_disk;
mod support;
