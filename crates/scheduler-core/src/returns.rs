//! Leases that come back, and what follows: another host, a pause, or telling those that wait.

use crate::Scheduler;
use crate::slab::{MemberIx, SwarmIx};
use crate::swarm::Barred;
use crate::timers::Timer;
use types::{BlobFailure, Credential, Epoch, LeaseFailure, SchedulerBody, Timestamp};

/// How often the pause after a throttled origin can double.
const BACKOFF_DOUBLINGS: u32 = 16;
/// This many hosts with the same wrong content show that the origin is wrong.
const WRONG_MAX: usize = 2;

impl Scheduler {
    /// The source gives its lease back.
    pub(crate) fn on_lease_returned(&mut self, six: SwarmIx, ix: MemberIx, epoch: Epoch, why: &LeaseFailure) {
        let Some(lease) = self.lease(six).filter(|lease| lease.is(ix, epoch)) else {
            self.counters.ignored += 1;
            return;
        };
        // Having read on from another's states it cannot know who of the two is wrong, unless it read nothing.
        let own_finding = lease.from_start || !lease.told_states;
        self.counters.leases_returned += 1;
        self.end_lease(six);
        let member = &mut self.swarms[six].members[ix];
        let shared = matches!(
            member.want.as_ref().map(|want| want.credential),
            Some(Credential::Anonymous | Credential::Configured)
        );
        if let Some(want) = &mut member.want {
            want.last_resort = true;
            if !matches!(why, LeaseFailure::Throttled | LeaseFailure::Unreachable) {
                want.barred = Barred::UntilWant;
            }
        }
        match why {
            LeaseFailure::Throttled | LeaseFailure::Unreachable => self.back_off(six),
            LeaseFailure::NotFound if shared => self.give_up(six, &BlobFailure::NotFound),
            LeaseFailure::Wrong => self.on_wrong(six, ix, own_finding),
            _ => {}
        }
    }

    fn back_off(&mut self, six: SwarmIx) {
        let jitter = self.rng.u32(75..=125);
        let Some(demand) = self.swarms[six].demand.as_deref_mut() else { return };
        let min = self.options.origin_backoff_min;
        let pause = self.options.origin_backoff_max.min(min * (1 << demand.backoffs.min(BACKOFF_DOUBLINGS)));
        demand.backoffs += 1;
        demand.backoff_until = self.now + pause * jitter / 100;
    }

    /// What `ix` read does not have the blob's digest.
    pub(crate) fn on_wrong(&mut self, six: SwarmIx, ix: MemberIx, own_finding: bool) {
        let swarm = &mut self.swarms[six];
        let id = self.hosts[swarm.members[ix].host].id;
        if own_finding && !swarm.history.wrong.contains(&id) {
            swarm.history.wrong.push(id);
        }
        let proven = swarm.history.wrong.len() >= WRONG_MAX;
        let learnt = swarm.learnt;
        if let Some(want) = &mut swarm.members[ix].want {
            want.last_resort = true;
        }
        let six = if learnt { self.discard_chain(six) } else { Some(six) };
        if let Some(six) = six.filter(|_| proven) {
            self.swarms[six].history.wrong.clear();
            self.give_up(six, &BlobFailure::OriginWrong);
        }
    }

    /// Tells all that wait that there is nothing to wait for; each may ask again.
    fn give_up(&mut self, six: SwarmIx, why: &BlobFailure) {
        for ix in self.swarms[six].members.keys() {
            if let Some(want) = self.swarms[six].members[ix].want.as_mut() {
                want.barred = Barred::UntilWant;
                want.told = true;
                self.tell(six, ix, SchedulerBody::Failed { why: why.clone() });
            }
        }
    }

    /// Tells those that have waited long enough that no host can be the source.
    pub(crate) fn tell_no_source(&mut self, six: SwarmIx) {
        let mut later: Option<Timestamp> = None;
        for ix in self.swarms[six].members.keys() {
            let member = &mut self.swarms[six].members[ix];
            let lacks = member.lacks();
            let Some(want) = member.want.as_mut().filter(|want| lacks && !want.told) else { continue };
            let due = want.since.max(want.hungry_since) + self.options.no_source_grace;
            if self.now < due {
                later = Some(later.map_or(due, |at| at.min(due)));
            } else {
                want.told = true;
                self.tell(six, ix, SchedulerBody::Failed { why: BlobFailure::NoEligibleHost });
            }
        }
        if let (Some(at), Some(demand)) = (later, self.swarms[six].demand.as_deref_mut()) {
            self.timers.set(&mut demand.consider_alarm, Timer::Consider(six), at);
        }
    }
}
