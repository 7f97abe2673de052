//! The store as the daemon sees it: blobs and manifests by digest.

use crate::{Blob, Options, StoreError};
use bytes::Bytes;
use std::time::SystemTime;
use tokio::sync::broadcast;
use types::{Digest, PieceLayout, PieceSet};

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
pub struct Store {}

impl Store {
    /// Opens the store in `options.dir`, making it if need be, and recovers what an unclean stop left. Blocks on the
    /// disk; called once, at start.
    ///
    /// # Errors
    /// [`StoreError::Option`], [`StoreError::Directory`], [`StoreError::Locked`], [`StoreError::Database`].
    pub fn open(options: Options) -> Result<Self, StoreError> {
        options.validate()?;
        Err(StoreError::Closed)
    }

    /// The blob, in whatever state, if anything of it is held. The handle keeps it from being evicted.
    #[must_use]
    pub fn get(&self, digest: &Digest) -> Option<Blob> {
        let _ = digest;
        None
    }

    /// The blob, with an empty file of its size if nothing of it was held. Others are evicted to make room.
    ///
    /// Cancel safe: it is made all the same.
    ///
    /// # Errors
    /// [`StoreError::Layout`] if it is held with another layout, [`StoreError::TooLarge`], [`StoreError::Full`].
    pub async fn create(&self, digest: &Digest, layout: PieceLayout) -> Result<Blob, StoreError> {
        let _ = (digest, layout);
        Err(StoreError::Closed)
    }

    /// What is held, in the order of the digests.
    #[must_use]
    pub fn list(&self) -> Vec<Summary> {
        Vec::new()
    }

    /// Removes the blob unless somebody holds it, or it is pinned; whether it did.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Database`].
    pub async fn evict(&self, digest: &Digest) -> Result<bool, StoreError> {
        let _ = digest;
        Err(StoreError::Closed)
    }

    /// Keeps the blob from being evicted, whether or not it is there yet, until [`Self::unpin`] was called as often as
    /// this, or the process ends. False if too many others are pinned.
    pub fn pin(&self, digest: &Digest) -> bool {
        let _ = digest;
        false
    }

    /// Takes one [`Self::pin`] back.
    pub fn unpin(&self, digest: &Digest) {
        let _ = digest;
    }

    /// The store in numbers.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::default()
    }

    /// The digests of which nothing is held any more, from now on. Who lags is told so, and looks at
    /// [`Self::list`] again.
    #[must_use]
    pub fn evicted(&self) -> broadcast::Receiver<Digest> {
        broadcast::channel(1).1
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
        let _ = (digest, media_type, bytes);
        Err(StoreError::Closed)
    }

    /// The manifest with this digest, checked against it.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn get_manifest(&self, digest: &Digest) -> Result<Option<Manifest>, StoreError> {
        let _ = digest;
        Err(StoreError::Closed)
    }

    /// Makes everything durable that was written before the call.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Database`].
    pub async fn sync(&self) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }

    /// A clean stop: everything is made durable and the directory is free for another process. Afterwards every call
    /// fails with [`StoreError::Closed`], or finds nothing.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Database`].
    pub async fn close(&self) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
}
