//! What every program of Damselfly does as a process, whatever it does otherwise: read its configuration, say what
//! happens, stop in good order, answer its operator, end with a code that means something.
//!
//! The mains of `scheduler` and `dfdaemon` call these in this order: [`exit::parse`], [`config::load`],
//! [`telemetry::init`], [`tls::install_provider`], [`shutdown::Shutdown::install`], [`traces::start`], [`admin::Admin::bind`].

pub mod admin;
pub mod audit;
pub mod client;
pub mod config;
pub mod exit;
pub mod grpc;
pub mod listen;
pub mod metrics;
pub mod reload;
pub mod service;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
pub mod traces;
pub mod vitals;
