//! Hosts come and go, hold and want: how they enter swarms and leave them.

use crate::Scheduler;
use crate::held::Held;
use crate::slab::{HostIx, MemberIx, SwarmIx};
use crate::swarm::{Barred, Coming, Member, Swarm, Want};
use crate::timers::Timer;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::sync::Arc;
use types::{
    BlobFailure, BlobKey, Credential, Epoch, HostId, HostSpec, PieceIndex, PieceSet, Priority, Registry,
    SchedulerBody,
};

/// The swarms of one digest and size: one for all registries once closed, before that one for each.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    pub(crate) closed: Option<SwarmIx>,
    pub(crate) open: BTreeMap<Registry, SwarmIx>,
}

/// What a host says with a want.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) credential: Credential,
    pub(crate) priority: Priority,
    pub(crate) position: PieceIndex,
    pub(crate) lease: Option<Epoch>,
}

impl Scheduler {
    pub(crate) fn on_joined(&mut self, id: HostId, spec: HostSpec) {
        self.on_left(&id);
        if self.hosts.len() >= self.options.hosts_max {
            self.counters.ignored += 1;
            return;
        }
        let host = self.hosts.join(id, spec);
        self.resume_quarantine(host);
    }

    pub(crate) fn on_left(&mut self, id: &HostId) {
        let Some(host) = self.hosts.find(id) else { return };
        self.leaving = Some(host);
        let memberships = self.hosts[host].memberships.clone();
        // From the end, since each removal moves what comes after it.
        for (six, ix) in memberships.iter().rev().copied() {
            self.remove_member(six, ix);
        }
        self.leaving = None;
        self.timers.clear(&mut self.hosts[host].alarm, Timer::Host(host));
        self.hosts.leave(host);
    }

    /// The swarm that serves `key`.
    pub(crate) fn find_swarm(&self, key: &BlobKey) -> Option<SwarmIx> {
        let entry = self.index.get(&(key.digest, key.size))?;
        entry.closed.or_else(|| entry.open.get(&key.registry).copied())
    }

    /// The swarm that serves `key`, made if there is none; nothing if the key makes no sense or there are too many.
    pub(crate) fn swarm_for(&mut self, key: &BlobKey) -> Option<SwarmIx> {
        if let Some(six) = self.find_swarm(key) {
            return Some(six);
        }
        let chain = self.new_chain(key).filter(|chain| chain.layout().count() > 0)?;
        if self.swarms.len() >= self.options.blobs_max {
            return None;
        }
        let epoch = self.next_epoch();
        let six = self.swarms.insert(Swarm::new(chain, key.registry.clone(), epoch));
        self.index.entry((key.digest, key.size)).or_default().open.insert(key.registry.clone(), six);
        Some(six)
    }

    /// The host's place in the swarm that serves `key`, made if need be.
    pub(crate) fn join(&mut self, host: HostIx, key: &BlobKey) -> Option<(SwarmIx, MemberIx)> {
        if let Some(six) = self.find_swarm(key)
            && let Some(ix) = self.hosts[host].memberships.get(six)
        {
            return Some((six, ix));
        }
        if self.hosts[host].memberships.len() >= self.options.blobs_per_host_max {
            return None;
        }
        let six = self.swarm_for(key)?;
        Some((six, self.add_member(six, host, key.registry.clone())))
    }

    pub(crate) fn add_member(&mut self, six: SwarmIx, host: HostIx, registry: Registry) -> MemberIx {
        let swarm = &mut self.swarms[six];
        let entry = &mut self.hosts[host];
        let ix = swarm.members.insert(Member {
            host,
            zone: entry.zone,
            registry,
            held: Held::none(swarm.count()),
            closed: false,
            reset: false,
            asked_in_vain: false,
            usable: entry.muted_until.is_none(),
            want: None,
        });
        swarm.enlist(ix, self.now);
        entry.memberships.insert((six, ix));
        if swarm.demand.is_some() {
            entry.offers.insert(six);
        }
        ix
    }

    /// Takes a member out of a swarm, with all that it has under way.
    pub(crate) fn remove_member(&mut self, six: SwarmIx, ix: MemberIx) {
        let host = self.swarms[six].members[ix].host;
        self.stop_wanting(six, ix);
        let mut uploads = self.hosts[host].uploads.clone();
        uploads.retain(|tix| self.transfers[*tix].swarm == six);
        uploads.into_iter().for_each(|tix| self.cancel(tix));
        if self.swarms[six].demand.as_ref().is_some_and(|demand| demand.is_source(ix)) {
            self.counters.leases_lapsed += 1;
            self.end_lease(six);
        }
        if self.swarms[six].query.as_ref().is_some_and(|query| query.member == ix) {
            self.end_query(six);
        }
        let swarm = &mut self.swarms[six];
        swarm.set_usable(ix, false, self.now);
        swarm.claims.remove(&ix);
        swarm.distrusted.remove(&ix);
        if let Some(demand) = swarm.demand.as_deref_mut() {
            demand.part(ix, host);
        }
        swarm.members.remove(ix);
        let entry = &mut self.hosts[host];
        entry.memberships.remove(&(six, ix));
        entry.offers.remove(&six);
        if self.swarms[six].members.len() == 0 {
            self.destroy(six);
        } else {
            self.work.leases.insert(six);
        }
    }

