//! Private stays private: a client gets what the origin would give it now, whatever this cluster holds, and secrets are
//! seen by nobody.
//!
//! Every test runs whole daemons in its own process; none needs root.

mod audit;
mod claims;
mod configured;
mod flush;
mod joining;
mod kubernetes;
mod node_labels;
mod outage;
mod secrets;
mod stage;
mod tokens;
