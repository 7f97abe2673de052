//! Control traffic: a stock libp2p swarm that talks to members only.
//!
//! It carries identify, ping and questions for what a member holds. The directory for when no scheduler answers belongs
//! here too.

use crate::gate::Gate;
use crate::holdings::{self, Holdings, Shown};
use crate::{ConnectError, FetchError, Identity, Member, Members, P2pError, PieceSource, Refusal, stock};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use libp2p::core::Multiaddr;
use libp2p::multiaddr::Protocol;
use libp2p::request_response::{self, OutboundFailure, OutboundRequestId, ProtocolSupport, ResponseChannel};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionDenied, ListenError, NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{PeerId, connection_limits, identify, ping, swarm};
use membership::{Refusals, row};
use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt::Display;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{debug, trace, warn};
use types::{Digest, HostId};

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
/// One address has this part of them.
const HANDSHAKES_SHARE: usize = 4;
/// How long the transport may take to say where it listens.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a question for holdings may take once connected.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// Our own questions at most, those that wait and those that run each.
const ASKS_MAX: usize = 64;
/// Questions of others that are being answered at most; more go without an answer, which the asker sees at once.
const ANSWERS_MAX: usize = 256;

/// What the swarm does.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    /// First, so that a stranger is refused before anything else looks at it.
    gate: Gate,
    limits: connection_limits::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    holdings: request_response::Behaviour<holdings::Codec>,
}

type Answer = Result<Option<Holdings>, FetchError>;

/// A question for what `member` holds.
#[derive(Debug)]
pub(crate) struct Ask {
    member: Member,
    digest: Digest,
    answer: oneshot::Sender<Answer>,
}

/// Puts questions to the running swarm.
#[derive(Clone, Debug)]
pub(crate) struct Asker(mpsc::Sender<Ask>);

impl Asker {
    /// What `member` holds. Cancel safe.
    pub(crate) async fn ask(&self, member: Member, digest: Digest) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.0.try_send(Ask { member, digest, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => FetchError::Refused(Refusal::Busy),
            mpsc::error::TrySendError::Closed(_) => FetchError::Stopping,
        })?;
        answered.await.unwrap_or(Err(FetchError::Stopping))
    }
}

