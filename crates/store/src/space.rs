//! Room on the disk: new blobs, the quota and its water marks, the free-space floor, eviction.
//!
//! A blob larger than the quota is refused with [`StoreError::TooLarge`]. Streaming such a blob through a window of a few
//! pieces would begin in [`Inner::create`], with a file of the window's length and a record that is never stored.

use crate::database::Record;
use crate::entry::{Entry, Live};
use crate::inner::{Hold, Inner};
use crate::lock::lock;
use crate::possession::Possessions;
use crate::{Blob, StoreError};
use redb::Durability;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use types::{Chain, Digest, PieceLayout, PieceSet};

/// The length of a stored chain in bytes.
pub(crate) fn chain_len(digest: &Digest, layout: PieceLayout) -> u64 {
    (u64::from(layout.count()) + 1) * digest.algorithm().digest_len() as u64
}

impl Inner {
    /// The blob, made if it is not there.
    pub(crate) fn create(self: &Arc<Self>, digest: &Digest, layout: PieceLayout) -> Result<Blob, StoreError> {
        let _space = lock(&self.space);
        if let Some(blob) = self.existing(digest, layout)? {
            return Ok(blob);
        }
        let (record, chain) = self.remembered(digest, layout)?;
        let quota = self.quota_bytes();
        if layout.size() > quota {
            return Err(StoreError::TooLarge { size: layout.size(), quota });
        }
        self.make_room(layout.size())?;
        let file = Arc::new(self.directory.create(digest, layout.size())?);
        let live = Live { file: Arc::clone(&file), chain };
        let entry = Arc::new(Entry::new(*digest, record, Some(live)));
        entry.handles.store(1, Ordering::Release);
        let hold = Hold(Arc::clone(&entry));
        lock(&self.index).insert(Arc::clone(&entry));
        lock(&self.retained).remove(digest);
        if layout.count() == 0 && entry.close()? {
            self.mark_dirty(&entry);
        }
        Ok(Blob::new(Arc::clone(self), hold, file))
    }

    /// The blob that is there. One with another layout that is not proven, or one that cannot be opened, gives way
    /// unless it is in use.
    fn existing(self: &Arc<Self>, digest: &Digest, layout: PieceLayout) -> Result<Option<Blob>, StoreError> {
        let (error, gives_way) = match self.get(digest) {
            Ok(None) => return Ok(None),
            Ok(Some(blob)) if blob.layout() == layout => return Ok(Some(blob)),
            Ok(Some(blob)) => {
                let held = blob.layout();
                (StoreError::Layout { digest: *digest, held, asked: layout }, !blob.is_closed())
            }
            Err(error) => (error, true),
        };
        let taken = if gives_way { lock(&self.index).take(digest) } else { None };
        match taken {
            Some(entry) => self.remove(&[entry]).map(|()| None),
            None => Err(error),
        }
    }

    /// What is still known of an evicted blob: its proven chain.
    fn remembered(&self, digest: &Digest, layout: PieceLayout) -> Result<(Record, Chain), StoreError> {
        let pieces = PieceSet::empty(layout.count());
        let new =
            Record { layout, used: self.stamp(), closed: false, pieces, possessions: Possessions::default() };
        let chain = Chain::new(*digest, layout)?;
        if !lock(&self.retained).contains(digest) {
            return Ok((new, chain));
        }
        let stored = self.metadata(|metadata| {
            let Some(record) = metadata.record(digest)? else { return Ok(None) };
            let chain = metadata.chain(digest, record.layout)?;
            Ok(chain.filter(Chain::is_whole).map(|chain| (record, chain)))
        })?;
        match stored {
            Some((record, chain)) if record.layout == layout => {
                Ok((Record { used: new.used, possessions: record.possessions, closed: true, ..new }, chain))
            }
            // The padding of the last block holds the length, so a proven chain proves the size.
            Some((record, _)) if record.layout.size() != layout.size() => {
                Err(StoreError::Layout { digest: *digest, held: record.layout, asked: layout })
            }
            _ => Ok((new, chain)),
        }
    }

    /// Evicts until `size` bytes more fit, with the caller holding `space`.
    fn make_room(&self, size: u64) -> Result<(), StoreError> {
        let used = lock(&self.index).bytes().saturating_add(size);
        let quota = self.quota_bytes();
        let over_quota = used.saturating_sub(quota);
        let under_floor = self.under_floor(size)?;
        let must = over_quota.max(under_floor);
        let over_high_water = used > self.options.high_water_bytes(quota);
        let wish = if over_high_water { used.saturating_sub(self.options.low_water_bytes(quota)) } else { 0 };
        let freed = self.evict_bytes(must.max(wish))?;
        if freed < must { Err(StoreError::Full { needed: must - freed }) } else { Ok(()) }
    }

