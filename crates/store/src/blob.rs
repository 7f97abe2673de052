//! One blob in the store: its pieces, its chain, and who may have it.

use crate::entry::Entry;
use crate::inner::{Hold, Inner};
use crate::read::{ONE_READ, validate};
use crate::{Possession, StoreError};
use bytes::Bytes;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;
use types::{ByteRange, Chain, ChainError, Digest, PieceIndex, PieceLayout, PieceSet, Registry, State};

/// A handle on one blob. While it or a clone lives, the blob is not evicted.
#[derive(Clone)]
pub struct Blob(Arc<Handle>);

/// What the clones of a handle share.
struct Handle {
    inner: Arc<Inner>,
    hold: Hold,
    file: Arc<File>,
}

impl Blob {
    pub(crate) fn new(inner: Arc<Inner>, hold: Hold, file: Arc<File>) -> Self {
        Self(Arc::new(Handle { inner, hold, file }))
    }

    fn entry(&self) -> &Arc<Entry> {
        &self.0.hold.0
    }

    /// Runs `work` on a blocking thread, with this handle.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let this = self.clone();
        self.0.inner.run(move |_| work(&this)).await
    }

    /// The blob's digest.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.entry().digest
    }

    /// The blob's size and piece length.
    #[must_use]
    pub fn layout(&self) -> PieceLayout {
        self.entry().layout
    }

    /// The pieces held now.
    #[must_use]
    pub fn pieces(&self) -> PieceSet {
        self.entry().held().pieces().clone()
    }

    /// Whether `piece` is held now.
    #[must_use]
    pub fn has(&self, piece: PieceIndex) -> bool {
        self.entry().held().pieces().contains(piece)
    }

    /// Whether `piece` is held now and its chain is known, so that it can be read. After [`Self::forget_states`] a piece is
    /// held and cannot be read until states are learnt anew.
    #[must_use]
    pub fn is_readable(&self, piece: PieceIndex) -> bool {
        let held = self.entry().held();
        held.pieces().contains(piece) && !held.waits_for_states(piece)
    }

    /// Whether the chain has been seen to end in the digest. That says nothing of which pieces are held: the chain of a
    /// blob outlives its bytes.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.entry().held().closed()
    }

    /// Whether the blob is closed and all of it is held.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let held = self.entry().held();
        held.closed() && held.pieces().is_full()
    }

    /// What is known of the chain now.
    #[must_use]
    pub fn chain(&self) -> Chain {
        let mut held = self.entry().held();
        held.live().expect("loaded while there is a handle").chain.clone()
    }

    /// A number that grows with every piece that comes or goes or can be read again, and when the blob is closed. The blob may be looked at
    /// in `wait_for`.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.entry().changed.subscribe()
    }

    /// Writes a piece of which the caller knows that it is the blob's. It counts as held once this returns, and is durable
    /// within [`crate::Options::sync_interval`] or so. A piece that is held already is left as it is.
    ///
    /// Cancel safe: it is written all the same.
    ///
    /// # Errors
    /// [`StoreError::NoPiece`], [`StoreError::Chain`] for a wrong length, [`StoreError::Full`], [`StoreError::Io`].
    pub async fn write_piece(&self, piece: PieceIndex, bytes: Bytes) -> Result<(), StoreError> {
        self.write(piece, bytes, None).await
    }

    /// As [`Self::write_piece`], for a piece that the caller has verified against the states before and after it. If the
    /// chain is another by the time that it is written, it is hashed before it is read.
    ///
    /// # Errors
    /// As [`Self::write_piece`].
    pub async fn write_verified(
        &self,
        piece: PieceIndex,
        bytes: Bytes,
        (before, after): (State, State),
    ) -> Result<(), StoreError> {
        self.write(piece, bytes, Some((before, after))).await
    }

    async fn write(
        &self,
        piece: PieceIndex,
        bytes: Bytes,
        against: Option<(State, State)>,
    ) -> Result<(), StoreError> {
        let entry = self.entry();
        entry.exists(piece)?;
        let (expected, got) = (entry.layout.len_of(piece), bytes.len());
        if got != expected as usize {
            return Err(ChainError::Length { piece, expected, got }.into());
        }
        if self.has(piece) {
            return Ok(());
        }
        self.run(move |this| {
            let (entry, file) = (this.entry(), &this.0.file);
            // What another has written meanwhile is held, and perhaps read: nothing is written over it.
            let _turn = entry.writes(piece);
            if this.has(piece) {
                return Ok(());
            }
            let offset = entry.layout.range(piece).start();
            file.write_all_at(&bytes, offset).map_err(StoreError::writing(bytes.len() as u64))?;
            entry.wrote(piece, against, Instant::now());
            this.0.inner.mark_dirty(entry);
            Ok(())
        })
        .await
    }

    /// Takes over states of the chain, the first of which stands at `boundary`.
    ///
    /// # Errors
    /// [`StoreError::Chain`] if one contradicts what is known or does not belong here; nothing changes then.
    pub fn learn_states(&self, boundary: u32, states: &[State]) -> Result<(), StoreError> {
        if self.entry().learn(boundary, states)? {
            self.0.inner.mark_dirty(self.entry());
        }
        Ok(())
    }

    /// Marks the chain as proven: every piece was verified against it, from the initial value to the digest.
    ///
    /// # Errors
    /// [`StoreError::NotWhole`] if a state is not known or a piece not held.
    pub async fn close(&self) -> Result<(), StoreError> {
        if self.entry().close()? {
            self.0.inner.mark_dirty(self.entry());
        }
        Ok(())
    }

    /// How often pieces were taken back that had been read as good ([`Self::discard`]). Who reads pieces of a blob that is
    /// not closed compares it: if it is the same before the first read and after the last, and the blob is closed before
    /// the last, all that was read is the blob's.
    #[must_use]
    pub fn voids(&self) -> u64 {
        self.entry().held().voids
    }

    /// Takes pieces back that turned out to be wrong, and counts that in [`Self::voids`].
    ///
    /// # Errors
    /// [`StoreError::Database`]; the pieces are not held any more nevertheless.
    pub async fn discard(&self, pieces: &PieceSet) -> Result<(), StoreError> {
        let pieces = pieces.clone();
        self.run(
            move |this| if this.entry().discard(&pieces) { this.0.inner.save(this.entry()) } else { Ok(()) },
        )
        .await
    }

    /// Forgets all states but the two ends, unless the blob is closed: then they are proven. The pieces stay, but none is read by [`Self::read`] before the states
    /// around it are known again.
    ///
    /// # Errors
    /// [`StoreError::Database`]; the states are forgotten nevertheless.
    pub async fn forget_states(&self) -> Result<(), StoreError> {
        self.run(|this| if this.entry().forget()? { this.0.inner.save(this.entry()) } else { Ok(()) }).await
    }

    /// Reads bytes of held pieces. A piece is hashed on its first read in this process, and again when its last check is
    /// older than [`crate::Options::reverify_after`].
    ///
    /// # Errors
    /// [`StoreError::NotHeld`], [`StoreError::Unproven`], [`StoreError::Corrupt`] (the piece is gone then),
    /// [`StoreError::Range`], [`StoreError::Io`].
    pub async fn read(&self, range: ByteRange) -> Result<Bytes, StoreError> {
        validate(self.entry(), range, ONE_READ)?;
        if let Some(bytes) = self.0.inner.read_now(self.entry(), &self.0.file, range) {
            // Bytes from memory make no wait, so that a reader in a loop would never let go of its thread.
            tokio::task::coop::consume_budget().await;
            return Ok(bytes);
        }
        self.run(move |this| {
            let Handle { inner, file, .. } = &*this.0;
            inner.check(this.entry(), file, this.layout().pieces_of(range))?;
            inner.read(file, range)
        })
        .await
    }

    /// Reads a whole piece, as [`Self::read`] does, into a new buffer of its length. Reading it in ranges of
    /// [`crate::READ_LEN`] costs less memory and time.
    ///
    /// # Errors
    /// As [`Self::read`], and [`StoreError::NoPiece`].
    pub async fn read_piece(&self, piece: PieceIndex) -> Result<Bytes, StoreError> {
        self.entry().exists(piece)?;
        self.run(move |this| {
            let Handle { inner, file, .. } = &*this.0;
            inner.check(this.entry(), file, piece.0..piece.0 + 1)?;
            inner.read(file, this.layout().range(piece))
        })
        .await
    }

    /// Reads a held piece without checking it: for a caller who hashes it against states that are not stored.
    ///
    /// # Errors
    /// [`StoreError::NotHeld`], [`StoreError::NoPiece`], [`StoreError::Io`].
    pub async fn read_unproven(&self, piece: PieceIndex) -> Result<Bytes, StoreError> {
        self.entry().exists(piece)?;
        if !self.has(piece) {
            return Err(self.entry().not_held(piece));
        }
        self.run(move |this| this.0.inner.read(&this.0.file, this.layout().range(piece))).await
    }

    /// Checks the pieces of `range` as [`Self::read`] does, for a caller who then takes the bytes from [`Self::file`].
    ///
    /// # Errors
    /// As [`Self::read`]; the range may be of any length.
    pub async fn checked(&self, range: ByteRange) -> Result<(), StoreError> {
        validate(self.entry(), range, None)?;
        self.run(move |this| {
            let pieces = this.layout().pieces_of(range);
            this.0.inner.check(this.entry(), &this.0.file, pieces)
        })
        .await
    }

    /// The file, whose offsets are the blob's. Only what [`Self::checked`] was asked about may be read from it.
    #[must_use]
    pub fn file(&self) -> Arc<File> {
        Arc::clone(&self.0.file)
    }

    /// Remembers that the blob was read from this repository with this right.
    pub fn allow(&self, registry: &Registry, repository: &str, possession: Possession) {
        let entry = self.entry();
        if entry.allow(registry, repository, possession) {
            self.0.inner.mark_dirty(entry);
        }
    }

    /// With which right the blob was once read from this repository.
    #[must_use]
    pub fn possession(&self, registry: &Registry, repository: &str) -> Option<Possession> {
        self.entry().held().possessions().get(registry, repository)
    }

    /// Whether the blob was once read anonymously, from anywhere.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.entry().held().possessions().is_anonymous()
    }
}

/// The end of a use is what counts for the order of eviction.
impl Drop for Handle {
    fn drop(&mut self) {
        self.inner.touch(&self.hold.0);
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = self.entry();
        let held = entry.held();
        f.debug_struct("Blob")
            .field("digest", &entry.digest)
            .field("layout", &entry.layout)
            .field("pieces", held.pieces())
            .field("closed", &held.closed())
            .finish()
    }
}
