//! What all clones of a store share, and how it reaches the disk.

use crate::database::Metadata;
use crate::entry::{Entry, Live};
use crate::file::Directory;
use crate::index::Index;
use crate::lock::lock;
use crate::pool::Pool;
use crate::recency::Recency;
use crate::sync::Flusher;
use crate::{Blob, Options, StoreError};
use std::collections::BTreeMap;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::{Semaphore, broadcast};
use types::{ChainError, Digest};

/// How many calls work on the disk at once; others wait for them. Bounds the threads, and the bytes on their way.
pub(crate) const BLOCKING_MAX: u32 = 64;

/// About how many bytes give way at once when the quota has shrunk.
const QUOTA_SLICE: u64 = 1 << 30;

/// How many digests of lost blobs a slow listener may lag behind.
pub(crate) const LOST_MAX: usize = 1024;

/// A use is stored when the stored one is older than this, in milliseconds: the order of eviction survives a restart to
/// a minute, and a read costs no write.
const USED_GRANULARITY_MS: u64 = 60_000;

/// The store's shared part.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) options: Options,
    /// The quota as it is now; the options have the one at the start.
    quota_bytes: AtomicU64,
    pub(crate) directory: Directory,
    pub(crate) index: Mutex<Index>,
    /// Blobs of which something is to be stored. A blob that changed and is not in here would never be.
    pub(crate) dirty: Mutex<BTreeMap<Digest, Arc<Entry>>>,
    /// Whether a manifest was written since the last sync.
    pub(crate) manifests_changed: AtomicBool,
    /// Held while room is made and used: nothing is added or evicted meanwhile.
    pub(crate) space: Mutex<()>,
    /// Held while a record is written: no other sync is under way.
    pub(crate) syncing: Mutex<()>,
    disk: Mutex<Disk>,
    permits: Arc<Semaphore>,
    pub(crate) lost: broadcast::Sender<Digest>,
    /// Closed chains whose bytes were evicted.
    pub(crate) retained: Mutex<Recency>,
    pub(crate) manifests: Mutex<Recency>,
    pub(crate) pool: Arc<Pool>,
    /// The last stamp: milliseconds since 1970, but never twice the same.
    clock: AtomicU64,
    pub(crate) flusher: Mutex<Option<Flusher>>,
}

/// What is released by a close.
#[derive(Debug)]
struct Disk {
    metadata: Option<Arc<Metadata>>,
    /// The lock on the directory; gone once the store is closed.
    claim: Option<File>,
}

/// What recovery found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) index: Index,
    pub(crate) retained: Recency,
    pub(crate) manifests: Recency,
    /// The latest stamp of all.
    pub(crate) stamp: u64,
}