    /// Evicts about `slice` bytes at most of what is above the low water mark, if the use is above the high one; how many it
    /// were.
    pub(crate) fn give_way(&self, slice: u64) -> Result<u64, StoreError> {
        let _space = lock(&self.space);
        let (quota, used) = (self.quota_bytes(), lock(&self.index).bytes());
        if used <= self.options.high_water_bytes(quota) {
            return Ok(0);
        }
        self.evict_bytes(used.saturating_sub(self.options.low_water_bytes(quota)).min(slice))
    }

    /// By how much the free space would fall below the floor if `size` bytes were taken.
    fn under_floor(&self, size: u64) -> Result<u64, StoreError> {
        let space = self.directory.space()?;
        let floor = self.options.floor_bytes(space.total);
        Ok(floor.saturating_add(size).saturating_sub(space.available))
    }

    /// Evicts the least recently used until `bytes` are free, or none is left; how many are.
    fn evict_bytes(&self, bytes: u64) -> Result<u64, StoreError> {
        if bytes == 0 {
            return Ok(0);
        }
        let victims = lock(&self.index).take_oldest(bytes);
        if !victims.is_empty() {
            self.remove(&victims)?;
        }
        Ok(victims.iter().map(|entry| entry.layout.size()).sum())
    }

    /// Evicts one blob unless it is in use; whether it did.
    pub(crate) fn evict(&self, digest: &Digest) -> Result<bool, StoreError> {
        let _space = lock(&self.space);
        let taken = lock(&self.index).take(digest);
        taken.map_or(Ok(false), |entry| self.remove(&[entry]).map(|()| true))
    }

    /// Gives way where the file system has become full by others, and removes files of blobs of which nothing came.
    pub(crate) fn tend(&self) -> Result<(), StoreError> {
        let _space = lock(&self.space);
        self.remove_empty()?;
        self.evict_bytes(self.under_floor(0)?).map(drop)
    }

    /// Removes the blobs in nobody's hands of which no piece is held. The caller holds `space`.
    pub(crate) fn remove_empty(&self) -> Result<(), StoreError> {
        let mut index = lock(&self.index);
        let is_empty = |entry: &Entry| entry.layout.count() > 0 && entry.held().pieces().is_empty();
        let empty: Vec<Digest> = index
            .iter()
            .filter(|entry| entry.is_idle() && is_empty(entry))
            .map(|entry| entry.digest)
            .collect();
        let taken: Vec<_> = empty.iter().filter_map(|digest| index.take(digest)).collect();
        drop(index);
        if taken.is_empty() { Ok(()) } else { self.remove(&taken) }
    }

    /// Removes blobs that were taken out of the index, with the caller holding `space`: first the records, so that none
    /// of them can name the bytes of a later file, then the files.
    fn remove(&self, victims: &[Arc<Entry>]) -> Result<(), StoreError> {
        let mut stored = self.remove_records(victims);
        let mut removed = Ok(());
        for entry in victims {
            removed = removed.and(self.directory.remove(&entry.digest));
        }
        if stored.is_err() {
            // The database may have failed for want of the very space that the files have just given back.
            stored = self.remove_records(victims);
        }
        let metrics = &self.options.metrics;
        for entry in victims {
            let held_any = !entry.held().pieces().is_empty();
            if held_any {
                metrics.evictions.inc();
                metrics.evicted_bytes.inc_by(entry.layout.size());
                // Nobody listens: nobody has to be told.
                let _ = self.lost.send(entry.digest);
            }
            tracing::debug!(digest = %entry.digest, bytes = entry.layout.size(), held_any, "blob evicted");
        }
        removed.and(stored)
    }

    /// Deletes the records, but keeps the proven chains, as many as may be kept.
    fn remove_records(&self, victims: &[Arc<Entry>]) -> Result<(), StoreError> {
        let mut retained = lock(&self.retained);
        for entry in victims.iter().filter(|entry| is_worth_keeping(entry)) {
            let used = entry.used.load(Ordering::Relaxed);
            retained.insert(entry.digest, used, chain_len(&entry.digest, entry.layout));
        }
        let shed: Vec<Digest> = std::iter::from_fn(|| retained.shed()).collect();
        drop(retained);
        self.metadata(|metadata| {
            metadata.write(Durability::Immediate, |batch| {
                for entry in victims {
                    if !is_worth_keeping(entry) {
                        batch.delete(&entry.digest.to_string())?;
                        continue;
                    }
                    if let Some(chain) = entry.unsaved_chain() {
                        batch.put_chain(&chain)?;
                    }
                    batch.put_record(&entry.digest, &entry.record_without_pieces())?;
                }
                for digest in &shed {
                    batch.delete(&digest.to_string())?;
                }
                Ok(())
            })
        })
    }
}

/// Whether the chain is kept without the bytes.
fn is_worth_keeping(entry: &Entry) -> bool {
    entry.layout.count() > 0 && entry.held().closed()
}
