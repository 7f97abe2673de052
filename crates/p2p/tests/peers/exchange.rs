//! What works: pieces of all sizes, both ways, over few connections.

use crate::support::{Blob, Node, eventually, introduce, pair};
use p2p::{FetchError, Options, PieceRequest, Refusal};
use std::sync::atomic::{AtomicU32, Ordering};
use types::TraceContext;

#[tokio::test]
async fn two_nodes_exchange_pieces_both_ways() {
    let (a, b) = (Node::start(Options::default()).await, Node::start(Options::default()).await);
    introduce(&a, &b);
    let mine = Blob::new(1, 5_000_000, 1 << 20);
    let yours = Blob::new(2, 1, 128);
    a.shelf.put(&mine);
    b.shelf.put(&yours);
    for piece in mine.layout.pieces() {
        let got = b.fetch(a.host(), mine.request(piece.0)).await.unwrap();
        assert!(got == mine.piece(piece.0), "piece {piece}");
    }
    assert_eq!(a.fetch(b.host(), yours.request(0)).await.unwrap(), yours.content);
    assert_eq!(b.p2p.stats().downloaded_bytes, 5_000_000);
    assert_eq!(b.p2p.stats().downloaded_pieces, 5);
    eventually("the upload is told", || a.shelf.uploaded.lock().unwrap().get(&b.host()) == Some(&5_000_000))
        .await;
    assert_eq!(a.p2p.stats().uploaded_bytes, 5_000_000);
    assert_eq!(a.p2p.stats().uploaded_pieces, 5);
}

#[tokio::test]
async fn pieces_of_many_lengths_come_whole() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let (a, b) = (Node::start(Options::default()).await, Node::start(Options::default()).await);
    introduce(&a, &b);
    for size in [1, 127, 128, 129, 16_383, 16_384, 16_385, 131_072, 131_073, 4 << 20, (8 << 20) + 1] {
        let blob = Blob::new(rng.u64(..), size, 4 << 20);
        a.shelf.put(&blob);
        let last = blob.layout.count() - 1;
        let got = b.fetch(a.host(), blob.request(last)).await.unwrap();
        assert!(got == blob.piece(last), "{size} bytes");
    }
    assert_eq!(b.p2p.stats().dialed, 1);
}

#[tokio::test]
async fn one_connection_serves_one_request_after_the_other() {
    let blob = Blob::new(3, 1 << 20, 1 << 17);
    let (parent, child) = pair(&blob, Options::default(), Options::default()).await;
    for _ in 0..3 {
        for piece in blob.layout.pieces() {
            child.fetch(parent.host(), blob.request(piece.0)).await.unwrap();
        }
    }
    assert_eq!(child.p2p.stats().dialed, 1);
    assert_eq!(child.p2p.stats().reused, 23);
    assert_eq!(parent.p2p.stats().accepted, 1);
}

#[tokio::test]
async fn parallel_requests_take_a_bounded_number_of_connections() {
    let blob = Blob::new(4, 4 << 20, 1 << 17);
    let parent = Options { upload_slots: 64, ..Options::default() };
    let child = Options { connections_per_peer_max: 3, ..Options::default() };
    let (parent, child) = pair(&blob, parent, child).await;
    let fetches = blob.layout.pieces().map(|piece| child.fetch(parent.host(), blob.request(piece.0)));
    for (piece, got) in (0..).zip(futures::future::join_all(fetches).await) {
        assert!(got.unwrap() == blob.piece(piece), "piece {piece}");
    }
    assert!(child.p2p.stats().dialed <= 3, "{:?}", child.p2p.stats());
}

