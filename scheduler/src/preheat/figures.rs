//! The figures of preheats in `/metrics`.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::fmt;

/// How a host's part of a preheat has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    Done,
    Failed,
    Cancelled,
}

impl Outcome {
    const ALL: [Self; 3] = [Self::Done, Self::Failed, Self::Cancelled];
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        let name = match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        };
        name.encode(encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: Outcome,
}

/// Clones show the same.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    running: Gauge,
    hosts: Family<OutcomeLabel, Counter>,
}

impl Figures {
    pub(crate) fn new() -> Self {
        let figures = Self { running: Gauge::default(), hosts: Family::default() };
        for outcome in Outcome::ALL {
            // Seen from the start, at zero.
            drop(figures.hosts.get_or_create(&OutcomeLabel { outcome }));
        }
        figures
    }

    pub(crate) fn register(&self, metrics: &mut Registry) {
        metrics.register("scheduler_preheats_running", "Preheats under way", self.running.clone());
        let help = "Hosts whose part of a preheat has ended, by outcome";
        metrics.register("scheduler_preheat_hosts", help, self.hosts.clone());
    }

    pub(crate) fn running(&self, count: usize) {
        self.running.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn ended(&self, outcome: Outcome) {
        self.hosts.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    #[cfg(test)]
    pub(crate) fn now(&self) -> (i64, [u64; 3]) {
        let ended = |outcome| self.hosts.get_or_create(&OutcomeLabel { outcome }).get();
        (self.running.get(), Outcome::ALL.map(ended))
    }
}
