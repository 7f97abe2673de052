//! How many bytes go between whom: one counter by peer, source and direction, for daemons and the scheduler.
//!
//! A label needs a bound, so only the peers with the most bytes have series of their own; the rest are summed under
//! `peer="other"`. Every series only grows, and their sum is exact: a peer that is promoted starts at zero, its
//! past stays with `other`; one that is displaced leaves its bytes to `other`.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use types::HostId;

/// How many peers have series of their own.
pub const PEERS_MAX: usize = 64;

/// How many further peers are watched, to see which deserve a series.
const CANDIDATES_MAX: usize = 256;

/// From where bytes come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The origin, under a lease.
    Origin,
    /// The origin, without a lease.
    Fallback,
    /// A peer in the same rack.
    Rack,
    /// A peer in the same zone, but not the same rack.
    Zone,
    /// Another peer.
    Elsewhere,
    /// A peer, wherever it stands: where that is not known.
    Peer,
    /// What was on the host already.
    Cache,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Origin, Self::Fallback, Self::Rack, Self::Zone, Self::Elsewhere, Self::Peer, Self::Cache];

    /// The label's value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Origin => "origin",
            Self::Fallback => "fallback",
            Self::Rack => "rack",
            Self::Zone => "zone",
            Self::Elsewhere => "elsewhere",
            Self::Peer => "peer",
            Self::Cache => "cache",
        }
    }
}

/// Which way bytes go, seen from the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// They come to the host.
    Down,
    /// They leave it.
    Up,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Down, Self::Up];

    /// The label's value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Up => "up",
        }
    }
}

/// Bytes by source and direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes([[u64; Source::ALL.len()]; 2]);

impl Bytes {
    /// Bytes from `source` in `direction`.
    #[must_use]
    pub const fn get(&self, source: Source, direction: Direction) -> u64 {
        self.0[direction as usize][source as usize]
    }

    /// Bytes from all sources in `direction`.
    #[must_use]
    pub fn sum(&self, direction: Direction) -> u64 {
        self.0[direction as usize].iter().sum()
    }

    fn add(&mut self, source: Source, direction: Direction, bytes: u64) {
        let cell = &mut self.0[direction as usize][source as usize];
        *cell = cell.saturating_add(bytes);
    }

    fn merge(&mut self, other: &Self) {
        for direction in Direction::ALL {
            for source in Source::ALL {
                self.add(source, direction, other.get(source, direction));
            }
        }
    }

    fn total(&self) -> u64 {
        Direction::ALL.iter().map(|d| self.sum(*d)).sum()
    }
}

/// The counter. Clones count together.
#[derive(Clone, Debug)]
pub struct TrafficMeter {
    name: &'static str,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Without a peer: the origin, the cache.
    alone: Bytes,
    top: BTreeMap<HostId, Bytes>,
    other: Bytes,
    /// Bytes, since they were last seen fit to be watched, of peers that are counted in `other`.
    candidates: BTreeMap<HostId, u64>,
}

impl TrafficMeter {
    /// A counter named `name` (without the unit), such as `traffic`.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { name, inner: Arc::default() }
    }

    /// Counts `bytes`; `peer` is the other host, if there is one. Cheap enough for every piece, not for every packet.
    pub fn add(&self, peer: Option<HostId>, source: Source, direction: Direction, bytes: u64) {
        let mut inner = self.lock();
        match peer {
            None => inner.alone.add(source, direction, bytes),
            Some(peer) => inner.add(peer, source, direction, bytes),
        }
    }

    /// Everything together.
    #[must_use]
    pub fn totals(&self) -> Bytes {
        let inner = self.lock();
        let mut sum = inner.alone;
        sum.merge(&inner.other);
        inner.top.values().for_each(|bytes| sum.merge(bytes));
        sum
    }

    /// The peers with the most bytes, at most [`PEERS_MAX`].
    #[must_use]
    pub fn peers(&self) -> Vec<(HostId, Bytes)> {
        self.lock().top.iter().map(|(host, bytes)| (*host, *bytes)).collect()
    }

    /// The counts are whole after every step, so a panic elsewhere does not spoil them.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn add(&mut self, peer: HostId, source: Source, direction: Direction, bytes: u64) {
        if let Some(row) = self.top.get_mut(&peer) {
            row.add(source, direction, bytes);
        } else if self.top.len() < PEERS_MAX {
            self.top.entry(peer).or_default().add(source, direction, bytes);
        } else {
            self.other.add(source, direction, bytes);
            self.watch(peer, bytes);
        }
    }

    /// Promotes a peer that has twice the bytes of the least of those with a series: twice, so that two equal ones do
    /// not take turns.
    fn watch(&mut self, peer: HostId, bytes: u64) {
        if !self.candidates.contains_key(&peer) && self.candidates.len() == CANDIDATES_MAX {
            // Halve, and forget those that come to nothing: the busy ones stay.
            self.candidates.retain(|_, seen| {
                *seen /= 2;
                *seen > 0
            });
            if let (Some((least, _)), CANDIDATES_MAX) =
                (least(&self.candidates, |b| *b), self.candidates.len())
            {
                self.candidates.remove(&least);
            }
        }
        let seen = self.candidates.entry(peer).or_default();
        *seen = seen.saturating_add(bytes);
        let seen = *seen;
        if let Some((displaced, total)) = least(&self.top, Bytes::total)
            && seen > total.saturating_mul(2)
        {
            self.candidates.remove(&peer);
            if let Some(bytes) = self.top.remove(&displaced) {
                self.other.merge(&bytes);
            }
            self.top.insert(peer, Bytes::default());
        }
    }

    fn rows(&self) -> impl Iterator<Item = (Option<String>, &Bytes)> {
        let top = self.top.iter().map(|(host, bytes)| (Some(host.to_string()), bytes));
        [(None, &self.alone), (Some("other".to_owned()), &self.other)].into_iter().chain(top)
    }
}

