//! The chain's way: asked of holders, told by sources, closed for all registries, or discarded as false.

use crate::Scheduler;
use crate::held::Held;
use crate::slab::{HostIx, MemberIx, SwarmIx};
use crate::swarm::{History, Member, Query, Swarm, Want};
use crate::timers::Timer;
use std::ops::Range;
use types::{BlobKey, Chain, ChainError, Epoch, PieceSet, Registry, SchedulerBody, State};

/// How long the rest of an answer may take that comes in several messages.
const CONTINUED: std::time::Duration = std::time::Duration::from_millis(250);

/// A member taken out of a swarm that ends.
struct Refugee {
    host: HostIx,
    registry: Registry,
    held: Held,
    closed: bool,
    want: Option<Box<Want>>,
}

impl Scheduler {
    /// Asks a holder that says the chain is closed, whichever registry it has the blob from. Whether an answer is due.
    pub(crate) fn ask_for_closed_chain(&mut self, six: SwarmIx) -> bool {
        let swarm = &self.swarms[six];
        if swarm.is_closed() {
            return false;
        }
        let mut due = false;
        for other in self.siblings(six) {
            if self.swarms[other].query.is_some() {
                due = true;
                continue;
            }
            let swarm = &self.swarms[other];
            let claims = swarm.claims.iter().copied();
            let honest =
                claims.into_iter().find(|ix| !self.is_tainted(&self.hosts[swarm.members[*ix].host].id));
            if let Some(ix) = honest {
                self.swarms[other].claims.remove(&ix);
                self.ask(other, ix, 0..self.swarms[other].count() + 1);
                return true;
            }
        }
        // With a source at work nobody waits for somebody else's answer.
        due && self.swarms[six].demand.as_ref().is_none_or(|demand| demand.lease.is_none())
    }

    /// Asks for states without which pieces that somebody holds are of no use. Whether an answer is due. Who told states of a
    /// chain that was false is asked again only if `anyone` will do: what it holds may be what was false of it.
    pub(crate) fn ask_for_states(&mut self, six: SwarmIx, anyone: bool) -> bool {
        let swarm = &self.swarms[six];
        if swarm.query.is_some() {
            return true;
        }
        let Some(demand) = swarm.demand.as_deref() else { return false };
        if demand.avail.len() == demand.held.len() {
            return false;
        }
        let mut unlinked = demand.held.clone();
        unlinked.subtract(&demand.avail);
        let mut found = None;
        let is_asked = |member: &Member| {
            let doubted = || swarm.history.tellers.contains(&self.hosts[member.host].id);
            member.usable && !member.asked_in_vain && (anyone || !doubted())
        };
        for (ix, member) in swarm.members.iter().filter(|(_, member)| is_asked(member)) {
            let mut known = unlinked.clone();
            known.intersect_with(&member.held);
            if let Some(piece) = known.next_in(types::PieceIndex(0)) {
                let first = piece.0 + u32::from(swarm.chain.state(piece.0).is_some());
                let end = member.held.next_out(piece).map_or(swarm.count(), |gap| gap.0);
                found = Some((ix, first..end + 1));
                break;
            }
        }
        let Some((ix, boundaries)) = found else { return false };
        self.ask(six, ix, boundaries);
        true
    }

    /// Asks once more a holder that says the chain is closed and was not believed: nobody else can help. Whether an answer
    /// is due.
    pub(crate) fn ask_who_was_not_believed(&mut self, six: SwarmIx) -> bool {
        let swarm = &self.swarms[six];
        let unheard = |m: &Member| {
            m.closed && !m.asked_in_vain && m.held.is_empty() && !self.is_tainted(&self.hosts[m.host].id)
        };
        let Some((ix, _)) = swarm.members.iter().find(|(_, member)| unheard(member)) else { return false };
        self.ask(six, ix, 0..self.swarms[six].count() + 1);
        true
    }

    /// Somebody lacks what nobody can give, and no source is at work.
    fn is_stuck(&self, six: SwarmIx) -> bool {
        let swarm = &self.swarms[six];
        let demand = swarm.demand.as_deref().filter(|_| swarm.lacking > 0);
        demand.is_some_and(|demand| demand.lease.is_none() && !demand.avail.is_full())
    }

