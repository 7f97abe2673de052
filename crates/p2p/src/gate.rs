//! Lets only members speak control, in either direction, and no address take all handshakes. It reads [`Members`] itself,
//! so that nothing needs to be kept in step.

use crate::Members;
use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, ListenFailure, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::task::{Context, Poll};

/// Denies connections to others.
#[derive(Debug)]
pub(crate) struct Gate {
    members: Members,
    /// Handshakes of one address at most.
    share: usize,
    /// Those that have come and proven nothing yet.
    knocking: BTreeMap<ConnectionId, IpAddr>,
}

impl Gate {
    pub(crate) const fn new(members: Members, share: usize) -> Self {
        Self { members, share, knocking: BTreeMap::new() }
    }
}

/// Why a connection was refused.
#[derive(Debug, thiserror::Error)]
#[error("the scheduler has not named it")]
struct NoMember;

/// Why another was.
#[derive(Debug, thiserror::Error)]
#[error("too many of its connections prove nothing")]
struct TooMany;

impl Gate {
    fn check(&self, peer: PeerId) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        if self.members.contains_peer(&peer.to_bytes()) {
            Ok(dummy::ConnectionHandler)
        } else {
            Err(ConnectionDenied::new(NoMember))
        }
    }
}

impl NetworkBehaviour for Gate {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let Some(ip) = ip(remote).map(membership::row) else { return Ok(()) };
        if self.knocking.values().filter(|other| **other == ip).count() >= self.share {
            return Err(ConnectionDenied::new(TooMany));
        }
        self.knocking.insert(id, ip);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.knocking.remove(&id);
        self.check(peer)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.check(peer)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        if let FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) = event {
            self.knocking.remove(&connection_id);
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

fn ip(address: &Multiaddr) -> Option<IpAddr> {
    address.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    })
}
