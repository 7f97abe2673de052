//! What must always hold, checked from scratch: for tests and simulations, after every step.

use crate::demand::Demand;
use crate::slab::{MemberIx, SwarmIx};
use crate::swarm::{Coming, Member, Swarm};
use crate::{Scheduler, Work};
use std::collections::{BTreeMap, BTreeSet};
use types::{PieceIndex, PieceSet, Priority, Registry};

impl Scheduler {
    /// Checks what must always hold.
    ///
    /// # Panics
    /// If it does not, saying what broke. For tests and simulations.
    pub fn check_invariants(&self) {
        assert!(self.out.is_empty(), "no effect is kept back");
        self.check_hosts();
        self.check_transfers();
        self.check_boundaries();
        self.check_admission();
        for (six, swarm) in self.swarms.iter() {
            self.check_swarm(six, swarm);
        }
        for (key, entry) in &self.index {
            assert!(entry.closed.is_some() || !entry.open.is_empty(), "an entry {key:?} without a swarm");
            assert!(entry.closed.is_none() || entry.open.is_empty(), "a closed blob serves all registries");
            for six in entry.open.values().chain(&entry.closed) {
                assert!(self.swarms.get(*six).is_some(), "the index points to a swarm that is gone");
            }
        }
    }

    fn check_admission(&self) {
        let mut reading: BTreeMap<&Registry, BTreeMap<SwarmIx, bool>> = BTreeMap::new();
        for (six, swarm) in self.swarms.iter() {
            if let Some(lease) = swarm.demand.as_deref().and_then(|demand| demand.lease.as_ref()) {
                assert_eq!(lease.awaited, swarm.awaiting > 0, "a lease knows whether clients wait");
                reading.entry(&lease.registry).or_default().insert(six, lease.awaited);
            }
        }
        for (registry, noted, for_clients, waiting) in self.admission.all() {
            assert!(!(noted.is_empty() && waiting.is_empty()), "a row of nobody");
            let leases = reading.remove(registry).unwrap_or_default();
            assert!(leases.keys().eq(noted), "leases by registry");
            assert_eq!(leases.values().filter(|awaited| **awaited).count(), for_clients, "for clients");
            for turn in waiting {
                let demand = self.swarms.get(turn.2).and_then(|swarm| swarm.demand.as_deref());
                let known = demand.and_then(|demand| demand.waiting.as_ref());
                assert!(
                    known.is_some_and(|w| w.registry == *registry && w.turn == *turn),
                    "who waits knows it"
                );
                let alarm = demand.is_some_and(|demand| demand.consider_alarm.is_set());
                assert!(alarm || known.is_some_and(|w| w.until <= self.now), "who waits looks again");
            }
        }
        assert!(reading.is_empty(), "a lease that its registry does not know of");
    }

    fn check_hosts(&self) {
        assert!(self.hosts.len() <= self.options.hosts_max, "more hosts than allowed");
        for (hix, host) in self.hosts.iter() {
            let credited = host.uploads_credited as usize;
            let busy = host.uploads.len() - credited;
            assert!(busy <= host.upload_slots(), "{:?}: more uploads than slots", host.id);
            assert!(credited <= host.upload_slots(), "{:?}: more promises than slots", host.id);
            let busy = (host.downloads - host.downloads_credited) as usize;
            assert!(busy <= host.download_slots(), "{:?}: more downloads than slots", host.id);
            for (six, ix) in host.memberships.iter() {
                let swarm = self.swarms.get(*six).expect("a membership of a swarm that lives");
                let member = swarm.members.get(*ix).expect("a membership that lives");
                assert_eq!(member.host, hix, "a membership that is the host's");
                let usable = host.muted_until.is_none() && !swarm.distrusted.contains(ix);
                assert_eq!(member.usable, usable, "muted hosts' pieces do not count");
                assert_eq!(
                    host.offers.contains(six),
                    swarm.demand.is_some(),
                    "offers are where somebody wants"
                );
                let listed =
                    member.want.as_ref().is_some_and(|want| host.wants.contains(&(want.priority, *six)));
                assert_eq!(listed, member.lacks(), "wants are what the host lacks");
            }
            let blobs = host.wants.iter().map(|(_, six)| six).chain(host.offers.iter());
            let mut known = blobs.map(|six| host.memberships.get(*six).is_some());
            assert!(known.all(|known| known), "what is wanted or offered is a membership");
        }
    }

