//! What goes on in a cluster, for people: hosts, blobs, rollouts.

use crate::words::{address_in, address_out, bounded, digest_in, digest_out, host_in, host_out, required};
use crate::{ConvertError, Traffic, wire};
use std::net::SocketAddr;
use std::time::Duration;
use types::{Digest, HostId};

/// The most hosts, and the most blobs, of a status.
pub const STATUS_ROWS_MAX: usize = 4096;

/// The most rollouts in a status.
pub const ROLLOUTS_MAX: usize = 32;

/// One host, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostStatus {
    /// Which.
    pub host: HostId,
    /// Where it serves pieces.
    pub address: SocketAddr,
    /// Its zone.
    pub zone: String,
    /// Its rack.
    pub rack: String,
    /// Its program's version.
    pub version: String,
    /// Since when it is connected, in whole seconds.
    pub connected: Duration,
    /// What it last reported.
    pub traffic: Traffic,
    /// Pieces that it was assigned to send to others, and has not.
    pub uploads: u32,
    /// Pieces that it was assigned to get from others, and has not.
    pub downloads: u32,
}

/// Which blob, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusKey {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The registry that it is asked of; empty once it is closed and serves all registries.
    pub registry: String,
}

/// One blob, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobStatus {
    /// Which.
    pub key: StatusKey,
    /// Who reads it from the origin.
    pub source: Option<HostId>,
    /// Whether its chain is closed.
    pub closed: bool,
    /// How many hosts hold all of it.
    pub complete: u32,
    /// How many hosts want it and do not hold all of it.
    pub wanting: u32,
    /// Transfers between hosts under way.
    pub transfers: u32,
    /// Since when hosts want it, where several do at the same time.
    pub rollout: Option<RolloutProgress>,
}

/// How far a rollout has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RolloutProgress {
    /// Hosts that have wanted the blob since it began, those that are done included.
    pub hosts: u32,
    /// Since it began; from its beginning to the last host's end, of one that has ended.
    pub took: Duration,
    /// The least time that the links of the hosts which are done allow, where all of these are known.
    pub bound: Option<Duration>,
}

/// A rollout that has ended, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutStatus {
    /// Of which blob.
    pub key: StatusKey,
    /// What came of it.
    pub progress: RolloutProgress,
    /// How long ago it ended.
    pub ended: Duration,
}

/// What is going on, for people: at most 4,096 hosts and blobs; more are cut off on the way out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The hosts.
    pub hosts: Vec<HostStatus>,
    /// The blobs.
    pub blobs: Vec<BlobStatus>,
    /// The rollouts that ended last, the latest first; at most [`ROLLOUTS_MAX`].
    pub rollouts: Vec<RolloutStatus>,
    /// How many hosts there are in all.
    pub hosts_total: u32,
    /// How many blobs there are in all.
    pub blobs_total: u32,
}

impl RolloutProgress {
    fn out(self) -> wire::RolloutProgress {
        wire::RolloutProgress {
            hosts: self.hosts,
            took_ms: millis(self.took),
            bound_ms: self.bound.map_or(0, |bound| millis(bound).max(1)),
        }
    }

