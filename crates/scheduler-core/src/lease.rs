//! The origin lease: at most one host at a time reads a blob from its origin, and only what no live host holds.

use crate::Scheduler;
use crate::slab::{HostIx, MemberIx, SwarmIx};
use crate::swarm::{Barred, Member};
use crate::timers::Timer;
use std::cmp::Reverse;
use std::time::Duration;
use types::{Credential, Epoch, PieceIndex, PieceSet, Priority, Registry, SchedulerBody, Timestamp};

/// How often those who wait hear at most that the source gets on, and how long they must have waited: less than a source's own
/// second, or of two signs that come a little sooner than that the second would not be passed on.
const WAITING_INTERVAL: Duration = Duration::from_millis(500);
/// How often a lease's time can double.
const LAPSE_DOUBLINGS: u32 = 4;

#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) member: MemberIx,
    pub(crate) host: HostIx,
    /// In whose name its source was to read when it got it.
    pub(crate) registry: Registry,
    /// Clients wait for the blob, as far as the registry's other sources know.
    pub(crate) awaited: bool,
    pub(crate) epoch: Epoch,
    /// The epoch with which it was granted: its source may not know yet of those with which it was renewed.
    pub(crate) since: Epoch,
    /// Taken over from a former scheduler; what its source knows is not up to date until it is told.
    pub(crate) adopted: bool,
    /// What of it the source has not verified yet, or cannot pass on yet.
    pub(crate) remaining: PieceSet,
    /// Others want the blob too: how far the source is ahead of them counts.
    pub(crate) shared: bool,
    /// What the source had still to read when others came. What it read for itself alone before does not hold it up.
    pub(crate) counted: PieceSet,
    /// How many of the counted pieces only the source holds.
    pub(crate) unique: u64,
    /// It may read below this piece.
    pub(crate) limit: u32,
    pub(crate) ttl: Duration,
    pub(crate) moved_at: Timestamp,
    /// When a whole piece came last.
    pub(crate) piece_at: Timestamp,
    /// It computes the whole chain itself.
    pub(crate) from_start: bool,
    /// It has told states.
    pub(crate) told_states: bool,
}

impl Lease {
    pub(crate) fn is(&self, member: MemberIx, epoch: Epoch) -> bool {
        self.member == member && (self.since..=self.epoch).contains(&epoch)
    }

    /// There is something to read, and it may not be read yet.
    pub(crate) fn is_at_limit(&self) -> bool {
        self.remaining.next_in(PieceIndex(0)).is_some_and(|first| first.0 >= self.limit)
    }
}

impl Scheduler {
    /// Looks at what a blob needs: a source, states of its chain, a higher limit, or nothing.
    pub(crate) fn consider(&mut self, six: SwarmIx) {
        let Some(swarm) = self.swarms.get_mut(six) else { return };
        if swarm.demand.is_none() || self.ask_for_closed_chain(six) {
            return;
        }
        self.others_give_way(six);
        let swarm = &mut self.swarms[six];
        let Some(demand) = swarm.demand.as_deref_mut() else { return };
        if let Some(lease) = &demand.lease {
            if lease.adopted {
                self.confirm_adopted(six);
            } else if lease.remaining.is_empty() && swarm.chain.is_whole() {
                self.end_lease(six);
            } else {
                let mut to_read = lease.remaining.clone();
                to_read.subtract(&swarm.members[lease.member].held);
                if to_read.is_empty() {
                    // The source holds all, and of some pieces nobody has told the states.
                    self.ask_for_states(six, true);
                }
                self.renew_if_lost(six);
                self.raise_limit(six);
            }
            return;
        }
        if swarm.lacking == 0 || demand.avail.is_full() || self.ask_for_states(six, false) {
            return;
        }
        let swarm = &mut self.swarms[six];
        let Some(demand) = swarm.demand.as_deref_mut() else { return };
        let wait_until = self.quiet_until.max(demand.backoff_until);
        let waits = demand.waiting.as_ref().filter(|waiting| {
            self.now < waiting.until && (swarm.awaiting == 0 || waiting.turn.0 == Priority::Waiting)
        });
        if let Some(until) = waits.map(|waiting| waiting.until) {
            return self.consider_at(six, until);
        }
        if self.now < wait_until {
            self.timers.set(&mut demand.consider_alarm, Timer::Consider(six), wait_until);
        } else if let Some(source) = self.choose_source(six, None) {
            match self.held_back_until(six, source) {
                Some(at) => self.consider_at(six, at),
                None => self.grant(six, source),
            }
        } else if !self.ask_for_states(six, true) && !self.ask_who_was_not_believed(six) {
            self.tell_no_source(six);
        }
    }

