//! Who sends what is wrong: bans, quarantine, and doubts about a chain.
//!
//! A child that got wrong bytes never asks that parent for that blob again. A host that several others report is not
//! used for a while; reports weigh less the more their author accuses, and it takes at least four hosts. When several
//! children have the same trouble with a piece, whoever sends it, then not the parents but the chain is doubted.

use crate::Scheduler;
use crate::slab::{HostIx, MemberIx, SwarmIx};
use crate::swarm::{Doubt, Member};
use crate::timers::Timer;
use crate::transfers::Transfer;
use types::{Epoch, FetchFailure, HostId, PieceIndex, Timestamp};

/// A full report's weight.
const FULL: u32 = 1000;
/// Doubts of this weight discard a chain: two full reports, or some more of lesser weight.
const DOUBT_WEIGHT: u32 = 1500;
/// The most doubts kept for one blob.
const DOUBTS_MAX: usize = 64;
/// The most reports kept against one host.
const REPORTS_MAX: usize = 32;
/// So many different children that cannot reach a parent show that it cannot be reached.
const UNREACHED_BY_MAX: usize = 3;
/// How often a quarantine's length can double.
const QUARANTINE_DOUBLINGS: u32 = 16;

#[derive(Clone, Copy, Debug)]
struct Report {
    by: HostId,
    weight: u32,
    at: Timestamp,
}

/// What is known against a host, kept when it reconnects.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// Reports of wrong bytes, one for each author.
    reports: Vec<Report>,
    /// Reports that it could not be reached.
    unreached: Vec<Report>,
    /// How often it accused others lately.
    accusations: u32,
    last_accusation: Timestamp,
    quarantines: u32,
    muted_until: Timestamp,
    /// It vouched for a chain that was false.
    tainted_until: Timestamp,
}

impl Record {
    fn is_void(&self, now: Timestamp, window: std::time::Duration) -> bool {
        let old = |at: Timestamp| at + window <= now;
        self.reports.iter().chain(&self.unreached).all(|report| old(report.at))
            && old(self.last_accusation)
            && self.muted_until + window <= now
            && self.tainted_until <= now
    }
}

impl Scheduler {
    fn record(&mut self, id: HostId) -> &mut Record {
        let (now, window) = (self.now, self.options.blame_window);
        if self.records.len() >= self.options.hosts_max {
            self.records.retain(|_, record| !record.is_void(now, window));
        }
        if self.records.len() >= self.options.hosts_max && !self.records.contains_key(&id) {
            self.records.pop_first();
        }
        self.records.entry(id).or_default()
    }

    /// What a report by `by` weighs now; making it weighs on the next ones.
    fn weigh(&mut self, by: HostId) -> u32 {
        let (now, window) = (self.now, self.options.blame_window);
        let record = self.record(by);
        if record.last_accusation + window <= now {
            record.accusations = 0;
        }
        let weight = FULL / (1 + record.accusations / 2);
        record.accusations += 1;
        record.last_accusation = now;
        weight
    }

    /// A child got bytes that do not match the chain.
    pub(crate) fn accuse(&mut self, transfer: &Transfer) {
        let (child, parent) = (self.hosts[transfer.child_host].id, self.hosts[transfer.parent_host].id);
        let weight = self.weigh(child);
        let swarm = &mut self.swarms[transfer.swarm];
        if let Some(want) = &mut swarm.members[transfer.child].want
            && !want.banned.contains(&parent)
        {
            want.banned = want.banned.iter().copied().chain([parent]).collect();
        }
        if swarm.doubts.len() >= DOUBTS_MAX {
            swarm.doubts.remove(0);
        }
        swarm.doubts.push(Doubt { child, piece: Some((transfer.piece, parent)), weight });
        let (now, window) = (self.now, self.options.blame_window);
        let record = self.record(parent);
        add_report(&mut record.reports, Report { by: child, weight, at: now }, window);
        let total: u32 = record.reports.iter().map(|report| report.weight).sum();
        if total >= self.options.quarantine_weight {
            self.quarantine(transfer.parent_host);
        }
        self.work.doubted.insert(transfer.swarm);
    }

