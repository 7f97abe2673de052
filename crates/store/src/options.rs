//! The store's options and what follows from them.

use crate::{Metrics, StoreError};
use std::path::PathBuf;
use std::time::Duration;

/// Where the store keeps its files and how much it may take.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cache directory; made if it is not there. It belongs to the store alone.
    pub dir: PathBuf,
    /// The most bytes that the blobs' files take together. Manifests and the database come on top: at most about
    /// 150 MB. Default 50 GiB.
    pub quota_bytes: u64,
    /// A new blob that would raise the use above this fraction of the quota evicts others first. Default 0.95.
    pub high_water: f64,
    /// Such an eviction goes on down to this fraction, where it can. At most `high_water`. Default 0.85.
    pub low_water: f64,
    /// This fraction of the file system stays free; below it the store evicts and takes no new blob. Default 0.2:
    /// kubelet removes images at 85 % use down to 80 %, and evicts pods at 15 % free of the image file system (10 % of
    /// the node's), so the cache has given way before an image or a pod has to. 0 turns it off.
    pub free_floor: f64,
    /// As `free_floor`, in bytes; the greater of both counts. Default 0.
    pub free_floor_bytes: u64,
    /// How long a written piece waits at most for the sync that makes it durable. Default 1 s.
    pub sync_interval: Duration,
    /// The database's cache, in bytes. Default 2 MiB.
    pub database_cache_bytes: usize,
    /// A piece whose last check is older is hashed again when it is read. Default 24 h.
    pub reverify_after: Duration,
    /// Where the store counts. The default counts for nobody.
    pub metrics: Metrics,
}

impl Options {
    /// The defaults, in this directory.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            quota_bytes: 50 << 30,
            high_water: 0.95,
            low_water: 0.85,
            free_floor: 0.2,
            free_floor_bytes: 0,
            sync_interval: Duration::from_secs(1),
            database_cache_bytes: 2 << 20,
            reverify_after: Duration::from_secs(24 * 3600),
            metrics: Metrics::default(),
        }
    }

    /// Checks that the options make sense together.
    ///
    /// # Errors
    /// [`StoreError::Option`] names the first field that does not.
    pub fn validate(&self) -> Result<(), StoreError> {
        let fail = |name, why| Err(StoreError::Option { name, why });
        let fraction = |value: f64| (0.0..=1.0).contains(&value);
        if !fraction(self.high_water) || self.high_water == 0.0 {
            return fail("high_water", "must be above 0 and at most 1");
        }
        if !fraction(self.low_water) || self.low_water > self.high_water {
            return fail("low_water", "must be at least 0 and at most high_water");
        }
        if !fraction(self.free_floor) || self.free_floor == 1.0 {
            return fail("free_floor", "must be at least 0 and below 1");
        }
        if self.sync_interval.is_zero() {
            return fail("sync_interval", "must be above 0");
        }
        Ok(())
    }

    /// The use above which a new blob evicts others, in bytes, with this quota.
    pub(crate) fn high_water_bytes(&self, quota_bytes: u64) -> u64 {
        part(quota_bytes, self.high_water)
    }

    /// The use down to which it evicts, in bytes, with this quota.
    pub(crate) fn low_water_bytes(&self, quota_bytes: u64) -> u64 {
        part(quota_bytes, self.low_water)
    }

    /// How much of a file system of `total` bytes stays free.
    pub(crate) fn floor_bytes(&self, total: u64) -> u64 {
        part(total, self.free_floor).max(self.free_floor_bytes)
    }
}

/// `fraction` of `whole`.
fn part(whole: u64, fraction: f64) -> u64 {
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a water mark need not be exact to the byte; the fraction is validated"
    )]
    {
        (whole as f64 * fraction) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senseless_options_are_named() {
        let good = Options::new("cache");
        good.validate().unwrap();
        assert_eq!(good.low_water_bytes(1000), 850);
        assert_eq!(Options { free_floor_bytes: 300, ..good.clone() }.floor_bytes(1000), 300);
        let named = |options: Options| match options.validate() {
            Err(StoreError::Option { name, .. }) => name,
            other => panic!("{other:?}"),
        };
        assert_eq!(named(Options { high_water: 1.5, ..good.clone() }), "high_water");
        assert_eq!(named(Options { high_water: f64::NAN, ..good.clone() }), "high_water");
        assert_eq!(named(Options { low_water: 0.96, ..good.clone() }), "low_water");
        assert_eq!(named(Options { free_floor: 1.0, ..good.clone() }), "free_floor");
        assert_eq!(named(Options { sync_interval: Duration::ZERO, ..good }), "sync_interval");
    }
}
