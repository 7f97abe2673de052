//! The download engine: one download per blob, however many readers.
//!
//! The proxy opens a blob and reads ranges of it. What the store holds is read from there; for the rest the engine
//! starts a [`download`] and joins its readers to it. The decisions are `download-core`'s; [`driver`] carries them out
//! with [`transfer`]s from peers and [`origin_read`]s, and [`reader`] turns what arrives into a stream. [`obtain`] is for
//! blobs that no client waits for.

mod arrivals;
mod buffers;
mod clock;
mod direct;
mod download;
mod driver;
mod in_trace;
mod joined;
mod obtain;
mod origin_read;
mod reader;
mod reading;
mod rights;
#[cfg(test)]
mod tests;
mod transfer;

pub(crate) use obtain::ObtainError;
pub use reader::{ReadError, Reader};
pub use rights::Right;

use crate::link::Link;
use crate::traffic::{Tally, Traffic};
pub(crate) use buffers::Buffers;
use clock::{Clock, TICK};
use download::Handle;
use download_core::LinkState;
use origin::Origin;
use p2p::P2p;
use process::traces;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use store::Store;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::{
    BlobKey, Digest, HostBody, HostMessage, PieceLayout, Priority, Registry, SchedulerMessage, Timestamp,
    TraceContext,
};

/// Why a blob cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Larger than any blob may be.
    #[error("a blob of {size} bytes is larger than {max}", max = PieceLayout::SIZE_MAX)]
    TooLarge {
        /// Its size in bytes.
        size: u64,
    },
    /// It is known with another size, or the digest is not that of an empty blob: the origin contradicts itself.
    #[error("the size {size} contradicts what is known of {digest}")]
    Size {
        /// Which blob.
        digest: Digest,
        /// The size that the origin gave.
        size: u64,
    },
    /// The daemon is stopping.
    #[error("the daemon is stopping")]
    Stopping,
}

/// What the engine works with.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) p2p: P2p,
    pub(crate) origin: Origin,
    pub(crate) link: Link,
    pub(crate) traffic: Traffic,
    pub(crate) buffers: Buffers,
    pub(crate) options: download_core::Options,
}

/// The engine; cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    parts: Parts,
    clock: Clock,
    /// Whether the clock ticks: while downloads run. Changed under the lock of `downloads`.
    ticks: AtomicBool,
    downloads: Mutex<BTreeMap<Digest, Handle>>,
    /// What the scheduler was told of, so that it can be told when it is evicted. Bounded by what the store holds.
    announced: Mutex<BTreeMap<Digest, BlobKey>>,
    /// When any download got a piece last, in nanoseconds of the cores' time, and when one that clients wait for did.
    moved: AtomicU64,
    moved_for_clients: AtomicU64,
    /// How many blobs are being got that no client asked for.
    obtaining: AtomicUsize,
    tasks: TaskTracker,
    cancel: CancellationToken,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({} downloads)", self.downloads().len())
    }
}

/// A blob that a client may read, with the right that it showed.
#[derive(Clone, Debug)]
pub struct OpenBlob {
    /// Digest, size and registry.
    pub key: BlobKey,
    /// The right with which it was opened.
    pub right: Right,
    /// Where the bytes of its reads came from.
    pub tally: Arc<Tally>,
    layout: PieceLayout,
    /// The span of the request for which it was opened, if that is recorded.
    trace: Option<TraceContext>,
}

impl Engine {
    pub(crate) fn new(parts: Parts, cancel: CancellationToken) -> Self {
        Self(Arc::new(Inner {
            parts,
            clock: Clock::new(),
            ticks: AtomicBool::new(false),
            downloads: Mutex::new(BTreeMap::new()),
            announced: Mutex::new(BTreeMap::new()),
            moved: AtomicU64::new(0),
            moved_for_clients: AtomicU64::new(0),
            obtaining: AtomicUsize::new(0),
            tasks: TaskTracker::new(),
            cancel,
        }))
    }

