//! Checkers that neither core could do for itself, and what is said when a run fails.

use crate::world::World;
use std::collections::BTreeMap;
use types::{BlobKey, HostBody, HostId, PieceIndex, PieceSet, SchedulerBody};

/// What hosts have reported as verified, on their present streams.
#[derive(Debug, Default)]
pub(crate) struct Reported(BTreeMap<(HostId, BlobKey), PieceSet>);

impl Reported {
    pub(crate) fn heard(&mut self, host: HostId, key: &BlobKey, body: &HostBody) {
        let of = (host, key.clone());
        match body {
            HostBody::Hold { pieces, .. } | HostBody::Want { held: pieces, .. } => {
                self.0.insert(of, pieces.clone());
            }
            HostBody::Verified { piece, .. } => {
                if let Some(pieces) = self.0.get_mut(&of) {
                    pieces.insert(*piece);
                }
            }
            HostBody::Drop => drop(self.0.remove(&of)),
            _ => {}
        }
    }

    pub(crate) fn forget(&mut self, host: HostId) {
        self.0.retain(|(of, _), _| *of != host);
    }

    fn has(&self, host: HostId, key: &BlobKey, piece: PieceIndex) -> bool {
        self.0.get(&(host, key.clone())).is_some_and(|pieces| pieces.contains(piece))
    }

    /// No host is asked to send what it has not reported as verified, and none to send to itself.
    pub(crate) fn check_assignment(&self, child: HostId, key: &BlobKey, body: &SchedulerBody) {
        if let SchedulerBody::Assign { piece, parent, .. } = body {
            assert_ne!(*parent, child, "a host is its own parent");
            assert!(self.has(*parent, key, *piece), "{parent} was never said to hold piece {piece}");
        }
    }
}

impl World {
    /// Ends a run that does not end by itself, saying how things stand.
    pub(crate) fn give_up(&self, why: &str) -> ! {
        let mut text = format!("{why}, at {}, seed {}\n", self.now, self.settings.seed);
        let summary = self.scheduler.core.summary();
        for blob in &summary.blobs {
            text += &format!("  {blob:?}\n");
        }
        for host in &summary.hosts {
            text += &format!("  {host:?}\n");
        }
        for (number, host) in self.hosts.iter().enumerate() {
            text += &format!("host {number} {} alive {} link {:?}\n", host.id, host.alive, host.link);
            for (blob, place) in
                host.places.iter().enumerate().filter(|(_, p)| p.clients.iter().any(|c| !c.done))
            {
                let held = place.stored.pieces();
                text += &format!("  blob {blob}: stored {held:?} clients {:?}\n", place.clients);
                if let Some(running) = &place.running {
                    let next = running.core.next_deadline();
                    text += &format!("    deadline {next:?} fetches {:?}\n", running.fetches);
                    text += &format!("    reads {:?} {:?}\n", running.reads, running.core);
                }
            }
        }
        text += &format!("  {:?}\n  last in the queue: {:?}\n", summary.counters, self.queue.latest());
        panic!("{text}");
    }
}
