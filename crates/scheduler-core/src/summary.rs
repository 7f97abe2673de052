//! The state as operators see it: for status pages and metrics, never for decisions.

use crate::Scheduler;
use crate::swarm::{Member, Swarm};
use types::{Digest, Epoch, HostId, Label, PieceSet, Registry};

/// Everything at one moment. Costs time in proportion to hosts and memberships; ask for it seldom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The hosts, in order of their ids.
    pub hosts: Vec<HostSummary>,
    /// The blobs, in order of digest, size and registry.
    pub blobs: Vec<BlobSummary>,
    /// What has happened since the start.
    pub counters: Counters,
}

/// One host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSummary {
    /// Which.
    pub host: HostId,
    /// Its zone.
    pub zone: Label,
    /// Its rack.
    pub rack: Label,
    /// Uploads assigned and not finished.
    pub uploads: u32,
    /// Downloads assigned and not finished.
    pub downloads: u32,
    /// Origin leases that it has.
    pub leases: u32,
    /// Blobs that it wants.
    pub wanting: u32,
    /// Blobs of which it holds something.
    pub holding: u32,
    /// Whether it is not used as a parent at the moment.
    pub quarantined: bool,
}

/// One blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobSummary {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The registry that it is asked of; none once its chain is closed and it serves all registries.
    pub registry: Option<Registry>,
    /// Whether its chain was seen to end in the digest.
    pub closed: bool,
    /// Which chain.
    pub epoch: Epoch,
    /// The source and its lease.
    pub source: Option<(HostId, Epoch)>,
    /// How many pieces it has.
    pub pieces: u32,
    /// How many of them are held by a live host.
    pub pieces_held: u32,
    /// Hosts that hold something of it.
    pub holders: u32,
    /// Hosts that hold all of it.
    pub complete: u32,
    /// Hosts that want it and do not hold all of it yet.
    pub wanting: u32,
    /// Hosts that have a slot free and could be sent something, if one of those who hold it had.
    pub waiting: u32,
    /// Transfers under way.
    pub transfers: u32,
}

/// Counters since the start; they only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Pieces assigned to a child.
    pub assigned: u64,
    /// Pieces verified that came from a peer.
    pub verified_peer: u64,
    /// Pieces verified that a source read.
    pub verified_origin: u64,
    /// Of those, the ones that somebody else held already: each is a piece that left the origin twice.
    pub origin_again: u64,
    /// Pieces verified that a host read from the origin without a lease.
    pub verified_fallback: u64,
    /// Transfers that failed for another reason than those below.
    pub failed_other: u64,
    /// Transfers that failed since the bytes did not match the chain.
    pub failed_corrupt: u64,
    /// Transfers that the parent was too busy for.
    pub failed_busy: u64,
    /// Transfers that ran out of time.
    pub timed_out: u64,
    /// Leases granted.
    pub leases_granted: u64,
    /// Leases taken over from a former scheduler.
    pub leases_adopted: u64,
    /// Leases that lapsed: the source was silent or left.
    pub leases_lapsed: u64,
    /// Leases that a slow source handed over.
    pub leases_handed_over: u64,
    /// Leases given back before their end.
    pub leases_returned: u64,
    /// Chains discarded as false.
    pub chain_resets: u64,
    /// Pieces assigned across a zone boundary.
    pub crossings: u64,
    /// Of those, the ones for a piece that somebody in the child's zone held already.
    pub crossings_again: u64,
    /// Quarantines begun.
    pub quarantines: u64,
    /// Messages that made no sense or came too late, and were ignored.
    pub ignored: u64,
}

impl Scheduler {
    /// The state for status and metrics.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let hosts = self.hosts.by_id().map(|(_, host)| HostSummary {
            host: host.id,
            zone: host.spec.zone.clone(),
            rack: host.spec.rack.clone(),
            uploads: count(host.uploads.len()),
            downloads: host.downloads,
            leases: host.leases,
            wanting: count(host.wants.len()),
            holding: count(
                host.memberships.iter().filter(|(s, m)| !self.swarms[*s].members[*m].held.is_empty()).count(),
            ),
            quarantined: host.muted_until.is_some(),
        });
        let swarms = self.index.values().flat_map(|entry| entry.closed.iter().chain(entry.open.values()));
        let blobs = swarms.map(|six| self.blob_summary(&self.swarms[*six]));
        Summary { hosts: hosts.collect(), blobs: blobs.collect(), counters: self.counters }
    }

    fn blob_summary(&self, swarm: &Swarm) -> BlobSummary {
        let mut held = PieceSet::empty(swarm.count());
        swarm.members.iter().for_each(|(_, member)| held.union_with(&member.held));
        let demand = swarm.demand.as_deref();
        let lease = demand.and_then(|demand| demand.lease.as_ref());
        let members = |f: fn(&Member) -> bool| count(swarm.members.iter().filter(|(_, m)| f(m)).count());
        BlobSummary {
            digest: swarm.digest,
            size: swarm.layout.size(),
            registry: swarm.registry.clone(),
            closed: swarm.is_closed(),
            epoch: swarm.epoch,
            source: lease.map(|lease| (self.hosts[lease.host].id, lease.epoch)),
            pieces: swarm.count(),
            pieces_held: held.len(),
            holders: members(|m| !m.held.is_empty()),
            complete: members(|m| m.held.is_full()),
            wanting: count(swarm.lacking),
            waiting: count(demand.map_or(0, |demand| demand.hungry.iter().sum())),
            transfers: count(demand.map_or(0, |demand| demand.transfers)),
        }
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
