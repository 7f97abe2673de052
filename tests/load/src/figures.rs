//! What programs say of themselves on `/metrics`, summed over many.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::iter::Sum;
use std::ops::Add;

/// The text of one `/metrics` (OpenMetrics).
#[derive(Clone, Debug)]
pub struct Exposition(pub String);

/// A name's series: the labels as they stand, and the value.
type Series<'a> = (&'a str, u64);

impl Exposition {
    /// The sum of all series called `name` that have these labels; 0 if there is none.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
        let asked = |found: &str| labels.iter().all(|label| found.contains(label.as_str()));
        self.series(name).filter(|(found, _)| asked(found)).map(|(_, value)| value).sum()
    }

    /// The series called `name` by their reason, without those that are 0.
    #[must_use]
    pub fn by_reason(&self, name: &str) -> ByReason {
        let mut sums = ByReason::default();
        for (labels, value) in self.series(name).filter(|(_, value)| *value > 0) {
            let reason = labels.split_once("reason=\"").and_then(|(_, rest)| rest.split('"').next());
            *sums.0.entry(reason.unwrap_or_default().to_owned()).or_default() += value;
        }
        sums
    }

    fn series<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Series<'a>> {
        let of_name = self.0.lines().filter_map(move |line| line.strip_prefix(name));
        let split = of_name.filter_map(|rest| match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once("} "),
            None => rest.strip_prefix(' ').map(|value| ("", value)),
        });
        split.filter_map(|(labels, value)| Some((labels, value.trim().parse().ok()?)))
    }
}

/// Counts by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ByReason(pub BTreeMap<String, u64>);

impl Add for ByReason {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        for (reason, count) in other.0 {
            *self.0.entry(reason).or_default() += count;
        }
        self
    }
}

impl fmt::Display for ByReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("0");
        }
        let counts: Vec<String> = self.0.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        f.write_str(&counts.join(" + "))
    }
}

/// What daemons count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Bytes from the origin under a lease.
    pub origin: u64,
    /// Bytes from the origin without one.
    pub fallback: u64,
    /// Bytes from peers in the same rack.
    pub rack: u64,
    /// Bytes from other peers in the same zone.
    pub zone: u64,
    /// Bytes from peers elsewhere.
    pub elsewhere: u64,
    /// Bytes to clients of what was there already.
    pub cache: u64,
    /// Bulk connections that were made.
    pub connections_made: u64,
    /// Bulk connections that are open at the end.
    pub connections_open: u64,
    /// Requests for pieces over a connection used before.
    pub requests_reused: u64,
    /// Pieces received whole.
    pub pieces: u64,
    /// Requests for pieces that were refused.
    pub refused: ByReason,
    /// Fetches of pieces that failed.
    pub failed: ByReason,
    /// Inbound connections closed unserved.
    pub rejected: u64,
    /// Rounds of the store's group commit.
    pub syncs: u64,
}

impl From<&Exposition> for Figures {
    fn from(text: &Exposition) -> Self {
        let down =
            |source| text.sum("damselfly_traffic_bytes_total", &[("source", source), ("direction", "down")]);
        Self {
            origin: down("origin"),
            fallback: down("fallback"),
            rack: down("rack"),
            zone: down("zone"),
            elsewhere: down("elsewhere"),
            cache: text.sum("damselfly_traffic_bytes_total", &[("source", "cache")]),
            connections_made: text.sum("damselfly_p2p_connections_opened_total", &[("direction", "out")]),
            connections_open: text.sum("damselfly_p2p_connections", &[("direction", "out")]),
            requests_reused: text.sum("damselfly_p2p_requests_reused_total", &[]),
            pieces: text.sum("damselfly_p2p_downloaded_pieces_total", &[]),
            refused: text.by_reason("damselfly_p2p_requests_refused_total"),
            failed: text.by_reason("damselfly_p2p_fetches_failed_total"),
            rejected: text.sum("damselfly_p2p_connections_rejected_total", &[]),
            syncs: text.sum("damselfly_store_sync_seconds_count", &[]),
        }
    }
}

impl Add for Figures {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            origin: self.origin + other.origin,
            fallback: self.fallback + other.fallback,
            rack: self.rack + other.rack,
            zone: self.zone + other.zone,
            elsewhere: self.elsewhere + other.elsewhere,
            cache: self.cache + other.cache,
            connections_made: self.connections_made + other.connections_made,
            connections_open: self.connections_open + other.connections_open,
            requests_reused: self.requests_reused + other.requests_reused,
            pieces: self.pieces + other.pieces,
            refused: self.refused + other.refused,
            failed: self.failed + other.failed,
            rejected: self.rejected + other.rejected,
            syncs: self.syncs + other.syncs,
        }
    }
}

impl Sum for Figures {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

/// What the scheduler counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Messages {
    /// Messages about blobs to hosts.
    pub sent: u64,
    /// Messages about blobs from hosts.
    pub received: u64,
    /// Pieces assigned to a child.
    pub assigned: u64,
    /// Questions about tags and permissions.
    pub questions: u64,
    /// Transfers that ran out of time or failed.
    pub transfers_failed: u64,
    /// Leases granted.
    pub leases: u64,
    /// Messages that came too late or made no sense.
    pub ignored: u64,
}

impl From<&Exposition> for Messages {
    fn from(text: &Exposition) -> Self {
        let of = |name: &str| text.sum(&format!("damselfly_scheduler_{name}_total"), &[]);
        Self {
            sent: of("messages_sent"),
            received: of("messages_received"),
            assigned: of("assigned"),
            questions: of("questions"),
            transfers_failed: of("failed_corrupt") + of("failed_busy") + of("failed_other") + of("timed_out"),
            leases: of("leases_granted"),
            ignored: of("ignored"),
        }
    }
}

impl Messages {
    /// What was added since.
    #[must_use]
    pub const fn since(&self, before: &Self) -> Self {
        Self {
            sent: self.sent.saturating_sub(before.sent),
            received: self.received.saturating_sub(before.received),
            assigned: self.assigned.saturating_sub(before.assigned),
            questions: self.questions.saturating_sub(before.questions),
            transfers_failed: self.transfers_failed.saturating_sub(before.transfers_failed),
            leases: self.leases.saturating_sub(before.leases),
            ignored: self.ignored.saturating_sub(before.ignored),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_name_and_labels() {
        let text = Exposition(
            "# TYPE damselfly_p2p_connections gauge\ndamselfly_p2p_connections{direction=\"out\"} 3\ndamselfly_p2p_connections{direction=\"in\"} 4\n\
             damselfly_p2p_connections_opened_total{direction=\"out\"} 9\ndamselfly_p2p_downloaded_pieces_total 7\n\
             damselfly_p2p_fetches_failed_total{reason=\"busy\"} 2\ndamselfly_p2p_fetches_failed_total{reason=\"stalled\"} 0\n\
             damselfly_traffic_bytes_total{peer=\"a\",source=\"zone\",direction=\"down\"} 10\n\
             damselfly_traffic_bytes_total{peer=\"b\",source=\"zone\",direction=\"down\"} 5\n\
             damselfly_traffic_bytes_total{peer=\"b\",source=\"zone\",direction=\"up\"} 100\n# EOF\n"
                .to_owned(),
        );
        let figures = Figures::from(&text);
        assert_eq!((figures.connections_open, figures.connections_made, figures.pieces), (3, 9, 7));
        assert_eq!((figures.zone, figures.origin), (15, 0));
        let twice: Figures = [figures.clone(), figures].into_iter().sum();
        assert_eq!((twice.zone, twice.failed.to_string().as_str()), (30, "4 busy"));
    }
}