    fn destroy(&mut self, six: SwarmIx) {
        self.deactivate(six);
        let Some(mut swarm) = self.swarms.remove(six) else { return };
        self.timers.clear(&mut swarm.query_alarm, Timer::Query(six));
        let key = (swarm.digest, swarm.layout.size());
        let Some(entry) = self.index.get_mut(&key) else { return };
        entry.closed = entry.closed.filter(|closed| *closed != six);
        entry.open.retain(|_, open| *open != six);
        if entry.closed.is_none() && entry.open.is_empty() {
            self.index.remove(&key);
        }
    }

    /// Nobody wants the blob any more: only who holds what is kept.
    fn deactivate(&mut self, six: SwarmIx) {
        self.revoke(six);
        self.waits_no_more(six);
        let swarm = &mut self.swarms[six];
        let Some(mut demand) = swarm.demand.take() else { return };
        self.timers.clear(&mut demand.lease_alarm, Timer::Lease(six));
        self.timers.clear(&mut demand.consider_alarm, Timer::Consider(six));
        self.timers.clear(&mut demand.retry_alarm, Timer::Retry(six));
        for (_, member) in swarm.members.iter() {
            self.hosts[member.host].offers.remove(&six);
        }
    }

    fn activate(&mut self, six: SwarmIx) {
        let swarm = &mut self.swarms[six];
        if swarm.demand.is_some() {
            return;
        }
        swarm.activate(self.options.rarity_cap, self.now);
        for ix in swarm.members.keys() {
            self.hosts[self.swarms[six].members[ix].host].offers.insert(six);
            self.offer(six, ix);
        }
    }

    /// A host wants a blob.
    pub(crate) fn on_want(&mut self, host: HostIx, key: &BlobKey, held: &PieceSet, wish: &Wish) {
        let bad = self.new_chain(key).is_none();
        let place = if bad { None } else { self.join(host, key) };
        let Some((six, ix)) = place else {
            // An empty blob needs nobody's help; for what is beyond the bounds the host is on its own.
            if key.size > 0 || bad {
                let why = if bad { BlobFailure::BadKey } else { BlobFailure::NoEligibleHost };
                self.send(host, key.clone(), SchedulerBody::Failed { why });
            }
            return;
        };
        if held.count() != self.swarms[six].count() {
            self.counters.ignored += 1;
            return;
        }
        let member = &mut self.swarms[six].members[ix];
        member.registry = key.registry.clone();
        member.asked_in_vain = false;
        member.reset = false;
        let expires = match wish.credential {
            Credential::Client { remaining } => Some(self.now + remaining),
            _ => None,
        };
        let position = PieceIndex(wish.position.0.min(held.count() - 1));
        let priority = self.swarms[six].set_priority(ix, wish.priority);
        if let (Some(priority), Some(want)) = (priority, &mut self.swarms[six].members[ix].want) {
            want.credential = wish.credential;
            want.expires = expires;
            want.position = position;
            want.blocked = false;
            want.barred = Barred::No;
            want.told = false;
            self.wants_no_more(host, priority, six);
            self.relist(six, ix);
            self.hold(six, ix, held);
        } else {
            self.hold(six, ix, held);
            let want = Want {
                credential: wish.credential,
                expires,
                priority: wish.priority,
                position,
                blocked: false,
                since: self.now,
                barred: Barred::No,
                last_resort: false,
                told: false,
                coming: SmallVec::new(),
                banned: Box::default(),
                hungry_since: self.now,
                picks: 0,
                boosted: 0,
            };
            self.start_wanting(six, ix, Box::new(want));
        }
        if let Some(claimed) = wish.lease {
            self.on_lease_claim(six, ix, claimed);
        }
        self.hand_over_to(six, ix);
        self.missed(six, ix);
        self.work.leases.insert(six);
        self.others_give_way(six);
    }

    pub(crate) fn start_wanting(&mut self, six: SwarmIx, ix: MemberIx, want: Box<Want>) {
        self.swarms[six].set_want(ix, Some(want));
        self.activate(six);
        self.trust_again(six);
        self.missed(six, ix);
        self.work.leases.insert(six);
    }

