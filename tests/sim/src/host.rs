//! A simulated host: its disk, its clients, its running downloads, its link.

use crate::blob::Blob;
use crate::store::Stored;
use download_core::{Download, FetchId, LinkState, ReadId, ReaderId};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::Duration;
use types::{ByteRange, HostId, PieceIndex, State, Timestamp};

/// A running download on a host, by numbers; a stopped one's number is not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Spot {
    pub(crate) host: usize,
    pub(crate) blob: usize,
    pub(crate) serial: u64,
}

/// A transfer that a host waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fetching {
    pub(crate) parent: usize,
    pub(crate) piece: PieceIndex,
    pub(crate) before: State,
    pub(crate) after: State,
}

/// A client that reads a range of a blob, again and again until it has it.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) range: ByteRange,
    pub(crate) done: bool,
    /// Whether it is reading.
    pub(crate) reading: bool,
}

/// One attempt of a client.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) client: usize,
    pub(crate) range: ByteRange,
    pub(crate) got: Vec<u8>,
    pub(crate) through: Option<ByteRange>,
}

impl Reader {
    pub(crate) fn offset(&self) -> u64 {
        self.range.start() + self.got.len() as u64
    }
}

/// A running download with what its driver keeps.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) serial: u64,
    pub(crate) core: Download,
    pub(crate) fetches: BTreeMap<FetchId, Fetching>,
    pub(crate) reads: BTreeMap<ReadId, Range<u32>>,
    pub(crate) kept: BTreeMap<PieceIndex, Vec<u8>>,
    pub(crate) readers: BTreeMap<ReaderId, Reader>,
    pub(crate) next_reader: u64,
    /// The tick that is in the queue.
    pub(crate) tick_at: Option<Timestamp>,
}

/// What a host has to do with one blob.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) stored: Stored,
    pub(crate) clients: Vec<Client>,
    pub(crate) running: Option<Running>,
}

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) id: HostId,
    pub(crate) alive: bool,
    /// It is dead for good.
    pub(crate) left: bool,
    /// Counts its starts.
    pub(crate) incarnation: u64,
    pub(crate) corrupts: bool,
    /// What it gets from the origin is wrong now and then.
    pub(crate) is_lied_to: bool,
    pub(crate) has_right: bool,
    /// It says that it holds what it does not.
    pub(crate) overclaims: bool,
    /// By how much longer its messages take, both ways, and until when.
    pub(crate) lag: (Duration, Timestamp),
    pub(crate) uploads: u16,
    /// Whether bytes come from peers is looked at soon.
    pub(crate) watched: bool,
    /// Requests that wait for an upload slot, the oldest first.
    pub(crate) waiting: VecDeque<(Spot, FetchId)>,
    pub(crate) places: Vec<Place>,
    pub(crate) link: LinkState,
    /// Counts its streams; what was sent on an older one is lost.
    pub(crate) session: u64,
    /// When the last message sent in each direction arrives: streams keep their order.
    pub(crate) up_at: Timestamp,
    pub(crate) down_at: Timestamp,
}

impl Host {
    pub(crate) fn new(number: usize, has_right: bool, blobs: &[Blob]) -> Self {
        let id = HostId::of_peer_id(&number.to_be_bytes());
        let place = |blob| Place { stored: Stored::new(blob), clients: Vec::new(), running: None };
        Self {
            id,
            alive: true,
            left: false,
            incarnation: 0,
            corrupts: false,
            is_lied_to: false,
            has_right,
            overclaims: false,
            lag: (Duration::ZERO, Timestamp::ZERO),
            uploads: 0,
            watched: false,
            waiting: VecDeque::new(),
            places: blobs.iter().map(place).collect(),
            link: LinkState::Down,
            session: 0,
            up_at: Timestamp::ZERO,
            down_at: Timestamp::ZERO,
        }
    }

    /// By how much longer its messages take now.
    pub(crate) fn lag(&self, now: Timestamp) -> Duration {
        if now < self.lag.1 { self.lag.0 } else { Duration::ZERO }
    }

    pub(crate) fn running(&mut self, spot: Spot) -> Option<&mut Running> {
        self.places[spot.blob].running.as_mut().filter(|running| running.serial == spot.serial)
    }
}
