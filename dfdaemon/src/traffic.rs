//! How many bytes went where: by source, and by peer.
//!
//! Counted where bytes arrive and leave, in the meter that `/metrics` shows; told to the scheduler every few seconds.
//! What it adds to the meter is where each peer stands. A [`Tally`] has the bytes of one request, for the audit log.

use process::audit::Sources;
use process::metrics::{Direction, Source, TrafficMeter};
use proto::PeerTraffic;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use types::{HostId, Label};

/// With which right bytes were read from the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadUnder {
    /// The lease.
    Lease,
    /// None: patience ran out, there is no scheduler, or the store cannot take them.
    Nothing,
}

/// How bytes of a blob came to this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CameFrom {
    /// They were here.
    Cache,
    /// From a peer.
    Peer,
    /// From the origin.
    Origin,
}

/// The bytes that one request's client was given, by where they came from.
#[derive(Debug, Default)]
pub struct Tally {
    cache: AtomicU64,
    peer: AtomicU64,
    origin: AtomicU64,
}

impl Tally {
    pub(crate) fn add(&self, from: CameFrom, bytes: u64) {
        let counter = match from {
            CameFrom::Cache => &self.cache,
            CameFrom::Peer => &self.peer,
            CameFrom::Origin => &self.origin,
        };
        counter.fetch_add(bytes, Ordering::Relaxed);
    }

    /// As the audit log has them.
    #[must_use]
    pub fn sources(&self) -> Sources {
        let [cache_bytes, peer_bytes, origin_bytes] =
            [&self.cache, &self.peer, &self.origin].map(|counter| counter.load(Ordering::Relaxed));
        Sources { cache_bytes, peer_bytes, origin_bytes }
    }
}

/// The counters; a clone is the same ones.
#[derive(Clone, Debug)]
pub struct Traffic {
    zone: Label,
    rack: Label,
    meter: TrafficMeter,
    places: Arc<Mutex<BTreeMap<HostId, Source>>>,
}

impl Traffic {
    /// Counters of a host that stands here.
    #[must_use]
    pub fn new(zone: Label, rack: Label) -> Self {
        Self { zone, rack, meter: TrafficMeter::new("traffic"), places: Arc::default() }
    }

    /// The meter, to be registered.
    #[must_use]
    pub const fn meter(&self) -> &TrafficMeter {
        &self.meter
    }

    /// The zone and rack of this host.
    #[must_use]
    pub const fn place_of_this_host(&self) -> (&Label, &Label) {
        (&self.zone, &self.rack)
    }

    /// Learns where a peer stands. The link bounds how many there are.
    pub(crate) fn place(&self, host: HostId, zone: &Label, rack: &Label) {
        let source = match (zone == &self.zone, rack == &self.rack) {
            (true, true) => Source::Rack,
            (true, false) => Source::Zone,
            (false, _) => Source::Elsewhere,
        };
        self.places.lock().unwrap_or_else(PoisonError::into_inner).insert(host, source);
    }

    /// Forgets where a peer stood; what it sent stays counted.
    pub(crate) fn displace(&self, host: HostId) {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).remove(&host);
    }

    fn nearness(&self, host: HostId) -> Source {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.get(&host).copied().unwrap_or(Source::Elsewhere)
    }

    /// Bytes of a piece came from a peer.
    pub(crate) fn received(&self, from: HostId, bytes: u64) {
        self.meter.add(Some(from), self.nearness(from), Direction::Down, bytes);
    }

    /// Bytes of a piece went to a peer.
    pub(crate) fn sent(&self, to: HostId, bytes: u64) {
        self.meter.add(Some(to), self.nearness(to), Direction::Up, bytes);
    }

    /// Bytes came from the origin.
    pub(crate) fn origin_read(&self, under: ReadUnder, bytes: u64) {
        let source = match under {
            ReadUnder::Lease => Source::Origin,
            ReadUnder::Nothing => Source::Fallback,
        };
        self.meter.add(None, source, Direction::Down, bytes);
    }

    /// Bytes went to a client from what was on this host already.
    pub(crate) fn cache_served(&self, bytes: u64) {
        self.meter.add(None, Source::Cache, Direction::Up, bytes);
    }

    /// What the scheduler is told.
    #[must_use]
    pub fn snapshot(&self) -> proto::Traffic {
        let totals = self.meter.totals();
        let down = |source| totals.get(source, Direction::Down);
        let to_peers = [Source::Rack, Source::Zone, Source::Elsewhere];
        let peers = self.meter.peers().into_iter().map(|(host, bytes)| PeerTraffic {
            host,
            received: bytes.sum(Direction::Down),
            sent: bytes.sum(Direction::Up),
        });
        proto::Traffic {
            origin: down(Source::Origin),
            fallback: down(Source::Fallback),
            rack: down(Source::Rack),
            zone: down(Source::Zone),
            elsewhere: down(Source::Elsewhere),
            cache: totals.get(Source::Cache, Direction::Up),
            uploaded: to_peers.into_iter().map(|source| totals.get(source, Direction::Up)).sum(),
            peers: peers.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: u8) -> HostId {
        HostId::of_peer_id(&[number])
    }

    #[test]
    fn bytes_are_counted_by_where_the_peer_stands() {
        let traffic = Traffic::new(Label::new("a"), Label::new("1"));
        traffic.place(host(1), &Label::new("a"), &Label::new("1"));
        traffic.place(host(2), &Label::new("a"), &Label::new("2"));
        traffic.place(host(3), &Label::new("b"), &Label::new("1"));
        for number in 1..=3 {
            traffic.received(host(number), 10 * u64::from(number));
        }
        traffic.sent(host(1), 5);
        traffic.origin_read(ReadUnder::Lease, 60);
        traffic.origin_read(ReadUnder::Nothing, 40);
        traffic.cache_served(7);
        let seen = traffic.snapshot();
        assert_eq!((seen.rack, seen.zone, seen.elsewhere), (10, 20, 30));
        assert_eq!((seen.origin, seen.fallback, seen.uploaded, seen.cache), (60, 40, 5, 7));
        assert!(seen.peers.contains(&PeerTraffic { host: host(1), received: 10, sent: 5 }));
    }
}
