//! Nodes for tests: each with an identity, a shelf of pieces, and members of its own.

use p2p::{
    BoxFuture, Bytes, FetchError, Holdings, Identity, Member, Members, Options, P2p, PieceBody, PieceRequest,
    PieceSource, Refusal,
};
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use types::{Digest, HostId, PieceIndex, PieceLayout, PieceSet, TraceContext};

/// Long enough for a slow machine, short enough for a test that hangs.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A blob with pseudo-random content.
#[derive(Clone)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) layout: PieceLayout,
    pub(crate) content: Bytes,
}

impl Blob {
    pub(crate) fn new(seed: u64, size: usize, piece_len: u32) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut content = vec![0; size];
        rng.fill(&mut content);
        let content = Bytes::from(content);
        let layout = PieceLayout::new(size as u64, piece_len).unwrap();
        Self { digest: Digest::sha256(&content), layout, content }
    }

    pub(crate) fn request(&self, piece: u32) -> PieceRequest {
        PieceRequest {
            digest: self.digest,
            size: self.layout.size(),
            piece_len: self.layout.piece_len(),
            piece: PieceIndex(piece),
            trace: None,
        }
    }

    pub(crate) fn piece(&self, piece: u32) -> Bytes {
        let range = self.layout.range(PieceIndex(piece));
        let at = |offset: u64| usize::try_from(offset).unwrap();
        self.content.slice(at(range.start())..at(range.end()))
    }
}

/// Who asked, for which span, and what was refused.
pub(crate) type Traced = (HostId, Option<TraceContext>, Option<Refusal>);

/// Pieces to send. A piece leaves only when a permit is there.
pub(crate) struct Shelf {
    blobs: Mutex<BTreeMap<Digest, Blob>>,
    pub(crate) permits: Semaphore,
    pub(crate) asked: AtomicU64,
    pub(crate) uploaded: Mutex<BTreeMap<HostId, u64>>,
    /// What was told of traces.
    pub(crate) traced: Mutex<Vec<Traced>>,
}

impl Shelf {
    pub(crate) fn put(&self, blob: &Blob) {
        self.blobs.lock().unwrap().insert(blob.digest, blob.clone());
    }
}

impl PieceSource for Shelf {
    fn piece(&self, _child: HostId, request: PieceRequest) -> BoxFuture<'_, Result<PieceBody, Refusal>> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::Relaxed);
            self.permits.acquire().await.unwrap().forget();
            let blobs = self.blobs.lock().unwrap();
            let blob = blobs.get(&request.digest).ok_or(Refusal::NotHeld)?;
            Ok(blob.piece(request.piece.0).into())
        })
    }

    fn holdings(&self, _asker: HostId, digest: Digest) -> BoxFuture<'_, Option<Holdings>> {
        let blob = self.blobs.lock().unwrap().get(&digest).cloned();
        let held =
            blob.map(|blob| Holdings { layout: blob.layout, pieces: PieceSet::full(blob.layout.count()) });
        Box::pin(std::future::ready(held))
    }

    fn uploaded(&self, child: HostId, _request: &PieceRequest, bytes: u64) {
        *self.uploaded.lock().unwrap().entry(child).or_default() += bytes;
    }

    fn answered_in_trace(
        &self,
        child: HostId,
        request: &PieceRequest,
        began: SystemTime,
        answer: &io::Result<Option<Refusal>>,
    ) {
        assert!(began <= SystemTime::now());
        let refusal = *answer.as_ref().expect("the child stays");
        self.traced.lock().unwrap().push((child, request.trace, refusal));
    }
}

/// A running node; it stops when dropped.
pub(crate) struct Node {
    pub(crate) p2p: P2p,
    pub(crate) identity: Identity,
    pub(crate) members: Members,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) cancel: CancellationToken,
}

impl Node {
    pub(crate) async fn start(options: Options) -> Self {
        Self::start_as(Identity::generate(), options, Members::new()).await
    }

    pub(crate) async fn start_as(identity: Identity, options: Options, members: Members) -> Self {
        let shelf = Arc::new(Shelf {
            blobs: Mutex::default(),
            permits: Semaphore::new(100_000),
            asked: AtomicU64::new(0),
            uploaded: Mutex::default(),
            traced: Mutex::default(),
        });
        let cancel = CancellationToken::new();
        let source = Arc::clone(&shelf) as Arc<dyn PieceSource>;
        let p2p =
            P2p::start(identity.clone(), options, members.clone(), source, cancel.clone()).await.unwrap();
        Self { p2p, identity, members, shelf, cancel }
    }

    pub(crate) fn host(&self) -> HostId {
        self.p2p.host_id()
    }

    pub(crate) fn as_member(&self) -> Member {
        Member {
            host: self.host(),
            peer_id: self.p2p.peer_id_bytes(),
            control: Some(self.p2p.control_addr()),
            bulk: self.p2p.bulk_addr(),
        }
    }

    pub(crate) async fn fetch(&self, parent: HostId, request: PieceRequest) -> Result<Bytes, FetchError> {
        let mut piece = Vec::new();
        let fetched = self.p2p.fetch(parent, request, &mut piece, || {});
        tokio::time::timeout(SOON, fetched).await.expect("a fetch ends").map(|()| piece.into())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// Tells two nodes of each other.
pub(crate) fn introduce(a: &Node, b: &Node) {
    a.members.insert(b.as_member()).unwrap();
    b.members.insert(a.as_member()).unwrap();
}

/// A parent that holds `blob` and a child, introduced.
pub(crate) async fn pair(blob: &Blob, parent: Options, child: Options) -> (Node, Node) {
    let (parent, child) = (Node::start(parent).await, Node::start(child).await);
    parent.shelf.put(blob);
    introduce(&parent, &child);
    (parent, child)
}

/// Short time-outs, for tests in which they run out.
pub(crate) fn hasty() -> Options {
    Options {
        dial_timeout: Duration::from_millis(500),
        handshake_timeout: Duration::from_millis(500),
        stall_timeout: Duration::from_millis(300),
        introduction_grace: Duration::from_millis(100),
        ..Options::default()
    }
}

/// Asks until `condition` holds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let polled = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(SOON, polled).await.is_ok(), "in vain: {what}");
}
