//! The engine by itself: a store, nobody to fetch from, and a reader.

use super::*;
use crate::upload::Uploads;
use futures::StreamExt as _;
use origin::{Auth, Repository};
use p2p::{Identity, Members};
use std::time::Instant;
use types::{ByteRange, Digest, Label, PieceIndex, State};

const SIZE: usize = 4 * 512 * 1024 - 7;

struct Stage {
    engine: Engine,
    store: Store,
    _dir: tempfile::TempDir,
    _cancel: tokio_util::sync::DropGuard,
}

impl Stage {
    async fn new() -> Self {
        process::tls::install_provider();
        let cancel = CancellationToken::new();
        let dir = tempfile::tempdir().unwrap();
        let mut options = store::Options::new(dir.path().join("store"));
        options.free_floor = 0.0;
        let store = Store::open(options).unwrap();
        let traffic = Traffic::new(Label::default(), Label::default());
        let uploads = Arc::new(Uploads::new(store.clone(), traffic.clone()));
        let p2p = P2p::start(
            Identity::generate(),
            p2p::Options::default(),
            Members::new(),
            uploads,
            cancel.clone(),
        );
        let nobody = crate::link::endpoint(http::Uri::from_static("http://127.0.0.1:9"));
        let parts = Parts {
            store: store.clone(),
            p2p: p2p.await.unwrap(),
            origin: Origin::new(origin::Options::default()).unwrap(),
            link: Link::new(nobody.connect_lazy(), None).0,
            traffic,
            buffers: Buffers::default(),
            options: download_core::Options::default(),
        };
        let engine = Engine::new(parts, cancel.clone());
        Self { engine, store, _dir: dir, _cancel: cancel.drop_guard() }
    }

    fn open(&self, digest: Digest) -> OpenBlob {
        let registry = Registry::parse("registry.example").unwrap();
        let right = Right {
            repository: Repository::new(&registry, "app".parse().unwrap()),
            auth: Auth::Anonymous,
            since: Instant::now(),
        };
        self.engine.open(digest, SIZE as u64, right).unwrap()
    }
}

fn content(byte: u8) -> Vec<u8> {
    (0..SIZE).map(|i| byte ^ u8::try_from(i % 251).unwrap()).collect()
}

/// The states at all boundaries of what is `content` or claims to be.
fn states(digest: &Digest, layout: PieceLayout, content: &[u8]) -> Vec<State> {
    let mut chain = vec![State::initial(digest.algorithm())];
    for piece in (0..layout.count()).map(PieceIndex) {
        let last = *chain.last().unwrap();
        chain.push(types::hash_piece(layout, piece, &last, part(layout, piece, content)).unwrap());
    }
    chain
}

fn part(layout: PieceLayout, piece: PieceIndex, content: &[u8]) -> &[u8] {
    let range = layout.range(piece);
    &content[usize::try_from(range.start()).unwrap()..usize::try_from(range.end()).unwrap()]
}

async fn fill(blob: &store::Blob, content: &[u8], pieces: std::ops::Range<u32>) {
    let layout = blob.layout();
    for piece in pieces.map(PieceIndex) {
        let bytes = part(layout, piece, content).to_vec().into();
        blob.write_piece(piece, bytes).await.unwrap();
    }
}

/// A reader that was given pieces of a false chain, and takes no part in the download when that is found out, does not end
/// as if all had been right.
#[tokio::test]
async fn a_reader_hears_of_a_false_chain_though_it_has_not_joined() {
    let stage = Stage::new().await;
    let (right, wrong) = (content(1), content(2));
    let digest = Digest::sha256(&right);
    let open = stage.open(digest);
    let layout = open.layout;
    assert!(layout.count() > 2, "several pieces");
    let blob = stage.store.create(&digest, layout).await.unwrap();
    let false_states = states(&digest, layout, &wrong);
    blob.learn_states(0, &false_states[..2]).unwrap();
    fill(&blob, &wrong, 0..1).await;

    let whole = ByteRange::new(0, SIZE as u64).unwrap();
    let mut body = stage.engine.read(&open, whole).into_stream();
    let mut fresh = stage.engine.read(&open, whole).into_stream();
    let first = body.next().await.unwrap().unwrap();
    assert_eq!(first, wrong[..first.len()], "verified against the chain as it was known");

    blob.forget_states().await.unwrap();
    blob.discard(&types::PieceSet::full(layout.count())).await.unwrap();
    blob.learn_states(0, &states(&digest, layout, &right)).unwrap();
    fill(&blob, &right, 0..layout.count()).await;
    blob.close().await.unwrap();

    let error = body.next().await.expect("an end").expect_err("no more bytes");
    assert!(matches!(error, ReadError::FalseChain), "{error}");
    assert!(body.next().await.is_none());
    // One that was given nothing before has nothing to regret.
    let mut got = Vec::new();
    while let Some(bytes) = fresh.next().await {
        got.extend(bytes.unwrap());
    }
    assert!(got == right, "{} bytes", got.len());
}

/// What nobody asked for is no reason for a client to wait longer.
#[tokio::test]
async fn clients_have_patience_for_each_other_and_not_for_preheats() {
    let stage = Stage::new().await;
    let (at, later) = (Timestamp::from_nanos(5), Timestamp::from_nanos(9));
    stage.engine.has_moved(at, Priority::Waiting);
    stage.engine.has_moved(later, Priority::Preheat);
    assert_eq!((stage.engine.moved(), stage.engine.moved_for_clients()), (later, at));
}
