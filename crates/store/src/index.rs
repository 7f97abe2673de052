//! All blobs by digest, what their files take together, and which of them may be evicted.

use crate::Metrics;
use crate::entry::Entry;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use types::Digest;

/// How many digests can be pinned at once.
const PINS_MAX: usize = 4096;

/// The blobs. What it says of bytes and handles holds only while it is locked.
#[derive(Debug)]
pub(crate) struct Index {
    entries: BTreeMap<Digest, Arc<Entry>>,
    bytes: u64,
    pins: BTreeMap<Digest, u32>,
    metrics: Metrics,
}

impl Index {
    pub(crate) const fn new(metrics: Metrics) -> Self {
        Self { entries: BTreeMap::new(), bytes: 0, pins: BTreeMap::new(), metrics }
    }

    /// What the files take, in bytes.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many blobs there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.values()
    }

    /// The blob, with one handle more.
    pub(crate) fn acquire(&self, digest: &Digest) -> Option<Arc<Entry>> {
        let entry = self.entries.get(digest)?;
        entry.handles.fetch_add(1, Ordering::AcqRel);
        Some(Arc::clone(entry))
    }

    /// Whether exactly this blob is still there.
    pub(crate) fn is(&self, entry: &Arc<Entry>) -> bool {
        self.entries.get(&entry.digest).is_some_and(|found| Arc::ptr_eq(found, entry))
    }

    /// Adds a blob that is not there yet.
    pub(crate) fn insert(&mut self, entry: Arc<Entry>) {
        self.bytes += entry.layout.size();
        let before = self.entries.insert(entry.digest, entry);
        assert!(before.is_none(), "a blob was made twice");
        self.show();
    }

    /// Takes a blob out that nobody holds and nothing pins.
    pub(crate) fn take(&mut self, digest: &Digest) -> Option<Arc<Entry>> {
        let entry = self.entries.get(digest).filter(|entry| self.is_free(entry))?;
        let entry = Arc::clone(entry);
        self.entries.remove(digest);
        self.bytes -= entry.layout.size();
        self.show();
        Some(entry)
    }

    /// Takes out those used longest ago until `bytes` are free, or there are no more.
    pub(crate) fn take_oldest(&mut self, bytes: u64) -> Vec<Arc<Entry>> {
        let mut free: Vec<_> = self
            .entries
            .values()
            .filter(|entry| entry.layout.size() > 0 && self.is_free(entry))
            .map(|entry| (entry.used.load(Ordering::Relaxed), entry.digest))
            .collect();
        free.sort_unstable();
        let mut freed = 0;
        let mut taken = Vec::new();
        for (_, digest) in free {
            if freed >= bytes {
                break;
            }
            taken.extend(self.take(&digest));
            freed = taken.iter().map(|entry| entry.layout.size()).sum();
        }
        taken
    }

    fn is_free(&self, entry: &Entry) -> bool {
        entry.is_idle() && !self.pins.contains_key(&entry.digest)
    }

    pub(crate) fn pin(&mut self, digest: &Digest) -> bool {
        if self.pins.len() >= PINS_MAX && !self.pins.contains_key(digest) {
            return false;
        }
        let count = self.pins.entry(*digest).or_default();
        *count = count.saturating_add(1);
        true
    }

    pub(crate) fn unpin(&mut self, digest: &Digest) {
        if let Some(count) = self.pins.get_mut(digest) {
            *count -= 1;
            if *count == 0 {
                self.pins.remove(digest);
            }
        }
    }

    fn show(&self) {
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.metrics.bytes.set(gauge(self.bytes));
        self.metrics.blobs.set(gauge(self.entries.len() as u64));
    }
}