    /// Whether what was reported shows that not a parent but the chain is false.
    pub(crate) fn weigh_doubts(&mut self, six: SwarmIx) {
        let Some(swarm) = self.swarms.get(six) else { return };
        let source = swarm.demand.as_ref().and_then(|demand| demand.last_source);
        let source = source.and_then(|ix| Some(self.hosts[swarm.members.get(ix)?.host].id));
        // A whole chain is doubted by those that computed another one, a piece by those that got no bytes for it.
        let whole: Vec<&Doubt> = swarm.doubts.iter().filter(|doubt| doubt.piece.is_none()).collect();
        let mut convicted = is_enough(&whole, swarm.wanting);
        let mut unproven = Vec::new();
        for doubt in &swarm.doubts {
            let Some((piece, first)) = doubt.piece else { continue };
            let about = |d: &&Doubt| d.piece.is_some_and(|(other, _)| other == piece);
            let same: Vec<&Doubt> = swarm.doubts.iter().filter(about).collect();
            let parents_differ = same.iter().any(|d| d.piece.is_some_and(|p| p.1 != first));
            let children_differ = same.iter().any(|d| d.child != doubt.child);
            if !children_differ || same.iter().map(|d| d.weight).sum::<u32>() < DOUBT_WEIGHT {
                continue;
            }
            if swarm.is_closed() {
                unproven.push((piece, first));
            } else {
                convicted |= parents_differ || Some(first) == source;
            }
        }
        if convicted {
            self.discard_chain(six);
        } else {
            self.ask_the_origin(six, &unproven);
        }
    }

    /// Of a closed chain's pieces that several could not verify the origin is asked: where these parents were the only
    /// ones to hold them, they count as lost, and a source compares.
    fn ask_the_origin(&mut self, six: SwarmIx, unproven: &[(PieceIndex, HostId)]) {
        for (piece, parent) in unproven {
            let swarm = &mut self.swarms[six];
            swarm.doubts.retain(|doubt| doubt.piece != Some((*piece, *parent)));
            let ix = self.hosts.find(parent).and_then(|host| self.hosts[host].memberships.get(six));
            if let Some(ix) = ix.filter(|ix| swarm.lose(*ix, *piece)) {
                self.missed(six, ix);
                self.work.leases.insert(six);
            }
        }
    }

    /// A member says that a chain does not lead to the digest.
    pub(crate) fn on_chain_false(&mut self, six: SwarmIx, ix: MemberIx, epoch: Epoch) {
        let host = self.hosts[self.swarms[six].members[ix].host].id;
        let swarm = &self.swarms[six];
        let lease = swarm.demand.as_deref().and_then(|demand| demand.lease.as_ref());
        if let Some(lease) = lease.filter(|lease| lease.is(ix, epoch)) {
            let own_finding = lease.from_start;
            self.counters.leases_returned += 1;
            self.end_lease(six);
            self.on_wrong(six, ix, own_finding);
            return;
        }
        let current = epoch >= swarm.epoch && epoch.0 < self.next_epoch;
        if !current || swarm.doubts.iter().any(|doubt| doubt.piece.is_none() && doubt.child == host) {
            self.counters.ignored += 1;
            return;
        }
        let weight = self.weigh(host);
        let swarm = &mut self.swarms[six];
        if swarm.doubts.len() >= DOUBTS_MAX {
            swarm.doubts.remove(0);
        }
        swarm.doubts.push(Doubt { child: host, piece: None, weight });
        self.work.doubted.insert(six);
    }

    /// A transfer succeeded: what this child had against this parent is forgotten.
    pub(crate) fn served_well(&mut self, child: HostIx, parent: HostIx) {
        let parent_id = self.hosts[parent].id;
        self.hosts[child].avoid.remove(&parent_id);
        if !self.records.is_empty()
            && let Some(record) = self.records.get_mut(&parent_id)
        {
            record.unreached.clear();
        }
    }

    /// A child could not use a parent; when several cannot, nobody tries for a while.
    pub(crate) fn unusable(&mut self, child: HostIx, parent: HostIx, why: FetchFailure) {
        let (now, window) = (self.now, self.options.avoid_max);
        let (by, parent_id) = (self.hosts[child].id, self.hosts[parent].id);
        let (min, max) = (self.options.avoid_min, self.options.avoid_max);
        let until = self.hosts[child].avoid(parent_id, now, min, max);
        self.wake_host_at(child, until);
        if why == FetchFailure::NotAllowed {
            // It may not have heard of the child yet: that says nothing about others.
            return;
        }
        let record = self.record(parent_id);
        add_report(&mut record.unreached, Report { by, weight: FULL, at: now }, window);
        if record.unreached.len() >= UNREACHED_BY_MAX {
            record.unreached.clear();
            self.quarantine(parent);
        }
    }

    fn quarantine(&mut self, host: HostIx) {
        let (now, window) = (self.now, self.options.blame_window);
        let (min, max) = (self.options.quarantine_min, self.options.quarantine_max);
        if self.hosts[host].muted_until.is_some() {
            return;
        }
        let record = self.record(self.hosts[host].id);
        if record.muted_until + window <= now {
            record.quarantines = 0;
        }
        let until = now + max.min(min * (1 << record.quarantines.min(QUARANTINE_DOUBLINGS)));
        record.quarantines += 1;
        record.muted_until = until;
        record.reports.clear();
        self.counters.quarantines += 1;
        self.mute(host, until);
    }

