//! The scheduler's figures in `/metrics`.

use crate::{preheat, rollouts};
use process::metrics::{Direction, Source, TrafficMeter};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use proto::Traffic;
use scheduler_core::{Counters, Summary};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use types::HostId;

/// What the driver shows; clones show the same.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    /// Bytes by host, as the hosts report them.
    pub(crate) traffic: TrafficMeter,
    /// Messages to hosts, and from them.
    pub(crate) sent: Counter,
    pub(crate) received: Counter,
    /// Hosts disconnected since they did not read.
    pub(crate) expelled: Counter,
    /// Questions to origins, and those refused since there were too many.
    pub(crate) questions: Counter,
    pub(crate) questions_shed: Counter,
    pub(crate) rollouts: rollouts::Figures,
    pub(crate) preheats: preheat::Figures,
    figures: Figures,
}

/// Figures of the core, renewed now and then.
#[derive(Clone, Debug, Default)]
struct Figures(Arc<Mutex<Core>>);

#[derive(Clone, Copy, Debug, Default)]
struct Core {
    hosts: u64,
    blobs: u64,
    blobs_open: u64,
    leases: u64,
    transfers: u64,
    wanting: u64,
    waiting: u64,
    queued: u64,
    quarantined: u64,
    counters: Counters,
}

impl Published {
    pub(crate) fn new() -> Self {
        Self {
            traffic: TrafficMeter::new("scheduler_host_traffic"),
            sent: Counter::default(),
            received: Counter::default(),
            expelled: Counter::default(),
            questions: Counter::default(),
            questions_shed: Counter::default(),
            rollouts: rollouts::Figures::new(),
            preheats: preheat::Figures::new(),
            figures: Figures::default(),
        }
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.traffic.clone()));
        registry.register_collector(Box::new(self.figures.clone()));
        self.rollouts.register(registry);
        self.preheats.register(registry);
        let counters = [
            ("messages_sent", "Messages about blobs sent to hosts", &self.sent),
            ("messages_received", "Messages about blobs received from hosts", &self.received),
            ("hosts_expelled", "Hosts disconnected since they did not read", &self.expelled),
            ("questions", "Questions about tags and permissions", &self.questions),
            ("questions_shed", "Questions refused since too many were open", &self.questions_shed),
        ];
        for (name, help, counter) in counters {
            registry.register(format!("scheduler_{name}"), help, counter.clone());
        }
    }

    pub(crate) fn renew(&self, summary: &Summary, hosts: usize, queued: usize) {
        let core = Core {
            hosts: hosts as u64,
            blobs: summary.blobs.len() as u64,
            blobs_open: summary.blobs.iter().filter(|b| !b.closed).count() as u64,
            leases: summary.blobs.iter().filter(|b| b.source.is_some()).count() as u64,
            transfers: summary.blobs.iter().map(|b| u64::from(b.transfers)).sum(),
            wanting: summary.blobs.iter().map(|b| u64::from(b.wanting)).sum(),
            waiting: summary.blobs.iter().map(|b| u64::from(b.waiting)).sum(),
            queued: queued as u64,
            quarantined: summary.hosts.iter().filter(|h| h.quarantined).count() as u64,
            counters: summary.counters,
        };
        *self.figures.0.lock().unwrap_or_else(PoisonError::into_inner) = core;
    }
}

