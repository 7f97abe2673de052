//! Who gets something next: a parent with a free slot looks for a child (push), a child for a parent (pull).
//!
//! A parent looks at the children that it has a connection to, and at some in its rack; each looks at a few that are drawn at
//! random and, if none fits, at some more in turn. What is missed in this way is found by looking again a little later, at
//! most for a few members at a time.

use crate::Scheduler;
use crate::demand::{BY_RANK, PRIORITIES, rank};
use crate::hosts::{Host, Hosts};
use crate::pick::{Choice, Judge};
use crate::slab::{HostIx, MemberIx, SwarmIx};
use crate::swarm::Member;
use crate::timers::Timer;
use smallvec::SmallVec;
use std::time::Duration;
use types::{BlobFailure, SchedulerBody, Timestamp};

/// How many other zones are looked at for one match.
const ZONES_MAX: usize = 4;
/// The first pause before looking again; doubled up to [`RETRY_DOUBLINGS`] times while it is in vain.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
const RETRY_DOUBLINGS: u32 = 3;
/// How many members look again at a time.
const RETRY_MAX: usize = 32;
/// In a longer list a search in vain ends sooner: many others search in it too, and what one finds serves two.
const LONG: usize = 64;
/// A member that has waited this long may have nobody left that it can use.
const STARVED: Duration = Duration::from_secs(1);

/// Of what there is mostly little: a host's blobs, a blob's zones.
type Few<T> = SmallVec<[T; 8]>;

/// What looking at one member found.
enum Look {
    Fits(Choice),
    Unfit,
    /// Its host has no slot free: it does not belong in the list.
    Full,
}

impl Scheduler {
    /// Looks at those members that are `near` and some of `list`; keeps the best in `best`, and those whose host is full in `stale`. Ends
    /// with one that nobody can outdo where no piece is scarcer than of level `floor`.
    fn survey(
        (rng, samples, scan_max): (&mut fastrand::Rng, usize, usize),
        (near, list): (impl Iterator<Item = MemberIx>, &[MemberIx]),
        floor: u8,
        best: &mut Option<Choice>,
        stale: &mut Vec<MemberIx>,
        mut look: impl FnMut(MemberIx) -> Look,
    ) {
        if list.is_empty() {
            return;
        }
        let mut fits = 0;
        for member in near {
            let Look::Fits(choice) = look(member) else { continue };
            if best.is_none_or(|best| choice.score < best.score) {
                *best = Some(choice);
            }
            fits += 1;
            if choice.score.is_best(floor) {
                return;
            }
            if fits == samples {
                break;
            }
        }
        let (head, tail) = list.split_at(rng.usize(..list.len()));
        let mut in_turn = tail.iter().chain(head);
        let draws = if list.len() <= samples { 0 } else { samples };
        let scan = if list.len() > LONG { scan_max / 4 } else { scan_max };
        let mut found = false;
        for step in 0..draws + list.len().min(scan) {
            if step >= samples && found {
                break;
            }
            let next = if step < draws { list.get(rng.usize(..list.len())) } else { in_turn.next() };
            let Some(member) = next else { break };
            match look(*member) {
                Look::Fits(choice) => {
                    found = true;
                    if best.is_none_or(|best| choice.score < best.score) {
                        *best = Some(choice);
                    }
                    if choice.score.is_best(floor) {
                        return;
                    }
                }
                Look::Unfit => {}
                Look::Full => stale.push(*member),
            }
        }
    }

