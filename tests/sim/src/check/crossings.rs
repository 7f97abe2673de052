//! What crosses zone boundaries: a piece that a zone has comes into it again only for a host that waited for long.

use super::reported::Reported;
use std::collections::BTreeMap;
use std::time::Duration;
use types::{BlobKey, FetchFailure, HostBody, HostId, PieceIndex, SchedulerBody, Timestamp};

#[derive(Debug, Default)]
pub(crate) struct Crossings {
    zones: BTreeMap<HostId, usize>,
    /// When each host last asked for a blob, or was given a piece of it.
    served: BTreeMap<(HostId, BlobKey), Timestamp>,
    /// Some hosts could not use others: what they cross for is not known here.
    disturbed: bool,
}

impl Crossings {
    pub(super) fn stands_in(&mut self, host: HostId, zone: usize) {
        self.zones.insert(host, zone);
    }

    /// From now on hosts may hold what others take for wrong.
    pub(super) fn disturb(&mut self) {
        self.disturbed = true;
    }

    pub(super) fn gone(&mut self, host: HostId) {
        self.served.retain(|(of, _), _| *of != host);
    }

    pub(super) fn heard(&mut self, now: Timestamp, host: HostId, key: &BlobKey, body: &HostBody) {
        match body {
            HostBody::Want { .. } => {
                self.served.entry((host, key.clone())).or_insert(now);
            }
            HostBody::Leave | HostBody::Drop => drop(self.served.remove(&(host, key.clone()))),
            HostBody::Failed { why, .. } => {
                self.disturbed |= !matches!(why, FetchFailure::Busy | FetchFailure::Local);
            }
            HostBody::ChainFalse { .. } => self.disturbed = true,
            _ => {}
        }
    }

    pub(super) fn told(
        &mut self,
        (now, patience): (Timestamp, Duration),
        child: HostId,
        key: &BlobKey,
        body: &SchedulerBody,
        reported: &Reported,
    ) {
        let SchedulerBody::Assign { piece, parent, .. } = body else { return };
        let zone = |host: &HostId| self.zones.get(host);
        if zone(&child) != zone(parent) && !self.disturbed {
            let waited = self.served.get(&(child, key.clone())).map(|at| now.since(*at));
            // One that could not use somebody waits for a quarter as long.
            let soon = waited.is_some_and(|waited| waited < patience / 4);
            let holder = self.holder_in_zone_of(child, key, *piece, reported).filter(|_| soon);
            assert!(
                holder.is_none(),
                "piece {piece} crosses a zone's boundary again, for a host that waited {waited:?} beside {holder:?}"
            );
        }
        self.served.insert((child, key.clone()), now);
    }

    fn holder_in_zone_of(
        &self,
        child: HostId,
        key: &BlobKey,
        piece: PieceIndex,
        reported: &Reported,
    ) -> Option<HostId> {
        let zone = self.zones.get(&child);
        reported.holders(key, piece).find(|host| *host != child && self.zones.get(host) == zone)
    }
}