/// Counts what a host reports beyond what it reported before. A host that started again counts from zero.
pub(crate) fn count(meter: &TrafficMeter, host: HostId, before: &Traffic, now: &Traffic) {
    let parts = |t: &Traffic| {
        [
            (Source::Origin, Direction::Down, t.origin),
            (Source::Fallback, Direction::Down, t.fallback),
            (Source::Rack, Direction::Down, t.rack),
            (Source::Zone, Direction::Down, t.zone),
            (Source::Elsewhere, Direction::Down, t.elsewhere),
            (Source::Cache, Direction::Up, t.cache),
            (Source::Peer, Direction::Up, t.uploaded),
        ]
    };
    for ((source, direction, now), (_, _, before)) in parts(now).into_iter().zip(parts(before)) {
        let grown = now.checked_sub(before).unwrap_or(now);
        if grown > 0 {
            meter.add(Some(host), source, direction, grown);
        }
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let core = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gauges = [
            ("hosts", "Hosts that are connected", core.hosts),
            ("blobs", "Blobs that hosts want or hold", core.blobs),
            ("blobs_open", "Blobs whose chain has not been seen to end in the digest", core.blobs_open),
            ("leases", "Blobs that a host reads from its origin", core.leases),
            ("transfers", "Transfers under way", core.transfers),
            ("wants", "Downloads under way", core.wanting),
            ("waits", "Downloads that wait for an upload slot", core.waiting),
            ("queue", "Frames of hosts, and other inputs, that wait to be handled; 256 at most", core.queued),
            ("hosts_quarantined", "Hosts not used as parents for a while", core.quarantined),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            let name = format!("scheduler_{name}");
            gauge.encode(encoder.encode_descriptor(&name, help, None, gauge.metric_type())?)?;
        }
        for (name, help, value) in counters(&core.counters) {
            let counter = ConstCounter::new(value);
            let name = format!("scheduler_{name}");
            counter.encode(encoder.encode_descriptor(&name, help, None, counter.metric_type())?)?;
        }
        Ok(())
    }
}

fn counters(c: &Counters) -> [(&'static str, &'static str, u64); 19] {
    [
        ("assigned", "Pieces assigned to a child", c.assigned),
        ("verified_peer", "Pieces verified that came from a peer", c.verified_peer),
        ("verified_origin", "Pieces verified that a source read", c.verified_origin),
        ("origin_again", "Of those, pieces that another host held already", c.origin_again),
        ("verified_fallback", "Pieces verified that were read without a lease", c.verified_fallback),
        ("failed_corrupt", "Transfers whose bytes did not match the chain", c.failed_corrupt),
        ("failed_busy", "Transfers that the parent was too busy for", c.failed_busy),
        ("failed_other", "Transfers that failed for another reason", c.failed_other),
        ("timed_out", "Transfers that ran out of time", c.timed_out),
        ("leases_granted", "Origin leases granted", c.leases_granted),
        ("leases_adopted", "Origin leases taken over from a former scheduler", c.leases_adopted),
        ("leases_lapsed", "Origin leases that lapsed", c.leases_lapsed),
        ("leases_handed_over", "Origin leases that slow sources handed over", c.leases_handed_over),
        ("leases_returned", "Origin leases given back", c.leases_returned),
        ("chain_resets", "Chains discarded as false", c.chain_resets),
        ("crossings", "Pieces assigned across a zone boundary", c.crossings),
        ("crossings_again", "Of those, pieces that the child's zone held already", c.crossings_again),
        ("quarantines", "Quarantines begun", c.quarantines),
        ("ignored", "Messages that came too late or made no sense", c.ignored),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_grown_is_counted() {
        let meter = TrafficMeter::new("t");
        let host = HostId::of_peer_id(b"a");
        let traffic = |origin, uploaded| Traffic { origin, uploaded, ..Traffic::default() };
        count(&meter, host, &Traffic::default(), &traffic(10, 5));
        count(&meter, host, &traffic(10, 5), &traffic(15, 5));
        // Started again.
        count(&meter, host, &traffic(15, 5), &traffic(3, 0));
        let totals = meter.totals();
        assert_eq!(totals.get(Source::Origin, Direction::Down), 18);
        assert_eq!(totals.get(Source::Peer, Direction::Up), 5);
    }

    #[test]
    fn everything_is_encoded() {
        let published = Published::new();
        published.renew(&Summary::default(), 3, 0);
        let mut registry = Registry::default();
        published.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("\nscheduler_hosts 3\n"), "{text}");
        assert!(text.contains("\nscheduler_leases_granted_total 0\n"), "{text}");
        assert!(text.contains("\nscheduler_preheats_running 0\n"), "{text}");
        for outcome in ["done", "failed", "cancelled"] {
            let zero = format!("\nscheduler_preheat_hosts_total{{outcome=\"{outcome}\"}} 0\n");
            assert!(text.contains(&zero), "{text}");
        }
    }
}
