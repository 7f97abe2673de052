//! The bounds and delays of a download.

use std::time::Duration;

/// The bounds and delays of one download; the same for all downloads of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Transfers from peers at once; an assignment beyond is answered with a failure of its own. Default 16, at least 1.
    pub fetches_max: usize,
    /// Bytes of one request to the origin, rounded to whole pieces, at least one. Default 4 MiB.
    pub stripe_bytes: u64,
    /// Requests to the origin at once. Default 3, at least 1.
    pub origin_streams: usize,
    /// Bytes of pieces asked of the origin and not hashed yet; one stripe is always allowed. Default 16 MiB.
    pub window_bytes: u64,
    /// How long a reader waits without progress before its next range is read straight from the origin; four times that
    /// while other pieces come to this host. Default 3 s.
    pub patience: Duration,
    /// By how much the patience is drawn out or shortened at random, in percent, so that the hosts of a cluster do not
    /// all turn to the origin at once. Default 20, at most 100.
    pub patience_jitter_percent: u8,
    /// How many hosts the cluster has, this one included, as far as known. The larger the crowd, the longer most of its
    /// hosts wait beyond their patience, at most twice as long: what those read that lose it first reaches the others
    /// before they take the origin from the source that reads for all. Default 1.
    pub crowd: u32,
    /// A reader at most this far ahead of the chain's end, or of another such reader, is waited for by reading in order;
    /// one beyond is read through, this much at a time. Default 8 MiB, the distance at which containerd's parallel reads
    /// of a layer follow each other.
    pub readahead_bytes: u64,
    /// A reader for whose bytes the chain will not have come in this time is read through. Default 1 s.
    pub readahead_time: Duration,
    /// Readers that are read through at once; others wait. Default 4, at least 1.
    pub read_through_max: usize,
    /// How long a download goes on when its clients have left. Default 30 s.
    pub linger: Duration,
    /// How long a failing origin is tried again while a reader waits and nobody else can help. Default 20 s.
    pub origin_patience: Duration,
    /// The first pause after a failure of the origin; doubled after each, up to [`Self::origin_backoff_max`], with up to
    /// half of it taken off at random. Default 250 ms.
    pub origin_backoff: Duration,
    /// The longest pause after a failure of the origin. Default 4 s.
    pub origin_backoff_max: Duration,
    /// The shortest time between two positions told to the scheduler. Default 50 ms.
    pub position_interval: Duration,
    /// A reader that waits longer than this is called blocked. Default 200 ms.
    pub blocked_after: Duration,
}

impl Default for Options {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            fetches_max: 16,
            stripe_bytes: 4 * MIB,
            origin_streams: 3,
            window_bytes: 16 * MIB,
            patience: Duration::from_secs(3),
            patience_jitter_percent: 20,
            crowd: 1,
            readahead_bytes: 8 * MIB,
            readahead_time: Duration::from_secs(1),
            read_through_max: 4,
            linger: Duration::from_secs(30),
            origin_patience: Duration::from_secs(20),
            origin_backoff: Duration::from_millis(250),
            origin_backoff_max: Duration::from_secs(4),
            position_interval: Duration::from_millis(50),
            blocked_after: Duration::from_millis(200),
        }
    }
}
