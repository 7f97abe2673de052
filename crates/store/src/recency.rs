//! Which digest was used longest ago, among a bounded number with a bounded length in total.
//!
//! Bounds what the database keeps beside the blobs: manifests, and chains whose bytes were evicted.

use std::collections::{BTreeMap, BTreeSet};
use types::Digest;

/// Digests in the order of their last use, each with a length.
#[derive(Debug)]
pub(crate) struct Recency {
    bytes_max: u64,
    count_max: usize,
    bytes: u64,
    entries: BTreeMap<Digest, (u64, u64)>,
    order: BTreeSet<(u64, Digest)>,
}

impl Recency {
    /// Of at most `count_max` digests with at most `bytes_max` bytes in total.
    pub(crate) const fn new(bytes_max: u64, count_max: usize) -> Self {
        Self { bytes_max, count_max, bytes: 0, entries: BTreeMap::new(), order: BTreeSet::new() }
    }

    /// The length of all in bytes.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether `digest` is in.
    pub(crate) fn contains(&self, digest: &Digest) -> bool {
        self.entries.contains_key(digest)
    }

    /// Adds `digest`, used at `stamp`, or replaces what was said of it.
    pub(crate) fn insert(&mut self, digest: Digest, stamp: u64, len: u64) {
        self.remove(&digest);
        self.entries.insert(digest, (stamp, len));
        self.order.insert((stamp, digest));
        self.bytes += len;
    }

    /// Moves `digest` to `stamp` if it is in.
    pub(crate) fn touch(&mut self, digest: &Digest, stamp: u64) {
        if let Some(&(_, len)) = self.entries.get(digest) {
            self.insert(*digest, stamp, len);
        }
    }

    /// Takes `digest` out; whether it was in.
    pub(crate) fn remove(&mut self, digest: &Digest) -> bool {
        let Some((stamp, len)) = self.entries.remove(digest) else { return false };
        self.order.remove(&(stamp, *digest));
        self.bytes -= len;
        true
    }

    /// Takes out the one used longest ago if there are too many or too long ones.
    pub(crate) fn shed(&mut self) -> Option<Digest> {
        if self.bytes <= self.bytes_max && self.entries.len() <= self.count_max {
            return None;
        }
        let &(_, oldest) = self.order.first()?;
        self.remove(&oldest);
        Some(oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_shed_first() {
        let digest = |i: u8| Digest::sha256(&[i]);
        let mut recency = Recency::new(100, 3);
        for i in 0..3 {
            recency.insert(digest(i), u64::from(i), 10);
        }
        assert_eq!(recency.shed(), None);
        recency.touch(&digest(0), 9);
        recency.insert(digest(3), 10, 10);
        assert_eq!(recency.shed(), Some(digest(1)));
        assert_eq!(recency.shed(), None);
        recency.insert(digest(3), 11, 85);
        assert_eq!(recency.bytes(), 105);
        assert_eq!(recency.shed(), Some(digest(2)));
        assert_eq!(recency.shed(), None);
        assert!(recency.remove(&digest(0)) && !recency.remove(&digest(0)) && recency.contains(&digest(3)));
    }
}