/// A handle's share in keeping its blob.
#[derive(Debug)]
pub(crate) struct Hold(pub(crate) Arc<Entry>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl Inner {
    pub(crate) fn new(
        options: Options,
        directory: Directory,
        claim: File,
        metadata: Metadata,
        found: Found,
    ) -> Self {
        Self {
            quota_bytes: AtomicU64::new(options.quota_bytes),
            options,
            directory,
            index: Mutex::new(found.index),
            dirty: Mutex::default(),
            manifests_changed: AtomicBool::new(false),
            space: Mutex::new(()),
            syncing: Mutex::new(()),
            disk: Mutex::new(Disk { metadata: Some(Arc::new(metadata)), claim: Some(claim) }),
            permits: Arc::new(Semaphore::new(BLOCKING_MAX as usize)),
            lost: broadcast::channel(LOST_MAX).0,
            retained: Mutex::new(found.retained),
            manifests: Mutex::new(found.manifests),
            pool: Arc::default(),
            clock: AtomicU64::new(found.stamp),
            flusher: Mutex::new(None),
        }
    }

    pub(crate) fn quota_bytes(&self) -> u64 {
        self.quota_bytes.load(Ordering::Relaxed)
    }

    /// Another quota from now on; what is above it gives way, as far as it is not in use. Room for that is made when it falls
    /// free, and the next blob comes.
    pub(crate) fn set_quota(&self, bytes: u64) -> Result<(), StoreError> {
        self.quota_bytes.store(bytes, Ordering::Relaxed);
        // In slices, between which others get room too.
        while self.give_way(QUOTA_SLICE)? > 0 {}
        Ok(())
    }

    /// Runs `work` on a blocking thread. Cancel safe: once begun it runs to its end.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Arc<Self>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let inner = Arc::clone(self);
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&inner)
        });
        match task.await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(StoreError::Closed),
        }
    }

    /// Waits for the calls under way and lets none begin any more. False if another close did so before.
    pub(crate) async fn drain(&self) -> bool {
        let Ok(all) = self.permits.acquire_many(BLOCKING_MAX).await else { return false };
        self.permits.close();
        drop(all);
        true
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.permits.is_closed()
    }

    /// Uses the database. After an error of the disk redb wants to be opened again; that is tried at the next use, so
    /// that a disk that was full for a while does no lasting harm.
    pub(crate) fn metadata<T>(
        &self,
        work: impl FnOnce(&Metadata) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let metadata = self.open_metadata()?;
        let result = work(&metadata);
        if let Err(redb::Error::Io(_) | redb::Error::PreviousIo) = &result {
            lock(&self.disk).metadata = None;
        }
        Ok(result?)
    }

    fn open_metadata(&self) -> Result<Arc<Metadata>, StoreError> {
        let mut disk = lock(&self.disk);
        if disk.claim.is_none() {
            return Err(StoreError::Closed);
        }
        if let Some(metadata) = &disk.metadata {
            return Ok(Arc::clone(metadata));
        }
        let metadata =
            Arc::new(Metadata::reopen(&self.directory.database(), self.options.database_cache_bytes)?);
        disk.metadata = Some(Arc::clone(&metadata));
        Ok(metadata)
    }

    /// Closes the database and gives the directory up.
    pub(crate) fn release_disk(&self) {
        let mut disk = lock(&self.disk);
        disk.metadata = None;
        disk.claim = None;
    }

    /// A stamp of now, later than every other.
    pub(crate) fn stamp(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let next = |last: u64| Some(now.max(last.saturating_add(1)));
        let last =
            self.clock.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_else(|last| last);
        now.max(last.saturating_add(1))
    }

    /// Notes that something of the blob is to be stored.
    pub(crate) fn mark_dirty(&self, entry: &Arc<Entry>) {
        lock(&self.dirty).insert(entry.digest, Arc::clone(entry));
    }

    /// Notes that the blob is used now.
    pub(crate) fn touch(&self, entry: &Arc<Entry>) {
        if entry.touch(self.stamp(), USED_GRANULARITY_MS) {
            self.mark_dirty(entry);
        }
    }

    /// A handle on the blob, if it is there.
    pub(crate) fn get(self: &Arc<Self>, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        if self.is_closed() {
            return Ok(None);
        }
        let hold = lock(&self.index).acquire(digest).map(Hold);
        hold.map(|hold| self.wake(hold)).transpose()
    }

    /// Loads the chain and opens the file, if that is not done.
    fn wake(self: &Arc<Self>, hold: Hold) -> Result<Blob, StoreError> {
        let entry = &hold.0;
        self.touch(entry);
        let mut held = entry.held();
        if !held.is_live() {
            let file = self.directory.open(&entry.digest).map_err(StoreError::io("opening a blob's file"))?;
            let stored = self.metadata(|metadata| metadata.chain(&entry.digest, entry.layout))?;
            let chain = stored.ok_or(StoreError::Chain(ChainError::Empty))?;
            held.make_live(Live { file: Arc::new(file), chain });
        }
        let file = Arc::clone(&held.live()?.file);
        drop(held);
        Ok(Blob::new(Arc::clone(self), hold, file))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(flusher) = lock(&self.flusher).take() {
            flusher.stop();
        }
    }
}
