//! What can go wrong in the store, for all of its callers.

use std::io;
use std::path::PathBuf;
use types::{ByteRange, ChainError, Digest, PieceIndex, PieceLayout};

/// An error of the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The cache directory, or something in it, cannot be made, read or written. The operator's to mend.
    #[error("the cache directory {} cannot be used", path.display())]
    Directory {
        /// What could not be used.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process uses the cache directory.
    #[error("the cache directory {} is used by another process", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// An option makes no sense. The operator's to mend.
    #[error("store option {name}: {why}")]
    Option {
        /// The field of [`crate::Options`].
        name: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The blob is there with another size or piece length: one of the two claims is false.
    #[error("{digest} is held as {held:?}, not {asked:?}")]
    Layout {
        /// Which blob.
        digest: Digest,
        /// What it is held with.
        held: PieceLayout,
        /// What was asked for.
        asked: PieceLayout,
    },
    /// The blob alone exceeds the quota. Trying again is in vain.
    #[error("a blob of {size} bytes exceeds the quota of {quota} bytes")]
    TooLarge {
        /// The blob's size.
        size: u64,
        /// The quota.
        quota: u64,
    },
    /// There is no room, and not enough can be evicted now. Later there may be.
    #[error("no room for {needed} bytes more")]
    Full {
        /// How many bytes are missing for what was asked.
        needed: u64,
    },
    /// The piece is not held.
    #[error("piece {piece} of {digest} is not held")]
    NotHeld {
        /// Which blob.
        digest: Digest,
        /// The first piece that is missing.
        piece: PieceIndex,
    },
    /// The piece is held, but its chain was forgotten: it cannot be checked until the states around it are known.
    #[error("piece {piece} of {digest} cannot be checked: its states are not known")]
    Unproven {
        /// Which blob.
        digest: Digest,
        /// Which piece.
        piece: PieceIndex,
    },
    /// The bytes on the disk are not what was written. The piece is no longer held: download it again.
    #[error("piece {piece} of {digest} has changed on the disk")]
    Corrupt {
        /// Which blob.
        digest: Digest,
        /// Which piece.
        piece: PieceIndex,
    },
    /// The range leaves the blob, or is longer than [`crate::READ_LEN_MAX`]. The caller's mistake.
    #[error("{range} is no range to read of {digest}")]
    Range {
        /// Which blob.
        digest: Digest,
        /// The range.
        range: ByteRange,
    },
    /// The blob has no such piece. The caller's mistake.
    #[error("{digest} has no piece {piece}")]
    NoPiece {
        /// Which blob.
        digest: Digest,
        /// The number.
        piece: PieceIndex,
    },
    /// A state or a piece's length contradicts the blob.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The blob cannot be closed: pieces or states are missing.
    #[error("{digest} is not whole: {pieces} pieces are missing, the chain is {chain}", chain = if *.states { "whole" } else { "not whole" })]
    NotWhole {
        /// Which blob.
        digest: Digest,
        /// How many pieces are missing.
        pieces: u32,
        /// Whether all states are known.
        states: bool,
    },
    /// A manifest that is too long, or whose media type is.
    #[error("{digest} with {len} bytes is too long for a manifest")]
    ManifestLength {
        /// Which.
        digest: Digest,
        /// Its length, or that of its media type.
        len: usize,
    },
    /// A manifest with another digest than it should have.
    #[error("the content does not have the digest {digest}")]
    ManifestDigest {
        /// What it should have been.
        digest: Digest,
    },
    /// The operating system failed.
    #[error("{doing} failed")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// How it failed.
        source: io::Error,
    },
    /// The metadata database failed.
    #[error("the metadata database failed")]
    Database(#[source] Box<redb::Error>),
    /// The store was closed, or the runtime is shutting down.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whether the same call may succeed later with nobody mending anything: after an eviction, after the piece was
    /// downloaded again.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Full { .. }
                | Self::NotHeld { .. }
                | Self::Unproven { .. }
                | Self::Corrupt { .. }
                | Self::NotWhole { .. }
        )
    }

    /// Whether the disk, not the caller and not the content, is the reason: the pull has to go on without the store.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        matches!(
            self,
            Self::Directory { .. }
                | Self::Locked { .. }
                | Self::TooLarge { .. }
                | Self::Full { .. }
                | Self::Io { .. }
                | Self::Database(_)
                | Self::Closed
        )
    }

    /// For `map_err`: an I/O error with what was tried.
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }

    /// For `map_err`: an error of writing `len` bytes.
    pub(crate) fn writing(len: u64) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { needed: len },
            _ => Self::Io { doing: "writing to a blob's file", source },
        }
    }
}

impl From<redb::Error> for StoreError {
    fn from(error: redb::Error) -> Self {
        Self::Database(Box::new(error))
    }
}
