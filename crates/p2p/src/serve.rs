//! The parent's side: the bulk listener, who is let in, and what is sent.

use crate::admission::IdleSet;
use crate::members::Members;
use crate::metrics::{Direction, Rejection};
use crate::shaper::Shaper;
use crate::tickets::Admitted;
use crate::tls::{Secured, Tls};
use crate::watchdog::Watchdog;
use crate::wire::{self, FrameError};
use crate::{Metrics, Options, PieceBody, PieceRequest, PieceSource, Refusal};
use futures::StreamExt;
use membership::{Doorstep, Places, Refusals, TicketError, Turn, row};
use std::fmt::Display;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, debug_span, warn};
use types::HostId;

/// How long the listener rests after the system gave no connection, as when descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that wait for their handshake; with more, one of the address that has most of them is closed.
const KNOCKING_MAX: usize = 512;
/// How long a new connection waits for an idle one to close.
const SLOT_PATIENCE: Duration = Duration::from_secs(1);
/// An upload may stand still this many stall time-outs: a full socket buffer drains in large steps.
const UPLOAD_STALLS: u32 = 4;

/// A connection that has come, and from where.
type Knock = (TcpStream, SocketAddr);

/// Who has connected, and what became of its ticket.
struct Child {
    host: HostId,
    remote: SocketAddr,
    ticket: Result<Admitted, TicketError>,
}

/// What all inbound connections share.
pub(crate) struct Server {
    tls: Tls,
    options: Options,
    members: Members,
    metrics: Arc<Metrics>,
    source: Arc<dyn PieceSource>,
    shaper: Arc<Shaper>,
    /// One of [`Options::upload_slots`] for each piece that is sent.
    uploads: Semaphore,
    /// One of [`Options::connections_max`] for each connection.
    connections: Arc<Semaphore>,
    /// As many connections at most wait for an introduction.
    strangers: Semaphore,
    /// The connections that wait for a request.
    idle: IdleSet,
    /// How many connections each member has.
    places: Places<HostId>,
    refusals: Arc<Refusals>,
    cancel: CancellationToken,
}

impl Server {
    pub(crate) fn new(
        tls: Tls,
        options: Options,
        members: Members,
        metrics: Arc<Metrics>,
        source: Arc<dyn PieceSource>,
        refusals: Arc<Refusals>,
        cancel: CancellationToken,
    ) -> Self {
        Self {
            tls,
            members,
            refusals,
            metrics,
            source,
            shaper: Arc::new(Shaper::new(options.upload_rate_bytes_per_second)),
            uploads: Semaphore::new(usize::from(options.upload_slots)),
            connections: Arc::new(Semaphore::new(usize::from(options.connections_max))),
            strangers: Semaphore::new(usize::from(options.handshakes_max)),
            idle: IdleSet::default(),
            places: Places::new(options.connections_per_peer_max.into()),
            cancel,
            options,
        }
    }

    /// The limit on what is sent.
    pub(crate) fn shaper(&self) -> Arc<Shaper> {
        Arc::clone(&self.shaper)
    }

