//! The group commit: bytes to the disk first, then the records that name them, about once a second.
//!
//! A piece may be read as soon as it is written. Should the machine stop before the sync, its record does not name it,
//! and it is downloaded again: at most a second's worth. A piece that is taken back is recorded at once, so that a record
//! does not name what is written in its place later.

use crate::StoreError;
use crate::entry::Entry;
use crate::inner::Inner;
use crate::lock::lock;
use redb::Durability;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Instant;

/// The disk's free space and empty files are looked after every so many intervals.
const TEND_EVERY: u32 = 10;

/// The thread that syncs and tends, until it is stopped. A thread of its own, since it must go on while the runtime's
/// blocking threads are all at work on the disk.
#[derive(Debug)]
pub(crate) struct Flusher {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: JoinHandle<()>,
}

impl Flusher {
    /// Starts the thread. It does not keep the store alive.
    pub(crate) fn start(inner: &Arc<Inner>) -> Result<Self, StoreError> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let interval = inner.options.sync_interval;
        let (weak, signal) = (Arc::downgrade(inner), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("store-sync".to_owned())
            .spawn(move || {
                let mut round = 0u32;
                let mut quiet = true;
                while wait(&signal, interval) {
                    round = round.wrapping_add(1);
                    let Some(inner) = Weak::upgrade(&weak) else { return };
                    quiet = inner.tick(round.is_multiple_of(TEND_EVERY), quiet);
                }
            })
            .map_err(StoreError::io("starting the sync thread"))?;
        Ok(Self { stop, thread })
    }

    /// Tells the thread to end.
    pub(crate) fn stop(&self) {
        *lock(&self.stop.0) = true;
        self.stop.1.notify_all();
    }

    /// Tells the thread to end, and waits for it.
    pub(crate) fn join(self) {
        self.stop();
        if self.thread.join().is_err() {
            tracing::error!("the sync thread panicked");
        }
    }
}

/// Waits for `interval`; false as soon as the thread is to stop.
fn wait((stop, condition): &(Mutex<bool>, Condvar), interval: std::time::Duration) -> bool {
    let waited = condition.wait_timeout_while(lock(stop), interval, |stop| !*stop);
    let (stop, _) = waited.unwrap_or_else(PoisonError::into_inner);
    !*stop
}

impl Inner {
    /// One round of the thread. Whether it went well; a failure is told when it begins, not in every round.
    fn tick(&self, tend: bool, quiet: bool) -> bool {
        let mut result = self.sync();
        if tend {
            result = result.and(self.tend());
        }
        match &result {
            Err(error) if quiet => {
                tracing::error!(error = error as &dyn std::error::Error, "the cache cannot be made durable");
            }
            Ok(()) if !quiet => tracing::info!("the cache is durable again"),
            _ => {}
        }
        result.is_ok()
    }

    /// Makes durable what was written before the call.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        let _syncing = lock(&self.syncing);
        let entries: Vec<_> = std::mem::take(&mut *lock(&self.dirty)).into_values().collect();
        let manifests = self.manifests_changed.swap(false, Ordering::AcqRel);
        if entries.is_empty() && !manifests {
            return Ok(());
        }
        let started = Instant::now();
        let synced = self.sync_files(&entries);
        let stored = self.store_records(&entries);
        for entry in &entries {
            let changed = entry.end_sync(stored.is_ok());
            if changed && lock(&self.index).is(entry) {
                self.mark_dirty(entry);
            }
        }
        if manifests && stored.is_err() {
            self.manifests_changed.store(true, Ordering::Release);
        }
        let metrics = &self.options.metrics;
        metrics.sync_seconds.observe(started.elapsed().as_secs_f64());
        let result = synced.and(stored);
        if result.is_err() {
            metrics.sync_failures.inc();
        }
        result
    }

    /// Brings the files' bytes to the disk. After an error the kernel may have dropped them, so they are checked again
    /// before they are read.
    fn sync_files(&self, entries: &[Arc<Entry>]) -> Result<(), StoreError> {
        let mut result = Ok(());
        for entry in entries {
            let Some(file) = entry.begin_sync() else { continue };
            if let Err(errno) = rustix::fs::fdatasync(&file) {
                entry.sync_failed();
                result = Err(StoreError::io("syncing a blob's file")(errno.into()));
            }
        }
        result
    }

    /// Stores the records of those that were not evicted meanwhile.
    fn store_records(&self, entries: &[Arc<Entry>]) -> Result<(), StoreError> {
        self.metadata(|metadata| {
            metadata.write(Durability::Immediate, |batch| {
                for entry in entries {
                    // An eviction takes the blob out of the index before it deletes the record, in a transaction of
                    // its own: what is in the index now is deleted after this one.
                    if !lock(&self.index).is(entry) {
                        continue;
                    }
                    let (record, chain) = entry.snapshot();
                    match record {
                        Some(record) if record.closed || !record.pieces.is_empty() => {
                            batch.put_record(&entry.digest, &record)?;
                        }
                        Some(_) => batch.delete_record(&entry.digest)?,
                        None => {}
                    }
                    if let Some(chain) = chain {
                        batch.put_chain(&chain)?;
                    }
                }
                Ok(())
            })
        })
    }

    /// Stores at once what changed of a blob that the caller holds, except for pieces that are not synced.
    pub(crate) fn save(&self, entry: &Arc<Entry>) -> Result<(), StoreError> {
        let _syncing = lock(&self.syncing);
        let stored = self.store_records(std::slice::from_ref(entry));
        if entry.end_sync(stored.is_ok()) {
            self.mark_dirty(entry);
        }
        stored
    }
}
