//! Manifests and other small documents, in the database: the proxy serves them by digest without asking the origin.

use crate::inner::Inner;
use crate::lock::lock;
use crate::recency::Recency;
use crate::{MANIFEST_LEN_MAX, Manifest, StoreError};
use bytes::Bytes;
use redb::Durability;
use std::sync::atomic::Ordering;
use types::Digest;

/// How long all manifests are together at most, in bytes: 64 MiB.
const MANIFESTS_BYTES_MAX: u64 = 64 << 20;

/// How many manifests there are at most.
const MANIFESTS_MAX: usize = 16_384;

/// The longest media type, in bytes: twice 127 and the slash (RFC 6838, section 4.2).
const MEDIA_TYPE_LEN_MAX: usize = 255;

/// The order in which manifests give way.
pub(crate) const fn new_recency() -> Recency {
    Recency::new(MANIFESTS_BYTES_MAX, MANIFESTS_MAX)
}

impl Inner {
    /// Stores a manifest; durable with the next group commit.
    pub(crate) fn put_manifest(
        &self,
        digest: &Digest,
        media_type: &str,
        bytes: &Bytes,
    ) -> Result<(), StoreError> {
        for (len, len_max) in [(bytes.len(), MANIFEST_LEN_MAX), (media_type.len(), MEDIA_TYPE_LEN_MAX)] {
            if len > len_max {
                return Err(StoreError::ManifestLength { digest: *digest, len });
            }
        }
        if !digest.matches(bytes) {
            return Err(StoreError::ManifestDigest { digest: *digest });
        }
        let used = self.stamp();
        let mut manifests = lock(&self.manifests);
        manifests.insert(*digest, used, (media_type.len() + bytes.len()) as u64);
        let shed: Vec<Digest> = std::iter::from_fn(|| manifests.shed()).collect();
        drop(manifests);
        self.metadata(|metadata| {
            metadata.write(Durability::None, |batch| {
                shed.iter().try_for_each(|digest| batch.delete_manifest(digest))?;
                batch.put_manifest(digest, used, media_type, bytes)
            })
        })?;
        self.manifests_changed.store(true, Ordering::Release);
        Ok(())
    }

    /// A manifest. One that has changed on the disk is removed, and not found.
    pub(crate) fn get_manifest(&self, digest: &Digest) -> Result<Option<Manifest>, StoreError> {
        let Some((media_type, content)) = self.metadata(|metadata| metadata.manifest(digest))? else {
            return Ok(None);
        };
        if digest.matches(&content) {
            lock(&self.manifests).touch(digest, self.stamp());
            return Ok(Some(Manifest { media_type, bytes: content.into() }));
        }
        tracing::warn!(%digest, "a manifest has changed on the disk, forgetting it");
        self.options.metrics.verification_failures.inc();
        lock(&self.manifests).remove(digest);
        self.metadata(|metadata| metadata.write(Durability::None, |batch| batch.delete_manifest(digest)))?;
        self.manifests_changed.store(true, Ordering::Release);
        Ok(None)
    }
}