    /// Takes connections in until cancelled, and ends when all have ended.
    pub(crate) async fn run(self: Arc<Self>, listener: TcpListener) {
        // Bounded by `connections`.
        let tasks = TaskTracker::new();
        let handshakes_max = usize::from(self.options.handshakes_max);
        let doorstep: Doorstep<Knock> = Doorstep::new(KNOCKING_MAX, handshakes_max);
        loop {
            tokio::select! {
                () = self.cancel.cancelled() => break,
                accepted = listener.accept() => match accepted {
                    Ok((socket, remote)) => {
                        if let Some((_, remote)) = doorstep.push(remote.ip(), (socket, remote)) {
                            self.metrics.rejected(Rejection::Full);
                            self.tell(remote, None, &"too many connections wait for their handshake");
                        }
                    }
                    Err(error) => {
                        warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                ((socket, remote), turn) = doorstep.next() => {
                    let Some(slot) = self.slot().await else {
                        self.metrics.rejected(Rejection::Full);
                        self.tell(remote, None, &"too many connections");
                        continue;
                    };
                    let server = Arc::clone(&self);
                    let span = debug_span!("bulk", %remote);
                    tasks.spawn(
                        async move { server.connection((socket, remote), slot, turn).await }.instrument(span),
                    );
                }
            }
        }
        drop(listener);
        tasks.close();
        tasks.wait().await;
    }

    /// Says once of an address why it is refused.
    fn tell(&self, remote: SocketAddr, peer: Option<HostId>, reason: &dyn Display) {
        if let Some(unsaid) = self.refusals.note(&row(remote.ip()), reason) {
            let peer = peer.map(tracing::field::display);
            warn!(%remote, peer, %reason, unsaid, "a peer is refused");
        }
    }

    /// One of all connections' slots; the connection that has been idle for longest gives way.
    async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        let slots = || Arc::clone(&self.connections);
        if let Ok(slot) = slots().try_acquire_owned() {
            return Some(slot);
        }
        if !self.idle.close_oldest() {
            return None;
        }
        timeout(SLOT_PATIENCE, slots().acquire_owned()).await.ok()?.ok()
    }

    /// One connection from its start to its end.
    async fn connection(&self, knock: Knock, _slot: OwnedSemaphorePermit, turn: Turn<Knock>) {
        let _open = self.metrics.opened(Direction::In);
        let greeting = timeout(self.options.handshake_timeout, self.greet(knock));
        let greeted = tokio::select! {
            () = self.cancel.cancelled() => return,
            greeted = greeting => greeted,
        };
        let (child, mut stream) = match greeted {
            Ok(Ok(greeted)) => greeted,
            Ok(Err(error)) => {
                self.metrics.rejected(Rejection::Handshake);
                debug!(%error, "handshake failed");
                return;
            }
            Err(_) => {
                self.metrics.rejected(Rejection::Handshake);
                debug!("handshake timed out");
                return;
            }
        };
        let ended = tokio::select! {
            () = self.cancel.cancelled() => return,
            ended = self.member(&child, turn, &mut stream) => ended,
        };
        match ended {
            Ok(()) => debug!(peer = %child.host, "connection ended"),
            Err(error) => debug!(peer = %child.host, %error, "connection broke"),
        }
    }

    /// The TLS handshake and the child's hello with its ticket.
    async fn greet(&self, (socket, remote): Knock) -> Result<(Child, Secured<TcpStream>), FrameError> {
        socket.set_nodelay(true)?;
        let (peer, mut stream) = self.tls.accept(socket).await?;
        let shown = wire::read_hello(&mut stream).await?;
        let host = HostId::of_peer_id(&peer.to_bytes());
        Ok((Child { host, remote, ticket: self.members.tickets().check(&peer, &shown) }, stream))
    }

    /// Lets a member in, and serves it until it leaves, is removed, or its ticket's time is over.
    async fn member(
        &self,
        child: &Child,
        turn: Turn<Knock>,
        stream: &mut Secured<TcpStream>,
    ) -> Result<(), FrameError> {
        let ticket = match &child.ticket {
            Ok(ticket) => *ticket,
            Err(error) => {
                self.metrics.rejected(Rejection::Ticket);
                self.tell(child.remote, Some(child.host), error);
                // Its turn ends with it: strangers have no more connections than turns.
                return self.turn_away(stream, Refusal::NotAllowed).await;
            }
        };
        drop(turn);
        let Child { host: child, remote, .. } = *child;
        let gone = match self.introduction(child).await {
            Ok(gone) => gone,
            Err(why) => {
                self.tell(remote, Some(child), &why);
                return self.turn_away(stream, Refusal::NotAllowed).await;
            }
        };
        let Some(_place) = self.places.take(child) else {
            self.tell(remote, Some(child), &"too many connections of this peer");
            return self.turn_away(stream, Refusal::Busy).await;
        };
        stream.write_all(&wire::hello(&self.members.tickets().own())).await?;
        stream.flush().await?;
        tokio::select! {
            () = gone.cancelled() => Ok(()),
            ended = self.requests(child, ticket, stream) => ended,
        }
    }

    /// The token of the child's removal, if it is a member or becomes one within the grace.
    ///
    /// # Errors
    /// Why it is none.
    async fn introduction(&self, child: HostId) -> Result<CancellationToken, &'static str> {
        if let Some(gone) = self.members.gone(child) {
            return Ok(gone);
        }
        let _stranger = self.strangers.try_acquire().map_err(|_| "too many wait to be named")?;
        let introduced = timeout(self.options.introduction_grace, self.members.introduced(child)).await;
        introduced.map_err(|_| "the scheduler has not named it")
    }