    /// Gives something of one blob from `parent` to a hungry child of one priority, if there is one. What it has is of level
    /// `floor` at the scarcest.
    fn push_one(&mut self, six: SwarmIx, parent: MemberIx, rank: usize, floor: u8) -> bool {
        let Self { swarms, hosts, transfers, options, rng, scratch, glance, stale, now, .. } = self;
        let Some(swarm) = swarms.get(six) else { return false };
        let Some(demand) = swarm.demand.as_deref().filter(|demand| demand.hungry[rank] > 0) else {
            return false;
        };
        let mut judge = Judge { six, swarm, demand, hosts, transfers, options, now: *now, scratch, glance };
        judge.look_for_child(parent);
        let Host { children: known, rack, .. } = &hosts[swarm.members[parent].host];
        let mates = hosts.some_of(*rack, options.samples, rng);
        let mut best = None;
        stale.clear();
        let own = demand.part_ix(parent);
        let mut others = 0;
        for part in rotation(demand.parts.len(), own, rng) {
            if part != own && (others == ZONES_MAX || !judge.can_cross(parent, part)) {
                continue;
            }
            others += usize::from(part != own);
            let draw = (&mut *rng, options.samples, options.scan_max);
            // What crosses a boundary comes slowly: always to the same few, it would fill all of their slots.
            let near =
                known.iter().chain(mates.iter().copied()).take(if part == own { usize::MAX } else { 0 });
            let near = near.filter_map(|child| demand.overview.member(child));
            let near = near.filter(|child| demand.is_hungry_in(*child, part, rank));
            let list = demand.hungry_in(part, rank);
            Self::survey(draw, (near, list), floor, &mut best, stale, |child| {
                if !judge.could_take(child) {
                    return Look::Unfit;
                }
                if !hosts[demand.overview.host(child)].can_take(BY_RANK[rank], *now) {
                    return Look::Full;
                }
                judge.pair(child, parent).map_or(Look::Unfit, Look::Fits)
            });
        }
        if let Some(demand) = swarms[six].demand.as_deref_mut() {
            stale.drain(..).for_each(|child| demand.unlist(child));
        }
        best.map(|choice| self.assign(six, choice)).is_some()
    }

    /// Gets something of one blob for `child` from a parent with a free slot, if there is one.
    fn pull_one(&mut self, six: SwarmIx, child: MemberIx) -> bool {
        let Self { swarms, hosts, transfers, options, rng, scratch, glance, stale, now, .. } = self;
        let Some(swarm) = swarms.get(six) else { return false };
        let Some(demand) = swarm.demand.as_deref() else { return false };
        let mut judge = Judge { six, swarm, demand, hosts, transfers, options, now: *now, scratch, glance };
        if !judge.look_for_parent(child) {
            if let Some(demand) = swarms[six].demand.as_deref_mut() {
                demand.set_sated(child);
            }
            return false;
        }
        let own = demand.part_ix(child);
        let order = rotation(demand.parts.len(), own, rng);
        let parts: Few<u32> =
            order.filter(|part| judge.worth_asking(child, *part)).take(ZONES_MAX + 1).collect();
        let mut best = None;
        stale.clear();
        for part in parts {
            let draw = (&mut *rng, options.samples, options.scan_max);
            let list = demand.idle.list(part);
            Self::survey(draw, (std::iter::empty(), list), 0, &mut best, stale, |parent| {
                if !judge.could_give(parent) {
                    return Look::Unfit;
                }
                if !hosts[demand.overview.host(parent)].can_upload(*now) {
                    return Look::Full;
                }
                judge.pair(child, parent).map_or(Look::Unfit, Look::Fits)
            });
        }
        if let Some(demand) = swarms[six].demand.as_deref_mut() {
            stale.drain(..).for_each(|parent| demand.idle.take(parent));
        }
        best.map(|choice| self.assign(six, choice)).is_some()
    }

    /// Matches all that was noted. The parents with the scarcest pieces choose first, one child each in turn: what few
    /// hold must multiply before what many hold fills the children's slots.
    pub(crate) fn match_noted(&mut self) {
        while let Some(six) = self.work.hungry.pop_first() {
            self.fill_all(six);
        }
        let fresh = std::mem::take(&mut self.work.fresh);
        let feed = std::mem::take(&mut self.work.feed);
        let fill = std::mem::take(&mut self.work.fill);
        let holders =
            fresh.iter().filter_map(|(six, ix)| Some(self.swarms.get(*six)?.members.get(*ix)?.host));
        let mut parents: Vec<HostIx> = holders.chain(feed).collect();
        parents.sort_unstable();
        parents.dedup();
        for host in &fill {
            self.wake_all(*host);
        }
        for host in &parents {
            self.offer_all(*host);
        }
        while !parents.is_empty() {
            let mut order: Vec<_> = parents
                .iter()
                .filter_map(|host| Some((self.scarcest(*host)?, self.rng.u32(..), *host)))
                .collect();
            order.sort_unstable();
            parents = order
                .into_iter()
                .filter_map(|(level, _, host)| self.feed(host, level).then_some(host))
                .collect();
        }
        fill.into_iter().for_each(|host| self.fill(host));
        fresh.into_iter().for_each(|(six, _)| self.retry_later(six));
    }