    fn ask(&mut self, six: SwarmIx, ix: MemberIx, boundaries: Range<u32>) {
        let epoch = self.next_epoch();
        let at = self.now + self.options.chain_answer_timeout;
        let swarm = &mut self.swarms[six];
        swarm.query = Some(Query { member: ix, epoch, boundaries: boundaries.clone(), begun: false });
        self.timers.set(&mut swarm.query_alarm, Timer::Query(six), at);
        self.tell(six, ix, SchedulerBody::WantChain { epoch, boundaries });
    }

    /// The question is over; whoever waited for it looks again.
    pub(crate) fn end_query(&mut self, six: SwarmIx) -> Option<Query> {
        let swarm = self.swarms.get_mut(six)?;
        let query = swarm.query.take()?;
        self.timers.clear(&mut swarm.query_alarm, Timer::Query(six));
        for other in self.siblings(six) {
            self.work.leases.insert(other);
        }
        Some(query)
    }

    pub(crate) fn on_query_timeout(&mut self, six: SwarmIx) {
        let Some(query) = self.end_query(six) else { return };
        if let Some(member) = self.swarms[six].members.get_mut(query.member) {
            member.asked_in_vain |= !query.begun;
        }
    }

    /// A host told states.
    pub(crate) fn on_chain(
        &mut self,
        six: SwarmIx,
        ix: MemberIx,
        epoch: Epoch,
        (boundary, states): (u32, &[State]),
        closed: bool,
    ) {
        let swarm = &self.swarms[six];
        let answers = |query: &Query| {
            query.member == ix && query.epoch == epoch && query.boundaries.contains(&boundary)
        };
        let asked = swarm.query.as_ref().is_some_and(answers);
        let lease = swarm.demand.as_deref().and_then(|demand| demand.lease.as_ref());
        if lease.is_some_and(|lease| lease.is(ix, epoch)) {
            self.source_moved(six);
            match self.swarms[six].learn(boundary, states, self.now) {
                Ok(new) => {
                    if let Some(lease) = self.lease_mut(six) {
                        lease.told_states |= new;
                    }
                    self.work.fresh.push((six, ix));
                    self.after_learning(six, ix, closed, true);
                }
                // What the source computed contradicts what was told before: one of the two is false.
                Err(ChainError::Conflict { .. }) => drop(self.discard_chain(six)),
                Err(_) => self.counters.ignored += 1,
            }
        } else if asked {
            self.on_answer(six, ix, (boundary, states), closed);
        } else {
            self.counters.ignored += 1;
        }
    }

    /// An answer, or a part of one: long ones come in several messages.
    fn on_answer(&mut self, six: SwarmIx, ix: MemberIx, (boundary, states): (u32, &[State]), closed: bool) {
        let learnt = self.swarms[six].learn(boundary, states, self.now);
        let swarm = &mut self.swarms[six];
        let vouches = closed || swarm.members[ix].closed;
        let told = boundary.saturating_add(u32::try_from(states.len()).unwrap_or(u32::MAX));
        let more = swarm.query.as_ref().is_some_and(|query| told < query.boundaries.end);
        let mut told_all = false;
        if learnt.is_ok() && more && !closed && !states.is_empty() {
            if let Some(query) = &mut swarm.query {
                query.begun |= learnt == Ok(true);
                self.timers.set(&mut swarm.query_alarm, Timer::Query(six), self.now + CONTINUED);
            }
        } else {
            let query = self.end_query(six);
            let begun = query.as_ref().is_some_and(|query| query.begun);
            self.swarms[six].members[ix].asked_in_vain = !begun && learnt != Ok(true);
            told_all = query.is_some_and(|query| query.boundaries.start <= 1);
        }
        match learnt {
            Ok(new) => {
                if new {
                    let host = self.swarms[six].members[ix].host;
                    self.swarms[six].tellers.insert(self.hosts[host].id);
                }
                self.work.hungry.insert(six);
                let believed = (new || self.swarms[six].chain.is_whole()) && !self.is_contradicted(six);
                self.after_learning(six, ix, closed && believed, told_all);
            }
            // The word of a host that says it has the proof against a chain that nobody has proven: where no source is at
            // work that would show which is false, the unproven one goes. One that lies is found out by its pieces.
            Err(ChainError::Conflict { .. }) if vouches && self.is_stuck(six) => {
                self.discard_chain(six);
            }
            // Its pieces were verified against another chain than the one that is believed.
            Err(_) => {
                self.swarms[six].members[ix].asked_in_vain &= !vouches;
                self.hold(six, ix, &PieceSet::empty(self.swarms[six].count()));
            }
        }
    }