    fn consider_at(&mut self, six: SwarmIx, at: Timestamp) {
        if let Some(demand) = self.swarms[six].demand.as_deref_mut() {
            self.timers.set_by(&mut demand.consider_alarm, Timer::Consider(six), at);
        }
    }

    /// The best host to read the blob: fast, with few leases, not one that failed; chance decides among equals.
    pub(crate) fn choose_source(&mut self, six: SwarmIx, except: Option<MemberIx>) -> Option<MemberIx> {
        let mut best = None;
        let mut equals = 0;
        for (ix, member) in self.swarms[six].members.iter() {
            if Some(ix) == except || !eligible(member, self.now) {
                continue;
            }
            let host = &self.hosts[member.host];
            let doubted = self.swarms[six].history.doubted.contains(&host.id) || self.is_tainted(&host.id);
            let last_resort = member.want.as_ref().is_some_and(|want| want.last_resort);
            let rate = host.rate().ilog2();
            let rank = (doubted, last_resort, Reverse(rate), host.leases);
            match best {
                Some((lowest, _)) if rank > lowest => continue,
                Some((lowest, _)) if rank == lowest => equals += 1,
                _ => equals = 1,
            }
            if self.rng.u32(..equals) == 0 {
                best = Some((rank, ix));
            } else if let Some((_, chosen)) = best {
                best = Some((rank, chosen));
            }
        }
        best.map(|(_, ix)| ix)
    }

    pub(crate) fn next_epoch(&mut self) -> Epoch {
        let epoch = Epoch(self.next_epoch);
        self.next_epoch += 1;
        epoch
    }

    fn new_lease(&mut self, six: SwarmIx, ix: MemberIx, epoch: Epoch) -> Lease {
        self.waits_no_more(six);
        let swarm = &self.swarms[six];
        let demand = swarm.demand.as_deref().expect("a lease is for a blob that somebody wants");
        let per_piece =
            Duration::from_secs(u64::from(swarm.layout.piece_len()) / self.options.source_rate_min.max(1));
        let Member { host, registry, .. } = &swarm.members[ix];
        let (host, registry) = (*host, registry.clone());
        self.hosts[host].leases += 1;
        let awaited = swarm.awaiting > 0;
        if self.admission.begin(&registry, six, awaited) {
            self.work.leases.extend(self.admission.reading(&registry).filter(|other| *other != six));
        }
        Lease {
            member: ix,
            host,
            registry,
            awaited,
            epoch,
            since: epoch,
            adopted: false,
            shared: false,
            counted: PieceSet::empty(swarm.count()),
            remaining: PieceSet::empty(swarm.count()),
            unique: 0,
            limit: 0,
            ttl: self.options.lease_ttl.max(per_piece) * (1 << demand.lapses.min(LAPSE_DOUBLINGS)),
            moved_at: self.now,
            piece_at: self.now,
            from_start: !swarm.learnt,
            told_states: false,
        }
    }

    fn grant(&mut self, six: SwarmIx, ix: MemberIx) {
        let epoch = self.next_epoch();
        let lease = self.new_lease(six, ix, epoch);
        let swarm = &mut self.swarms[six];
        for member in swarm.members.keys() {
            if let Some(want) = &mut swarm.members[member].want {
                want.told = false;
            }
        }
        if let Some(demand) = swarm.demand.as_deref_mut() {
            demand.set_source(lease);
        }
        self.counters.leases_granted += 1;
        self.send_lease(six);
    }

    /// Tells the source what is missing now, under the lease's epoch.
    fn send_lease(&mut self, six: SwarmIx) {
        let swarm = &mut self.swarms[six];
        let Some(demand) = swarm.demand.as_deref_mut() else { return };
        let Some(lease) = &mut demand.lease else { return };
        let missing = demand.avail.complement();
        lease.remaining = missing.clone();
        lease.moved_at = self.now;
        demand.lost = false;
        let (member, epoch, ttl) = (lease.member, lease.epoch, lease.ttl);
        let prefix = swarm.chain.segment(PieceIndex(0), swarm.chain.prefix()).expect("a prefix has no gap");
        self.count_ahead(six, true);
        let limit = if self.gives_way(six) { 0 } else { self.new_limit(six) };
        if let Some(lease) = self.lease_mut(six) {
            lease.limit = limit;
        }
        self.tell(six, member, SchedulerBody::Lease { epoch, ttl, missing, prefix, limit });
        self.set_lease_alarm(six);
        // What it need not read itself any more it may get from others.
        self.missed(six, member);
    }

    pub(crate) fn lease_mut(&mut self, six: SwarmIx) -> Option<&mut Lease> {
        self.swarms.get_mut(six)?.demand.as_deref_mut()?.lease.as_mut()
    }