    /// Answers the first request with a refusal and closes. The request is read first: a connection that is closed
    /// with bytes unread is reset, and the answer lost.
    async fn turn_away(&self, stream: &mut Secured<TcpStream>, refusal: Refusal) -> Result<(), FrameError> {
        let farewell = async {
            if let Some(len) = wire::read_request_len(stream).await? {
                let _ = wire::read_request(stream, len).await?;
                stream.write_all(&wire::hello(&self.members.tickets().own())).await?;
                self.refuse(stream, refusal).await?;
            }
            Ok(())
        };
        // A child that says nothing is not waited for.
        timeout(self.options.handshake_timeout, farewell).await.unwrap_or(Ok(()))
    }

    /// Answers one request after the other, while the child's ticket is good: it comes back with a new one.
    async fn requests(
        &self,
        child: HostId,
        ticket: Admitted,
        stream: &mut Secured<TcpStream>,
    ) -> Result<(), FrameError> {
        let patience = self.options.idle_timeout.saturating_mul(2);
        loop {
            stream.get_mut().0.rest();
            let len = {
                let idle = self.idle.enter();
                tokio::select! {
                    () = idle.gives_way() => return Ok(()),
                    len = timeout(patience, wire::read_request_len(stream)) => len,
                }
            };
            let Ok(len) = len else { return Ok(()) };
            let Some(len) = len? else { return Ok(()) };
            if ticket.is_over() {
                debug!(peer = %child, "its ticket has expired meanwhile");
                return Ok(());
            }
            let request = timeout(self.options.stall_timeout, wire::read_request(stream, len))
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            let refusal = match request {
                Ok(request) => self.answer(child, request, stream).await?,
                Err(refusal) => Some(refusal),
            };
            if let Some(refusal) = refusal {
                debug!(peer = %child, %refusal, "refused");
                self.refuse(stream, refusal).await?;
                if matches!(refusal, Refusal::NotAllowed | Refusal::Malformed) {
                    return Ok(());
                }
            }
        }
    }

    /// Sends a piece, or says why not; what belongs to a trace is told of.
    async fn answer(
        &self,
        child: HostId,
        request: PieceRequest,
        stream: &mut Secured<TcpStream>,
    ) -> io::Result<Option<Refusal>> {
        let began = request.trace.map(|_| SystemTime::now());
        let answer = self.upload(child, request, stream).await;
        if let Some(began) = began {
            self.source.answered_in_trace(child, &request, began, &answer);
        }
        answer
    }

    /// Sends a piece, or says why not. The slot is held until the last byte is with the kernel.
    async fn upload(
        &self,
        child: HostId,
        request: PieceRequest,
        stream: &mut Secured<TcpStream>,
    ) -> io::Result<Option<Refusal>> {
        let prepared = tokio::select! {
            prepared = self.prepare(child, request) => prepared,
            left = leaves(stream) => return Err(left),
        };
        let (slot, body) = match prepared {
            Ok(prepared) => prepared,
            Err(refusal) => return Ok(Some(refusal)),
        };
        let _running = self.metrics.uploading();
        let len = body.len;
        self.send(stream, body).await?;
        drop(slot);
        self.metrics.uploaded_pieces.inc();
        self.source.uploaded(child, &request, len);
        Ok(None)
    }