    fn check_transfers(&self) {
        let mut downloads = 0;
        for (tix, transfer) in self.transfers.iter() {
            assert_ne!(transfer.child_host, transfer.parent_host, "a host does not send to itself");
            let swarm = &self.swarms[transfer.swarm];
            let child = &swarm.members[transfer.child];
            let want = child.want.as_ref().expect("a child wants the blob");
            let coming = Coming { piece: transfer.piece, transfer: tix };
            assert!(want.coming.contains(&coming), "the child knows the transfer");
            assert!(!child.held.contains(transfer.piece), "what is held is not in flight");
            assert!(self.hosts[transfer.parent_host].uploads.contains(&tix), "the parent knows the transfer");
            assert!(swarm.linked.contains(transfer.piece), "a piece in flight can be verified");
            downloads += 1;
        }
        let uploads: usize = self.hosts.iter().map(|(_, host)| host.uploads.len()).sum();
        let counted: usize = self.hosts.iter().map(|(_, host)| host.downloads as usize).sum();
        assert_eq!((uploads, counted), (downloads, downloads), "every transfer has one parent and one child");
        assert!(downloads == 0 || self.overdue_alarm.is_set(), "a transfer that takes too long is found");
    }

    fn check_swarm(&self, six: SwarmIx, swarm: &Swarm) {
        assert!(swarm.members.len() > 0, "a swarm has members");
        let wanting = swarm.members.iter().filter(|(_, m)| m.want.is_some()).count();
        let lacking = swarm.members.iter().filter(|(_, m)| m.lacks()).count();
        assert_eq!((swarm.wanting, swarm.lacking), (wanting, lacking), "wants are counted");
        let waits = |member: &Member| {
            member.lacks() && member.want.as_ref().is_some_and(|want| want.priority == Priority::Waiting)
        };
        let awaiting = swarm.members.iter().filter(|(_, member)| waits(member)).count();
        assert_eq!(swarm.awaiting, awaiting, "what clients wait for is counted");
        assert_eq!(swarm.demand.is_some(), wanting > 0, "counted is while somebody wants");
        for piece in swarm.layout.pieces() {
            assert_eq!(
                swarm.linked.contains(piece),
                swarm.chain.link(piece).is_some(),
                "links are known states"
            );
        }
        for (ix, member) in swarm.members.iter() {
            let known = self.hosts[member.host].memberships.get(six);
            assert_eq!(known, Some(ix), "a host is a member once");
            let coming: Vec<_> = member.want.iter().flat_map(|want| &want.coming).collect();
            let all_live = coming.iter().all(|c| {
                self.transfers
                    .get(c.transfer)
                    .is_some_and(|t| t.swarm == six && t.child == ix && t.piece == c.piece)
            });
            assert!(all_live, "what comes to a member is in flight");
            let pieces: BTreeSet<_> = coming.iter().map(|c| c.piece).collect();
            assert_eq!(pieces.len(), coming.len(), "what is in flight is not wanted twice");
        }
        if let Some(demand) = swarm.demand.as_deref() {
            self.check_counts(six, swarm, demand);
            self.check_lists(six, swarm, demand);
            self.check_lease(six, swarm, demand);
        }
    }

    fn check_counts(&self, six: SwarmIx, swarm: &Swarm, demand: &Demand) {
        let count = swarm.count() as usize;
        let mut holders = vec![0; count];
        let mut zones = vec![vec![0; count]; demand.parts.len()];
        for (ix, member) in swarm.members.iter().filter(|(_, m)| m.usable) {
            for piece in member.held.iter() {
                holders[piece.as_usize()] += 1;
                zones[demand.part_ix(ix) as usize][piece.as_usize()] += 1;
            }
        }
        assert_eq!(demand.holders, holders, "holders are counted");
        for (ix, member) in swarm.members.iter() {
            assert_eq!(demand.overview.member(member.host), Some(ix), "the overview knows every member");
            assert_eq!(demand.overview.host(ix), member.host, "either way");
            assert_eq!(demand.overview.held(ix), member.held.words(), "and what it holds");
            let coming = member.want.iter().flat_map(|want| &want.coming).map(|coming| coming.piece);
            let kept = demand.overview.coming(ix).iter().copied();
            assert!(
                kept.take_while(|piece| piece.0 < swarm.count()).eq(coming.take(4)),
                "and what comes to it"
            );
        }
        for (part, counted) in demand.parts.iter().zip(&zones) {
            assert_eq!(&part.holders, counted, "a zone's holders are counted");
        }
        let mut copies = holders.clone();
        let mut crossing = vec![PieceSet::empty(swarm.count()); demand.parts.len()];
        let mut transfers = 0;
        for (_, transfer) in self.transfers.iter().filter(|(_, t)| t.swarm == six) {
            transfers += 1;
            copies[transfer.piece.as_usize()] += 1;
            if demand.part_ix(transfer.child) != demand.part_ix(transfer.parent) {
                assert!(transfer.crossing, "a transfer across the boundary is marked");
                let new = crossing[demand.part_ix(transfer.child) as usize].insert(transfer.piece);
                assert!(new, "a piece enters a zone on one way at a time");
            }
        }
        assert_eq!(demand.transfers, transfers, "transfers are counted");
        for (part, crossing) in demand.parts.iter().zip(&crossing) {
            assert_eq!(&part.crossing, crossing, "the gate is shut while one crosses, and only then");
        }
        for piece in swarm.layout.pieces() {
            let i = piece.as_usize();
            assert_eq!(demand.rarity.copies(piece), copies[i], "copies of {piece} are counted");
            assert_eq!(demand.held.contains(piece), holders[i] > 0, "{piece} is held by a usable host");
            let available = holders[i] > 0 && swarm.linked.contains(piece);
            assert_eq!(demand.avail.contains(piece), available, "{piece} is available");
        }
    }

