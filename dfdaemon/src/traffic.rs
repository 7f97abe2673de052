//! How many bytes went where: by source, and by peer.
//!
//! Counted where bytes arrive and leave, told to the scheduler every few seconds, shown in `/metrics` and
//! `/v1/status`. The number of peers counted apart is bounded; the rest share one entry.

use proto::PeerTraffic;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use types::{HostId, Label};

/// How near a peer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nearness {
    /// The same rack of the same zone.
    Rack,
    /// The same zone.
    Zone,
    /// Another zone.
    Elsewhere,
}

/// Peers counted apart; with more, the one with the fewest bytes gives way and its bytes go to the common entry.
pub const PEERS_MAX: usize = 1024;

/// Bytes exchanged with one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerBytes {
    /// Received from it.
    pub received: u64,
    /// Sent to it.
    pub sent: u64,
}

#[derive(Debug, Default)]
struct Counters {
    origin: AtomicU64,
    fallback: AtomicU64,
    rack: AtomicU64,
    zone: AtomicU64,
    elsewhere: AtomicU64,
    cache: AtomicU64,
    uploaded: AtomicU64,
}

#[derive(Debug, Default)]
struct Peers {
    places: BTreeMap<HostId, Nearness>,
    bytes: BTreeMap<HostId, PeerBytes>,
    others: PeerBytes,
}

/// The counters; a clone is the same ones.
#[derive(Clone, Debug)]
pub struct Traffic {
    zone: Label,
    rack: Label,
    counters: Arc<Counters>,
    peers: Arc<Mutex<Peers>>,
}

impl Traffic {
    /// Counters of a host that stands here.
    #[must_use]
    pub fn new(zone: Label, rack: Label) -> Self {
        Self { zone, rack, counters: Arc::default(), peers: Arc::default() }
    }

    /// The zone and rack of this host.
    #[must_use]
    pub const fn place_of_this_host(&self) -> (&Label, &Label) {
        (&self.zone, &self.rack)
    }

    /// Learns where a peer stands.
    pub(crate) fn place(&self, host: HostId, zone: &Label, rack: &Label) {
        let nearness = match (zone == &self.zone, rack == &self.rack) {
            (true, true) => Nearness::Rack,
            (true, false) => Nearness::Zone,
            (false, _) => Nearness::Elsewhere,
        };
        let mut peers = self.peers();
        if peers.places.len() < p2p::Members::MAX || peers.places.contains_key(&host) {
            peers.places.insert(host, nearness);
        }
    }

    /// Forgets where a peer stood; what it sent stays counted.
    pub(crate) fn displace(&self, host: HostId) {
        self.peers().places.remove(&host);
    }

    /// Bytes of a piece came from a peer.
    pub(crate) fn received(&self, from: HostId, bytes: u64) {
        let nearness = {
            let mut peers = self.peers();
            peers.entry(from).received += bytes;
            peers.places.get(&from).copied().unwrap_or(Nearness::Elsewhere)
        };
        let counter = match nearness {
            Nearness::Rack => &self.counters.rack,
            Nearness::Zone => &self.counters.zone,
            Nearness::Elsewhere => &self.counters.elsewhere,
        };
        add(counter, bytes);
    }

    /// Bytes of a piece went to a peer.
    pub(crate) fn sent(&self, to: HostId, bytes: u64) {
        self.peers().entry(to).sent += bytes;
        add(&self.counters.uploaded, bytes);
    }

    /// Bytes came from the origin.
    pub(crate) fn from_origin(&self, bytes: u64) {
        add(&self.counters.origin, bytes);
    }

