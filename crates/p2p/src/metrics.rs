//! What the peer-to-peer side counts. The daemon registers it beside its own metrics.

use crate::{FetchError, Refusal};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::fmt::{self, Write as _};

/// A snapshot of the counters, for tests and for the daemon's status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of pieces sent.
    pub uploaded_bytes: u64,
    /// Bytes of pieces received.
    pub downloaded_bytes: u64,
    /// Pieces sent whole.
    pub uploaded_pieces: u64,
    /// Pieces received whole.
    pub downloaded_pieces: u64,
    /// Bulk connections made to parents.
    pub dialed: u64,
    /// Bulk connections taken in from children.
    pub accepted: u64,
    /// Requests that went over a connection used before.
    pub reused: u64,
    /// Requests of children that were refused.
    pub refused: u64,
    /// Inbound connections closed before a request: handshake failed, or too many.
    pub rejected: u64,
    /// Bulk connections open now, in both directions.
    pub open: u64,
}

/// Declares a label's values and their names.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($value:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum $name { $($value),* }

        impl $name {
            const ALL: &'static [Self] = &[$(Self::$value),*];
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
                encoder.write_str(match self { $(Self::$value => $text),* })
            }
        }
    };
}

label!(
    /// Who opened a connection.
    Direction { In = "in", Out = "out" }
);

label!(
    /// Why a request was refused, or a fetch failed.
    Reason {
        NotHeld = "not_held",
        Busy = "busy",
        NotAllowed = "not_allowed",
        Malformed = "malformed",
        Unreachable = "unreachable",
        Stalled = "stalled",
        Protocol = "protocol",
        NotMember = "not_member",
        Ticket = "ticket",
        Stopping = "stopping",
    }
);

label!(
    /// Why an inbound connection was closed before a request.
    Rejection { Handshake = "handshake", Full = "full", Ticket = "ticket" }
);

const REFUSALS: [Refusal; 4] = [Refusal::NotHeld, Refusal::Busy, Refusal::NotAllowed, Refusal::Malformed];

impl From<Refusal> for Reason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotHeld => Self::NotHeld,
            Refusal::Busy => Self::Busy,
            Refusal::NotAllowed => Self::NotAllowed,
            Refusal::Malformed => Self::Malformed,
        }
    }
}