    fn check_boundaries(&self) {
        for (zone, inwards, outwards) in self.hosts.crossings() {
            let crossing = self.transfers.iter().filter(|(_, transfer)| transfer.crossing);
            let ends = crossing.map(|(_, t)| (self.hosts[t.parent_host].zone, self.hosts[t.child_host].zone));
            let count = ends.fold((0, 0), |(into, out), (from, to)| {
                (into + u32::from(to == zone), out + u32::from(from == zone))
            });
            assert_eq!((inwards, outwards), count, "what crosses a boundary is counted");
        }
    }

    /// Whoever could send or receive more is listed, or noted for the next match.
    fn check_lists(&self, six: SwarmIx, swarm: &Swarm, demand: &Demand) {
        let Work { fresh, feed, fill, hungry, .. } = &self.work;
        for (ix, member) in swarm.members.iter() {
            let host = &self.hosts[member.host];
            let idle =
                demand.idle.place(ix).is_some() || feed.contains(&member.host) || fresh.contains(&(six, ix));
            assert!(
                idle || !member.usable || member.held.is_empty() || !host.can_upload(self.now),
                "{:?} could upload and nobody sees it",
                host.id
            );
            assert!(member.lacks() || !demand.is_listed(ix), "{:?} needs nothing and is listed", host.id);
            if !member.lacks() {
                continue;
            }
            assert!(
                demand.is_listed(ix)
                    || !member.want.as_ref().is_some_and(|want| host.can_take(want.priority, self.now))
                    || fill.contains(&member.host)
                    || hungry.contains(&six),
                "{:?} waits and nobody sees it",
                host.id
            );
            assert!(
                !demand.is_sated(ix) || !self.could_get(swarm, demand, ix),
                "{:?} waits for nothing though there is something",
                host.id
            );
        }
        let count: usize = demand.hungry.iter().sum();
        let listed =
            swarm.members.iter().filter(|(ix, _)| demand.is_listed(*ix) && !demand.is_sated(*ix)).count();
        assert_eq!(count, listed, "the hungry are counted");
        assert!(
            count == 0 || demand.retry_alarm.is_set() || self.work.is_to_match(),
            "the hungry look again some time"
        );
    }

    fn could_get(&self, swarm: &Swarm, demand: &Demand, ix: MemberIx) -> bool {
        let member = &swarm.members[ix];
        let spared = |piece: PieceIndex| {
            demand.lease.as_ref().is_some_and(|lease| lease.member == ix && lease.remaining.contains(piece))
        };
        demand.avail.iter().any(|piece| !member.has(piece) && !spared(piece))
    }

    fn check_lease(&self, six: SwarmIx, swarm: &Swarm, demand: &Demand) {
        let Some(lease) = &demand.lease else {
            let waits = swarm.query.is_some()
                || demand.consider_alarm.is_set()
                || self.index[&(swarm.digest, swarm.layout.size())]
                    .open
                    .values()
                    .any(|other| *other != six && self.swarms[*other].query.is_some());
            let told =
                swarm.members.iter().all(|(_, m)| !m.lacks() || m.want.as_ref().is_some_and(|w| w.told));
            let idle = swarm.lacking == 0 || demand.avail.is_full();
            assert!(waits || told || idle, "pieces are missing, nobody reads them, and nobody was told");
            return;
        };
        let member = swarm.members.get(lease.member).expect("a source is a member");
        assert_eq!(member.host, lease.host, "a source is the host that it was");
        assert!(member.usable, "a muted host is no source");
        assert!(lease.epoch.0 < self.next_epoch, "an epoch in use is not given again");
        assert!(lease.adopted || demand.lease_alarm.is_set(), "a lease lapses some time");
        let unique =
            |piece: &PieceIndex| member.held.contains(*piece) && demand.holders[piece.as_usize()] == 1;
        assert_eq!(
            lease.unique,
            lease.counted.iter().filter(unique).count() as u64,
            "what only the source holds"
        );
        for piece in lease.remaining.iter() {
            let done = member.held.contains(piece) && swarm.linked.contains(piece);
            assert!(!done, "{piece} is read, held and still to be read");
        }
    }
}