    pub(crate) fn lease(&self, six: SwarmIx) -> Option<&Lease> {
        self.swarms.get(six)?.demand.as_deref()?.lease.as_ref()
    }

    /// The source got on: its lease lives on.
    pub(crate) fn source_moved(&mut self, six: SwarmIx) {
        let now = self.now;
        let Some(demand) = self.swarms.get_mut(six).and_then(|swarm| swarm.demand.as_deref_mut()) else {
            return;
        };
        demand.lapses = 0;
        demand.backoffs = 0;
        if let Some(lease) = &mut demand.lease {
            (lease.moved_at, lease.piece_at) = (now, now);
        }
        self.tell_who_waits(six);
    }

    /// Bytes come to the source, if no whole piece: its lease lives on, but not for ever.
    pub(crate) fn on_lease_alive(&mut self, six: SwarmIx, ix: MemberIx, epoch: Epoch) {
        let now = self.now;
        let Some(lease) = self.lease_mut(six).filter(|lease| lease.is(ix, epoch)) else {
            self.counters.ignored += 1;
            return;
        };
        if now < lease.piece_at + lease.ttl * (1 << LAPSE_DOUBLINGS) {
            lease.moved_at = now;
            self.tell_who_waits(six);
        }
    }

    /// Tells those to whom nothing comes that the source gets on, lest they turn to the origin and make it slower.
    fn tell_who_waits(&mut self, six: SwarmIx) {
        let now = self.now;
        let Some(demand) = self.swarms[six].demand.as_deref_mut() else { return };
        if now < demand.told_waiting + WAITING_INTERVAL {
            return;
        }
        demand.told_waiting = now;
        let source = demand.lease.as_ref().map(|lease| lease.member);
        let waits = |member: &Member| {
            let want = member.want.as_ref().filter(|_| member.lacks());
            want.is_some_and(|want| want.hungry_since + WAITING_INTERVAL <= now)
                && self.hosts[member.host].downloads == 0
        };
        let members = self.swarms[six].members.iter();
        let waiting: Vec<_> =
            members.filter(|(ix, member)| Some(*ix) != source && waits(member)).map(|(ix, _)| ix).collect();
        for ix in waiting {
            self.tell(six, ix, SchedulerBody::SourceReads);
        }
    }

    pub(crate) fn set_lease_alarm(&mut self, six: SwarmIx) {
        let patience = self.limit_patience(six);
        let Some(demand) = self.swarms.get_mut(six).and_then(|swarm| swarm.demand.as_deref_mut()) else {
            return;
        };
        let Some(lease) = &demand.lease else { return };
        let wait = if lease.is_at_limit() { patience } else { self.hosts[lease.host].lease_time(lease.ttl) };
        self.timers.set_by(&mut demand.lease_alarm, Timer::Lease(six), lease.moved_at + wait);
    }

    /// The lease's time may be up; it is not if the source moved since the alarm was set.
    pub(crate) fn on_lease_alarm(&mut self, six: SwarmIx) {
        let (now, patience) = (self.now, self.limit_patience(six));
        let Some(swarm) = self.swarms.get_mut(six) else { return };
        let step = u32::try_from(self.options.source_ahead_bytes / 4 / u64::from(swarm.layout.piece_len()));
        let Some(demand) = swarm.demand.as_deref_mut() else { return };
        self.timers.clear(&mut demand.lease_alarm, Timer::Lease(six));
        let Some(lease) = &mut demand.lease else { return };
        let count = lease.remaining.count();
        if lease.is_at_limit() {
            if lease.moved_at + patience <= now {
                let from = lease.remaining.next_in(PieceIndex(0)).map_or(lease.limit, |first| first.0);
                lease.limit =
                    from.max(lease.limit).saturating_add(step.unwrap_or(u32::MAX).max(1)).min(count);
                lease.moved_at = now;
                let (member, epoch, limit) = (lease.member, lease.epoch, lease.limit);
                self.tell(six, member, SchedulerBody::LeaseLimit { epoch, limit });
            }
        } else if lease.moved_at + self.hosts[lease.host].lease_time(lease.ttl) <= now {
            self.lapse(six);
        }
        self.set_lease_alarm(six);
    }

