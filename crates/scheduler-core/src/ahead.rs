//! How far a source may read ahead of the others: what its death would cost.

use crate::Scheduler;
use crate::lease::Lease;
use crate::slab::SwarmIx;
use crate::swarm::Swarm;
use std::collections::BTreeSet;
use std::time::Duration;
use types::{PieceIndex, SchedulerBody};

/// A source is ahead by this many pieces at least, however large they are.
const AHEAD_MIN_PIECES: u64 = 4;

impl Scheduler {
    /// Begins to count by how much the source is ahead, when others come or what it has to read changes.
    pub(crate) fn count_ahead(&mut self, six: SwarmIx, anew: bool) {
        let swarm = &mut self.swarms[six];
        let Some(source) = swarm.demand.as_deref().and_then(|demand| Some(demand.lease.as_ref()?.member))
        else {
            return;
        };
        let shared = swarm.others_lacking(source);
        let Some(demand) = swarm.demand.as_deref_mut() else { return };
        let Some(lease) = &mut demand.lease else { return };
        if !anew && lease.shared == shared {
            return;
        }
        if anew && lease.shared && shared {
            lease.counted.union_with(&lease.remaining);
        } else {
            lease.counted = lease.remaining.clone();
        }
        lease.shared = shared;
        let held = &swarm.members[source].held;
        let sole = |piece: &PieceIndex| held.contains(*piece) && demand.holders[piece.as_usize()] == 1;
        lease.unique = lease.counted.iter().filter(sole).count() as u64;
    }

    /// How far the source may read: while others want the blob, it may hold so much that nobody else does. Alone it
    /// gets twice that at a time and more as it goes on, since others may come any moment.
    pub(crate) fn new_limit(&self, six: SwarmIx) -> u32 {
        let swarm = &self.swarms[six];
        let Some(lease) = self.lease(six) else { return 0 };
        let ahead = self.ahead(swarm);
        let unique = lease.unique.saturating_sub(self.sent_once(six, lease));
        let budget = if lease.shared { ahead.saturating_sub(unique) } else { 2 * ahead };
        let beyond = lease.remaining.iter().nth(usize::try_from(budget).unwrap_or(usize::MAX));
        beyond.map_or(swarm.count(), |piece| piece.0).max(lease.limit)
    }

    /// How many of the counted pieces that only the source holds it is sending to somebody.
    fn sent_once(&self, six: SwarmIx, lease: &Lease) -> u64 {
        let Some(demand) = self.swarms[six].demand.as_deref() else { return 0 };
        let uploads = self.hosts[lease.host].uploads.iter().map(|tix| &self.transfers[*tix]);
        let first = uploads.filter(|transfer| {
            let piece = transfer.piece;
            transfer.swarm == six && lease.counted.contains(piece) && demand.holders[piece.as_usize()] == 1
        });
        first.map(|transfer| transfer.piece).collect::<BTreeSet<_>>().len() as u64
    }

    /// By how many pieces a source may be ahead.
    fn ahead(&self, swarm: &Swarm) -> u64 {
        let bytes = self.options.source_ahead_bytes.max(self.options.source_ahead_min_bytes);
        (bytes / u64::from(swarm.layout.piece_len())).max(AHEAD_MIN_PIECES)
    }

    pub(crate) fn raise_limit(&mut self, six: SwarmIx) {
        self.count_ahead(six, false);
        if self.gives_way(six) {
            self.hold_up(six);
            return self.set_lease_alarm(six);
        }
        let limit = self.new_limit(six);
        let step = self.ahead(&self.swarms[six]) / 4;
        let now = self.now;
        let Some(lease) = self.lease_mut(six) else { return };
        // Not a message for every piece: only when it is of use soon.
        let near = lease.remaining.next_in(PieceIndex(0)).is_some_and(|first| first.0 >= lease.limit);
        let worth = near || u64::from(limit - lease.limit) >= step.max(1) || limit >= lease.remaining.count();
        if limit <= lease.limit || !worth {
            if near {
                self.set_lease_alarm(six);
            }
            return;
        }
        lease.limit = limit;
        if near {
            (lease.moved_at, lease.piece_at) = (now, now);
        }
        let (member, epoch) = (lease.member, lease.epoch);
        self.tell(six, member, SchedulerBody::LeaseLimit { epoch, limit });
        self.set_lease_alarm(six);
    }

    /// The source is to ask for nothing more.
    fn hold_up(&mut self, six: SwarmIx) {
        let now = self.now;
        let Some(lease) = self.lease_mut(six).filter(|lease| !lease.is_at_limit()) else { return };
        let Some(PieceIndex(limit)) = lease.remaining.next_in(PieceIndex(0)) else { return };
        (lease.limit, lease.moved_at) = (limit, now);
        let (member, epoch) = (lease.member, lease.epoch);
        self.tell(six, member, SchedulerBody::LeaseLimit { epoch, limit });
    }

    /// How long a source waits at its limit before it may read a little more.
    pub(crate) fn limit_patience(&self, six: SwarmIx) -> Duration {
        if self.gives_way(six) { self.options.preheat_wait } else { self.options.source_limit_patience }
    }
}
