//! A source that is much slower than others could be hands its lease over: the chain's states are all that the successor needs.
//!
//! A crowd can be no faster than the one host that reads for all, and the first to ask may be the slowest of them. What is
//! known of a host's speed is what it says, and what its transfers took; an origin that is slow for everybody shows in
//! neither, so that no host is blamed for it.

use crate::Scheduler;
use crate::lease::eligible;
use crate::slab::{HostIx, MemberIx, SwarmIx};
use std::time::Duration;
use types::Timestamp;

/// So often at most for one blob: what was on its way from the origin is read again each time.
const HANDOVERS_MAX: u32 = 2;
/// So many times as fast another host must be.
const FASTER: u64 = 4;
/// How often at most a faster host is looked for.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The handovers of one blob.
#[derive(Debug, Default)]
pub(crate) struct Handovers {
    count: u32,
    looked_at: Timestamp,
}

impl Scheduler {
    /// A host wants the blob: it may say that it is much faster than the source does.
    pub(crate) fn hand_over_to(&mut self, six: SwarmIx, ix: MemberIx) {
        let Some(source) = self.may_hand_over(six) else { return };
        let swarm = &self.swarms[six];
        let [slow, fast] = [source, ix].map(|member| self.hosts[swarm.members[member].host].rate());
        if source != ix && slow <= fast / FASTER && eligible(&swarm.members[ix], self.now) {
            self.hand_over(six, source);
        }
    }

    /// A host has sent a piece, and takes long for each: is it a source?
    pub(crate) fn hand_over_if_slow(&mut self, six: SwarmIx, host: HostIx) {
        if self.hosts[host].leases == 0 || !self.hosts[host].upload_pace.is_slow(self.usual_pace) {
            return;
        }
        let Some(source) = self.may_hand_over(six) else { return };
        if self.swarms[six].members[source].host != host {
            return;
        }
        let now = self.now;
        let Some(demand) = self.swarms[six].demand.as_deref_mut() else { return };
        if now < demand.handovers.looked_at + LOOK_INTERVAL {
            return;
        }
        demand.handovers.looked_at = now;
        let Some(other) = self.choose_source(six, Some(source)) else { return };
        let swarm = &self.swarms[six];
        if self.hosts[swarm.members[other].host].upload_pace.is_usual(self.usual_pace) {
            self.hand_over(six, source);
        }
    }

    /// The source, if it may hand over.
    fn may_hand_over(&self, six: SwarmIx) -> Option<MemberIx> {
        let demand = self.swarms[six].demand.as_deref()?;
        let lease = demand.lease.as_ref()?;
        (!lease.adopted && demand.handovers.count < HANDOVERS_MAX).then_some(lease.member)
    }

    fn hand_over(&mut self, six: SwarmIx, source: MemberIx) {
        let swarm = &mut self.swarms[six];
        if let Some(demand) = swarm.demand.as_deref_mut() {
            demand.handovers.count += 1;
        }
        if let Some(want) = &mut swarm.members[source].want {
            want.last_resort = true;
        }
        self.counters.leases_handed_over += 1;
        self.revoke(six);
    }
}
