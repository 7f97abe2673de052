//! The scheduler as a server: `scheduler-core`'s decisions behind gRPC.
//!
//! Everything that is decided is decided in the core; this package carries. [`driver`] owns the core and runs in one
//! task; [`stream`] has two ends of one host's stream, between which and the driver there are bounded queues
//! ([`outbox`]); [`questions`] asks origins on behalf of all hosts; [`preheat`] has hosts hold images before anybody
//! pulls them; [`cluster`] says who may be a host, for which [`kubernetes`] asks an API server. The program is
//! `main.rs`; a daemon that is given no scheduler embeds [`Server`].

mod cluster;
mod config;
mod connection;
mod driver;
mod error;
mod kubernetes;
mod metrics;
mod options;
mod outbox;
mod preheat;
mod questions;
mod refused;
mod rollouts;
mod roster;
mod server;
mod service;
mod status;
mod stream;
mod threshold;

pub use cluster::Admitter;
pub use config::{Flags, load};
pub use error::Error;
pub use kubernetes::{KubernetesOptions, ServiceAccount};
pub use options::{
    AuditOptions, HostOptions, Invalid, LogOptions, Options, SchedulingOptions, TracesOptions,
};
pub use server::Server;
