//! One store over SQLite and PostgreSQL, with the same SQL text for both.
//!
//! Work is a closure over a [`Tx`]: [`Store::write`] runs closures one after the other, so a decision and its
//! writes are one transaction and nothing slips between; [`Store::read`] runs them side by side on a snapshot.
//! The modules hold the statements by subject. No decision is made here: the engine decides, duties apply.

pub mod access;
pub mod attempts;
pub mod audit;
pub mod backup;
pub mod bags;
pub mod builds;
pub mod checks;
mod connection;
mod dialect;
pub mod environments;
pub mod epoch;
mod error;
pub mod events;
pub mod history;
pub mod jobs;
pub mod locks;
pub mod pipelines;
mod queue;
pub mod resources;
pub mod schema;
mod signals;
mod store;
pub mod systems;
pub mod testing;
mod value;
pub mod versions;
pub mod workers;
mod writer;

pub use connection::Tx;
pub use error::StoreError;
pub use signals::{Signal, Signals};
pub use store::{Database, Store};
pub use value::{FromValue, Row, Value};