    /// How scarce the scarcest piece is that a host with a free slot has for somebody, if there is one.
    fn scarcest(&self, host: HostIx) -> Option<u8> {
        let Self { swarms, hosts, now, .. } = self;
        let parent = hosts.get(host).filter(|host| host.can_upload(*now))?;
        let levels = parent.offers.iter().filter_map(|six| {
            let swarm = swarms.get(*six)?;
            let demand =
                swarm.demand.as_deref().filter(|demand| demand.hungry.iter().any(|count| *count > 0))?;
            let held = demand.overview.held(demand.overview.member(host)?);
            let offered = held.iter().zip(demand.avail.words()).map(|(held, avail)| held & avail);
            demand.rarity.rarest(offered).map(|(level, _)| level)
        });
        levels.min()
    }

    /// Lists a member as one that could upload, if it can.
    pub(crate) fn offer(&mut self, six: SwarmIx, ix: MemberIx) {
        let Some(swarm) = self.swarms.get_mut(six) else { return };
        let Some(member) = swarm.members.get(ix) else { return };
        let ready = member.usable && !member.held.is_empty() && self.hosts[member.host].can_upload(self.now);
        if let Some(demand) = swarm.demand.as_deref_mut().filter(|_| ready) {
            let part = demand.part_ix(ix);
            demand.idle.put(ix, part);
        }
    }

    /// Lists a host with a free upload slot in all blobs of which it holds something that is wanted.
    fn offer_all(&mut self, host: HostIx) {
        let Some(parent) = self.hosts.get(host).filter(|host| host.can_upload(self.now)) else { return };
        let offers: Few<_> =
            parent.offers.iter().filter_map(|six| Some((*six, parent.memberships.get(*six)?))).collect();
        offers.into_iter().for_each(|(six, member)| self.offer(six, member));
    }

    /// Lists a host with a free download slot in all blobs that it lacks something of.
    fn wake_all(&mut self, host: HostIx) {
        let Some(child) = self.hosts.get(host).filter(|host| host.can_download(self.now)) else { return };
        let wants: Few<_> =
            child.wants.iter().filter_map(|(_, six)| Some((*six, child.memberships.get(*six)?))).collect();
        wants.into_iter().for_each(|(six, member)| self.wake(six, member));
    }

    /// Gives one piece from a host with a free upload slot to a child: the blobs that it holds are served in turn, the
    /// urgent ones first. Whether it gave anything. What it has is of level `floor` at the scarcest.
    fn feed(&mut self, host: HostIx, floor: u8) -> bool {
        let Some(parent) = self.hosts.get(host).filter(|host| host.can_upload(self.now)) else {
            return false;
        };
        let turn = in_turn(parent.offers.iter().copied(), parent.fed);
        for rank in 0..PRIORITIES {
            for six in &turn {
                let Some(member) = self.hosts[host].memberships.get(*six) else { continue };
                if self.push_one(*six, member, rank, floor) {
                    self.hosts[host].fed = Some(*six);
                    return true;
                }
            }
        }
        false
    }

