//! A status as JSON: what the admin ports of both programs answer, and `dfctl` reads.

use crate::{BlobStatus, HostStatus, PeerTraffic, RolloutProgress, RolloutStatus, Status, Traffic};
use serde::Serialize;

/// What goes on in a cluster.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StatusView {
    /// The hosts.
    pub hosts: Vec<HostView>,
    /// The blobs.
    pub blobs: Vec<BlobView>,
    /// The rollouts that ended last, the latest first.
    pub rollouts: Vec<RolloutView>,
    /// How many hosts there are in all.
    pub hosts_total: u32,
    /// How many blobs there are in all.
    pub blobs_total: u32,
}

/// One host.
#[derive(Clone, Debug, Serialize)]
pub struct HostView {
    /// Its id.
    pub id: String,
    /// Where it serves pieces, where that is known.
    pub address: Option<String>,
    /// Its zone.
    pub zone: String,
    /// Its rack.
    pub rack: String,
    /// Its program's version.
    pub version: String,
    /// Since when it is connected.
    pub connected_seconds: u64,
    /// Pieces on their way from it to others.
    pub uploads: u32,
    /// Pieces on their way from others to it.
    pub downloads: u32,
    /// Its bytes.
    pub traffic: TrafficView,
}

/// Bytes since the host's start.
#[derive(Clone, Debug, Serialize)]
pub struct TrafficView {
    /// Read from the origin under a lease.
    pub origin: u64,
    /// Read from the origin without a lease.
    pub fallback: u64,
    /// Received from peers in the same rack.
    pub rack: u64,
    /// Received from peers in the same zone.
    pub zone: u64,
    /// Received from peers elsewhere.
    pub elsewhere: u64,
    /// Served to clients from what was already there.
    pub cache: u64,
    /// Sent to peers.
    pub uploaded: u64,
    /// The peers with the most bytes.
    pub peers: Vec<PeerView>,
}

/// Bytes between a host and one peer since the host's start.
#[derive(Clone, Debug, Serialize)]
pub struct PeerView {
    /// The peer's id.
    pub id: String,
    /// Received from it.
    pub received: u64,
    /// Sent to it.
    pub sent: u64,
}

/// One blob.
#[derive(Clone, Debug, Serialize)]
pub struct BlobView {
    /// Its digest.
    pub digest: String,
    /// Its size in bytes.
    pub size: u64,
    /// The registry that it is asked of; empty once it serves all registries.
    pub registry: String,
    /// The host that reads it from the origin.
    pub source: Option<String>,
    /// Whether it has been proven whole.
    pub closed: bool,
    /// Hosts that hold all of it.
    pub complete: u32,
    /// Hosts that want it and do not hold all of it.
    pub wanting: u32,
    /// Transfers between hosts under way.
    pub transfers: u32,
    /// There if several hosts want it at the same time.
    pub rollout: Option<ProgressView>,
}

/// How far a rollout has come.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ProgressView {
    /// Hosts that have wanted the blob since it began.
    pub hosts: u32,
    /// Since it began, or from its beginning to its end.
    pub seconds: f64,
    /// The least time that the links of the hosts which are done allow, where their rates are known.
    pub bound_seconds: Option<f64>,
}

/// A rollout that has ended.
#[derive(Clone, Debug, Serialize)]
pub struct RolloutView {
    /// The blob's digest.
    pub digest: String,
    /// Its size in bytes.
    pub size: u64,
    /// The registry that it was asked of.
    pub registry: String,
    /// What came of it.
    #[serde(flatten)]
    pub progress: ProgressView,
    /// How long ago it ended.
    pub ended_seconds_ago: f64,
}

impl From<&Status> for StatusView {
    fn from(status: &Status) -> Self {
        Self {
            hosts: status.hosts.iter().map(HostView::from).collect(),
            blobs: status.blobs.iter().map(BlobView::from).collect(),
            rollouts: status.rollouts.iter().map(RolloutView::from).collect(),
            hosts_total: status.hosts_total,
            blobs_total: status.blobs_total,
        }
    }
}

impl From<&HostStatus> for HostView {
    fn from(host: &HostStatus) -> Self {
        Self {
            id: host.host.to_string(),
            address: Some(host.address.to_string()),
            zone: host.zone.clone(),
            rack: host.rack.clone(),
            version: host.version.clone(),
            connected_seconds: host.connected.as_secs(),
            uploads: host.uploads,
            downloads: host.downloads,
            traffic: (&host.traffic).into(),
        }
    }
}

impl From<&Traffic> for TrafficView {
    fn from(traffic: &Traffic) -> Self {
        let peer = |p: &PeerTraffic| PeerView { id: p.host.to_string(), received: p.received, sent: p.sent };
        let Traffic { origin, fallback, rack, zone, elsewhere, cache, uploaded, ref peers } = *traffic;
        let peers = peers.iter().map(peer).collect();
        Self { origin, fallback, rack, zone, elsewhere, cache, uploaded, peers }
    }
}

impl From<&BlobStatus> for BlobView {
    fn from(blob: &BlobStatus) -> Self {
        Self {
            digest: blob.key.digest.to_string(),
            size: blob.key.size,
            registry: blob.key.registry.clone(),
            source: blob.source.map(|source| source.to_string()),
            closed: blob.closed,
            complete: blob.complete,
            wanting: blob.wanting,
            transfers: blob.transfers,
            rollout: blob.rollout.map(ProgressView::from),
        }
    }
}

impl From<RolloutProgress> for ProgressView {
    fn from(progress: RolloutProgress) -> Self {
        Self {
            hosts: progress.hosts,
            seconds: progress.took.as_secs_f64(),
            bound_seconds: progress.bound.map(|bound| bound.as_secs_f64()),
        }
    }
}

impl From<&RolloutStatus> for RolloutView {
    fn from(rollout: &RolloutStatus) -> Self {
        Self {
            digest: rollout.key.digest.to_string(),
            size: rollout.key.size,
            registry: rollout.key.registry.clone(),
            progress: rollout.progress.into(),
            ended_seconds_ago: rollout.ended.as_secs_f64(),
        }
    }
}
