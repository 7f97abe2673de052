//! What is counted at the proxy: requests by kind and outcome, by what permitted them, bytes, times, connections.

use process::audit::{Permit, PermittedBy};
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
    const ALL: [Self; 5] = [Self::Ping, Self::Manifest, Self::Blob, Self::Forward, Self::Other];

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
    const ALL: [Self; 5] = [Self::Ok, Self::ClientError, Self::ServerError, Self::Broken, Self::ClientLeft];

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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PermitLabels {
    /// As in the audit log.
    by: &'static str,
    /// Whether an earlier answer was gone by, or somebody was asked.
    answer: &'static str,
}

impl PermitLabels {
    const fn of(by: PermittedBy, remembered: bool) -> Self {
        Self { by: by.name(), answer: if remembered { "remembered" } else { "asked" } }
    }
}

/// How long a request took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Took {
    /// To the first byte of its content, if one came.
    pub(super) first_byte: Option<Duration>,
    /// To its end.
    pub(super) whole: Duration,
}

/// The proxy's metrics; clones count into the same.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    permits: Family<PermitLabels, Counter>,
    bytes: Family<KindLabel, Counter>,
    first_byte: Family<KindLabel, Histogram>,
    whole: Family<KindLabel, Histogram>,
    connections: Gauge,
}

impl Metrics {
    /// Declares the metrics in `registry`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        // 1 ms to about 30 s, and for a whole layer to 15 minutes.
        let histogram: fn() -> Histogram =
            || Histogram::new([0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0]);
        let long: fn() -> Histogram =
            || Histogram::new([0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 900.0]);
        let metrics = Self {
            requests: Family::default(),
            permits: Family::default(),
            bytes: Family::default(),
            first_byte: Family::new_with_constructor(histogram),
            whole: Family::new_with_constructor(long),
            connections: Gauge::default(),
        };
        registry.register(
            "proxy_requests",
            "Requests of clients, by kind and outcome, when they end",
            metrics.requests.clone(),
        );
        registry.register(
            "proxy_permits",
            "Permitted requests for manifests and blobs, by whose right it was, and by whether somebody was asked for it",
            metrics.permits.clone(),
        );
        registry.register_with_unit(
            "proxy_sent",
            "Content given to clients, by kind",
            Unit::Bytes,
            metrics.bytes.clone(),
        );
        let help = "From a request to the first byte of its content, by kind";
        registry.register_with_unit("proxy_first_byte", help, Unit::Seconds, metrics.first_byte.clone());
        let help = "From a request to its last byte, of those that got all that they asked for, by kind";
        registry.register_with_unit("proxy_completion", help, Unit::Seconds, metrics.whole.clone());
        registry.register("proxy_connections", "Connections of clients", metrics.connections.clone());
        // From zero on, so that the first of a kind is seen as an increase.
        for kind in Kind::ALL {
            for outcome in Outcome::ALL {
                drop(metrics.requests.get_or_create(&RequestLabels { kind, outcome }));
            }
            drop(metrics.bytes.get_or_create(&KindLabel { kind }));
        }
        for by in PermittedBy::ALL {
            for remembered in [false, true] {
                drop(metrics.permits.get_or_create(&PermitLabels::of(by, remembered)));
            }
        }
        for kind in [Kind::Manifest, Kind::Blob] {
            drop(metrics.first_byte.get_or_create(&KindLabel { kind }));
            drop(metrics.whole.get_or_create(&KindLabel { kind }));
        }
        metrics
    }

    pub(super) fn permitted(&self, permit: Permit) {
        self.permits.get_or_create(&PermitLabels::of(permit.permitted_by, permit.remembered)).inc();
    }

    pub(super) fn observe(&self, kind: Kind, outcome: Outcome, bytes: u64, took: &Took) {
        self.requests.get_or_create(&RequestLabels { kind, outcome }).inc();
        self.bytes.get_or_create(&KindLabel { kind }).inc_by(bytes);
        if let Some(first_byte) = took.first_byte {
            self.first_byte.get_or_create(&KindLabel { kind }).observe(first_byte.as_secs_f64());
            if outcome == Outcome::Ok {
                self.whole.get_or_create(&KindLabel { kind }).observe(took.whole.as_secs_f64());
            }
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
