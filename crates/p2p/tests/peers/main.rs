//! Peers on loopback: what they exchange, whom they refuse, and how they take bad neighbours.

#![allow(clippy::unwrap_used, reason = "these are tests, and their helpers too")]

mod bad_children;
mod bad_parents;
mod bodies;
mod control;
mod exchange;
mod interop;
mod limits;
mod membership;
mod support;
mod tickets;