    fn parse(progress: wire::RolloutProgress) -> Self {
        let wire::RolloutProgress { hosts, took_ms, bound_ms } = progress;
        let bound = (bound_ms > 0).then(|| Duration::from_millis(bound_ms));
        Self { hosts, took: Duration::from_millis(took_ms), bound }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl From<Status> for wire::StatusResponse {
    fn from(status: Status) -> Self {
        let host = |h: HostStatus| wire::HostStatus {
            id: host_out(h.host),
            address: Some(address_out(h.address)),
            zone: h.zone,
            rack: h.rack,
            version: h.version,
            connected_seconds: h.connected.as_secs(),
            traffic: Some(h.traffic.out()),
            uploads: h.uploads,
            downloads: h.downloads,
        };
        let blob = |b: BlobStatus| wire::BlobStatus {
            digest: Some(digest_out(&b.key.digest)),
            size: b.key.size,
            registry: b.key.registry,
            source: b.source.map(host_out).unwrap_or_default(),
            closed: b.closed,
            complete: b.complete,
            wanting: b.wanting,
            transfers: b.transfers,
            rollout: b.rollout.map(RolloutProgress::out),
        };
        let rollout = |r: RolloutStatus| wire::RolloutStatus {
            digest: Some(digest_out(&r.key.digest)),
            size: r.key.size,
            registry: r.key.registry,
            progress: Some(r.progress.out()),
            ended_ms: millis(r.ended),
        };
        Self {
            hosts: status.hosts.into_iter().take(STATUS_ROWS_MAX).map(host).collect(),
            blobs: status.blobs.into_iter().take(STATUS_ROWS_MAX).map(blob).collect(),
            rollouts: status.rollouts.into_iter().take(ROLLOUTS_MAX).map(rollout).collect(),
            hosts_total: status.hosts_total,
            blobs_total: status.blobs_total,
        }
    }
}

impl TryFrom<wire::StatusResponse> for Status {
    type Error = ConvertError;

    fn try_from(status: wire::StatusResponse) -> Result<Self, ConvertError> {
        bounded("hosts", status.hosts.len(), STATUS_ROWS_MAX)?;
        bounded("blobs", status.blobs.len(), STATUS_ROWS_MAX)?;
        bounded("rollouts", status.rollouts.len(), ROLLOUTS_MAX)?;
        let host = |h: wire::HostStatus| {
            Ok(HostStatus {
                host: host_in(&h.id)?,
                address: address_in("address", &required("address", h.address)?)?,
                zone: h.zone,
                rack: h.rack,
                version: h.version,
                connected: Duration::from_secs(h.connected_seconds),
                traffic: Traffic::parse(&required("traffic", h.traffic)?)?,
                uploads: h.uploads,
                downloads: h.downloads,
            })
        };
        let blob = |b: wire::BlobStatus| {
            Ok(BlobStatus {
                key: StatusKey { digest: digest_in(b.digest)?, size: b.size, registry: b.registry },
                source: if b.source.is_empty() { None } else { Some(host_in(&b.source)?) },
                closed: b.closed,
                complete: b.complete,
                wanting: b.wanting,
                transfers: b.transfers,
                rollout: b.rollout.map(RolloutProgress::parse),
            })
        };
        let rollout = |r: wire::RolloutStatus| {
            Ok(RolloutStatus {
                key: StatusKey { digest: digest_in(r.digest)?, size: r.size, registry: r.registry },
                progress: RolloutProgress::parse(required("progress", r.progress)?),
                ended: Duration::from_millis(r.ended_ms),
            })
        };
        Ok(Self {
            hosts: status.hosts.into_iter().map(host).collect::<Result<_, ConvertError>>()?,
            blobs: status.blobs.into_iter().map(blob).collect::<Result<_, ConvertError>>()?,
            rollouts: status.rollouts.into_iter().map(rollout).collect::<Result<_, ConvertError>>()?,
            hosts_total: status.hosts_total,
            blobs_total: status.blobs_total,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_travels_unchanged() {
        let digest = Digest::sha256(b"x");
        let host = HostId::of_peer_id(b"a");
        let key = |registry: &str| StatusKey { digest, size: 1, registry: registry.to_owned() };
        let progress = |bound| RolloutProgress { hosts: 3, took: Duration::from_millis(1500), bound };
        let blob = |registry: &str, source| BlobStatus {
            key: key(registry),
            source,
            closed: source.is_none(),
            complete: 3,
            wanting: 4,
            transfers: 5,
            rollout: source.map(|_| progress(None)),
        };
        let status = Status {
            hosts: vec![HostStatus {
                host,
                address: SocketAddr::from(([127, 0, 0, 1], 9)),
                zone: "z".to_owned(),
                rack: String::new(),
                version: "1".to_owned(),
                connected: Duration::from_secs(7),
                traffic: Traffic { origin: 1, uploaded: 2, ..Traffic::default() },
                uploads: 3,
                downloads: 4,
            }],
            blobs: vec![blob("ghcr.io", Some(host)), blob("", None)],
            rollouts: vec![RolloutStatus {
                key: key("ghcr.io"),
                progress: progress(Some(Duration::from_secs(1))),
                ended: Duration::from_millis(10),
            }],
            hosts_total: 1,
            blobs_total: 9,
        };
        assert_eq!(Status::try_from(wire::StatusResponse::from(status.clone())).unwrap(), status);
        let many = Status { blobs: vec![blob("", None); 5000], ..status };
        assert_eq!(Status::try_from(wire::StatusResponse::from(many)).unwrap().blobs.len(), STATUS_ROWS_MAX);
    }
}