    /// A silent source loses its lease if another host can have it, or nobody needs to read any more.
    fn lapse(&mut self, six: SwarmIx) {
        let now = self.now;
        let Some(source) = self.lease(six).map(|lease| lease.member) else { return };
        // What others hold by now it can get from them.
        let is_needed = self.swarms[six].demand.as_ref().is_some_and(|demand| !demand.avail.is_full());
        if self.choose_source(six, Some(source)).is_none() && is_needed {
            if let Some(lease) = self.lease_mut(six) {
                lease.moved_at = now;
            }
            return;
        }
        self.counters.leases_lapsed += 1;
        if let Some(demand) = self.swarms[six].demand.as_deref_mut() {
            demand.lapses += 1;
        }
        if let Some(want) = &mut self.swarms[six].members[source].want {
            want.last_resort = true;
        }
        self.revoke(six);
    }

    /// Ends a lease against its source's will.
    pub(crate) fn revoke(&mut self, six: SwarmIx) {
        if let Some((member, epoch)) = self.end_lease(six) {
            self.tell(six, member, SchedulerBody::Revoke { epoch });
        }
    }

    /// Takes a lease off the books; the source knows, is told by the caller, or is gone.
    pub(crate) fn end_lease(&mut self, six: SwarmIx) -> Option<(MemberIx, Epoch)> {
        let demand = self.swarms.get_mut(six)?.demand.as_deref_mut()?;
        let lease = demand.lease.take()?;
        self.timers.clear(&mut demand.lease_alarm, Timer::Lease(six));
        if let Some(host) = self.hosts.get_mut(lease.host) {
            host.leases -= 1;
        }
        if self.admission.end(&lease.registry, six, lease.awaited) {
            // Those that gave way read on.
            self.work.leases.extend(self.admission.reading(&lease.registry));
        }
        self.admit(&lease.registry);
        self.missed(six, lease.member);
        self.work.leases.insert(six);
        Some((lease.member, lease.epoch))
    }

    /// What was held when the lease was granted may be gone: then the source has more to read.
    fn renew_if_lost(&mut self, six: SwarmIx) {
        let swarm = &mut self.swarms[six];
        let Some(demand) = swarm.demand.as_deref_mut().filter(|demand| demand.lost) else { return };
        demand.lost = false;
        let Some(lease) = &demand.lease else { return };
        let mut lost = demand.avail.complement();
        lost.subtract(&lease.remaining);
        lost.subtract(&swarm.members[lease.member].held);
        if !lost.is_empty() {
            self.renew(six);
        }
    }

    /// The same source, a new epoch, and what is missing now.
    fn renew(&mut self, six: SwarmIx) {
        let epoch = self.next_epoch();
        if let Some(lease) = self.lease_mut(six) {
            lease.epoch = epoch;
            lease.adopted = false;
        }
        self.send_lease(six);
    }

    /// A host says that it has a lease: from a former scheduler, or from before its stream broke.
    pub(crate) fn on_lease_claim(&mut self, six: SwarmIx, ix: MemberIx, claimed: Epoch) {
        self.next_epoch = self.next_epoch.max(claimed.0.saturating_add(1));
        let current = self.lease(six).map(|lease| (lease.is(ix, claimed), lease.epoch, lease.adopted));
        match current {
            Some((true, ..)) => {}
            // Of two that claim one, the later grant is the valid one.
            Some((_, epoch, adopted)) if !adopted || epoch > claimed => {
                self.tell(six, ix, SchedulerBody::Revoke { epoch: claimed });
            }
            _ => {
                self.revoke(six);
                let swarm = &self.swarms[six];
                let can = eligible(&swarm.members[ix], self.now) && swarm.demand.is_some();
                if !can {
                    self.tell(six, ix, SchedulerBody::Revoke { epoch: claimed });
                    return;
                }
                let mut lease = self.new_lease(six, ix, claimed);
                lease.adopted = true;
                if let Some(demand) = self.swarms[six].demand.as_deref_mut() {
                    demand.set_source(lease);
                }
                self.counters.leases_adopted += 1;
                self.work.leases.insert(six);
            }
        }
    }

    /// Tells an adopted source what is really missing, once everybody could say what they hold.
    fn confirm_adopted(&mut self, six: SwarmIx) {
        let (now, quiet_until) = (self.now, self.quiet_until);
        let Some(demand) = self.swarms[six].demand.as_deref_mut() else { return };
        if now < quiet_until {
            self.timers.set(&mut demand.consider_alarm, Timer::Consider(six), quiet_until);
        } else if demand.avail.is_full() {
            self.revoke(six);
        } else if !self.ask_for_states(six, false) {
            self.renew(six);
        }
    }
}

/// Whether a member may be the source now.
pub(crate) fn eligible(member: &Member, now: Timestamp) -> bool {
    member.usable
        && member.lacks()
        && member.want.as_ref().is_some_and(|want| {
            want.credential != Credential::None
                && want.barred == Barred::No
                && want.expires.is_none_or(|expires| now < expires)
        })
}
