//! Control traffic: a stock libp2p swarm that talks to members only.
//!
//! It carries identify and ping today; requests for what a peer holds, and the directory for when no scheduler
//! answers, belong here.

use crate::{Identity, Members, P2pError, stock};
use futures::StreamExt;
use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, Swarm, SwarmEvent, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{PeerId, connection_limits, identify, ping, swarm};
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{debug, trace};

/// How identify names the protocol family.
const PROTOCOL_VERSION: &str = "/damselfly/1";
/// After how long an unused connection is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections in each direction at most.
const CONNECTIONS_MAX: u32 = 512;
/// Connections with one peer at most: both sides may dial at once.
const CONNECTIONS_PER_PEER_MAX: u32 = 2;
/// Connections in their handshake at most, in each direction.
const HANDSHAKES_MAX: u32 = 64;
/// How long the transport may take to say where it listens.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);

/// What the swarm does.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    /// First, so that a stranger is refused before anything else looks at it.
    gate: Gate,
    limits: connection_limits::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

/// The control side before it runs.
pub(crate) struct Control {
    swarm: Swarm<Behaviour>,
    members: Members,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Control {
    /// Builds the swarm and binds its listener.
    ///
    /// # Errors
    /// [`P2pError::Listen`] if the port is taken; [`P2pError::Tls`].
    pub(crate) async fn listen(
        identity: &Identity,
        listen: SocketAddr,
        members: Members,
    ) -> Result<Self, P2pError> {
        let failed = |source| P2pError::Listen { address: listen, source };
        // libp2p shares ports between listeners (SO_REUSEPORT), so a taken one would go unnoticed.
        drop(TcpListener::bind(listen).map_err(failed)?);
        let limits = connection_limits::ConnectionLimits::default()
            .with_max_pending_incoming(Some(HANDSHAKES_MAX))
            .with_max_pending_outgoing(Some(HANDSHAKES_MAX))
            .with_max_established_incoming(Some(CONNECTIONS_MAX))
            .with_max_established_outgoing(Some(CONNECTIONS_MAX))
            .with_max_established_per_peer(Some(CONNECTIONS_PER_PEER_MAX));
        let behaviour = Behaviour {
            gate: Gate { members: members.clone() },
            limits: connection_limits::Behaviour::new(limits),
            identify: identify::Behaviour::new(
                identify::Config::new(PROTOCOL_VERSION.to_owned(), identity.keypair().public())
                    .with_agent_version(format!("damselfly/{}", env!("CARGO_PKG_VERSION"))),
            ),
            ping: ping::Behaviour::default(),
        };
        let config = swarm::Config::with_tokio_executor().with_idle_connection_timeout(IDLE_TIMEOUT);
        let mut swarm = Swarm::new(stock::transport(identity)?, behaviour, identity.peer_id(), config);
        swarm.listen_on(multiaddr(listen)).map_err(|error| failed(io::Error::other(error)))?;
        let address = tokio::time::timeout(LISTEN_TIMEOUT, async {
            loop {
                if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await
                    && let Some(address) = socket_addr(&address)
                {
                    return SocketAddr::new(listen.ip(), address.port());
                }
            }
        })
        .await
        .map_err(|_| failed(io::ErrorKind::TimedOut.into()))?;
        Ok(Self { swarm, members, address })
    }

    /// Runs the swarm until cancelled.
    pub(crate) async fn run(mut self, cancel: CancellationToken) {
        let mut changes = self.members.changes();
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                event = self.swarm.select_next_some() => note(&event),
                _ = changes.changed() => self.close_former_members(),
            }
        }
    }

    fn close_former_members(&mut self) {
        let strangers: Vec<PeerId> = self
            .swarm
            .connected_peers()
            .filter(|peer| !self.members.contains_peer(&peer.to_bytes()))
            .copied()
            .collect();
        for peer in strangers {
            // An error says that it has left by itself.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
    }
}

fn note(event: &SwarmEvent<BehaviourEvent>) {
    match event {
        SwarmEvent::ConnectionEstablished { peer_id, .. } => {
            debug!(peer = %peer_id, "control connection made");
        }
        SwarmEvent::ConnectionClosed { peer_id, .. } => debug!(peer = %peer_id, "control connection closed"),
        SwarmEvent::IncomingConnectionError { error, .. } => debug!(%error, "control connection refused"),
        SwarmEvent::OutgoingConnectionError { error, .. } => debug!(%error, "no control connection"),
        other => trace!(event = ?other, "control"),
    }
}

/// The libp2p form of a TCP address.
pub(crate) fn multiaddr(address: SocketAddr) -> Multiaddr {
    Multiaddr::from(address.ip()).with(Protocol::Tcp(address.port()))
}

/// The TCP address in a libp2p one.
fn socket_addr(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

/// Lets only members connect, in either direction.
#[derive(Debug)]
pub(crate) struct Gate {
    members: Members,
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
