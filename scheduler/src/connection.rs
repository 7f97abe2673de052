//! TCP connections of hosts: bounded in number, and closable from the outside.
//!
//! gRPC has no way to hang up on a peer that does not read: its end of a stream waits behind what was not read. So each
//! connection here carries a switch, which `stream` throws when a host does not take its stream's end either.

use futures::Stream;
use process::listen;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

/// What a call can know of the connection it came over, and do to it.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionHandle {
    /// The other end.
    pub(crate) remote: SocketAddr,
    /// Cancelled, it breaks the connection.
    pub(crate) hang_up: CancellationToken,
}

/// A host's connection.
pub(crate) struct Connection {
    stream: TcpStream,
    handle: ConnectionHandle,
    hung_up: Pin<Box<WaitForCancellationFutureOwned>>,
    _permit: OwnedSemaphorePermit,
}

/// Connections as they come, at most `max` at once; further ones wait to be accepted.
pub(crate) fn incoming(listener: TcpListener, max: usize) -> impl Stream<Item = io::Result<Connection>> {
    let permits = Arc::new(Semaphore::new(max));
    futures::stream::unfold((listener, permits), |(listener, permits)| async {
        let permit = permits.clone().acquire_owned().await.ok()?;
        let (stream, remote) = listen::accept(&listener).await;
        Some((Ok(Connection::new(stream, remote, permit)), (listener, permits)))
    })
}

impl Connection {
    fn new(stream: TcpStream, remote: SocketAddr, permit: OwnedSemaphorePermit) -> Self {
        // A connection that is broken already shows it when it is read.
        drop(stream.set_nodelay(true));
        let hang_up = CancellationToken::new();
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        Self {
            stream,
            hung_up: Box::pin(hang_up.clone().cancelled_owned()),
            handle: ConnectionHandle { remote, hang_up },
            _permit: permit,
        }
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
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