#[tokio::test]
async fn nearly_done_is_told_once_and_early() {
    let blob = Blob::new(5, 4 << 20, 4 << 20);
    let (parent, child) = pair(&blob, Options::default(), Options::default()).await;
    let told = AtomicU32::new(0);
    for n in 1..=3 {
        let mut piece = Vec::new();
        let fetched = child.p2p.fetch(parent.host(), blob.request(0), &mut piece, || {
            told.fetch_add(1, Ordering::Relaxed);
        });
        fetched.await.unwrap();
        assert_eq!(told.load(Ordering::Relaxed), n);
    }
    let missing = Blob::new(6, 100, 128);
    let (mut nothing, panic) = (Vec::new(), || panic!("nothing is nearly done"));
    let refused = child.p2p.fetch(parent.host(), missing.request(0), &mut nothing, panic);
    assert!(refused.await.is_err());
}

#[tokio::test]
async fn what_is_not_held_is_refused_and_the_connection_stays() {
    let blob = Blob::new(7, 1000, 128);
    let (parent, child) = pair(&blob, Options::default(), Options::default()).await;
    let missing = Blob::new(8, 1000, 128);
    for _ in 0..2 {
        let error = child.fetch(parent.host(), missing.request(0)).await.unwrap_err();
        assert!(matches!(error, FetchError::Refused(Refusal::NotHeld)), "{error}");
        child.fetch(parent.host(), blob.request(1)).await.unwrap();
    }
    assert_eq!(child.p2p.stats().dialed, 1);
    assert_eq!(parent.p2p.stats().refused, 2);
}

#[tokio::test]
async fn the_parent_hears_for_which_span_it_is_asked() {
    let blob = Blob::new(10, 1000, 128);
    let (parent, child) = pair(&blob, Options::default(), Options::default()).await;
    let trace = TraceContext::new([7; 16], [9; 8]);
    let missing = Blob::new(11, 1000, 128);
    child.fetch(parent.host(), blob.request(0)).await.unwrap();
    child.fetch(parent.host(), PieceRequest { trace, ..blob.request(1) }).await.unwrap();
    child.fetch(parent.host(), PieceRequest { trace, ..missing.request(0) }).await.unwrap_err();
    let told = [(child.host(), trace, None), (child.host(), trace, Some(Refusal::NotHeld))];
    eventually("both are told of", || parent.shelf.traced.lock().unwrap()[..] == told).await;
}

#[tokio::test]
async fn a_request_without_sense_is_not_sent() {
    let blob = Blob::new(9, 1000, 128);
    let (parent, child) = pair(&blob, Options::default(), Options::default()).await;
    let error = child.fetch(parent.host(), blob.request(8)).await.unwrap_err();
    assert!(matches!(error, FetchError::Refused(Refusal::Malformed)), "{error}");
    assert_eq!(child.p2p.stats().dialed, 0);
}

#[tokio::test]
async fn a_parent_that_was_restarted_is_dialed_again() {
    let blob = Blob::new(10, 1000, 1024);
    let (parent, child) = pair(&blob, Options::default(), Options::default()).await;
    child.fetch(parent.host(), blob.request(0)).await.unwrap();
    // Its connections close, its address and its key stay.
    let member = parent.as_member();
    parent.members.remove(child.host());
    eventually("the parent closes", || parent.p2p.stats().open == 0).await;
    parent.members.insert(child.as_member()).unwrap();
    assert_eq!(parent.as_member(), member);
    child.fetch(parent.host(), blob.request(0)).await.unwrap();
    assert_eq!(child.p2p.stats().dialed, 2);
}

#[tokio::test]
async fn metrics_have_their_names() {
    let blob = Blob::new(11, 1000, 1024);
    let (parent, child) = pair(&blob, Options::default(), Options::default()).await;
    child.fetch(parent.host(), blob.request(0)).await.unwrap();
    let mut registry = prometheus_client::registry::Registry::default();
    child.p2p.metrics().register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "p2p_downloaded_bytes_total 1000",
        "p2p_uploaded_bytes_total 0",
        "p2p_connections{direction=\"out\"} 1",
        "p2p_connections_opened_total{direction=\"out\"} 1",
        "p2p_connect_seconds_count 1",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}
