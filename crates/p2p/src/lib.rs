//! Peers: who they are, who may talk to whom, and how pieces travel between them.
//!
//! The daemon starts one [`P2p`]. It has two listeners. The **control** address speaks stock libp2p (TCP, TLS, yamux)
//! for small requests; the **bulk** address speaks libp2p's TCP and TLS handshakes and then carries one request and one
//! answer at a time on each connection, with no multiplexer in between, at a third of the CPU cost.
//!
//! Both accept only the peers in [`Members`]. Bytes that arrive are the parent's claim: the caller verifies them.

#![cfg_attr(feature = "insecure-plain-bulk", allow(dead_code, reason = "what TLS needs"))]

mod admission;
mod control;
mod error;
mod fetch;
#[doc(hidden)]
pub mod fuzz;
mod gate;
mod holdings;
mod identity;
mod members;
mod metrics;
mod negotiate;
mod node;
mod options;
mod piece;
mod pool;
mod read_ahead;
mod serve;
mod shaper;
pub mod stock;
mod tickets;
#[cfg_attr(feature = "insecure-plain-bulk", path = "plain.rs")]
pub mod tls;
mod verifier;
mod watchdog;
mod wire;

pub use bytes::Bytes;
pub use error::{ConnectError, FetchError, MemberError, P2pError, ProtocolError};
pub use futures::future::BoxFuture;
pub use holdings::Holdings;
pub use identity::Identity;
pub use members::{Member, Members};
pub use metrics::{Metrics, Stats};
pub use node::P2p;
pub use options::Options;
pub use piece::{PieceBody, PieceRequest, PieceSource, Refusal};
pub use tickets::Tickets;