    /// A host that reconnects serves the rest of its quarantine.
    pub(crate) fn resume_quarantine(&mut self, host: HostIx) {
        let until = self.records.get(&self.hosts[host].id).map(|record| record.muted_until);
        if let Some(until) = until.filter(|until| *until > self.now) {
            self.mute(host, until);
        }
    }

    fn mute(&mut self, host: HostIx, until: Timestamp) {
        self.hosts[host].muted_until = Some(until);
        self.wake_host_at(host, until);
        self.set_usable(host, false);
    }

    fn set_usable(&mut self, host: HostIx, usable: bool) {
        let memberships = self.hosts[host].memberships.clone();
        for (six, ix) in memberships.iter().copied() {
            self.set_member_usable(six, ix, usable);
        }
    }

    fn set_member_usable(&mut self, six: SwarmIx, ix: MemberIx, usable: bool) {
        let swarm = &mut self.swarms[six];
        let usable = usable && !swarm.distrusted.contains(&ix);
        swarm.set_usable(ix, usable, self.now);
        if let Some(demand) = swarm.demand.as_deref_mut() {
            demand.idle.take(ix);
            if demand.is_source(ix) && !usable {
                self.revoke(six);
            }
        }
        self.work.leases.insert(six);
        self.retry_later(six);
    }

    /// Parents from which everybody that lacks pieces got wrong ones are of no use to anybody: what only they hold
    /// counts as missing. Whether there were any that `child` had counted on.
    pub(crate) fn distrust_banned(&mut self, six: SwarmIx, child: MemberIx) -> bool {
        let swarm = &self.swarms[six];
        let Some(want) = &swarm.members[child].want else { return false };
        let bans =
            |member: &Member, id: &HostId| member.want.as_ref().is_some_and(|want| want.banned.contains(id));
        let shunned = want.banned.iter().filter_map(|id| {
            let ix = self.hosts[self.hosts.find(id)?].memberships.get(six)?;
            let by_all = swarm.members.iter().all(|(other, m)| other == ix || !m.lacks() || bans(m, id));
            (swarm.members[ix].usable && by_all).then_some(ix)
        });
        let shunned: Vec<MemberIx> = shunned.collect();
        for ix in &shunned {
            self.swarms[six].distrusted.insert(*ix);
            self.set_member_usable(six, *ix, false);
        }
        !shunned.is_empty()
    }

    /// Somebody comes that has nothing against those whom the others distrust.
    pub(crate) fn trust_again(&mut self, six: SwarmIx) {
        for ix in std::mem::take(&mut self.swarms[six].distrusted) {
            let muted = self.hosts[self.swarms[six].members[ix].host].muted_until.is_some();
            self.set_member_usable(six, ix, !muted);
            self.offer(six, ix);
        }
    }

    /// Whether a host vouched for a false chain lately.
    pub(crate) fn is_tainted(&self, id: &HostId) -> bool {
        !self.records.is_empty() && self.records.get(id).is_some_and(|record| record.tainted_until > self.now)
    }

    pub(crate) fn taint(&mut self, id: HostId) {
        let until = self.now + self.options.quarantine_max;
        self.record(id).tainted_until = until;
    }

    pub(crate) fn wake_host_at(&mut self, host: HostIx, at: Timestamp) {
        self.timers.set_by(&mut self.hosts[host].alarm, Timer::Host(host), at);
    }

    /// A host's pause may be over.
    pub(crate) fn on_host_alarm(&mut self, host: HostIx) {
        let now = self.now;
        let Some(entry) = self.hosts.get_mut(host) else { return };
        self.timers.clear(&mut entry.alarm, Timer::Host(host));
        if entry.muted_until.is_some_and(|until| until <= now) {
            entry.muted_until = None;
            self.set_usable(host, true);
        }
        let entry = &self.hosts[host];
        let pauses = [entry.upload_pause, entry.download_pause].into_iter().chain(entry.muted_until);
        let pauses = pauses.chain(entry.avoid.pauses());
        if let Some(next) = pauses.filter(|at| *at > now).min() {
            self.wake_host_at(host, next);
        }
        self.work.feed.push(host);
        self.work.fill.push(host);
    }
}

/// One report for each author, the newest, within the window.
fn add_report(reports: &mut Vec<Report>, report: Report, window: std::time::Duration) {
    reports.retain(|old| old.by != report.by && report.at < old.at + window);
    if reports.len() >= REPORTS_MAX {
        reports.remove(0);
    }
    reports.push(report);
}

/// Whether doubts of a whole chain weigh enough: two hosts', or one's where nobody else could say so.
fn is_enough(doubts: &[&Doubt], wanting: usize) -> bool {
    let weight: u32 = doubts.iter().map(|doubt| doubt.weight).sum();
    weight >= if wanting <= 2 { FULL } else { DOUBT_WEIGHT }
}
