//! What came of a run.

use download_core::Failure;
use scheduler_core::Counters;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;
use types::Timestamp;

/// How far a run was at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// After the start.
    pub at: Duration,
    /// Hosts whose clients had all they wanted.
    pub complete: usize,
    /// Bytes that had come from the origin, from peers, and from peers in other zones.
    pub origin_bytes: u64,
    /// See [`Self::origin_bytes`].
    pub peer_bytes: u64,
    /// See [`Self::origin_bytes`].
    pub boundary_bytes: u64,
    /// What was sent at that moment of what could be, in thousandths: by the origin, by all hosts, by the source.
    pub origin_use: u64,
    /// See [`Self::origin_use`].
    pub uplink_use: u64,
    /// See [`Self::origin_use`].
    pub source_use: u64,
}

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// From the start to the last client's last byte, in simulated time, or to the last fault's end.
    pub took: Duration,
    /// Bytes of all blobs together.
    pub blob_bytes: u64,
    /// The lengths of all their pieces.
    pub pieces: Vec<u64>,
    /// Bytes read from the origin in whole pieces.
    pub origin_bytes: u64,
    /// Bytes read from the origin for single readers, past the chain.
    pub through_bytes: u64,
    /// Bytes between zones, where zones have boundaries.
    pub boundary_bytes: u64,
    /// Bytes between racks, of whatever zones.
    pub rack_bytes: u64,
    /// When each host's first client came, after the start.
    pub came: Vec<Duration>,
    /// When each host's last client had all it wanted, after the start; zero for a host that left.
    pub completed: Vec<Duration>,
    /// When each blob's last client had all it wanted, after the start.
    pub served: Vec<Duration>,
    /// Bytes that each host sent to others.
    pub uploaded_bytes: Vec<u64>,
    /// Errors that readers got: host, blob, why.
    pub failures: Vec<(usize, usize, Failure)>,
    /// How often a lease was taken over, by what had ended the one before.
    pub takeovers: BTreeMap<&'static str, u64>,
    /// How often something went wrong, by its kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// How far it was from time to time.
    pub samples: Vec<Sample>,
    /// What the last scheduler counted.
    pub counters: Counters,
    /// Stands for everything that happened: the same for the same settings.
    pub trace: u64,
}

/// A hash of everything that happens (FNV-1a, 64 bits), printed where asked.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    verbose: bool,
    thorough: bool,
}

impl Trace {
    pub(crate) const fn new(verbose: bool, thorough: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, verbose, thorough }
    }

    pub(crate) fn note(&mut self, now: Timestamp, who: &str, number: usize, what: &dyn Debug) {
        if !self.verbose && !self.thorough {
            return;
        }
        let line = format!("{now} {who} {number}: {what:?}");
        if self.verbose {
            println!("{line}");
        }
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }
}
