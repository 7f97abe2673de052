//! What can be tuned, with the reasons for the defaults. The driver fills it from its configuration.

use std::time::Duration;

/// The scheduler's settings. The defaults suit a data centre.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// A source that could read on and says nothing for this long loses its lease. Default 3 s. Each lapse in a row
    /// doubles it, up to 16 times, so that an origin slower than that still gets the blob across; and a source of
    /// several blobs, which share its link, has so many times as long, at most four times.
    pub lease_ttl: Duration,
    /// How long a blob that is new waits for a host that reads no other, before one that does gets its lease too: the
    /// hosts of a rollout do not all ask in the same moment. Default 200 ms.
    pub lease_spread: Duration,
    /// How many blobs of one registry are read at a time before another is begun. Default 4.
    pub leases_at_once: usize,
    /// How long a blob waits at most while so many others are read, which may be for nothing: an
    /// origin may have more for many than for few. Default 250 ms.
    pub lease_wait: Duration,
    /// How long a blob that nobody waits for gives way to those of its registry that clients wait for: so long it is not
    /// begun, and its source reads a little more only that often. Default 10 s.
    pub preheat_wait: Duration,
    /// A source is expected to read at least this many bytes per second: a piece that takes longer than
    /// [`Self::lease_ttl`] at this rate extends the lease accordingly. Default 1 MiB/s.
    pub source_rate_min: u64,
    /// A transfer without an answer for this long is cancelled and given to another parent. Default 10 s.
    pub transfer_timeout: Duration,
    /// A transfer is expected to move at least this many bytes per second: a piece that takes longer than
    /// [`Self::transfer_timeout`] at this rate gets the longer time. Default 512 KiB/s.
    pub transfer_rate_min: u64,
    /// How many bytes a source may hold that no second host has or is being sent, while others want the blob: with what is
    /// on its way, what its death costs.
    /// Default 16 MiB.
    pub source_ahead_bytes: u64,
    /// The least that a source may be ahead, in bytes: two stripes of the origin's reader. Default 8 MiB; four pieces
    /// if that is more.
    pub source_ahead_min_bytes: u64,
    /// A source that has waited at its limit for this long may read a little more, so that its own reader goes on when
    /// nobody takes what it has. Default 1 s.
    pub source_limit_patience: Duration,
    /// While anything moves, a source sends only what nobody else has; after this long without, anything. Once it has
    /// sent a quarter of the blob in this way, it waits four times as long. Default 1 s.
    pub source_patience: Duration,
    /// After the start no new lease is granted for this long, since hosts may still announce what they hold. It
    /// begins with the first event handled. Default 1 s; zero for a scheduler without remote hosts.
    pub quiet_period: Duration,
    /// Pieces with this many copies or more, held and in flight, count as equally common. Default 192, at most 255.
    pub rarity_cap: u8,
    /// How many hosts are looked at, drawn at random, for one match. Default 4.
    pub samples: usize,
    /// How many more are looked at in turn when none of those drawn fits. Default 64.
    pub scan_max: usize,
    /// How long a host waits for a holder in its own zone before the piece may cross the zone boundary once more.
    /// Default 2 s: less than the daemons' patience with the scheduler.
    pub gate_patience: Duration,
    /// How long waiters wait for a host with a credential that works before they are told that there is none.
    /// Default 500 ms.
    pub no_source_grace: Duration,
    /// How long a holder may take to answer a question for a chain's states. Default 1 s.
    pub chain_answer_timeout: Duration,
    /// The first pause after an origin throttled a source or could not be reached; doubled each time, with jitter.
    /// Default 500 ms.
    pub origin_backoff_min: Duration,
    /// The longest such pause. Default 8 s.
    pub origin_backoff_max: Duration,
    /// A parent that answered 'busy' is left alone for this long. Default 100 ms.
    pub busy_pause: Duration,
    /// The first pause of a child with a parent that it could not use; doubled each time. Default 200 ms.
    pub avoid_min: Duration,
    /// The longest such pause. Default 30 s.
    pub avoid_max: Duration,
    /// How long a report against a host counts. Default 5 min.
    pub blame_window: Duration,
    /// The weight of reports by different hosts that puts a host into quarantine, in thousandths of a full report.
    /// Default 3500, so that it takes four hosts at least.
    pub quarantine_weight: u32,
    /// The first quarantine; doubled each time within [`Self::blame_window`] of the last. Default 30 s.
    pub quarantine_min: Duration,
    /// The longest quarantine. Default 10 min.
    pub quarantine_max: Duration,
    /// The most hosts; one more is not admitted. Default 20,000.
    pub hosts_max: usize,
    /// The most blobs that one host can want or hold; further ones are ignored. Default 16,384.
    pub blobs_per_host_max: usize,
    /// The most blobs; further ones are ignored. Default 262,144.
    pub blobs_max: usize,
    /// The first lease's epoch. A driver that restarts passes a larger one each time (such as the time of day in
    /// microseconds), so that what the last scheduler said is recognised as old. Default 1.
    pub first_epoch: u64,
    /// For simulations: this piece length instead of the one that every host computes from the size. Default none.
    pub piece_len: Option<u32>,
}

impl Options {
    /// The time for a transfer of a piece of this length.
    pub(crate) fn transfer_time(&self, piece_len: u32) -> Duration {
        let at_rate = u64::from(piece_len) / self.transfer_rate_min.max(1);
        self.transfer_timeout.max(Duration::from_secs(at_rate))
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lease_ttl: Duration::from_secs(3),
            lease_spread: Duration::from_millis(200),
            leases_at_once: 4,
            lease_wait: Duration::from_millis(250),
            preheat_wait: Duration::from_secs(10),
            source_rate_min: 1 << 20,
            transfer_timeout: Duration::from_secs(10),
            transfer_rate_min: 512 << 10,
            source_ahead_bytes: 16 << 20,
            source_ahead_min_bytes: 8 << 20,
            source_limit_patience: Duration::from_secs(1),
            source_patience: Duration::from_secs(1),
            quiet_period: Duration::from_secs(1),
            rarity_cap: 192,
            samples: 4,
            scan_max: 64,
            gate_patience: Duration::from_secs(2),
            no_source_grace: Duration::from_millis(500),
            chain_answer_timeout: Duration::from_secs(1),
            origin_backoff_min: Duration::from_millis(500),
            origin_backoff_max: Duration::from_secs(8),
            busy_pause: Duration::from_millis(100),
            avoid_min: Duration::from_millis(200),
            avoid_max: Duration::from_secs(30),
            blame_window: Duration::from_secs(300),
            quarantine_weight: 3500,
            quarantine_min: Duration::from_secs(30),
            quarantine_max: Duration::from_secs(600),
            hosts_max: 20_000,
            blobs_per_host_max: 16_384,
            blobs_max: 262_144,
            first_epoch: 1,
            piece_len: None,
        }
    }
}