    /// Of the bytes that came from the origin, these were read without a lease.
    pub(crate) fn were_fallback(&self, bytes: u64) {
        let _ = self.counters.origin.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |origin| {
            Some(origin.saturating_sub(bytes))
        });
        add(&self.counters.fallback, bytes);
    }

    /// Bytes came from the origin past the store.
    pub(crate) fn from_fallback(&self, bytes: u64) {
        add(&self.counters.fallback, bytes);
    }

    /// Bytes went to a client from what was on this host already.
    pub(crate) fn from_cache(&self, bytes: u64) {
        add(&self.counters.cache, bytes);
    }

    /// The bytes exchanged with each peer, the most first, and with all those that are not counted apart.
    #[must_use]
    pub fn by_peer(&self) -> (Vec<(HostId, PeerBytes)>, PeerBytes) {
        let peers = self.peers();
        let mut all: Vec<_> = peers.bytes.iter().map(|(host, bytes)| (*host, *bytes)).collect();
        all.sort_by_key(|(host, bytes)| (std::cmp::Reverse(bytes.received + bytes.sent), *host));
        (all, peers.others)
    }

    /// Where a peer stands, if it is known.
    #[must_use]
    pub fn nearness(&self, host: HostId) -> Option<Nearness> {
        self.peers().places.get(&host).copied()
    }

    /// What the scheduler is told.
    #[must_use]
    pub fn snapshot(&self) -> proto::Traffic {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let peer = |(host, bytes): (HostId, PeerBytes)| PeerTraffic { host, received: bytes.received, sent: bytes.sent };
        proto::Traffic {
            origin: get(&self.counters.origin),
            fallback: get(&self.counters.fallback),
            rack: get(&self.counters.rack),
            zone: get(&self.counters.zone),
            elsewhere: get(&self.counters.elsewhere),
            cache: get(&self.counters.cache),
            uploaded: get(&self.counters.uploaded),
            peers: self.by_peer().0.into_iter().map(peer).collect(),
        }
    }

    fn peers(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peers {
    fn entry(&mut self, host: HostId) -> &mut PeerBytes {
        if self.bytes.len() >= PEERS_MAX && !self.bytes.contains_key(&host) {
            let least = self.bytes.iter().min_by_key(|(_, bytes)| bytes.received + bytes.sent).map(|(host, _)| *host);
            if let Some(bytes) = least.and_then(|least| self.bytes.remove(&least)) {
                self.others.received += bytes.received;
                self.others.sent += bytes.sent;
            }
        }
        self.bytes.entry(host).or_default()
    }
}

fn add(counter: &AtomicU64, bytes: u64) {
    counter.fetch_add(bytes, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: u16) -> HostId {
        HostId::of_peer_id(&number.to_be_bytes())
    }

    #[test]
    fn bytes_are_counted_by_source_and_by_peer() {
        let traffic = Traffic::new(Label::new("a"), Label::new("1"));
        traffic.place(host(1), &Label::new("a"), &Label::new("1"));
        traffic.place(host(2), &Label::new("a"), &Label::new("2"));
        traffic.place(host(3), &Label::new("b"), &Label::new("1"));
        for number in 1..=3 {
            traffic.received(host(number), 10 * u64::from(number));
        }
        traffic.sent(host(1), 5);
        traffic.from_origin(100);
        traffic.were_fallback(40);
        let seen = traffic.snapshot();
        assert_eq!((seen.rack, seen.zone, seen.elsewhere), (10, 20, 30));
        assert_eq!((seen.origin, seen.fallback, seen.uploaded), (60, 40, 5));
        assert_eq!(seen.peers[0], PeerTraffic { host: host(3), received: 30, sent: 0 });
    }

    #[test]
    fn beyond_the_bound_the_smallest_peer_joins_the_others_and_no_byte_is_lost() {
        let traffic = Traffic::new(Label::default(), Label::default());
        for number in 0..u16::try_from(PEERS_MAX).unwrap() + 5 {
            traffic.received(host(number), u64::from(number));
        }
        let (peers, others) = traffic.by_peer();
        assert_eq!(peers.len(), PEERS_MAX);
        let apart: u64 = peers.iter().map(|(_, bytes)| bytes.received).sum();
        assert_eq!(apart + others.received, traffic.snapshot().elsewhere);
    }
}