    /// `closed` is the word of a member that has proven the chain; it is that of the chain known here only if all of it was
    /// compared (`told_all`).
    fn after_learning(&mut self, six: SwarmIx, ix: MemberIx, closed: bool, told_all: bool) {
        self.work.leases.insert(six);
        let swarm = &self.swarms[six];
        if !closed || swarm.is_closed() {
            return;
        }
        self.swarms[six].members[ix].closed = true;
        if told_all && self.swarms[six].chain.is_whole() {
            self.close(six);
            return;
        }
        // It knows more than it told: it is asked for all, and reads no more.
        self.swarms[six].claims.insert(ix);
        if self.swarms[six].demand.as_ref().is_some_and(|demand| demand.is_source(ix)) {
            self.end_lease(six);
        }
    }

    /// Whether another registry's chain, which somebody computes from an origin, says otherwise. Then a mere claim that
    /// this one is closed does not prevail over it.
    fn is_contradicted(&self, six: SwarmIx) -> bool {
        let ours = &self.swarms[six].chain;
        let differs = |other: &Chain| {
            (0..=other.layout().count()).any(|i| match (ours.state(i), other.state(i)) {
                (Some(our), Some(their)) => our != their,
                _ => false,
            })
        };
        self.siblings(six).iter().any(|other| differs(&self.swarms[*other].chain))
    }

    /// Every swarm of the same digest and size, this one first.
    fn siblings(&self, six: SwarmIx) -> Vec<SwarmIx> {
        let swarm = &self.swarms[six];
        let entry = self.index.get(&(swarm.digest, swarm.layout.size()));
        let others = entry.into_iter().flat_map(|entry| entry.open.values().copied());
        std::iter::once(six).chain(others.filter(|other| *other != six)).collect()
    }

    /// The chain has been seen to end in the digest: the blob is the same whatever registry it came from.
    pub(crate) fn close(&mut self, six: SwarmIx) {
        let source = self.lease(six).map(|lease| lease.member);
        if source.is_some_and(|source| self.swarms[six].members[source].held.is_full()) {
            self.end_lease(six);
        } else {
            // Somebody else has proven it; what nobody holds yet is read under another lease.
            self.revoke(six);
        }
        let swarm = &mut self.swarms[six];
        swarm.registry = None;
        swarm.doubts.clear();
        swarm.claims.clear();
        let entry = self.index.entry((swarm.digest, swarm.layout.size())).or_default();
        entry.closed = Some(six);
        let others: Vec<SwarmIx> =
            std::mem::take(&mut entry.open).into_values().filter(|s| *s != six).collect();
        for other in others {
            self.merge(other, six);
        }
    }

    /// Moves everybody over to the closed blob.
    fn merge(&mut self, from: SwarmIx, into: SwarmIx) {
        let (theirs, closed) = (&self.swarms[from].chain, &self.swarms[into].chain);
        let count = self.swarms[into].count();
        let agree = (0..=count).all(|i| theirs.state(i).is_none_or(|state| closed.state(i) == Some(state)));
        self.revoke(from);
        if !agree {
            self.reset_members(from);
        }
        // Theirs may be the later epoch, and what comes with an earlier one they would take for old.
        self.swarms[into].epoch = self.next_epoch();
        for refugee in self.dissolve(from) {
            let held = if agree { refugee.held } else { Held::none(count) };
            let ix = self.settle_in(into, refugee.host, refugee.registry, &held, refugee.want);
            self.swarms[into].members[ix].reset |= !agree;
        }
    }

