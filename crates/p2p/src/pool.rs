//! Connections to parents: made when needed, kept while they are used, never more than the options allow.
//!
//! `fetch` takes a connection out, and puts it back only after a whole exchange. A connection that is dropped is closed.

use crate::metrics::{Direction, Open};
use crate::tickets::Admitted;
use crate::tls::{Secured, is_wrong_peer};
use crate::{ConnectError, FetchError, Member, Members, Metrics, Options, Refusal, Tickets, tls::Tls};
use libp2p::PeerId;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use types::HostId;

/// A connection to a parent.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: Secured<TcpStream>,
    /// How long the TCP handshake took: about a round trip.
    pub(crate) round_trip: Duration,
    /// The parent, which proved it.
    pub(crate) peer: PeerId,
    /// What the parent's hello showed, once it has come.
    pub(crate) admitted: Option<Admitted>,
    /// One of [`Options::connections_max`].
    _slot: OwnedSemaphorePermit,
    _open: Open,
}

impl Connection {
    /// Whether both hellos are exchanged.
    pub(crate) const fn is_greeted(&self) -> bool {
        self.admitted.is_some()
    }

    /// Whether nothing has come since the last answer: no byte too many, no end.
    async fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        poll_fn(|cx| {
            let mut buf = ReadBuf::new(&mut byte);
            Poll::Ready(Pin::new(&mut self.stream).poll_read(cx, &mut buf).is_pending())
        })
        .await
    }
}

/// What is kept for one parent.
#[derive(Debug)]
struct Peer {
    /// One of [`Options::connections_per_peer_max`] for each fetch that runs.
    fetches: Arc<Semaphore>,
    /// The one used last is last. Never more than permits that are free.
    idle: Vec<(Instant, Connection)>,
}

/// The connections to all parents.
#[derive(Debug)]
pub(crate) struct Pool {
    tls: Tls,
    options: Options,
    members: Members,
    metrics: Arc<Metrics>,
    peers: Mutex<BTreeMap<HostId, Peer>>,
    slots: Arc<Semaphore>,
    /// How many wait for a slot: an idle connection must not keep one then.
    waiting: AtomicU32,
}

impl Pool {
    pub(crate) fn new(tls: Tls, options: Options, members: Members, metrics: Arc<Metrics>) -> Self {
        let slots = Arc::new(Semaphore::new(usize::from(options.connections_max)));
        Self { tls, options, members, metrics, peers: Mutex::default(), slots, waiting: AtomicU32::new(0) }
    }

    /// What is shown to parents, and what they have to show.
    pub(crate) fn tickets(&self) -> &Tickets {
        self.members.tickets()
    }

    /// The right to one exchange with `host`.
    ///
    /// # Errors
    /// [`Refusal::Busy`] if none falls free within the stall time-out.
    pub(crate) async fn permit(&self, host: HostId) -> Result<OwnedSemaphorePermit, FetchError> {
        let fetches = {
            let max = usize::from(self.options.connections_per_peer_max);
            let mut peers = self.lock();
            let fresh = || Peer { fetches: Arc::new(Semaphore::new(max)), idle: Vec::new() };
            Arc::clone(&peers.entry(host).or_insert_with(fresh).fetches)
        };
        match timeout(self.options.stall_timeout, fetches.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(FetchError::Refused(Refusal::Busy)),
        }
    }

    /// An idle connection that still stands.
    pub(crate) async fn idle(&self, host: HostId) -> Option<Connection> {
        loop {
            let (_, mut connection) = self.lock().get_mut(&host)?.idle.pop()?;
            if !connection.admitted.is_some_and(|ticket| ticket.is_over()) && connection.is_quiet().await {
                return Some(connection);
            }
        }
    }

