//! libp2p's own TCP, TLS and yamux, as they come: what control traffic uses, and what the benchmark compares with.

use crate::{Identity, P2pError};
use futures::StreamExt;
use futures::future::poll_fn;
use libp2p::core::Endpoint;
use libp2p::core::muxing::{StreamMuxerBox, StreamMuxerExt, SubstreamBox};
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, PortUse};
use libp2p::core::upgrade::Version;
use libp2p::multiaddr::{Multiaddr, Protocol};
use libp2p::{PeerId, Transport as _, tcp, tls, yamux};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::time::Duration;
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt};

/// How long connecting, securing and agreeing on the multiplexer may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The stock transport of this identity.
///
/// # Errors
/// [`P2pError::Tls`]
pub fn transport(identity: &Identity) -> Result<Boxed<(PeerId, StreamMuxerBox)>, P2pError> {
    let security = tls::Config::new(identity.keypair()).map_err(|error| P2pError::Tls(error.to_string()))?;
    Ok(tcp::tokio::Transport::new(tcp::Config::default())
        .upgrade(Version::V1)
        .authenticate(security)
        .multiplex(yamux::Config::default())
        .timeout(CONNECT_TIMEOUT)
        .boxed())
}

/// One stream inside a stock connection of its own: for the benchmark, which compares the stacks without a swarm's
/// protocols on top. The connection is driven by a task that ends with it.
pub type Stream = Compat<SubstreamBox>;

/// A listener of the stock stack on loopback.
pub struct Listener {
    transport: Boxed<(PeerId, StreamMuxerBox)>,
    address: SocketAddr,
}

impl Listener {
    /// Listens at a port that the system chooses.
    ///
    /// # Errors
    /// If there is no TLS or no port.
    pub async fn bind(identity: &Identity) -> io::Result<Self> {
        let mut transport = transport(identity).map_err(io::Error::other)?;
        let any = multiaddr(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        transport.listen_on(ListenerId::next(), any).map_err(io::Error::other)?;
        let told = transport.next().await.and_then(libp2p::core::transport::TransportEvent::into_new_address);
        let port = told.and_then(|address| {
            address.iter().find_map(|part| if let Protocol::Tcp(port) = part { Some(port) } else { None })
        });
        let port = port.ok_or_else(|| io::Error::other("the transport does not listen"))?;
        Ok(Self { transport, address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)) })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The first stream that `expected` opens in its connection. Not cancel safe.
    ///
    /// # Errors
    /// If the handshake fails, or another peer connects.
    pub async fn accept(&mut self, expected: PeerId) -> io::Result<Stream> {
        let upgrade = loop {
            match self.transport.next().await {
                Some(event) => {
                    if let Some((upgrade, _)) = event.into_incoming() {
                        break upgrade;
                    }
                }
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        };
        let (peer, muxer) = upgrade.await?;
        check(peer, expected)?;
        stream(muxer, StreamMuxerExt::poll_inbound_unpin).await
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Listener({})", self.address)
    }
}

/// Connects to `expected` at `address` and opens a stream. Not cancel safe.
///
/// # Errors
/// If the handshake fails, or another peer answers.
pub async fn dial(identity: &Identity, address: SocketAddr, expected: PeerId) -> io::Result<Stream> {
    let mut transport = transport(identity).map_err(io::Error::other)?;
    let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
    let dial = pin!(transport.dial(multiaddr(address), options).map_err(io::Error::other)?);
    let (peer, muxer) = dial.await?;
    check(peer, expected)?;
    stream(muxer, StreamMuxerExt::poll_outbound_unpin).await
}

fn multiaddr(address: SocketAddr) -> Multiaddr {
    Multiaddr::from(address.ip()).with(Protocol::Tcp(address.port()))
}

fn check(peer: PeerId, expected: PeerId) -> io::Result<()> {
    if peer == expected { Ok(()) } else { Err(io::Error::other("another peer than the expected one")) }
}

/// Gets a stream from the multiplexer by `poll`, and leaves the multiplexer to a task.
async fn stream(
    mut muxer: StreamMuxerBox,
    mut poll: impl FnMut(
        &mut StreamMuxerBox,
        &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<SubstreamBox>>,
) -> io::Result<Stream> {
    let stream = poll_fn(|cx| poll(&mut muxer, cx)).await?;
    tokio::spawn(async move { while poll_fn(|cx| muxer.poll_unpin(cx)).await.is_ok() {} });
    Ok(stream.compat())
}
