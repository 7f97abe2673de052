//! The store as the daemon sees it: blobs and manifests by digest.

use crate::database::Metadata;
use crate::entry::Entry;
use crate::file::Directory;
use crate::inner::Inner;
use crate::lock::lock;
use crate::recovery::recover;
use crate::sync::Flusher;
use crate::{Blob, Options, StoreError};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::broadcast;
use types::{Digest, PieceIndex, PieceLayout, PieceSet};

/// What is held of one blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Which blob.
    pub digest: Digest,
    /// Its size and piece length.
    pub layout: PieceLayout,
    /// The pieces that are held.
    pub pieces: PieceSet,
    /// Whether its chain has been seen to end in the digest.
    pub closed: bool,
    /// The bytes of the held pieces.
    pub bytes: u64,
    /// When it was last asked for.
    pub last_used: SystemTime,
}

/// The store in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes that the blobs' files take, of those preallocated too.
    pub bytes: u64,
    /// Blobs, whole or in part.
    pub blobs: u64,
    /// The most bytes that the files may take.
    pub quota_bytes: u64,
    /// Bytes of manifests.
    pub manifest_bytes: u64,
    /// Blobs evicted since the start.
    pub evictions: u64,
    /// Pieces and manifests found changed on the disk since the start.
    pub verification_failures: u64,
}

/// A manifest or other small document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its media type, as the origin gave it.
    pub media_type: String,
    /// Its content.
    pub bytes: Bytes,
}

/// The store. A clone is the same store.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

impl Store {
    /// Opens the store in `options.dir`, making it if need be, and recovers what an unclean stop left. Blocks on the
    /// disk; called once, at start.
    ///
    /// # Errors
    /// [`StoreError::Option`], [`StoreError::Directory`], [`StoreError::Locked`], [`StoreError::Database`].
    pub fn open(options: Options) -> Result<Self, StoreError> {
        options.validate()?;
        let (directory, claim) = Directory::claim(&options.dir)?;
        let path = directory.database();
        let metadata = Metadata::open(&path, options.database_cache_bytes).map_err(|error| match error {
            redb::Error::Io(source) => StoreError::Directory { path, source },
            other => other.into(),
        })?;
        let found = recover(&directory, &metadata, &options.metrics)?;
        let inner = Arc::new(Inner::new(options, directory, claim, metadata, found));
        *lock(&inner.flusher) = Some(Flusher::start(&inner)?);
        Ok(Self(inner))
    }

    /// The blob, in whatever state, if anything of it is held. The handle keeps it from being evicted.
    ///
    /// The first handle opens the file and reads the chain from the database, usually from memory; one that cannot be
    /// read counts as not held.
    #[must_use]
    pub fn get(&self, digest: &Digest) -> Option<Blob> {
        self.0.get(digest).unwrap_or_else(|error| {
            tracing::warn!(%digest, error = &error as &dyn std::error::Error, "a cached blob cannot be opened");
            None
        })
    }

    /// The blob, with an empty file of its size if nothing of it was held. Others are evicted to make room.
    ///
    /// Cancel safe: it is made all the same.
    ///
    /// # Errors
    /// [`StoreError::Layout`] if it is held with another layout, [`StoreError::TooLarge`], [`StoreError::Full`].
    pub async fn create(&self, digest: &Digest, layout: PieceLayout) -> Result<Blob, StoreError> {
        let digest = *digest;
        if let Ok(Some(blob)) = self.0.get(&digest)
            && blob.layout() == layout
        {
            return Ok(blob);
        }
        self.0.run(move |inner| inner.create(&digest, layout)).await
    }

    /// Another quota from now on, in bytes. What is above it is evicted, but for what is in use: that gives way later, when
    /// room for another blob is made.
    ///
    /// Cancel safe: it is set all the same.
    ///
    /// # Errors
    /// Those of an eviction; the quota is set nevertheless.
    pub async fn set_quota(&self, bytes: u64) -> Result<(), StoreError> {
        self.0.run(move |inner| inner.set_quota(bytes)).await
    }