/// The control side before it runs.
pub(crate) struct Control {
    swarm: Swarm<Behaviour>,
    members: Members,
    source: Arc<dyn PieceSource>,
    refusals: Arc<Refusals>,
    asks: mpsc::Receiver<Ask>,
    /// Asked and not answered yet.
    asked: BTreeMap<OutboundRequestId, oneshot::Sender<Answer>>,
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
        source: Arc<dyn PieceSource>,
        refusals: Arc<Refusals>,
    ) -> Result<(Self, Asker), P2pError> {
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
            gate: Gate::new(members.clone(), HANDSHAKES_MAX as usize / HANDSHAKES_SHARE),
            limits: connection_limits::Behaviour::new(limits),
            identify: identify::Behaviour::new(
                identify::Config::new(PROTOCOL_VERSION.to_owned(), identity.keypair().public())
                    .with_agent_version(format!("damselfly/{}", env!("CARGO_PKG_VERSION"))),
            ),
            ping: ping::Behaviour::default(),
            holdings: request_response::Behaviour::new(
                [(holdings::PROTOCOL, ProtocolSupport::Full)],
                request_response::Config::default()
                    .with_request_timeout(ASK_TIMEOUT)
                    // As many as another host asks at most, so that none is dropped.
                    .with_max_concurrent_streams(ASKS_MAX),
            ),
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
        let (asker, asks) = mpsc::channel(ASKS_MAX);
        Ok((Self { swarm, members, source, refusals, asks, asked: BTreeMap::new(), address }, Asker(asker)))
    }

    /// Runs the swarm until cancelled.
    pub(crate) async fn run(mut self, cancel: CancellationToken) {
        let mut changes = self.members.changes();
        let source = Arc::clone(&self.source);
        let mut answers = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                event = self.swarm.select_next_some() => {
                    if let Some(question) = self.note(event)
                        && answers.len() < ANSWERS_MAX
                    {
                        answers.push(question.answer(&*source));
                    }
                }
                Some(answer) = answers.next() => if let Some((channel, holdings)) = answer {
                    self.reply(channel, holdings);
                },
                Some(ask) = self.asks.recv(), if self.asked.len() < ASKS_MAX => self.ask(ask),
                _ = changes.changed() => self.close_former_members(),
            }
        }
    }

    fn ask(&mut self, ask: Ask) {
        let peer = PeerId::from_bytes(&ask.member.peer_id).ok().zip(ask.member.control);
        let Some((peer, address)) = peer else {
            // The asker may have left.
            let _ = ask.answer.send(Err(FetchError::NotMember));
            return;
        };
        // Not from the listening port, as libp2p would by itself: it may be taken for a connection that has ended.
        let dial = DialOpts::peer_id(peer).addresses(vec![multiaddr(address)]).allocate_new_port().build();
        // An error says that there is a connection, or will be soon; or else that the question will fail too.
        let _ = self.swarm.dial(dial);
        let behaviour = &mut self.swarm.behaviour_mut().holdings;
        let question = Shown { ticket: self.members.tickets().own(), said: ask.digest };
        let id = behaviour.send_request(&peer, question);
        self.asked.insert(id, ask.answer);
    }

    fn reply(&mut self, channel: ResponseChannel<Shown<Option<Holdings>>>, said: Option<Holdings>) {
        let answer = Shown { ticket: self.members.tickets().own(), said };
        // An error says that the asker has left or waited for too long.
        let _ = self.swarm.behaviour_mut().holdings.send_response(channel, answer);
    }

    /// Takes an event in; a question that it brings is the caller's to answer.
    fn note(&mut self, event: SwarmEvent<BehaviourEvent>) -> Option<Question> {
        use request_response::{Event, Message};
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Holdings(event)) => match event {
                Event::Message { peer, message: Message::Request { request, channel, .. }, .. } => {
                    match self.members.tickets().check(&peer, &request.ticket) {
                        Ok(_) => {
                            let asker = HostId::of_peer_id(&peer.to_bytes());
                            return Some(Question { asker, digest: request.said, channel });
                        }
                        // Without an answer the channel closes, which the asker sees.
                        Err(error) => {
                            let asker = HostId::of_peer_id(&peer.to_bytes());
                            self.tell(&asker, Some(asker), &error);
                        }
                    }
                }
                Event::Message { peer, message: Message::Response { request_id, response }, .. } => {
                    let checked = self.members.tickets().check(&peer, &response.ticket);
                    self.answered(request_id, checked.map(|_| response.said).map_err(FetchError::from));
                }
                Event::OutboundFailure { request_id, error, .. } => {
                    let error = match error {
                        OutboundFailure::Timeout => FetchError::Stalled { bytes: 0 },
                        error => ConnectError::Broken(io::Error::other(error)).into(),
                    };
                    self.answered(request_id, Err(error));
                }
                Event::InboundFailure { peer, error, .. } => debug!(%peer, %error, "holdings not told"),
                Event::ResponseSent { .. } => {}
            },
            SwarmEvent::ConnectionEstablished { peer_id: peer, .. } => {
                debug!(%peer, "control connection made");
            }
            SwarmEvent::ConnectionClosed { peer_id: peer, .. } => debug!(%peer, "control connection closed"),
            SwarmEvent::IncomingConnectionError {
                send_back_addr,
                error: ListenError::Denied { cause },
                ..
            } => match socket_addr(&send_back_addr) {
                Some(remote) => self.denied(remote, &cause),
                None => debug!(remote = %send_back_addr, error = %cause, "control connection refused"),
            },
            SwarmEvent::IncomingConnectionError { error, .. } => debug!(%error, "control connection refused"),
            SwarmEvent::OutgoingConnectionError { error, .. } => debug!(%error, "no control connection"),
            other => trace!(event = ?other, "control"),
        }
        None
    }

    fn denied(&self, remote: SocketAddr, cause: &ConnectionDenied) {
        // It says itself only that it is one.
        match cause.source() {
            Some(reason) => self.tell(&row(remote.ip()), None, &reason),
            None => self.tell(&row(remote.ip()), None, cause),
        }
    }

    /// Says once of somebody why it is refused.
    fn tell(&self, who: &dyn Display, peer: Option<HostId>, reason: &dyn Display) {
        if let Some(unsaid) = self.refusals.note(who, reason) {
            let peer = peer.map(tracing::field::display);
            warn!(%who, peer, %reason, unsaid, "a peer is refused at the control port");
        }
    }

    fn answered(&mut self, id: OutboundRequestId, answer: Answer) {
        if let Some(asker) = self.asked.remove(&id) {
            // The asker may have left.
            let _ = asker.send(answer);
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

/// What a member asks of this host.
struct Question {
    asker: HostId,
    digest: Digest,
    channel: ResponseChannel<Shown<Option<Holdings>>>,
}

impl Question {
    /// Asks the store, for as long as the asker waits.
    fn answer(self, source: &dyn PieceSource) -> BoxFuture<'_, Option<Reply>> {
        let Self { asker, digest, channel } = self;
        Box::pin(async move {
            let holdings = tokio::time::timeout(ASK_TIMEOUT, source.holdings(asker, digest)).await;
            Some((channel, holdings.ok()?))
        })
    }
}

/// Where to, and what.
type Reply = (ResponseChannel<Shown<Option<Holdings>>>, Option<Holdings>);

/// The libp2p form of a TCP address.
fn multiaddr(address: SocketAddr) -> Multiaddr {
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