    /// A host's download slot fell free: the blobs that it wants get something in turn, the urgent ones first.
    pub(crate) fn fill(&mut self, host: HostIx) {
        let Some(child) = self.hosts.get(host).filter(|h| h.can_download(self.now)) else { return };
        let wants: Few<_> = child.wants.iter().copied().collect();
        let filled = child.filled;
        self.wake_all(host);
        for group in wants.chunk_by(|a, b| a.0 == b.0) {
            let mut turn = in_turn(group.iter().map(|(_, six)| *six), filled);
            while !turn.is_empty() {
                let mut left = Few::new();
                for six in turn {
                    if !self.hosts[host].can_download(self.now) {
                        return;
                    }
                    let Some(member) = self.hosts[host].memberships.get(six) else { continue };
                    if !self.is_hungry(six, member) {
                        continue;
                    }
                    if !takes(&self.swarms[six].members[member], &self.hosts, self.now) {
                        if let Some(demand) = self.swarms[six].demand.as_deref_mut() {
                            demand.unlist(member);
                        }
                    } else if self.pull_one(six, member) {
                        self.hosts[host].filled = Some(six);
                        left.push(six);
                    } else if self.is_hungry(six, member) {
                        self.retry_later(six);
                    }
                }
                turn = left;
            }
        }
    }

    /// Much became available at once: all that lack something choose whom they get it from.
    pub(crate) fn fill_all(&mut self, six: SwarmIx) {
        let Some(swarm) = self.swarms.get(six) else { return };
        let lacking: Vec<HostIx> = swarm
            .members
            .iter()
            .filter(|(_, member)| member.lacks())
            .map(|(_, member)| member.host)
            .collect();
        lacking.into_iter().for_each(|host| self.fill(host));
        self.retry_later(six);
    }

    fn is_hungry(&self, six: SwarmIx, member: MemberIx) -> bool {
        let demand = self.swarms.get(six).and_then(|swarm| swarm.demand.as_deref());
        demand.is_some_and(|demand| demand.is_listed(member) && !demand.is_sated(member))
    }

    /// Lists a member that lacks pieces as hungry, if its host has a slot free and it is not listed.
    pub(crate) fn wake(&mut self, six: SwarmIx, ix: MemberIx) {
        let now = self.now;
        let Some(swarm) = self.swarms.get_mut(six) else { return };
        let Some(member) = swarm.members.get_mut(ix).filter(|m| m.lacks()) else { return };
        let (Some(want), Some(demand)) = (&member.want, swarm.demand.as_deref_mut()) else { return };
        self.hosts[member.host].wants.insert((want.priority, six));
        if !demand.is_listed(ix) && self.hosts[member.host].can_take(want.priority, now) {
            demand.set_hungry(ix, want.priority);
            self.retry_later(six);
        }
    }

    /// Something that a member had is gone again: it is hungry even if there was nothing for it before.
    pub(crate) fn missed(&mut self, six: SwarmIx, ix: MemberIx) {
        let now = self.now;
        self.wake(six, ix);
        let Some(swarm) = self.swarms.get_mut(six) else { return };
        let (Some(member), Some(demand)) = (swarm.members.get_mut(ix), swarm.demand.as_deref_mut()) else {
            return;
        };
        if let Some(want) = member.want.as_mut().filter(|_| demand.is_sated(ix)) {
            want.hungry_since = now;
            demand.set_hungry(ix, want.priority);
            self.retry_later(six);
        }
        if let Some(member) = self.swarms.get(six).and_then(|swarm| swarm.members.get(ix)) {
            self.work.fill.push(member.host);
        }
    }

    /// Sees to it that those who are still hungry look again.
    pub(crate) fn retry_later(&mut self, six: SwarmIx) {
        let Some(demand) = self.swarms.get_mut(six).and_then(|swarm| swarm.demand.as_deref_mut()) else {
            return;
        };
        let pause = RETRY_PAUSE * (1 << demand.retries.min(RETRY_DOUBLINGS));
        if !demand.retry_alarm.is_set() && demand.hungry.iter().any(|count| *count > 0) {
            self.timers.set(&mut demand.retry_alarm, Timer::Retry(six), self.now + pause);
        }
    }

