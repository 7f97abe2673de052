//! How the daemon stands, in `/metrics`: what is so or not so now, and the limits that other figures are held against.

use download_core::LinkState;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use std::fmt;
use store::Store;
use tokio::sync::watch;

/// Asked whenever the metrics are.
#[derive(Debug)]
pub(crate) struct Standing {
    /// Of the link to the scheduler.
    pub(crate) link: watch::Receiver<LinkState>,
    /// Of which the quota is told.
    pub(crate) store: Store,
    /// Pieces that may be sent to peers at once.
    pub(crate) upload_slots: u16,
}

impl Collector for Standing {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let up = u64::from(*self.link.borrow() == LinkState::Up);
        let gauges = [
            ("link_up", "1 while the scheduler answers this daemon, 0 while it does not", None, up),
            (
                "store_quota",
                "How large the cache may become",
                Some(Unit::Bytes),
                self.store.stats().quota_bytes,
            ),
            ("p2p_upload_slots", "Pieces that may be sent to peers at once", None, self.upload_slots.into()),
        ];
        for (name, help, unit, value) in gauges {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, unit.as_ref(), gauge.metric_type())?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::registry::Registry;

    #[test]
    fn it_says_how_things_are_when_it_is_asked() {
        let (state, link) = watch::channel(LinkState::Up);
        let mut registry = Registry::default();
        let dir = tempfile::tempdir().unwrap();
        let store =
            Store::open(store::Options { quota_bytes: 100, ..store::Options::new(dir.path()) }).unwrap();
        registry.register_collector(Box::new(Standing { link, store, upload_slots: 4 }));
        let text = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            text
        };
        assert!(text().contains("\nlink_up 1\n"), "{}", text());
        assert!(text().contains("\nstore_quota_bytes 100\n"), "{}", text());
        state.send(LinkState::Down).unwrap();
        assert!(text().contains("\nlink_up 0\n"), "{}", text());
    }
}
