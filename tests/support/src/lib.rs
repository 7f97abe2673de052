//! What several test packages share: an origin with faults, a stand-in for Kubernetes' API server, images, real
//! registries, a real Prometheus, a collector of traces, processes, hosts on one machine.
//!
//! Only tests, the demo and the benchmark depend on it. See the modules for who calls what.

pub mod authority;
pub mod binaries;
pub mod daemon;
pub mod dashboard;
pub mod images;
pub mod kubernetes;
pub mod netns;
pub mod origin;
pub mod packages;
pub mod page;
pub mod poll;
pub mod process;
pub mod prometheus;
pub mod pull;
pub mod record;
pub mod registry;
pub mod skip;
pub mod token_server;
pub mod traces;
pub mod usage;