    /// Some of those that found nothing look again.
    pub(crate) fn on_retry(&mut self, six: SwarmIx) {
        let Some(demand) = self.swarms.get_mut(six).and_then(|swarm| swarm.demand.as_deref_mut()) else {
            return;
        };
        self.timers.clear(&mut demand.retry_alarm, Timer::Retry(six));
        let total: usize = demand.hungry.iter().sum();
        if total == 0 {
            demand.retries = 0;
            return;
        }
        let parts = u32::try_from(demand.parts.len()).expect("no more parts than hosts");
        let lists = (0..PRIORITIES).flat_map(|rank| (0..parts).map(move |part| (part, rank)));
        let hungry = lists.flat_map(|(part, rank)| demand.hungry_in(part, rank)).copied();
        let chosen: Vec<MemberIx> =
            hungry.cycle().skip(demand.retry_cursor % total).take(total.min(RETRY_MAX)).collect();
        demand.retry_cursor = (demand.retry_cursor % total) + chosen.len();
        demand.retries += 1;
        for member in chosen {
            if !self.is_hungry(six, member) {
                continue;
            }
            if !takes(&self.swarms[six].members[member], &self.hosts, self.now) {
                if let Some(demand) = self.swarms[six].demand.as_deref_mut() {
                    demand.unlist(member);
                }
            } else if !self.pull_one(six, member) {
                self.tell_if_stranded(six, member);
            }
        }
        self.retry_later(six);
    }

    /// A member may have nobody left whom it can use: then a source reads for it, or it is told to decide for itself.
    fn tell_if_stranded(&mut self, six: SwarmIx, ix: MemberIx) {
        let swarm = &self.swarms[six];
        let member = &swarm.members[ix];
        let (Some(want), Some(demand)) = (&member.want, &swarm.demand) else { return };
        let child = &self.hosts[member.host];
        let shunned = !want.banned.is_empty() || !child.avoid.is_empty();
        let waited = self.now.since(want.hungry_since);
        if want.told || !shunned || waited < STARVED || !want.coming.is_empty() || demand.is_source(ix) {
            return;
        }
        let mut missing = Vec::new();
        member.misses(demand.overview.held(ix), demand.avail.words(), &mut missing);
        let useful = |parent: &Member| {
            let id = &self.hosts[parent.host].id;
            parent.usable
                && !want.banned.contains(id)
                && !child.avoids(id, self.now)
                && parent.held.words().iter().zip(&missing).any(|(held, missing)| held & missing != 0)
        };
        if swarm.members.iter().any(|(other, parent)| other != ix && useful(parent)) {
            return;
        }
        if self.distrust_banned(six, ix) {
            return;
        }
        if let Some(want) = &mut self.swarms[six].members[ix].want {
            want.told = true;
        }
        self.tell(six, ix, SchedulerBody::Failed { why: BlobFailure::NoEligibleHost });
    }

    /// Where a wanting member is listed when its priority changed.
    pub(crate) fn relist(&mut self, six: SwarmIx, ix: MemberIx) {
        let Some(swarm) = self.swarms.get_mut(six) else { return };
        let (Some(want), Some(demand)) = (&swarm.members[ix].want, swarm.demand.as_deref_mut()) else {
            return;
        };
        if demand.is_listed(ix) && !demand.is_sated(ix) {
            debug_assert!(rank(want.priority) < PRIORITIES, "every priority has a list");
            demand.set_hungry(ix, want.priority);
        }
    }
}

/// Whether a member's host can be given a piece for it now.
fn takes(member: &Member, hosts: &Hosts, now: Timestamp) -> bool {
    member.want.as_ref().is_some_and(|want| hosts[member.host].can_take(want.priority, now))
}

/// The blobs of `all` (in order), starting after `last`.
fn in_turn(all: impl Iterator<Item = SwarmIx>, last: Option<SwarmIx>) -> Few<SwarmIx> {
    let mut all: Few<_> = all.collect();
    let start = all.iter().position(|six| Some(*six) > last).unwrap_or(0);
    all.rotate_left(start);
    all
}

/// The parts of a swarm, `own` first, the others from a random one on.
fn rotation(count: usize, own: u32, rng: &mut fastrand::Rng) -> impl Iterator<Item = u32> + use<> {
    let count = u32::try_from(count).expect("no more parts than hosts");
    let start = if count > 2 { rng.u32(..count) } else { 0 };
    let others = (0..count).map(move |i| (start + i) % count).filter(move |part| *part != own);
    std::iter::once(own).chain(others)
}