fn least<V>(map: &BTreeMap<HostId, V>, total: impl Fn(&V) -> u64) -> Option<(HostId, u64)> {
    map.iter().map(|(host, value)| (*host, total(value))).min_by_key(|(_, total)| *total)
}

impl Collector for TrafficMeter {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let inner = self.lock();
        let help = "Bytes by peer, source and direction";
        let mut family =
            encoder.encode_descriptor(self.name, help, Some(&Unit::Bytes), MetricType::Counter)?;
        for (peer, bytes) in inner.rows() {
            encode_row(&mut family, peer.as_deref().unwrap_or_default(), bytes)?;
        }
        Ok(())
    }
}

fn encode_row(family: &mut MetricEncoder<'_>, peer: &str, bytes: &Bytes) -> fmt::Result {
    for direction in Direction::ALL {
        for source in Source::ALL {
            let value = bytes.get(source, direction);
            if value == 0 {
                continue;
            }
            let labels = [("peer", peer), ("source", source.name()), ("direction", direction.name())];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::registry::Registry;

    fn host(n: u32) -> HostId {
        HostId::of_peer_id(&n.to_be_bytes())
    }

    #[test]
    fn it_encodes_what_it_counted() {
        let meter = TrafficMeter::new("traffic");
        meter.add(None, Source::Origin, Direction::Down, 5);
        meter.add(Some(host(1)), Source::Rack, Direction::Up, 7);
        meter.add(Some(host(1)), Source::Rack, Direction::Up, 1);
        let mut registry = Registry::default();
        registry.register_collector(Box::new(meter.clone()));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(
            text.contains("traffic_bytes_total{peer=\"\",source=\"origin\",direction=\"down\"} 5"),
            "{text}"
        );
        let line = format!("traffic_bytes_total{{peer=\"{}\",source=\"rack\",direction=\"up\"}} 8", host(1));
        assert!(text.contains(&line), "{text}");
        assert_eq!(meter.totals().sum(Direction::Down), 5);
    }

    #[test]
    fn peers_are_bounded_sums_exact_and_a_busy_peer_gets_its_series() {
        let meter = TrafficMeter::new("t");
        for n in 0..2_000 {
            meter.add(Some(host(n)), Source::Zone, Direction::Down, 10);
        }
        for _ in 0..10 {
            meter.add(Some(host(1_999)), Source::Zone, Direction::Down, 100);
        }
        assert_eq!(meter.totals().get(Source::Zone, Direction::Down), 21_000);
        assert_eq!(meter.peers().len(), PEERS_MAX);
        let busy = meter.peers().into_iter().find(|(h, _)| *h == host(1_999));
        let bytes = busy.expect("promoted").1.sum(Direction::Down);
        assert!((500..1_000).contains(&bytes), "its past stays with the others: {bytes}");
        assert!(meter.lock().candidates.len() <= CANDIDATES_MAX);
    }

    /// No series ever falls, whoever comes and goes.
    #[test]
    fn other_only_grows() {
        let meter = TrafficMeter::new("t");
        let mut before = 0;
        let mut x = 1u32;
        for _ in 0..20_000 {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            meter.add(Some(host(x % 500)), Source::Rack, Direction::Up, u64::from(x >> 20));
            let other = meter.lock().other.total();
            assert!(other >= before);
            before = other;
        }
    }
}
