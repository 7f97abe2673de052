//! What belongs to the stream itself: who connects, who the members are, and how many bytes went where.

use crate::words::{
    address_in, address_out, bounded, host_in, host_out, label_in, nanos, required, spec_in, spec_out,
};
use crate::{ConvertError, wire};
use bytes::Bytes;
use std::net::SocketAddr;
use std::time::Duration;
use types::{HostId, HostSpec, Label};

/// The longest libp2p peer id, in bytes. An Ed25519 one has 38.
const PEER_ID_BYTES_MAX: usize = 128;

/// The longest program version, in bytes.
const VERSION_BYTES_MAX: usize = 64;

/// The longest platform of a host, in bytes.
const PLATFORM_BYTES_MAX: usize = types::Platform::LEN_MAX;

/// The most peers in a traffic report.
pub const TRAFFIC_PEERS_MAX: usize = 64;

/// A host's first words on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The oldest protocol version that it speaks.
    pub protocol_min: u32,
    /// The newest protocol version that it speaks.
    pub protocol_max: u32,
    /// Its libp2p peer id's bytes, of which the host id is the hash.
    pub peer_id: Vec<u8>,
    /// Where it serves pieces. An unspecified IP stands for the one that the scheduler sees.
    pub bulk: SocketAddr,
    /// Where its libp2p swarm listens, if it has one; an unspecified IP as with `bulk`.
    pub control: Option<SocketAddr>,
    /// What it can carry.
    pub spec: HostSpec,
    /// The program's version, for people.
    pub version: String,
    /// The number of the last [`Forget`](crate::Forget) that it has heard of; 0 if of none.
    pub flushed: u64,
    /// What its node runs, as an image index names it (`linux/amd64`); empty from a host of protocol 1.
    pub platform: String,
}

impl Hello {
    /// The host's id.
    #[must_use]
    pub fn host(&self) -> HostId {
        HostId::of_peer_id(&self.peer_id)
    }

    pub(crate) fn out(&self) -> wire::Hello {
        wire::Hello {
            protocol_min: self.protocol_min,
            protocol_max: self.protocol_max,
            peer_id: Bytes::copy_from_slice(&self.peer_id),
            bulk: Some(address_out(self.bulk)),
            control: self.control.map(address_out),
            spec: Some(spec_out(&self.spec)),
            version: self.version.clone(),
            flushed: self.flushed,
            platform: self.platform.clone(),
        }
    }

    pub(crate) fn parse(hello: wire::Hello) -> Result<Self, ConvertError> {
        bounded("version", hello.version.len(), VERSION_BYTES_MAX)?;
        bounded("platform", hello.platform.len(), PLATFORM_BYTES_MAX)?;
        Ok(Self {
            protocol_min: hello.protocol_min,
            protocol_max: hello.protocol_max,
            peer_id: peer_id_in(&hello.peer_id)?,
            bulk: address_in("bulk address", &required("bulk address", hello.bulk)?)?,
            control: hello.control.map(|a| address_in("control address", &a)).transpose()?,
            spec: spec_in(hello.spec)?,
            version: hello.version,
            flushed: hello.flushed,
            platform: hello.platform,
        })
    }
}

/// The scheduler's first words on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The protocol version from here on.
    pub protocol: u32,
    /// How often the host is to ping. Three times this without a word, and the scheduler counts as silent.
    pub heartbeat: Duration,
    /// The cluster's name.
    pub cluster: Label,
    /// Another one after each start of the scheduler.
    pub instance: u64,
}

impl Welcome {
    pub(crate) fn out(&self) -> wire::Welcome {
        wire::Welcome {
            protocol: self.protocol,
            heartbeat_nanos: nanos(self.heartbeat),
            cluster: self.cluster.as_str().to_owned(),
            instance: self.instance,
        }
    }

    pub(crate) fn parse(welcome: &wire::Welcome) -> Result<Self, ConvertError> {
        Ok(Self {
            protocol: welcome.protocol,
            heartbeat: Duration::from_nanos(welcome.heartbeat_nanos),
            cluster: label_in("cluster", &welcome.cluster)?,
            instance: welcome.instance,
        })
    }
}

/// A host that others may talk to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its libp2p peer id's bytes.
    pub peer_id: Vec<u8>,
    /// Where it serves pieces.
    pub bulk: SocketAddr,
    /// Where its libp2p swarm listens, if it has one.
    pub control: Option<SocketAddr>,
    /// Its zone.
    pub zone: Label,
    /// Its rack within the zone.
    pub rack: Label,
}

impl Member {
    /// The host's id.
    #[must_use]
    pub fn host(&self) -> HostId {
        HostId::of_peer_id(&self.peer_id)
    }

    pub(crate) fn out(&self) -> wire::Member {
        wire::Member {
            peer_id: Bytes::copy_from_slice(&self.peer_id),
            bulk: Some(address_out(self.bulk)),
            control: self.control.map(address_out),
            zone: self.zone.as_str().to_owned(),
            rack: self.rack.as_str().to_owned(),
        }
    }

    pub(crate) fn parse(member: wire::Member) -> Result<Self, ConvertError> {
        Ok(Self {
            peer_id: peer_id_in(&member.peer_id)?,
            bulk: address_in("bulk address", &required("bulk address", member.bulk)?)?,
            control: member.control.map(|a| address_in("control address", &a)).transpose()?,
            zone: label_in("zone", &member.zone)?,
            rack: label_in("rack", &member.rack)?,
        })
    }
}

pub(crate) fn peer_id_in(bytes: &[u8]) -> Result<Vec<u8>, ConvertError> {
    bounded("peer id", bytes.len(), PEER_ID_BYTES_MAX)?;
    if bytes.is_empty() {
        return Err(ConvertError::Missing { field: "peer id" });
    }
    Ok(bytes.to_vec())
}

/// Bytes that went through a host since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
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
    /// The peers with the most bytes, at most [`TRAFFIC_PEERS_MAX`]; more are cut off on the way out.
    pub peers: Vec<PeerTraffic>,
}

/// Bytes between a host and one peer since the host's start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerTraffic {
    /// The peer.
    pub host: HostId,
    /// Received from it.
    pub received: u64,
    /// Sent to it.
    pub sent: u64,
}

impl Traffic {
    pub(crate) fn out(&self) -> wire::Traffic {
        let peer = |p: &PeerTraffic| wire::PeerTraffic {
            host: host_out(p.host),
            received: p.received,
            sent: p.sent,
        };
        wire::Traffic {
            origin: self.origin,
            fallback: self.fallback,
            rack: self.rack,
            zone: self.zone,
            elsewhere: self.elsewhere,
            cache: self.cache,
            uploaded: self.uploaded,
            peers: self.peers.iter().take(TRAFFIC_PEERS_MAX).map(peer).collect(),
        }
    }

    pub(crate) fn parse(traffic: &wire::Traffic) -> Result<Self, ConvertError> {
        bounded("traffic peers", traffic.peers.len(), TRAFFIC_PEERS_MAX)?;
        let peer = |p: &wire::PeerTraffic| {
            Ok::<_, ConvertError>(PeerTraffic { host: host_in(&p.host)?, received: p.received, sent: p.sent })
        };
        Ok(Self {
            origin: traffic.origin,
            fallback: traffic.fallback,
            rack: traffic.rack,
            zone: traffic.zone,
            elsewhere: traffic.elsewhere,
            cache: traffic.cache,
            uploaded: traffic.uploaded,
            peers: traffic.peers.iter().map(peer).collect::<Result<_, _>>()?,
        })
    }
}
