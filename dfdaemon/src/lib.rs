//! Damselfly's node daemon: the mirror that a node's container runtimes pull through, and what stands behind it.
//!
//! A library so that tests, benchmarks and the demo can run it inside themselves; `program` only reads the configuration.

mod answers;
pub mod app;
pub mod config;
mod config_file;
pub mod config_flags;
mod config_merge;
pub mod engine;
mod joining;
mod lasting;
mod link;
mod preheat;
pub mod program;
pub mod proxy;
mod registry;
mod reload;
mod standing;
mod status;
pub mod traffic;
mod trust;
mod upload;
