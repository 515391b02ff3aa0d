//! The worker: its session with a server, the process runtime, and the resource types that touch the world.
//!
//! - [`shim`]: the small process around each step that owns its processes, keeps its output and records its end
//! - [`output`]: the file that the shim writes and the session follows
//! - [`runtime`]: a step's folder, what goes into it and what comes out of it
//! - [`resource`]: the built-in resource types that touch the world, as processes of their own
//! - [`session`]: talks to the server; one thread asks for orders, one reports

pub mod output;
mod process;
pub mod resource;
pub mod runtime;
pub mod session;
pub mod shim;

pub use resource::resource_main;
pub use session::{Worker, WorkerConfig};
pub use shim::{shim_main, shim_main_with};
