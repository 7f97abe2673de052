//! Lets only members speak control, in either direction. It reads [`Members`] itself, so that nothing needs to be kept
//! in step.

use crate::Members;
use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm, dummy,
};
use std::convert::Infallible;
use std::task::{Context, Poll};

/// Denies connections to others.
#[derive(Debug)]
pub(crate) struct Gate {
    members: Members,
}

impl Gate {
    pub(crate) const fn new(members: Members) -> Self {
        Self { members }
    }
}

/// Why a connection was refused.
#[derive(Debug, thiserror::Error)]
#[error("peer {0} is no member")]
struct NoMember(PeerId);

impl Gate {
    fn check(&self, peer: PeerId) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        if self.members.contains_peer(&peer.to_bytes()) {
            Ok(dummy::ConnectionHandler)
        } else {
            Err(ConnectionDenied::new(NoMember(peer)))
        }
    }
}

impl NetworkBehaviour for Gate {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
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

    fn on_swarm_event(&mut self, _: FromSwarm) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}