    /// Opens a blob for a client whose permission has been checked. Nothing is stored or downloaded before it is read.
    ///
    /// # Errors
    /// If no blob can have this key.
    pub fn open(&self, digest: Digest, size: u64, right: Right) -> Result<OpenBlob, EngineError> {
        if self.0.cancel.is_cancelled() {
            return Err(EngineError::Stopping);
        }
        let layout = PieceLayout::for_size(size).ok_or(EngineError::TooLarge { size })?;
        if size == 0 && !digest.matches(&[]) {
            return Err(EngineError::Size { digest, size });
        }
        let key = BlobKey { digest, size, registry: right.repository.registry.clone() };
        Ok(OpenBlob { key, right, tally: Arc::default(), layout, trace: traces::current() })
    }

    /// A reader of `range` of an opened blob. Dropping it is leaving.
    #[must_use]
    pub fn read(&self, open: &OpenBlob, range: types::ByteRange) -> Reader {
        Reader::new(self.clone(), open.clone(), range)
    }

    /// A reader that gets its bytes from the origin alone: for a blob of which nobody that is believed has said that
    /// its repository has it.
    #[must_use]
    pub fn read_anew(&self, open: &OpenBlob, range: types::ByteRange) -> Reader {
        Reader::past_the_store(self.clone(), open.clone(), range)
    }

    /// A message from the scheduler about one blob. Waits, for a bounded time, for a download that is behind.
    pub(crate) async fn deliver(&self, message: SchedulerMessage) {
        let handle = self.downloads().get(&message.key.digest).cloned();
        let SchedulerMessage { key, body } = message;
        let unheard = match handle {
            Some(handle) => handle.message(body).await,
            None => Some(body),
        };
        if let Some(body) = unheard {
            self.answer_without_download(SchedulerMessage { key, body });
        }
    }

    /// Nothing runs for this blob: what is proven is told, work is given back.
    fn answer_without_download(&self, message: SchedulerMessage) {
        use types::SchedulerBody as Body;
        let is_work = matches!(message.body, Body::Lease { .. } | Body::Assign { .. });
        let body = match message.body {
            Body::WantChain { epoch, boundaries } => {
                let Some(blob) = self.0.parts.store.get(&message.key.digest) else {
                    return self.send(message.key, HostBody::Drop);
                };
                let chain = blob.chain();
                let states = boundaries.clone().map_while(|b| chain.state(b).copied()).collect();
                HostBody::Chain { epoch, boundary: boundaries.start, states, closed: blob.is_closed() }
            }
            Body::Lease { epoch, .. } => {
                HostBody::LeaseReturned { epoch, why: types::LeaseFailure::NoReader }
            }
            Body::Assign { piece, parent, epoch, .. } => {
                HostBody::Failed { piece, parent, epoch, why: types::FetchFailure::Local }
            }
            // The scheduler forgot what was held; what is proven it may know again.
            Body::ChainReset { .. } => match self.0.parts.store.get(&message.key.digest) {
                Some(blob) if blob.is_closed() => HostBody::Hold { closed: true, pieces: blob.pieces() },
                _ => return,
            },
            Body::Cancel { .. }
            | Body::LeaseLimit { .. }
            | Body::Revoke { .. }
            | Body::SourceReads
            | Body::Failed { .. } => return,
        };
        self.send(message.key.clone(), body);
        if is_work {
            // The scheduler missed that this host left.
            self.send(message.key, HostBody::Leave);
        }
    }

    fn send(&self, key: BlobKey, body: HostBody) {
        self.0.parts.link.send(HostMessage { key, body });
    }

    /// The link came up or went down; after `Up` everything that is held is announced again.
    pub(crate) async fn link_changed(&self, state: LinkState) {
        let running: Vec<Handle> = self.downloads().values().cloned().collect();
        if state == LinkState::Up {
            for held in self.0.parts.store.list() {
                let runs = running.iter().any(|handle| handle.digest() == &held.digest);
                // What is not proven belongs to its askers' registry; it is offered when its download goes on.
                if !runs && held.closed {
                    let Ok(registry) = Registry::parse(AT_REST) else { continue };
                    let key = BlobKey { digest: held.digest, size: held.layout.size(), registry };
                    self.announce(&key);
                    self.send(key, HostBody::Hold { closed: true, pieces: held.pieces });
                }
            }
        }
        for handle in running {
            handle.link(state).await;
        }
    }

