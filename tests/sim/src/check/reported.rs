//! Who has said to hold what, and that only such hosts are asked to send.

use std::collections::BTreeMap;
use types::{BlobKey, HostBody, HostId, PieceIndex, PieceSet, SchedulerBody};

/// What hosts have reported as verified, on their present streams.
#[derive(Debug, Default)]
pub(crate) struct Reported(BTreeMap<BlobKey, BTreeMap<HostId, PieceSet>>);

impl Reported {
    pub(super) fn heard(&mut self, host: HostId, key: &BlobKey, body: &HostBody) {
        match body {
            HostBody::Hold { pieces, .. } | HostBody::Want { held: pieces, .. } => {
                self.0.entry(key.clone()).or_default().insert(host, pieces.clone());
            }
            HostBody::Verified { piece, .. } => {
                if let Some(pieces) = self.0.get_mut(key).and_then(|hosts| hosts.get_mut(&host)) {
                    pieces.insert(*piece);
                }
            }
            HostBody::Drop => {
                if let Some(hosts) = self.0.get_mut(key) {
                    hosts.remove(&host);
                }
            }
            _ => {}
        }
    }

    pub(super) fn gone(&mut self, host: HostId) {
        self.0.values_mut().for_each(|hosts| drop(hosts.remove(&host)));
    }

    pub(super) fn has(&self, host: HostId, key: &BlobKey, piece: PieceIndex) -> bool {
        self.0.get(key).and_then(|hosts| hosts.get(&host)).is_some_and(|pieces| pieces.contains(piece))
    }

    /// The hosts that hold a piece of a blob.
    pub(super) fn holders(&self, key: &BlobKey, piece: PieceIndex) -> impl Iterator<Item = HostId> {
        let hosts = self.0.get(key).into_iter().flatten();
        hosts.filter(move |(_, pieces)| pieces.contains(piece)).map(|(host, _)| *host)
    }

    pub(super) fn told(&mut self, child: HostId, key: &BlobKey, body: &SchedulerBody) {
        if let SchedulerBody::ChainReset { .. } = body {
            // What it held of a false chain counts no more.
            if let Some(pieces) = self.0.get_mut(key).and_then(|hosts| hosts.get_mut(&child)) {
                *pieces = PieceSet::empty(pieces.count());
            }
        }
        if let SchedulerBody::Assign { piece, parent, .. } = body {
            assert_ne!(*parent, child, "a host is its own parent");
            assert!(
                self.has(*parent, key, *piece),
                "a host is asked for what it has not reported: {parent} for piece {piece}"
            );
        }
    }
}