    /// A host wants a blob no more; what it holds it still offers. What it wanted.
    pub(crate) fn stop_wanting(&mut self, six: SwarmIx, ix: MemberIx) -> Option<Box<Want>> {
        let coming = self.swarms[six].members[ix].want.as_ref()?.coming.clone();
        for Coming { transfer, .. } in coming {
            self.end_transfer(transfer, false);
        }
        let swarm = &mut self.swarms[six];
        let want = swarm.set_want(ix, None)?;
        if let Some(demand) = swarm.demand.as_deref_mut() {
            demand.unlist(ix);
        }
        let host = swarm.members[ix].host;
        self.wants_no_more(host, want.priority, six);
        if self.swarms[six].wanting == 0 {
            self.deactivate(six);
        } else {
            self.work.leases.insert(six);
        }
        Some(want)
    }

    /// A host wants a blob no more. If it is the source, it need not have returned its lease: one that was away does not.
    pub(crate) fn on_leave(&mut self, six: SwarmIx, ix: MemberIx) {
        if self.lease(six).is_some_and(|lease| lease.member == ix) {
            self.revoke(six);
        }
        self.stop_wanting(six, ix);
    }

    /// A host lacks nothing of a blob any more, or not with this priority.
    pub(crate) fn wants_no_more(&mut self, host: HostIx, priority: Priority, six: SwarmIx) {
        let was_occupied = self.hosts[host].is_occupied();
        self.hosts[host].wants.remove(&(priority, six));
        if was_occupied {
            self.work.fill.push(host);
        }
        self.others_give_way(six);
    }

    /// What a host holds, in place of what was known before.
    pub(crate) fn hold(&mut self, six: SwarmIx, ix: MemberIx, pieces: &PieceSet) {
        let now = self.now;
        let swarm = &mut self.swarms[six];
        let was_full = swarm.members[ix].held.is_full();
        if pieces.is_full() && swarm.demand.is_none() && swarm.members[ix].want.is_none() {
            swarm.members[ix].held = Held::All(Arc::clone(&swarm.full));
            return;
        }
        let before = &swarm.members[ix].held;
        let mut gone = PieceSet::clone(before);
        gone.subtract(pieces);
        let mut new = pieces.clone();
        new.subtract(before);
        for piece in gone.iter() {
            swarm.lose(ix, piece);
        }
        for piece in new.iter() {
            swarm.gain(ix, piece, now);
        }
        // What was on its way has come, from wherever.
        for piece in new.iter() {
            while let Some(tix) = self.transfer_of(six, ix, piece) {
                self.cancel(tix);
            }
        }
        let swarm = &mut self.swarms[six];
        let member = &swarm.members[ix];
        if let Some(want) = member.want.as_ref().filter(|_| member.held.is_full() && !was_full) {
            let (host, priority) = (member.host, want.priority);
            self.wants_no_more(host, priority, six);
            if let Some(demand) = self.swarms[six].demand.as_deref_mut() {
                demand.unlist(ix);
            }
        }
        if !gone.is_empty() {
            self.missed(six, ix);
            self.work.leases.insert(six);
        }
        if !new.is_empty() {
            self.work.fresh.push((six, ix));
            self.work.leases.insert(six);
        }
    }

    /// A host says what it holds of a blob, and whether it has seen its chain closed.
    pub(crate) fn on_hold(&mut self, host: HostIx, key: &BlobKey, pieces: &PieceSet, closed: bool) {
        let Some((six, ix)) =
            self.join(host, key).filter(|(six, _)| self.swarms[*six].count() == pieces.count())
        else {
            self.counters.ignored += 1;
            return;
        };
        let swarm = &mut self.swarms[six];
        let open = !swarm.is_closed();
        let member = &mut swarm.members[ix];
        if member.want.is_none() {
            member.registry = key.registry.clone();
        }
        member.closed = closed;
        member.asked_in_vain = false;
        member.reset = false;
        if closed && open {
            swarm.claims.insert(ix);
            // Askers of another registry may be waiting for just this.
            for other in self.index[&(key.digest, key.size)].open.values() {
                self.work.leases.insert(*other);
            }
        } else {
            swarm.claims.remove(&ix);
        }
        self.hold(six, ix, pieces);
    }

    /// A host holds nothing of a blob any more.
    pub(crate) fn on_drop(&mut self, six: SwarmIx, ix: MemberIx) {
        let swarm = &mut self.swarms[six];
        swarm.members[ix].closed = false;
        swarm.claims.remove(&ix);
        if swarm.members[ix].want.is_some() {
            self.hold(six, ix, &PieceSet::empty(self.swarms[six].count()));
        } else {
            self.remove_member(six, ix);
        }
    }

    /// A reader moved.
    pub(crate) fn on_position(&mut self, six: SwarmIx, ix: MemberIx, piece: PieceIndex, blocked: bool) {
        let last = self.swarms[six].count() - 1;
        let Some(want) = &mut self.swarms[six].members[ix].want else {
            self.counters.ignored += 1;
            return;
        };
        want.position = PieceIndex(piece.0.min(last));
        want.blocked = blocked;
    }
}