    /// Remembers that the scheduler knows of this blob here.
    pub(crate) fn announce(&self, key: &BlobKey) {
        self.announced().insert(key.digest, key.clone());
    }

    /// The store evicted a blob, or found a piece changed: what it lost is offered no more, and a download gets it anew.
    pub(crate) async fn lost(&self, digest: &Digest) {
        let Some(blob) = self.0.parts.store.get(digest) else {
            let key = self.announced().remove(digest);
            if let Some(key) = key {
                self.send(key, HostBody::Drop);
            }
            return;
        };
        let handle = self.downloads().get(digest).cloned();
        if let Some(handle) = handle
            && handle.lost().await
        {
            return;
        }
        let key = self.announced().get(digest).cloned();
        if let Some(key) = key {
            self.send(key, HostBody::Hold { closed: blob.is_closed(), pieces: blob.pieces() });
        }
    }

    /// The store lost something of some blobs, and of which is not known.
    pub(crate) async fn lost_some(&self) {
        let announced: Vec<Digest> = self.announced().keys().copied().collect();
        for digest in announced {
            self.lost(&digest).await;
        }
    }

    fn announced(&self) -> MutexGuard<'_, BTreeMap<Digest, BlobKey>> {
        self.0.announced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A download of this urgency got a piece.
    fn has_moved(&self, now: Timestamp, priority: Priority) {
        self.0.moved.fetch_max(now.as_nanos(), Ordering::Relaxed);
        if priority == Priority::Waiting {
            self.0.moved_for_clients.fetch_max(now.as_nanos(), Ordering::Relaxed);
        }
    }

    /// When any download got a piece last, or a part of one from a peer: over a slow link a piece takes longer than a
    /// reader's patience.
    fn moved(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.moved.load(Ordering::Relaxed))
    }

    /// The same of what clients wait for: they have patience for each other, not for what nobody asked for.
    fn moved_for_clients(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.moved_for_clients.load(Ordering::Relaxed))
    }

    /// Lets the clock tick as long as downloads run.
    fn tick(&self) {
        if self.0.ticks.swap(true, Ordering::Relaxed) {
            return;
        }
        let engine = self.clone();
        self.0.tasks.spawn(async move {
            while engine.0.cancel.run_until_cancelled(tokio::time::sleep(TICK)).await.is_some() {
                let elapsed = engine.0.clock.tick();
                if engine.parts().p2p.quiet_for().is_some_and(|quiet| quiet <= elapsed) {
                    // Whose bytes they are is not known.
                    let obtaining = engine.0.obtaining.load(Ordering::Relaxed) > 0;
                    engine.has_moved(
                        engine.now(),
                        if obtaining { Priority::Preheat } else { Priority::Waiting },
                    );
                }
                let downloads = engine.downloads();
                if downloads.is_empty() {
                    engine.0.ticks.store(false, Ordering::Relaxed);
                    break;
                }
            }
        });
    }

    /// How many downloads run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.downloads().len()
    }

    /// Waits until all downloads have ended after the cancellation of the daemon.
    pub(crate) async fn drained(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    fn downloads(&self) -> MutexGuard<'_, BTreeMap<Digest, Handle>> {
        self.0.downloads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// When to look whether `at` has come.
    fn look_at(&self, at: Timestamp) -> tokio::time::Instant {
        self.0.clock.look_at(at).into()
    }

    fn parts(&self) -> &Parts {
        &self.0.parts
    }

    /// The link's state as the cores know it.
    fn link_state(&self) -> watch::Receiver<LinkState> {
        self.0.parts.link.state()
    }
}

/// The registry under which a host announces what it holds at rest: only closed chains, which need none.
const AT_REST: &str = "at-rest.invalid";
