//! What is counted at the proxy: requests by kind and outcome, bytes, the time to the first byte, connections.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::time::Duration;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// `/v2/`.
    Ping,
    /// A manifest.
    Manifest,
    /// A blob.
    Blob,
    /// Tags, referrers.
    Forward,
    /// None of the pull API.
    Other,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Outcome {
    /// The client got all that it asked for.
    Ok,
    /// It was refused with 4xx.
    ClientError,
    /// It was refused with 5xx.
    ServerError,
    /// The body broke off.
    Broken,
    /// The client left before the end: for parallel fetches this is as it should be.
    ClientLeft,
}

impl Kind {
    /// As in the log and in metrics.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Manifest => "manifest",
            Self::Blob => "blob",
            Self::Forward => "forward",
            Self::Other => "other",
        }
    }
}

impl Outcome {
    /// As in the log and in metrics.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ClientError => "client_error",
            Self::ServerError => "server_error",
            Self::Broken => "broken",
            Self::ClientLeft => "client_left",
        }
    }
}

impl EncodeLabelValue for Kind {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.name().encode(encoder)
    }
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.name().encode(encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    kind: Kind,
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: Kind,
}

/// The proxy's metrics; clones count into the same.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    bytes: Family<KindLabel, Counter>,
    first_byte: Family<KindLabel, Histogram>,
    connections: Gauge,
}

impl Metrics {
    /// Declares the metrics in `registry`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        // 1 ms to about 30 s.
        let histogram: fn() -> Histogram =
            || Histogram::new([0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0]);
        let metrics = Self {
            requests: Family::default(),
            bytes: Family::default(),
            first_byte: Family::new_with_constructor(histogram),
            connections: Gauge::default(),
        };
        registry.register("proxy_requests", "Requests of clients, when they end", metrics.requests.clone());
        registry.register_with_unit(
            "proxy_sent",
            "Content given to clients",
            Unit::Bytes,
            metrics.bytes.clone(),
        );
        let help = "From a request to the first byte of its content";
        registry.register_with_unit("proxy_first_byte", help, Unit::Seconds, metrics.first_byte.clone());
        registry.register("proxy_connections", "Connections of clients", metrics.connections.clone());
        metrics
    }

    pub(super) fn observe(&self, kind: Kind, outcome: Outcome, bytes: u64, first_byte: Option<Duration>) {
        self.requests.get_or_create(&RequestLabels { kind, outcome }).inc();
        self.bytes.get_or_create(&KindLabel { kind }).inc_by(bytes);
        if let Some(first_byte) = first_byte {
            self.first_byte.get_or_create(&KindLabel { kind }).observe(first_byte.as_secs_f64());
        }
    }

    /// Counts a connection for as long as the guard lives.
    pub(super) fn connection(&self) -> ConnectionGuard {
        self.connections.inc();
        ConnectionGuard(self.connections.clone())
    }
}

/// A connection that is open.
#[derive(Debug)]
pub(super) struct ConnectionGuard(Gauge);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}
