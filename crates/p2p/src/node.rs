//! One host's peer-to-peer side: both listeners, the pool of connections, the way out.

use crate::control::{Asker, Control};
use crate::fetch::Fetcher;
use crate::pool::Pool;
use crate::serve::Server;
use crate::shaper::Shaper;
use crate::tls::Tls;
use crate::{
    ConnectError, FetchError, Holdings, Identity, Members, Metrics, Options, P2pError, PieceRequest,
    PieceSource, Stats,
};
use membership::Refusals;
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::{Digest, HostId};

/// The running peer-to-peer side; a clone is the same one. It stops when its token is cancelled.
#[derive(Clone, Debug)]
pub struct P2p {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    identity: Identity,
    members: Members,
    fetcher: Fetcher,
    /// Of what is sent to peers.
    upload_shaper: Arc<Shaper>,
    asker: Asker,
    metrics: Arc<Metrics>,
    /// Apart from those at the ports, so that strangers cannot hide them.
    disbelieved: Refusals,
    bulk_addr: SocketAddr,
    control_addr: SocketAddr,
    cancel: CancellationToken,
    /// Three: control, the bulk listener, the pool's cleaning.
    tasks: TaskTracker,
}

impl P2p {
    /// Binds both listeners and starts to answer. Needs a tokio runtime.
    ///
    /// Not cancel safe: dropped half way, it leaves a listener until `cancel` is cancelled.
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
        let (metrics, refusals) = (Arc::new(Metrics::default()), Arc::new(Refusals::default()));
        let tls = Tls::new(&identity)?;
        let address = options.bulk_listen;
        let failed = |source| P2pError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bulk_addr = listener.local_addr().map_err(failed)?;
        let (control, asker) = Control::listen(
            &identity,
            options.control_listen,
            members.clone(),
            Arc::clone(&source),
            Arc::clone(&refusals),
        )
        .await?;
        let advertised =
            |address: SocketAddr| SocketAddr::new(options.advertise.unwrap_or(address.ip()), address.port());
        let (bulk_addr, control_addr) = (advertised(bulk_addr), advertised(control.address));

        let pool = Arc::new(Pool::new(tls.clone(), options.clone(), members.clone(), Arc::clone(&metrics)));
        let fetcher = Fetcher::new(Arc::clone(&pool), &options, Arc::clone(&metrics));
        let server = Server::new(
            tls,
            options,
            members.clone(),
            Arc::clone(&metrics),
            source,
            Arc::clone(&refusals),
            cancel.clone(),
        );
        let upload_shaper = server.shaper();
        let tasks = TaskTracker::new();
        tasks.spawn(control.run(cancel.clone()));
        tasks.spawn(Arc::new(server).run(listener));
        tasks.spawn(pool.keep_clean(cancel.clone()));
        tasks.close();
        let inner = Inner {
            identity,
            members,
            fetcher,
            upload_shaper,
            asker,
            metrics,
            disbelieved: Refusals::default(),
            bulk_addr,
            control_addr,
            cancel,
            tasks,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Waits until everything has stopped after the token was cancelled. Cancel safe.
    pub async fn stopped(&self) {
        self.inner.tasks.wait().await;
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

    /// Gets a piece from `parent` into `piece`, in place of what is there: whole and of the right length, not verified.
    /// After an error it holds nothing of use.
    ///
    /// `nearly_done` is called once, when what remains comes in about one and a half round trips.
    ///
    /// Cancel safe: a fetch that is dropped closes its connection.
    ///
    /// # Errors
    /// [`FetchError`], within the time-outs of [`Options`].
    pub async fn fetch(
        &self,
        parent: HostId,
        request: PieceRequest,
        piece: &mut Vec<u8>,
        nearly_done: impl FnOnce() + Send,
    ) -> Result<(), FetchError> {
        let inner = &*self.inner;
        let result = async {
            let (member, gone) = inner.members.entry(parent).ok_or(FetchError::NotMember)?;
            tokio::select! {
                biased;
                () = inner.cancel.cancelled() => Err(FetchError::Stopping),
                () = gone.cancelled() => Err(FetchError::NotMember),
                result = inner.fetcher.fetch(&member, &request, piece, nearly_done) => result,
            }
        }
        .await;
        if let Err(error) = &result {
            inner.metrics.failed(error);
            self.tell(parent, error);
        }
        result
    }

    /// Says once of a parent that it is not who it should be.
    fn tell(&self, parent: HostId, error: &FetchError) {
        let reason: &dyn Display = match error {
            FetchError::Ticket(error) => error,
            FetchError::Unreachable(error @ ConnectError::WrongPeer { .. }) => error,
            _ => return,
        };
        if let Some(unsaid) = self.inner.disbelieved.note(&parent, reason) {
            tracing::warn!(peer = %parent, %reason, unsaid, "a peer is not believed");
        }
    }

    /// What a member says it holds of a blob; nothing if it does not know it. Asked over control; cancel safe.
    ///
    /// # Errors
    /// [`FetchError`], within 10 s: `NotMember` also if the member has no control address, `Refused(Busy)` if 64 such
    /// questions wait here already.
    pub async fn holdings(&self, of: HostId, digest: Digest) -> Result<Option<Holdings>, FetchError> {
        let member = self.inner.members.get(of).ok_or(FetchError::NotMember)?;
        let answer = self.inner.asker.ask(member, digest).await;
        answer.inspect_err(|error| self.tell(of, error))
    }

    /// Waits until `bytes` that come from elsewhere than a peer are due under the download rate, which is the host's for
    /// everything. A call that is dropped has taken them all the same.
    pub async fn admit_download(&self, bytes: usize) {
        self.inner.fetcher.shaper.take(bytes).await;
    }

    /// Other limits from now on, in bytes per second, on what is sent to peers and on what is received.
    pub fn set_rates(&self, upload: Option<u64>, download: Option<u64>) {
        self.inner.upload_shaper.set_rate(upload);
        self.inner.fetcher.shaper.set_rate(download);
    }

    /// How long ago the last byte of any piece came from a peer; nothing if none has.
    #[must_use]
    pub fn quiet_for(&self) -> Option<Duration> {
        self.inner.fetcher.quiet_for()
    }

    /// How many members there are, this host not included.
    #[must_use]
    pub fn members(&self) -> usize {
        self.inner.members.len()
    }

    /// The counters, to be registered.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// The counters as they stand.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.metrics.stats()
    }
}