    /// What is held, in the order of the digests.
    #[must_use]
    pub fn list(&self) -> Vec<Summary> {
        if self.0.is_closed() {
            return Vec::new();
        }
        lock(&self.0.index).iter().map(|entry| summarize(entry)).collect()
    }

    /// Removes the blob unless somebody holds it, or it is pinned; whether it did.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Database`].
    pub async fn evict(&self, digest: &Digest) -> Result<bool, StoreError> {
        let digest = *digest;
        self.0.run(move |inner| inner.evict(&digest)).await
    }

    /// Keeps the blob from being evicted, whether or not it is there yet, until [`Self::unpin`] was called as often as
    /// this, or the process ends. False if too many others are pinned.
    pub fn pin(&self, digest: &Digest) -> bool {
        lock(&self.0.index).pin(digest)
    }

    /// Takes one [`Self::pin`] back.
    pub fn unpin(&self, digest: &Digest) {
        lock(&self.0.index).unpin(digest);
    }

    /// The store in numbers.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let index = lock(&self.0.index);
        let (bytes, blobs) = (index.bytes(), index.len() as u64);
        drop(index);
        let metrics = &self.0.options.metrics;
        Stats {
            bytes,
            blobs,
            quota_bytes: self.0.quota_bytes(),
            manifest_bytes: lock(&self.0.manifests).bytes(),
            evictions: metrics.evictions.get(),
            verification_failures: metrics.verification_failures.get(),
        }
    }

    /// The digests of which less is held than before, from now on: the blob was evicted, or a piece has changed on the
    /// disk. What is still held, [`Self::get`] tells; who lags is told so, and looks at all.
    #[must_use]
    pub fn lost(&self) -> broadcast::Receiver<Digest> {
        self.0.lost.subscribe()
    }

    /// Stores a manifest. The least recently used ones make room.
    ///
    /// # Errors
    /// [`StoreError::ManifestLength`], [`StoreError::ManifestDigest`], [`StoreError::Database`].
    pub async fn put_manifest(
        &self,
        digest: &Digest,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<(), StoreError> {
        let (digest, media_type) = (*digest, media_type.to_owned());
        self.0.run(move |inner| inner.put_manifest(&digest, &media_type, &bytes)).await
    }

    /// The manifest with this digest, checked against it.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn get_manifest(&self, digest: &Digest) -> Result<Option<Manifest>, StoreError> {
        let digest = *digest;
        self.0.run(move |inner| inner.get_manifest(&digest)).await
    }

    /// Makes everything durable that was written before the call.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Database`].
    pub async fn sync(&self) -> Result<(), StoreError> {
        self.0.run(|inner| inner.sync()).await
    }

    /// A clean stop: everything is made durable and the directory is free for another process. Afterwards every call
    /// fails with [`StoreError::Closed`], or finds nothing.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Database`].
    pub async fn close(&self) -> Result<(), StoreError> {
        if !self.0.drain().await {
            return Ok(());
        }
        let inner = Arc::clone(&self.0);
        let task = tokio::task::spawn_blocking(move || inner.shut());
        task.await.map_err(|_| StoreError::Closed)?
    }
}

impl Inner {
    /// The last sync. The directory is given up even if it fails.
    fn shut(&self) -> Result<(), StoreError> {
        let flusher = lock(&self.flusher).take();
        if let Some(flusher) = flusher {
            flusher.join();
        }
        let space = lock(&self.space);
        let result = self.remove_empty().and(self.sync()).and_then(|()| self.metadata(Metadata::mark_closed));
        drop(space);
        self.release_disk();
        result
    }
}

fn summarize(entry: &Entry) -> Summary {
    let held = entry.held();
    let (layout, pieces) = (entry.layout, held.pieces().clone());
    let last = layout.count().checked_sub(1).map(PieceIndex).filter(|last| pieces.contains(*last));
    let missing_in_last = last.map_or(0, |last| layout.piece_len() - layout.len_of(last));
    let bytes = u64::from(pieces.len()) * u64::from(layout.piece_len()) - u64::from(missing_in_last);
    let last_used = UNIX_EPOCH + Duration::from_millis(entry.used.load(Ordering::Relaxed));
    Summary { digest: entry.digest, layout, pieces, closed: held.closed(), bytes, last_used }
}
