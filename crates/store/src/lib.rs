//! Verified pieces of blobs on disk.
//!
//! One preallocated file per blob, a redb database beside them that says which pieces are good. The daemon's download
//! engine writes pieces that it has verified, its proxy and its uploads read them back.
//!
//! What holds at any time, also after a power cut:
//! * a piece that the database names was on the disk before it was named;
//! * no byte leaves that was not hashed since this process started, nor one whose last check is older than
//!   [`Options::reverify_after`];
//! * the files together never exceed [`Options::quota_bytes`];
//! * a blob of which somebody holds a [`Blob`], or which is pinned, is never evicted.
//!
//! The way through the code: `store` (what the daemon calls) → `space` (making room, evicting) → `blob` (one blob) →
//! `read` and `sync` (bytes in both directions) → `database` and `file` (the disk).

mod blob;
mod database;
mod entry;
mod error;
mod file;
mod index;
mod inner;
mod lock;
mod manifest;
mod metrics;
mod options;
mod pool;
mod possession;
mod read;
mod recency;
mod recovery;
mod space;
mod store;
mod sync;

pub use blob::Blob;
pub use error::StoreError;
pub use metrics::Metrics;
pub use options::Options;
pub use possession::Possession;
pub use store::{Manifest, Stats, Store, Summary};

/// The longest manifest or other small document that is stored, in bytes: 4 MiB, the OCI distribution specification's
/// advice to registries.
pub const MANIFEST_LEN_MAX: usize = 4 << 20;

/// The longest range that [`Blob::read`] reads at once, in bytes: 16 MiB, the longest piece of the usual layouts.
pub const READ_LEN_MAX: u64 = 16 << 20;

/// How many bytes to ask [`Blob::read`] for when a blob is streamed: buffers of up to this length, 256 KiB, are used
/// again, and stay in the processor's cache.
pub const READ_LEN: u64 = 256 << 10;
