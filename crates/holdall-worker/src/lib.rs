//! The worker: its session with a server, the process runtime, and the resource types that touch the world.