    /// Tells every member that the chain is false.
    fn reset_members(&mut self, six: SwarmIx) {
        let epoch = Epoch(self.next_epoch.saturating_sub(1));
        for ix in self.swarms[six].members.keys() {
            self.tell(six, ix, SchedulerBody::ChainReset { epoch });
        }
    }

    /// Ends a swarm; its members are returned.
    fn dissolve(&mut self, six: SwarmIx) -> Vec<Refugee> {
        for ix in self.swarms[six].members.keys() {
            let coming = self.swarms[six].members[ix].want.as_ref().map(|want| want.coming.clone());
            coming.into_iter().flatten().for_each(|coming| self.cancel(coming.transfer));
        }
        let mut refugees = Vec::new();
        for ix in self.swarms[six].members.keys() {
            let want = self.stop_wanting(six, ix);
            let Member { host, ref registry, ref held, closed, .. } = self.swarms[six].members[ix];
            refugees.push(Refugee { host, registry: registry.clone(), held: held.clone(), closed, want });
            self.remove_member(six, ix);
        }
        refugees
    }

    /// Gives a member a place in another swarm of the same blob, and says which.
    fn settle_in(
        &mut self,
        six: SwarmIx,
        host: HostIx,
        registry: Registry,
        held: &PieceSet,
        want: Option<Box<Want>>,
    ) -> MemberIx {
        let known = self.hosts[host].memberships.get(six);
        let ix = known.unwrap_or_else(|| self.add_member(six, host, registry.clone()));
        let mut all = held.clone();
        all.union_with(&self.swarms[six].members[ix].held);
        self.hold(six, ix, &all);
        // A host that wants the blob in the name of two registries goes on under the first.
        if let Some(mut want) = want.filter(|_| self.swarms[six].members[ix].want.is_none()) {
            want.coming.clear();
            want.told = false;
            self.swarms[six].members[ix].registry = registry;
            self.start_wanting(six, ix, want);
        }
        ix
    }

    /// The chain is false: nobody's pieces count until they are verified anew, and another source starts over.
    /// The swarm in which the same registry's askers go on, if anybody wants the blob.
    pub(crate) fn discard_chain(&mut self, six: SwarmIx) -> Option<SwarmIx> {
        self.counters.chain_resets += 1;
        let source = self.swarms[six].demand.as_ref().and_then(|demand| demand.last_source);
        let source = source.and_then(|ix| Some(self.hosts[self.swarms[six].members.get(ix)?.host].id));
        self.revoke(six);
        self.reset_members(six);
        let Swarm { digest, layout, ref registry, ref history, ref tellers, .. } = self.swarms[six];
        let home = registry.clone();
        let mut history: History = history.clone();
        history.tellers.extend(tellers);
        history.doubted.extend(source.filter(|id| !history.doubted.contains(id)));
        let mut liars = Vec::new();
        let mut next = None;
        for Refugee { host, registry, want, closed, .. } in self.dissolve(six) {
            if closed {
                liars.push(self.hosts[host].id);
            }
            let Some(mut want) = want else { continue };
            // Who sent false pieces of a false chain is innocent.
            want.banned = Box::default();
            want.last_resort |= history.doubted.contains(&self.hosts[host].id);
            let key = BlobKey { digest, size: layout.size(), registry: registry.clone() };
            let Some(into) = self.swarm_for(&key) else { continue };
            self.swarms[into].history = history.clone();
            let none = PieceSet::empty(layout.count());
            let ix = self.settle_in(into, host, registry.clone(), &none, Some(want));
            self.swarms[into].members[ix].reset = true;
            if home.as_ref().is_none_or(|home| *home == registry) {
                next = Some(into);
            }
        }
        if home.is_none() {
            // A chain that was taken for closed was false: those that vouched for it are not asked again for a while.
            liars.into_iter().for_each(|id| self.taint(id));
        }
        next
    }

    /// A fresh chain of a blob, if its key makes sense.
    pub(crate) fn new_chain(&self, key: &BlobKey) -> Option<Chain> {
        let layout = match self.options.piece_len {
            Some(len) => types::PieceLayout::new(key.size, len),
            None => types::PieceLayout::for_size(key.size),
        };
        Chain::new(key.digest, layout?).ok()
    }
}