    /// An upload slot and the piece's bytes.
    async fn prepare(
        &self,
        child: HostId,
        request: PieceRequest,
    ) -> Result<(SemaphorePermit<'_>, PieceBody), Refusal> {
        let slot = match timeout(self.options.upload_slot_patience, self.uploads.acquire()).await {
            Ok(Ok(slot)) => slot,
            _ => return Err(Refusal::Busy),
        };
        // Half, so that the child hears of it before it takes the silence for a stall.
        let body = timeout(self.options.stall_timeout / 2, self.source.piece(child, request)).await;
        let Ok(body) = body else {
            warn!(peer = %child, piece = %request.piece, "the store does not answer");
            return Err(Refusal::Busy);
        };
        let body = body?;
        if request.expected_len().map(u64::from) != Some(body.len) {
            warn!(peer = %child, piece = %request.piece, bytes = body.len, "a held piece has the wrong length");
            return Err(Refusal::NotHeld);
        }
        Ok((slot, body))
    }

    /// Writes an answer in large parts, the head together with the first.
    async fn send(&self, stream: &mut Secured<TcpStream>, mut body: PieceBody) -> io::Result<()> {
        let head = wire::answer(Ok(u32::try_from(body.len).map_err(io::Error::other)?));
        let mut head = &head[..];
        let mut dog = Watchdog::new(
            self.options.stall_timeout.saturating_mul(UPLOAD_STALLS),
            self.options.transfer_timeout,
        );
        let timed_out = |_| io::Error::from(io::ErrorKind::TimedOut);
        let mut left = body.len;
        while left > 0 {
            let read = dog.watch(body.parts.next()).await.map_err(timed_out)?;
            let bytes = read.ok_or(io::ErrorKind::UnexpectedEof)??;
            left = left.checked_sub(bytes.len() as u64).ok_or(io::ErrorKind::InvalidData)?;
            for mut part in bytes.chunks(self.shaper.chunk()) {
                self.shaper.take(part.len()).await;
                dog.note_progress();
                while !part.is_empty() {
                    let slices = [IoSlice::new(head), IoSlice::new(part)];
                    let n = dog.watch(write_some(stream, &slices)).await.map_err(timed_out)??;
                    let of_head = n.min(head.len());
                    head = &head[of_head..];
                    part = &part[n - of_head..];
                    self.metrics.uploaded_bytes.inc_by((n - of_head) as u64);
                }
            }
        }
        dog.watch(stream.flush()).await.map_err(timed_out)?
    }

    /// Writes a refusal.
    async fn refuse(&self, stream: &mut Secured<TcpStream>, refusal: Refusal) -> io::Result<()> {
        self.metrics.refused(refusal);
        let write = async {
            stream.write_all(&wire::answer(Err(refusal))).await?;
            stream.flush().await
        };
        timeout(self.options.stall_timeout, write)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

/// Waits until the child closes, or says something before it has its answer, which is against the rules.
async fn leaves(stream: &mut Secured<TcpStream>) -> io::Error {
    match stream.read(&mut [0]).await {
        Ok(0) => io::ErrorKind::UnexpectedEof.into(),
        Ok(_) => io::Error::new(io::ErrorKind::InvalidData, "a request before the last was answered"),
        Err(error) => error,
    }
}

/// One write; an empty head is left out.
async fn write_some<S: AsyncWrite + Unpin>(stream: &mut S, slices: &[IoSlice<'_>; 2]) -> io::Result<usize> {
    let n = if slices[0].is_empty() {
        stream.write(&slices[1]).await?
    } else {
        stream.write_vectored(slices).await?
    };
    if n == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(n) }
}
