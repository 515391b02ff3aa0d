//! The server's core on both databases.

mod release;
mod world;
