//! What the store counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// The store's metrics. A clone counts into the same ones.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Bytes that the blobs' files take.
    pub(crate) bytes: Gauge,
    /// Blobs, whole or in part.
    pub(crate) blobs: Gauge,
    /// Blobs evicted.
    pub(crate) evictions: Counter,
    /// Bytes of blobs evicted.
    pub(crate) evicted_bytes: Counter,
    /// Pieces and manifests whose bytes had changed on the disk.
    pub(crate) verification_failures: Counter,
    /// Bytes hashed again on a read.
    pub(crate) verified_bytes: Counter,
    /// How long a group commit took.
    pub(crate) sync_seconds: Histogram,
    /// Group commits that failed.
    pub(crate) sync_failures: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            bytes: Gauge::default(),
            blobs: Gauge::default(),
            evictions: Counter::default(),
            evicted_bytes: Counter::default(),
            verification_failures: Counter::default(),
            verified_bytes: Counter::default(),
            sync_seconds: Histogram::new([0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0]),
            sync_failures: Counter::default(),
        }
    }
}

impl Metrics {
    /// New metrics, shown in `registry` with the prefix `store_`. They belong into [`crate::Options::metrics`].
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let store = registry.sub_registry_with_prefix("store");
        let bytes = || Unit::Bytes;
        store.register_with_unit("cache", "Size of the blobs' files", bytes(), metrics.bytes.clone());
        store.register("blobs", "Blobs in the cache, whole or in part", metrics.blobs.clone());
        store.register("evictions", "Blobs evicted", metrics.evictions.clone());
        store.register_with_unit(
            "evicted",
            "Size of the blobs evicted",
            bytes(),
            metrics.evicted_bytes.clone(),
        );
        store.register(
            "verification_failures",
            "Pieces and manifests whose bytes had changed on the disk",
            metrics.verification_failures.clone(),
        );
        store.register_with_unit(
            "verified",
            "Bytes hashed again when they were read",
            bytes(),
            metrics.verified_bytes.clone(),
        );
        store.register_with_unit(
            "sync",
            "Duration of the group commits that make pieces durable",
            Unit::Seconds,
            metrics.sync_seconds.clone(),
        );
        store.register("sync_failures", "Group commits that failed", metrics.sync_failures.clone());
        metrics
    }
}
