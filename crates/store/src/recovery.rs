//! What the store finds when it is opened.
//!
//! The records name only what was synced, so little has to be done after an unclean stop: pieces that no record names
//! are gone, files that none names are removed. Every piece is hashed on its first read anyway, so a file that was
//! altered meanwhile is found out then. A piece that no stored chain can prove is dropped.

use crate::database::{Metadata, Record};
use crate::entry::Entry;
use crate::file::Directory;
use crate::index::Index;
use crate::inner::Found;
use crate::manifest::new_recency;
use crate::recency::Recency;
use crate::space::chain_len;
use crate::{Metrics, StoreError};
use redb::Durability;
use std::collections::BTreeSet;
use std::sync::Arc;
use types::Digest;

/// The chains that are kept without their bytes, in bytes: 16 MiB, of about a terabyte of blobs.
const RETAINED_BYTES_MAX: u64 = 16 << 20;

/// How many chains are kept without their bytes.
const RETAINED_MAX: usize = 16_384;

/// Reads the database and puts the directory in accord with it.
pub(crate) fn recover(
    directory: &Directory,
    metadata: &Metadata,
    metrics: &Metrics,
) -> Result<Found, StoreError> {
    if !metadata.mark_open()? {
        tracing::info!("the cache was not closed, recovering");
    }
    let mut found = Found {
        index: Index::new(metrics.clone()),
        retained: Recency::new(RETAINED_BYTES_MAX, RETAINED_MAX),
        manifests: new_recency(),
        stamp: 0,
    };
    let mut void: BTreeSet<String> = metadata.chain_keys()?.into_iter().collect();
    let mut corrected = Vec::new();
    for (key, row) in metadata.records()? {
        let kept = match row {
            Some((digest, record)) => {
                examine(directory, metadata, digest, record)?.map(|kept| (digest, kept))
            }
            None => None,
        };
        let Some((digest, (record, changed))) = kept else {
            void.insert(key);
            continue;
        };
        void.remove(&key);
        found.stamp = found.stamp.max(record.used);
        if record.pieces.is_empty() && record.layout.count() > 0 {
            found.retained.insert(digest, record.used, chain_len(&digest, record.layout));
            continue;
        }
        if changed {
            corrected.push((digest, record.clone()));
        }
        found.index.insert(Arc::new(Entry::new(digest, record, None)));
    }
    for (digest, used, len) in metadata.manifests()? {
        found.stamp = found.stamp.max(used);
        found.manifests.insert(digest, used, len);
    }
    if !void.is_empty() || !corrected.is_empty() {
        metadata.write(Durability::Immediate, |batch| {
            void.iter().try_for_each(|key| batch.delete(key))?;
            corrected.iter().try_for_each(|(digest, record)| batch.put_record(digest, record))
        })?;
    }
    let known: BTreeSet<Digest> = found.index.iter().map(|entry| entry.digest).collect();
    let strays = directory.remove_strays(|digest| known.contains(digest))?;
    let (blobs, bytes) = (known.len(), found.index.bytes());
    tracing::info!(blobs, bytes, void = void.len(), strays, "cache opened");
    Ok(found)
}

/// What of a record can be relied on, and whether that is less than it says; nothing if it is void.
fn examine(
    directory: &Directory,
    metadata: &Metadata,
    digest: Digest,
    mut record: Record,
) -> Result<Option<(Record, bool)>, StoreError> {
    let layout = record.layout;
    let Some(chain) = metadata.chain(&digest, layout)? else { return Ok(None) };
    let before = record.clone();
    record.closed &= chain.is_whole();
    if directory.len(&digest) == Some(layout.size()) {
        for piece in before.pieces.iter().filter(|piece| chain.link(*piece).is_none()) {
            record.pieces.remove(piece);
        }
    } else {
        if !before.pieces.is_empty() {
            tracing::warn!(%digest, "a blob's file is missing or has another length, forgetting it");
        }
        record.pieces.subtract(&before.pieces);
    }
    let changed = record != before;
    Ok((record.closed || !record.pieces.is_empty()).then_some((record, changed)))
}
