//! Takes the place of `tls` in one build: bulk connections without TLS, for the benchmark's row that says what security
//! costs. Nobody proves who it is here, and a daemon of this build can exchange with none of another.

use crate::read_ahead::ReadAhead;
use crate::{Identity, P2pError};
use libp2p::PeerId;
use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

/// Whoever builds everything with all features is to notice.
const _: &str = env!(
    "DAMSELFLY_MEASURES_PLAIN_BULK",
    "the feature insecure-plain-bulk is for one measurement of the benchmark, which sets this variable"
);

/// A stream that is not secured.
pub type Secured<S> = Plain<ReadAhead<S>>;

/// The stream itself.
#[derive(Debug)]
pub struct Plain<S>(S);

/// Says who it is, and believes who the other says it is.
#[derive(Clone)]
pub struct Tls {
    peer: PeerId,
}

impl Tls {
    /// Warns.
    ///
    /// # Errors
    /// None.
    pub fn new(identity: &Identity) -> Result<Self, P2pError> {
        tracing::warn!("pieces travel in the clear, and nobody proves who it is: a build for measurements");
        Ok(Self { peer: identity.peer_id() })
    }

    /// Greets the peer `expected`.
    ///
    /// # Errors
    /// What the network says, or that another peer answers.
    pub async fn dial<S>(&self, stream: S, expected: PeerId) -> io::Result<Secured<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (peer, stream) = self.accept(stream).await?;
        if peer == expected { Ok(stream) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }

    /// Greets whoever has come.
    ///
    /// # Errors
    /// What the network says.
    pub async fn accept<S>(&self, stream: S) -> io::Result<(PeerId, Secured<S>)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut stream = Plain(ReadAhead::new(stream));
        let own = self.peer.to_bytes();
        stream.write_u8(u8::try_from(own.len()).map_err(io::Error::other)?).await?;
        stream.write_all(&own).await?;
        stream.flush().await?;
        let mut theirs = vec![0; stream.read_u8().await?.into()];
        stream.read_exact(&mut theirs).await?;
        let peer = PeerId::from_bytes(&theirs).map_err(io::Error::other)?;
        Ok((peer, stream))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls, which is none")
    }
}

/// Whether another peer answered than the expected one.
#[must_use]
pub fn is_wrong_peer(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

impl<S> Plain<S> {
    /// As a TLS stream has it.
    pub fn get_mut(&mut self) -> (&mut S, ()) {
        (&mut self.0, ())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Plain<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Plain<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
