//! Connections of hosts: bounded in number, with TLS unless it is switched off, and closable from the outside.
//!
//! gRPC has no way to hang up on a peer that does not read: its end of a stream waits behind what was not read. So each
//! connection here carries a switch, which `stream` throws when a host does not take its stream's end either.
//!
//! Whoever has not yet shown a host's certificate gets little: a place in a queue that is fair between addresses, a few
//! seconds for the handshake, and, without a certificate, as long as joining takes.

use futures::Stream;
use membership::{CERTIFICATE_LIFETIME, Doorstep, PeerKey, Place, Places, Turn};
use process::listen;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use tonic::transport::server::Connected;

/// Connections that wait for their handshake, or are in it.
const KNOCKING_MAX: usize = 1024;

/// Handshakes at once.
const HANDSHAKES_MAX: usize = 64;

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);

/// Connections without a host's certificate at once, those of one address, and how long each may last.
const STRANGERS_MAX: usize = 1024;
const STRANGERS_PER_ADDRESS_MAX: u32 = 256;
const STRANGER_LIFETIME: Duration = Duration::from_secs(30);

/// Connections of one host at once: it has one, and another while it comes back.
const CONNECTIONS_PER_HOST_MAX: u32 = 8;

/// How long a connection lasts on which the end of a host's right was said.
const PARTING: Duration = Duration::from_secs(1);

/// What a call can know of the connection it came over, and do to it.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionHandle {
    /// The other end.
    pub(crate) remote: SocketAddr,
    /// Cancelled, it breaks the connection.
    pub(crate) hang_up: CancellationToken,
    /// Whose certificate was shown, if one was.
    pub(crate) host: Option<PeerKey>,
    valid: Validity,
}

/// Until when a connection's certificate counts: one that was good when it was shown is over by then.
#[derive(Clone, Debug)]
struct Validity {
    connected: Instant,
    /// Seconds from `connected`.
    until: Arc<AtomicU64>,
}

impl ConnectionHandle {
    fn new(remote: SocketAddr, host: Option<PeerKey>) -> Self {
        let until = Arc::new(AtomicU64::new(CERTIFICATE_LIFETIME.as_secs()));
        Self {
            remote: SocketAddr::new(remote.ip().to_canonical(), remote.port()),
            hang_up: CancellationToken::new(),
            host,
            valid: Validity { connected: Instant::now(), until },
        }
    }

    /// The host has a new certificate, which it would show on a new connection.
    pub(crate) fn renewed(&self) {
        let until = self.valid.connected.elapsed() + CERTIFICATE_LIFETIME;
        self.valid.until.store(until.as_secs(), Ordering::Relaxed);
    }

    /// Breaks the connection once what was said last can have arrived: a host whose right has ended is to show a new
    /// certificate on a new connection.
    pub(crate) fn part(&self) {
        let hang_up = self.hang_up.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = hang_up.cancelled() => {}
                () = tokio::time::sleep(PARTING) => hang_up.cancel(),
            }
        });
    }

    /// Whether the certificate that was shown may have expired since.
    pub(crate) fn is_over(&self) -> bool {
        self.valid.connected.elapsed().as_secs() >= self.valid.until.load(Ordering::Relaxed)
    }
}

/// A host's connection.
pub(crate) struct Connection {
    stream: Transport,
    handle: ConnectionHandle,
    hung_up: Pin<Box<WaitForCancellationFutureOwned>>,
    _place: Option<AnyPlace>,
    _permit: OwnedSemaphorePermit,
}

enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Connections as they come, at most `max` of hosts at once; with `tls` after their handshake. Tasks of handshakes are
/// among `tasks`.
pub(crate) fn incoming(
    listener: TcpListener,
    max: usize,
    tls: Option<TlsAcceptor>,
    tasks: &TaskTracker,
) -> impl Stream<Item = io::Result<Connection>> + use<> {
    let (ready, connections) = mpsc::channel(HANDSHAKES_MAX);
    let slots = Arc::new(Semaphore::new(max));
    match tls {
        Some(tls) => {
            let door = Door {
                tls,
                slots,
                strangers: Arc::new(Semaphore::new(STRANGERS_MAX)),
                stranger_places: Places::new(STRANGERS_PER_ADDRESS_MAX),
                host_places: Places::new(CONNECTIONS_PER_HOST_MAX),
                ready,
                tasks: tasks.clone(),
            };
            tasks.spawn(Arc::new(door).keep(listener));
        }
        None => {
            tasks.spawn(keep_open(listener, slots, ready));
        }
    }
    futures::stream::unfold(connections, |mut connections| async {
        Some((Ok(connections.recv().await?), connections))
    })
}

