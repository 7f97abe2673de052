//! What the demo says at the end: a table for people, or one JSON object.

use serde::Serialize;
use std::fmt;

/// One node's share.
#[derive(Clone, Debug, Serialize)]
pub struct NodeReport {
    /// Its name.
    pub node: String,
    /// Bytes that it read from the origin.
    pub from_origin: u64,
    /// Bytes that it received from peers.
    pub from_peers: u64,
    /// Bytes that it sent to peers.
    pub to_peers: u64,
    /// Bytes of blobs that its client received with a wrong digest.
    pub wrong_bytes: u64,
    /// From the common start to its last byte.
    pub seconds: f64,
}

/// The whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// How many nodes pulled.
    pub nodes: usize,
    /// Bytes of the image's blobs.
    pub image_bytes: u64,
    /// Bytes of blobs that left the origin, as the origin counted them.
    pub origin_bytes: u64,
    /// Bytes of blobs that some client received with a wrong digest.
    pub wrong_bytes: u64,
    /// From the common start to the last byte of the last node.
    pub seconds: f64,
    /// The lower bound for these rates.
    pub bound_seconds: f64,
    /// Each node's share.
    pub per_node: Vec<NodeReport>,
}

impl Report {
    /// How often the image left the origin.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a ratio of byte counts below 2^52")]
    pub fn origin_ratio(&self) -> f64 {
        self.origin_bytes as f64 / self.image_bytes as f64
    }

    /// How near the time came to the bound.
    #[must_use]
    pub fn time_ratio(&self) -> f64 {
        self.seconds / self.bound_seconds
    }

    /// Whether every byte was right.
    #[must_use]
    pub const fn is_right(&self) -> bool {
        self.wrong_bytes == 0
    }
}

/// Mebibytes with one decimal.
fn mib(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let mib = bytes as f64 / f64::from(1 << 20);
    format!("{mib:.1}")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<10} {:>12} {:>12} {:>12} {:>9}",
            "MiB", "from origin", "from peers", "to peers", "seconds"
        )?;
        for node in &self.per_node {
            let (origin, from, to) = (mib(node.from_origin), mib(node.from_peers), mib(node.to_peers));
            writeln!(f, "{:<10} {origin:>12} {from:>12} {to:>12} {:>9.2}", node.node, node.seconds)?;
        }
        let sum = |bytes: fn(&NodeReport) -> u64| mib(self.per_node.iter().map(bytes).sum());
        let (origin, from, to) = (sum(|n| n.from_origin), sum(|n| n.from_peers), sum(|n| n.to_peers));
        writeln!(f, "{:<10} {origin:>12} {from:>12} {to:>12} {:>9.2}", "all", self.seconds)?;
        writeln!(f)?;
        let (left, image) = (mib(self.origin_bytes), mib(self.image_bytes));
        writeln!(f, "origin bytes ÷ image bytes   {:.3}   ({left} MiB ÷ {image} MiB)", self.origin_ratio())?;
        writeln!(
            f,
            "time ÷ lower bound           {:.3}   ({:.2} s ÷ {:.2} s)",
            self.time_ratio(),
            self.seconds,
            self.bound_seconds
        )?;
        let wrong = if self.is_right() {
            "every byte is right".to_owned()
        } else {
            format!("{} bytes are WRONG", self.wrong_bytes)
        };
        write!(f, "{wrong}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let node = NodeReport {
            node: "node-1".to_owned(),
            from_origin: 3 << 20,
            from_peers: 1 << 20,
            to_peers: 0,
            wrong_bytes: 0,
            seconds: 2.0,
        };
        Report {
            nodes: 1,
            image_bytes: 4 << 20,
            origin_bytes: 4 << 20,
            wrong_bytes: 0,
            seconds: 2.0,
            bound_seconds: 1.6,
            per_node: vec![node],
        }
    }

    #[test]
    fn the_table_has_the_ratios() {
        let text = report().to_string();
        assert!(text.contains("1.000   (4.0 MiB ÷ 4.0 MiB)"), "{text}");
        assert!(text.contains("1.250   (2.00 s ÷ 1.60 s)"), "{text}");
        assert!(text.ends_with("every byte is right"), "{text}");
    }

    #[test]
    fn json_has_the_promised_fields() {
        let value = serde_json::to_value(report()).unwrap();
        for field in ["nodes", "image_bytes", "origin_bytes", "wrong_bytes", "seconds", "bound_seconds"] {
            assert!(value[field].is_number(), "{field}");
        }
    }
}