    /// A new connection to `member`. The caller holds a permit for it.
    pub(crate) async fn connect(&self, member: &Member) -> Result<Connection, FetchError> {
        let address = member.bulk;
        let peer = PeerId::from_bytes(&member.peer_id).map_err(|_| FetchError::NotMember)?;
        let slot = self.slot().await?;
        let start = Instant::now();
        let timed_out = |step| ConnectError::TimedOut { address, step };
        let stream = timeout(self.options.dial_timeout, TcpStream::connect(address))
            .await
            .map_err(|_| timed_out("connect"))?
            .map_err(|source| ConnectError::Dial { address, source })?;
        let round_trip = start.elapsed();
        stream.set_nodelay(true).map_err(|source| ConnectError::Dial { address, source })?;
        let stream = timeout(self.options.handshake_timeout, self.tls.dial(stream, peer))
            .await
            .map_err(|_| timed_out("TLS handshake"))?
            .map_err(|source| match is_wrong_peer(&source) {
                true => ConnectError::WrongPeer { address },
                false => ConnectError::Handshake { address, source },
            })?;
        self.metrics.connect_seconds.observe(start.elapsed().as_secs_f64());
        let _open = self.metrics.opened(Direction::Out);
        Ok(Connection { stream, round_trip, peer, admitted: None, _slot: slot, _open })
    }

    /// Keeps a connection after a whole exchange, unless its peer is gone or others wait for its slot.
    pub(crate) fn put_back(&self, host: HostId, mut connection: Connection) {
        connection.stream.get_mut().0.rest();
        let mut peers = self.lock();
        // Asked under the lock: whoever begins to wait after this looks under the lock for idle connections.
        if self.waiting.load(Ordering::Relaxed) == 0
            && self.members.gone(host).is_some()
            && let Some(peer) = peers.get_mut(&host)
        {
            peer.idle.push((Instant::now(), connection));
        }
    }

    /// Closes the idle connections with a host that has failed: if it is down, each would cost a stall.
    pub(crate) fn close_idle(&self, host: HostId) {
        if let Some(peer) = self.lock().get_mut(&host) {
            peer.idle.clear();
        }
    }

    /// One of all connections' slots; an idle connection gives way.
    async fn slot(&self) -> Result<OwnedSemaphorePermit, FetchError> {
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return Ok(slot);
        }
        let _waiting = Waiting::new(&self.waiting);
        while self.close_oldest_idle() {
            if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
                return Ok(slot);
            }
        }
        match timeout(self.options.stall_timeout, Arc::clone(&self.slots).acquire_owned()).await {
            Ok(Ok(slot)) => Ok(slot),
            _ => Err(FetchError::Refused(Refusal::Busy)),
        }
    }

    /// Whether there was one.
    fn close_oldest_idle(&self) -> bool {
        let mut peers = self.lock();
        let oldest =
            peers.values_mut().filter(|peer| !peer.idle.is_empty()).min_by_key(|peer| peer.idle[0].0);
        oldest.is_some_and(|peer| {
            peer.idle.remove(0);
            true
        })
    }

    /// Closes what has been idle for too long and what leads to former members, until cancelled.
    pub(crate) async fn keep_clean(self: Arc<Self>, cancel: CancellationToken) {
        let mut changes = self.members.changes();
        let mut tick = tokio::time::interval((self.options.idle_timeout / 4).max(Duration::from_millis(100)));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                _ = tick.tick() => {}
                _ = changes.changed() => {}
            }
            self.clean();
        }
        self.lock().clear();
    }

    fn clean(&self) {
        let now = Instant::now();
        self.lock().retain(|host, peer| {
            let member = self.members.gone(*host).is_some();
            peer.idle.retain(|(since, _)| member && now.duration_since(*since) < self.options.idle_timeout);
            // Whoever fetches, or waits to, shares the semaphore and needs the entry.
            !peer.idle.is_empty() || Arc::strong_count(&peer.fetches) > 1
        });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<HostId, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts one who waits, as long as it lives.
struct Waiting<'a>(&'a AtomicU32);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
