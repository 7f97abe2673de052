//! One blob in the store: its pieces, its chain, and who may have it.

use crate::{Possession, StoreError};
use bytes::Bytes;
use std::fs::File;
use std::sync::Arc;
use tokio::sync::watch;
use types::{ByteRange, Chain, Digest, PieceIndex, PieceLayout, PieceSet, Registry, State};

/// A handle on one blob. While it or a clone lives, the blob is not evicted.
#[derive(Clone, Debug)]
pub struct Blob {
    digest: Digest,
    chain: Chain,
    file: Arc<File>,
    changed: watch::Receiver<u64>,
}

impl Blob {
    /// The blob's digest.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The blob's size and piece length.
    #[must_use]
    pub fn layout(&self) -> PieceLayout {
        self.chain.layout()
    }

    /// The pieces held now.
    #[must_use]
    pub fn pieces(&self) -> PieceSet {
        PieceSet::empty(self.layout().count())
    }

    /// Whether `piece` is held now.
    #[must_use]
    pub fn has(&self, piece: PieceIndex) -> bool {
        self.pieces().contains(piece)
    }

    /// Whether the chain has been seen to end in the digest. That says nothing of which pieces are held: the chain of a
    /// blob outlives its bytes.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        false
    }

    /// Whether the blob is closed and all of it is held.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.is_closed() && self.pieces().is_full()
    }

    /// What is known of the chain now.
    #[must_use]
    pub fn chain(&self) -> Chain {
        self.chain.clone()
    }

    /// A number that grows with every piece that comes or goes, and when the blob is closed.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.clone()
    }

    /// Writes a piece that the caller has verified. It counts as held once this returns, and is durable within
    /// [`crate::Options::sync_interval`] or so. A piece that is held already is left as it is.
    ///
    /// Cancel safe: it is written all the same.
    ///
    /// # Errors
    /// [`StoreError::NoPiece`], [`StoreError::Chain`] for a wrong length, [`StoreError::Full`], [`StoreError::Io`].
    pub async fn write_piece(&self, piece: PieceIndex, bytes: Bytes) -> Result<(), StoreError> {
        let _ = (piece, bytes);
        Err(StoreError::Closed)
    }

    /// Takes over states of the chain, the first of which stands at `boundary`.
    ///
    /// # Errors
    /// [`StoreError::Chain`] if one contradicts what is known or does not belong here; nothing changes then.
    pub fn learn_states(&self, boundary: u32, states: &[State]) -> Result<(), StoreError> {
        let _ = (boundary, states);
        Err(StoreError::Closed)
    }

    /// Marks the chain as proven: every piece was verified against it, from the initial value to the digest.
    ///
    /// # Errors
    /// [`StoreError::NotWhole`] if a state is not known or a piece not held.
    pub async fn close(&self) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }

    /// Takes pieces back that turned out to be wrong.
    ///
    /// # Errors
    /// [`StoreError::Database`]; the pieces are not held any more nevertheless.
    pub async fn discard(&self, pieces: &PieceSet) -> Result<(), StoreError> {
        let _ = pieces;
        Err(StoreError::Closed)
    }

    /// Forgets all states but the two ends. The pieces stay, but none is read by [`Self::read`] before the states
    /// around it are known again.
    ///
    /// # Errors
    /// [`StoreError::Database`]; the states are forgotten nevertheless.
    pub async fn forget_states(&self) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }

    /// Reads bytes of held pieces. A piece is hashed on its first read in this process, and again when its last check is
    /// older than [`crate::Options::reverify_after`].
    ///
    /// # Errors
    /// [`StoreError::NotHeld`], [`StoreError::Unproven`], [`StoreError::Corrupt`] (the piece is gone then),
    /// [`StoreError::Range`], [`StoreError::Io`].
    pub async fn read(&self, range: ByteRange) -> Result<Bytes, StoreError> {
        Err(StoreError::Range { digest: self.digest, range })
    }

    /// Reads a whole piece, as [`Self::read`] does.
    ///
    /// # Errors
    /// As [`Self::read`], and [`StoreError::NoPiece`].
    pub async fn read_piece(&self, piece: PieceIndex) -> Result<Bytes, StoreError> {
        Err(StoreError::NoPiece { digest: self.digest, piece })
    }

    /// Reads a held piece without checking it: for a caller who hashes it against states that are not stored.
    ///
    /// # Errors
    /// [`StoreError::NotHeld`], [`StoreError::NoPiece`], [`StoreError::Io`].
    pub async fn read_unproven(&self, piece: PieceIndex) -> Result<Bytes, StoreError> {
        Err(StoreError::NoPiece { digest: self.digest, piece })
    }

    /// Checks the pieces of `range` as [`Self::read`] does, for a caller who then takes the bytes from [`Self::file`].
    ///
    /// # Errors
    /// As [`Self::read`]; the range may be of any length.
    pub async fn checked(&self, range: ByteRange) -> Result<(), StoreError> {
        Err(StoreError::Range { digest: self.digest, range })
    }

    /// The file, whose offsets are the blob's. Only what [`Self::checked`] was asked about may be read from it.
    #[must_use]
    pub fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Remembers that the blob was read from this repository with this right.
    pub fn allow(&self, registry: &Registry, repository: &str, possession: Possession) {
        let _ = (registry, repository, possession);
    }

    /// With which right the blob was once read from this repository.
    #[must_use]
    pub fn possession(&self, registry: &Registry, repository: &str) -> Option<Possession> {
        let _ = (registry, repository);
        None
    }

    /// Whether the blob was once read anonymously, from anywhere.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        false
    }
}