impl From<&FetchError> for Reason {
    fn from(error: &FetchError) -> Self {
        match error {
            FetchError::Refused(refusal) => (*refusal).into(),
            FetchError::Unreachable(_) => Self::Unreachable,
            FetchError::Stalled { .. } => Self::Stalled,
            FetchError::Protocol(_) => Self::Protocol,
            FetchError::NotMember => Self::NotMember,
            FetchError::Ticket(_) => Self::Ticket,
            FetchError::Stopping => Self::Stopping,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByDirection {
    direction: Direction,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: Reason,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByRejection {
    reason: Rejection,
}

/// The counters.
#[derive(Debug)]
pub struct Metrics {
    pub(crate) uploaded_bytes: Counter,
    pub(crate) downloaded_bytes: Counter,
    pub(crate) uploaded_pieces: Counter,
    pub(crate) downloaded_pieces: Counter,
    pub(crate) reused: Counter,
    pub(crate) uploads: Gauge,
    pub(crate) connect_seconds: Histogram,
    opened: Family<ByDirection, Counter>,
    open: Family<ByDirection, Gauge>,
    refused: Family<ByReason, Counter>,
    failed: Family<ByReason, Counter>,
    rejected: Family<ByRejection, Counter>,
}

/// From a rack's round trip and a handshake to the dial and handshake time-outs.
const CONNECT_BUCKETS: [f64; 10] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.0, 5.0];

impl Default for Metrics {
    fn default() -> Self {
        Self {
            uploaded_bytes: Counter::default(),
            downloaded_bytes: Counter::default(),
            uploaded_pieces: Counter::default(),
            downloaded_pieces: Counter::default(),
            reused: Counter::default(),
            uploads: Gauge::default(),
            connect_seconds: Histogram::new(CONNECT_BUCKETS),
            opened: Family::default(),
            open: Family::default(),
            refused: Family::default(),
            failed: Family::default(),
            rejected: Family::default(),
        }
    }
}

impl Metrics {
    /// Adds them to `registry`; their names start with `p2p`.
    pub fn register(&self, registry: &mut Registry) {
        let r = registry.sub_registry_with_prefix("p2p");
        r.register_with_unit(
            "uploaded",
            "Piece bytes sent to peers",
            Unit::Bytes,
            self.uploaded_bytes.clone(),
        );
        r.register_with_unit(
            "downloaded",
            "Piece bytes received from peers",
            Unit::Bytes,
            self.downloaded_bytes.clone(),
        );
        r.register("uploaded_pieces", "Pieces sent whole", self.uploaded_pieces.clone());
        r.register("downloaded_pieces", "Pieces received whole", self.downloaded_pieces.clone());
        r.register("requests_reused", "Requests over a connection used before", self.reused.clone());
        r.register("uploads_running", "Upload slots taken", self.uploads.clone());
        r.register_with_unit(
            "connect",
            "Time to connect and secure a bulk connection",
            Unit::Seconds,
            self.connect_seconds.clone(),
        );
        r.register("connections_opened", "Bulk connections opened, by direction", self.opened.clone());
        r.register("connections", "Bulk connections open, by direction", self.open.clone());
        r.register(
            "connections_rejected",
            "Inbound bulk connections closed unserved, by reason",
            self.rejected.clone(),
        );
        r.register("requests_refused", "Requests of peers refused, by reason", self.refused.clone());
        r.register("fetches_failed", "Fetches that brought no piece, by reason", self.failed.clone());
        // From zero on, so that the first of a kind is seen as an increase.
        for &direction in Direction::ALL {
            drop(self.opened.get_or_create(&ByDirection { direction }));
            drop(self.open.get_or_create(&ByDirection { direction }));
        }
        for &reason in Rejection::ALL {
            drop(self.rejected.get_or_create(&ByRejection { reason }));
        }
        for &reason in Reason::ALL {
            drop(self.failed.get_or_create(&ByReason { reason }));
        }
        for refusal in REFUSALS {
            drop(self.refused.get_or_create(&ByReason { reason: refusal.into() }));
        }
    }

    pub(crate) fn refused(&self, refusal: Refusal) {
        self.refused.get_or_create(&ByReason { reason: refusal.into() }).inc();
    }

    pub(crate) fn failed(&self, error: &FetchError) {
        self.failed.get_or_create(&ByReason { reason: error.into() }).inc();
    }

    pub(crate) fn rejected(&self, reason: Rejection) {
        self.rejected.get_or_create(&ByRejection { reason }).inc();
    }

    /// Counts a connection until the guard is dropped.
    pub(crate) fn opened(&self, direction: Direction) -> Open {
        self.opened.get_or_create(&ByDirection { direction }).inc();
        Open::count(self.open.get_or_create_owned(&ByDirection { direction }))
    }

    /// Counts an upload until the guard is dropped.
    pub(crate) fn uploading(&self) -> Open {
        Open::count(self.uploads.clone())
    }

    /// The counters as they stand.
    pub(crate) fn stats(&self) -> Stats {
        let opened = |direction| self.opened.get_or_create(&ByDirection { direction }).get();
        let open = |direction| self.open.get_or_create(&ByDirection { direction }).get();
        let refused =
            REFUSALS.map(|refusal| self.refused.get_or_create(&ByReason { reason: refusal.into() }).get());
        let rejected = [Rejection::Handshake, Rejection::Full]
            .map(|reason| self.rejected.get_or_create(&ByRejection { reason }).get());
        Stats {
            uploaded_bytes: self.uploaded_bytes.get(),
            downloaded_bytes: self.downloaded_bytes.get(),
            uploaded_pieces: self.uploaded_pieces.get(),
            downloaded_pieces: self.downloaded_pieces.get(),
            dialed: opened(Direction::Out),
            accepted: opened(Direction::In),
            reused: self.reused.get(),
            refused: refused.iter().sum(),
            rejected: rejected.iter().sum(),
            open: u64::try_from(open(Direction::In) + open(Direction::Out)).unwrap_or(0),
        }
    }
}

/// One more in a gauge, as long as it lives.
#[derive(Debug)]
pub(crate) struct Open(Gauge);

impl Open {
    fn count(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
