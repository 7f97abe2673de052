//! The words of Damselfly, one meaning each: digests, pieces, chains, hosts, platforms, time.
//!
//! Every other package speaks in these. There is no I/O here, no clock and no randomness.

mod chain;
mod digest;
mod host;
mod layout;
mod message;
mod pieces;
mod platform;
mod range;
mod time;
mod trace;

pub use chain::{Chain, ChainError, PieceHash, State, hash_piece, verify_piece};
pub use digest::{Algorithm, Digest, DigestError};
pub use host::{Epoch, HostId, HostIdError, Label, Registry, RegistryError};
pub use layout::{PieceIndex, PieceLayout, piece_len_for};
pub use message::{
    BlobFailure, BlobKey, Credential, FetchFailure, HostBody, HostMessage, HostSpec, LeaseFailure, PieceFrom,
    Priority, SchedulerBody, SchedulerMessage,
};
pub use pieces::PieceSet;
pub use platform::{Platform, PlatformError};
pub use range::ByteRange;
pub use time::Timestamp;
pub use trace::TraceContext;