/// Hands plain connections on; further ones wait to be accepted.
async fn keep_open(listener: TcpListener, slots: Arc<Semaphore>, ready: mpsc::Sender<Connection>) {
    let serving = async {
        while let Ok(slot) = slots.clone().acquire_owned().await {
            let (stream, remote) = listen::accept(&listener).await;
            // A connection that is broken already shows it when it is read.
            drop(stream.set_nodelay(true));
            let handle = ConnectionHandle::new(remote, None);
            if ready.send(Connection::new(Transport::Plain(stream), handle, None, slot)).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = ready.closed() => {}
        () = serving => {}
    }
}

/// A connection that has come, and from where.
type Knock = (TcpStream, SocketAddr);

/// What stands between a TCP connection and the service.
struct Door {
    tls: TlsAcceptor,
    /// One for each connection of a host.
    slots: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    stranger_places: Places<IpAddr>,
    host_places: Places<PeerKey>,
    ready: mpsc::Sender<Connection>,
    tasks: TaskTracker,
}

impl Door {
    /// Lets connections in until nobody takes them any more.
    async fn keep(self: Arc<Self>, listener: TcpListener) {
        let doorstep: Doorstep<Knock> = Doorstep::new(KNOCKING_MAX, HANDSHAKES_MAX);
        loop {
            tokio::select! {
                () = self.ready.closed() => return,
                (stream, remote) = listen::accept(&listener) => {
                    if let Some((_, remote)) = doorstep.push(remote.ip(), (stream, remote)) {
                        tracing::debug!(%remote, "too many connections wait: one is closed");
                    }
                }
                (knock, turn) = doorstep.next() => {
                    let door = Arc::clone(&self);
                    self.tasks.spawn(async move { door.greet(knock, turn).await });
                }
            }
        }
    }

    async fn greet(&self, (stream, remote): Knock, turn: Turn<Knock>) {
        let shaken = tokio::select! {
            () = self.ready.closed() => return,
            shaken = timeout(HANDSHAKE_TIMEOUT, self.handshake(stream, remote)) => shaken,
        };
        drop(turn);
        match shaken {
            // An error says that the server stops.
            Ok(Ok(connection)) => drop(self.ready.send(connection).await),
            Ok(Err(error)) => tracing::debug!(%remote, %error, "a connection was refused"),
            Err(_) => tracing::debug!(%remote, "a handshake took too long"),
        }
    }

    async fn handshake(&self, stream: TcpStream, remote: SocketAddr) -> io::Result<Connection> {
        stream.set_nodelay(true)?;
        let stream = self.tls.accept(stream).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let host = shown.map(PeerKey::of_certificate).transpose().map_err(io::Error::other)?;
        let full = |what| io::Error::new(io::ErrorKind::ConnectionRefused, what);
        let handle = ConnectionHandle::new(remote, host);
        let (slots, place) = match host {
            Some(host) => (&self.slots, self.host_places.take(host).map(AnyPlace::Host)),
            None => (
                &self.strangers,
                self.stranger_places.take(membership::row(remote.ip())).map(AnyPlace::Stranger),
            ),
        };
        let place = place.ok_or_else(|| full("too many connections of one host or address"))?;
        let slot = slots.clone().try_acquire_owned().map_err(|_| full("too many connections"))?;
        if host.is_none() {
            self.bound(handle.hang_up.clone());
        }
        Ok(Connection::new(Transport::Tls(Box::new(stream)), handle, Some(place), slot))
    }

    /// Ends a connection without a host's certificate after its time.
    fn bound(&self, hang_up: CancellationToken) {
        let ready = self.ready.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = ready.closed() => {}
                () = hang_up.cancelled() => {}
                () = tokio::time::sleep(STRANGER_LIFETIME) => {}
            }
            hang_up.cancel();
        });
    }
}

#[expect(dead_code, reason = "kept to be dropped")]
enum AnyPlace {
    Host(Place<PeerKey>),
    Stranger(Place<IpAddr>),
}

impl Connection {
    fn new(
        stream: Transport,
        handle: ConnectionHandle,
        place: Option<AnyPlace>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let hung_up = Box::pin(handle.hang_up.clone().cancelled_owned());
        Self { stream, handle, hung_up, _place: place, _permit: permit }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Nobody else has to wait for it any more.
        self.handle.hang_up.cancel();
    }
}

impl Connected for Connection {
    type ConnectInfo = ConnectionHandle;

    fn connect_info(&self) -> ConnectionHandle {
        self.handle.clone()
    }
}

impl AsyncRead for Connection {
    /// HTTP/2 always has a read pending, so the switch is seen at once.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.hung_up.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_lasts_as_long_as_a_certificate_from_its_last_renewal() {
        let handle = ConnectionHandle::new(SocketAddr::from(([127, 0, 0, 1], 1)), None);
        assert!(!handle.is_over());
        handle.valid.until.store(0, Ordering::Relaxed);
        assert!(handle.is_over());
        handle.renewed();
        assert!(!handle.is_over());
        assert_eq!(handle.valid.until.load(Ordering::Relaxed), CERTIFICATE_LIFETIME.as_secs());
        handle.part();
        timeout(20 * PARTING, handle.hang_up.cancelled()).await.expect("it ends");
    }
}
