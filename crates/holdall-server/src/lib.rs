//! The server: HTTP API, pages and duties over the store.
//!
//! What a person does is an act ([`acts`]); what the server does by itself is a duty ([`duty`]); what is shown is a
//! query. Each runs as one transaction of the store, with the engine's decision inside it.

pub mod acts;
pub mod api;
pub mod auth;
pub mod changes;
pub mod duty;
pub mod epoch;
pub mod error;
pub mod lifecycle;
mod login;
pub mod pipelines;
pub mod query;
pub mod release;
pub mod serve;
pub mod systems;
mod web;
pub mod webhook;
